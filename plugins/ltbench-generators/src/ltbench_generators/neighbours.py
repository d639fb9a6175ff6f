"""Nearest rows, in bounded memory, found the same whatever else is asked and on whatever device."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.linalg import vector_norm
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

HELD = 2**23
"""Numbers held at once, of each of a few working copies."""

SPARE = 4
"""How many more rows than asked are compared exactly."""

CACHED = 2**18
"""Numbers compared exactly at once: what a core's cache keeps."""

FEW = 512
"""Points of which products in float64 cost less than comparing candidates exactly."""

GROUP = 16
"""Distances of which the smallest is looked at first: the m smallest of all lie in the m groups of the smallest minima.

A power of two, as minima are found by halving.
"""

MOST = 0.75
"""The share of a pool from which on all its points are compared with one another, at half the products."""

FILLED = 0.7
"""The share of the largest of several sets that a smaller one must have to be searched beside it."""


def nearest(x: Tensor, queries: Tensor, pool: Tensor, k: int) -> Tensor:
    """Return the ``k`` nearest rows of a pool to each query, itself left out: positions ``[Q, k]``, nearest first.

    ``queries [Q]`` and ``pool [P]`` are positions in ``x [N, D]``, ``pool`` ascending. Of equally distant rows the first
    in the pool comes first. Fewer than k where the pool has no more. Q·P·D multiply-adds, or P²·D/2 for most of the pool;
    memory bounded by ``HELD``.
    """
    if torch.equal(queries, pool):
        return nearest_within([(x, pool)], k)[0]
    place = torch.full((len(x),), -1, device=x.device)
    place[pool] = torch.arange(len(pool), device=x.device)
    k = min(k, len(pool) - int(bool((place[queries] >= 0).any())))
    if k <= 0 or not len(queries):
        return torch.empty(len(queries), max(k, 0), dtype=torch.long, device=x.device)
    search = _Search.of(x.index_select(0, pool), k)
    if len(pool) > FEW and len(queries) > MOST * len(pool) and bool((place[queries] >= 0).all()):
        return pool[search.among_all()[place[queries]]]
    size = max(1, HELD // max(len(pool), (k + SPARE) * x.shape[1]))
    return pool[torch.cat([search(x, part, place[part]) for part in torch.split(queries, size)])]


def nearest_points(x: Tensor, points: Tensor, k: int, left_out: Tensor) -> Tensor:
    """Return places of the k nearest of some points ``[P, D]`` to rows ``[N, D]`` that are none of them: ``[N, at most k]``.

    ``left_out [N]`` is the place of a point that does not count, or −1; where no other is left, it comes last. Of equally
    near points the first comes first.
    """
    k = min(k, len(points))
    if k <= 0 or not len(x):
        return torch.empty(len(x), max(k, 0), dtype=torch.long, device=x.device)
    search, rows = _Search.of(points, k), torch.arange(len(x), device=x.device)
    size = max(1, HELD // max(len(points), (k + SPARE) * x.shape[1]))
    return torch.cat([search.away(x, part, left_out[part]) for part in torch.split(rows, size)])


def nearest_within(sets: Sequence[tuple[Tensor, Tensor]], k: int) -> list[Tensor]:
    """Return ``nearest(x, rows, rows, k)`` for each of many ``(x, rows)``; sets of few rows are searched many at a time.

    All x are of one width, precision and device. What a set gets does not depend on the others.
    """
    found = [rows.new_empty(len(rows), 0) for _, rows in sets]
    small: list[int] = []
    for number, (x, rows) in enumerate(sets):
        reach = min(k, len(rows) - 1)
        if reach > 0 and len(rows) > FEW:
            found[number] = rows[_Search.of(x.index_select(0, rows), reach).among_all()]
        elif reach > 0:
            small.append(number)
    for batch in _batches(small, [len(rows) for _, rows in sets], sets[0][0].shape[1] if sets else 0):
        near = _among_few([x.index_select(0, rows) for x, rows in (sets[number] for number in batch)], k)
        for number, places in zip(batch, near, strict=True):
            found[number] = sets[number][1][places]
    return found


def _batches(numbers: Sequence[int], sizes: Sequence[int], width: int) -> Iterator[list[int]]:
    """Put sets of about as many points together, the largest first, so many that they fit into ``HELD`` numbers."""
    batch: list[int] = []
    for number in sorted(numbers, key=lambda each: -sizes[each]):
        most = sizes[batch[0]] if batch else sizes[number]
        if batch and (sizes[number] < FILLED * most or (len(batch) + 1) * most * max(most, width) > HELD):
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _among_few(sets: Sequence[Tensor], k: int) -> list[Tensor]:
    """Return places of the k nearest others to each of the points ``[n, D]`` of a set, n > 1, in float64.

    Sets are filled up to the largest with points infinitely far away.
    """
    points, sizes = (
        pad_sequence(list(sets), batch_first=True),
        torch.tensor([len(each) for each in sets], device=sets[0].device),
    )
    filling = torch.arange(points.shape[1], device=points.device) >= sizes[:, None]
    centred = points - (points.sum(dim=1, dtype=torch.float64) / sizes[:, None])[:, None]
    squares = vector_norm(centred.masked_fill_(filling[:, :, None], 0), dim=2).square_()
    rough = torch.baddbmm(squares.masked_fill(filling, torch.inf)[:, None], centred, centred.mT, alpha=-2)
    rough.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    chosen, gaps = _ordered(rough, squares, squares.amax(dim=1, keepdim=True), k, points.shape[2])
    wanted = torch.arange(gaps.shape[2], device=gaps.device) < (sizes - 1)[:, None, None]
    sure = (gaps | ~wanted).all(dim=2)
    unsure = (~sure & ~filling).any(dim=1).tolist()
    found = []
    for number, mine in enumerate(sets):
        places = chosen[number, : len(mine), : len(mine) - 1]
        if unsure[number]:
            everyone = torch.arange(len(mine), device=mine.device)
            places = _settled(mine, mine, everyone, everyone, places, sure[number, : len(mine)])
        found.append(places)
    return found


def _ordered(rough: Tensor, length: Tensor, most: Tensor, k: int, width: int) -> tuple[Tensor, Tensor]:
    """Return places of the k smallest of squared distances ``[…, Q, P]`` in float64, and whether each is beyond the one before.

    That is said where rounding cannot have turned them: ``length [..., Q]`` are squared lengths, ``most`` the largest.
    """
    values, places = rough.topk(min(k + 1, rough.shape[-1]), dim=-1, largest=False)
    rounding = width * 2.0**-48 * (length + most)
    return places[..., :k], values.diff(dim=-1) > rounding[..., None]


def _settled(points: Tensor, x: Tensor, queries: Tensor, own: Tensor, chosen: Tensor, sure: Tensor) -> Tensor:
    """Return what was chosen; where that is not sure, as many rows are equal, compare with all points, in float64."""
    unsure = (~sure).nonzero().flatten()
    if not len(unsure):
        return chosen
    distance = _distances(x[queries[unsure]], points)
    distance = distance.masked_fill(torch.arange(len(points), device=own.device) == own[unsure, None], torch.inf)
    chosen[unsure] = distance.argsort(dim=1, stable=True)[:, : chosen.shape[1]]
    return chosen


@dataclass(frozen=True)
class _Search:
    """Points ``[P, D]`` to search, and about their mean with their squared lengths: few in float64, many in float32.

    Many are filled up to whole groups with points infinitely far away.
    """

    points: Tensor
    k: int
    mean: Tensor
    centred: Tensor
    squares: Tensor

    @staticmethod
    def of(points: Tensor, k: int) -> _Search:
        """Prepare points."""
        mean = points.mean(dim=0, dtype=torch.float64)
        centred = points - mean  # in float64, as the mean is
        if len(points) <= FEW:
            return _Search(points, k, mean, centred, vector_norm(centred, dim=1).square_())
        centred = pad(centred.float(), (0, 0, 0, -len(points) % GROUP))
        squares = vector_norm(centred, dim=1).square_()
        squares[len(points) :] = torch.inf
        return _Search(points, k, mean, centred, squares)

    def __call__(self, x: Tensor, queries: Tensor, own: Tensor) -> Tensor:
        """Return places of the k nearest points ``[B, k]`` to rows of x, ``queries [B]``; ``own [B]`` are theirs, or −1."""
        if bool((own >= 0).all()):
            return self._found(x, queries, own, self.centred[own], self.squares[own])
        return self.away(x, queries, own)

    def away(self, x: Tensor, queries: Tensor, own: Tensor) -> Tensor:
        """Return the same for rows of x that need not be the points at their own place."""
        centred = (x[queries].double() - self.mean).to(self.centred.dtype)
        return self._found(x, queries, own, centred, (centred**2).sum(dim=1))

    def _found(self, x: Tensor, queries: Tensor, own: Tensor, centred: Tensor, length: Tensor) -> Tensor:
        """Return places of the k nearest points, by ‖p‖² − 2 q·p + ‖q‖² first, which tells candidates."""
        inside = (own >= 0).nonzero().flatten()
        rough = torch.addmm(self.squares, centred, self.centred.T, alpha=-2).add_(length[:, None])
        rough[inside, own[inside]] = torch.inf
        if self.centred.dtype == torch.float64:
            chosen, gaps = _ordered(rough, length, self.squares.max(), self.k, x.shape[1])
            return _settled(self.points, x, queries, own, chosen, gaps.all(dim=1))
        return self._compared(x, queries, own, *_smallest(rough, self._candidates), length)

    def among_all(self) -> Tensor:
        """Return places of the k nearest other points to each ``[P, k]``, of many: by half the products, each for two."""
        everyone = torch.arange(len(self.points), device=self.points.device)
        size = max(GROUP, math.isqrt(HELD // 2) // GROUP * GROUP)
        tiles = [slice(first, first + size) for first in range(0, len(self.centred), size)]
        values = self.squares.new_full((len(self.centred), self._candidates), torch.inf)
        places = torch.zeros(values.shape, dtype=torch.long, device=values.device)

        def merge(rows: slice, rough: Tensor, first: int) -> None:
            found, at = _smallest(rough, self._candidates)
            both = torch.cat([values[rows], found], dim=1)
            values[rows], kept = both.topk(self._candidates, dim=1, largest=False)
            places[rows] = torch.cat([places[rows], at + first], dim=1).gather(1, kept)

        for number, rows in enumerate(tiles):
            for columns in tiles[number:]:
                rough = torch.addmm(self.squares[columns], self.centred[rows], self.centred[columns].T, alpha=-2)
                rough.add_(self.squares[rows, None])
                if rows == columns:
                    rough.fill_diagonal_(torch.inf)
                else:
                    merge(columns, rough.T, rows.start)
                merge(rows, rough, columns.start)
        parts = torch.split(everyone, max(1, HELD // max(len(everyone), self._candidates * self.points.shape[1])))
        compared = (self._compared(self.points, each, each, values[each], places[each], self.squares[each]) for each in parts)
        return torch.cat(list(compared))

    @property
    def _candidates(self) -> int:
        """How many points are compared exactly."""
        return min(self.k + SPARE, len(self.points))

    def _compared(self, x: Tensor, queries: Tensor, own: Tensor, values: Tensor, places: Tensor, length: Tensor) -> Tensor:
        """Return the k nearest of candidates ``[B, K]``, compared exactly; of all where another might be as near.

        Candidates that are none, the query itself and what fills up a group, are infinitely far: nothing is sure then.
        """
        most, places = values.amax(dim=1), places.clamp_max(len(self.points) - 1).sort(dim=1).values
        exact = self._exact(x.index_select(0, queries), places).masked_fill(places == own[:, None], torch.inf)
        distance, order = exact.sort(dim=1, stable=True)
        rounding = x.shape[1] * (2.0**-22 * (length + self.squares[: len(self.points)].max()) + 2.0**-124)
        sure = (distance[:, self.k - 1] ** 2 + rounding < most) & most.isfinite()
        return _settled(self.points, x, queries, own, places.gather(1, order)[:, : self.k], sure)

    def _exact(self, queries: Tensor, places: Tensor) -> Tensor:
        """Return the distances of queries ``[B, D]`` to points by place ``[B, K]``, a few queries at a time on the CPU."""
        size = max(1, (CACHED * 64 if queries.is_cuda else CACHED) // (places.shape[1] * queries.shape[1]))
        pairs = zip(torch.split(queries, size), torch.split(places, size), strict=True)
        return torch.cat([_distances(q[:, None], self.points[near])[:, 0] for q, near in pairs])


def _smallest(rough: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the smallest numbers of each row of ``[B, P]``, P whole groups, and their places ``[B, count]``, in any order."""
    minima = rough
    while minima.shape[1] * GROUP > rough.shape[1]:
        minima = torch.minimum(*minima.chunk(2, dim=1))
    groups = minima.topk(min(count, minima.shape[1]), dim=1, largest=False, sorted=False).indices
    places = (groups[:, :, None] + torch.arange(GROUP, device=rough.device) * minima.shape[1]).flatten(1)
    values, chosen = rough.gather(1, places).topk(min(count, places.shape[1]), dim=1, largest=False, sorted=False)
    return values, places.gather(1, chosen)


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Return Euclidean distances ``[…, A, B]`` in float64, each computed from its two rows alone."""
    return torch.cdist(a.double(), b.double(), compute_mode="donot_use_mm_for_euclid_dist")
