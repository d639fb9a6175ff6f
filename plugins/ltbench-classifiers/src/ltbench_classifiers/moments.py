"""Weighted class means, which closed-form heads share."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import one_hot

import ltbench


def memberships(train: ltbench.Train) -> Tensor:
    """Return how much each row counts for each class: weight times (soft) label, float64 ``[N, C]``."""
    labels = train.targets if train.targets.ndim == 2 else one_hot(train.targets, train.classes)
    return labels.double() * train.weights.double()[:, None]


def class_means(x: Tensor, share: Tensor) -> Tensor:
    """Return the weighted mean of each class ``[C, D]``; zero for an absent class."""
    return (share.T @ x) / share.sum(dim=0).clamp_min(1e-300)[:, None]
