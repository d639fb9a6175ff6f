"""Plain softmax: multinomial logistic regression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt
from torch import Tensor
from torch.nn.functional import cross_entropy

import ltbench


@dataclass(frozen=True, kw_only=True)
class Softmax:
    """Cross entropy, mean over rows, plus ``l2``/2 · ‖W‖²."""

    l2: Annotated[float, Gt(0)] = 1e-3

    def loss(self, batch: ltbench.Batch) -> Tensor:
        """−log softmax(z)_y."""
        return cross_entropy(batch.logits, batch.targets, reduction="none")
