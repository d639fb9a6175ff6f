"""Accuracy of predictions: overall, per class and per group. Undefined values are None, never 0 or NaN.

Imports no torch, so that tables can be made of the counts in records.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ClassCounts:
    """Test rows of each class, predictions of it, and rows that are both: lists of C numbers.

    A record keeps these; recall, precision and F1 of each class follow from them.
    """

    rows: list[int]
    predicted: list[int]
    right: list[int]


def class_counts(predictions: Tensor, labels: Tensor, classes: int) -> ClassCounts:
    """Count predictions and labels, both ``[N]``: every metric of accuracy follows from these.

    In numpy, whose calls on a few rows cost a tenth of torch's, and without a matrix, which is large for many classes.
    """
    predicted, wanted = predictions.cpu().numpy(), labels.cpu().numpy()
    counts = (np.bincount(found, minlength=classes) for found in (wanted, predicted, wanted[wanted == predicted]))
    return ClassCounts(*(each.tolist() for each in counts))


def confusion_matrix(predictions: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return counts ``[C, C]``: row = label, column = prediction."""
    return (labels * classes + predictions).bincount(minlength=classes * classes).reshape(classes, classes)


def top1(counts: ClassCounts) -> float:
    """Return the share of right predictions."""
    return sum(counts.right) / sum(counts.rows)


def per_class_recall(counts: ClassCounts) -> list[float | None]:
    """Return each class's share of its rows that were predicted as it; None for a class without test rows."""
    return _ratios(counts.right, counts.rows)


def per_class_precision(counts: ClassCounts) -> list[float | None]:
    """Return each class's share of right ones among the predictions of it; None if it was never predicted."""
    return _ratios(counts.right, counts.predicted)


def per_class_f1(counts: ClassCounts) -> list[float | None]:
    """Return 2·TP / (rows + predictions) per class; None where a class has neither."""
    both = [rows + predicted for rows, predicted in zip(counts.rows, counts.predicted, strict=True)]
    return _ratios([2 * right for right in counts.right], both)


def class_average(values: Sequence[float | None]) -> float:
    """Return the mean over the classes that have a value: of recalls balanced accuracy, of F1 macro-F1; 0 without any."""
    return mean_of_known(values) or 0.0


def balanced_accuracy(confusion: Tensor) -> float:
    """Return the mean recall over the classes that have test rows, from counts ``[C, C]``."""
    return class_average(_ratios(confusion.diagonal().tolist(), confusion.sum(1).tolist()))


def group_average(values: Sequence[float | None], groups: Sequence[str], group: str) -> float | None:
    """Return the mean over one group's classes that have a value, of recalls the group's accuracy; None without any."""
    return mean_of_known([value for value, each in zip(values, groups, strict=True) if each == group])


def mean_of_known(values: Sequence[float | None]) -> float | None:
    """Return the mean of what is defined, or None."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _ratios(numerator: Sequence[int], denominator: Sequence[int]) -> list[float | None]:
    """Divide counts; None where there is nothing to divide by."""
    return [n / d if d else None for n, d in zip(numerator, denominator, strict=True)]
