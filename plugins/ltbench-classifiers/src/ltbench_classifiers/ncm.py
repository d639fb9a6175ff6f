"""Nearest class mean on centred features of unit length."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

import ltbench
from ltbench_classifiers.moments import class_means, memberships


@dataclass(frozen=True, kw_only=True)
class NearestClassMean:
    """−‖f(x) − m_c‖², m_c the mean of f over class c; f subtracts the training mean and scales to length one.

    ``center`` and ``normalize`` switch the two steps of f. Scores are distances, not probabilities. The nearest
    class mean of Kang et al., ICLR 2020 (arXiv 1910.09217).
    """

    center: bool = True
    normalize: bool = True

    def fit(self, train: ltbench.Train) -> Scorer:
        """Compute the class means."""
        x, share = train.x.double(), memberships(train)
        total = share.sum(dim=1)
        origin = (total @ x) / total.sum() if self.center else torch.zeros_like(x[0])
        rows = normalize(x - origin, dim=1) if self.normalize else x - origin
        absent = torch.where(share.sum(dim=0) > 0, 0.0, -1e30).double()
        return Scorer(origin, class_means(rows, share), absent, self.normalize, training_flops=2 * x.numel() * train.classes)


@dataclass(frozen=True)
class Scorer:
    """Scores rows by their distance to the class means."""

    origin: Tensor
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
        rows = normalize(rows, dim=1) if self.normalize else rows
        squared = (rows**2).sum(dim=1, keepdim=True) - 2 * rows @ self.means.T + (self.means**2).sum(dim=1)
        return ltbench.Scores(self.absent - squared, "scores")
