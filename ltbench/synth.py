"""Synthetic rows of a recorded cell, drawn again: its record says all that they depend on, so they need not be kept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ltbench.config import experiment_of
from ltbench.errors import UsageError
from ltbench.execute.group import Context
from ltbench.execute.numerics import numerics_class, pinned
from ltbench.execute.setting import drawn_rows
from ltbench.files import data_folder, write_atomically
from ltbench.keys import canonical_json
from ltbench.plan import plan
from ltbench.plugins import Registry
from ltbench.records import Record, RunFolder
from ltbench.runs import by_prefix, planned_cell
from ltbench.types import Rows


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
    now = context.blank(cell)
    if now.key != record.key:
        raise UsageError(
            f"cell {record.key} would be {now.key} today, with other rows: 'ltbench why {record.key[:8]} --run {run}' says why"
        )
    split = context.split(cell)
    with pinned("cpu"):
        rows = drawn_rows(context.material(cell), context.recipe(cell))
    return Drawn(record, rows, split.row_ids)


def write_parquet(drawn: Drawn, path: Path) -> None:
    """Write rows to a Parquet file, one a line, and what made them to its metadata, as JSON under ``ltbench``.

    Columns: ``x [D]`` under the cell's transform, ``label`` (or ``targets [C]`` where they are soft), ``weight``,
    ``parents`` (ids of rows in the dataset's training part), ``parent_weights``, ``donor`` (the class borrowed from).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, columns = drawn.rows, {"x": _lists(drawn.rows.x.float())}
    columns["label" if rows.targets.ndim == 1 else "targets"] = _lists(rows.targets)
    columns["weight"] = pa.array([1.0] * len(rows.x)) if rows.weights is None else _lists(rows.weights.double())
    if rows.parents is not None:
        ids = drawn.row_ids[rows.parents.clamp_min(0)].where(rows.parents >= 0, -1)
        columns["parents"] = _lists(ids)
    if rows.parent_weights is not None:
        columns["parent_weights"] = _lists(rows.parent_weights.float())
    if rows.donors is not None:
        columns["donor"] = _lists(rows.donors)
    record = drawn.record
    made = {
        "key": record.key,
        "cell": dict(record.cell),
        "generator": record.provenance["key_parts"]["generator"],
        "plugins": record.provenance["plugins"],
        "seed": record.cell["seed"],
        "notes": dict(rows.notes),
        "recorded_numerics": record.provenance["numerics"],
        "numerics": numerics_class("cpu"),
    }
    table = pa.table(columns).replace_schema_metadata({"ltbench": canonical_json(json.loads(json.dumps(made, default=str)))})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    write_atomically(path, sink.getvalue().to_pybytes())


def _lists(values: Tensor) -> object:
    """Return a tensor ``[N]`` or ``[N, K]`` as a column."""
    import pyarrow as pa

    flat = pa.array(values.cpu().reshape(-1).numpy())
    return flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
