"""Failures as values: which component, what happened, and what status a record gets."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ltbench.errors import SkipCell
from ltbench.records import Status


@dataclass(frozen=True)
class Failure:
    """What a record keeps of a failure: its status, the kinds of component to blame, and what is told of it."""

    status: Status
    blamed: tuple[str, ...]
    told: Mapping[str, Any] = field(default_factory=dict)


class SourceFailed(Exception):  # noqa: N818 - a failure to record, not an error to show
    """There are no features, for a reason that was found earlier, maybe by another process."""

    def __init__(self, failure: Failure) -> None:
        """Remember the reason."""
        super().__init__(failure.told.get("error", failure.status))
        self.failure = failure


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


def failure_of(error: BaseException) -> Failure:
    """Return what a record keeps of an error; without a component to blame, generator and classifier share it."""
    if isinstance(error, SourceFailed):
        return error.failure
    status = _status(_cause(error))
    blamed = (error.kind,) if isinstance(error, ComponentFailure) else ("generator", "classifier")
    return Failure(status, blamed, {"reason": str(error)} if status == "skipped" else describe(error))


def _cause(error: BaseException) -> BaseException:
    """Return what a component raised, whatever that came from in turn; any other error as it is."""
    return error.__cause__ if isinstance(error, ComponentFailure) and error.__cause__ else error


def _status(error: BaseException) -> Status:
    """Return the status of a record that an error makes."""
    if isinstance(error, SkipCell):
        return "skipped"
    if isinstance(error, WorkerDied):
        return error.status
    refused = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)  # what torch says on the CPU
    out = refused or isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return "out of memory" if out else "failed"


def describe(error: BaseException) -> dict[str, Any]:
    """Return what a record keeps of a failure: the error, and where it was raised."""
    cause = _cause(error)
    frames = traceback.extract_tb(cause.__traceback__)
    return {
        "error": str(cause) if isinstance(cause, WorkerDied) else " ".join(f"{type(cause).__name__}: {cause}".split()),
        "where": [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} in {frame.name}" for frame in frames[-6:]],
    }
