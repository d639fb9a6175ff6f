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
from ltbench_datasets.locate import locate
from ltbench_datasets.tables import Array, Table, read_table
from ltbench_datasets.vectors import PARTS, FeatureFile, Vectors

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
        labels, names = _labels(path, table)
        codes, notes = _parts(path, table, labels)
        _require_rows(path, labels, codes, names)
        text = _class_text(path, table, len(names))
        file = FeatureFile(path, table.shape[1], codes)
        notes += self._overlaps(file, bool(notes))
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

    def _overlaps(self, file: FeatureFile, dealt: bool) -> tuple[str, ...]:  # noqa: FBT001 - one caller, above
        """Return what to tell about rows in two parts, or raise UsageError."""
        found = file.content().overlaps
        told = tuple(f"{o.rows} {o.part} rows are {o.other} rows, too; the first is row {o.first}" for o in found)
        if told and self.overlap == "refuse":
            why = "; the file has no split, and equal rows fell into different parts" if dealt else ""
            raise ltbench.UsageError(f"{file.path}: {'; '.join(told)}{why}: take them out, or say overlap=allow")
        return told


def _labels(path: Path, table: Table) -> tuple[Tensor, tuple[str, ...]]:
    """Return labels ``[N]`` int64 and class names, or raise UsageError."""
    raw = _column(path, table, "y")
    names = _class_names(path, table)
    if raw.dtype.kind == "U":
        words, codes = np.unique(raw, return_inverse=True)
        if names is None:
            return _several(path, torch.from_numpy(codes).long(), tuple(words.tolist()))
        unknown = sorted(set(words.tolist()) - set(names))
        if unknown:
            raise ltbench.UsageError(f"{path}: y holds {len(unknown)} texts that are no class name, such as {unknown[0]!r}")
        place = {name: i for i, name in enumerate(names)}
        raw = np.array([place[word] for word in words.tolist()])[codes]
    if raw.dtype.kind not in "iu":
        raise ltbench.UsageError(f"{path}: y must hold integers or text, not {raw.dtype}: save y.astype('int64')")
    labels = torch.from_numpy(raw.astype(np.int64))
    _require_range(path, labels, None if names is None else len(names))
    return _several(path, labels, names or tuple(str(c) for c in range(int(labels.max()) + 1)))


def _several(path: Path, labels: Tensor, names: tuple[str, ...]) -> tuple[Tensor, tuple[str, ...]]:
    """Return labels and names, or raise UsageError where there is one class only."""
    if len(names) < 2:
        raise ltbench.UsageError(f"{path}: y must hold at least two classes, it holds {names[0]!r} alone")
    return labels, names


def _require_range(path: Path, labels: Tensor, classes: int | None) -> None:
    """Raise UsageError for labels that are negative, beyond the class names, or leave gaps where there are no names."""
    wrong = labels < 0 if classes is None else (labels < 0) | (labels >= classes)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        most = "C − 1" if classes is None else f"{classes - 1}, for there are {classes} class names"
        raise ltbench.UsageError(
            f"{path}: labels y must be 0 to {most}; {int(wrong.sum())} of {len(labels)} are not, the first in row {row}: "
            f"{int(labels[row])}"
        )
    if classes is None:
        found = torch.unique(labels)
        gap = int((found != torch.arange(len(found))).nonzero()[0]) if int(found[-1]) >= len(found) else None
        if gap is not None:
            raise ltbench.UsageError(
                f"{path}: labels y must be 0 to C − 1 without gaps; {len(found)} different labels go up to {int(found[-1])}, "
                f"and {gap} is the first that no row has"
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


def _require_rows(path: Path, labels: Tensor, codes: Tensor, names: tuple[str, ...]) -> None:
    """Raise UsageError unless every class has training and test rows."""
    for part in ("train", "test"):
        counts = torch.bincount(labels[codes == PARTS.index(part)], minlength=len(names))
        empty = (counts == 0).nonzero().flatten().tolist()
        if len(empty) == len(names):
            raise ltbench.UsageError(f"{path}: no row is in the {part} part")
        if empty:
            told = ", ".join(repr(names[c]) for c in empty[:3])
            raise ltbench.UsageError(f"{path}: {len(empty)} of {len(names)} classes have no row in the {part} part: {told}")


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
