"""A group of cells: the heads of one setting, whose rows are made once. The same code runs in this process or a worker.

Knows plans and features; records go back to whoever asked.
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
from ltbench.contract import Encoder
from ltbench.execute.cell import Candidates, run_cell
from ltbench.execute.failures import ComponentFailure, component_failure, describe, status_of
from ltbench.execute.numerics import numerics_class, pinned
from ltbench.execute.setting import Material, Prepared, Recipe, prepare
from ltbench.features import Features, FeatureStore, extract, feature_key
from ltbench.files import cache_folder
from ltbench.keys import digest
from ltbench.plan import Cell, Plan, Split, candidate_values
from ltbench.records import Arrays, Record
from ltbench.types import Dataset


@dataclass(frozen=True)
class Outcome:
    """A cell that has ended, and what lies beside its record."""

    cell: Cell
    record: Record
    arrays: Arrays | None = None


class Context:
    """A plan on a device: names cells by key, and runs groups of them."""

    def __init__(self, made: Plan, device: str) -> None:
        """Remember the plan; backbones are loaded when a cell first needs them."""
        self.plan, self.device = made, device
        self.store = FeatureStore(cache_folder())
        self._numerics = numerics_class(device)
        self._sources: dict[tuple[str, str], Source] = {}
        self._split = functools.cache(made.split)

    def source(self, cell: Cell) -> Source:
        """Return the features behind a cell."""
        name = (cell.dataset, cell.backbone)
        if name not in self._sources:
            self._sources[name] = Source(self.plan, cell, self.store, self.device)
        return self._sources[name]

    def split(self, cell: Cell) -> Split:
        """Return a cell's rows; they depend on nothing but data, profile and seed."""
        return self._split(
            dataclasses.replace(cell, backbone="", transform="", generator="", regime="", classifier="", prior_source="")
        )

    def blank(self, cell: Cell) -> Record:
        """Return a cell's record before it has run: its key, names and provenance."""
        parts = self.plan.key_parts(cell, self.source(cell).key, self.split(cell).digest)
        provenance = self._provenance(cell, parts)
        return Record(digest(parts), "failed", dict(vars(cell)), measured={"finished": _now()}, provenance=provenance)

    def run(self, cells: Sequence[Cell]) -> Iterator[Outcome]:
        """Run cells of one setting, one after the other; a failure of their rows is every cell's failure."""
        prepare_once = _Once(lambda: prepare(self.source(cells[0]).material(self.split(cells[0])), self.recipe(cells[0])))
        for cell in cells:
            blank = self.blank(cell)
            started = time.perf_counter()
            try:
                result, arrays = self._head(cell, prepare_once())
            except Exception as error:
                yield Outcome(cell, self.failed(cell, blank, error))
                continue
            measured = {**blank.measured, "seconds": round(time.perf_counter() - started, 6)}
            yield Outcome(cell, dataclasses.replace(blank, status="done", result=result, measured=measured), arrays)

    def failed(self, cell: Cell, blank: Record, error: BaseException) -> Record:
        """Return the record of a failure, naming component, distribution and version, or of a reason to skip."""
        status = status_of(error)
        if status == "skipped":
            return dataclasses.replace(blank, status=status, failure={"reason": str(error)})
        blamed = [error.kind] if isinstance(error, ComponentFailure) else ["generator", "classifier"]
        failure = {**describe(error), "component": "; ".join(self._named(kind, cell) for kind in blamed)}
        return dataclasses.replace(blank, status=status, failure=failure)

    def _named(self, kind: str, cell: Cell) -> str:
        """Name a cell's component with its distribution and version."""
        name = str(getattr(cell, kind))
        registered = self.plan.component(kind, name).registered
        return f"{kind} {name} ({registered.distribution} {registered.version})"

    def _head(self, cell: Cell, prepared: Prepared) -> tuple[dict[str, Any], Arrays]:
        """Fit and measure one head."""
        source = self.source(cell)
        return run_cell(prepared, self.candidates(cell), source.dataset.test.labels, source.extraction_flops)

    def candidates(self, cell: Cell) -> Candidates:
        """Build a cell's head, once for each of the values to choose from."""
        component = self.plan.component("classifier", cell.classifier)
        values = candidate_values(component)
        return Candidates(cell.classifier, [component.build(**chosen) for chosen in values], values)

    def recipe(self, cell: Cell) -> Recipe:
        """Build what makes a setting's rows."""
        return Recipe(
            transform=self.plan.component("transform", cell.transform).build(),
            transform_name=cell.transform,
            generator=self.plan.component("generator", cell.generator).build(),
            generator_name=cell.generator,
            budget=self.plan.budgets[cell.generator],
            prior_source=cell.prior_source,
            seed=cell.seed,
            folds=self.plan.experiment.selection.folds,
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


class Source:
    """The features of one dataset and backbone, extracted when a cell first needs them."""

    def __init__(self, made: Plan, cell: Cell, store: FeatureStore, device: str) -> None:
        """Load the backbone; a failure is kept, for the records of its cells."""
        self.dataset: Dataset = made.datasets[cell.dataset]
        self._name, self._store, self._device = cell.backbone, store, device
        self._encoder: Encoder | None = None
        component = made.component("backbone", cell.backbone)
        try:
            with component_failure("backbone", cell.backbone):
                self._encoder = component.build().load(device)
                self.key = feature_key(self.dataset, self._encoder, component.identity())
        except (Exception, SystemExit) as error:
            self.key = digest(["unknown", self.dataset.fingerprint, component.identity()])
            self._features = _Once(functools.partial(_raise, error))
        else:
            self._features = _Once(self._extracted)

    @property
    def extraction_flops(self) -> int:
        """Analytic cost of encoding the training and test images once."""
        images = len(self.dataset.train.labels) + len(self.dataset.test.labels)
        return images * (self._encoder.flops_per_image if self._encoder is not None else 0)

    def features(self) -> Features:
        """Return the features, from the cache or extracted now."""
        features: Features = self._features()
        return features

    def material(self, split: Split) -> Material:
        """Return a split's rows on the device."""
        features, dataset, device = self.features(), self.dataset, self._device
        validation = None
        if features.validation is not None and dataset.validation is not None:
            validation = (features.validation.to(device), dataset.validation.labels.to(device))
        return Material(
            x=features.train[split.row_ids].to(device),
            labels=dataset.train.labels[split.row_ids].to(device),
            row_ids=split.row_ids.to(device),
            test=features.test.to(device),
            classes=len(dataset.class_names),
            validation=validation,
            text=None if features.text is None else features.text.to(device),
        )

    def _extracted(self) -> Features:
        """Read or extract; a failure is the backbone's."""
        encoder = self._encoder
        assert encoder is not None
        with component_failure("backbone", self._name):
            place = digest([self.key, numerics_class(self._device)])  # so that features never depend on who came first
            with pinned(self._device):
                return self._store.get(place, lambda: extract(self.dataset, encoder, self._device))


def _raise(error: BaseException) -> None:
    """Raise a kept failure."""
    raise error
