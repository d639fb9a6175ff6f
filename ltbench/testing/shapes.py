"""The check of shapes and types, for every kind but dataset: what records, heads and features can take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ltbench.components import Resolved
from ltbench.execute.cell import Candidates, run_cell
from ltbench.execute.checked import checked_rows
from ltbench.keys import canonical_json
from ltbench.testing.exercise import CheckFailed, exercise, form, must, require_finite
from ltbench.testing.problem import Problem, long_tailed
from ltbench.types import Rows


def check_shapes_and_types(resolved: Resolved) -> None:
    """Require the shapes, types and ranges of the contract."""
    _CHECKS[resolved.kind](resolved, long_tailed())


def _backbone(resolved: Resolved, problem: Problem) -> None:
    """Require finite floating features ``[B, D]``, and an int as the cost of an image."""
    features = exercise(resolved, problem, "encode uint8 images [32, 32, 3]")["features"]
    count = len(problem.images)
    if not (features.ndim == 2 and len(features) == count and features.is_floating_point()):
        raise CheckFailed(f"features must be floating numbers [{count}, D], not {form(features)}")
    require_finite({"features": features}, "of images")
    flops = resolved.build().load("cpu").flops_per_image
    if type(flops) is not int or flops < 0:
        raise CheckFailed(f"flops_per_image must be an int of at least 0, not {flops!r}")


def _transform(resolved: Resolved, problem: Problem) -> None:
    """Require floating rows ``[N, E]``, the same E for training and test rows."""
    with must("fit and transform rows [N, D]"):
        transformed = resolved.build().fit(problem.train.x)
        made = {"training": transformed(problem.train.x), "test": transformed(problem.test)}
    width = made["training"].shape[-1]
    for name, given in (("training", problem.train.x), ("test", problem.test)):
        rows = made[name]
        if not (isinstance(rows, Tensor) and rows.shape == (len(given), width) and rows.is_floating_point()):
            raise CheckFailed(f"{name} rows must be floating numbers [{len(given)}, {width}], not {form(rows)}")
        require_finite({f"{name} rows": rows}, "of a small problem")


def _generator(resolved: Resolved, problem: Problem) -> None:
    """Require rows, targets, provenance and notes that records and heads can take."""
    with must("draw the budget"):
        rows = checked_rows(resolved.build().fit(problem.train)(problem.budget), problem.train)
    with must("give notes that a record can hold (plain numbers, text, lists, mappings with text as keys)"):
        canonical_json(dict(rows.notes))
    if not (rows.flops is None or type(rows.flops) is int):
        raise CheckFailed(f"flops must be an int or None, not {rows.flops!r}")
    if not rows.x.is_floating_point():
        raise CheckFailed(f"x must hold floating numbers, not {rows.x.dtype}")
    _require_targets(rows.targets)
    _require_provenance(rows, len(problem.train.x), problem.train.classes)


def _classifier(resolved: Resolved, problem: Problem) -> None:
    """Require scores that a real cell takes, trained with synthetic rows among the real, and costs that a record takes."""
    candidates = Candidates(resolved.canonical, [resolved.build()], [{}])
    with must("give scores [N, C] that a run takes"):
        result, _ = run_cell(
            problem.prepared(problem.test, classifier=candidates.instances[0]), candidates, problem.test_labels, 0
        )
    for name, value in {**result["flops"], "parameters": result["parameters"]}.items():
        if not (value is None or type(value) is int):
            raise CheckFailed(f"what a scorer tells of its {name} cost must be an int, not {value!r}")
    with must("tell only what a record can hold"):
        canonical_json({"converged": result["converged"]})


def _require_targets(targets: Tensor) -> None:
    """Require labels in int64, or soft labels that sum to one."""
    if targets.ndim == 1 and targets.dtype != torch.int64:
        raise CheckFailed(f"labels must be int64, not {targets.dtype}")
    if targets.ndim == 2 and len(targets):
        error = float((targets.double().sum(dim=1) - 1).abs().max())
        if not (error <= 1e-6 and bool((targets >= 0).all())):
            raise CheckFailed(f"soft targets must not be negative and sum to one in every row; they are off by {error:.2g}")


def _require_provenance(rows: Rows, count: int, classes: int) -> None:
    """Require parents and donors that are places among the training rows and classes, −1 for none."""
    size = len(rows.x)
    for name, values, high in (("parents", rows.parents, count), ("donors", rows.donors, classes)):
        if values is None:
            continue
        dimensions = (2,) if name == "parents" else (1, 2)
        if values.ndim not in dimensions or len(values) != size or values.dtype != torch.int64:
            wanted = f"[{size}, P]" if name == "parents" else f"[{size}] or [{size}, K]"
            raise CheckFailed(f"{name} must be int64 {wanted}, not {values.dtype} {list(values.shape)}")
        if size and not (int(values.min()) >= -1 and int(values.max()) < high):
            raise CheckFailed(f"{name} must be −1 to {high - 1}, not {int(values.min())} to {int(values.max())}")
    _require_parent_weights(rows.parent_weights, rows.parents)


def _require_parent_weights(weights: Tensor | None, parents: Any) -> None:
    """Require as many weights as parents."""
    if weights is not None and (parents is None or weights.shape != parents.shape):
        shape = "those of parents" if parents is None else list(parents.shape)
        raise CheckFailed(f"parent_weights must have the shape {shape}, not {list(weights.shape)}")


_CHECKS: dict[str, Callable[[Resolved, Problem], None]] = {
    "backbone": _backbone,
    "transform": _transform,
    "generator": _generator,
    "classifier": _classifier,
}
