"""ADASYN: more rows where other classes are near (He, Bai, Garcia & Li, IJCNN 2008, doi:10.1109/IJCNN.2008.4633969)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

import ltbench
from ltbench_generators.borderline_smote import other_neighbours, search_flops
from ltbench_generators.draws import asked_for, class_rows, drawn, labels_of
from ltbench_generators.sampler import Recipe, Sampler
from ltbench_generators.shared import Known, samplers
from ltbench_generators.smote import Smote, between


@dataclass(frozen=True, kw_only=True)
class Adasyn:
    """SMOTE from each row in proportion to the share of other classes among its ``k`` nearest rows.

    Shares of the budget are rounded so that they add up to it (imbalanced-learn rounds each, and may miss it). A class
    none of whose rows has such a neighbour starts from all rows alike, which is noted (imbalanced-learn raises).
    """

    k: Annotated[int, Ge(1)] = 5
    jitter: Annotated[float, Ge(0)] = 0.1

    def fit(self, train: ltbench.Train) -> Sampler:
        """Remember the rows; neighbours are found for classes that are asked for."""
        return self.fit_many([train])[0]

    def fit_many(self, trains: Sequence[ltbench.Train]) -> list[Sampler]:
        """Remember the rows of many training sets; equal ones share neighbours."""
        return samplers(self.plan, trains)

    def plan(self, known: Known, train: ltbench.Train, budget: Tensor) -> Recipe:
        """Start as many rows at each row as its neighbours say."""
        labels = labels_of(budget)
        asked = asked_for(budget)
        others, _ = other_neighbours(known, asked, self.k)
        total = torch.zeros(train.classes, dtype=torch.long, device=budget.device).index_add_(0, train.targets, others)
        apart = asked[total[asked] == 0]
        even = drawn(train, class_rows(train), labels)
        rows = class_rows(train).order
        shared = rows.repeat_interleave(allotted(train.targets[rows], others[rows], total, budget))
        hard = ~torch.isin(labels, apart)
        recipe = between(Smote(k=self.k, jitter=self.jitter), known, train, budget, even.masked_scatter(hard, shared))
        notes = {**recipe.notes, **({"separable_classes": apart.tolist()} if len(apart) else {})}
        return dataclasses.replace(recipe, notes=notes, flops=recipe.flops + search_flops(train, asked))


def allotted(targets: Tensor, shares: Tensor, total: Tensor, budget: Tensor) -> Tensor:
    """Part each class's budget among its rows, by shares that add up to ``total [C]``: whole numbers ``[N]``.

    Each gets its share rounded down; those with the largest remainders, the first of equals, get the rows left over.
    ``targets [N]`` are ascending. Rows of a class whose total is 0 get none.
    """
    wanted = budget[targets] * shares
    whole, remainder = wanted // total[targets].clamp_min(1), wanted % total[targets].clamp_min(1)
    left = torch.where(total > 0, budget, 0).index_add(0, targets, -whole)
    by_remainder = remainder.argsort(descending=True, stable=True)
    ranked = by_remainder[targets[by_remainder].argsort(stable=True)]  # class by class, the largest remainder first
    first = torch.searchsorted(targets, targets)
    rank = torch.empty_like(ranked).scatter_(0, ranked, torch.arange(len(targets), device=targets.device) - first)
    return whole + (rank < left[targets]).long()
