"""What several heads compute of the training rows: weights by class, class means, the scatter of the rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import one_hot

import ltbench

ABSENT = -1e30
"""What is added to the scores of a class without rows."""

_CHUNK_NUMBERS = 2**24
"""Most float64 numbers that a chunk of rows or labels takes; at least 1,024 rows are."""

_SAFE = 1e-8
"""Smallest ridge, as a share of the matrix, at which Cholesky's rounding does not show."""


def by_class(weights: Tensor, train: ltbench.Train) -> Tensor:
    """Return the weight of each row ``[N]``, from those of the classes ``[C]``; a soft label mixes them."""
    return train.targets.double() @ weights.double() if train.targets.ndim == 2 else weights[train.targets]


def inverse_effective_number(counts: Tensor, beta: float) -> Tensor:
    """Return (1 − β) / (1 − β^n_c) for counts ``[C]``, of which those below one count as one."""
    return (1 - beta) / (1 - beta ** counts.clamp_min(1))


def require_finite(train: ltbench.Train) -> None:
    """Raise ValueError for rows that hold NaN or infinity."""
    bad = int((~train.x.isfinite()).any(dim=1).sum())
    if bad:
        raise ValueError(f"features must be finite, {bad} of {len(train.x)} training rows hold NaN or infinity")


def chunks(train: ltbench.Train) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield rows ``[B, D]`` and how much each counts for each class ``[B, C]``: weight times (soft) label; float64."""
    size = max(1024, _CHUNK_NUMBERS // max(train.x.shape[1], train.classes))
    for x, targets, weights in zip(*(torch.split(each, size) for each in (train.x, train.targets, train.weights)), strict=True):
        labels = targets if targets.ndim == 2 else one_hot(targets, train.classes)
        yield x.double(), labels.double() * weights.double()[:, None]


@dataclass(frozen=True)
class Scatter:
    """A matrix ``[D, D]`` without negative eigenvalues: ``matrix``, or span · matrix · spanᵀ, ``span [D, R]`` orthonormal.

    ``rounding`` is what its eigenvalues may be off by.
    """

    matrix: Tensor
    span: Tensor | None
    rounding: float

    @property
    def trace(self) -> float:
        """The sum of the eigenvalues."""
        return float(self.matrix.diagonal().sum())

    def solve(self, scale: float, level: float, right: Tensor) -> Tensor:
        """Return (scale · matrix + level · I)⁻¹ right ``[D, C]``; eigenvalues that are zero are left out.

        By Cholesky where ``level`` makes it safe, else by eigenvalues.
        """
        inner = right if self.span is None else self.span.T @ right
        matrix = scale * self.matrix
        matrix.diagonal().add_(level)
        if level > max(_SAFE * float(matrix.diagonal().max()), scale * self.rounding):
            solved = torch.cholesky_solve(inner, torch.linalg.cholesky(matrix))
        else:
            values, basis = torch.linalg.eigh(matrix)
            inverse = torch.where(values > scale * self.rounding, 1 / values, 0.0)
            solved = basis @ (inverse[:, None] * (basis.T @ inner))
        if self.span is None:
            return solved
        outside = (right - self.span @ inner) / level if level > scale * self.rounding else torch.zeros_like(right)
        return self.span @ solved + outside


@dataclass(frozen=True)
class Moments:
    """Weights of the classes ``count [C]``, the mean of all rows ``[D]``, class means ``[C, D]`` less it; all float64.

    ``total`` is the scatter Σ_i w_i (x_i − mean)(x_i − mean)ᵀ, ``within`` that about the class means. Where rows are fewer
    than features, both lie in the span of the rows.
    """

    count: Tensor
    mean: Tensor
    means: Tensor
    total: Scatter
    within: Scatter

    @property
    def weight(self) -> float:
        """What all rows weigh together."""
        return float(self.count.sum())

    @property
    def absent(self) -> Tensor:
        """What is added to the scores of each class ``[C]``, far below zero for one without rows."""
        return torch.where(self.count > 0, 0.0, ABSENT).double()


def moments_of(train: ltbench.Train) -> Moments:
    """Return the moments of the rows, computed once for all heads of the same rows; raise ValueError for NaN."""
    return cast("Moments", train.shared("ltbench_classifiers.moments", lambda: _moments(train)))


def cost(train: ltbench.Train) -> int:
    """Return the FLOPs of moments and one Cholesky solve."""
    width = train.x.shape[1]
    return 2 * len(train.x) * width * (width + train.classes) + width**3 // 3 + 2 * width**2 * train.classes


def _moments(train: ltbench.Train) -> Moments:
    """Centre, so that rounding stays small, then add up chunk by chunk."""
    require_finite(train)
    width = train.x.shape[1]
    count, sums = train.x.new_zeros(train.classes).double(), train.x.new_zeros(train.classes, width).double()
    for x, share in chunks(train):
        count += share.sum(dim=0)
        sums += share.T @ x
    mean = sums.sum(dim=0) / count.sum()
    means = torch.where(count[:, None] > 0, _centred(sums / count.clamp_min(1e-300)[:, None], mean), 0.0)
    span = torch.linalg.qr(_centred(train.x.double(), mean).T).Q if len(train.x) < width else None
    between = means if span is None else means @ span
    between = (between.T * count) @ between
    if train.targets.ndim == 1:  # classes may lie far apart: what is added loses nothing, what is subtracted might
        within = _scatter(train, span, mean + means)
        total = within + between
        return Moments(count, mean, means, _rounded(total, span, width), _rounded(within, span, width))
    whole = _rounded(_scatter(train, span, mean.expand_as(means)), span, width)
    within = whole.matrix - between
    if float(within.diagonal().sum()) <= whole.rounding:
        within = torch.zeros_like(within)
    return Moments(count, mean, means, whole, Scatter(within, span, whole.rounding))


def _scatter(train: ltbench.Train, span: Tensor | None, origins: Tensor) -> Tensor:
    """Return Σ_i w_i (x_i − o)(x_i − o)ᵀ, o the origin of the row's class, of ``[C, D]``; in a span ``[D, R]``, if given."""
    size = train.x.shape[1] if span is None else span.shape[1]
    scatter = origins.new_zeros(size, size)
    for x, share in chunks(train):
        rows = _centred(x, origins[share.argmax(dim=1)])
        rows = rows if span is None else rows @ span
        rows *= share.sum(dim=1, keepdim=True).sqrt()
        scatter.addmm_(rows.T, rows)
    return scatter


def _rounded(matrix: Tensor, span: Tensor | None, width: int) -> Scatter:
    """Return a scatter with what adding it up may have put wrong."""
    return Scatter(matrix, span, width * torch.finfo(matrix.dtype).eps * float(matrix.diagonal().sum()))


def _centred(x: Tensor, mean: Tensor) -> Tensor:
    """Return rows less their mean; differences that are the mean's own rounding are none."""
    centred = x - mean
    return centred.masked_fill_(centred.abs() <= 2**-32 * mean.abs(), 0.0)
