"""Limited-memory BFGS with a preconditioner: minimises a smooth function of one tensor. Knows nothing of heads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Objective = Callable[[Tensor], tuple[float, Tensor]]

MEMORY = 10


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
    """Minimise from ``start`` until ``done(value, gradient)`` (Nocedal & Wright, 2006, section 7.2).

    ``precondition`` applies an approximate inverse Hessian; it is rescaled by the last curvature seen.
    """
    history = _History(precondition, start.numel(), start)
    point = start
    value, gradient = objective(point)
    evaluations = 1
    while not done(value, gradient):
        direction = -history.apply(gradient)
        slope = _dot(direction, gradient)
        if not slope < 0:
            return Minimum(point, value, evaluations, converged=False)
        found = _search(objective, point, value, direction, slope, max_evaluations - evaluations)
        evaluations += found.evaluations
        if found.point is None:
            return Minimum(point, value, evaluations, converged=False)
        history.add(found.point - point, found.gradient - gradient)
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


class _History:
    """The last curvature pairs, as the compact inverse Hessian of Byrd, Nocedal & Schnabel (1994).

        H = γP + [S  γPY] [ R⁻ᵀ(D + γYᵀPY)R⁻¹  −R⁻ᵀ ] [ Sᵀ   ]
                          [ −R⁻¹                 0  ] [ γYᵀP ]

    S and Y hold steps and gradient changes, R is the upper triangle of SᵀY, D its diagonal, P the preconditioner,
    γ the scale of the last pair. Pairs lie in rows, oldest first; S and PY lie in one tensor, for one product each.
    """

    def __init__(self, precondition: Callable[[Tensor], Tensor], size: int, like: Tensor) -> None:
        """Start without pairs."""
        self.precondition, self.shape, self.count = precondition, like.shape, 0
        self.pairs = like.new_zeros(2, MEMORY, size)
        self.inverse, self.ypy = like.new_zeros(MEMORY, MEMORY), like.new_zeros(MEMORY, MEMORY)
        self.diagonal, self.scale = like.new_zeros(MEMORY), 1.0

    def add(self, step: Tensor, change: Tensor) -> None:
        """Take a pair of positive curvature; the oldest makes room."""
        curvature = _dot(step, change)
        if curvature <= 0:
            return
        if self.count == MEMORY:
            self._forget_oldest()
        last, self.count = self.count, self.count + 1
        known = slice(0, self.count)
        self.pairs[0, last] = step.flatten()
        self.pairs[1, last] = self.precondition(change).flatten()
        products = self.pairs[:, known] @ change.flatten()
        self.inverse[:last, last] = self.inverse[:last, :last] @ products[0, :last] / -curvature
        self.inverse[last, last] = 1.0 / curvature
        self.ypy[known, last] = products[1]
        self.ypy[last, known] = products[1]
        self.diagonal[last] = curvature
        self.scale = curvature / float(products[1, last])

    def _forget_oldest(self) -> None:
        """Move every pair one place up; the rest of a triangular inverse is the inverse of the rest."""
        self.pairs[:, :-1] = self.pairs[:, 1:].clone()
        self.diagonal[:-1] = self.diagonal[1:].clone()
        for products in (self.inverse, self.ypy):
            products[:-1, :-1] = products[1:, 1:].clone()
        self.inverse[-1] = 0.0
        self.count -= 1

    def apply(self, gradient: Tensor) -> Tensor:
        """Return H times the gradient."""
        base = self.precondition(gradient)
        if not self.count:
            return base
        known = slice(0, self.count)
        pairs, inverse = self.pairs[:, known], self.inverse[known, known]
        steps, changes = (pairs @ gradient.flatten()).unbind()
        t = inverse @ steps
        u = inverse.T @ (self.diagonal[known] * t + self.scale * (self.ypy[known, known] @ t - changes))
        return self.scale * base + (u @ pairs[0] - self.scale * (t @ pairs[1])).reshape(self.shape)


def _dot(a: Tensor, b: Tensor) -> float:
    """Return the inner product of two tensors."""
    return float(torch.dot(a.flatten(), b.flatten()))
