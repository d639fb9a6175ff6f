"""Making room in the cache: what runs left unfinished, and sets that nobody has used for long. Knows no torch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ltbench.errors import LtbenchError
from ltbench.features.folder import CHECKED, IMPORTED, SetFolder, sets

DAY = 86400.0
"""What is younger may belong to a run that is still at work."""


@dataclass(frozen=True)
class Removed:
    """Something deleted, why, and the bytes that were freed."""

    path: Path
    reason: str
    size: int


def collect(cache: Path, unused_days: float | None = None) -> Iterator[Removed]:
    """Delete leftovers that are older than a day, and complete sets unused for so many days; yield each.

    Leftovers are shards of extractions that nobody finished, temporary files of killed writers, and features in the
    single-file format of ltbench 0.1.
    """
    now = time.time()
    for path in sorted((cache / "features").glob("*.safetensors")):
        if now - path.stat().st_mtime > DAY:
            yield _deleted(path, "of an older format")
    for place in sets(cache):
        if not place.is_complete():
            if now - _newest(place.path) > DAY:
                yield _deleted(place.path, "unfinished or damaged")
        elif unused_days is not None and now - place.last_used() > unused_days * DAY:
            yield _deleted(place.path, f"not used for {(now - place.last_used()) / DAY:.0f} days")
        else:
            yield from (_deleted(path, "left over") for path in _strays(place) if now - _newest(path) > DAY)


def _strays(place: SetFolder) -> list[Path]:
    """Return what lies in a complete set's folder beside its files."""
    manifest = place.manifest()
    files = [] if manifest is None else [part.file for part in manifest.parts.values()]
    return sorted(path for path in place.path.iterdir() if path.name not in ("manifest.json", CHECKED, IMPORTED, *files))


def _newest(path: Path) -> float:
    """Return when anything at or below a path was last written, in seconds since 1970."""
    return max((status.st_mtime for _, status in SetFolder(path).files()), default=time.time())


def _deleted(path: Path, reason: str) -> Removed:
    """Delete a file or a folder."""
    size = size_of(path)
    try:
        if path.is_dir():
            SetFolder(path).remove()
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise LtbenchError(f"cannot delete {path}: {error.strerror or error}") from error
    return Removed(path, reason, size)


def size_of(path: Path) -> int:
    """Return the bytes of all files at or below a path."""
    return sum(status.st_size for each, status in SetFolder(path).files() if not each.is_dir())
