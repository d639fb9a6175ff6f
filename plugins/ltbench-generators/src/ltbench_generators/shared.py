"""Training sets that are fitted together: what equal ones have in common is found out once, neighbours of all at once."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

import ltbench
from ltbench_generators.neighbours import FEW, nearest_within
from ltbench_generators.sampler import Recipe, Sampler

T = TypeVar("T")

Sets = Callable[[ltbench.Train], Mapping[Hashable, Tensor]]


@dataclass(frozen=True, eq=False)
class Known:
    """What has been found out about some training rows, by name: it depends on neither stream nor budget.

    ``train`` is the first of those with these rows. ``together`` leads to what is known of all training sets that are fitted
    with it, as long as others need that.
    """

    train: ltbench.Train
    together: Sequence[weakref.ref[Known]] = ()
    found: dict[Hashable, Any] = field(default_factory=dict)

    def get(self, name: Hashable, compute: Callable[[], T]) -> T:
        """Return what is known by a name; the first time, compute it."""
        if name not in self.found:
            self.found[name] = compute()
        value: T = self.found[name]
        return value

    def nearest_within(self, sets: Sets, k: int) -> dict[Hashable, Tensor]:
        """Return the k nearest rows within each of the training set's ``sets`` of rows, by name.

        The first time, those of all training sets are found with them, but for sets so large that it would gain nothing.
        """
        mine = sets(self.train)
        if any((name, k) not in self.found for name in mine):
            asked = [
                (known, name, rows)
                for known in (self, *self._others())
                for name, rows in (mine if known is self else sets(known.train)).items()
                if (name, k) not in known.found and (known is self or len(rows) <= FEW)
            ]
            near = nearest_within([(known.train.x, rows) for known, _, rows in asked], k)
            for (known, name, _), places in zip(asked, near, strict=True):
                known.found[name, k] = places
        return {name: self.found[name, k] for name in mine}

    def _others(self) -> list[Known]:
        """Return what is known of the other training sets whose rows can lie in one tensor with these."""
        x, known = self.train.x, [each() for each in self.together]
        others = [each for each in known if each is not None and each is not self]
        return [each for each in others if _kind(each.train.x) == _kind(x)]


def samplers(plan: Callable[[Known, ltbench.Train, Tensor], Recipe], trains: Sequence[ltbench.Train]) -> list[Sampler]:
    """Return a sampler for each training set; those with equal rows and labels share what is known."""
    distinct: list[Known] = []
    together: list[weakref.ref[Known]] = []
    made = []
    for train in trains:
        known = next((each for each in distinct if _same(train, each.train)), None)
        if known is None:
            known = Known(train, together)
            distinct.append(known)
            together.append(weakref.ref(known))
        made.append(Sampler(train, functools.partial(plan, known)))
    return made


def _kind(x: Tensor) -> tuple[int, torch.dtype, torch.device]:
    """Return what rows have in common that can lie in one tensor."""
    return x.shape[1], x.dtype, x.device


def _same(one: ltbench.Train, other: ltbench.Train) -> bool:
    """Whether two training sets have the same rows in the same order."""
    return one.x.shape == other.x.shape and torch.equal(one.targets, other.targets) and torch.equal(one.x, other.x)
