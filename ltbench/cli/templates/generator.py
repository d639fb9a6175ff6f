"""A generator of synthetic feature rows: fitted on real training rows, then asked for a budget of rows per class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

import ltbench


@dataclass(frozen=True, kw_only=True)
class Example:
    """Real rows of a class again, with normal noise of standard deviation ``size``."""

    # Fields are hyper-parameters: users write name[size=0.2]. Types and bounds are checked before anything runs.
    size: Annotated[float, Ge(0)] = 0.1

    def fit(self, train: ltbench.Train) -> Sampler:
        """Learn from the real training rows ``train.x [N, D]`` and their labels ``train.targets [N]``."""
        return Sampler(self.size, train)


@dataclass(frozen=True)
class Sampler:
    """Draws rows."""

    size: float
    train: ltbench.Train

    def __call__(self, budget: Tensor) -> ltbench.Rows:
        """Return ``budget[c]`` rows of each class c; a class without rows has a budget of 0."""
        labels = torch.arange(len(budget), device=budget.device).repeat_interleave(budget)
        ids = torch.arange(len(labels), device=budget.device)  # a draw belongs to an id: the same id gives the same numbers
        counts = self.train.real_class_counts.long()
        first = counts.cumsum(0) - counts  # where each class starts, with rows ordered by class
        which = self.train.stream.child("row").integers(ids, 1, counts[labels, None])[:, 0]
        parents = self.train.targets.argsort(stable=True)[first[labels] + which]
        noise = self.train.stream.child("noise").normal(ids, self.train.x.shape[1])
        x = self.train.x[parents] + (self.size * noise).to(self.train.x.dtype)
        return ltbench.Rows(x, labels, parents=parents[:, None])
