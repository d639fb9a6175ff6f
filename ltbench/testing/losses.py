"""Checks of classifiers that are a loss: its values, derivatives by hand, and what it comes down to on some rows."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from ltbench.components import Resolved
from ltbench.contract import ClassifierComponent, LossComponent
from ltbench.heads import ABSENT_LOGIT
from ltbench.heads.component import reduced, row_weights
from ltbench.streams import Stream
from ltbench.testing.exercise import CheckFailed, must
from ltbench.testing.problem import Problem, long_tailed
from ltbench.types import Batch, Train

SLOPE_TOLERANCE = 1e-6
"""Largest error of a derivative that a loss gives by hand, plus the same share of its size."""

_STEP = 1e-5


def check_loss_and_slopes(resolved: Resolved) -> None:
    """Require finite per-row losses and derivatives, also for absent classes; those by hand must equal differences.

    A component with its own ``fit`` has no loss to check.
    """
    classifier = resolved.build()
    if isinstance(classifier, ClassifierComponent) or not isinstance(classifier, LossComponent):
        return
    for counts in ((40, 20, 10, 6, 4), (40, 20, 10, 6, 0)):
        batch = _batch(long_tailed(counts))
        before = batch.logits.detach().clone()
        with must("give losses of a batch"):
            returned = classifier.loss(batch)
        if not torch.equal(batch.logits.detach(), before):
            raise CheckFailed("a loss must not modify batch.logits: work on a copy")
        losses, slopes = returned if isinstance(returned, tuple) else (returned, None)
        _require_losses(losses, len(before))
        if slopes is None:
            (slopes,) = torch.autograd.grad(losses.sum(), batch.logits)
            _require_finite(slopes, "the gradient of the loss")
        else:
            _require_slopes(slopes, _differences(classifier, batch))


def check_reduction(resolved: Resolved) -> None:
    """Require that what a loss says it comes down to on some rows has the same losses and weights there."""
    classifier = resolved.build()
    if isinstance(classifier, ClassifierComponent) or not hasattr(classifier, "reduces_to"):
        return
    for counts in ((40, 20, 10, 6, 4), (16, 16, 16, 16, 16)):
        problem = long_tailed(counts)
        with must("say what it reduces to"):
            found = reduced(classifier, problem.train)
        if found is classifier:
            continue
        if not isinstance(found, LossComponent) or found.l2 != classifier.l2:
            raise CheckFailed(f"reduces_to must give None, or a loss with the same l2, not {found!r}")
        batch = _batch(problem)
        here, there = (_weighed(each, batch, problem.train) for each in (classifier, found))
        if not torch.allclose(here, there, rtol=SLOPE_TOLERANCE, atol=SLOPE_TOLERANCE):
            raise CheckFailed(
                f"reduces_to must give a component of the same weighted losses; on {counts} rows {found!r} has others"
            )


def _weighed(classifier: Any, batch: Batch, train: Train) -> Tensor:
    """Return the losses of rows times their shares of the weights ``[N]``."""
    own = row_weights(classifier, train)
    weights = batch.weights if own is None else own.double() / own.double().sum()
    return weights * _losses(classifier, batch, batch.logits.detach())


def _batch(problem: Problem) -> Batch:
    """Return float64 rows with random logits, those of absent classes as the solver has them."""
    train = problem.train
    rows = len(train.x)
    logits = 3 * Stream.of(0, "logits").normal(torch.arange(rows), train.classes)
    logits = torch.where(train.class_counts > 0, logits, ABSENT_LOGIT).requires_grad_()
    weights = torch.full((rows,), 1 / rows, dtype=torch.float64)
    counts = train.class_counts
    return Batch(logits, train.targets, weights, train.x.double(), counts, counts, train.prior, train.synthetic)


def _differences(classifier: Any, batch: Batch) -> Tensor:
    """Return the derivatives of each row's loss by its logits ``[N, C]``, by central differences."""
    columns = []
    for c in range(batch.logits.shape[1]):
        step = torch.zeros_like(batch.logits)
        step[:, c] = _STEP
        high, low = (_losses(classifier, batch, batch.logits.detach() + sign * step) for sign in (1, -1))
        columns.append((high - low) / (2 * _STEP))
    return torch.stack(columns, dim=1)


def _losses(classifier: Any, batch: Batch, logits: Tensor) -> Tensor:
    """Return the losses at other logits."""
    returned = classifier.loss(dataclasses.replace(batch, logits=logits))
    losses: Tensor = returned[0] if isinstance(returned, tuple) else returned
    return losses.detach()


def _require_losses(losses: Any, rows: int) -> None:
    """Raise CheckFailed unless losses are finite numbers ``[N]``."""
    if not isinstance(losses, Tensor) or losses.shape != (rows,):
        shape = list(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
        raise CheckFailed(f"a loss must return per-row losses [{rows}], not {shape}: use reduction='none'")
    _require_finite(losses, "the losses")


def _require_slopes(slopes: Tensor, expected: Tensor) -> None:
    """Raise CheckFailed unless derivatives by hand are ``[N, C]``, finite, and right."""
    if slopes.shape != expected.shape:
        raise CheckFailed(f"slopes must be {list(expected.shape)}, not {list(slopes.shape)}")
    _require_finite(slopes, "the slopes")
    error = (slopes.detach() - expected).abs() - SLOPE_TOLERANCE * expected.abs()
    if float(error.max()) > SLOPE_TOLERANCE:
        raise CheckFailed(
            f"slopes must be the derivatives of the losses by the logits; they are off by up to {float(error.max()):.2g} "
            "from differences of the losses"
        )


def _require_finite(values: Tensor, what: str) -> None:
    """Raise CheckFailed for NaN or infinity."""
    bad = int((~values.isfinite()).sum())
    if bad:
        raise CheckFailed(f"{what} must be finite, also where a class is absent: {bad} of {values.numel()} numbers are not")
