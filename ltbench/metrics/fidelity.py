"""How near synthetic rows are to real ones, class by class: pure functions on feature rows and labels.

N real rows, S synthetic ones (or held-out real ones, for comparison), D features, C classes. Undefined values are None.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

K = 5
"""Neighbours that make a real row's ball, in density and coverage."""

HELD = 2**22
"""Distances held at once."""

POINTS = 2**17
"""Real rows that are compared with at once."""

TIES = 1 + 1e-7
"""Balls reach so much further: a copy of a row on the edge of one lies in it, whatever the rounding."""


@dataclass(frozen=True)
class Labelled:
    """Rows ``[N, D]`` and their labels ``[N]``."""

    x: Tensor
    labels: Tensor

    def of(self, c: int) -> Tensor:
        """Return the rows of a class, float64."""
        return self.x[self.labels == c].double()


@dataclass(frozen=True)
class Fidelity:
    """Figures of each class ``[C]``; None where a class has too few rows for one.

    ``frechet``: squared Fréchet distance, the covariances pooled over classes. ``density`` and ``coverage`` (Naeem et al.,
    ICML 2020, arXiv 2002.09797). ``contamination``: share of rows whose nearest real row is of another class.
    ``memorised``: share of rows nearer to a real row than that is to any other (1 − authenticity, Alaa et al., ICML 2022,
    arXiv 2102.08921); ``duplicates``: share of rows that equal a real row. A diagnostic, never a proof of privacy.
    """

    frechet: list[float | None]
    density: list[float | None]
    coverage: list[float | None]
    contamination: list[float | None]
    memorised: list[float | None]
    duplicates: list[float | None]


def fidelity_figures(real: Labelled, made: Labelled, classes: int) -> Fidelity:
    """Compare made rows with real ones; S·N·D multiply-adds, so choose some of very many rows beforehand."""
    distance, index = nearest_rows(made.x, real.x)
    met, place = torch.unique(index, return_inverse=True)
    apart, _ = nearest_rows(real.x[met], real.x, own=met)
    balls = [density_and_coverage(real.of(c), made.of(c)) for c in range(classes)]
    return Fidelity(
        frechet=frechet_distances(real, made, classes),
        density=[density for density, _ in balls],
        coverage=[coverage for _, coverage in balls],
        contamination=_shares(real.labels[index] != made.labels, made.labels, classes),
        memorised=_shares(distance < apart[place], made.labels, classes),
        duplicates=_shares(distance == 0, made.labels, classes),
    )


def frechet_distances(real: Labelled, made: Labelled, classes: int) -> list[float | None]:
    """Return ‖μ_r − μ_m‖² + tr(R + M − 2·(R^½ M R^½)^½) for each class with rows of both kinds.

    R and M are the within-class covariances pooled over those classes, because a rare class has fewer rows than
    features; so the second term is one number.
    """
    both = [c for c in range(classes) if bool((real.labels == c).any()) and bool((made.labels == c).any())]
    if not both:
        return [None] * classes
    spread = covariance_distance(pooled_covariance(real, both), pooled_covariance(made, both))
    shifts = {c: float(((real.of(c).mean(dim=0) - made.of(c).mean(dim=0)) ** 2).sum()) for c in both}
    return [shifts[c] + spread if c in shifts else None for c in range(classes)]


def pooled_covariance(rows: Labelled, classes: list[int]) -> Tensor:
    """Return Σ (x − μ_y)(x − μ_y)ᵀ / (N − C) over some classes that have rows, ``[D, D]``; zero if each has one row."""
    scatter, count = torch.zeros(rows.x.shape[1], rows.x.shape[1], dtype=torch.float64, device=rows.x.device), 0
    for own in map(rows.of, classes):
        centred = own - own.mean(dim=0)
        scatter, count = scatter + centred.T @ centred, count + len(own)
    return scatter / max(1, count - len(classes))


def covariance_distance(a: Tensor, b: Tensor) -> float:
    """Return tr(A + B − 2·(A^½ B A^½)^½) for covariances ``[D, D]``, which may be singular (Dowson & Landau, 1982)."""
    root = _root(a)
    inner = torch.linalg.eigvalsh(root @ b @ root).clamp_min(0)
    return max(0.0, float(a.trace() + b.trace() - 2 * inner.sqrt().sum()))


def density_and_coverage(real: Tensor, made: Tensor, k: int = K) -> tuple[float | None, float | None]:
    """Return both for one class's rows ``[n, D]`` and ``[m, D]``; None where n ≤ k + 1 or m = 0.

    A real row's ball reaches its k-th nearest other real row. Density is the mean number of balls that a made row lies
    in, over k; coverage the share of balls that hold a made row.
    """
    if len(real) <= k + 1 or not len(made):
        return None, None
    middle = real.mean(dim=0)
    ours, theirs = _Points.of(real, middle), _Points.of(made, middle)
    parts = torch.split(real, max(1, HELD // len(real)))
    radius = torch.cat([ours.nearest(ours.squares_to(each), each, k + 1)[0][:, -1:] for each in parts]) * TIES
    size = max(1, HELD // len(made))
    inside = [
        theirs.within(part, reach) for part, reach in zip(torch.split(real, size), torch.split(radius, size), strict=True)
    ]
    lies_in = sum(int(each.sum()) for each in inside)
    held = sum(int(each.any(dim=1).sum()) for each in inside)
    return lies_in / (k * len(made)), held / len(real)


def nearest_rows(x: Tensor, real: Tensor, own: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return each row's distance to its nearest real row, float64 ``[S]``, and which that is ``[S]``.

    Of equally near ones the first. ``own [S]`` are real rows that do not count, one for each: the row itself. Without another
    the distance is infinite.
    """
    size = max(1, HELD // max(1, min(len(real), POINTS)))
    least = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
    index = torch.zeros(len(x), dtype=torch.long, device=x.device)
    middle = real.mean(dim=0, dtype=torch.float64)
    for first in range(0, len(real), POINTS):
        points = _Points.of(real[first : first + POINTS], middle)
        for start in range(0, len(x), size):
            rows = slice(start, start + size)
            rough = points.squares_to(x[rows])
            if own is not None:
                among = ((own[rows] >= first) & (own[rows] < first + len(points.rows))).nonzero().flatten()
                rough[among, own[rows][among] - first] = torch.inf
            found, place = (each[:, 0] for each in points.nearest(rough, x[rows], 1))
            nearer = found < least[rows]
            least[rows] = torch.where(nearer, found, least[rows])
            index[rows] = torch.where(nearer, place + first, index[rows])
    return least, index


@dataclass(frozen=True)
class _Points:
    """Rows ``[P, D]`` to compare with: as they are, and in float64 about a point near them, with their squared lengths.

    Products tell squared distances up to rounding, which grows with the lengths; what it could turn is compared exactly, by
    the norm of differences in float64. So nothing depends on where the rows lie.
    """

    rows: Tensor
    middle: Tensor
    centred: Tensor
    squares: Tensor

    @staticmethod
    def of(rows: Tensor, middle: Tensor) -> _Points:
        """Prepare rows."""
        centred = rows.double() - middle
        return _Points(rows, middle, centred, (centred**2).sum(dim=1))

    def squares_to(self, x: Tensor) -> Tensor:
        """Return squared distances to rows ``[B, D]`` up to rounding, ``[B, P]``."""
        new = x.double() - self.middle
        return torch.addmm(self.squares, new, self.centred.T, alpha=-2).add_((new**2).sum(dim=1, keepdim=True))

    def rounding(self, x: Tensor) -> Tensor:
        """Return what squared distances to rows ``[B, D]`` are off by at most, ``[B, 1]``."""
        lengths = ((x.double() - self.middle) ** 2).sum(dim=1, keepdim=True)
        return (x.shape[1] + 8) * 2.0**-51 * (lengths + self.squares.max())

    def nearest(self, rough: Tensor, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return distances to the k nearest points and their places, ``[B, k]``, nearest first, of equals the first.

        Points of infinite ``rough [B, P]`` do not count.
        """
        values, places = rough.topk(k, dim=1, largest=False) if k > 1 else rough.min(dim=1, keepdim=True)
        # The k nearest are among those whose rough squares exceed the k-th smallest by twice the rounding at most.
        counts = (rough <= values[:, -1:] + 2 * self.rounding(x)).sum(dim=1)
        distances, places = self._ordered(x, values, places)
        powers = torch.where((counts > k) & values[:, -1].isfinite(), counts, 0).double().log2().ceil().clamp_min(-1).long()
        for power in sorted(set(powers[powers >= 0].tolist())):
            most = min(2**power, rough.shape[1])
            for some in torch.split((powers == power).nonzero().flatten(), max(1, HELD // (most * x.shape[1]))):
                ordered = self._ordered(x[some], *rough[some].topk(most, dim=1, largest=False))
                distances[some], places[some] = (each[:, :k] for each in ordered)
        return distances, places

    def within(self, x: Tensor, reach: Tensor) -> Tensor:
        """Return which points lie within the reach ``[B, 1]`` of rows ``[B, D]``, bool ``[B, P]``."""
        beyond = self.squares_to(x) - reach**2
        inside = beyond <= 0
        unsure = (beyond.abs() <= self.rounding(x) + x.shape[1] * 2.0**-51 * reach**2).nonzero()
        for row, place in (each.T for each in torch.split(unsure, max(1, HELD // x.shape[1]))):
            inside[row, place] = self._apart(x[row], place) <= reach[row, 0]
        return inside

    def _ordered(self, x: Tensor, values: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Return distances to points by place ``[B, K]`` and the places, nearest first; infinite where values are."""
        places, order = places.sort(dim=1)
        distances = self._apart(x[:, None], places).masked_fill(values.gather(1, order).isinf(), torch.inf)
        distances, order = distances.sort(dim=1, stable=True)
        return distances, places.gather(1, order)

    def _apart(self, x: Tensor, places: Tensor) -> Tensor:
        """Return the distances of rows to points by place, each from its two rows alone."""
        distances: Tensor = torch.linalg.vector_norm(x.double() - self.rows[places].double(), dim=-1)
        return distances


def _root(covariance: Tensor) -> Tensor:
    """Return the symmetric root of a covariance ``[D, D]`` that may be singular."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    return root


def _shares(hit: Tensor, labels: Tensor, classes: int) -> list[float | None]:
    """Return each class's share of its rows that are hit; None for a class without rows."""
    hits = torch.bincount(labels[hit], minlength=classes).tolist()
    return [
        n / rows if rows else None for n, rows in zip(hits, torch.bincount(labels, minlength=classes).tolist(), strict=True)
    ]
