"""A normal distribution per class, with one of several estimates of its covariance."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor

import ltbench
from ltbench_generators.draws import class_rows, labels_of, lone_classes
from ltbench_generators.moments import class_means, pooled_factor
from ltbench_generators.sampler import Part, Recipe, Sampler
from ltbench_generators.shared import Known, samplers
from ltbench_generators.shrinkage import factor, ledoit_wolf, low_rank, oracle_approximating

Estimate = Literal["empirical", "diagonal", "tied", "ledoit-wolf", "oas", "low-rank", "blended"]


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """N(μ_c, Σ_c), S_c being the class's covariance with divisor n_c and S the pooled within-class one.

    ``covariance``: ``empirical`` S_c; ``diagonal`` its diagonal; ``tied`` S; ``ledoit-wolf`` and ``oas``
    (1−s)·S_c + s·tr(S_c)/D·I with their s; ``low-rank`` the ``rank`` leading directions of S_c, and the mean of the
    variances left out in all others; ``blended`` (1−``blend``)·S_c + ``blend``·S. A class of one row takes S; noted.
    """

    covariance: Estimate = "ledoit-wolf"
    blend: Annotated[float, Ge(0), Le(1)] = 0.5
    rank: Annotated[int, Ge(1)] = 16

    def fit(self, train: ltbench.Train) -> Sampler:
        """Remember the rows; a class's covariance is computed when it is asked for."""
        return self.fit_many([train])[0]

    def fit_many(self, trains: Sequence[ltbench.Train]) -> list[Sampler]:
        """Remember the rows of many training sets; equal ones share means and the pooled covariance."""
        return samplers(self.plan, trains)

    def plan(self, known: Known, train: ltbench.Train, budget: Tensor) -> Recipe:
        """Draw μ_c + noise, in the features' precision."""
        means, width = known.get("means", lambda: class_means(train)), train.x.shape[1]
        labels, rows = labels_of(budget), class_rows(train)
        lone, dtype = lone_classes(train, budget), torch.promote_types(train.x.dtype, torch.float32)
        alone = frozenset(lone)
        shared = lone or self.covariance in ("tied", "blended")
        pooled = known.get("pooled", lambda: pooled_factor(train)) if shared else None

        @functools.lru_cache(maxsize=1)
        def noise_of(c: int) -> Noise:
            if c in alone:
                return Noise(pooled=pooled).to(dtype)
            centred = train.x[rows.of(c)].double() - means[c]
            decomposed = self.covariance == "low-rank" or len(centred) > width  # eigenvalues and roots need the precision
            return self.noise(centred if decomposed else centred.to(dtype), pooled).to(dtype)

        centres = means.to(dtype)

        def added(part: Part) -> Tensor:
            return noise_of(part.label).draw(train.stream, part.ids).add_(centres[part.label])

        return Recipe(
            labels,
            added=added,
            notes={"pooled_covariance_classes": lone} if lone else {},
            flops=width * int((2 * train.real_class_counts**2 + 2 * train.real_class_counts * budget).sum())
            + (2 * width**2 * (len(train.x) + len(labels)) if pooled is not None else 0),
        )

    def noise(self, rows: Tensor, pooled: Tensor | None) -> Noise:
        """Return the noise of a class for its centred rows ``[n, D]``."""
        n = len(rows)
        if self.covariance == "tied":
            return Noise(pooled=pooled)
        if self.covariance == "diagonal":
            return Noise(deviation=((rows**2).sum(dim=0) / n).sqrt())
        if self.covariance == "low-rank":
            return Noise(*low_rank(rows, self.rank))
        if self.covariance == "blended":
            assert pooled is not None
            return Noise(factor(rows) * ((1 - self.blend) / n) ** 0.5, pooled=pooled * self.blend**0.5)
        share, level = {"ledoit-wolf": ledoit_wolf, "oas": oracle_approximating}.get(self.covariance, _none)(rows)
        return Noise(factor(rows) * ((1 - share) / n) ** 0.5, rows.new_tensor((share * level) ** 0.5).expand(rows.shape[1]))


@dataclass(frozen=True)
class Noise:
    """Normal noise of covariance FᵀF + diag(deviation²) + PᵀP: so no matrix larger than its factors is needed."""

    factor: Tensor | None = None
    deviation: Tensor | None = None
    pooled: Tensor | None = None

    def to(self, dtype: torch.dtype) -> Noise:
        """Return the same noise in a precision."""
        return Noise(*(None if each is None else each.to(dtype) for each in (self.factor, self.deviation, self.pooled)))

    def draw(self, stream: ltbench.Stream, ids: Tensor) -> Tensor:
        """Return noise ``[s, D]`` for ids ``[s]``."""
        terms = []
        for name, matrix in (("class", self.factor), ("pooled", self.pooled)):
            if matrix is not None:
                terms.append(stream.child(name).normal(ids, len(matrix), matrix.dtype) @ matrix)
        if self.deviation is not None:
            normals = stream.child("noise").normal(ids, len(self.deviation), self.deviation.dtype)
            terms.append(normals.mul_(self.deviation))
        return functools.reduce(Tensor.add_, terms)


def _none(_: Tensor) -> tuple[float, float]:
    """Return no shrinkage."""
    return 0.0, 0.0
