"""mixup: rows and labels between two rows (Zhang et al., ICLR 2018, arXiv 1710.09412)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor
from torch.nn.functional import one_hot

import ltbench
from ltbench_generators.draws import class_rows, draw_ids, drawn, labels_of
from ltbench_generators.sampler import Recipe, Sampler


@dataclass(frozen=True, kw_only=True)
class Mixup:
    """λ·x_i + (1−λ)·x_j labelled λ·y_i + (1−λ)·y_j: x_i of the class that wants a row, x_j any row, λ ~ Beta(α, α)."""

    alpha: Annotated[float, Gt(0)] = 1.0

    def fit(self, train: ltbench.Train) -> Sampler:
        """Remember the rows."""
        return Sampler(train, self.plan)

    def plan(self, train: ltbench.Train, budget: Tensor) -> Recipe:
        """Mix rows and labels alike."""
        parents, share = pairs(train, budget, self.alpha)
        return Recipe(
            soft_labels(train, parents, share), parents=parents, parent_weights=torch.stack([share, 1 - share], dim=1)
        )


def pairs(train: ltbench.Train, budget: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Return a row of the class and any row for each synthetic one ``[S, 2]``, and the first one's share ``[S]``."""
    labels = labels_of(budget)
    ids = draw_ids(labels)
    other = train.stream.child("other").integers(ids, 1, len(train.x))[:, 0]
    u = train.stream.child("share").uniform(ids, 1)[:, 0]
    return torch.stack([drawn(train, class_rows(train), labels), other], dim=1), beta(u, alpha)


def beta(u: Tensor, alpha: float) -> Tensor:
    """Return Beta(α, α) numbers for uniforms ``[S]``, by the inverse of the distribution function, computed on the CPU."""
    from scipy.special import betaincinv

    return u if alpha == 1 else torch.from_numpy(betaincinv(alpha, alpha, u.cpu().numpy())).to(u.device)


def soft_labels(train: ltbench.Train, parents: Tensor, share: Tensor) -> Tensor:
    """Return share·y_i + (1 − share)·y_j, float64 ``[S, C]``."""
    first, second = (one_hot(train.targets[each], train.classes).double() for each in parents.unbind(dim=1))
    return share[:, None] * first + (1 - share[:, None]) * second
