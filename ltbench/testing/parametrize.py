"""The kit in pytest: one test for each component and check. Imports pytest only when it is used."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ltbench.components import Resolved
from ltbench.errors import SkipCell, UsageError, did_you_mean
from ltbench.plugins import Registry, discover
from ltbench.testing.catalogue import Check, checks_for, name_of
from ltbench.testing.lookup import find


def parametrize_with_checks(
    components: Iterable[str], expected_failures: Mapping[str, str] | None = None, registry: Registry | None = None
) -> Callable[..., Any]:
    """Return a decorator for a test that takes ``component`` and ``check``, and calls ``check(component)``.

    ``components`` are names such as ``classifier:softmax`` or ``smote[k=3]``; the kind may be left out where only one
    has the name. ``expected_failures`` maps names of checks to the reason why they fail: these tests must fail.
    ``registry`` is by default that of the installed plugins. Raises UsageError for unknown names.
    """
    import pytest

    registry = discover() if registry is None else registry
    found = [resolved for text in components for resolved in find(registry, text)]
    reasons = _reasons(expected_failures or {}, {name_of(check) for each in found for check in checks_for(each.kind)})
    parameters = []
    for name, resolved in zip(_names(found), found, strict=True):
        for check in checks_for(resolved.kind):
            reason = reasons.get(name_of(check))
            marks = () if reason is None else (pytest.mark.xfail(reason=reason, strict=True),)
            parameters.append(pytest.param(resolved, _skipping(check), id=f"{name}-{name_of(check)}", marks=marks))
    decorator: Callable[..., Any] = pytest.mark.parametrize(("component", "check"), parameters)
    return decorator


def _reasons(expected: Mapping[str, str], known: set[str]) -> dict[str, str]:
    """Return the reasons by name, without ``check_``; raise UsageError for a name that is no check's."""
    reasons = {name.removeprefix("check_"): reason for name, reason in expected.items()}
    for name, reason in reasons.items():
        if name not in known:
            raise UsageError(f"expected_failures names no check of these components: {name!r}{did_you_mean(name, known)}")
        if not reason.strip():
            raise UsageError(f"expected_failures must say why {name!r} fails")
    return reasons


def _names(found: list[Resolved]) -> list[str]:
    """Return canonical names, with the kind in front where two kinds share one."""
    kinds: dict[str, set[str]] = {}
    for resolved in found:
        kinds.setdefault(resolved.canonical, set()).add(resolved.kind)
    return [f"{r.kind}:{r.canonical}" if len(kinds[r.canonical]) > 1 else r.canonical for r in found]


def _skipping(check: Check) -> Check:
    """Return the check, with a component's stated reason to skip as pytest's."""
    import pytest

    @functools.wraps(check)
    def run(resolved: Resolved) -> None:
        try:
            check(resolved)
        except SkipCell as reason:
            pytest.skip(str(reason))

    return run
