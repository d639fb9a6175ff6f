"""Label-distribution-aware margins, with deferred re-weighting (Cao et al., NeurIPS 2019, arXiv 1906.07413)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor

import ltbench
from ltbench_classifiers.moments import inverse_effective_number

DEFERRED = 0.8
"""The share of training after which rows are weighted."""


@dataclass(frozen=True, kw_only=True)
class Ldam:
    """Cross entropy of s·(cos(x, w_c) − Δ_c·[c = y]), Δ_c = m·n_c^−¼ / max_j n_j^−¼.

    ``drw``: in the last fifth of training, rows are weighted by the inverse effective number of their class (β =
    0.9999), mean one over all rows.
    """

    l2: Annotated[float, Gt(0)] = 2e-4
    margin: Annotated[float, Ge(0)] = 0.5
    scale: Annotated[float, Gt(0)] = 30.0
    drw: bool = False
    beta: Annotated[float, Ge(0), Lt(1)] = 0.9999
    solver: Literal["sgd", "adamw", "crt", "lift"] = "sgd"

    layer: ClassVar[str] = "cosine"

    def margins(self, counts: Tensor) -> Tensor:
        """Return Δ_c of each class ``[C]``: the rarest with rows has the whole margin, a class without rows none."""
        roots = torch.where(counts > 0, counts, torch.inf) ** -0.25
        return self.margin / roots.max() * roots

    def loss(self, batch: ltbench.Batch) -> tuple[Tensor, Tensor]:
        """−log softmax(s·(z − Δ·y))_y, with its weight in the deferred part."""
        targets, margins = batch.targets, self.scale * self.margins(batch.class_counts)
        shifted = self.scale * batch.logits
        if targets.ndim == 2:
            shifted -= targets * margins
        else:
            own = targets[:, None]
            shifted.scatter_(1, own, self.scale * batch.logits.gather(1, own) - margins[own])
        losses, slopes = ltbench.softmax_loss(shifted, targets)
        slopes.mul_(self.scale)
        if self.drw and batch.progress >= DEFERRED:
            own = inverse_effective_number(batch.class_counts, self.beta)
            own = own / (own * batch.prior).sum()
            each = targets @ own if targets.ndim == 2 else own[targets]
            return losses * each, slopes * each[:, None]
        return losses, slopes

    def post_hoc(self, scorer: ltbench.CosineScorer, train: ltbench.Train) -> ltbench.CosineScorer:
        """Give the scores their scale."""
        return scorer.scaled(self.scale)
