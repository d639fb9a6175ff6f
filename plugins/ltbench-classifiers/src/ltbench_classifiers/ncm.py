"""Nearest class mean on centred features of unit length."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

import ltbench
from ltbench_classifiers.moments import ABSENT, chunks, require_finite


@dataclass(frozen=True, kw_only=True)
class NearestClassMean:
    """−‖f(x) − m_c‖², m_c the mean of f over class c; f subtracts the training mean and scales to length one.

    ``center`` and ``normalize`` switch the two steps of f. Scores are distances, not probabilities. The nearest
    class mean of Kang et al., ICLR 2020 (arXiv 1910.09217).
    """

    center: bool = True
    normalize: bool = True

    def fit(self, train: ltbench.Train) -> Scorer:
        """Compute the class means, chunk by chunk."""
        require_finite(train)
        zero = train.x.new_zeros(train.x.shape[1]).double()
        total = sum(share.sum() for _, share in chunks(train))
        origin = sum((share.sum(dim=1) @ x / total for x, share in chunks(train)), zero) if self.center else zero
        count, sums = train.x.new_zeros(train.classes).double(), train.x.new_zeros(train.classes, len(zero)).double()
        for x, share in chunks(train):
            count += share.sum(dim=0)
            sums += share.T @ (normalize(x - origin, dim=1) if self.normalize else x - origin)
        middle = sums.sum(dim=0) / total
        means, absent = sums / count.clamp_min(1e-300)[:, None] - middle, torch.where(count > 0, 0.0, ABSENT).double()
        return Scorer(origin, middle, means, absent, self.normalize, training_flops=2 * train.x.numel() * train.classes)


@dataclass(frozen=True)
class Scorer:
    """Scores rows by their distance to the class means, both less the mean of f: so squares hold nothing that cancels."""

    origin: Tensor
    middle: Tensor
    means: Tensor
    absent: Tensor
    normalize: bool
    training_flops: int

    @property
    def parameters(self) -> int:
        """Numbers learned: means and origin."""
        return self.means.numel() + self.origin.numel()

    @property
    def flops_per_row(self) -> int:
        """Three operations per feature and class."""
        return 3 * self.means.numel()

    def __call__(self, x: Tensor) -> ltbench.Scores:
        """Score rows ``[N, D]``."""
        rows = x.double() - self.origin
        rows = (normalize(rows, dim=1) if self.normalize else rows) - self.middle
        squared = (rows**2).sum(dim=1, keepdim=True) - 2 * rows @ self.means.T + (self.means**2).sum(dim=1)
        return ltbench.Scores(self.absent - squared, "scores")
