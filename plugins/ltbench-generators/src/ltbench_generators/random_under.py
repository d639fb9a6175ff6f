"""Random undersampling: fewer real rows of the larger classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import Tensor

import ltbench


@dataclass(frozen=True, kw_only=True)
class RandomUnder:
    """Keep at most ``to`` rows of each class, at random.

    ``to`` is ``min``, ``median`` or ``mean`` of the counts of classes with rows, rounded down, or a number. No rows are
    added, so a budget means nothing here.
    """

    to: Literal["min", "median", "mean"] | Annotated[int, Ge(1)] = "min"

    def fit(self, train: ltbench.Train) -> Sampler:
        """Remember the rows."""
        return Sampler(self, train)


@dataclass(frozen=True)
class Sampler:
    """Leaves rows out."""

    adds_rows: ClassVar[bool] = False

    under: RandomUnder
    train: ltbench.Train

    def __call__(self, budget: Tensor) -> ltbench.Rows:
        """Return no rows, and which real ones stay, bool ``[N]``."""
        targets, kept = self.train.targets, self._most()
        mixed = self.train.stream.child("order").order(self.train.row_ids)
        grouped = mixed[targets[mixed].argsort(stable=True)]
        place = torch.arange(len(targets), device=targets.device) - torch.searchsorted(targets[grouped], targets[grouped])
        keep = torch.empty(len(targets), dtype=torch.bool, device=targets.device).scatter_(0, grouped, place < kept)
        notes = {"rows_kept_per_class_at_most": kept, "rows_left_out": int((~keep).sum())}
        return ltbench.Rows(self.train.x[:0], targets[:0], keep=keep, notes=notes, flops=0)

    def _most(self) -> int:
        """Return how many rows a class keeps at most."""
        if isinstance(self.under.to, int):
            return self.under.to
        counts = sorted(int(n) for n in self.train.real_class_counts.tolist() if n)
        middle = (counts[(len(counts) - 1) // 2] + counts[len(counts) // 2]) // 2
        return {"min": counts[0], "median": middle, "mean": sum(counts) // len(counts)}[self.under.to]
