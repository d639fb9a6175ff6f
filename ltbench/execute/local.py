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
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Literal

from ltbench.cells import Cell
from ltbench.errors import UsageError
from ltbench.execute.failures import WorkerDied, failure_of
from ltbench.execute.group import Context, Outcome
from ltbench.execute.numerics import pinned
from ltbench.execute.source import Facts
from ltbench.features.extraction import Pace, Progress
from ltbench.hardware import cores
from ltbench.records import FLUSH_SECONDS

Group = tuple[Cell, ...]

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

    A group that loses its worker, or runs out of time, is run again cell by cell; a cell that does so alone is recorded.
    Backbones are loaded, and features extracted, in the same processes under the same rules; there the limit counts from
    the last images done.
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
                        _facts_after_extraction(context, cell, functools.partial(watch, cell))
                    for group in groups:
                        yield from context.run(group)
            return
        pool = _Pool(context, self.workers, self.timeout, missing, watch, deque(Job("describe", (cell,)) for cell in sources))
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


@dataclass(frozen=True)
class Job:
    """What a worker is sent: cells of one setting to run, or a cell whose source it shall describe or extract."""

    task: Literal["describe", "extract", "run"]
    cells: Group
    facts: Facts | None = None


@dataclass(frozen=True)
class Sign:
    """A worker's sign of life: it has started, or so many images are encoded."""

    pace: Pace | None = None


@dataclass
class _Worker:
    """A process, this end of its pipe, and the cells it still has to do; ``since`` is its last sign of life."""

    process: Any
    pipe: Connection
    slot: int
    job: Job | None = None
    left: deque[Cell] = field(default_factory=deque)
    since: float | None = None

    def give(self, job: Job) -> None:
        """Send a job; a worker that is dead already is noticed when it is attended to."""
        self.job, self.left = job, deque(job.cells)
        self.since = None if self.since is None else time.monotonic()
        with contextlib.suppress(OSError):
            self.pipe.send_bytes(pickle.dumps(job))

    def late(self, timeout: float | None) -> bool:
        """Whether it has shown no sign of life for too long; starting up does not count."""
        return timeout is not None and self.since is not None and time.monotonic() - self.since > timeout


@dataclass
class _Pool:
    """Workers, and the jobs that wait for one."""

    context: Context
    count: int
    timeout: float | None
    missing: Missing
    watch: Watch
    waiting: deque[Job]
    workers: list[_Worker] = field(default_factory=list)
    deaths: dict[tuple[str, Cell], int] = field(default_factory=dict)
    queued: dict[Cell, Sequence[Group]] = field(default_factory=dict)

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
        plan = pickle.dumps((self.context.plan, _device(self.context.device, slot), max(1, cores() // self.count)))
        process = start.Process(target=_serve, args=(theirs, plan), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours, slot)

    def _attend(self, worker: _Worker) -> Iterator[Outcome]:
        """Take what a worker has sent, and see whether it is lost or late."""
        alive = worker.process.is_alive()  # asked first: what a dead worker has sent is all in the pipe
        for message in _received(worker.pipe):
            worker.since = time.monotonic()
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
                yield from self.context.run(group)

    def _lost(self, worker: _Worker, cause: WorkerDied) -> Iterator[Outcome]:
        """Replace a worker; do its cells again one by one, or record the one that had it to itself."""
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()
        self.workers[self.workers.index(worker)] = self._start(worker.slot)
        job, (culprit, *others) = worker.job, worker.left
        assert job is not None
        self.deaths[job.task, culprit] = self.deaths.get((job.task, culprit), 0) + 1
        alone = len(job.cells) == 1
        if not (alone and (cause.status == "timed out" or self.deaths[job.task, culprit] >= DEATHS[job.task])):
            others = [culprit, *others]
        elif job.task == "run":
            yield Outcome(culprit, self.context.failed(culprit, self.context.blank(culprit), failure_of(cause)))
        else:
            yield from self._sourceless(culprit, job.facts, cause)
        self.waiting.extend(Job(job.task, (cell,), job.facts) for cell in others)

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


def _serve(pipe: Connection, plan: bytes) -> None:
    """Do jobs in a worker until the pipe is closed; Ctrl-C is for the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    made, device, threads = pickle.loads(plan)  # noqa: S301 - from the process that started this one
    context = Context(made, device, threads)
    with contextlib.suppress(EOFError, OSError), pinned(device):
        pipe.send_bytes(pickle.dumps(Sign()))
        while True:
            job = pickle.loads(pipe.recv_bytes())  # noqa: S301 - as above
            for message in _done(context, job, lambda pace: pipe.send_bytes(pickle.dumps(Sign(pace)))):
                pipe.send_bytes(pickle.dumps(message))


def _done(context: Context, job: Job, progress: Progress) -> Iterator[Outcome | Facts]:
    """Do a job."""
    cell = job.cells[0]
    if job.facts is not None:
        context.learn(cell, job.facts)
    if job.task == "run":
        yield from context.run(job.cells)
    elif job.task == "extract":
        yield _facts_after_extraction(context, cell, progress)
    else:
        yield context.source(cell).facts


def _facts_after_extraction(context: Context, cell: Cell, progress: Progress) -> Facts:
    """Have a source's features extracted, if they are not there, and return its facts; a failure is among them."""
    source = context.source(cell)
    with contextlib.suppress(Exception):
        source.features(progress)
    return source.facts
