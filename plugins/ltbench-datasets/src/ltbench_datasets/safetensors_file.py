"""Features in a safetensors file: class names are a JSON list in its metadata, and split holds integer codes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from ltbench_datasets.tables import BESIDE, Array, Format, Table, from_metadata, matrix_shape, require_floats, require_names


def _table(path: Path) -> Table:
    """Read all but x."""
    with safe_open(path, framework="pt") as file:
        names = list(file.keys())
        require_names(path, names)
        x = file.get_slice("x")
        require_floats(path, str(x.get_dtype()).replace("F", "float"))
        beside = {name: _array(file.get_tensor(name)) for name in BESIDE if name in names and name != "class_names"}
        beside |= from_metadata(path, file.metadata() or {})
        return Table(matrix_shape(path, x.get_shape()), beside)


def _blocks(path: Path, rows: int) -> Iterator[Tensor]:
    """Yield blocks of x."""
    with safe_open(path, framework="pt") as file:
        x = file.get_slice("x")
        for start in range(0, x.get_shape()[0], rows):
            yield x[start : start + rows]


def _array(tensor: Tensor) -> Array:
    """Return a tensor as an array; NumPy knows no bfloat16."""
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


FORMAT = Format(_table, _blocks)
