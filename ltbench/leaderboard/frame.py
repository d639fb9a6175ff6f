"""Records as a table: one row per cell, head / medium / tail under a group rule."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ltbench.errors import UsageError
from ltbench.longtail import GROUPS, groups_of
from ltbench.metrics import (
    ReliabilityBins,
    expected_calibration_error,
    group_average,
    per_class_recall,
)
from ltbench.records import Record, counts_of
from ltbench.specs import format_value

NAMES = (
    "dataset",
    "backbone",
    "transform",
    "profile",
    "imbalance_ratio",
    "rows",
    "class_order",
    "n_max",
    "generator",
    "regime",
    "classifier",
    "prior_source",
    "seed",
)
METRICS = ("top1", "balanced", "macro_f1", "auroc", "average_precision", "ece", "nll", "brier")


def frame(records: Iterable[Record], rule: str) -> pd.DataFrame:
    """Return one row per record: its names, status and metrics; groups are empty at ratio 1 and for failures.

    ``head_classes`` and so on count the classes of a group; an empty group's accuracy is missing, never 0. ``head_nll``,
    ``head_brier`` and ``head_ece`` are there under the rule that records were made with, and missing under another.
    """
    return pd.DataFrame(
        [{**record.cell, "status": record.status, "key": record.key, **_numbers(record, rule)} for record in records]
    )


@contextlib.contextmanager
def whole_records(runs: Iterable[Path]) -> Iterator[None]:
    """Turn what damaged numbers inside records raise into UsageError."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        places = ", ".join(map(str, runs))
        raise UsageError(
            f"a record in {places} is damaged ({type(error).__name__}: {error}): move its file away, and run again"
        ) from error


def whole(record: Record) -> Record:
    """Return the record, or raise UsageError if names or numbers that a table needs are missing."""
    result = record.result
    parts = () if result is None else ("metrics", "per_class", "groups", "correct", "train", "flops", "parameters", "selected")
    lacking = record.status == "done" and result is None
    if lacking or not set(NAMES) <= set(record.cell) or not all(part in result for part in parts if result is not None):
        raise UsageError(f"record {record.key} is not whole: run its experiment again into the same folder, without its file")
    return record


def groups_of_record(record: Record, rule: str) -> list[str] | None:
    """Return each class's group in a long-tail cell; None on balanced data, where groups mean nothing."""
    if record.result is None or record.cell["imbalance_ratio"] <= 1:
        return None
    return groups_of(rule, record.result["train"]["class_counts"], record.cell)


def group_accuracies(record: Record, groups: list[str] | None) -> dict[str, float | None]:
    """Return the mean recall over each group's classes."""
    return group_means([] if groups is None else per_class_recall(counts_of(record)), groups)


def group_means(values: Sequence[float | None], groups: list[str] | None) -> dict[str, float | None]:
    """Return the mean over each group's classes of what is defined; without groups nothing is."""
    return {group: None if groups is None else group_average(values, groups, group) for group in GROUPS}


def group_calibration(record: Record, rule: str) -> dict[str, float | None]:
    """Return ECE, NLL and Brier score of each group, ``head_nll`` and so on, if the record has them under this rule."""
    told = (record.result or {}).get("groups")
    if told is None or told["rule"] != rule:
        return {}
    found: dict[str, float | None] = {}
    for group in (name for name in GROUPS if told[name] is not None):
        bins = told[group]["reliability"]
        known = bins is not None and sum(bins["count"])
        error = expected_calibration_error(ReliabilityBins(**bins)) if known else None
        found |= {f"{group}_ece": error, **{f"{group}_{name}": told[group][name] for name in ("nll", "brier")}}
    return found


def training_flops(result: Mapping[str, Any]) -> float | None:
    """Return the cost of generation, selection and training together; None if any part is unknown."""
    parts = [result["flops"][name] for name in ("generation", "selection", "training")]
    return None if None in parts else float(sum(parts))


def _numbers(record: Record, rule: str) -> dict[str, Any]:
    """Return a record's numbers, or nothing."""
    if record.result is None:
        return {}
    result, groups = record.result, groups_of_record(record, rule)
    counts = {f"{group}_classes": groups.count(group) for group in GROUPS} if groups else {}
    selected = result["selected"]
    return {
        **{name: result["metrics"][name] for name in METRICS},
        **group_accuracies(record, groups),
        **counts,
        **group_calibration(record, rule),
        "training_flops": training_flops(result),
        "parameters": result["parameters"],
        "real_rows": result["train"]["real_rows"],
        "synthetic_rows": result["train"]["synthetic_rows"],
        "selected": None if selected is None else ", ".join(f"{k}={format_value(v)}" for k, v in selected["chosen"].items()),
    }
