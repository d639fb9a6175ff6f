"""Tests of training sets fitted together: each gives what it gives alone, and what they have in common is found once."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch

import ltbench
from ltbench_generators import borderline_smote, gaussian, kde, neighbours, shared
from ltbench_generators.adasyn import Adasyn
from ltbench_generators.borderline_smote import BorderlineSmote
from ltbench_generators.gaussian import Gaussian
from ltbench_generators.kde import KernelDensity
from ltbench_generators.shared import Known
from ltbench_generators.smote import Smote

pytestmark = pytest.mark.determinism

TrainOf = Callable[..., ltbench.Train]

# What each finds out about rows, and how often for two splits: for each, or for both at once.
CASES: dict[str, tuple[Any, Any, str, int]] = {
    "smote": (Smote(), shared, "nearest_within", 1),
    "borderline-smote": (BorderlineSmote(), shared, "nearest_within", 2),  # among all rows, and within classes
    "adasyn": (Adasyn(), shared, "nearest_within", 2),
    "gaussian": (Gaussian(), gaussian, "class_means", 2),
    "gaussian, tied": (Gaussian(covariance="tied"), gaussian, "pooled_factor", 2),
    "kde": (KernelDensity(), kde, "best_bandwidths", 2),
}
BUDGETS = ([0, 5, 9], [0, 12, 3], [0, 1, 1])


@pytest.mark.parametrize("name", CASES)
def test_pairs_give_what_they_give_alone(train_of: TrainOf, name: str) -> None:
    """Two splits with three streams each: every pair's rows, provenance, notes and cost are those of a fit of its own."""
    generator, *_ = CASES[name]
    trains = [train_of([14, 7, 1], seed=seed, stream=stream, apart=0.7) for seed in (0, 1) for stream in (5, 6, 7)]
    together = generator.fit_many(trains)
    for train, sampler in zip(trains, together, strict=True):
        for budget in map(torch.tensor, BUDGETS):
            alone, rows = generator.fit(train)(budget), sampler(budget)
            for field in ("x", "targets", "parents", "parent_weights"):
                one, other = getattr(alone, field), getattr(rows, field)
                assert (one is None and other is None) or torch.equal(one, other)
            assert (dict(alone.notes), alone.flops) == (dict(rows.notes), rows.flops)


@pytest.mark.parametrize("name", CASES)
def test_what_rows_have_in_common_is_found_once(train_of: TrainOf, name: str) -> None:
    """For five streams and two budgets of one split the work is done once, for another split once more or with it."""
    generator, module, function, times = CASES[name]
    trains = [train_of([14, 7, 4], stream=stream) for stream in range(5)] + [train_of([14, 7, 4], seed=1)]
    with mock.patch.object(module, function, wraps=getattr(module, function)) as counted:
        for sampler in generator.fit_many(trains):
            sampler(torch.tensor([0, 4, 6]))
            sampler(torch.tensor([0, 7, 9]))
    assert counted.call_count == times


@pytest.mark.parametrize("name", ["smote", "borderline-smote", "adasyn"])
@pytest.mark.parametrize("few", [0, 12, 512])
def test_sets_of_any_size_are_searched_together(
    train_of: TrainOf, monkeypatch: pytest.MonkeyPatch, name: str, few: int
) -> None:
    """Splits of other sizes, classes and precision give what they give alone, where classes are large for one or for all."""
    for module in (neighbours, shared, borderline_smote):
        monkeypatch.setattr(module, "FEW", few)
    generator, *_ = CASES[name]
    trains = [train_of([20 - seed, 10 + seed, seed, 1], seed=seed, apart=0.5) for seed in range(2, 6)]
    trains += [trains[0].replace(x=trains[0].x.double()), train_of([9, 4], apart=0.5), train_of([8, 5, 1], width=7)]
    together = generator.fit_many(trains)
    for train, sampler in zip(trains, together, strict=True):
        budget = torch.tensor([0, 9, 5, 2][: train.classes])
        alone, rows = generator.fit(train)(budget), sampler(budget)
        assert torch.equal(alone.x, rows.x)
        assert torch.equal(alone.parents, rows.parents)
        assert dict(alone.notes) == dict(rows.notes)


def test_a_training_set_that_is_no_longer_needed_is_let_go(train_of: TrainOf) -> None:
    """What its companions know does not keep its rows in memory, and nothing is searched for it."""
    trains = [train_of([6, 4], seed=seed) for seed in (0, 1)]
    gone = weakref.ref(trains[0].x)
    samplers = Smote().fit_many(trains)
    del trains[0], samplers[0]
    assert gone() is None
    with mock.patch.object(shared, "nearest_within", wraps=shared.nearest_within) as counted:
        samplers[0](torch.tensor([0, 3]))
    assert [len(call.args[0]) for call in counted.call_args_list] == [1]


def test_rows_that_differ_share_nothing(train_of: TrainOf) -> None:
    """Other features, or the same with other labels, are other rows."""
    train = train_of([6, 4])
    others = [train.replace(x=train.x + 1), train.replace(targets=1 - train.targets), train.replace(x=train.x[:, :3])]
    known = [sampler.plan.args[0] for sampler in Smote().fit_many([train, *others, train.replace(x=train.x.clone())])]
    assert [known.index(each) for each in known] == [known.index(known[i]) for i in range(5)]
    assert len({id(each) for each in known}) == 4
    assert known[4] is known[0]


def test_known_things_are_computed_once(train_of: TrainOf) -> None:
    """None is a value, too."""
    known, calls = Known(train_of([2])), []
    assert [known.get("a", lambda: calls.append(1)) for _ in range(3)] == [None] * 3
    assert len(calls) == 1
