"""k nearest neighbours, their votes weighted by inverse distance (Dudani, 1976, doi:10.1109/TSMC.1976.5408784)."""

from __future__ import annotations

import functools
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
"""Most distances, and numbers of rows in float64, that are held at a time."""


@dataclass(frozen=True, kw_only=True)
class NearestNeighbours:
    """Shares of the votes of the ``k`` nearest training rows, as scikit-learn's ``KNeighborsClassifier`` counts them.

    A row of weight w has w of the k places. ``normalize`` compares rows that are centred and of unit length, so by
    their cosine. A row at distance zero outvotes all that are not; of equally distant rows the first comes first.
    """

    k: Annotated[int, Ge(1)] = 5
    votes: Literal["distance", "uniform"] = "distance"
    normalize: bool = True

    def fit(self, train: ltbench.Train) -> Scorer:
        """Keep the rows."""
        require_finite(train)
        kept = train.weights > 0
        x, weights = train.x[kept], train.weights[kept].double()
        labels = train.targets[kept].double() if train.targets.ndim == 2 else train.targets[kept]
        size = max(1, _NUMBERS // x.shape[1])
        parts = zip(torch.split(x, size), torch.split(weights, size), strict=True)
        origin = sum((share @ part.double() for part, share in parts), x.new_zeros(x.shape[1]).double()) / weights.sum()
        rows = torch.cat([unit(part, origin) for part in torch.split(x, size)]) if self.normalize else x
        return Scorer(self, origin, rows, labels, weights, train.classes)


def unit(x: Tensor, origin: Tensor) -> Tensor:
    """Return rows less an origin and of length one, rounded to the precision of the rows, float32 at least."""
    return normalize(x.double() - origin, dim=1).to(torch.promote_types(x.dtype, torch.float32))


@dataclass(frozen=True)
class Scorer:
    """Scores rows by their neighbours among training rows ``[N, D]`` with labels ``[N]`` or ``[N, C]`` and weights ``[N]``.

    Distances are those of float64 between rows as they are (``normalize``: between unit rows). Products of float32 only tell
    which rows to compare: all that might be near enough, whatever the rounding.
    """

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

    def __call__(self, x: Tensor) -> ltbench.Scores:
        """Score rows ``[N, D]``."""
        size = max(1, _NUMBERS // max(len(self.rows), self._most * x.shape[1]))
        parts = (unit(part, self.origin) if self.rule.normalize else part for part in torch.split(x, size))
        return ltbench.Scores(torch.cat([self._shares(part) for part in parts]), "probabilities")

    @property
    def _most(self) -> int:
        """Number of neighbours looked at: more than k where rows weigh less than one."""
        return min(len(self.rows), int(self.rule.k / min(1.0, float(self.weights.min()))) + 1 + _SPARE)

    @functools.cached_property
    def _about(self) -> tuple[Tensor, Tensor, float, Tensor]:
        """Rows as products take them, about the point ``[D]`` and by the scale that come last, and their squared lengths.

        A distance depends on no origin, but its rounding does. Numbers of any size then stay in the range of float32.
        """
        if self.rule.normalize:
            about, scale, middle = self.rows.float(), 1.0, torch.zeros_like(self.origin)
        else:
            parts, middle = torch.split(self.rows, max(1, _NUMBERS // self.rows.shape[1])), self.origin
            scale = max(float((part.double() - middle).abs().max()) for part in parts) or 1.0
            about = torch.cat([((part.double() - middle) / scale).float() for part in parts])
        return about, torch.linalg.vector_norm(about, dim=1).square_(), scale, middle

    def _shares(self, x: Tensor) -> Tensor:
        """Return the shares of votes for each class ``[B, C]``, for rows where they are compared."""
        about, squares, scale, middle = self._about
        new = ((x.double() - middle) / scale).float()
        length = torch.linalg.vector_norm(new, dim=1).square_()
        near = torch.addmm(squares, new, about.T, alpha=-2).add_(length[:, None])
        found = near.topk(self._most, dim=1, largest=False)
        shares, reach = self._votes(x, found.indices)
        # No row that has a vote is farther than reach; float32 puts no square wrong by more than the rounding.
        rounding = (x.shape[1] + 8) * (2.0**-22 * (length + squares.max()).double() + 2.0**-124)
        bound = (reach / scale).square() + rounding
        unsure = (~(found.values[:, -1] > bound)).nonzero().flatten()
        if self._most < len(about) and len(unsure):
            shares[unsure] = self._widened(x[unsure], near[unsure], bound[unsure])
        return shares

    def _widened(self, x: Tensor, near: Tensor, bound: Tensor) -> Tensor:
        """Return the shares of votes ``[B, C]`` among all rows within a bound ``[B]``; as many are looked at together."""
        counts = torch.where(near.isfinite().all(dim=1), (near <= bound[:, None]).sum(dim=1), near.shape[1])
        powers = counts.double().log2().ceil().long()
        shares = near.new_empty(len(x), self.classes, dtype=torch.float64)
        for power in sorted(set(powers.tolist())):
            most = min(2**power, near.shape[1])
            for rows in torch.split((powers == power).nonzero().flatten(), max(1, _NUMBERS // (most * x.shape[1]))):
                shares[rows], _ = self._votes(x[rows], near[rows].topk(most, dim=1, largest=False).indices)
        return shares

    def _votes(self, x: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
        """Return shares of votes ``[B, C]`` among the rows found ``[B, K]``, and how far the last is that has one ``[B]``."""
        found = found.sort(dim=1).values
        parts = torch.split(found, max(1, _NUMBERS // x.shape[1]), dim=1)
        distance = torch.cat([(self.rows[part].double() - x[:, None].double()).norm(dim=2) for part in parts], dim=1)
        distance, order = distance.sort(dim=1, stable=True)
        found = found.gather(1, order)
        weights = self.weights[found]
        places = (self.rule.k - (weights.cumsum(dim=1) - weights)).clamp_min(0).minimum(weights)
        last = (places > 0).sum(dim=1)
        found, places, distance = (each[:, : int(last.max())] for each in (found, places, distance))
        votes = places if self.rule.votes == "uniform" else _by_distance(places, distance)
        shares = self._counted(votes, self.labels[found]) / votes.sum(dim=1, keepdim=True)
        return shares, distance.gather(1, last[:, None] - 1)[:, 0]

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
