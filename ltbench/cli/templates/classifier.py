"""A head given by its loss: ltbench trains weight and bias to the optimum of the mean loss + l2/2 · ‖W‖²."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

import ltbench


@dataclass(frozen=True, kw_only=True)
class Example:
    """Softmax with a margin that is the larger, the rarer the class: ``margin`` · n_c^-1/4 / max_j n_j^-1/4."""

    # Fields are hyper-parameters: users write name[margin=2]. Types and bounds are checked before anything runs.
    margin: Annotated[float, Ge(0)] = 1.0
    l2: Annotated[float, Gt(0)] = 0.01

    def loss(self, batch: ltbench.Batch) -> Tensor:
        """Return the loss of each row ``[N]``, not yet weighted, from ``batch.logits [N, C]``."""
        targets = batch.targets  # labels [N], or soft labels [N, C] from generators that mix classes
        shares = targets if targets.ndim == 2 else one_hot(targets, batch.logits.shape[1]).to(batch.logits.dtype)
        rarity = batch.class_counts.clamp_min(1) ** -0.25  # a class may have no row
        return cross_entropy(batch.logits - shares * (self.margin * rarity / rarity.max()), shares, reduction="none")

    # Instead of a loss, a head may have fit(self, train: ltbench.Train), which returns a scorer: a function of rows
    # [N, D] that gives ltbench.Scores. Then it trains whatever it likes, and needs no l2.
