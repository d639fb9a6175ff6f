"""ltbench: long-tail image classification on frozen foundation models, benchmarked plugin by plugin.

Importing this package imports no torch: names are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ltbench.errors import LtbenchError, SkipCell, UsageError
from ltbench.hookspecs import Component, hookimpl

if TYPE_CHECKING:
    from ltbench.files import cache_folder, write_atomically
    from ltbench.heads import CosineScorer, LinearScorer, Recipe, Scales, SolverName, fit_linear, fit_sgd, softmax_loss
    from ltbench.runs import Run, run
    from ltbench.streams import Stream
    from ltbench.types import Batch, Dataset, Part, Rows, Scores, Train

__version__ = "0.1.0"

_LAZY = {
    "Batch": "ltbench.types",
    "CosineScorer": "ltbench.heads",
    "Dataset": "ltbench.types",
    "LinearScorer": "ltbench.heads",
    "Part": "ltbench.types",
    "Recipe": "ltbench.heads",
    "Rows": "ltbench.types",
    "Run": "ltbench.runs",
    "Scales": "ltbench.heads",
    "Scores": "ltbench.types",
    "SolverName": "ltbench.heads",
    "Stream": "ltbench.streams",
    "Train": "ltbench.types",
    "cache_folder": "ltbench.files",
    "fit_linear": "ltbench.heads",
    "fit_sgd": "ltbench.heads",
    "run": "ltbench.runs",
    "softmax_loss": "ltbench.heads",
    "write_atomically": "ltbench.files",
}

__all__ = [
    "Batch",
    "Component",
    "CosineScorer",
    "Dataset",
    "LinearScorer",
    "LtbenchError",
    "Part",
    "Recipe",
    "Rows",
    "Run",
    "Scales",
    "Scores",
    "SkipCell",
    "SolverName",
    "Stream",
    "Train",
    "UsageError",
    "cache_folder",
    "fit_linear",
    "fit_sgd",
    "hookimpl",
    "run",
    "softmax_loss",
    "write_atomically",
]


def __getattr__(name: str) -> Any:
    """Load a public name that most commands do without, on first use."""
    if name not in _LAZY:
        raise AttributeError(f"module 'ltbench' has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value
