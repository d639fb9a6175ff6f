"""Limited-memory BFGS with a preconditioner: minimises a smooth function of one tensor. Knows nothing of heads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Objective = Callable[[Tensor], tuple[float, Tensor]]


@dataclass(frozen=True)
class Minimum:
    """Where the search ended: ``point``, ``value``, evaluations spent, and whether it met the tolerance."""

    point: Tensor
    value: float
    evaluations: int
    converged: bool


def minimise(
    objective: Objective,
    start: Tensor,
    precondition: Callable[[Tensor], Tensor],
    done: Callable[[float, Tensor], bool],
    max_evaluations: int = 2000,
) -> Minimum:
    """Minimise from ``start`` until ``done(value, gradient)`` (Nocedal & Wright, Algorithm 7.4, memory 20).

    ``precondition`` applies an approximate inverse Hessian; it is rescaled by the last curvature seen.
    """
    history: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=20)
    point = start
    value, gradient = objective(point)
    evaluations = 1
    while not done(value, gradient):
        direction = -_two_loops(gradient, history, precondition)
        slope = _dot(direction, gradient)
        if not slope < 0:
            if not history:
                return Minimum(point, value, evaluations, converged=False)
            history.clear()
            continue
        found = _search(objective, point, value, direction, slope, max_evaluations - evaluations)
        evaluations += found.evaluations
        if found.point is None:
            return Minimum(point, value, evaluations, converged=False)
        step, change = found.point - point, found.gradient - gradient
        curvature = _dot(step, change)
        if curvature > 0:
            history.append((step, change, 1.0 / curvature))
        point, value, gradient = found.point, found.value, found.gradient
    return Minimum(point, value, evaluations, converged=True)


@dataclass(frozen=True)
class _Found:
    """A point on the line that decreases enough and is flat enough; None if there is none to be had."""

    point: Tensor | None
    value: float
    gradient: Tensor
    evaluations: int


def _search(objective: Objective, point: Tensor, value: float, direction: Tensor, slope: float, most: int) -> _Found:
    """Bisect for the weak Wolfe conditions (Lewis & Overton, 2013), starting from the full step."""
    low, high, length = 0.0, float("inf"), 1.0
    for evaluations in range(1, min(most, 40) + 1):
        candidate = point + length * direction
        new, gradient = objective(candidate)
        if not new <= value + 1e-4 * length * slope:
            high = length
        elif _dot(direction, gradient) < 0.9 * slope:
            low = length
        else:
            return _Found(candidate, new, gradient, evaluations)
        length = (low + high) / 2 if high < float("inf") else 2 * low
    return _Found(None, value, direction, min(most, 40))


def _two_loops(
    gradient: Tensor, history: deque[tuple[Tensor, Tensor, float]], precondition: Callable[[Tensor], Tensor]
) -> Tensor:
    """Apply the inverse Hessian that the history and the preconditioner stand for."""
    q = gradient
    scales = []
    for step, change, rho in reversed(history):
        scales.append(rho * _dot(step, q))
        q = q - scales[-1] * change
    r = precondition(q)
    if history:
        _, change, rho = history[-1]
        r = r / (rho * _dot(change, precondition(change)))
    for (step, change, rho), scale in zip(history, reversed(scales), strict=True):
        r = r + (scale - rho * _dot(change, r)) * step
    return r


def _dot(a: Tensor, b: Tensor) -> float:
    """Return the inner product of two tensors."""
    return float(torch.dot(a.flatten(), b.flatten()))
