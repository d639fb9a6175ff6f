"""Fitting a classifier component, and choosing its hyper-parameters on selection rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ltbench.contract import ClassifierComponent, Scorer
from ltbench.heads.exact import SELECTION_TOLERANCE, TOLERANCE, fit_linear
from ltbench.heads.linear import LinearScorer
from ltbench.metrics import balanced_accuracy, confusion_matrix
from ltbench.types import Scores, Train


@dataclass(frozen=True)
class Choice:
    """Which candidate won, every candidate's score on the selection rows, and what fitting them cost."""

    index: int
    scores: tuple[float, ...]
    flops: int | None


def fit_classifier(classifier: Any, train: Train) -> Scorer:
    """Fit by the component's own ``fit``, or train a linear head on its ``loss``."""
    return (
        classifier.fit(train)
        if isinstance(classifier, ClassifierComponent)
        else _finished(classifier, train, _linear(classifier, train))
    )


def _linear(classifier: Any, train: Train, start: LinearScorer | None = None, tolerance: float = TOLERANCE) -> LinearScorer:
    """Train a linear head on a loss, with the rows weighted by ``row_weights(train)`` where the component has it."""
    weights = getattr(classifier, "row_weights", None)
    return fit_linear(train, classifier.loss, classifier.l2, weights(train) if weights else None, start, tolerance)


def _finished(classifier: Any, train: Train, scorer: LinearScorer) -> Scorer:
    """Apply the component's ``post_hoc(scorer, train)``, if it has one."""
    post_hoc = getattr(classifier, "post_hoc", None)
    return post_hoc(scorer, train) if post_hoc else scorer


def choose(
    candidates: Sequence[Any], folds: Sequence[tuple[Train, Tensor, Tensor]], score: Callable[[Scorer, Tensor], Scores]
) -> Choice:
    """Return the candidate of the best balanced accuracy over all held-out rows together, the first of equals.

    Without rows to select on (one row a class, say) all are equal.

    ``folds`` are (training rows, held-out features, held-out labels), with transform and generator fitted inside.
    """
    confusions: list[Any] = [0] * len(candidates)
    flops: list[int | None] = []
    for train, x, labels in folds:
        for index, scorer in enumerate(_path(candidates, train)):
            predictions = score(scorer, x).values.argmax(dim=1)
            confusions[index] = confusions[index] + confusion_matrix(predictions, labels, train.classes)
            flops.append(getattr(scorer, "training_flops", None))
    values = tuple(balanced_accuracy(confusion) if folds else 0.0 for confusion in confusions)
    total = None if None in flops else sum(cost for cost in flops if cost is not None)
    return Choice(values.index(max(values)), values, total)


def _path(candidates: Sequence[Any], train: Train) -> Iterator[Scorer]:
    """Fit every candidate on the same rows; a linear head starts from the candidate before it."""
    before: LinearScorer | None = None
    for candidate in candidates:
        if isinstance(candidate, ClassifierComponent):
            yield candidate.fit(train)
        else:
            before = _linear(candidate, train, before, SELECTION_TOLERANCE)
            yield _finished(candidate, train, before)
