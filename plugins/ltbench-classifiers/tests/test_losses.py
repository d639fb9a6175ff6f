"""Tests of every loss against its formula, written plainly in float64 and differentiated by autograd."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

import ltbench
from ltbench_classifiers.balanced_softmax import BalancedSoftmax
from ltbench_classifiers.class_balanced import ClassBalanced
from ltbench_classifiers.cosine import Cosine
from ltbench_classifiers.focal import Focal
from ltbench_classifiers.label_aware_smoothing import LabelAwareSmoothing
from ltbench_classifiers.ldam import Ldam
from ltbench_classifiers.logit_adjustment import LogitAdjustment
from ltbench_classifiers.reweighted import Reweighted
from ltbench_classifiers.softmax import Softmax

COUNTS = (60.0, 20.0, 7.0, 1.0)
Formula = Callable[[Tensor, Tensor, float], Tensor]
"""From logits of a row ``[C]``, its soft label ``[C]`` and the progress of training to its loss."""
several_examples = settings(max_examples=10, deadline=None, derandomize=True)


def entropy(logits: Tensor, label: Tensor) -> Tensor:
    """−Σ_c y_c log(exp z_c / Σ_j exp z_j)."""
    return -(label * (logits - torch.logsumexp(logits, 0))).sum()


def shifted(power: float) -> Formula:
    """Cross entropy of z + τ log π."""
    offset = torch.tensor([power * math.log(n / sum(COUNTS)) for n in COUNTS], dtype=torch.float64)
    return lambda z, y, _: entropy(z + offset, y)


def focal(gamma: float) -> Formula:
    """Σ_c y_c (1 − p_c)^γ (−log p_c)."""
    return lambda z, y, _: -(y * (1 - z.softmax(0)) ** gamma * z.log_softmax(0)).sum()


def smoothed(head: float, tail: float, shape: Callable[[float], float]) -> Formula:
    """Cross entropy with a class's label smoothed by ε_c, which a loop computes."""
    places = [(n - min(COUNTS)) / (max(COUNTS) - min(COUNTS)) for n in COUNTS]
    each = torch.tensor([tail + (head - tail) * shape(place) for place in places], dtype=torch.float64)
    rows = torch.stack([(1 - e) * one_hot(torch.tensor(c), 4) + e / 4 for c, e in enumerate(each)])
    return lambda z, y, _: entropy(z, y @ rows)


def margins(most: float, scale: float, deferred: bool) -> Formula:
    """Cross entropy of s(z − Δ·y), in the last fifth weighted by the class's inverse effective number, mean one."""
    roots = [n**-0.25 for n in COUNTS]
    delta = torch.tensor([most * root / max(roots) for root in roots], dtype=torch.float64)
    own = torch.tensor([1 / sum(0.9999**i for i in range(int(n))) for n in COUNTS], dtype=torch.float64)
    own = own * sum(COUNTS) / sum(w * n for w, n in zip(own.tolist(), COUNTS, strict=True))

    def formula(z: Tensor, y: Tensor, progress: float) -> Tensor:
        weight = (y @ own) if deferred and progress >= 0.8 else 1.0
        return weight * entropy(scale * (z - delta * y), y)

    return formula


LOSSES: dict[str, tuple[Any, Formula]] = {
    "softmax": (Softmax(), lambda z, y, _: entropy(z, y)),
    "balanced": (Reweighted(), lambda z, y, _: entropy(z, y)),
    "class-balanced": (ClassBalanced(), lambda z, y, _: entropy(z, y)),
    "balanced-softmax": (BalancedSoftmax(), shifted(1.0)),
    "logit-adjustment": (LogitAdjustment(tau=0.7), shifted(0.7)),
    "focal": (Focal(), focal(2.0)),
    "focal, 0.5": (Focal(gamma=0.5), focal(0.5)),
    "label-aware-smoothing": (LabelAwareSmoothing(), smoothed(0.4, 0.1, lambda s: math.sin(s * math.pi / 2))),
    "label-aware-smoothing, linear": (LabelAwareSmoothing(shape="linear", head=0.3, tail=0.0), smoothed(0.3, 0.0, lambda s: s)),
    "label-aware-smoothing, convex": (
        LabelAwareSmoothing(shape="convex"),
        smoothed(0.4, 0.1, lambda s: 1 - math.cos(s * math.pi / 2)),
    ),
    "cosine": (Cosine(), lambda z, y, _: entropy(25 * z, y)),
    "ldam": (Ldam(), margins(0.5, 30.0, deferred=False)),
    "ldam-drw": (Ldam(drw=True), margins(0.5, 30.0, deferred=True)),
}


def batch_of(logits: Tensor, targets: Tensor, progress: float = 1.0) -> ltbench.Batch:
    """Return what a loss sees of rows of a training set with these counts."""
    rows, counts = len(logits), torch.tensor(COUNTS, dtype=logits.dtype)
    ones = torch.ones(rows, dtype=logits.dtype)
    synthetic = torch.zeros(rows, dtype=torch.bool)
    return ltbench.Batch(logits, targets, ones, logits, counts, counts, counts / counts.sum(), synthetic, progress)


def both(name: str, logits: Tensor, targets: Tensor, progress: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return losses and slopes of the formula by autograd, and of the component."""
    component, formula = LOSSES[name]
    z = logits.clone().requires_grad_()
    labels = targets if targets.ndim == 2 else one_hot(targets, 4).double()
    expected = torch.stack([formula(z[i], labels[i], progress) for i in range(len(z))])
    (slopes,) = torch.autograd.grad(expected.sum(), z)
    losses, own = component.loss(batch_of(logits, targets, progress))
    return expected.detach(), slopes, losses, own


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("progress", [0.79, 0.8])
@pytest.mark.parametrize("soft", [False, True])
def test_a_loss_is_its_formula_and_its_slope_autograds(name: str, progress: float, soft: bool) -> None:
    """Losses and slopes of random rows, labels hard and soft, equal the plain formula's to rounding."""
    generator = torch.Generator().manual_seed(5)
    logits = 2 * torch.randn(12, 4, generator=generator, dtype=torch.float64)
    labels = torch.arange(12) % 4
    targets = 0.7 * one_hot(labels, 4).double() + 0.3 * one_hot((labels + 1) % 4, 4).double() if soft else labels
    expected, slopes, losses, own = both(name, logits, targets, progress)
    torch.testing.assert_close(expected, losses, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(slopes, own, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", LOSSES)
@several_examples
@given(st.lists(st.floats(-12, 12), min_size=4, max_size=4), st.integers(0, 3))
def test_confident_rows_keep_right_slopes(name: str, row: list[float], label: int) -> None:
    """Nor do slopes lose digits where a row is almost certain, or almost certainly wrong."""
    logits = torch.tensor([row], dtype=torch.float64)
    expected, slopes, losses, own = both(name, logits, torch.tensor([label]), 1.0)
    torch.testing.assert_close(expected, losses, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(slopes, own, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("scale", [1e3, 1e8])
def test_far_logits_stay_finite_in_float32(name: str, scale: float) -> None:
    """A row that is far off, or far on the right side, has a finite loss and a finite slope."""
    logits = scale * torch.eye(4)[[0, 0, 3]]
    losses, slopes = LOSSES[name][0].loss(batch_of(logits, torch.tensor([0, 3, 0])))
    assert bool(losses.isfinite().all())
    assert bool(slopes.isfinite().all())


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.4])
def test_equal_counts_smooth_all_alike(epsilon: float) -> None:
    """With one count for all classes label-aware smoothing is torch's label smoothing by ``head``; at 0 cross entropy."""
    logits, labels = torch.randn(8, 4, generator=torch.Generator().manual_seed(1)).double(), torch.arange(8) % 4
    counts = torch.full((4,), 5.0, dtype=torch.float64)
    batch = ltbench.Batch(logits, labels, counts, logits, counts, counts, counts / 20, labels < 0)
    losses, _ = LabelAwareSmoothing(head=epsilon, tail=0.0).loss(batch)
    torch.testing.assert_close(cross_entropy(logits, labels, reduction="none", label_smoothing=epsilon), losses)


@pytest.mark.parametrize(
    ("plain", "other"),
    [
        (Softmax(), Focal(gamma=0.0)),
        (Softmax(), LogitAdjustment(tau=0.0)),
        (Softmax(), LabelAwareSmoothing(head=0.0, tail=0.0)),
        (BalancedSoftmax(), LogitAdjustment(tau=1.0)),
        (Cosine(scale=30.0), Ldam(margin=0.0)),
        (Ldam(), Ldam(drw=True, beta=0.0)),
    ],
    ids=["focal", "logit-adjustment", "label-aware-smoothing", "balanced-softmax", "ldam", "ldam-drw"],
)
@pytest.mark.parametrize("soft", [False, True])
def test_a_switched_off_correction_is_the_loss_it_corrects(plain: Any, other: Any, soft: bool) -> None:
    """γ = 0, τ = 0, ε = 0, margin 0, β = 0 leave losses and slopes as they were."""
    logits, labels = torch.randn(8, 4, generator=torch.Generator().manual_seed(1)).double(), torch.arange(8) % 4
    targets = 0.5 * (one_hot(labels, 4) + one_hot(labels.flip(0), 4)).double() if soft else labels
    for expected, actual in zip(plain.loss(batch_of(logits, targets)), other.loss(batch_of(logits, targets)), strict=True):
        torch.testing.assert_close(expected, actual, rtol=1e-12, atol=1e-13)
