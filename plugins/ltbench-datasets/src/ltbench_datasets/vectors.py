"""The rows of a feature file, part by part: read once, checked, named by content, and not carried by pickles."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor

import ltbench
from ltbench_datasets.tables import read_blocks

PARTS = ("train", "validation", "test")

RULE = 1
"""Raised when the hash of a file's rows, or how rows are compared, changes."""

FRESH = 2_000_000_000
"""Nanoseconds for which a change could go unseen, because clocks of file systems are coarse."""

Look = Callable[[int, Tensor], None]


@dataclass(frozen=True)
class Overlap:
    """Rows of one part that are in another, too: how many, and the first one's place in the file."""

    part: str
    other: str
    rows: int
    first: int


@dataclass(frozen=True)
class Content:
    """What is known of a file's rows: a hash of all of them in order, and which are in two parts."""

    digest: str
    overlaps: tuple[Overlap, ...] = ()


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
            memory = _Memory(self)
            self._content = memory.recall()
            if self._content is None:
                scan = _Scan(self.path)
                self._rows = self._read(scan)
                self._content = Content(scan.digest(), scan.overlaps(self.codes))
                memory.keep(self._content)
        return self._content

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

    def digest(self) -> str:
        """Return the hash of all rows in order; raise UsageError if any is not finite."""
        if self.bad:
            raise ltbench.UsageError(
                f"{self.path}: x must be finite, {self.bad} of {len(self.digests)} rows hold NaN or infinity (as float32); "
                f"the first is row {self.first_bad}"
            )
        return hashlib.sha256(b"".join(self.digests)).hexdigest()

    def overlaps(self, codes: Tensor) -> tuple[Overlap, ...]:
        """Return which rows are in two parts."""
        by_part: list[dict[bytes, int]] = [{} for _ in PARTS]
        counts = codes.tolist()
        for row in range(len(counts) - 1, -1, -1):
            by_part[counts[row]][self.digests[row]] = row  # of equal rows the first stays
        found = []
        for code, other in itertools.combinations(reversed(range(len(PARTS))), 2):
            shared = by_part[code].keys() & by_part[other].keys()
            if shared:
                rows = [row for row, part in enumerate(counts) if part == code and self.digests[row] in shared]
                found.append(Overlap(PARTS[code], PARTS[other], len(rows), rows[0]))
        return tuple(found)


class _Memory:
    """What was found in a file, kept in the cache folder until size, time of change or parts differ."""

    def __init__(self, file: FeatureFile) -> None:
        """Name the place and the state that is asked for."""
        place = hashlib.sha256(os.fsencode(file.path.resolve())).hexdigest()[:32]
        self.path = ltbench.cache_folder() / "feature-files" / f"{place}.json"
        self.young = file.state[1] > time.time_ns() - FRESH
        self.state = [RULE, *file.state, hashlib.sha256(file.codes.numpy().tobytes()).hexdigest()]

    def recall(self) -> Content | None:
        """Return what is known; nothing if the memory is of another state, missing or damaged."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            found = json.loads(self.path.read_bytes())
            if found["state"] == self.state:
                return Content(found["digest"], tuple(Overlap(**overlap) for overlap in found["overlaps"]))
        return None

    def keep(self, content: Content) -> None:
        """Remember; a file so young that a change could go unseen is looked at again next time."""
        if self.young:
            return
        try:
            ltbench.write_atomically(self.path, json.dumps({"state": self.state, **asdict(content)}).encode())
        except ltbench.LtbenchError as error:
            warnings.warn(f"what is in {self.path} is not remembered: {error}", stacklevel=2)


def _state(path: Path) -> tuple[int, int]:
    """Return a file's size and time of change."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns
