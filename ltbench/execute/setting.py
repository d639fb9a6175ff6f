"""A setting: everything of a cell but its head. Split, transform and generated rows are made once for all heads.

Sees training rows only until the test rows are transformed; knows no file and no record.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ltbench.budget import Budget
from ltbench.contract import GeneratorComponent, TransformComponent
from ltbench.data import views_wanted
from ltbench.execute.failures import component_failure
from ltbench.execute.fidelity import Compared, compared
from ltbench.hardware import GIB, memory_gib
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
class Prepared:
    """What heads are fitted and scored on; ``compared`` are synthetic rows beside held-out ones, if there are both."""

    train: Train
    test: Tensor
    folds: tuple[tuple[Train, Tensor, Tensor], ...]
    selection_rows: str
    notes: Mapping[str, Any]
    generation_flops: int | None
    fold_flops: int | None = 0
    compared: Compared | None = None

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
    """Transform, generate, and do the same inside each fold, where there is no validation part."""
    return with_folds(material, recipe, training_rows(material, recipe))


def training_rows(material: Material, recipe: Recipe) -> Prepared:
    """Transform and generate; a validation part is the one fold to choose on, without one there is none yet."""
    others = [material.test, *_validation(material)]
    made = _fit(material, recipe, slice(None), others, Stream.of(recipe.seed))
    rows, (test, *held_out) = made.rows, made.others
    if material.validation is None:
        return Prepared(made.train, test, (), "", rows.notes, rows.flops)
    labels = material.validation[1]
    return Prepared(
        train=made.train,
        test=test,
        folds=((made.train, held_out[0], labels),),
        selection_rows=f"validation part ({len(labels)} rows)",
        notes=rows.notes,
        generation_flops=rows.flops,
        compared=compared(made.real, rows, Labelled(held_out[0], labels), "validation part"),
    )


def drawn_rows(material: Material, recipe: Recipe) -> Rows:
    """Return the rows that a generator adds to the training rows, with where they come from."""
    return _fit(material, recipe, slice(None), [], Stream.of(recipe.seed)).rows


def with_folds(material: Material, recipe: Recipe, prepared: Prepared) -> Prepared:
    """Transform and generate inside each fold, where there is no validation part."""
    if material.validation is not None:
        return prepared
    stream = Stream.of(recipe.seed)
    fold = stratified_folds(material.labels, material.row_ids, recipe.folds, stream.child("folds"))
    tried = [_fold(material, recipe, fold == number, stream.child("fold", number)) for number in range(recipe.folds)]
    folds = [each for each in tried if each is not None]
    flops = [each.flops for each in folds]
    return dataclasses.replace(
        prepared,
        folds=tuple((each.train, each.x, each.labels) for each in folds),
        selection_rows=f"{recipe.folds}-fold class-weighted cross-validation on {len(material.labels)} training rows",
        fold_flops=None if None in flops else sum(cost for cost in flops if cost is not None),
        compared=folds[0].compared if folds else None,
    )


def _validation(material: Material) -> list[Tensor]:
    """Return the validation features, if there are any."""
    return [] if material.validation is None else [material.validation[0]]


@dataclass(frozen=True)
class _Fold:
    """What is trained on in a fold, its held-out rows and labels, what generation costs, and its rows' fidelity."""

    train: Train
    x: Tensor
    labels: Tensor
    flops: int | None
    compared: Compared | None


def _fold(material: Material, recipe: Recipe, held: Tensor, stream: Stream) -> _Fold | None:
    """Fit transform and generator on all but the held-out rows; None if either side would be empty."""
    if not bool(held.any()) or bool(held.all()):
        return None
    made, labels = _fit(material, recipe, ~held, [material.x[held]], stream), material.labels[held]
    seen = compared(made.real, made.rows, Labelled(made.others[0], labels), f"first of {recipe.folds} folds of training rows")
    return _Fold(made.train, made.others[0], labels, made.rows.flops, seen)


@dataclass(frozen=True)
class _Made:
    """The rows a head sees, other rows under the same transform, and the real rows and the generator's they are made of."""

    train: Train
    others: list[Tensor]
    real: Train
    rows: Rows


def _fit(material: Material, recipe: Recipe, chosen: Tensor | slice, others: list[Tensor], stream: Stream) -> _Made:
    """Fit transform and generator on the chosen training rows, and make all rows."""
    with component_failure("transform", recipe.transform_name):
        transformed = recipe.transform.fit(material.x[chosen])
        x, *others = [_finite_rows(transformed(each), len(each)) for each in [material.x[chosen], *others]]
        text = None if material.text is None else _finite_rows(transformed(material.text), material.classes)
        views = {name: _finite_rows(transformed(rows[chosen]), len(x)) for name, rows in material.views.items()}
    real = _real(x, material.labels[chosen], material.row_ids[chosen], material.classes, stream.child("generator"))
    real = real.replace(text=text, views=views)
    with component_failure("generator", recipe.generator_name):
        counts = real.class_counts.long().tolist()
        alone = recipe.regime == "synthetic"
        wanted = recipe.budget.wanted(counts, recipe.groups, alone=alone)
        check_memory(sum(wanted), x)
        sampler = recipe.generator.fit(real.seeing(views_wanted(recipe.generator)))
        made = checked_rows(sampler(torch.tensor(wanted, device=x.device)), real)
        rows = _weighed(made, recipe.budget.weight)
        if alone:
            rows = dataclasses.replace(rows, keep=torch.zeros(len(real.x), dtype=torch.bool, device=x.device))
        train = assemble(real, rows, recipe.prior_source)
    return _Made(train.replace(stream=stream.child("head")), others, real, rows)


def check_memory(rows: int, x: Tensor) -> None:
    """Raise MemoryError where synthetic rows like ``x [N, D]``, and once more among the real ones, are more than memory holds.

    Said beforehand, because a system that runs out ends the process, or others.
    """
    memory = torch.cuda.get_device_properties(x.device).total_memory // GIB if x.is_cuda else memory_gib()
    wanted = 2 * rows * x.shape[1] * x.element_size() / GIB
    if memory is not None and wanted > memory:
        raise MemoryError(
            f"the budget is {rows:,} synthetic rows of {x.shape[1]} features, {wanted:,.0f} GiB with the copy that is trained "
            f"on, and there are {memory} GiB: lower target or per_real, or give a cap"
        )


def _real(x: Tensor, labels: Tensor, row_ids: Tensor, classes: int, stream: Stream) -> Train:
    """Return real rows as a Train."""
    counts = torch.bincount(labels, minlength=classes).double()
    return Train(x, labels, torch.ones(len(x), dtype=torch.float64, device=x.device), row_ids, counts, counts, stream)


def _weighed(rows: Rows, weight: float) -> Rows:
    """Return synthetic rows that weigh so much more or less."""
    if weight == 1.0:
        return rows
    own = torch.ones(len(rows.x), dtype=torch.float64, device=rows.x.device) if rows.weights is None else rows.weights
    return dataclasses.replace(rows, weights=own.double() * weight)


def assemble(real: Train, rows: Rows, prior_source: str) -> Train:
    """Put the real rows that stay and the synthetic rows together; count classes by weight, or by real rows."""
    keep = torch.ones(len(real.x), dtype=torch.bool, device=real.x.device) if rows.keep is None else rows.keep
    weights = torch.ones(len(rows.x), dtype=torch.float64, device=real.x.device) if rows.weights is None else rows.weights
    soft = rows.targets.ndim == 2
    old = torch.nn.functional.one_hot(real.targets, real.classes).double() if soft else real.targets
    targets = torch.cat([old[keep], rows.targets.to(old.dtype)])
    all_weights = torch.cat([real.weights[keep], weights.double()])
    counts = class_weights(targets, all_weights, real.classes)
    return real.replace(
        x=torch.cat([real.x[keep], rows.x.to(real.x.dtype)]),
        targets=targets,
        weights=all_weights,
        row_ids=torch.cat([real.row_ids[keep], torch.full((len(rows.x),), -1, device=real.x.device)]),
        class_counts=real.real_class_counts if prior_source == "real" else counts,
        views={name: each[keep] for name, each in real.views.items()},
    )


def class_weights(targets: Tensor, weights: Tensor, classes: int) -> Tensor:
    """Return the total weight of each class ``[C]``, float64."""
    if targets.ndim == 2:
        return (targets.double() * weights[:, None]).sum(dim=0)
    hit = torch.nn.functional.one_hot(targets, classes).double()
    return (hit * weights[:, None]).sum(dim=0)


def checked_rows(rows: Any, real: Train) -> Rows:
    """Return a generator's rows, or raise ValueError: wrong type, shape or label, not finite."""
    if not isinstance(rows, Rows):
        raise TypeError(f"a sampler must return ltbench.Rows, not {type(rows).__name__}")
    size, width = len(rows.x), real.x.shape[1]
    if rows.x.shape != (size, width):
        raise ValueError(f"synthetic rows must be [S, {width}], not {list(rows.x.shape)}")
    if rows.targets.shape not in ((size,), (size, real.classes)):
        raise ValueError(f"targets must be [{size}] or [{size}, {real.classes}], not {list(rows.targets.shape)}")
    if not bool(rows.x.isfinite().all()):
        raise ValueError(f"{int((~rows.x.isfinite()).any(dim=1).sum())} of {size} synthetic rows hold NaN or infinity")
    if rows.targets.ndim == 1 and size and not (int(rows.targets.min()) >= 0 and int(rows.targets.max()) < real.classes):
        raise ValueError(f"labels must be 0 to {real.classes - 1}, not {int(rows.targets.min())} to {int(rows.targets.max())}")
    if rows.targets.ndim == 2 and size:
        _check_soft(rows.targets.double())
    if rows.weights is not None and (
        rows.weights.shape != (size,) or not bool((rows.weights.isfinite() & (rows.weights >= 0)).all())
    ):
        raise ValueError(f"weights must be [{size}], finite and not negative")
    if rows.keep is not None and (rows.keep.shape != (len(real.x),) or rows.keep.dtype != torch.bool):
        raise ValueError(f"keep must be bool [{len(real.x)}], not {rows.keep.dtype} {list(rows.keep.shape)}")
    return rows


def _check_soft(targets: Tensor) -> None:
    """Raise ValueError unless every row of soft labels is a distribution."""
    if not bool((targets.isfinite() & (targets >= 0)).all()) or not bool(((targets.sum(dim=1) - 1).abs() <= 1e-4).all()):
        raise ValueError("soft labels must be finite, not negative, and sum to one in every row")


def _finite_rows(x: Any, count: int) -> Tensor:
    """Return transformed rows, or raise ValueError."""
    if not isinstance(x, Tensor) or x.ndim != 2 or len(x) != count:
        raise ValueError(f"a transform must return rows [{count}, E], not {list(getattr(x, 'shape', [])) or type(x).__name__}")
    if not bool(x.isfinite().all()):
        raise ValueError("the transformed rows hold NaN or infinity")
    return x
