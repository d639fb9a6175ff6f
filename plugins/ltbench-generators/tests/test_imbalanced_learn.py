"""Tests of imbalanced-learn's samplers by name, against calling them directly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import imblearn.combine
import imblearn.over_sampling
import imblearn.under_sampling
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

import ltbench
from ltbench.components import resolve
from ltbench.plugins import discover
from ltbench.testing import parametrize_with_checks
from ltbench_generators.imbalanced_learn import ImbalancedLearn, matched, sampler_classes

TrainOf = Callable[..., ltbench.Train]
Draw = Callable[..., ltbench.Rows]

BUDGET = [0, 18, 22]
CASES = {
    "SMOTE": "k_neighbors=3",
    "ADASYN": "n_neighbors=4",
    "BorderlineSMOTE": "kind='borderline-2'",
    "SVMSMOTE": "",
    "RandomOverSampler": "shrinkage=0.5",
    "SMOTEENN": "",
    "SMOTETomek": "",
    "RandomUnderSampler": "",
    "NearMiss": "version=2",
    "TomekLinks": "sampling_strategy='all'",
    "EditedNearestNeighbours": "n_neighbors=2",
    "OneSidedSelection": "n_seeds_S=3",
    "NeighbourhoodCleaningRule": "",
    "ClusterCentroids": "voting='soft'",
}


def direct(name: str, params: dict[str, Any], train: ltbench.Train, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Call a class as its users do."""
    modules = (imblearn.over_sampling, imblearn.under_sampling, imblearn.combine)
    found = next(getattr(module, name) for module in modules if hasattr(module, name))
    if name in (*imblearn.over_sampling.__all__, *imblearn.combine.__all__):
        params = {**params, "sampling_strategy": {c: int(train.real_class_counts[c]) + BUDGET[c] for c in range(3)}}
    seeded = {"random_state": seed} if "random_state" in found().get_params() else {}
    return found(**params, **seeded).fit_resample(train.x.numpy(), train.targets.numpy())


def rows_of(x: np.ndarray, targets: np.ndarray) -> list[tuple[float, ...]]:
    """Return rows with their labels, sorted."""
    return sorted((int(c), *row) for c, row in zip(targets.tolist(), x.tolist(), strict=True))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_rows_are_those_of_a_direct_call(train_of: TrainOf, draw: Draw, name: str) -> None:
    """Real rows that stay and synthetic rows together are what the class returns, from the stream's seed."""
    train = train_of([30, 12, 8], apart=0.8)
    rows = draw(ImbalancedLearn(name=name, params=CASES[name]), train, BUDGET)
    seed = int(train.stream.child("imblearn").integers(torch.zeros(1), 1, 2**31 - 1))
    x, targets = direct(name, eval(f"dict({CASES[name]})"), train, seed)
    keep = torch.ones(len(train.x), dtype=torch.bool) if rows.keep is None else rows.keep
    together = rows_of(train.x[keep].numpy(), train.targets[keep].numpy()) + rows_of(rows.x.numpy(), rows.targets.numpy())
    assert sorted(together) == rows_of(x.astype(np.float32), targets)
    assert rows.flops is None


@pytest.mark.parametrize("name", ["SMOTE", "RandomOverSampler"])
def test_budgets_are_met_and_real_rows_stay(train_of: TrainOf, draw: Draw, name: str) -> None:
    """Over-samplers keep all real rows and add the budget; none for a class that wants none, or has no row."""
    rows = draw(ImbalancedLearn(name=name), train_of([30, 12, 8, 0]), [0, 5, 0, 0])
    assert rows.keep is None
    assert rows.targets.tolist() == [1] * 5


def test_copies_name_their_parent(train_of: TrainOf, draw: Draw) -> None:
    """A row that equals a real one that is there already is synthetic, and that one is its parent."""
    train = train_of([9, 3])
    rows = draw(ImbalancedLearn(name="RandomOverSampler"), train, [0, 6])
    assert rows.parents is not None
    assert torch.equal(train.x[rows.parents[:, 0]], rows.x)
    made = draw(ImbalancedLearn(name="SMOTE", params="k_neighbors=2"), train, [0, 6])
    assert made.parents is not None
    assert made.parents.tolist() == [[-1]] * 6


def test_unit_rows_stay_unit_rows(train_of: TrainOf, draw: Draw) -> None:
    """Synthetic rows get length one where the real ones have it."""
    train = train_of([20, 9])
    rows = draw(ImbalancedLearn(name="SMOTE"), train.replace(x=normalize(train.x, dim=1)), [0, 11])
    torch.testing.assert_close(rows.x.norm(dim=1), torch.ones(11))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), max_size=8),
)
def test_each_real_row_is_met_once(real: list[tuple[int, int]], found: list[tuple[int, int]]) -> None:
    """Against a loop that crosses real rows off one after the other, with few values, so that rows repeat."""
    arrays = [np.array(each, dtype=np.float32).reshape(-1, 2) for each in (real, found)]
    source, again = matched(arrays[0][:, :1], arrays[0][:, 1], arrays[1][:, :1], arrays[1][:, 1])
    free = list(range(len(real)))
    for row, i, repeated in zip(found, source.tolist(), again.tolist(), strict=True):
        match = next((j for j in free if real[j] == row), None)
        if match is not None:
            assert (i, repeated) == (match, False)
            free.remove(match)
        elif row in real:
            assert repeated
            assert real[i] == row
        else:
            assert (i, repeated) == (-1, False)


def test_a_class_that_refuses_the_rows_skips_the_cell(train_of: TrainOf, draw: Draw) -> None:
    """With what it says: too few rows for k, or ADASYN on separable classes."""
    with pytest.raises(ltbench.SkipCell, match="SMOTE refuses these rows: Expected n_neighbors <= n_samples_fit"):
        draw(ImbalancedLearn(name="SMOTE"), train_of([9, 3]), [0, 6])
    with pytest.raises(ltbench.SkipCell, match="ADASYN refuses these rows: Not any neigbours belong"):
        draw(ImbalancedLearn(name="ADASYN"), train_of([30, 9], apart=100.0), [0, 6])


def test_warnings_are_noted(train_of: TrainOf, draw: Draw) -> None:
    """What the class warns of goes into the record."""
    rows = draw(ImbalancedLearn(name="NearMiss", params="version=3, n_neighbors_ver3=1"), train_of([60, 9]), [0, 0])
    assert len(rows.notes["warnings"]) == 1
    assert "The number of the samples to be selected is larger" in rows.notes["warnings"][0]


def test_a_missed_budget_is_noted(train_of: TrainOf, draw: Draw) -> None:
    """SVMSMOTE may make fewer rows than asked; the record says by how many."""
    rows = draw(ImbalancedLearn(name="SVMSMOTE"), train_of([30, 12, 8]), [0, 5, 0])
    made = torch.bincount(rows.targets, minlength=3).tolist()
    missed = {str(c): n - wanted for c, (n, wanted) in enumerate(zip(made, [0, 5, 0], strict=True)) if n != wanted}
    assert rows.notes.get("budget_missed", {}) == missed
    assert missed


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("SMOT", "", "imbalanced-learn has no sampler 'SMOT' for numbers (did you mean 'SMOTE'?)."),
        ("SMOTENC", "", "imbalanced-learn has no sampler 'SMOTENC' for numbers"),
        ("SMOTE", "k=3", "'k' is none of its parameters: SMOTE takes k_neighbors"),
        ("SMOTE", "random_state=1", "'random_state' is set by ltbench: SMOTE takes k_neighbors"),
        ("SMOTE", "sampling_strategy='auto'", "'sampling_strategy' is set by ltbench"),
        ("SMOTE", "k_neighbors=0", "The 'k_neighbors' parameter of SMOTE must be an int in the range"),
        ("SMOTE", "k_neighbors", "params must be written as in Python"),
        ("SMOTE", "k_neighbors=len('abc')", "params must be written as in Python"),
        ("SMOTE", "**{}", "params must be written as in Python"),
        ("SMOTE", "k_neighbors=3)(", "params must be written as in Python"),
    ],
)
def test_mistakes_are_refused_while_planning(name: str, params: str, message: str) -> None:
    """Unknown classes and parameters, bad values, and what is no list of parameters."""
    with pytest.raises(ltbench.UsageError) as caught:
        resolve(discover(), "generator", f'imblearn:{name}[params="{params}"]')
    assert message in str(caught.value)


def test_all_classes_for_numbers_are_there() -> None:
    """Each of them can be built, and only those for categories are left out."""
    modules = (imblearn.over_sampling, imblearn.under_sampling, imblearn.combine)
    assert set(sampler_classes()) == {name for module in modules for name in module.__all__} - {"SMOTEN", "SMOTENC"}
    for name in sampler_classes():
        assert ImbalancedLearn(name=name).build() is not None


@parametrize_with_checks(
    [
        "generator:imblearn:RandomOverSampler",
        'generator:imblearn:SMOTE[params="k_neighbors=1"]',
        "generator:imblearn:TomekLinks",
    ]
)
def test_conformance(component: Any, check: Any) -> None:
    """The kit, where the class takes its rows."""
    check(component)


@parametrize_with_checks(
    ["generator:imblearn:ClusterCentroids"],
    expected_failures={"budget_kept": "puts centroids in the place of real rows, whatever the budget"},
)
def test_conformance_of_prototypes(component: Any, check: Any) -> None:
    """A class that makes rows to leave others out keeps to no budget, and to everything else."""
    check(component)
