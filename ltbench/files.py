"""Files that a reader never sees half of, and where ltbench keeps its own."""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from ltbench.errors import LtbenchError, UsageError

CACHE_VARIABLE = "LTBENCH_CACHE"
DATA_VARIABLE = "LTBENCH_DATA"


def write_atomically(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write to a temporary file in the same folder, flush, fsync and rename; the folder is made if needed.

    ``content`` is bytes, or what writes to the open file: whatever is larger than memory should be.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            content(file) if callable(content) else file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise LtbenchError(f"cannot write {path}: {error.strerror or error}") from error
        raise


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file, which other processes wait for; it is let go of when its process ends, however that ends."""
    import filelock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path)
        lock.acquire()
    except OSError as error:
        raise LtbenchError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


def cache_folder() -> Path:
    """Return where features are cached: ``LTBENCH_CACHE``, or the platform's cache folder; UsageError if a file is there."""
    return _folder(CACHE_VARIABLE, _platform_cache)


def data_folder() -> Path:
    """Return where datasets lie: ``LTBENCH_DATA``, or ``data`` in the cache folder; UsageError if a file is there."""
    return _folder(DATA_VARIABLE, lambda: cache_folder() / "data")


def use_data_folder(path: Path) -> None:
    """Let datasets lie in another folder, for this process and those it starts."""
    os.environ[DATA_VARIABLE] = str(path)


def need_writable(folder: Path, remedy: str) -> None:
    """Make a folder; raise UsageError, with what to do, if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"cannot write in {folder} ({error.strerror or error}): {remedy}") from None


def _folder(variable: str, default: Callable[[], Path]) -> Path:
    """Return the folder an environment variable names, or another; raise UsageError where a file is in its place."""
    text = os.environ.get(variable)
    try:
        folder = Path(text).expanduser() if text else default()
    except RuntimeError:
        raise UsageError(f"{variable} must name a folder, and {text} begins with the home of an unknown user") from None
    for path in (folder, *folder.parents):
        if os.path.exists(path):  # noqa: PTH110 - False, not an error, for a path that cannot be
            if path.is_dir():
                break
            raise UsageError(f"{path} is a file, and {folder} must be a folder: let {variable} name another")
    return folder


def _platform_cache() -> Path:
    """Return the platform's cache folder for ltbench."""
    import platformdirs

    return platformdirs.user_cache_path("ltbench", appauthor=False)
