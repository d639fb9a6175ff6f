"""Tests of records: what goes out comes back, order does not matter, and no file is ever half there."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import pickle
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltbench.errors import LtbenchError, UsageError
from ltbench.files import write_atomically
from ltbench.keys import canonical_json
from ltbench.records import SCHEMA, Arrays, Loaded, Record, RunFolder, combine, records_text
from ltbench.records import folder as module

PROPERTY = settings(deadline=None, max_examples=60, derandomize=True)

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6)
tables = st.dictionaries(st.text(max_size=4), scalars | st.lists(scalars, max_size=3), max_size=3)
statuses = st.sampled_from(["done", "failed", "out of memory", "timed out", "killed", "skipped"])
any_record = st.builds(
    Record,
    key=st.text("0123456789abcdef", min_size=1, max_size=4),
    status=statuses,
    cell=tables,
    result=st.none() | tables,
    failure=st.none() | tables,
    measured=tables,
    provenance=tables,
)


def done(key: str, result: object = 1, numerics: object = "x", seconds: float = 1.0) -> Record:
    """Return a record of a success in one numerics class."""
    return Record(key, "done", {}, {"top1": result}, None, {"seconds": seconds}, {"numerics": {"class": numerics}})


def failed(key: str, reason: str = "no", status: str = "failed") -> Record:
    """Return a record of a failure."""
    return Record(key, status, {}, failure={"error": reason})


def arrays(rows: int, seed: int = 0) -> Arrays:
    """Return scores ``[rows, 3]``."""
    return Arrays(torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed)))


def records_in(text: str) -> list[dict[str, Any]]:
    """Return the lines of a file that are records, not parts."""
    return [table for line in text.split("\n") if line and "part" not in (table := json.loads(line))]


def write_lines(folder: Path, *lines: str, name: str = "a") -> Path:
    """Write one file of records by hand and return its path."""
    path = folder / "records" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8", newline="\n")
    return path


def files_in(folder: Path) -> list[str]:
    """Return every file below a folder, hidden ones included."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no time pass between an added record and the next flush."""
    monkeypatch.setattr(module, "FLUSH_SECONDS", math.inf)


# There and back


@settings(PROPERTY, max_examples=15)
@given(st.lists(any_record.filter(lambda r: r.status != "done" or r.result is not None), max_size=4, unique_by=lambda r: r.key))
def test_records_come_back(written: list[Record]) -> None:
    """Any records added to a folder are there when it is loaded, unchanged."""
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder))
        for record in written:
            run.add(record)
        run.flush()

        assert Loaded({record.key: record for record in written}) == RunFolder(Path(folder)).load()


@pytest.mark.parametrize(
    "text",
    ["\n", "\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x1e", "\x85", "\u2028", "\u2029", "\x00", "\x7f", "日本", "😀", '"\\'],
)
def test_text_of_any_kind_comes_back(tmp_path: Path, text: str) -> None:
    """Whatever character an error message holds, its record is one line that can be read again."""
    record = failed("a", f"before{text}after")
    run = RunFolder(tmp_path)
    run.add(record)
    run.flush()

    assert run.load().records == {"a": record}


@PROPERTY
@given(any_record)
def test_a_record_is_one_line_of_canonical_json(record: Record) -> None:
    """The line holds every field, the schema too, in the one form that is hashed."""
    line = record.to_json()

    assert "\n" not in line
    assert dataclasses.asdict(record) == json.loads(line)
    assert canonical_json(json.loads(line)) == line
    assert json.loads(line)["schema"] == SCHEMA


def test_results_that_are_no_numbers_are_never_written() -> None:
    """NaN in a result is a mistake of whoever made it."""
    with pytest.raises(ValueError, match="JSON compliant"):
        done("a", math.nan).to_json()


@PROPERTY
@given(st.lists(any_record, max_size=5), st.randoms(use_true_random=False))
def test_written_records_are_ordered_by_key(written: list[Record], random: Any) -> None:
    """The text is the same whatever order the records came in, with one line for each."""
    moved = list(written)
    random.shuffle(moved)
    text = records_text(written)

    assert text == records_text(moved)
    assert sorted(record.key for record in written) == [table["key"] for table in records_in(text)]


@pytest.mark.parametrize(
    ("status", "is_failed"),
    [("done", False), ("skipped", False), ("failed", True), ("out of memory", True), ("timed out", True), ("killed", True)],
)
def test_a_failure_has_neither_result_nor_reason_to_skip(status: str, is_failed: bool) -> None:
    """Everything but a success and a skipped cell counts as failed."""
    assert is_failed == Record("a", status, {}).failed


@pytest.mark.parametrize(
    ("failure", "cause"),
    [
        (None, ""),
        ({}, ""),
        ({"error": "ValueError: no"}, "ValueError: no"),
        ({"component": "smote", "error": "ValueError: no"}, "smote: ValueError: no"),
        ({"component": "zero-shot", "reason": "needs text"}, "zero-shot: needs text"),
        ({"reason": "needs text"}, "needs text"),
    ],
)
def test_a_cause_names_the_component_and_what_it_said(failure: Mapping[str, Any] | None, cause: str) -> None:
    """An error or a reason is told with its component, where one is known."""
    assert cause == Record("a", "failed", {}, failure=failure).cause


# Merging


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (done("a"), failed("a")),
        (done("a"), failed("a", status="out of memory")),
        (done("a"), failed("a", status="killed")),
        (done("a"), failed("a", status="skipped")),
        (done("a", 9), failed("a", "")),
        (failed("a", status="skipped"), failed("a")),
        (failed("a", "a"), failed("a", "b")),
        (done("a", 1), done("a", 2, numerics="y")),
        (done("a", seconds=1.0), done("a", seconds=2.0)),
    ],
)
def test_one_record_stays_for_each_key(better: Record, worse: Record) -> None:
    """Success stays before a skipped cell, that before a failure, and of equals the smaller text."""
    assert combine([better, worse]) == combine([worse, better]) == Loaded({"a": better})


def test_keys_do_not_meet() -> None:
    """Records of different keys all stay."""
    assert combine([done("a"), failed("b"), done("c", 2)]).records == {"a": done("a"), "b": failed("b"), "c": done("c", 2)}


merged = st.lists(
    st.builds(
        done, st.sampled_from("ab"), st.integers(0, 2), numerics=st.sampled_from("xy"), seconds=st.sampled_from([1.0, 2.0])
    )
    | st.builds(failed, st.sampled_from("ab"), st.sampled_from("pq"), st.sampled_from(["failed", "skipped"])),
    max_size=4,
)


@PROPERTY
@given(merged)
def test_the_order_of_records_does_not_matter(found: list[Record]) -> None:
    """Every permutation gives the same records, and the same conflicts."""
    expected = combine(found)
    for permutation in itertools.permutations(found):
        assert expected == combine(permutation)


@PROPERTY
@given(merged)
def test_conflicts_are_different_results_within_one_numerics_class(found: list[Record]) -> None:
    """A key is in conflict just where two successes of one class differ in their results; seconds do not count."""
    expected = set()
    for a, b in itertools.combinations(found, 2):
        if a.status == b.status == "done" and a.key == b.key and a.provenance == b.provenance and a.result != b.result:
            expected.add(a.key)
    conflicts = combine(found).conflicts

    assert sorted(expected) == [a.key for a, _ in conflicts]
    for a, b in conflicts:
        assert (a.key, a.provenance, a.status) == (b.key, b.provenance, b.status)
        assert a.result != b.result


@pytest.mark.parametrize(
    ("found", "keys"),
    [
        ([done("a", 1), done("a", 2)], ["a"]),
        ([done("a", 1), done("a", 2, numerics="y")], []),
        ([done("a", 1), done("a", 1, seconds=9.0)], []),
        ([done("a", 1), done("b", 2)], []),
        ([done("a", 1), failed("a")], []),
        ([failed("a", "p"), failed("a", "q")], []),
        ([done("a", 2), done("a", 1, numerics="y"), done("a", 3)], ["a"]),
        ([done("b", 1), done("b", 2), done("a", 1), done("a", 2)], ["a", "b"]),
        ([Record("a", "done", {}, {"x": 1}), Record("a", "done", {}, {"x": 2})], ["a"]),
    ],
)
def test_conflicts_are_found_by_key(found: list[Record], keys: list[str]) -> None:
    """Conflicts come in the order of their keys; another class, a failure or other seconds are none."""
    assert keys == [a.key for a, _ in combine(found).conflicts]


@pytest.mark.usefixtures("patient")
def test_writers_share_a_folder(tmp_path: Path) -> None:
    """Each writer has files of its own, and whoever loads sees all of them merged."""
    writers = [RunFolder(tmp_path) for _ in range(3)]
    for i, writer in enumerate(writers):
        writer.add(failed("shared") if i else done("shared"))
        writer.add(done(f"own-{i}"))
        writer.flush()

    assert len(files_in(tmp_path)) == 3
    assert writers[0].load() == Loaded({key: done(key) for key in ("shared", "own-0", "own-1", "own-2")})


# Files


def test_a_folder_that_is_not_there_has_no_records(tmp_path: Path) -> None:
    """Naming a folder makes nothing, loading it finds nothing, and flushing nothing writes nothing."""
    run = RunFolder(tmp_path / "run")
    run.flush()

    assert run.load() == Loaded({})
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("patient")
def test_records_wait_for_a_flush(tmp_path: Path) -> None:
    """Added records are on disk after a flush, once, in one file for each batch."""
    run = RunFolder(tmp_path)
    run.add(done("a"))
    assert run.load() == Loaded({})

    run.flush()
    run.flush()
    assert len(files_in(tmp_path)) == 1
    run.add(done("b"))
    run.flush()

    assert len(files_in(tmp_path)) == 2
    assert sorted(run.load().records) == ["a", "b"]


def test_records_are_written_once_it_is_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adding a record after the wait is over writes all that are pending."""
    run = RunFolder(tmp_path)
    monkeypatch.setattr(module, "FLUSH_SECONDS", math.inf)
    run.add(done("a"))
    monkeypatch.setattr(module, "FLUSH_SECONDS", 0.0)
    run.add(done("b"))

    assert sorted(run.load().records) == ["a", "b"]


@pytest.mark.usefixtures("patient")
def test_no_temporary_file_is_left(tmp_path: Path) -> None:
    """After a flush there are the scores and the records, and nothing else."""
    run = RunFolder(tmp_path)
    run.add(done("a"), arrays(4))
    run.flush()
    (records,), (scores,) = (list((tmp_path / name).iterdir()) for name in ("records", "scores"))

    assert [f"records/{records.name}", f"scores/{scores.name}"] == files_in(tmp_path)
    assert (records.suffix, scores.suffix) == (".jsonl", ".safetensors")
    assert records.stem == scores.stem


@pytest.mark.usefixtures("patient")
def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails leaves no file, says where it failed, and is made up for by the next flush."""
    run = RunFolder(tmp_path)
    run.add(done("a"), arrays(4))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(LtbenchError, match=r"^cannot write .*\.safetensors: No space left on device$"):
            run.flush()
        assert files_in(tmp_path) == []
    run.flush()

    assert list(run.load().records) == ["a"]
    assert run.read_arrays(run.load().records["a"]).scores.equal(arrays(4).scores)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is replaced as a whole or not at all."""
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def broken(self: Path, target: Path) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", broken)
        with pytest.raises(LtbenchError, match=r"^cannot write .*file: Input/output error$"):
            write_atomically(path, b"new")

    assert files_in(tmp_path) == ["file"]
    assert path.read_bytes() == b"old"


@pytest.mark.usefixtures("patient")
def test_records_are_visible_only_after_their_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after every file that is written, each record's scores can be read."""
    run, steps = RunFolder(tmp_path), []

    def watched(path: Path, content: bytes) -> None:
        steps.append(path.parent.name)
        write_atomically(path, content)
        for record in RunFolder(tmp_path).load().records.values():
            assert len(run.read_arrays(record).scores) == 4

    monkeypatch.setattr(module, "write_atomically", watched)
    for key in "ab":
        run.add(done(key), arrays(4))
        run.add(done(key + key), arrays(4, seed=1))
        run.flush()

    assert steps == ["scores", "records"] * 2
    assert sorted(run.load().records) == ["a", "aa", "b", "bb"]


@pytest.mark.usefixtures("patient")
def test_no_record_appears_if_its_scores_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores that fail to be written hold their whole batch back."""
    run = RunFolder(tmp_path)
    run.add(done("a"), arrays(4))
    run.add(failed("b"))

    def refuse_scores(path: Path, content: bytes) -> None:
        if path.parent.name == "scores":
            raise LtbenchError("no")
        write_atomically(path, content)

    monkeypatch.setattr(module, "write_atomically", refuse_scores)
    with pytest.raises(LtbenchError, match=r"^no$"):
        run.flush()

    assert run.load() == Loaded({})


# Files that cannot be read

GOOD = done("a").to_json()
OLDER = (
    "has schema 1, which lacks results that schema 2 has: run the experiment again into a new folder, "
    "or read this one with the ltbench that made it"
)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (GOOD[:-1], "is torn or no record: move the file away, and the run recomputes its cells"),
        (GOOD[: len(GOOD) // 2], "is torn or no record: move the file away, and the run recomputes its cells"),
        ("{", "is torn or no record: move the file away, and the run recomputes its cells"),
        ("text", "is torn or no record: move the file away, and the run recomputes its cells"),
        (GOOD + GOOD, "is torn or no record: move the file away, and the run recomputes its cells"),
        ("[]", "is no ltbench record: move the file away"),
        ("1", "is no ltbench record: move the file away"),
        ("null", "is no ltbench record: move the file away"),
        ("{}", "is no ltbench record: move the file away"),
        ('{"key":"a","status":"done","cell":{}}', "is no ltbench record: move the file away"),
        ('{"key":"a","status":"done","cell":{},"schema":"1"}', "is no ltbench record: move the file away"),
        ('{"schema":3}', "has schema 3, this ltbench knows up to 2: install a newer ltbench"),
        ('{"schema":3,"more":1}', "has schema 3, this ltbench knows up to 2: install a newer ltbench"),
        ('{"schema":3,"part":"a","values":{}}', "has schema 3, this ltbench knows up to 2: install a newer ltbench"),
        (
            '{"schema":1,"key":"a","status":"skipped","cell":{}}',
            OLDER,
        ),
        ('{"schema":2}', "is no ltbench record of schema 2: move the file away"),
        ('{"schema":2,"key":"a","status":"done","cell":{},"x":1}', "is no ltbench record of schema 2: move the file away"),
    ],
)
def test_a_line_that_is_no_record_is_refused(tmp_path: Path, line: str, message: str) -> None:
    """Torn, foreign and later lines give one usage error with file and line, and what to do."""
    path = write_lines(tmp_path, done("z").to_json(), "", line)
    with pytest.raises(UsageError) as error:
        RunFolder(tmp_path).load()

    assert f"{path}:3 {message}" == str(error.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """A file torn within a letter, or of bytes, is no list of records either."""
    path = write_lines(tmp_path, GOOD)
    path.write_bytes(failed("a", "é").to_json().encode().partition(b"\xa9")[0])

    with pytest.raises(UsageError, match=path.name):
        RunFolder(tmp_path).load()


def test_blank_lines_and_other_files_are_left_out(tmp_path: Path) -> None:
    """Empty lines hold no record, and only files of records are read."""
    path = write_lines(tmp_path, "", GOOD, "  ", "")
    path.with_suffix(".txt").write_text("text")
    (path.parent / f".{path.name}.0.tmp").write_text("{")

    assert RunFolder(tmp_path).load() == Loaded({"a": done("a")})


def test_fields_that_were_left_out_have_their_defaults(tmp_path: Path) -> None:
    """A record of this schema needs a key, a status and a cell."""
    write_lines(tmp_path, '{"schema":2,"key":"a","status":"skipped","cell":{"seed":0}}')

    assert RunFolder(tmp_path).load().records == {"a": Record("a", "skipped", {"seed": 0})}


# Scores


@pytest.mark.usefixtures("patient")
def test_scores_come_back(tmp_path: Path) -> None:
    """Records of one batch and of several each find their own scores, and those without have none."""
    run, expected = RunFolder(tmp_path), {"a": arrays(1), "b": arrays(8, 1), "c": arrays(13, 2)}
    run.add(done("a"), expected["a"])
    run.add(done("none"))
    run.add(done("b"), expected["b"])
    run.flush()
    run.add(done("c"), expected["c"])
    run.flush()
    reader = RunFolder(tmp_path)
    loaded = reader.load().records

    for key, wanted in expected.items():
        found = reader.read_arrays(loaded[key])
        assert wanted.scores.equal(found.scores)
    assert dataclasses.replace(loaded["a"], scores=None) == done("a")
    assert len({loaded[key].scores for key in "abc"}) == 2
    assert loaded["none"].scores is None


@pytest.mark.parametrize("layout", ["transposed", "strided", "views of one tensor"])
@pytest.mark.usefixtures("patient")
def test_scores_of_any_layout_come_back(tmp_path: Path, layout: str) -> None:
    """Scores may be views into something larger."""
    whole = torch.arange(24, dtype=torch.float32)
    a, b = {
        "transposed": (whole.reshape(4, 6).T, whole.reshape(2, 12).T),
        "strided": (whole.reshape(12, 2)[::2], whole.reshape(12, 2)[1::2]),
        "views of one tensor": (whole[:12].reshape(4, 3), whole[12:].reshape(4, 3)),
    }[layout]
    run = RunFolder(tmp_path)
    for key, scores in (("a", a), ("b", b)):
        run.add(done(key), Arrays(scores))
    run.flush()
    loaded = run.load().records

    assert a.equal(run.read_arrays(loaded["a"]).scores)
    assert b.equal(run.read_arrays(loaded["b"]).scores)


def test_a_record_without_scores_says_so(tmp_path: Path) -> None:
    """Asking for scores that were never kept is a usage error."""
    with pytest.raises(UsageError, match=r"^record a has no scores beside it$"):
        RunFolder(tmp_path).read_arrays(done("a"))


@pytest.mark.parametrize("damage", ["missing", "torn", "empty", "foreign", "of another record"])
@pytest.mark.usefixtures("patient")
def test_scores_that_cannot_be_read_are_refused(tmp_path: Path, damage: str) -> None:
    """Scores that are gone, damaged or not of this record give a usage error with record and file."""
    run = RunFolder(tmp_path)
    run.add(done("a"), arrays(20))
    run.flush()
    record = run.load().records["a"]
    path = tmp_path / str(record.scores)
    if damage == "missing":
        path.unlink()
    elif damage == "of another record":
        record = dataclasses.replace(record, key="b")
    else:
        path.write_bytes({"torn": path.read_bytes()[:-5], "empty": b"", "foreign": b"text" * 50}[damage])

    with pytest.raises(UsageError) as error:
        run.read_arrays(record)

    assert str(error.value).startswith(f"cannot read the scores of record {record.key} from {path}: ")


@pytest.mark.parametrize("protocol", [pickle.DEFAULT_PROTOCOL, pickle.HIGHEST_PROTOCOL])
def test_scores_travel_between_processes(protocol: int) -> None:
    """What a worker pickles is equal at the other end, views into something larger included."""
    sent = arrays(13)
    sent = Arrays(sent.scores.T[1:])
    got = pickle.loads(pickle.dumps(sent, protocol))

    assert got.scores.dtype == torch.float32
    assert got.scores.equal(sent.scores)


def test_a_failure_before_the_key_was_known_gives_way() -> None:
    """A backbone that could not be loaded once leaves no trace beside the cell's own record, and stays where there is none."""
    parts = {"provenance": {"key_parts": {"features": "unknown-1"}}}
    lost, other = (Record(f"u{n}", "killed", {"seed": n}, failure={"error": "killed"}, **parts) for n in (1, 2))
    done = Record("k", "done", {"seed": 1}, result={"metrics": {}}, provenance={"key_parts": {"features": "3f"}})
    assert combine([lost, other, done]).records == {"k": done, "u2": other}
    assert combine([done, other, lost]).records == {"k": done, "u2": other}
