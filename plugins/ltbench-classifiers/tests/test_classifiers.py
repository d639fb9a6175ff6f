"""Tests of the classifiers: trained ones against scikit-learn and one another, and what holds for every one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, one_hot

import ltbench
from ltbench.execute.rows import assemble
from ltbench.heads import RECIPES, Fitted, Recipe, Scales, Task, fit_classifier, fit_many
from ltbench.heads.layers import LAYERS
from ltbench.heads.samplers import epoch_order
from ltbench_classifiers.balanced_softmax import BalancedSoftmax
from ltbench_classifiers.class_balanced import ClassBalanced
from ltbench_classifiers.cosine import Cosine
from ltbench_classifiers.focal import Focal
from ltbench_classifiers.gda import GaussianDiscriminant
from ltbench_classifiers.knn import NearestNeighbours
from ltbench_classifiers.label_aware_smoothing import LabelAwareSmoothing
from ltbench_classifiers.lda import LinearDiscriminant
from ltbench_classifiers.ldam import Ldam
from ltbench_classifiers.logit_adjustment import LogitAdjustment
from ltbench_classifiers.lws import LearnableScales
from ltbench_classifiers.ncm import NearestClassMean
from ltbench_classifiers.reweighted import Reweighted
from ltbench_classifiers.ridge import Ridge
from ltbench_classifiers.softmax import Softmax
from ltbench_classifiers.tau_norm import TauNorm

L2 = 1e-2
EXACT: dict[str, Any] = {
    "softmax": Softmax(l2=L2),
    "balanced": Reweighted(l2=L2),
    "grw": Reweighted(l2=L2, rho=0.5),
    "class-balanced": ClassBalanced(l2=L2),
    "focal": Focal(l2=L2),
    "balanced-softmax": BalancedSoftmax(l2=L2),
    "logit-adjustment, loss": LogitAdjustment(l2=L2, tau=0.7),
    "logit-adjustment, post-hoc": LogitAdjustment(l2=L2, tau=0.7, mode="post-hoc"),
    "label-aware-smoothing": LabelAwareSmoothing(l2=L2),
    "tau-norm": TauNorm(l2=L2, tau=0.5),
}
CLOSED: dict[str, Any] = {
    "ncm": NearestClassMean(),
    "ncm, raw": NearestClassMean(center=False, normalize=False),
    "knn": NearestNeighbours(k=3),
    "lda": LinearDiscriminant(),
    "lda, shrunk": LinearDiscriminant(shrinkage=0.3),
    "gda": GaussianDiscriminant(),
    "ridge": Ridge(l2=L2),
}
RECIPE: dict[str, Any] = {
    "softmax, sgd": Softmax(l2=L2, solver="sgd"),
    "softmax, adamw": Softmax(l2=L2, solver="adamw"),
    "crt": Softmax(l2=5e-4, solver="crt"),
    "lws": LearnableScales(l2=L2),
    "cosine": Cosine(),
    "ldam": Ldam(),
    "ldam-drw": Ldam(drw=True),
}
HEADS = {**EXACT, **CLOSED, **RECIPE}
TrainOf = Callable[..., ltbench.Train]
Fit = Callable[..., Any]
Scores = Callable[..., Tensor]
several_examples = settings(max_examples=20, deadline=None, derandomize=True)


def new_rows(count: int, width: int = 4, scale: float = 2.0) -> Tensor:
    """Return rows to score."""
    return scale * torch.randn(count, width, generator=torch.Generator().manual_seed(77))


@pytest.fixture(scope="session")
def scores(fitted: Fit) -> Scores:
    """Return ``scores(classifier, train, x=None)``: float64 scores of new rows."""
    known: dict[Any, Any] = {}

    def scored(classifier: Any, train: ltbench.Train, x: Tensor | None = None) -> Tensor:
        parts = (train.x, train.targets, train.weights, train.class_counts)
        key = (type(classifier), classifier, *(each.numpy().tobytes() for each in parts))
        if key not in known:  # the same few sets of rows serve many tests
            known[key] = fitted(classifier, train)
        values: Tensor = known[key](new_rows(40, train.x.shape[1]) if x is None else x).values
        return values.double()

    return scored


@pytest.fixture(scope="session")
def probabilities(scores: Scores) -> Scores:
    """Return the softmax of scores: what scores mean, whatever constant is added to a row's."""
    return lambda *arguments: scores(*arguments).softmax(dim=1)


def assert_close(expected: Tensor, actual: Tensor, atol: float = 1e-4) -> None:
    """Compare to an absolute tolerance."""
    torch.testing.assert_close(expected, actual.to(expected.dtype), atol=atol, rtol=0)


@pytest.fixture(scope="session")
def oversampled(blobs: TrainOf) -> TrainOf:
    """Return ``oversampled(counts, prior_source="effective", seed=0)``: rows repeated evenly up to the largest class."""

    def made(counts: list[int], prior_source: str = "effective", seed: int = 0) -> ltbench.Train:
        real = blobs(counts, seed=seed)
        times = [max(counts) // n - 1 for n in counts]
        copies = torch.tensor([times[int(label)] for label in real.targets])
        rows = ltbench.Rows(real.x.repeat_interleave(copies, 0), real.targets.repeat_interleave(copies))
        return assemble(real, rows, prior_source)

    return made


MIXING = ("balanced", "grw", "class-balanced")
"""Heads that weigh rows by the count of their class."""

DIVIDING = [12, 6, 4, 3, 1]
"""Class counts that all divide the largest."""


class TestSoftmax:
    """Plain softmax."""

    def test_probabilities_are_scikit_learns(self, blobs: TrainOf, probabilities: Scores) -> None:
        """Probabilities equal those of multinomial logistic regression with C = 1/(λN)."""
        train = blobs([30, 12, 5])
        model = LogisticRegression(C=1 / (L2 * 47), tol=1e-10, max_iter=5000, solver="newton-cg")
        model.fit(train.x.double().numpy(), train.targets.numpy())
        expected = torch.from_numpy(model.predict_proba(new_rows(40).double().numpy()))
        assert_close(expected, probabilities(Softmax(l2=L2), train))

    def test_default_tolerance_is_close(self, blobs: TrainOf, probabilities: Scores) -> None:
        """Fitted as a user's run fits it, probabilities are within 0.05 of the optimum's."""
        train = blobs([30, 12, 5])
        quick = fit_classifier(Softmax(l2=L2), train)(new_rows(40)).values.double().softmax(dim=1)
        assert_close(probabilities(Softmax(l2=L2), train), quick, atol=0.05)


class TestClassBalanced:
    """Weights by the effective number of samples."""

    @several_examples
    @given(st.lists(st.integers(1, 9), min_size=2, max_size=4), st.sampled_from([0.0, 0.5, 0.9, 0.9999]))
    def test_weights_are_the_formulas(self, blobs: TrainOf, counts: list[int], beta: float) -> None:
        """Each row weighs 1 / (1 + β + … + β^(n−1)), n its class's count: the formula, summed by a loop."""
        train = blobs(counts)
        expected = [1 / sum(beta**i for i in range(counts[label])) for label in train.targets.tolist()]
        assert ClassBalanced(beta=beta).row_weights(train).tolist() == pytest.approx(expected, rel=1e-9)

    def test_soft_labels_mix_the_classes_weights(self, train_of: TrainOf) -> None:
        """A row of soft label s weighs Σ_c s_c w_c."""
        soft = torch.tensor([[1.0, 0.0], [0.25, 0.75], [0.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
        train = train_of(torch.zeros(4, 2), soft, 2)
        each = [(1 - 0.9) / (1 - 0.9**n) for n in (1.25, 2.75)]
        expected = [each[0], 0.25 * each[0] + 0.75 * each[1], each[1], each[1]]
        assert ClassBalanced(beta=0.9).row_weights(train).tolist() == pytest.approx(expected)

    def test_absent_classes_do_not_disturb(self, blobs: TrainOf) -> None:
        """Weights are finite with an absent class, and the others' are as without it."""
        three, two = blobs([6, 0, 3]), blobs([6, 3])
        assert ClassBalanced(beta=0.9).row_weights(three).tolist() == ClassBalanced(beta=0.9).row_weights(two).tolist()

    def test_beta_zero_is_softmax(self, blobs: TrainOf, scores: Scores) -> None:
        """Without β all rows weigh one."""
        train = blobs(DIVIDING)
        assert_close(scores(Softmax(l2=L2), train), scores(ClassBalanced(l2=L2, beta=0.0), train))

    def test_beta_near_one_is_inverse_counts(self, blobs: TrainOf, scores: Scores) -> None:
        """As β goes to one the head goes to that of weights 1/n_c."""
        train = blobs(DIVIDING)
        head = ltbench.fit_linear(train, Softmax().loss, L2, (1 / train.class_counts)[train.targets], tolerance=1e-10)
        assert_close(head(new_rows(40)).values.double(), scores(ClassBalanced(l2=L2, beta=1 - 1e-7), train), atol=1e-3)

    @pytest.mark.parametrize("seed", [0, 1])
    def test_oversampling_to_the_maximum_has_the_optimum_of_balanced_weights(
        self, blobs: TrainOf, oversampled: TrainOf, scores: Scores, seed: int
    ) -> None:
        """Rows repeated until all classes are as large as the largest give the head of row weights 1/n_c."""
        train = blobs(DIVIDING, seed=seed)
        weighted = ltbench.fit_linear(train, Softmax().loss, L2, (1 / train.class_counts)[train.targets], tolerance=1e-10)
        repeated = oversampled(DIVIDING, seed=seed)
        assert repeated.class_counts.tolist() == [12.0] * 5
        assert_close(weighted(new_rows(40)).values.double(), scores(Softmax(l2=L2), repeated), atol=1e-3)
        assert not torch.allclose(weighted(new_rows(40)).values.double(), scores(Softmax(l2=L2), train), atol=0.1)


class TestClassWeights:
    """Weights by powers of the class count."""

    @pytest.mark.parametrize(("name", "rho"), [("balanced", 1.0), ("grw", 0.5)])
    def test_probabilities_are_scikit_learns(self, blobs: TrainOf, probabilities: Scores, name: str, rho: float) -> None:
        """Probabilities equal those of LogisticRegression with class weights n_c^−ρ, their mean over rows one."""
        train = blobs([30, 12, 5])
        weights = {c: n**-rho for c, n in enumerate([30, 12, 5])}
        mean = sum(w * n for w, n in zip(weights.values(), [30, 12, 5], strict=True)) / 47
        weights = "balanced" if name == "balanced" else {c: w / mean for c, w in weights.items()}
        model = LogisticRegression(C=1 / (L2 * 47), tol=1e-10, max_iter=5000, solver="newton-cg", class_weight=weights)
        model.fit(train.x.double().numpy(), train.targets.numpy())
        expected = torch.from_numpy(model.predict_proba(new_rows(40).double().numpy()))
        assert_close(expected, probabilities(EXACT[name], train))

    def test_rho_zero_is_softmax(self, blobs: TrainOf, scores: Scores) -> None:
        """With ρ = 0 all rows weigh one."""
        train = blobs(DIVIDING)
        assert_close(scores(Softmax(l2=L2), train), scores(Reweighted(l2=L2, rho=0.0), train))

    def test_an_absent_class_weighs_nothing(self, blobs: TrainOf) -> None:
        """Weights are finite with an absent class, and the others' are as without it."""
        three, two = blobs([6, 0, 3]), blobs([6, 3])
        assert Reweighted().row_weights(three).tolist() == Reweighted().row_weights(two).tolist()


class TestCorrectedWeights:
    """Heads made of plain softmax: τ-normalisation and learned scales."""

    def test_tau_zero_is_softmax(self, blobs: TrainOf, scores: Scores) -> None:
        """Without τ weights stay as they are."""
        train = blobs([30, 12, 5])
        assert_close(scores(Softmax(l2=L2), train), scores(TauNorm(l2=L2, tau=0.0), train), atol=1e-9)

    @pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
    @pytest.mark.parametrize("bias", [True, False])
    def test_logits_are_divided_by_lengths(self, blobs: TrainOf, fitted: Fit, tau: float, bias: bool) -> None:
        """Each logit is (x·w + b) / ‖w‖^τ, w and b those of softmax; at τ = 1 weights have length one."""
        train = blobs([30, 12, 5])
        plain, made = fitted(Softmax(l2=L2), train), fitted(TauNorm(l2=L2, tau=tau, bias=bias), train)
        for c in range(3):
            w, b = plain.weight[:, c].double(), plain.bias[c].double() if bias else 0.0
            expected = (new_rows(9).double() @ w + b) / w.norm() ** tau
            assert_close(expected, made(new_rows(9)).values[:, c].double(), atol=1e-9)
        assert tau != 1.0 or made.weight.norm(dim=0).tolist() == pytest.approx([1, 1, 1])

    def test_lws_scales_classes_of_softmax(self, blobs: TrainOf, fitted: Fit) -> None:
        """Weights and biases of a class are softmax's times one number, which differs between classes."""
        train = blobs([30, 12, 5])
        plain, made = (fit_classifier(each, train) for each in (Softmax(l2=L2), LearnableScales(l2=L2)))
        scales = (made.weight * plain.weight).sum(dim=0) / (plain.weight**2).sum(dim=0)
        assert_close(plain.weight * scales, made.weight, atol=1e-5)
        assert_close(plain.bias * scales, made.bias, atol=1e-5)
        assert len({round(float(scale), 3) for scale in scales}) == 3


def naive(part: Any, recipe: Recipe, layer: Any, train: ltbench.Train) -> Tensor:
    """Train as an author would, by autograd and torch's optimizers, on ltbench's batches; return scores of new rows."""
    first, *others = parameters = [each.clone().requires_grad_() for each in layer.start(train)]
    groups = [{"params": [first], "weight_decay": part.l2}, {"params": others, "weight_decay": 0.0}]
    if recipe.optimizer == "momentum":
        optimizer: Any = torch.optim.SGD(groups, lr=recipe.rate, momentum=recipe.momentum)
    else:
        optimizer = torch.optim.AdamW(groups, lr=recipe.rate, betas=(recipe.momentum, 0.999))
    orders = [epoch_order(train, recipe, epoch).split(recipe.batch) for epoch in range(recipe.epochs)]
    steps = [rows for order in orders for rows in order]
    counts = train.class_counts.float()
    for number, rows in enumerate(steps):
        logits = _logits(layer, parameters, train.x[rows])
        weights, progress = torch.ones(len(rows)), number / len(steps)
        batch = ltbench.Batch(
            logits, train.targets[rows], weights, train.x[rows], counts, counts, counts / counts.sum(), rows < 0, progress
        )
        for group in optimizer.param_groups:
            group["lr"] = 0.5 * recipe.rate * (1 + math.cos(math.pi * progress))
        optimizer.zero_grad()
        part.loss(batch)[0].mean().backward()
        optimizer.step()
    return _logits(layer, parameters, new_rows(40)).detach()


def _logits(layer: Any, parameters: list[Tensor], x: Tensor) -> Tensor:
    """Return logits that autograd can differentiate."""
    if isinstance(layer, Scales):
        return parameters[0] * (x @ layer.head.weight.float() + layer.head.bias.float())
    if len(parameters) == 1:
        return normalize(x, dim=1) @ normalize(parameters[0], dim=1).T
    return x @ parameters[0].T + parameters[1]


@pytest.mark.parametrize("name", RECIPE)
def test_recipes_are_what_autograd_and_torchs_optimizers_do(blobs: TrainOf, name: str) -> None:
    """By the same batches, a plain loop ends at the same scores: cRT's stage, LWS's, margins deferred and not."""
    train, classifier = blobs([400, 200, 40]), RECIPE[name]
    base = getattr(classifier, "base", None)
    layer = LAYERS[getattr(classifier, "layer", "linear")] if base is None else Scales(fit_classifier(base, train))
    part = classifier if base is None else dataclasses.replace(base, l2=1e-12)  # scales are not held down
    recipe = RECIPES[classifier.solver if base is None else classifier.recipe]
    expected = getattr(classifier, "scale", 1.0) * naive(part, recipe, layer, train)
    assert_close(expected, fit_classifier(classifier, train)(new_rows(40)).values, atol=2e-3)


class TestPriorCorrection:
    """Balanced softmax and logit adjustment."""

    @pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0])
    def test_the_loss_is_the_formulas(self, blobs: TrainOf, probabilities: Scores, tau: float) -> None:
        """The head is the one that autograd finds for CE(z + τ·log n), log n by a loop."""
        train = blobs([30, 12, 5])
        shift = torch.tensor([tau * float(np.log(n)) for n in (30, 12, 5)])

        def formula(batch: ltbench.Batch) -> Tensor:
            return cross_entropy(batch.logits + shift.to(batch.logits.dtype), batch.targets, reduction="none")

        expected = ltbench.fit_linear(train, formula, L2, tolerance=1e-10)(new_rows(40)).values.double().softmax(dim=1)
        assert_close(expected, probabilities(LogitAdjustment(l2=L2, tau=tau), train))

    @pytest.mark.parametrize("mode", ["loss", "post-hoc"])
    def test_tau_zero_is_softmax(self, blobs: TrainOf, scores: Scores, mode: Any) -> None:
        """Without τ there is no correction in either mode."""
        train = blobs([30, 12, 5])
        assert_close(scores(Softmax(l2=L2), train), scores(LogitAdjustment(l2=L2, tau=0.0, mode=mode), train), atol=1e-9)

    def test_loss_mode_at_tau_one_is_balanced_softmax(self, blobs: TrainOf, scores: Scores) -> None:
        """At τ = 1 the two methods are one."""
        train = blobs([30, 12, 5])
        assert_close(scores(BalancedSoftmax(l2=L2), train), scores(LogitAdjustment(l2=L2, tau=1.0), train), atol=1e-9)

    @pytest.mark.parametrize("tau", [0.5, 1.0, 3.0])
    def test_post_hoc_takes_the_prior_off_softmax(self, blobs: TrainOf, scores: Scores, tau: float) -> None:
        """Logits are those of softmax less τ·log π."""
        train = blobs([30, 12, 5])
        offset = [tau * float(np.log(n / 47)) for n in (30, 12, 5)]
        expected = scores(Softmax(l2=L2), train) - torch.tensor(offset, dtype=torch.float64)
        assert_close(expected, scores(LogitAdjustment(l2=L2, tau=tau, mode="post-hoc"), train), atol=1e-5)

    @pytest.mark.parametrize(
        "name", ["balanced-softmax", "logit-adjustment, loss", "logit-adjustment, post-hoc", "class-balanced"]
    )
    def test_balanced_counts_need_no_correction(self, blobs: TrainOf, probabilities: Scores, name: str) -> None:
        """With equal counts every correction gives softmax's probabilities."""
        train = blobs([9, 9, 9])
        assert_close(probabilities(Softmax(l2=L2), train), probabilities(EXACT[name], train))

    @pytest.mark.parametrize("name", ["balanced-softmax", "logit-adjustment, loss", "logit-adjustment, post-hoc"])
    def test_corrections_favour_the_tail(self, blobs: TrainOf, probabilities: Scores, name: str) -> None:
        """On long-tailed rows the rarest class is given more probability than softmax gives it."""
        train = blobs([60, 12, 3])
        plain, corrected = probabilities(Softmax(l2=L2), train), probabilities(EXACT[name], train)
        assert corrected[:, 2].mean().item() > plain[:, 2].mean().item() + 0.02

    @pytest.mark.parametrize("name", ["balanced-softmax", "logit-adjustment, loss", "logit-adjustment, post-hoc"])
    def test_effective_counts_correct_generated_rows_once(self, oversampled: TrainOf, probabilities: Scores, name: str) -> None:
        """On rows that a generator has balanced, effective counts leave nothing to correct: the head is softmax's."""
        train = oversampled(DIVIDING, "effective")
        assert_close(probabilities(Softmax(l2=L2), train), probabilities(EXACT[name], train))

    def test_real_counts_correct_generated_rows_twice(
        self, oversampled: TrainOf, scores: Scores, probabilities: Scores
    ) -> None:
        """With real counts on balanced rows the loss is CE(z + log n) of the real n, and post-hoc takes log π off."""
        train = oversampled(DIVIDING, "real")
        assert train.class_counts.tolist() == [12.0, 6.0, 4.0, 3.0, 1.0]
        log_counts = torch.tensor(DIVIDING).double().log()

        def formula(batch: ltbench.Batch) -> Tensor:
            return cross_entropy(batch.logits + log_counts.to(batch.logits.dtype), batch.targets, reduction="none")

        twice = ltbench.fit_linear(train, formula, L2, tolerance=1e-10)(new_rows(40)).values.double().softmax(dim=1)
        assert_close(twice, probabilities(BalancedSoftmax(l2=L2), train))
        plain = scores(Softmax(l2=L2), train)
        assert_close((plain - log_counts).softmax(dim=1), probabilities(LogitAdjustment(l2=L2, mode="post-hoc"), train))
        once = probabilities(BalancedSoftmax(l2=L2), oversampled(DIVIDING, "effective"))
        assert twice[:, 4].mean().item() > once[:, 4].mean().item() + 0.02


def watched(part: Any) -> tuple[Any, list[ltbench.Batch]]:
    """Return a classifier whose loss keeps the batches that it sees, and the list of them."""
    seen: list[ltbench.Batch] = []

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(part, name)

        def loss(self, batch: ltbench.Batch) -> Any:
            seen.append(batch)
            return part.loss(batch)

    return Watched(), seen


@pytest.mark.parametrize("name", [name for name in {**EXACT, **RECIPE} if getattr(HEADS[name], "base", None) is None])
def test_labels_weights_and_marks_reach_every_loss(blobs: TrainOf, name: str) -> None:
    """Each row comes with its soft label, its share of the weights and its mark; with counts of all that is trained on."""
    real = blobs([9, 5, 3])
    soft = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.2, 0.8]])
    train = assemble(real, ltbench.Rows(new_rows(2), soft, weights=torch.tensor([0.5, 2.0])), "effective")
    classifier, seen = watched(HEADS[name])
    fit_classifier(classifier, train)
    weigh = getattr(HEADS[name], "row_weights", lambda train: torch.ones(19))
    weights, met = train.weights * weigh(train), set()
    for batch in seen:
        rows = (batch.x[:, None] == train.x).all(dim=2).nonzero()[:, 1]
        met |= set(rows.tolist())
        assert batch.synthetic.tolist() == (rows >= 17).tolist()
        assert_close(train.targets[rows], batch.targets.double(), 1e-6)
        assert_close(weights[rows] / weights[rows].sum(), batch.weights.double() / batch.weights.double().sum(), 1e-6)
        assert_close(torch.tensor([9.25, 5.65, 4.6]).double(), batch.class_counts, 1e-5)
    assert met == set(range(19))


@pytest.mark.parametrize("name", HEADS)
class TestEveryHead:
    """What holds for every head."""

    def test_one_hot_soft_labels_are_hard_labels(self, blobs: TrainOf, train_of: TrainOf, scores: Scores, name: str) -> None:
        """Labels and their one-hot rows give the same scores."""
        hard = blobs([9, 5, 3])
        soft = train_of(hard.x, one_hot(hard.targets, 3).double(), 3)
        assert_close(scores(HEADS[name], hard), scores(HEADS[name], soft), atol=1e-3)

    def test_soft_labels_matter(self, blobs: TrainOf, train_of: TrainOf, scores: Scores, name: str) -> None:
        """Rows with mixed labels give other scores than rows with the larger label alone."""
        hard = blobs([9, 5, 3])
        mixed = 0.6 * one_hot(hard.targets, 3) + 0.4 * one_hot((hard.targets + 1) % 3, 3)
        soft = train_of(hard.x, mixed.double(), 3)
        assert not torch.allclose(scores(HEADS[name], hard), scores(HEADS[name], soft), atol=1e-2)

    @pytest.mark.parametrize("scale", [1e-3, 255.0])
    def test_an_absent_class_is_never_predicted(self, blobs: TrainOf, train_of: TrainOf, name: str, scale: float) -> None:
        """A class without rows is not predicted, near or far, at any scale of features, and scores are finite."""
        plain = blobs([9, 5, 3])
        labels = torch.tensor([0, 1, 3])[plain.targets]
        head = fit_classifier(HEADS[name], train_of(scale * plain.x, labels, 5))
        for distance in (0.0, 1.0, 100.0):
            values = head(scale * distance * new_rows(60)).values
            assert values.shape == (60, 5)
            assert bool(values.isfinite().all())
            assert set(values.argmax(dim=1).tolist()) <= {0, 1, 3}

    def test_an_absent_class_is_never_predicted_between_tight_classes(
        self, blobs: TrainOf, train_of: TrainOf, name: str
    ) -> None:
        """Nor is it where classes are so tight that every logit of the others is far below zero."""
        plain = blobs([9, 5, 3])
        labels = torch.tensor([0, 1, 3])[plain.targets]
        centres = 10.0 * torch.eye(4)[labels]
        head = fit_classifier(HEADS[name], train_of(centres + 1e-2 * plain.x, labels, 5))
        values = head(new_rows(60, scale=1.0)).values
        assert bool(values.isfinite().all())
        assert set(values.argmax(dim=1).tolist()) <= {0, 1, 3}

    def test_classes_of_one_row_each(self, train_of: TrainOf, name: str) -> None:
        """With one row a class, scores are finite."""
        train = train_of(torch.eye(3, 4), torch.arange(3), 3)
        assert bool(fit_classifier(HEADS[name], train)(new_rows(9)).values.isfinite().all())

    def test_two_classes(self, blobs: TrainOf, name: str) -> None:
        """Two classes get two columns, and rows at the class means are told apart."""
        train = blobs([20, 15], seed=3)
        means = torch.stack([train.x[train.targets == c].mean(dim=0) for c in (0, 1)])
        values = fit_classifier(HEADS[name], train)(means).values
        assert values.shape == (2, 2)
        assert values.argmax(dim=1).tolist() == [0, 1]

    @pytest.mark.parametrize("value", [0.3, -41.7])
    def test_features_that_are_all_equal_stay_finite(self, train_of: TrainOf, name: str, value: float) -> None:
        """Where all rows are equal, their scores are finite and all the same."""
        train = train_of(torch.full((10, 4), value), torch.tensor([0] * 6 + [1] * 3 + [2]), 3)
        values = fit_classifier(HEADS[name], train)(train.x).values
        assert bool(values.isfinite().all())
        assert torch.equal(values[:1].expand_as(values), values)

    def test_rows_are_scored_each_by_itself(self, blobs: TrainOf, scores: Scores, name: str) -> None:
        """A row's scores are the same alone and among others."""
        train, x = blobs([9, 5, 3]), new_rows(6)
        together = scores(HEADS[name], train, x)
        for i in range(6):
            torch.testing.assert_close(together[i : i + 1], scores(HEADS[name], train, x[i : i + 1]), rtol=1e-5, atol=1e-5)

    def test_nothing_given_is_written_to(self, blobs: TrainOf, name: str) -> None:
        """Training rows, scored rows and torch's random state are as before."""
        train, x, state = blobs([9, 5, 3]), new_rows(6), torch.get_rng_state()
        fields = ("x", "targets", "weights", "class_counts", "real_class_counts")
        before = [x.clone(), *(getattr(train, each).clone() for each in fields)]
        fit_classifier(HEADS[name], train)(x)
        for expected, actual in zip(before, [x, *(getattr(train, each) for each in fields)], strict=True):
            assert torch.equal(expected, actual)
        assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name", {**EXACT, **CLOSED})
class TestEveryHeadWithoutDraws:
    """What holds for heads that follow from the rows alone, drawing nothing."""

    def test_weights_are_repetitions(self, blobs: TrainOf, train_of: TrainOf, scores: Scores, name: str) -> None:
        """A row of weight n counts as n rows, class counts included."""
        plain = blobs([9, 5, 3])
        times = torch.tensor([1, 2, 3, 1] * 4 + [2])
        weighted = train_of(plain.x, plain.targets, 3, times)
        repeated = train_of(plain.x.repeat_interleave(times, 0), plain.targets.repeat_interleave(times), 3)
        assert weighted.class_counts.tolist() == repeated.class_counts.tolist()
        assert_close(scores(HEADS[name], repeated), scores(HEADS[name], weighted), atol=1e-3)

    def test_an_absent_class_leaves_the_others_alone(
        self, blobs: TrainOf, train_of: TrainOf, scores: Scores, probabilities: Scores, name: str
    ) -> None:
        """Probabilities among the other classes are those without the absent one."""
        plain = blobs([9, 5, 3])
        labels = torch.tensor([0, 1, 3])[plain.targets]
        with_it = scores(HEADS[name], train_of(plain.x, labels, 4))[:, [0, 1, 3]].softmax(dim=1)
        assert_close(probabilities(HEADS[name], plain), with_it, atol=1e-3)

    def test_a_class_of_one_row_is_learned(self, blobs: TrainOf, train_of: TrainOf, name: str) -> None:
        """A single row away from the others is predicted as its class."""
        many = blobs([9, 5])
        far = torch.tensor([[8.0, -8.0, 8.0, 8.0]])
        train = train_of(torch.cat([many.x, far]), torch.cat([many.targets, torch.tensor([2])]), 3)
        values = fit_classifier(HEADS[name], train)(far).values
        assert values.argmax().item() == 2

    def test_the_order_of_rows_does_not_matter(self, blobs: TrainOf, train_of: TrainOf, scores: Scores, name: str) -> None:
        """Training rows in another order give the same scores."""
        train = blobs([9, 5, 3])
        turned = train_of(train.x.flip(0), train.targets.flip(0), 3)
        assert_close(scores(HEADS[name], train), scores(HEADS[name], turned), atol=1e-3)


@pytest.mark.parametrize("name", [name for name in {**EXACT, **CLOSED} if name not in MIXING])
def test_a_soft_label_is_so_many_weighted_rows(blobs: TrainOf, train_of: TrainOf, scores: Scores, name: str) -> None:
    """A row of soft label s counts as one row of each class c with weight s_c.

    Not so for heads that weigh rows by class: a mixed row has a mixed weight, in every term alike.
    """
    hard = blobs([9, 5, 3])
    mixed = (0.6 * one_hot(hard.targets, 3) + 0.4 * one_hot((hard.targets + 1) % 3, 3)).double()
    soft = train_of(hard.x, mixed, 3)
    split = train_of(hard.x.repeat_interleave(3, 0), torch.arange(3).repeat(17), 3, mixed.flatten())
    assert_close(scores(HEADS[name], split), scores(HEADS[name], soft), atol=1e-3)


EQUAL_FEATURES = {
    "softmax": [0.6, 0.3, 0.1],
    "balanced-softmax": [1 / 3] * 3,
    "logit-adjustment, loss": [p / (0.6**0.3 + 0.3**0.3 + 0.1**0.3) for p in (0.6**0.3, 0.3**0.3, 0.1**0.3)],
    "logit-adjustment, post-hoc": [p / (0.6**0.3 + 0.3**0.3 + 0.1**0.3) for p in (0.6**0.3, 0.3**0.3, 0.1**0.3)],
    "lda": [0.6, 0.3, 0.1],
    "lda, shrunk": [0.6, 0.3, 0.1],
}


@pytest.mark.parametrize("name", EQUAL_FEATURES)
@pytest.mark.parametrize("value", [0.0, 0.3, -41.7])
def test_features_without_information_give_the_prior_that_is_left(
    train_of: TrainOf, probabilities: Scores, name: str, value: float
) -> None:
    """Where all rows are equal, probabilities are π, corrected by π^−τ where the head corrects."""
    train = train_of(torch.full((10, 4), value), torch.tensor([0] * 6 + [1] * 3 + [2]), 3)
    expected = torch.tensor(EQUAL_FEATURES[name], dtype=torch.float64)
    assert_close(expected, probabilities(HEADS[name], train, train.x)[0], atol=1e-3)


def test_every_head_gets_in_company_what_it_gets_alone(blobs: TrainOf) -> None:
    """All heads of two training sets and several penalties fitted together, last first: each one's bits as alone."""
    more = {f"{name}, {l2}": dataclasses.replace(EXACT[name], l2=l2) for name in EXACT for l2 in (1e-1, 1e-3)}
    heads, trains = list({**HEADS, **more}.values()), [blobs([30, 12, 5]), blobs([9, 6, 3], seed=1)]
    tasks = [Task([head], train) for train in trains for head in heads][::-1]
    for number, found in fit_many(tasks, lambda scorer, x: scorer(x)):
        assert isinstance(found, Fitted)
        if (number + number // len(heads)) % 2:  # every head once, on one training set or the other
            alone = fit_classifier(tasks[number].candidates[0], tasks[number].train.replace())
            assert torch.equal(alone(new_rows(9)).values, found.scorer(new_rows(9)).values)
