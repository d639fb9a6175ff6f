"""Uncertainty over seeds: means with t intervals, and the share of a gap that a method closes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over ``count`` seeds and the half-width of its 95 % interval; None with fewer than two seeds."""

    mean: float
    half_width: float | None
    count: int


def estimate(values: Sequence[float]) -> Estimate | None:
    """Return mean ± t·s/√n, or None without values."""
    if not values:
        return None
    mean = math.fsum(values) / len(values)
    return Estimate(mean, half_width([value - mean for value in values]), len(values))


def half_width(residuals: Sequence[float]) -> float | None:
    """Return t(0.975, n−1)·s/√n of residuals that sum to zero; None for fewer than two."""
    from scipy.special import stdtrit

    n = len(residuals)
    if n < 2:
        return None
    deviation = math.sqrt(math.fsum(r * r for r in residuals) / (n - 1))
    return float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * deviation / math.sqrt(n)


def gap_closed(method: Sequence[float], plain: Sequence[float], balanced: Sequence[float]) -> Estimate | None:
    """Return (method − plain) / (balanced − plain), all three paired by seed: a ratio of means.

    Its interval is that of the linearised ratio (delta method). None where the denominator's own interval holds
    zero, or, with one seed, where it is not positive: there is no gap to close.
    """
    gains = [m - p for m, p in zip(method, plain, strict=True)]
    gaps = [b - p for b, p in zip(balanced, plain, strict=True)]
    gap = estimate(gaps)
    if gap is None or gap.mean <= (gap.half_width or 0.0):
        return None
    ratio = math.fsum(gains) / math.fsum(gaps)
    residuals = [(gain - ratio * each) / gap.mean for gain, each in zip(gains, gaps, strict=True)]
    return Estimate(ratio, half_width(residuals), len(gains))
