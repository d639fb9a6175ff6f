"""Nearest rows, in bounded memory, found the same whatever else is asked and on whatever device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

HELD = 2**21
"""Numbers held at once, of each of a few working copies."""

SPARE = 8
"""How many more rows than asked are compared exactly."""


def nearest(x: Tensor, queries: Tensor, pool: Tensor, k: int) -> Tensor:
    """Return the ``k`` nearest rows of a pool to each query, itself left out: positions ``[Q, k]``, nearest first.

    ``queries [Q]`` and ``pool [P]`` are positions in ``x [N, D]``, ``pool`` ascending. Of equally distant rows the first
    in the pool comes first. Fewer than k where the pool has no more. Q·P·D multiply-adds, memory bounded by ``HELD``.
    """
    place = torch.full((len(x),), -1, device=x.device)
    place[pool] = torch.arange(len(pool), device=x.device)
    k = min(k, len(pool) - int(bool((place[queries] >= 0).any())))
    if k <= 0 or not len(queries):
        return torch.empty(len(queries), max(k, 0), dtype=torch.long, device=x.device)
    search = _Search.of(x[pool], k)
    size = max(1, HELD // max(len(pool), (k + SPARE) * x.shape[1]))
    return pool[torch.cat([search(x[part], place[part]) for part in torch.split(queries, size)])]


@dataclass(frozen=True)
class _Search:
    """Points ``[P, D]`` to search, and in float32 about their mean with their squared lengths ``[P]``."""

    points: Tensor
    k: int
    mean: Tensor
    centred: Tensor
    squares: Tensor

    @staticmethod
    def of(points: Tensor, k: int) -> _Search:
        """Prepare points."""
        mean = points.double().mean(dim=0)
        centred = (points.double() - mean).float()
        return _Search(points, k, mean, centred, (centred**2).sum(dim=1))

    def __call__(self, queries: Tensor, own: Tensor) -> Tensor:
        """Return places of the k nearest points ``[B, k]`` to queries ``[B, D]``; ``own [B]`` is a query's place or −1.

        ‖p‖² − 2 q·p in float32 picks k + SPARE candidates, which are then compared by ‖q − p‖ itself, in float64.
        Where rounding could have left out one that is as near (many equal rows), all points are compared so.
        """
        centred = (queries.double() - self.mean).float()
        rough = torch.addmm(self.squares, centred, self.centred.T, alpha=-2)
        inside = (own >= 0).nonzero().flatten()
        rough[inside, own[inside]] = torch.inf
        values, places = rough.topk(min(self.k + SPARE, len(self.points)), dim=1, largest=False)
        places = places.sort(dim=1).values
        exact = _distances(queries[:, None], self.points[places])[:, 0]
        distance, order = exact.masked_fill(places == own[:, None], torch.inf).sort(dim=1, stable=True)
        chosen = places.gather(1, order)[:, : self.k]
        if places.shape[1] < len(self.points):
            length = (centred**2).sum(dim=1)
            rounding = queries.shape[1] * 2.0**-22 * (length + self.squares.max())
            sure = distance[:, self.k - 1] ** 2 + rounding < values[:, -1] + length
            for row in (~sure).nonzero().flatten().tolist():  # rare, and each is compared with all points
                chosen[row] = self._compared(queries[row], int(own[row]))
        return chosen

    def _compared(self, query: Tensor, own: int) -> Tensor:
        """Return places of the k nearest points ``[k]`` by comparing a query ``[D]`` with every point."""
        distance = _distances(query[None], self.points)[0]
        if own >= 0:
            distance[own] = torch.inf
        return distance.argsort(stable=True)[: self.k]


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Return Euclidean distances ``[…, A, B]`` in float64, each computed from its two rows alone."""
    return torch.cdist(a.double(), b.double(), compute_mode="donot_use_mm_for_euclid_dist")
