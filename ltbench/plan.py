"""From an experiment to cells: every name resolved, every count known, every mistake refused, before any work.

Reads labels, decodes no image. Adds the references of every long-tail cell.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ltbench.components import Resolved, resolve
from ltbench.config import PLAIN_CLASSIFIER, PLAIN_GENERATOR, Budget, Experiment, balanced_rows, references_of, split_budget
from ltbench.errors import LtbenchError, UsageError
from ltbench.keys import ENGINE_VERSION, METRIC_VERSION, digest
from ltbench.longtail import (
    check_group_rule,
    class_order,
    groups_of,
    profile_counts,
    select_published_rows,
    select_rows,
)
from ltbench.plugins import Registry
from ltbench.specs import parse_spec
from ltbench.streams import Stream
from ltbench.types import Dataset


@dataclass(frozen=True)
class Cell:
    """One number of a leaderboard, by names in canonical form, numbers and a seed.

    ``profile`` is ``balanced`` at ratio 1. ``regime`` is ``real`` where the generator plays no part.
    """

    dataset: str
    backbone: str
    transform: str
    profile: str
    imbalance_ratio: float
    rows: str
    class_order: str
    n_max: int
    generator: str
    regime: str
    classifier: str
    prior_source: str
    seed: int

    @property
    def source(self) -> tuple[str, str]:
        """Dataset and backbone: cells that share them share their features."""
        return self.dataset, self.backbone

    @property
    def setting(self) -> tuple[Any, ...]:
        """All but the head: cells that share it share their rows."""
        return tuple(getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "classifier")


@dataclass(frozen=True)
class Split:
    """Which rows a setting trains on: row ids ``[N]`` and counts per class."""

    row_ids: Tensor
    class_counts: tuple[int, ...]

    @functools.cached_property
    def digest(self) -> str:
        """The hash of the row ids, for keys."""
        return digest(self.row_ids.tolist())


@dataclass(frozen=True)
class Plan:
    """Cells in the order they run, and what their names stand for."""

    experiment: Experiment
    cells: tuple[Cell, ...]
    resolved: Mapping[tuple[str, str], Resolved]
    budgets: Mapping[str, Budget]
    datasets: Mapping[str, Dataset]
    references: frozenset[Cell]

    def component(self, kind: str, canonical: str) -> Resolved:
        """Return the component behind a canonical name."""
        return self.resolved[kind, canonical]

    def split(self, cell: Cell) -> Split:
        """Return a cell's rows."""
        return split_rows(self.datasets[cell.dataset].train.labels, cell)

    def key_parts(self, cell: Cell, feature_key: str, rows: str) -> dict[str, Any]:
        """Return everything that can change a cell's result, by name."""
        parts = {kind: self.component(kind, getattr(cell, kind)).identity() for kind in ("transform", "classifier")}
        generator = self.component("generator", cell.generator).identity()
        budget = dataclasses.asdict(self.budgets[cell.generator]) if cell.regime != "real" else None
        selection = self.experiment.selection
        return {
            **parts,
            "features": feature_key,
            "rows": rows,
            "split": [cell.dataset, cell.backbone, cell.profile, cell.imbalance_ratio, cell.rows, cell.class_order, cell.n_max],
            "generator": {**generator, "budget": budget},
            "regime": cell.regime,
            "prior_source": cell.prior_source,
            "selection": {"folds": selection.folds, "criterion": selection.criterion},
            "seed": cell.seed,
            "engine": ENGINE_VERSION,
            "metrics": METRIC_VERSION,
        }


def split_rows(labels: Tensor, cell: Cell) -> Split:
    """Select the training rows of a cell from the training labels ``[N]``."""
    classes = int(labels.max()) + 1
    profile = "exp" if cell.profile == "balanced" else cell.profile
    ranked = profile_counts(profile, cell.n_max, cell.imbalance_ratio, classes)
    seed = cell.seed if cell.rows == "drawn" else 0
    order = class_order(cell.class_order, classes, Stream.of(cell.seed, "class-order"))
    counts = [count for _, count in sorted(zip(order, ranked, strict=True))]
    if cell.rows == "published":
        row_ids = select_published_rows(labels, counts)
    else:
        row_ids = select_rows(labels, counts, Stream.of(seed, "subset"))
    return Split(row_ids, tuple(counts))


def plan(experiment: Experiment, registry: Registry, data: Path) -> Plan:
    """Resolve and check a whole experiment; raise UsageError for the first thing that cannot be run."""
    check_group_rule(experiment.groups)
    resolved: dict[tuple[str, str], Resolved] = {}
    names: dict[str, list[str]] = {}
    budgets: dict[str, Budget] = {}
    for kind in ("dataset", "backbone", "transform", "classifier"):
        extra = [PLAIN_CLASSIFIER] if kind == "classifier" and experiment.reference else []
        found = [_resolve(registry, kind, str(spec), experiment) for spec in [*experiment.specs(kind), *map(parse_spec, extra)]]
        resolved |= {(kind, each.canonical): each for each in found}
        names[kind] = _unique([each.canonical for each in found[: len(found) - len(extra)]], kind)
    names["generator"] = []
    for spec in [*experiment.specs("generator"), parse_spec(PLAIN_GENERATOR)]:
        canonical, component, budget = _generator(registry, spec)
        resolved["generator", canonical] = component
        budgets[canonical] = budget
        names["generator"].append(canonical)
    names["generator"] = _unique(names["generator"][:-1], "generator")
    datasets = {name: _load(resolved["dataset", name], data) for name in names["dataset"]}
    cells = [cell for name in names["dataset"] for cell in _cells(experiment, names, name, _n_max(experiment, datasets[name]))]
    references = _references(cells) if experiment.reference else []
    unique = list(dict.fromkeys([*cells, *references]))
    made = Plan(
        experiment, tuple(sorted(unique, key=_order(unique))), resolved, budgets, datasets, frozenset(references) - set(cells)
    )
    _check_splits(made)
    return made


def _resolve(registry: Registry, kind: str, text: str, experiment: Experiment) -> Resolved:
    """Resolve one component; classifiers get the protocol's candidates, within its budget."""
    defaults = experiment.selection.defaults() if kind == "classifier" else {}
    found = resolve(registry, kind, text, defaults)
    if found.select and kind != "classifier":
        raise UsageError(f"{kind} {text}: select() is for classifiers; a|b makes a cell for each value")
    tried = len(candidate_values(found))
    if tried > experiment.selection.budget:
        raise UsageError(
            f"classifier {text} would choose among {tried} candidates ({', '.join(found.select)}); the budget is "
            f"{experiment.selection.budget} for every head: fix a parameter, or raise selection.budget"
        )
    return found


def _generator(registry: Registry, spec: Any) -> tuple[str, Resolved, Budget]:
    """Resolve a generator and its budget; the canonical name holds both."""
    own, budget = split_budget(spec)
    found = resolve(registry, "generator", own)
    if found.select:
        raise UsageError(f"generator {spec}: select() is for classifiers; a|b makes a cell for each value")
    told = {f.name: getattr(budget, f.name) for f in dataclasses.fields(Budget) if getattr(budget, f.name) != f.default}
    canonical = parse_spec(found.canonical)
    return str(canonical.with_params({**dict(canonical.params), **told})), found, budget


def candidate_values(resolved: Resolved) -> list[dict[str, Any]]:
    """Return every combination of a component's selected parameters; one empty one if there are none."""
    values: list[dict[str, Any]] = [{}]
    for name, options in sorted(resolved.select.items()):
        values = [{**chosen, name: option} for chosen in values for option in options]
    return values


def _unique(names: Sequence[str], kind: str) -> list[str]:
    """Drop repeats, which differ only in spelling."""
    if not names:
        raise UsageError(f"the experiment names no {kind}")
    return list(dict.fromkeys(names))


def _load(resolved: Resolved, data: Path) -> Dataset:
    """Load a dataset and check its parts."""
    try:
        dataset: Dataset = resolved.build().load(data)
    except LtbenchError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"dataset {resolved.canonical!r} cannot be loaded: {type(error).__name__}: {error}") from error
    if not isinstance(dataset, Dataset):
        raise UsageError(f"dataset {resolved.canonical!r}: load() must return ltbench.Dataset, not {type(dataset).__name__}")
    classes = len(dataset.class_names)
    for name, part in (("train", dataset.train), ("test", dataset.test), ("validation", dataset.validation)):
        if part is None:
            continue
        if len(part.labels) == 0 or len(part.labels) != len(part.images):
            raise UsageError(
                f"dataset {resolved.canonical!r}: the {name} part has {len(part.labels)} labels and {len(part.images)} images"
            )
        if part.labels.dtype != torch.int64 or part.labels.ndim != 1:
            shape = f"{part.labels.dtype} {list(part.labels.shape)}"
            raise UsageError(f"dataset {resolved.canonical!r}: labels of the {name} part must be torch.int64 [N], not {shape}")
        if int(part.labels.min()) < 0 or int(part.labels.max()) >= classes:
            raise UsageError(
                f"dataset {resolved.canonical!r}: labels of the {name} part must be 0 to {classes - 1}, "
                f"not {int(part.labels.min())} to {int(part.labels.max())}"
            )
        empty = torch.bincount(part.labels, minlength=classes).eq(0).nonzero().flatten().tolist()
        if empty and name != "validation":
            raise UsageError(f"dataset {resolved.canonical!r}: class {empty[0]} has no row in the {name} part")
    return dataset


def _n_max(experiment: Experiment, dataset: Dataset) -> int:
    """Return the largest class's size: as told, or the smallest class's number of training rows."""
    smallest = int(torch.bincount(dataset.train.labels).min())
    return experiment.n_max or smallest


def _cells(experiment: Experiment, names: Mapping[str, list[str]], dataset: str, n_max: int) -> list[Cell]:
    """Return one dataset's cells: every combination of the axes."""
    return [
        Cell(
            dataset=dataset,
            backbone=backbone,
            transform=transform,
            profile=profile if ratio > 1 else "balanced",
            imbalance_ratio=float(ratio),
            rows=experiment.rows if ratio > 1 else balanced_rows(experiment.rows),
            class_order=experiment.class_order,
            n_max=n_max,
            generator=generator,
            regime="real" if generator == PLAIN_GENERATOR else "real+synthetic",
            classifier=classifier,
            prior_source=prior if generator != PLAIN_GENERATOR else "effective",
            seed=seed,
        )
        for backbone in names["backbone"]
        for transform in names["transform"]
        for profile in experiment.profile
        for ratio in experiment.ratio
        for seed in experiment.seeds
        for prior in experiment.prior_source
        for generator in names["generator"]
        for classifier in names["classifier"]
    ]


def _references(cells: Sequence[Cell]) -> list[Cell]:
    """Return the references of every long-tail cell."""
    named = [ref for cell in cells if cell.imbalance_ratio > 1 for ref in references_of(dataclasses.asdict(cell))]
    return [Cell(**ref) for ref in named]


def _order(cells: Sequence[Cell]) -> Any:
    """Return a sort key that keeps cells of one feature set, split and setting together, in order of appearance."""
    places: dict[str, dict[Any, int]] = {f.name: {} for f in dataclasses.fields(Cell)}
    for cell in cells:
        for name, seen in places.items():
            seen.setdefault(getattr(cell, name), len(seen))
    names = (
        "dataset",
        "backbone",
        "profile",
        "imbalance_ratio",
        "rows",
        "seed",
        "transform",
        "prior_source",
        "generator",
        "classifier",
    )
    return lambda cell: tuple(places[name][getattr(cell, name)] for name in names)


def _check_splits(made: Plan) -> None:
    """Select every split once and name its groups, so that an impossible ratio or rule is refused now."""
    for cell in dict.fromkeys(
        dataclasses.replace(cell, transform="", generator="", classifier="", backbone="") for cell in made.cells
    ):
        split = made.split(cell)
        groups_of(made.experiment.groups, split.class_counts, dataclasses.asdict(cell))
