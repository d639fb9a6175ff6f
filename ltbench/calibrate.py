"""Calibration: every method of a finished run measured alone and warm, one after the other, on one named machine."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ltbench.calibration import FILE, Calibration, Timing, read_calibration, write_calibration
from ltbench.cells import Cell
from ltbench.config import experiment_of
from ltbench.errors import LtbenchError, UsageError
from ltbench.execute.alone import Alone, cost
from ltbench.execute.failures import describe
from ltbench.execute.group import Context
from ltbench.execute.numerics import pinned, resolve_device
from ltbench.files import data_folder
from ltbench.hardware import hardware_of
from ltbench.plan import plan
from ltbench.plugins import Registry, discover
from ltbench.records import Record, RunFolder

LEAST_REPEATS = 3


@dataclass(frozen=True)
class Measured:
    """One method has been measured."""

    cell: Cell
    timing: Timing
    number: int
    total: int


def calibrate(
    run: Path,
    *,
    out: Path | None = None,
    device: str = "auto",
    repeats: int = LEAST_REPEATS,
    force: bool = False,
    registry: Registry | None = None,
    progress: Callable[[Measured], None] = lambda _: None,
) -> Calibration:
    """Measure every method of a finished run in every setting, for its first seed, and write ``calibration.json``.

    It goes into the run's folder, or ``out``. Raises UsageError for a run that is not finished, and, without
    ``force``, where the folder holds a calibration of other hardware.
    """
    if repeats < LEAST_REPEATS:
        raise UsageError(f"repeats must be at least {LEAST_REPEATS}, for a median, not {repeats}")
    wanted, on = experiment_of(run), resolve_device(device)
    hardware = hardware_of(on)
    if not force:
        _check_replaceable(out or run, hardware)
    context = Context(plan(wanted, registry or discover(), data_folder()), on)
    methods = _methods(context, run)
    timings = []
    with pinned(on):
        for number, (cell, record) in enumerate(methods.items(), 1):
            timings.append(_timing(context, cell, record, repeats))
            progress(Measured(cell, timings[-1], number, len(methods)))
    made = Calibration(hardware, tuple(timings))
    write_calibration(out or run, made)
    return made


def _check_replaceable(folder: Path, hardware: Mapping[str, object]) -> None:
    """Raise UsageError if the folder's calibration is of other hardware."""
    present = read_calibration(folder)
    if present is None:
        return
    names = [name for name in {**present.hardware, **hardware} if present.hardware.get(name) != hardware.get(name)]
    if names:
        told = "; ".join(f"{name} {present.hardware.get(name)}, here {hardware.get(name)}" for name in names)
        raise UsageError(f"{folder / FILE} is of other hardware ({told}): --force replaces it, --out FOLDER keeps both")


def _methods(context: Context, run: Path) -> dict[Cell, Record]:
    """Return each method's cell to measure, the first seed that is done; raise UsageError if cells are missing."""
    known, cells = RunFolder(run).load().records, context.plan.cells
    found = {cell: known.get(context.blank(cell).key) for cell in cells}
    missing = sum(record is None for record in found.values())
    if missing:
        raise UsageError(
            f"{run} is not finished: {missing} of {len(cells)} cells have no record that today's code and settings "
            "would make; run it again into the same folder first"
        )
    first: dict[Cell, tuple[Cell, Record]] = {}
    for cell, record in found.items():
        if record is not None and record.status == "done":
            first.setdefault(dataclasses.replace(cell, seed=0), (cell, record))
    if not first:
        raise UsageError(f"{run} has no cell that is done: see 'ltbench status {run}'")
    return dict(first.values())


def _timing(context: Context, cell: Cell, record: Record, repeats: int) -> Timing:
    """Measure one method."""
    try:
        material = context.material(cell)
        found = cost(Alone(material, context.recipe(cell), context.candidates(cell), context.device), repeats)
    except Exception as error:
        names = f"{cell.generator} + {cell.classifier} on {cell.dataset}, seed {cell.seed}"
        raise LtbenchError(f"{names} is done in the run, but failed alone: {describe(error)['error']}") from error
    return Timing(
        key=record.key,
        cell=dataclasses.asdict(cell),
        seconds={name: _rounded(value) for name, value in found.seconds.items()},
        repeats=tuple(map(_rounded, found.repeats)),
        peak_bytes=found.peak_bytes,
        joules=None if found.joules is None else _rounded(found.joules),
        date=dt.datetime.now(dt.UTC).date().isoformat(),
    )


def _rounded(value: float) -> float:
    """Keep six significant digits."""
    return float(f"{value:.6g}")
