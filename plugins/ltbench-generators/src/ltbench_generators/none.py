"""No synthetic rows: the baseline of every generator."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import ltbench


@dataclass(frozen=True, kw_only=True)
class NoRows:
    """Real rows only."""

    def fit(self, train: ltbench.Train) -> Sampler:
        """Return a sampler that draws nothing."""
        return Sampler(train)


@dataclass(frozen=True)
class Sampler:
    """Draws nothing."""

    train: ltbench.Train

    def __call__(self, budget: Tensor) -> ltbench.Rows:
        """Return no rows, whatever the budget."""
        return ltbench.Rows(self.train.x[:0], self.train.targets[:0], flops=0)
