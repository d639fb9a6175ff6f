"""What transforms and generators may return: checks of their rows. Knows no setting."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ltbench.types import Rows, Train


def checked_rows(rows: Any, real: Train) -> Rows:
    """Return a generator's rows, or raise ValueError: wrong type, shape or label, not finite."""
    if not isinstance(rows, Rows):
        raise TypeError(f"a sampler must return ltbench.Rows, not {type(rows).__name__}")
    size, width = len(rows.x), real.x.shape[1]
    if rows.x.shape != (size, width):
        raise ValueError(f"synthetic rows must be [S, {width}], not {list(rows.x.shape)}")
    if rows.targets.shape not in ((size,), (size, real.classes)):
        raise ValueError(f"targets must be [{size}] or [{size}, {real.classes}], not {list(rows.targets.shape)}")
    if not bool(rows.x.isfinite().all()):
        raise ValueError(f"{int((~rows.x.isfinite()).any(dim=1).sum())} of {size} synthetic rows hold NaN or infinity")
    if rows.targets.ndim == 1 and size and not (int(rows.targets.min()) >= 0 and int(rows.targets.max()) < real.classes):
        raise ValueError(f"labels must be 0 to {real.classes - 1}, not {int(rows.targets.min())} to {int(rows.targets.max())}")
    if rows.targets.ndim == 2 and size:
        _check_soft(rows.targets.double())
    if rows.weights is not None and (
        rows.weights.shape != (size,) or not bool((rows.weights.isfinite() & (rows.weights >= 0)).all())
    ):
        raise ValueError(f"weights must be [{size}], finite and not negative")
    if rows.keep is not None and (rows.keep.shape != (len(real.x),) or rows.keep.dtype != torch.bool):
        raise ValueError(f"keep must be bool [{len(real.x)}], not {rows.keep.dtype} {list(rows.keep.shape)}")
    return rows


def _check_soft(targets: Tensor) -> None:
    """Raise ValueError unless every row of soft labels is a distribution."""
    if not bool((targets.isfinite() & (targets >= 0)).all()) or not bool(((targets.sum(dim=1) - 1).abs() <= 1e-4).all()):
        raise ValueError("soft labels must be finite, not negative, and sum to one in every row")


def finite_rows(x: Any, count: int) -> Tensor:
    """Return transformed rows, or raise ValueError."""
    if not isinstance(x, Tensor) or x.ndim != 2 or len(x) != count:
        raise ValueError(f"a transform must return rows [{count}, E], not {list(getattr(x, 'shape', [])) or type(x).__name__}")
    if not bool(x.isfinite().all()):
        raise ValueError("the transformed rows hold NaN or infinity")
    return x
