"""The curvature that L-BFGS has seen, for K lanes at once: vectors in one tensor, small matrices on the host.

Every operation on the tensor treats a lane as if it were alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

MEMORY = 10

Matrix = np.ndarray[tuple[int, int], np.dtype[np.float64]]
Vector = np.ndarray[tuple[int], np.dtype[np.float64]]


class Compact:
    """One lane's small matrices of the compact inverse Hessian of Byrd, Nocedal & Schnabel (1994).

        H = γP + [S  γPY] [ R⁻ᵀ(D + γYᵀPY)R⁻¹  −R⁻ᵀ ] [ Sᵀ   ]
                          [ −R⁻¹                 0  ] [ γYᵀP ]

    S and Y hold steps and gradient changes, R is the upper triangle of SᵀY, D its diagonal, P a diagonal scaling, γ
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
    """The pairs of K lanes, ``[K, 2·MEMORY, P]``: S in the first half of each ring, PY in the second."""

    def __init__(self, lanes: int, like: Tensor) -> None:
        """Start without pairs, for points like this one ``[P]``."""
        self.scaling = like.new_ones(lanes, len(like))
        self.pairs = like.new_zeros(lanes, 2 * MEMORY, len(like))
        self.small = [Compact() for _ in range(lanes)]

    def clear(self, lane: int, scaling: Tensor) -> None:
        """Forget a lane's pairs, and take its scaling ``[P]``, an approximate inverse of the Hessian's diagonal."""
        self.pairs[lane], self.scaling[lane] = 0.0, scaling
        self.small[lane] = Compact()

    def rescale(self, lane: int, scaling: Tensor) -> None:
        """Take another scaling of a lane ``[P]``, and keep its pairs."""
        changes = self.pairs[lane, MEMORY:] / self.scaling[lane]
        self.scaling[lane] = scaling
        self.pairs[lane, MEMORY:] = changes * scaling
        if self.small[lane].newest >= 0:
            self.small[lane].replace((changes @ self.pairs[lane, MEMORY:].T).double().cpu().numpy())

    def add(self, steps: Tensor, changes: Tensor, curvatures: Sequence[float]) -> None:
        """Store a pair ``[K, P]`` of each lane whose curvature sᵀy is positive; the oldest makes room."""
        lanes = [lane for lane, curvature in enumerate(curvatures) if curvature > 0]
        if not lanes:
            return
        size, places = len(curvatures), []
        for half in (0, MEMORY):
            places += [2 * MEMORY * lane + half + self.small[lane].next for lane in lanes]
        rows = torch.tensor(lanes + [size + lane for lane in lanes], device=steps.device)
        both = torch.cat([steps, self.scaling * changes])
        self.pairs.view(2 * MEMORY * size, -1).index_copy_(0, torch.tensor(places, device=steps.device), both[rows])
        products = self._products(changes)
        for lane in lanes:
            self.small[lane].add(curvatures[lane], products[lane, :MEMORY], products[lane, MEMORY:])

    def apply(self, gradient: Tensor) -> Tensor:
        """Return H times the gradients ``[K, P]``."""
        products = self._products(gradient)
        parts = [each.combine(own[:MEMORY], own[MEMORY:]) for each, own in zip(self.small, products, strict=True)]
        weights = gradient.new_tensor(np.stack([np.concatenate(part) for part in parts]))
        scale = gradient.new_tensor([each.scale for each in self.small])[:, None]
        return torch.baddbmm((scale * self.scaling * gradient)[:, None], weights[:, None], self.pairs)[:, 0]

    def _products(self, vectors: Tensor) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        """Return the inner products of every lane's vector ``[K, P]`` with its rows, ``[K, 2·MEMORY]``."""
        found = torch.bmm(self.pairs, vectors[:, :, None])[:, :, 0]
        return found.double().cpu().numpy()
