"""A von Mises–Fisher distribution of directions per class (Banerjee, Dhillon, Ghosh & Sra, JMLR 6, 2005)."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

import ltbench
from ltbench_generators.draws import labels_of, lone_classes
from ltbench_generators.moments import class_sums
from ltbench_generators.sampler import Part, Recipe, Sampler

GRID = 4096
"""Angles at which a distribution function is tabulated, over 20 standard deviations at most."""

LEAST = 1e-15
"""Smallest 1 − R²: features in float32 hold no less."""


@dataclass(frozen=True, kw_only=True)
class VonMisesFisher:
    """Directions d of density ∝ exp(κ_c·m_cᵀd), times the class's mean length (1 where rows are unit vectors).

    m_c is the direction of the mean of the class's unit rows, and κ_c the likeliest for the length R of that mean. A
    class of one row, where R is 1, takes the mean R of the other classes' rows; noted.
    """

    def fit(self, train: ltbench.Train) -> Sampler:
        """Remember the rows."""
        return Sampler(train, plan)


def plan(train: ltbench.Train, budget: Tensor) -> Recipe:
    """Draw the angle to m_c by its distribution function, and the rest of the direction evenly."""
    labels, width, sizes = labels_of(budget), train.x.shape[1], train.real_class_counts
    lone = lone_classes(train, budget)
    sums = class_sums(train, lambda x, _: normalize(x, dim=1))
    lengths = class_sums(train, lambda x, _: x.norm(dim=1, keepdim=True).expand_as(x))[:, 0] / sizes.clamp_min(1)
    resultant = sums.norm(dim=1) / sizes.clamp_min(1)
    spread = spreads(train, sums / sizes.clamp_min(1)[:, None])
    if lone:
        several = sizes > 1
        if bool(several.any()):
            short = (spread / (1 + resultant) * sizes)[several].sum() / sizes[several].sum()  # 1 − R, of all others
            resultant[lone], spread[lone] = 1 - short, short * (2 - short)
        else:
            resultant[lone] = sums.sum(dim=0).norm() / sizes.sum()
            spread[lone] = sizes @ spreads(train, (sums.sum(dim=0) / sizes.sum()).expand_as(sums)) / sizes.sum()

    @functools.lru_cache(maxsize=1)
    def angles_of(c: int) -> tuple[Tensor, Tensor]:
        kappa = concentration(float(resultant[c]), width, float(spread[c]))
        return angle_table(kappa, width, train.x.device)

    def added(part: Part) -> Tensor:
        angles, share = angles_of(part.label)
        u = train.stream.child("angle").uniform(part.ids, 1)[:, 0]
        angle = interpolate(u, share, angles)[:, None]
        towards = unit(sums[part.label])
        noise = train.stream.child("noise").normal(part.ids, width)
        aside = normalize(noise - (noise @ towards)[:, None] * towards, dim=1)
        return lengths[part.label] * (angle.cos() * towards + angle.sin() * aside)

    return Recipe(
        labels,
        added=added,
        notes={"pooled_concentration_classes": lone} if lone else {},
        flops=8 * train.x.numel() + 8 * len(labels) * width,
    )


def spreads(train: ltbench.Train, means: Tensor) -> Tensor:
    """Return the mean square distance of each class's unit rows to ``means [C, D]``, ``[C]``: to their own mean, 1 − R².

    Where directions are nearly one, little of R would be left in that difference.
    """
    squares = class_sums(train, lambda x, targets: (normalize(x, dim=1) - means[targets]).square_())
    return squares.sum(dim=1) / train.real_class_counts.double().clamp_min(1)


def concentration(resultant: float, width: int, spread: float | None = None) -> float:
    """Return the likeliest κ for a mean resultant length R in [0, 1]; ``spread`` is 1 − R², where it is known better.

    R(D − R²)/(1 − R²) (Banerjee et al.'s equation 4.4), by Newton's steps brought to where the mean cosine is R
    (Sra, 2012, doi:10.1007/s00180-011-0232-x); above 1e4 the first is near enough.
    """
    kappa = resultant * (width - resultant**2) / max(1 - resultant**2 if spread is None else spread, LEAST)
    for _ in range(10):
        if not 0 < kappa < 1e4:
            break
        mean = mean_cosine(kappa, width)
        kappa -= (mean - resultant) / max(1 - mean**2 - (width - 1) / kappa * mean, 1e-12)
    return max(kappa, 0.0)


def mean_cosine(kappa: float, width: int) -> float:
    """Return I_{D/2}(κ) / I_{D/2−1}(κ), a ratio of Bessel functions, by its continued fraction κ/(D + κ²/(D+2 + …))."""
    ratio = 0.0
    for n in range(int(kappa) + 60, -1, -1):
        ratio = kappa / (width + 2 * n + kappa * ratio)
    return ratio


def angle_table(kappa: float, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return angles to the mean direction and the share of directions nearer than each, ``[GRID]`` both.

    An angle θ has density ∝ exp(κ·cos θ)·(sin θ)^(D−2); beyond ten standard deviations from its mode it is left out.
    """
    if width == 1:
        return torch.zeros(2, dtype=torch.float64, device=device), torch.tensor([0.0, 1.0], dtype=torch.float64, device=device)
    rest = width - 2
    cosine = 2 * kappa / (rest + math.sqrt(rest**2 + 4 * kappa**2)) if kappa or rest else 1.0
    sine = math.sqrt(rest * cosine / kappa) if kappa else 1.0  # where the density is largest, κ sin² θ = (D − 2) cos θ
    curvature = kappa * cosine + (rest / sine**2 if rest else 0.0)
    mode, reach = math.atan2(sine, cosine), 10 / math.sqrt(curvature) if curvature else math.pi
    low, high = max(0.0, mode - reach), min(math.pi, mode + reach)
    angles = torch.linspace(low, high, GRID, dtype=torch.float64, device=device)
    powers = rest * (angles.sin() / max(sine, 1e-300)).clamp_min(1e-300).log() if rest else 0.0
    beyond = -2 * ((angles + mode) / 2).sin() * ((angles - mode) / 2).sin()  # cos θ − cos mode, of which little may be left
    density = (kappa * beyond + powers).exp()
    share = torch.cat([density.new_zeros(1), (density[1:] + density[:-1])]).cpu().cumsum(0).to(device)
    return angles, share / share[-1]


def interpolate(u: Tensor, share: Tensor, values: Tensor) -> Tensor:
    """Return the values at which a tabulated distribution function reaches ``u [S]``, linear in between."""
    right = torch.searchsorted(share, u, right=True).clamp(1, len(share) - 1)
    low, high = share[right - 1], share[right]
    step = (u - low) / (high - low).clamp_min(1e-300)
    return values[right - 1] + step * (values[right] - values[right - 1])


def unit(direction: Tensor) -> Tensor:
    """Return a vector ``[D]`` at length one; the first axis for one of zeros, which has no direction."""
    first = torch.zeros_like(direction)
    first[0] = 1.0
    length = direction.norm()
    return direction / length if float(length) > 1e-12 else first
