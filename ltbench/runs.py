"""Running an experiment: plan → features → settings → cells → records; only what is missing is computed."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import ltbench
from ltbench.config import Experiment, experiment, load_suite, load_toml
from ltbench.errors import LtbenchError, UsageError
from ltbench.execute.cell import Candidates, run_cell
from ltbench.execute.failures import component_failure, describe, status_of
from ltbench.execute.numerics import numerics_class, pinned, resolve_device
from ltbench.execute.setting import Material, Prepared, Recipe, prepare
from ltbench.features import Features, FeatureStore, extract, feature_key
from ltbench.files import cache_folder, data_folder, write_atomically
from ltbench.keys import digest
from ltbench.plan import Cell, Plan, Split, candidate_values, plan
from ltbench.plugins import Registry, discover
from ltbench.records import Arrays, Loaded, Record, RunFolder
from ltbench.types import Encoder

if TYPE_CHECKING:
    import pandas as pd

Progress = Callable[["Event"], None]


@dataclass(frozen=True)
class Event:
    """One cell has ended, or was there already (``fresh`` False)."""

    cell: Cell
    record: Record
    fresh: bool
    number: int
    total: int


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, its plan, and the records of its cells in the plan's order."""

    folder: Path
    plan: Plan
    records: tuple[Record, ...]
    computed: int
    conflicts: int = 0

    @property
    def failed(self) -> tuple[Record, ...]:
        """Records of cells that failed."""
        return tuple(record for record in self.records if record.status not in ("done", "skipped"))

    def to_frame(self) -> pd.DataFrame:
        """Return one row per cell: its names, status and metrics, head / medium / tail by the experiment's rule."""
        from ltbench.leaderboard.frame import frame

        return frame(self.records, self.plan.experiment.groups)


def run(
    source: Experiment | str | Path | None = None,
    *,
    out: str | Path,
    suite: str | None = None,
    device: str = "auto",
    retry_failed: bool = False,
    registry: Registry | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Run:
    """Run an experiment and return its records.

    ``source`` is an Experiment or the path of a TOML file, ``suite`` the name of one that comes with ltbench;
    ``settings`` are those of the TOML file and replace its own: ``run(dataset="digits", backbone="pixels",
    generator="none,smote[k=3]", ratio=[10, 50], seeds=5, out="runs/x")``. Cells whose key has a record in ``out``
    are not computed again; failed ones are, with ``retry_failed``. Raises UsageError before any work for anything
    that cannot be run.
    """
    made = plan(load_experiment(source, suite, settings), registry or discover(), data_folder())
    on = resolve_device(device)
    path = Path(out)
    claim_folder(path, made.experiment)
    folder = RunFolder(path)
    known = folder.load()
    records: list[Record] = []
    computed = 0
    try:
        with pinned(on):
            for number, (cell, record, arrays) in enumerate(_records(made, known, on, retry_failed=retry_failed), 1):
                fresh = arrays is not None or record.key not in known.records or record is not known.records[record.key]
                if fresh:
                    folder.add(record, arrays)
                    computed += 1
                records.append(record)
                if progress is not None:
                    progress(Event(cell, record, fresh, number, len(made.cells)))
    finally:
        folder.flush()
    return Run(path, made, tuple(records), computed, len(known.conflicts))


def load_experiment(source: Experiment | str | Path | None, suite: str | None, settings: Mapping[str, Any]) -> Experiment:
    """Return the experiment of a file, a suite, or settings alone; settings replace what a file or suite says."""
    if source is not None and suite is not None:
        raise UsageError("give an experiment file or a suite, not both")
    if isinstance(source, Experiment):
        return dataclasses.replace(source, **settings) if settings else source
    base = load_suite(suite) if suite is not None else load_toml(Path(source)) if source is not None else {}
    return experiment({**base, **settings})


def claim_folder(path: Path, wanted: Experiment) -> None:
    """Write the experiment into the folder, or raise UsageError if the folder holds another protocol's records.

    Runs of one protocol may share a folder; its experiment then names all their methods and seeds.
    """
    file = path / "experiment.toml"
    if path.exists() and not path.is_dir():
        raise UsageError(f"--out must be a folder, {path} is a file")
    if file.exists():
        present = experiment(load_toml(file))
        theirs, ours = present.protocol(), wanted.protocol()
        different = [name for name in ours if theirs[name] != ours[name]]
        if different:
            raise UsageError(
                f"{path} holds a run with another {', '.join(different)}: numbers of two protocols do not belong in "
                f"one folder; choose another --out"
            )
        wanted = _union(present, wanted)
    content = to_toml(wanted).encode()
    if not file.exists() or file.read_bytes() != content:
        write_atomically(file, content)


def to_toml(wanted: Experiment) -> str:
    """Write an experiment as the TOML file that runs it again."""
    import tomli_w

    return tomli_w.dumps(wanted.to_dict())


def _union(a: Experiment, b: Experiment) -> Experiment:
    """Return an experiment with the axes of both."""
    axes = ("dataset", "backbone", "generator", "classifier", "ratio", "seeds")
    return dataclasses.replace(
        b,
        reference=a.reference or b.reference,
        **{name: tuple(dict.fromkeys([*getattr(a, name), *getattr(b, name)])) for name in axes},
    )


def _records(made: Plan, known: Loaded, device: str, *, retry_failed: bool) -> Iterator[tuple[Cell, Record, Arrays | None]]:
    """Yield a record for every cell: the one on disk, or one just computed."""
    store = FeatureStore(cache_folder())
    for _, group in itertools.groupby(made.cells, key=lambda cell: (cell.dataset, cell.backbone)):
        cells = list(group)
        source = _Source(made, cells[0], store, device)
        for _, heads in itertools.groupby(cells, key=lambda cell: cell.setting):
            yield from _setting(made, list(heads), source, known, retry_failed=retry_failed)


class _Source:
    """The features of one dataset and backbone, extracted when a cell first needs them."""

    def __init__(self, made: Plan, cell: Cell, store: FeatureStore, device: str) -> None:
        """Load the backbone; a failure is kept, for the records of its cells."""
        self.dataset = made.datasets[cell.dataset]
        self.device, self._store, self._name = device, store, cell.backbone
        self._features: Features | None = None
        self.encoder: Encoder | None = None
        self.failure: Exception | None = None
        try:
            with component_failure("backbone", cell.backbone):
                self.encoder = made.component("backbone", cell.backbone).build().load(device)
                self.key = feature_key(self.dataset, self.encoder)
        except Exception as error:
            self.failure = error
            self.key = digest([self.dataset.fingerprint, made.component("backbone", cell.backbone).identity()])

    @property
    def features(self) -> Features:
        """The features, from the cache or extracted now."""
        if self.failure is not None or self.encoder is None:
            raise self.failure or LtbenchError("no encoder")
        encoder = self.encoder
        if self._features is None:
            try:
                with component_failure("backbone", self._name):
                    self._features = self._store.get(self.key, lambda: extract(self.dataset, encoder, self.device))
            except Exception as error:
                self.failure = error
                raise
        return self._features

    def material(self, split: Split) -> Material:
        """Return a split's rows on the device."""
        features, dataset, device = self.features, self.dataset, self.device
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
        )


def _setting(
    made: Plan, cells: Sequence[Cell], source: _Source, known: Loaded, *, retry_failed: bool
) -> Iterator[tuple[Cell, Record, Arrays | None]]:
    """Yield the records of the heads of one setting; the rows are made once, when the first head needs them."""
    split = made.split(cells[0])
    prepared: Prepared | None = None
    failure: Exception | None = None
    for cell in cells:
        parts = made.key_parts(cell, source.key, split.row_ids)
        key = digest(parts)
        present = known.records.get(key)
        if present is not None and (present.status in ("done", "skipped") or not retry_failed):
            yield cell, present, None
            continue
        started = time.perf_counter()
        blank = Record(key, "failed", dataclasses.asdict(cell), provenance=_provenance(made, cell, parts, source.device))
        try:
            if failure is not None:
                raise failure
            if prepared is None:
                try:
                    prepared = prepare(source.material(split), _recipe(made, cell))
                except Exception as error:
                    failure = error
                    raise
            result, arrays = _head(made, cell, prepared, source)
        except Exception as error:
            yield cell, _failed(blank, error), None
            continue
        measured = {"seconds": round(time.perf_counter() - started, 6)}
        yield cell, dataclasses.replace(blank, status="done", result=result, measured=measured), arrays


def _head(made: Plan, cell: Cell, prepared: Prepared, source: _Source) -> tuple[dict[str, Any], Arrays]:
    """Fit and measure one head."""
    component = made.component("classifier", cell.classifier)
    values = candidate_values(component)
    candidates = Candidates(cell.classifier, [component.build(**chosen) for chosen in values], values)
    dataset = source.dataset
    images = len(dataset.train.labels) + len(dataset.test.labels)
    flops = source.encoder.flops_per_image if source.encoder is not None else 0
    return run_cell(prepared, candidates, dataset.test.labels.to(source.device), flops, images)


def _recipe(made: Plan, cell: Cell) -> Recipe:
    """Build what makes a setting's rows."""
    return Recipe(
        transform=made.component("transform", cell.transform).build(),
        transform_name=cell.transform,
        generator=made.component("generator", cell.generator).build(),
        generator_name=cell.generator,
        budget=made.budgets[cell.generator],
        prior_source=cell.prior_source,
        seed=cell.seed,
        folds=made.experiment.selection.folds,
    )


def _failed(blank: Record, error: Exception) -> Record:
    """Return the record of a failure, or of a stated reason to skip."""
    status = status_of(error)
    failure = {"reason": str(error)} if status == "skipped" else describe(error)
    return dataclasses.replace(blank, status=status, failure=failure)


def _provenance(made: Plan, cell: Cell, parts: Mapping[str, Any], device: str) -> dict[str, Any]:
    """Return where a record comes from: versions, plugins, numerics class, and every part of its key."""
    kinds = ("dataset", "backbone", "transform", "generator", "classifier")
    registered = [made.component(kind, getattr(cell, kind)).registered for kind in kinds]
    return {
        "ltbench": ltbench.__version__,
        "plugins": {r.distribution: r.version for r in registered},
        "numerics": numerics_class(device),
        "key_parts": dict(parts),
    }
