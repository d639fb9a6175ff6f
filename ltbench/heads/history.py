"""The curvature that L-BFGS has seen, for K lanes at once: vectors in one tensor, small matrices on the host.

Every operation on the tensor treats a lane as if it were alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

MEMORY = 10

CACHE_LINE = 16
"""Numbers of four bytes on a cache line."""

Matrix = np.ndarray[tuple[int, int], np.dtype[np.float64]]
Vector = np.ndarray[tuple[int], np.dtype[np.float64]]


class Scaling(Protocol):
    """About the inverse of a Hessian, as a product with vectors ``[..., P]``, and back."""

    def __call__(self, vectors: Tensor) -> Tensor:
        """Multiply by it."""
        ...

    def undone(self, vectors: Tensor) -> Tensor:
        """Return what was multiplied."""
        ...


class Compact:
    """One lane's small matrices of the compact inverse Hessian of Byrd, Nocedal & Schnabel (1994).

        H = γP + [S  γPY] [ R⁻ᵀ(D + γYᵀPY)R⁻¹  −R⁻ᵀ ] [ Sᵀ   ]
                          [ −R⁻¹                 0  ] [ γYᵀP ]

    S and Y hold steps and gradient changes, R is the upper triangle of SᵀY, D its diagonal, P the lane's scaling, γ
    the scale of the last pair. Pairs lie in a ring; where there is none, all is zero and takes no part. R⁻¹ is kept,
    in the order of the ring: the inverse of a triangular matrix without its first row and column is the inverse of
    the rest.
    """

    def __init__(self) -> None:
        """Start without pairs."""
        self.newest, self.scale = -1, 1.0
        self.inverse: Matrix = np.zeros((MEMORY, MEMORY))
        self.products: Matrix = np.zeros((MEMORY, MEMORY))
        self.diagonal: Vector = np.zeros(MEMORY)

    @property
    def next(self) -> int:
        """The place of the next pair: a free one, or the oldest pair's."""
        return (self.newest + 1) % MEMORY

    def add(self, curvature: float, with_steps: Vector, with_changes: Vector) -> None:
        """Take a pair (s, y), sᵀy > 0, that lies in its place already: y's products with all of S and of PY."""
        new = self.newest = self.next
        for matrix in (self.inverse, self.products):
            matrix[new], matrix[:, new] = 0.0, 0.0
        self.inverse[:, new] = self.inverse @ with_steps / -curvature
        self.inverse[new, new] = 1.0 / curvature
        self.products[new], self.products[:, new] = with_changes, with_changes
        self.diagonal[new] = curvature
        self._rescale()

    def replace(self, products: Matrix) -> None:
        """Take the YᵀPY of another scaling."""
        self.products = products
        self._rescale()

    def combine(self, with_steps: Vector, with_changes: Vector) -> tuple[Vector, Vector]:
        """Return how much of each row of S and of PY is in H·g − γP·g, from g's products with them."""
        t = self.inverse @ with_steps
        inner = self.diagonal * t + self.scale * (self.products @ t - with_changes)
        return self.inverse.T @ inner, -self.scale * t

    def _rescale(self) -> None:
        """Take γ from the last pair."""
        product = self.products[self.newest, self.newest]
        self.scale = float(self.diagonal[self.newest] / product) if product > 0 else 1.0


class History:
    """The pairs of K lanes, ``[K, 2·MEMORY, W]``: S in the first half of each ring, PY in the second, P a scaling.

    Vectors have P numbers and what fills up a cache line, zero, so that every lane and every pair begins on one.
    ``scaled [K, W]`` are the lanes' scaled gradients.
    """

    def __init__(self, lanes: int, like: Tensor) -> None:
        """Start without pairs, for points like this one ``[P]``."""
        self.size, width = len(like), on_cache_lines(len(like))
        self.scaled, self.pairs = like.new_zeros(lanes, width), like.new_zeros(lanes, 2 * MEMORY, width)
        self.small = [Compact() for _ in range(lanes)]
        self._scalings: dict[int, Scaling] = {}

    def begin(self, lane: int, scaling: Scaling, gradient: Tensor) -> None:
        """Forget a lane's pairs, and take its scaling and its gradient ``[P]``."""
        self.pairs[lane] = 0.0
        self.small[lane], self._scalings[lane] = Compact(), scaling
        self.scaled[lane, : self.size] = scaling(gradient)

    def rescale(self, lane: int, scaling: Scaling, gradient: Tensor) -> None:
        """Take another scaling of a lane, whose gradient is this ``[P]``, and keep its pairs."""
        if lane in self._scalings and self.small[lane].newest >= 0:
            own = self.pairs[lane, MEMORY:, : self.size]
            changes = self._scalings[lane].undone(own)
            scaled = scaling(changes)
            own.copy_(scaled)
            self.small[lane].replace((changes @ scaled.T).double().cpu().numpy())
        self._scalings[lane] = scaling
        self.scaled[lane, : self.size] = scaling(gradient)

    def add(self, steps: Tensor, changes: Tensor, gradients: Tensor, curvatures: Sequence[float]) -> None:
        """Store a pair ``[K, W]`` of each lane whose curvature sᵀy is positive; the oldest makes room.

        ``gradients [K, W]`` are those that lanes have come to: scaled, less what was scaled before, they are Py.
        """
        lanes = [lane for lane, curvature in enumerate(curvatures) if curvature > 0]
        if not lanes:
            return
        for lane in lanes:
            new, place = self._scalings[lane](gradients[lane, : self.size]), self.small[lane].next
            self.pairs[lane, place] = steps[lane]
            torch.sub(new, self.scaled[lane, : self.size], out=self.pairs[lane, MEMORY + place, : self.size])
            self.scaled[lane, : self.size] = new
        products = self._products(changes)
        for lane in lanes:
            self.small[lane].add(curvatures[lane], products[lane, :MEMORY], products[lane, MEMORY:])

    def apply(self, gradient: Tensor) -> Tensor:
        """Return H times the gradients ``[K, W]``."""
        products = self._products(gradient)
        parts = [each.combine(own[:MEMORY], own[MEMORY:]) for each, own in zip(self.small, products, strict=True)]
        weights = gradient.new_tensor(np.stack([np.concatenate(part) for part in parts]))
        scale = gradient.new_tensor([each.scale for each in self.small])[:, None]
        return torch.baddbmm((scale * self.scaled)[:, None], weights[:, None], self.pairs)[:, 0]

    def _products(self, vectors: Tensor) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        """Return the inner products of every lane's vector ``[K, W]`` with its rows, ``[K, 2·MEMORY]``."""
        found = torch.bmm(self.pairs, vectors[:, :, None])[:, :, 0]
        return found.double().cpu().numpy()


def on_cache_lines(size: int) -> int:
    """Return the least number of numbers, of four bytes or more, that fills whole cache lines of 64 bytes."""
    return -(-size // CACHE_LINE) * CACHE_LINE
