"""Checks of components that work on rows: transforms, generators, classifiers, and backbones on their images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ltbench.components import Resolved
from ltbench.execute.setting import Prepared
from ltbench.heads import fit_classifier
from ltbench.testing.exercise import CheckFailed, Outcome, difference, exercise, exercise_instance, fitted, must, require_finite
from ltbench.testing.problem import Problem, long_tailed

SOFT_TOLERANCE = 0.01
"""How far scores may move, as a share of the largest, when labels are written as soft ones: solvers stop near the optimum."""

TOLERANCES = {"transform": 1e-6, "classifier": 1e-6, "backbone": 1e-5}
"""Largest change that the company of other rows may make, as a share of the largest number."""


def check_inputs_unmodified(resolved: Resolved) -> None:
    """Require that rows, targets, weights, counts, the budget and images are as they were."""
    problem = long_tailed()
    before = {name: values.clone() for name, values in problem.tensors.items()}
    exercise_instance(resolved.kind, resolved.build(), problem)
    for name, values in problem.tensors.items():
        if difference({name: before[name]}, {name: values}):
            raise CheckFailed(f"must not modify {name}: work on a copy ({name}.clone())")


def check_one_row_class(resolved: Resolved) -> None:
    """Require finite results where a class has one row."""
    _serve(resolved, long_tailed((40, 20, 10, 6, 1)), "where a class has one row")


def check_absent_class(resolved: Resolved) -> None:
    """Require finite results where a class has no row, as it happens in folds."""
    _serve(resolved, long_tailed((40, 20, 10, 6, 0)), "where a class has no row")


def check_soft_labels(resolved: Resolved) -> None:
    """Require of a head the same scores where labels ``[N]`` are written as soft ones ``[N, C]``, as mixed rows have them."""
    problem = long_tailed()
    shares = torch.nn.functional.one_hot(problem.train.targets, problem.train.classes).double()
    hard = exercise(resolved, problem)["scores"]
    soft = exercise(resolved, problem.replace_train(targets=shares), "serve soft labels [N, C]")["scores"]
    gap = float((hard.double() - soft.double()).abs().max() / hard.double().abs().max().clamp_min(1e-30))
    if not gap <= SOFT_TOLERANCE:
        raise CheckFailed(
            f"must give the same scores where labels [N] are written as soft ones [N, C], within {SOFT_TOLERANCE:g} of the "
            f"largest: they differ by {gap:.2g}; targets.ndim tells which they are"
        )


def check_fewer_rows_than_features(resolved: Resolved) -> None:
    """Require finite results where there are fewer rows than features, as with most backbones."""
    _serve(resolved, long_tailed((6, 4, 3, 2, 2), width=24), "where there are fewer rows than features")


def check_constant_feature(resolved: Resolved) -> None:
    """Require finite results where a feature is the same in all rows, as the corners of images are."""
    problem = long_tailed()
    for values in (problem.train.x, problem.test):
        values[:, 2] = 0.0
    _serve(resolved, problem, "where a feature is constant")


def check_batch_invariant(resolved: Resolved) -> None:
    """Require the same result for a row alone, in chunks and in another order, within TOLERANCES."""
    ready = fitted(resolved.kind, resolved.build(), long_tailed())
    together = ready.call(ready.usual)
    ways = {"alone": _in_chunks(ready.call, ready.usual, 1), "in chunks": _in_chunks(ready.call, ready.usual, 4)}
    back = torch.arange(len(ready.usual)).flip(0)
    ways["in reverse order"] = {name: values[back] for name, values in ready.call(ready.usual[back]).items()}
    if difference(together, ready.call(ready.usual)):
        return  # calls change each other: check_repeatable_calls says so
    for how, apart in ways.items():
        for name in together:
            _require_close(together[name], apart[name], TOLERANCES[resolved.kind], f"{name} {how}")


def check_repeatable_calls(resolved: Resolved) -> None:
    """Require the same bits from a call again, after another in between."""
    ready = fitted(resolved.kind, resolved.build(), long_tailed())
    before = ready.call(ready.usual)
    ready.call(ready.unusual)
    found = difference(before, ready.call(ready.usual))
    if found:
        raise CheckFailed(f"must not change by being used: after a call with other input, {found}")


def check_test_rows_unseen(resolved: Resolved) -> None:
    """Require that, in a real run, test rows and labels change neither what is fitted nor the scores of other rows.

    The changed rows are far away rather than NaN, which a run refuses.
    """
    problem = long_tailed()
    other = problem.test.clone()
    other[len(other) // 2 :] = 1000 * other[len(other) // 2 :] + 7
    with must("serve a small long-tailed problem"):
        first, again = (_seen(resolved, problem, problem.test, problem.test_labels) for _ in range(2))
        poisoned = _seen(resolved, problem, other, problem.test_labels.flip(0))
    if difference(first, again):
        return  # check_deterministic says so
    found = difference(first, poisoned)
    if found:
        raise CheckFailed(f"must see training rows only, but changes with the test rows: {found}")


def _serve(resolved: Resolved, problem: Problem, where: str) -> None:
    """Use a component on an awkward problem; what it gives must be finite."""
    require_finite(exercise(resolved, problem, f"serve a training set {where}"), where)


def _in_chunks(call: object, usual: Tensor, size: int) -> Outcome:
    """Apply a function chunk by chunk."""
    assert callable(call)
    parts = [call(chunk) for chunk in torch.split(usual, size)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _require_close(together: Tensor, apart: Tensor, tolerance: float, what: str) -> None:
    """Raise CheckFailed where two results differ by more than a share of the largest number."""
    if together.shape != apart.shape:
        raise CheckFailed(f"{what} must be as they are together: {list(apart.shape)} is not {list(together.shape)}")
    scale = max(float(together.double().abs().max()), 1e-30)
    gap = float((together.double() - apart.double()).abs().max()) / scale
    if not gap <= tolerance:
        raise CheckFailed(
            f"{what} must be as they are together, within {tolerance:g} of the largest number: they differ by {gap:.2g}; "
            "treat each row by itself"
        )


def _seen(resolved: Resolved, problem: Problem, test: Tensor, labels: Tensor) -> Outcome:
    """Return all that a run makes of training rows, or a head's scores of the first half of the test rows."""
    instance = resolved.build()
    if resolved.kind == "classifier":
        return {"scores": _scored(problem.prepared(test, classifier=instance), instance, labels)[: len(test) // 2]}
    return _made(problem.prepared(test, **{resolved.kind: instance}))


def _scored(prepared: Prepared, instance: Any, labels: Tensor) -> Tensor:
    """Fit and score a head as a cell does, with the test labels as near to it as a cell has them."""
    assert len(labels) == len(prepared.test)
    return fit_classifier(instance, prepared.train)(prepared.test).values


def _made(prepared: Prepared) -> Outcome:
    """Return the training rows of a run and of its folds."""
    trains = {"rows": prepared.train, **{f"rows of fold {i}": fold[0] for i, fold in enumerate(prepared.folds)}}
    fields = ("x", "targets", "weights", "class_counts")
    return {f"{name} ({field})": getattr(train, field) for name, train in trains.items() for field in fields}
