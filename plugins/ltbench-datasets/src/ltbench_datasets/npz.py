"""Features in an archive of arrays, as ``np.savez`` writes it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from torch import Tensor

import ltbench
from ltbench_datasets.tables import BESIDE, Array, Format, Table, matrix_shape, require_floats, require_names, tensor_of


def _table(path: Path) -> Table:
    """Read all but x."""
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        require_names(path, names)
        shape, dtype, _ = _npy_header(archive, "x")
        require_floats(path, str(dtype))
        beside = {name: _npy(archive, name) for name in BESIDE if name in names}
    return Table(matrix_shape(path, shape), beside)


def _blocks(path: Path, rows: int) -> Iterator[Tensor]:
    """Yield blocks of x, unpacked as they are needed; columns that lie one after the other have to be read at once."""
    with zipfile.ZipFile(path) as archive:
        (count, width), dtype, fortran_order = _npy_header(archive, "x")
        if fortran_order:
            whole = _npy(archive, "x")
            for start in range(0, count, rows):
                yield tensor_of(whole[start : start + rows])
            return
        with archive.open("x.npy") as file:
            _skip_header(file)
            for start in range(0, count, rows):
                size = min(rows, count - start)
                content = file.read(size * width * dtype.itemsize)
                yield tensor_of(np.frombuffer(content, dtype).reshape(size, width))


def _npy(archive: zipfile.ZipFile, name: str) -> Array:
    """Read one array of an archive."""
    _npy_header(archive, name)
    with archive.open(f"{name}.npy") as file:
        array: Array = np.lib.format.read_array(file, allow_pickle=False)
        return array


def _npy_header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    """Return shape, type and whether columns lie one after the other; raise UsageError for pickled objects."""
    with archive.open(f"{name}.npy") as file:
        shape, fortran_order, dtype = _skip_header(file)
        left = archive.getinfo(f"{name}.npy").file_size - file.tell()
    if dtype.hasobject:
        raise ltbench.UsageError(
            f"{archive.filename}: {name} holds Python objects, which are pickles and not read: save it as numbers or as "
            "text of a fixed width (np.asarray(values, dtype=str))"
        )
    wanted = dtype.itemsize * int(np.prod(shape, dtype=object))
    if wanted != left:
        raise ltbench.UsageError(f"{archive.filename} is damaged: {name} should take {wanted} bytes and has {left}")
    return shape, dtype, fortran_order


def _skip_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read what stands before an array's numbers: shape, order and type."""
    version = np.lib.format.read_magic(file)
    reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    header: tuple[tuple[int, ...], bool, np.dtype[Any]] = reader(file)
    return header


FORMAT = Format(_table, _blocks)
