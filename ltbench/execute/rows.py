"""Rows that heads are trained on: real ones under a transform, and a generator's. For one training set, or many together.

Sees training rows only; other rows are transformed. Deals no folds, and knows no file and no record.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ltbench.budget import Budget
from ltbench.contract import GeneratorComponent, Sampler, TransformComponent
from ltbench.data import views_wanted
from ltbench.errors import SkipCell
from ltbench.execute.checked import checked_rows, finite_rows
from ltbench.execute.failures import component_failure
from ltbench.execute.streamed import adds_rows, stream, streams
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


def drawn_rows(material: Material, recipe: Recipe) -> Rows:
    """Return the rows that a generator adds to the training rows, with where they come from."""
    (made,) = fit(recipe, [see(material, recipe, slice(None), [], Stream.of(recipe.seed))])
    return made.rows


@dataclass(frozen=True)
class Seen:
    """Real rows under a transform fitted on them, other rows under the same, and how many rows each class wants ``[C]``."""

    real: Train
    others: list[Tensor]
    wanted: Sequence[int]
    stream: Stream


@dataclass(frozen=True)
class Made:
    """The rows a head sees, other rows under the same transform, and the real rows and the generator's they are made of.

    ``idle``: a sampler that adds rows was asked for none.
    """

    train: Train
    others: list[Tensor]
    real: Train
    rows: Rows
    idle: bool


def see(material: Material, recipe: Recipe, chosen: Tensor | slice, others: list[Tensor], stream: Stream) -> Seen:
    """Fit the transform on the chosen training rows."""
    with component_failure("transform", recipe.transform_name):
        x = material.x[chosen]
        transformed = recipe.transform.fit(x)
        x, *others = [finite_rows(transformed(each), len(each)) for each in [x, *others]]
        text = None if material.text is None else finite_rows(transformed(material.text), material.classes)
        views = {name: finite_rows(transformed(rows[chosen]), len(x)) for name, rows in material.views.items()}
    real = _real(x, material.labels[chosen], material.row_ids[chosen], material.classes, stream.child("generator"))
    with component_failure("generator", recipe.generator_name):
        alone, counts = recipe.regime == "synthetic", real.class_counts.long().tolist()
        wanted = [0] * len(counts) if recipe.regime == "real" else recipe.budget.wanted(counts, recipe.groups, alone=alone)
    return Seen(real.replace(text=text, views=views), others, wanted, stream)


def fit(recipe: Recipe, seen: Iterable[Seen]) -> Iterator[Made]:
    """Fit the generator to all training sets, together where it can, and make all rows of one after the other.

    Nothing is held of a set whose rows have been made.
    """
    left = list(seen)[::-1]
    with component_failure("generator", recipe.generator_name):
        samplers = _samplers(recipe.generator, [each.real.seeing(views_wanted(recipe.generator)) for each in left])
        while left:
            yield _make(recipe, left.pop(), samplers.pop())


def _samplers(generator: GeneratorComponent, trains: list[Train]) -> list[Sampler]:
    """Fit a generator, to many training sets together where it can."""
    if len(trains) == 1 or not hasattr(generator, "fit_many"):
        return [generator.fit(each) for each in trains]
    samplers = list(generator.fit_many(trains))
    if len(samplers) != len(trains):
        raise ValueError(f"fit_many must return a sampler for each of {len(trains)} training sets, not {len(samplers)}")
    return samplers


def _make(recipe: Recipe, seen: Seen, sampler: Sampler) -> Made:
    """Make all rows that a head sees."""
    train, rows = _drawn(sampler, seen.wanted, seen.real, recipe)
    idle = not any(seen.wanted) and adds_rows(sampler)
    return Made(train.replace(stream=seen.stream.child("head")), seen.others, seen.real, rows, idle)


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
