"""Means, squares and pooled covariances of classes, in float64 and in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

import ltbench
from ltbench_generators.shrinkage import root

ROWS = 4096
"""Rows turned into float64 at once."""


def class_sums(train: ltbench.Train, of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the sum over each class's rows of a function of rows and their labels, ``[C, D]``."""
    sums = torch.zeros(train.classes, train.x.shape[1], dtype=torch.float64, device=train.x.device)
    for x, targets in parts(train):
        sums.index_add_(0, targets, of(x, targets))
    return sums


def parts(train: ltbench.Train) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the rows in float64, ``ROWS`` at a time, and their labels."""
    for start in range(0, len(train.x), ROWS):
        yield train.x[start : start + ROWS].double(), train.targets[start : start + ROWS]


def class_means(train: ltbench.Train) -> Tensor:
    """Return the mean of each class ``[C, D]``; zero for an absent class."""
    return class_sums(train, lambda x, _: x) / train.real_class_counts.double().clamp_min(1)[:, None]


def class_squares(train: ltbench.Train, means: Tensor) -> Tensor:
    """Return Σ (x − μ_c)² of each class and feature ``[C, D]``."""
    return class_sums(train, lambda x, targets: (x - means[targets]).square_())


def within_deviation(train: ltbench.Train) -> Tensor:
    """Return the pooled within-class standard deviation of each feature ``[D]``: √(Σ (x − μ_y)² / (N − classes))."""
    squares = class_squares(train, class_means(train)).sum(dim=0)
    deviation: Tensor = (squares / freedom(train)).sqrt()
    return deviation


def pooled_factor(train: ltbench.Train) -> Tensor:
    """Return F ``[r, D]`` with FᵀF the pooled within-class covariance; of all rows about their mean if no class has two."""
    means, width = class_means(train), train.x.shape[1]
    if not bool((train.real_class_counts > 1).any()):
        means = train.x.double().mean(dim=0).expand_as(means)
    if len(train.x) <= width:
        return (train.x.double() - means[train.targets]) / math.sqrt(freedom(train))
    scatter = torch.zeros(width, width, dtype=torch.float64, device=train.x.device)
    for x, targets in parts(train):
        rows = x - means[targets]
        scatter += rows.T @ rows
    return root(scatter / freedom(train))


def freedom(train: ltbench.Train) -> int:
    """Return N less the number of classes with rows, or N where each row is a class of its own."""
    return (len(train.x) - int((train.real_class_counts > 0).sum())) or len(train.x)
