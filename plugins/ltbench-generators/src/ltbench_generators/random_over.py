"""Random oversampling: real rows again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import ltbench
from ltbench_generators.draws import labels_of, members


@dataclass(frozen=True, kw_only=True)
class RandomOver:
    """Repeat rows of a class in random order, round after round, so that counts differ by one at most."""

    def fit(self, train: ltbench.Train) -> Sampler:
        """Remember the rows."""
        return Sampler(train)


@dataclass(frozen=True)
class Sampler:
    """Repeats rows."""

    train: ltbench.Train

    def __call__(self, budget: Tensor) -> ltbench.Rows:
        """Return copies of real rows."""
        chosen = [self._parents(c, n) for c, n in enumerate(budget.tolist()) if n]
        parents = torch.cat([*chosen, torch.empty(0, dtype=torch.long, device=budget.device)])
        return ltbench.Rows(self.train.x[parents], labels_of(budget), parents=parents[:, None], flops=0)

    def _parents(self, c: int, count: int) -> Tensor:
        """Return positions of one class's rows, dealt round after round."""
        rows = members(self.train.targets, c)
        order = rows[self.train.stream.child("order").order(self.train.row_ids[rows])]
        return order.repeat(-(-count // len(order)))[:count]
