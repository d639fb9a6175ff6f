"""SMOTE: synthetic minority oversampling (Chawla et al., JAIR 2002, doi:10.1613/jair.953)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor

import ltbench
from ltbench_generators.draws import draw_ids, labels_of, members


@dataclass(frozen=True, kw_only=True)
class Smote:
    """x_i + u·(x_j − x_i): x_i a random row of the class, x_j one of its ``k`` nearest, u uniform in [0, 1).

    Where a class has k rows or fewer, k is its size − 1; a class of one row gets that row plus normal noise of
    ``jitter`` times the pooled within-class deviation of each feature. Both are noted.
    """

    k: Annotated[int, Ge(1)] = 5
    jitter: Annotated[float, Ge(0)] = 0.1

    def fit(self, train: ltbench.Train) -> Sampler:
        """Remember the rows."""
        return Sampler(self, train)


@dataclass(frozen=True)
class Sampler:
    """Draws between neighbours."""

    smote: Smote
    train: ltbench.Train

    def __call__(self, budget: Tensor) -> ltbench.Rows:
        """Return interpolated rows; parents are (row, neighbour) with weights (1 − u, u)."""
        labels = labels_of(budget)
        ids = draw_ids(labels)
        parents = torch.empty(len(labels), 2, dtype=torch.long, device=labels.device)
        flops = 0
        for c in [c for c, n in enumerate(budget.tolist()) if n]:
            chosen = labels == c
            neighbours = self.neighbours(c)
            parents[chosen] = self._pairs(members(self.train.targets, c), neighbours, ids[chosen])
            flops += 3 * len(neighbours) ** 2 * self.train.x.shape[1]
        u = self.train.stream.child("step").uniform(ids, 1)
        start, end = self.train.x[parents[:, 0]].double(), self.train.x[parents[:, 1]].double()
        x = start + u * (end - start) + self._noise(labels, ids)
        return ltbench.Rows(
            x=x.to(self.train.x.dtype),
            targets=labels,
            parents=parents,
            parent_weights=torch.cat([1 - u, u], dim=1),
            notes=self._notes(budget),
            flops=flops + 3 * x.numel(),
        )

    def neighbours(self, c: int) -> Tensor:
        """Return the nearest rows of each row of a class, itself left out: positions ``[n, k]`` within the class."""
        x = self.train.x[members(self.train.targets, c)].double()
        distance = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(float("inf"))
        return distance.argsort(dim=1, stable=True)[:, : min(self.smote.k, len(x) - 1)]

    def _pairs(self, rows: Tensor, neighbours: Tensor, ids: Tensor) -> Tensor:
        """Draw a row and one of its neighbours for each id: positions ``[S, 2]``; a lone row is its own neighbour."""
        stream = self.train.stream
        seed = stream.child("seed").integers(ids, 1, len(rows))[:, 0]
        if neighbours.shape[1] == 0:
            return rows[torch.stack([seed, seed], dim=1)]
        which = stream.child("neighbour").integers(ids, 1, neighbours.shape[1])[:, 0]
        return rows[torch.stack([seed, neighbours[seed, which]], dim=1)]

    def _noise(self, labels: Tensor, ids: Tensor) -> Tensor:
        """Return noise ``[S, D]`` for classes of one row, zero for all others."""
        counts = self.train.real_class_counts
        lone = counts[labels] == 1
        noise = torch.zeros(len(labels), self.train.x.shape[1], dtype=torch.float64, device=labels.device)
        if bool(lone.any()):
            drawn = self.train.stream.child("jitter").normal(ids[lone], noise.shape[1])
            noise[lone] = self.smote.jitter * self._deviation() * drawn
        return noise

    def _deviation(self) -> Tensor:
        """Return the pooled within-class standard deviation of each feature ``[D]``."""
        x, targets = self.train.x.double(), self.train.targets
        sums = torch.zeros(self.train.classes, x.shape[1], dtype=x.dtype, device=x.device).index_add_(0, targets, x)
        centred = x - (sums / self.train.real_class_counts.clamp_min(1)[:, None])[targets]
        free = len(x) - int((self.train.real_class_counts > 0).sum())
        return ((centred**2).sum(dim=0) / max(free, 1)).sqrt()

    def _notes(self, budget: Tensor) -> dict[str, Any]:
        """Return which classes had too few rows, and what was done."""
        counts = self.train.real_class_counts.long().tolist()
        asked = {c: n for c, n in enumerate(counts) if budget[c] > 0}
        clamped = {str(c): n - 1 for c, n in asked.items() if 1 < n <= self.smote.k}
        lone = [c for c, n in asked.items() if n == 1]
        return {**({"k_clamped": clamped} if clamped else {}), **({"jittered_classes": lone} if lone else {})}
