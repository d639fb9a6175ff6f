"""Gaussian discriminant analysis for frozen features (Wang et al., ICLR 2024, arXiv 2402.04087)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge
from torch import Tensor
from torch.nn.functional import normalize

import ltbench
from ltbench_classifiers.moments import cost, moments_of


@dataclass(frozen=True, kw_only=True)
class GaussianDiscriminant:
    """Logits x·Σ⁻¹μ_c − ½ μ_cᵀΣ⁻¹μ_c, the same prior for all classes, Σ⁻¹ = D·((N−1)·Σ̂ + tr(Σ̂)·I)⁻¹.

    x and μ_c are less the mean of all rows; Σ̂ is the covariance within classes, with N−1 below. With ``alpha``, the sum
    100·cos(x, t_c) + α·logits, t_c the class's text vector: choose it on selection rows; a cell without text is skipped.
    """

    alpha: Annotated[float, Ge(0)] | None = None

    def fit(self, train: ltbench.Train) -> ltbench.LinearScorer | WithText:
        """Solve for weight and bias."""
        if self.alpha is not None and train.text is None:
            raise ltbench.SkipCell("gda with alpha needs class-text vectors, which neither backbone nor dataset has")
        moments = moments_of(train)
        within = moments.within
        level = within.trace / max(moments.weight - 1, 1.0)
        weight = len(moments.mean) * within.solve(1.0, level, moments.means.T)
        bias = -0.5 * (moments.means.T * weight).sum(dim=0) - moments.mean @ weight
        head = ltbench.LinearScorer(weight, bias + moments.absent, training_flops=cost(train))
        return head if self.alpha is None or train.text is None else WithText(head, train.text.double(), self.alpha)


@dataclass(frozen=True)
class WithText:
    """A head's logits beside those of zero-shot classification by text vectors ``[C, D]``."""

    head: ltbench.LinearScorer
    text: Tensor
    alpha: float

    def __call__(self, x: Tensor) -> ltbench.Scores:
        """Score rows ``[N, D]``."""
        cosines = normalize(x.double(), dim=1) @ normalize(self.text, dim=1).T
        return ltbench.Scores(100 * cosines + self.alpha * self.head(x.double()).values, "logits")

    @property
    def training_flops(self) -> int:
        """What fitting cost."""
        return self.head.training_flops

    @property
    def parameters(self) -> int:
        """Numbers learned of the rows, and the vectors that came with the backbone."""
        return self.head.parameters + self.text.numel()

    @property
    def flops_per_row(self) -> int:
        """Cost of scoring one row: two products."""
        return self.head.flops_per_row + 2 * self.text.numel()
