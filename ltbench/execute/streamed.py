"""Synthetic rows that are too many for memory: drawn part by part into a file, and trained on from there.

The file has no name and is gone with the rows, or with the process. Nothing larger than a part is in memory twice.
"""

from __future__ import annotations

import dataclasses
import math
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ltbench.contract import Sampler
from ltbench.errors import LtbenchError, UsageError
from ltbench.execute.checked import checked_rows
from ltbench.files import cache_folder
from ltbench.hardware import GIB, memory_gib
from ltbench.types import Rows, Train

ROWS_VARIABLE = "LTBENCH_ROWS_GIB"
"""Says how many GiB synthetic rows may take, with the copy that is trained on, before they are streamed."""

SHARE = 0.5
"""The share of memory that they may take where nothing is said: features, test rows and folds are there, too."""

SOFT_LABEL_BYTES = 40
"""What a number of a soft label takes while all are made, put behind the real ones and brought to the head's precision."""


def streams(sampler: Sampler, budget: Sequence[int], x: Tensor) -> bool:
    """Whether synthetic rows like ``x [N, D]``, so many of each class, are streamed; raise MemoryError where they cannot be.

    Said beforehand, because a system that runs out ends the process, or others. A sampler that adds no rows is asked anyway.
    """
    if not adds_rows(sampler):
        return False
    rows, memory, told = sum(budget), _memory(x), _told()
    wanted = 2 * rows * x.shape[1] * x.element_size() / GIB
    limit = told if told is not None else math.inf if memory is None else SHARE * memory
    in_parts = wanted > limit and hasattr(sampler, "parts")
    if memory is not None and wanted > memory and not in_parts:
        raise MemoryError(
            f"the budget is {rows:,} synthetic rows of {x.shape[1]} features, {wanted:,.0f} GiB with the copy that is trained "
            f"on, and there are {memory} GiB: lower target or per_real, or give a cap"
        )
    _check_labels(sampler, budget, x, memory)
    return in_parts


def adds_rows(sampler: Sampler) -> bool:
    """Whether a sampler adds rows, as all do that do not say otherwise."""
    return bool(getattr(sampler, "adds_rows", True))


def _check_labels(sampler: Sampler, budget: Sequence[int], x: Tensor, memory: int | None) -> None:
    """Raise MemoryError where soft labels, which stay in memory, would not fit; one row tells whether there are any."""
    wanted = sum(budget) * len(budget) * SOFT_LABEL_BYTES / GIB
    if memory is None or wanted <= SHARE * memory:
        return
    first = next(c for c, rows in enumerate(budget) if rows)
    one = [int(c == first) for c in range(len(budget))]
    if sampler(torch.tensor(one, device=x.device)).targets.ndim == 2:
        raise MemoryError(
            f"the budget is {sum(budget):,} synthetic rows with a label for each of {len(budget):,} classes, {wanted:,.0f} GiB "
            f"while they are put together, and there are {memory} GiB: lower target or per_real, or give a cap"
        )


def stream(sampler: Any, wanted: Sequence[int], real: Train, first: Tensor) -> tuple[Rows, Tensor]:
    """Draw ``wanted [C]`` rows into a file, behind ``first [M, D]``; return them, and both together ``[M + S, D]``.

    Raises MemoryError where the disk has too little room, and ValueError for parts outside the contract.
    """
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file: BinaryIO = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed below
    except OSError as error:
        raise LtbenchError(f"cannot write rows to {folder}: {error.strerror or error}") from error
    with file:
        _check_disk(folder, sum(wanted) + len(first), first)
        _append(file, first)
        rows = _written(file, sampler.parts(torch.tensor(wanted, device=first.device)), real)
        file.flush()
        # shared, not private, or the system counts its size as memory; it outlives the file's name and this object
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_WRITE)
    x = torch.frombuffer(mapped, dtype=first.dtype).view(-1, first.shape[1])
    return dataclasses.replace(rows, x=x[len(first) :]), x


def _written(file: BinaryIO, parts: Iterable[Any], real: Train) -> Rows:
    """Write the rows of all parts, and return what else they say, together; ``x`` has no row yet."""
    columns: dict[str, list[Tensor]] = {"targets": []}
    notes: dict[str, Any] = {}
    costs: list[int | None] = []
    for each in parts:
        part = checked_rows(each, real)
        if part.keep is not None:
            raise ValueError("a sampler that has parts must keep all real rows: keep must be None")
        _append(file, part.x.to(real.x.dtype))
        for name in ("targets", "weights", "parents", "parent_weights", "donors"):
            if (column := getattr(part, name)) is not None:
                columns.setdefault(name, []).append(column)
        notes |= part.notes
        costs.append(part.flops)
    joined = {name: torch.cat(each) if each else real.targets[:0] for name, each in columns.items()}
    flops = None if None in costs else sum(cost for cost in costs if cost is not None)
    return Rows(real.x[:0], notes=notes, flops=flops, **joined)


def _append(file: BinaryIO, x: Tensor) -> None:
    """Write rows ``[N, D]`` as they lie in memory."""
    if len(x):
        file.write(x.cpu().contiguous().view(torch.uint8).numpy().data)


def _check_disk(folder: Path, rows: int, x: Tensor) -> None:
    """Raise MemoryError where so many rows like ``x [N, D]`` do not fit on the disk of a folder."""
    wanted, free = rows * x.shape[1] * x.element_size() / GIB, shutil.disk_usage(folder).free / GIB
    if wanted > free:
        raise MemoryError(
            f"the budget is {rows:,} rows of {x.shape[1]} features, real ones included: too many for memory, and for the disk "
            f"of the cache, {wanted:,.0f} GiB where {free:,.0f} GiB are free: lower target or per_real, give a cap, or let "
            "LTBENCH_CACHE name a folder on a larger disk"
        )


def _memory(x: Tensor) -> int | None:
    """Return the memory of the device that rows are on, in GiB; None where the system does not say."""
    return torch.cuda.get_device_properties(x.device).total_memory // GIB if x.is_cuda else memory_gib()


def _told() -> float | None:
    """Return the limit that the environment names, in GiB, if any; raise UsageError unless it is a number of at least 0."""
    text = os.environ.get(ROWS_VARIABLE, "")
    try:
        told = float(text) if text else None
    except ValueError:
        told = math.nan
    if told is not None and not told >= 0:
        raise UsageError(f"{ROWS_VARIABLE} must be a number of GiB of at least 0, not {text!r}")
    return told
