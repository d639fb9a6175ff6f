"""The order in which ``sgd`` sees rows: by hash, so the same on every device. Knows no head."""

from __future__ import annotations

import torch
from torch import Tensor

from ltbench.heads.recipes import Recipe
from ltbench.streams import Stream
from ltbench.types import Train


def epoch_order(train: Train, recipe: Recipe, epoch: int) -> Tensor:
    """Return positions of rows in the order of an epoch ``[M]``."""
    positions = torch.arange(len(train.x), device=train.row_ids.device)
    ids = torch.where(train.row_ids >= 0, train.row_ids, -2 - positions)  # synthetic rows are told apart by their place
    stream = train.stream.child("sgd", recipe.sampler, epoch)
    if recipe.sampler == "rows":
        return stream.order(ids)
    labels = train.targets.argmax(dim=1) if train.targets.ndim == 2 else train.targets
    kept = train.weights > 0
    return positions[kept][balanced_order(labels[kept], ids[kept], stream, recipe.per_class)]


def balanced_order(labels: Tensor, ids: Tensor, stream: Stream, per_class: int) -> Tensor:
    """Return positions such that classes take turns, ``per_class`` rows each, until all could have shown the largest's.

    Each turn goes through all classes that have rows, in a new order; a class goes through its rows in a new order
    whenever they are used up (the class-aware sampler of Shen et al., ECCV 2016). ``labels [N]``, ``ids [N]`` unique.
    """
    present, of_class, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    classes, total = len(present), int(counts.max()) * len(present)
    turns = -(-total // (per_class * classes))
    laps = -(-per_class * turns // counts)  # how often a class goes through its rows
    position = torch.arange(len(labels), device=labels.device).repeat_interleave(laps[of_class])
    first = (laps[of_class].cumsum(0) - laps[of_class])[position]
    lap = torch.arange(len(position), device=labels.device) - first
    rows = position[_sorted(stream.child("rows"), ids[position] * 2**20 + lap, of_class[position] * 2**20 + lap)]
    order = torch.arange(turns * classes, device=labels.device)
    order = _sorted(stream.child("classes"), order, order // classes) % classes  # class of each turn's places
    begin = (laps * counts).cumsum(0) - laps * counts
    turn = torch.arange(turns, device=labels.device).repeat_interleave(classes)
    drawn = (begin[order] + per_class * turn)[:, None] + torch.arange(per_class, device=labels.device)
    return rows[drawn.flatten()[:total]]


def _sorted(stream: Stream, ids: Tensor, major: Tensor) -> Tensor:
    """Return places sorted by a key, and in random order where it is equal."""
    shuffled = stream.order(ids)
    return shuffled[major[shuffled].argsort(stable=True)]
