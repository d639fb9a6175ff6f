"""Tests of datasets saved by the ``datasets`` library, and fetched by it from a hub on loopback."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from PIL import Image

import ltbench
from ltbench.testing import parametrize_with_checks
from ltbench_datasets import repeats
from ltbench_datasets.hf import HuggingFace, Images

datasets.disable_progress_bars()

SIZES = {"train": 8, "validation": 2, "test": 4}
NAMES = ["cat", "dog"]


def encoded(shade: int) -> dict[str, Any]:
    """Return an image as the library stores it, told from others by its shade."""
    written = io.BytesIO()
    Image.new("RGB", (4, 3), (shade, 0, 0)).save(written, "PNG")
    return {"bytes": written.getvalue(), "path": None}


def split(shades: list[int], labels: list[Any], kind: Any = None, **more: list[Any]) -> Any:
    """Return a split with columns image and label."""
    kinds = {"image": datasets.Image(), "label": kind or datasets.ClassLabel(names=NAMES)}
    table = datasets.Dataset.from_dict({"image": [encoded(shade) for shade in shades], "label": labels, **more})
    return table.cast(datasets.Features({**kinds, **{name: datasets.Value("int64") for name in more}}))


def splits(sizes: dict[str, int] | None = None) -> Any:
    """Return splits whose images all differ, with labels in turn."""
    made, shade = {}, 0
    for name, size in (sizes or SIZES).items():
        made[name] = split([shade + i for i in range(size)], [i % 2 for i in range(size)])
        shade += size
    return datasets.DatasetDict(made)


def load(saved: Any, tmp_path: Path, **parameters: Any) -> ltbench.Dataset:
    """Save splits and load them."""
    saved.save_to_disk(tmp_path / "saved")
    return HuggingFace(name=str(tmp_path / "saved"), **parameters).load(tmp_path)


def refusal(saved: Any, tmp_path: Path, **parameters: Any) -> str:
    """Return the message with which splits are refused, less what all begin with."""
    with pytest.raises(ltbench.UsageError) as caught:
        load(saved, tmp_path, **parameters)
    before = f"hf {tmp_path / 'saved'}"
    assert str(caught.value).startswith(before)
    return str(caught.value).removeprefix(before)


def shades(part: ltbench.Part | None) -> list[int]:
    """Return the shades of a part's images."""
    assert part is not None
    return [int(image[0, 0, 0]) for image in part.images]


class TestContent:
    """What was saved is what is loaded."""

    @pytest.mark.parametrize("fingerprint", ["exact", "quick"])
    def test_parts_are_the_splits(self, tmp_path: Path, fingerprint: str) -> None:
        """Every part has its split's images, uint8 RGB, with labels in the same order and the features' class names."""
        dataset = load(splits(), tmp_path, fingerprint=fingerprint)
        assert [shades(part) for part in (dataset.train, dataset.validation, dataset.test)] == [
            list(range(8)),
            [8, 9],
            list(range(10, 14)),
        ]
        assert dataset.train.labels.tolist() == [0, 1] * 4
        assert (dataset.class_names, dataset.notes) == (("cat", "dog"), ())
        assert torch.equal(dataset.test.images[1], torch.tensor([11, 0, 0], dtype=torch.uint8).expand(3, 4, 3))
        assert len(dataset.train.images) == 8

    def test_splits_may_be_spelt_otherwise(self, tmp_path: Path) -> None:
        """Common names of the parts are understood; other splits are left alone, and noted."""
        dataset = load(splits({"train": 4, "valid": 2, "test": 2, "extra": 2}), tmp_path)
        assert (shades(dataset.validation), dataset.notes) == ([4, 5], ("left alone: extra",))

    def test_validation_may_serve_as_test(self, tmp_path: Path) -> None:
        """Without a test split the validation images are the test images, which is noted."""
        dataset = load(splits({"train": 4, "validation": 2}), tmp_path)
        assert (shades(dataset.test), dataset.validation) == ([4, 5], None)
        assert dataset.notes == ("there is no test split: the validation images are the test images",)

    @pytest.mark.parametrize("nothing", [-1, None])
    def test_withheld_labels_are_no_test_part(self, tmp_path: Path, nothing: int | None) -> None:
        """Where the hub withholds test labels, the validation images are the test images, too."""
        saved = splits()
        saved["test"] = split([90, 91], [nothing, nothing])
        dataset = load(saved, tmp_path)
        assert (shades(dataset.test), dataset.validation) == ([8, 9], None)
        assert dataset.notes == ("the test labels are withheld: the validation images are the test images",)

    def test_columns_may_be_called_otherwise(self, tmp_path: Path) -> None:
        """Columns are named by image and label."""
        saved = splits().rename_columns({"image": "img", "label": "fine_label"})
        assert shades(load(saved, tmp_path, image="img", label="fine_label").test) == [10, 11, 12, 13]

    def test_text_labels_are_sorted(self, tmp_path: Path) -> None:
        """Labels that are text are classes in sorted order, over all parts."""
        kind = datasets.Value("string")
        saved = datasets.DatasetDict(
            {"train": split([0, 1], ["dog", "cat"], kind), "test": split([2, 3], ["cat", "dog"], kind)}
        )
        dataset = load(saved, tmp_path)
        assert (dataset.class_names, dataset.train.labels.tolist(), dataset.test.labels.tolist()) == (
            ("cat", "dog"),
            [1, 0],
            [0, 1],
        )

    def test_numbers_are_their_own_names(self, tmp_path: Path) -> None:
        """Integer labels without names are called by their number."""
        kind = datasets.Value("int32")
        saved = datasets.DatasetDict({"train": split([0, 1], [1, 0], kind), "test": split([2, 3], [0, 1], kind)})
        assert load(saved, tmp_path).class_names == ("0", "1")

    def test_rows_that_were_chosen_and_sorted(self, tmp_path: Path) -> None:
        """What select, shuffle and sort have made is loaded in its order."""
        saved = splits({"train": 20, "test": 4})
        saved["train"] = saved["train"].shuffle(seed=3).select([5, 1, 7, 2, 19, 0])
        expected = [int(each["image"].getpixel((0, 0))[0]) for each in saved["train"]]
        dataset = load(saved, tmp_path)
        assert shades(dataset.train) == expected
        assert dataset.train.labels.tolist() == [shade % 2 for shade in expected]

    def test_grey_images_become_rgb(self, tmp_path: Path) -> None:
        """Grey images, as MNIST has them, are repeated to three channels."""
        written = io.BytesIO()
        Image.new("L", (2, 2), 7).save(written, "PNG")
        saved = splits()
        one = datasets.Dataset.from_dict({"image": [{"bytes": written.getvalue(), "path": None}], "label": [0]}).cast(
            saved["train"].features
        )
        saved["train"] = datasets.concatenate_datasets([saved["train"], one])
        assert load(saved, tmp_path).train.images[8].tolist() == [[[7, 7, 7]] * 2] * 2

    def test_files_on_disk_are_taken_in(self, tmp_path: Path) -> None:
        """Images that were files when the dataset was saved are part of it afterwards."""
        made = {}
        for k, name in enumerate(("train", "test")):
            paths = [tmp_path / f"{name}{i}.png" for i in range(2)]
            for i, path in enumerate(paths):
                Image.new("RGB", (2, 2), (10 * k + i, 0, 0)).save(path)
            table = datasets.Dataset.from_dict({"image": list(map(str, paths)), "label": [0, 1]})
            made[name] = table.cast(datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)}))
        datasets.DatasetDict(made).save_to_disk(tmp_path / "saved")
        for path in tmp_path.glob("*.png"):
            path.unlink()
        assert shades(HuggingFace(name=str(tmp_path / "saved")).load(tmp_path).test) == [10, 11]


class TestWhereItIs:
    """Places."""

    def test_relative_names_are_looked_for_in_the_data_folder_first(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A saved dataset lies below the data folder, or below the working folder."""
        work, data = tmp_path / "work", tmp_path / "data"
        splits().save_to_disk(work / "mine/pets")
        monkeypatch.chdir(work)
        assert len(HuggingFace(name="mine/pets").load(data).train.labels) == 8
        splits({"train": 4, "test": 2}).save_to_disk(data / "mine/pets")
        assert len(HuggingFace(name="mine/pets").load(data).train.labels) == 4

    def test_what_is_not_there_has_to_be_fetched(self, tmp_path: Path) -> None:
        """Loading downloads nothing: it says which command does."""
        place = tmp_path / "hf" / "me--pets--small"
        wanted = HuggingFace(name="me/pets", config="small")
        assert wanted.missing(tmp_path) == f"it is not in {place}"
        with pytest.raises(ltbench.UsageError) as caught:
            wanted.load(tmp_path)
        assert str(caught.value) == f"hf me/pets: it is not in {place}: ltbench data fetch 'hf[name=me/pets,config=small]'"

    def test_a_single_split_is_refused(self, tmp_path: Path) -> None:
        """A dataset without splits has nothing to test on."""
        splits()["train"].save_to_disk(tmp_path / "saved")
        with pytest.raises(ltbench.UsageError, match=r"holds a single split: save a DatasetDict with train and test$"):
            HuggingFace(name=str(tmp_path / "saved")).load(tmp_path)

    def test_damage_is_told(self, tmp_path: Path) -> None:
        """A saved dataset that cannot be read is refused with the cause."""
        splits().save_to_disk(tmp_path / "saved")
        next((tmp_path / "saved/train").glob("*.arrow")).write_bytes(b"no arrow")
        with pytest.raises(ltbench.UsageError, match=r"cannot be loaded: \w+: "):
            HuggingFace(name=str(tmp_path / "saved")).load(tmp_path)

    def test_the_library_is_an_extra(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without the library the error says what to install; without data it is not even asked for."""
        splits().save_to_disk(tmp_path / "saved")
        monkeypatch.setitem(sys.modules, "datasets", None)
        with pytest.raises(ltbench.UsageError, match=r"needs the datasets library: pip install 'ltbench-datasets\[hf\]'$"):
            HuggingFace(name=str(tmp_path / "saved")).load(tmp_path)
        assert HuggingFace(name="me/pets").missing(tmp_path).startswith("it is not in ")


def replaced(part: str, new: Any) -> Any:
    """Return good splits with one replaced, or taken away."""
    saved = splits()
    if new is None:
        del saved[part]
    else:
        saved[part] = new
    return saved


def renamed(**names: str) -> Any:
    """Return good splits under other names."""
    return datasets.DatasetDict({names.get(name, name): each for name, each in splits().items()})


MISTAKES: dict[str, tuple[Callable[[], Any], dict[str, Any], str]] = {
    "no such image column": (
        splits,
        {"image": "img"},
        " has no column 'img'; it has image, label: name it by image= or label=",
    ),
    "no such label column": (
        splits,
        {"label": "fine"},
        " has no column 'fine'; it has image, label: name it by image= or label=",
    ),
    "label is an image": (
        splits,
        {"label": "image"},
        ": image must hold integers or text, not object: save image.astype('int64')",
    ),
    "image is a label": (
        splits,
        {"image": "label"},
        ": label must be a column of images, not ClassLabel(names=['cat', 'dog']): name it by image=",
    ),
    "float labels": (
        lambda: datasets.DatasetDict(
            {part: split([k], [0.5], datasets.Value("float32")) for k, part in enumerate(("train", "test"))}
        ),
        {},
        ": label must hold integers or text, not float64: save label.astype('int64')",
    ),
    "some labels missing": (
        lambda: replaced("train", split([20, 21, 22], [0, 1, None])),
        {},
        ": label is missing in 1 of 3 rows",
    ),
    "some labels withheld": (
        lambda: replaced("train", split([20, 21, 22], [0, 1, -1])),
        {},
        ": labels label must be 0 to 1, for there are 2 class names; 1 of 9 are not, the first in row 2: -1",
    ),
    "test labels withheld, no validation": (
        lambda: datasets.DatasetDict({"train": split([1, 2], [0, 1]), "test": split([3, 4], [-1, -1])}),
        {},
        ": labels label must be 0 to 1, for there are 2 class names; 2 of 4 are not, the first in row 2: -1",
    ),
    "train alone": (
        lambda: datasets.DatasetDict({"train": split([1, 2], [0, 1])}),
        {},
        " must have splits train and test, or train and validation, it has train",
    ),
    "no train": (
        lambda: datasets.DatasetDict({"test": split([1, 2], [0, 1])}),
        {},
        " must have splits train and test, or train and validation, it has test",
    ),
    "a part twice": (lambda: renamed(test="val"), {}, ": two of its splits name one part: train, validation, val"),
    "class without test images": (
        lambda: replaced("test", split([20, 21], [0, 0])),
        {},
        ": 1 of 2 classes have no row in the test part: 'dog'",
    ),
    "other class names": (
        lambda: replaced("test", split([20, 21], [0, 1], datasets.ClassLabel(names=["dog", "cat"]))),
        {},
        ": label must have the same class names in train and validation and test",
    ),
    "images in two parts": (
        lambda: replaced("test", split([20, 3, 21, 4], [0, 1, 0, 1])),
        {},
        ": 2 test rows are train rows, too; the first is row 11: take them out, or say overlap=allow",
    ),
}


class TestMistakes:
    """One clear sentence for each mistake."""

    @pytest.mark.parametrize("mistake", MISTAKES)
    def test_a_mistake_is_told(self, tmp_path: Path, mistake: str) -> None:
        """The message names the dataset, what must be what, and what it is."""
        make, parameters, expected = MISTAKES[mistake]
        assert refusal(make(), tmp_path, **parameters) == expected

    def test_overlap_may_be_allowed(self, tmp_path: Path) -> None:
        """With overlap=allow images in two parts are noted."""
        saved = replaced("test", split([20, 3, 21, 4], [0, 1, 0, 1]))
        assert load(saved, tmp_path, overlap="allow").notes == ("2 test rows are train rows, too; the first is row 11",)

    def broken(self, content: bytes | None) -> Any:
        """Return splits in which two training images are something else."""
        saved = splits()
        wrong = [{"bytes": content, "path": None if content else "elsewhere.png"}] * 2
        other = datasets.Dataset.from_dict({"image": wrong, "label": [0, 1]}, features=saved["train"].features)
        saved["train"] = datasets.concatenate_datasets([saved["train"], other])
        return saved

    def test_what_is_no_image_is_told_at_once(self, tmp_path: Path) -> None:
        """In exact mode every row that is no image is counted."""
        assert refusal(self.broken(b"no image"), tmp_path) == (
            ", train: 2 of 10 are no readable images: row 8 (it is no image of a known format), row 9 (it is no image of a known format)"
        )

    def test_in_quick_mode_it_is_told_when_it_is_asked_for(self, tmp_path: Path) -> None:
        """Nothing is decoded before; then the message names dataset, split and row."""
        dataset = load(self.broken(b"no image"), tmp_path, fingerprint="quick")
        with pytest.raises(
            ltbench.LtbenchError, match=r"saved, train: image 9 cannot be decoded: it is no image of a known format$"
        ):
            dataset.train.images[9]

    def test_a_truncated_image_is_told_when_it_is_decoded(self, tmp_path: Path) -> None:
        """An image that is cut off after its header is found when it is decoded."""
        dataset = load(self.broken(encoded(77)["bytes"][:45]), tmp_path)
        with pytest.raises(ltbench.LtbenchError, match=r"saved, train: image 8 cannot be decoded: ."):
            dataset.train.images[8]


class TestFingerprint:
    """A name for the content."""

    @pytest.mark.parametrize("fingerprint", ["exact", "quick"])
    def test_it_names_the_content(self, tmp_path: Path, fingerprint: str) -> None:
        """It is the same in another place, and changes with an image, a label, the order or a part."""
        first = load(splits(), tmp_path / "a", fingerprint=fingerprint).fingerprint
        assert load(splits(), tmp_path / "b", fingerprint=fingerprint).fingerprint == first
        larger = io.BytesIO()
        Image.new("RGB", (99, 9), (0, 0, 0)).save(larger, "PNG")
        other = splits()
        image = datasets.Dataset.from_dict(
            {"image": [{"bytes": larger.getvalue(), "path": None}], "label": [0]}, features=other["train"].features
        )
        changed = {
            "image": datasets.concatenate_datasets([image, other["train"].select(range(1, 8))]),
            "label": split(list(range(8)), [0, 1, 0, 1, 0, 1, 0, 0]),
            "part": other["train"].select(range(6)),
        }
        found = {
            load(replaced("train", new), tmp_path / name, fingerprint=fingerprint).fingerprint for name, new in changed.items()
        }
        assert len({first, *found}) == 4

    def test_only_exact_mode_sees_equal_sizes(self, tmp_path: Path) -> None:
        """Another image of the same size is trusted in quick mode."""
        shuffled = [*range(7), 99]
        assert len(encoded(7)["bytes"]) == len(encoded(99)["bytes"])
        for mode, same in (("exact", False), ("quick", True)):
            before = load(splits(), tmp_path / mode / "a", fingerprint=mode).fingerprint
            after = load(replaced("train", split(shuffled, [0, 1] * 4)), tmp_path / mode / "b", fingerprint=mode).fingerprint
            assert (before == after) == same

    def test_images_are_read_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """In exact mode a second load reads no image, and a changed dataset is read again."""
        monkeypatch.setattr(repeats, "FRESH", -1)
        first = load(splits(), tmp_path).fingerprint
        reads = []
        encoded_of = Images.encoded
        monkeypatch.setattr(Images, "encoded", lambda self: reads.append(self.where) or encoded_of(self))
        again = HuggingFace(name=str(tmp_path / "saved"))
        assert (again.load(tmp_path).fingerprint, reads) == (first, [])
        replaced("train", split(list(range(30, 34)), [0, 1, 0, 1])).save_to_disk(tmp_path / "saved")
        assert again.load(tmp_path).fingerprint != first
        assert len(reads) == 3


def test_a_dataset_pickles(tmp_path: Path) -> None:
    """A worker process gets paths, and reads by itself."""
    dataset = load(splits({"train": 200, "test": 4}), tmp_path)
    packed = pickle.dumps(dataset)
    assert len(packed) < 15_000
    copied: ltbench.Dataset = pickle.loads(packed)
    assert shades(copied.train) == list(range(200))


def test_many_threads_may_ask(tmp_path: Path) -> None:
    """Threads that ask at once get the right images."""
    dataset = load(splits({"train": 200, "test": 4}), tmp_path)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: int(dataset.train.images[i][0, 0, 0]), range(200)))
    assert found == list(range(200))


def test_a_slice_decodes_nothing(tmp_path: Path) -> None:
    """A slice of images is images."""
    dataset = load(splits(), tmp_path)
    assert [int(image[0, 0, 0]) for image in dataset.train.images[5:1:-2]] == [5, 3]


@parametrize_with_checks(["hf[name=pets]"])
def test_conformance(component: Any, check: Any) -> None:
    """It keeps to the contract."""
    place = Path(os.environ["LTBENCH_DATA"]) / "pets"
    if not place.exists():
        splits().save_to_disk(place)
    check(component)


COMMIT = "c0ffee" * 6 + "c0ff"


@dataclass
class Hub:
    """A hub on loopback with one dataset, ``me/pets``; ``asked`` holds the paths of all requests."""

    files: dict[str, bytes]
    url: str = ""
    asked: list[str] = field(default_factory=list)

    def answer(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        """Return code, body and headers of an answer."""
        self.asked.append(path)
        if re.fullmatch(r"/api/datasets/me/pets(/revision/\w+)?", path):
            told = {"id": "me/pets", "sha": COMMIT, "private": False, "siblings": [{"rfilename": name} for name in self.files]}
            return 200, json.dumps(told).encode(), {}
        if match := re.fullmatch(r"/api/datasets/me/pets/tree/\w+(?:/(.+))?", path):
            return self.tree(match[1])
        if match := re.fullmatch(r"/datasets/me/pets/resolve/\w+/(.+)", path):
            if match[1] in self.files:
                content = self.files[match[1]]
                return 200, content, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
            return 404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}
        return 404, b"{}", {"X-Error-Code": "RepoNotFound"}

    def tree(self, folder: str | None) -> tuple[int, bytes, dict[str, str]]:
        """Return what lies in a folder; at the top there is one, data."""
        if folder is None:
            return 200, json.dumps([{"type": "directory", "path": "data", "oid": "d" * 40, "size": 0}]).encode(), {}
        found = [{"type": "file", "path": name, "size": len(held), "oid": "f" * 40} for name, held in self.files.items()]
        return 200, json.dumps(found).encode(), {}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """Return a hub that is up."""
    files = {}
    for name, each in splits().items():
        written = tmp_path / f"{name}.parquet"
        each.to_parquet(written)
        files[f"data/{name}-00000-of-00001.parquet"] = written.read_bytes()
    state = Hub(files)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, body, headers = state.answer(self.path.partition("?")[0])
            self.send_response(code)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        state.url = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        running.shutdown()
        thread.join()


FETCH = """
import os, sys
from pathlib import Path
import ltbench
from ltbench_datasets.hf import HuggingFace
try:
    HuggingFace(name=sys.argv[1]).fetch(Path(os.environ["LTBENCH_DATA"]), lambda *_: None)
except ltbench.UsageError as error:
    sys.exit(f"refused: {error}")
"""


def fetch(hub: Hub, home: Path, name: str = "me/pets") -> subprocess.Popen[str]:
    """Fetch a dataset in a process of its own, whose hub is on loopback: the library reads its settings once."""
    settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-c", FETCH, name]
    return subprocess.Popen(command, env={**os.environ, **settings}, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_dataset_is_fetched_once(hub: Hub, tmp_path: Path) -> None:
    """Two processes that fetch at once download once; afterwards it is there, and loading asks the hub for nothing."""
    data = Path(os.environ["LTBENCH_DATA"])
    wanted = HuggingFace(name="me/pets")
    assert wanted.missing(data) == f"it is not in {data / 'hf/me--pets'}"
    for process in [fetch(hub, tmp_path / "home") for _ in range(2)]:
        assert (process.wait(120), [line for line in process.communicate()[1].splitlines() if "rror" in line]) == (0, [])
    downloads = [path for path in hub.asked if path.endswith("train-00000-of-00001.parquet")]
    assert len(downloads) == 2  # its head, and its body
    asked = len(hub.asked)
    assert wanted.missing(data) == ""
    assert load(splits(), tmp_path).fingerprint == wanted.load(data).fingerprint
    assert len(hub.asked) == asked
    assert [each.name for each in (data / "hf").iterdir() if not each.name.endswith(".lock")] == ["me--pets"]


@pytest.mark.slow
def test_a_dataset_that_the_hub_does_not_have(hub: Hub, tmp_path: Path) -> None:
    """The library's message is passed on in one line, and nothing is left behind."""
    process = fetch(hub, tmp_path / "home", "me/nothing")
    _, told = process.communicate(timeout=120)
    last = told.strip().splitlines()[-1]
    assert process.returncode == 1
    assert re.match(r"refused: hf me/nothing cannot be loaded: DatasetNotFoundError: .*me/nothing", last)
    assert [each.name for each in (Path(os.environ["LTBENCH_DATA"]) / "hf").iterdir() if not each.name.endswith(".lock")] == []
