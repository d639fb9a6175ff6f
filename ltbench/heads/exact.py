"""The ``exact`` solver: a linear head at the optimum of the pinned objective, for any author's loss.

    F(W, b) = Σ_i w_i ℓ(x_i W + b, y_i) / Σ_i w_i  +  λ/2 · ‖W‖²

The bias is not penalised. Full batch; the author's loss sees logits and is differentiated by autograd, the
linear part by hand.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ltbench.heads.lbfgs import minimise
from ltbench.heads.linear import ABSENT_LOGIT, LinearScorer
from ltbench.types import Batch, Train

TOLERANCE = 1e-3
"""Largest gap to the optimum, as a share of the objective, at which the solver stops."""

SELECTION_TOLERANCE = 1e-2
"""The same for heads that are only compared on selection rows."""

Loss = Callable[[Batch], Tensor | tuple[Tensor, Tensor]]


def fit_linear(
    train: Train,
    loss: Loss,
    l2: float,
    row_weights: Tensor | None = None,
    start: LinearScorer | None = None,
    tolerance: float = TOLERANCE,
) -> LinearScorer:
    """Fit ``weight [D, C]`` and ``bias [C]`` to a stated gap: ‖∇F‖² / 2λ ≤ tolerance · F.

    For a convex loss, F is λ-strongly convex in W, so the bound is on F − F*. ``row_weights [N]`` multiply
    ``train.weights`` (class weights, say); only ratios between weights matter, since the mean is weighted. A class
    without rows keeps zero weights and a logit of −2¹⁰⁰. ``start`` is a head to begin with, at zero if None.
    Float32 first; where its rounding stops short of the tolerance, float64 goes on. Raises ValueError for a loss
    that is not ``[N]`` or not finite.
    """
    if l2 <= 0:
        raise ValueError(f"l2 must be above 0 for the exact solver, not {l2}")
    evaluations = 0
    axes = _axes(train, row_weights)
    theta = axes.turned(start) if start is not None else axes.mean.new_zeros(axes.basis.shape[1] + 1, train.classes)
    for dtype in (torch.float32, torch.float64):
        problem = _Problem(train, axes, loss, l2, dtype, tolerance)
        found = minimise(problem, theta.to(dtype), problem.precondition, problem.done)
        theta = found.point
        evaluations += found.evaluations
        if found.converged and math.isfinite(found.value):
            break
        problem.check_finite(theta)
    (rows, columns), rank = train.x.shape, axes.basis.shape[1]
    weight, bias = axes.restored(theta)
    return LinearScorer(
        weight=weight,
        bias=bias + problem.absent,
        training_flops=evaluations * 4 * rows * rank * train.classes + 4 * rows * columns * rank + 9 * rank**3,
        converged=found.converged,
    )


@dataclass(frozen=True)
class _Axes:
    """Principal axes of the weighted rows, in which the problem is solved: x = mean + basis · x′, all float64.

    ‖W‖ is the same in them, the bias is decoupled from the weights, and the covariance is diagonal. Fewer rows than
    columns span fewer axes, and the optimum has no part outside of them.
    """

    weights: Tensor
    mean: Tensor
    basis: Tensor
    variance: Tensor

    def turned(self, scorer: LinearScorer) -> Tensor:
        """Return a head's weight and bias in these axes, ``[D+1, C]``."""
        weight, bias = scorer.weight.double(), torch.where(scorer.bias > ABSENT_LOGIT / 2, scorer.bias, 0.0).double()
        return torch.cat([self.basis.T @ weight, (bias + self.mean @ weight)[None]])

    def restored(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return weight and bias for rows as they were."""
        weight = self.basis @ theta[:-1].double()
        return weight, theta[-1].double() - self.mean @ weight


def _axes(train: Train, row_weights: Tensor | None) -> _Axes:
    """Normalise the weights to sum one, and diagonalise the weighted covariance."""
    weights = train.weights.double() * (1.0 if row_weights is None else row_weights.double())
    if not (bool(weights.isfinite().all()) and bool((weights >= 0).all()) and float(weights.sum()) > 0):
        raise ValueError("row weights must be finite, not negative, and not all zero")
    weights = weights / weights.sum()
    x = train.x.double()
    mean = weights @ x
    centred = x - mean
    span = torch.linalg.qr(centred.T).Q if len(x) < x.shape[1] else None
    turned = centred if span is None else centred @ span
    variance, basis = torch.linalg.eigh(turned.T @ (weights[:, None] * turned))
    return _Axes(weights, mean, basis if span is None else span @ basis, variance.clamp_min(0))


class _Problem:
    """The objective and its gradient at θ = (W; b), a tensor ``[D+1, C]``, in principal axes."""

    def __init__(self, train: Train, axes: _Axes, loss: Loss, l2: float, dtype: torch.dtype, tolerance: float) -> None:
        """Turn the rows, and append the column of the bias."""
        x = ((train.x.double() - axes.mean) @ axes.basis).to(dtype)
        self.x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        self.weights = axes.weights.to(dtype)
        shares = _shares(train, self.weights)
        self.absent = torch.where(shares > 0, 0.0, ABSENT_LOGIT).to(dtype)
        self.shares = torch.where(shares > 0, shares, 1.0)
        self.curvature = self._curvature(axes.variance.to(dtype), l2)
        self.batch = _batch(train, self.weights)
        self.loss, self.l2, self.tolerance, self.by_hand, self.last = loss, l2, tolerance, False, 0.0

    def __call__(self, theta: Tensor) -> tuple[float, Tensor]:
        """Return F and ∇F."""
        mean, slope = self._mean_loss(torch.addmm(self.absent, self.x, theta))
        gradient = self.x.T @ slope
        penalised = theta[:-1]
        gradient[:-1].add_(penalised, alpha=self.l2)
        value = mean + 0.5 * self.l2 * float(torch.dot(penalised.flatten(), penalised.flatten()))
        self.last = value
        return value, gradient

    def check_finite(self, theta: Tensor) -> None:
        """Raise ValueError if the search ended, or was turned back, where the loss or its slope is not finite."""
        if not math.isfinite(self.last):
            raise ValueError(f"the loss must be finite, its mean is {'NaN' if math.isnan(self.last) else self.last}")
        if not bool(self(theta)[1].isfinite().all()):
            raise ValueError("the slope of the loss must be finite, it holds NaN or infinity")

    def done(self, value: float, gradient: Tensor) -> bool:
        """Whether the bound on the gap is within tolerance: curvature is at least λ in W, about the share π_c in b_c."""
        penalised, bias = gradient[:-1].flatten(), gradient[-1]
        bound = float(torch.dot(penalised, penalised)) / (2 * self.l2) + float(torch.dot(bias, bias / self.shares))
        return bound <= self.tolerance * abs(value)

    def precondition(self, gradient: Tensor) -> Tensor:
        """Divide by the Hessian's diagonal at W = 0, which principal axes make a fair picture of the whole."""
        return gradient / self.curvature

    def _curvature(self, variance: Tensor, l2: float) -> Tensor:
        """Return π_c(1−π_c)·variance + λ for weights, π_c(1−π_c) for biases: ``[D+1, C]``."""
        spread = (self.shares * (1 - self.shares)).clamp_min(1e-6)
        return torch.cat([variance[:, None] * spread + l2, spread[None]])

    def _mean_loss(self, logits: Tensor) -> tuple[float, Tensor]:
        """Return the weighted mean loss and its derivative by the logits: the author's, or by autograd."""
        if not self.by_hand:
            logits.requires_grad_()
        returned = self.loss(dataclasses.replace(self.batch, logits=logits))
        self.by_hand = isinstance(returned, tuple)
        losses, slope = returned if isinstance(returned, tuple) else (returned, None)
        if losses.shape != logits.shape[:1]:
            raise ValueError(f"the loss must return per-row losses [{len(logits)}], not {list(losses.shape)}")
        mean = torch.dot(losses, self.weights)
        if slope is not None:
            return float(mean.detach()), slope.detach() * self.weights[:, None]
        (slope,) = torch.autograd.grad(mean, logits)
        return float(mean.detach()), slope


def _batch(train: Train, weights: Tensor) -> Batch:
    """Return what the loss sees, all in one precision, without the logits."""
    dtype = weights.dtype
    targets = train.targets.to(dtype) if train.targets.ndim == 2 else train.targets
    counts, real, prior = (each.to(dtype) for each in (train.class_counts, train.real_class_counts, train.prior))
    return Batch(weights[:0, None], targets, weights, train.x, counts, real, prior, train.synthetic)


def _shares(train: Train, weights: Tensor) -> Tensor:
    """Return each class's share of the weights ``[C]``, 0 for an absent class."""
    labels = train.targets if train.targets.ndim == 2 else one_hot(train.targets, train.classes)
    return weights @ labels.to(weights.dtype)
