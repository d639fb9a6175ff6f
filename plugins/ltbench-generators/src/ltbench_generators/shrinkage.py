"""How far to shrink a class's covariance, and factors of it that are no larger than its rows."""

from __future__ import annotations

import torch
from torch import Tensor


def ledoit_wolf(rows: Tensor) -> tuple[float, float]:
    """Return the share s of the identity and its level tr(S)/D, for centred rows ``[n, D]``.

    s minimises the expected squared error of (1−s)·S + s·level·I (Ledoit & Wolf, 2004,
    doi:10.1016/S0047-259X(03)00096-4), S having divisor n.
    """
    n, width = rows.shape
    trace, square = _traces(rows)
    level = trace / width
    distance = (square - width * level**2) / width  # ‖S − level·I‖² / D
    spread = (float(((rows**2).sum(dim=1).double() ** 2).sum()) / n - square) / (width * n)  # error of S itself
    return (min(max(spread, 0.0) / distance, 1.0) if distance > 0 else 1.0), level


def oracle_approximating(rows: Tensor) -> tuple[float, float]:
    """Return the share s and the level as ``ledoit_wolf`` does, by Chen et al., 2010, doi:10.1109/TSP.2010.2053029.

    Their equation 23 with the term of order 1/D left out, as scikit-learn has it: (S̄² + m²) / ((n+1)(S̄² − m²/D)),
    S̄² being the mean squared entry of S and m = tr(S)/D.
    """
    n, width = rows.shape
    trace, square = _traces(rows)
    level, entries = trace / width, square / width**2
    denominator = (n + 1) * (entries - level**2 / width)
    return (min((entries + level**2) / denominator, 1.0) if denominator > 0 else 1.0), level


def low_rank(rows: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return a factor ``[r, D]`` and an isotropic deviation ``[D]`` of centred rows ``[n, D]``.

    The maximum-likelihood probabilistic PCA (Tipping & Bishop, 1999, doi:10.1111/1467-9868.00196): directions of the r
    largest variances λ, scaled by √(λ − v), and v = (tr S − Σ λ) / (D − r) in every direction.
    """
    n, width = rows.shape
    small = rows @ rows.T if n <= width else rows.T @ rows
    values, vectors = torch.linalg.eigh(small / n)
    kept = max(0, min(rank, n - 1, width - 1))
    values, vectors = values.flip(0)[:kept].clamp_min(0), vectors.flip(1)[:, :kept]
    left = float((rows**2).sum() / n - values.sum()) / (width - kept)
    variance = max(left, 0.0)
    directions = vectors.T if n > width else torch.nn.functional.normalize(vectors.T @ rows, dim=1)
    return upright(directions) * (values - variance).clamp_min(0).sqrt()[:, None], rows.new_full((width,), variance**0.5)


def factor(rows: Tensor) -> Tensor:
    """Return F ``[min(n, D), D]`` with FᵀF = XᵀX for rows ``[n, D]``: the rows themselves, where they are few."""
    return rows if len(rows) <= rows.shape[1] else root(rows.T @ rows)


def root(covariance: Tensor) -> Tensor:
    """Return the upper R with RᵀR = Σ; 1e-9 of its mean variance is added, since Σ may be singular."""
    ridge = 1e-9 * covariance.diagonal().mean() + 1e-30
    lower: Tensor = torch.linalg.cholesky(
        covariance + ridge * torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    )
    return lower.T


def _traces(rows: Tensor) -> tuple[float, float]:
    """Return tr(S) and ‖S‖² = tr(S²) for S = XᵀX/n, from whichever of XᵀX and XXᵀ is the smaller."""
    n, width = rows.shape
    small = (rows @ rows.T if n <= width else rows.T @ rows).double()
    return float(small.diagonal().sum()) / n, float((small**2).sum()) / n**2


def upright(directions: Tensor) -> Tensor:
    """Return directions ``[r, D]`` turned so that the largest loading of each is positive, on every device alike."""
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    return directions * torch.where(largest < 0, -1.0, 1.0)
