"""Features in a parquet file: x is a column of lists, or columns x0 to xD-1; class names and text are JSON in its metadata."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from pyarrow.parquet import ParquetFile
from torch import Tensor

import ltbench
from ltbench_datasets.tables import Array, Format, Table, from_metadata, matrix_shape, require_floats, require_names, tensor_of


def _table(path: Path) -> Table:
    """Read all but x."""
    with ParquetFile(path) as file:
        schema = file.schema_arrow
        columns = _x_columns(path, schema.names)
        require_names(path, [*schema.names, *(["x"] if columns else [])])
        for name in columns:
            kind = schema.field(name).type
            require_floats(path, str(getattr(kind, "value_type", kind)).replace("halffloat", "float16"))
        width = len(columns) if columns != ["x"] else next((x.shape[1] for x in _blocks(path, 1)), 0)
        beside = {name: _column(path, file, name) for name in ("y", "split") if name in schema.names}
        metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
        return Table(matrix_shape(path, (file.metadata.num_rows, width)), {**beside, **from_metadata(path, metadata)})


def _blocks(path: Path, rows: int) -> Iterator[Tensor]:
    """Yield blocks of x."""
    with ParquetFile(path) as file:
        columns, start = _x_columns(path, file.schema_arrow.names), 0
        for batch in file.iter_batches(batch_size=rows, columns=columns):
            arrays = [batch.column(name) for name in columns]
            empty = [row for array in arrays for row in array.is_null().to_numpy(zero_copy_only=False).nonzero()[0]]
            if empty:
                raise ltbench.UsageError(f"{path}: x is missing in row {start + int(min(empty))}")
            yield _stacked(path, arrays[0], start) if columns == ["x"] else _side_by_side(arrays)
            start += len(batch)


def _stacked(path: Path, lists: Any, start: int) -> Tensor:
    """Turn a column of lists into rows ``[n, D]``; raise UsageError where one has another length."""
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    odd = (lengths != lengths[0]).nonzero()[0]
    if len(odd):
        found = f"row {start} has {lengths[0]}, row {start + odd[0]} has {lengths[odd[0]]}"
        raise ltbench.UsageError(f"{path}: rows of x must have equally many numbers; {found}")
    values = lists.flatten().to_numpy(zero_copy_only=False)
    return tensor_of(values.reshape(len(lists), int(lengths[0])))


def _side_by_side(arrays: Sequence[Any]) -> Tensor:
    """Turn columns of numbers into rows ``[n, D]``."""
    return tensor_of(np.stack([array.to_numpy(zero_copy_only=False) for array in arrays], axis=1))


def _column(path: Path, file: Any, name: str) -> Array:
    """Read a column of numbers or text."""
    column = file.read(columns=[name]).column(name)
    if column.null_count:
        raise ltbench.UsageError(f"{path}: {name} is missing in {column.null_count} of {len(column)} rows")
    return np.asarray(column.to_pylist())


def _x_columns(path: Path, names: Sequence[str]) -> list[str]:
    """Return ``x``, or the columns x0 to xD-1; raise UsageError where one between them is missing."""
    if "x" in names:
        return ["x"]
    found = {int(name[1:]) for name in names if re.fullmatch(r"x(0|[1-9]\d{0,8})", name)}
    gap = next((i for i in range(len(found)) if i not in found), None)
    if gap is not None:
        raise ltbench.UsageError(f"{path}: the columns of x must be x0 to x{max(found)}, x{gap} is missing")
    return [f"x{i}" for i in range(len(found))]


FORMAT = Format(_table, _blocks)
