"""What the harness itself costs: overhead per trivial cell, growth, workers, start-up and memory, beside benchopt.

Cells that do nothing (a dataset of 60 rows, heads that return zeros) leave only ltbench's own work: keys, splits, rows,
metrics, records on disk. benchopt runs as many trivial (dataset, solver) pairs in the same run of this script, where it
is installed. Times are wall-clock on an otherwise idle machine; quote the ratios.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Any

PLUGIN = """
import hashlib
from dataclasses import dataclass
import ltbench

@dataclass(frozen=True, kw_only=True)
class Tiny:
    def load(self, folder):
        import torch
        labels = torch.arange(60) % 3
        images = list(torch.arange(60 * 4).reshape(60, 2, 2, 1).to(torch.uint8))
        part = ltbench.Part(labels, images)
        return ltbench.Dataset(train=part, test=part, class_names=("a", "b", "c"), fingerprint="tiny")

@dataclass(frozen=True, kw_only=True)
class Zeros:
    number: int = 0
    def fit(self, train):
        import torch
        return lambda x: ltbench.Scores(torch.zeros(len(x), 3), "logits")

@ltbench.hookimpl
def ltbench_datasets():
    return [ltbench.Component("tiny", "overhead_plugin:Tiny", "60 rows")]

@ltbench.hookimpl
def ltbench_classifiers():
    return [ltbench.Component("zeros", "overhead_plugin:Zeros", "zeros")]
"""

OBJECTIVE = """
from benchopt import BaseObjective

class Objective(BaseObjective):
    name = "trivial"
    min_benchopt_version = "1.5"
    sampling_strategy = "run_once"
    def set_data(self, x): self.x = x
    def get_objective(self): return {"x": self.x}
    def evaluate_result(self, beta): return {"value": 0.0}
    def get_one_result(self): return {"beta": 0}
"""
DATASET = """
from benchopt import BaseDataset

class Dataset(BaseDataset):
    name = "tiny"
    parameters = {"number": list(range(%d))}
    def get_data(self): return {"x": self.number}
"""
SOLVER = """
from benchopt import BaseSolver

class Solver(BaseSolver):
    name = "zeros"
    sampling_strategy = "run_once"
    parameters = {"number": list(range(%d))}
    def set_objective(self, x): self.x = x
    def run(self, _): pass
    def get_result(self): return {"beta": 0}
"""


def main() -> None:
    """Measure, print a table and write a dated result."""
    sizes = [int(text) for text in sys.argv[1:]] or [100, 1000, 10000]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = _plugin(folder)
        result: dict[str, Any] = {"date": dt.datetime.now(dt.UTC).date().isoformat(), "hardware": _hardware()}
        result["start_up"] = _start_up(environment)
        result["ltbench"] = [_ltbench(folder, environment, size, workers=0) for size in sizes]
        result["workers"] = [_ltbench(folder, environment, sizes[-1], workers=n) for n in (1, 2)]
        result["workers_with_work"] = [_with_work(folder, environment, n) for n in (1, 2)]
        result["benchopt"] = _benchopt(folder, 400)
        result["memory"] = _memory(folder, environment, 100_000)
    if result["benchopt"] is not None:
        result["ratio_to_benchopt"] = round(result["benchopt"]["ms_per_cell"] / result["ltbench"][-1]["ms_per_cell"], 2)
    print(json.dumps(result, indent=1))
    target = Path(__file__).parent / "results" / f"overhead-{result['date']}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n")


def _plugin(folder: Path) -> dict[str, str]:
    """Install the trivial plugin into a folder and return the environment that finds it."""
    (folder / "overhead_plugin.py").write_text(PLUGIN)
    info = folder / "overhead_plugin-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: overhead-plugin\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[ltbench]\noverhead = overhead_plugin\n")
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "LTBENCH_CACHE": str(folder / "cache")}


FEW = 20
"""Cells of the run that stands for everything but cells: start-up, planning, the one extraction."""


def _ltbench(folder: Path, environment: dict[str, str], cells: int, workers: int) -> dict[str, Any]:
    """Run so many trivial cells in a process of its own; the time of one cell is the slope against a few of them.

    Medians of several runs, more of them where the runs are short.
    """
    repeats = 7 if cells <= 1000 else 1
    few, many = (
        statistics.median(_run(folder, environment, n, workers) for _ in range(times))
        for n, times in ((FEW, 7), (cells, repeats))
    )
    return {
        "cells": cells,
        "workers": workers,
        "seconds": round(many, 3),
        "seconds_without_cells": round(few, 3),
        "ms_per_cell": round(1000 * (many - few) / (cells - FEW), 3),
    }


def _with_work(folder: Path, environment: dict[str, str], workers: int) -> dict[str, Any]:
    """Time cells that fit heads on digits, some tens of milliseconds each; again the slope between few and many seeds."""
    seconds = {}
    for seeds in (1, 31):
        out = folder / f"work-{seeds}-{workers}"
        command = [
            "run",
            "-d",
            "digits",
            "-b",
            "pixels",
            "-t",
            "standardize",
            "-g",
            "none,smote",
            "-c",
            "softmax,balanced-softmax,lda",
        ]
        command += [
            "--ratio",
            "10",
            "--seeds",
            str(seeds),
            "--no-reference",
            "--workers",
            str(workers),
            "-q",
            "--out",
            str(out),
        ]
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "ltbench", *command], env=environment, capture_output=True, check=True)
        seconds[seeds] = time.perf_counter() - started
    slope = (seconds[31] - seconds[1]) / (30 * 6)
    return {"workers": workers, "cells": 31 * 6, "seconds": round(seconds[31], 3), "ms_per_cell": round(1000 * slope, 3)}


def _run(folder: Path, environment: dict[str, str], cells: int, workers: int) -> float:
    """Return the seconds of a whole run of so many cells: 20 heads, the rest seeds."""
    out = folder / f"run-{cells}-{workers}"
    shutil.rmtree(out, ignore_errors=True)
    heads = "zeros[number=" + "|".join(map(str, range(20))) + "]"
    command = ["run", "-d", "tiny", "-b", "pixels", "-c", heads, "--ratio", "5", "--seeds", str(cells // 20), "--no-reference"]
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "ltbench", *command, "--workers", str(workers), "-q", "--out", str(out)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"{cells // 20 * 20} computed" in done.stderr, done.stderr
    return time.perf_counter() - started


def _benchopt(folder: Path, cells: int) -> dict[str, Any] | None:
    """Run a trivial benchmark of benchopt with so many (dataset, solver) pairs, and with a quarter of them."""
    try:
        import benchopt
    except ImportError:
        return None
    seconds = {}
    side = round(cells**0.5)
    for solvers in (max(1, side // 4), side):
        place = folder / f"benchopt-{solvers}"
        for name, text in (
            ("objective.py", OBJECTIVE),
            ("datasets/tiny.py", DATASET % side),
            ("solvers/zeros.py", SOLVER % solvers),
        ):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(textwrap.dedent(text))
        started = time.perf_counter()
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "benchopt",
                "run",
                str(place),
                "-r",
                "1",
                "-n",
                "1",
                "--no-plot",
                "--no-html",
                "--no-display",
                "--no-timeout",
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        seconds[side * solvers] = time.perf_counter() - started
    (few, short), (many, long) = seconds.items()
    return {
        "version": benchopt.__version__,
        "cells": many,
        "seconds": round(long, 3),
        "ms_per_cell": round(1000 * (long - short) / (many - few), 3),
    }


def _start_up(environment: dict[str, str]) -> dict[str, float]:
    """Return the median seconds of bare Python, ``ltbench --help`` and ``ltbench list``, and their ratio."""
    commands = {"python": ["-c", "pass"], "help": ["-m", "ltbench", "--help"], "list": ["-m", "ltbench", "list"]}
    medians = {
        name: statistics.median(_timed([sys.executable, *rest], environment) for _ in range(9))
        for name, rest in commands.items()
    }
    return {
        **{f"{name}_seconds": round(value, 4) for name, value in medians.items()},
        "help_over_python": round(medians["help"] / medians["python"], 2),
    }


def _timed(command: list[str], environment: dict[str, str]) -> float:
    """Return the seconds of one command."""
    started = time.perf_counter()
    subprocess.run(command, env=environment, capture_output=True, check=True)
    return time.perf_counter() - started


def _memory(folder: Path, environment: dict[str, str], records: int) -> dict[str, Any]:
    """Return the peak memory of a process that loads so many records, and of one that imports the same modules."""
    source = next((folder / "run-100-0" / "records").glob("*.jsonl"), None) or next(folder.glob("run-*/records/*.jsonl"))
    tables = [json.loads(line) for line in source.read_text().splitlines()]
    parts, lines = [each for each in tables if "part" in each], [each for each in tables if "part" not in each]
    target = folder / "many" / "records"
    target.mkdir(parents=True)
    with (target / "all.jsonl").open("w") as file:
        file.writelines(json.dumps(part) + "\n" for part in parts)
        for number in range(records):
            file.write(json.dumps({**lines[number % len(lines)], "key": f"{number:032x}"}) + "\n")
    code = (
        "import sys, resource; from pathlib import Path; import ltbench.runs as r; from ltbench.records import RunFolder\n"
        "n = len(RunFolder(Path(sys.argv[1])).load().records) if len(sys.argv) > 1 else 0\n"
        "print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    found = []
    for arguments in ([], [str(folder / "many")]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, check=True
        )
        found.append([int(text) for text in done.stdout.split()])
    (_, base), (count, loaded) = found
    return {"records": count, "mib": loaded, "mib_without_records": base}


def _hardware() -> dict[str, Any]:
    """Name the machine."""
    model = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"cpu": model, "cores": os.cpu_count(), "memory_gib": round(memory, 1), "python": platform.python_version()}


if __name__ == "__main__":
    main()
