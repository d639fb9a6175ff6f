"""Generalised re-weighting: rows weighted by a power of the class count (Zhang et al., CVPR 2021, arXiv 2103.16370)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt
from torch import Tensor

import ltbench
from ltbench_classifiers.moments import by_class
from ltbench_classifiers.softmax import Softmax, without_correction


@dataclass(frozen=True, kw_only=True)
class Reweighted:
    """Cross entropy with rows of class c weighted by n_c^−ρ; at ρ = 1 as with N/(C·n_c), at 0 plain softmax.

    The objective divides by the sum of the weights, so their mean does not matter.
    """

    l2: Annotated[float, Gt(0)] = 1e-3
    rho: Annotated[float, Ge(0)] = 1.0
    solver: ltbench.SolverName = "exact"

    def reduces_to(self, train: ltbench.Train) -> Softmax | None:
        """Return plain softmax for equal counts, or ρ = 0."""
        return without_correction(self.l2, self.solver, train, self.rho)

    def row_weights(self, train: ltbench.Train) -> Tensor:
        """Return the weights of the rows ``[N]``."""
        return by_class(train.class_counts.clamp_min(1e-12) ** -self.rho * (train.class_counts > 0), train)

    def loss(self, batch: ltbench.Batch) -> tuple[Tensor, Tensor]:
        """−log softmax(z)_y."""
        return ltbench.softmax_loss(batch.logits, batch.targets)
