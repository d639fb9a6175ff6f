"""Kill a run, or its workers, at random moments; resume until all is done; compare with a run that nobody disturbed.

    python benchmarks/kill.py --kills 100

Every run that came to its end after being killed must give the same results, scores and leaderboard, byte by byte. How
many cells were begun more than once is counted by the head itself, which notes every fit. Needs Linux: it reads /proc.
Writes ``results/kill-<date>.json`` beside this file, and exits with 1 if anything differed, hung or stayed behind.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime as dt
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ltbench.keys import canonical_json
from ltbench.leaderboard.board import board
from ltbench.records import RunFolder

HANGS_AFTER = 180.0
LEAVES_WITHIN = 30.0
WINDOW = 5.0
"""Seconds after a run has claimed its folder within which it is killed: long enough for some of its cells, not for all."""
LOG_VARIABLE = "LAB_KILL_LOG"

HEAD = '''\
"""A nearest-mean head that takes its time, and notes every fit."""

import os
import time
from dataclasses import dataclass

import ltbench
import torch


@dataclass(frozen=True, kw_only=True)
class Noted:
    """Cells differ in ``number``, which scales one feature."""

    number: int = 0
    seconds: float = 0.0

    def fit(self, train):
        note = os.open(os.environ["LAB_KILL_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(note, b"fit\\n")
        os.close(note)
        time.sleep(self.seconds)
        hit = torch.nn.functional.one_hot(train.targets, train.classes).to(train.x.dtype)
        means = (hit.T @ train.x) / hit.sum(dim=0)[:, None].clamp_min(1)
        means[:, self.number] *= 0.5
        return lambda x: ltbench.Scores(-torch.cdist(x, means), "scores")


@ltbench.hookimpl
def ltbench_classifiers():
    return [ltbench.Component("noted", "lab_kill:Noted", "nearest mean, noted")]
'''


@dataclass(frozen=True)
class Workload:
    """A run of cheap cells: heads times two generators times seeds, each at least ``seconds`` long, and two with a loss."""

    heads: int = 10
    seeds: int = 15
    seconds: float = 0.05

    @property
    def cells(self) -> int:
        """How many cells the run has."""
        return (self.heads + 2) * 2 * self.seeds

    @property
    def noted(self) -> int:
        """How many of them note that they are fitted."""
        return self.heads * 2 * self.seeds

    def arguments(self) -> list[str]:
        """Return the options that say what to run."""
        numbers = "|".join(map(str, range(self.heads)))
        head = f"noted[number={numbers},seconds={self.seconds}]"
        options = ["-d", "digits", "-b", "pixels", "-g", "none,random-over", "-c", f"{head},softmax,balanced-softmax"]
        return [*options, "--ratio", "10", "--seeds", str(self.seeds), "--no-reference", "--retry-failed", "--quiet"]


@dataclass
class Report:
    """What was seen; ``begun_again`` counts fits beyond one a cell, over all runs that came to their end."""

    cells: int
    kills: dict[str, int] = field(default_factory=dict)
    moments: list[float] = field(default_factory=list)
    lives: int = 0
    runs: int = 0
    begun_again: int = 0
    different: list[str] = field(default_factory=list)
    left_behind: int = 0
    hung: int = 0
    undisturbed_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether nothing differed, hung or stayed behind."""
        return not (self.different or self.left_behind or self.hung)


@dataclass(frozen=True)
class Lab:
    """A folder with the head's distribution, the note of its fits, and the runs."""

    folder: Path
    work: Workload

    @property
    def log(self) -> Path:
        """The note of fits."""
        return self.folder / "fits"

    def install(self) -> None:
        """Write the head as an installed distribution."""
        info = self.folder / "site" / "lab_kill-1.0.dist-info"
        info.mkdir(parents=True)
        (info.parent / "lab_kill.py").write_text(HEAD, encoding="utf-8")
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-kill\nVersion: 1.0\n", encoding="utf-8")
        (info / "entry_points.txt").write_text("[ltbench]\nkill = lab_kill\n", encoding="utf-8")

    def start(self, out: Path, workers: int) -> subprocess.Popen[str]:
        """Start the run, in a session of its own, so that what it leaves behind can be found."""
        command = [sys.executable, "-m", "ltbench", "run", *self.work.arguments(), "--workers", str(workers), "--out", str(out)]
        own = {
            "PYTHONPATH": os.pathsep.join([str(self.folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]),
            LOG_VARIABLE: str(self.log),
            "LTBENCH_CACHE": str(self.folder / "cache"),
        }
        with (self.folder / "stderr").open("w") as stderr:
            return subprocess.Popen(
                command, env={**os.environ, **own}, stdout=subprocess.DEVNULL, stderr=stderr, text=True, start_new_session=True
            )

    def fits(self) -> int:
        """Return how many fits were noted, and forget them."""
        noted = len(self.log.read_bytes().splitlines()) if self.log.exists() else 0
        self.log.unlink(missing_ok=True)
        return noted

    def said(self) -> str:
        """Return what the last run wrote to standard error."""
        return (self.folder / "stderr").read_text(encoding="utf-8", errors="replace")


def outcome(out: Path) -> dict[str, str]:
    """Return everything of a run that must not depend on who disturbed it: results, scores and board, as text."""
    folder = RunFolder(out)
    found: dict[str, str] = {}
    for key, record in folder.load().records.items():
        found[f"result {key}"] = f"{record.status} {canonical_json(record.result)}"
        if record.status == "done":
            found[f"scores {key}"] = folder.read_arrays(record).scores.numpy().tobytes().hex()
    return {**found, **board([out], out).files}


def rehearse(folder: Path, work: Workload, kills: int, seed: int, *, say: bool = False) -> Report:
    """Kill ``kills`` times at random moments: the run alone, the run with workers, and a worker, in turn."""
    lab, report, chance = Lab(folder, work), Report(work.cells), random.Random(seed)
    lab.install()
    began = time.monotonic()
    ready, wanted = _undisturbed(lab, report)
    span = (ready, min(ready + WINDOW, report.undisturbed_seconds))
    turns = _turns()
    while sum(report.kills.values()) < kills:
        out = folder / f"run-{report.runs}"
        ended = False
        while not ended and sum(report.kills.values()) < kills:
            turn = next(turns)
            between = (0.0, WINDOW) if turn[0] == "worker" else span
            moments = [round(chance.uniform(*between), 3) for _ in range(min(3, kills - sum(report.kills.values())))]
            ended = _life(lab, report, out, turn, moments, chance)
            if say:
                done = f"{sum(report.kills.values())}/{kills} kills, {report.runs} runs ended, {report.hung} hung"
                print(f"{done}, {time.monotonic() - began:.0f} s, last: {turn[0]}", file=sys.stderr, flush=True)
        _finish(lab, report, out, wanted, ended=ended)
        shutil.rmtree(out)
    report.seconds = round(time.monotonic() - began, 1)
    return report


def _turns() -> Iterator[tuple[str, int]]:
    """Return who is killed, and with how many workers, in turn, for ever."""
    while True:
        yield from (("run", 0), ("run with workers", 2), ("worker", 2))


def _undisturbed(lab: Lab, report: Report) -> tuple[float, dict[str, str]]:
    """Run once without a kill; return the seconds until the folder was claimed, and the outcome."""
    out, started = lab.folder / "undisturbed", time.monotonic()
    process = lab.start(out, 0)
    while not (out / "experiment.toml").exists() and process.poll() is None:
        time.sleep(0.02)
    ready = time.monotonic() - started
    if process.wait(HANGS_AFTER):
        raise RuntimeError(f"the undisturbed run failed: {lab.said()}")
    report.undisturbed_seconds = round(time.monotonic() - started, 2)
    if lab.fits() != lab.work.noted:
        raise RuntimeError(f"the undisturbed run did not fit its {lab.work.noted} noted cells once each")
    return ready, outcome(out)


def _life(lab: Lab, report: Report, out: Path, turn: tuple[str, int], moments: list[float], chance: random.Random) -> bool:
    """Start or resume the run and kill; return whether it came to its end by itself."""
    victim, workers = turn
    process = lab.start(out, workers)
    report.lives += 1
    for moment in moments if victim == "worker" else moments[:1]:
        if victim == "worker":
            _some_worker(process, chance)  # a worker's moments count from when there is one
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moment)
        if process.poll() is not None:
            break
        target = _some_worker(process, chance) if victim == "worker" else process.pid
        if target is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(target, signal.SIGKILL)
                report.kills[victim] = report.kills.get(victim, 0) + 1
                report.moments.append(moment)
    code = _end(process, report)
    _sweep(process.pid, report)
    if code not in (0, 1, -signal.SIGKILL):
        report.different.append(f"exit code {code}: {lab.said()[-500:]}")
    return code == 0


def _finish(lab: Lab, report: Report, out: Path, wanted: dict[str, str], *, ended: bool) -> None:
    """Resume if the last life was killed, then compare."""
    if not ended:
        report.lives += 1
        if code := _end(lab.start(out, 0), report):
            report.different.append(f"exit code {code}: {lab.said()[-500:]}")
    report.runs += 1
    report.begun_again += lab.fits() - lab.work.noted
    got = outcome(out)
    for name in sorted({*got, *wanted}):
        if got.get(name) != wanted.get(name):
            report.different.append(f"run {report.runs}: {name}: {_apart(got.get(name, ''), wanted.get(name, ''))}")


def _apart(got: str, wanted: str) -> str:
    """Return both texts from where they part."""
    same = next((i for i, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b), min(len(got), len(wanted)))
    start = max(0, same - 30)
    return f"{got[start : same + 60]!r}, undisturbed {wanted[start : same + 60]!r}"


def _end(process: subprocess.Popen[str], report: Report) -> int:
    """Wait for the end of a run and return its exit code; one that hangs is counted and killed."""
    try:
        return process.wait(HANGS_AFTER)
    except subprocess.TimeoutExpired:
        report.hung += 1
        process.kill()
        return process.wait()


def _sweep(session: int, report: Report) -> None:
    """Wait for the rest of a run's session to leave; count and kill what stays."""
    deadline = time.monotonic() + LEAVES_WITHIN
    while (left := _members(session)) and time.monotonic() < deadline:
        time.sleep(0.05)
    report.left_behind += len(left)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _some_worker(process: subprocess.Popen[str], chance: random.Random) -> int | None:
    """Wait for a worker and return one, by chance; None if the run ends first."""
    while process.poll() is None:
        parents = _members(process.pid)
        # The run starts multiprocessing's server, and the server forks the workers.
        found = sorted(pid for pid, parent in parents.items() if parents.get(parent) == process.pid)
        if found:
            return chance.choice(found)
        time.sleep(0.02)
    return None


def _members(session: int) -> dict[int, int]:
    """Return the living processes of a session, each with its parent."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent, _, of_session = stat.read_text().rpartition(")")[2].split()[:4]
            if int(of_session) == session and state != "Z":
                found[int(stat.parent.name)] = int(parent)
    return found


def hardware() -> dict[str, Any]:
    """Return what the numbers were taken on."""
    import torch

    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return _hardware(line.partition(":")[2].strip(), torch.__version__)
    return _hardware(platform.processor(), torch.__version__)


def _hardware(cpu: str, torch_version: str) -> dict[str, Any]:
    """Put a machine's names together."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()} {platform.machine()}"
    versions = {"python": platform.python_version(), "torch": torch_version}
    return {"cpu": cpu, "cores": os.cpu_count(), "memory_gib": round(memory, 1), "system": system, **versions}


def main() -> int:
    """Rehearse, write the report, and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    today = dt.datetime.now(dt.UTC).date().isoformat()
    work = Workload()
    with tempfile.TemporaryDirectory() as folder:
        report = rehearse(Path(folder), work, options.kills, options.seed, say=True)
    said = {"date": today, "hardware": hardware(), "workload": dataclasses.asdict(work), "seed": options.seed}
    measured = {**dataclasses.asdict(report), "begun_again_per_kill": report.begun_again / max(1, sum(report.kills.values()))}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"kill-{today}.json").write_text(json.dumps({**said, **measured}, indent=1) + "\n", encoding="utf-8")
    print(
        f"{sum(report.kills.values())} kills in {report.lives} lives of {report.runs} runs of {report.cells} cells, "
        f"{report.seconds:.0f} s: {len(report.different)} differences, {report.hung} hung, {report.left_behind} left behind, "
        f"{report.begun_again} fits done again"
    )
    return 0 if report.good else 1


if __name__ == "__main__":
    sys.exit(main())
