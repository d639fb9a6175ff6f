"""A fitted linear head."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from torch import Tensor

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

    def with_bias(self, bias: Tensor) -> LinearScorer:
        """Return a copy with another bias: a post-hoc correction."""
        return dataclasses.replace(self, bias=bias)
