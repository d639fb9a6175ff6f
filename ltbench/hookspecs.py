"""What a plugin registers, and the hooks it does so by: plural nouns without arguments, each returning a list of Components."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pluggy

ENTRY_POINT_GROUP = "ltbench"

KINDS = ("dataset", "backbone", "transform", "generator", "classifier")

hookspec = pluggy.HookspecMarker("ltbench")
hookimpl = pluggy.HookimplMarker("ltbench")


@dataclass(frozen=True)
class Component:
    """What a plugin registers: a name, where its class is, and what to say about it.

    ``target`` is ``"package.module:Class"`` and is imported on first use; the class is a frozen, keyword-only
    dataclass of hyper-parameters. ``params`` are bound beforehand, so one class can serve several names.
    ``family`` names take the rest of the name after a colon (``timm:resnet50``), handed over as the parameter
    ``name``. ``requires`` lists distributions whose version can change the result. ``reference`` is a DOI, an
    arXiv number, BibTeX, or ``folklore: …``.
    """

    name: str
    target: str
    summary: str
    params: Mapping[str, Any] = field(default_factory=dict)
    reference: str = ""
    family: bool = False
    requires: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Freeze ``params`` and ``requires``; a wrong type here is the plugin author's mistake."""
        for name in ("name", "target", "summary", "reference"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"Component {name} must be a string, not {getattr(self, name)!r}")
        if not self.name or any(c in self.name for c in "[],@:|'\" "):
            raise ValueError(f"Component name {self.name!r} must not be empty or hold spaces, quotes or any of [ ] , @ : |")
        if self.target.count(":") != 1:
            raise ValueError(f"Component {self.name!r}: target must be 'package.module:Class', not {self.target!r}")
        if isinstance(self.requires, str):
            raise TypeError(f"Component {self.name!r}: requires must be a tuple of distribution names, not a string")
        object.__setattr__(self, "params", dict(self.params))
        object.__setattr__(self, "requires", tuple(self.requires))


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
