"""The hooks a plugin may implement: plural nouns without arguments, each returning a list of Components."""

from __future__ import annotations

import pluggy

from ltbench.types import Component

ENTRY_POINT_GROUP = "ltbench"

hookspec = pluggy.HookspecMarker("ltbench")
hookimpl = pluggy.HookimplMarker("ltbench")


@hookspec
def ltbench_datasets() -> list[Component]:
    """Return datasets: ``load(folder) -> ltbench.Dataset``."""
    return []


@hookspec
def ltbench_backbones() -> list[Component]:
    """Return backbones: ``load(device) -> encoder``."""
    return []


@hookspec
def ltbench_transforms() -> list[Component]:
    """Return feature transforms: ``fit(x) -> callable``."""
    return []


@hookspec
def ltbench_generators() -> list[Component]:
    """Return generators of synthetic rows: ``fit(train) -> sampler``."""
    return []


@hookspec
def ltbench_classifiers() -> list[Component]:
    """Return classifiers: ``fit(train) -> scorer``, or ``loss(batch)`` and an ``l2``."""
    return []
