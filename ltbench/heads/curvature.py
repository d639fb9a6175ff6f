"""How steep the objective of a linear head is about a point, and what a solver makes of that. Knows no loss.

The Hessian of cross entropy is Σ_i w_i (diag p_i − p_i p_iᵀ) ⊗ (x_i, 1)(x_i, 1)ᵀ, and λ for weights. Here it is taken as
M ⊗ E + λ: M = Σ_i w_i (diag p_i − p_i p_iᵀ), the mean over all rows, and E made of the mean of the rows, weighted by their
curvature, and of the variance in each principal axis. In the eigenvectors of M, which set apart classes that are taken for one
another, what is left of that once biases are taken out is a diagonal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

POWER, DAMPING = 0.75, 0.5
"""Curvature is taken to a power, and so many times its mean is added: it changes on the way, and steps along what is nearly
flat here would be too long. Found by counting evaluations on real and simulated features (``benchmarks/evaluations.py``).
"""

MOST_CLASSES = 1024
"""Of more classes M counts as diagonal: its eigenvectors would cost more than the products of rows with a head."""

ROUNDING = 1e-7
"""What M's eigenvalues are sure to, as a share of the largest."""

MOST_PRODUCTS = 20
"""Most products with M that are measured for one look."""

LEAST_BIAS = 1e-3
"""The least curvature by a bias, as a share of the largest: along a constant added to all logits there is none."""


@dataclass(frozen=True)
class Curvature:
    """M as eigenvalues ``[C]`` and eigenvectors ``basis [C, C]``, or its diagonal where there is none; its ``diagonal [C]``."""

    values: Tensor
    basis: Tensor | None
    diagonal: Tensor

    @staticmethod
    def of(matrix: Tensor) -> Curvature:
        """Take M apart, ``[C, C]``, or its diagonal ``[C]``; what is below zero by rounding counts as zero."""
        if matrix.ndim == 1:
            return Curvature(matrix.clamp_min(0), None, matrix)
        values, basis = torch.linalg.eigh(matrix.double())
        return Curvature(values.clamp_min(0).to(matrix.dtype), basis.to(matrix.dtype), matrix.diagonal())

    @staticmethod
    def of_shares(shares: Tensor) -> Curvature:
        """Return the curvature where every row's probabilities are the classes' shares ``[C]``, as at W = 0."""
        if len(shares) > MOST_CLASSES:
            return Curvature.of(shares * (1 - shares))
        return Curvature.of(torch.diag(shares) - torch.outer(shares, shares))

    def bias_step(self, gradient: Tensor) -> Tensor:
        """Return M⁻¹g for a gradient by the biases ``[C]``: less that step, biases are about the best where weights stay.

        A constant added to all logits changes nothing, so that the gradient's mean is rounding.
        """
        known = self.diagonal > 0
        own = torch.where(known, gradient - gradient[known].mean(), 0.0).double() if bool(known.any()) else gradient.double()
        values = self.values.double().clamp_min(max(ROUNDING * float(self.values.max()), 1e-30))
        if self.basis is None:
            return (own / values).to(gradient.dtype)
        basis = self.basis.double()
        return (basis @ ((basis.T @ own) / values)).to(gradient.dtype)


class CurvatureSums:
    """Sums over rows of their curvatures p(1 − p): M, and the mean of the rows weighted by them."""

    def __init__(self, classes: int, like: Tensor) -> None:
        """Start at zero, for rows like this one ``[R]``."""
        self.by_class, self._total, self._rows = like.new_zeros(classes), like.new_zeros(()), torch.zeros_like(like)
        self._pairs = like.new_zeros(classes, classes) if classes <= MOST_CLASSES else None

    def add(self, probability: Tensor, weights: Tensor, x: Tensor) -> int:
        """Take rows ``[B, R]`` with their probabilities ``[B, C]`` and weights ``[B, 1]``; return the FLOPs that it cost."""
        weighted = probability * weights
        curvatures = torch.addcmul(weighted, weighted, probability, value=-1)
        self.by_class += curvatures.sum(dim=0)
        of_row = curvatures.sum(dim=1)
        self._total += of_row.sum()
        self._rows += of_row @ x
        if self._pairs is None:
            return 0
        self._pairs.addmm_(probability.T, weighted, alpha=-1)
        return 2 * len(x) * self._pairs.numel()

    def curvature(self) -> Curvature:
        """Return M, whose diagonal is the mean curvature by each logit."""
        if self._pairs is None:
            return Curvature.of(self.by_class)
        self._pairs.diagonal().copy_(self.by_class)
        return Curvature.of(self._pairs)

    @property
    def mean(self) -> Tensor:
        """The mean of the rows ``[R]``."""
        return self._rows / self._total.clamp_min(1e-30)


@dataclass(frozen=True)
class KroneckerScaling:
    """About the inverse Hessian at a point, on vectors ``[..., C·(R + 1)]``, for rows of a mean m ``[R]`` and a variance v.

    Biases are taken out of what is about M ⊗ (x, 1)(x, 1)ᵀ + λ first; what is left is Q h⁻¹ Qᵀ, where M = Q diag(e) Qᵀ. About
    h = e vᵀ + λ, to the power ¾ beside its largest, and half the mean of e vᵀ. ``by_weight [C, R]`` is h, ``by_bias [C, 1]`` e.
    """

    basis: Tensor | None
    by_weight: Tensor
    by_bias: Tensor
    mean: Tensor

    @staticmethod
    def of(curvature: Curvature, mean: Tensor, variance: Tensor, l2: float) -> KroneckerScaling:
        """Return the scaling where M is so, for rows of this mean and variance ``[R]`` and a penalty λ."""
        own = curvature.values[:, None] * variance
        steepness = own + l2
        by_weight = steepness**POWER * steepness.max() ** (1 - POWER) + DAMPING * own.mean()
        by_bias = curvature.values.clamp_min(_least(curvature.values))[:, None]
        return KroneckerScaling(curvature.basis, by_weight, by_bias, mean)

    def __call__(self, vectors: Tensor) -> Tensor:
        """Multiply vectors by the inverse."""
        weight, bias = self._parts(self._turned(vectors, back=False))
        weight = (weight - bias * self.mean) / self.by_weight
        bias = bias / self.by_bias - (weight @ self.mean)[..., None]
        return self._turned(torch.cat([weight, bias], dim=-1), back=True).reshape(vectors.shape)

    def undone(self, vectors: Tensor) -> Tensor:
        """Return the vectors that were multiplied."""
        weight, bias = self._parts(self._turned(vectors, back=False))
        bias = (bias + (weight @ self.mean)[..., None]) * self.by_bias
        weight = weight * self.by_weight + bias * self.mean
        return self._turned(torch.cat([weight, bias], dim=-1), back=True).reshape(vectors.shape)

    def _turned(self, vectors: Tensor, *, back: bool) -> Tensor:
        """Return vectors as ``[..., C, R + 1]``, in the eigenvectors, or back from there."""
        both = vectors.reshape(*vectors.shape[: vectors.ndim - (2 if back else 1)], len(self.by_weight), len(self.mean) + 1)
        return both if self.basis is None else (self.basis if back else self.basis.T) @ both

    def _parts(self, both: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights ``[..., C, R]`` and biases ``[..., C, 1]``."""
        return both[..., :-1], both[..., -1:]


def _least(values: Tensor) -> float:
    """Return the least curvature by a bias that is counted."""
    return max(LEAST_BIAS * float(values.max()), 1e-12)


def bias_step(multiply: Callable[[Tensor], Tensor], diagonal: Tensor, gradient: Tensor) -> Tensor | None:
    """Return about M⁻¹g ``[C]`` by conjugate gradients, from products with M and about its diagonal; None if M is not positive.

    Ends at a hundredth of what there was to solve, or after ``MOST_PRODUCTS``.
    """
    step, left = torch.zeros_like(gradient), gradient.clone()
    scaled = left / diagonal
    along, inner = scaled, float(left @ scaled)
    enough = 1e-4 * inner
    for _ in range(MOST_PRODUCTS):
        if inner <= enough:
            break
        product = multiply(along)
        curvature = float(along @ product)
        if not curvature > 0:
            return None
        step, left = step + inner / curvature * along, left - inner / curvature * product
        scaled = left / diagonal
        inner, before = float(left @ scaled), inner
        along = scaled + inner / before * along
    return step
