"""Shell completion of component and suite names; imports no component."""

from __future__ import annotations

from collections.abc import Callable

import click

Completer = Callable[[click.Context, click.Parameter, str], list[str]]


def complete_names(*kinds: str) -> Completer:
    """Return a completer for names of these kinds; in a list with commas, it completes the last one."""

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
        from ltbench.plugins import discover

        before, comma, last = incomplete.rpartition(",")
        registry = discover()
        names = sorted({name for kind in kinds for name in registry.names(kind)})
        return [f"{before}{comma}{name}" for name in names if name.startswith(last)]

    return complete


def complete_suites(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Complete the names of suites."""
    from ltbench.suites import suite_names

    return [name for name in suite_names() if name.startswith(incomplete)]


def complete_words(*words: str) -> Completer:
    """Return a completer for fixed words."""
    return lambda _, __, incomplete: [word for word in words if word.startswith(incomplete)]


def complete_metrics(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Complete what cells can be ordered by."""
    from ltbench.leaderboard.frame import METRICS
    from ltbench.longtail import GROUPS

    return [name for name in (*METRICS, *GROUPS) if name.startswith(incomplete)]
