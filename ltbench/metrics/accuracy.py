"""Accuracy of predictions: overall, per class and per group. Undefined values are None, never 0 or NaN."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def top1(predictions: Tensor, labels: Tensor) -> float:
    """Return the share of right predictions, both ``[N]``."""
    return float((predictions == labels).double().mean())


def confusion_matrix(predictions: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return counts ``[C, C]``: row = label, column = prediction."""
    return torch.bincount(labels * classes + predictions, minlength=classes * classes).reshape(classes, classes)


def per_class_recall(confusion: Tensor) -> list[float | None]:
    """Return each class's share of its rows that were predicted as it; None for a class without test rows."""
    return _ratios(confusion.diagonal(), confusion.sum(1))


def per_class_precision(confusion: Tensor) -> list[float | None]:
    """Return each class's share of right ones among the predictions of it; None if it was never predicted."""
    return _ratios(confusion.diagonal(), confusion.sum(0))


def per_class_f1(confusion: Tensor) -> list[float | None]:
    """Return 2·TP / (rows + predictions) per class; None where a class has neither."""
    return _ratios(2 * confusion.diagonal(), confusion.sum(0) + confusion.sum(1))


def balanced_accuracy(confusion: Tensor) -> float:
    """Return the mean recall over the classes that have test rows."""
    return _mean(per_class_recall(confusion)) or 0.0


def macro_f1(confusion: Tensor) -> float:
    """Return the mean F1 over the classes that have test rows or predictions."""
    return _mean(per_class_f1(confusion)) or 0.0


def group_accuracy(recall: Sequence[float | None], groups: Sequence[str], group: str) -> float | None:
    """Return the mean recall over one group's classes; None for an empty group."""
    return _mean([r for r, g in zip(recall, groups, strict=True) if g == group])


def _ratios(numerator: Tensor, denominator: Tensor) -> list[float | None]:
    """Divide counts; None where there is nothing to divide by."""
    return [n / d if d else None for n, d in zip(numerator.tolist(), denominator.tolist(), strict=True)]


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of what is defined, or None."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
