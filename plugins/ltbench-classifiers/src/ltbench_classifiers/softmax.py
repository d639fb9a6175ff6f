"""Plain softmax: multinomial logistic regression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt
from torch import Tensor

import ltbench


@dataclass(frozen=True, kw_only=True)
class Softmax:
    """Cross entropy, mean over rows, plus ``l2``/2 · ‖W‖².

    By the solver ``crt`` it is classifier re-training (Kang et al., ICLR 2020, arXiv 1910.09217), whose features are
    frozen as they are here: a new linear head, by batches in which classes take turns.
    """

    l2: Annotated[float, Gt(0)] = 1e-3
    solver: ltbench.SolverName = "exact"

    def loss(self, batch: ltbench.Batch) -> tuple[Tensor, Tensor]:
        """−log softmax(z)_y."""
        return ltbench.softmax_loss(batch.logits, batch.targets)
