"""SMOTE: synthetic minority oversampling (Chawla et al., JAIR 2002, doi:10.1613/jair.953)."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

import ltbench
from ltbench_generators.draws import asked_for, class_rows, draw_ids, drawn, labels_of, lone_classes
from ltbench_generators.moments import within_deviation
from ltbench_generators.sampler import Part, Recipe, Sampler
from ltbench_generators.shared import Known, samplers


@dataclass(frozen=True, kw_only=True)
class Smote:
    """x_i + u·(x_j − x_i): x_i a random row of the class, x_j one of its ``k`` nearest, u uniform in [0, 1).

    Where a class has k rows or fewer, k is its size − 1; a class of one row gets that row plus normal noise of
    ``jitter`` times the pooled within-class deviation of each feature. Both are noted.
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
        """Start each row at a random row of its class."""
        return between(self, known, train, budget, drawn(train, class_rows(train), labels_of(budget)))


def between(smote: Smote, known: Known, train: ltbench.Train, budget: Tensor, seeds: Tensor) -> Recipe:
    """Go from given rows ``[S]`` towards a neighbour of the class; parents (row, neighbour), weights (1 − u, u)."""
    labels, asked, lone = labels_of(budget), asked_for(budget), lone_classes(train, budget)
    ids, sizes = draw_ids(labels), train.real_class_counts.long()
    table, reach = neighbours(known, asked, smote.k)
    which = train.stream.child("neighbour").integers(ids, 1, reach[labels, None])
    others = table[seeds].gather(1, which)[:, 0]
    u = train.stream.child("step").uniform(ids, 1)
    deviation = smote.jitter * within_deviation(train) if lone else None
    alone = frozenset(lone)

    def jittered(part: Part) -> Tensor | None:
        if deviation is None or part.label not in alone:
            return None
        return deviation * train.stream.child("jitter").normal(part.ids, len(deviation))

    clamped = {str(c): int(reach[c]) for c in asked.tolist() if 0 < reach[c] < smote.k}
    return Recipe(
        labels,
        parents=torch.stack([seeds, torch.where(reach[labels] > 0, others, seeds)], dim=1),
        parent_weights=torch.cat([1 - u, u], dim=1),
        added=jittered if lone else None,
        notes={**({"k_clamped": clamped} if clamped else {}), **({"jittered_classes": lone} if lone else {})},
        flops=2 * int((sizes[asked] ** 2).sum()) * train.x.shape[1],
    )


def neighbours(known: Known, classes: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the nearest rows of the same class for rows of some classes ``[N, at most k]``, and how many there are ``[C]``.

    Within each class, because distances between classes are most of a matrix of all, and are not wanted.
    """
    train = known.train
    reach = (train.real_class_counts.long() - 1).clamp(0, k)
    table = torch.full((len(train.x), max(1, int(reach.max()))), -1, device=train.x.device)
    near = known.nearest_within(functools.partial(rows_of, classes.tolist()), k)
    for c, mine in rows_of(classes.tolist(), train).items():
        table[mine, : near[c].shape[1]] = near[c]
    return table, reach


def rows_of(classes: Sequence[int], train: ltbench.Train) -> dict[Hashable, Tensor]:
    """Return the positions of the rows of each of some classes."""
    rows = class_rows(train)
    parts = torch.split(rows.order, rows.counts.tolist())
    return {c: parts[c] for c in classes if c < len(parts)}
