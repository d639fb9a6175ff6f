"""Principal axes of training rows, in which linear heads are fitted: found once for all heads of the same rows.

Knows no loss. ‖W‖ is the same in them, and the covariance is diagonal. Fewer rows than features span fewer axes; a head
that ``l2`` holds down has no part outside of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from ltbench.types import Train

COVARIANCE_ROWS = 8
"""So many rows for each feature are enough for the covariance: every second row, every third … is left where they are more."""

VARIANCE_ROWS = 2**12
"""Rows that are squared together in float64."""

FINITE_ROWS = 2**16
"""Rows looked at together for NaN: those of a file are never in memory all at once."""


@dataclass(frozen=True)
class Axes:
    """x = mean + basis · x′: ``mean [D]`` and ``basis [D, R]``, float64, of orthonormal columns, R = min(N, D)."""

    mean: Tensor
    basis: Tensor

    def turned(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Return a head's ``weight [D, C]`` and ``bias [C]`` in these axes, as ``[C, R]`` and ``[C]``."""
        return weight.double().T @ self.basis, bias.double() + self.mean @ weight.double()

    def restored(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``weight [C, R]`` and ``bias [C]`` of these axes for rows as they were: ``[D, C]`` and ``[C]``."""
        back = self.basis @ weight.double().T
        return back, bias.double() - self.mean @ back


def width_of(train: Train) -> int:
    """Return the number of axes R."""
    return min(train.x.shape)


def axes_of(train: Train) -> Axes:
    """Return the principal axes of the rows under their own weights; class weights of a head do not enter."""
    return cast("Axes", train.shared("ltbench.heads.axes", lambda: _axes(train)))


def turned_rows(train: Train, dtype: torch.dtype) -> Tensor:
    """Return the rows in their principal axes, ``[N, R]``."""

    def turn() -> Tensor:
        axes = axes_of(train)
        return _centred(train.x.to(torch.promote_types(train.x.dtype, dtype)), axes.mean).to(dtype) @ axes.basis.to(dtype)

    return cast("Tensor", train.shared(f"ltbench.heads.rows.{dtype}", turn))


def variance_of(train: Train) -> Tensor:
    """Return the variance of all rows in each axis ``[R]``, float64; that of some rows could miss what is rare."""

    def add() -> Tensor:
        x, weights = turned_rows(train, torch.float32), checked_weights(train.weights)
        parts = zip(torch.split(x, VARIANCE_ROWS), torch.split(weights, VARIANCE_ROWS), strict=True)
        found = torch.zeros(x.shape[1], dtype=torch.float64, device=x.device)
        for part, weight in parts:
            found += weight @ part.double().square_()
        return found

    return cast("Tensor", train.shared("ltbench.heads.variance", add))


def _axes(train: Train) -> Axes:
    """Diagonalise the covariance, of some rows where they are many, in float32: axes need not be exact, only orthonormal."""
    require_finite(train)
    weights = checked_weights(train.weights)
    wide = torch.promote_types(train.x.dtype, torch.float32)
    mean = (weights.to(wide) @ train.x.to(wide)).float().double()  # a float32 number: rows then lose nothing by being centred
    step = _step(train)
    x = _centred(train.x[::step].to(wide), mean)
    x = x / x.abs().max().clamp_min(1e-30)  # squares of very large or small numbers leave the range of float32
    span = torch.linalg.qr(x.double().T).Q if len(x) < x.shape[1] else None
    x = (x if span is None else x.double() @ span).float()
    covariance = x.T @ (weights[::step].float()[:, None] * x)
    basis = torch.linalg.eigh(covariance.double()).eigenvectors
    return Axes(mean, basis if span is None else span @ basis)


def _step(train: Train) -> int:
    """Return the distance from one row that makes the covariance to the next."""
    rows, columns = train.x.shape
    return max(1, rows // (COVARIANCE_ROWS * columns))


def axes_flops(train: Train) -> int:
    """Return about what finding the axes and turning the rows costs, 2 for a multiply-add."""
    (rows, columns), width = train.x.shape, width_of(train)
    span = 8 * columns * width**2 if width < columns else 0  # an orthonormal basis, the rows in it, and back
    return span + 2 * len(range(0, rows, _step(train))) * width**2 + 9 * width**3 + 2 * rows * columns * width


def require_finite(train: Train) -> None:
    """Raise ValueError for rows that hold NaN or infinity."""

    def count() -> int:
        return sum([_not_finite(part) for part in torch.split(train.x, FINITE_ROWS)])

    bad = train.shared("ltbench.heads.finite", count)
    if bad:
        raise ValueError(f"features must be finite, {bad} of {len(train.x)} training rows hold NaN or infinity")


def _not_finite(x: Tensor) -> int:
    """Return how many rows hold NaN or infinity; where the sum of all is finite there are none, which is found sooner."""
    return 0 if bool(x.sum().isfinite()) else int((~x.isfinite()).any(dim=1).sum())


def checked_weights(weights: Tensor) -> Tensor:
    """Return weights of rows ``[N]`` with sum one, float64; raise ValueError if they cannot be weights."""
    weights = weights.double()
    if not (bool(weights.isfinite().all()) and bool((weights >= 0).all()) and float(weights.sum()) > 0):
        raise ValueError("row weights must be finite, not negative, and not all zero")
    return weights / weights.sum()


def _centred(x: Tensor, mean: Tensor) -> Tensor:
    """Return rows less the mean, in the precision of the rows."""
    return x - mean.to(x.dtype)
