"""Where groups of cells run: in this process, or in worker processes that may die without harm.

Each worker has a pipe of its own and nothing else in common with the others, so a kill at any moment can neither block
nor break them; cells come back one by one as they end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import multiprocessing
import os
import pickle
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from ltbench.cells import Cell
from ltbench.errors import UsageError
from ltbench.execute.failures import WorkerDied, failure_of
from ltbench.execute.group import Context, Outcome
from ltbench.execute.numerics import pinned
from ltbench.execute.source import Facts
from ltbench.execute.worker import Group, Job, Sign, facts_after_extraction, outcomes, serve
from ltbench.features.extraction import Pace
from ltbench.hardware import cores
from ltbench.records import FLUSH_SECONDS

DEATHS = {"describe": 3, "extract": 3, "run": 2}
"""How often a job may take its worker along before it is recorded as killed: once may be somebody else's doing.

A source is given another chance, because all of its cells depend on it.
"""


Watch = Callable[[Cell, Pace], None]
"""Told how far the extraction of a cell's source is."""

Missing = Callable[[Cell], Sequence[Group]]
"""Given a cell whose source is known by now, the groups of that source's cells that are still to be run."""


@dataclass(frozen=True)
class Local:
    """Runs groups on this machine: ``workers`` processes (0: this one), at most ``timeout`` seconds for each cell.

    A group has as much time as its cells together, and shows a sign of life at least as often as one cell ends. One that
    does not, or loses its worker, is run again cell by cell; a cell that does so alone is recorded. Backbones are loaded,
    and features extracted, in the same processes under the same rules; there the limit counts from the last images done.
    """

    workers: int = 0
    timeout: float | None = None

    def run(self, context: Context, sources: Sequence[Cell], missing: Missing, watch: Watch) -> Iterator[Outcome | None]:
        """Yield outcomes as cells end, in any order; None when none has for a while, so that others can be written.

        ``sources`` are one cell for each dataset and backbone; ``missing`` is asked once what to run of each, and
        ``watch`` told how far their extraction is.
        """
        if self.workers == 0:
            with pinned(context.device):
                for cell in sources:
                    groups = missing(cell)
                    if groups:
                        facts_after_extraction(context, cell, functools.partial(watch, cell))
                    for group in groups:
                        yield from outcomes(context, group)
            return
        jobs = deque(Job("describe", (cell,)) for cell in sources)
        pool = _Pool(context, self.workers, self.timeout, missing, watch, jobs, len(sources))
        try:
            yield from pool.run()
        finally:
            pool.close()


def resolve_workers(text: str, device: str) -> int:
    """Return how many worker processes ``auto`` or a number stands for; 0 for one cell after the other, here.

    ``auto`` is one per CPU core, or per CUDA device.
    """
    if text == "auto":
        import torch

        return max(1, torch.cuda.device_count() if device.startswith("cuda") else cores())
    if not text.isdecimal():
        raise UsageError(f"workers must be auto or a number of processes (0: none), not {text!r}")
    return int(text)


@dataclass
class _Worker:
    """A process, this end of its pipe, and the cells it still has to do.

    ``begun`` is when it could begin with its job, and ``since`` its last sign of life; None before it has started up.
    """

    process: Any
    pipe: Connection
    slot: int
    job: Job | None = None
    left: deque[Cell] = field(default_factory=deque)
    begun: float | None = None
    since: float | None = None

    def give(self, job: Job) -> None:
        """Send a job; a worker that is dead already is noticed when it is attended to."""
        self.job, self.left = job, deque(job.cells)
        self.begun = self.since = None if self.since is None else time.monotonic()
        with contextlib.suppress(OSError):
            self.pipe.send_bytes(pickle.dumps(job))

    def late(self, timeout: float | None) -> bool:
        """Whether it has shown no sign of life, or run its cells, for too long; starting up does not count."""
        if timeout is None or self.since is None or self.begun is None or self.job is None:
            return False
        now, cells = time.monotonic(), self.job.cells
        return now - self.since > timeout or (self.job.task == "run" and now - self.begun > timeout * len(cells))

    def heard(self) -> None:
        """Note a sign of life; with its first one it has started up."""
        self.since = time.monotonic()
        self.begun = self.since if self.begun is None else self.begun


@dataclass
class _Pool:
    """Workers, and the jobs that wait for one."""

    context: Context
    count: int
    timeout: float | None
    missing: Missing
    watch: Watch
    waiting: deque[Job]
    sources: int
    workers: list[_Worker] = field(default_factory=list)
    deaths: dict[tuple[str, Cell], int] = field(default_factory=dict)
    queued: dict[Cell, Sequence[Group]] = field(default_factory=dict)

    @functools.cached_property
    def threads(self) -> int:
        """How many threads prepare and encode the images of a source: cores are shared by as many as are at work at once."""
        return max(1, cores() // max(1, min(self.count, self.sources)))

    def run(self) -> Iterator[Outcome | None]:
        """Keep at most ``count`` workers busy until nothing is left."""
        while self.waiting or any(worker.left for worker in self.workers):
            idle = [worker for worker in self.workers if not worker.left]
            while len(idle) < len(self.waiting) and len(self.workers) < self.count:
                self.workers.append(self._start(len(self.workers)))
                idle.append(self.workers[-1])
            for worker in idle:
                if self.waiting:
                    worker.give(self.waiting.popleft())
            busy = [worker for worker in self.workers if worker.left]
            ready = wait([thing for w in busy for thing in (w.pipe, w.process.sentinel)], FLUSH_SECONDS / 4)
            if not ready:
                yield None
            for worker in busy:
                yield from self._attend(worker)

    def close(self) -> None:
        """Kill every worker: what they have sent is taken, the rest is for another run."""
        for worker in self.workers:
            worker.process.kill()
            worker.process.join()
            worker.pipe.close()

    def _start(self, slot: int) -> _Worker:
        """Start a worker; each slot has a CUDA device of its own, as far as there are."""
        start: Any = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
        multiprocessing.set_forkserver_preload(["ltbench.execute.group"])  # torch is imported once, not once a worker
        ours, theirs = start.Pipe()
        plan = pickle.dumps((self.context.plan, _device(self.context.device, slot), self.threads))
        process = start.Process(target=serve, args=(theirs, plan), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours, slot)

    def _attend(self, worker: _Worker) -> Iterator[Outcome]:
        """Take what a worker has sent, and see whether it is lost or late."""
        alive = worker.process.is_alive()  # asked first: what a dead worker has sent is all in the pipe
        for message in _received(worker.pipe):
            worker.heard()
            if isinstance(message, Outcome):
                worker.left.remove(message.cell)
                yield message
            elif isinstance(message, Facts):
                yield from self._described(worker, message)
            elif message.pace is not None:
                self.watch(worker.left[0], message.pace)
        if not worker.left:
            return
        if not alive:
            worker.process.join()
            yield from self._lost(worker, _death(worker.process.exitcode))
        elif worker.late(self.timeout):
            what = "the cell" if worker.job is not None and worker.job.task == "run" else "loading it, or encoding one batch,"
            told = f"{what} took longer than the time limit of {self.timeout:g} s"
            yield from self._lost(worker, WorkerDied("timed out", told))

    def _described(self, worker: _Worker, facts: Facts) -> Iterator[Outcome]:
        """Learn a source's facts; then have its features extracted, where cells need them, and queue its groups."""
        job, cell = worker.job, worker.left.popleft()
        assert job is not None
        self.context.learn(cell, facts)
        if job.task == "describe" and facts.failure is None and (groups := self.missing(cell)):
            self.queued[cell] = groups
            worker.give(Job("extract", (cell,), facts))  # it has the backbone in memory
        else:
            yield from self._go_on(cell, facts)

    def _go_on(self, cell: Cell, facts: Facts) -> Iterator[Outcome]:
        """Queue a source's groups; where there are no features, they fail at once."""
        groups = self.queued.pop(cell) if cell in self.queued else self.missing(cell)
        if facts.failure is None:
            self.waiting.extend(Job("run", group, facts) for group in groups)
        else:
            for group in groups:
                yield from outcomes(self.context, group)

    def _lost(self, worker: _Worker, cause: WorkerDied) -> Iterator[Outcome]:
        """Replace a worker; do its cells again one by one, or record the one that had it to itself."""
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()
        self.workers[self.workers.index(worker)] = self._start(worker.slot)
        job, left = worker.job, list(worker.left)
        assert job is not None
        for cell in left:  # any of them may have done it
            self.deaths[job.task, cell] = self.deaths.get((job.task, cell), 0) + 1
        if len(job.cells) > 1 or (cause.status != "timed out" and self.deaths[job.task, left[0]] < DEATHS[job.task]):
            self.waiting.extend(Job(job.task, (cell,), job.facts) for cell in left)
        elif job.task == "run":
            yield Outcome(left[0], self.context.failed(left[0], self.context.blank(left[0]), failure_of(cause)))
        else:
            yield from self._sourceless(left[0], job.facts, cause)

    def _sourceless(self, cell: Cell, facts: Facts | None, cause: WorkerDied) -> Iterator[Outcome]:
        """Record that a backbone takes its process along whenever it is loaded or used."""
        failure = dataclasses.replace(failure_of(cause), blamed=("backbone",))
        known = self.context.source(cell).unknown(failure) if facts is None else dataclasses.replace(facts, failure=failure)
        self.context.learn(cell, known)
        yield from self._go_on(cell, known)


def _received(pipe: Connection) -> Iterator[Outcome | Facts | Sign]:
    """Yield the messages that lie in a pipe; one that was cut off by a kill is none."""
    with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):
        while pipe.poll():
            yield pickle.loads(pipe.recv_bytes())  # noqa: S301 - from a process of our own


def _death(code: int | None) -> WorkerDied:
    """Say in words how a worker ended."""
    how = f"was killed by signal {-code}" if code is not None and code < 0 else f"exited with code {code}"
    return WorkerDied("killed", f"the worker process {how}")


def _device(device: str, slot: int) -> str:
    """Return the device of a slot."""
    if device != "cuda":
        return device
    import torch

    return f"cuda:{slot % torch.cuda.device_count()}"
