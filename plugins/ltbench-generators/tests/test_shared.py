"""Tests of training sets fitted together: each gives what it gives alone, and what they have in common is found once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch

import ltbench
from ltbench_generators import borderline_smote, gaussian, kde, smote
from ltbench_generators.adasyn import Adasyn
from ltbench_generators.borderline_smote import BorderlineSmote
from ltbench_generators.gaussian import Gaussian
from ltbench_generators.kde import KernelDensity
from ltbench_generators.shared import Known
from ltbench_generators.smote import Smote

TrainOf = Callable[..., ltbench.Train]

# What each finds out about rows, and how often for one split: once, or once for each class that is asked.
CASES: dict[str, tuple[Any, Any, str, int]] = {
    "smote": (Smote(), smote, "nearest", 2),
    "borderline-smote": (BorderlineSmote(), borderline_smote, "nearest", 1),
    "adasyn": (Adasyn(), borderline_smote, "nearest", 1),
    "gaussian": (Gaussian(), gaussian, "class_means", 1),
    "gaussian, tied": (Gaussian(covariance="tied"), gaussian, "pooled_factor", 1),
    "kde": (KernelDensity(), kde, "best_bandwidths", 1),
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
    """For five streams and two budgets of one split the work is done once, for another split once more."""
    generator, module, function, times = CASES[name]
    trains = [train_of([14, 7, 4], stream=stream) for stream in range(5)] + [train_of([14, 7, 4], seed=1)]
    with mock.patch.object(module, function, wraps=getattr(module, function)) as counted:
        for sampler in generator.fit_many(trains):
            sampler(torch.tensor([0, 4, 6]))
            sampler(torch.tensor([0, 7, 9]))
    assert counted.call_count == 2 * times


def test_rows_that_differ_share_nothing(train_of: TrainOf) -> None:
    """Other features, or the same with other labels, are other rows."""
    train = train_of([6, 4])
    others = [train.replace(x=train.x + 1), train.replace(targets=1 - train.targets), train.replace(x=train.x[:, :3])]
    known = [sampler.plan.args[0] for sampler in Smote().fit_many([train, *others, train.replace(x=train.x.clone())])]
    assert [known.index(each) for each in known] == [known.index(known[i]) for i in range(5)]
    assert len({id(each) for each in known}) == 4
    assert known[4] is known[0]


def test_known_things_are_computed_once() -> None:
    """None is a value, too."""
    known, calls = Known(), []
    assert [known.get("a", lambda: calls.append(1)) for _ in range(3)] == [None] * 3
    assert len(calls) == 1
