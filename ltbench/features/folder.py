"""Sets of features on disk, one folder each: manifest, files, and whether they are whole. Knows no torch and no encoder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ltbench.errors import LtbenchError, UsageError
from ltbench.features.manifest import HASH_DIGITS, SHARD, DamagedError, Manifest, PartFile, read_manifest
from ltbench.files import write_atomically

READ_ONLY = 0o444
ALIGNMENT = 64
"""Numbers begin at a multiple of so many bytes, which is what vector instructions like."""

CHECKED = "checked.json"
"""In which state each file was last found whole."""

IMPORTED = "imported"
"""An empty file beside a set that was brought here."""

KEY = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class SetFolder:
    """The folder of one set; ``manifest.json`` makes it complete, ``unfinished-*`` hold shards until then."""

    path: Path

    @property
    def key(self) -> str:
        """The key of the set."""
        return self.path.name

    def manifest(self) -> Manifest | None:
        """Return the manifest, None if there is none; raise DamagedError for a wrong one, OSError for an unreadable one."""
        try:
            content = (self.path / "manifest.json").read_bytes()
        except FileNotFoundError:
            return None
        try:
            made = read_manifest(content)
        except DamagedError as error:
            raise DamagedError(f"{self.path / 'manifest.json'}: {error}") from None
        if made.key != self.key:
            raise DamagedError(f"{self.path / 'manifest.json'}: its key is {made.key}, not that of its folder")
        return made

    def is_complete(self) -> bool:
        """Return whether there is a manifest that can be read."""
        try:
            return self.manifest() is not None
        except (DamagedError, OSError):
            return False

    def check(self, manifest: Manifest) -> None:
        """Raise DamagedError for the first file that is not what the manifest says.

        A file is hashed when it is new here, or its size or time has changed: that it was found whole is remembered
        beside it, where the folder can be written. ``damage`` believes nothing.
        """
        known, found = self._checked(), {part.file: self._state(part) for part in manifest.parts.values()}
        for part in manifest.parts.values():
            if known.get(part.file) != found[part.file]:
                self._check_hash(part)
        if known != found:
            self._remember(found)

    def damage(self) -> Iterator[str]:
        """Yield what is wrong with any file of the set, finished or not: every byte is read."""
        try:
            manifest = self.manifest()
        except (DamagedError, OSError) as error:
            yield str(error)
            return
        for part in manifest.parts.values() if manifest is not None else ():
            try:
                self._state(part)
                self._check_hash(part)
            except (DamagedError, OSError) as error:
                yield str(error)
        for shard in sorted(self.path.glob("unfinished-*/*.safetensors")):
            with contextlib.suppress(FileNotFoundError):  # a run has finished the set meanwhile
                if sha256_of(shard)[:HASH_DIGITS] != shard.stem.rpartition("-")[2]:
                    yield f"{shard}: its SHA-256 is not that of its name"

    def commit(self, manifest: Manifest) -> None:
        """Make the set complete: its files are there, and were written by this process."""
        write_read_only(self.path, lambda _: "manifest.json", [manifest.write()])
        self._remember({part.file: self._state(part) for part in manifest.parts.values()})

    def salvage(self, manifest: Manifest) -> None:
        """Turn a damaged set into an unfinished one: its whole shards stay, and need not be extracted again."""
        for name, part in manifest.parts.items():
            with contextlib.suppress(OSError, LtbenchError):
                for start, rows, content in _whole_shards(self.path / part.file, part):
                    named = named_after_hash(f"{name}-{start:09d}")
                    write_read_only(self.path / f"unfinished-{manifest.batch}", named, [header(rows, part.width), content])
        with contextlib.suppress(OSError):
            self.forget()

    def forget(self) -> None:
        """Take the manifest away: the set is not complete any more."""
        (self.path / "manifest.json").unlink(missing_ok=True)

    def is_imported(self) -> bool:
        """Return whether the set was brought here as files."""
        return (self.path / IMPORTED).is_file()

    def mark_imported(self) -> None:
        """Remember that the set was brought here as files: runs then prefer it to features of this machine."""
        write_atomically(self.path / IMPORTED, b"")

    def remove(self) -> None:
        """Delete the set; whoever has it open keeps it."""
        try:
            self.forget()
            shutil.rmtree(self.path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise LtbenchError(f"cannot delete {self.path}: {error.strerror or error}") from error

    def open(self, name: str) -> IO[bytes]:
        """Open a file of the set."""
        return (self.path / name).open("rb")

    def used(self) -> None:
        """Remember that the set was used now."""
        with contextlib.suppress(OSError):
            os.utime(self.path / CHECKED)

    def last_used(self) -> float:
        """Return when the set was last used, or anything of it written, in seconds since 1970."""
        with contextlib.suppress(OSError):
            return (self.path / CHECKED).stat().st_mtime
        return max((status.st_mtime for _, status in self.files()), default=time.time())

    def files(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Yield every file below the folder; one that goes away meanwhile is left out."""
        for path in [self.path, *self.path.rglob("*")]:
            with contextlib.suppress(FileNotFoundError):
                yield path, path.stat()

    def _check_hash(self, part: PartFile) -> None:
        """Raise DamagedError for a file whose content is not what the manifest says."""
        if sha256_of(self.path / part.file) != part.sha256:
            raise DamagedError(f"{self.path / part.file}: its SHA-256 is not that of the manifest")

    def _state(self, part: PartFile) -> list[int]:
        """Return a file's size and time; raise DamagedError if it is missing or has another size."""
        path = self.path / part.file
        try:
            status = path.stat()
        except FileNotFoundError:
            raise DamagedError(f"{path}: it is missing") from None
        if status.st_size != part.size:
            raise DamagedError(f"{path}: it has {status.st_size} bytes, not {part.size}")
        return [status.st_size, status.st_mtime_ns]

    def _checked(self) -> dict[str, list[int]]:
        """Return the state in which each file was last found whole."""
        try:
            known = json.loads((self.path / CHECKED).read_bytes())
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def _remember(self, found: dict[str, list[int]]) -> None:
        """Remember in which state files were found whole; a folder that cannot be written costs hashing them again."""
        with contextlib.suppress(LtbenchError):
            write_atomically(self.path / CHECKED, json.dumps(found).encode())


def sets(cache: Path) -> list[SetFolder]:
    """Return every set of a cache folder, complete or not, by key."""
    return sets_in(cache / "features")


def sets_in(folder: Path) -> list[SetFolder]:
    """Return the sets whose folders lie in a folder, by key."""
    return [SetFolder(path) for path in sorted(folder.glob("*")) if KEY.fullmatch(path.name) and path.is_dir()]


def one_set(cache: Path, key: str) -> SetFolder:
    """Return the set whose key begins so, or raise UsageError."""
    found = [each for each in sets(cache) if each.key.startswith(key)]
    if len(found) != 1:
        raise UsageError(f"{len(found)} sets of features have a key that begins with {key!r}: see 'ltbench cache ls'")
    return found[0]


def header(rows: int, width: int) -> bytes:
    """Return what stands in a safetensors file before the numbers of ``x``, float32 ``[rows, width]``."""
    said = {"x": {"dtype": "F32", "shape": [rows, width], "data_offsets": [0, 4 * rows * width]}}
    text = json.dumps(said, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def named_after_hash(stem: str) -> Callable[[str], str]:
    """Return how a file is named by its SHA-256."""
    return lambda sha256: f"{stem}-{sha256[:HASH_DIGITS]}.safetensors"


def write_read_only(folder: Path, name: Callable[[str], str], content: Iterable[bytes | memoryview]) -> tuple[str, int, str]:
    """Write a read-only file atomically, under the name that its SHA-256 gives it; return name, size and SHA-256.

    Raises LtbenchError if it cannot be written; nothing is left behind then.
    """
    temporary = folder / f".{uuid.uuid4().hex}.tmp"
    sha, size = hashlib.sha256(), 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            for piece in content:
                sha.update(piece)
                size += file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(READ_ONLY)
        named = name(sha.hexdigest())
        temporary.replace(folder / named)
    except OSError as error:
        raise LtbenchError(f"cannot write to {folder}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return named, size, sha.hexdigest()


def _whole_shards(path: Path, part: PartFile) -> Iterator[tuple[int, int, bytes]]:
    """Yield (first row, rows, numbers) of every shard of a file whose hash is right."""
    with path.open("rb") as file:
        file.seek(len(header(part.rows, part.width)))
        for number, wanted in enumerate(part.shards):
            rows = min(SHARD, part.rows - number * SHARD)
            content = file.read(4 * rows * part.width)
            if hashlib.sha256(header(rows, part.width) + content).hexdigest() == wanted:
                yield number * SHARD, rows, content


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
