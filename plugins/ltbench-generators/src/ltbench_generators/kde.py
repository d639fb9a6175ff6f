"""A kernel density estimate per class, on principal components, with the bandwidth chosen by likelihood."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor

import ltbench
from ltbench_generators.draws import asked_for, class_rows, drawn, labels_of, lone_classes
from ltbench_generators.moments import class_means, class_squares, freedom, parts
from ltbench_generators.sampler import Part, Recipe, Sampler
from ltbench_generators.shared import Known, samplers
from ltbench_generators.shrinkage import upright

CANDIDATES = tuple(0.05 * 40 ** (i / 23) for i in range(24))
"""Bandwidths tried: 0.05 to 2, evenly on a log scale."""


@dataclass(frozen=True, kw_only=True)
class KernelDensity:
    """x_i + h_c·σ·Vε: x_i a random row of the class, V the ``dim`` leading principal components of all rows.

    σ is the root mean within-class variance of the components. ``bandwidth`` is h_c, or ``loo`` for the one of 24
    candidates with the largest leave-one-out likelihood in the class; a class of one row takes the one that is best for
    all others together; noted. What the components leave out of x_i stays with it. E. Parzen, 1962.
    """

    dim: Annotated[int, Ge(1)] = 32
    bandwidth: Literal["loo"] | Annotated[float, Gt(0)] = "loo"

    def fit(self, train: ltbench.Train) -> Sampler:
        """Remember the rows; a class's bandwidth is chosen when it is asked for."""
        return self.fit_many([train])[0]

    def fit_many(self, trains: Sequence[ltbench.Train]) -> list[Sampler]:
        """Remember the rows of many training sets; equal ones share components and bandwidths."""
        return samplers(self.plan, trains)

    def plan(self, known: Known, train: ltbench.Train, budget: Tensor) -> Recipe:
        """Draw rows, and noise along the components."""
        axes = known.get("axes", lambda: principal_axes(train, self.dim))
        z = train.replace(x=torch.cat([x @ axes.T for x, _ in parts(train)]))
        sigma = math.sqrt(float(class_squares(z, class_means(z)).sum()) / freedom(train) / len(axes))
        asked, lone = asked_for(budget).tolist(), lone_classes(train, budget)
        if self.bandwidth == "loo":
            chosen, compared = known.get(tuple(asked), lambda: best_bandwidths(z, asked, sigma))
        else:
            chosen, compared = dict.fromkeys(asked, self.bandwidth), 0

        directions = axes.to(torch.promote_types(train.x.dtype, torch.float32))

        def added(part: Part) -> Tensor:
            noise = train.stream.child("noise").normal(part.ids, len(directions), directions.dtype)
            return noise.mul_(chosen[part.label] * sigma) @ directions

        labels, values = labels_of(budget), sorted(chosen.values())
        notes = {
            **({"bandwidths": [values[0], statistics.median(values), values[-1]]} if values else {}),
            **({"shared_bandwidth_classes": lone} if lone and self.bandwidth == "loo" else {}),
        }
        cost = 2 * axes.numel() * (train.x.shape[1] + 2 * len(train.x) + len(labels)) + compared * (3 * len(axes) + 72)
        parents = drawn(train, class_rows(train), labels)[:, None]
        return Recipe(labels, parents=parents, added=added, notes=notes, flops=cost)


def principal_axes(train: ltbench.Train, dim: int) -> Tensor:
    """Return the leading principal components of all rows ``[dim, D]``, no more than there are dimensions."""
    mean, width = train.x.double().mean(dim=0), train.x.shape[1]
    scatter = torch.zeros(width, width, dtype=torch.float64, device=train.x.device)
    for x, _ in parts(train):
        rows = x - mean
        scatter += rows.T @ rows
    return upright(torch.linalg.eigh(scatter).eigenvectors.T.flip(0)[: min(dim, width)])


def best_bandwidths(z: ltbench.Train, classes: list[int], sigma: float) -> tuple[dict[int, float], int]:
    """Return each class's candidate of largest likelihood, for rows ``z.x [N, q]``, and how many pairs were compared.

    One class after the other: together they would need all distances between classes.
    """
    rows, sizes = class_rows(z), z.real_class_counts.long().tolist()
    shared = any(sizes[c] == 1 for c in classes)
    tried = [c for c, n in enumerate(sizes) if n > 1 and (shared or c in classes)] if sigma > 0 else []
    scores = {c: log_likelihoods(z.x[rows.of(c)], [h * sigma for h in CANDIDATES]) for c in tried}
    together = sum(scores.values(), start=torch.zeros(len(CANDIDATES), dtype=torch.float64, device=z.x.device))
    return {c: CANDIDATES[int(scores.get(c, together).argmax())] for c in classes}, sum(sizes[c] ** 2 for c in tried)


def log_likelihoods(z: Tensor, bandwidths: list[float]) -> Tensor:
    """Return Σ_i log p_{−i}(z_i) for each bandwidth: the density at each row ``[n, q]`` of the kernels on all others."""
    n, width = z.shape
    squares = torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist").square_().fill_diagonal_(torch.inf)
    least = squares.amin(dim=1)
    squares -= least[:, None]
    terms = torch.empty_like(squares)
    sums = [torch.mul(squares, -1 / (2 * h**2), out=terms).exp_().sum(dim=1).log_().sum() for h in bandwidths]
    kernels = torch.stack([total - least.sum() / (2 * h**2) for total, h in zip(sums, bandwidths, strict=True)])
    constants = [n * (math.log(n - 1) + width * math.log(h * math.sqrt(2 * math.pi))) for h in bandwidths]
    return kernels - torch.tensor(constants, dtype=torch.float64, device=z.device)
