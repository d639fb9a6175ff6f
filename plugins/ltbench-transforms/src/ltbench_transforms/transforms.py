"""Transforms of feature rows: fitted on training rows only, in float64, applied row by row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

Transformed = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Features as the backbone gives them."""

    def fit(self, x: Tensor) -> Transformed:
        """Return the identity."""
        return lambda rows: rows


@dataclass(frozen=True, kw_only=True)
class UnitNorm:
    """x / ‖x‖₂; a row of zeros stays one."""

    def fit(self, x: Tensor) -> Transformed:
        """Return the scaling; nothing is learned from ``x [N, D]``."""
        return lambda rows: torch.nn.functional.normalize(rows.double(), dim=1).to(rows.dtype)


@dataclass(frozen=True, kw_only=True)
class Standardize:
    """(x − mean) / standard deviation of each feature, divisor N; a constant feature is only centred."""

    def fit(self, x: Tensor) -> Transformed:
        """Learn mean and deviation ``[D]`` from ``x [N, D]``."""
        mean = x.double().mean(dim=0)
        deviation = x.double().std(dim=0, correction=0)
        scale = torch.where(deviation > 1e-12 * (1 + mean.abs()), deviation, 1.0)
        return lambda rows: ((rows.double() - mean) / scale).to(rows.dtype)


@dataclass(frozen=True, kw_only=True)
class PrincipalComponents:
    """The ``dim`` leading principal components, at most the rank of the training rows.

    Each axis points where its largest loading is positive. ``whiten`` scales components to variance one.
    """

    dim: Annotated[int, Ge(1)] = 32
    whiten: bool = False

    def fit(self, x: Tensor) -> Transformed:
        """Learn mean ``[D]`` and axes ``[D, dim]`` from ``x [N, D]``."""
        rows = x.double()
        mean = rows.mean(dim=0)
        _, singular, axes = torch.linalg.svd(rows - mean, full_matrices=False)
        rank = int((singular > singular.max().clamp_min(1e-300) * max(x.shape) * 1e-15).sum())
        kept = max(1, min(self.dim, rank))
        basis = axes[:kept].T
        largest = basis.gather(0, basis.abs().argmax(dim=0, keepdim=True))
        basis = basis * largest.sign()
        if self.whiten:
            basis = basis * (len(x) ** 0.5 / singular[:kept] if rank else 0.0)
        return lambda new: ((new.double() - mean) @ basis).to(new.dtype)
