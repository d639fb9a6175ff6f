"""One table per dataset, backbone, transform, profile and ratio: a row per method, over its seeds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ltbench.calibration import Calibration
from ltbench.config import references_of
from ltbench.keys import canonical_json
from ltbench.leaderboard.frame import METRICS, group_accuracies, groups_of_record, training_flops
from ltbench.leaderboard.statistics import Estimate, estimate, gap_closed
from ltbench.longtail import GROUPS
from ltbench.records import Record

SETTING = ("dataset", "backbone", "transform", "profile", "imbalance_ratio", "rows", "class_order", "n_max")
METHOD = ("generator", "regime", "prior_source", "classifier")
BALANCED = "balanced data"


@dataclass(frozen=True)
class Row:
    """A method in one setting: estimates by name, None where undefined; ``keys`` are of its cells with a result."""

    method: Mapping[str, str]
    values: Mapping[str, Estimate | None]
    seeds: int
    failed: int
    skipped: int
    deterministic: bool
    reference: bool = False
    keys: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Table:
    """A setting, how many classes each group has, its methods, best headline first, and what times them, if anything."""

    setting: Mapping[str, Any]
    classes: Mapping[str, int]
    rows: tuple[Row, ...]
    calibration: Calibration | None = None


@dataclass(frozen=True)
class Scored:
    """One done cell's numbers by name, in [0, 1] where they are accuracies."""

    seed: int
    values: Mapping[str, float | None]
    fingerprint: str


def tables(records: Sequence[Record], rule: str, headline: str) -> list[Table]:
    """Return the tables of all long-tail settings, or of balanced ones if there are no others, in order of name."""
    tailed = [record for record in records if record.cell["imbalance_ratio"] > 1]
    by_cell = {canonical_json(record.cell): record for record in records}
    groups = itertools.groupby(sorted(tailed or records, key=_place), key=_setting)
    return [_table(list(members), by_cell, rule, headline) for _, members in groups]


def heading(setting: Mapping[str, Any]) -> str:
    """Name a table by the names that make its setting."""
    tail = f"imbalance ratio {setting['imbalance_ratio']:g} ({setting['profile']})"
    told = [setting[name] for name in ("dataset", "backbone", "transform")]
    told.append(tail if setting["imbalance_ratio"] > 1 else "balanced")
    return f"{' · '.join(told)}, {setting['n_max']} rows in the largest class"


def _table(records: list[Record], by_cell: Mapping[str, Record], rule: str, headline: str) -> Table:
    """Summarise one setting: every method, and the balanced reference of each head."""
    rows = []
    for _, group in itertools.groupby(sorted(records, key=_place), key=_method):
        members = list(group)
        rows.append(_row(members, [_score(r, groups_of_record(r, rule)) for r in members if r.status == "done"], by_cell))
    references = list(_reference_rows(records, by_cell, rule)) if records[0].cell["imbalance_ratio"] > 1 else []
    known = next((groups_of_record(r, rule) for r in records if groups_of_record(r, rule)), None) or []
    ordered = sorted([*rows, *references], key=lambda row: (-_value(row, headline), *row.method.values(), row.reference))
    setting = {name: records[0].cell[name] for name in SETTING}
    return Table(setting, {group: known.count(group) for group in GROUPS}, tuple(ordered))


def _row(records: list[Record], scored: list[Scored], by_cell: Mapping[str, Record]) -> Row:
    """Summarise one method over its seeds."""
    gaps = _gaps([record for record in records if record.status == "done"], by_cell)
    return _summary({name: str(records[0].cell[name]) for name in METHOD}, records, scored, gaps)


def _reference_rows(records: list[Record], by_cell: Mapping[str, Record], rule: str) -> Iterator[Row]:
    """Yield each head on balanced data, its recall averaged over the long-tail cells' groups of the same seed."""
    heads = sorted({record.cell["classifier"] for record in records})
    for head in heads:
        pairs: dict[int, tuple[Record, Record]] = {}
        for record in records:
            balanced = by_cell.get(canonical_json(references_of(record.cell)[0]))
            if record.cell["classifier"] == head and balanced is not None and record.result is not None:
                pairs.setdefault(record.cell["seed"], (balanced, record))
        found = [balanced for balanced, _ in pairs.values()]
        scored = [
            _score(balanced, groups_of_record(tailed, rule)) for balanced, tailed in pairs.values() if balanced.status == "done"
        ]
        if found:
            method = {"generator": BALANCED, "regime": "real", "prior_source": "effective", "classifier": str(head)}
            yield _summary(method, found, scored, {"gap_to_balanced": None, "gap_closed": None}, reference=True)


def _summary(
    method: Mapping[str, str],
    records: list[Record],
    scored: list[Scored],
    gaps: Mapping[str, Estimate | None],
    *,
    reference: bool = False,
) -> Row:
    """Turn per-seed numbers into estimates."""
    names = [*METRICS, *GROUPS, "training_flops", "parameters", "synthetic_rows"]
    per_name = {name: [s.values[name] for s in scored] for name in names}
    values = {name: estimate([v for v in per_seed if v is not None]) for name, per_seed in per_name.items()}
    return Row(
        method=method,
        values={**values, **gaps},
        seeds=len(scored),
        failed=sum(record.failed for record in records),
        skipped=sum(record.status == "skipped" for record in records),
        deterministic=len(scored) > 1 and len({s.fingerprint for s in scored}) == 1,
        reference=reference,
        keys=frozenset(record.key for record in records if record.status == "done"),
    )


def _gaps(done: list[Record], by_cell: Mapping[str, Record]) -> dict[str, Estimate | None]:
    """Return how far a method stays below balanced data, and how much of plain softmax's distance it closes.

    Both in balanced accuracy, paired by seed with the same head on balanced data.
    """
    triples = []
    for record in done:
        balanced, plain = (by_cell.get(canonical_json(names)) for names in references_of(record.cell))
        if balanced is not None and plain is not None and balanced.result is not None and plain.result is not None:
            triples.append([r.result["metrics"]["balanced"] for r in (record, plain, balanced) if r.result is not None])
    if not triples:
        return {"gap_to_balanced": None, "gap_closed": None}
    method, plain_values, balanced_values = map(list, zip(*triples, strict=True))
    gap = estimate([b - m for m, b in zip(method, balanced_values, strict=True)])
    return {"gap_to_balanced": gap, "gap_closed": gap_closed(method, plain_values, balanced_values)}


def _score(record: Record, groups: list[str] | None) -> Scored:
    """Return a done cell's numbers, group accuracies under the given groups."""
    result = record.result or {}
    values = {
        **{name: result["metrics"][name] for name in METRICS},
        **group_accuracies(record, groups),
        "training_flops": training_flops(result),
        "parameters": result["parameters"],
        "synthetic_rows": result["train"]["synthetic_rows"],
    }
    fingerprint = canonical_json([result[name] for name in ("metrics", "per_class", "correct")])
    return Scored(record.cell["seed"], values, fingerprint)


def _value(row: Row, name: str) -> float:
    """Return an estimate's mean for ordering; what is undefined comes last."""
    found = row.values.get(name)
    return found.mean if found is not None else float("-inf")


def _setting(record: Record) -> tuple[Any, ...]:
    """Return what makes a table."""
    return tuple(record.cell[name] for name in SETTING)


def _method(record: Record) -> tuple[Any, ...]:
    """Return what makes a row."""
    return tuple(record.cell[name] for name in METHOD)


def _place(record: Record) -> tuple[Any, ...]:
    """Order records by table, row and seed."""
    return (*_setting(record), *_method(record), record.cell["seed"], record.key)
