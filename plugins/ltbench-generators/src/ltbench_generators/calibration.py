"""Distributions calibrated by those of near classes: what distribution-calibration and tailcalib share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

import ltbench
from ltbench_generators.donors import Donors
from ltbench_generators.draws import asked_for, dealt, labels_of
from ltbench_generators.sampler import Part, Recipe


@dataclass(frozen=True)
class Calibration:
    """N((x_i + Σ_d μ_d)/(k+1), Σ_d Σ_d/k + α·11ᵀ + ridge·I) around each real row x_i of a class, d its k donors.

    Rows take turns. All of this happens to sign(x)|x|^power, and synthetic rows are mapped back. ``own`` lets a class be
    its own donor.
    """

    donors: str
    k: int
    alpha: float
    power: float
    ridge: float
    own: bool

    def plan(self, train: ltbench.Train, budget: Tensor) -> Recipe:
        """Find the donors of each row that has a turn."""
        donors, labels, asked = Donors.of(train, self.donors, self.power), labels_of(budget), asked_for(budget)
        parents, width, stream = dealt(train, labels), train.x.shape[1], train.stream
        used = torch.zeros_like(train.targets).index_fill_(0, parents, 1)
        seeds = used.nonzero().flatten()
        near = donors.nearest(train.x[seeds], train.targets[seeds], self.k, own=self.own)
        chosen = near[(used.cumsum(0) - 1)[parents]]
        counts = (chosen >= 0).sum(dim=1, keepdim=True)

        def added(part: Part) -> Tensor:
            mine, count = chosen[part.rows], counts[part.rows]
            rows: Tensor = self.alpha**0.5 * stream.child("all").normal(part.ids, 1).expand(-1, width)
            for j, donor in enumerate(mine.unbind(dim=1)):
                mean = torch.where(donor[:, None] >= 0, donors.means[donor.clamp_min(0)], 0.0)
                rows = rows + mean / (count + 1) + donors.noise(donor, stream.child("donor", j), part.ids) / count**0.5
            return rows + math.sqrt(self.ridge) * stream.child("ridge").normal(part.ids, width) if self.ridge else rows

        lent = train.real_class_counts[chosen.clamp_min(0)].clamp_max(width)
        return Recipe(
            labels,
            parents=parents[:, None],
            parent_weights=1 / (counts + 1).double(),
            donors=chosen,
            added=added,
            power=self.power,
            notes=self._notes(train, donors, asked, counts[torch.searchsorted(labels, asked), 0]),
            flops=2 * width * (len(seeds) * len(donors.numbers) + int(lent.sum())),
        )

    def _notes(self, train: ltbench.Train, donors: Donors, asked: Tensor, counts: Tensor) -> dict[str, object]:
        """Return what differs from the plain rule; ``counts`` are the donors of each class that is asked for."""
        signed = self.power != 1 and bool((train.x < 0).any())
        clamped = {str(c): n for c, n in zip(asked.tolist(), counts.tolist(), strict=True) if n < self.k}
        return {
            **donors.notes,
            **({"donors_clamped": clamped} if clamped else {}),
            **({"signed_power": True} if signed else {}),
        }
