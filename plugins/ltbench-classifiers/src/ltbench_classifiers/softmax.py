"""Plain softmax: multinomial logistic regression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt
from torch import Tensor

import ltbench


@dataclass(frozen=True, kw_only=True)
class Softmax:
    """Cross entropy, mean over rows, plus ``l2``/2 · ‖W‖²."""

    l2: Annotated[float, Gt(0)] = 1e-3

    def loss(self, batch: ltbench.Batch) -> tuple[Tensor, Tensor]:
        """−log softmax(z)_y."""
        return ltbench.softmax_loss(batch.logits, batch.targets)
