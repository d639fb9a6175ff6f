"""Names made of content: canonical JSON, its hash, and a hash of code that ignores comments and docstrings."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

ENGINE_VERSION = 8
"""Raised when a change to splits, streams, solvers or selection can change a result."""

METRIC_VERSION = 3
"""Raised when a change to ``metrics`` can change a result."""


def canonical_json(value: Any) -> str:
    """Write JSON in the one form that is hashed: sorted keys, UTF-8, no blanks, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """Return the first 32 hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:32]


@functools.cache
def code_hash(module: str) -> str:
    """Hash a module's code and that of every module of its own package that it imports, in turn.

    Comments, docstrings, blank lines and the file's place do not count. Nor do the packages a module lies in, unless
    it imports from them: that is where plugins register, and a new component must not outdate the others. A module
    without Python source (compiled) counts by its bytes.
    """
    found: dict[str, str] = {}
    pending = [module]
    while pending:
        name = pending.pop()
        if name in found:
            continue
        path = source_of(name)
        if path is None:
            continue
        if path.suffix != ".py":
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
            continue
        tree = ast.parse(path.read_bytes())
        found[name] = hashlib.sha256(json.dumps(_shape(tree)).encode()).hexdigest()
        pending += _own_imports(tree, name, is_package=path.name == "__init__.py")
    if module not in found:
        raise ValueError(f"module {module!r} has no source to hash")
    return digest(found)


def source_of(name: str) -> Path | None:
    """Return the file of a module, or None for a name that is no module (an attribute imported from one)."""
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None):
        return Path(str(loaded.__file__))
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin and Path(spec.origin).is_file() else None


def _own_imports(tree: ast.AST, module: str, *, is_package: bool) -> list[str]:
    """Return the modules of the same top-level package that a module names in an import, anywhere in it."""
    top = module.partition(".")[0]
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".") if is_package else module.split(".")[:-1]
                base = ".".join([*parents[: len(parents) - node.level + 1], *([node.module] if node.module else [])])
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return [name for name in names if name.partition(".")[0] == top]


def _shape(node: Any) -> Any:
    """Turn a syntax tree into lists and strings without docstrings, positions and empty fields.

    Empty fields are left out because newer Pythons add optional ones: the hash is the same on all of them.
    """
    if isinstance(node, ast.AST):
        fields = [(name, _shape(value)) for name, value in ast.iter_fields(_without_docstring(node)) if value not in (None, [])]
        return [type(node).__name__, *[[name, value] for name, value in fields if value != []]]
    if isinstance(node, list):
        return [_shape(item) for item in node]
    return repr(node)


def _without_docstring(node: ast.AST) -> ast.AST:
    """Return a module, class or function without the string that opens its body."""
    body = getattr(node, "body", None)
    documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    if not (documented and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)):
        return node
    if not isinstance(body[0].value.value, str):
        return node
    fields = dict(ast.iter_fields(node))
    return type(node)(**{**fields, "body": body[1:]})
