"""Linear discriminant analysis with a shrunk covariance, as scikit-learn's ``lsqr`` solver computes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Le

import ltbench
from ltbench_classifiers.moments import class_means, memberships


@dataclass(frozen=True, kw_only=True)
class LinearDiscriminant:
    """Logits x·Σ⁻¹μ_c − ½ μ_cᵀΣ⁻¹μ_c + log π_c, Σ = (1−s)·S + s·tr(S)/D·I, S the pooled within-class covariance.

    Directions in which no class varies are left out (pseudo-inverse). R. A. Fisher, 1936.
    """

    shrinkage: Annotated[float, Ge(0), Le(1)] = 0.0

    def fit(self, train: ltbench.Train) -> ltbench.LinearScorer:
        """Solve for weight and bias."""
        share = memberships(train)
        origin = (share.sum(dim=1) @ train.x.double()) / share.sum()
        x = train.x.double() - origin
        means = class_means(x, share)
        within = (x.T * share.sum(dim=1)) @ x - (means.T * share.sum(dim=0)) @ means
        covariance = within / share.sum()
        width = x.shape[1]
        level = covariance.diagonal().mean()
        shrunk = (1 - self.shrinkage) * covariance + self.shrinkage * level * torch.eye(width, dtype=x.dtype, device=x.device)
        weight = torch.linalg.pinv(shrunk, hermitian=True) @ (means + origin).T
        bias = -0.5 * ((means + origin).T * weight).sum(dim=0) + train.log_prior
        absent = torch.where(share.sum(dim=0) > 0, 0.0, -1e30).double()
        return ltbench.LinearScorer(
            weight, bias + absent, training_flops=2 * len(x) * width * (width + train.classes) + 9 * width**3
        )
