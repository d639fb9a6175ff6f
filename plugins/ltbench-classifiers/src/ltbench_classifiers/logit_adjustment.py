"""Logit adjustment (Menon et al., ICLR 2021, arXiv 2007.07314)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt
from torch import Tensor

import ltbench
from ltbench_classifiers.softmax import Softmax, without_correction


@dataclass(frozen=True, kw_only=True)
class LogitAdjustment:
    """``loss``: cross entropy of z + τ·log π. ``post-hoc``: plain softmax, then z − τ·log π."""

    l2: Annotated[float, Gt(0)] = 1e-3
    tau: Annotated[float, Ge(0)] = 1.0
    mode: Literal["loss", "post-hoc"] = "loss"
    solver: ltbench.SolverName = "exact"

    @property
    def base(self) -> Softmax | None:
        """The head that is corrected afterwards; none where the loss is the correction."""
        return Softmax(l2=self.l2, solver=self.solver) if self.mode == "post-hoc" else None

    def reduces_to(self, train: ltbench.Train) -> Softmax | None:
        """Return plain softmax for equal counts, or τ = 0."""
        return without_correction(self.l2, self.solver, train, self.tau)

    def loss(self, batch: ltbench.Batch) -> tuple[Tensor, Tensor]:
        """−log softmax(z + τ·log π)_y; log π counts from the largest class."""
        shift = self.tau * (batch.log_prior - batch.log_prior.max())
        return ltbench.softmax_loss(batch.logits + shift, batch.targets)

    def post_hoc(self, scorer: ltbench.LinearScorer, train: ltbench.Train) -> ltbench.LinearScorer:
        """Take τ·log π off the logits, in the mode that does so."""
        return scorer if self.mode == "loss" else scorer.with_bias(scorer.bias - self.tau * train.log_prior)
