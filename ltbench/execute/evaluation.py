"""What a record keeps of test scores: metrics, counts per class, calibration per group, and which rows were right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ltbench import metrics
from ltbench.longtail import GROUPS
from ltbench.records import packed
from ltbench.types import Scores


@dataclass(frozen=True)
class Groups:
    """A long tail's groups: the rule that makes them, and each class's group ``[C]``."""

    rule: str
    of_class: tuple[str, ...]


@dataclass(frozen=True)
class _RowCalibration:
    """Log likelihood and Brier score of each row ``[N]``, and its winner."""

    likelihoods: Tensor
    brier: Tensor
    winners: metrics.Winners


def evaluate(scores: Scores, labels: Tensor, groups: Groups | None = None) -> dict[str, Any]:
    """Return what a record keeps of scores ``[N, C]`` on labels ``[N]``; calibration is null for mere scores."""
    predictions, classes = scores.values.argmax(dim=1), scores.values.shape[1]
    counts = metrics.class_counts(predictions, labels, classes)
    probability = metrics.probabilities(scores)
    ranked = metrics.ranking(metrics.log_odds(scores.values) if scores.kind == "logits" else scores.values, labels)
    rows = _row_calibration(scores, probability, labels)
    return {
        "metrics": {
            "top1": metrics.top1(counts),
            "balanced": metrics.class_average(metrics.per_class_recall(counts)),
            "macro_f1": metrics.class_average(metrics.per_class_f1(counts)),
            "auroc": metrics.mean_of_known(ranked.auroc),
            "average_precision": metrics.mean_of_known(ranked.average_precision),
            **_calibration(rows),
        },
        "per_class": {"rows": counts.rows, "predicted": counts.predicted},
        "reliability": None if rows is None else rows.winners.bins().rounded(),
        "groups": None if groups is None else _by_group(rows, labels, groups),
        "correct": packed((predictions == labels).numpy(), labels.numpy()),
    }


def calibration(scores: Scores, labels: Tensor) -> dict[str, float | None]:
    """Return expected calibration error, NLL and Brier score; null for mere scores."""
    return _calibration(_row_calibration(scores, metrics.probabilities(scores), labels))


def _row_calibration(scores: Scores, probability: Tensor | None, labels: Tensor) -> _RowCalibration | None:
    """Return what calibration follows from; None for mere scores."""
    likelihoods = metrics.row_likelihoods(scores, labels)
    if probability is None or likelihoods is None:
        return None
    right = scores.values.argmax(dim=1) == labels  # not of the probabilities: those of different logits may round to one
    winners = metrics.Winners(probability.amax(dim=1).numpy(), right.numpy())
    return _RowCalibration(likelihoods, metrics.row_brier_scores(probability, labels), winners)


def _calibration(rows: _RowCalibration | None) -> dict[str, float | None]:
    """Return the figures of all rows together."""
    if rows is None:
        return {"ece": None, "nll": None, "brier": None}
    error = metrics.expected_calibration_error(rows.winners.bins())
    return {"ece": error, "nll": -float(rows.likelihoods.mean()), "brier": float(rows.brier.mean())}


def _by_group(rows: _RowCalibration | None, labels: Tensor, groups: Groups) -> dict[str, Any]:
    """Return the rule and each group's figures; null for a group without classes."""
    classes = len(groups.of_class)
    per_class: Mapping[str, Any] = {"nll": None, "brier": None}
    if rows is not None:
        of_rows = {"nll": -rows.likelihoods, "brier": rows.brier}
        per_class = {name: metrics.class_means(values, labels, classes) for name, values in of_rows.items()}
    of_row = np.array(groups.of_class)[labels.numpy()]
    return {"rule": groups.rule, **{group: _group(rows, per_class, groups, of_row, group) for group in GROUPS}}


def _group(
    rows: _RowCalibration | None, per_class: Mapping[str, Any], groups: Groups, of_row: Any, group: str
) -> dict[str, Any] | None:
    """Return a group's number of classes, the means over them of NLL and Brier score, and its rows' bins; six digits each."""
    number = groups.of_class.count(group)
    if not number:
        return None
    means = {
        name: None if values is None else metrics.six_digits(metrics.group_average(values, groups.of_class, group))
        for name, values in per_class.items()
    }
    bins = None if rows is None else rows.winners.among(of_row == group).bins().rounded()
    return {"classes": number, **means, "reliability": bins}
