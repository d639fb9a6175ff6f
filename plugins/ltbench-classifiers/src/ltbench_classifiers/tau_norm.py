"""τ-normalisation (Kang et al., ICLR 2020, arXiv 1910.09217): plain softmax, its weights brought towards one length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt

import ltbench
from ltbench_classifiers.softmax import Softmax


@dataclass(frozen=True, kw_only=True)
class TauNorm:
    """(x·w_c + b_c) / ‖w_c‖^τ, w and b those of plain softmax; τ = 0 is plain softmax.

    τ is chosen on selection rows: ``tau=select(0,0.5,1,1.5)``. The authors leave the bias out: ``bias=false``.
    """

    l2: Annotated[float, Gt(0)] = 1e-3
    tau: Annotated[float, Ge(0)] = 1.0
    bias: bool = True
    solver: ltbench.SolverName = "exact"

    @property
    def base(self) -> Softmax:
        """Plain softmax, fitted once for all τ."""
        return Softmax(l2=self.l2, solver=self.solver)

    def post_hoc(self, scorer: ltbench.LinearScorer, train: ltbench.Train) -> ltbench.LinearScorer:
        """Divide each class's logit by a power of its weight's length; a weight of zero is left as it is."""
        if not self.bias:
            scorer = scorer.with_bias(torch.where(scorer.absent, scorer.bias, 0.0))
        lengths = scorer.weight.norm(dim=0)
        return scorer.scaled(torch.where(lengths > 0, lengths, 1.0) ** -self.tau)
