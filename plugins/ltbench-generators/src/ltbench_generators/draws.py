"""What every sampler shares: which synthetic row belongs to which class, and ids that name its draws."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import ltbench


def labels_of(budget: Tensor) -> Tensor:
    """Return the labels of the synthetic rows ``[S]``, class by class, for a budget ``[C]``."""
    return torch.arange(len(budget), device=budget.device).repeat_interleave(budget)


def numbers_of(labels: Tensor) -> Tensor:
    """Return the number of each row within its class, from 0, ``[S]``, for rows grouped by class."""
    return torch.arange(len(labels), device=labels.device) - torch.searchsorted(labels, labels)


def draw_ids(labels: Tensor) -> Tensor:
    """Return stream ids ``[S]`` for rows grouped by class: class · 2³² + number within the class.

    The n-th row of a class gets the same draws whatever the other classes ask for.
    """
    return labels * 2**32 + numbers_of(labels)


def members(targets: Tensor, c: int) -> Tensor:
    """Return the positions of a class's rows."""
    return (targets == c).nonzero().flatten()


def asked_for(budget: Tensor) -> Tensor:
    """Return the classes that want rows, ascending."""
    return budget.nonzero().flatten()


def lone_classes(train: ltbench.Train, budget: Tensor) -> list[int]:
    """Return the classes of one row among those that want rows: nothing can be told of their spread."""
    return asked_for(budget * (train.real_class_counts == 1)).tolist()


@dataclass(frozen=True)
class ClassRows:
    """Positions of rows, class by class ``[M]``: where each class begins ``[C]``, and how many rows it has ``[C]``."""

    order: Tensor
    first: Tensor
    counts: Tensor

    def of(self, c: int) -> Tensor:
        """Return the positions of one class's rows."""
        return self.order[int(self.first[c]) : int(self.first[c] + self.counts[c])]

    def at(self, labels: Tensor, which: Tensor) -> Tensor:
        """Return the position of the which-th row of a class, for labels and places ``[S]``."""
        return self.order[self.first[labels] + which]


def class_rows(train: ltbench.Train, chosen: Tensor | None = None) -> ClassRows:
    """Group training rows by class, ascending within it; only ``chosen`` ones (bool ``[N]``), if given."""
    rows = torch.arange(len(train.targets), device=train.targets.device) if chosen is None else chosen.nonzero().flatten()
    labels = train.targets[rows]
    counts = torch.bincount(labels, minlength=train.classes)
    return ClassRows(rows[labels.argsort(stable=True)], counts.cumsum(0) - counts, counts)


def dealt(train: ltbench.Train, labels: Tensor) -> Tensor:
    """Return a real row for each synthetic one ``[S]``: rows of its class dealt in random order, round after round.

    The order belongs to row ids, so it does not depend on where a row stands.
    """
    mixed = train.stream.child("order").order(train.row_ids)
    grouped = mixed[train.targets[mixed].argsort(stable=True)]
    rows = class_rows(train)
    return grouped[rows.first[labels] + numbers_of(labels) % rows.counts[labels]]


def drawn(train: ltbench.Train, rows: ClassRows, labels: Tensor) -> Tensor:
    """Return a row of the class for each synthetic one ``[S]``, drawn evenly with replacement."""
    which = train.stream.child("seed").integers(draw_ids(labels), 1, rows.counts[labels, None])[:, 0]
    return rows.at(labels, which)
