"""Fitting heads: one, the best of several, or all heads of many cells together, each as it would be alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ltbench.contract import ClassifierComponent, Scorer
from ltbench.heads import component
from ltbench.heads.exact import TOLERANCE
from ltbench.heads.fits import Fits
from ltbench.heads.lanes import RAISED
from ltbench.heads.select import Choice, Fold, Score, Selection
from ltbench.heads.temperature import TemperedScorer, fit_temperature
from ltbench.types import Train


@dataclass(frozen=True, eq=False)
class Task:
    """One cell's head: instances to choose from, rows to fit on, folds to choose on, and whether to fit a temperature."""

    candidates: Sequence[Any]
    train: Train
    folds: Sequence[Fold] = ()
    temperature: bool = False


@dataclass(frozen=True)
class Fitted:
    """A head, how it was chosen (None: there was one candidate), and its temperature, if one was fitted.

    ``selection_flops`` is what fitting on folds cost, None if unknown.
    """

    scorer: Scorer
    choice: Choice | None = None
    temperature: float | None = None
    selection_flops: int | None = 0


Ended = tuple[int, Fitted | BaseException]
"""A task's number, and its result or error."""


def fit_many(tasks: Sequence[Task], score: Score) -> Iterator[Ended]:
    """Fit the heads of many cells; yield each task's number and result, or its error, as they end.

    Hand over tasks that share ``Train`` and fold objects together: what is common to their rows is then computed once.
    ``score`` scores held-out rows. A task's result is the one it gets alone, in any company and order.
    """
    return (ended for ended in fitting(tasks, score) if ended is not None)


def fitting(tasks: Sequence[Task], score: Score) -> Iterator[Ended | None]:
    """Do what ``fit_many`` does, and yield None after each piece of work that ends no task: a sign of life."""
    fits = Fits()
    under_way = {number: _Cell(task, score, fits) for number, task in enumerate(tasks)}
    while under_way:
        if fits.busy:
            fits.step()
        ended = [number for number, cell in under_way.items() if cell.outcome is not None]
        for number in ended:
            yield number, under_way.pop(number).closed()
        if not ended:
            yield None


def fit_one(task: Task, score: Score) -> Fitted:
    """Fit one cell's head, or raise its error."""
    ((_, found),) = fit_many([task], score)
    if isinstance(found, BaseException):
        raise found
    return found


def fit_classifier(classifier: Any, train: Train) -> Scorer:
    """Fit by the component's own ``fit``, train a linear head on its ``loss``, or correct its ``base``."""
    return fit_one(Task([classifier], train), lambda scorer, x: scorer(x)).scorer


class _Cell:
    """A task under way: selection if there is something to select, then the head itself."""

    def __init__(self, task: Task, score: Score, fits: Fits) -> None:
        """Ask for the first fits."""
        self.task, self.fits = task, fits
        self.outcome: Fitted | BaseException | None = _refusal(task) if task.train.streamed else None
        self.selection: Selection | None = None
        if self.outcome is not None:
            return
        if len(task.candidates) > 1 or task.temperature:
            self.selection = Selection(task.candidates, task.folds, score, self._chosen, kept=task.temperature)
            self.selection.ask(fits)
        else:
            self._final(task.candidates[0])

    def closed(self) -> Fitted | BaseException:
        """Return the outcome, and let go of the selection, which calls back here: a cycle would keep all rows in memory."""
        assert self.outcome is not None  # it has ended
        self.selection = None
        return self.outcome

    def _chosen(self) -> None:
        """Go on to the head itself once there is a choice."""
        assert self.selection is not None  # it is what calls this
        if self.selection.error is not None:
            self.outcome = self.selection.error
        else:
            self._final(self.task.candidates[self.selection.choice().index])

    def _final(self, classifier: Any) -> None:
        """Ask for the head on all rows; it does not begin where a fold's head ended, so selection leaves no trace."""

        def end(result: Any) -> None:
            try:
                self.outcome = result if isinstance(result, BaseException) else self._fitted(classifier, result)
            except RAISED as error:
                self.outcome = error

        try:
            self.fits.ask(component.trained_part(classifier), self.task.train, TOLERANCE, end)
        except RAISED as error:
            self.outcome = error

    def _fitted(self, classifier: Any, part: Any) -> Fitted:
        """Return the head, corrected and tempered."""
        scorer = component.finished(classifier, part, self.task.train)
        if self.selection is None:
            return Fitted(scorer)
        choice = self.selection.choice()
        told = choice if len(self.task.candidates) > 1 else None
        if not self.task.temperature:
            return Fitted(scorer, told, selection_flops=choice.flops)
        temperature = fit_temperature(self.selection.held_out(choice.index))
        return Fitted(TemperedScorer(scorer, temperature), told, temperature, choice.flops)


def _refusal(task: Task) -> BaseException | None:
    """Return why a head cannot be fitted on rows that are streamed from disk, None if it can."""
    try:
        parts = [component.trained_part(each) for each in task.candidates]
        if all(not isinstance(part, ClassifierComponent) and component.recipe(part) is not None for part in parts):
            return None
    except RAISED as error:
        return error
    return MemoryError(
        f"the {int(task.train.synthetic.sum()):,} synthetic rows do not fit in memory and are streamed from disk, which only "
        "solver=sgd does: say [solver=sgd] where the head has one, or lower the budget"
    )
