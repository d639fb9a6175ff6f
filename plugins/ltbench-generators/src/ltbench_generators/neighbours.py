"""Nearest rows, in bounded memory, found the same whatever else is asked and on whatever device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

HELD = 2**23
"""Numbers held at once, of each of a few working copies."""

SPARE = 4
"""How many more rows than asked are compared exactly."""

CACHED = 2**18
"""Numbers compared exactly at once: what a core's cache keeps."""

FEW = 512
"""Points of which products in float64 cost less than comparing candidates exactly."""


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
    return pool[torch.cat([search(x, part, place[part]) for part in torch.split(queries, size)])]


@dataclass(frozen=True)
class _Search:
    """Points ``[P, D]`` to search, and about their mean with their squared lengths ``[P]``: few in float64, many in float32."""

    points: Tensor
    k: int
    mean: Tensor
    centred: Tensor
    squares: Tensor

    @staticmethod
    def of(points: Tensor, k: int) -> _Search:
        """Prepare points."""
        precise = points.double()
        mean = precise.mean(dim=0)
        centred = (precise - mean).to(torch.float64 if len(points) <= FEW else torch.float32)
        return _Search(points, k, mean, centred, (centred**2).sum(dim=1))

    def __call__(self, x: Tensor, queries: Tensor, own: Tensor) -> Tensor:
        """Return places of the k nearest points ``[B, k]`` to rows of x, ``queries [B]``; ``own [B]`` is a query's place or −1.

        By ‖p‖² − 2 q·p first. Where its rounding could have changed anything (many equal rows), a query is compared with
        all points by ‖q − p‖ itself, in float64.
        """
        inside = (own >= 0).nonzero().flatten()
        if torch.equal(own, torch.arange(len(self.points), device=own.device)):  # all of them, centred already
            centred, length = self.centred, self.squares
        elif len(inside) == len(own):
            centred, length = self.centred[own], self.squares[own]
        else:
            centred = (x[queries].double() - self.mean).to(self.centred.dtype)
            length = (centred**2).sum(dim=1)
        rough = torch.addmm(self.squares, centred, self.centred.T, alpha=-2)
        rough[inside, own[inside]] = torch.inf
        if self.centred.dtype == torch.float64:
            chosen, sure = self._ordered(rough, length)
        else:
            chosen, sure = self._compared(rough, x[queries], own, length)
        unsure = (~sure).nonzero().flatten()
        if len(unsure):
            distance = _distances(x[queries[unsure]], self.points)
            distance = distance.masked_fill(torch.arange(len(self.points), device=own.device) == own[unsure, None], torch.inf)
            chosen[unsure] = distance.argsort(dim=1, stable=True)[:, : self.k]
        return chosen

    def _ordered(self, rough: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Return the k of the smallest products in float64, and whether each is further than the one before for sure."""
        values, places = rough.topk(min(self.k + 1, len(self.points)), dim=1, largest=False)
        rounding = self.points.shape[1] * 2.0**-48 * (length + self.squares.max())
        return places[:, : self.k], (values.diff(dim=1) > rounding[:, None]).all(dim=1)

    def _compared(self, rough: Tensor, queries: Tensor, own: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Return the k nearest of k + SPARE candidates, compared exactly, and whether no other point is as near for sure."""
        values, places = rough.topk(min(self.k + SPARE, len(self.points)), dim=1, largest=False)
        places = places.sort(dim=1).values
        exact = self._exact(queries, places).masked_fill(places == own[:, None], torch.inf)
        distance, order = exact.sort(dim=1, stable=True)
        rounding = queries.shape[1] * 2.0**-22 * (length + self.squares.max())
        sure = distance[:, self.k - 1] ** 2 + rounding < values[:, -1] + length
        return places.gather(1, order)[:, : self.k], sure | (places.shape[1] == len(self.points))

    def _exact(self, queries: Tensor, places: Tensor) -> Tensor:
        """Return the distances of queries ``[B, D]`` to points by place ``[B, K]``, a few queries at a time on the CPU."""
        size = max(1, (CACHED * 64 if queries.is_cuda else CACHED) // (places.shape[1] * queries.shape[1]))
        pairs = zip(torch.split(queries, size), torch.split(places, size), strict=True)
        return torch.cat([_distances(q[:, None], self.points[near])[:, 0] for q, near in pairs])


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Return Euclidean distances ``[…, A, B]`` in float64, each computed from its two rows alone."""
    return torch.cdist(a.double(), b.double(), compute_mode="donot_use_mm_for_euclid_dist")
