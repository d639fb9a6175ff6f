"""Tests of the solver and of selection, against scikit-learn, scipy, autograd and naive loops."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from ltbench.execute.numerics import pinned
from ltbench.heads import ABSENT_LOGIT, LinearScorer, choose, fit_classifier, fit_linear, softmax_loss
from ltbench.heads.axes import axes_of, turned_rows, variance_of
from ltbench.heads.many import fit_classifier as fit_classifier_of_module
from ltbench.longtail import exponential_counts
from ltbench.streams import Stream
from ltbench.types import Batch, Scores, Train

L2S = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
few_examples = settings(max_examples=8, deadline=None, derandomize=True)
many_examples = settings(max_examples=80, deadline=None, derandomize=True)


def by_hand(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return softmax cross entropy with its slope."""
    return softmax_loss(batch.logits, batch.targets)


def by_autograd(batch: Batch) -> Tensor:
    """Return softmax cross entropy as an author would write it."""
    return cross_entropy(batch.logits, batch.targets, reduction="none")


def train_of(x: Tensor, targets: Tensor, classes: int, weights: Tensor | None = None) -> Train:
    """Return real training rows, their classes counted by a loop."""
    weights = torch.ones(len(x), dtype=torch.float64) if weights is None else weights
    counts, real = torch.zeros(classes, dtype=torch.float64), torch.zeros(classes, dtype=torch.float64)
    for target, weight in zip(targets, weights, strict=True):
        share = target.double() if target.ndim else one_hot(target, classes).double()
        counts += weight * share
        real += share
    return Train(x, targets, weights, torch.arange(len(x)), counts, real, Stream.of(0, "heads"))


def blobs(rows: int, width: int, classes: int, seed: int = 0) -> Train:
    """Return overlapping Gaussian classes, every class present."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.arange(classes), torch.randint(classes, (rows - classes,), generator=generator)])
    means = torch.randn(classes, width, generator=generator)
    return train_of(means[labels] + torch.randn(rows, width, generator=generator), labels, classes)


def objective(weight: Tensor, bias: Tensor, train: Train, l2: float, row_weights: Tensor | None = None) -> float:
    """Return F(W, b) in float64 NumPy: weighted mean cross entropy + λ/2·‖W‖²."""
    x, w, b = (each.double().numpy() for each in (train.x, weight, bias))
    y = train.targets if train.targets.ndim == 2 else one_hot(train.targets, train.classes)
    scale = train.weights if row_weights is None else train.weights * row_weights
    logits = x @ w + b
    losses = logsumexp(logits, axis=1) - (y.double().numpy() * logits).sum(axis=1)
    return float(np.average(losses, weights=scale.double().numpy()) + 0.5 * l2 * (w**2).sum())


def scipy_optimum(train: Train, l2: float) -> float:
    """Return the least F that L-BFGS-B finds in float64."""
    x, y = train.x.double().numpy(), train.targets.double().numpy()
    share = (train.weights / train.weights.sum()).double().numpy()
    shape = (x.shape[1] + 1, y.shape[1])

    def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w, b = flat.reshape(shape)[:-1], flat.reshape(shape)[-1]
        logits = x @ w + b
        normaliser = logsumexp(logits, axis=1)
        slope = (np.exp(logits - normaliser[:, None]) - y) * share[:, None]
        gradient = np.vstack([x.T @ slope + l2 * w, slope.sum(axis=0)])
        return float(share @ (normaliser - (y * logits).sum(axis=1)) + 0.5 * l2 * (w**2).sum()), gradient.ravel()

    options = {"ftol": 1e-15, "gtol": 1e-10, "maxiter": 20000, "maxfun": 20000}
    found = scipy.optimize.minimize(value_and_gradient, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options=options)
    return float(found.fun)


def sklearn_optimum(train: Train, l2: float, weights: Tensor) -> LinearScorer:
    """Return scikit-learn's head at the optimum, C = 1/(λ·Σw)."""
    model = LogisticRegression(C=1 / (l2 * float(weights.sum())), tol=1e-10, max_iter=10000, solver="newton-cg")
    model.fit(train.x.double().numpy(), train.targets.numpy(), sample_weight=weights.numpy())
    return LinearScorer(torch.from_numpy(model.coef_.T.copy()), torch.from_numpy(model.intercept_.copy()))


@functools.cache
def digits() -> Train:
    """Return long-tailed handwritten digits, standardised: 100 rows down to 10."""
    raw = load_digits()
    labels = torch.from_numpy(raw.target).long()
    counts = exponential_counts(100, 10.0, 10)
    rows = torch.cat([(labels == c).nonzero().flatten()[:n] for c, n in enumerate(counts)])
    x = torch.from_numpy(raw.data)[rows]
    deviation = x.std(dim=0, correction=0)
    x = (x - x.mean(dim=0)) / torch.where(deviation > 0, deviation, 1.0)
    return train_of(x.float(), labels[rows], 10)


@functools.cache
def digit_weights() -> Tensor:
    """Return positive row weights without any pattern."""
    return 0.1 + Stream.of(1, "weights").uniform(torch.arange(len(digits().x)), 1)[:, 0] * 3


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Run on one thread, which small problems are fastest on, and restore the number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def theta_of(head: LinearScorer) -> Tensor:
    """Return weight and bias in one tensor ``[D+1, C]``, float64."""
    return torch.cat([head.weight, head.bias[None]]).double()


class TestOptimum:
    """The solver reaches the optimum of the pinned objective."""

    @pytest.mark.parametrize("l2", L2S)
    @pytest.mark.parametrize("weighted", [False, True])
    def test_objective_is_within_a_thousandth_of_scikit_learns(self, l2: float, weighted: bool) -> None:
        """F is at most 0.1 % above the float64 optimum on long-tailed digits, with and without row weights."""
        train = digits()
        weights = digit_weights() if weighted else torch.ones(len(train.x), dtype=torch.float64)
        best = sklearn_optimum(train, l2, weights)
        ours = fit_linear(train, by_hand, l2, row_weights=weights)
        least = objective(best.weight, best.bias, train, l2, weights)
        reached = objective(ours.weight, ours.bias, train, l2, weights)
        assert ours.converged
        assert least * (1 - 1e-9) <= reached <= least * 1.001

    @pytest.mark.parametrize("l2", [1e-3, 1e-1])
    def test_a_tight_tolerance_gives_scikit_learns_weights(self, l2: float) -> None:
        """At a gap of 1e-11 the weights, and the biases up to a constant, are scikit-learn's."""
        train = digits()
        best = sklearn_optimum(train, l2, train.weights)
        ours = fit_linear(train, by_hand, l2, tolerance=1e-11)
        assert ours.weight.dtype == torch.float64
        torch.testing.assert_close(best.weight, ours.weight, atol=1e-4, rtol=0)
        torch.testing.assert_close(best.bias - best.bias.mean(), ours.bias - ours.bias.mean(), atol=1e-4, rtol=0)

    @pytest.mark.parametrize("tolerance", [1e-2, 1e-4])
    @pytest.mark.parametrize("l2", [1e-3, 1e-1, 10.0])
    def test_the_stated_gap_is_kept(self, tolerance: float, l2: float) -> None:
        """F ends within the stated share of the optimum, biases of rare classes included."""
        train = digits()
        best = sklearn_optimum(train, l2, train.weights)
        ours = fit_linear(train, by_hand, l2, tolerance=tolerance)
        least = objective(best.weight, best.bias, train, l2)
        assert objective(ours.weight, ours.bias, train, l2) <= least * (1 + tolerance)

    @pytest.mark.parametrize("l2", L2S)
    def test_soft_labels_reach_scipys_optimum(self, l2: float) -> None:
        """F with soft labels and weighted rows is at most 0.1 % above what scipy finds."""
        hard = blobs(60, 6, 4)
        generator = torch.Generator().manual_seed(2)
        soft = torch.softmax(2 * one_hot(hard.targets, 4) + torch.randn(60, 4, generator=generator), dim=1).double()
        train = train_of(hard.x, soft, 4, torch.rand(60, generator=generator).double() + 0.1)
        ours = fit_linear(train, by_hand, l2)
        least = scipy_optimum(train, l2)
        assert least * (1 - 1e-9) <= objective(ours.weight, ours.bias, train, l2) <= least * 1.001

    def test_one_hot_soft_labels_are_hard_labels(self) -> None:
        """Labels and their one-hot rows give the same head."""
        hard = blobs(50, 5, 3)
        soft = train_of(hard.x, one_hot(hard.targets, 3).double(), 3)
        expected, actual = (fit_linear(each, by_hand, 1e-2, tolerance=1e-12) for each in (hard, soft))
        torch.testing.assert_close(expected.weight, actual.weight, atol=1e-5, rtol=0)
        torch.testing.assert_close(expected.bias, actual.bias, atol=1e-5, rtol=0)

    def test_the_bias_is_not_penalised(self) -> None:
        """Under a huge penalty the weights vanish and the biases still give the class shares."""
        train = digits()
        head = fit_linear(train, by_hand, 1e6, tolerance=1e-10)
        torch.testing.assert_close(torch.zeros_like(head.weight), head.weight, atol=1e-5, rtol=0)
        torch.testing.assert_close(train.prior, head.bias.double().softmax(dim=0), atol=1e-4, rtol=0)

    @pytest.mark.parametrize("l2", [1e-3, 1e-1])
    def test_autograd_and_hand_written_slopes_agree(self, l2: float) -> None:
        """Plain cross entropy, differentiated by autograd, ends at the same head as softmax_loss."""
        expected, actual = (fit_linear(digits(), loss, l2, tolerance=1e-6) for loss in (by_hand, by_autograd))
        torch.testing.assert_close(expected.weight.double(), actual.weight.double(), atol=2e-3, rtol=0)
        torch.testing.assert_close(expected.bias.double(), actual.bias.double(), atol=5e-3, rtol=0)
        assert objective(expected.weight, expected.bias, digits(), l2) == pytest.approx(
            objective(actual.weight, actual.bias, digits(), l2), rel=2e-6
        )

    def test_an_authors_own_loss_reaches_its_optimum(self) -> None:
        """A squared loss by autograd ends at the weighted ridge regression that numpy solves."""
        train = blobs(60, 5, 3)
        weights = torch.linspace(0.5, 2.0, 60, dtype=torch.float64)

        def squared(batch: Batch) -> Tensor:
            return 0.5 * ((batch.logits - one_hot(batch.targets, 3)) ** 2).sum(dim=1)

        head = fit_linear(train, squared, 0.1, row_weights=weights, tolerance=1e-12)
        x = np.hstack([train.x.double().numpy(), np.ones((60, 1))])
        share = (weights / weights.sum()).numpy()
        penalty = np.diag([0.1] * 5 + [0.0])
        expected = np.linalg.solve(
            x.T @ (share[:, None] * x) + penalty, x.T @ (share[:, None] * one_hot(train.targets, 3).numpy())
        )
        torch.testing.assert_close(torch.from_numpy(expected), theta_of(head), atol=1e-5, rtol=0)

    @few_examples
    @given(st.lists(st.integers(1, 4), min_size=20, max_size=20), st.sampled_from([1e-3, 1e-1]))
    def test_repeating_rows_is_weighting_them(self, times: list[int], l2: float) -> None:
        """A row that is there n times counts as one of weight n, by train.weights and by row_weights."""
        train, repeats = blobs(20, 3, 3), torch.tensor(times)
        repeated = train_of(train.x.repeat_interleave(repeats, 0), train.targets.repeat_interleave(repeats), 3)
        weighted = train_of(train.x, train.targets, 3, repeats.double())
        expected = theta_of(fit_linear(repeated, by_hand, l2, tolerance=1e-10))
        for actual in (
            fit_linear(weighted, by_hand, l2, tolerance=1e-10),
            fit_linear(train, by_hand, l2, row_weights=repeats.double(), tolerance=1e-10),
        ):
            torch.testing.assert_close(expected, theta_of(actual), atol=2e-4, rtol=0)

    def test_only_ratios_of_weights_matter(self) -> None:
        """Weights 1,024 times as large give the same head; a power of two gives the same bits."""
        expected, actual = (fit_linear(digits(), by_hand, 1e-2, row_weights=digit_weights() * c) for c in (1, 1024))
        assert torch.equal(expected.weight, actual.weight)
        assert torch.equal(expected.bias, actual.bias)

    def test_rows_of_weight_zero_do_not_count(self) -> None:
        """Rows of weight zero leave the head as if they were not there."""
        train = blobs(40, 4, 3)
        weights = (torch.arange(40) < 30).double()
        expected = fit_linear(train_of(train.x[:30], train.targets[:30], 3), by_hand, 1e-2, tolerance=1e-10)
        actual = fit_linear(train, by_hand, 1e-2, row_weights=weights, tolerance=1e-10)
        torch.testing.assert_close(theta_of(expected), theta_of(actual), atol=1e-4, rtol=0)

    def test_what_few_rows_hold_is_not_missed(self) -> None:
        """Features that most rows do not have: the axes come from some rows, the variance in them from all."""
        noise = torch.Generator().manual_seed(0)
        x = torch.randn(4000, 16, generator=noise) * (torch.rand(4000, 16, generator=noise) < 0.005)
        train = train_of(x, torch.randint(5, (4000,), generator=noise), 5)
        torch.testing.assert_close(variance_of(train), turned_rows(train, torch.float64).var(dim=0, correction=0))
        found = fit_linear(train, by_hand, 1e-4)
        assert found.converged
        assert found.training_flops < 200 * 4 * 4000 * 16 * 5

    def test_rows_that_make_the_axes_may_weigh_nothing(self) -> None:
        """Every so many rows make the covariance; the others have a head even where all of these have weight zero."""
        train = blobs(400, 4, 3)
        weights = (torch.arange(400) % 12 != 0).double()
        found = fit_linear(train_of(train.x, train.targets, 3, weights), by_hand, 1e-2, tolerance=1e-10)
        kept = weights > 0
        expected = fit_linear(train_of(train.x[kept], train.targets[kept], 3), by_hand, 1e-2, tolerance=1e-10)
        torch.testing.assert_close(theta_of(expected), theta_of(found), atol=1e-4, rtol=0)

    def test_a_start_changes_the_way_not_the_end(self) -> None:
        """A warm start meets the same tolerance; from the optimum itself it takes one evaluation."""
        cold = fit_linear(digits(), by_hand, 1e-3)
        other = fit_linear(digits(), by_hand, 1e-1)
        warm = fit_linear(digits(), by_hand, 1e-3, start=other)
        again = fit_linear(digits(), by_hand, 1e-3, start=cold)
        values = [objective(head.weight, head.bias, digits(), 1e-3) for head in (cold, warm)]
        assert values[0] == pytest.approx(values[1], rel=1.1e-3)
        torch.testing.assert_close(cold.weight, again.weight, atol=1e-6, rtol=1e-6)
        assert again.training_flops < cold.training_flops

    def test_the_loss_sees_the_training_set(self) -> None:
        """A batch carries the rows' targets, features, counts, prior and marks, and progress one."""
        train = blobs(30, 4, 3).replace(row_ids=torch.arange(30) - 5)
        seen: list[Batch] = []

        def loss(batch: Batch) -> Tensor:
            seen.append(batch)
            return by_autograd(batch)

        fit_linear(train, loss, 1e-2)
        batch = seen[0]
        assert batch.logits.shape == (30, 3)
        assert torch.equal(train.x, batch.x)
        assert torch.equal(train.targets, batch.targets)
        assert torch.equal(train.row_ids < 0, batch.synthetic)
        torch.testing.assert_close(train.class_counts.float(), batch.class_counts)
        torch.testing.assert_close(train.prior.float(), batch.prior)
        torch.testing.assert_close(train.log_prior.float(), batch.log_prior)
        assert batch.progress == 1.0


class TestRareClasses:
    """Classes without rows, or with one."""

    @pytest.mark.parametrize("loss", [by_hand, by_autograd])
    @pytest.mark.parametrize("soft", [False, True])
    def test_an_absent_class_is_never_predicted(self, loss: Callable[[Batch], Tensor], soft: bool) -> None:
        """A class without rows has zero weights, a logit of −10,000, probability zero, and all scores are finite."""
        present = blobs(40, 4, 3)
        labels = torch.tensor([0, 1, 3])[present.targets]
        train = train_of(present.x, one_hot(labels, 5).double() if soft else labels, 5)
        head = fit_linear(train, loss, 1e-3)
        scores = head(torch.randn(200, 4, generator=torch.Generator().manual_seed(1)) * 100)
        assert isinstance(scores, Scores)
        assert bool(scores.values.isfinite().all())
        assert {2, 4}.isdisjoint(scores.values.argmax(dim=1).tolist())
        assert torch.equal(torch.zeros(4, 2), head.weight[:, [2, 4]].float())
        assert head.bias[[2, 4]].tolist() == [ABSENT_LOGIT] * 2
        assert scores.values.softmax(dim=1)[:, [2, 4]].sum().item() == 0.0

    def test_an_absent_class_leaves_the_others_alone(self) -> None:
        """The head of the other classes is the one that is fitted without the absent class."""
        present = blobs(40, 4, 3)
        labels = torch.tensor([0, 1, 3])[present.targets]
        expected = fit_linear(present, by_hand, 1e-2, tolerance=1e-10)
        actual = fit_linear(train_of(present.x, labels, 4), by_hand, 1e-2, tolerance=1e-10)
        torch.testing.assert_close(expected.weight.double(), actual.weight[:, [0, 1, 3]].double(), atol=1e-4, rtol=0)
        torch.testing.assert_close(expected.bias.double(), actual.bias[[0, 1, 3]].double(), atol=1e-4, rtol=0)

    def test_a_warm_start_keeps_an_absent_class_absent(self) -> None:
        """Starting from a head with an absent class neither moves its logit nor doubles it."""
        present = blobs(40, 4, 3)
        train = train_of(present.x, present.targets, 4)
        head = fit_linear(train, by_hand, 1e-2, start=fit_linear(train, by_hand, 1e-1))
        assert head.bias[3].item() == ABSENT_LOGIT

    def test_a_class_of_one_row_is_learned(self) -> None:
        """A single row, away from the others, is predicted as its class."""
        many = blobs(60, 4, 2)
        x = torch.cat([many.x, torch.full((1, 4), 6.0)])
        train = train_of(x, torch.cat([many.targets, torch.tensor([2])]), 3)
        head = fit_linear(train, by_hand, 1e-3)
        assert head.converged
        assert head(x[-1:]).values.argmax().item() == 2

    def test_a_single_class_is_predicted(self) -> None:
        """With one class present the head converges at once and predicts it."""
        x = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
        head = fit_linear(train_of(x, torch.ones(10, dtype=torch.long), 3), by_hand, 1e-2)
        assert head.converged
        assert head(x).values.argmax(dim=1).tolist() == [1] * 10

    def test_features_without_information_give_the_prior(self) -> None:
        """Where all rows are equal the probabilities are the class shares."""
        labels = torch.tensor([0] * 6 + [1] * 3 + [2])
        train = train_of(torch.full((10, 4), 2.5), labels, 3)
        head = fit_linear(train, by_hand, 1e-2, tolerance=1e-10)
        torch.testing.assert_close(train.prior, head(train.x).values[0].double().softmax(dim=0), atol=1e-4, rtol=0)


BAD_LOSSES = {
    "scalar": (lambda b: by_autograd(b).mean(), "per-row losses, not one number for all: use reduction='none'"),
    "one row short": (lambda b: by_autograd(b)[:-1], r"per-row losses \[30\], not \[29\]"),
    "by class": (lambda b: by_hand(b)[1].abs(), r"per-row losses \[30\], not \[30, 3\]"),
    "wrong shape by hand": (lambda b: (by_hand(b)[0][:-1], by_hand(b)[1]), r"per-row losses \[30\], not \[29\]"),
    "NaN": (lambda b: by_autograd(b) * float("nan"), "NaN"),
    "NaN by hand": (lambda b: (by_hand(b)[0] * float("nan"), by_hand(b)[1]), "NaN"),
    "infinite": (lambda b: by_autograd(b) + float("inf"), "loss"),
}


class TestErrors:
    """What the solver refuses, and what it admits."""

    @pytest.mark.parametrize("name", BAD_LOSSES)
    def test_a_bad_loss_is_refused(self, name: str) -> None:
        """A loss that is not [N] or not finite is a ValueError that says so."""
        loss, message = BAD_LOSSES[name]
        with pytest.raises(ValueError, match=message):
            fit_linear(blobs(30, 4, 3), loss, 1e-2)

    @pytest.mark.parametrize(
        "weights",
        [
            pytest.param([float("nan")] + [1.0] * 29, id="NaN"),
            pytest.param([float("inf")] + [1.0] * 29, id="infinite"),
            pytest.param([-1.0] + [1.0] * 29, id="negative"),
            pytest.param([0.0] * 30, id="all zero"),
        ],
    )
    @pytest.mark.parametrize("where", ["row_weights", "train.weights"])
    def test_bad_weights_are_refused(self, weights: list[float], where: str) -> None:
        """Weights must be finite, not negative and not all zero, wherever they come from."""
        train, given = blobs(30, 4, 3), torch.tensor(weights, dtype=torch.float64)
        row_weights = given if where == "row_weights" else None
        train = train if where == "row_weights" else train.replace(weights=given)
        with pytest.raises(ValueError, match="row weights must be finite, not negative, and not all zero"):
            fit_linear(train, by_hand, 1e-2, row_weights=row_weights)

    @pytest.mark.parametrize("l2", [0.0, -1e-3])
    def test_l2_must_be_positive(self, l2: float) -> None:
        """Without a penalty there may be no optimum, so it is refused by its value."""
        with pytest.raises(ValueError, match=f"l2 must be above 0 for the exact solver, not {l2}"):
            fit_linear(blobs(30, 4, 3), by_hand, l2)

    def test_a_wrong_slope_is_reported_as_not_converged(self) -> None:
        """A loss whose slope points uphill ends with converged False and finite weights."""
        head = fit_linear(blobs(30, 4, 3), lambda b: (by_hand(b)[0], -by_hand(b)[1]), 1e-2)
        assert head.converged is False
        assert bool(head.weight.isfinite().all())

    def test_a_slope_that_is_not_finite_is_refused(self) -> None:
        """A loss whose slope is NaN is an error, not a head."""
        with pytest.raises(ValueError, match="the slope of the loss must be finite"):
            fit_linear(blobs(30, 4, 3), lambda b: (by_hand(b)[0], float("nan") * by_hand(b)[1]), 1e-2)

    @pytest.mark.parametrize("rows", [5, 12, 40])
    def test_fewer_rows_than_features_reach_the_same_optimum(self, rows: int) -> None:
        """The optimum has no part outside the rows' span: the objective is that of a long descent in all features."""
        train, l2 = blobs(rows, 40, 3), 1e-2
        head = fit_linear(train, by_hand, l2, tolerance=1e-8)
        assert axes_of(train).basis.shape == (40, rows)
        weight, bias = (x.double().clone().requires_grad_() for x in (head.weight, head.bias))

        def objective() -> Tensor:
            losses = cross_entropy(train.x.double() @ weight + bias, train.targets, reduction="none")
            return losses.mean() + 0.5 * l2 * (weight**2).sum()

        found = objective().item()
        search = torch.optim.LBFGS([weight, bias], max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

        def step() -> Tensor:
            search.zero_grad()
            value = objective()
            value.backward()
            return value

        search.step(step)
        assert found <= objective().item() * (1 + 1e-6)

    def test_converged_means_the_bound_holds(self) -> None:
        """Where converged is True, ‖∇F‖² / 2λ over the weights is at most the tolerance times F."""
        train, l2 = digits(), 1e-2
        head = fit_linear(train, by_hand, l2, tolerance=1e-3)
        weight, bias = head.weight.double().requires_grad_(), head.bias.double().requires_grad_()
        losses = cross_entropy(train.x.double() @ weight + bias, train.targets, reduction="none")
        value = losses.mean() + 0.5 * l2 * (weight**2).sum()
        slope, _ = torch.autograd.grad(value, [weight, bias])
        assert head.converged
        assert float((slope**2).sum()) / (2 * l2) <= 1.01e-3 * value.item()


class TestNumerics:
    """The same cell gives the same bits."""

    def test_threads_do_not_change_a_bit(self) -> None:
        """Whatever the number of threads outside, pinned fits are equal bit for bit, and the number is restored."""
        heads = []
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            with pinned("cpu"):
                assert torch.get_num_threads() == 1
                heads.append(fit_linear(digits(), by_hand, 1e-3))
            assert torch.get_num_threads() == count
        for head in heads[1:]:
            assert torch.equal(heads[0].weight, head.weight)
            assert torch.equal(heads[0].bias, head.bias)

    def test_fitting_leaves_its_input_and_the_global_generator_alone(self) -> None:
        """Rows, targets and weights are not written to, and torch's random state is the same afterwards."""
        train = blobs(30, 4, 3)
        before = [each.clone() for each in (train.x, train.targets, train.weights, train.class_counts)]
        state = torch.get_rng_state()
        fit_linear(train, by_hand, 1e-2)
        fit_linear(train, by_autograd, 1e-2)
        assert torch.equal(state, torch.get_rng_state())
        for expected, actual in zip(before, (train.x, train.targets, train.weights, train.class_counts), strict=True):
            assert torch.equal(expected, actual)

    def test_cost_is_counted(self) -> None:
        """Parameters and the cost of a row are those of a D × C matrix and a bias."""
        head = fit_linear(blobs(30, 4, 3), by_hand, 1e-2)
        assert (head.parameters, head.flops_per_row) == (4 * 3 + 3, 2 * 4 * 3)
        assert head.training_flops > 0


class TestSoftmaxLoss:
    """The hand-written loss against torch."""

    @many_examples
    @given(
        st.integers(1, 12),
        st.integers(1, 6),
        st.integers(0, 10_000),
        st.sampled_from([1e-3, 1.0, 30.0, 1e3]),
        st.booleans(),
    )
    def test_losses_and_slopes_are_torchs(self, rows: int, classes: int, seed: int, scale: float, soft: bool) -> None:
        """Losses equal torch's cross entropy, slopes equal autograd's, and the logits are not written to."""
        generator = torch.Generator().manual_seed(seed)
        logits = scale * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
        labels = torch.randint(classes, (rows,), generator=generator)
        targets = torch.rand(rows, classes, generator=generator, dtype=torch.float64).softmax(dim=1) if soft else labels
        before = logits.clone()
        losses, slope = softmax_loss(logits, targets)
        leaf = logits.clone().requires_grad_()
        expected = cross_entropy(leaf, targets, reduction="none")
        (gradient,) = torch.autograd.grad(expected.sum(), leaf)
        torch.testing.assert_close(expected.detach(), losses, atol=1e-12 * scale, rtol=1e-10)
        torch.testing.assert_close(gradient, slope, atol=1e-12, rtol=1e-10)
        assert torch.equal(before, logits)

    def test_huge_logits_do_not_overflow(self) -> None:
        """Logits of ±1e30 give torch's slopes in float32, and losses up to rounding at that size."""
        logits = torch.tensor([[1e30, -1e30, 0.0], [-1e30, -1e30, -1e30]])
        labels = torch.tensor([1, 1])
        losses, slope = softmax_loss(logits, labels)
        torch.testing.assert_close(cross_entropy(logits, labels, reduction="none"), losses, rtol=1e-6, atol=1e24)
        torch.testing.assert_close(torch.tensor([[1.0, -1.0, 0.0], [1 / 3, -2 / 3, 1 / 3]]), slope)


@dataclass(frozen=True)
class Table:
    """A head that predicts what a table says for the row number in its only feature."""

    predictions: tuple[int, ...]
    classes: int

    def fit(self, train: Train) -> Callable[[Tensor], Scores]:
        """Return the look-up."""
        table = one_hot(torch.tensor(self.predictions), self.classes).double()
        return lambda x: Scores(table[x[:, 0].long()], "scores")


@dataclass(frozen=True, eq=False)
class Sharp:
    """A head whose logits, for the row number in its only feature, are those of a table, more or less sharp."""

    logits: Tensor
    scale: float
    kind: str

    def fit(self, train: Train) -> Callable[[Tensor], Scores]:
        """Return the look-up."""
        table = self.scale * self.logits
        table = table.softmax(dim=1) if self.kind == "probabilities" else table
        return lambda x: Scores(table[x[:, 0].long()], "probabilities" if self.kind == "probabilities" else "logits")


@dataclass(frozen=True)
class Plain:
    """A loss component with nothing but a penalty."""

    l2: float

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return softmax cross entropy."""
        return softmax_loss(batch.logits, batch.targets)


@dataclass(frozen=True)
class Weighted(Plain):
    """A loss component that weighs rows."""

    def row_weights(self, train: Train) -> Tensor:
        """Return the inverse count of each row's class."""
        return (1.0 / train.class_counts)[train.targets]


@dataclass(frozen=True)
class Corrected(Plain):
    """A loss component that shifts the bias afterwards."""

    def post_hoc(self, scorer: LinearScorer, train: Train) -> LinearScorer:
        """Take the log prior off."""
        return scorer.with_bias(scorer.bias - train.log_prior)


@dataclass(frozen=True)
class WithFit(Weighted):
    """A component with a fit of its own beside a loss."""

    def fit(self, train: Train) -> str:
        """Return a mark."""
        return "own fit"


def apply(scorer: Callable[[Tensor], Scores], x: Tensor) -> Scores:
    """Score rows without any check."""
    return scorer(x)


def naive_balanced(predictions: Sequence[int], labels: Sequence[int]) -> float:
    """Return the mean recall over classes with rows, by loops."""
    recalls = []
    for c in sorted(set(labels)):
        mine = [p for p, label in zip(predictions, labels, strict=True) if label == c]
        recalls.append(sum(p == c for p in mine) / len(mine))
    return sum(recalls) / len(recalls)


class TestChoose:
    """Selection on held-out rows."""

    @many_examples
    @given(st.data())
    def test_choice_is_that_of_a_naive_loop(self, data: st.DataObject) -> None:
        """The first candidate of the best balanced accuracy over all held-out rows together wins."""
        classes, rows = data.draw(st.integers(2, 4)), data.draw(st.integers(1, 14))
        one_label = st.integers(0, classes - 1)
        labels = data.draw(st.lists(one_label, min_size=rows, max_size=rows))
        tables = data.draw(st.lists(st.lists(one_label, min_size=rows, max_size=rows), min_size=1, max_size=5))
        cuts = sorted(data.draw(st.sets(st.integers(1, rows - 1), max_size=3))) if rows > 1 else []
        train = blobs(10, 1, classes)
        folds = []
        for start, end in zip([0, *cuts], [*cuts, rows], strict=True):
            folds.append((train, torch.arange(start, end)[:, None].float(), torch.tensor(labels[start:end])))
        choice = choose([Table(tuple(table), classes) for table in tables], folds, apply)
        values = [naive_balanced(table, labels) for table in tables]
        assert pytest.approx(values) == list(choice.scores)
        best = max(choice.scores)
        assert choice.index == next(i for i, value in enumerate(choice.scores) if value >= best - 1e-9)
        assert choice.nll == (None,) * len(tables)
        assert choice.flops is None

    @pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
    def test_the_first_of_equals_wins(self, order: tuple[int, ...]) -> None:
        """Of candidates that do equally well, the one named first is taken."""
        tables = [(0, 1, 0, 1), (0, 1, 1, 0), (1, 0, 1, 0)]
        folds = [(blobs(10, 1, 2), torch.arange(4)[:, None].float(), torch.tensor([0, 1, 0, 0]))]
        choice = choose([Table(tables[i], 2) for i in order], folds, apply)
        values = [naive_balanced(tables[i], [0, 1, 0, 0]) for i in order]
        assert list(choice.scores) == pytest.approx(values)
        assert choice.index == values.index(max(values))

    @pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
    @pytest.mark.parametrize("kind", ["logits", "probabilities"])
    def test_of_equals_the_likeliest_wins(self, order: tuple[int, ...], kind: str) -> None:
        """Heads that predict alike are told apart by held-out NLL, each class counting alike, by loops; folds are pooled."""
        logits = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 0.5], [0.0, 1.0], [3.0, 0.0]], dtype=torch.float64)
        labels = torch.tensor([0, 0, 1, 0, 0])
        cuts, scales = ((0, 2), (2, 5)), (0.01, 0.3, 1.0, 60.0)
        train, rows = blobs(10, 1, 2), torch.arange(5)[:, None].float()
        folds = [(train, rows[a:b], labels[a:b]) for a, b in cuts]
        choice = choose([Sharp(logits, scales[i], kind) for i in order], folds, apply)
        expected = []
        for scale in (scales[i] for i in order):
            losses = [
                min(float(logsumexp(scale * z) - scale * z[y]), -np.log(1e-12))
                for z, y in zip(logits.numpy(), labels.tolist(), strict=True)
            ]
            by_class = [[each for each, y in zip(losses, labels.tolist(), strict=True) if y == c] for c in (0, 1)]
            expected.append(sum(sum(each) / len(each) for each in by_class) / 2)
        assert len(set(choice.scores)) == 1
        assert list(choice.nll) == pytest.approx(expected)
        assert choice.index == expected.index(min(expected))

    def test_every_fold_counts_alike_by_rows(self) -> None:
        """Held-out rows are pooled before recalls are taken: a fold of one row weighs one row."""
        folds = [
            (blobs(10, 1, 2), torch.tensor([[0.0]]), torch.tensor([0])),
            (blobs(10, 1, 2), torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([0, 0, 0])),
        ]
        choice = choose([Table((0, 1, 1, 1), 2), Table((1, 0, 0, 1), 2)], folds, apply)
        assert choice.scores == (0.25, 0.5)
        assert choice.index == 1

    @pytest.mark.parametrize("component", [Plain, Weighted, Corrected])
    def test_penalties_are_chosen_as_by_separate_fits(self, component: type[Plain]) -> None:
        """Warm starts along the candidates choose as fits from zero to the full tolerance do, scores within 0.02."""
        train = digits()
        fold = torch.arange(len(train.x)) % 3
        folds = []
        for number in range(3):
            seen = train_of(train.x[fold != number], train.targets[fold != number], 10)
            folds.append((seen, train.x[fold == number], train.targets[fold == number]))
        candidates = [component(l2) for l2 in (1e3, 1e-2, 0.3)]
        choice = choose(candidates, folds, apply)
        values = []
        for candidate in candidates:
            predictions, labels = [], []
            for seen, x, held in folds:
                predictions += fit_classifier(candidate, seen)(x).values.argmax(dim=1).tolist()
                labels += held.tolist()
            values.append(naive_balanced(predictions, labels))
        assert list(choice.scores) == pytest.approx(values, abs=0.02)
        assert choice.index == choice.scores.index(max(choice.scores))
        assert values[choice.index] == pytest.approx(max(values), abs=0.02)
        assert choice.flops is not None
        assert choice.flops > 0

    def test_held_out_rows_are_only_scored(self) -> None:
        """A candidate's fit sees the training rows of the fold and nothing else."""
        seen: list[Tensor] = []

        @dataclass(frozen=True)
        class Spy:
            number: int

            def fit(self, train: Train) -> Callable[[Tensor], Scores]:
                seen.append(train.x)
                return lambda x: Scores(torch.zeros(len(x), 2), "scores")

        train = blobs(10, 1, 2)
        choose([Spy(0), Spy(1)], [(train, torch.full((3, 1), 77.0), torch.tensor([0, 1, 1]))], apply)
        assert [each is train.x for each in seen] == [True, True]


class TestFitClassifier:
    """From a component to a scorer."""

    def test_row_weights_are_honoured(self) -> None:
        """A component's row_weights give the head that fit_linear gives with them, and not the plain one."""
        train = digits()
        expected = fit_linear(train, by_hand, 1e-2, row_weights=(1.0 / train.class_counts)[train.targets])
        actual = fit_classifier(Weighted(1e-2), train)
        assert torch.equal(expected.weight, actual.weight)
        assert torch.equal(expected.bias, actual.bias)
        assert not torch.allclose(fit_classifier(Plain(1e-2), train).weight, actual.weight, atol=1e-3)

    def test_post_hoc_is_applied(self) -> None:
        """A component's post_hoc is applied to the trained head, once."""
        train = digits()
        plain, corrected = fit_classifier(Plain(1e-2), train), fit_classifier(Corrected(1e-2), train)
        assert torch.equal(plain.weight, corrected.weight)
        assert torch.equal(plain.bias - train.log_prior, corrected.bias)

    def test_a_components_own_fit_goes_first(self) -> None:
        """A component with fit and loss is fitted by its fit."""
        assert fit_classifier(WithFit(1e-2), blobs(10, 2, 2)) == "own fit"

    def test_the_public_name_is_the_modules(self) -> None:
        """The package gives the function of the module many."""
        assert fit_classifier is fit_classifier_of_module


class TestLinearScorer:
    """The fitted head itself."""

    def test_scores_are_the_affine_map(self) -> None:
        """Scores are x·W + b in the head's precision, and of the kind it names."""
        generator = torch.Generator().manual_seed(0)
        weight, bias = torch.randn(4, 3, generator=generator).double(), torch.randn(3, generator=generator).double()
        x = torch.randn(5, 4, generator=generator)
        scores = LinearScorer(weight, bias)(x)
        expected = [
            [sum(float(x[i, d]) * float(weight[d, c]) for d in range(4)) + float(bias[c]) for c in range(3)] for i in range(5)
        ]
        torch.testing.assert_close(torch.tensor(expected, dtype=torch.float64), scores.values)
        assert scores.kind == "logits"

    def test_with_bias_changes_the_bias_alone(self) -> None:
        """A post-hoc copy keeps weight, cost and flag."""
        head = LinearScorer(torch.ones(2, 3), torch.zeros(3), training_flops=7, converged=False)
        changed = head.with_bias(torch.ones(3))
        assert changed.bias.tolist() == [1.0, 1.0, 1.0]
        assert dataclasses.replace(changed, bias=head.bias) == head
