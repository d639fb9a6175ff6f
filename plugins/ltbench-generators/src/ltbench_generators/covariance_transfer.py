"""Rows with the spread of a head class (of the family of arXiv 2401.11436 and 2508.13518; our own formula)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import ltbench
from ltbench_generators.donors import Donors, check_donors
from ltbench_generators.draws import asked_for, dealt, labels_of
from ltbench_generators.sampler import Part, Recipe, Sampler


@dataclass(frozen=True, kw_only=True)
class CovarianceTransfer:
    """x_i + Σ_h^½ ε: x_i the class's rows in turn, h the head class whose mean is nearest to the class's.

    ``donors``: ``head`` (as many rows as classes have on average, or more), ``all``, or class numbers such as ``"0 1 5"``.
    """

    donors: str = "head"

    def __post_init__(self) -> None:
        """Check the donors."""
        check_donors(self.donors)

    def fit(self, train: ltbench.Train) -> Sampler:
        """Remember the rows."""
        return Sampler(train, self.plan)

    def plan(self, train: ltbench.Train, budget: Tensor) -> Recipe:
        """Find each class's donor."""
        donors, labels = Donors.of(train, self.donors), labels_of(budget)
        chosen = nearest_donor(donors, budget)

        def added(part: Part) -> Tensor:
            return donors.noise(chosen[part.rows], train.stream.child("noise"), part.ids)

        return Recipe(
            labels,
            parents=dealt(train, labels)[:, None],
            donors=chosen,
            added=added,
            notes=donors.notes,
            flops=2 * train.x.shape[1] * int(train.real_class_counts[chosen].clamp_max(train.x.shape[1]).sum()),
        )


def nearest_donor(donors: Donors, budget: Tensor) -> Tensor:
    """Return for each synthetic row the donor whose mean is nearest to its class's ``[S]``."""
    asked = asked_for(budget)
    found = donors.nearest(donors.means[asked], asked, 1, own=False)[:, 0]
    return found.repeat_interleave(budget[asked])
