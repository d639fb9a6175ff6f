"""Seconds and memory beside accuracies: only where one machine has calibrated every method of a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from ltbench.calibration import SECONDS, Calibration, Timing, one_per_machine
from ltbench.leaderboard.tables import Row, Table


def timed(made: Sequence[Table], found: Sequence[Calibration]) -> list[Table]:
    """Give tables the timings of the one machine that covers most of them; a table that it does not cover gets none.

    A table is covered if each of its methods with a result has a timing of a cell whose record is on the board: a
    timing of earlier code has another key.
    """
    machines = one_per_machine(found)
    best = max(machines, key=lambda machine: sum(_covers(machine, table) for table in made), default=None)
    return [dataclasses.replace(t, calibration=best) if best is not None and _covers(best, t) else t for t in made]


def shown_calibration(made: Sequence[Table]) -> Calibration | None:
    """Return the timings that the tables show; None if they show none."""
    used = {timing.key: timing for table in made for row in table.rows if (timing := timing_of(table, row)) is not None}
    machine = next((table.calibration for table in made if table.calibration is not None), None)
    return None if machine is None else Calibration(machine.hardware, tuple(used.values()))


def timing_of(table: Table, row: Row) -> Timing | None:
    """Return a method's timing, if its table has them."""
    return None if table.calibration is None else _found(table.calibration, row)


def cost_cells(table: Table, row: Row) -> dict[str, str]:
    """Return what a row shows of its cost; nothing in a table without timings."""
    if table.calibration is None:
        return {}
    timing = timing_of(table, row)
    cells = {"seconds": "–" if timing is None else _digits(timing.seconds["total"])}
    if _has_memory(table):
        cells["peak MB"] = "–" if timing is None or timing.peak_bytes is None else _digits(timing.peak_bytes / 1e6)
    return cells


def cost_numbers(table: Table, row: Row) -> dict[str, Any]:
    """Return a row's cost for the CSV file; nothing in a table without timings."""
    timing = timing_of(table, row)
    if timing is None:
        return {}
    seconds = {f"seconds_{name}".removesuffix("_total"): timing.seconds[name] for name in SECONDS}
    return {**seconds, "peak_bytes": timing.peak_bytes if _has_memory(table) else None, "joules": timing.joules}


def times_line(made: Sequence[Table]) -> list[str]:
    """Name the machine in one line of a page's foot; no line if no table has timings."""
    calibration = shown_calibration(made)
    if calibration is None:
        return []
    dates = sorted({timing.date for timing in calibration.timings})
    repeats = min(len(timing.repeats) for timing in calibration.timings)
    hardware = ", ".join(f"{name} {value}" for name, value in calibration.hardware.items() if value is not None)
    line = (
        f"- times: calibrated on {hardware}, {' to '.join(dict.fromkeys((dates[0], dates[-1])))}; each method alone and "
        f"warm, one seed, median of at least {repeats} repeats: *seconds* for generation, selection and training, "
        "*peak MB* beyond the features"
    )
    return [line]


def _covers(machine: Calibration, table: Table) -> bool:
    """Whether every method of a table that has a result has a timing."""
    return all(_found(machine, row) is not None for row in table.rows if row.keys) and any(row.keys for row in table.rows)


def _found(machine: Calibration, row: Row) -> Timing | None:
    """Return the timing of one of a row's cells, the first by key."""
    return min((t for t in machine.timings if t.key in row.keys), key=lambda timing: timing.key, default=None)


def _has_memory(table: Table) -> bool:
    """Whether every timing that the table shows has its memory."""
    found = [timing for row in table.rows if (timing := timing_of(table, row)) is not None]
    return all(timing.peak_bytes is not None for timing in found)


def _digits(value: float) -> str:
    """Write a number with three digits."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.3g}"
