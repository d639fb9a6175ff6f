"""The ``exact`` solver: linear heads at the optimum of the pinned objective, for any author's loss, many side by side.

Problems of one size share a stack of lanes; a lane takes the next problem when it is free. What a problem gets follows
from the problem alone: the number of lanes from its size, its steps from its own function.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ltbench.heads.axes import axes_flops, width_of
from ltbench.heads.history import MEMORY
from ltbench.heads.lanes import RAISED, Minimum, Problem, Stack
from ltbench.heads.linear import LinearScorer
from ltbench.heads.objective import Objective
from ltbench.heads.products import products
from ltbench.heads.slopes import Loss
from ltbench.types import Train

TOLERANCE = 1e-4
"""Largest gap to the optimum, as a share of the objective, at which the solver stops."""

SELECTION_TOLERANCE = 1e-3
"""The same for heads that are only compared on selection rows.

At 1e-2 many choices follow from where the solver stops, not from the candidates (docs/protocol.md).
"""

CPU_LANES, CUDA_LANES = 8, 16

CPU_PARAMETERS = 2**14
"""Above so many parameters a CPU is busy with one problem, and takes one at a time."""

HISTORY_BYTES = 2**33
"""Most memory that the curvature of a stack takes on a GPU."""


@dataclass(frozen=True, eq=False)
class Job:
    """What ``fit_linear`` takes."""

    train: Train
    loss: Loss
    l2: float
    row_weights: Tensor | None = None
    start: LinearScorer | None = None
    tolerance: float = TOLERANCE


def fit_linear(
    train: Train,
    loss: Loss,
    l2: float,
    row_weights: Tensor | None = None,
    start: LinearScorer | None = None,
    tolerance: float = TOLERANCE,
) -> LinearScorer:
    """Fit ``weight [D, C]`` and ``bias [C]`` to a stated gap: ‖∇_W F − Bδ‖²/2λ + ∇_b Fᵀδ ≤ tolerance · F.

    And ≤ tolerance/3 of what F has gained over W = 0. δ is the step of the biases to their best, Bδ what it changes in ∇_W F;
    with the best biases, F is λ-strongly convex in W. Where a loss is no cross entropy and not convex, biases count one by one:
    ‖∇_W F‖²/2λ + Σ_c (∂F/∂b_c)²/k_c, k_c the curvature in b_c as measured.

    ``row_weights [N]`` multiply ``train.weights`` (class weights, say); only ratios between weights matter, since the
    mean is weighted. A class without rows keeps zero weights and a logit of −2¹⁰⁰. ``start`` is a head to begin with, at
    zero if None.
    Float32 first; where its rounding stops short of the tolerance, float64 goes on. Raises ValueError for a loss
    that is not ``[N]`` or not finite.
    """
    solver = Exact()
    solver.put(0, Job(train, loss, l2, row_weights, start, tolerance))
    while True:
        for _, fitted in solver.step():
            if isinstance(fitted, BaseException):
                raise fitted
            return fitted


def lanes_for(size: int, device: torch.device) -> int:
    """Return how many problems of so many parameters are solved side by side: one where products depend on the lane."""
    return lanes_by_size(size, device) if products(device).lanes_agree else 1


def lanes_by_size(size: int, device: torch.device) -> int:
    """Return how many problems of so many parameters keep a device busy: a rule of the problem's own size."""
    if device.type == "cpu":
        return CPU_LANES if size <= CPU_PARAMETERS else 1
    fitting = HISTORY_BYTES // (2 * MEMORY * 4 * size)
    return max(1, min(CUDA_LANES, 1 << (max(1, fitting).bit_length() - 1)))


@dataclass(eq=False)
class _Attempt:
    """A job in one precision, where it goes on from, and the FLOPs that were spent on it before."""

    tag: Hashable
    job: Job
    dtype: torch.dtype = torch.float32
    point: Tensor | None = None
    spent: int = 0
    objective: Objective | None = None

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.job.train.classes * (width_of(self.job.train) + 1)

    @property
    def flops(self) -> int:
        """What the search has cost so far."""
        return self.spent + (0 if self.objective is None else self.objective.flops)

    def problem(self) -> Problem:
        """Return the objective for a lane; raise ValueError for a job that has none."""
        if self.job.l2 <= 0:
            raise ValueError(f"l2 must be above 0 for the exact solver, not {self.job.l2}")
        made = self.objective = Objective(self.job.train, self.job.loss, self.job.l2, self.job.row_weights, self.dtype)
        start, unfitted = made.start()
        if self.point is not None:  # where float32 has stopped
            start = self.point.to(self.dtype)
        elif self.job.start is not None:
            start = made.from_scorer(self.job.start)
        warm = self.job.start is not None or self.point is not None
        return Problem(made, start, made.metric(), made.scaling(), self.job.tolerance, warm, unfitted)


@dataclass(eq=False)
class _Line:
    """A stack of lanes, who is in which, and who waits."""

    stack: Stack
    waiting: deque[_Attempt] = field(default_factory=deque)
    inside: dict[int, _Attempt] = field(default_factory=dict)


Fitted = tuple[Hashable, LinearScorer | BaseException]


class Exact:
    """Fits jobs as lanes become free: ``put`` some, then ``step`` until nothing is ``busy``."""

    def __init__(self) -> None:
        """Start without jobs."""
        self._lines: dict[tuple[int, torch.dtype, torch.device], _Line] = {}

    @property
    def busy(self) -> bool:
        """Whether a job is waiting or under way."""
        return any(line.waiting or line.inside for line in self._lines.values())

    def put(self, tag: Hashable, job: Job, *, first: bool = False) -> None:
        """Take a job, known by its tag; ``first``: before those that wait."""
        self._queue(_Attempt(tag, job), first=first)

    def step(self) -> list[Fitted]:
        """Fill free lanes, take every lane one evaluation further, and return the jobs that have ended."""
        ended: list[Fitted] = []
        for key, line in list(self._lines.items()):
            self._fill(line, ended)
            for slot, found in line.stack.step().items() if line.inside else ():
                self._finish(line.inside.pop(slot), found, ended)
            if not line.inside and not line.waiting:
                del self._lines[key]  # gives its memory back
        return ended

    def _queue(self, attempt: _Attempt, *, first: bool) -> None:
        """Let an attempt wait for a lane of its size and precision."""
        device = attempt.job.train.x.device
        key = (attempt.size, attempt.dtype, device)
        if key not in self._lines:
            like = torch.zeros(attempt.size, dtype=attempt.dtype, device=device)
            self._lines[key] = _Line(Stack(lanes_for(attempt.size, device), like))
        waiting = self._lines[key].waiting
        (waiting.appendleft if first else waiting.append)(attempt)

    def _fill(self, line: _Line, ended: list[Fitted]) -> None:
        """Put waiting attempts in free lanes; one that is at its optimum, or cannot begin, ends at once."""
        for slot in line.stack.idle:
            while line.waiting and slot not in line.inside:
                attempt = line.waiting.popleft()
                try:
                    found: Minimum | BaseException | None = line.stack.load(slot, attempt.problem())
                except RAISED as error:
                    found = error
                if found is None:
                    line.inside[slot] = attempt
                else:
                    self._finish(attempt, found, ended)

    def _finish(self, attempt: _Attempt, found: Minimum | BaseException, ended: list[Fitted]) -> None:
        """Return a job's head or error, or let it go on in float64 where float32 stopped short."""
        if isinstance(found, BaseException):
            ended.append((attempt.tag, found))
            return
        if not found.converged and attempt.dtype == torch.float32:
            again = _Attempt(attempt.tag, attempt.job, torch.float64, found.point, attempt.flops)
            self._queue(again, first=True)
        elif found.fault:
            ended.append((attempt.tag, ValueError(found.fault)))
        else:
            try:
                ended.append((attempt.tag, _scorer(attempt, found)))
            except RAISED as error:
                ended.append((attempt.tag, error))


def _scorer(attempt: _Attempt, found: Minimum) -> LinearScorer:
    """Return the head where a search has ended."""
    assert attempt.objective is not None  # it has been in a lane
    weight, bias = attempt.objective.to_scorer(found.point)
    flops = attempt.flops + axes_flops(attempt.job.train)
    return LinearScorer(weight, bias, training_flops=flops, converged=found.converged)
