"""How the cost of heads grows with cells, classes, rows and features; and a matrix of 2,880 cells, where there is a GPU.

On the features of ``heads.py``. Times are wall-clock on an otherwise idle machine.
"""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import numpy as np
import torch
from heads import Shape, fitted, head, in_processes, product_peak, run_alone, seconds, simulated

from ltbench.execute.numerics import pinned
from ltbench.heads import Fitted

CUDA = (
    *("softmax", "balanced", "grw[rho=0.5]", "class-balanced", "balanced-softmax", "logit-adjustment", "label-aware-smoothing"),
    *("logit-adjustment[mode=post-hoc]", "tau-norm", "focal[solver=sgd]", "ldam", "ldam-drw", "cosine", "crt"),
    *("lda[shrinkage=0.1]", "ridge"),
)
"""The 16 heads of the matrix."""


def main() -> None:
    """Measure, print it, and write it down."""
    on_gpu = torch.cuda.is_available()
    run_alone(*((("heads-scale-cuda", "cuda"), cuda) if on_gpu else (("heads-scale-cpu", "growth"), growth)), __doc__)


# How cost grows


def growth(quick: bool) -> dict[str, Any]:  # noqa: FBT001
    """Time exact softmax heads as cells, classes, rows and features grow, on one thread."""
    most = 300 if quick else 10_000
    small = [_grown_cells(cells) for cells in (10, 100, 1_000, 10_000) if cells <= most]
    grown = {
        "classes": [Shape(5 * classes, 64, classes, 5) for classes in (10, 100, 1_000, 8_142) if classes <= most],
        "rows": [Shape(rows, 64, 10, 100) for rows in (10_000, 100_000, 1_000_000) if rows <= 100 * most],
        "width": [Shape(5_000, width, 50, 100) for width in (64, 256, 768, 1_536) if width <= most],
    }
    told = (
        "cells: 100 rows, 16 features, 5 classes, ten heads a training set, in a process a core; else one thread. classes: "
        "5 rows each, 64 features. rows: 64 features, 10 classes. width: 5,000 rows, 50 classes. Capped to take minutes."
    )
    return {"what": told, "cells": small, **{axis: [_grown(shape) for shape in shapes] for axis, shapes in grown.items()}}


def _grown_cells(cells: int) -> dict[str, Any]:
    """Time many small cells, in processes that take ten of one training set at a time."""
    cores = os.cpu_count() or 1
    taken, _ = in_processes(_small_cells, range(cells // 10), cores)
    return {
        "cells": cells,
        "seconds": round(taken, 3),
        "core_ms_per_cell": round(1000 * taken * min(cores, cells // 10) / cells, 3),
    }


def _small_cells(seed: int) -> dict[str, Any]:
    """Fit ten cells of one small training set."""
    train, heads = (
        simulated(Shape(100, 16, 5, 10, seed)),
        [head(f"softmax[l2={l2:.6g}]") for l2 in np.geomspace(1e-1, 1e-4, 10)],
    )
    return {"process": os.getpid(), "seconds": seconds(lambda: fitted(train, heads))}


def _grown(shape: Shape) -> dict[str, Any]:
    """Time one head."""
    train = simulated(shape)
    found: list[Any] = []
    taken = seconds(lambda: found.extend(fitted(train, [head("softmax")])))
    scorer = found[0].scorer
    entry = {**vars(shape), "seconds": round(taken, 3), "gflops": round(scorer.training_flops / taken / 1e9, 1)}
    print(entry, file=sys.stderr, flush=True)
    return {**entry, "converged": scorer.converged}


# A GPU


def cuda(quick: bool) -> dict[str, Any]:  # noqa: FBT001
    """Time 2,880 cells on a GPU, 180 training sets of 16 heads each; some of them one by one."""
    with pinned("cuda"):
        return {f"width {width}": _cuda(width, "cuda", quick=quick) for width in ((64,) if quick else (512, 768))}


def _cuda(width: int, device: str, *, quick: bool) -> dict[str, Any]:
    """Time all the training sets of one width; they are made beforehand, one after the other."""
    rows, heads = 2_000 if quick else 50_000, [head(name) for name in CUDA]
    ratios, seeds, sets = ((100,), 1, 2) if quick else ((10, 50, 100), 5, 12)
    fitted(simulated(Shape(1_000, width, largest=20), device), heads)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    whole, alone, flops, kinds = 0.0, 0.0, 0, 0
    for ratio in ratios:
        for seed in range(seeds):
            for number in range(sets):
                shape = Shape(rows, width, ratio=ratio, seed=100 * seed + number, largest=rows // 100)
                train = simulated(shape, device)
                found: list[Fitted] = []
                whole += seconds(lambda: found.extend(fitted(train, heads)))  # noqa: B023
                flops += sum(each.scorer.training_flops or 0 for each in found)  # type: ignore[attr-defined]
                if seed == 0 and number == 0:
                    kinds += 1
                    alone += seconds(lambda: [fitted(train.replace(), [each]) for each in heads])  # noqa: B023
    cells = len(heads) * len(ratios) * seeds * sets
    peak = product_peak(device=device)
    one_by_one = alone / kinds * cells / len(heads)
    return {
        "cells": cells,
        "rows": rows,
        "heads": CUDA,
        "seconds": round(whole, 2),
        "one_by_one_seconds_by_the_mean_of_some": round(one_by_one, 1),
        "training_sets_one_by_one": kinds,
        "times_faster_than_one_by_one": round(one_by_one / whole, 2),
        "tflops": round(flops / whole / 1e12, 2),
        "product_peak_tflops": round(peak / 1000, 1),
        "share_of_peak": round(flops / whole / 1e9 / peak, 3),
        "tf32": torch.backends.cuda.matmul.allow_tf32,
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2) if device == "cuda" else None,
    }


if __name__ == "__main__":
    main()
