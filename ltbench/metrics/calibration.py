"""Calibration of probabilities: reliability bins, expected calibration error, NLL and Brier score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ltbench.types import Scores

BINS = 15


@dataclass(frozen=True)
class ReliabilityBins:
    """Equal-width bins (lo, hi] of the winning probability: rows, mean confidence and accuracy, None where empty.

    The first bin also holds confidence 0. torchmetrics bins [lo, hi) and puts confidence 1.0 into a bin of its own.
    """

    count: list[int]
    confidence: list[float | None]
    accuracy: list[float | None]


def probabilities(scores: Scores) -> Tensor | None:
    """Return probabilities ``[N, C]`` in float64, or None for scores that are none (distances, say)."""
    if scores.kind == "logits":
        return torch.softmax(scores.values.double(), dim=1)
    return scores.values.double() if scores.kind == "probabilities" else None


def reliability_bins(probability: Tensor, labels: Tensor, bins: int = BINS) -> ReliabilityBins:
    """Sort rows ``[N, C]`` into bins of their winning probability, ties to the lowest class; in numpy, as ``class_counts``."""
    rows = probability.cpu().numpy()
    confidence, hit = rows.max(axis=1), rows.argmax(axis=1) == labels.cpu().numpy()
    edges = np.arange(1, bins) / bins
    index = np.searchsorted(edges, confidence, side="left")  # an edge belongs to the bin below, (lo, hi]
    count = np.bincount(index, minlength=bins).tolist()
    summed = np.bincount(index, weights=confidence, minlength=bins).tolist()
    right = np.bincount(index[hit], minlength=bins).tolist()
    return ReliabilityBins(
        count,
        [s / n if n else None for s, n in zip(summed, count, strict=True)],
        [r / n if n else None for r, n in zip(right, count, strict=True)],
    )


def expected_calibration_error(bins: ReliabilityBins) -> float:
    """Return Σ n_b/N · |accuracy_b − confidence_b|, in [0, 1] (Guo et al., ICML 2017, arXiv 1706.04599)."""
    gaps = [
        n * abs(a - c)
        for n, c, a in zip(bins.count, bins.confidence, bins.accuracy, strict=True)
        if a is not None and c is not None
    ]
    return sum(gaps) / sum(bins.count)


def negative_log_likelihood(scores: Scores, labels: Tensor) -> float | None:
    """Return the mean −log p of the right class, in nats; None for mere scores.

    Logits are exact; a probability of 0 counts as 1e-300.
    """
    if scores.kind == "scores":
        return None
    right = labels[:, None]
    if scores.kind == "logits":
        logs = torch.log_softmax(scores.values.double(), dim=1).gather(1, right)
    else:
        logs = scores.values.gather(1, right).double().clamp_min(1e-300).log()
    return -float(logs.mean())


def brier_score(probability: Tensor, labels: Tensor) -> float:
    """Return the mean over rows of Σ_c (p_c − [c = label])², in [0, 2] (Brier, 1950)."""
    minus_one = probability.new_full((len(labels), 1), -1.0)
    return float(probability.scatter_add(1, labels[:, None], minus_one).square().sum(dim=1).mean())
