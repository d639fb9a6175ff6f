"""Random oversampling: real rows again."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import ltbench
from ltbench_generators.draws import dealt, labels_of
from ltbench_generators.sampler import Recipe, Sampler


@dataclass(frozen=True, kw_only=True)
class RandomOver:
    """Repeat rows of a class in random order, round after round, so that counts differ by one at most.

    imbalanced-learn draws with replacement instead: the same rows are expected, with more variance.
    """

    def fit(self, train: ltbench.Train) -> Sampler:
        """Remember the rows."""
        return Sampler(train, plan)


def plan(train: ltbench.Train, budget: Tensor) -> Recipe:
    """Return copies of dealt rows."""
    labels = labels_of(budget)
    return Recipe(labels, parents=dealt(train, labels)[:, None])
