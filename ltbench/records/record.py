"""What one cell left behind: its record, and the scores beside it.

A record keeps apart ``result`` (deterministic), ``measured`` (seconds) and ``provenance``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ltbench.keys import canonical_json

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = 2
UNKNOWN = "unknown"
"""How the key of features begins that nobody could name."""

Status = Literal["done", "failed", "out of memory", "timed out", "killed", "skipped"]


@dataclass(frozen=True)
class Record:
    """One cell: its names, and its result, failure or reason to be skipped."""

    key: str
    status: Status
    cell: Mapping[str, Any]
    result: Mapping[str, Any] | None = None
    failure: Mapping[str, Any] | None = None
    measured: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    scores: str | None = None
    schema: int = SCHEMA

    @property
    def failed(self) -> bool:
        """Whether the cell ended without a result and without a stated reason to skip it."""
        return self.status not in ("done", "skipped")

    @property
    def keyless(self) -> bool:
        """Whether the cell failed before the key of its features was known, as when a backbone cannot be loaded."""
        return self.failed and str(self.provenance.get("key_parts", {}).get("features", "")).startswith(UNKNOWN)

    @property
    def cause(self) -> str:
        """Who failed and why, or the reason to skip, in one line; empty for a cell that is done."""
        failure = self.failure or {}
        who, why = failure.get("component"), failure.get("error") or failure.get("reason") or ""
        return f"{who}: {why}" if who else str(why)

    @property
    def numerics(self) -> str:
        """The numerics class, as canonical text: within one, results are equal bit for bit."""
        return canonical_json(self.provenance.get("numerics", {}))

    def to_json(self) -> str:
        """Write the whole record in one line, with what others have alike."""
        return canonical_json(vars(self))


@dataclass(frozen=True)
class Arrays:
    """What lies beside a record: the test rows' scores ``[N, C]``, on the CPU."""

    scores: Tensor

    def __reduce__(self) -> tuple[Any, ...]:
        """Come from a worker as arrays of numpy: torch pickles each tensor as a file, which takes longer than a small cell."""
        return _arrays, (self.scores.numpy(),)


def _arrays(scores: Any) -> Arrays:
    """Return what arrays of numpy stand for."""
    import torch

    return Arrays(torch.from_numpy(scores))
