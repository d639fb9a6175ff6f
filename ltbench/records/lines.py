"""Records as lines of text: written, and read with what is torn, foreign or of a later schema refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

from ltbench.errors import LtbenchError, UsageError
from ltbench.records.record import SCHEMA, Record, Status


def records_text(records: Iterable[Record]) -> str:
    """Write records, one a line, ordered by key."""
    return record_lines(sorted(records, key=lambda record: (record.key, record.to_json()))).decode()


def record_lines(records: Iterable[Record]) -> bytes:
    """Write records, one a line."""
    return "".join(record.to_json() + "\n" for record in records).encode(errors="backslashreplace")


def read_records(path: Path, shared: dict[str, Any]) -> list[Record]:
    """Read one file of records; equal parts of records are ``shared``."""
    try:
        with path.open(encoding="utf-8", newline="\n") as file:  # a line at a time: the text is as large as its records
            lines = enumerate(file, 1)
            return [_parse(line, f"{path}:{number}", shared) for number, line in lines if line.strip()]
    except OSError as error:
        raise LtbenchError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is no text, so it holds no records: move the file away") from None


def _parse(line: str, place: str, shared: dict[str, Any]) -> Record:
    """Parse one line, or raise UsageError: torn, foreign, or of a later schema."""
    try:
        table = _DECODER.decode(line)
    except (ValueError, RecursionError):
        raise UsageError(f"{place} is torn or no record: move the file away, and the run recomputes its cells") from None
    if not isinstance(table, dict) or type(table.get("schema")) is not int:
        raise UsageError(f"{place} is no ltbench record: move the file away")
    if table["schema"] > SCHEMA:
        raise UsageError(f"{place} has schema {table['schema']}, this ltbench knows up to {SCHEMA}: install a newer ltbench")
    if not table.keys() <= Record.__dataclass_fields__.keys() or not {"key", "status", "cell"} <= set(table):
        raise UsageError(f"{place} is no ltbench record of schema {SCHEMA}: move the file away")
    record = Record(**table)
    if not _well_typed(record):
        raise UsageError(f"{place} is no whole ltbench record: move the file away, and the run recomputes its cells")
    for part, names in _ALIKE:
        _share(part(record), names, shared)
    return record


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a table whose names are the same objects as those of every other: else they would be a third of a record."""
    return {sys.intern(name): value for name, value in pairs}


def _share(table: Any, names: Iterable[str], shared: dict[str, Any]) -> None:
    """Replace values of a table just read by the first of their equals: of many records, most say the same."""
    for name in names if isinstance(table, dict) else ():
        value = table.get(name)
        if isinstance(value, str):
            table[name] = sys.intern(value)
        elif isinstance(value, dict | list):
            table[name] = shared.setdefault(repr(value), value)  # 1, 1.0 and True are equal, their texts are not


def _refuse(constant: str) -> None:
    """Refuse NaN and infinities, which are no JSON."""
    raise ValueError(constant)


_DECODER = json.JSONDecoder(object_pairs_hook=_table, parse_constant=_refuse)
# What many records have in common: where to find a table, and which of its values.
_NAMES = ("dataset", "backbone", "transform", "profile", "rows", "class_order", "generator", "regime", "classifier")
_ALIKE: tuple[tuple[Callable[[Record], Any], tuple[str, ...]], ...] = (
    (lambda record: record.cell, _NAMES),
    (lambda record: record.provenance, ("ltbench", "plugins", "numerics")),
    (lambda record: record.provenance.get("key_parts"), (*_NAMES, "features", "selection", "split", "views")),
    (lambda record: record.result, ("train", "fidelity", "flops")),
)


def _well_typed(record: Record) -> bool:
    """Whether a record's parts are of their types."""
    kinds = [(record.key, str), (record.cell, dict), (record.measured, dict), (record.provenance, dict)]
    optional = [(record.result, dict), (record.failure, dict), (record.scores, str)]
    typed = all(isinstance(value, kind) for value, kind in kinds)
    typed = typed and all(value is None or isinstance(value, kind) for value, kind in optional)
    return typed and record.status in get_args(Status) and (record.status != "done" or record.result is not None)
