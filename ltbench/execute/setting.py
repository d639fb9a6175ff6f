"""A setting: everything of a cell but its head. Split, transform and generated rows are made once for all heads.

Sees training rows only until the test rows are transformed; knows no file and no record.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ltbench.execute.fidelity import Compared, compared
from ltbench.execute.rows import Made, Material, Recipe, fit, see
from ltbench.longtail import stratified_folds
from ltbench.metrics import Labelled
from ltbench.streams import Stream
from ltbench.types import Train


@dataclass(frozen=True)
class Fold:
    """What is trained on in a fold, its held-out rows and labels, what generation costs, and its rows beside those."""

    train: Train
    x: Tensor
    labels: Tensor
    flops: int | None = 0
    compared: Compared | None = None


Making = Callable[[Sequence[int]], Sequence[Fold | Exception]]
"""Makes folds by number; one that cannot be made, says why, and is the last."""

TOGETHER = 2**24
"""Bytes of features, of all folds, up to which they are made together: only many small pieces of work gain by it."""


class HeldOut:
    """Folds of a setting: one is made when it is asked for, the others when all are; one that fails, fails alike for all."""

    def __init__(self, dealt: Callable[[], tuple[int, Making]]) -> None:
        """Remember how to deal rows to folds: how many there are, and how to make them."""
        self._dealt = functools.cache(dealt)
        self._made: dict[int, Fold | Exception] = {}

    def __len__(self) -> int:
        """Return the number of folds."""
        return self._dealt()[0]

    def __iter__(self) -> Iterator[Fold]:
        """Make those that are not yet made; if one has failed, no more than those before it."""
        if not any(isinstance(found, Exception) for found in self._made.values()):
            self._make(range(len(self)))
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> Fold:
        """Return a fold; raise what making it raised."""
        self._make([number])
        found = self._made[number]
        if isinstance(found, Exception):
            raise found
        return found

    def _make(self, numbers: Sequence[int]) -> None:
        """Make folds that are not yet made, up to one that fails."""
        left = [number for number in numbers if number not in self._made]
        if left:
            self._made.update(zip(left, self._dealt()[1](left), strict=False))


@dataclass(frozen=True)
class Prepared:
    """What heads are fitted and scored on; ``held_out`` is what they are chosen on, and what fidelity is told by.

    ``idle``: the budget asks for no row, of a generator that adds rows.
    """

    train: Train
    test: Tensor
    selection_rows: str
    notes: Mapping[str, Any]
    generation_flops: int | None
    held_out: HeldOut
    generates: bool = True
    idle: bool = False

    @functools.cached_property
    def folds(self) -> tuple[tuple[Train, Tensor, Tensor], ...]:
        """Rows to fit candidates on, held-out rows and their labels; all folds are made, if they are not yet."""
        return tuple((each.train, each.x, each.labels) for each in self.held_out)

    @property
    def fold_flops(self) -> int | None:
        """What generation costs in all folds, None if unknown."""
        flops = [each.flops for each in self.held_out]
        return None if None in flops else sum(cost for cost in flops if cost is not None)

    @property
    def compared(self) -> Compared | None:
        """Synthetic rows beside held-out ones, those of the first fold, if there are both."""
        return self.held_out[0].compared if self.generates and self.held_out else None

    @functools.cached_property
    def fidelity(self) -> dict[str, Any] | None:
        """How near synthetic rows are to real ones; computed when first asked for, once for all heads."""
        return None if self.compared is None else self.compared.figures()


def prepare(material: Material, recipe: Recipe) -> Prepared:
    """Transform and generate. A validation part is the one fold to choose on; without one, folds wait to be asked for."""
    others = [material.test, *([] if material.validation is None else [material.validation[0]])]
    (made,) = fit(recipe, [see(material, recipe, slice(None), others, Stream.of(recipe.seed))])
    if material.validation is None:
        told = f"{recipe.folds}-fold class-weighted cross-validation on {len(material.labels)} training rows"
        held_out = HeldOut(functools.partial(_folds, material, recipe))
    else:
        told = f"validation part ({len(material.validation[1])} rows)"
        whole = _validation(made, material.validation[1])
        held_out = HeldOut(lambda: (1, lambda _: [whole]))
    generates = recipe.regime != "real"
    idle = generates and made.idle
    return Prepared(made.train, made.others[0], told, made.rows.notes, made.rows.flops, held_out, generates, idle)


def _validation(made: Made, labels: Tensor) -> Fold:
    """Return the validation part as a fold: all training rows are fitted on, at no further cost."""
    held_out = made.others[1]
    return Fold(made.train, held_out, labels, 0, compared(made.real, made.rows, Labelled(held_out, labels), "validation part"))


def _folds(material: Material, recipe: Recipe) -> tuple[int, Making]:
    """Return how many folds have rows on both sides, and how to make them."""
    fold = stratified_folds(material.labels, material.row_ids, recipe.folds, Stream.of(recipe.seed).child("folds"))
    sides = [fold == number for number in range(recipe.folds)]
    held = {number: side for number, side in enumerate(sides) if bool(side.any()) and not bool(side.all())}
    numbers = list(held)
    return len(held), lambda places: _made(material, recipe, held, [numbers[place] for place in places])


def _made(material: Material, recipe: Recipe, held_out: Mapping[int, Tensor], numbers: list[int]) -> list[Fold | Exception]:
    """Make folds: together, if the generator can and they are small; else one after the other, up to one that fails.

    So it is where folds together fail, too, which says whose failure it is.
    """
    if len(numbers) > 1 and hasattr(recipe.generator, "fit_many") and len(numbers) * material.x.nbytes <= TOGETHER:
        with contextlib.suppress(Exception):
            return list(_together(material, recipe, held_out, numbers))
    made: list[Fold | Exception] = []
    for number in numbers:
        try:
            made += _together(material, recipe, held_out, [number])
        except Exception as error:
            return [*made, error]
    return made


def _together(material: Material, recipe: Recipe, held_out: Mapping[int, Tensor], numbers: list[int]) -> Iterator[Fold]:
    """Fit transform and generator on all but the held-out rows of each fold, and yield one after the other."""
    root = Stream.of(recipe.seed)
    seen = (see(material, recipe, ~held_out[n], [material.x[held_out[n]]], root.child("fold", n)) for n in numbers)
    making = fit(recipe, seen)
    for number in numbers:
        told = f"first of {recipe.folds} folds of training rows" if number == min(held_out) else None
        yield _fold(next(making), material.labels[held_out[number]], told)  # no name holds what a fold leaves behind


def _fold(made: Made, labels: Tensor, told: str | None) -> Fold:
    """Return a fold; its rows are compared with the held-out ones if it is said what those are."""
    (x,) = made.others
    seen = None if told is None else compared(made.real, made.rows, Labelled(x, labels), told)
    return Fold(made.train, x, labels, made.rows.flops, seen)
