"""Choosing among candidates on held-out rows: which fits to ask for, and what their scores add up to."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ltbench.contract import Scorer
from ltbench.heads import component
from ltbench.heads.exact import SELECTION_TOLERANCE
from ltbench.heads.fits import Fit, Fits
from ltbench.heads.lanes import RAISED
from ltbench.heads.temperature import LEAST_PROBABILITY, as_logits
from ltbench.metrics import balanced_accuracy, confusion_matrix
from ltbench.types import Scores, Train

Fold = tuple[Train, Tensor, Tensor]
"""Rows to fit on, held-out features ``[N, D]`` and their labels ``[N]``; transform and generator fitted inside."""

Score = Callable[[Scorer, Tensor], Scores]

EQUAL = 1e-9
"""Balanced accuracies that differ by no more than rounding are equal."""


@dataclass(frozen=True)
class Choice:
    """Which candidate won, every candidate's score and NLL on the selection rows, and what fitting them cost.

    ``scores`` are balanced accuracies; ``nll`` counts classes alike, and is None where scores have no probabilities.
    """

    index: int
    scores: tuple[float, ...]
    nll: tuple[float | None, ...]
    flops: int | None


class Selection:
    """Candidates compared on folds; confusions are added up as fits end. ``end`` is called after the last one.

    ``kept``: keep the scores of held-out rows, for a temperature.
    """

    def __init__(
        self, candidates: Sequence[Any], folds: Sequence[Fold], score: Score, end: Callable[[], None], *, kept: bool = False
    ) -> None:
        """Begin with nothing scored."""
        self.candidates, self.folds, self.score, self.end, self.kept = candidates, folds, score, end, kept
        self.confusions: list[Any] = [0] * len(candidates)
        self.losses: list[Any] = [0.0] * len(candidates)
        self._errors: dict[tuple[int, int], BaseException] = {}
        self._scores: dict[tuple[int, int], Scores] = {}
        self._costs: dict[Hashable, int | None] = {}
        self._left = len(candidates) * len(folds)

    def ask(self, fits: Fits) -> None:
        """Ask for every candidate on every fold; an exact head begins where the one before it in its fold ended."""
        if not self.folds:
            self.end()
        for fold, (train, _, _) in enumerate(self.folds):
            starts: dict[Hashable, Fit | None] = {}
            before: Fit | None = None
            for index in range(len(self.candidates)):
                try:
                    part = component.trained_part(self.candidates[index])
                    start = starts.setdefault(component.identity(part), before if component.exact(part) else None)
                    asked = _Asked(self, fold, index)
                    asked.fit = fits.ask(part, train, SELECTION_TOLERANCE, asked, start)
                    before = asked.fit if component.exact(part) else before
                except RAISED as error:
                    self._count(fold, index, error)

    @property
    def error(self) -> BaseException | None:
        """The error of the first fold's first candidate that has one: it is the selection's."""
        return self._errors[min(self._errors)] if self._errors else None

    def choice(self) -> Choice:
        """Return the candidate of the best balanced accuracy over all held-out rows together.

        Of equals the one of the least NLL, each class counting alike, then the first.
        """
        if self.error is not None:
            raise self.error
        values = tuple(balanced_accuracy(each) if self.folds else 0.0 for each in self.confusions)
        nll = tuple(_class_mean(*each) for each in zip(self.losses, self.confusions, strict=True))
        equal = [index for index, value in enumerate(values) if value >= max(values) - EQUAL]
        index = min(equal, key=lambda index: _or_infinite(nll[index]))
        costs = list(self._costs.values())
        return Choice(index, values, nll, None if None in costs else sum(cost for cost in costs if cost is not None))

    def held_out(self, index: int) -> list[tuple[Scores, Tensor]]:
        """Return a candidate's scores of held-out rows, with their labels, fold by fold."""
        return [(self._scores[fold, index], labels) for fold, (_, _, labels) in enumerate(self.folds)]

    def take(self, asked: _Asked, result: Any) -> None:
        """Score a candidate on the rows that its fit has not seen."""
        error = result if isinstance(result, BaseException) else None
        if error is None:
            try:
                self._score(asked, result)
            except RAISED as raised:
                error = raised
        self._count(asked.fold, asked.index, error)

    def _score(self, asked: _Asked, part: Any) -> None:
        """Add the held-out rows of a fold to a candidate's confusions and losses."""
        train, x, labels = self.folds[asked.fold]
        scorer = component.finished(self.candidates[asked.index], part, train)
        scores = self.score(scorer, x)
        self.confusions[asked.index] = self.confusions[asked.index] + confusion_matrix(
            scores.values.argmax(dim=1), labels, train.classes
        )
        self.losses[asked.index] = self.losses[asked.index] + class_losses(scores, labels)
        if self.kept:
            self._scores[asked.fold, asked.index] = scores
        shared, whole = (getattr(each, "training_flops", None) for each in (part, scorer))
        trained = component.identity(component.trained_part(self.candidates[asked.index]))
        self._costs[asked.fold, trained] = shared  # paid once by all candidates that are built on it
        self._costs[asked.fold, asked.index] = None if whole is None else whole - (shared or 0)

    def _count(self, fold: int, index: int, error: BaseException | None) -> None:
        """Note that a candidate has been tried on a fold."""
        if error is not None:
            self._errors[fold, index] = error
        self._left -= 1
        if not self._left:
            self.end()


def class_losses(scores: Scores, labels: Tensor) -> Tensor:
    """Return the sum of −log p over each class's rows ``[C]``, float64 on the CPU; NaN for scores that have none.

    A probability below 10⁻¹² counts as 10⁻¹²: so one row, or a class that a fold has no row of, decides nothing.
    """
    labels, classes = labels.cpu(), scores.values.shape[1]
    if scores.kind == "scores":
        return torch.full((classes,), math.nan, dtype=torch.float64)
    logs = as_logits(scores).double().log_softmax(dim=1).gather(1, labels[:, None].to(scores.values.device))[:, 0].cpu()
    return torch.bincount(labels, weights=-logs.clamp_min(math.log(LEAST_PROBABILITY)), minlength=classes)


def _class_mean(losses: Any, confusion: Any) -> float | None:
    """Return the mean over classes with rows of each class's mean loss, or None without."""
    if isinstance(losses, float):
        return None
    rows = confusion.sum(dim=1).double().cpu()
    mean = float((losses / rows)[rows > 0].mean())
    return None if math.isnan(mean) else mean


def _or_infinite(value: float | None) -> float:
    """Return a number, infinity for none."""
    return math.inf if value is None else value


@dataclass(eq=False)
class _Asked:
    """A candidate on a fold, waiting for its fit."""

    selection: Selection
    fold: int
    index: int
    fit: Fit | None = None

    def __call__(self, result: Any) -> None:
        """Take the fit."""
        self.selection.take(self, result)


def choose(candidates: Sequence[Any], folds: Sequence[Fold], score: Score) -> Choice:
    """Return the candidate of the best balanced accuracy over all held-out rows together; of equals the likeliest.

    Without rows to select on (one row a class, say) the first is taken. Candidates of one fold follow one another, each
    linear head from where the last one ended: list them from strong to weak regularisation.
    """
    fits = Fits()
    selection = Selection(candidates, folds, score, lambda: None)
    selection.ask(fits)
    while fits.busy:
        fits.step()
    return selection.choice()
