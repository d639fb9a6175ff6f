"""A mixture of normal distributions with diagonal covariances per class, fitted by expectation–maximisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

import ltbench
from ltbench_generators.draws import asked_for, class_rows, labels_of, lone_classes
from ltbench_generators.moments import within_deviation
from ltbench_generators.sampler import Part, Recipe, Sampler

ROWS_PER_COMPONENT = 5
STEPS = 100
GAIN = 1e-3
"""Steps end when the mean log-likelihood of a row grows by less, as scikit-learn's do."""


@dataclass(frozen=True, kw_only=True)
class GaussianMixture:
    """Σ_k π_k N(μ_k, diag(σ²_k)) for each class, from k-means++ seeds (Dempster, Laird & Rubin, 1977).

    No more ``components`` than one for five rows, which is noted; a class of one row takes the pooled within-class
    deviation; noted. No variance falls below 1e-6 of the class's mean variance.
    """

    components: Annotated[int, Ge(1)] = 3

    def fit(self, train: ltbench.Train) -> Sampler:
        """Remember the rows; a class's mixture is fitted when it is asked for."""
        return Sampler(train, self.plan)

    def plan(self, train: ltbench.Train, budget: Tensor) -> Recipe:
        """Fit the mixture of each class: one after the other, since each takes steps of its own."""
        rows, labels, width = class_rows(train), labels_of(budget), train.x.shape[1]
        lone = lone_classes(train, budget)
        fitted = {}
        for c in asked_for(budget).tolist():
            x = train.x[rows.of(c)].double()
            k = max(1, min(self.components, len(x) // ROWS_PER_COMPONENT))
            fitted[c] = fit_mixture(x, seeded(x, k, train.stream.child("centres", c)))
        if lone:
            variance = within_deviation(train) ** 2
            fitted |= {c: Mixture(fitted[c].weights, fitted[c].means, variance[None], fitted[c].steps) for c in lone}

        def added(part: Part) -> Tensor:
            mixture = fitted[part.label]
            u = train.stream.child("component").uniform(part.ids, 1)[:, 0]
            which = torch.searchsorted(mixture.edges, u, right=True).clamp_max(len(mixture.means) - 1)
            noise = train.stream.child("noise").normal(part.ids, width)
            return mixture.means[which] + mixture.variances.sqrt()[which] * noise

        clamped = {str(c): len(m.means) for c, m in fitted.items() if len(m.means) < self.components}
        cost = sum(10 * m.steps * int(rows.counts[c]) * m.means.numel() for c, m in fitted.items())
        notes = {**({"components_clamped": clamped} if clamped else {}), **({"pooled_deviation_classes": lone} if lone else {})}
        return Recipe(labels, added=added, notes=notes, flops=cost + 2 * len(labels) * width)


@dataclass(frozen=True)
class Mixture:
    """Weights ``[K]``, means ``[K, D]`` and variances ``[K, D]``, and how many steps they took."""

    weights: Tensor
    means: Tensor
    variances: Tensor
    steps: int = 0

    @property
    def edges(self) -> Tensor:
        """Cumulated weights ``[K]``, in the order of addition that every device has."""
        return self.weights.cpu().cumsum(0).to(self.weights.device)

    def log_densities(self, x: Tensor) -> Tensor:
        """Return log π_k + log N(x; μ_k, σ²_k), without the constant −D/2·log 2π, ``[n, K]``."""
        precision = 1 / self.variances
        squares = x**2 @ precision.T - 2 * x @ (self.means * precision).T + (self.means**2 * precision).sum(dim=1)
        return self.weights.log() - 0.5 * (squares + self.variances.log().sum(dim=1))


def fit_mixture(x: Tensor, responsibilities: Tensor) -> Mixture:
    """Step from responsibilities ``[n, K]`` of components for rows ``[n, D]`` until the likelihood hardly grows."""
    origin = x.mean(dim=0)
    rows = x - origin
    floor = 1e-6 * float((rows**2).mean()) + 1e-30
    mixture, before = _maximised(rows, responsibilities, floor), -torch.inf
    step = 0
    while step < STEPS:
        step += 1
        logs = mixture.log_densities(rows)
        likelihood = float(logs.logsumexp(dim=1).mean())
        mixture = _maximised(rows, logs.softmax(dim=1), floor)
        if likelihood - before < GAIN:
            break
        before = likelihood
    return Mixture(mixture.weights, mixture.means + origin, mixture.variances, step)


def _maximised(x: Tensor, responsibilities: Tensor, floor: float) -> Mixture:
    """Return the mixture of largest likelihood for given responsibilities."""
    total = responsibilities.sum(dim=0).clamp_min(1e-12)
    means = responsibilities.T @ x / total[:, None]
    variances = torch.stack([r @ (x - m) ** 2 for r, m in zip(responsibilities.T, means, strict=True)]) / total[:, None]
    return Mixture(total / len(x), means, variances.clamp_min(floor))


def seeded(x: Tensor, k: int, stream: ltbench.Stream) -> Tensor:
    """Return which of k rows each row is nearest to, one-hot ``[n, k]``; the k by k-means++ (Arthur & Vassilvitskii, 2007)."""
    u = stream.uniform(torch.arange(k, device=x.device), 1)[:, 0]
    chosen = [min(int(u[0] * len(x)), len(x) - 1)]
    distance = ((x - x[chosen[0]]) ** 2).sum(dim=1, keepdim=True)
    for j in range(1, k):
        share = distance.min(dim=1).values.cpu().cumsum(0)
        chosen.append(min(int(torch.searchsorted(share, u[j].cpu() * share[-1], right=True)), len(x) - 1))
        distance = torch.cat([distance, ((x - x[chosen[j]]) ** 2).sum(dim=1, keepdim=True)], dim=1)
    return torch.nn.functional.one_hot(distance.argmin(dim=1), k).double()
