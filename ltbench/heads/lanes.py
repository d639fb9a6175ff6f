"""Limited-memory BFGS on K lanes: minimises smooth functions of equally many parameters side by side.

A lane's steps follow from its own function alone. What is done for all lanes at once is done lane by lane inside one
operation; the functions themselves are called one by one. Knows nothing of heads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ltbench.heads.history import History, Scaling, on_cache_lines

RAISED = (Exception, SystemExit)
"""What a function may raise at the cost of its own lane alone; Ctrl-C is for everyone."""

SEARCH_EVALUATIONS = 30
"""Most evaluations of one line search."""

GAINED, RESOLVED = 1 / 3, 1e-9
"""A gap is small if it is so beside this share of what has been gained, too; or beside this share of the value."""

LEAST_WAIT = 0.1
"""Where a look finds the gap too large, the bound has to come down to this share of itself at most before the next."""

RESCALE_AT = (30.0, 3.0, 0.3)
"""Scaling and metric are computed anew each time the bound on the gap first comes below so many times the value."""


@dataclass(frozen=True)
class Shape:
    """A function about a point: its scaling, its metric ``[P]``, and a bound on the gap by a gradient ``[P]`` there."""

    scaling: Scaling
    metric: Tensor
    gap: Callable[[Tensor], float]


class Function(Protocol):
    """What a lane minimises."""

    def __call__(self, point: Tensor, gradient: Tensor) -> Tensor:
        """Write the gradient at a point ``[P]`` in place; return the value, a float64 scalar."""
        ...

    def shape_at(self, point: Tensor) -> Shape | None:
        """Return the shape about a point ``[P]``, if it is known."""
        ...


@dataclass(frozen=True)
class Problem:
    """A function, the point ``[P]`` to start at, and when to stop: Σ metric · ∇² ≤ tolerance · |value|.

    And ≤ tolerance · ``GAINED`` · what has been gained over ``unfitted``, the value of what has learnt nothing, lest a
    search that has little to gain end where it began. ``scaling`` is what to begin with, and ``metric [P]`` half of an inverse
    of the Hessian's diagonal that errs to the safe side; ``warm``: those of another point than the start.
    """

    function: Function
    start: Tensor
    metric: Tensor
    scaling: Scaling
    tolerance: float
    warm: bool = False
    unfitted: float = math.inf
    max_evaluations: int = 2000


@dataclass(frozen=True)
class Minimum:
    """Where a search ended: ``point``, ``value``, evaluations spent, and whether it met the tolerance.

    ``fault`` says what was not finite in the last evaluation, and is empty if all was.
    """

    point: Tensor
    value: float
    evaluations: int
    converged: bool
    fault: str = ""


@dataclass
class _Lane:
    """What one search knows in numbers; its vectors lie in the stack."""

    problem: Problem
    value: float = math.inf
    low: float = 0.0
    high: float = math.inf
    length: float = 1.0
    tries: int = 0
    evaluations: int = 0
    rescaled: int = 0
    next_look_below: float = math.inf
    fault: str = ""

    def accepts(self, value: float, along: float, slope: float) -> bool:
        """Check the weak Wolfe conditions (Lewis & Overton, 2013); else bisect, or double while there is no upper end."""
        self.evaluations += 1
        self.tries += 1
        self.fault = fault(value, along)
        if value <= self.value + 1e-4 * self.length * slope and along >= 0.9 * slope:
            self.value, self.low, self.high, self.length, self.tries = value, 0.0, math.inf, 1.0, 0
            return True
        if along < 0.9 * slope and value <= self.value + 1e-4 * self.length * slope:
            self.low = self.length
        else:
            self.high = self.length
        self.length = (self.low + self.high) / 2 if self.high < math.inf else 2 * self.low
        return False

    @property
    def exhausted(self) -> bool:
        """Whether no more evaluations are to be spent."""
        return self.tries >= SEARCH_EVALUATIONS or self.evaluations >= self.problem.max_evaluations

    @property
    def allowed(self) -> float:
        """The largest gap to end at."""
        tolerance, value = self.problem.tolerance, abs(self.value)
        gained = GAINED * (self.problem.unfitted - self.value)
        return min(tolerance * value, max(RESOLVED * value, tolerance * gained))

    def postpone_look(self, gap: float, bound: float) -> None:
        """Wait with the next look, after one at which the gap was too large, until the bound has come down as far."""
        self.next_look_below = bound * max(LEAST_WAIT, self.allowed / gap)

    def rescales(self, bound: float) -> bool:
        """Whether the bound on the gap has come below the next mark."""
        passed = sum(bound <= mark * abs(self.value) for mark in RESCALE_AT)
        due, self.rescaled = passed > self.rescaled, max(passed, self.rescaled)
        return due


class Stack:
    """K lanes, each with a problem or idle; ``step`` takes every problem one evaluation further.

    Every lane begins on a cache line: BLAS may add up in another order where an operand begins elsewhere. So vectors are
    ``[K, W]``, P numbers and what fills up the last line, zero.
    """

    def __init__(self, lanes: int, like: Tensor) -> None:
        """Start with idle lanes for points like this one ``[P]``."""
        self.size, width = len(like), on_cache_lines(len(like))
        self.lanes: list[_Lane | None] = [None] * lanes
        self.point, self.gradient, self.direction, self.metric, self._new = (like.new_zeros(lanes, width) for _ in range(5))
        self.history = History(lanes, like)
        self.resolution = 0.1 * torch.finfo(like.dtype).eps

    @property
    def idle(self) -> list[int]:
        """The lanes without a problem."""
        return [slot for slot, lane in enumerate(self.lanes) if lane is None]

    def load(self, slot: int, problem: Problem) -> Minimum | None:
        """Put a problem in an idle lane; return its minimum if the start is one."""
        point, gradient = self._of(self.point, slot), self._of(self.gradient, slot)
        point.copy_(problem.start)
        lane = _Lane(problem, float(problem.function(point, gradient)), evaluations=1)
        self._of(self.metric, slot).copy_(problem.metric)
        bound = float((problem.metric * gradient**2).sum())
        lane.fault = fault(lane.value, bound)
        self.history.begin(slot, problem.scaling, gradient)
        if lane.fault or self._done(slot, lane, bound):
            return self._minimum(slot, lane, converged=not lane.fault)
        if problem.warm or lane.rescales(bound):
            self._look(slot, lane)
        self._of(self.direction, slot).copy_(self.history.scaled[slot, : self.size]).neg_()
        self.lanes[slot] = lane
        return None

    def step(self) -> dict[int, Minimum | BaseException]:
        """Evaluate every busy lane once; return the lanes that have ended, which are idle again."""
        lengths = [0.0 if lane is None else lane.length for lane in self.lanes]
        tried = torch.addcmul(self.point, self.point.new_tensor(lengths)[:, None], self.direction)
        ended: dict[int, Minimum | BaseException] = {}
        numbers = self._evaluate(tried, ended)
        curvatures = [0.0] * len(self.lanes)  # of lanes that take their step; positive there, by the conditions
        for slot, lane in enumerate(self.lanes):
            if lane is None or slot in ended:
                continue
            value, along, _, slope = numbers[slot]
            if not -slope > self.resolution * abs(lane.value):
                ended[slot] = self._minimum(slot, lane, converged=False)
            elif lane.accepts(value, along, slope):
                curvatures[slot] = lengths[slot] * (along - slope)
        self._move(tried, curvatures)
        for slot, lane in enumerate(self.lanes):
            if lane is not None and slot not in ended:
                self._judge(slot, lane, numbers[slot][2], ended, taken=curvatures[slot] > 0)
        if any(curvatures):
            self._turn([curvature > 0 for curvature in curvatures])
        for slot in ended:
            self.lanes[slot] = None
        return ended

    def _of(self, vectors: Tensor, slot: int) -> Tensor:
        """Return a lane's numbers ``[P]``."""
        return vectors[slot, : self.size]

    def _evaluate(self, tried: Tensor, ended: dict[int, Minimum | BaseException]) -> list[list[float]]:
        """Call every busy lane's function; return value, slope along the direction, bound and slope at the start of each."""
        values = torch.zeros(len(self.lanes), dtype=torch.float64, device=tried.device)
        for slot, lane in enumerate(self.lanes):
            if lane is not None:
                try:
                    values[slot] = lane.problem.function(self._of(tried, slot), self._of(self._new, slot))
                except RAISED as error:
                    ended[slot] = error
        along, slope = ((each * self.direction).sum(dim=1) for each in (self._new, self.gradient))
        bound = (self.metric * self._new * self._new).sum(dim=1)
        numbers: list[list[float]] = torch.stack([values, *(each.double() for each in (along, bound, slope))], dim=1).tolist()
        return numbers

    def _move(self, tried: Tensor, curvatures: list[float]) -> None:
        """Take the steps of lanes with a positive curvature."""
        if not any(curvatures):
            return
        self.history.add(tried - self.point, self._new - self.gradient, self._new, curvatures)
        self.point = self._chosen([c > 0 for c in curvatures], tried, self.point)
        self.gradient = self._chosen([c > 0 for c in curvatures], self._new, self.gradient)

    def _judge(self, slot: int, lane: _Lane, bound: float, ended: dict[int, Minimum | BaseException], *, taken: bool) -> None:
        """End a lane that is done or exhausted; look at the shape anew where one has come far enough."""
        try:
            if taken and self._done(slot, lane, bound):
                ended[slot] = self._minimum(slot, lane, converged=True)
            elif lane.exhausted:
                ended[slot] = self._minimum(slot, lane, converged=False)
            elif taken and lane.rescales(bound):
                self._look(slot, lane)
        except RAISED as error:
            ended[slot] = error

    def _done(self, slot: int, lane: _Lane, bound: float) -> bool:
        """Whether the bound on the gap is small enough, also by the shape where the lane has come to."""
        if not bound <= min(lane.allowed, lane.next_look_below):
            return False
        shape, gradient = lane.problem.function.shape_at(self._of(self.point, slot)), self._of(self.gradient, slot)
        if shape is None:
            return True
        gap = shape.gap(gradient)
        if gap <= lane.allowed:
            return True
        self._reshape(slot, shape)
        now = float((shape.metric * gradient**2).sum())
        lane.rescales(now)  # it has been looked at here
        lane.postpone_look(gap, now)
        return False

    def _turn(self, taken: list[bool]) -> None:
        """Choose new directions for the lanes that moved."""
        self.direction = self._chosen(taken, -self.history.apply(self.gradient), self.direction)

    def _chosen(self, taken: list[bool], new: Tensor, old: Tensor) -> Tensor:
        """Return the new vectors of lanes that moved, and the old ones of the others."""
        return torch.where(torch.tensor(taken, device=new.device)[:, None], new, old)

    def _look(self, slot: int, lane: _Lane) -> None:
        """Take the shape where the lane has come to, if it is known."""
        shape = lane.problem.function.shape_at(self._of(self.point, slot))
        if shape is not None:
            self._reshape(slot, shape)

    def _reshape(self, slot: int, shape: Shape) -> None:
        """Take scaling and metric of a shape."""
        self._of(self.metric, slot).copy_(shape.metric)
        self.history.rescale(slot, shape.scaling, self._of(self.gradient, slot))

    def _minimum(self, slot: int, lane: _Lane, *, converged: bool) -> Minimum:
        """Return where a lane has come to."""
        return Minimum(self._of(self.point, slot).clone(), lane.value, lane.evaluations, converged, lane.fault)


def fault(value: float, slope: float) -> str:
    """Say which of a value and a slope is not finite, in words; empty if both are."""
    if not math.isfinite(value):
        return f"the loss must be finite, its mean is {'NaN' if math.isnan(value) else value}"
    return "" if math.isfinite(slope) else "the slope of the loss must be finite, it holds NaN or infinity"
