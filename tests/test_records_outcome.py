"""Tests of what a result tells of test rows, against loops."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltbench.errors import UsageError
from ltbench.metrics import ClassCounts
from ltbench.records import Record, correct_of, counts_of, packed

PROPERTY = settings(deadline=None, max_examples=100, derandomize=True)
rows = st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=70)


def record(drawn: list[tuple[int, bool]], **changes: Any) -> Record:
    """Return a record of rows with labels below 5 that were right or not."""
    labels, correct = np.array([c for c, _ in drawn], dtype=int), np.array([right for _, right in drawn], dtype=bool)
    counts = {"rows": np.bincount(labels, minlength=5).tolist(), "predicted": [7, 0, 0, 1, 2]}
    return Record("k", "done", {}, {"per_class": counts, "correct": packed(correct, labels), **changes})


@PROPERTY
@given(rows)
def test_right_rows_come_back_class_by_class(drawn: list[tuple[int, bool]]) -> None:
    """However many rows there are, their flags are those of class 0 in their order, then of class 1, and so on."""
    assert [right for c in range(5) for label, right in drawn if label == c] == correct_of(record(drawn)).tolist()


@PROPERTY
@given(rows)
def test_counts_follow_from_the_bits(drawn: list[tuple[int, bool]]) -> None:
    """Right rows of each class are counted, a class without rows too; the other counts are the record's."""
    right = [sum(hit for label, hit in drawn if label == c) for c in range(5)]
    total = [sum(label == c for label, _ in drawn) for c in range(5)]

    assert ClassCounts(total, [7, 0, 0, 1, 2], right) == counts_of(record(drawn))


def test_bits_are_as_written_down() -> None:
    """The first row is the lowest bit of the first byte, and bytes are in base 85."""
    assert packed(np.array([True, False, True, True]), np.array([0, 1, 1, 0])) == "3j"  # byte 11 = 1 + 2 + 8
    assert packed(np.array([], dtype=bool), np.array([], dtype=int)) == ""


def test_a_record_without_a_result_tells_of_no_row() -> None:
    """Asking a failed cell which rows were right is a usage error."""
    with pytest.raises(UsageError, match=r"^record k has no result, so it tells of no test row$"):
        correct_of(dataclasses.replace(record([]), status="failed", result=None))


@pytest.mark.parametrize("text", ["", "0", "00000000", "€€"])
def test_damaged_bits_are_noticed(text: str) -> None:
    """Bits of another number of rows, or no bits at all, are no answer."""
    with pytest.raises(ValueError, match=r"bytes for 20 test rows|base85|ASCII"):
        correct_of(record([(0, True)] * 20, correct=text))


def test_a_bit_beyond_the_rows_is_noticed() -> None:
    """Two texts do not stand for one answer: what fills up the last byte is zero."""
    text = packed(np.ones(8, dtype=bool), np.zeros(8, dtype=int))
    damaged = Record("k", "done", {}, {"per_class": {"rows": [7], "predicted": [7]}, "correct": text})
    with pytest.raises(ValueError, match="a bit is set beyond 7 test rows"):
        correct_of(damaged)
