"""Failures as values: which component, what happened, and what status a record gets."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from typing import Any

from ltbench.errors import SkipCell
from ltbench.records import Status


class ComponentFailure(Exception):  # noqa: N818 - a failure to record, not an error to show
    """A plugin's component raised; names it, with the cause as ``__cause__``."""

    def __init__(self, kind: str, name: str) -> None:
        """Remember who failed."""
        super().__init__(f"{kind} {name}")
        self.kind, self.name = kind, name


class WorkerDied(Exception):  # noqa: N818 - names what happened
    """A worker process was lost with its cell: ``timed out`` or ``killed``."""

    def __init__(self, status: Status, message: str) -> None:
        """Remember which."""
        super().__init__(message)
        self.status: Status = status


@contextlib.contextmanager
def component_failure(kind: str, name: str) -> Iterator[None]:
    """Blame whatever is raised inside on a component; a stated reason to skip passes through."""
    try:
        yield
    except (SkipCell, ComponentFailure, KeyboardInterrupt):
        raise
    except (Exception, SystemExit) as error:
        raise ComponentFailure(kind, name) from error


def status_of(error: BaseException) -> Status:
    """Return the status of a record that an error makes."""
    cause = error.__cause__ or error
    if isinstance(cause, SkipCell):
        return "skipped"
    if isinstance(cause, WorkerDied):
        return cause.status
    return "out of memory" if isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError" else "failed"


def describe(error: BaseException) -> dict[str, Any]:
    """Return what a record keeps of a failure: the error, and where it was raised."""
    cause = error.__cause__ if isinstance(error, ComponentFailure) and error.__cause__ else error
    frames = traceback.extract_tb(cause.__traceback__)
    return {
        "error": str(cause) if isinstance(cause, WorkerDied) else " ".join(f"{type(cause).__name__}: {cause}".split()),
        "where": [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} in {frame.name}" for frame in frames[-6:]],
    }
