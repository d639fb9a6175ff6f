"""Linear discriminant analysis with a shrunk covariance, as scikit-learn's ``lsqr`` solver computes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Le

import ltbench
from ltbench_classifiers.moments import within_classes


@dataclass(frozen=True, kw_only=True)
class LinearDiscriminant:
    """Logits x·Σ⁻¹μ_c − ½ μ_cᵀΣ⁻¹μ_c + log π_c, Σ = (1−s)·S + s·tr(S)/D·I, S the pooled within-class covariance.

    Directions in which no class varies are left out (pseudo-inverse). R. A. Fisher, 1936.
    """

    shrinkage: Annotated[float, Ge(0), Le(1)] = 0.0

    def fit(self, train: ltbench.Train) -> ltbench.LinearScorer:
        """Solve for weight and bias, in the axes of the scatter, which all shrinkages share."""
        within = within_classes(train)
        spread = within.scatter / within.total
        width, least = len(spread), len(spread) * torch.finfo(spread.dtype).eps
        shrunk = (1 - self.shrinkage) * spread + self.shrinkage * spread.mean()
        inverse = torch.where(shrunk.abs() > least * shrunk.abs().max(), 1 / shrunk, 0.0)
        weight = within.basis @ (inverse[:, None] * (within.basis.T @ within.means.T))
        bias = -0.5 * (within.means.T * weight).sum(dim=0) + train.log_prior
        flops = 2 * len(train.x) * width * (width + train.classes) + 9 * width**3
        return ltbench.LinearScorer(weight, bias + within.absent, training_flops=flops)
