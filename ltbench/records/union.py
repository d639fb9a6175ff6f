"""Records of several writers together: one for each key, whatever the order, and contradictions shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ltbench.keys import canonical_json
from ltbench.records.record import Record


@dataclass(frozen=True)
class Loaded:
    """The records of some folders: the best one for each key, and different results under one key."""

    records: dict[str, Record]
    conflicts: tuple[tuple[Record, Record], ...] = ()


def combine(records: Iterable[Record]) -> Loaded:
    """Keep one record for each key: success before failure, then the smaller text, so that order does not matter.

    A failure before the key was known gives way to any other record of the same cell by its names. Two different
    results under one key and one numerics class are a conflict: both are returned.
    """
    by_key: dict[str, list[Record]] = {}
    for record in records:
        by_key.setdefault(record.key, []).append(record)
    best = {key: min(same, key=_rank) if len(same) > 1 else same[0] for key, same in by_key.items()}
    if any(record.keyless for record in best.values()):
        named = {canonical_json(record.cell) for record in best.values() if not record.keyless}
        best = {key: r for key, r in best.items() if not (r.keyless and canonical_json(r.cell) in named)}
    pairs = (_conflict(by_key[key]) for key in sorted(by_key) if len(by_key[key]) > 1)
    return Loaded(best, tuple(pair for pair in pairs if pair is not None))


def _conflict(same_key: list[Record]) -> tuple[Record, Record] | None:
    """Return two successes of one numerics class with different results, the first in order; None if all agree."""
    first: dict[str, Record] = {}
    for record in sorted(same_key, key=_rank):
        if record.status == "done":
            other = first.setdefault(record.numerics, record)
            if canonical_json(other.result) != canonical_json(record.result):
                return other, record
    return None


def newest(records: Iterable[Record]) -> list[Record]:
    """Keep one record for each cell by its names: the last to end, ordered by key.

    A cell has a second key once its code, a parameter's default or a required library has changed.
    """
    latest: dict[str, Record] = {}
    for record in sorted(records, key=lambda record: (str(record.measured.get("finished", "")), record.key)):
        latest[canonical_json(record.cell)] = record
    return sorted(latest.values(), key=lambda record: record.key)


def _rank(record: Record) -> tuple[int, str]:
    """Order records of one key: done, skipped, failed."""
    order = {"done": 0, "skipped": 1}.get(record.status, 2)
    return order, canonical_json(record.result or record.failure or {}) + record.to_json()
