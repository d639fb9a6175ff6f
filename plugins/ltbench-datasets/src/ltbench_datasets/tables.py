"""Files of ready-made features: what a .npz, .safetensors or .parquet file holds, and its rows in blocks.

Reads; whether labels and parts make sense is for others to say. Nothing in a file is ever run: no pickles.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import ltbench

Array = np.ndarray[Any, np.dtype[Any]]

BLOCK_BYTES = 2**23
"""How much of x is read at a time: what a file takes in memory beside its rows."""

BESIDE = ("y", "split", "class_names", "class_text")

_FLOATS = ("float16", "float32", "float64", "Bfloat16", "float", "double", ">f2", ">f4", ">f8")
"""Types of x as NumPy, safetensors and Arrow call them."""


@dataclass(frozen=True)
class Table:
    """What a file holds: the shape ``[N, D]`` of x, and the arrays beside it by name: ``y`` and more of BESIDE."""

    shape: tuple[int, int]
    beside: Mapping[str, Array]


@dataclass(frozen=True)
class Format:
    """How a kind of file is read: ``table(path)``, and ``blocks(path, rows)`` of x, so many rows at a time."""

    table: Callable[[Path], Table]
    blocks: Callable[[Path, int], Iterator[Tensor]]


def read_table(path: Path) -> Table:
    """Return what a file holds, without reading x; raise UsageError if it cannot be read or lacks x or y."""
    with _readable(path):
        return _format(path).table(path)


def read_blocks(path: Path, width: int) -> Iterator[Tensor]:
    """Yield the rows of x in order, float32 ``[n, width]``, a few MiB at a time."""
    rows = max(1, BLOCK_BYTES // (8 * width))
    with _readable(path):
        for block in _format(path).blocks(path, rows):
            if block.shape[1] != width:
                raise ltbench.UsageError(f"{path} has rows of {width} and of {block.shape[1]} numbers")
            yield block.float()


def _format(path: Path) -> Format:
    """Return how a file is read, by the end of its name."""
    from ltbench_datasets import npz, parquet, safetensors_file

    formats = {".npz": npz.FORMAT, ".safetensors": safetensors_file.FORMAT, ".parquet": parquet.FORMAT}
    if path.suffix not in formats:
        raise ltbench.UsageError(f"{path} must be a file that ends in one of {', '.join(formats)}")
    return formats[path.suffix]


def tensor_of(array: Array) -> Tensor:
    """Return an array as a tensor with the machine's byte order, in memory that may be written to."""
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def require_names(path: Path, names: Sequence[str]) -> None:
    """Raise UsageError unless there are x and y."""
    missing = [name for name in ("x", "y") if name not in names]
    if missing:
        raise ltbench.UsageError(
            f"{path} must hold x [N, D] and y [N], {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing; "
            f"it holds {', '.join(sorted(names)[:8]) or 'nothing'}"
        )


def require_floats(path: Path, dtype: str) -> None:
    """Raise UsageError unless x holds floating numbers."""
    if dtype not in _FLOATS:
        raise ltbench.UsageError(f"{path}: x must be float16, float32 or float64, not {dtype}: save x.astype('float32')")


def matrix_shape(path: Path, shape: Sequence[int]) -> tuple[int, int]:
    """Return a shape ``[N, D]`` with at least one row and column, or raise UsageError."""
    if len(shape) != 2 or 0 in shape:
        raise ltbench.UsageError(f"{path}: x must be [N, D] with at least one row and one column, not {list(shape)}")
    return int(shape[0]), int(shape[1])


def from_metadata(path: Path, metadata: Mapping[str, str]) -> dict[str, Array]:
    """Return class names and class text that a file's metadata holds as JSON."""
    found = {}
    for name in ("class_names", "class_text"):
        if name in metadata:
            try:
                found[name] = np.asarray(json.loads(metadata[name]))
            except ValueError as error:
                raise ltbench.UsageError(f"{path}: {name} in the metadata must be a JSON list: {error}") from None
    return found


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn whatever libraries raise on a broken file into UsageError."""
    try:
        yield
    except (ltbench.LtbenchError, MemoryError):
        raise
    except Exception as error:
        cause = " ".join(str(error).split()) or type(error).__name__
        raise ltbench.UsageError(f"{path} cannot be read as {path.suffix}: {cause[:300]}") from error
