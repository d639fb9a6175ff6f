"""The rows of a feature file, part by part: read once, checked, named by content, and not carried by pickles."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor

import ltbench
from ltbench_datasets.repeats import PARTS, Content, content_of, remembered
from ltbench_datasets.tables import read_blocks

Look = Callable[[int, Tensor], None]


class FeatureFile:
    """A file whose rows have been dealt to parts; a part's rows are read when they are first asked for.

    ``codes [N]`` uint8 says which of PARTS a row of ``width`` numbers belongs to. A pickle holds path and codes, not the
    rows: a plan that goes to a worker process stays small.
    """

    def __init__(self, path: Path, width: int, codes: Tensor) -> None:
        """Remember what is to be read, and which state of the file was looked at."""
        self.path, self.width, self.codes = path, width, codes
        self.state = _state(path)
        self._rows: list[Tensor] | None = None
        self._content: Content | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_rows": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())

    def rows(self, code: int) -> Tensor:
        """Return the rows of a part, float32 ``[n, D]``."""
        with self._lock:
            if self._rows is None:
                self._rows = self._read(lambda _start, _block: None)
            return self._rows[code]

    def content(self) -> Content:
        """Return what is in the file; it is read only if it has changed since it was last looked at."""
        if self._content is None:
            salt = hashlib.sha256(self.codes.numpy().tobytes()).hexdigest()
            self._content = remembered([self.path], salt, self._look_through)
        return self._content

    def _look_through(self) -> Content:
        """Read every row; raise UsageError for those that are not finite."""
        scan = _Scan(self.path)
        self._rows = self._read(scan)
        scan.require_finite()
        return content_of(scan.digests, self.codes)

    def _read(self, look: Look) -> list[Tensor]:
        """Read the file once, into one tensor for each part; ``look(start, block)`` sees every block of rows."""
        if _state(self.path) != self.state:
            raise ltbench.LtbenchError(f"{self.path} has changed while it was in use: run again")
        sizes = torch.bincount(self.codes, minlength=len(PARTS)).tolist()
        parts = [torch.empty(size, self.width) for size in sizes]
        filled, start = [0] * len(parts), 0
        for block in read_blocks(self.path, self.width):
            look(start, block)
            codes = self.codes[start : start + len(block)]
            for code, part in enumerate(parts):
                mine = block[codes == code]
                part[filled[code] : filled[code] + len(mine)] = mine
                filled[code] += len(mine)
            start += len(block)
        if filled != sizes:
            raise ltbench.UsageError(f"{self.path} should hold {len(self.codes)} rows of x, but holds {start}")
        return parts


@dataclass(frozen=True)
class Vectors(Sequence[Tensor]):
    """One part of a feature file: ``vectors[i]`` is a row ``[D]``, ``vectors[i:j]`` rows ``[j − i, D]``."""

    file: FeatureFile
    code: int
    size: int

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.size

    @overload  # type: ignore[override]
    def __getitem__(self, index: int) -> Tensor: ...

    @overload
    def __getitem__(self, index: slice) -> Tensor: ...

    def __getitem__(self, index: int | slice) -> Tensor:
        """Return one row, or several as one tensor."""
        return self.file.rows(self.code)[index]


class _Scan:
    """Looks at every row of a file: is it finite, and what does it hash to."""

    def __init__(self, path: Path) -> None:
        """Nothing seen yet."""
        self.path, self.digests = path, list[bytes]()
        self.bad, self.first_bad = 0, -1

    def __call__(self, start: int, block: Tensor) -> None:
        """Look at a block of rows ``[n, D]``."""
        if not bool(block.sum().isfinite()):  # a tenth of the cost of asking every number; a sum may overflow, too
            bad = (~block.isfinite()).any(dim=1).nonzero().flatten().tolist()
            self.first_bad = start + bad[0] if bad and not self.bad else self.first_bad
            self.bad += len(bad)
        self.digests += [hashlib.blake2b(row, digest_size=16).digest() for row in (block + 0.0).numpy()]  # −0 is 0

    def require_finite(self) -> None:
        """Raise UsageError if any row is not finite."""
        if self.bad:
            raise ltbench.UsageError(
                f"{self.path}: x must be finite, {self.bad} of {len(self.digests)} rows hold NaN or infinity (as float32); "
                f"the first is row {self.first_bad}"
            )


def _state(path: Path) -> tuple[int, int]:
    """Return a file's size and time of change."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns
