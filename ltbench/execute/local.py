"""Where groups of cells run: in this process, or in worker processes that may die without harm.

Each worker has a pipe of its own and nothing else in common with the others, so a kill at any moment can neither block
nor break them; cells come back one by one as they end.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from ltbench.errors import UsageError
from ltbench.execute.failures import WorkerDied
from ltbench.execute.group import Context, Outcome
from ltbench.execute.numerics import pinned
from ltbench.hardware import cores
from ltbench.plan import Cell
from ltbench.records import FLUSH_SECONDS

Group = tuple[Cell, ...]

DEATHS = 2
"""How often a cell may take its worker along before it is recorded as killed: once may be somebody else's doing."""


@dataclass(frozen=True)
class Local:
    """Runs groups on this machine: ``workers`` processes (0: this one), at most ``timeout`` seconds each group.

    A group that loses its worker, or runs out of time, is run again cell by cell; a cell that does so alone is recorded.
    """

    workers: int = 0
    timeout: float | None = None

    def run(self, context: Context, groups: Sequence[Group]) -> Iterator[Outcome | None]:
        """Yield outcomes as cells end, in any order; None when none has for a while, so that others can be written."""
        if self.workers == 0:
            with pinned(context.device):
                for group in groups:
                    yield from context.run(group)
            return
        pool = _Pool(context, self.timeout, deque(groups))
        try:
            yield from pool.run(min(self.workers, len(groups)))
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
    """A process, this end of its pipe, and the cells it still has to do, since when."""

    process: Any
    pipe: Connection
    slot: int
    group: Group = ()
    left: deque[Cell] = field(default_factory=deque)
    since: float = 0.0


@dataclass
class _Pool:
    """Workers, and the groups that wait for one."""

    context: Context
    timeout: float | None
    waiting: deque[Group]
    workers: list[_Worker] = field(default_factory=list)
    deaths: dict[Cell, int] = field(default_factory=dict)

    def run(self, count: int) -> Iterator[Outcome | None]:
        """Keep so many workers busy until nothing is left."""
        self.workers = [self._start(slot) for slot in range(count)]
        while self.waiting or any(worker.left for worker in self.workers):
            for worker in self.workers:
                if self.waiting and not worker.left:
                    self._give(worker, self.waiting.popleft())
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
        plan = pickle.dumps((self.context.plan, _device(self.context.device, slot)))
        process = start.Process(target=_serve, args=(theirs, plan), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours, slot)

    def _give(self, worker: _Worker, group: Group) -> None:
        """Send a group; a worker that is dead already is noticed when it is attended to."""
        worker.group, worker.left, worker.since = group, deque(group), time.monotonic()
        with contextlib.suppress(OSError):
            worker.pipe.send_bytes(pickle.dumps(group))

    def _attend(self, worker: _Worker) -> Iterator[Outcome]:
        """Take what a worker has sent, and see whether it is lost or late."""
        alive = worker.process.is_alive()  # asked first: what a dead worker has sent is all in the pipe
        for outcome in _received(worker.pipe):
            worker.left.remove(outcome.cell)
            yield outcome
        if not worker.left:
            return
        if not alive:
            worker.process.join()
            yield from self._lost(worker, _death(worker.process.exitcode))
        elif self.timeout is not None and time.monotonic() - worker.since > self.timeout:
            yield from self._lost(
                worker, WorkerDied("timed out", f"the cell took longer than the time limit of {self.timeout:g} s")
            )

    def _lost(self, worker: _Worker, cause: WorkerDied) -> Iterator[Outcome]:
        """Replace a worker; run its cells again one by one, or record the one that had it to itself."""
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()
        self.workers[self.workers.index(worker)] = self._start(worker.slot)
        culprit, *others = worker.left
        self.deaths[culprit] = self.deaths.get(culprit, 0) + 1
        alone = len(worker.group) == 1
        if alone and (cause.status == "timed out" or self.deaths[culprit] >= DEATHS):
            yield Outcome(culprit, self.context.failed(culprit, self.context.blank(culprit), cause))
        else:
            others = [culprit, *others]
        self.waiting.extend((cell,) for cell in others)


def _received(pipe: Connection) -> Iterator[Outcome]:
    """Yield the outcomes that lie in a pipe; one that was cut off by a kill is none."""
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
    """Run groups in a worker until the pipe is closed; Ctrl-C is for the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    made, device = pickle.loads(plan)  # noqa: S301 - from the process that started this one
    context = Context(made, device)
    with contextlib.suppress(EOFError, OSError), pinned(device):
        while True:
            for outcome in context.run(pickle.loads(pipe.recv_bytes())):  # noqa: S301 - as above
                pipe.send_bytes(pickle.dumps(outcome))
