"""Tests of parts: what records have alike is on disk once, and comes back as it was."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltbench.errors import UsageError
from ltbench.records import Record, RunFolder, records_text
from ltbench.records.parts import FIELD, PARTS, join_parts, part_name, split_parts

PROPERTY = settings(deadline=None, max_examples=100, derandomize=True)
PLACES = [place for places in PARTS for place in places]
DAMAGED = "move the file away, and the run recomputes its cells"

references = st.sampled_from(["0123456789abcdef", [], {}, {"part": "0123456789abcdef"}, {FIELD: ["0123456789abcdef"]}])
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4)
names = st.sampled_from([FIELD, "part", "values", "schema", "", "."]) | st.text(max_size=3)
values = references | st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=5
)


@st.composite
def table(draw: st.DrawFn, path: str = "") -> dict[str, Any]:
    """Draw a table of a record that has anything at the places of parts, on the way to them, or beside them."""
    below = [place.removeprefix(f"{path}.") for place in PLACES if place.startswith(f"{path}.")]
    found: dict[str, Any] = dict(draw(st.dictionaries(names, values, max_size=2)))
    for name in sorted({each.partition(".")[0] for each in below}):
        inner = any(each.startswith(f"{name}.") for each in below)
        choice = draw(st.integers(0, 3))
        if choice == 1 or (choice > 1 and not inner):
            found[name] = draw(values)
        elif choice > 1:
            found[name] = draw(table(f"{path}.{name}"))
    return found


records = st.builds(
    Record,
    key=st.text("0123456789abcdef", min_size=1, max_size=4),
    status=st.sampled_from(["failed", "skipped"]),
    cell=table("cell"),
    result=st.none() | table("result"),
    failure=st.none() | table("failure"),
    measured=table("measured"),
    provenance=table("provenance"),
)


def whole(seed: int = 0, **result: Any) -> Record:
    """Return the record of a cell that is done."""
    cell = {"dataset": "digits", "generator": "smote", "classifier": "ncm", "seed": seed}
    provenance = {"ltbench": "0", "key_parts": {"generator": {"name": "smote"}, "classifier": {"params": {"l2": 1.0}}}}
    told = {
        "train": {"class_counts": [3, 2]},
        "fidelity": {"synthetic": {"density": [0.5, None]}, "held_out": {"density": [1.0]}},
    }
    return Record(f"{seed:032x}", "done", cell, {**told, "metrics": {"top1": seed / 7}, **result}, provenance=provenance)


def write(folder: Path, *lines: str) -> Path:
    """Write one file of records by hand and return its path."""
    path = folder / "records" / "a.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", errors="backslashreplace", newline="\n")
    return path


def lines_of(*written: Record) -> list[str]:
    """Return the lines of a file of records."""
    return records_text(written).splitlines()


@PROPERTY
@given(records)
def test_split_and_joined_again_a_record_is_the_same(record: Record) -> None:
    """Whatever is at a part's place, on the way to it or beside it comes back, and what was written is left as it was."""
    before = copy.deepcopy(vars(record))
    rest, texts = split_parts(vars(record))

    assert before == vars(record)
    assert list(texts) == rest[FIELD] == [part_name(text) for text in texts.values()]
    assert before == join_parts(rest, {name: json.loads(text) for name, text in texts.items()})


@settings(PROPERTY, max_examples=25)
@given(st.lists(records, max_size=3, unique_by=lambda record: record.key))
def test_any_records_come_back_from_a_file(tmp_path_factory: pytest.TempPathFactory, written: list[Record]) -> None:
    """Values that look like a part, or like the name of one, are values."""
    folder = tmp_path_factory.mktemp("records")
    write(folder, records_text(written))

    assert sorted(record.to_json() for record in written) == sorted(r.to_json() for r in RunFolder(folder).everything())


def test_no_place_of_a_part_lies_in_another() -> None:
    """Parts share no value: each place is named once, and none leads to another."""
    assert len(PLACES) == len(set(PLACES))
    assert not [(a, b) for a in PLACES for b in PLACES if b.startswith(f"{a}.")]


def test_an_equal_part_is_written_once() -> None:
    """What two heads of a setting have alike is one line; a record's own line has only what is its own."""
    other = dataclasses.replace(whole(), key="f" * 32, cell={**whole().cell, "classifier": "lda"})
    found = [json.loads(line) for line in lines_of(whole(), other)]
    parts = [line["values"] for line in found if "part" in line]

    assert sum("result.fidelity.synthetic" in each for each in parts) == 1
    assert sum("result.train" in each for each in parts) == 1
    assert [set(line) for line in found if "part" not in line] == [{FIELD, "key", "schema", "status"}] * 2


def test_the_numbers_of_types_are_kept_apart(tmp_path: Path) -> None:
    """1, 1.0 and True are equal in Python, and three parts in a file."""
    written = [whole(n, train=value) for n, value in enumerate([1, 1.0, True])]
    write(tmp_path, *lines_of(*written))
    found = RunFolder(tmp_path).load().records

    assert [[record.to_json()] for record in written] == [[found[record.key].to_json()] for record in written]


def test_records_share_what_they_have_alike(tmp_path: Path) -> None:
    """Equal parts of records are one object in memory, of one file or of several."""
    folder = RunFolder(tmp_path)
    for seed in range(4):
        folder.add(whole(seed))
        if seed % 2:
            folder.flush()
    found = list(folder.load().records.values())

    assert len({id(record.result["fidelity"]["synthetic"]) for record in found if record.result}) == 1
    assert len({id(record.cell) for record in found}) == 4


def test_the_order_of_lines_follows_from_names() -> None:
    """Parts come first, by name, then records by key."""
    found = [json.loads(line) for line in lines_of(whole(2), whole(1))]
    parts, rest = [line["part"] for line in found if "part" in line], [line["key"] for line in found if "key" in line]

    assert (parts, rest) == (sorted(parts), sorted(rest))
    assert "part" in found[len(parts) - 1]


def test_a_record_whose_part_is_missing_is_refused(tmp_path: Path) -> None:
    """A line that was cut out of a file is missed, by the name that records have for it."""
    lines = lines_of(whole())
    name = json.loads(lines[0])["part"]
    path = write(tmp_path, *lines[1:])

    with pytest.raises(UsageError) as error:
        RunFolder(tmp_path).load()
    assert (
        str(error.value)
        == f"{path}:{len(lines) - 1} must name parts that the file has before it, and {name} is none: {DAMAGED}"
    )


@pytest.mark.parametrize("named", ["1", '"text"', "[1]", "[[]]", "null", '["0123456789abcdef"]', '{"0123456789abcdef":1}'])
def test_names_of_parts_that_are_none_are_refused(tmp_path: Path, named: str) -> None:
    """The field holds a list of names of parts, or the file is damaged."""
    write(tmp_path, f'{{"cell":{{}},"key":"a","{FIELD}":{named},"schema":2,"status":"failed"}}')

    with pytest.raises(UsageError, match=r"a\.jsonl:1 must name parts that the file has before it, and .* is none: move"):
        RunFolder(tmp_path).load()


@pytest.mark.parametrize("change", ["name", "value", "place", "none", "list", "number"])
def test_a_part_that_is_not_what_its_name_says_is_refused(tmp_path: Path, change: str) -> None:
    """A part's name is the hash of its values: what was changed by hand or by a fault of the disk is noticed."""
    first, *others = lines_of(whole())
    part = json.loads(first)
    foreign = {"failure.error": 1}
    changed = {
        "name": {**part, "part": "0" * 16},
        "value": {**part, "values": {**part["values"], next(iter(part["values"])): "other"}},
        "place": {"part": part_name(json.dumps(foreign, separators=(",", ":"))), "schema": 2, "values": foreign},
        "none": {"part": part["part"], "schema": 2},
        "list": {**part, "values": list(part["values"])},
        "number": {**part, "part": 1},
    }[change]
    path = write(tmp_path, json.dumps(changed), *others)

    with pytest.raises(UsageError) as error:
        RunFolder(tmp_path).load()
    assert str(error.value) == f"{path}:1 must be a part whose name is the hash of its values, and is damaged: {DAMAGED}"


def test_a_torn_part_is_refused(tmp_path: Path) -> None:
    """Half a line is no part."""
    first, *others = lines_of(whole())
    path = write(tmp_path, first[: len(first) // 2], *others)

    with pytest.raises(UsageError) as error:
        RunFolder(tmp_path).load()
    assert str(error.value) == f"{path}:1 is torn or no record: {DAMAGED}"


def test_a_part_that_a_record_has_no_room_for_is_refused(tmp_path: Path) -> None:
    """A record whose own line says otherwise than its parts is damaged."""
    *parts, last = lines_of(whole())
    path = write(tmp_path, *parts, json.dumps({**json.loads(last), "result": [1]}))

    with pytest.raises(UsageError) as error:
        RunFolder(tmp_path).load()
    assert str(error.value) == f"{path}:{len(parts) + 1} is no whole ltbench record: {DAMAGED}"


def test_a_place_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    """A line that has a value itself, and names a part with another one for the same place, is no whole record."""
    *parts, line = lines_of(whole())
    table = json.loads(line)
    write(tmp_path, *parts, json.dumps({**table, "result": {"train": 5}}))
    with pytest.raises(UsageError, match="whole ltbench record"):
        RunFolder(tmp_path).load()
