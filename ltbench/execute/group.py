"""A group of cells: the heads of one setting, whose rows are made once. The same code runs in this process or a worker.

Knows plans and where features come from; records go back to whoever asked.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ltbench
from ltbench.cells import Cell, Split
from ltbench.errors import SkipCell
from ltbench.execute.cell import Candidates, Result, run_cells
from ltbench.execute.evaluation import Groups
from ltbench.execute.failures import Failure, failure_of
from ltbench.execute.numerics import numerics_class
from ltbench.execute.rows import Material, Recipe
from ltbench.execute.setting import prepare
from ltbench.execute.source import Facts, Source
from ltbench.features.store import FeatureStore
from ltbench.files import cache_folder
from ltbench.hookspecs import KINDS
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
        self._splits: dict[tuple[Any, ...], Split] = {}
        self._key = functools.cache(lambda cell, features: digest(self._parts(cell, features)))
        self._plugins = functools.cache(self._plugins_of)

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
        subset = cell.subset
        if subset not in self._splits:
            self._splits[subset] = self.plan.split(cell)
        return self._splits[subset]

    def material(self, *cells: Cell) -> Material:
        """Return the rows of cells of one setting, with the views that any of them asks for."""
        return self.source(cells[0]).material(self.split(cells[0]), self.plan.views(*cells))

    def key(self, cell: Cell) -> str:
        """Return a cell's key; it is remembered, because it is asked for before the cell runs and after."""
        return self._key(cell, self.source(cell).facts.key)

    def blank(self, cell: Cell) -> Record:
        """Return a cell's record before it has run: its key, names and provenance."""
        measured = {"finished": _now()}
        return Record(self.key(cell), "failed", dict(vars(cell)), measured=measured, provenance=self._provenance(cell))

    def run(self, cells: Sequence[Cell]) -> Iterator[Outcome | None]:
        """Run cells of one setting, all heads together, and yield them as they end; a failure of their rows is every cell's.

        None is yielded now and then: a sign of life.
        """
        clock = _Clock()
        heads: dict[Cell, tuple[Candidates, int]] = {}
        try:
            prepared = prepare(self.material(*cells), self.recipe(cells[0]))
            if prepared.idle:
                raise SkipCell(
                    "the budget asks for no row of any class, so this would be generator none: raise target or per_real, or "
                    "choose groups that have classes here"
                )
            labels, groups = self.source(cells[0]).dataset.test.labels, self.groups(cells[0])
        except Exception as error:
            for cell in cells:
                yield self._ended(cell, error, clock)
            return
        for cell in cells:
            try:
                heads[cell] = self.candidates(cell), self.source(cell).extraction_flops(len(self.plan.views(cell)))
            except Exception as error:
                yield self._ended(cell, error, clock)
        asked = list(heads)
        for ended in run_cells(prepared, list(heads.values()), labels, groups):
            yield None if ended is None else self._ended(asked[ended[0]], ended[1], clock, streamed=prepared.train.streamed)

    def _ended(self, cell: Cell, found: Result | BaseException, clock: _Clock, *, streamed: bool = False) -> Outcome:
        """Return the outcome of a cell that has a result, or an error instead; it says where rows were streamed."""
        blank = self.blank(cell)
        if isinstance(found, BaseException):
            return Outcome(cell, self.failed(cell, blank, failure_of(found)))
        result, arrays = found
        measured = {**blank.measured, "seconds": round(clock.lap(), 6), **({"streamed": True} if streamed else {})}
        return Outcome(cell, dataclasses.replace(blank, status="done", result=result, measured=measured), arrays)

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

    def candidates(self, cell: Cell) -> Candidates:
        """Build a cell's head, once for each of the values to choose from."""
        component = self.plan.component("classifier", cell.classifier)
        values = candidate_values(component)
        return Candidates(cell.classifier, [component.build(**chosen) for chosen in values], values, component.temperature)

    def recipe(self, cell: Cell) -> Recipe:
        """Build what makes a setting's rows."""
        budget = self.plan.budgets[cell.generator]
        groups = () if budget.groups == "all" else self._group_of_class(cell)
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
            groups=groups,
        )

    def groups(self, cell: Cell) -> Groups | None:
        """Return a long tail's groups; None on balanced data, where they mean nothing."""
        return Groups(self.plan.experiment.groups, self._group_of_class(cell)) if cell.imbalance_ratio > 1 else None

    def _group_of_class(self, cell: Cell) -> tuple[str, ...]:
        """Return each class's group under the protocol's rule."""
        return tuple(groups_of(self.plan.experiment.groups, self.split(cell).class_counts, vars(cell)))

    def _parts(self, cell: Cell, features: str) -> dict[str, Any]:
        """Return the parts of a cell's key, given that of its features."""
        return self.plan.key_parts(cell, features, self.split(cell).digest)

    def _provenance(self, cell: Cell) -> dict[str, Any]:
        """Return where a record comes from: versions, plugins, numerics class, and every part of its key."""
        source = self.source(cell)
        elsewhere = source.elsewhere
        return {
            "ltbench": ltbench.__version__,
            "plugins": self._plugins(*(getattr(cell, kind) for kind in KINDS)),
            "numerics": {**self._numerics, "features": elsewhere} if elsewhere else self._numerics,
            "key_parts": self._parts(cell, source.facts.key),
        }

    def _plugins_of(self, *names: str) -> dict[str, str]:
        """Return the distributions behind a cell's components, named in the order of their kinds, with versions."""
        found = [self.plan.component(kind, name).registered for kind, name in zip(KINDS, names, strict=True)]
        return {each.distribution: each.version for each in found}


def _now() -> str:
    """Return the time, for telling which of two records of a cell is the newer."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")


class _Clock:
    """Seconds since a group's last record: together they are the group's."""

    def __init__(self) -> None:
        """Start."""
        self._last = time.perf_counter()

    def lap(self) -> float:
        """Return the seconds since the last lap."""
        last, self._last = self._last, time.perf_counter()
        return self._last - last
