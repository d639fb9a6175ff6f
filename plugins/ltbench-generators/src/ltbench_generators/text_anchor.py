"""Rows around a class's text vector, moved by the gap between images and texts: our own definition."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import ltbench
from ltbench_generators.draws import labels_of
from ltbench_generators.gaussian import Noise
from ltbench_generators.moments import class_means, pooled_factor
from ltbench_generators.sampler import Part, Recipe, Sampler


@dataclass(frozen=True, kw_only=True)
class TextAnchor:
    """N(t_c + g, S): t_c the class's text vector, S the pooled within-class covariance.

    g = (Σ_i x_i − t_{y_i}) / N is the modality gap (Liang et al., NeurIPS 2022, arXiv 2203.02053). A cell without
    class-text vectors is skipped.
    """

    def fit(self, train: ltbench.Train) -> Sampler:
        """Remember the rows, or raise SkipCell without text."""
        if train.text is None:
            raise ltbench.SkipCell("text-anchor needs class-text vectors, and neither backbone nor dataset gives them")
        return Sampler(train, plan)


def plan(train: ltbench.Train, budget: Tensor) -> Recipe:
    """Draw around the anchors."""
    assert train.text is not None
    labels, width, text = labels_of(budget), train.x.shape[1], train.text.double()
    share = train.real_class_counts / train.real_class_counts.sum()
    anchors = text + share @ (class_means(train) - text)
    noise = Noise(pooled=pooled_factor(train))

    def added(part: Part) -> Tensor:
        return anchors[part.label] + noise.draw(train.stream, part.ids)

    return Recipe(labels, added=added, flops=2 * width**2 * (len(train.x) + len(labels)))
