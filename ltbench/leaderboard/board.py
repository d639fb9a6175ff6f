"""A leaderboard's files: README.md, leaderboard.csv, FIDELITY.md, and the records and experiment they are made from."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ltbench.calibration import FILE, read_calibration
from ltbench.config import Experiment, experiment, shared_experiment, to_toml
from ltbench.errors import UsageError
from ltbench.files import write_atomically
from ltbench.leaderboard.fidelity import fidelity_page
from ltbench.leaderboard.frame import whole, whole_records
from ltbench.leaderboard.statistics import Estimate
from ltbench.leaderboard.tables import METHOD, SETTING, Row, Table, heading, tables
from ltbench.leaderboard.times import cost_cells, cost_numbers, shown_calibration, timed, times_line
from ltbench.longtail import GROUPS
from ltbench.records import Loaded, Record, RunFolder, combine, newest, records_text
from ltbench.suites import load_suite, suite_names

COLUMNS = {"balanced": "overall", "head": "head", "medium": "medium", "tail": "tail", "ece": "ECE", "gap_closed": "gap closed"}


@dataclass(frozen=True)
class Board:
    """The files of a leaderboard, by name, as text, and how many records of the same cells, by earlier code, are left out."""

    files: Mapping[str, str]
    left_out: int = 0

    def write(self, folder: Path) -> None:
        """Write every file, each atomically."""
        for name, text in self.files.items():
            write_atomically(folder / name, text.encode())

    def differences(self, folder: Path) -> list[str]:
        """Return the names of files that are missing or differ."""
        return [name for name, text in self.files.items() if not _same(folder / name, text)]


def board(runs: Sequence[Path], out: Path, groups: str | None = None) -> Board:
    """Make a leaderboard of one or more runs of one protocol; ``groups`` replaces the protocol's rule.

    ``NOTES.md`` in the folder, written by hand, opens the page.
    """
    shared = shared_experiment(runs)
    wanted = shared if groups is None else experiment({**shared.to_dict(), "groups": groups})
    loaded = combine(record for run in runs for record in _records(run))
    if not loaded.records:
        raise UsageError(f"no records in {', '.join(map(str, runs))}: run something there first")
    records = [whole(record) for record in newest(loaded.records.values())]
    calibrations = [found for run in runs if (found := read_calibration(run)) is not None]
    with whole_records(runs):
        made = timed(tables(records, wanted.groups, wanted.headline), calibrations)
        page = _page(wanted, made, records, loaded, _notes(out))
        fidelity = fidelity_page(records, wanted.groups)
    slim = [dataclasses.replace(record, scores=None, measured={}) for record in records]
    files = {"README.md": page, "leaderboard.csv": csv(made), "experiment.toml": to_toml(wanted)}
    calibration = shown_calibration(made)
    times = {} if calibration is None else {FILE: calibration.to_json()}
    rows = {"FIDELITY.md": fidelity} if fidelity else {}
    written = {**files, **times, **rows, "records/board.jsonl": records_text(slim)}
    return Board(written, left_out=len(loaded.records) - len(records))


def csv(made: Iterable[Table]) -> str:
    """Return every table in one, with full names: mean and half-width of the 95 % interval of each number."""
    rows = [{**table.setting, **row.method, **_plain(row), **cost_numbers(table, row)} for table in made for row in table.rows]
    text: str = pd.DataFrame(rows).to_csv(index=False, lineterminator="\n", float_format="%.6g")
    return text


def markdown(table: Table) -> str:
    """Return one table in Markdown: percentages with the half-width of their interval."""
    several = [name for name in ("regime", "prior_source") if _varies(table, name)]
    columns = ["generator", "classifier", *several]
    heads = {
        name: f"{title} ({table.classes[name]})" if name in GROUPS and any(table.classes.values()) else title
        for name, title in COLUMNS.items()
    }
    shown = [
        {**{c: _mark(row, row.method[c]) for c in columns}, **_cells(row, heads, cost_cells(table, row))} for row in table.rows
    ]
    text: str = pd.DataFrame(shown).to_markdown(
        index=False, disable_numparse=True, colalign=["left"] * len(columns) + ["right"] * (len(shown[0]) - len(columns))
    )
    return text


def _cells(row: Row, heads: Mapping[str, str], costs: Mapping[str, str]) -> dict[str, str]:
    """Return what a row shows after its names."""
    numbers = {title: percent(row.values[name], exact=row.deterministic) for name, title in heads.items()}
    flops, parameters = row.values["training_flops"], row.values["parameters"]
    return {
        **numbers,
        "FLOPs": _engineering(flops.mean) if flops else "–",
        "parameters": f"{parameters.mean:,.0f}" if parameters else "–",
        **costs,
        "seeds": f"{row.seeds}{' (deterministic)' if row.deterministic else ''}",
        "failed": str(row.failed) if not row.skipped else f"{row.failed} ({row.skipped} skipped)",
    }


def percent(value: Estimate | None, *, exact: bool = False) -> str:
    """Write ``81.2 ± 1.0``; without an interval where there is one seed or no randomness; a dash where undefined."""
    if value is None:
        return "–"
    interval = "" if exact or value.half_width is None else f" ± {100 * value.half_width:.1f}"
    return f"{100 * value.mean:.1f}".replace("-0.0", "0.0") + interval


def _page(wanted: Experiment, made: Sequence[Table], records: Sequence[Record], loaded: Loaded, notes: str) -> str:
    """Write the page."""
    title = f"{wanted.name} (version {wanted.version})" if wanted.name else ", ".join(wanted.dataset)
    parts = [f"# Leaderboard: {title}", wanted.description, notes, _reading(wanted)]
    for table in made:
        parts += [f"## {heading(table.setting)}", markdown(table)]
    parts += [_failures(records), _conflicts(loaded), _foot(wanted, records, times_line(made))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _reading(wanted: Experiment) -> str:
    """Say what the columns mean."""
    return (
        f"Rows are ordered by {COLUMNS.get(wanted.headline, wanted.headline)} accuracy. Numbers are percentages: mean over "
        "seeds ± half-width of the 95 % t interval. *Overall* is the mean of per-class accuracies on the balanced test "
        "images; *head*, *medium* and *tail* are means over that many classes, – where a group is empty. *ECE* is the "
        "expected calibration error of 15 equal-width bins (lo, hi] (lower is better; – for scores that are no "
        "probabilities). *Gap closed* is the share of the distance between plain softmax on the long tail and the same "
        "head on balanced data, in overall accuracy; – where that distance is within noise. *FLOPs* counts generation, "
        "selection and training, 2 per multiply-add; *parameters* the head's. Rows in italics are references: the same "
        "head on balanced data (more rows, too)."
    )


def _failures(records: Sequence[Record]) -> str:
    """List failed and skipped cells with their causes, counted."""
    counted: dict[str, int] = {}
    for record in records:
        if record.failure is not None:
            line = f"{record.status}: {record.cause}".replace("|", "\\|")
            counted[line] = counted.get(line, 0) + 1
    lines = [f"- {count} × {line}" for line, count in sorted(counted.items())]
    return "\n".join(["## Cells without a result", "", *lines]) if lines else ""


def _conflicts(loaded: Loaded) -> str:
    """Name keys with two different results under one numerics class."""
    lines = [f"- `{a.key}`: {a.cell['generator']} + {a.cell['classifier']}, seed {a.cell['seed']}" for a, _ in loaded.conflicts]
    return "\n".join(["## Results that contradict each other", "", *lines]) if lines else ""


def _foot(wanted: Experiment, records: Sequence[Record], times: Sequence[str]) -> str:
    """Write protocol, versions and how to regenerate."""
    protocol = wanted.protocol()
    selection = protocol.pop("selection")
    candidates = "; ".join(
        f"{name} from {', '.join(f'{v:g}' for v in values)}" for name, values in selection["candidates"].items()
    )
    rows = sorted({r.result["selected"]["rows"].partition(" on ")[0] for r in records if r.result and r.result["selected"]})
    lines = [
        f"- protocol `{wanted.protocol_hash()}`: "
        + ", ".join(f"{k} {_said(v)}" for k, v in protocol.items() if v not in ("", None)),
        f"- selection by {selection['criterion']} ({'; '.join(rows) or 'nothing selected'}): {candidates}",
        f"- seeds {', '.join(map(str, wanted.seeds))}; {len(records)} cells",
        f"- versions: {_versions(records)}; {_engines(records)}",
        f"- numerics: {_numerics(records)}",
        *times,
        f"- regenerate: `{_command(wanted)}`, then `ltbench leaderboard RUN --out FOLDER`{_added(wanted)}",
        "- the numbers in full are in `leaderboard.csv`, the records they are made from in `records/`",
    ]
    return "\n".join(["## Protocol and provenance", "", *lines])


def _versions(records: Sequence[Record]) -> str:
    """Return every distribution and version that made a record."""
    found = {("ltbench", str(r.provenance.get("ltbench"))) for r in records}
    found |= {(name, str(version)) for r in records for name, version in r.provenance.get("plugins", {}).items()}
    return ", ".join(f"{name} {version}" for name, version in sorted(found))


def _engines(records: Sequence[Record]) -> str:
    """Return every version of the engine and of the metrics that made a record."""
    parts = [r.provenance.get("key_parts", {}) for r in records]
    return ", ".join(
        f"{name} {' and '.join(sorted({str(each[name]) for each in parts if name in each})) or 'unknown'}"
        for name in ("engine", "metrics")
    )


def _numerics(records: Sequence[Record]) -> str:
    """Return every numerics class that made a record."""
    classes = sorted({", ".join(f"{k} {v}" for k, v in sorted(r.provenance.get("numerics", {}).items())) for r in records})
    return "; ".join(classes)


def _command(wanted: Experiment) -> str:
    """Return the command that runs the experiment again."""
    return (
        f"ltbench run --suite {wanted.name}@{wanted.version} --out RUN"
        if wanted.name in suite_names()
        else "ltbench run experiment.toml --out RUN"
    )


def _added(wanted: Experiment) -> str:
    """Return what runs of their own have added to a suite, by axis: not every combination need be there."""
    try:
        own = experiment(load_suite(f"{wanted.name}@{wanted.version}"))
    except UsageError:  # no suite, or one of another time
        return ""
    axes = ("dataset", "backbone", "generator", "classifier", "ratio", "regime", "prior_source")
    more = {axis: [each for each in getattr(wanted, axis) if each not in getattr(own, axis)] for axis in axes}
    options = [f"`--{axis.replace('_', '-')} {shlex.quote(','.join(map(str, new)))}`" for axis, new in more.items() if new]
    return f"; rows that the suite has not are of runs like it with {', '.join(options)}" if options else ""


def _notes(out: Path) -> str:
    """Return what was written by hand for the page, if anything was."""
    notes = out / "NOTES.md"
    try:
        return notes.read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{notes} must be a text in UTF-8: {error}") from None


def _records(run: Path) -> list[Record]:
    """Return a run's records, several of one key too."""
    return RunFolder(run).everything()


def _plain(row: Row) -> dict[str, Any]:
    """Return a row's numbers for the CSV file."""
    numbers: dict[str, Any] = {"reference": row.reference}
    for name, value in row.values.items():
        numbers[name] = None if value is None else value.mean
        numbers[f"{name}_ci95"] = None if value is None else value.half_width
    return {**numbers, "seeds": row.seeds, "failed": row.failed, "skipped": row.skipped, "deterministic": row.deterministic}


def _varies(table: Table, name: str) -> bool:
    """Whether methods that use synthetic rows differ in a name."""
    return len({row.method[name] for row in table.rows if row.method["regime"] != "real"}) > 1


def _mark(row: Row, text: str) -> str:
    """Write a name; references in italics."""
    escaped = text.replace("|", "\\|")
    return f"*{escaped}*" if row.reference else escaped


def _engineering(value: float) -> str:
    """Write a count with three digits and a prefix: ``1.23 G``."""
    for prefix, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {prefix}"
    return f"{value:.3g}"


def _said(value: Any) -> str:
    """Write a setting."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _same(path: Path, text: str) -> bool:
    """Whether a file holds exactly this text."""
    try:
        return path.read_bytes() == text.encode()
    except OSError:
        return False


__all__ = ["COLUMNS", "METHOD", "SETTING", "Board", "board", "csv", "markdown", "percent"]
