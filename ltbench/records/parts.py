"""Parts of records that many have alike, such as their provenance and their setting's fidelity: once in a file.

In memory a record is whole. In a file a part is a line of its own, ``{"part": name, "schema": 2, "values": {...}}``, and a
record names its parts in a field that no record in memory has, so that nothing in a record can be taken for one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from ltbench.keys import canonical_json

FIELD = "parts"
"""Where a record's line names its parts."""


def _below(table: str, *names: str) -> tuple[str, ...]:
    """Return the places of some values of a table."""
    return tuple(f"{table}.{name}" for name in names)


PARTS: tuple[tuple[str, ...], ...] = (
    # the setting, and what computed it
    (
        *_below("cell", "dataset", "backbone", "transform", "profile", "imbalance_ratio", "rows", "class_order", "n_max"),
        *_below("provenance", "ltbench", "plugins", "numerics"),
        *_below("provenance.key_parts", "features", "split", "transform", "selection", "engine", "metrics", "views"),
        "result.per_class.rows",
    ),
    # the generator
    (
        *_below("cell", "generator", "regime", "prior_source"),
        *_below("provenance.key_parts", "generator", "regime", "prior_source"),
    ),
    # the seed, its rows, and those held out
    (
        "cell.seed",
        *_below("provenance.key_parts", "seed", "rows"),
        *_below("result.fidelity", "held_out_from", "rows", "held_out"),
    ),
    # what heads were trained on
    ("result.train",),
    ("result.generator_notes", "result.fidelity.synthetic"),
    # the head
    (
        "cell.classifier",
        "provenance.key_parts.classifier",
        *_below("result", "parameters", "converged"),
        *_below("result.selected", "candidates", "rows"),
    ),
    # what came out: the same for heads that come down to one another
    (
        *_below("result", "correct", "metrics", "reliability", "groups", "flops", "temperature"),
        "result.per_class.predicted",
        *_below("result.selected", "chosen", "balanced_accuracy", "nll"),
    ),
)
"""The values of each part, by the names that lead to them."""

_TABLES = sorted(
    {place.rpartition(".")[0] for places in PARTS for place in places}, key=lambda table: (table.count("."), table)
)
_PLACES = frozenset(place for places in PARTS for place in places)


def split_parts(record: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a record's table without its parts, whose names it has instead, and each part's text by name."""
    rest = _copied(record)
    texts: dict[str, str] = {}
    for places in PARTS:
        values = dict(_taken(rest, places))
        if values:
            text = canonical_json(values)
            texts[part_name(text)] = text
    return {**rest, FIELD: list(texts)}, texts


def join_parts(rest: dict[str, Any], parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Put the values of parts, by name, into the table of a record that names them; they are shared, not copied.

    Raises KeyError for a part that is not there, TypeError where a value's table is none, or has the value already.
    """
    for name in rest.pop(FIELD, ()):
        for place, value in parts[name].items():
            *tables, last = place.split(".")
            table: Any = rest
            for each in tables:
                table = table.setdefault(each, {}) if isinstance(table, dict) else None
            if not isinstance(table, dict):
                raise TypeError(f"{place} has no table")
            if last in table:
                raise TypeError(f"{place} is there twice")
            table[last] = value
    return rest


def part_name(text: str) -> str:
    """Return a part's name, by its text."""
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:16]


def checked_part(name: Any, values: Any) -> dict[str, Any]:
    """Return a part's values; raise ValueError if they have places that no part has, or another name."""
    if not isinstance(values, dict) or not values.keys() <= _PLACES or name != part_name(canonical_json(values)):
        raise ValueError("no part")
    return values


def _copied(record: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a record as far as the tables that values are taken from."""
    rest = dict(record)
    for name in _TABLES:
        (*_, table), last = _tables_of(rest, name)
        if isinstance(table, dict) and isinstance(table.get(last), Mapping):
            table[last] = dict(table[last])
    return rest


def _taken(rest: dict[str, Any], places: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Take values out of a table, where they are, and yield them with their places; tables that this empties go, too."""
    for place in places:
        tables, last = _tables_of(rest, place)
        if isinstance(tables[-1], dict) and last in tables[-1]:
            yield place, tables[-1].pop(last)
            for table, name in zip(tables[-2::-1], place.split(".")[-2::-1], strict=True):
                if not table[name]:
                    del table[name]


def _tables_of(rest: dict[str, Any], place: str) -> tuple[list[Any], str]:
    """Return the tables that lead to a place, from the outermost, None from where there is none, and its name there."""
    *names, last = place.split(".")
    tables: list[Any] = [rest]
    for name in names:
        tables.append(tables[-1].get(name) if isinstance(tables[-1], dict) else None)
    return tables, last
