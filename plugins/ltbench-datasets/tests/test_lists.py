"""Tests of list files and of the published long tails over them: small lists in the true format, and simulated full ones."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import ltbench
from ltbench.testing import parametrize_with_checks
from ltbench_datasets import contents, imagenet_lt, inat2018, places_lt
from ltbench_datasets.imagenet_lt import ImageNetLT
from ltbench_datasets.inat2018 import INat2018
from ltbench_datasets.lists import Listed, Lists, read_list
from ltbench_datasets.places_lt import PlacesLT
from ltbench_datasets.published import Published, PublishedLists

Lines = Mapping[str, list[tuple[str, int]]]

SMALL = Published("Small-LT", 4, 169, 120, 5, validation=2, test=3, inclusive=(1, 1, 2), strict=(1, 2, 1))
COUNTS = (120, 5, 24, 20)
"""What SMALL says: strict head, tail, medium, medium; inclusive head, tail, medium, tail."""


@dataclass(frozen=True)
class Place:
    """Settings of a published dataset."""

    root: Path
    lists: Path | None = None
    fingerprint: Literal["quick", "exact"] = "quick"


def picture(path: Path, shade: int = 0, size: int = 3) -> None:
    """Write a small image, told from others by its shade."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size, 2), (shade % 256, shade // 256 % 256, shade // 65536)).save(path, "BMP")


def write_lists(folder: Path, files: Mapping[str, str], lines: Lines) -> None:
    """Write list files, a line for each image."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, name in files.items():
        (folder / name).write_text("".join(f"{image} {label}\n" for image, label in lines[part]), encoding="utf-8")


def small_lines(counts: tuple[int, ...] = (3, 2), test: int = 1, validation: int = 1) -> dict[str, list[tuple[str, int]]]:
    """Return lines in ImageNet-LT's form: a class is a folder, validation images lie below train, test images below val."""
    return {
        "train": [(f"train/n{c}/n{c}_{i}.JPEG", c) for c, n in enumerate(counts) for i in range(n)],
        "validation": [(f"train/n{c}/n{c}_val{i}.JPEG", c) for c in range(len(counts)) for i in range(validation)],
        "test": [(f"val/n{c}/ILSVRC2012_val_{c}{i}.JPEG", c) for c in range(len(counts)) for i in range(test)],
    }


def write_images(root: Path, lines: Lines) -> dict[str, int]:
    """Write every listed image with a shade of its own; return the shades."""
    shades = {name: shade for shade, name in enumerate(name for part in lines.values() for name, _ in part)}
    for name, shade in shades.items():
        picture(root / name, shade)
    return shades


def shade_of(image: torch.Tensor) -> int:
    """Return the shade a picture was written with."""
    red, green, blue = image[0, 0].tolist()
    return int(red + 256 * green + 65536 * blue)


SMALL_LISTS = PublishedLists(
    "small-lt",
    "train/n0/….JPEG and val/….JPEG",
    dataclasses.replace(
        SMALL, classes=2, train=5, largest=3, smallest=2, validation=1, test=1, inclusive=(0, 0, 2), strict=None
    ),
    ({"train": "train.txt", "validation": "val.txt", "test": "test.txt"},),
    lambda _where, _train, _classes: (["a", "b"], ["a note"]),
    flat_validation=True,
)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Return a folder with the small lists and their images."""
    write_lists(tmp_path, SMALL_LISTS.files[0], small_lines())
    write_images(tmp_path, small_lines())
    return tmp_path


class TestReading:
    """List files."""

    @settings(max_examples=50, deadline=None)
    @given(
        lines=st.lists(
            st.tuples(st.text(st.characters(blacklist_categories=["C", "Z"]), min_size=1), st.integers(0, 10**6)),
            min_size=1,
            max_size=20,
        ),
        separator=st.sampled_from([" ", "\t", "  "]),
        end=st.sampled_from(["\n", "\r\n", "\n\n"]),
        bom=st.booleans(),
    )
    def test_what_was_written_is_read(
        self, tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[str, int]], separator: str, end: str, bom: bool
    ) -> None:
        """Names in any script, blanks or tabs, line ends of any system, blank lines, a byte-order mark: all are read."""
        path = tmp_path_factory.mktemp("l") / "list.txt"
        text = "".join(f"{name}{separator}{label}{end}" for name, label in lines)
        path.write_bytes(text.encode("utf-8-sig" if bom else "utf-8"))
        listed = read_list(path)
        assert list(zip(listed.names, listed.labels.tolist(), strict=True)) == lines

    def test_names_may_hold_blanks(self, tmp_path: Path) -> None:
        """The label is what follows the last blank."""
        (tmp_path / "l.txt").write_text("a folder/my image.jpg 3\n")
        assert read_list(tmp_path / "l.txt").names == ("a folder/my image.jpg",)

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b"a.jpg 0\nb.jpg\n", "line 2 must be 'path/of/image.jpg label', not 'b.jpg'"),
            (b"a.jpg 0\nb.jpg cat\n", "line 2 must be 'path/of/image.jpg label', not 'b.jpg cat'"),
            (b"a.jpg -1\n", "line 1 must be 'path/of/image.jpg label', not 'a.jpg -1'"),
            (b"a.jpg 1.0\n", "line 1 must be"),
            (b"a.jpg 10000000000\n", "line 1 must be"),
            ("a.jpg ٣\n".encode(), "line 1 must be"),
            (b"7\n", "line 1 must be"),
            (b"", "lists no image"),
            (b"\n \n", "lists no image"),
            (b"\xff\xfe\x00", "cannot be read as a list of images"),
        ],
    )
    def test_a_line_that_is_none_is_told(self, tmp_path: Path, content: bytes, expected: str) -> None:
        """The error names file and line."""
        (tmp_path / "l.txt").write_bytes(content)
        with pytest.raises(ltbench.UsageError) as caught:
            read_list(tmp_path / "l.txt")
        assert str(caught.value).startswith(str(tmp_path / "l.txt"))
        assert expected in str(caught.value)

    def test_a_missing_list_is_told(self, tmp_path: Path) -> None:
        """The error names the file; a folder of that name is no list either."""
        with pytest.raises(ltbench.UsageError, match=r"^there is no list file .*nowhere\.txt$"):
            read_list(tmp_path / "nowhere.txt")
        with pytest.raises(ltbench.UsageError, match="cannot be read as a list of images"):
            read_list(tmp_path)


class TestImages:
    """Lists over images."""

    @pytest.mark.parametrize("fingerprint", ["quick", "exact"])
    def test_image_i_belongs_to_line_i(self, small: Path, fingerprint: Literal["quick", "exact"]) -> None:
        """Parts have the images, labels and order of their lists."""
        dataset = SMALL_LISTS.load(Place(small, fingerprint=fingerprint), small)
        shades = write_images(small / "again", small_lines())
        for part, lines in zip((dataset.train, dataset.validation, dataset.test), small_lines().values(), strict=True):
            assert part is not None
            assert [shade_of(image) for image in part.images] == [shades[name] for name, _ in lines]
            assert part.labels.tolist() == [label for _, label in lines]
            assert part.metadata == {"path": tuple(name for name, _ in lines)}
        assert dataset.class_names == ("a", "b")
        assert dataset.notes == ("a note",)

    def test_validation_images_may_lie_flat(self, small: Path) -> None:
        """ImageNet's validation images may lie in val itself, as they come; it is the same dataset."""
        sorted_into_classes = SMALL_LISTS.load(Place(small), small)
        for name, _ in small_lines()["test"]:
            (small / name).replace(small / "val" / name.rpartition("/")[2])
            (small / name).parent.rmdir()
        flat = SMALL_LISTS.load(Place(small), small)
        assert flat.fingerprint == sorted_into_classes.fingerprint
        assert torch.equal(flat.test.images[1], torch.tensor([8, 0, 0], dtype=torch.uint8).expand(2, 3, 3))

    def test_lists_may_lie_elsewhere(self, small: Path) -> None:
        """Image folders need not be written to."""
        elsewhere = small / "elsewhere"
        write_lists(elsewhere, SMALL_LISTS.files[0], small_lines())
        for name in SMALL_LISTS.files[0].values():
            (small / name).unlink()
        assert len(SMALL_LISTS.load(Place(small, elsewhere), small).train.labels) == 5

    def test_missing_images_are_told_at_once(self, small: Path) -> None:
        """The error counts all missing images of all parts, shows a few, and names a file with every one of them."""
        gone = [name for part in small_lines().values() for name, _ in part][::2]
        for name in gone:
            (small / name).unlink()
        with pytest.raises(ltbench.UsageError) as caught:
            SMALL_LISTS.load(Place(small), small)
        path = ltbench.cache_folder() / "missing" / "Small-LT.txt"
        assert str(caught.value) == (
            f"Small-LT: 5 of 9 images are missing below {small}: {gone[0]}, {gone[1]}, {gone[2]}, …; all of them are in {path}"
        )
        assert path.read_text().splitlines() == gone

    def test_a_whole_folder_may_be_missing(self, small: Path) -> None:
        """Images of a folder that is not there are missing, nothing worse; so is an image that is a folder, or a dead link."""
        for name, _ in small_lines()["test"]:
            (small / name).unlink()
            (small / name).parent.rmdir()
        (small / "val").rmdir()
        (small / "train/n0/n0_0.JPEG").unlink()
        (small / "train/n0/n0_0.JPEG").mkdir()
        with pytest.raises(ltbench.UsageError, match="3 of 9 images are missing"):
            SMALL_LISTS.load(Place(small), small)

    def test_dead_links_are_missing(self, small: Path) -> None:
        """A link to nowhere is a missing image."""
        (small / "train/n0/n0_0.JPEG").unlink()
        (small / "train/n0/n0_0.JPEG").symlink_to(small / "nowhere")
        with pytest.raises(ltbench.UsageError, match=f"1 of 9 images are missing below {small}: train/n0/n0_0.JPEG$"):
            SMALL_LISTS.load(Place(small), small)

    def test_labels_are_known_without_opening_an_image(self, small: Path) -> None:
        """In quick mode files that are no images do no harm until they are asked for, and then are named."""
        (small / "train/n0/n0_1.JPEG").write_bytes(b"no image")
        dataset = SMALL_LISTS.load(Place(small), small)
        with pytest.raises(ltbench.LtbenchError, match=r"train/n0/n0_1.JPEG cannot be decoded: it is no image"):
            dataset.train.images[1]

    def test_exact_mode_finds_what_is_no_image(self, small: Path) -> None:
        """In exact mode all files that are no images are told at once."""
        for name in ("train/n0/n0_1.JPEG", "val/n1/ILSVRC2012_val_10.JPEG"):
            (small / name).write_bytes(b"no image")
        with pytest.raises(ltbench.UsageError) as caught:
            SMALL_LISTS.load(Place(small, fingerprint="exact"), small)
        assert str(caught.value) == (
            f"Small-LT: 2 of 9 files below {small} are no readable images: train/n0/n0_1.JPEG (it is no image of a known format), "
            "val/n1/ILSVRC2012_val_10.JPEG (it is no image of a known format)"
        )

    @pytest.mark.parametrize("fingerprint", ["quick", "exact"])
    def test_fingerprint_names_the_content(self, small: Path, tmp_path: Path, fingerprint: Literal["quick", "exact"]) -> None:
        """It is the same in another place and at another time, and changes with an image, its label or its place."""
        before = SMALL_LISTS.load(Place(small, fingerprint=fingerprint), small).fingerprint
        other = tmp_path / "other"
        lines = small_lines()
        write_lists(other, SMALL_LISTS.files[0], lines)
        write_images(other, lines)
        assert SMALL_LISTS.load(Place(other, fingerprint=fingerprint), other).fingerprint == before
        picture(other / "train/n0/n0_0.JPEG", 77, size=9)
        assert SMALL_LISTS.load(Place(other, fingerprint=fingerprint), other).fingerprint != before
        picture(other / "train/n0/n0_0.JPEG", 0)
        assert SMALL_LISTS.load(Place(other, fingerprint=fingerprint), other).fingerprint == before
        lines["train"] = [*lines["train"][1:], lines["train"][0]]
        write_lists(other, SMALL_LISTS.files[0], lines)
        assert SMALL_LISTS.load(Place(other, fingerprint=fingerprint), other).fingerprint != before

    def test_only_exact_mode_sees_equal_sizes(self, small: Path) -> None:
        """Another image of the same name and size is another dataset in exact mode, and trusted in quick mode."""
        modes: tuple[Literal["quick", "exact"], ...] = ("quick", "exact")
        before = [SMALL_LISTS.load(Place(small, fingerprint=mode), small).fingerprint for mode in modes]
        size = (small / "train/n0/n0_0.JPEG").stat().st_size
        picture(small / "train/n0/n0_0.JPEG", 99)
        assert (small / "train/n0/n0_0.JPEG").stat().st_size == size
        after = [SMALL_LISTS.load(Place(small, fingerprint=mode), small).fingerprint for mode in modes]
        assert [a == b for a, b in zip(before, after, strict=True)] == [True, False]

    def test_a_dataset_pickles(self, small: Path) -> None:
        """A worker process gets names, and decodes by itself."""
        dataset = SMALL_LISTS.load(Place(small), small)
        copied: ltbench.Dataset = pickle.loads(pickle.dumps(dataset))
        assert torch.equal(copied.test.images[1], dataset.test.images[1])

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            (
                lambda lines: lines["test"].append(lines["train"][0]),
                "1 images are in the train list and in the test list: train/n0/n0_0.JPEG",
            ),
            (lambda lines: lines["train"].append(lines["train"][0]), "1 lines of the train list repeat an image"),
            (lambda lines: lines["train"].append((lines["train"][0][0], 1)), "1 lines of the train list repeat an image"),
        ],
    )
    def test_an_image_is_listed_once(self, small: Path, change: Callable[[Any], None], expected: str) -> None:
        """An image in two parts, or twice in one, is refused."""
        lines = small_lines()
        change(lines)
        write_lists(small, SMALL_LISTS.files[0], lines)
        with pytest.raises(ltbench.UsageError) as caught:
            mine(small).load(small)
        assert str(caught.value) == f"lists: {expected}"

    def test_published_lists_note_copies(self, small: Path) -> None:
        """Published parts stay as they are: what two of them share is noted where images are read, and not looked for else."""
        picture(small / "val/n1/ILSVRC2012_val_10.JPEG", 0)
        notes = [SMALL_LISTS.load(Place(small, fingerprint=mode), small).notes for mode in ("quick", "exact")]
        assert notes == [
            ("a note",),
            ("a note", "1 images are in two parts: 'val/n1/ILSVRC2012_val_10.JPEG' = 'train/n0/n0_0.JPEG'"),
        ]


def mine(folder: Path, **parameters: Any) -> Lists:
    """Return a user's lists."""
    return Lists(train=folder / "train.txt", test=folder / "test.txt", root=folder, **parameters)


class TestOwnLists:
    """Lists of the user's own."""

    def test_classes_are_called_by_their_folder(self, small: Path) -> None:
        """Where each class has a folder of its own, that is its name; there need be no validation list."""
        dataset = mine(small).load(small)
        assert (dataset.class_names, dataset.validation) == (("n0", "n1"), None)
        assert len(mine(small, validation=small / "val.txt").load(small).validation.labels) == 2

    def test_copies_in_two_parts_are_refused(self, small: Path) -> None:
        """Copies under two names are found by content; with overlap=allow they are noted, as are copies of another class."""
        picture(small / "val/n1/ILSVRC2012_val_10.JPEG", 0)
        picture(small / "train/n1/n1_0.JPEG", 1)
        shared = "1 images are in two parts: 'val/n1/ILSVRC2012_val_10.JPEG' = 'train/n0/n0_0.JPEG'"
        with pytest.raises(ltbench.UsageError) as caught:
            mine(small).load(small)
        assert str(caught.value) == f"lists: {shared}; remove them from one list, or say overlap=allow"
        pair = "'train/n1/n1_0.JPEG' = 'train/n0/n0_1.JPEG'"
        assert mine(small, overlap="allow").load(small).notes == (
            shared,
            f"1 images of train are copies of others there: {pair}",
            f"1 images of train are copies of images of another class: {pair}",
        )
        assert mine(small, fingerprint="quick").load(small).notes == (
            "copies of images were not looked for: fingerprint=quick",
        )

    def test_classes_are_called_by_number_otherwise(self, tmp_path: Path) -> None:
        """Where folders are not classes, numbers are the names."""
        lines = {"train": [("x/a.png", 0), ("x/b.png", 1)], "test": [("x/c.png", 0), ("x/d.png", 1)]}
        write_lists(tmp_path, {"train": "train.txt", "test": "test.txt"}, lines)
        write_images(tmp_path, lines)
        assert mine(tmp_path).load(tmp_path).class_names == ("0", "1")

    def test_relative_paths(self, small: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Lists and images are looked for below the data folder, then below the working folder."""
        expected = mine(small).load(small).fingerprint
        relative = Lists(train=Path("train.txt"), test=Path("test.txt"), root=Path())
        assert relative.load(small).fingerprint == expected
        monkeypatch.chdir(small)
        found = Lists(train=Path("train.txt"), test=Path("test.txt"), root=Path("train/..")).load(tmp_path / "data")
        assert found.fingerprint == expected

    @pytest.mark.parametrize(
        ("train", "test", "expected"),
        [
            ([0, 0, 2], [0, 1, 2], "labels must be 0 to 2 without gaps, 1 of them have no image in the train list, 1 for one"),
            ([0, 1, 2], [0, 1], "labels must be 0 to 2 without gaps, 1 of them have no image in the test list, 2 for one"),
            ([0, 999_999_999], [0, 1], "999,999,998 of them have no image in the train list, 1 for one"),
            ([0, 0], [0], "there must be at least two classes, all labels are 0"),
        ],
    )
    def test_labels_with_gaps_are_refused(self, tmp_path: Path, train: list[int], test: list[int], expected: str) -> None:
        """Every class has training and test images."""
        lines = {
            part: [(f"{part}/{i}.png", c) for i, c in enumerate(labels)] for part, labels in (("train", train), ("test", test))
        }
        write_lists(tmp_path, {"train": "train.txt", "test": "test.txt"}, lines)
        with pytest.raises(ltbench.UsageError) as caught:
            mine(tmp_path).load(tmp_path)
        assert expected in str(caught.value)


def counts_like(figures: Published, strict: tuple[int, int, int]) -> list[int]:
    """Return training images of each class, as many as published, that fall into the groups of both rules."""
    inclusive = figures.inclusive or strict
    exactly_100, exactly_20 = inclusive[0] - strict[0], inclusive[2] - strict[2]
    medium = strict[1] - exactly_100 - exactly_20
    low = [101] * strict[0] + [100] * exactly_100 + [21] * medium + [20] * exactly_20 + [figures.smallest] * strict[2]
    high = (
        [figures.largest] * strict[0]
        + [100] * exactly_100
        + [99] * medium
        + [20] * exactly_20
        + [figures.smallest]
        + [19] * (strict[2] - 1)
    )
    low[0] = figures.largest
    left = figures.train - sum(low)
    for i, (least, most) in enumerate(zip(low, high, strict=True)):
        more = min(left, most - least)
        low[i] += more
        left -= more
    assert left == 0
    return low


FULL = {
    "imagenet-lt": (imagenet_lt.FIGURES, imagenet_lt.FILES, ImageNetLT, (385, 479, 136)),
    "places-lt": (places_lt.FIGURES, places_lt.FILES, PlacesLT, (131, 163, 71)),
    "inat2018": (inat2018.FIGURES, inat2018.LISTS, INat2018, (842, 4076, 3224)),
}


def full_lines(name: str) -> dict[str, list[tuple[str, int]]]:
    """Return lists as long as the published ones."""
    figures, files, _, strict = FULL[name]
    counts = {"train": counts_like(figures, strict)}
    counts |= {part: [n] * figures.classes for part, n in (("validation", figures.validation), ("test", figures.test))}
    return {part: [(f"{part}/{c}/{i}.jpg", c) for c, n in enumerate(counts[part]) for i in range(n)] for part in files}


class TestPublished:
    """Figures, and lists that have them or not."""

    def parts(self, counts: tuple[int, ...] = COUNTS, validation: int = 2, test: int = 3) -> dict[str, Listed]:
        """Return lists of these sizes."""
        sizes = {"train": counts, "validation": [validation] * len(counts), "test": [test] * len(counts)}
        found = {}
        for part, each in sizes.items():
            labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(each))
            found[part] = Listed(tuple(f"{part}{i}" for i in range(len(labels))), labels)
        return found

    def refusal(self, figures: Published, parts: dict[str, Listed]) -> str:
        """Return the message that lists are refused with, less what all have in common."""
        with pytest.raises(ltbench.UsageError) as caught:
            figures.check(Path("there"), parts)
        before, _, rest = str(caught.value).partition("are not those of Small-LT: ")
        assert before == "the lists in there "
        wrong, _, advice = rest.partition("; take ")
        assert advice == "the published files as they are"
        return wrong

    def test_lists_as_published_are_accepted(self) -> None:
        """Lists with all the figures pass, with groups that are sure or not."""
        SMALL.check(Path("there"), self.parts())
        dataclasses.replace(SMALL, strict=None, inclusive=None).check(Path("there"), self.parts())

    @pytest.mark.parametrize(
        ("counts", "expected"),
        [
            (
                (120, 5, 24, 21),
                "170 train images (published: 169); 1/2/1 head, medium and tail classes (inclusive) (published: 1/1/2)",
            ),
            ((119, 6, 24, 20), "6 to 119 train images of a class (published: 5 to 120)"),
            ((120, 5, 24, 20, 1), "5 classes (published: 4)"),
            ((120, 5, 44), "3 classes (published: 4)"),
        ],
    )
    def test_every_difference_is_told(self, counts: tuple[int, ...], expected: str) -> None:
        """One message names each figure that differs, as found and as published."""
        assert self.refusal(SMALL, self.parts(counts)) == expected

    def test_parts_are_balanced(self) -> None:
        """Validation and test images are counted by class."""
        parts = self.parts(test=4)
        parts["validation"] = Listed(parts["validation"].names, torch.tensor([0, 0, 0, 1, 2, 2, 3, 3]))
        assert self.refusal(SMALL, parts) == (
            "1 to 3 validation images of a class (published: 2); 16 test images (published: 12); "
            "4 test images of a class (published: 3)"
        )

    @pytest.mark.parametrize(
        ("name", "figures"),
        [
            ("imagenet-lt", (1000, 115_846, 1280, 5, 20_000, 50_000, None, (390, 445, 165))),
            ("places-lt", (365, 62_500, 4980, 5, 7_300, 36_500, (131, 163, 71), (132, 156, 77))),
            ("inat2018", (8142, 437_513, 1000, 2, 0, 24_426, None, (842, 3701, 3599))),
        ],
    )
    def test_figures_are_those_of_the_protocol(self, name: str, figures: tuple[Any, ...]) -> None:
        """Classes, training images, largest and smallest class, validation and test images, strict and inclusive groups."""
        f = FULL[name][0]
        held_out = (f.classes * f.validation, f.classes * f.test)
        assert (f.classes, f.train, f.largest, f.smallest, *held_out, f.strict, f.inclusive) == figures

    @pytest.mark.parametrize("name", FULL)
    def test_lists_of_full_length(self, name: str, tmp_path: Path) -> None:
        """Lists as long as the published ones pass their checks; then every image is missing, which is told at once."""
        figures, files, component, _ = FULL[name]
        lines = full_lines(name)
        write_lists(tmp_path, files, lines)
        total = sum(map(len, lines.values()))
        with pytest.raises(ltbench.UsageError) as caught:
            component(root=tmp_path).load(tmp_path)
        assert f"{figures.title}: {total:,} of {total:,} images are missing below {tmp_path}: train/0/0.jpg" in str(
            caught.value
        )
        path = ltbench.cache_folder() / "missing" / f"{figures.title}.txt"
        assert str(caught.value).endswith(f"{path}; is it the folder in which these names start?")
        assert path.read_text().splitlines() == [image for part in lines.values() for image, _ in part]
        counts = Counter(label for _, label in lines["train"])
        assert (len(counts), max(counts.values()), min(counts.values())) == (figures.classes, figures.largest, figures.smallest)

    @pytest.mark.parametrize("name", FULL)
    def test_a_line_less_is_found(self, name: str, tmp_path: Path) -> None:
        """A single image that is missing from a list makes it another one."""
        figures, files, component, _ = FULL[name]
        lines = full_lines(name)
        lines["train"].pop(5)
        write_lists(tmp_path, files, lines)
        with pytest.raises(ltbench.UsageError) as caught:
            component(root=tmp_path).load(tmp_path)
        assert f"{figures.train - 1:,} train images (published: {figures.train:,})" in str(caught.value)


class TestComponents:
    """The published datasets as users name them."""

    @pytest.mark.parametrize("component", [ImageNetLT, PlacesLT, INat2018])
    def test_nothing_is_there(self, component: Any, tmp_path: Path) -> None:
        """What is missing is told in a few words for the list of datasets, and with the layout where it is asked for."""
        root = component().root
        assert component().missing(tmp_path) == f"needs your images: there is no folder {root}"
        with pytest.raises(ltbench.UsageError) as loading:
            component().load(tmp_path)
        with pytest.raises(ltbench.UsageError) as fetching:
            component().fetch(tmp_path, lambda *_: None)
        told = str(fetching.value)
        assert told == str(loading.value)
        assert f"cannot be downloaded, and there is no {tmp_path / root} or " in told
        _, files, _, _ = FULL[str(root)]
        assert f"with the list files {', '.join(files.values())}" in told
        assert told.endswith(f"{root}[root=FOLDER,lists=FOLDER]")

    @pytest.mark.parametrize(
        ("component", "expected"),
        [
            (ImageNetLT, "ImageNet_LT_train.txt, ImageNet_LT_val.txt, ImageNet_LT_test.txt"),
            (PlacesLT, "Places_LT_train.txt, Places_LT_val.txt, Places_LT_test.txt"),
            (INat2018, "iNaturalist18_train.txt, iNaturalist18_val.txt, or train2018.json, val2018.json"),
        ],
    )
    def test_lists_are_not_there(self, component: Any, expected: str, tmp_path: Path) -> None:
        """The lists are named, and where they belong."""
        root = component().root
        (tmp_path / root).mkdir()
        assert component().missing(tmp_path) == f"needs its list files: they are not in {root}"
        with pytest.raises(ltbench.UsageError) as caught:
            component().load(tmp_path)
        assert str(caught.value).endswith(
            f" needs its list files in {tmp_path / root}: {expected}; put the published files there, or say where they are: "
            f"{root}[lists=FOLDER]"
        )

    def test_exact_mode_counts_and_reads(self, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """In exact mode images are to be read once, which is counted, told while it is done, and remembered."""
        monkeypatch.setattr(contents, "FRESH", -1)
        place = Place(small, fingerprint="exact")
        assert SMALL_LISTS.missing(place, small) == "9 images are to be read"
        told: list[tuple[str, int, int | None]] = []
        SMALL_LISTS.fetch(place, small, lambda *each: told.append(each))
        assert told[-1][1:] == (9, 9)
        assert SMALL_LISTS.missing(place, small) == ""
        assert SMALL_LISTS.missing(Place(small), small) == ""
        picture(small / "train/n0/n0_0.JPEG", 99)
        assert SMALL_LISTS.missing(place, small) == "1 images are to be read"

    def test_missing_images_show_in_exact_mode(self, small: Path) -> None:
        """What keeps images from being read is told instead."""
        (small / "train/n0/n0_0.JPEG").unlink()
        assert "1 of 9 images are missing" in SMALL_LISTS.missing(Place(small, fingerprint="exact"), small)


class TestClassNames:
    """What classes are called."""

    train = Listed(tuple(f"train/n{i}/x.JPEG" for i in range(4)), torch.arange(4))

    @pytest.mark.parametrize("file", imagenet_lt.NAME_FILES)
    def test_imagenets_words(self, tmp_path: Path, file: str) -> None:
        """Of several words the first; where two classes share it, all of them; where they share these, the id as well."""
        (tmp_path / file).write_text("n0 tench, Tinca tinca\nn1 maillot\nn2 maillot, tank suit\nn3 crane\nn9 crane\n")
        names, notes = imagenet_lt.class_names(tmp_path, self.train, 4)
        assert (names, notes) == (["tench", "maillot", "maillot, tank suit", "crane"], [])
        (tmp_path / file).write_text("n0 crane\nn1 crane\nn2 tench\nn3 goldfish\n")
        assert imagenet_lt.class_names(tmp_path, self.train, 4)[0] == ["crane (n0)", "crane (n1)", "tench", "goldfish"]

    def test_imagenets_ids(self, tmp_path: Path) -> None:
        """Without words ids are the names, and the user learns what class text would need."""
        names, notes = imagenet_lt.class_names(tmp_path, self.train, 4)
        assert names == ["n0", "n1", "n2", "n3"]
        assert notes == ["classes are named by their folder, such as n0: for class text put classnames.txt beside the lists"]

    def test_imagenets_words_must_be_whole(self, tmp_path: Path) -> None:
        """A file that does not name every class is refused."""
        (tmp_path / "classnames.txt").write_text("n0 tench\nn3\ngoldfish\n")
        with pytest.raises(ltbench.UsageError, match=r"in lines such as 'n01440764 tench'; 3 are not named, n1 for one$"):
            imagenet_lt.class_names(tmp_path, self.train, 4)

    def test_scenes(self, tmp_path: Path) -> None:
        """Scenes are called as their folders, in words."""
        train = Listed(("train/airfield/1.jpg", "train/apartment_building-outdoor/1.jpg"), torch.arange(2))
        assert places_lt.class_names(tmp_path, train, 2)[0] == ["airfield", "apartment building, outdoor"]

    def test_species(self, tmp_path: Path) -> None:
        """Species are called as the released categories have them; without these by number."""
        train = Listed(("train_val2018/Aves/0/x.jpg", "train_val2018/Aves/1/y.jpg"), torch.arange(2))
        names, notes = inat2018.class_names(tmp_path, train, 2)
        assert (names, notes) == (
            ["0", "1"],
            ["classes are named by number: for class text put categories.json beside the lists"],
        )
        categories = [{"id": 1, "name": "Pica pica", "supercategory": "Aves"}, {"id": 0, "name": "Corvus corax"}]
        for content in (categories, {"categories": categories}):
            (tmp_path / "categories.json").write_text(json.dumps(content))
            assert inat2018.class_names(tmp_path, train, 2) == (["Corvus corax", "Pica pica"], [])
        (tmp_path / "categories.json").write_text(json.dumps([{"id": i, "name": "Pica pica"} for i in range(2)]))
        assert inat2018.class_names(tmp_path, train, 2)[0] == ["Pica pica (0)", "Pica pica (1)"]

    @pytest.mark.parametrize("content", ["", "[]", "[3]", '[{"id": 0}]', "{}", '[{"id": "x", "name": "y"}]'])
    def test_categories_must_be_whole(self, tmp_path: Path, content: str) -> None:
        """Categories that are no JSON, or do not name every class, are refused."""
        (tmp_path / "categories.json").write_text(content)
        with pytest.raises(ltbench.UsageError, match=r"categories.json (must give id and name of 2|cannot be read as JSON)"):
            inat2018.class_names(tmp_path, Listed(("a/0/x.jpg", "a/1/x.jpg"), torch.arange(2)), 2)


class TestAnnotations:
    """iNaturalist's JSON."""

    def content(self) -> dict[str, Any]:
        """Return annotations as the competition has them; they need not be in the images' order."""
        return {
            "info": {"year": 2018},
            "images": [
                {"id": i, "file_name": f"train_val2018/Aves/{i % 2}/{i}.jpg", "width": 8, "height": 8} for i in (7, 3, 5)
            ],
            "annotations": [{"id": i, "image_id": i, "category_id": i % 2} for i in (3, 5, 7)],
            "categories": [{"id": 0, "name": "0"}, {"id": 1, "name": "1"}],
        }

    def test_they_say_the_same_as_a_list(self, tmp_path: Path) -> None:
        """Images are in the order of the file, each with the category of its annotation."""
        (tmp_path / "train2018.json").write_text(json.dumps(self.content()))
        (tmp_path / "list.txt").write_text("".join(f"train_val2018/Aves/1/{i}.jpg 1\n" for i in (7, 3, 5)))
        listed, expected = inat2018.read(tmp_path / "train2018.json"), inat2018.read(tmp_path / "list.txt")
        assert listed.names == expected.names
        assert torch.equal(listed.labels, expected.labels)

    @pytest.mark.parametrize(
        "change",
        [
            lambda c: c.pop("annotations"),
            lambda c: c.pop("images"),
            lambda c: c["annotations"].pop(),
            lambda c: c["images"][0].pop("file_name"),
            lambda c: c["annotations"][0].__setitem__("category_id", "x"),
            lambda c: c["annotations"][0].__setitem__("category_id", -1),
            lambda c: c.__setitem__("images", []),
            lambda c: c.__setitem__("images", 3),
            lambda c: c.__setitem__("annotations", [1]),
        ],
    )
    def test_what_is_amiss_is_told(self, tmp_path: Path, change: Callable[[Any], object]) -> None:
        """Annotations that are not as iNaturalist's are refused with the file's name."""
        content = self.content()
        change(content)
        (tmp_path / "val2018.json").write_text(json.dumps(content))
        with pytest.raises(ltbench.UsageError, match=r"val2018.json must hold images"):
            inat2018.read(tmp_path / "val2018.json")

    @pytest.mark.parametrize("content", ["", "{", "[1]", '"x"'])
    def test_other_json_is_refused(self, tmp_path: Path, content: str) -> None:
        """Something else than annotations is refused."""
        (tmp_path / "val2018.json").write_text(content)
        with pytest.raises(ltbench.UsageError, match=r"val2018.json (must hold images|cannot be read as JSON)"):
            inat2018.read(tmp_path / "val2018.json")


@parametrize_with_checks(["lists[train=train.txt,test=test.txt,root=images]"])
def test_conformance(component: Any, check: Any) -> None:
    """Images by lists keep to the contract; the published ones are made by the same code."""
    data = Path(os.environ["LTBENCH_DATA"])
    write_lists(data, {"train": "train.txt", "test": "test.txt"}, small_lines())
    write_images(data / "images", small_lines())
    check(component)
