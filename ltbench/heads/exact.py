"""The ``exact`` solver: a linear head at the optimum of the pinned objective, for any author's loss.

    F(W, b) = Σ_i w_i ℓ(x_i W + b, y_i) / Σ_i w_i  +  λ/2 · ‖W‖²

The bias is not penalised. Float64, full batch; the author's loss sees logits and is differentiated by autograd, the
linear part by hand.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ltbench.heads.lbfgs import minimise
from ltbench.heads.linear import ABSENT_LOGIT, LinearScorer
from ltbench.types import Batch, Train

TOLERANCE = 1e-5
"""Largest gap to the optimum, as a share of the objective, at which the solver stops."""

Loss = Callable[[Batch], Tensor]


def fit_linear(train: Train, loss: Loss, l2: float, row_weights: Tensor | None = None) -> LinearScorer:
    """Fit ``weight [D, C]`` and ``bias [C]`` to a stated gap: ‖∇F‖² / 2λ ≤ 1e-5 · F.

    For a convex loss, F is λ-strongly convex in W, so the bound is on F − F*. ``row_weights [N]`` multiply
    ``train.weights`` (class weights, say); only ratios between weights matter, since the mean is weighted. A class
    without rows keeps zero weights and a logit of −10,000. Raises ValueError for a loss that is not ``[N]`` or not
    finite.
    """
    if l2 <= 0:
        raise ValueError(f"l2 must be above 0 for the exact solver, not {l2}")
    problem = _Problem(train, loss, l2, row_weights)
    start = torch.zeros(problem.x.shape[1], train.classes, dtype=torch.float64, device=train.x.device)
    found = minimise(problem, start, problem.preconditioner(), problem.done)
    rows, columns = problem.x.shape
    return LinearScorer(
        weight=found.point[:-1],
        bias=found.point[-1] + problem.absent,
        training_flops=found.evaluations * 4 * rows * columns * train.classes + 2 * rows * columns**2,
        converged=found.converged,
    )


class _Problem:
    """The objective and its gradient at θ = (W; b), a tensor ``[D+1, C]``."""

    def __init__(self, train: Train, loss: Loss, l2: float, row_weights: Tensor | None) -> None:
        """Append the column of the bias, and normalise the weights to sum one."""
        x = train.x.double()
        weights = train.weights.double() * (1.0 if row_weights is None else row_weights.double())
        if not (bool(weights.isfinite().all()) and bool((weights >= 0).all()) and float(weights.sum()) > 0):
            raise ValueError("row weights must be finite, not negative, and not all zero")
        self.x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        self.weights = weights / weights.sum()
        self.absent = torch.where(_present(train), 0.0, ABSENT_LOGIT).double()
        self.train, self.loss, self.l2 = train, loss, l2

    def __call__(self, theta: Tensor) -> tuple[float, Tensor]:
        """Return F and ∇F."""
        logits = (self.x @ theta + self.absent).requires_grad_()
        mean = (self._losses(logits) * self.weights).sum()
        (slope,) = torch.autograd.grad(mean, logits)
        gradient = self.x.T @ slope
        gradient[:-1] += self.l2 * theta[:-1]
        value = float(mean) + 0.5 * self.l2 * float((theta[:-1] ** 2).sum())
        if value != value:
            raise ValueError("the loss returned NaN")
        return value, gradient

    def done(self, value: float, gradient: Tensor) -> bool:
        """Whether the bound on the gap is within tolerance; the bias counts with curvature one."""
        bound = float((gradient[:-1] ** 2).sum()) / (2 * self.l2) + float((gradient[-1] ** 2).sum())
        return bound <= TOLERANCE * abs(value)

    def preconditioner(self) -> Callable[[Tensor], Tensor]:
        """Return the inverse of ½ XᵀwX + λI, which bounds the Hessian of softmax (Böhning, 1992)."""
        matrix = 0.5 * self.x.T @ (self.weights[:, None] * self.x)
        ridge = torch.full_like(matrix[0], self.l2)
        ridge[-1] = 0.0
        factor = torch.linalg.cholesky(matrix + torch.diag(ridge + 1e-10 * matrix.diagonal().mean()))
        return lambda gradient: torch.cholesky_solve(gradient, factor)

    def _losses(self, logits: Tensor) -> Tensor:
        """Call the author's loss and check what it returns."""
        t = self.train
        batch = Batch(
            logits, t.targets, self.weights, t.x, t.class_counts, t.real_class_counts, t.prior, t.synthetic, progress=1.0
        )
        losses = self.loss(batch)
        if losses.shape != logits.shape[:1]:
            raise ValueError(f"the loss must return per-row losses [{len(logits)}], not {list(losses.shape)}")
        return losses


def _present(train: Train) -> Tensor:
    """Return which classes have rows, bool ``[C]``."""
    if train.targets.ndim == 2:
        return train.targets.sum(dim=0) > 0
    return torch.bincount(train.targets, minlength=train.classes) > 0
