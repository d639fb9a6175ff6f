"""Fitted heads that are linear in the rows, or in their direction."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ltbench.types import ScoreKind, Scores

ABSENT_LOGIT = -(2.0**100)
"""Logit of a class without training rows: never predicted, probability 0, yet finite."""


@dataclass(frozen=True)
class LinearScorer:
    """``x @ weight + bias`` with ``weight [D, C]`` and ``bias [C]``, and what fitting them cost.

    ``training_flops`` counts 2 per multiply-add; ``converged`` is False where the solver ran out of steps.
    """

    weight: Tensor
    bias: Tensor
    kind: ScoreKind = "logits"
    training_flops: int = 0
    converged: bool = True

    def __call__(self, x: Tensor) -> Scores:
        """Score rows ``[N, D]``."""
        return Scores(x.to(self.weight.dtype) @ self.weight + self.bias, self.kind)

    @property
    def parameters(self) -> int:
        """Number of trained numbers."""
        return self.weight.numel() + self.bias.numel()

    @property
    def flops_per_row(self) -> int:
        """Cost of scoring one row."""
        return 2 * self.weight.numel()

    @property
    def absent(self) -> Tensor:
        """Which classes had no rows, bool ``[C]``."""
        return self.bias <= ABSENT_LOGIT / 2

    def with_bias(self, bias: Tensor) -> LinearScorer:
        """Return a copy with another bias: a post-hoc correction."""
        return dataclasses.replace(self, bias=bias)

    def scaled(self, factors: Tensor) -> LinearScorer:
        """Return a copy whose logits are multiplied by positive factors ``[C]``; absent classes stay absent."""
        factors = factors.to(self.weight)
        return dataclasses.replace(
            self, weight=self.weight * factors, bias=torch.where(self.absent, ABSENT_LOGIT, self.bias * factors)
        )


@dataclass(frozen=True)
class CosineScorer:
    """``scale · cos(x, w_c)``: ``weight [D, C]`` of unit columns, ``offset [C]`` far below zero for absent classes."""

    weight: Tensor
    offset: Tensor
    scale: float = 1.0
    training_flops: int = 0
    converged: bool = True

    def __call__(self, x: Tensor) -> Scores:
        """Score rows ``[N, D]``."""
        rows = normalize(x.to(self.weight.dtype), dim=1)
        return Scores(self.scale * (rows @ self.weight) + self.offset, "logits")

    @property
    def parameters(self) -> int:
        """Number of trained numbers."""
        return self.weight.numel()

    @property
    def flops_per_row(self) -> int:
        """Cost of scoring one row: its length, and a product."""
        return 2 * self.weight.numel() + 3 * len(self.weight)

    def scaled(self, scale: float) -> CosineScorer:
        """Return a copy with another scale."""
        return dataclasses.replace(self, scale=scale)
