"""How fast exact heads are fitted: beside scikit-learn, and as a share of the hardware.

Simulated features of CIFAR-100-LT's shape: 10,847 real rows at imbalance ratio 100, or 50,000 with synthetic ones; 512 or
768 features whose spectrum falls as a power, turned at random; 100 classes. 60 cells beside ``LogisticRegression``, to 1.001 of
the optimum and to where ltbench stops by itself. Times are wall-clock on an otherwise idle machine; quote the ratios.
``heads_sgd.py`` measures mini-batches, ``heads_scale.py`` how cost grows, and a GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import math
import multiprocessing
import os
import platform
import subprocess
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

import ltbench
from ltbench.components import resolve
from ltbench.heads import Fitted, Task, fit_many
from ltbench.heads.lanes import Stack
from ltbench.plugins import discover

GAP = 1.001
"""What share of the optimum an exact head may end at."""

L2S = (1e-2, 1e-3, 1e-4)


@dataclass(frozen=True)
class Shape:
    """A training set: rows (real ones first, then synthetic up to so many), features, classes, imbalance ratio, seed.

    ``largest`` is the largest class's number of real rows; 0: as many as make all rows real.
    """

    rows: int
    width: int
    classes: int = 100
    ratio: float = 100
    seed: int = 0
    largest: int = 0


def main() -> None:
    """Measure exact heads, print it, and write it down."""
    run("exact", exact, __doc__)


def run(name: str, part: Callable[[bool], dict[str, Any]], told: str | None) -> None:
    """Measure a part as a share of what one large product reaches before and after, the machine's speed being what it is."""
    parser = argparse.ArgumentParser(description=told)
    parser.add_argument("--quick", action="store_true", help="small shapes: does it run?")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    before = product_peak()
    found = measured(part, options.quick)
    best = max(before, product_peak())
    share = found["gflops"] / best / (os.cpu_count() or 1)
    found |= {"product_peak_gflops_of_a_core": round(best, 1), "share_of_peak": round(share, 3)}
    write("heads-cpu", {name: found}, quick=options.quick)


def run_alone(names: tuple[str, str], part: Callable[[bool], dict[str, Any]], told: str | None) -> None:
    """Measure one part on one thread, and write it down: ``names`` are of the file and of the part."""
    parser = argparse.ArgumentParser(description=told)
    parser.add_argument("--quick", action="store_true", help="small shapes: does it run?")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    write(names[0], {names[1]: measured(part, options.quick)}, quick=options.quick)


def measured(part: Callable[[bool], dict[str, Any]], quick: bool) -> dict[str, Any]:  # noqa: FBT001
    """Run a part; return what it found, how long it took, and the commit that was measured."""
    started = time.perf_counter()
    found = part(quick)
    found |= {"seconds_in_all": round(time.perf_counter() - started, 1), "code": code_of()}
    print(json.dumps(found, indent=1), file=sys.stderr, flush=True)
    return found


def write(name: str, results: dict[str, Any], *, quick: bool) -> None:
    """Print results, and write them down by name and date; other parts that the machine measured that day stay."""
    date, hardware = dt.datetime.now(dt.UTC).date().isoformat(), _hardware()
    results = {"date": date, "hardware": hardware, "quick": quick, **results}
    print(json.dumps(results, indent=1))
    if not quick:
        place = Path(__file__).parent / "results" / f"{name}-{date}.json"
        before = json.loads(place.read_text()) if place.exists() else {}
        results = {**before, **results} if before.get("hardware") == hardware else results
        place.write_text(json.dumps(results, indent=1) + "\n")


# What is fitted on


def simulated(shape: Shape, device: str = "cpu") -> ltbench.Train:
    """Return normal classes, long-tailed, their spectrum falling as j^−1, and synthetic rows that balance them."""
    powers = [shape.ratio ** (-i / max(1, shape.classes - 1)) for i in range(shape.classes)]
    most = shape.largest or shape.rows / sum(powers)
    counts = torch.tensor([max(1, int(most * power + 1e-9)) for power in powers])
    generator = torch.Generator(device).manual_seed(shape.seed)
    real = torch.arange(shape.classes).repeat_interleave(counts)[: shape.rows].to(device)
    made = torch.randint(shape.classes, (max(0, shape.rows - len(real)),), generator=generator, device=device)
    labels = torch.cat([real, made])
    square = torch.randn(shape.width, shape.width, generator=generator, device=device)
    scale = torch.arange(1, shape.width + 1, device=device) ** -0.5
    turned = (scale * math.sqrt(shape.width) / scale.norm())[:, None] * torch.linalg.qr(square).Q
    x = torch.randn(len(labels), shape.width, generator=generator, device=device)
    x += 0.15 * torch.randn(shape.classes, shape.width, generator=generator, device=device)[labels]
    ids = torch.arange(len(labels), device=device)
    ids[len(real) :] = -1
    ones = torch.ones(len(labels), dtype=torch.float64, device=device)
    count, real_count = (torch.bincount(each, minlength=shape.classes).double() for each in (labels, real))
    return ltbench.Train(x @ turned, labels, ones, ids, count, real_count, ltbench.Stream.of(shape.seed))


def head(name: str) -> Any:
    """Return a classifier by its name."""
    return resolve(discover(), "classifier", name).build()


def fitted(train: ltbench.Train, heads: Sequence[Any]) -> list[Fitted]:
    """Fit heads on the same rows, as a run does; raise the first error."""
    found: dict[int, Any] = dict(fit_many([Task([each], train) for each in heads], lambda scorer, x: scorer(x)))
    for each in found.values():
        if isinstance(each, BaseException):
            raise each
    return [found[number] for number in range(len(heads))]


def objective(weight: Any, bias: Any, train: ltbench.Train, l2: float) -> float:
    """Return mean cross entropy + λ/2 · ‖W‖², in float64, chunk by chunk."""
    weight, bias = (torch.as_tensor(each).double() for each in (weight, bias))
    losses = [
        torch.nn.functional.cross_entropy(x.double() @ weight + bias, y, reduction="sum")
        for x, y in zip(train.x.split(8192), train.targets.split(8192), strict=True)
    ]
    return float(sum(losses)) / len(train.x) + 0.5 * l2 * float((weight**2).sum())


def product_peak(threads: int = 1, device: str = "cpu") -> float:
    """Return the most float32 GFLOP/s that a large product reaches on so many threads."""
    size = 8192 if device != "cpu" else 2048
    a, b = torch.randn(size, size, device=device), torch.randn(size, size, device=device)
    with threads_of(threads):
        a @ b
        best = min(seconds(lambda: a @ b) for _ in range(5))
    return 2 * size**3 / best / 1e9


class threads_of:  # noqa: N801 - reads as what it does
    """Run torch on so many threads for a while."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __enter__(self) -> None:
        self.before = torch.get_num_threads()
        torch.set_num_threads(self.number)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self.before)


def seconds(run: Callable[[], Any]) -> float:
    """Return the seconds that a call takes, GPU work included."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def in_processes(work: Callable[[Any], dict[str, Any]], tasks: Sequence[Any], cores: int) -> tuple[float, list[dict[str, Any]]]:
    """Do tasks in one process a core, one thread each; return the seconds of the longest process's own work, and results.

    ``seconds`` of a result is what counts: making the features does not.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores, mp_context=context, initializer=_begin) as pool:
        list(pool.map(_nothing, range(4 * cores)))
        found = list(pool.map(work, tasks))
    busy: dict[int, float] = defaultdict(float)
    for each in found:
        busy[each.pop("process")] += each["seconds"]
    return max(busy.values()), found


def _begin() -> None:
    """Prepare a process: one thread, plugins and solver loaded."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    fitted(simulated(Shape(60, 8, 3, 2)), [head("softmax")])


def _nothing(number: int) -> None:
    """Let every process begin."""
    time.sleep(0.05 + 0 * number)


# Exact heads beside scikit-learn


SIZES = [(50_000, 768), (50_000, 512), (10_847, 768), (10_847, 512)]
"""Rows and features: 500 real rows in the largest class and 5 in the smallest, synthetic ones or none."""

SURE = 1e-4
"""The largest gap of what stands for the optimum, by the solver's own bound; it is taken off."""


def exact(quick: bool) -> dict[str, Any]:  # noqa: FBT001 - a part is called by its name
    """Time 60 exact softmax cells to two marks, and scikit-learn on those of one seed, which count for the others."""
    cores, seeds = os.cpu_count() or 1, 1 if quick else 5
    sizes, largest = ([(3_000, 48), (1_500, 48)], 69) if quick else (SIZES, 500)
    shapes = [Shape(rows, width, seed=seed, largest=largest) for rows, width in sizes for seed in range(seeds)]
    least = [each["least"] for each in in_processes(_optima, shapes, cores)[1]]
    wall, ours = in_processes(_exact_cells, [(shape, None) for shape in shapes], cores)
    to_gap, gapped = in_processes(_exact_cells, list(zip(shapes, least, strict=True)), cores)
    timed, whole = _sklearn_matrix(shapes, ours, least, seeds, cores)
    flops = sum(each["flops"] for each in ours)
    return {
        "cells": len(shapes) * len(L2S),
        "l2": L2S,
        "processes": cores,
        "to_1.001_of_the_optimum": {
            "seconds": round(to_gap, 2),
            "scikit_learn_seconds": round(whole["gap"], 1),
            "times_faster": round(whole["gap"] / to_gap, 2),
            "worst_ratio_to_optimum": _worst(gapped, least),
            "how": "both stopped at the first iteration within the gap, as the best choice of a tolerance would",
        },
        "to_where_ltbench_stops": {
            "seconds": round(wall, 2),
            "scikit_learn_seconds": round(whole["end"], 1),
            "times_faster": round(whole["end"] / wall, 2),
            "times_faster_than_scikit_learn_to_1.001": round(whole["gap"] / wall, 2),
            "worst_ratio_to_optimum": _worst(ours, least),
            "how": "by its own bound; scikit-learn stopped at the first iteration as low",
        },
        "scikit_learn": {"timed": timed, "how": "float32; every size and l2 of one seed, times the seeds"},
        "by_setting": ours,
        "gflops": round(flops / wall / 1e9, 1),
    }


def _worst(found: Sequence[dict[str, Any]], least: Sequence[Sequence[float]]) -> float:
    """Return the largest ratio of an objective to the optimum's."""
    pairs = zip(found, least, strict=True)
    return round(max(own / low for each, lows in pairs for own, low in zip(each["objective"], lows, strict=True)), 6)


def _optima(shape: Shape) -> dict[str, Any]:
    """Return for each penalty a value that the objective cannot go below."""
    train, loss = simulated(shape), head("softmax").loss
    least = []
    for l2 in L2S:
        found = ltbench.fit_linear(train, loss, l2, tolerance=SURE)
        least.append(objective(found.weight, found.bias, train, l2) * (1 - SURE))
    return {"process": os.getpid(), "seconds": 0.0, "least": least}


def _exact_cells(task: tuple[Shape, Sequence[float] | None]) -> dict[str, Any]:
    """Fit the cells of one training set together, as a run does, or each until its objective is within the gap."""
    shape, least = task
    train, heads = simulated(shape), [head(f"softmax[l2={l2}]") for l2 in L2S]

    def near(_: Stack, slot: int, lane: Any, bound: float) -> bool:  # noqa: ARG001 - called as Stack._done is
        return bool(lane.value <= GAP * dict(zip(L2S, least or (), strict=True))[lane.problem.function.l2])

    with contextlib.nullcontext() if least is None else mock.patch.object(Stack, "_done", near):
        started = time.perf_counter()
        found = [each.scorer for each in fitted(train, heads)]
        taken = time.perf_counter() - started
    reached = [objective(each.weight, each.bias, train, l2) for each, l2 in zip(found, L2S, strict=True)]  # type: ignore[attr-defined]
    flops = sum(each.training_flops for each in found)  # type: ignore[attr-defined]
    return {"process": os.getpid(), **vars(shape), "seconds": round(taken, 3), "flops": flops, "objective": reached}


def _sklearn_matrix(
    shapes: Sequence[Shape], ours: Sequence[dict[str, Any]], least: Sequence[Sequence[float]], seeds: int, cores: int
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Time scikit-learn at every size and penalty of the first seed; return that, and the seconds of all seeds on all cores."""
    tasks = [
        (shape, l2, {"gap": GAP * low, "end": end})
        for shape, own, lows in zip(shapes, ours, least, strict=True)
        for l2, low, end in zip(L2S, lows, own["objective"], strict=True)
        if shape.seed == 0
    ]
    tasks.sort(key=lambda task: (task[0].rows, task[0].width))
    by_threads = {threads: _sklearn(*tasks[0], threads)["seconds"]["gap"] for threads in {1, cores}}
    # one thread, where the loop is faster in as many processes as there are cores
    threads = cores if by_threads[cores] < by_threads[1] / cores else 1
    timed = [_sklearn(*task, threads) for task in tasks]
    whole = {mark: seeds * sum(each["seconds"][mark] for each in timed) / (cores // threads) for mark in ("gap", "end")}
    return timed, whole


def _sklearn(shape: Shape, l2: float, marks: dict[str, float], threads: int) -> dict[str, Any]:
    """Time LogisticRegression in float32, its fastest, until its objective is below each of some marks."""
    import scipy.optimize
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    train, passed = simulated(shape), dict[str, float]()

    def look(intermediate_result: Any) -> None:
        for mark, value in marks.items():
            if intermediate_result.fun <= value:
                passed.setdefault(mark, time.perf_counter() - started)
        if len(passed) == len(marks):
            raise StopIteration

    def minimize(*arguments: Any, **options: Any) -> Any:
        return original(*arguments, **{**options, "callback": look})

    x, y, original = train.x.numpy(), train.targets.numpy(), scipy.optimize.minimize
    model = LogisticRegression(C=1 / (l2 * len(x)), solver="lbfgs", tol=1e-12, max_iter=10_000)
    with threadpool_limits(threads), mock.patch("scipy.optimize.minimize", minimize):
        started = time.perf_counter()
        model.fit(x, y)
        whole = time.perf_counter() - started
    times = {mark: round(passed.get(mark, whole), 3) for mark in marks}
    found = {"rows": shape.rows, "width": shape.width, "l2": l2, "threads": threads, "seconds": times}
    print(found, file=sys.stderr, flush=True)
    return {**found, "iterations": int(model.n_iter_[0]), "reached": sorted(passed)}


def code_of() -> str:
    """Name the commit that was measured."""
    asked = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()


def _hardware() -> dict[str, Any]:
    """Name the machine and the libraries."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), platform.processor())
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        **({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scikit-learn": __import__("sklearn").__version__,
    }


if __name__ == "__main__":
    main()
