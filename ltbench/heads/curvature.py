"""How steep the objective of a linear head is about a point, and what a solver makes of that. Knows no loss.

The Hessian of cross entropy is Σ_i w_i (diag p_i − p_i p_iᵀ) ⊗ (x_i, 1)(x_i, 1)ᵀ, and λ for weights. Here it is taken as
M ⊗ diag(v, 1) + λ: M = Σ_i w_i (diag p_i − p_i p_iᵀ), the mean over all rows, and v the variance in each principal axis.
In the eigenvectors of M, in which classes that are taken for one another lie along different axes, that is a diagonal.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MOST_CLASSES = 1024
"""Of more classes M counts as diagonal: its eigenvectors would cost more than the products of rows with a head."""

ROUNDING = 1e-7
"""What M's eigenvalues are sure to, as a share of the largest."""

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


@dataclass(frozen=True)
class KroneckerScaling:
    """About the inverse Hessian at a point, on vectors ``[..., C·(R + 1)]``: Q (h + δ)⁻¹ Qᵀ, h the diagonal ``[C, R + 1]``.

    δ is the mean of h over weights. Curvature changes on the way, and steps along what is nearly flat here would be too long.
    """

    basis: Tensor | None
    steepness: Tensor

    @staticmethod
    def of(curvature: Curvature, variance: Tensor, l2: float) -> KroneckerScaling:
        """Return the scaling where M is so, for rows of this variance ``[R]`` and a penalty λ."""
        by_weight = curvature.values[:, None] * variance + l2
        by_bias = curvature.values.clamp_min(_least(curvature.values))
        return KroneckerScaling(curvature.basis, torch.cat([by_weight + by_weight.mean(), by_bias[:, None]], dim=1))

    def __call__(self, vectors: Tensor) -> Tensor:
        """Multiply vectors by the inverse."""
        return self._through(vectors, 1 / self.steepness)

    def undone(self, vectors: Tensor) -> Tensor:
        """Return the vectors that were multiplied."""
        return self._through(vectors, self.steepness)

    def _through(self, vectors: Tensor, factors: Tensor) -> Tensor:
        """Multiply by factors in the eigenvectors."""
        by_class = vectors.reshape(*vectors.shape[:-1], *factors.shape)
        if self.basis is None:
            return (by_class * factors).reshape(vectors.shape)
        return (self.basis @ ((self.basis.T @ by_class) * factors)).reshape(vectors.shape)


def _least(values: Tensor) -> float:
    """Return the least curvature by a bias that is counted."""
    return max(LEAST_BIAS * float(values.max()), 1e-12)
