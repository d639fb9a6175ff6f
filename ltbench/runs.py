"""Running an experiment: plan → groups → records; only what is missing is computed."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltbench.calibration import one_per_machine, read_calibration, write_calibration
from ltbench.cells import Cell
from ltbench.config import (
    Experiment,
    experiment,
    experiment_of,
    joined_experiment,
    load_experiment,
    load_toml,
    shared_experiment,
    to_toml,
)
from ltbench.errors import UsageError
from ltbench.execute.group import Context
from ltbench.execute.local import Local, Watch, resolve_workers
from ltbench.execute.numerics import resolve_device
from ltbench.execute.worker import Group
from ltbench.files import cache_folder, data_folder, locked, write_atomically
from ltbench.hardware import batch_told
from ltbench.keys import canonical_json
from ltbench.plan import Plan, plan
from ltbench.plugins import Registry, discover
from ltbench.records import Loaded, Record, RunFolder, newest

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
        return tuple(record for record in self.records if record.failed)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per cell: its names, status and metrics, head / medium / tail by the experiment's rule."""
        from ltbench.leaderboard.frame import frame

        return frame(self.records, self.plan.experiment.groups)


def run(  # noqa: PLR0913 - one keyword each for what a user may say
    source: Experiment | str | Path | None = None,
    *,
    out: str | Path,
    suite: str | None = None,
    device: str = "auto",
    workers: int | str = 0,
    timeout: float | None = None,
    retry_failed: bool = False,
    fail_fast: bool = False,
    registry: Registry | None = None,
    progress: Progress | None = None,
    watch: Watch = lambda *_: None,
    **settings: Any,
) -> Run:
    """Run an experiment and return its records.

    ``source`` is an Experiment or the path of a TOML file, ``suite`` the name of one that comes with ltbench;
    ``settings`` are those of the TOML file and replace its own: ``run(dataset="digits", backbone="pixels",
    generator="none,smote[k=3]", ratio=[10, 50], seeds=5, out="runs/x")``. Cells whose key has a record in ``out``
    are not computed again; failed ones are, with ``retry_failed``; ``fail_fast`` stops at the first failure.
    ``workers`` processes (``auto``: one per core or GPU; 0: none, all runs in this process) run groups of cells, each
    at most ``timeout`` seconds each cell; results depend on neither. ``progress`` hears of every cell that ends, ``watch``
    of images encoded. Raises UsageError before any work for anything that cannot
    be run.
    """
    made = plan(load_experiment(source, suite, settings), registry or discover(), data_folder())
    on = resolve_device(device)
    local = Local(resolve_workers(str(workers), on), timeout)
    if timeout is not None and not (0 < timeout < math.inf and local.workers):
        given = f"{timeout:g} with {local.workers} workers"
        raise UsageError(f"--timeout needs worker processes and a number of seconds above 0, not {given}")
    cache_folder()
    batch_told()  # what the environment says wrongly is to be found now, not in a cell
    made.dimensions()  # a layer that is not there is a mistake to find now, not in a cell
    claim_folder(Path(out), made.experiment)
    folder = RunFolder(Path(out))
    known = folder.load()
    context = Context(made, on)
    ledger = _Ledger(context, known.records, retry_failed, progress or (lambda _: None))
    try:
        for outcome in local.run(context, ledger.sources(), ledger.missing, watch):
            if outcome is None:
                folder.flush()
                continue
            folder.add(outcome.record, outcome.arrays)
            ledger.note(outcome.cell, outcome.record, fresh=True)
            if fail_fast and outcome.record.failed:
                break
    finally:
        folder.flush()
    return Run(Path(out), made, ledger.in_order(), ledger.computed, len(known.conflicts))


@dataclass
class _Ledger:
    """The records of a run as they come in: those that were there already, and those of its cells that end."""

    context: Context
    known: Mapping[str, Record]
    retry_failed: bool
    tell: Progress
    records: dict[Cell, Record] = field(default_factory=dict)
    computed: int = 0

    @functools.cached_property
    def _groups(self) -> dict[tuple[str, str], list[Group]]:
        """The plan's cells by setting, by source."""
        groups: dict[tuple[str, str], list[Group]] = {}
        for _, cells in itertools.groupby(self.context.plan.cells, key=lambda cell: cell.setting):
            group = tuple(cells)
            groups.setdefault(group[0].source, []).append(group)
        return groups

    def sources(self) -> list[Cell]:
        """Return a cell of each dataset and backbone, in the plan's order."""
        return [groups[0][0] for groups in self._groups.values()]

    def missing(self, source: Cell) -> list[Group]:
        """Return the groups of a source's cells that have no record yet; those that have one are noted."""
        found = [tuple(cell for cell in group if not self._present(cell)) for group in self._groups[source.source]]
        return [group for group in found if group]

    def note(self, cell: Cell, record: Record, *, fresh: bool) -> None:
        """Take a cell's record, and tell."""
        self.records[cell] = record
        self.computed += fresh and record.status != "skipped"
        self.tell(Event(cell, record, fresh=fresh, number=len(self.records), total=len(self.context.plan.cells)))

    def in_order(self) -> tuple[Record, ...]:
        """Return the records in the plan's order."""
        return tuple(self.records[cell] for cell in self.context.plan.cells if cell in self.records)

    def _present(self, cell: Cell) -> bool:
        """Note the record that a cell has already, if it need not be run again."""
        record = self.known.get(self.context.key(cell))
        if record is None or (self.retry_failed and record.failed):
            return False
        self.note(cell, record, fresh=False)
        return True


def claim_folder(path: Path, wanted: Experiment) -> None:
    """Write the experiment into the folder, or raise UsageError if the folder holds another protocol's records.

    Runs of one protocol may share a folder; its experiment then names all their methods and seeds.
    """
    file = path / "experiment.toml"
    if path.exists() and not path.is_dir():
        raise UsageError(f"--out must be a folder, {path} is a file")
    with locked(path / ".experiment.lock"):  # two runs may start at the same moment
        if file.exists():
            wanted = joined_experiment(experiment(load_toml(file)), wanted, path)
        content = to_toml(wanted).encode()
        if not file.exists() or file.read_bytes() != content:
            write_atomically(file, content)


@dataclass(frozen=True)
class State:
    """How far a run is, in cells, and why cells failed or were skipped, counted."""

    total: int
    done: int
    failed: int
    skipped: int
    causes: Mapping[str, int]
    changed: tuple[Record, ...] = ()
    """What the missing cells had given before a component, a library or a setting changed."""

    @property
    def missing(self) -> int:
        """Cells without a record."""
        return self.total - self.done - self.failed - self.skipped


def status(folder: Path, registry: Registry) -> State:
    """Compare a run's folder with its experiment; keys are computed anew, so a changed plugin's cells are missing."""
    made = plan(experiment_of(folder), registry, data_folder())
    known, context = RunFolder(folder).load().records, Context(made, "cpu")
    found = [record for cell in made.cells if (record := known.get(context.key(cell))) is not None]
    present = {canonical_json(record.cell) for record in found}
    wanted = {name for cell in made.cells if (name := canonical_json(vars(cell))) not in present}
    changed = [record for record in newest(known.values()) if canonical_json(record.cell) in wanted]
    causes: dict[str, int] = {}
    for record in found:
        if record.failure is not None:
            cause = f"{record.status}: {record.cause}"
            causes[cause] = causes.get(cause, 0) + 1
    skipped, failed = sum(r.status == "skipped" for r in found), sum(r.failed for r in found)
    return State(len(made.cells), len(found) - skipped - failed, failed, skipped, causes, tuple(changed))


def merge(runs: Sequence[Path], out: Path) -> Loaded:
    """Write the union of runs of one protocol into a folder, by cell key, and return it; scores come along.

    The folder may hold records already: they are part of the union. Nothing is dropped: of different results under one
    key, both are kept.
    """
    wanted = shared_experiment(runs)
    claim_folder(out, wanted)
    target = RunFolder(out)
    for run in runs:
        target.take(RunFolder(run))
    target.flush()
    machines = one_per_machine([found for run in (*runs, out) if (found := read_calibration(run)) is not None])
    if len(machines) == 1:  # times of two machines do not belong in one column
        write_calibration(out, machines[0])
    return target.load()


@dataclass(frozen=True)
class Explanation:
    """A cell's key against another: what each is, and the parts that differ, as text."""

    key: str
    name: str
    against: str
    changes: tuple[tuple[str, str, str], ...]


def explain(folder: Path, key: str, other: str | None, registry: Registry) -> Explanation:
    """Compare the key of a recorded cell with what it would be now, or with another cell's, part by part."""
    wanted = experiment_of(folder)
    known = RunFolder(folder).load().records
    record = by_prefix(known, key, folder)
    names = ", ".join(f"{name} {value}" for name, value in record.cell.items())
    if other is not None:
        against = by_prefix(known, other, folder)
        parts, described = against.provenance.get("key_parts", {}), f"{against.key}  the recorded cell"
    else:
        made = plan(wanted, registry, data_folder())
        now = Context(made, "cpu").blank(planned_cell(made, record, folder))
        parts, described = now.provenance["key_parts"], f"{now.key}  the same cell, planned now"
    return Explanation(record.key, names, described, tuple(differences(record.provenance.get("key_parts", {}), parts)))


def planned_cell(made: Plan, record: Record, folder: Path) -> Cell:
    """Return the cell of a plan that a record names, or raise UsageError if there is none."""
    try:
        cell = Cell(**record.cell)
    except TypeError:
        raise UsageError(f"record {record.key} does not name a whole cell") from None
    if cell not in made.cells:
        raise UsageError(f"cell {record.key} is not in {folder / 'experiment.toml'} any more: nothing would compute it")
    return cell


def differences(a: Any, b: Any, place: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield (place, text in a, text in b) for every leaf in which two nested values differ."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for name in sorted({*a, *b}):
            yield from differences(a.get(name), b.get(name), f"{place}.{name}" if place else str(name))
    elif a != b:
        yield place, canonical_json(a), canonical_json(b)


def by_prefix(known: Mapping[str, Record], key: str, folder: Path) -> Record:
    """Return the one record whose key begins so."""
    found = [record for each, record in known.items() if each.startswith(key)]
    if not found:
        raise UsageError(f"no cell of {folder} has a key that begins with {key!r}: 'ltbench top {folder}' shows keys")
    if len(found) > 1:
        raise UsageError(f"{len(found)} cells of {folder} have a key that begins with {key!r}: give more of it")
    return found[0]
