"""Tests of budgets: how many synthetic rows each class gets, in which groups, beside or in place of the real ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltbench.budget import Budget


@pytest.mark.parametrize(
    ("target", "counts", "wanted"),
    [
        ("max", [10, 5, 1], [0, 5, 9]),
        ("max", [3, 3], [0, 0]),
        ("max", [10, 0, 1], [0, 0, 9]),
        ("median", [10, 5, 1], [0, 0, 4]),
        ("median", [10, 6, 3, 1], [0, 0, 1, 3]),
        ("median", [10, 0, 0, 2], [0, 0, 0, 4]),
        ("mean", [10, 5, 1], [0, 0, 4]),
        ("mean", [10, 0, 1], [0, 0, 4]),
        (6, [10, 6, 5, 1, 0], [0, 0, 1, 5, 0]),
        (1, [10, 1], [0, 0]),
        (0.5, [10, 5, 1], [0, 0, 4]),
        (1.0, [10, 5, 0], [0, 5, 0]),
    ],
)
def test_a_budget_tops_classes_up(target: Any, counts: list[int], wanted: list[int]) -> None:
    """Each class with rows gets what it lacks to the target; one without rows gets none."""
    assert Budget(target).wanted(counts) == wanted


@pytest.mark.parametrize(("groups", "wanted"), [("all", [0, 5, 9, 0]), ("medium+tail", [0, 5, 9, 0]), ("tail", [0, 0, 9, 0])])
def test_only_chosen_groups_are_topped_up(groups: Any, wanted: list[int]) -> None:
    """Classes of other groups get nothing, nor does a tail class without rows."""
    assert Budget(groups=groups).wanted([10, 5, 1, 0], ["head", "medium", "tail", "tail"]) == wanted


def test_rows_for_each_real_one_take_the_targets_place() -> None:
    """The share is of each class's own rows, whatever the largest class has."""
    assert [Budget(per_real=share).wanted([10, 4, 1, 0]) for share in (0.5, 1.0, 2.0)] == [
        [5, 2, 0, 0],
        [10, 4, 1, 0],
        [20, 8, 2, 0],
    ]


def test_a_cap_bounds_each_class() -> None:
    """No class gets more than the cap, whatever it lacks."""
    assert Budget(cap=6).wanted([10, 5, 1]) == [0, 5, 6]
    assert Budget(cap=6, per_real=1.0).wanted([10, 5, 1]) == [6, 5, 1]
    assert Budget(10**7).wanted([10, 5, 1]) == [10**7 - 10, 10**7 - 5, 10**7 - 1]


def test_rows_in_place_of_the_real_ones_count_from_zero() -> None:
    """Alone, synthetic rows fill every class with rows up to the target."""
    assert Budget().wanted([10, 5, 1, 0], alone=True) == [10, 10, 10, 0]
    assert Budget(per_real=2.0).wanted([10, 5, 1, 0], alone=True) == [20, 10, 2, 0]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6).filter(any), st.sampled_from(["max", "median", "mean", 7, 0.3]))
def test_a_target_is_reached_exactly(counts: Sequence[int], target: Any) -> None:
    """Every class with rows has at least the target afterwards, and exactly the target if it got any."""
    wanted = Budget(target).wanted(counts)
    reached = {n + more for n, more in zip(counts, wanted, strict=True) if more}
    assert len(reached) <= 1
    assert all(n >= min(reached) for n, more in zip(counts, wanted, strict=True) if n and reached and not more)
