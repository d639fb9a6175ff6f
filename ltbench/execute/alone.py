"""One method alone: the steps that a cell takes, each under the clock. Its results are thrown away."""

from __future__ import annotations

import functools
import statistics
import time
from dataclasses import dataclass

from ltbench.calibration import PARTS, SECONDS
from ltbench.data import views_wanted
from ltbench.execute.cell import Candidates, folds_seen, score_rows
from ltbench.execute.meters import joules_so_far, peak_bytes
from ltbench.execute.rows import Material, Recipe
from ltbench.execute.setting import prepare
from ltbench.heads import choose, fit_classifier

COUNTER_SECONDS = 1.0
"""Energy counters move every 20 to 100 ms: what lasts less than this together is not said."""


@dataclass(frozen=True)
class Alone:
    """A method on a split, with nothing made beforehand but the features."""

    material: Material
    recipe: Recipe
    candidates: Candidates
    device: str


@dataclass(frozen=True)
class Cost:
    """Medians of seconds by part, each repeat's total, and peak memory and energy where they can be measured."""

    seconds: dict[str, float]
    repeats: tuple[float, ...]
    peak_bytes: int | None
    joules: float | None


def cost(method: Alone, repeats: int) -> Cost:
    """Run a method once to warm up, once for memory, and ``repeats`` times for seconds and energy."""
    once(method)
    peak = peak_bytes(method.device, lambda: once(method))
    counter = joules_so_far(method.device)
    before, started = counter() if counter else 0.0, time.perf_counter()
    passes = [once(method) for _ in range(repeats)]
    lasted = time.perf_counter() - started
    joules = (counter() - before) / repeats if counter and lasted >= COUNTER_SECONDS else None
    medians = {name: statistics.median(each[name] for each in passes) for name in SECONDS}
    return Cost(medians, tuple(each["total"] for each in passes), peak, joules)


def once(method: Alone) -> dict[str, float]:
    """Do what a cell does and return its seconds by part.

    *Generation* is fitting transform and generator on the training rows and drawing; *selection* the same in each
    fold, and every candidate there (0 where there is nothing to choose); *training* the chosen head.
    """
    clock, candidates = _Clock(method.device), method.candidates.instances
    prepared, index = prepare(method.material, method.recipe), 0
    views = views_wanted(candidates[0])
    score = functools.partial(score_rows, classes=prepared.train.classes)
    seconds = {"generation": clock.lap(), "selection": 0.0}
    if method.candidates.selecting:
        index = choose(candidates, folds_seen(prepared, views), score).index
        seconds["selection"] = clock.lap()
    scorer = fit_classifier(candidates[index], prepared.train.seeing(views))
    seconds["training"] = clock.lap()
    score(scorer, prepared.test)
    inference = 1000 * clock.lap() / len(prepared.test)
    return {**seconds, "total": sum(seconds[name] for name in PARTS), "inference_per_1000_rows": inference}


class _Clock:
    """Seconds between laps; waits for the GPU, which works behind the program's back."""

    def __init__(self, device: str) -> None:
        """Start."""
        self._cuda = device if device.startswith("cuda") else None
        self._last = 0.0
        self.lap()

    def lap(self) -> float:
        """Return the seconds since the last lap."""
        if self._cuda is not None:
            import torch

            torch.cuda.synchronize(self._cuda)
        now = time.perf_counter()
        lasted, self._last = now - self._last, now
        return lasted
