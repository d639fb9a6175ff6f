"""Distributions calibrated by those of near classes: what distribution-calibration and tailcalib share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import ltbench
from ltbench_generators.donors import Donors
from ltbench_generators.draws import dealt, labels_of
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
        donors, labels = Donors.of(train, self.donors, self.power), labels_of(budget)
        k, width = donors.reach(self.k, own=self.own), train.x.shape[1]
        parents = dealt(train, labels)
        used = torch.zeros_like(train.targets).index_fill_(0, parents, 1)
        seeds = used.nonzero().flatten()
        near = donors.nearest(train.x[seeds], train.targets[seeds], k, own=self.own)
        chosen = near[(used.cumsum(0) - 1)[parents]]
        stream = train.stream

        def added(part: Part) -> Tensor:
            mine = chosen[part.rows]
            rows = donors.means[mine].sum(dim=1) / (k + 1)
            for j in range(k):
                rows += donors.noise(mine[:, j], stream.child("donor", j), part.ids) / k**0.5
            rows += self.alpha**0.5 * stream.child("all").normal(part.ids, 1)
            return rows + self.ridge**0.5 * stream.child("ridge").normal(part.ids, width) if self.ridge else rows

        return Recipe(
            labels,
            parents=parents[:, None],
            parent_weights=torch.full((len(labels), 1), 1 / (k + 1), dtype=torch.float64, device=labels.device),
            donors=chosen,
            added=added,
            power=self.power,
            notes=self._notes(train, k, donors),
            flops=2 * width * (len(seeds) * len(donors.numbers) + int(train.real_class_counts[chosen].clamp_max(width).sum())),
        )

    def _notes(self, train: ltbench.Train, k: int, donors: Donors) -> dict[str, object]:
        """Return what differs from the plain rule."""
        signed = self.power != 1 and bool((train.x < 0).any())
        return {
            "donor_classes": len(donors.numbers),
            **({"donors_clamped": k} if k < self.k else {}),
            **({"signed_power": True} if signed else {}),
        }
