"""Fits on demand: each asked for once, however many heads are built on it, and as many side by side as lanes allow.

A fit is a component's trained part on some rows, perhaps begun where another fit ended. What it gives depends on these
alone, so heads that share one get what each would get for itself.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from ltbench.contract import ClassifierComponent
from ltbench.heads import component
from ltbench.heads.exact import SELECTION_TOLERANCE, Exact, Job
from ltbench.heads.lanes import RAISED
from ltbench.heads.linear import LinearScorer
from ltbench.heads.recipes import Recipe
from ltbench.heads.sgd import Course, training
from ltbench.types import Train

User = Callable[[Any], None]
"""Takes a fitted part, or the exception that came instead."""


@dataclass(eq=False)
class Fit:
    """A trained part on rows, who waits for it, and which fits begin where it ends."""

    part: Any
    train: Train
    tolerance: float
    start: Fit | None
    users: list[User] = field(default_factory=list)
    followers: list[Fit] = field(default_factory=list)
    done: bool = False
    result: Any = None


class Fits:
    """Fits that were asked for; ``step`` does a piece of work, and tells who asked for what has ended."""

    def __init__(self) -> None:
        """Start without any."""
        self._known: dict[Hashable, Fit] = {}
        self._exact = Exact()
        self._others: deque[Fit] = deque()
        self._trained: tuple[list[Fit], Course] | None = None

    @property
    def busy(self) -> bool:
        """Whether there is work left."""
        return bool(self._others) or self._trained is not None or self._exact.busy

    def ask(self, part: Any, train: Train, tolerance: float, user: User, start: Fit | None = None) -> Fit:
        """Ask for a fit; ``user`` is called once it has ended, at once if it has. ``start`` is for exact fits alone."""
        part = component.reduced(part, train)
        key = (component.identity(part), id(train), tolerance, None if start is None else id(start))
        if key not in self._known:
            fit = self._known[key] = Fit(part, train, tolerance, start, [user])
            if start is None or start.done:
                self._launch(fit)
            else:
                start.followers.append(fit)
            return fit
        fit = self._known[key]
        if fit.done:
            user(fit.result)
        else:
            fit.users.append(user)
        return fit

    def step(self) -> None:
        """Do a piece of work: a head with a fit of its own, an epoch of ``sgd``, or one evaluation of every lane."""
        if self._trained is not None:
            self._train(*self._trained)
        elif self._others:
            self._begin(self._others.popleft())
        else:
            for fit, result in self._exact.step():
                self._end(fit, result)  # type: ignore[arg-type]

    def _begin(self, fit: Fit) -> None:
        """Fit a head with a fit of its own; let ``sgd`` begin with one, and with all that see the same batches."""
        if isinstance(fit.part, ClassifierComponent):
            self._end(fit, _attempt(lambda: fit.part.fit(fit.train)))
            return
        recipe = component.recipe(fit.part)
        assert recipe is not None  # a part without one is solved exactly
        able, jobs = [], []
        for each in [fit, *self._companions(fit)]:
            job = _attempt(functools.partial(component.sgd_job, each.part, each.train))
            if isinstance(job, BaseException):
                self._end(each, job)
            else:
                able.append(each)
                jobs.append(job)
        self._trained = able, training(fit.train, recipe, jobs)

    def _launch(self, fit: Fit) -> None:
        """Hand a fit to whoever does it."""
        try:
            if isinstance(fit.part, ClassifierComponent) or component.recipe(fit.part) is not None:
                self._others.append(fit)
                return
            start = fit.start.result if fit.start is not None else None
            job = Job(
                fit.train,
                fit.part.loss,
                fit.part.l2,
                component.row_weights(fit.part, fit.train),
                start if isinstance(start, LinearScorer) else None,
                fit.tolerance,
            )
        except RAISED as error:
            self._end(fit, error)
        else:
            self._exact.put(fit, job, first=fit.start is not None or fit.tolerance != SELECTION_TOLERANCE)

    def _companions(self, fit: Fit) -> list[Fit]:
        """Take the waiting fits that see the same batches."""
        mine = _course(fit)
        found = [other for other in self._others if _course(other) == mine]
        for other in found:
            self._others.remove(other)
        return found

    def _train(self, fits: list[Fit], course: Course) -> None:
        """Train for one more epoch; after the last, or where it cannot go on, the fits have ended."""
        try:
            next(course)
        except StopIteration as ended:
            results = ended.value
        except RAISED as error:
            results = [error] * len(fits)
        else:
            return
        self._trained = None
        for fit, result in zip(fits, results, strict=True):
            self._end(fit, result)

    def _end(self, fit: Fit, result: Any) -> None:
        """Keep a result, tell everyone who waits for it, and launch what begins there."""
        fit.result, fit.done = result, True
        for user in fit.users:
            user(result)
        for follower in fit.followers:
            self._launch(follower)
        fit.users, fit.followers = [], []
        if fit.tolerance == SELECTION_TOLERANCE and not isinstance(result, BaseException):
            fit.result = None  # everyone who compares it has asked before; it may be large


def _course(fit: Fit) -> tuple[int, Recipe | None]:
    """Return what decides the batches that a fit sees; no recipe for a fit of its own kind."""
    own = isinstance(fit.part, ClassifierComponent)
    return id(fit.train), None if own else component.recipe(fit.part)


def _attempt(call: Callable[[], Any]) -> Any:
    """Return what a call returns, or the exception it raises."""
    try:
        return call()
    except RAISED as error:
        return error
