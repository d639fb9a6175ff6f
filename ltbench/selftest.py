"""A self-test of a few seconds on what is installed: pinned draws, and a small real cell that comes out the same twice."""

from __future__ import annotations

import contextlib
import functools
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import torch

from ltbench.components import parameters
from ltbench.config import PLAIN_CLASSIFIER, PLAIN_GENERATOR, Experiment, experiment
from ltbench.errors import UsageError
from ltbench.files import data_folder
from ltbench.heads.products import products
from ltbench.keys import canonical_json
from ltbench.plan import plan
from ltbench.plugins import Registry
from ltbench.records import RunFolder
from ltbench.runs import run
from ltbench.streams import Stream

MOST_IMAGES = 5000
"""A self-test is no reason to encode a large dataset."""

BITS = [3821314123703215870, -2862706879949597117, 8602555999468988583]
NORMALS = ["-0x1.8e34498b10d70p+0", "0x1.f0757ac608289p-3", "-0x1.ae71fc8a464fap-1"]

Check = tuple[str, str, Literal["ok", "FAIL"]]


def checks(registry: Registry) -> Iterator[Check]:
    """Yield each check's name, what it saw, and how it ended, on the CPU and on a GPU if there is one."""
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in devices:
        yield _guarded(f"streams, {device}", functools.partial(_streams, device))
        yield _guarded(f"products, {device}", functools.partial(_products, device))
    wanted, reason = small_experiment(registry)
    if wanted is None:
        yield "cell", f"nothing to run: {reason}", "FAIL"
        return
    for device in devices:
        yield _guarded(f"cell, {device}", functools.partial(_twice, wanted, device, registry))


def small_experiment(registry: Registry) -> tuple[Experiment | None, str]:
    """Return one cell of the first installed dataset and backbone that can be planned, or None and the reason.

    Those that require the fewest other distributions come first.
    """
    reason = large = ""
    for dataset in _usable(registry, "dataset"):
        for backbone in _usable(registry, "backbone"):
            table = {"dataset": dataset, "backbone": backbone, "n_max": 20, "ratio": 5, "reference": False}
            try:
                wanted = experiment({**table, "generator": PLAIN_GENERATOR, "classifier": PLAIN_CLASSIFIER})
                found = plan(wanted, registry, data_folder()).datasets.values()
            except UsageError as error:
                reason = reason or str(error)
                continue
            if all(len(each.train.labels) + len(each.test.labels) <= MOST_IMAGES for each in found):
                return wanted, ""
            large = large or f"dataset {dataset} has more than {MOST_IMAGES} images"
    return None, large or reason or "no dataset and backbone without a required parameter is installed"


def _usable(registry: Registry, kind: str) -> list[str]:
    """Return the components of a kind that need no more than their name."""
    found = []
    for registered in registry.components(kind):
        with contextlib.suppress(UsageError):
            if not registered.component.family and not any(parameter.required for parameter in parameters(registered)):
                name = f"{registered.component.name}@{registered.distribution}"
                found.append((len(registered.component.requires), name))
    return [name for _, name in sorted(found)]


def _guarded(name: str, check: Callable[[], tuple[str, str]]) -> Check:
    """Run a check, which returns what is wrong and what it saw; whatever it raises is wrong, too."""
    started = time.perf_counter()
    try:
        problem, seen = check()
    except (Exception, SystemExit) as error:
        return name, f"{type(error).__name__}: {error}", "FAIL"
    if problem:
        return name, problem, "FAIL"
    return name, f"{seen} ({time.perf_counter() - started:.1f} s)", "ok"


def _streams(device: str) -> tuple[str, str]:
    """Compare a few draws with their pinned values."""
    stream, rows = Stream.of(0, "golden"), torch.tensor([0, -1, 2**40], device=device)
    bits, normals = stream.bits(rows, 1)[:, 0].tolist(), [draw.hex() for draw in stream.normal(rows, 1)[:, 0].tolist()]
    problem = "" if (bits, normals) == (BITS, NORMALS) else f"drew {bits} and {normals}, not {BITS} and {NORMALS}"
    return problem, "random numbers are the pinned ones"


def _products(device: str) -> tuple[str, str]:
    """Look whether products are the same in every lane. Where they are not it is no fault: heads are solved one at a time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it would tell is told here
        found = products(device)
    if found.lanes_agree:
        return "", f"{found.compared} products are the same in every lane, {found.fingerprint}"
    told = f"{len(found.differing)} kinds of product depend on the lane ({found.differing[0]}, …)"
    return "", f"{told}, so heads are solved one at a time, {found.fingerprint}"


def _twice(wanted: Experiment, device: str, registry: Registry) -> tuple[str, str]:
    """Run one cell in two folders and compare results and scores bit for bit."""
    names = f"{wanted.dataset[0]}, {wanted.backbone[0]}, {wanted.classifier[0]}"
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for number in range(2):
            out = Path(folder) / str(number)
            run(wanted, out=out, device=device, registry=registry)
            (record,) = RunFolder(out).load().records.values()
            if record.status != "done":
                return f"{names}: {record.status}: {record.cause}", ""
            found.append((canonical_json(record.result), RunFolder(out).read_arrays(record).scores))
    (first, scores), (second, again) = found
    same = first == second and torch.equal(scores, again)
    return "" if same else f"{names}: the same cell gave two results", f"{names}: the same bits twice"
