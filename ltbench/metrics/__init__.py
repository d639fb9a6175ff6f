"""Metrics of one cell's scores: pure functions on tensors. Importing them imports no torch, but for fidelity's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ltbench.metrics.accuracy import (
    ClassCounts,
    balanced_accuracy,
    class_average,
    class_counts,
    confusion_matrix,
    group_average,
    mean_of_known,
    per_class_f1,
    per_class_precision,
    per_class_recall,
    top1,
)
from ltbench.metrics.calibration import (
    BINS,
    ReliabilityBins,
    Winners,
    brier_score,
    class_means,
    expected_calibration_error,
    negative_log_likelihood,
    probabilities,
    reliability_bins,
    row_brier_scores,
    row_likelihoods,
    six_digits,
    winners,
)
from ltbench.metrics.ranking import Ranking, log_odds, ranking

if TYPE_CHECKING:
    from ltbench.metrics.fidelity import Fidelity, Labelled, fidelity_figures

_LAZY = ("Fidelity", "Labelled", "fidelity_figures")

__all__ = [
    "BINS",
    "ClassCounts",
    "Fidelity",
    "Labelled",
    "Ranking",
    "ReliabilityBins",
    "Winners",
    "balanced_accuracy",
    "brier_score",
    "class_average",
    "class_counts",
    "class_means",
    "confusion_matrix",
    "expected_calibration_error",
    "fidelity_figures",
    "group_average",
    "log_odds",
    "mean_of_known",
    "negative_log_likelihood",
    "per_class_f1",
    "per_class_precision",
    "per_class_recall",
    "probabilities",
    "ranking",
    "reliability_bins",
    "row_brier_scores",
    "row_likelihoods",
    "six_digits",
    "top1",
    "winners",
]


def __getattr__(name: str) -> Any:
    """Load fidelity's names on first use: they need torch."""
    if name not in _LAZY:
        raise AttributeError(f"module 'ltbench.metrics' has no attribute {name!r}")
    from ltbench.metrics import fidelity

    value = getattr(fidelity, name)
    globals()[name] = value
    return value
