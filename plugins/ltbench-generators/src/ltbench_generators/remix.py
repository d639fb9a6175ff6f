"""Remix: mixup whose labels favour the minority (Chou et al., ECCV 2020 workshops, arXiv 2007.03943)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

import ltbench
from ltbench_generators.mixup import pairs, soft_labels
from ltbench_generators.sampler import Recipe, Sampler


@dataclass(frozen=True, kw_only=True)
class Remix:
    """mixup's rows; the label is y_j where n_i/n_j ≥ κ and λ < τ, y_i where n_j/n_i ≥ κ and 1−λ < τ, else mixup's."""

    alpha: Annotated[float, Gt(0)] = 1.0
    kappa: Annotated[float, Ge(1)] = 3.0
    tau: Annotated[float, Ge(0), Le(1)] = 0.5

    def fit(self, train: ltbench.Train) -> Sampler:
        """Remember the rows."""
        return Sampler(train, self.plan)

    def plan(self, train: ltbench.Train, budget: Tensor) -> Recipe:
        """Mix rows as mixup does, labels by the rule."""
        parents, share = pairs(train, budget, self.alpha)
        counts = train.real_class_counts[train.targets[parents]]
        label_share = remixed(share, counts[:, 0], counts[:, 1], self.kappa, self.tau)
        return Recipe(
            soft_labels(train, parents, label_share), parents=parents, parent_weights=torch.stack([share, 1 - share], dim=1)
        )


def remixed(share: Tensor, first: Tensor, second: Tensor, kappa: float, tau: float) -> Tensor:
    """Return the first label's share ``[S]`` for a mixing share λ and the class counts of both rows."""
    to_second = (first >= kappa * second) & (share < tau)
    to_first = (second >= kappa * first) & (1 - share < tau)
    return torch.where(to_second, 0.0, torch.where(to_first, 1.0, share))
