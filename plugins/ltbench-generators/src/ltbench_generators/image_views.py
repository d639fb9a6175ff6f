"""Image augmentation before the backbone: rows of views of a class's own images, flipped, cropped or recoloured, say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import ltbench
from ltbench_generators.draws import class_rows, labels_of, numbers_of
from ltbench_generators.sampler import check_request


@dataclass(frozen=True, kw_only=True)
class ImageViews:
    """Pairs of a row of the class and a view of its image, dealt in random order, round after round.

    ``of`` joins names by +: ``flip+crop+crop.1`` (a number gives a view other draws). Each is extracted once for all
    training images, and cached.
    """

    of: str = "flip+crop+colour+noise+blur"

    @property
    def views(self) -> tuple[str, ...]:
        """What the rows are made of."""
        return tuple(self.of.split("+"))

    def fit(self, train: ltbench.Train) -> Callable[[Tensor], ltbench.Rows]:
        """Remember the rows."""

        def sample(budget: Tensor) -> ltbench.Rows:
            check_request(train, budget)
            labels = labels_of(budget)
            row, view = dealt_pairs(train, labels, len(self.views))
            x = train.x.new_empty(len(labels), train.x.shape[1])
            for number, name in enumerate(self.views):
                x[view == number] = train.views[name][row[view == number]]
            used = torch.bincount(view, minlength=len(self.views)).tolist()
            notes = {"rows_of_views": dict(zip(self.views, used, strict=True))}
            return ltbench.Rows(x, labels, parents=row[:, None], notes=notes, flops=0)

        return sample


def dealt_pairs(train: ltbench.Train, labels: Tensor, views: int) -> tuple[Tensor, Tensor]:
    """Return a row of its class and a view for each synthetic row ``[S]``; no pair comes twice before all came once.

    The order belongs to row ids and views, so it does not depend on where a row stands.
    """
    pairs = (train.row_ids[:, None] * views + torch.arange(views, device=train.row_ids.device)).flatten()
    mixed = train.stream.child("order").order(pairs)  # positions among the pairs, in random order
    rows, counts = mixed // views, class_rows(train).counts * views
    grouped = mixed[train.targets[rows].argsort(stable=True)]
    chosen = grouped[(counts.cumsum(0) - counts)[labels] + numbers_of(labels) % counts[labels]]
    return chosen // views, chosen % views
