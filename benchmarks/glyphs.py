"""How long all of glyphs takes to draw, and how long to open once it is drawn.

    python benchmarks/glyphs.py

Draws the 65,000 images of ``glyphs`` into an empty folder, as ``ltbench data fetch glyphs`` does, and opens the file again
as every later process does, which reads and checks each byte; each in a process of its own, whose start is not counted. The
load of the machine is written beside the times: best quoted from an otherwise idle one. Needs ltbench-datasets. Writes
``results/glyphs-<date>.json`` beside this file.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from ltbench.hardware import cores, hardware_of
from ltbench_datasets.glyphs.dataset import Glyphs

LIMIT = 30.0
"""Seconds that drawing may take on two cores."""


def draw(folder: Path) -> None:
    """Draw and keep all images."""
    Glyphs().fetch(folder, lambda *_: None)


def open_again(folder: Path) -> None:
    """Open the file and take the last image."""
    Glyphs().load(folder).test.images[-1]


def timed(work: Callable[[Path], None], folder: Path) -> tuple[float, float, float]:
    """Do something; return seconds, seconds of all cores, and the MiB that this process has held at most, mapped ones too."""
    wall, cpu = time.perf_counter(), time.process_time()
    work(folder)
    unit = 1 if sys.platform == "darwin" else 1024
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    return time.perf_counter() - wall, time.process_time() - cpu, mib


def measured() -> dict[str, float]:
    """Draw and open once, each in a fresh process."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, work in (("draw", draw), ("open", open_again)):
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                wall, cpu, mib = pool.submit(timed, work, Path(folder)).result()
            found |= {f"{name}_s": round(wall, 2), f"{name}_cpu_s": round(cpu, 2), f"{name}_peak_mib": round(mib)}
    return found


def main() -> int:
    """Measure, write the result, and say whether drawing was fast enough."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    loads, runs = [], []
    for _ in range(options.repeats):
        loads.append(round(os.getloadavg()[0], 2))
        runs.append(measured())
        print(runs[-1], f"load before: {loads[-1]}", flush=True)
    today = dt.datetime.now(dt.UTC).date().isoformat()
    medians = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    said = {"date": today, "hardware": hardware_of("cpu"), "cores": cores(), "load_before": loads, "images": 65_000}
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"glyphs-{today}.json"
    path.write_text(json.dumps({**said, **medians, "runs": runs}, indent=1) + "\n", encoding="utf-8")
    print(f"65,000 images drawn in {medians['draw_s']:.1f} s, opened in {medians['open_s']:.2f} s; {path}")
    return 0 if medians["draw_s"] < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
