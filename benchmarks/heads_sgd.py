"""How fast heads are trained by mini-batches, beside a plain autograd loop with the same recipe and batches.

On the features of ``heads.py``. Times are wall-clock on an otherwise idle machine; quote the ratios.
"""

from __future__ import annotations

import dataclasses
import math
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import torch
from heads import Shape, fitted, head, in_processes, run, seconds, simulated, threads_of
from torch import Tensor

import ltbench
from ltbench.heads.layers import LAYERS
from ltbench.heads.recipes import RECIPES, Recipe
from ltbench.heads.samplers import epoch_order

ROUNDS, EPOCHS = 7, 4
"""How often mini-batches are timed, and for how many of the recipe's epochs: all cost the same, and short turns are fair."""

PLAIN = ("softmax[solver=sgd]", "ldam-drw[]")
"""Heads that the plain loop is timed on: a plain loss, and the dearest."""

SGD = (PLAIN[0], "balanced-softmax[solver=sgd]", "cosine[]", PLAIN[1])
PENALTIES = (0.001, 0.0005, 0.0002, 0.0001)
"""Candidates of ``l2``: a selection with the budget of the suites trains each head with four."""

SELECTION = tuple(f"{name[:-1]}{'' if name.endswith('[]') else ','}l2={l2}]" for name in SGD for l2 in PENALTIES)

Timed = Sequence[dict[str, Any]]
"""Seconds with what was timed."""


def main() -> None:
    """Measure mini-batches, print it, and write it down."""
    run("sgd", sgd, __doc__)


def sgd(quick: bool) -> dict[str, Any]:  # noqa: FBT001
    """Time heads trained by the recipe ``sgd`` on all cores, and autograd by the same recipe and batches, head by head.

    In turns, many rounds of each, and medians over rounds, as the speed of a machine changes.
    """
    with mock.patch.dict(RECIPES, sgd=_recipe()):
        return _sgd(quick)


def _sgd(quick: bool) -> dict[str, Any]:  # noqa: FBT001
    """Time them."""
    cores = os.cpu_count() or 1
    sizes, largest = ([(1_500, 48)], 69) if quick else ([(10_847, 768), (50_000, 512)], 500)
    ours, theirs, difference = list[dict[str, Any]](), list[dict[str, Any]](), 0.0
    _autograd(simulated(Shape(60, 8, 3, 2)), PLAIN[0])  # the first optimizer takes seconds to import
    for round_ in range(ROUNDS):
        for rows, width in sizes:
            shapes = [Shape(rows, width, seed=seed, largest=largest) for seed in range(cores)]
            for heads, work in ((SELECTION, _selection), (SGD, _one_each)):
                taken, found = in_processes(work, shapes, cores)
                flops = sum(each["flops"] for each in found)
                ours.append({"rows": rows, "width": width, "heads": len(heads), "seconds": round(taken, 2), "flops": flops})
            train = simulated(Shape(rows, width, largest=largest))
            for name in PLAIN:
                for threads in sorted({1, cores}):
                    made: list[Callable[[Tensor], Tensor]] = []
                    with threads_of(threads):
                        spent = seconds(lambda: made.append(_autograd(train, name)))  # noqa: B023
                    theirs.append({"rows": rows, "width": width, "head": name, "threads": threads, "seconds": round(spent, 2)})
                if round_ == 0:
                    scorer = fitted(train, [head(name)])[0].scorer
                    difference = max(difference, float((scorer(train.x[:500]).values - made[0](train.x[:500])).abs().max()))
            print(*ours[-2:], *theirs[-4:], sep="\n", file=sys.stderr, flush=True)
    plain, spread = ([each for each in theirs if each["threads"] == threads] for threads in (cores, 1))
    return {
        "rounds": ROUNDS,
        "heads": SGD,
        "recipe": dataclasses.asdict(RECIPES["sgd"]),
        "penalties": PENALTIES,
        "by_round": ours,
        "autograd": {
            "timed": theirs,
            "how": "by the two heads timed, medians over rounds; a plain loop has all threads, as torch does by itself",
        },
        "largest_difference_of_logits": round(difference, 5),
        **_compared(len(SELECTION) * cores, ours, plain, spread),
        "each_with_one_penalty": _compared(len(SGD) * cores, ours, plain, spread),
    }


def _compared(cells: int, ours: Timed, plain: Timed, spread: Timed) -> dict[str, Any]:
    """Compare cells of each size with as many plain loops: each with all cores, and each with one and as many beside it."""
    cores = os.cpu_count() or 1
    mine = [each for each in ours if each["heads"] * cores == cells]
    wall, of_plain, of_spread = _medians(mine), cells / 2 * _medians(plain), cells / 2 / cores * _medians(spread)
    flops = sum({(each["rows"], each["width"]): each["flops"] for each in mine}.values())
    return {
        "cells_of_each_size": cells,
        "seconds": round(wall, 2),
        "autograd_seconds": round(of_plain, 2),
        "autograd_seconds_in_a_process_a_core": round(of_spread, 2),
        "times_faster": round(of_plain / wall, 2),
        "times_faster_than_a_loop_in_a_process_a_core": round(of_spread / wall, 2),
        "gflops": round(flops / wall / 1e9, 1),
    }


def _recipe() -> Recipe:
    """Return the recipe for a few epochs."""
    return dataclasses.replace(RECIPES["sgd"], epochs=EPOCHS)


def _medians(timed: Timed) -> float:
    """Return the sum over what was timed of its median seconds over rounds."""
    by_what = defaultdict[Any, list[float]](list)
    for each in timed:
        by_what[each["rows"], each["width"], each.get("head")].append(each["seconds"])
    return sum(statistics.median(values) for values in by_what.values())


def _selection(shape: Shape) -> dict[str, Any]:
    """Train the heads with all penalties."""
    return _cells(shape, SELECTION)


def _one_each(shape: Shape) -> dict[str, Any]:
    """Train the heads with the penalty that each has by itself."""
    return _cells(shape, SGD)


def _cells(shape: Shape, names: Sequence[str]) -> dict[str, Any]:
    """Train heads of one training set."""
    RECIPES["sgd"] = _recipe()  # in a process of its own
    train, heads = simulated(shape), [head(name) for name in names]
    started = time.perf_counter()
    found = fitted(train, heads)
    taken = time.perf_counter() - started
    flops = sum(each.scorer.training_flops for each in found)  # type: ignore[attr-defined]
    return {"process": os.getpid(), **vars(shape), "seconds": round(taken, 3), "flops": flops}


def _autograd(train: ltbench.Train, name: str) -> Callable[[Tensor], Tensor]:
    """Train a head as a paper's code does: a loss of torch's own functions, backward, and an optimizer of torch."""
    part, recipe = head(name), RECIPES["sgd"]
    cosine = getattr(part, "layer", "linear") == "cosine"
    parameters = [each.requires_grad_() for each in LAYERS["cosine" if cosine else "linear"].start(train)]
    optimizer = torch.optim.SGD(
        [{"params": parameters[:1], "weight_decay": part.l2}, {"params": parameters[1:]}],
        lr=recipe.rate,
        momentum=recipe.momentum,
    )
    steps = recipe.epochs * -(-len(train.x) // recipe.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)))
    loss = _plain_loss(name, part, train)
    for number, rows in enumerate(_batches(train, recipe)):
        optimizer.zero_grad()
        loss(_logits(parameters, train.x[rows]), train.targets[rows], number / steps).backward()
        optimizer.step()
        schedule.step()
    scale = getattr(part, "scale", 1.0)
    return lambda x: scale * _logits(parameters, x).detach()


def _batches(train: ltbench.Train, recipe: Recipe) -> Iterator[Tensor]:
    """Yield the batches that ltbench sees."""
    for epoch in range(recipe.epochs):
        yield from epoch_order(train, recipe, epoch).split(recipe.batch)


def _logits(parameters: list[Tensor], x: Tensor) -> Tensor:
    """Return x Wᵀ + b, or cosines where there is no b."""
    if len(parameters) == 2:
        return torch.nn.functional.linear(x, *parameters)
    return torch.nn.functional.normalize(x, dim=1) @ torch.nn.functional.normalize(parameters[0], dim=1).T


def _plain_loss(name: str, part: Any, train: ltbench.Train) -> Callable[[Tensor, Tensor, float], Tensor]:
    """Return the loss of a head, of torch's own functions."""
    counts, entropy = train.class_counts.float(), torch.nn.functional.cross_entropy
    if name.startswith("balanced-softmax"):
        return lambda z, y, _: entropy(z + counts.log(), y)
    if name.startswith("focal"):
        return lambda z, y, _: ((1 - torch.exp(-(own := entropy(z, y, reduction="none")))) ** part.gamma * own).mean()
    if name.startswith("cosine"):
        return lambda z, y, _: entropy(part.scale * z, y)
    if not name.startswith("ldam"):
        return lambda z, y, _: entropy(z, y)
    margins = part.margins(counts)
    weights = (1 - part.beta) / (1 - part.beta**counts)
    weights = weights / (weights * counts / counts.sum()).sum()

    def ldam(z: Tensor, y: Tensor, progress: float) -> Tensor:
        """Subtract the margin of the own class; weigh rows in the last fifth."""
        z = z - torch.zeros_like(z).scatter_(1, y[:, None], margins[y][:, None])
        own = entropy(part.scale * z, y, reduction="none")
        return (own * weights[y]).mean() if progress >= 0.8 else own.mean()

    return ldam


if __name__ == "__main__":
    main()
