"""Where groups of cells run: in this process, or in worker processes that may die without harm."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ltbench.errors import LtbenchError, UsageError
from ltbench.execute.failures import WorkerDied
from ltbench.execute.group import Context, Outcome
from ltbench.execute.numerics import pinned
from ltbench.hardware import cores
from ltbench.plan import Cell, Plan
from ltbench.records import FLUSH_SECONDS

Group = tuple[Cell, ...]


@dataclass(frozen=True)
class Local:
    """Runs groups on this machine: ``workers`` processes (0: this one), at most ``timeout`` seconds each group.

    A worker that is killed, or runs out of time, costs its own cell only: its group is run again cell by cell.
    """

    workers: int = 0
    timeout: float | None = None

    def run(self, context: Context, groups: Sequence[Group]) -> Iterator[Outcome | None]:
        """Yield outcomes as cells end, in any order; None when none has for a while, so that others can be written."""
        if self.workers == 0:
            with pinned(context.device):
                for group in groups:
                    yield from context.run(group)
        else:
            yield from self._in_pool(context, groups)

    def _in_pool(self, context: Context, groups: Sequence[Group]) -> Iterator[Outcome | None]:
        """Schedule groups on pebble's pool, and single cells of groups that were lost."""
        from pebble import ProcessPool

        start = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
        multiprocessing.set_forkserver_preload(["ltbench.execute.group"])  # torch is imported once, not once a worker
        pool = ProcessPool(max_workers=self.workers, context=start, initializer=_begin, initargs=(context.plan, context.device))
        try:
            pending: dict[Any, Group] = {pool.schedule(_work, args=(group,), timeout=self.timeout): group for group in groups}
            while pending:
                done, _ = concurrent.futures.wait(pending, FLUSH_SECONDS, concurrent.futures.FIRST_COMPLETED)
                if not done:
                    yield None
                for future in done:
                    group = pending.pop(future)
                    lost = future.exception()
                    if lost is None:
                        yield from future.result()
                    elif len(group) == 1:
                        yield Outcome(group[0], context.failed(group[0], context.blank(group[0]), _cause(lost)))
                    else:
                        pending |= {pool.schedule(_work, args=((cell,),), timeout=self.timeout): (cell,) for cell in group}
        finally:
            pool.stop()  # type: ignore[no-untyped-call]
            pool.join()


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


_context: Context | None = None


def _begin(made: Plan, device: str) -> None:
    """Prepare a worker process: its plan, and on a machine with several GPUs, its own."""
    global _context  # noqa: PLW0603 - one context a worker process, set once
    if device == "cuda":
        import torch

        device = f"cuda:{_number() % torch.cuda.device_count()}"
    _context = Context(made, device)


def _number() -> int:
    """Return this worker's number."""
    identity = multiprocessing.current_process()._identity  # noqa: SLF001 - the only place where it is kept
    return identity[0] - 1 if identity else 0


def _work(group: Group) -> list[Outcome]:
    """Run one group in a worker."""
    if _context is None:
        raise LtbenchError("the worker was not prepared")
    with pinned(_context.device):
        return list(_context.run(group))


def _cause(lost: BaseException) -> BaseException:
    """Say in words what took a worker away."""
    if isinstance(lost, TimeoutError):
        return WorkerDied("timed out", "the cell took longer than the time limit")
    code = getattr(lost, "exitcode", None)
    if code is not None:
        reason = f"killed by signal {-code}" if code < 0 else f"exited with code {code}"
        return WorkerDied("killed", f"the worker process was {reason}" if code < 0 else f"the worker process {reason}")
    return lost
