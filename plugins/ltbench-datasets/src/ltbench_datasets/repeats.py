"""What rows hold, by a hash of each: one hash of all of them, and which are in two parts; remembered while files stay."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

import ltbench

PARTS = ("train", "validation", "test")

RULE = 1
"""Raised when what is found in the same rows changes."""

FRESH = 2_000_000_000
"""Nanoseconds for which a change could go unseen, because clocks of file systems are coarse."""


@dataclass(frozen=True)
class Overlap:
    """Rows of one part that are in another, too: how many, and the first one's number, counted over all parts."""

    part: str
    other: str
    rows: int
    first: int


@dataclass(frozen=True)
class Content:
    """What is known of rows: a hash of all of them in order, and which are in two parts."""

    digest: str
    overlaps: tuple[Overlap, ...] = ()

    def notes(self, where: str, overlap: Literal["refuse", "allow"], why: str = "") -> tuple[str, ...]:
        """Return what to tell of rows in two parts, or raise UsageError where that is refused."""
        told = tuple(f"{o.rows} {o.part} rows are {o.other} rows, too; the first is row {o.first}" for o in self.overlaps)
        if told and overlap == "refuse":
            raise ltbench.UsageError(f"{where}: {'; '.join(told)}{why}: take them out, or say overlap=allow")
        return told


def content_of(digests: Sequence[bytes], codes: Tensor) -> Content:
    """Return the content of rows with these hashes; ``codes [N]`` says which of PARTS each belongs to."""
    return Content(hashlib.sha256(b"".join(digests)).hexdigest(), _overlaps(digests, codes.tolist()))


def remembered(files: Sequence[Path], salt: str, find: Callable[[], Content]) -> Content:
    """Return what was found in these files under this salt, or find it now; it holds until sizes or times change."""
    states = [file.stat() for file in files]
    state = [
        RULE,
        salt,
        [[os.fsdecode(file), each.st_size, each.st_mtime_ns] for file, each in zip(files, states, strict=True)],
    ]
    place = hashlib.sha256("\0".join(map(os.fsdecode, files)).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    path = ltbench.cache_folder() / "rows" / f"{place}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        kept = json.loads(path.read_bytes())
        if kept["state"] == state:
            return Content(kept["digest"], tuple(Overlap(**overlap) for overlap in kept["overlaps"]))
    began = time.time_ns()
    found = find()
    if files and max(each.st_mtime_ns for each in states) < began - FRESH:
        _keep(path, json.dumps({"state": state, **asdict(found)}).encode())
    return found


def _keep(path: Path, content: bytes) -> None:
    """Write what was found; where that cannot be, it will be found again."""
    try:
        ltbench.write_atomically(path, content)
    except ltbench.LtbenchError as error:
        warnings.warn(f"what is in the rows is not remembered: {error}", stacklevel=4)


def _overlaps(digests: Sequence[bytes], codes: Sequence[int]) -> tuple[Overlap, ...]:
    """Return which rows of later parts are rows of earlier parts."""
    by_part: list[set[bytes]] = [set() for _ in PARTS]
    for digest, code in zip(digests, codes, strict=True):
        by_part[code].add(digest)
    found = []
    for code, other in itertools.combinations(reversed(range(len(PARTS))), 2):
        shared = by_part[code] & by_part[other]
        rows = [row for row, part in enumerate(codes) if part == code and digests[row] in shared] if shared else []
        if rows:
            found.append(Overlap(PARTS[code], PARTS[other], len(rows), rows[0]))
    return tuple(found)
