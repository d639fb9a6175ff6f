"""Focal loss (Lin et al., ICCV 2017, arXiv 1708.02002), its softmax form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn.functional import one_hot

import ltbench


@dataclass(frozen=True, kw_only=True)
class Focal:
    """(1 − p_y)^γ · (−log p_y): rows that are right already count less; γ = 0 is plain softmax.

    Not convex in the logits where p_y is small: the solver then stops at a stationary point, found from the prior.
    """

    l2: Annotated[float, Gt(0)] = 1e-3
    gamma: Annotated[float, Ge(0)] = 2.0
    solver: ltbench.SolverName = "exact"

    def loss(self, batch: ltbench.Batch) -> tuple[Tensor, Tensor]:
        """Σ_c y_c q_c^γ (−log p_c), q = 1 − p, and Σ_c y_c q_c^γ (1 + γ p_c r_c) (p − e_c), r = −log p / q.

        The slope is written with r, which stays near one where q vanishes.
        """
        logs = batch.logits.log_softmax(dim=1)
        targets = batch.targets
        labels = targets if targets.ndim == 2 else one_hot(targets, logs.shape[1])
        probability, left = logs.exp(), -torch.expm1(logs)
        ratio = torch.where(left > 1e-6, -logs.clamp_min(-1e30) / left.clamp_min(1e-6), 1.0)
        weight = labels.to(logs.dtype) * left**self.gamma
        losses = -(weight * logs).sum(dim=1)
        factor = weight * (1 + self.gamma * probability * ratio)
        return losses, probability * factor.sum(dim=1, keepdim=True) - factor
