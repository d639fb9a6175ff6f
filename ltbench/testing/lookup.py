"""From names as users write them, ``classifier:softmax`` or ``smote[k=3]``, to components. Runs no check."""

from __future__ import annotations

from ltbench.components import Resolved, resolve
from ltbench.errors import UsageError, did_you_mean
from ltbench.hookspecs import KINDS
from ltbench.plugins import Registry
from ltbench.specs import expand, parse_spec


def find(registry: Registry, text: str) -> list[Resolved]:
    """Return the component a text names, one for each combination of its ``a|b`` values.

    The kind may stand in front, ``classifier:softmax``; it has to where components of two kinds have the name.
    Raises UsageError for names that are unknown or ambiguous, and for wrong parameters.
    """
    kind, colon, rest = text.strip().partition(":")
    if not colon or kind not in KINDS:
        kind, rest = "", text
    spec = parse_spec(rest)
    kind = kind or _kind_of(registry, spec.name)
    return [resolve(registry, kind, each) for each in expand(spec)]


def _kind_of(registry: Registry, name: str) -> str:
    """Return the one kind that has a component of this name."""
    kinds = [kind for kind in KINDS if name in registry.names(kind)]
    if not kinds:
        known = sorted({each for kind in KINDS for each in registry.names(kind)})
        raise UsageError(f"unknown component {name!r}{did_you_mean(name, known)}: see 'ltbench list'")
    if len(kinds) > 1:
        raise UsageError(f"{name!r} is a {' and a '.join(kinds)}: write {' or '.join(f'{kind}:{name}' for kind in kinds)}")
    return kinds[0]
