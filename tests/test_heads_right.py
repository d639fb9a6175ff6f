"""The exact solver gives the right answer: scikit-learn's optimum in float64, and its accuracy, on three long tails."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.functional import cross_entropy

from ltbench.components import resolve
from ltbench.data import load_dataset
from ltbench.files import data_folder
from ltbench.heads import LinearScorer, fit_linear, softmax_loss
from ltbench.heads.objective import Objective
from ltbench.longtail import exponential_counts
from ltbench.plugins import discover
from ltbench.streams import Stream
from ltbench.types import Batch, Part, Train


@dataclass(frozen=True)
class LongTail:
    """Training rows, and balanced test rows ``[M, D]`` with their labels."""

    train: Train
    x: Tensor
    labels: Tensor


def by_hand(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return cross entropy with its slope."""
    return softmax_loss(batch.logits, batch.targets)


def by_autograd(batch: Batch) -> Tensor:
    """Return cross entropy as an author would write it."""
    return cross_entropy(batch.logits, batch.targets, reduction="none")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Run on one thread, as cells do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def long_tail(x: Tensor, labels: Tensor, counts: list[int], test: tuple[Tensor, Tensor]) -> LongTail:
    """Take the first rows of each class, and standardise all by them."""
    rows = torch.cat([(labels == c).nonzero().flatten()[:n] for c, n in enumerate(counts)])
    mean, deviation = x[rows].mean(dim=0), x[rows].std(dim=0, correction=0)
    deviation = torch.where(deviation > 1e-6, deviation, 1.0)
    sizes, ones = torch.tensor(counts).double(), torch.ones(len(rows), dtype=torch.float64)
    x, test_x = ((each - mean) / deviation for each in (x, test[0]))
    train = Train(x[rows].float(), labels[rows], ones, rows, sizes, sizes.clone(), Stream.of(0))
    return LongTail(train, test_x.float(), test[1])


def digits() -> LongTail:
    """Return handwritten digits, 80 rows of a class down to 4."""
    raw = load_digits()
    x, labels = torch.from_numpy(raw.data), torch.from_numpy(raw.target).long()
    return long_tail(x[:1200], labels[:1200], exponential_counts(80, 20.0, 10), (x[1200:], labels[1200:]))


def glyphs() -> LongTail:
    """Return histograms of gradients of drawn characters of eight classes, 40 rows of a class down to 2."""
    registry = discover()
    drawn = load_dataset(resolve(registry, "dataset", "glyphs[classes=8,train_per_class=40]"), data_folder())
    encoder = resolve(registry, "backbone", "hog").build().load("cpu")

    def features(part: Part) -> Tensor:
        images = [encoder.preprocess(part.images[number]) for number in range(len(part.labels))]
        return encoder(torch.stack(images)).double()

    test = (features(drawn.test), drawn.test.labels)
    return long_tail(features(drawn.train), drawn.train.labels, exponential_counts(40, 20.0, 8), test)


def anisotropic() -> LongTail:
    """Return a tenth of CIFAR-100-LT's counts at ratio 100, in features whose variance falls by ten thousand."""
    counts, stream = [max(1, n // 10) for n in exponential_counts(500, 100.0, 100)], Stream.of(1, "anisotropic")
    spread = torch.logspace(0, -2, 48, dtype=torch.float64)
    centres = 1.2 * stream.child("centres").normal(torch.arange(100), 48)

    def rows(labels: Tensor, name: str) -> Tensor:
        return (centres[labels] + stream.child(name).normal(torch.arange(len(labels)), 48)) * spread

    labels, test = torch.arange(100).repeat_interleave(torch.tensor(counts)), torch.arange(100).repeat(30)
    found = long_tail(rows(labels, "train"), labels, counts, (rows(test, "test"), test))
    mean = found.train.x.mean(dim=0)  # as they are: standardised rows are not anisotropic
    scale = spread.float()
    return LongTail(found.train.replace(x=(found.train.x - mean) * scale), (found.x - mean) * scale, test)


MADE = {"digits": digits, "glyphs": glyphs, "anisotropic": anisotropic}


@functools.cache
def made(name: str) -> LongTail:
    """Return a long tail, made once."""
    return MADE[name]()


def balanced_weights(train: Train) -> Tensor:
    """Return the inverse count of each row's class ``[N]``."""
    return 1 / train.class_counts[train.targets]


def objective(head: LinearScorer, train: Train, l2: float, weights: Tensor) -> float:
    """Return F in float64 NumPy: the weighted mean of cross entropy, and λ/2·‖W‖²."""
    x, weight, bias = (each.double().numpy() for each in (train.x, head.weight, head.bias))
    logits = x @ weight + bias
    losses = logsumexp(logits, axis=1) - logits[np.arange(len(x)), train.targets.numpy()]
    return float(np.average(losses, weights=weights.numpy()) + 0.5 * l2 * (weight**2).sum())


def optimum(train: Train, l2: float, weights: Tensor) -> LinearScorer:
    """Return scikit-learn's head in float64, C = 1/(λ·Σw); of two classes it fits the difference, which weighs half."""
    two = train.classes == 2
    model = LogisticRegression(C=(2 if two else 1) / (l2 * float(weights.sum())), tol=1e-8, max_iter=20000)
    model.fit(train.x.double().numpy(), train.targets.numpy(), sample_weight=weights.numpy())
    weight, bias = torch.from_numpy(model.coef_.T.copy()), torch.from_numpy(model.intercept_.copy())
    if two:
        weight, bias = (torch.cat([-each / 2, each / 2], dim=-1) for each in (weight, bias))
    return LinearScorer(weight, bias)


def accuracy(head: LinearScorer, of: LongTail) -> float:
    """Return the share of test rows that are right."""
    return (head(of.x).values.argmax(dim=1) == of.labels).double().mean().item()


@pytest.mark.parametrize("l2", [1e-1, 1e-2, 1e-4])
@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("weighted", [False, True])
def test_exact_is_scikit_learns_optimum(name: str, l2: float, weighted: bool) -> None:
    """F ≤ 1.0001·F*, and accuracy within 0.2 points, or two of few test rows, by hand and by autograd."""
    of = made(name)
    weights = balanced_weights(of.train) if weighted else of.train.weights
    best = optimum(of.train, l2, weights)
    least = objective(best, of.train, l2, weights)
    for loss in (by_hand, by_autograd):
        ours = fit_linear(of.train, loss, l2, row_weights=weights)
        assert ours.converged
        assert least * (1 - 1e-5) <= objective(ours, of.train, l2, weights) <= least * 1.0001
        assert accuracy(ours, of) == pytest.approx(accuracy(best, of), abs=max(0.002, 2 / len(of.labels)) + 1e-9)


@pytest.mark.parametrize("l2", [0.03, 0.05, 0.3, 1.0, 10.0])
def test_a_penalty_that_leaves_little_to_gain_does_not_end_the_search_early(l2: float) -> None:
    """Where weights are held so far down that F hardly moves, the head is still the optimum's, to a quarter of a point."""
    of = made("anisotropic")
    weights = balanced_weights(of.train)
    ours, best = fit_linear(of.train, by_hand, l2, row_weights=weights), optimum(of.train, l2, weights)
    assert accuracy(best, of) > 0.35
    assert accuracy(ours, of) == pytest.approx(accuracy(best, of), abs=0.0025)


@pytest.mark.parametrize("spread", [0.05, pytest.param(1.0, marks=pytest.mark.slow), 20.0])
@pytest.mark.parametrize("width", [1, pytest.param(5, marks=pytest.mark.slow), 20])
@pytest.mark.parametrize("counts", [(2000, 20), (500, 50), (20, 20, 20), (100, 10, 1)])
def test_classes_that_are_apart_are_no_less_exact(counts: tuple[int, ...], width: int, spread: float) -> None:
    """Where no row is in doubt, biases have next to no curvature, and are still as good as they can be."""
    stream, labels = Stream.of(0, "apart"), torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    centres = 6 * stream.child("centres").normal(torch.arange(len(counts)), width)
    rows = spread * (centres[labels] + stream.child("rows").normal(torch.arange(len(labels)), width))
    train = long_tail(rows, labels, list(counts), (rows, labels)).train.replace(x=rows.float())
    for l2 in (1e-1, 1e-3, 1e-5):
        ours = fit_linear(train, by_hand, l2)
        others = (fit_linear(train, by_hand, l2, tolerance=1e-9), optimum(train, l2, train.weights))
        assert ours.converged
        least = min(objective(each, train, l2, train.weights) for each in others)
        assert objective(ours, train, l2, train.weights) <= 1.0001 * least


@pytest.mark.parametrize("soft", [False, True])
def test_the_shape_is_the_curvature_of_cross_entropy(soft: bool) -> None:
    """k_c is the mean of p(1−p), whatever the labels; the metric of biases is 1/k_c, that of weights 1/2λ."""
    train = made("digits").train
    mixed = torch.nn.functional.one_hot(train.targets, 10).float() * 0.7 + 0.03
    train = train.replace(targets=mixed) if soft else train
    of, l2 = Objective(train, by_hand, 1e-2, None, torch.float64), 1e-2
    head = fit_linear(train, by_hand, l2, tolerance=1e-2)
    found = of.shape_at(of.from_scorer(head))
    assert found is not None
    p = torch.softmax(train.x.double() @ head.weight.double() + head.bias.double(), dim=1)
    curvature = (p * (1 - p)).mean(dim=0)
    shares = train.targets.double().mean(dim=0) if soft else torch.bincount(train.targets) / len(train.targets)
    metric = found.metric.view(10, -1)
    torch.testing.assert_close(1 / torch.minimum(curvature, shares.double()), metric[:, -1], rtol=1e-4, atol=0)
    assert set(metric[:, :-1].flatten().tolist()) == {1 / (2 * l2)}


def test_the_search_begins_at_the_lower_of_the_class_shares_and_zero() -> None:
    """Plain cross entropy begins at the log class shares; with them added to its logits, at zero."""
    train = made("digits").train
    prior = train.prior.log().float()

    def balanced(batch: Batch) -> tuple[Tensor, Tensor]:
        return softmax_loss(batch.logits + batch.log_prior, batch.targets)

    for loss, expected in ((by_hand, prior), (by_autograd, prior), (balanced, torch.zeros(10))):
        start, _ = Objective(train, loss, 1e-3, None, torch.float32).start()
        both = start.view(10, -1)
        torch.testing.assert_close(expected, both[:, -1])
        assert not both[:, :-1].any()
