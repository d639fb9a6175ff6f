"""Tests of L-BFGS on lanes: minima against scipy, the curvature against dense algebra, a lane alone and in company."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ltbench.heads.history import MEMORY, History, on_cache_lines
from ltbench.heads.lanes import Minimum, Problem, Shape, Stack

pytestmark = pytest.mark.determinism

Objective = Callable[[np.ndarray], float]
Gradient = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Diagonal:
    """A scaling by factors ``[P]``."""

    factors: Tensor

    def __call__(self, vectors: Tensor) -> Tensor:
        """Multiply."""
        return vectors * self.factors

    def undone(self, vectors: Tensor) -> Tensor:
        """Divide."""
        return vectors / self.factors


@dataclass(frozen=True)
class Given:
    """A function of NumPy, as a lane takes it; it knows no scaling."""

    value: Objective
    slope: Gradient

    def __call__(self, point: Tensor, gradient: Tensor) -> Tensor:
        """Write the gradient, return the value."""
        at = point.double().numpy()
        gradient.copy_(torch.from_numpy(np.asarray(self.slope(at))))
        return torch.tensor(float(self.value(at)), dtype=torch.float64)

    def shape_at(self, point: Tensor) -> None:
        """Return nothing."""
        return


def problem(value: Objective, slope: Gradient, start: Sequence[float], **more: float) -> Problem:
    """Return a problem that ends where the gradient's square sum is at most 1e-12 times the value plus one."""
    point = torch.tensor(start, dtype=torch.float64)
    one = torch.ones_like(point)
    return Problem(Given(lambda p: value(p) + 1.0, slope), point, one, Diagonal(one), 1e-12, **more)


def solve(problems: Sequence[Problem], lanes: int, order: Sequence[int] | None = None) -> dict[int, Minimum | Exception]:
    """Return where each problem ends, lanes taking the next one when they are free."""
    waiting = list(range(len(problems))) if order is None else list(order)
    stack = Stack(lanes, problems[0].start)
    inside: dict[int, int] = {}
    found: dict[int, Minimum | Exception] = {}
    while waiting or inside:
        for slot in stack.idle:
            while waiting and slot not in inside:
                number = waiting.pop(0)
                at_once = stack.load(slot, problems[number])
                if at_once is None:
                    inside[slot] = number
                else:
                    found[number] = at_once
        for slot, ended in stack.step().items():
            found[inside.pop(slot)] = ended
    return found


def quadratic(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a positive definite matrix with condition number near 100, and a vector."""
    generator = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(generator.standard_normal((size, size)))
    return basis @ np.diag(np.logspace(-1, 1, size)) @ basis.T, generator.standard_normal(size)


def quadratics(size: int, count: int) -> list[Problem]:
    """Return problems ½xᵀAx − bᵀx + constant, from zero."""
    made = []
    for seed in range(count):
        matrix, vector = quadratic(size, seed)
        made.append(
            problem(
                lambda p, a=matrix, b=vector: 0.5 * p @ a @ p - b @ p, lambda p, a=matrix, b=vector: a @ p - b, [0.0] * size
            )
        )
    return made


class TestMinima:
    """Where searches end."""

    @pytest.mark.parametrize("size", [1, 2, 5, 30])
    @pytest.mark.parametrize("lanes", [1, 8])
    def test_quadratics_end_where_algebra_says(self, size: int, lanes: int) -> None:
        """½xᵀAx − bᵀx ends at A⁻¹b, for every lane."""
        found = solve(quadratics(size, 5), lanes)
        for seed in range(5):
            matrix, vector = quadratic(size, seed)
            assert found[seed].converged
            np.testing.assert_allclose(np.linalg.solve(matrix, vector), found[seed].point.numpy(), atol=1e-4)

    def test_a_metric_that_grows_on_the_way_is_asked_before_the_end(self) -> None:
        """A bound that is small by the first metric alone does not end a search; one lane of two has such a metric."""
        loose = quadratics(5, 1)[0]
        loose = dataclasses.replace(loose, tolerance=1e-2)

        class Steeper(Given):
            def shape_at(self, point: Tensor) -> Any:
                one = torch.ones_like(point)
                return Shape(Diagonal(one), 1e8 * one, lambda gradient: 1e8 * float((gradient**2).sum()))

        steep = dataclasses.replace(loose, function=Steeper(loose.function.value, loose.function.slope))  # type: ignore[attr-defined]
        found = solve([loose, steep], 2)
        matrix, vector = quadratic(5, 0)
        best = torch.from_numpy(np.linalg.solve(matrix, vector))
        off = [float((found[number].point - best).norm()) for number in range(2)]
        assert found[0].converged
        assert found[1].converged
        assert off[1] < 1e-4 < off[0]

    def test_what_has_little_to_gain_goes_on(self) -> None:
        """A gap that is small beside the value, but not beside what has been gained, does not end a search."""
        first = dataclasses.replace(quadratics(5, 1)[0], tolerance=1e-2)
        value, slope = first.function.value, first.function.slope  # type: ignore[attr-defined]
        high = Given(lambda p: value(p) + 1e6, slope)
        easy, hard = (dataclasses.replace(first, function=high, unfitted=at) for at in (np.inf, value(np.zeros(5)) + 1e6))
        found = solve([easy, hard], 2)
        assert found[0].evaluations == 1
        assert found[1].evaluations > 3
        assert found[1].converged

    @pytest.mark.parametrize("start", [[-1.2, 1.0], [0.0, 0.0], [1.3, 0.7, 0.8, 1.9, 1.2], [-1.0] * 10])
    def test_rosenbrock_ends_where_scipy_does(self, start: list[float]) -> None:
        """Rosenbrock's valley is followed to the stationary point that scipy's L-BFGS-B also finds."""
        found = solve([problem(scipy.optimize.rosen, scipy.optimize.rosen_der, start)], 8)[0]
        expected = scipy.optimize.minimize(
            scipy.optimize.rosen,
            np.array(start),
            jac=scipy.optimize.rosen_der,
            method="L-BFGS-B",
            options={"ftol": 1e-15, "gtol": 1e-9},
        )
        assert found.converged
        assert found.point.tolist() == pytest.approx(expected.x.tolist(), abs=1e-3)

    def test_the_exact_inverse_takes_one_step(self) -> None:
        """With the inverse Hessian's diagonal as scaling, a separable quadratic needs the start and one step."""
        curvature = torch.tensor([1.0, 100.0, 0.01], dtype=torch.float64)
        given_ = Given(lambda p: float(0.5 * (curvature.numpy() * p**2).sum() + 1), lambda p: curvature.numpy() * p)
        one = torch.ones(3, dtype=torch.float64)
        found = solve([Problem(given_, one, one, Diagonal(1 / curvature), 1e-18)], 1)[0]
        assert (found.converged, found.evaluations) == (True, 2)

    def test_evaluations_are_counted_and_limited(self) -> None:
        """The function is called as often as is said, never more than allowed, and the flag says so."""
        calls: list[np.ndarray] = []

        def value(point: np.ndarray) -> float:
            calls.append(point)
            return float(scipy.optimize.rosen(point))

        found = solve([problem(value, scipy.optimize.rosen_der, [-1.2, 1.0], max_evaluations=12)], 1)[0]
        assert (found.converged, found.evaluations, len(calls)) == (False, 12, 12)
        assert found.value <= scipy.optimize.rosen([-1.2, 1.0]) + 1

    def test_a_start_that_is_done_stays(self) -> None:
        """At the minimum nothing moves and one evaluation is spent."""
        found = solve([problem(scipy.optimize.rosen, scipy.optimize.rosen_der, [1.0] * 4)], 8)[0]
        assert (found.point.tolist(), found.value, found.evaluations, found.converged) == ([1.0] * 4, 1.0, 1, True)


class TestLanes:
    """A lane is as it would be alone."""

    @pytest.mark.parametrize(("size", "lanes"), [(3, 1), (130, 1), (3, 8), (17, 8), (64, 8), (130, 8), (33, 16)])
    def test_alone_is_together(self, size: int, lanes: int) -> None:
        """Each problem ends at the same bits alone, among others, and in another order."""
        problems = quadratics(size, 6)
        shuffled = random.Random(0).sample(range(6), 6)
        together, other = solve(problems, lanes), solve(problems, lanes, shuffled)
        for number in range(6):
            alone = solve(problems, lanes, [number])[number]
            assert torch.equal(alone.point, together[number].point)
            assert torch.equal(alone.point, other[number].point)
            assert alone.evaluations == together[number].evaluations == other[number].evaluations

    @settings(max_examples=10, deadline=None, derandomize=True)
    @given(st.integers(0, 4), st.integers(2, 9), st.sampled_from(["raises", "NaN value", "NaN slope", "uphill"]))
    def test_a_lane_that_fails_harms_no_other(self, bad: int, when: int, how: str) -> None:
        """A function that fails at some call ends its own lane; the others end at the bits of a run without it."""
        problems = quadratics(6, 5)
        expected = solve([each for number, each in enumerate(problems) if number != bad], 4)
        calls = [0]

        def fails() -> bool:
            calls[0] += 1
            return calls[0] >= when

        def value(point: np.ndarray) -> float:
            late = fails()
            if late and how == "raises":
                raise RuntimeError("at some call")
            return float("nan") if late and how == "NaN value" else float(point @ point)

        def slope(point: np.ndarray) -> np.ndarray:
            sign = {"NaN slope": float("nan"), "uphill": -1.0}.get(how, 1.0)
            return np.asarray(2 * point * (sign if calls[0] + 1 >= when else 1.0)) + np.arange(6) * 1e-3

        problems[bad] = problem(value, slope, [3.0, 1.0, 2.0, -4.0, 5.0, 1.0])
        found = solve(problems, 4)
        others = [found[number] for number in range(5) if number != bad]
        for number, other in enumerate(others):
            assert torch.equal(expected[number].point, other.point)


class TestHistory:
    """The compact inverse Hessian."""

    @pytest.mark.parametrize("pairs", [0, 1, 3, MEMORY, MEMORY + 4])
    @pytest.mark.parametrize("rescaled", [False, True])
    def test_history_is_the_dense_bfgs_update(self, pairs: int, rescaled: bool) -> None:
        """Applying the history equals the dense BFGS inverse built from the last pairs, its start scaled by the last."""
        matrix, _ = (torch.from_numpy(each) for each in quadratic(20, 5))
        generator = torch.Generator().manual_seed(6)
        scaling = torch.rand(20, generator=generator, dtype=torch.float64) + 0.1
        history = History(3, torch.zeros(20, dtype=torch.float64))
        first = Diagonal(torch.ones(20, dtype=torch.float64) if rescaled else scaling)
        at = start = torch.randn(20, generator=generator, dtype=torch.float64)
        for lane in range(3):
            history.begin(lane, first if lane == 1 else Diagonal(torch.ones(20, dtype=torch.float64)), at)
        kept = []
        for _ in range(pairs):
            step = torch.randn(20, generator=generator, dtype=torch.float64)
            kept.append((step, matrix @ step))
            at = at + kept[-1][1]
            rows, changes, gradients = (_wide(torch.stack([torch.zeros_like(each), each, each])) for each in (*kept[-1], at))
            history.add(rows, changes, gradients, [0.0, float(step @ kept[-1][1]), 0.0])
        if rescaled:
            history.rescale(1, Diagonal(scaling), at)
        dense = torch.diag(scaling)
        if kept:
            step, change = kept[-1]
            dense = dense * float(step @ change) / float(change @ dense @ change)
        unit = torch.eye(20, dtype=torch.float64)
        for step, change in kept[-MEMORY:]:
            rho = 1 / float(step @ change)
            left = unit - rho * torch.outer(step, change)
            dense = left @ dense @ left.T + rho * torch.outer(step, step)
        found = history.apply(_wide(torch.stack([at, at, at])))[:, :20]
        torch.testing.assert_close(dense @ at, found[1], rtol=1e-7, atol=1e-9)
        torch.testing.assert_close(start.expand(2, -1), found[[0, 2]])

    def test_lanes_without_a_pair_are_left_as_they_are(self) -> None:
        """A lane whose curvature is not positive keeps what it has."""
        history, gradient = History(2, torch.zeros(3)), torch.tensor([1.0, 2.0, 3.0])
        for lane in range(2):
            history.begin(lane, Diagonal(torch.ones(3)), gradient)
        both = _wide(gradient.expand(2, -1))
        history.add(_wide(torch.tensor([[1.0, 0.0, 0.0]] * 2)), _wide(torch.tensor([[-1.0, 0.0, 0.0]] * 2)), both, [0.0, -1.0])
        assert torch.equal(both, history.apply(both))


def _wide(vectors: Tensor) -> Tensor:
    """Fill vectors ``[K, P]`` up to whole cache lines."""
    return torch.nn.functional.pad(vectors, (0, on_cache_lines(vectors.shape[1]) - vectors.shape[1]))
