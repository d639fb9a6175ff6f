"""Tests of curvature: the scaling against dense algebra, the bound against the optimum, products in lanes."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

import ltbench
from ltbench import softmax_loss
from ltbench.heads import curvature, fit_linear, products
from ltbench.heads.curvature import DAMPING, POWER, Curvature, Doubt, KroneckerScaling
from ltbench.heads.exact import lanes_for
from ltbench.heads.linear import LinearScorer
from ltbench.streams import Stream
from ltbench.types import Batch

CLASSES, WIDTH, ROWS = 4, 3, 50


def by_hand(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return cross entropy and its slopes."""
    return softmax_loss(batch.logits, batch.targets)


def doubtful() -> tuple[Tensor, Tensor, Tensor]:
    """Return probabilities, weights and rows, in float64."""
    draw = torch.Generator().manual_seed(3)
    probability = torch.softmax(2 * torch.randn(ROWS, CLASSES, generator=draw, dtype=torch.float64), dim=1)
    weights = torch.rand(ROWS, 1, generator=draw, dtype=torch.float64)
    return probability, weights / weights.sum(), torch.randn(ROWS, WIDTH, generator=draw, dtype=torch.float64) + 2


def gathered() -> Doubt:
    """Return the sums over these rows, in two parts."""
    probability, weights, x = doubtful()
    doubt = Doubt(CLASSES, x[0])
    for part in (slice(20), slice(20, None)):
        doubt.add(probability[part], (probability * (1 - probability))[part], weights[part], x[part])
    return doubt


def test_the_curvature_is_the_mean_of_every_rows_own() -> None:
    """M is Σ w (diag p − p pᵀ), from a naive loop, and its eigenvectors give it back; the mean counts rows by their doubt."""
    probability, weights, x = doubtful()
    naive = sum(w * (torch.diag(p) - torch.outer(p, p)) for p, w in zip(probability, weights[:, 0], strict=True))
    doubt = gathered()
    found = doubt.curvature()
    assert found.basis is not None
    torch.testing.assert_close(naive, found.basis @ torch.diag(found.values) @ found.basis.T)
    own = (probability * (1 - probability)).sum(dim=1) * weights[:, 0]
    torch.testing.assert_close((own @ x) / own.sum(), doubt.mean)


def test_the_scaling_is_the_inverse_of_the_matrix_it_says() -> None:
    """Applied, it solves what it says, written out as a matrix in the eigenvectors of M; undone, it gives the vector back."""
    found, l2 = gathered().curvature(), 0.1
    mean, variance = gathered().mean, torch.tensor([2.0, 0.5, 0.1], dtype=torch.float64)
    scaling = KroneckerScaling.of(found, mean, variance, l2)
    assert found.basis is not None
    most, middle = float(found.values.max()) * 2.0 + l2, float((found.values[:, None] * variance).mean())
    blocks = []
    for value, by_bias in zip(found.values, scaling.by_bias[:, 0], strict=True):
        steep = (value * variance + l2) ** POWER * most ** (1 - POWER) + DAMPING * middle
        inner = torch.diag(steep) + by_bias * torch.outer(mean, mean)
        corner = by_bias * mean[:, None]
        blocks.append(torch.cat([torch.cat([inner, corner], dim=1), torch.cat([corner.T, by_bias[None, None]], dim=1)]))
    turn = torch.kron(found.basis.contiguous(), torch.eye(WIDTH + 1, dtype=torch.float64))
    dense = turn @ torch.block_diag(*blocks) @ turn.T
    vectors = torch.randn(5, CLASSES * (WIDTH + 1), dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(torch.linalg.solve(dense, vectors.T).T, scaling(vectors))
    torch.testing.assert_close(vectors, scaling.undone(scaling(vectors)))
    torch.testing.assert_close(scaling(vectors[0]), scaling(vectors)[0])


def test_more_classes_than_are_turned_have_a_diagonal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit M counts as its diagonal, and heads still end at their optimum."""
    train = apart((200, 60, 20, 5), 3, 1.0, 1)
    whole = fit_linear(train, by_hand, 1e-3)
    monkeypatch.setattr(curvature, "MOST_CLASSES", 3)
    assert gathered().curvature().basis is None
    assert Curvature.of_shares(torch.full((4,), 0.25)).basis is None
    single = fit_linear(train, by_hand, 1e-3)
    assert single.converged
    assert objective(single, train, 1e-3) <= 1.0001 * objective(whole, train, 1e-3)


def apart(counts: tuple[int, ...], width: int, spread: float, seed: int, gap: float = 6) -> ltbench.Train:
    """Return classes that lie apart."""
    stream, labels = Stream.of(seed, "apart"), torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    centres = gap * stream.child("centres").normal(torch.arange(len(counts)), width)
    x = (spread * (centres[labels] + stream.child("rows").normal(torch.arange(len(labels)), width))).float()
    each = torch.tensor(counts).double()
    one = torch.ones(len(labels), dtype=torch.float64)
    return ltbench.Train(x, labels, one, torch.arange(len(labels)), each, each, Stream.of(0))


def objective(head: LinearScorer, train: ltbench.Train, l2: float) -> float:
    """Return mean cross entropy and the penalty, in float64."""
    losses = cross_entropy(train.x.double() @ head.weight.double() + head.bias.double(), train.targets)
    return float(losses + 0.5 * l2 * (head.weight.double() ** 2).sum())


COUNTS = ((2000, 20), (100, 10, 1), (300, 100, 30, 10, 3), (500, 5, 5, 5, 5, 2))
HARD = list(itertools.product(COUNTS, (2, 5, 20), (0.3, 1.0, 20.0), (3.0, 15.0), (0, 1)))


@pytest.mark.parametrize(
    ("counts", "width", "spread", "gap", "seed"),
    [pytest.param(*each, marks=[pytest.mark.slow] if number % 12 else []) for number, each in enumerate(HARD)],
)
def test_converged_means_within_the_tolerance(
    counts: tuple[int, ...], width: int, spread: float, gap: float, seed: int
) -> None:
    """Where classes are apart, biases hang on weights; a head that says converged is still within 1.0001 of the optimum."""
    train = apart(counts, width, spread, seed, gap)
    for l2 in (1e-1, 1e-2, 1e-3, 1e-5):
        found, least = fit_linear(train, by_hand, l2), fit_linear(train, by_hand, l2, tolerance=1e-9)
        assert not found.converged or objective(found, train, l2) <= 1.0001 * objective(least, train, l2)


def test_lanes_agree_on_this_machine_and_where_they_do_not_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products are the same in every lane; a machine where they are not solves one problem at a time, and says so once."""
    found = products.products("cpu")
    assert found.lanes_agree
    assert found.compared > 500
    assert lanes_for(10, torch.device("cpu")) > 1
    monkeypatch.setattr(products, "_inner", _by_lane)
    products._products.cache_clear()
    with pytest.warns(UserWarning, match="depend on the lane on this cpu, so heads are solved one at a time"):
        assert lanes_for(10, torch.device("cpu")) == 1
    assert lanes_for(10, torch.device("cpu")) == 1  # told once
    monkeypatch.undo()
    products._products.cache_clear()
    assert products.products("cpu") == found


def _by_lane(stack: Tensor, vectors: Tensor) -> Tensor:
    """Multiply such that odd lanes add up from behind."""
    found = torch.bmm(stack, vectors[:, :, None])[:, :, 0]
    found[1::2] = torch.bmm(stack.flip(2), vectors.flip(1)[:, :, None])[1::2, :, 0]
    return found
