"""Tests of feature files in three formats, against the arrays that were written."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

import ltbench
from ltbench.testing import parametrize_with_checks
from ltbench_datasets import repeats, vectors
from ltbench_datasets.features import Features
from ltbench_datasets.vectors import FeatureFile

CODES = {"train": 0, "val": 1, "test": 2}
FORMATS = ("npz", "safetensors", "parquet", "parquet-columns", "parquet-fixed")

Arrays = dict[str, Any]


def arrays(rows: int = 60, width: int = 5, classes: int = 4, seed: int = 0, dtype: str = "float32") -> Arrays:
    """Return x, y, a split that holds every class in every part, class names and class text."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(rows) % classes)
    split = np.empty(rows, dtype="U5")
    for c in range(classes):
        mine = np.flatnonzero(y == c)
        split[mine] = np.resize(["train", "val", "train", "test"], len(mine))
    return {
        "x": rng.standard_normal((rows, width)).astype(dtype),
        "y": y,
        "split": split,
        "class_names": np.array([f"class {c}" for c in range(classes)]),
        "class_text": rng.standard_normal((classes, width)).astype("float32"),
    }


def write(path: Path, kind: str, content: Arrays) -> Path:
    """Write arrays in a format, as a user would."""
    if kind == "npz":
        np.savez(path.with_suffix(".npz"), **content)
        return path.with_suffix(".npz")
    names = content.get("class_names")
    metadata = {} if names is None else {"class_names": json.dumps(np.asarray(names).tolist())}
    if kind == "safetensors":
        tensors = {name: np.asarray(value) for name, value in content.items() if name != "class_names"}
        if "split" in tensors and tensors["split"].dtype.kind == "U":
            tensors["split"] = np.array([CODES[each] for each in tensors["split"]])
        save_file(
            {name: np.ascontiguousarray(value) for name, value in tensors.items()}, path.with_suffix(".safetensors"), metadata
        )
        return path.with_suffix(".safetensors")
    x = content["x"]
    if kind == "parquet-columns":
        columns = {f"x{i}": pa.array(x[:, i]) for i in range(x.shape[1])}
    elif kind == "parquet-fixed":
        columns = {"x": pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1])}
    else:
        columns = {"x": pa.array(list(x))}
    columns |= {name: pa.array(np.asarray(content[name]).tolist()) for name in ("y", "split") if name in content}
    if "class_text" in content:
        metadata["class_text"] = json.dumps(np.asarray(content["class_text"]).tolist())
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path.with_suffix(".parquet"), row_group_size=7)
    return path.with_suffix(".parquet")


def load(path: Path, **parameters: Any) -> ltbench.Dataset:
    """Load a file."""
    return Features(path=path, **parameters).load(path.parent)


def refusal(tmp_path: Path, content: Arrays, kind: str = "npz", **parameters: Any) -> str:
    """Return the message with which a file of these arrays is refused."""
    path = write(tmp_path / "refused", kind, content)
    with pytest.raises(ltbench.UsageError) as caught:
        load(path, **parameters)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


@pytest.fixture
def remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files that were written just now be remembered."""
    monkeypatch.setattr(repeats, "FRESH", -1)


class TestContent:
    """What was written is what is loaded."""

    @pytest.mark.parametrize("kind", FORMATS)
    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    def test_parts_are_the_rows_of_the_split(self, tmp_path: Path, kind: str, dtype: str) -> None:
        """Every part has the rows of its split, in file order, as float32, with their labels, names and class text."""
        content = arrays(dtype=dtype)
        dataset = load(write(tmp_path / "f", kind, content))
        parts = {"train": dataset.train, "val": dataset.validation, "test": dataset.test}
        for name, part in parts.items():
            mine = content["split"] == name
            assert part is not None
            assert torch.equal(part.images[:], torch.from_numpy(content["x"][mine].astype("float32")))
            assert torch.equal(part.labels, torch.from_numpy(content["y"][mine]))
            assert len(part.images) == mine.sum()
        assert dataset.class_names == tuple(content["class_names"].tolist())
        assert torch.equal(dataset.class_text, torch.from_numpy(content["class_text"]))
        assert dataset.notes == ()

    def test_every_format_has_the_same_fingerprint(self, tmp_path: Path) -> None:
        """A fingerprint names what is in a file, not the file's format or name."""
        content = arrays()
        found = {load(write(tmp_path / f"f-{kind}", kind, content)).fingerprint for kind in FORMATS}
        assert len(found) == 1

    def test_only_x_and_y_are_needed(self, tmp_path: Path) -> None:
        """Without names classes are called by their number; without a split there is no validation part."""
        content = arrays()
        dataset = load(write(tmp_path / "f", "npz", {"x": content["x"], "y": content["y"]}))
        assert dataset.class_names == ("0", "1", "2", "3")
        assert (dataset.validation, dataset.class_text) == (None, None)

    @pytest.mark.parametrize("kind", ["npz", "parquet"])
    def test_text_labels_are_classes_in_sorted_order(self, tmp_path: Path, kind: str) -> None:
        """Classes are the texts in y, sorted by code point; any script will do."""
        words = np.array(["zebra", "Ähre", "猫", "ant"])
        content = arrays()
        told = {name: content[name] for name in ("x", "split")} | {"y": words[content["y"]]}
        dataset = load(write(tmp_path / "f", kind, told))
        assert dataset.class_names == ("ant", "zebra", "Ähre", "猫")
        train = [words[c] for c in content["y"][content["split"] == "train"]]
        assert [dataset.class_names[c] for c in dataset.train.labels.tolist()] == train

    def test_class_names_give_text_labels_their_order(self, tmp_path: Path) -> None:
        """Where class names are there, a text label is its place among them."""
        content = arrays()
        names = np.array(["d", "c", "b", "a"])
        dataset = load(write(tmp_path / "f", "npz", {**content, "class_names": names, "y": names[content["y"]]}))
        assert torch.equal(dataset.train.labels, torch.from_numpy(content["y"][content["split"] == "train"]))
        assert dataset.class_names == ("d", "c", "b", "a")

    @pytest.mark.parametrize(
        "split",
        [
            np.array([0, 1, 2], dtype="int8"),
            np.array([0, 1, 2], dtype="uint64"),
            np.array(["train", "valid", "test"]),
            np.array(["train", "validation", "test"]),
        ],
    )
    def test_a_split_may_be_spelt_in_several_ways(self, tmp_path: Path, split: Any) -> None:
        """Integer codes of any width, and longer names of the validation part, mean the same."""
        content = arrays()
        codes = np.array([CODES[each] for each in content["split"]])
        expected = load(write(tmp_path / "a", "npz", content)).fingerprint
        assert load(write(tmp_path / "b", "npz", {**content, "split": split[codes]})).fingerprint == expected

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    @pytest.mark.parametrize("change", [np.asfortranarray, lambda x: x.astype(">f4"), lambda x: x[:, ::-1]])
    def test_layout_in_the_archive_does_not_matter(
        self, tmp_path: Path, save: Callable[..., None], change: Callable[..., Any]
    ) -> None:
        """Columns first, big-endian numbers, reversed views, packed or not: the numbers count."""
        content = arrays(rows=3000, width=7)
        content["x"] = change(content["x"])
        save(tmp_path / "f.npz", **content)
        mine = content["split"] == "test"
        assert torch.equal(
            load(tmp_path / "f.npz").test.images[:], torch.from_numpy(np.ascontiguousarray(content["x"][mine], dtype="float32"))
        )

    @pytest.mark.parametrize("kind", FORMATS)
    def test_files_are_read_in_blocks(self, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Blocks of three rows give the same as one block."""
        path = write(tmp_path / "f", kind, arrays())
        whole = load(path)
        monkeypatch.setattr("ltbench_datasets.tables.BLOCK_BYTES", 3 * 8 * 5)
        assert load(path).fingerprint == whole.fingerprint
        assert torch.equal(load(path).train.images[:], whole.train.images[:])

    def test_bfloat16_is_read(self, tmp_path: Path) -> None:
        """Brain floats, which NumPy does not know, become float32."""
        from safetensors.torch import save_file as save_torch

        content = arrays()
        x = torch.from_numpy(content["x"]).bfloat16()
        split = torch.tensor([CODES[each] for each in content["split"]])
        save_torch({"x": x, "y": torch.from_numpy(content["y"]), "split": split}, tmp_path / "f.safetensors")
        assert torch.equal(load(tmp_path / "f.safetensors").test.images[:], x[split == 2].float())

    def test_8142_classes(self, tmp_path: Path) -> None:
        """As many classes as iNaturalist 2018 has are loaded, two rows each."""
        y = np.repeat(np.arange(8142), 2)
        x = np.random.default_rng(0).standard_normal((len(y), 4)).astype("float32")
        dataset = load(write(tmp_path / "f", "npz", {"x": x, "y": y}))
        assert len(dataset.class_names) == 8142
        assert torch.equal(torch.bincount(dataset.test.labels), torch.ones(8142, dtype=torch.long))

    def test_one_training_row_of_a_class_is_enough(self, tmp_path: Path) -> None:
        """A class may have a single training row, and a single test row."""
        x = np.eye(6, dtype="float32")
        content = {
            "x": x,
            "y": np.array([0, 0, 0, 0, 1, 1]),
            "split": np.array(["train", "train", "train", "test", "train", "test"]),
        }
        assert torch.bincount(load(write(tmp_path / "f", "npz", content)).train.labels).tolist() == [3, 1]


class TestWhereFilesAre:
    """Relative paths."""

    def test_the_data_folder_comes_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A relative path is looked for below the data folder, then below the working folder."""
        data, work = tmp_path / "data", tmp_path / "work"
        data.mkdir()
        work.mkdir()
        monkeypatch.chdir(work)
        mine = load(write(work / "f", "npz", arrays(seed=1)))
        assert Features(path=Path("f.npz")).load(data).fingerprint == mine.fingerprint
        theirs = load(write(data / "f", "npz", arrays(seed=2)))
        assert Features(path=Path("f.npz")).load(data).fingerprint == theirs.fingerprint != mine.fingerprint

    def test_a_missing_file_is_named_wherever_it_could_be(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error names both places."""
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ltbench.UsageError) as caught:
            Features(path=Path("g.npz")).load(tmp_path / "data")
        assert str(caught.value) == f"there is no {tmp_path / 'data' / 'g.npz'} or {tmp_path / 'g.npz'}"

    def test_a_folder_is_no_file(self, tmp_path: Path) -> None:
        """A folder is refused."""
        with pytest.raises(ltbench.UsageError, match="must be a file"):
            load(tmp_path)


class TestWithoutSplit:
    """Rows dealt to training and test part."""

    @settings(max_examples=25, deadline=None)
    @given(counts=st.lists(st.integers(2, 40), min_size=2, max_size=8), seed=st.integers(0, 9))
    def test_a_fifth_of_each_class_is_tested(
        self, tmp_path_factory: pytest.TempPathFactory, counts: list[int], seed: int
    ) -> None:
        """Of n rows round(n / 5), but at least one, are test rows; every row is in one part, and loading again agrees."""
        rng = np.random.default_rng(seed)
        y = rng.permutation(np.repeat(np.arange(len(counts)), counts))
        x = np.arange(len(y), dtype="float32")[:, None]
        path = write(tmp_path_factory.mktemp("f") / "f", "npz", {"x": x, "y": y})
        dataset = load(path)
        tested = [max(1, int(n / 5 + 0.5)) for n in counts]
        assert torch.bincount(dataset.test.labels).tolist() == tested
        rows = [*dataset.train.images[:, 0].int().tolist(), *dataset.test.images[:, 0].int().tolist()]
        assert sorted(rows) == list(range(len(y)))
        assert [*dataset.train.labels.tolist(), *dataset.test.labels.tolist()] == y[rows].tolist()
        assert load(path).fingerprint == dataset.fingerprint

    def test_the_deal_is_told(self, tmp_path: Path) -> None:
        """The user learns that there was no split, and what was made of it."""
        content = arrays()
        notes = load(write(tmp_path / "f", "npz", {"x": content["x"], "y": content["y"]})).notes
        assert notes == ("the file has no split: one in 5 rows of each class, at least one, is a test row, the others train",)

    def test_the_deal_is_random(self, tmp_path: Path) -> None:
        """Test rows come from all over a class, not from its end."""
        y = np.repeat([0, 1], 500)
        x = np.arange(1000, dtype="float32")[:, None]
        tested = load(write(tmp_path / "f", "npz", {"x": x, "y": y})).test.images[:, 0].numpy()
        tenths = Counter((tested[:100] // 50).astype(int).tolist())
        assert sorted(tenths) == list(range(10))
        assert max(tenths.values()) < 25

    def test_a_class_of_one_row_cannot_be_dealt(self, tmp_path: Path) -> None:
        """Training and test row of a class cannot be the same."""
        message = refusal(tmp_path, {"x": np.eye(4, dtype="float32"), "y": np.array([0, 0, 1, 2])})
        assert message.endswith(
            "has no split, so each class needs a row to train on and one to test on; 2 classes have one row alone, label 1 for one"
        )


def changed(**changes: Any) -> Arrays:
    """Return good arrays with some of them replaced; None takes one away."""
    return {name: value for name, value in {**arrays(), **changes}.items() if value is not None}


def with_value(name: str, row: Any, value: Any) -> Arrays:
    """Return good arrays with one value replaced."""
    content = arrays()
    content[name] = content[name].astype(
        object if isinstance(value, str) and content[name].dtype.kind != "U" else content[name].dtype
    )
    content[name][row] = value
    return content


MISTAKES: dict[str, tuple[Callable[[], Arrays], str]] = {
    "no x": (lambda: changed(x=None), "must hold x [N, D] and y [N], x is missing; it holds class_names, class_text, split, y"),
    "no y": (lambda: changed(y=None), "must hold x [N, D] and y [N], y is missing; it holds class_names, class_text, split, x"),
    "neither": (lambda: {"features": np.eye(3)}, "must hold x [N, D] and y [N], x and y are missing; it holds features"),
    "x of one axis": (lambda: changed(x=np.zeros(60, "f4")), "x must be [N, D] with at least one row and one column, not [60]"),
    "x of three axes": (lambda: changed(x=np.zeros((60, 2, 2), "f4")), "one column, not [60, 2, 2]"),
    "no rows": (lambda: {"x": np.zeros((0, 4), "f4"), "y": np.zeros(0, int)}, "one column, not [0, 4]"),
    "no columns": (lambda: changed(x=np.zeros((60, 0), "f4")), "one column, not [60, 0]"),
    "integer x": (lambda: changed(x=np.zeros((60, 2), "i4")), "x must be float16, float32 or float64, not int32"),
    "complex x": (lambda: changed(x=np.zeros((60, 2), "c8")), "x must be float16, float32 or float64, not complex64"),
    "short y": (
        lambda: changed(y=np.zeros(59, int)),
        "y must be [60], a value for each row of x [60, 5], not [59]",
    ),
    "one-hot y": (lambda: changed(y=np.eye(4, dtype=int)[arrays()["y"]]), "a value for each row of x [60, 5], not [60, 4]"),
    "float y": (
        lambda: changed(y=arrays()["y"].astype("f4")),
        "y must hold integers or text, not float32: save y.astype('int64')",
    ),
    "boolean y": (lambda: changed(y=arrays()["y"] > 1), "y must hold integers or text, not bool"),
    "negative label": (
        lambda: {**with_value("y", 7, -1), "class_names": np.array(list("abcd"))},
        "labels y must be 0 to 3, for there are 4 class names; 1 of 60 are not, the first in row 7: -1",
    ),
    "negative label, no names": (
        lambda: {name: value for name, value in with_value("y", 7, -1).items() if name != "class_names"},
        "labels y must be 0 to C − 1; 1 of 60 are not, the first in row 7: -1",
    ),
    "label beyond names": (
        lambda: with_value("y", [3, 9], 4),
        "labels y must be 0 to 3, for there are 4 class names; 2 of 60 are not, the first in row 3: 4",
    ),
    "gap": (
        lambda: changed(y=arrays()["y"] + (arrays()["y"] > 1), class_names=None),
        "labels y must be 0 to C − 1 without gaps; 4 different labels go up to 4, and 2 is the first that no row has",
    ),
    "huge label": (
        lambda: changed(y=arrays()["y"] * 10**12, class_names=None),
        "4 different labels go up to 3000000000000, and 1 is the first that no row has",
    ),
    "one class": (
        lambda: changed(y=np.zeros(60, int), class_names=None),
        "y must hold at least two classes, it holds '0' alone",
    ),
    "one text": (
        lambda: changed(y=np.full(60, "cat"), class_names=None),
        "y must hold at least two classes, it holds 'cat' alone",
    ),
    "class without rows": (
        lambda: changed(class_names=np.array(list("abcde"))),
        "1 of 5 classes have no row in the train part: 'e'",
    ),
    "class without test rows": (
        lambda: changed(split=np.where((arrays()["y"] < 2) & (arrays()["split"] == "test"), "val", arrays()["split"])),
        "2 of 4 classes have no row in the test part: 'class 0', 'class 1'",
    ),
    "no training rows": (lambda: changed(split=np.full(60, "test")), "no row is in the train part"),
    "unknown split": (
        lambda: with_value("split", [4, 5], "dev"),
        "split must be train, val or test (or 0, 1, 2), not 'dev' (2 rows, the first is row 4)",
    ),
    "unknown split code": (lambda: changed(split=np.arange(60) % 4), "not 3 (15 rows, the first is row 3)"),
    "boolean split": (lambda: changed(split=arrays()["y"] > 0), "(or 0, 1, 2), not of type bool"),
    "float split": (lambda: changed(split=np.zeros(60)), "(or 0, 1, 2), not of type float64"),
    "short split": (
        lambda: changed(split=np.full(3, "train")),
        "split must be [60], a value for each row of x [60, 5], not [3]",
    ),
    "names twice": (lambda: changed(class_names=np.array(list("abba"))), "class_names must differ, 'a' is there twice"),
    "numeric names": (lambda: changed(class_names=np.arange(4)), "class_names must be texts [C], not int64 [4]"),
    "text label unknown": (
        lambda: changed(y=np.array(list("abcx"))[arrays()["y"]], class_names=np.array(list("abcd"))),
        "y holds 1 texts that are no class name, such as 'x'",
    ),
    "class text of another width": (
        lambda: changed(class_text=np.zeros((4, 6), "f4")),
        "class_text must be floating numbers [4, 5], a vector of x's width for each class, not float32 [4, 6]",
    ),
    "class text of other classes": (lambda: changed(class_text=np.zeros((3, 5), "f4")), "for each class, not float32 [3, 5]"),
    "integer class text": (lambda: changed(class_text=np.zeros((4, 5), int)), "for each class, not int64 [4, 5]"),
    "class text not finite": (
        lambda: with_value("class_text", 2, np.nan),
        "class_text must be finite, 1 rows are not; the first is row 2",
    ),
    "NaN": (
        lambda: with_value("x", ([41, 8, 8], [0, 1, 2]), np.nan),
        "x must be finite, 2 of 60 rows hold NaN or infinity (as float32); the first is row 8",
    ),
    "infinity": (
        lambda: with_value("x", (59, 4), -np.inf),
        "1 of 60 rows hold NaN or infinity (as float32); the first is row 59",
    ),
    "infinite as float32": (
        lambda: changed(x=np.full((60, 5), 1e39)),
        "60 of 60 rows hold NaN or infinity (as float32); the first is row 0",
    ),
}


class TestMistakes:
    """One clear sentence for each mistake."""

    @pytest.mark.parametrize("mistake", MISTAKES)
    def test_a_mistake_is_told(self, tmp_path: Path, mistake: str) -> None:
        """The message names the file, what must be what, and what it is."""
        make, expected = MISTAKES[mistake]
        message = refusal(tmp_path, make())
        assert expected in message

    @pytest.mark.parametrize("name", ["x", "y", "split", "class_names", "class_text"])
    def test_pickles_are_refused(self, tmp_path: Path, name: str) -> None:
        """An array of Python objects is refused before anything of it is read."""
        message = refusal(tmp_path, changed(**{name: np.array([Boom(), None], dtype=object)}))
        assert f"{name} holds Python objects, which are pickles and not read" in message
        assert not Boom.exploded

    @pytest.mark.parametrize("kind", ["npz", "safetensors", "parquet"])
    @pytest.mark.parametrize(
        "damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"\x00" * len(b), lambda b: b"x, y\n"]
    )
    def test_damaged_files_are_told(self, tmp_path: Path, kind: str, damage: Callable[[bytes], bytes]) -> None:
        """A file that is cut off, empty, blank or something else is refused with its name."""
        path = write(tmp_path / "f", kind, arrays())
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(ltbench.UsageError, match=f"cannot be read as .{kind}: ."):
            load(path)

    def test_flipped_bits_are_found(self, tmp_path: Path) -> None:
        """An archive whose numbers do not fit their checksum is refused."""
        path = write(tmp_path / "f", "npz", arrays())
        content = bytearray(path.read_bytes())
        content[400] ^= 1
        path.write_bytes(content)
        with pytest.raises(ltbench.UsageError, match=r"cannot be read as \.npz: Bad CRC-32"):
            load(path)

    @pytest.mark.parametrize("name", ["x", "y"])
    def test_a_header_that_lies_is_found(self, tmp_path: Path, name: str) -> None:
        """An array that claims a million times its rows is refused without taking memory for them."""
        path = tmp_path / "f.npz"
        content = arrays()
        with zipfile.ZipFile(path, "w") as archive:
            for key in ("x", "y"):
                with archive.open(f"{key}.npy", "w") as file:
                    factor = 1_000_000_000 if key == name else 1
                    shape = (60 * factor, *content[key].shape[1:])
                    descr = np.lib.format.dtype_to_descr(content[key].dtype)
                    np.lib.format.write_array_header_1_0(file, {"shape": shape, "fortran_order": False, "descr": descr})
                    file.write(content[key].tobytes())
        with pytest.raises(ltbench.UsageError, match=f"is damaged: {name} should take [0-9]+ bytes and has [0-9]+$"):
            load(path)

    def test_other_formats_are_refused(self, tmp_path: Path) -> None:
        """A file of another kind is told which kinds there are."""
        (tmp_path / "f.csv").write_text("x,y\n1,2\n")
        with pytest.raises(ltbench.UsageError, match=r"must be a file that ends in one of \.npz, \.safetensors, \.parquet$"):
            load(tmp_path / "f.csv")

    @pytest.mark.parametrize(
        ("columns", "expected"),
        [
            (
                {"x": [[1.0, 2.0], [3.0], [4.0, 5.0], [6.0, 7.0]], "y": [0, 1, 0, 1]},
                "rows of x must have equally many numbers; row 0 has 2, row 1 has 1",
            ),
            ({"x": [[1.0], None, [2.0], [3.0]], "y": [0, 1, 0, 1]}, "x is missing in row 1"),
            ({"x0": [1.0, None, 2.0, 3.0], "y": [0, 1, 0, 1]}, "x is missing in row 1"),
            ({"x0": [1.0, 2.0], "x2": [1.0, 2.0], "y": [0, 1]}, "the columns of x must be x0 to x2, x1 is missing"),
            ({"x": [[1.0], [2.0]], "y": [0, None]}, "y is missing in 1 of 2 rows"),
            ({"x": [[1, 2], [3, 4]], "y": [0, 1]}, "x must be float16, float32 or float64, not int64"),
            ({"x": ["a", "b"], "y": [0, 1]}, "x must be float16, float32 or float64, not string"),
            ({"x": [[1.0], [2.0]], "y": [{"a": 1}, {"a": 2}]}, "y must hold integers or text, not object"),
            ({"x": [[1.0, None], [1.0, 2.0]], "y": [0, 1], "split": ["train", "train"]}, "no row is in the test part"),
            ({"y": [0, 1]}, "must hold x [N, D] and y [N], x is missing"),
            ({"x": pa.array([], pa.list_(pa.float32())), "y": pa.array([], pa.int64())}, "not [0, 0]"),
        ],
    )
    def test_mistakes_of_parquet(self, tmp_path: Path, columns: Any, expected: str) -> None:
        """Lists of different lengths, missing values and columns, and other types are told."""
        pq.write_table(pa.table(columns), tmp_path / "f.parquet")
        with pytest.raises(ltbench.UsageError) as caught:
            load(tmp_path / "f.parquet")
        assert expected in str(caught.value)

    def test_lists_that_change_width_between_row_groups(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Rows of another width are found wherever in the file they start."""
        monkeypatch.setattr("ltbench_datasets.tables.BLOCK_BYTES", 16)
        x = [[1.0, 2.0], [3.0, 4.0], [5.0], [6.0]]
        pq.write_table(pa.table({"x": x, "y": [0, 1, 0, 1], "split": [0, 0, 2, 2]}), tmp_path / "f.parquet", row_group_size=2)
        with pytest.raises(ltbench.UsageError, match="has rows of 2 and of 1 numbers"):
            load(tmp_path / "f.parquet")

    @pytest.mark.parametrize("kind", ["safetensors", "parquet"])
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("not json", "class_names in the metadata must be a JSON list"),
            ('{"a": 1}', "class_names must be texts [C]"),
            ("[1, 2]", "texts [C]"),
        ],
    )
    def test_class_names_in_metadata_must_be_a_list(self, tmp_path: Path, kind: str, value: str, expected: str) -> None:
        """Class names that are no JSON list of texts are refused."""
        content = arrays()
        path = tmp_path / f"f.{kind}"
        if kind == "safetensors":
            save_file({"x": content["x"], "y": content["y"]}, path, {"class_names": value})
        else:
            pq.write_table(
                pa.table({"x": list(content["x"]), "y": content["y"]}).replace_schema_metadata({"class_names": value}), path
            )
        with pytest.raises(ltbench.UsageError) as caught:
            load(path)
        assert expected in str(caught.value)


class Boom:
    """An object whose pickle does harm."""

    exploded: ClassVar[list[bool]] = []

    def __reduce__(self) -> Any:
        return self.exploded.append, (True,)


class TestOverlap:
    """Equal rows in two parts."""

    def shared(self) -> Arrays:
        """Return arrays where three test rows and one validation row are training rows, too."""
        content = arrays()
        places = {part: np.flatnonzero(content["split"] == part) for part in CODES}
        for row in places["test"][2:5]:
            content["x"][row] = content["x"][places["train"][0]]
        content["x"][places["val"][1]] = content["x"][places["train"][1]]
        return content

    def told(self, content: Arrays) -> tuple[str, str]:
        """Return what is to be told of them."""
        first = {part: np.flatnonzero(content["split"] == part) for part in CODES}
        return (
            f"3 test rows are train rows, too; the first is row {first['test'][2]}",
            f"1 validation rows are train rows, too; the first is row {first['val'][1]}",
        )

    def test_they_are_refused(self, tmp_path: Path) -> None:
        """Count and first row are told, and what to do."""
        content = self.shared()
        message = refusal(tmp_path, content)
        assert message.partition(": ")[2] == f"{'; '.join(self.told(content))}: take them out, or say overlap=allow"

    @pytest.mark.parametrize("kind", FORMATS)
    def test_they_may_be_allowed(self, tmp_path: Path, kind: str) -> None:
        """With overlap=allow they are noted."""
        content = self.shared()
        assert load(write(tmp_path / "f", kind, content), overlap="allow").notes == self.told(content)

    def test_zeros_of_either_sign_are_equal(self, tmp_path: Path) -> None:
        """Rows are compared by value: −0 is 0."""
        content = {
            "x": np.array([[0.0, 1], [2, 3], [-0.0, 1], [4, 5]], "f4"),
            "y": np.array([0, 1, 0, 1]),
            "split": np.array(["train", "train", "test", "test"]),
        }
        assert "1 test rows are train rows, too; the first is row 2" in refusal(tmp_path, content)

    def test_repeats_within_a_part_are_fine(self, tmp_path: Path) -> None:
        """Equal rows of one part are the user's choice."""
        content = arrays()
        content["x"][content["split"] == "train"] = 1.0
        assert load(write(tmp_path / "f", "npz", content)).notes == ()

    def test_rows_dealt_out_are_explained(self, tmp_path: Path) -> None:
        """Where the split is ours the message says so."""
        message = refusal(tmp_path, {"x": np.ones((20, 3), "f4"), "y": np.arange(20) % 2})
        assert "the file has no split, and equal rows fell into different parts" in message


class TestFingerprint:
    """A name for the content."""

    def test_it_is_stable(self, tmp_path: Path) -> None:
        """It has not changed since results were first recorded: such a change makes them incomparable."""
        x = np.arange(12, dtype="float32").reshape(6, 2)
        content = {"x": x, "y": np.array([0, 1] * 3), "split": np.array([0, 0, 1, 1, 2, 2])}
        found = load(write(tmp_path / "f", "npz", content)).fingerprint
        assert found == "5d4e96daca9226ef1d797fb9ddbe412c494161aaac1353b4b62af6d04d6ddd0e"

    @pytest.mark.parametrize(
        "change",
        [
            lambda c: c["x"].__setitem__((5, 1), 0.5),
            lambda c: c.__setitem__("y", 3 - c["y"]),
            lambda c: c.__setitem__("split", np.where(c["split"] == "val", "train", c["split"])),
            lambda c: c["class_text"].__setitem__((1, 1), 0.5),
            lambda c: c.pop("class_text"),
            lambda c: c.__setitem__("x", np.concatenate([c["x"][1::-1], c["x"][2:]])),
        ],
    )
    def test_it_changes_with_the_content(self, tmp_path: Path, change: Callable[[Arrays], None]) -> None:
        """Another number, label, part, class text or order is another dataset."""
        content = arrays()
        before = load(write(tmp_path / "a", "npz", content)).fingerprint
        change(content)
        assert load(write(tmp_path / "b", "npz", content)).fingerprint != before

    @pytest.mark.usefixtures("remembered")
    def test_a_file_is_looked_through_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A second load reads no row until one is asked for, and gives the same."""
        path = write(tmp_path / "f", "npz", arrays())
        first = load(path)
        reads = counted_reads(monkeypatch)
        again = load(path)
        assert (again.fingerprint, reads) == (first.fingerprint, [])
        assert torch.equal(again.train.images[:], first.train.images[:])
        assert torch.equal(again.test.images[0], first.test.images[0])
        assert reads == [path]

    @pytest.mark.usefixtures("remembered")
    def test_a_changed_file_is_looked_through_again(self, tmp_path: Path) -> None:
        """New content under the same name has its own fingerprint, and is refused for its own mistakes."""
        path = write(tmp_path / "f", "npz", arrays(seed=1))
        first = load(path).fingerprint
        write(tmp_path / "f", "npz", arrays(seed=2))
        assert load(path).fingerprint != first
        assert "hold NaN" in refusal_of(write(tmp_path / "f", "npz", with_value("x", (0, 0), np.nan)))

    @pytest.mark.usefixtures("remembered")
    def test_overlaps_are_remembered(self, tmp_path: Path) -> None:
        """A file with rows in two parts is refused again, and may still be allowed."""
        path = write(tmp_path / "f", "npz", TestOverlap().shared())
        messages = {refusal_of(path) for _ in range(2)}
        assert len(messages) == 1
        assert len(load(path, overlap="allow").notes) == 2

    def test_a_young_file_is_not_remembered(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file written a moment ago could change without its time changing: it is read again."""
        path = write(tmp_path / "f", "npz", arrays())
        load(path)
        reads = counted_reads(monkeypatch)
        load(path)
        assert reads == [path]

    @pytest.mark.usefixtures("remembered")
    @pytest.mark.parametrize("damage", [b"", b"{}", b"[1, 2]", b'{"state": 3}', b"\xff\xfe"])
    def test_a_damaged_memory_does_no_harm(self, tmp_path: Path, damage: bytes) -> None:
        """What cannot be read is found out again."""
        path = write(tmp_path / "f", "npz", arrays())
        first = load(path).fingerprint
        (kept,) = (ltbench.cache_folder() / "rows").iterdir()
        kept.write_bytes(damage)
        assert load(path).fingerprint == first

    @pytest.mark.usefixtures("remembered")
    def test_without_a_cache_it_works(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where nothing can be remembered the user is warned, and the file is read each time."""
        path = write(tmp_path / "f", "npz", arrays())
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / "rows").write_text("a file where a folder must be")
        monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path / "cache"))
        with pytest.warns(UserWarning, match="is not remembered"):
            load(path)


def refusal_of(path: Path) -> str:
    """Return the message with which a file is refused."""
    with pytest.raises(ltbench.UsageError) as caught:
        load(path)
    return str(caught.value)


def counted_reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return a list that gets the path of each file whose rows are read."""
    reads: list[Path] = []
    read = vectors.read_blocks

    def counted(path: Path, width: int) -> Iterator[Any]:
        reads.append(path)
        return read(path, width)

    monkeypatch.setattr(vectors, "read_blocks", counted)
    return reads


@parametrize_with_checks(["features[path=features.npz]"])
def test_conformance(component: Any, check: Any) -> None:
    """It keeps to the contract, with a file in the data folder."""
    write(ltbench_data() / "features", "npz", arrays())
    check(component)


def ltbench_data() -> Path:
    """Return the tests' data folder."""
    return Path(os.environ["LTBENCH_DATA"])


class TestWorkers:
    """What goes to a worker process."""

    def test_a_pickle_holds_no_rows(self, tmp_path: Path) -> None:
        """A dataset of 4 MB is pickled in a few bytes a row, and is the same on the other side."""
        content = {name: value for name, value in arrays(rows=1000, width=1000).items() if name != "class_text"}
        dataset = load(write(tmp_path / "f", "npz", content))
        packed = pickle.dumps(dataset)
        assert len(packed) < 12_000
        copied: ltbench.Dataset = pickle.loads(packed)
        assert torch.equal(copied.train.images[:], dataset.train.images[:])
        assert torch.equal(copied.test.images[3], dataset.test.images[3])
        assert copied.fingerprint == dataset.fingerprint

    def test_parts_share_what_is_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """On the other side the file is read once for all parts."""
        dataset: ltbench.Dataset = pickle.loads(pickle.dumps(load(write(tmp_path / "f", "npz", arrays()))))
        reads = counted_reads(monkeypatch)
        for part in (dataset.train, dataset.validation, dataset.test):
            assert part is not None
            assert len(part.images[:]) == len(part.labels)
        assert len(reads) == 1

    def test_a_file_that_changed_meanwhile_is_not_used(self, tmp_path: Path) -> None:
        """Rows that were not looked at are not handed out."""
        dataset: ltbench.Dataset = pickle.loads(pickle.dumps(load(write(tmp_path / "f", "npz", arrays()))))
        write(tmp_path / "f", "npz", arrays(rows=64))
        with pytest.raises(ltbench.LtbenchError, match="has changed while it was in use: run again"):
            dataset.train.images[0]

    def test_many_threads_may_ask(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Threads that ask at once get the right rows, from one reading."""
        from concurrent.futures import ThreadPoolExecutor

        content = arrays(rows=400)
        dataset: ltbench.Dataset = pickle.loads(pickle.dumps(load(write(tmp_path / "f", "npz", content))))
        reads = counted_reads(monkeypatch)
        with ThreadPoolExecutor(8) as pool:
            rows = list(pool.map(lambda i: dataset.train.images[i], range(len(dataset.train.labels))))
        assert torch.equal(torch.stack(rows), torch.from_numpy(content["x"][content["split"] == "train"]))
        assert len(reads) == 1

    def test_rows_are_of_the_file_as_it_was_checked(self, tmp_path: Path) -> None:
        """A file with fewer rows of x than were counted is refused, whatever else says."""
        path = write(tmp_path / "f", "npz", arrays())
        file = FeatureFile(path, 5, torch.zeros(61, dtype=torch.uint8))
        with pytest.raises(ltbench.UsageError, match="should hold 61 rows of x, but holds 60"):
            file.rows(0)
