"""Class-balanced loss by the effective number of samples (Cui et al., CVPR 2019, arXiv 1901.05555)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Lt
from torch import Tensor

import ltbench
from ltbench_classifiers.moments import by_class, inverse_effective_number
from ltbench_classifiers.softmax import Softmax, without_correction


@dataclass(frozen=True, kw_only=True)
class ClassBalanced:
    """Cross entropy with rows of class c weighted by (1 − β) / (1 − β^n_c); β = 0 weights all alike."""

    l2: Annotated[float, Gt(0)] = 1e-3
    beta: Annotated[float, Ge(0), Lt(1)] = 0.9999
    solver: ltbench.SolverName = "exact"

    def reduces_to(self, train: ltbench.Train) -> Softmax | None:
        """Return plain softmax for equal counts, or β = 0."""
        return without_correction(self.l2, self.solver, train, self.beta)

    def row_weights(self, train: ltbench.Train) -> Tensor:
        """Return the weights of the rows ``[N]``."""
        return by_class(inverse_effective_number(train.class_counts, self.beta), train)

    def loss(self, batch: ltbench.Batch) -> tuple[Tensor, Tensor]:
        """−log softmax(z)_y."""
        return ltbench.softmax_loss(batch.logits, batch.targets)
