"""Balanced softmax (Ren et al., NeurIPS 2020, arXiv 2007.10740)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt
from torch import Tensor

import ltbench
from ltbench_classifiers.softmax import Softmax, without_correction


@dataclass(frozen=True, kw_only=True)
class BalancedSoftmax:
    """Cross entropy of z + log n: at test time, z alone is right for balanced classes."""

    l2: Annotated[float, Gt(0)] = 1e-3
    solver: ltbench.SolverName = "exact"

    def reduces_to(self, train: ltbench.Train) -> Softmax | None:
        """Return plain softmax for equal counts."""
        return without_correction(self.l2, self.solver, train)

    def loss(self, batch: ltbench.Batch) -> tuple[Tensor, Tensor]:
        """−log softmax(z + log n)_y; log n counts from the largest class, so equal counts leave z as it is."""
        return ltbench.softmax_loss(batch.logits + (batch.log_prior - batch.log_prior.max()), batch.targets)
