"""Borderline-SMOTE, its first kind (Han, Wang & Mao, ICIC 2005, doi:10.1007/11538059_91)."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

import ltbench
from ltbench_generators.draws import asked_for, class_rows, drawn, labels_of
from ltbench_generators.neighbours import FEW, nearest
from ltbench_generators.sampler import Recipe, Sampler
from ltbench_generators.shared import Known, samplers
from ltbench_generators.smote import Smote, between


@dataclass(frozen=True, kw_only=True)
class BorderlineSmote:
    """SMOTE from rows in danger only: of their ``m`` nearest rows, half or more, but not all, are of other classes.

    A class without such rows starts from all of them, which is noted (imbalanced-learn leaves it as it is). ``k`` and
    ``jitter`` are SMOTE's.
    """

    k: Annotated[int, Ge(1)] = 5
    m: Annotated[int, Ge(1)] = 10
    jitter: Annotated[float, Ge(0)] = 0.1

    def fit(self, train: ltbench.Train) -> Sampler:
        """Remember the rows; neighbours are found for classes that are asked for."""
        return self.fit_many([train])[0]

    def fit_many(self, trains: Sequence[ltbench.Train]) -> list[Sampler]:
        """Remember the rows of many training sets; equal ones share neighbours."""
        return samplers(self.plan, trains)

    def plan(self, known: Known, train: ltbench.Train, budget: Tensor) -> Recipe:
        """Start each row at a row of its class that is in danger."""
        labels = labels_of(budget)
        asked = asked_for(budget)
        others, seen = other_neighbours(known, asked, self.m)
        danger = (2 * others >= seen) & (others < seen)
        safe = asked[torch.bincount(train.targets[danger], minlength=train.classes)[asked] == 0]
        seeds = drawn(train, class_rows(train, danger | torch.isin(train.targets, safe)), labels)
        recipe = between(Smote(k=self.k, jitter=self.jitter), known, train, budget, seeds)
        notes = {**recipe.notes, **({"no_borderline_classes": safe.tolist()} if len(safe) else {})}
        return dataclasses.replace(recipe, notes=notes, flops=recipe.flops + search_flops(train, asked))


def other_neighbours(known: Known, classes: Tensor, k: int) -> tuple[Tensor, int]:
    """Return how many of each row's ``k`` nearest are of other classes ``[N]``, and how many there are of them all.

    Rows of classes that are not asked for get 0.
    """
    train = known.train
    queries = torch.isin(train.targets, classes).nonzero().flatten()
    if len(train.x) <= FEW:
        near = known.nearest_within(all_rows, k)["all"][queries]
    else:
        near = known.get((*classes.tolist(), "all", k), lambda: nearest(train.x, queries, all_rows(train)["all"], k))
    others = torch.zeros(len(train.x), dtype=torch.long, device=train.x.device)
    others[queries] = (train.targets[near] != train.targets[queries, None]).sum(dim=1)
    return others, near.shape[1]


def all_rows(train: ltbench.Train) -> dict[Hashable, Tensor]:
    """Return the positions of all rows."""
    return {"all": torch.arange(len(train.x), device=train.x.device)}


def search_flops(train: ltbench.Train, classes: Tensor) -> int:
    """Return the cost of comparing rows of some classes with all rows."""
    return 2 * int(train.real_class_counts[classes].sum()) * train.x.numel()
