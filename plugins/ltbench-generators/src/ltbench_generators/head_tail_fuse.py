"""Rows of a class that deviate as rows of a head class do from its mean: our own definition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

import ltbench
from ltbench_generators.covariance_transfer import nearest_donor
from ltbench_generators.donors import Donors, check_donors
from ltbench_generators.draws import class_rows, dealt, draw_ids, labels_of
from ltbench_generators.sampler import Part, Recipe, Sampler


@dataclass(frozen=True, kw_only=True)
class HeadTailFuse:
    """x_i + β·(x_j − μ_h): x_i the class's rows in turn, x_j a random row of the head class h with the nearest mean.

    ``share`` is β. ``donors``: ``head`` (as many rows as classes have on average, or more), ``all``, or class numbers
    such as ``"0 1 5"``. As covariance-transfer, without assuming that deviations are normal.
    """

    share: Annotated[float, Ge(0)] = 0.5
    donors: str = "head"

    def __post_init__(self) -> None:
        """Check the donors."""
        check_donors(self.donors)

    def fit(self, train: ltbench.Train) -> Sampler:
        """Remember the rows."""
        return Sampler(train, self.plan)

    def plan(self, train: ltbench.Train, budget: Tensor) -> Recipe:
        """Draw a row of each class's donor."""
        donors, labels, rows = Donors.of(train, self.donors), labels_of(budget), class_rows(train)
        chosen = nearest_donor(donors, budget)
        which = train.stream.child("donor row").integers(draw_ids(labels), 1, rows.counts[chosen, None])[:, 0]
        weights = torch.ones(len(labels), 2, dtype=torch.float64, device=labels.device)
        weights[:, 1] = self.share

        def added(part: Part) -> Tensor:
            return -self.share * donors.means[chosen[part.rows]]

        return Recipe(
            labels,
            parents=torch.stack([dealt(train, labels), rows.at(chosen, which)], dim=1),
            parent_weights=weights,
            donors=chosen,
            added=added,
            notes=donors.notes,
            flops=len(labels) * train.x.shape[1],
        )
