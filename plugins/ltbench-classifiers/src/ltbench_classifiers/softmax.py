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


def without_correction(l2: float, solver: ltbench.SolverName, train: ltbench.Train, strength: float = 1.0) -> Softmax | None:
    """Return plain softmax where correcting by class counts changes nothing: at strength 0, or where all count alike."""
    counts = train.class_counts
    return Softmax(l2=l2, solver=solver) if strength == 0 or bool((counts == counts[0]).all()) else None
