"""A worker process: does jobs until its pipe is closed, and tells how it goes. The same code runs groups in this process."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Literal

from ltbench.cells import Cell
from ltbench.execute.group import Context, Outcome
from ltbench.execute.numerics import pinned
from ltbench.execute.source import Facts
from ltbench.features.extraction import Pace, Progress

Group = tuple[Cell, ...]

PARENT_SECONDS = 1.0
"""How often a worker looks whether it is still wanted."""

SIGN_SECONDS = 0.25
"""A worker that is busy with a group says so no more often."""


@dataclass(frozen=True)
class Job:
    """What a worker is sent: cells of one setting to run, or a cell whose source it shall describe or extract."""

    task: Literal["describe", "extract", "run"]
    cells: Group
    facts: Facts | None = None


@dataclass(frozen=True)
class Sign:
    """A worker's sign of life: it has started, has come further, or so many images are encoded."""

    pace: Pace | None = None


def serve(pipe: Connection, plan: bytes) -> None:
    """Do jobs in a worker until the pipe is closed; Ctrl-C is for the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"  # in one line, as the command line does
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    made, device, threads = pickle.loads(plan)  # noqa: S301 - from the process that started this one
    context = Context(made, device, threads)
    with contextlib.suppress(EOFError, OSError), pinned(device):
        pipe.send_bytes(pickle.dumps(Sign()))
        while True:
            job = pickle.loads(pipe.recv_bytes())  # noqa: S301 - as above
            for message in _done(context, job, lambda pace: pipe.send_bytes(pickle.dumps(Sign(pace)))):
                pipe.send_bytes(pickle.dumps(message))


def _end_with_parent(parent: int) -> None:
    """End this process when the one that started it has been killed: an endless fit would never look at the pipe."""
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(1)


def _done(context: Context, job: Job, progress: Progress) -> Iterator[Outcome | Facts | Sign]:
    """Do a job."""
    cell = job.cells[0]
    if job.facts is not None:
        context.learn(cell, job.facts)
    if job.task == "run":
        yield from with_signs(context.run(job.cells))
    elif job.task == "extract":
        yield facts_after_extraction(context, cell, progress)
    else:
        yield context.source(cell).facts


def with_signs(outcomes: Iterator[Outcome | None]) -> Iterator[Outcome | Sign]:
    """Yield outcomes, and now and then a sign of life."""
    last = time.monotonic()
    for outcome in outcomes:
        if outcome is not None:
            yield outcome
        elif time.monotonic() - last >= SIGN_SECONDS:
            yield Sign()
            last = time.monotonic()


def outcomes(context: Context, group: Group) -> Iterator[Outcome]:
    """Run a group here."""
    return (outcome for outcome in context.run(group) if outcome is not None)


def facts_after_extraction(context: Context, cell: Cell, progress: Progress) -> Facts:
    """Have a source's features extracted, if they are not there, and return its facts; a failure is among them."""
    source = context.source(cell)
    with contextlib.suppress(Exception):
        source.features(progress)
    return source.facts
