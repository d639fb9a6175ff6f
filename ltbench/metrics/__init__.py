"""Metrics of one cell's scores: pure functions on tensors."""

from ltbench.metrics.accuracy import (
    ClassCounts,
    balanced_accuracy,
    class_average,
    class_counts,
    confusion_matrix,
    group_accuracy,
    per_class_f1,
    per_class_precision,
    per_class_recall,
    top1,
)
from ltbench.metrics.calibration import (
    BINS,
    ReliabilityBins,
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
    probabilities,
    reliability_bins,
)
from ltbench.metrics.fidelity import Fidelity, Labelled, fidelity_figures

__all__ = [
    "BINS",
    "ClassCounts",
    "Fidelity",
    "Labelled",
    "ReliabilityBins",
    "balanced_accuracy",
    "brier_score",
    "class_average",
    "class_counts",
    "confusion_matrix",
    "expected_calibration_error",
    "fidelity_figures",
    "group_accuracy",
    "negative_log_likelihood",
    "per_class_f1",
    "per_class_precision",
    "per_class_recall",
    "probabilities",
    "reliability_bins",
    "top1",
]
