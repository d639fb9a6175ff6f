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
from ltbench.heads.curvature import DAMPING, POWER, Curvature, CurvatureSums, KroneckerScaling
from ltbench.heads.exact import lanes_for
from ltbench.heads.linear import LinearScorer
from ltbench.heads.objective import Objective
from ltbench.streams import Stream
from ltbench.types import Batch

CLASSES, WIDTH, ROWS = 4, 3, 50


def by_hand(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return cross entropy and its slopes."""
    return softmax_loss(batch.logits, batch.targets)


def drawn() -> tuple[Tensor, Tensor, Tensor]:
    """Return probabilities, weights and rows, in float64."""
    draw = torch.Generator().manual_seed(3)
    probability = torch.softmax(2 * torch.randn(ROWS, CLASSES, generator=draw, dtype=torch.float64), dim=1)
    weights = torch.rand(ROWS, 1, generator=draw, dtype=torch.float64)
    return probability, weights / weights.sum(), torch.randn(ROWS, WIDTH, generator=draw, dtype=torch.float64) + 2


def gathered() -> CurvatureSums:
    """Return the sums over these rows, in two parts."""
    probability, weights, x = drawn()
    sums = CurvatureSums(CLASSES, x[0])
    for part in (slice(20), slice(20, None)):
        sums.add(probability[part], weights[part], x[part])
    return sums


def test_the_curvature_is_the_mean_of_every_rows_own() -> None:
    """M is Σ w (diag p − p pᵀ), from a naive loop, and its eigenvectors give it back; the mean of rows is weighted by p(1 − p)."""
    probability, weights, x = drawn()
    naive = sum(w * (torch.diag(p) - torch.outer(p, p)) for p, w in zip(probability, weights[:, 0], strict=True))
    sums = gathered()
    found = sums.curvature()
    assert found.basis is not None
    torch.testing.assert_close(naive, found.basis @ torch.diag(found.values) @ found.basis.T)
    own = (probability * (1 - probability)).sum(dim=1) * weights[:, 0]
    torch.testing.assert_close((own @ x) / own.sum(), sums.mean)


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


def test_a_loss_that_writes_into_its_own_memory_is_fitted_as_any_other() -> None:
    """Slopes that the next call overwrites, in several chunks of rows, give the same head as those in memory of their own."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(2200) % 400
    x = torch.randn(2200, 6, generator=draw) + labels[:, None] / 200
    counts, one = torch.bincount(labels).double(), torch.ones(2200, dtype=torch.float64)
    train = ltbench.Train(x, labels, one, torch.arange(2200), counts, counts, Stream.of(0))
    memory = torch.empty(4000, 400)

    def reusing(batch: Batch) -> tuple[Tensor, Tensor]:
        losses, slopes = softmax_loss(batch.logits, batch.targets)
        return losses, memory[: len(slopes)].copy_(slopes)

    fresh, reused = (fit_linear(train, loss, 1e-2) for loss in (by_hand, reusing))
    torch.testing.assert_close(fresh.weight, reused.weight, rtol=0, atol=1e-4)  # they lie otherwise, and are added up otherwise
    assert fresh.training_flops == reused.training_flops


@pytest.mark.parametrize("scale", [0.003, 0.05, 0.5, 1.0, 3.0])
def test_converged_holds_for_losses_that_only_look_like_cross_entropy(scale: float) -> None:
    """Cross entropy of scaled logits has slopes like its own, and another curvature: it is measured, and the bound holds."""
    train = apart((300, 100, 30, 10), 5, 1.0, 0, gap=1)

    def scaled(batch: Batch) -> tuple[Tensor, Tensor]:
        losses, slopes = softmax_loss(scale * batch.logits, batch.targets)
        return losses, scale * slopes

    def value(head: LinearScorer, l2: float) -> float:
        losses = cross_entropy(scale * (train.x.double() @ head.weight.double() + head.bias.double()), train.targets)
        return float(losses + 0.5 * l2 * (head.weight.double() ** 2).sum())

    for l2 in (1e-2, 1e-4):
        found, least = fit_linear(train, scaled, l2), fit_linear(train, scaled, l2, tolerance=1e-9)
        assert found.converged
        assert value(found, l2) <= 1.0001 * value(least, l2)


@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_the_kind_of_a_loss_is_told_by_what_its_slopes_do(offset: float) -> None:
    """Cross entropy is known whatever is added to the logits; smoothed labels, focal loss and scaled logits are measured."""
    train = apart((60, 30, 9), 4, 1.0, 2, gap=1)
    shift = offset * torch.arange(3)

    def shifted(batch: Batch) -> tuple[Tensor, Tensor]:
        return softmax_loss(batch.logits + shift, batch.targets)

    def smoothed(batch: Batch) -> Tensor:
        own = torch.nn.functional.one_hot(batch.targets, 3) * 0.7 + 0.1
        return -(own * torch.log_softmax(batch.logits, dim=1)).sum(dim=1)

    def focal(batch: Batch) -> Tensor:
        losses = cross_entropy(batch.logits, batch.targets, reduction="none")
        return (1 - (-losses).exp()) ** 2 * losses

    for loss, known in ((shifted, True), (smoothed, False), (focal, False)):
        of = Objective(train, loss, 1e-2, None, torch.float32)
        point = of.from_scorer(fit_linear(train, by_hand, 1e-1))
        assert of._tells(point) is known


def test_measured_curvature_is_that_of_smoothed_labels() -> None:
    """Of a loss that is not known, the curvature by each logit is p(1 − p) where it is cross entropy with smoothed labels."""
    train = apart((4000, 2000, 2000), 4, 1.0, 2, gap=1)

    def smoothed(batch: Batch) -> Tensor:
        own = torch.nn.functional.one_hot(batch.targets, 3) * 0.7 + 0.1
        return -(own * torch.log_softmax(batch.logits, dim=1)).sum(dim=1)

    of, head = Objective(train, smoothed, 1e-2, None, torch.float64), fit_linear(train, by_hand, 1e-1)
    metric = of.shape_at(of.from_scorer(head)).metric.view(3, -1)[:, -1]
    p = torch.softmax(train.x.double() @ head.weight.double() + head.bias.double(), dim=1)
    expected = torch.minimum((p * (1 - p)).mean(dim=0), train.prior)
    torch.testing.assert_close(expected, 1 / metric, rtol=0.1, atol=0)


def test_what_products_give_does_not_hang_on_what_a_program_has_set() -> None:
    """Precision, default device and threads of a program that calls ltbench change nothing of what is looked at."""
    before = products.products("cpu")
    products._products.cache_clear()
    precision, threads = torch.get_float32_matmul_precision(), torch.get_num_threads()
    try:
        torch.set_float32_matmul_precision("medium")
        torch.set_num_threads(2)
        torch.set_default_device("meta")
        again = products.products("cpu")
    finally:
        torch.set_default_device(None)
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
    assert again == before


@pytest.mark.parametrize("seed", range(5))
def test_the_gap_is_no_less_than_that_of_a_quadratic(seed: int) -> None:
    """Near the optimum F is nearly a quadratic: what a look says of a point there is at least what it lacks."""
    train, l2 = apart((300, 100, 30, 10, 3), 4, 1.0, seed), 1e-3
    of = Objective(train, by_hand, l2, None, torch.float64)
    best = of.from_scorer(fit_linear(train, by_hand, l2, tolerance=1e-12))
    gradient = torch.zeros_like(best)
    least = float(of(best, gradient))
    draw = torch.Generator().manual_seed(seed)
    for size, part in itertools.product((1e-3, 1e-2), ("all", "biases")):
        moved = size * torch.randn(5, 5, generator=draw, dtype=torch.float64)
        if part == "biases":
            moved[:, :-1] = 0
        point = best + moved.flatten()
        value = float(of(point, gradient))
        shape = of.shape_at(point)
        assert shape.gap(gradient) >= 0.95 * (value - least) > 0
