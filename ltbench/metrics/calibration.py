"""Calibration of probabilities: reliability bins, expected calibration error, NLL and Brier score.

Imports no torch, so that tables can be made of the bins in records.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ltbench.types import Scores

if TYPE_CHECKING:
    from torch import Tensor

BINS = 15


@dataclass(frozen=True)
class ReliabilityBins:
    """Equal-width bins (lo, hi] of the winning probability: rows, right ones, and mean confidence, None where empty.

    The first bin also holds confidence 0. torchmetrics bins [lo, hi) and puts confidence 1.0 into a bin of its own.
    """

    count: list[int]
    right: list[int]
    confidence: list[float | None]

    @property
    def accuracy(self) -> list[float | None]:
        """The share of right rows in each bin, None where empty."""
        return [right / n if n else None for right, n in zip(self.right, self.count, strict=True)]

    def rounded(self) -> dict[str, Any]:
        """Return the bins as a record keeps them: confidences have six digits."""
        return {**vars(self), "confidence": [six_digits(c) for c in self.confidence]}


def six_digits(value: float | None) -> float | None:
    """Round to six significant digits."""
    return None if value is None else float(f"{value:.6g}")


def probabilities(scores: Scores) -> Tensor | None:
    """Return probabilities ``[N, C]`` in float64, or None for scores that are none (distances, say)."""
    if scores.kind == "logits":
        return scores.values.double().softmax(dim=1)
    return scores.values.double() if scores.kind == "probabilities" else None


@dataclass(frozen=True)
class Winners:
    """The winning probability of each row ``[N]``, and whether its class is the right one ``[N]``; arrays of numpy."""

    confidence: Any
    right: Any

    def among(self, rows: Any) -> Winners:
        """Return those of some rows, by a mask ``[N]``."""
        return Winners(self.confidence[rows], self.right[rows])

    def bins(self, number: int = BINS) -> ReliabilityBins:
        """Sort the rows into bins."""
        edges = np.arange(1, number) / number
        index = np.searchsorted(edges, self.confidence, side="left")  # an edge belongs to the bin below, (lo, hi]
        count = np.bincount(index, minlength=number).tolist()
        summed = np.bincount(index, weights=self.confidence, minlength=number).tolist()
        right = np.bincount(index[self.right], minlength=number).tolist()
        return ReliabilityBins(count, right, [s / n if n else None for s, n in zip(summed, count, strict=True)])


def winners(probability: Tensor, labels: Tensor) -> Winners:
    """Return the winners of rows ``[N, C]``, of equals the lowest class; in numpy, as ``class_counts``."""
    rows = probability.cpu().numpy()
    return Winners(rows.max(axis=1), rows.argmax(axis=1) == labels.cpu().numpy())


def reliability_bins(probability: Tensor, labels: Tensor, bins: int = BINS) -> ReliabilityBins:
    """Sort rows ``[N, C]`` into bins of their winning probability."""
    return winners(probability, labels).bins(bins)


def expected_calibration_error(bins: ReliabilityBins) -> float:
    """Return Σ n_b/N · |accuracy_b − confidence_b|, in [0, 1] (Guo et al., ICML 2017, arXiv 1706.04599)."""
    gaps = [
        n * abs(a - c)
        for n, c, a in zip(bins.count, bins.confidence, bins.accuracy, strict=True)
        if a is not None and c is not None
    ]
    return sum(gaps) / sum(bins.count)


def row_likelihoods(scores: Scores, labels: Tensor) -> Tensor | None:
    """Return each row's log p of the right class ``[N]``, in nats and float64; None for mere scores.

    Logits are exact; a probability of 0 counts as 1e-300.
    """
    if scores.kind == "scores":
        return None
    right = labels[:, None]
    if scores.kind == "logits":
        return scores.values.double().log_softmax(dim=1).gather(1, right)[:, 0]
    return scores.values.gather(1, right).double().clamp_min(1e-300).log()[:, 0]


def negative_log_likelihood(scores: Scores, labels: Tensor) -> float | None:
    """Return the mean −log p of the right class, in nats; None for mere scores."""
    logs = row_likelihoods(scores, labels)
    return None if logs is None else -float(logs.mean())


def row_brier_scores(probability: Tensor, labels: Tensor) -> Tensor:
    """Return Σ_c (p_c − [c = label])² of each row ``[N]``, in [0, 2] (Brier, 1950)."""
    minus_one = probability.new_full((len(labels), 1), -1.0)
    return probability.scatter_add(1, labels[:, None], minus_one).square().sum(dim=1)


def brier_score(probability: Tensor, labels: Tensor) -> float:
    """Return the mean over rows of the Brier score."""
    return float(row_brier_scores(probability, labels).mean())


def class_means(values: Tensor, labels: Tensor, classes: int) -> list[float | None]:
    """Return the mean of rows' values ``[N]`` over each class's rows ``[C]``; None for a class without rows."""
    wanted = labels.cpu().numpy()
    count = np.bincount(wanted, minlength=classes).tolist()
    summed = np.bincount(wanted, weights=values.cpu().numpy(), minlength=classes).tolist()
    return [s / n if n else None for s, n in zip(summed, count, strict=True)]
