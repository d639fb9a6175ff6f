"""Fitting a classifier component, and choosing its hyper-parameters on selection rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ltbench.heads.exact import fit_linear
from ltbench.metrics import balanced_accuracy, confusion_matrix
from ltbench.types import ClassifierComponent, Scorer, Scores, Train


@dataclass(frozen=True)
class Choice:
    """Which candidate won, every candidate's score on the selection rows, and what fitting them cost."""

    index: int
    scores: tuple[float, ...]
    flops: int | None


def fit_classifier(classifier: Any, train: Train) -> Scorer:
    """Fit by the component's own ``fit``, or train a linear head on its ``loss`` (with ``row_weights(train)``)."""
    if isinstance(classifier, ClassifierComponent):
        return classifier.fit(train)
    weights = getattr(classifier, "row_weights", None)
    return fit_linear(train, classifier.loss, classifier.l2, weights(train) if weights else None)


def choose(candidates: Sequence[Any], folds: Sequence[tuple[Train, Tensor, Tensor]], score: Callable[[Scorer, Tensor], Scores]) -> Choice:
    """Return the candidate of the best balanced accuracy over all held-out rows together, the first of equals.

    ``folds`` are (training rows, held-out features, held-out labels), with transform and generator fitted inside.
    """
    results = [_held_out(candidate, folds, score) for candidate in candidates]
    values = tuple(value for value, _ in results)
    costs = [cost for _, cost in results]
    total = None if any(cost is None for cost in costs) else sum(cost for cost in costs if cost is not None)
    return Choice(values.index(max(values)), values, total)


def _held_out(
    candidate: Any, folds: Sequence[tuple[Train, Tensor, Tensor]], score: Callable[[Scorer, Tensor], Scores]
) -> tuple[float, int | None]:
    """Return one candidate's balanced accuracy on held-out rows, and its cost."""
    total = 0
    cost: int | None = 0
    for train, x, labels in folds:
        scorer = fit_classifier(candidate, train)
        total = total + confusion_matrix(score(scorer, x).values.argmax(dim=1), labels, train.classes)
        own = getattr(scorer, "training_flops", None)
        cost = None if cost is None or own is None else cost + own
    return balanced_accuracy(total), cost
