"""Cosine head: rows and weights of unit length (Gidaris & Komodakis, CVPR 2018, arXiv 1804.09458)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Gt
from torch import Tensor

import ltbench


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Cross entropy of s·cos(x, w_c). Not convex, so trained by a recipe; ``l2`` only steers the rate of turning."""

    l2: Annotated[float, Gt(0)] = 5e-4
    scale: Annotated[float, Gt(0)] = 25.0
    solver: Literal["sgd", "adamw", "crt", "lift"] = "sgd"

    layer: ClassVar[str] = "cosine"

    def loss(self, batch: ltbench.Batch) -> tuple[Tensor, Tensor]:
        """−log softmax(s·z)_y."""
        losses, slopes = ltbench.softmax_loss(self.scale * batch.logits, batch.targets)
        return losses, slopes.mul_(self.scale)

    def post_hoc(self, scorer: ltbench.CosineScorer, train: ltbench.Train) -> ltbench.CosineScorer:
        """Give the scores their scale."""
        return scorer.scaled(self.scale)
