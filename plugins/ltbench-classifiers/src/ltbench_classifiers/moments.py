"""What several heads compute of the training rows: weights by class, class means, the covariance within classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import one_hot

import ltbench

ABSENT = -1e30
"""What is added to the scores of a class without rows."""


def by_class(weights: Tensor, train: ltbench.Train) -> Tensor:
    """Return the weight of each row ``[N]``, from those of the classes ``[C]``; a soft label mixes them."""
    return train.targets.double() @ weights.double() if train.targets.ndim == 2 else weights[train.targets]


def inverse_effective_number(counts: Tensor, beta: float) -> Tensor:
    """Return (1 − β) / (1 − β^n_c) for counts ``[C]``, of which those below one count as one."""
    return (1 - beta) / (1 - beta ** counts.clamp_min(1))


def memberships(train: ltbench.Train) -> Tensor:
    """Return how much each row counts for each class: weight times (soft) label, float64 ``[N, C]``."""
    labels = train.targets if train.targets.ndim == 2 else one_hot(train.targets, train.classes)
    return labels.double() * train.weights.double()[:, None]


def class_means(x: Tensor, share: Tensor) -> Tensor:
    """Return the weighted mean of each class ``[C, D]``; zero for an absent class."""
    return (share.T @ x) / share.sum(dim=0).clamp_min(1e-300)[:, None]


@dataclass(frozen=True)
class Within:
    """The scatter of rows around their class's mean, in its principal axes, all float64.

    Σ_i w_i (x_i − μ_y)(x_i − μ_y)ᵀ = basis · diag(``scatter``) · basisᵀ. ``means [C, D]``, ``total`` weight, and what is
    added to the scores of each class ``[C]``: ``absent`` is far below zero for one without rows.
    """

    means: Tensor
    scatter: Tensor
    basis: Tensor
    total: float
    absent: Tensor


def within_classes(train: ltbench.Train) -> Within:
    """Return the scatter within classes, computed once for all heads of the same rows."""
    return cast("Within", train.shared("ltbench_classifiers.within", lambda: _within(train)))


def _within(train: ltbench.Train) -> Within:
    """Centre, so that rounding stays small, and diagonalise."""
    share = memberships(train)
    count = share.sum(dim=0)
    origin = (share.sum(dim=1) @ train.x.double()) / share.sum()
    x = train.x.double() - origin
    means = class_means(x, share)
    scatter = (x.T * share.sum(dim=1)) @ x - (means.T * count) @ means
    values, basis = torch.linalg.eigh(scatter)
    return Within(means + origin, values, basis, float(share.sum()), torch.where(count > 0, 0.0, ABSENT).double())
