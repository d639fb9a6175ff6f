"""What each method costs alone on one machine, and the file that holds it. Knows neither torch nor how it is measured."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltbench.errors import UsageError
from ltbench.files import write_atomically
from ltbench.keys import canonical_json

SCHEMA = 1
FILE = "calibration.json"
PARTS = ("generation", "selection", "training")
SECONDS = (*PARTS, "total", "inference_per_1000_rows")


@dataclass(frozen=True)
class Timing:
    """One method in one setting, alone and warm, on the cell whose key it names.

    ``seconds`` are medians over repeats; ``total`` is generation, selection and training, and ``repeats`` has each
    repeat's. ``peak_bytes`` is what it needs beyond the features; ``joules`` are the GPU's. None: cannot be measured.
    """

    key: str
    cell: Mapping[str, Any]
    seconds: Mapping[str, float]
    repeats: tuple[float, ...]
    peak_bytes: int | None
    joules: float | None
    date: str


@dataclass(frozen=True)
class Calibration:
    """The timings of one machine."""

    hardware: Mapping[str, Any]
    timings: tuple[Timing, ...]

    @property
    def machine(self) -> str:
        """The hardware in canonical text: timings stand together only where it is the same."""
        return canonical_json(self.hardware)

    def to_json(self) -> str:
        """Write the calibration in one line."""
        ordered = sorted(self.timings, key=lambda timing: (timing.key, timing.date))
        table = {"schema": SCHEMA, "hardware": self.hardware, "timings": [dataclasses.asdict(each) for each in ordered]}
        return canonical_json(table) + "\n"


def write_calibration(folder: Path, made: Calibration) -> Path:
    """Write a folder's calibration and return its file."""
    path = folder / FILE
    write_atomically(path, made.to_json().encode())
    return path


def read_calibration(folder: Path) -> Calibration | None:
    """Return a folder's calibration, None where there is none; raise UsageError for a file that is none."""
    path = folder / FILE
    try:
        table = json.loads(path.read_bytes())
        if isinstance(table, dict) and isinstance(table.get("schema"), int) and table["schema"] > SCHEMA:
            found = f"{path} has schema {table['schema']}, this ltbench knows up to {SCHEMA}"
            raise UsageError(f"{found}: install a newer ltbench")
        return _parsed(table)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UsageError(
            f"{path} is damaged or no calibration: move the file away, or replace it with 'ltbench calibrate RUN --force'"
        ) from None


def one_per_machine(found: Sequence[Calibration]) -> list[Calibration]:
    """Return the calibrations put together by hardware, in order of its text; one timing a key, the latest."""
    machines: dict[str, dict[str, Timing]] = {}
    hardware = {each.machine: each.hardware for each in found}
    for each in found:
        timings = machines.setdefault(each.machine, {})
        for timing in each.timings:
            timings[timing.key] = max(timings.get(timing.key, timing), timing, key=_latest)
    return [Calibration(hardware[name], tuple(machines[name].values())) for name in sorted(machines)]


def _latest(timing: Timing) -> tuple[str, str]:
    """Order timings of one key by date, whatever the order they came in."""
    return timing.date, canonical_json(dataclasses.asdict(timing))


def _parsed(table: Any) -> Calibration:
    """Build a calibration from what the file holds; raise ValueError, TypeError or KeyError for anything amiss."""
    if set(table) != {"schema", "hardware", "timings"} or not isinstance(table["hardware"], dict):
        raise ValueError("no calibration")
    return Calibration(table["hardware"], tuple(_timing(each) for each in table["timings"]))


def _timing(table: Mapping[str, Any]) -> Timing:
    """Build one timing."""
    timing = Timing(**{**table, "repeats": tuple(table["repeats"])})
    numbers = [*timing.seconds.values(), *timing.repeats, *(x for x in (timing.peak_bytes, timing.joules) if x is not None)]
    named = set(timing.seconds) == set(SECONDS) and isinstance(timing.cell, dict) and bool(timing.repeats)
    if not named or not isinstance(timing.key, str) or not isinstance(timing.date, str):
        raise ValueError("no timing")
    if not all(isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) and n >= 0 for n in numbers):
        raise ValueError("no number")
    return timing
