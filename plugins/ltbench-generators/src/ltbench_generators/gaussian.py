"""A normal distribution per class, its covariance shrunk towards a multiple of the identity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor

import ltbench
from ltbench_generators.draws import draw_ids, labels_of, members


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """N(μ_c, (1−s)·S_c + s·tr(S_c)/D·I), S_c the class's covariance with divisor n_c.

    ``shrinkage`` is s, or ``ledoit-wolf`` for the s that minimises the expected squared error (Ledoit & Wolf, 2004,
    doi:10.1016/S0047-259X(03)00096-4). A class of one row takes the pooled within-class covariance; noted.
    """

    shrinkage: Literal["ledoit-wolf"] | Annotated[float, Ge(0), Le(1)] = "ledoit-wolf"

    def fit(self, train: ltbench.Train) -> Sampler:
        """Remember the rows; a class's moments are computed when it is asked for."""
        return Sampler(self, train)

    def covariance(self, centred: Tensor) -> Tensor:
        """Return the shrunk covariance ``[D, D]`` of centred rows ``[n, D]``."""
        empirical = centred.T @ centred / len(centred)
        s = ledoit_wolf_shrinkage(centred, empirical) if isinstance(self.shrinkage, str) else self.shrinkage
        level = empirical.diagonal().mean()
        return (1 - s) * empirical + s * level * torch.eye(len(empirical), dtype=centred.dtype, device=centred.device)


@dataclass(frozen=True)
class Sampler:
    """Draws from the class's normal distribution."""

    gaussian: Gaussian
    train: ltbench.Train

    def __call__(self, budget: Tensor) -> ltbench.Rows:
        """Return μ_c + L_c·ε."""
        labels = labels_of(budget)
        noise = self.train.stream.child("noise").normal(draw_ids(labels), self.train.x.shape[1])
        x = torch.empty_like(noise)
        lone = []
        for c in [c for c, n in enumerate(budget.tolist()) if n]:
            rows = self.train.x[members(self.train.targets, c)].double()
            centred = rows - rows.mean(dim=0) if len(rows) > 1 else self._pooled()
            lone += [c] if len(rows) == 1 else []
            x[labels == c] = rows.mean(dim=0) + noise[labels == c] @ _root(self.gaussian.covariance(centred)).T
        width = noise.shape[1]
        return ltbench.Rows(
            x=x.to(self.train.x.dtype),
            targets=labels,
            notes={"pooled_covariance_classes": lone} if lone else {},
            flops=2 * width**2 * (len(self.train.x) + len(labels)) + len(budget) * width**3 // 3,
        )

    def _pooled(self) -> Tensor:
        """Return every row minus its class's mean, of classes with more than one row; all rows if there are none."""
        x, targets = self.train.x.double(), self.train.targets
        rows = [x[members(targets, c)] for c in range(self.train.classes)]
        several = [r - r.mean(dim=0) for r in rows if len(r) > 1]
        return torch.cat(several) if several else x - x.mean(dim=0)


def ledoit_wolf_shrinkage(centred: Tensor, empirical: Tensor) -> float:
    """Return Ledoit & Wolf's share of the identity, in [0, 1], for centred rows ``[n, D]``."""
    n, width = centred.shape
    level = empirical.diagonal().mean()
    distance = ((empirical**2).sum() - width * level**2) / width  # ‖S − level·I‖² / D
    spread = (((centred**2).sum(dim=1) ** 2).sum() / n - (empirical**2).sum()) / (width * n)  # error of S itself
    return float((spread.clamp_min(0) / distance).clamp_max(1)) if float(distance) > 0 else 1.0


def _root(covariance: Tensor) -> Tensor:
    """Return L with L·Lᵀ = Σ; a singular Σ gets 1e-9 of its mean variance added."""
    ridge = 1e-9 * covariance.diagonal().mean() + 1e-30
    root: Tensor = torch.linalg.cholesky(
        covariance + ridge * torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    )
    return root
