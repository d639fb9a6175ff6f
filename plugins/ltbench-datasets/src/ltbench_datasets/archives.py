"""Unpacking archives that may be hostile: tar.gz and zip, plain files and folders only, within limits. Knows no dataset."""

from __future__ import annotations

import gzip
import io
import re
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

import ltbench
from ltbench_datasets.download import Progress, cannot_write, write_all

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

CHUNK = 1 << 20
HEADERS = 1 << 20
"""Bytes that an archive may take beside its files' content and the usual 2 KiB for each of them."""


@dataclass(frozen=True)
class Limits:
    """What an archive may hold at most: files and folders, bytes once unpacked, and those for each packed byte."""

    members: int
    size: int
    ratio: float = 200.0


@dataclass(frozen=True)
class Member:
    """One entry: its name, how many bytes it says it has, and how to read them; a folder has nothing to read."""

    name: str
    size: int
    open: Callable[[], IO[bytes]] | None


class Refused(ltbench.LtbenchError):
    """An archive that is not unpacked, because of what it would do or what is wrong with it."""


@contextmanager
def unpacked(archive: Path, limits: Limits, progress: Progress) -> Iterator[Path]:
    """Unpack into a new folder beside the archive, give its path, and delete afterwards what is still in it.

    One process at a time: the caller holds a lock. Raises LtbenchError, and leaves nothing behind, for an archive that is
    damaged or beyond its limits, names places outside the folder or a file twice, or holds links, devices or encrypted
    files; and where there is no room.
    """
    folder = archive.with_name(f".{archive.name}.unpacking")
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
    try:
        _unpack(archive, folder, limits, progress)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unpack(archive: Path, folder: Path, limits: Limits, progress: Progress) -> None:
    """Write every member, counting names and bytes."""
    count = size = 0
    try:
        folder.mkdir()
        for member in _members(archive, limits):
            count, size = count + 1, size + member.size
            _require(archive, count <= limits.members, f"holds more than {limits.members:,} files and folders")
            _require_size(archive, size, limits)
            _write(archive, folder, member)
            progress(f"unpack {archive.name}", size, None)
    except (ltbench.LtbenchError, MemoryError):
        raise
    except Exception as error:  # whatever the parsers raise on broken bytes
        if isinstance(error, OSError) and error.errno is not None:
            raise cannot_write(folder.parent, error, "; nothing of the archive was unpacked") from error
        raise Refused(f"archive {archive} is damaged ({error}): delete it and fetch it again") from error


def _members(archive: Path, limits: Limits) -> Iterator[Member]:
    """Return the entries of an archive, told by its first bytes."""
    with archive.open("rb") as file:
        start = file.read(4)
        file.seek(0)
        if start[:2] == b"\x1f\x8b":
            yield from _tar_members(archive, file, limits)
        elif start == b"PK\x03\x04":
            yield from _zip_members(archive, file)
        else:
            raise Refused(f"archive {archive} must be tar.gz or zip, it is neither")


def _tar_members(archive: Path, file: IO[bytes], limits: Limits) -> Iterator[Member]:
    """Read a tar.gz from front to back, never holding more of it than the limits allow."""
    most = limits.size + 2048 * limits.members + HEADERS
    with gzip.GzipFile(fileobj=file) as plain:
        bounded = io.BufferedReader(_Bounded(plain, most, archive), 1 << 16)
        with tarfile.open(fileobj=bounded, mode="r|") as tar:
            for info in tar:
                _require(archive, info.isfile() or info.isdir(), f"holds {info.name!r}, a link or device")
                yield Member(info.name, info.size, None if info.isdir() else _reader(tar, info))
        while bounded.read(CHUNK):  # so that the checksum at the end is read
            pass


def _reader(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Callable[[], IO[bytes]]:
    """Return how to read a tar's file."""
    return lambda: tar.extractfile(info) or io.BytesIO()


def _zip_members(archive: Path, file: IO[bytes]) -> Iterator[Member]:
    """Read a zip by its list of contents; its checksums are verified as files are read."""
    with zipfile.ZipFile(file) as found:
        for info in found.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            _require(archive, kind in (0, stat.S_IFREG, stat.S_IFDIR), f"holds {info.filename!r}, a link or device")
            _require(archive, not info.flag_bits & 1, f"holds {info.filename!r}, which is encrypted")
            yield Member(info.filename, info.file_size, None if info.is_dir() else _opener(found, info))


def _opener(found: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], IO[bytes]]:
    """Return how to read a zip's file."""
    return lambda: found.open(info)


def _write(archive: Path, folder: Path, member: Member) -> None:
    """Write one file or folder, with no more bytes than it said; neither owner, time nor mode is taken over."""
    path = folder / _safe(archive, member.name)
    try:
        (path if member.open is None else path.parent).mkdir(parents=True, exist_ok=True)
        if member.open is None:
            return
        target = path.open("xb", buffering=0)
    except (FileExistsError, IsADirectoryError, NotADirectoryError):
        raise Refused(f"archive {archive} is refused: it holds {member.name!r} twice") from None
    left = member.size
    with target, member.open() as source:
        while chunk := source.read(min(CHUNK, left + 1)):
            left -= len(chunk)
            _require(archive, left >= 0, f"holds {member.name!r}, which is larger than it says")
            write_all(target, chunk)
    _require(archive, left == 0, f"holds {member.name!r}, which is smaller than it says")


def _safe(archive: Path, name: str) -> PurePosixPath:
    r"""Return a member's name as a relative path, or refuse it: ``..``, ``/x``, ``C:x``, ``\``, control characters."""
    path = PurePosixPath(name)
    outside = path.is_absolute() or ".." in path.parts or not path.parts
    _require(archive, not outside, f"holds {name!r}, which lies outside its folder")
    _require(archive, not re.search(r"[\x00-\x1f\\]|^[A-Za-z]:", name), f"holds {name!r}, which is no name for a file")
    return path


def _require_size(archive: Path, size: int, limits: Limits) -> None:
    """Refuse what is too large, or far too large for its archive."""
    _require(archive, size <= limits.size, f"holds more than {limits.size:,} bytes")
    packed = archive.stat().st_size
    most = limits.ratio * packed + CHUNK
    _require(archive, size <= most, f"holds more than {limits.ratio:g} bytes for each of its {packed:,}")


def _require(archive: Path, holds: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as a sentence
    """Refuse the archive, with a reason, unless something holds."""
    if not holds:
        raise Refused(f"archive {archive} is refused: it {otherwise}")


class _Bounded(io.RawIOBase):
    """A stream of which no more than so many bytes are ever read or skipped: a tar's own headers may be a bomb."""

    def __init__(self, stream: gzip.GzipFile, most: int, archive: Path) -> None:
        """Start counting."""
        self._stream, self._left, self._archive = stream, most, archive

    def readable(self) -> bool:
        """Say that this can be read."""
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        """Read as files do, up to the bound."""
        count = self._stream.readinto(buffer)
        self._left -= count
        _require(self._archive, self._left >= 0, "holds more than its files account for")
        return count
