"""What is in files: their SHA-256 and whether they decode, remembered until size or time of change differ.

Knows no dataset. The memory is one file for each folder, in the cache folder; without it everything is read again.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

import PIL

import ltbench
from ltbench_datasets.decode import decode_open, problem_of, read_header

Progress = Callable[[str, int, int | None], None]

BLOCK = 256
THREADS = 8
FRESH = 2_000_000_000
"""Nanoseconds for which a change could go unseen, because clocks of file systems are coarse."""


class Depth(IntEnum):
    """How closely a file is looked at; each look includes the ones before."""

    BYTES = 0
    HEADER = 1
    PIXELS = 2


@dataclass(frozen=True)
class File:
    """A file below some folder: its name with ``/`` between folders, bytes, time of change, and what forbids to read it."""

    name: str
    size: int
    mtime_ns: int
    problem: str = ""


@dataclass(frozen=True)
class Content:
    """What was found in a file: the SHA-256 of its bytes, and what keeps it from being an image, if anything does."""

    sha256: str
    problem: str = ""


def stat_file(root: Path, name: str) -> File:
    """Return a file's size and time of change; raises OSError where there is none."""
    found = (root / name).stat()
    return File(name, found.st_size, found.st_mtime_ns)


def examine(root: Path, files: Sequence[File], depth: Depth, progress: Progress | None = None) -> list[Content]:
    """Return the content of each file, reading only those not yet looked at as closely, several at a time."""
    memory = Memory.of(root)
    unknown = memory.unknown(files, depth)
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            for start in range(0, len(unknown), BLOCK):
                block = unknown[start : start + BLOCK]
                contents = pool.map(lambda file: _look(root, file, depth), block)
                memory.learn(block, contents, depth)
                if progress is not None:
                    progress(f"examine {root}", min(start + BLOCK, len(unknown)), len(unknown))
    finally:
        if unknown:
            memory.store(files)
    return [memory.content(file) for file in files]


def unexamined(root: Path, files: Sequence[File], depth: Depth) -> int:
    """Return how many files would have to be read."""
    return len(Memory.of(root).unknown(files, depth))


class Row(NamedTuple):
    """What is known of a file: the state it was in, and what was found at which depth."""

    size: int
    mtime_ns: int
    sha256: str
    depth: int
    problem: str

    def answers(self, file: File, depth: Depth) -> bool:
        """Whether this is that very file, looked at as closely; what has a problem has it at any depth."""
        return (self.size, self.mtime_ns) == (file.size, file.mtime_ns) and (self.depth >= depth or bool(self.problem))


def _read(path: Path) -> dict[str, Row]:
    """Return the rows of a memory file; raises whatever its damage leads to."""
    found = json.loads(path.read_bytes())
    rows = {name: Row(*row) for name, row in found["files"].items()}
    if found["pillow"] == PIL.__version__:
        return rows
    return {name: row._replace(depth=int(Depth.BYTES), problem="") for name, row in rows.items()}


class Memory:
    """Rows by file name, of one folder."""

    def __init__(self, path: Path, rows: dict[str, Row]) -> None:
        """Remember rows, and where they are kept."""
        self._path, self._rows = path, rows
        self._began = time.time_ns()

    @classmethod
    def of(cls, root: Path) -> Memory:
        """Read what is known of a folder; nothing if the memory is missing or damaged.

        What another version of Pillow found is forgotten, but for the bytes.
        """
        place = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:32]
        path = ltbench.cache_folder() / "contents" / f"{place}.json"
        try:
            return cls(path, _read(path))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return cls(path, {})

    def unknown(self, files: Sequence[File], depth: Depth) -> list[File]:
        """Return the files that have changed or were not looked at as closely."""
        rows = self._rows
        readable = (file for file in files if not file.problem)
        return [file for file in readable if file.name not in rows or not rows[file.name].answers(file, depth)]

    def learn(self, files: Sequence[File], contents: Iterable[Content], depth: Depth) -> None:
        """Remember what was found."""
        for file, content in zip(files, contents, strict=True):
            self._rows[file.name] = Row(file.size, file.mtime_ns, content.sha256, int(depth), content.problem)

    def content(self, file: File) -> Content:
        """Return what is known of a file."""
        if file.problem:
            return Content("", file.problem)
        row = self._rows[file.name]
        return Content(row.sha256, row.problem)

    def store(self, files: Sequence[File]) -> None:
        """Write the rows of these files, but of none that could not be read or is so young that a change could go unseen."""
        old = self._began - FRESH
        known = {file.name: self._rows[file.name] for file in files if file.name in self._rows and not file.problem}
        rows = {name: row for name, row in known.items() if row.sha256 and row.mtime_ns < old}
        content = json.dumps({"pillow": PIL.__version__, "files": rows}, separators=(",", ":"))
        try:
            ltbench.write_atomically(self._path, content.encode())
        except ltbench.LtbenchError as error:
            warnings.warn(f"what is in the files is not remembered: {error}", stacklevel=3)


def _look(root: Path, file: File, depth: Depth) -> Content:
    """Read one file."""
    found = ""
    try:
        with (root / file.name).open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
            opened.seek(0)
            if depth == Depth.HEADER:
                read_header(opened)
            elif depth == Depth.PIXELS:
                decode_open(opened)
    except MemoryError:
        raise  # not the file's fault
    except Exception as error:  # whatever Pillow's parsers raise on broken bytes
        return Content(found, problem_of(error))
    return Content(found)
