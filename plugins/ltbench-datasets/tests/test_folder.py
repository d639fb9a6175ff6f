"""Tests of folders of images: what is found, how it is divided, what is refused, and what it is called."""

from __future__ import annotations

import dataclasses
import io
import os
import pickle
import re
import time
import unicodedata
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ltbench
from ltbench.testing import parametrize_with_checks
from ltbench_datasets import contents
from ltbench_datasets.folder import Folder

OLD = time.time() - 3600.0


def picture(seed: int, size: tuple[int, int] = (6, 5)) -> np.ndarray:
    """Return the pixels of one picture, different for each seed."""
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def write(path: Path, content: int | bytes) -> Path:
    """Write the picture of a seed, or bytes, in a file that was changed an hour ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        Image.fromarray(picture(content)).save(path)
    os.utime(path, (OLD, OLD))
    return path


def make(root: Path, files: Mapping[str, int | bytes]) -> Path:
    """Write files below a folder."""
    for name, content in files.items():
        write(root / name, content)
    return root


def classes(count: int = 3, each: int = 5, start: int = 0) -> dict[str, int]:
    """Return files of some classes, every picture another."""
    return {f"class {c}/{i}.png": start + c * each + i for c in range(count) for i in range(each)}


def below(part: str, files: Mapping[str, int | bytes]) -> dict[str, int | bytes]:
    """Return files in the folder of a part."""
    return {f"{part}/{name}": content for name, content in files.items()}


def load(root: Path, **settings: Any) -> ltbench.Dataset:
    """Load a folder by its absolute path."""
    return Folder(path=root, **settings).load(root.parent / "nowhere")


def paths(part: ltbench.Part | None) -> list[str]:
    """Return the names of a part's files."""
    assert part is not None
    return list(part.metadata["path"])


def all_paths(dataset: ltbench.Dataset) -> list[str]:
    """Return the names of all files."""
    return sorted(paths(dataset.train) + paths(dataset.test))


class TestClassFolders:
    """A folder for each class, divided here."""

    def test_images_labels_and_paths_belong_together(self, tmp_path: Path) -> None:
        """Every file is in one part, decoded to its pixels, labelled by its folder; classes and files are in order."""
        files = classes()
        dataset = load(make(tmp_path / "set", files))
        assert dataset.class_names == ("class 0", "class 1", "class 2")
        assert all_paths(dataset) == sorted(files)
        for part in (dataset.train, dataset.test):
            assert (part.labels.dtype, paths(part)) == (torch.int64, sorted(paths(part)))
            for name, label, image in zip(paths(part), part.labels.tolist(), part.images, strict=True):
                assert np.array_equal(image.numpy(), picture(files[name]))
                assert dataset.class_names[label] == name.partition("/")[0]

    @pytest.mark.parametrize(("test", "each"), [(0.2, 1), (0.4, 2), (3, 3), (4, 4)])
    def test_the_test_part(self, tmp_path: Path, test: float, each: int) -> None:
        """A share or a number of each class."""
        dataset = load(make(tmp_path / "set", classes()), test=test)
        assert Counter(dataset.test.labels.tolist()) == dict.fromkeys(range(3), each)
        assert Counter(dataset.train.labels.tolist()) == dict.fromkeys(range(3), 5 - each)

    def test_contents_alone_divide(self, tmp_path: Path) -> None:
        """Neither the names of files nor the order in which they were made decide which images are test images."""
        files = classes()
        here = load(make(tmp_path / "here", files))
        renamed = {f"{name.partition('/')[0]}/{99 - i}.png": seed for i, (name, seed) in enumerate(files.items())}
        there = load(make(tmp_path / "there", dict(reversed(renamed.items()))))
        assert {files[name] for name in paths(here.test)} == {renamed[name] for name in paths(there.test)}

    def test_without_reading_names_divide(self, tmp_path: Path) -> None:
        """A quick fingerprint divides by names, whatever is known of the contents."""
        root = make(tmp_path / "set", classes(each=20))
        first = paths(load(root, fingerprint="quick").test)
        load(root)
        assert paths(load(root, fingerprint="quick").test) == first
        assert paths(load(root, fingerprint="quick", unreadable="skip").test) == first
        assert Counter(name.partition("/")[0] for name in first) == {f"class {c}": 4 for c in range(3)}

    def test_folders_in_class_folders(self, tmp_path: Path) -> None:
        """Images at any depth belong to the class at the top."""
        dataset = load(make(tmp_path / "set", {"a/x/y/1.png": 1, "a/2.png": 2, "b/1.png": 3, "b/z/2.png": 4}))
        assert all_paths(dataset) == ["a/2.png", "a/x/y/1.png", "b/1.png", "b/z/2.png"]
        assert sorted([*dataset.train.labels.tolist(), *dataset.test.labels.tolist()]) == [0, 0, 1, 1]

    def test_a_class_may_be_called_train(self, tmp_path: Path) -> None:
        """CIFAR-100 has such a class: it is a part only beside another part."""
        dataset = load(make(tmp_path / "set", {"bus/1.png": 1, "bus/2.png": 2, "train/1.png": 3, "train/2.png": 4}))
        assert dataset.class_names == ("bus", "train")

    def test_copies_stay_on_one_side(self, tmp_path: Path) -> None:
        """A class's copies of one image are never in both parts; they are told."""
        dataset = load(make(tmp_path / "set", {**classes(each=4), **{f"class 0/copy{i}.png": 0 for i in range(3)}}), test=0.5)
        copies = {"class 0/0.png", *(f"class 0/copy{i}.png" for i in range(3))}
        assert len({name in paths(dataset.test) for name in copies}) == 1
        assert any(re.match(r"3 images of (train|test) are copies of others there: 'class 0", note) for note in dataset.notes)


class TestParts:
    """Folders train, val and test."""

    def test_three_parts(self, tmp_path: Path) -> None:
        """Each part holds its own images; a class may be missing in validation."""
        root = make(tmp_path / "set", below("train", classes()))
        make(root, below("val", classes(count=2, each=1, start=50)))
        make(root, below("test", classes(each=2, start=100)))
        dataset = load(root)
        assert dataset.validation is not None
        assert [len(part.labels) for part in (dataset.train, dataset.validation, dataset.test)] == [15, 2, 6]
        assert dataset.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
        assert np.array_equal(dataset.validation.images[1].numpy(), picture(51))
        assert dataset.notes == ()

    @pytest.mark.parametrize("names", [("Train", "Test", "Valid"), ("training", "testing", "validation")])
    def test_names_of_parts(self, tmp_path: Path, names: tuple[str, str, str]) -> None:
        """Common spellings are understood."""
        root = tmp_path / "set"
        for i, name in enumerate(names):
            make(root, below(name, classes(start=100 * i)))
        dataset = load(root)
        assert [paths(part)[0].partition("/")[0] for part in (dataset.train, dataset.test, dataset.validation)] == list(names)

    def test_validation_images_are_the_test_images_without_others(self, tmp_path: Path) -> None:
        """ImageNet's layout; it is told."""
        root = make(tmp_path / "set", {**below("train", classes()), **below("val", classes(start=50))})
        dataset = load(root)
        assert dataset.validation is None
        assert paths(dataset.test)[0] == "val/class 0/0.png"
        assert dataset.notes == ("there is no test folder: the validation images are the test images",)

    def test_folders_beside_parts(self, tmp_path: Path) -> None:
        """They are left alone and told."""
        root = make(tmp_path / "set", {**below("train", classes()), **below("test", classes(start=50)), "docs/a/x.png": 99})
        assert load(root).notes == ("folders beside the parts are left alone: 'docs'",)

    @pytest.mark.parametrize(
        ("files", "message"),
        [
            (below("train", classes()), "there is 'train', but neither test nor val"),
            ({**below("val", classes()), **below("test", classes())}, "there is 'test', 'val', but no train"),
            (
                {**below("train", classes()), **below("test", classes()), **below("Test", classes())},
                "'Test', 'test' are both test: keep one",
            ),
            ({**below("train", classes(3)), **below("test", classes(2))}, "1 classes of train are not in test: 'class 2'"),
            ({**below("train", classes(3)), **below("val", classes(2))}, "1 classes of train are not in validation: 'class 2'"),
            ({**below("train", classes(2)), **below("test", classes(3))}, "1 classes in test are not in train: 'class 2'"),
        ],
    )
    def test_parts_that_do_not_fit(self, tmp_path: Path, files: dict[str, int | bytes], message: str) -> None:
        """What is missing, or in the way, is named."""
        with pytest.raises(ltbench.UsageError, match=re.escape(f"folder {tmp_path / 'set'}: {message}")):
            load(make(tmp_path / "set", files))


class TestWhatIsLeftAlone:
    """Files that are no images, and how names are read."""

    def test_other_files_are_noted(self, tmp_path: Path) -> None:
        """Hidden files, files that no image is named like, and images in no class."""
        others = [".DS_Store", "class 0/Thumbs.db", "class 1/notes.txt", "class 1/more.txt", "class 2/._0.png", "README"]
        root = make(tmp_path / "set", {**classes(), "stray.png": 99, **dict.fromkeys(others, b"x")})
        make(root, {"class 0/.ipynb_checkpoints/0.png": 0, "__MACOSX/class 0/0.png": 0})
        dataset = load(root)
        assert all_paths(dataset) == sorted(classes())
        assert dataset.notes == (
            "1 images in no class folder are left alone: 'stray.png'",
            "4 files that no image is named like are left alone: .txt (2), without suffix (1), .db (1)",
            "4 hidden files or folders are left alone: '.DS_Store', '._0.png', '.ipynb_checkpoints' and 1 more",
        )

    def test_suffixes_in_capitals(self, tmp_path: Path) -> None:
        """Cameras write .JPG."""
        root = make(tmp_path / "set", classes(2, 2))
        Image.fromarray(picture(9)).save(root / "class 0" / "X.JPG")
        assert "class 0/X.JPG" in all_paths(load(root))

    def test_unicode_names(self, tmp_path: Path) -> None:
        """Any letters; the composed and the decomposed form of an accent are one class, in one order."""
        composed, decomposed = (unicodedata.normalize(form, "Žluťoučký kůň") for form in ("NFC", "NFD"))
        root = make(tmp_path / "set", below("train", {f"{composed}/1.png": 1, "名前/ü.png": 2, "Ω/x y.png": 3}))
        make(root, below("test", {f"{decomposed}/1.png": 4, "名前/b.png": 5, "Ω/c.png": 6}))
        dataset = load(root)
        assert dataset.class_names == (composed, "Ω", "名前")
        assert dataset.test.labels.tolist() == [0, 1, 2]
        assert np.array_equal(dataset.test.images[0].numpy(), picture(4))

    def test_names_that_differ_in_form_alone(self, tmp_path: Path) -> None:
        """Two classes of one name are refused."""
        forms = [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")]
        root = make(tmp_path / "set", {f"{form}/{i}.png": 2 * j + i for j, form in enumerate(forms) for i in range(2)})
        with pytest.raises(ltbench.UsageError, match="two folders are named 'é' once composed: keep one"):
            load(root)

    def test_names_that_are_no_text(self, tmp_path: Path) -> None:
        """Bytes that are not UTF-8 are named, not passed on."""
        root = make(tmp_path / "set", classes())
        (root / "class 0" / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
        with pytest.raises(ltbench.UsageError, match=r"caf\\xe9\.png'.*: names must be UTF-8: rename it"):
            load(root)

    def test_links_are_followed(self, tmp_path: Path) -> None:
        """To files and to folders, as in farms of links; the pixels are those of the target."""
        store = make(tmp_path / "store", classes())
        for c in range(3):
            (tmp_path / "set").mkdir(exist_ok=True)
            (tmp_path / "set" / f"{c}").symlink_to(store / f"class {c}")
        write(store / "single.png", 77)
        (store / "class 0" / "link.png").symlink_to("../single.png")
        dataset = load(tmp_path / "set", test=5 / 6)
        assert len(all_paths(dataset)) == 16
        every = dict(
            zip(paths(dataset.test) + paths(dataset.train), [*dataset.test.images, *dataset.train.images], strict=True)
        )
        assert np.array_equal(every["0/link.png"].numpy(), picture(77))

    def test_links_that_lead_back(self, tmp_path: Path) -> None:
        """A walk through them ends, and says so."""
        root = make(tmp_path / "set", classes())
        (root / "class 0" / "up").symlink_to("..")
        (root / "class 1" / "across").symlink_to("../class 2")
        (root / "class 2" / "back").symlink_to("../class 1")
        dataset = load(root, overlap="allow")
        loops = "'class 0/up/', 'class 1/across/back/', 'class 2/back/across/'"
        assert f"3 links that lead back are not followed: {loops}" in dataset.notes
        assert {"class 1/across/0.png", "class 2/back/0.png"} < set(all_paths(dataset))


class TestRefusals:
    """Folders that no benchmark can be made of."""

    @pytest.mark.parametrize(
        ("files", "message"),
        [
            ({"1.png": 1}, "images must lie in a folder for each class, .*; it holds none"),
            ({"readme.txt": b"x"}, "images must lie in a folder for each class, .*; it holds none"),
            ({"only/1.png": 1}, "at least two, .*; it holds the folder 'only' alone"),
            ({**classes(), "empty/x.txt": b""}, "1 class folders hold no image: 'empty'; fill or remove them"),
            ({**classes(), "lone/1.png": 99}, "class 'lone' has one image: add images"),
            ({**classes(), "twins/1.png": 99, "twins/2.png": 99}, "class 'twins' has 2 copies of one image: add images"),
        ],
    )
    def test_folders(self, tmp_path: Path, files: dict[str, int | bytes], message: str) -> None:
        """What is wrong, and with which class."""
        with pytest.raises(ltbench.UsageError, match=message):
            load(make(tmp_path / "set", files))

    def test_no_such_folder(self, tmp_path: Path) -> None:
        """Both places are named where one could have meant either."""
        with pytest.raises(ltbench.UsageError, match=f"there is no {tmp_path / 'birds'} or "):
            Folder(path=Path("birds")).load(tmp_path)

    def test_a_file(self, tmp_path: Path) -> None:
        """A file is no folder."""
        with pytest.raises(ltbench.UsageError, match="must be a folder of images, it is a file"):
            load(write(tmp_path / "x.png", 1))

    def test_the_data_folder_comes_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A relative path is below the data folder if it is there, otherwise below the working folder."""
        (tmp_path / "work").mkdir()
        monkeypatch.chdir(tmp_path / "work")
        make(tmp_path / "work" / "birds", classes(2))
        assert len(Folder(path=Path("birds")).load(tmp_path / "data").class_names) == 2
        make(tmp_path / "data" / "birds", classes(4))
        assert len(Folder(path=Path("birds")).load(tmp_path / "data").class_names) == 4

    @pytest.mark.parametrize("test", [1.5, 2.25])
    def test_half_an_image(self, tmp_path: Path, test: float) -> None:
        """A number of images is whole."""
        with pytest.raises(ValueError, match="test must be a share below 1 or a whole number of images"):
            Folder(path=tmp_path, test=test)

    def test_too_many_test_images(self, tmp_path: Path) -> None:
        """None would be left to train on."""
        with pytest.raises(ltbench.UsageError, match="class 'class 0' has 5 images, of which 5 would be test images"):
            load(make(tmp_path / "set", classes()), test=5)


def truncated(folder: Path) -> bytes:
    """Return half an image: its header is whole."""
    path = folder / "large.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    return path.read_bytes()[:6000]


class TestUnreadableFiles:
    """Files named like images that are none."""

    def broken(self, tmp_path: Path) -> Path:
        """Write a folder with a truncated image, a text, an empty file, a dead link and a pipe."""
        root = make(tmp_path / "set", {**classes(), "class 0/half.png": truncated(tmp_path), "class 1/text.jpg": b"text"})
        write(root / "class 1" / "empty.png", b"")
        (root / "class 2" / "dead.png").symlink_to("nowhere.png")
        os.mkfifo(root / "class 2" / "pipe.png")
        return root

    BAD = ("class 0/half.png", "class 1/empty.png", "class 1/text.jpg", "class 2/dead.png", "class 2/pipe.png")

    def test_what_headers_tell_is_an_error_at_once(self, tmp_path: Path) -> None:
        """All but the truncated image are named together, with reasons and the way out."""
        with pytest.raises(ltbench.UsageError, match="4 files are no readable images") as caught:
            load(self.broken(tmp_path))
        for told in (
            "'class 1/empty.png' (it is empty)",
            "'class 1/text.jpg' (it is no image of a known format)",
            "'class 2/dead.png' (it is a link that leads nowhere)",
            "leave them out by unreadable=skip",
        ):
            assert told in str(caught.value)

    def test_a_truncated_image_is_an_error_when_decoded(self, tmp_path: Path) -> None:
        """The message names its path."""
        root = make(tmp_path / "set", {**classes(), "class 0/half.png": truncated(tmp_path)})
        dataset = load(root)
        everything = [(name, part, i) for part in (dataset.train, dataset.test) for i, name in enumerate(paths(part))]
        ((part, i),) = [(part, i) for name, part, i in everything if name == "class 0/half.png"]
        path = re.escape(str(root / "class 0" / "half.png"))
        with pytest.raises(ltbench.LtbenchError, match=f"image {path} cannot be decoded: image file is truncated"):
            part.images[i]

    @pytest.mark.parametrize("fingerprint", ["exact", "quick"])
    def test_skipping(self, tmp_path: Path, fingerprint: Any) -> None:
        """What cannot be decoded is left out, wherever it stops, and told."""
        dataset = load(self.broken(tmp_path), unreadable="skip", fingerprint=fingerprint)
        assert all_paths(dataset) == sorted(classes())
        assert all(image.shape == (6, 5, 3) for part in (dataset.train, dataset.test) for image in part.images)
        (note,) = [note for note in dataset.notes if "readable" in note]
        assert note.startswith("left out: 5 files are no readable images: 'class 0/half.png' (image file is truncated")

    def test_skipping_changes_nothing_else(self, tmp_path: Path) -> None:
        """A folder with broken files is the dataset that it is without them."""
        whole = load(make(tmp_path / "whole", classes()))
        assert load(self.broken(tmp_path), unreadable="skip").fingerprint == whole.fingerprint

    def test_skipping_a_whole_class(self, tmp_path: Path) -> None:
        """A class without a readable image is named."""
        with pytest.raises(ltbench.UsageError, match="class 'none' holds no readable image, but 1 files"):
            load(make(tmp_path / "set", {**classes(), "none/x.png": b"x"}), unreadable="skip")

    def test_each_file_is_decoded_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The second time nothing is decoded to find what to skip; a mended file is looked at again."""
        decoded: list[object] = []
        decode = contents.decode_open
        monkeypatch.setattr(contents, "decode_open", lambda file: (decoded.append(file.name), decode(file)))
        root = self.broken(tmp_path)
        for _ in range(2):
            load(root, unreadable="skip")
        assert len(decoded) == len(classes()) + 2
        Image.fromarray(picture(500)).save(root / "class 1" / "text.jpg", format="PNG")
        assert "class 1/text.jpg" in all_paths(load(root, unreadable="skip"))
        assert len(decoded) == len(classes()) + 3

    def test_bombs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Too many pixels are told by the header."""
        root = make(tmp_path / "set", classes())
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
        with pytest.raises(ltbench.UsageError, match=r"15 files .* more pixels than PIL\.Image\.MAX_IMAGE_PIXELS allows"):
            load(root)


class TestCopies:
    """The same image twice."""

    def parts(self, tmp_path: Path) -> Path:
        """Write parts that share two images."""
        shared = {"class 0/again.png": 3, "class 2/again.png": 14}
        root = make(tmp_path / "set", below("train", {**classes(), "class 1/twin.png": 5}))
        return make(root, below("test", {**classes(start=100), **shared}))

    def test_shared_images_are_refused(self, tmp_path: Path) -> None:
        """How many, which, and what to do."""
        with pytest.raises(ltbench.UsageError, match="2 images are in two parts") as caught:
            load(self.parts(tmp_path))
        assert "'test/class 0/again.png' = 'train/class 0/3.png'" in str(caught.value)
        assert "say overlap=allow" in str(caught.value)

    def test_shared_images_may_be_allowed(self, tmp_path: Path) -> None:
        """They are told, as are copies within a part."""
        notes = load(self.parts(tmp_path), overlap="allow").notes
        assert notes[0].startswith("2 images are in two parts: 'test/class 0/again.png' = 'train/class 0/3.png', ")
        assert notes[1:] == ("1 images of train are copies of others there: 'train/class 1/twin.png' = 'train/class 1/0.png'",)

    def test_copies_under_two_labels(self, tmp_path: Path) -> None:
        """A training image of two classes is told."""
        root = make(tmp_path / "set", below("train", {**classes(), "class 1/other.png": 0}))
        notes = load(make(root, below("test", classes(start=100)))).notes
        pair = "'train/class 1/other.png' = 'train/class 0/0.png'"
        assert notes == (
            f"1 images of train are copies of others there: {pair}",
            f"1 images of train are copies of images of another class: {pair}",
        )

    def test_a_quick_look_finds_none(self, tmp_path: Path) -> None:
        """It says that it did not look."""
        assert load(self.parts(tmp_path), fingerprint="quick").notes == (
            "copies of images were not looked for: fingerprint=quick",
        )


class TestFingerprint:
    """A name for the content."""

    @pytest.mark.parametrize("mode", ["exact", "quick"])
    def test_the_same_files_elsewhere(self, tmp_path: Path, mode: Any) -> None:
        """Neither the folder nor when files were written counts."""
        here, there = make(tmp_path / "here", classes()), make(tmp_path / "deep" / "there", dict(reversed(classes().items())))
        os.utime(there / "class 0" / "0.png", (1, 1))
        assert load(here, fingerprint=mode).fingerprint == load(there, fingerprint=mode).fingerprint

    @pytest.mark.parametrize(
        ("change", "modes"),
        [
            ({"class 1/2.png": b"another picture"}, {"exact", "quick"}),
            ({"class 1/9.png": 500}, {"exact", "quick"}),
            ({"class 1/2.png": 501}, {"exact"}),
        ],
        ids=["size", "more", "pixels"],
    )
    def test_what_changes_it(self, tmp_path: Path, change: dict[str, int | bytes], modes: set[str]) -> None:
        """Another size or another file, and for ``exact`` any byte."""
        root = tmp_path / "set"
        for name, seed in {**classes(), "class 1/2.png": 500}.items():
            write(root / name, bmp(seed))
        before = {mode: load(root, fingerprint=mode).fingerprint for mode in ("exact", "quick")}
        for name, content in change.items():
            write(root / name, bmp(content) if isinstance(content, int) else bmp(7) + content)
            os.utime(root / name, (OLD + 60, OLD + 60))
        after = {mode: load(root, fingerprint=mode).fingerprint for mode in ("exact", "quick")}
        assert {mode for mode in before if before[mode] != after[mode]} == modes

    def test_labels_count(self, tmp_path: Path) -> None:
        """The same images in the same order under other labels are another dataset."""
        parts = [
            below(part, {f"{'abc'[i // (2 + k)]}/{i}.png": 10 * p + i for i in range(6)})
            for k in (0, 1)
            for p, part in enumerate(("train", "test"))
        ]
        two = load(make(tmp_path / "two", {**parts[2], **parts[3]}))
        three = load(make(tmp_path / "three", {**parts[0], **parts[1]}))
        assert [int(image.sum()) for image in two.train.images] == [int(image.sum()) for image in three.train.images]
        assert two.fingerprint != three.fingerprint

    def test_parts_count(self, tmp_path: Path) -> None:
        """So does which part an image is in."""
        root = make(tmp_path / "set", classes())
        assert len({load(root, test=test).fingerprint for test in (0.2, 0.4, 3)}) == 3


def bmp(seed: int) -> bytes:
    """Return a picture in a format whose size does not depend on its pixels."""
    buffer = io.BytesIO()
    Image.fromarray(picture(seed)).save(buffer, format="BMP")
    return buffer.getvalue()


class TestPreparing:
    """``ltbench data fetch folder[path=…]`` looks at images beforehand, with progress."""

    def test_missing_and_fetch(self, tmp_path: Path) -> None:
        """What is to be looked at is counted, then looked at, then nothing is missing."""
        root = make(tmp_path / "set", classes())
        folder, told = Folder(path=root), []
        assert folder.missing(tmp_path) == "15 images are to be looked at"
        folder.fetch(tmp_path, lambda *progress: told.append(progress))
        assert told == [(f"examine {root}", 15, 15)]
        assert folder.missing(tmp_path) == ""
        assert dataclasses.replace(folder, unreadable="skip").missing(tmp_path) == "15 images are to be looked at"

    def test_nothing_to_look_at(self, tmp_path: Path) -> None:
        """A quick fingerprint reads nothing, and a folder that is not there is told."""
        folder = Folder(path=make(tmp_path / "set", classes()), fingerprint="quick")
        folder.fetch(tmp_path, lambda *progress: pytest.fail("nothing is looked at"))
        assert folder.missing(tmp_path) == ""
        assert Folder(path=tmp_path / "none").missing(tmp_path) == f"there is no {tmp_path / 'none'}"


class TestPickling:
    """Workers get the dataset by pickle."""

    def test_names_travel_not_pixels(self, tmp_path: Path) -> None:
        """A pickled part decodes the same images."""
        dataset = load(make(tmp_path / "set", classes()))
        copied = pickle.loads(pickle.dumps(dataset))
        assert all(map(torch.equal, copied.train.images, dataset.train.images))


def test_8142_classes(tmp_path: Path) -> None:
    """As many classes as iNaturalist 2018 has: all found, in order, and divided."""
    root = tmp_path / "set"
    for c in range(8142):
        folder = root / f"{c:05}"
        folder.mkdir(parents=True)
        for i in range(2):
            (folder / f"{i}.jpg").write_bytes(b"%d %d" % (c, i))
    dataset = load(root, fingerprint="quick")
    assert len(dataset.class_names) == 8142
    assert dataset.train.labels.tolist() == dataset.test.labels.tolist() == list(range(8142))


def on_pixels(root: Path, out: Path) -> Any:
    """Run one cell on the pixels of a folder."""
    settings = {"dataset": f"folder[path={root}]", "backbone": "pixels", "generator": "none", "classifier": "ncm"}
    return ltbench.run(**settings, ratio=[2.0], seeds=1, reference=False, out=out).records


def test_a_run_on_pixels(tmp_path: Path) -> None:
    """A folder of images of one size runs from end to end."""
    (record,) = on_pixels(make(tmp_path / "set", classes(2, 8)), tmp_path / "run")
    assert (record.status, record.cell["dataset"]) == ("done", "folder[path=set]")


def test_a_run_on_pixels_of_different_sizes(tmp_path: Path) -> None:
    """The cell fails, and the message names both sizes."""
    root = make(tmp_path / "set", classes(2, 8))
    Image.fromarray(picture(1, (9, 5))).save(root / "class 0" / "tall.png")
    (record,) = on_pixels(root, tmp_path / "run")
    assert record.failure is not None
    assert "[6, 5, 3]" in record.failure["error"]
    assert "[9, 5, 3]" in record.failure["error"]


@parametrize_with_checks(
    ["folder[path=checked]", "folder[path=checked,fingerprint=quick]", "folder[path=checked,unreadable=skip]"]
)
def test_conformance(component: Any, check: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small folder keeps the contract of datasets."""
    monkeypatch.setenv("LTBENCH_DATA", str(tmp_path))
    make(tmp_path / "checked", classes())
    component.build().load(tmp_path)  # what to skip is found once, by decoding
    check(component)
