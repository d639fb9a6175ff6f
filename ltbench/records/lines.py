"""Records as lines of text: written, and read with what is torn, foreign or of another schema refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

from ltbench.errors import LtbenchError, UsageError
from ltbench.keys import canonical_json
from ltbench.records.parts import FIELD, checked_part, join_parts, split_parts
from ltbench.records.record import SCHEMA, Record, Status

Parts = dict[str, dict[str, Any]]
"""The values of parts, by name."""

AGAIN = "move the file away, and the run recomputes its cells"


def records_text(records: Iterable[Record]) -> str:
    """Write records, ordered by key, each after the parts that it has in common with others."""
    return record_lines(sorted(records, key=lambda record: (record.key, record.to_json()))).decode()


def record_lines(records: Iterable[Record]) -> bytes:
    """Write records, one a line, after all their parts, by name: so that an equal part is written once."""
    texts: dict[str, str] = {}
    lines = []
    for record in records:
        rest, own = split_parts(vars(record))
        texts.update(own)
        lines.append(canonical_json({name: value for name, value in rest.items() if not _is_default(name, value)}) + "\n")
    parts = (f'{{"part":"{name}","schema":{SCHEMA},"values":{text}}}\n' for name, text in sorted(texts.items()))
    return "".join([*parts, *lines]).encode(errors="backslashreplace")


def _is_default(name: str, value: Any) -> bool:
    """Whether a field has its default, so that the line leaves it out."""
    return (value is None and name in ("result", "failure", "scores")) or (value == {} and name in ("measured", "provenance"))


def read_records(path: Path, shared: Parts) -> list[Record]:
    """Read one file of records; its parts are added to those ``shared`` by several files."""
    known: Parts = {}
    records = []
    try:
        with path.open(encoding="utf-8", newline="\n") as file:  # a line at a time: the text is as large as its records
            for number, line in enumerate(file, 1):
                table = _table(line, f"{path}:{number}") if line.strip() else None
                if table is not None and "part" in table:
                    name, values = _part(table, f"{path}:{number}")
                    known[name] = shared.setdefault(name, values)
                elif table is not None:
                    records.append(_record(table, known, f"{path}:{number}"))
    except OSError as error:
        raise LtbenchError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is no text, so it holds no records: move the file away") from None
    return records


def _table(line: str, place: str) -> dict[str, Any]:
    """Parse one line, or raise UsageError: torn, foreign, or of another schema."""
    try:
        table = _DECODER.decode(line)
    except (ValueError, RecursionError):
        raise UsageError(f"{place} is torn or no record: {AGAIN}") from None
    if not isinstance(table, dict) or type(table.get("schema")) is not int:
        raise UsageError(f"{place} is no ltbench record: move the file away")
    if table["schema"] > SCHEMA:
        raise UsageError(f"{place} has schema {table['schema']}, this ltbench knows up to {SCHEMA}: install a newer ltbench")
    if table["schema"] < SCHEMA:
        raise UsageError(
            f"{place} has schema {table['schema']}, which lacks results that schema {SCHEMA} has: run the experiment again "
            "into a new folder, or read this one with the ltbench that made it"
        )
    return table


def _part(table: dict[str, Any], place: str) -> tuple[str, dict[str, Any]]:
    """Return a part's name and values, or raise UsageError if they do not belong together."""
    try:
        return str(table["part"]), checked_part(table["part"], table.get("values"))
    except ValueError:
        raise UsageError(f"{place} must be a part whose name is the hash of its values, and is damaged: {AGAIN}") from None


def _record(table: dict[str, Any], known: Parts, place: str) -> Record:
    """Return the record of a line with its parts, or raise UsageError."""
    if not table.keys() <= {FIELD, *Record.__dataclass_fields__} or not {"key", "status"} <= set(table):
        raise UsageError(f"{place} is no ltbench record of schema {SCHEMA}: move the file away")
    names = table.get(FIELD, [])
    if not isinstance(names, list) or (missing := [name for name in names if not isinstance(name, str) or name not in known]):
        told = ", ".join(map(str, missing)) if isinstance(names, list) else names
        raise UsageError(f"{place} must name parts that the file has before it, and {told} is none: {AGAIN}")
    try:
        record = Record(**join_parts(table, known))
    except TypeError:
        record = None
    if record is None or not _well_typed(record):
        raise UsageError(f"{place} is no whole ltbench record: {AGAIN}")
    return record


def _interned(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a table whose names are the same objects as those of every other: else they would be a third of a record."""
    return {sys.intern(name): value for name, value in pairs}


def _refuse(constant: str) -> None:
    """Refuse NaN and infinities, which are no JSON."""
    raise ValueError(constant)


_DECODER = json.JSONDecoder(object_pairs_hook=_interned, parse_constant=_refuse)


def _well_typed(record: Record) -> bool:
    """Whether a record's parts are of their types."""
    kinds = [(record.key, str), (record.cell, dict), (record.measured, dict), (record.provenance, dict)]
    optional = [(record.result, dict), (record.failure, dict), (record.scores, str)]
    typed = all(isinstance(value, kind) for value, kind in kinds)
    typed = typed and all(value is None or isinstance(value, kind) for value, kind in optional)
    return typed and record.status in get_args(Status) and (record.status != "done" or record.result is not None)
