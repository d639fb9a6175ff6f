"""The shards of a set that is not complete yet: written as they are done, by as many processes as work on it."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ltbench.errors import LtbenchError
from ltbench.features.extraction import Extraction, Meter, Shard
from ltbench.features.folder import header, named_after_hash, sha256_of, write_read_only
from ltbench.features.manifest import HASH_DIGITS

SHORTEST_PAUSE = 0.02
LONGEST_PAUSE = 1.0
MOST_UNWRITTEN = 4
"""Shards that may wait in memory for a slow disk."""


@dataclass(frozen=True)
class Piece:
    """A shard's rows, float32 ``[n, D]``, and the SHA-256 of the file they make by themselves."""

    rows: Tensor
    sha256: str

    @staticmethod
    def of(rows: Tensor) -> Piece:
        """Return rows with their hash."""
        sha = hashlib.sha256()
        for content in file_of(rows):
            sha.update(content)
        return Piece(rows, sha.hexdigest())


class Shards:
    """Shards in a folder, or in memory where the folder cannot be used.

    A process claims a shard by a lock file that the system lets go of when the process ends, however that ends. Locks
    only save work: without them (some network file systems) shards are made twice, and the same.
    """

    def __init__(self, folder: Path) -> None:
        """Remember the folder; it is made when a shard is written."""
        self.folder = folder
        self._kept: dict[Shard, Tensor] = {}
        self._written: dict[Shard, tuple[Path, str]] = {}
        self._locks: dict[Shard, Any] = {}

    def missing(self, shards: Iterable[Shard]) -> list[Shard]:
        """Return the shards that nobody has written yet."""
        names = {path.name.rpartition("-")[0] for path in self._files()}
        return [shard for shard in shards if shard not in self._kept and _stem(shard) not in names]

    def claimed(self, shards: Iterable[Shard], complete: Callable[[], bool]) -> Iterator[Shard]:
        """Yield shards that no other process is at work on, as they are asked for; ``put`` lets go of them again.

        Ends when the set is complete: whoever completes it takes the shards away, after that.
        """
        for shard in shards:
            if not self._claim(shard):
                continue
            if self.missing([shard]) and not complete():
                yield shard
            else:
                self._release(shard)

    def put(self, shard: Shard, rows: Tensor) -> None:
        """Write a shard's rows, float32 ``[n, D]``, or keep them, and let go of it."""
        try:
            name, _, sha256 = write_read_only(self.folder, named_after_hash(_stem(shard)), file_of(rows))
            self._written[shard] = (self.folder / name, sha256)
        except LtbenchError:  # whether anything can be written at all is told when the set is
            self._kept[shard] = rows
        self._release(shard)

    def pieces(self, extraction: Extraction) -> dict[Shard, Piece]:
        """Return every shard's rows, most of them mapped from files; what cannot be read is encoded again."""
        found = {shard: self._piece(shard) for shard in extraction.shards()}
        again = dict(extraction.encode(shard for shard, piece in found.items() if piece is None))
        return {shard: Piece.of(again[shard]) if piece is None else piece for shard, piece in found.items()}

    def _piece(self, shard: Shard) -> Piece | None:
        """Return a shard's rows, mapped from its file; None if there are none, or not as they were written."""
        if shard in self._kept:
            return Piece.of(self._kept[shard])
        if shard in self._written:
            path, sha256 = self._written[shard]
            with contextlib.suppress(Exception):  # it is gone, for a start
                return Piece(mapped(path, len(shard)), sha256)
        found = (_read(path, len(shard)) for path in self._files() if path.name.startswith(f"{_stem(shard)}-"))
        return next(filter(None, found), None)

    @contextlib.contextmanager
    def finishing(self) -> Iterator[None]:
        """Wait until no other process is putting the shards together."""
        lock = _lock(self.folder / "finish.lock")
        with contextlib.suppress(OSError, NotImplementedError):
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def release_all(self) -> None:
        """Let go of every shard."""
        for shard in list(self._locks):
            self._release(shard)

    def remove(self) -> None:
        """Delete the shards; the set is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _files(self) -> list[Path]:
        """Return the files of shards."""
        try:
            return sorted(path for path in self.folder.iterdir() if path.suffix == ".safetensors" and path.name[0] != ".")
        except OSError:
            return []

    def _claim(self, shard: Shard) -> bool:
        """Return whether this process may work on a shard."""
        import filelock

        lock = _lock(self.folder / f"{_stem(shard)}.lock")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(blocking=False)
        except filelock.Timeout:
            return False
        except (OSError, NotImplementedError):
            return True
        self._locks[shard] = lock
        return True

    def _release(self, shard: Shard) -> None:
        """Let go of a shard."""
        lock = self._locks.pop(shard, None)
        if lock is not None:
            lock.release()


def gather(shards: Shards, extraction: Extraction, complete: Callable[[], bool]) -> None:
    """Encode what is missing, beside whoever is at work on the same set; return when every shard is there."""
    wanted = extraction.shards()
    meter, pause = Meter(sum(map(len, wanted)), extraction.progress), SHORTEST_PAUSE
    try:
        while (missing := shards.missing(wanted)) and not complete():
            meter.others = meter.total - meter.fresh - sum(map(len, missing))
            meter.tell()
            before = meter.fresh
            _put_all(shards, extraction.encode(shards.claimed(missing, complete), meter))
            if meter.fresh == before:  # the rest is in other hands
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
    finally:
        shards.release_all()


def _put_all(shards: Shards, encoded: Iterable[tuple[Shard, Tensor]]) -> None:
    """Write shards as they come, in a thread beside: hashing and disks must not keep the encoder waiting."""
    under_way: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="ltbench-write") as writer:
        for shard, rows in encoded:
            under_way.append(writer.submit(shards.put, shard, rows))
            if len(under_way) > MOST_UNWRITTEN:
                under_way.popleft().result()
        for written in under_way:
            written.result()


def file_of(rows: Tensor) -> list[bytes | memoryview]:
    """Return the content of a file with these rows, float32 ``[n, D]``."""
    return [header(*rows.shape), numbers(rows)]


def numbers(rows: Tensor) -> memoryview:
    """Return a tensor's numbers as bytes, without copying them."""
    return rows.contiguous().numpy().data.cast("B")


def mapped(path: Path, rows: int | None = None) -> Tensor:
    """Return a file's rows, float32 ``[N, D]``: pages are read as they are used, and shared by all who have it open."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        x: Tensor = file.get_tensor("x")
    if x.ndim != 2 or x.dtype != torch.float32 or rows not in (None, len(x)):
        raise ValueError(f"{path} holds {x.dtype} {list(x.shape)}, not float32 [{rows}, D]")
    return x


def _read(path: Path, rows: int) -> Piece | None:
    """Return a shard's rows, or None, and no file, if it is not what its name says."""
    try:
        sha256 = sha256_of(path)
        if sha256[:HASH_DIGITS] == path.stem.rpartition("-")[2]:
            return Piece(mapped(path, rows), sha256)
        path.unlink()
    except Exception:  # whatever safetensors raises for foreign files
        return None
    return None


def _stem(shard: Shard) -> str:
    """Name a shard."""
    return f"{shard.part}-{shard.start:09d}"


def _lock(path: Path) -> Any:
    """Return a lock file, which another thread than the one that locked it may let go of."""
    import filelock

    return filelock.FileLock(path, thread_local=False)
