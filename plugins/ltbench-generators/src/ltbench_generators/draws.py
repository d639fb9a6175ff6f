"""What samplers share: which synthetic row belongs to which class, and ids that name its draws."""

from __future__ import annotations

import torch
from torch import Tensor


def labels_of(budget: Tensor) -> Tensor:
    """Return the labels of the synthetic rows ``[S]``, class by class, for a budget ``[C]``."""
    return torch.arange(len(budget), device=budget.device).repeat_interleave(budget)


def draw_ids(labels: Tensor) -> Tensor:
    """Return stream ids ``[S]`` for rows grouped by class: class · 2³² + number within the class.

    The n-th row of a class gets the same draws whatever the other classes ask for.
    """
    first = torch.searchsorted(labels, labels)
    return labels * 2**32 + torch.arange(len(labels), device=labels.device) - first


def members(targets: Tensor, c: int) -> Tensor:
    """Return the positions of a class's rows."""
    return (targets == c).nonzero().flatten()
