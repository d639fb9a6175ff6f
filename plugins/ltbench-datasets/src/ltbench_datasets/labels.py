"""Labels as users have them, numbers or text, to labels from 0 and class names; whatever else there is, is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

import ltbench

Array = np.ndarray[Any, np.dtype[Any]]
Names = tuple[str, ...]


def read_labels(where: str, column: str, raw: Array, names: Names | None) -> tuple[Tensor, Names]:
    """Return labels ``[N]`` int64 and class names; raise UsageError, which begins with ``where``.

    Texts are classes in sorted order, unless ``names`` give another; numbers without names are their own names.
    """
    if raw.dtype.kind == "U":
        words, codes = np.unique(raw, return_inverse=True)
        if names is None:
            return _several(where, column, torch.from_numpy(codes).long(), tuple(words.tolist()))
        unknown = sorted(set(words.tolist()) - set(names))
        if unknown:
            raise ltbench.UsageError(
                f"{where}: {column} holds {len(unknown)} texts that are no class name, such as {unknown[0]!r}"
            )
        place = {name: i for i, name in enumerate(names)}
        raw = np.array([place[word] for word in words.tolist()])[codes]
    if raw.dtype.kind not in "iu":
        raise ltbench.UsageError(
            f"{where}: {column} must hold integers or text, not {raw.dtype}: save {column}.astype('int64')"
        )
    labels = torch.from_numpy(raw.astype(np.int64))
    _require_range(where, column, labels, None if names is None else len(names))
    return _several(where, column, labels, names or tuple(str(c) for c in range(int(labels.max()) + 1)))


def require_rows(where: str, parts: dict[str, Tensor], names: Names) -> None:
    """Raise UsageError unless every class has rows in each of these parts, given by their labels."""
    for part, labels in parts.items():
        counts = torch.bincount(labels, minlength=len(names))
        empty = (counts == 0).nonzero().flatten().tolist()
        if len(empty) == len(names):
            raise ltbench.UsageError(f"{where}: no row is in the {part} part")
        if empty:
            told = ", ".join(repr(names[c]) for c in empty[:3])
            raise ltbench.UsageError(f"{where}: {len(empty)} of {len(names)} classes have no row in the {part} part: {told}")


def _several(where: str, column: str, labels: Tensor, names: Names) -> tuple[Tensor, Names]:
    """Return labels and names, or raise UsageError where there is one class only."""
    if len(names) < 2:
        raise ltbench.UsageError(f"{where}: {column} must hold at least two classes, it holds {names[0]!r} alone")
    return labels, names


def _require_range(where: str, column: str, labels: Tensor, classes: int | None) -> None:
    """Raise UsageError for labels that are negative, beyond the class names, or leave gaps where there are no names."""
    wrong = labels < 0 if classes is None else (labels < 0) | (labels >= classes)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        most = "C − 1" if classes is None else f"{classes - 1}, for there are {classes} class names"
        raise ltbench.UsageError(
            f"{where}: labels {column} must be 0 to {most}; {int(wrong.sum())} of {len(labels)} are not, the first in row "
            f"{row}: {int(labels[row])}"
        )
    if classes is None:
        found = torch.unique(labels)
        gap = int((found != torch.arange(len(found))).nonzero()[0]) if int(found[-1]) >= len(found) else None
        if gap is not None:
            raise ltbench.UsageError(
                f"{where}: labels {column} must be 0 to C − 1 without gaps; {len(found)} different labels go up to "
                f"{int(found[-1])}, and {gap} is the first that no row has"
            )
