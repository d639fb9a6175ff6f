"""A group of cells: the heads of one setting, whose rows are made once. The same code runs in this process or a worker.

Knows plans and where features come from; records go back to whoever asked.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ltbench
from ltbench.cells import Cell, Split
from ltbench.execute.cell import Candidates, run_cell
from ltbench.execute.failures import Failure, failure_of
from ltbench.execute.numerics import numerics_class
from ltbench.execute.setting import Material, Prepared, Recipe, prepare
from ltbench.execute.source import Facts, Source
from ltbench.features.store import FeatureStore
from ltbench.files import cache_folder
from ltbench.keys import digest
from ltbench.longtail import groups_of
from ltbench.plan import Plan, candidate_values
from ltbench.records import Arrays, Record


@dataclass(frozen=True)
class Outcome:
    """A cell that has ended, and what lies beside its record."""

    cell: Cell
    record: Record
    arrays: Arrays | None = None


class Context:
    """A plan on a device: names cells by key, and runs groups of them."""

    def __init__(self, made: Plan, device: str, threads: int = 0) -> None:
        """Remember the plan; backbones are loaded when a cell first needs them. ``threads`` extract (0: one a core)."""
        self.plan, self.device, self.threads = made, device, threads
        self.store = FeatureStore(cache_folder())
        self._numerics = numerics_class(device)
        self._sources: dict[tuple[str, str], Source] = {}
        self._split = functools.cache(made.split)

    def source(self, cell: Cell) -> Source:
        """Return the features behind a cell."""
        if cell.source not in self._sources:
            self._sources[cell.source] = Source(self.plan, cell, self.store, self.device, self.threads)
        return self._sources[cell.source]

    def learn(self, cell: Cell, facts: Facts) -> None:
        """Take from another process what it has found out about a cell's source."""
        self.source(cell).facts = facts

    def split(self, cell: Cell) -> Split:
        """Return a cell's rows; they depend on nothing but data, profile and seed."""
        return self._split(
            dataclasses.replace(cell, backbone="", transform="", generator="", regime="", classifier="", prior_source="")
        )

    def material(self, *cells: Cell) -> Material:
        """Return the rows of cells of one setting, with the views that any of them asks for."""
        return self.source(cells[0]).material(self.split(cells[0]), self.plan.views(*cells))

    def blank(self, cell: Cell) -> Record:
        """Return a cell's record before it has run: its key, names and provenance."""
        parts = self.plan.key_parts(cell, self.source(cell).facts.key, self.split(cell).digest)
        provenance = self._provenance(cell, parts)
        return Record(digest(parts), "failed", dict(vars(cell)), measured={"finished": _now()}, provenance=provenance)

    def run(self, cells: Sequence[Cell]) -> Iterator[Outcome]:
        """Run cells of one setting, one after the other; a failure of their rows is every cell's failure."""
        prepare_once = _Once(lambda: prepare(self.material(*cells), self.recipe(cells[0])))
        for cell in cells:
            blank = self.blank(cell)
            started = time.perf_counter()
            try:
                result, arrays = self._head(cell, prepare_once())
            except Exception as error:
                yield Outcome(cell, self.failed(cell, blank, failure_of(error)))
                continue
            measured = {**blank.measured, "seconds": round(time.perf_counter() - started, 6)}
            yield Outcome(cell, dataclasses.replace(blank, status="done", result=result, measured=measured), arrays)

    def failed(self, cell: Cell, blank: Record, failure: Failure) -> Record:
        """Return the record of a failure, naming component, distribution and version, or of a reason to skip."""
        if failure.status == "skipped":
            return dataclasses.replace(blank, status=failure.status, failure=failure.told)
        blamed = "; ".join(self._named(kind, cell) for kind in failure.blamed)
        return dataclasses.replace(blank, status=failure.status, failure={**failure.told, "component": blamed})

    def _named(self, kind: str, cell: Cell) -> str:
        """Name a cell's component with its distribution and version."""
        name = str(getattr(cell, kind))
        registered = self.plan.component(kind, name).registered
        return f"{kind} {name} ({registered.distribution} {registered.version})"

    def _head(self, cell: Cell, prepared: Prepared) -> tuple[dict[str, Any], Arrays]:
        """Fit and measure one head."""
        source = self.source(cell)
        flops = source.extraction_flops(len(self.plan.views(cell)))
        return run_cell(prepared, self.candidates(cell), source.dataset.test.labels, flops)

    def candidates(self, cell: Cell) -> Candidates:
        """Build a cell's head, once for each of the values to choose from."""
        component = self.plan.component("classifier", cell.classifier)
        values = candidate_values(component)
        return Candidates(cell.classifier, [component.build(**chosen) for chosen in values], values)

    def recipe(self, cell: Cell) -> Recipe:
        """Build what makes a setting's rows."""
        budget, rule = self.plan.budgets[cell.generator], self.plan.experiment.groups
        groups = () if budget.groups == "all" else groups_of(rule, self.split(cell).class_counts, vars(cell))
        return Recipe(
            transform=self.plan.component("transform", cell.transform).build(),
            transform_name=cell.transform,
            generator=self.plan.component("generator", cell.generator).build(),
            generator_name=cell.generator,
            budget=budget,
            prior_source=cell.prior_source,
            seed=cell.seed,
            folds=self.plan.experiment.selection.folds,
            regime=cell.regime,
            groups=tuple(groups),
        )

    def _provenance(self, cell: Cell, parts: Mapping[str, Any]) -> dict[str, Any]:
        """Return where a record comes from: versions, plugins, numerics class, and every part of its key."""
        kinds = ("dataset", "backbone", "transform", "generator", "classifier")
        registered = [self.plan.component(kind, getattr(cell, kind)).registered for kind in kinds]
        return {
            "ltbench": ltbench.__version__,
            "plugins": {r.distribution: r.version for r in registered},
            "numerics": self._numerics,
            "key_parts": dict(parts),
        }


def _now() -> str:
    """Return the time, for telling which of two records of a cell is the newer."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")


class _Once:
    """Calls a function once; its result or its exception is the answer ever after."""

    def __init__(self, function: Any) -> None:
        """Remember the function."""
        self._function = function
        self._value: Any = None
        self._error: Exception | None = None

    def __call__(self) -> Any:
        """Return the value, or raise what the first call raised."""
        if self._error is not None:
            raise self._error
        if self._value is None:
            try:
                self._value = self._function()
            except Exception as error:
                self._error = error
                raise
        return self._value
