"""Files from the web: one process at a time, going on where it stopped, checked by SHA-256. Knows no dataset."""

from __future__ import annotations

import contextlib
import email.message
import errno
import hashlib
import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import filelock

import ltbench

Progress = Callable[[str, int, int | None], None]
Headers = email.message.Message

CHUNK = 1 << 20
TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as lost."""

PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds before each new try; they begin anew whenever bytes have come."""

_PASSING = (408, 425, 429, 500, 502, 503, 504)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Remote:
    """A file on the web and the SHA-256 of its bytes, in hexadecimal digits."""

    url: str
    sha256: str


def download(remote: Remote, path: Path, progress: Progress) -> None:
    """Put a file at ``path``, whole and checked; one that lies there already is only checked.

    What has come of it lies in ``path.part`` until it is whole, and is gone on with if the server says that the file
    has not changed. Raises LtbenchError for a wrong checksum, a full disk, a file or server that is not there.
    """
    if not re.match("https?://", remote.url):
        raise ltbench.UsageError(f"a download must be from http:// or https://, not {remote.url!r}")
    with locked(path, progress):
        if path.exists():
            _check_present(remote, path)
            return
        part = path.with_name(f"{path.name}.part")
        _receive(remote, part, progress)
        found = sha256_of(part)
        if found != remote.sha256:
            _discard(part)
            raise ltbench.LtbenchError(
                f"{remote.url} must have SHA-256 {remote.sha256}, but what came has {found} and was deleted: "
                f"try again, or put the right file into {path.parent} yourself"
            )
        part.replace(path)
        _discard(part)


@contextlib.contextmanager
def locked(path: Path, progress: Progress) -> Iterator[None]:
    """Be the only process at work on ``path``; says so where it has to wait for another. Dies with its process."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path.with_name(f".{path.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            progress(f"wait for another process at work on {path.name}", 0, None)
            lock.acquire()
    except OSError as error:
        raise cannot_write(path.parent, error) from error
    try:
        yield
    finally:
        lock.release()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cannot_write(path: Path, error: OSError, hint: str = "") -> ltbench.LtbenchError:
    """Return what to tell a user whose disk is full or may not be written to."""
    if error.errno in _NO_ROOM:
        return ltbench.LtbenchError(f"there is no room left for {path} ({error.strerror}): make room and try again{hint}")
    return ltbench.LtbenchError(f"cannot write {path}: {error.strerror or error}{hint}")


def write_all(file: IO[bytes], content: bytes) -> None:
    """Write all bytes to an unbuffered file, which may take fewer at a time."""
    view = memoryview(content)
    while view:
        view = view[file.write(view) :]


def _check_present(remote: Remote, path: Path) -> None:
    """Raise LtbenchError if a file that lies there already is not the one wanted; it is left alone."""
    found = sha256_of(path)
    if found != remote.sha256:
        raise ltbench.LtbenchError(
            f"{path} must have SHA-256 {remote.sha256}, not {found}: it is damaged or another file; "
            "move it away and fetch again"
        )


def _receive(remote: Remote, part: Path, progress: Progress) -> None:
    """Bring ``part`` to its full length, over as many connections as it takes."""
    began = _length(part)
    failures = 0
    while True:
        before = _length(part)
        try:
            _connect(remote, part, progress)
            return
        except (OSError, http.client.HTTPException) as error:
            grown = _length(part) != before
            failures = 1 if grown else failures + 1
            _raise_if_hopeless(remote, part, error, came=_length(part) != began)
            if failures > len(PAUSES):
                raise ltbench.LtbenchError(
                    f"the connection to {remote.url} was lost {failures} times in a row ({_cause(error)}): try again later; "
                    f"the {_length(part):,} bytes that came are kept in {part}"
                ) from error
        time.sleep(PAUSES[failures - 1])


def _raise_if_hopeless(remote: Remote, part: Path, error: Exception, *, came: bool) -> None:
    """Raise LtbenchError for what another try does not mend: no such file, or no such server to begin with."""
    aside = f"or put {part.name.removesuffix('.part')} into {part.parent} yourself"
    if isinstance(error, urllib.error.HTTPError):
        if error.code not in _PASSING:
            raise ltbench.LtbenchError(f"{remote.url} answers {error.code} {error.reason}: use another mirror, {aside}")
    elif isinstance(error, urllib.error.URLError) and not came:
        raise ltbench.LtbenchError(
            f"{remote.url} cannot be reached ({_cause(error)}): check the network and its proxy, {aside}"
        ) from error


def _connect(remote: Remote, part: Path, progress: Progress) -> None:
    """Ask for the bytes that are missing and append them; raises OSError where the connection ends early."""
    done, validator = _length(part), _read_validator(part)
    headers = {"Accept-Encoding": "identity", "User-Agent": f"ltbench/{ltbench.__version__}"}
    if done and validator:
        headers |= {"Range": f"bytes={done}-", "If-Range": validator}
    request = urllib.request.Request(remote.url, headers=headers)  # noqa: S310 - the scheme has been checked
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)  # noqa: S310 - the scheme has been checked
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        if _total(error.headers) != done:
            _discard(part)
            raise ConnectionError("the server has a shorter file now") from error
        return
    with answer:
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT or _first(answer.headers) != done:
            _begin(part, answer.headers)
            if answer.status == http.HTTPStatus.PARTIAL_CONTENT:
                raise ConnectionError("the server sent other bytes than it was asked for")
        _append(answer, part, _total(answer.headers), progress)


def _append(answer: http.client.HTTPResponse, part: Path, total: int | None, progress: Progress) -> None:
    """Write what comes to the end of ``part``; raises ConnectionError if it ends before ``total`` bytes are there."""
    name, done = part.name.removesuffix(".part"), _length(part)
    with _writing(part) as file:
        progress(name, done, total)
        while chunk := answer.read1(CHUNK):
            try:
                write_all(file, chunk)
            except OSError as error:
                raise cannot_write(part, error, f"; the {_length(part):,} bytes that came are kept in {part}") from error
            done += len(chunk)
            progress(name, done, total)
    if total is not None and done < total:
        raise ConnectionError(f"it ended after {done:,} of {total:,} bytes")


def _writing(part: Path) -> IO[bytes]:
    """Open for appending, unbuffered, so that errors show where bytes are written."""
    try:
        return part.open("ab", buffering=0)
    except OSError as error:
        raise cannot_write(part, error) from error


def _begin(part: Path, headers: Headers) -> None:
    """Throw away what came before, and note what names this state of the file.

    In this order: a note is never beside bytes of another state, whenever the process ends.
    """
    _discard(part)
    etag = headers.get("ETag", "")
    validator = etag if etag.startswith('"') else headers.get("Last-Modified", "")  # weak tags promise no equal bytes
    if validator:
        try:
            _validator_path(part).write_text(validator, encoding="utf-8")
        except OSError as error:
            raise cannot_write(part, error) from error


def _discard(part: Path) -> None:
    """Delete what has come, and its note."""
    part.unlink(missing_ok=True)
    _validator_path(part).unlink(missing_ok=True)


def _validator_path(part: Path) -> Path:
    """Return where the name of the file's state on the server is noted."""
    return part.with_name(f"{part.name}.version")


def _read_validator(part: Path) -> str:
    """Return the name of the state that ``part`` is of; empty if unknown."""
    path = _validator_path(part)
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _length(path: Path) -> int:
    """Return a file's number of bytes, 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def _total(headers: Headers) -> int | None:
    """Return the whole file's length from an answer's headers, where told."""
    told = headers.get("Content-Range", "").rpartition("/")[2] or headers.get("Content-Length", "")
    return int(told) if told.isdecimal() else None


def _first(headers: Headers) -> int:
    """Return the position of the first byte of a partial answer; -1 if not told."""
    match = re.match(r"bytes (\d+)-", headers.get("Content-Range", ""))
    return int(match[1]) if match else -1


def _cause(error: Exception) -> str:
    """Say in one line what happened."""
    return str(getattr(error, "reason", "") or error or type(error).__name__)
