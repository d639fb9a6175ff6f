"""Linear discriminant analysis with a shrunk covariance, as scikit-learn's ``lsqr`` solver computes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le

import ltbench
from ltbench_classifiers.moments import cost, moments_of


@dataclass(frozen=True, kw_only=True)
class LinearDiscriminant:
    """Logits x·Σ⁻¹μ_c − ½ μ_cᵀΣ⁻¹μ_c + log π_c, Σ = (1−s)·S + s·tr(S)/D·I, S the pooled within-class covariance.

    x and μ_c are less the mean of all rows. Directions in which no class varies are left out (pseudo-inverse). R. A. Fisher,
    1936.
    """

    shrinkage: Annotated[float, Ge(0), Le(1)] = 0.0

    def fit(self, train: ltbench.Train) -> ltbench.LinearScorer:
        """Solve for weight and bias."""
        moments = moments_of(train)
        within = moments.within
        level = self.shrinkage * within.trace / moments.weight / len(moments.mean)
        weight = within.solve((1 - self.shrinkage) / moments.weight, level, moments.means.T)
        bias = -0.5 * (moments.means.T * weight).sum(dim=0) - moments.mean @ weight + train.log_prior
        return ltbench.LinearScorer(weight, bias + moments.absent, training_flops=cost(train))
