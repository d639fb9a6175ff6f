"""Ready-made features with labels, from a file of the user's."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

import ltbench
from ltbench_datasets.labels import read_labels, require_rows
from ltbench_datasets.locate import locate
from ltbench_datasets.repeats import PARTS
from ltbench_datasets.tables import Array, Table, read_table
from ltbench_datasets.vectors import FeatureFile, Vectors

TEST_SHARE = 5
"""Without a split, one row in so many of each class, but at least one, is a test row."""

_CODES: dict[str | int, int] = {"train": 0, "val": 1, "valid": 1, "validation": 1, "test": 2, 0: 0, 1: 1, 2: 2}


@dataclass(frozen=True, kw_only=True)
class Features:
    """Features ``x [N, D]`` and labels ``y [N]`` of a .npz, .safetensors or .parquet file; for the backbone identity.

    ``y`` holds labels from 0 to C−1, or text: then the classes are the texts in sorted order. ``split [N]`` is train, val
    or test (or 0, 1, 2); without it a fifth of each class's rows, drawn at random but always alike, are the test part.
    ``class_names [C]`` and ``class_text [C, D]`` may be there as well. ``overlap`` says what to do about equal rows in
    two parts.
    """

    path: Path
    overlap: Literal["refuse", "allow"] = "refuse"

    def load(self, folder: Path) -> ltbench.Dataset:
        """Return the parts of the file; raise UsageError for what cannot be benchmarked, and why."""
        path = locate(self.path, folder)
        if not path.is_file():
            raise ltbench.UsageError(f"{path} must be a file")
        table = read_table(path)
        labels, names = read_labels(str(path), "y", _column(path, table, "y"), _class_names(path, table))
        codes, notes = _parts(path, table, labels)
        require_rows(str(path), {part: labels[codes == PARTS.index(part)] for part in ("train", "test")}, names)
        text = _class_text(path, table, len(names))
        file = FeatureFile(path, table.shape[1], codes)
        why = "; the file has no split, and equal rows fell into different parts" if notes else ""
        notes += file.content().notes(str(path), self.overlap, why)
        parts = [_part(file, labels, code) for code in range(len(PARTS))]
        return ltbench.Dataset(
            train=parts[0],
            validation=parts[1] if len(parts[1].labels) else None,
            test=parts[2],
            class_names=names,
            class_text=text,
            fingerprint=_fingerprint(file, labels, text),
            notes=notes,
        )


def _class_names(path: Path, table: Table) -> tuple[str, ...] | None:
    """Return the class names in the file, if any, or raise UsageError."""
    raw = table.beside.get("class_names")
    if raw is None:
        return None
    if raw.ndim != 1 or raw.dtype.kind != "U":
        raise ltbench.UsageError(f"{path}: class_names must be texts [C], not {raw.dtype} {list(raw.shape)}")
    names = tuple(raw.tolist())
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise ltbench.UsageError(f"{path}: class_names must differ, {twice[0]!r} is there twice")
    return names


def _column(path: Path, table: Table, name: str) -> Array:
    """Return a value for each row, or raise UsageError for another shape."""
    raw = table.beside[name]
    if raw.shape != table.shape[:1]:
        raise ltbench.UsageError(
            f"{path}: {name} must be [{table.shape[0]}], a value for each row of x {list(table.shape)}, not {list(raw.shape)}"
        )
    return raw


def _parts(path: Path, table: Table, labels: Tensor) -> tuple[Tensor, tuple[str, ...]]:
    """Return which of PARTS each row belongs to, uint8 ``[N]``, and what to tell about it."""
    if "split" not in table.beside:
        note = f"the file has no split: one in {TEST_SHARE} rows of each class, at least one, is a test row, the others train"
        return _dealt(path, labels), (note,)
    raw = _column(path, table, "split")
    if raw.dtype.kind not in "Uiu":
        raise ltbench.UsageError(f"{path}: split must be train, val or test (or 0, 1, 2), not of type {raw.dtype}")
    values, places = np.unique(raw, return_inverse=True)
    unknown = [i for i, value in enumerate(values.tolist()) if value not in _CODES]
    if unknown:
        rows = np.flatnonzero(places == unknown[0])
        raise ltbench.UsageError(
            f"{path}: split must be train, val or test (or 0, 1, 2), not {values[unknown[0]].item()!r} "
            f"({len(rows)} rows, the first is row {rows[0]})"
        )
    codes = np.array([_CODES[value] for value in values.tolist()], dtype=np.uint8)
    return torch.from_numpy(codes[places]), ()


def _dealt(path: Path, labels: Tensor) -> Tensor:
    """Deal rows to training and test part: of each class the rows that a stream puts first are test rows."""
    counts = torch.bincount(labels)
    single = (counts == 1).nonzero().flatten().tolist()
    if single:
        raise ltbench.UsageError(
            f"{path} has no split, so each class needs a row to train on and one to test on; {len(single)} classes have one "
            f"row alone, label {single[0]} for one"
        )
    order = ltbench.Stream.of(0, "features", "split").order(torch.arange(len(labels)))
    order = order[torch.argsort(labels[order], stable=True)]
    rank = torch.arange(len(labels)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    tested = ((counts + TEST_SHARE // 2) // TEST_SHARE).clamp_min(1).repeat_interleave(counts)
    codes = torch.zeros(len(labels), dtype=torch.uint8)
    codes[order[rank < tested]] = PARTS.index("test")
    return codes


def _class_text(path: Path, table: Table, classes: int) -> Tensor | None:
    """Return class-text vectors ``[C, D]`` float32, if there are any, or raise UsageError."""
    raw = table.beside.get("class_text")
    if raw is None:
        return None
    wanted = (classes, table.shape[1])
    if raw.shape != wanted or raw.dtype.kind != "f":
        raise ltbench.UsageError(
            f"{path}: class_text must be floating numbers {list(wanted)}, a vector of x's width for each class, "
            f"not {raw.dtype} {list(raw.shape)}"
        )
    text = torch.from_numpy(raw.astype(np.float32))
    bad = (~text.isfinite()).any(dim=1).nonzero().flatten().tolist()
    if bad:
        raise ltbench.UsageError(f"{path}: class_text must be finite, {len(bad)} rows are not; the first is row {bad[0]}")
    return text


def _part(file: FeatureFile, labels: Tensor, code: int) -> ltbench.Part:
    """Return one part."""
    mine = labels[file.codes == code]
    return ltbench.Part(mine, Vectors(file, code, len(mine)))


def _fingerprint(file: FeatureFile, labels: Tensor, text: Tensor | None) -> str:
    """Hash rows, labels, parts and class text."""
    content = hashlib.sha256(f"features {len(labels)} {file.width} {file.content().digest}".encode())
    for array in (labels, file.codes, *([] if text is None else [text])):
        content.update(array.numpy().tobytes())
    return content.hexdigest()
