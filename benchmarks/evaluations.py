"""What one exact head costs: evaluations and where they go, looks at the curvature, the seconds of products and the rest.

Softmax heads from cold, one at a time, one thread, at four penalties: on simulated features of CIFAR-100-LT's shape, as a long
tail and filled up, and on features of drawn characters at imbalance ratio 100 (extracted first, unless they are there).
An evaluation is two products of all rows with a head. Counts are the same on every run of one numerics class.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from unittest import mock

from heads import Shape, head, run_alone, simulated

import ltbench
from ltbench.config import experiment
from ltbench.execute.group import Context
from ltbench.execute.setting import prepare
from ltbench.files import data_folder
from ltbench.heads.lanes import _Lane
from ltbench.heads.objective import Objective
from ltbench.heads.slopes import Slopes
from ltbench.plan import plan
from ltbench.plugins import discover
from ltbench.suites import load_suite

L2S = (1e-1, 1e-2, 1e-3, 1e-4)

GAPS = (1e-2, 1e-3, 1e-4)
"""Shares of the optimum, whose first evaluations within are told."""

SURE = 1e-7
"""The tolerance of what stands for the optimum."""


def main() -> None:
    """Count, print, and write down."""
    run_alone(("evaluations-cpu", "exact"), count, __doc__)


def count(quick: bool) -> dict[str, Any]:  # noqa: FBT001 - a part is called by its name
    """Return the costs of every head, by problem and penalty."""
    if quick:
        problems = {"simulated, long tail": lambda: simulated(Shape(600, 16, 10, 20))}
    else:
        problems = {
            "simulated, long tail": lambda: simulated(Shape(10_847, 512)),
            "simulated, filled up": lambda: simulated(Shape(50_000, 512, largest=500)),
            "glyphs × hog, long tail": lambda: drawn_characters("hog", "none"),
            "glyphs × hog, filled up by smote": lambda: drawn_characters("hog", "smote"),
            "glyphs × embedded, long tail": lambda: drawn_characters("embedded", "none"),
            "glyphs × embedded, filled up by smote": lambda: drawn_characters("embedded", "smote"),
        }
    return {"problems": {name: costs(make()) for name, make in problems.items()}}


def drawn_characters(backbone: str, generator: str) -> ltbench.Train:
    """Return the training rows of the first seed of glyphs100-lt at ratio 100."""
    table = {**load_suite("glyphs100-lt"), "backbone": [backbone], "generator": [generator], "ratio": [100.0], "seeds": 1}
    made = plan(experiment({**table, "reference": False}), discover(), data_folder())
    context = Context(made, "cpu")
    return prepare(context.material(made.cells[0]), context.recipe(made.cells[0])).train


def costs(train: ltbench.Train) -> dict[str, Any]:
    """Return what heads of four penalties cost on some rows; what heads share, as principal axes, is computed before."""
    ltbench.fit_linear(train, head("softmax").loss, 1.0)
    return {"rows": list(train.x.shape), "classes": train.classes, "heads": [cost(train, l2) for l2 in L2S]}


def cost(train: ltbench.Train, l2: float) -> dict[str, Any]:
    """Fit a head, counting and timing; then again to far more digits, which tells how near each step was to the optimum."""
    values = steps(train, l2, SURE)[1]
    clock = Clock()
    with clock:
        started = time.perf_counter()
        scorer, passed = steps(train, l2)
        taken = time.perf_counter() - started
    least = min(value for _, value, ok in values if ok)
    near = {gap: [number for number, value, ok in passed if ok and value <= (1 + gap) * least] for gap in GAPS}
    within = {f"to {1 + gap:g} of the optimum": numbers[0] if numbers else None for gap, numbers in near.items()}
    calls, loss = clock.seconds["__call__"], clock.seconds["loss in __call__"]
    return {
        "l2": l2,
        "evaluations": clock.counts["__call__"],
        **within,
        "steps too long or short": sum(not ok for *_, ok in passed),
        "looks at the curvature": clock.counts["shape_at"],
        "gap_at_the_end": float(f"{min(v for _, v, ok in passed if ok) / least - 1:.2g}"),
        "converged": scorer.converged,
        "gflop": round(scorer.training_flops / 1e9, 2),
        "seconds": round(taken, 4),
        "shares": {
            "products": round((calls - loss) / taken, 3),
            "losses": round(loss / taken, 3),
            "looks": round(clock.seconds["shape_at"] / taken, 3),
            "rest": round(1 - (calls + clock.seconds["shape_at"]) / taken, 3),
        },
    }


def steps(train: ltbench.Train, l2: float, tolerance: float = 1e-4) -> tuple[Any, list[tuple[int, float, bool]]]:
    """Fit a head; return it, and each step's number, value, and whether it was taken."""
    original, passed = _Lane.accepts, list[tuple[int, float, bool]]()

    def accepts(lane: _Lane, value: float, along: float, slope: float) -> bool:
        taken = original(lane, value, along, slope)
        passed.append((lane.evaluations, value, taken))
        return taken

    with mock.patch.object(_Lane, "accepts", accepts):
        return ltbench.fit_linear(train, head("softmax").loss, l2, tolerance=tolerance), passed


class Clock:
    """Counts and times calls of an objective, its looks at the curvature, and the losses within its calls."""

    def __init__(self) -> None:
        self.counts = {"__call__": 0, "shape_at": 0}
        self.seconds = {"__call__": 0.0, "shape_at": 0.0, "loss in __call__": 0.0}
        self._inside = False

    def __enter__(self) -> None:
        self._patches = [
            mock.patch.object(Objective, "__call__", self._timed("__call__", Objective.__call__)),
            mock.patch.object(Objective, "shape_at", self._timed("shape_at", Objective.shape_at)),
            mock.patch.object(Slopes, "__call__", self._loss(Slopes.__call__)),
        ]
        for patch in self._patches:
            patch.start()

    def __exit__(self, *_: object) -> None:
        for patch in self._patches:
            patch.stop()

    def _timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            self._inside = name == "__call__"
            started = time.perf_counter()
            result = call(*arguments)
            self.seconds[name] += time.perf_counter() - started
            self.counts[name] += 1
            self._inside = False
            return result

        return timed

    def _loss(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            started = time.perf_counter()
            result = call(*arguments)
            if self._inside:
                self.seconds["loss in __call__"] += time.perf_counter() - started
            return result

        return timed


if __name__ == "__main__":
    main()
