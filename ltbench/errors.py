"""Errors a user can act on; each message says what must be what, what it is, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LtbenchError(Exception):
    """Something a user can mend; the command line prints its message alone, without a traceback."""

    exit_code = 3


class UsageError(LtbenchError):
    """A wrong name, parameter, file or option, found before any work is done."""

    exit_code = 2


class ImageError(LtbenchError):
    """An image of a dataset that cannot be read; the message names it."""


class SkipCell(Exception):  # noqa: N818 - not an error: a component's stated reason not to serve a cell
    """Raised by a component that cannot serve a cell (zero-shot without text, say), with the reason."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the closest known names, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=2, cutoff=0.6)
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""
