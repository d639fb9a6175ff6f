"""Ridge regression on one-hot labels, as scikit-learn's ``RidgeClassifier`` decides by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

import torch
from annotated_types import Gt
from torch import Tensor

import ltbench
from ltbench_classifiers.moments import ABSENT, memberships


@dataclass(frozen=True, kw_only=True)
class Ridge:
    """Minimises ½ · mean ‖xW + b − y‖² + ``l2``/2 · ‖W‖², y one-hot; scikit-learn's α is ``l2`` · N.

    Hoerl & Kennard, 1970. Scores are no probabilities.
    """

    l2: Annotated[float, Gt(0)] = 1e-3

    def fit(self, train: ltbench.Train) -> ltbench.LinearScorer:
        """Solve in the axes of the covariance, which all penalties share."""
        moments = cast("Moments", train.shared("ltbench_classifiers.total", lambda: _moments(train)))
        inner = (moments.basis.T @ moments.cross) / (moments.variance[:, None].clamp_min(0) + self.l2)
        weight = moments.basis @ inner
        bias = moments.prior - moments.mean @ weight
        width = len(moments.mean)
        flops = 2 * len(train.x) * width * (width + train.classes) + 9 * width**3
        absent = torch.where(moments.prior > 0, 0.0, ABSENT).double()
        return ltbench.LinearScorer(weight, bias + absent, "scores", training_flops=flops)


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of all rows (in its axes), class shares, and cov(x, y) ``[D, C]``; all float64."""

    mean: Tensor
    variance: Tensor
    basis: Tensor
    prior: Tensor
    cross: Tensor


def _moments(train: ltbench.Train) -> Moments:
    """Compute the weighted moments of the rows."""
    share = memberships(train)
    share = share / share.sum()
    weights, prior = share.sum(dim=1), share.sum(dim=0)
    mean = weights @ train.x.double()
    x = train.x.double() - mean
    variance, basis = torch.linalg.eigh((x.T * weights) @ x)
    return Moments(mean, variance, basis, prior, x.T @ share)
