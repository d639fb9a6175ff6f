"""Tests of fidelity figures, against loops over rows and eigenvalues of a product that is not symmetric."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ltbench.metrics import fidelity as module
from ltbench.metrics.fidelity import (
    Fidelity,
    Labelled,
    covariance_distance,
    density_and_coverage,
    fidelity_figures,
    frechet_distances,
    nearest_rows,
    pooled_covariance,
)

several_examples = settings(max_examples=40, deadline=None, derandomize=True)


def rows_of(counts: list[int], width: int = 3, seed: int = 0, apart: float = 1.5) -> Labelled:
    """Return rows of normal classes, mixed, each further along every feature than the one before."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    return Labelled(torch.randn(len(labels), width, generator=generator) + apart * labels[:, None], labels)


def distance(a: Tensor, b: Tensor) -> float:
    """Return the distance of two rows, by its definition."""
    return math.sqrt(sum((float(p) - float(q)) ** 2 for p, q in zip(a, b, strict=True)))


def naive(real: Labelled, made: Labelled, classes: int, k: int = 5) -> Fidelity:
    """Compute every figure by loops over rows."""
    figures: dict[str, list[float | None]] = {name: [] for name in Fidelity.__dataclass_fields__}
    shifts, spread = naive_frechet(real, made, classes)
    for c in range(classes):
        ours, theirs = made.x[made.labels == c], real.x[real.labels == c]
        figures["frechet"].append(None if c not in shifts else shifts[c] + spread)
        near = [min(range(len(real.x)), key=lambda i: distance(row, real.x[i])) for row in ours]
        alone = [min((distance(real.x[i], real.x[j]) for j in range(len(real.x)) if j != i), default=math.inf) for i in near]
        hits = {
            "contamination": [int(real.labels[i]) != c for i in near],
            "memorised": [distance(row, real.x[i]) < gap for row, i, gap in zip(ours, near, alone, strict=True)],
            "duplicates": [any(torch.equal(row, other) for other in real.x) for row in ours],
        }
        for name, each in hits.items():
            figures[name].append(sum(each) / len(each) if each else None)
        defined = len(theirs) > k + 1 and len(ours)
        radii = [sorted(distance(a, b) for b in theirs)[k] for a in theirs] if defined else []
        inside = [[distance(a, row) <= r * (1 + 1e-7) for row in ours] for a, r in zip(theirs, radii, strict=bool(defined))]
        figures["density"].append(sum(map(sum, inside)) / (k * len(ours)) if defined else None)
        figures["coverage"].append(sum(map(any, inside)) / len(theirs) if defined else None)
    return Fidelity(**figures)


def trace_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return tr(A + B) − 2 Σ √λ(AB), by the eigenvalues of the product as it is."""
    return float(np.trace(a + b) - 2 * np.sqrt(np.clip(np.linalg.eigvals(a @ b).real, 0, None)).sum())


def naive_frechet(real: Labelled, made: Labelled, classes: int) -> tuple[dict[int, float], float]:
    """Return the squared shifts of the means by class, and the distance of the pooled covariances."""
    both = [c for c in range(classes) if (real.labels == c).any() and (made.labels == c).any()]
    shifts, covariances = {}, []
    for c in both:
        shifts[c] = float(((real.of(c).mean(0) - made.of(c).mean(0)) ** 2).sum())
    for rows in (real, made):
        centred = np.vstack([(rows.of(c) - rows.of(c).mean(0)).numpy() for c in both]) if both else np.zeros((1, 3))
        covariances.append(centred.T @ centred / max(1, len(centred) - len(both)))
    a, b = covariances
    return shifts, trace_distance(a, b)


def same(expected: list[float | None], actual: list[float | None], tolerance: float = 1e-9) -> None:
    """Compare figures, None with None."""
    assert [each is None for each in expected] == [each is None for each in actual]
    for one, other in zip(expected, actual, strict=True):
        assert one is None or other == pytest.approx(one, rel=1e-6, abs=tolerance)


@several_examples
@given(
    real=st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(any),
    made=st.lists(st.integers(0, 6), min_size=4, max_size=4),
    seed=st.integers(0, 99),
    copies=st.booleans(),
    held=st.sampled_from([1, 2**22]),
    points=st.sampled_from([1, 3, 2**17]),
)
def test_figures_are_those_of_loops(
    real: list[int], made: list[int], seed: int, held: int, points: int, *, copies: bool
) -> None:
    """Whatever the classes, absent ones and copies of real rows among the made ones included."""
    rows, others = rows_of(real, seed=seed), rows_of(made[: len(real)], seed=seed + 1000)
    if copies and len(others.x):
        others.x[0] = rows.x[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "HELD", held)
        patch.setattr(module, "POINTS", points)
        actual = fidelity_figures(rows, others, len(real))
    expected = naive(rows, others, len(real))
    for name in Fidelity.__dataclass_fields__:
        same(getattr(expected, name), getattr(actual, name), tolerance=1e-5 if name == "frechet" else 1e-12)


def test_rows_of_one_distribution_are_near() -> None:
    """Held-out rows: density and coverage near 1, a small Fréchet distance, no duplicates; shifted rows are far."""
    real, held_out = rows_of([400, 300], width=4, seed=0), rows_of([400, 300], width=4, seed=1)
    near = fidelity_figures(real, held_out, 2)
    far = fidelity_figures(real, Labelled(held_out.x + 5.0, held_out.labels), 2)
    assert all(0.85 < each < 1.15 for each in near.density if each is not None)
    assert all(0.9 < each <= 1 for each in near.coverage if each is not None)
    assert all(each < 0.2 for each in near.frechet if each is not None)
    assert near.duplicates == [0.0, 0.0]
    assert all(each > 90 for each in far.frechet if each is not None)
    assert far.coverage[1] is not None
    assert far.coverage[1] < 0.02


def test_copies_are_memorised_duplicates() -> None:
    """Real rows again: all duplicates, all memorised, no contamination, coverage 1."""
    real = rows_of([30, 12])
    figures = fidelity_figures(real, real, 2)
    assert figures.duplicates == figures.memorised == figures.coverage == [1.0, 1.0]
    assert figures.contamination == [0.0, 0.0]
    assert figures.frechet == pytest.approx([0.0, 0.0], abs=1e-6)


def test_rows_among_another_class_are_contaminated() -> None:
    """Rows labelled 0 that lie where class 1 does."""
    real = rows_of([20, 20], apart=50.0)
    made = Labelled(real.x[real.labels == 1] + 0.01, torch.zeros(20, dtype=torch.long))
    assert fidelity_figures(real, made, 2).contamination == [1.0, None]


@pytest.mark.parametrize(("rows", "made"), [(6, 4), (7, 0), (0, 3)])
def test_density_needs_more_than_k_plus_one_rows(rows: int, made: int) -> None:
    """With k = 5 that is seven, and one made row."""
    assert density_and_coverage(torch.randn(rows, 2).double(), torch.randn(made, 2).double()) == (None, None)
    assert density_and_coverage(torch.randn(7, 2).double(), torch.randn(1, 2).double())[1] is not None


@several_examples
@given(st.integers(2, 30), st.integers(2, 30), st.integers(1, 6), st.integers(0, 99))
def test_the_covariance_distance_is_that_of_the_products_eigenvalues(n: int, m: int, width: int, seed: int) -> None:
    """Singular covariances included; symmetric, and zero for equal ones."""
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(rows, width, generator=generator, dtype=torch.float64).T.cov().reshape(width, width) for rows in (n, m))
    expected = trace_distance(a.numpy(), b.numpy())
    assert covariance_distance(a, b) == pytest.approx(expected, abs=1e-5)
    assert covariance_distance(a, b) == pytest.approx(covariance_distance(b, a), abs=1e-6)
    assert covariance_distance(a, a) == pytest.approx(0.0, abs=1e-6)


def test_the_pooled_covariance_is_that_of_the_classes_asked() -> None:
    """Rows of other classes do not count; one row a class has no spread."""
    rows = rows_of([12, 7, 5])
    parts = [rows.of(c) - rows.of(c).mean(0) for c in (0, 2)]
    torch.testing.assert_close(torch.cat(parts).T @ torch.cat(parts) / 15, pooled_covariance(rows, [0, 2]))
    assert float(pooled_covariance(rows_of([1, 1]), [0, 1]).abs().max()) == 0.0


def test_classes_without_rows_of_both_kinds_have_no_frechet_distance() -> None:
    """And none has one where no class has both."""
    assert frechet_distances(rows_of([4, 0]), rows_of([0, 4]), 2) == [None, None]
    assert frechet_distances(rows_of([4, 3]), rows_of([0, 4]), 2)[0] is None


def test_a_row_alone_is_infinitely_far_from_others() -> None:
    """Itself left out, there is no nearest row."""
    x = torch.tensor([[1.0, 2.0]])
    found, _ = nearest_rows(x, x, own=torch.tensor([0]))
    assert found.tolist() == [math.inf]


class TestTranslations:
    """Figures do not depend on where the rows lie: those of rows that float32 holds with and without an offset are equal."""

    @pytest.mark.parametrize("offset", [2**7, 2**14, 2**20])
    @pytest.mark.parametrize("width", [2, 64])
    def test_an_offset_changes_no_figure(self, offset: int, width: int) -> None:
        """Real rows twice over, and made rows of which some are copies, have the same figures wherever they lie."""
        step = 2.0**-2
        real, made = rows_of([30, 12, 9], width), rows_of([20, 15, 9], width, seed=1)
        near = torch.round(torch.cat([real.x, real.x[:20]]) / step) * step
        new = torch.cat([torch.round(made.x / step) * step, near[:10]])
        labels, theirs = torch.cat([real.labels, real.labels[:20]]), torch.cat([made.labels, real.labels[:10]])
        assert torch.equal((near + offset).double(), near.double() + offset)
        expected = fidelity_figures(Labelled(near, labels), Labelled(new, theirs), 3)
        actual = fidelity_figures(Labelled(near + offset, labels), Labelled(new + offset, theirs), 3)
        for name in Fidelity.__dataclass_fields__:
            same(getattr(expected, name), getattr(actual, name), 1e-9 if name == "frechet" else 0.0)

    @pytest.mark.parametrize("offset", [0.0, 1e4, 1e6])
    @pytest.mark.parametrize("own", [False, True])
    @pytest.mark.parametrize("points", [2**17, 30])
    def test_nearest_rows_are_those_of_float64_differences(
        self, monkeypatch: pytest.MonkeyPatch, offset: float, own: bool, points: int
    ) -> None:
        """Of 80 rows of 128 features, each with a copy one unit in the last place away, the nearest is found, and the first."""
        monkeypatch.setattr(module, "POINTS", points)
        x = torch.randn(80, 128, generator=torch.Generator().manual_seed(2)) + offset
        beside = x.clone()
        beside[:, 0] = torch.nextafter(x[:, 0], torch.tensor(torch.inf))
        real = torch.cat([beside, x, x[:50]])
        among = torch.arange(80, 160) if own else None
        distances = torch.cdist(x.double(), real.double(), compute_mode="donot_use_mm_for_euclid_dist")
        if among is not None:
            distances[torch.arange(80), among] = torch.inf
        expected, index = distances.min(dim=1)
        found, place = nearest_rows(x, real, own=among)
        assert place.tolist() == index.tolist()
        torch.testing.assert_close(expected, found, rtol=1e-12, atol=0)

    def test_balls_around_equal_rows_hold_copies_of_them_alone(self) -> None:
        """Seven copies of a row have balls of radius zero: a copy lies in all seven, a row beside it in none."""
        far = torch.randn(20, 300, generator=torch.Generator().manual_seed(3)).double() * 1e3
        real = torch.cat([far, far[:1].repeat(6, 1)])
        made = torch.stack([far[0], far[0] + 1e-9])
        balls = [sorted((real - row).norm(dim=1).tolist())[5] for row in real]
        inside = [
            [float((row - each).norm()) <= reach * (1 + 1e-7) for each in made] for row, reach in zip(real, balls, strict=True)
        ]
        density, coverage = density_and_coverage(real, made)
        assert density == pytest.approx(sum(map(sum, inside)) / 10)
        assert coverage == pytest.approx(sum(map(any, inside)) / 26)
        assert sum(each[0] for each in inside) >= 7
