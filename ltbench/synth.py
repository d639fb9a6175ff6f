"""Synthetic rows of a recorded cell, drawn again: its record says all that they depend on, so they need not be kept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ltbench.config import experiment_of
from ltbench.errors import SkipCell, UsageError
from ltbench.execute.failures import ComponentFailure
from ltbench.execute.group import Context
from ltbench.execute.numerics import numerics_class, pinned
from ltbench.execute.rows import drawn_rows
from ltbench.files import data_folder, write_atomically
from ltbench.keys import canonical_json
from ltbench.plan import plan
from ltbench.plugins import Registry
from ltbench.records import Record, RunFolder
from ltbench.runs import by_prefix, planned_cell
from ltbench.types import Rows

AT_ONCE = 2**14
"""Rows that are written at a time, and lie together in the file."""


@dataclass(frozen=True)
class Drawn:
    """A record and its synthetic rows; ``row_ids [M]`` are the training rows that ``rows.parents`` count."""

    record: Record
    rows: Rows
    row_ids: Tensor


def draw(run: Path, key: str, registry: Registry) -> Drawn:
    """Draw the synthetic rows of the cell whose key begins so; raise UsageError if it has none, or would be another now."""
    record = by_prefix(RunFolder(run).load().records, key, run)
    made = plan(experiment_of(run), registry, data_folder())
    cell, context = planned_cell(made, record, run), Context(made, "cpu")
    if cell.regime == "real":
        raise UsageError(f"cell {record.key} has no synthetic rows: its generator is {cell.generator}")
    if record.status != "done":
        raise UsageError(f"cell {record.key} has no synthetic rows: it is {record.status} ({record.cause})")
    now = context.blank(cell)
    if now.key != record.key:
        raise UsageError(
            f"cell {record.key} would be {now.key} today, with other rows: 'ltbench why {record.key[:8]} --run {run}' says why"
        )
    split = context.split(cell)
    try:
        with pinned("cpu"):
            rows = drawn_rows(context.material(cell), context.recipe(cell))
    except (SkipCell, ComponentFailure) as error:
        raise UsageError(f"the rows of cell {record.key} cannot be drawn here: {error.__cause__ or error}") from error
    return Drawn(record, rows, split.row_ids)


def write_parquet(drawn: Drawn, path: Path) -> None:
    """Write rows to a Parquet file, one a line, and what made them to its metadata, as JSON under ``ltbench``.

    Columns: ``x [D]`` under the cell's transform, ``label`` (or ``targets [C]`` where they are soft), ``weight``,
    ``parents`` (ids of rows in the dataset's training part), ``parent_weights``, ``donor`` (the class borrowed from).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    record = drawn.record
    made = {
        "key": record.key,
        "cell": dict(record.cell),
        "generator": record.provenance["key_parts"]["generator"],
        "plugins": record.provenance["plugins"],
        "seed": record.cell["seed"],
        "notes": dict(drawn.rows.notes),
        "recorded_numerics": record.provenance["numerics"],
        "numerics": numerics_class("cpu"),
    }
    metadata = {"ltbench": canonical_json(json.loads(json.dumps(made, default=str)))}
    schema = pa.table(_columns(drawn, slice(0, 0))).schema.with_metadata(metadata)

    def write(file: BinaryIO) -> None:
        with pq.ParquetWriter(file, schema) as writer:
            for first in range(0, len(drawn.rows.x), AT_ONCE):
                writer.write_table(pa.table(_columns(drawn, slice(first, first + AT_ONCE)), schema))

    write_atomically(path, write)


def _columns(drawn: Drawn, which: slice) -> dict[str, Any]:
    """Return some rows as columns."""
    rows = drawn.rows
    parents = None if rows.parents is None else rows.parents[which]
    columns: dict[str, Tensor | None] = {
        "x": rows.x[which].float(),
        "label" if rows.targets.ndim == 1 else "targets": rows.targets[which],
        "weight": torch.ones(len(rows.x[which]), dtype=torch.float64) if rows.weights is None else rows.weights[which].double(),
        "parents": None if parents is None else drawn.row_ids[parents.clamp_min(0)].where(parents >= 0, -1),
        "parent_weights": None if rows.parent_weights is None else rows.parent_weights[which].float(),
        "donor": None if rows.donors is None else rows.donors[which],
    }
    return {name: _lists(values) for name, values in columns.items() if values is not None}


def _lists(values: Tensor) -> object:
    """Return a tensor ``[N]`` or ``[N, K]`` as a column."""
    import pyarrow as pa

    flat = pa.array(values.cpu().reshape(-1).numpy())
    return flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
