"""A setting: everything of a cell but its head. Split, transform and generated rows are made once for all heads.

Sees training rows only until the test rows are transformed; knows no file and no record.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ltbench.budget import Budget
from ltbench.contract import GeneratorComponent, Sampler, TransformComponent
from ltbench.data import views_wanted
from ltbench.errors import SkipCell
from ltbench.execute.checked import checked_rows, finite_rows
from ltbench.execute.failures import component_failure
from ltbench.execute.fidelity import Compared, compared
from ltbench.execute.streamed import adds_rows, stream, streams
from ltbench.longtail import stratified_folds
from ltbench.metrics import Labelled
from ltbench.streams import Stream
from ltbench.types import Rows, Train


@dataclass(frozen=True)
class Recipe:
    """How training rows are made: built components with their names, the budget, and the cell's choices.

    ``groups [C]`` are the classes' groups, where the budget asks for some.
    """

    transform: TransformComponent
    transform_name: str
    generator: GeneratorComponent
    generator_name: str
    budget: Budget
    prior_source: str
    seed: int
    folds: int
    regime: str = "real+synthetic"
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fold:
    """What is trained on in a fold, its held-out rows and labels, what generation costs, and its rows beside those."""

    train: Train
    x: Tensor
    labels: Tensor
    flops: int | None = 0
    compared: Compared | None = None


class HeldOut:
    """Folds of a setting, each made when it is first asked for; where that fails, it fails alike for all who ask."""

    def __init__(self, dealt: Callable[[], Sequence[Callable[[], Fold]]]) -> None:
        """Remember how to deal rows to folds; each fold has a way to make it."""
        self._dealt = functools.cache(dealt)
        self._made: dict[int, Fold | Exception] = {}

    def __len__(self) -> int:
        """Return the number of folds."""
        return len(self._dealt())

    def __iter__(self) -> Iterator[Fold]:
        """Make one after the other."""
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> Fold:
        """Return a fold; raise what making it raised."""
        if number not in self._made:
            try:
                self._made[number] = self._dealt()[number]()
            except Exception as error:
                self._made[number] = error
        found = self._made[number]
        if isinstance(found, Exception):
            raise found
        return found


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


@dataclass(frozen=True)
class Material:
    """Features and labels on the device: the selected training rows, the test rows, and validation rows if any.

    ``text [C, D]`` are class-text vectors, if any; ``views`` the training rows again, ``[N, D]`` by name of the view.
    """

    x: Tensor
    labels: Tensor
    row_ids: Tensor
    test: Tensor
    classes: int
    validation: tuple[Tensor, Tensor] | None = None
    text: Tensor | None = None
    views: Mapping[str, Tensor] = field(default_factory=dict)


def prepare(material: Material, recipe: Recipe) -> Prepared:
    """Transform and generate. A validation part is the one fold to choose on; without one, folds wait to be asked for."""
    others = [material.test, *([] if material.validation is None else [material.validation[0]])]
    made = _fit(material, recipe, slice(None), others, Stream.of(recipe.seed))
    if material.validation is None:
        told = f"{recipe.folds}-fold class-weighted cross-validation on {len(material.labels)} training rows"
        held_out = HeldOut(functools.partial(_folds, material, recipe))
    else:
        told = f"validation part ({len(material.validation[1])} rows)"
        whole = _validation(made, material.validation[1])
        held_out = HeldOut(lambda: [lambda: whole])
    generates = recipe.regime != "real"
    idle = generates and made.idle
    return Prepared(made.train, made.others[0], told, made.rows.notes, made.rows.flops, held_out, generates, idle)


def drawn_rows(material: Material, recipe: Recipe) -> Rows:
    """Return the rows that a generator adds to the training rows, with where they come from."""
    return _fit(material, recipe, slice(None), [], Stream.of(recipe.seed)).rows


def _validation(made: _Made, labels: Tensor) -> Fold:
    """Return the validation part as a fold: all training rows are fitted on, at no further cost."""
    held_out = made.others[1]
    return Fold(made.train, held_out, labels, 0, compared(made.real, made.rows, Labelled(held_out, labels), "validation part"))


def _folds(material: Material, recipe: Recipe) -> list[Callable[[], Fold]]:
    """Return how to make each fold that has rows on both sides."""
    fold = stratified_folds(material.labels, material.row_ids, recipe.folds, Stream.of(recipe.seed).child("folds"))
    sides = [fold == number for number in range(recipe.folds)]
    held = {number: side for number, side in enumerate(sides) if bool(side.any()) and not bool(side.all())}
    return [functools.partial(_fold, material, recipe, held, number) for number in held]


def _fold(material: Material, recipe: Recipe, held_out: Mapping[int, Tensor], number: int) -> Fold:
    """Fit transform and generator on all but the held-out rows; the first fold's rows are compared with these."""
    held, stream = held_out[number], Stream.of(recipe.seed).child("fold", number)
    made, labels = _fit(material, recipe, ~held, [material.x[held]], stream), material.labels[held]
    (x,), seen = made.others, None
    if number == min(held_out):
        seen = compared(made.real, made.rows, Labelled(x, labels), f"first of {recipe.folds} folds of training rows")
    return Fold(made.train, x, labels, made.rows.flops, seen)


@dataclass(frozen=True)
class _Made:
    """The rows a head sees, other rows under the same transform, and the real rows and the generator's they are made of.

    ``idle``: a sampler that adds rows was asked for none.
    """

    train: Train
    others: list[Tensor]
    real: Train
    rows: Rows
    idle: bool


def _fit(material: Material, recipe: Recipe, chosen: Tensor | slice, others: list[Tensor], stream: Stream) -> _Made:
    """Fit transform and generator on the chosen training rows, and make all rows."""
    with component_failure("transform", recipe.transform_name):
        x = material.x[chosen]
        transformed = recipe.transform.fit(x)
        x, *others = [finite_rows(transformed(each), len(each)) for each in [x, *others]]
        text = None if material.text is None else finite_rows(transformed(material.text), material.classes)
        views = {name: finite_rows(transformed(rows[chosen]), len(x)) for name, rows in material.views.items()}
    real = _real(x, material.labels[chosen], material.row_ids[chosen], material.classes, stream.child("generator"))
    real = real.replace(text=text, views=views)
    with component_failure("generator", recipe.generator_name):
        alone, counts = recipe.regime == "synthetic", real.class_counts.long().tolist()
        wanted = [0] * len(counts) if recipe.regime == "real" else recipe.budget.wanted(counts, recipe.groups, alone=alone)
        sampler = recipe.generator.fit(real.seeing(views_wanted(recipe.generator)))
        train, rows = _drawn(sampler, wanted, real, recipe)
    return _Made(train.replace(stream=stream.child("head")), others, real, rows, not any(wanted) and adds_rows(sampler))


def _drawn(sampler: Sampler, wanted: Sequence[int], real: Train, recipe: Recipe) -> tuple[Train, Rows]:
    """Draw ``wanted [C]`` rows, in memory or from a file, and put them together with the real ones that stay."""
    alone, x = recipe.regime == "synthetic", None
    if streams(sampler, wanted, real.x):
        rows, x = stream(sampler, wanted, real, real.x[:0] if alone else real.x)
    else:
        rows = checked_rows(sampler(torch.tensor(wanted, device=real.x.device)), real)
    rows = _weighed(rows, recipe.budget.weight)
    if alone:
        _check_classes(rows, real)
        rows = dataclasses.replace(rows, keep=torch.zeros(len(real.x), dtype=torch.bool, device=real.x.device))
    return assemble(real, rows, recipe.prior_source, x), rows


def _check_classes(rows: Rows, real: Train) -> None:
    """Raise SkipCell where synthetic rows, to be trained on alone, leave out a class that has real ones."""
    made = class_weights(rows.targets, torch.ones(len(rows.targets), device=rows.targets.device), real.classes)
    missing = ((made == 0) & (real.real_class_counts > 0)).nonzero().flatten().tolist()
    if missing:
        raise SkipCell(
            f"the regime synthetic trains on synthetic rows alone, and there are none of {len(missing)} classes "
            f"({', '.join(map(str, missing[:5]))}{', …' if len(missing) > 5 else ''}): raise target or per_real, or take a "
            "generator that adds rows"
        )


def _real(x: Tensor, labels: Tensor, row_ids: Tensor, classes: int, stream: Stream) -> Train:
    """Return real rows as a Train."""
    counts = torch.bincount(labels, minlength=classes).double()
    return Train(x, labels, torch.ones(len(x), dtype=torch.float64, device=x.device), row_ids, counts, counts, stream)


def _weighed(rows: Rows, weight: float) -> Rows:
    """Return synthetic rows that weigh so much more or less."""
    if weight == 1.0:
        return rows
    own = torch.ones(len(rows.x), dtype=torch.float64, device=rows.targets.device) if rows.weights is None else rows.weights
    return dataclasses.replace(rows, weights=own.double() * weight)


def assemble(real: Train, rows: Rows, prior_source: str, x: Tensor | None = None) -> Train:
    """Put the real rows that stay and the synthetic rows together; count classes by weight, or by real rows.

    ``x`` is given where both lie together already, in a file.
    """
    keep = torch.ones(len(real.x), dtype=torch.bool, device=real.x.device) if rows.keep is None else rows.keep
    weights = torch.ones(len(rows.x), dtype=torch.float64, device=real.x.device) if rows.weights is None else rows.weights
    soft = rows.targets.ndim == 2
    old = torch.nn.functional.one_hot(real.targets, real.classes).double() if soft else real.targets
    targets = torch.cat([old[keep], rows.targets.to(old.dtype)])
    all_weights = torch.cat([real.weights[keep], weights.double()])
    counts = class_weights(targets, all_weights, real.classes)
    return real.replace(
        x=torch.cat([real.x[keep], rows.x.to(real.x.dtype)]) if x is None else x,
        targets=targets,
        weights=all_weights,
        row_ids=torch.cat([real.row_ids[keep], torch.full((len(rows.x),), -1, device=real.x.device)]),
        class_counts=real.real_class_counts if prior_source == "real" else counts,
        views={name: each[keep] for name, each in real.views.items()},
        streamed=x is not None,
    )


def class_weights(targets: Tensor, weights: Tensor, classes: int) -> Tensor:
    """Return the total weight of each class ``[C]``, float64."""
    if targets.ndim == 2:
        return (targets.double() * weights[:, None]).sum(dim=0)
    weights = weights.double().cpu()  # one after the other: on CUDA the order of a sum is not the same every time
    return torch.bincount(targets.cpu(), weights, minlength=classes).to(targets.device)
