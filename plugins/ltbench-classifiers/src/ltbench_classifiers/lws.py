"""Learnable weight scaling (Kang et al., ICLR 2020, arXiv 1910.09217): one scale for each class of plain softmax."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Gt
from torch import Tensor

import ltbench
from ltbench_classifiers.softmax import Softmax


@dataclass(frozen=True, kw_only=True)
class LearnableScales:
    """s_c · (x·w_c + b_c), w and b those of plain softmax, s trained by batches in which classes take turns.

    The bias is scaled, too, as the authors' code does.
    """

    l2: Annotated[float, Gt(0)] = 1e-3
    recipe: Literal["lws", "crt", "sgd"] = "lws"

    @property
    def base(self) -> Softmax:
        """Plain softmax, whose weights stay as they are."""
        return Softmax(l2=self.l2)

    def post_hoc(self, scorer: ltbench.LinearScorer, train: ltbench.Train) -> ltbench.LinearScorer:
        """Train the scales."""
        head = ltbench.fit_sgd(train, _cross_entropy, 0.0, self.recipe, layer=ltbench.Scales(scorer))
        assert isinstance(head, ltbench.LinearScorer)  # scales of a linear head make one
        return dataclasses.replace(head, training_flops=scorer.training_flops + head.training_flops, converged=scorer.converged)


def _cross_entropy(batch: ltbench.Batch) -> tuple[Tensor, Tensor]:
    """−log softmax(z)_y."""
    return ltbench.softmax_loss(batch.logits, batch.targets)
