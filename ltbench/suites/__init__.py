"""Named protocols: the TOML files beside this module. Every version of a suite stays, as ``name@version.toml``."""

from __future__ import annotations

import importlib.resources
import tomllib
from typing import Any

from ltbench.errors import UsageError, did_you_mean


def suite_names() -> list[str]:
    """Return the names of the suites that come with ltbench, in their present versions."""
    return [name for name in _files() if "@" not in name]


def load_suite(name: str) -> dict[str, Any]:
    """Return a suite's table: ``name`` in its present version, or ``name@version``; raise UsageError for an unknown one."""
    base, at, version = name.partition("@")
    if base not in suite_names():
        raise UsageError(f"unknown suite {name!r}{did_you_mean(base, suite_names())}. Suites: {', '.join(suite_names())}")
    present = _read(base)
    if not at or version == str(present["version"]):
        return present
    if name not in _files():
        older = sorted(each.partition("@")[2] for each in _files() if each.startswith(f"{base}@"))
        raise UsageError(f"suite {base!r} has no version {version!r}; it has {', '.join([*older, str(present['version'])])}")
    return _read(name)


def _files() -> list[str]:
    """Return the names of all files of suites."""
    files = importlib.resources.files(__name__).iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def _read(name: str) -> dict[str, Any]:
    """Read one file."""
    return tomllib.loads((importlib.resources.files(__name__) / f"{name}.toml").read_text(encoding="utf-8"))
