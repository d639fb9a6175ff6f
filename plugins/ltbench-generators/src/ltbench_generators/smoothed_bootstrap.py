"""The smoothed bootstrap, ROSE (Menardi & Torelli, 2014, doi:10.1007/s10618-012-0295-5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

import ltbench
from ltbench_generators.draws import class_rows, drawn, labels_of, lone_classes
from ltbench_generators.moments import class_means, class_squares, within_deviation
from ltbench_generators.sampler import Part, Recipe, Sampler


@dataclass(frozen=True, kw_only=True)
class SmoothedBootstrap:
    """x_i + s·h·σ_c⊙ε: x_i a random row of the class, σ_c its deviations (divisor n), h = (4/((D+2)·n))^(1/(D+4)).

    n counts the class's rows (imbalanced-learn's counts all). ``scale`` is s. A class of one row takes the pooled
    within-class deviation; noted. With hundreds of features h is near 1 for any n: it doubles the scatter.
    """

    scale: Annotated[float, Ge(0)] = 1.0

    def fit(self, train: ltbench.Train) -> Sampler:
        """Remember the rows."""
        return Sampler(train, self.plan)

    def plan(self, train: ltbench.Train, budget: Tensor) -> Recipe:
        """Draw rows, and their noise."""
        labels, width, sizes = labels_of(budget), train.x.shape[1], train.real_class_counts
        lone = lone_classes(train, budget)
        deviation = (class_squares(train, class_means(train)) / sizes.clamp_min(1)[:, None]).sqrt()
        if lone:
            deviation[lone] = within_deviation(train)
        deviation *= self.scale * bandwidth(sizes.clamp_min(1), width)[:, None]

        def added(part: Part) -> Tensor:
            return deviation[part.label] * train.stream.child("noise").normal(part.ids, width)

        return Recipe(
            labels,
            parents=drawn(train, class_rows(train), labels)[:, None],
            added=added,
            notes={"pooled_deviation_classes": lone} if lone else {},
            flops=3 * train.x.numel() + 2 * len(labels) * width,
        )


def bandwidth(rows: Tensor, width: int) -> Tensor:
    """Return Silverman's h for normal rows: (4 / ((D + 2)·n))^(1 / (D + 4)), for counts n of any shape."""
    return torch.pow(4 / ((width + 2) * rows.double()), 1 / (width + 4))
