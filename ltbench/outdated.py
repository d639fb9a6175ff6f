"""Which records other code has made than is installed now. Imports no component, so tables stay quick to print."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ltbench.errors import UsageError
from ltbench.keys import code_hash, source_of
from ltbench.plugins import Registered, Registry
from ltbench.records import Record


def outdated(records: Iterable[Record], registry: Registry) -> dict[str, int]:
    """Return how many records each component has made with other code than it has now, by kind and name.

    A component that is not installed here, or whose class lies elsewhere than its target says, tells nothing.
    """
    counts: Counter[str] = Counter()
    known: dict[tuple[str, str, str], str | None] = {}
    for record in records:
        parts = record.provenance.get("key_parts")
        if not isinstance(parts, Mapping):
            continue
        for kind in ("transform", "generator", "classifier"):
            part = parts.get(kind)
            if not isinstance(part, Mapping) or "code" not in part:
                continue
            name = (kind, str(part.get("name", "")).partition(":")[0], str(part.get("distribution", "")))
            if name not in known:
                known[name] = _code_now(registry, *name)
            if known[name] not in (None, part["code"]):
                counts[f"{kind} {name[1]}"] += 1
    return dict(counts)


def _code_now(registry: Registry, kind: str, name: str, distribution: str) -> str | None:
    """Return the hash of a component's code, None if it cannot be told without importing it."""
    for registered in registry.components(kind):
        if (registered.component.name, registered.distribution) == (name, distribution):
            return _hash_of(registered)
    return None


def _hash_of(registered: Registered) -> str | None:
    """Return the hash of the module that a target names, if the class is defined in it."""
    module, _, class_name = registered.component.target.partition(":")
    try:
        path = source_of(module)
        if path is None or path.suffix != ".py":
            return None
        body: list[Any] = ast.parse(path.read_bytes()).body
        defined = any(isinstance(node, ast.ClassDef) and node.name == class_name for node in body)
        return code_hash(module) if defined else None
    except (UsageError, OSError, SyntaxError, ValueError):
        return None
