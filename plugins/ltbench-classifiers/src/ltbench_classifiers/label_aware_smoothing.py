"""Label-aware smoothing (MiSLAS: Zhong et al., CVPR 2021, arXiv 2104.00466): frequent classes are smoothed more."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor

import ltbench

Share = Annotated[float, Ge(0), Lt(1)]


@dataclass(frozen=True, kw_only=True)
class LabelAwareSmoothing:
    """Cross entropy with (1 − ε_y)·e_y + ε_y/C, C the classes that have rows; ε runs from ``tail`` to ``head``.

    With s = (n_c − n_min)/(n_max − n_min), ε_c − tail is (head − tail) times sin(πs/2) (``concave``), s (``linear``) or
    1 − cos(πs/2) (``convex``). Where all counts are equal, ε is ``head``.
    """

    l2: Annotated[float, Gt(0)] = 1e-3
    head: Share = 0.4
    tail: Share = 0.1
    shape: Literal["concave", "linear", "convex"] = "concave"
    solver: ltbench.SolverName = "exact"

    def smoothing(self, counts: Tensor) -> Tensor:
        """Return ε of each class ``[C]``, from counts ``[C]``."""
        present = counts[counts > 0]
        least, most = present.min(), present.max()
        place = ((counts - least) / (most - least)).clamp(0, 1) if bool(most > least) else torch.ones_like(counts)
        turn = place * (math.pi / 2)
        share = {"concave": turn.sin(), "linear": place, "convex": 1 - turn.cos()}[self.shape]
        return self.tail + (self.head - self.tail) * share

    def loss(self, batch: ltbench.Batch) -> tuple[Tensor, Tensor]:
        """−Σ_c y′_c log p_c and p − y′: plain cross entropy, moved by ε from the label towards all that have rows."""
        losses, slopes = ltbench.softmax_loss(batch.logits, batch.targets)
        smoothing, present = self.smoothing(batch.class_counts), (batch.class_counts > 0).to(losses.dtype)
        targets = batch.targets
        if targets.ndim == 1:
            own, rows = smoothing[targets], targets[:, None]
            moved = batch.logits.gather(1, rows)[:, 0] * own
            slopes = slopes.scatter(1, rows, slopes.gather(1, rows) + own[:, None])
        else:
            own = targets @ smoothing
            moved = (targets * smoothing * batch.logits).sum(dim=1)
            slopes = slopes + targets * smoothing
        uniform = own[:, None] * (present / present.sum())
        return losses + moved - (uniform * batch.logits).sum(dim=1), slopes - uniform
