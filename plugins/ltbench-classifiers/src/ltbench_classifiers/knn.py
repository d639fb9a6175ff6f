"""k nearest neighbours, their votes weighted by inverse distance (Dudani, 1976, doi:10.1109/TSMC.1976.5408784)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn.functional import normalize

import ltbench
from ltbench_classifiers.moments import require_finite

_SPARE = 16
"""Neighbours looked at beyond those needed, since float32 finds them and float64 ranks them."""

_NUMBERS = 2**22
"""Most distances that are held at a time."""


@dataclass(frozen=True, kw_only=True)
class NearestNeighbours:
    """Shares of the votes of the ``k`` nearest training rows, as scikit-learn's ``KNeighborsClassifier`` counts them.

    A row of weight w has w of the k places. ``normalize`` compares rows that are centred and of unit length, so by
    their cosine. A row at distance zero outvotes all that are not.
    """

    k: Annotated[int, Ge(1)] = 5
    votes: Literal["distance", "uniform"] = "distance"
    normalize: bool = True

    def fit(self, train: ltbench.Train) -> Scorer:
        """Keep the rows."""
        require_finite(train)
        kept = train.weights > 0
        x, weights = train.x[kept], train.weights[kept].double()
        origin = (weights @ x.double() / weights.sum()).to(x.dtype) if self.normalize else torch.zeros_like(x[0])
        labels = train.targets[kept].double() if train.targets.ndim == 2 else train.targets[kept]
        return Scorer(self, origin, self.placed(x - origin), labels, weights, train.classes)

    def placed(self, rows: Tensor) -> Tensor:
        """Return centred rows where they are compared."""
        return normalize(rows, dim=1) if self.normalize else rows


@dataclass(frozen=True)
class Scorer:
    """Scores rows by their neighbours among training rows ``[N, D]`` with labels ``[N]`` or ``[N, C]`` and weights ``[N]``."""

    rule: NearestNeighbours
    origin: Tensor
    rows: Tensor
    labels: Tensor
    weights: Tensor
    classes: int

    @property
    def training_flops(self) -> int:
        """Nothing is trained."""
        return 0

    @property
    def parameters(self) -> int:
        """Numbers kept: the rows."""
        return self.rows.numel()

    @property
    def flops_per_row(self) -> int:
        """One product with every training row."""
        return 2 * self.rows.numel()

    @property
    def _most(self) -> int:
        """Number of neighbours looked at: more than k where rows weigh less than one."""
        return min(len(self.rows), int(self.rule.k / min(1.0, float(self.weights.min()))) + 1 + _SPARE)

    def __call__(self, x: Tensor) -> ltbench.Scores:
        """Score rows ``[N, D]``."""
        size = max(1, _NUMBERS // max(len(self.rows), self._most * x.shape[1]))
        return ltbench.Scores(torch.cat([self._votes(part) for part in torch.split(x, size)]), "probabilities")

    def _votes(self, x: Tensor) -> Tensor:
        """Return the shares of votes for each class ``[B, C]``."""
        new = self.rule.placed(x.to(self.rows.dtype) - self.origin)
        near = (self.rows**2).sum(dim=1) - 2 * new @ self.rows.T
        found = near.topk(self._most, dim=1, largest=False).indices.sort(dim=1).values
        distance = (self.rows[found].double() - new[:, None].double()).norm(dim=2)
        distance, order = distance.sort(dim=1, stable=True)
        found = found.gather(1, order)
        weights = self.weights[found]
        places = (self.rule.k - (weights.cumsum(dim=1) - weights)).clamp_min(0).minimum(weights)
        votes = places if self.rule.votes == "uniform" else _by_distance(places, distance)
        return self._counted(votes, self.labels[found]) / votes.sum(dim=1, keepdim=True)

    def _counted(self, votes: Tensor, labels: Tensor) -> Tensor:
        """Return the votes for each class ``[B, C]``: votes ``[B, K]``, labels ``[B, K]`` or ``[B, K, C]``, nearest first."""
        if labels.ndim == 3:
            return (votes[:, None] @ labels)[:, 0]
        counted = votes.new_zeros(len(votes), self.classes)
        for vote, label in zip(votes.T[:, :, None], labels.T[:, :, None], strict=True):
            counted.scatter_(1, label, counted.gather(1, label) + vote)
        return counted


def _by_distance(places: Tensor, distance: Tensor) -> Tensor:
    """Return votes by inverse distance ``[B, K]``; where a distance is zero, only of those."""
    same = distance == 0
    own = torch.where(same.any(dim=1, keepdim=True), same.double(), 1 / torch.where(same, 1.0, distance))
    return places * own
