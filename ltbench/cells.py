"""Cells: the numbers of a leaderboard by name, and the training rows each stands for. Knows no component behind a name."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ltbench.config import PLAIN_GENERATOR, Experiment, balanced_rows, references_of
from ltbench.keys import digest
from ltbench.longtail import class_order, profile_counts, select_published_rows, select_rows
from ltbench.streams import Stream

NATIVE = "native"
"""The profile that takes a dataset's training rows as they are."""


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
    def subset(self) -> tuple[Any, ...]:
        """What its training rows follow from: cells that share it train on the same real ones."""
        found: tuple[Any, ...] = _SUBSET(self)
        return found

    @property
    def setting(self) -> tuple[Any, ...]:
        """All but the head: cells that share it share their rows."""
        found: tuple[Any, ...] = _SETTING(self)
        return found


_SUBSET = operator.attrgetter("dataset", "profile", "imbalance_ratio", "rows", "class_order", "n_max", "seed")
_SETTING = operator.attrgetter(*(f.name for f in dataclasses.fields(Cell) if f.name != "classifier"))


@dataclass(frozen=True)
class Split:
    """Which rows a setting trains on: row ids ``[N]`` and counts per class."""

    row_ids: Tensor
    class_counts: tuple[int, ...]

    @functools.cached_property
    def digest(self) -> str:
        """The hash of the row ids, for keys."""
        return digest(self.row_ids.tolist())


def split_rows(labels: Tensor, cell: Cell) -> Split:
    """Select the training rows of a cell from the training labels ``[N]``."""
    classes = int(labels.max()) + 1
    if cell.profile == NATIVE:
        return Split(torch.arange(len(labels)), tuple(torch.bincount(labels).tolist()))
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


def cells_of(experiment: Experiment, names: Mapping[str, list[str]], dataset: str, labels: Tensor) -> list[Cell]:
    """Return one dataset's cells, every combination of the axes; ``labels [N]`` are those of its training part."""
    return [
        Cell(
            dataset=dataset,
            backbone=backbone,
            transform=transform,
            **rows,
            generator=generator,
            regime=regime,
            classifier=classifier,
            prior_source=prior if generator != PLAIN_GENERATOR else "effective",
            seed=seed,
        )
        for backbone in names["backbone"]
        for transform in names["transform"]
        for rows in tails(experiment, torch.bincount(labels).tolist())
        for seed in experiment.seeds
        for prior in experiment.prior_source
        for generator, regime in _methods(experiment, names["generator"])
        for classifier in names["classifier"]
    ]


def _methods(experiment: Experiment, generators: Sequence[str]) -> list[tuple[str, str]]:
    """Return generators with the regimes they are used in; without synthetic rows, a generator is ``none``."""
    pairs = [
        (generator, regime) if generator != PLAIN_GENERATOR and regime != "real" else (PLAIN_GENERATOR, "real")
        for generator in generators
        for regime in experiment.regime
    ]
    return list(dict.fromkeys(pairs))


def tails(experiment: Experiment, class_counts: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield the part of a cell's name that says which rows it trains on; the native tail comes once, at its own ratio."""
    for profile in experiment.profile:
        if profile == NATIVE:
            most, least = max(class_counts), min(class_counts)
            own = {"rows": "all", "class_order": "index", "n_max": most}
            yield {"profile": NATIVE, "imbalance_ratio": round(most / least, 2), **own}
            continue
        for ratio in experiment.ratio:
            yield {
                "profile": profile if ratio > 1 else "balanced",
                "imbalance_ratio": float(ratio),
                "rows": experiment.rows if ratio > 1 else balanced_rows(experiment.rows),
                "class_order": experiment.class_order,
                "n_max": experiment.n_max or min(class_counts),
            }


def references_among(cells: Sequence[Cell]) -> list[Cell]:
    """Return the references of every long-tail cell; a native long tail has no balanced one."""
    found = []
    for cell in cells:
        if cell.imbalance_ratio > 1:
            balanced, plain = references_of(dataclasses.asdict(cell))
            found += [Cell(**plain)] if cell.profile == NATIVE else [Cell(**balanced), Cell(**plain)]
    return found


def run_order(cells: Sequence[Cell]) -> list[Cell]:
    """Return cells with those of one feature set, split and setting together, otherwise in order of appearance."""
    places: dict[str, dict[Any, int]] = {f.name: {} for f in dataclasses.fields(Cell)}
    for cell in cells:
        for name, seen in places.items():
            seen.setdefault(getattr(cell, name), len(seen))
    return sorted(cells, key=lambda cell: tuple(places[name][getattr(cell, name)] for name in _ORDER))


_ORDER = (
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
