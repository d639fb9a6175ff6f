"""Temperature scaling (Guo et al., ICML 2017, arXiv 1706.04599): one number, fitted on rows the head has not seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ltbench.contract import Scorer
from ltbench.types import Scores

LEAST_PROBABILITY = 1e-12

_ABSENT = -1e15
"""Logits below this, from the largest, are those of classes without rows."""


@dataclass(frozen=True)
class TemperedScorer:
    """The logits of a head divided by a temperature; distances and votes become logits by it."""

    scorer: Scorer
    temperature: float

    def __call__(self, x: Tensor) -> Scores:
        """Score rows ``[N, D]``."""
        return Scores(as_logits(self.scorer(x)) / self.temperature, "logits")

    def __getattr__(self, name: str) -> Any:
        """Tell what the head tells of itself: its cost, whether it converged."""
        if name.startswith("__") or name == "scorer":
            raise AttributeError(name)
        return getattr(self.scorer, name)

    @property
    def parameters(self) -> int | None:
        """Numbers trained: the head's, and the temperature."""
        own = getattr(self.scorer, "parameters", None)
        return None if own is None else own + 1


def as_logits(scores: Scores) -> Tensor:
    """Return scores ``[N, C]`` as logits: log p of probabilities, anything else as it is."""
    return scores.values.clamp_min(LEAST_PROBABILITY).log() if scores.kind == "probabilities" else scores.values


def fit_temperature(parts: Sequence[tuple[Scores, Tensor]]) -> float:
    """Return T > 0 that makes softmax(z / T) likeliest on held-out rows, each class counting alike.

    ``parts`` are scores ``[N, C]`` and labels ``[N]``, of one fold each. NLL is convex in 1/T: Newton's method, kept in
    a bracket of 10⁻⁴ to 10⁴ times the spread of the logits. Without rows, or where all logits are equal, T is 1.
    """
    if not parts:
        return 1.0
    logits = torch.cat([as_logits(scores).double() for scores, _ in parts])
    labels = torch.cat([each for _, each in parts])
    logits = logits - logits.amax(dim=1, keepdim=True)
    right = logits.gather(1, labels[:, None])[:, 0]
    known = right > _ABSENT  # a class that a fold had no row of says nothing about the temperature
    logits, labels, right = logits[known], labels[known], right[known]
    weights = 1 / torch.bincount(labels, minlength=logits.shape[1]).double()[labels]
    weights = weights / weights.sum()
    spread = float(-(weights @ torch.where(logits > _ABSENT, logits, math.nan).nanmean(dim=1)))
    if not spread > 0:
        return 1.0
    low, high = math.log(1e-4 / spread), math.log(1e4 / spread)
    at = -math.log(spread)
    for _ in range(60):
        slope, curvature = _derivatives(math.exp(at), logits, right, weights)
        low, high = (low, at) if slope > 0 else (at, high)
        step = -slope / (curvature * math.exp(at)) if curvature > 0 else math.inf
        following = at + step if low < at + step < high else (low + high) / 2
        if abs(following - at) < 1e-7:
            break
        at = following
    return math.exp(-at)


def _derivatives(inverse: float, logits: Tensor, right: Tensor, weights: Tensor) -> tuple[float, float]:
    """Return the first and second derivative of the weighted NLL by 1/T: means of E[z] − z_y and of Var[z]."""
    probability = torch.softmax(inverse * logits, dim=1)
    finite = torch.where(probability > 0, logits, 0.0)  # a class far below the others has no part in the moments
    mean = (probability * finite).sum(dim=1)
    square = (probability * finite**2).sum(dim=1)
    return float(weights @ (mean - right)), float(weights @ (square - mean**2))
