"""Tests of the classifiers, against scikit-learn, formulas and one another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

import ltbench
from ltbench.execute.setting import assemble
from ltbench.heads import fit_classifier
from ltbench_classifiers.balanced_softmax import BalancedSoftmax
from ltbench_classifiers.class_balanced import ClassBalanced
from ltbench_classifiers.lda import LinearDiscriminant
from ltbench_classifiers.logit_adjustment import LogitAdjustment
from ltbench_classifiers.moments import class_means, memberships
from ltbench_classifiers.ncm import NearestClassMean
from ltbench_classifiers.softmax import Softmax

L2 = 1e-2
TRAINED: dict[str, Callable[[], Any]] = {
    "softmax": lambda: Softmax(l2=L2),
    "class-balanced": lambda: ClassBalanced(l2=L2),
    "balanced-softmax": lambda: BalancedSoftmax(l2=L2),
    "logit-adjustment, loss": lambda: LogitAdjustment(l2=L2, tau=0.7),
    "logit-adjustment, post-hoc": lambda: LogitAdjustment(l2=L2, tau=0.7, mode="post-hoc"),
}
CLOSED: dict[str, Callable[[], Any]] = {
    "ncm": NearestClassMean,
    "ncm, raw": lambda: NearestClassMean(center=False, normalize=False),
    "lda": LinearDiscriminant,
    "lda, shrunk": lambda: LinearDiscriminant(shrinkage=0.3),
}
HEADS = {**TRAINED, **CLOSED}
several_examples = settings(max_examples=20, deadline=None, derandomize=True)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Run on one thread, which small problems are fastest on, and restore the number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def train_of(x: Tensor, targets: Tensor, classes: int, weights: Tensor | None = None) -> ltbench.Train:
    """Return training rows, classes counted by weight in a loop."""
    weights = torch.ones(len(x), dtype=torch.float64) if weights is None else weights.double()
    counts, rows = torch.zeros(classes, dtype=torch.float64), torch.zeros(classes, dtype=torch.float64)
    for target, weight in zip(targets, weights, strict=True):
        share = target.double() if target.ndim else one_hot(target, classes).double()
        counts += weight * share
        rows += share
    return ltbench.Train(x, targets, weights, torch.arange(len(x)), counts, rows, ltbench.Stream.of(0))


def blobs(counts: list[int], width: int = 4, seed: int = 0) -> ltbench.Train:
    """Return overlapping Gaussian classes of these sizes, rows in class order."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    means = 1.5 * torch.randn(len(counts), width, generator=generator)
    return train_of(means[labels] + torch.randn(len(labels), width, generator=generator), labels, len(counts))


def new_rows(count: int, width: int = 4, scale: float = 2.0) -> Tensor:
    """Return rows to score."""
    return scale * torch.randn(count, width, generator=torch.Generator().manual_seed(77))


def fitted(classifier: Any, train: ltbench.Train) -> Any:
    """Fit as ltbench does, but linear heads to a gap of 1e-10."""
    if hasattr(classifier, "fit"):
        return classifier.fit(train)
    weights = classifier.row_weights(train) if hasattr(classifier, "row_weights") else None
    head = ltbench.fit_linear(train, classifier.loss, classifier.l2, weights, tolerance=1e-10)
    return classifier.post_hoc(head, train) if hasattr(classifier, "post_hoc") else head


def scores(classifier: Any, train: ltbench.Train, x: Tensor | None = None) -> Tensor:
    """Return float64 scores of new rows."""
    values: Tensor = fitted(classifier, train)(new_rows(40, train.x.shape[1]) if x is None else x).values
    return values.double()


def probabilities(classifier: Any, train: ltbench.Train, x: Tensor | None = None) -> Tensor:
    """Return the softmax of scores: what scores mean, whatever constant is added to a row's."""
    return scores(classifier, train, x).softmax(dim=1)


def assert_close(expected: Tensor, actual: Tensor, atol: float = 1e-4) -> None:
    """Compare to an absolute tolerance."""
    torch.testing.assert_close(expected, actual.to(expected.dtype), atol=atol, rtol=0)


def oversampled(counts: list[int], prior_source: str = "effective", seed: int = 0) -> ltbench.Train:
    """Return rows repeated evenly up to the largest class, which every count divides."""
    real = blobs(counts, seed=seed)
    times = [max(counts) // n - 1 for n in counts]
    copies = torch.tensor([times[int(label)] for label in real.targets])
    return assemble(
        real, ltbench.Rows(real.x.repeat_interleave(copies, 0), real.targets.repeat_interleave(copies)), prior_source
    )


DIVIDING = [12, 6, 4, 3, 1]
"""Class counts that all divide the largest."""


class TestSoftmax:
    """Plain softmax."""

    def test_probabilities_are_scikit_learns(self) -> None:
        """Probabilities equal those of multinomial logistic regression with C = 1/(λN)."""
        train = blobs([30, 12, 5])
        model = LogisticRegression(C=1 / (L2 * 47), tol=1e-10, max_iter=5000, solver="newton-cg")
        model.fit(train.x.double().numpy(), train.targets.numpy())
        expected = torch.from_numpy(model.predict_proba(new_rows(40).double().numpy()))
        assert_close(expected, probabilities(Softmax(l2=L2), train))

    def test_default_tolerance_is_close(self) -> None:
        """Fitted as a user's run fits it, probabilities are within 0.05 of the optimum's."""
        train = blobs([30, 12, 5])
        quick = fit_classifier(Softmax(l2=L2), train)(new_rows(40)).values.double().softmax(dim=1)
        assert_close(probabilities(Softmax(l2=L2), train), quick, atol=0.05)


class TestClassBalanced:
    """Weights by the effective number of samples."""

    @several_examples
    @given(st.lists(st.integers(1, 9), min_size=2, max_size=4), st.sampled_from([0.0, 0.5, 0.9, 0.9999]))
    def test_weights_are_the_formulas(self, counts: list[int], beta: float) -> None:
        """Each row weighs 1 / (1 + β + … + β^(n−1)), n its class's count: the formula, summed by a loop."""
        train = blobs(counts)
        expected = [1 / sum(beta**i for i in range(counts[label])) for label in train.targets.tolist()]
        assert ClassBalanced(beta=beta).row_weights(train).tolist() == pytest.approx(expected, rel=1e-9)

    def test_soft_labels_mix_the_classes_weights(self) -> None:
        """A row of soft label s weighs Σ_c s_c w_c."""
        soft = torch.tensor([[1.0, 0.0], [0.25, 0.75], [0.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
        train = train_of(torch.zeros(4, 2), soft, 2)
        each = [(1 - 0.9) / (1 - 0.9**n) for n in (1.25, 2.75)]
        expected = [each[0], 0.25 * each[0] + 0.75 * each[1], each[1], each[1]]
        assert ClassBalanced(beta=0.9).row_weights(train).tolist() == pytest.approx(expected)

    def test_absent_classes_do_not_disturb(self) -> None:
        """Weights are finite with an absent class, and the others' are as without it."""
        three, two = blobs([6, 0, 3]), blobs([6, 3])
        assert ClassBalanced(beta=0.9).row_weights(three).tolist() == ClassBalanced(beta=0.9).row_weights(two).tolist()

    def test_beta_zero_is_softmax(self) -> None:
        """Without β all rows weigh one."""
        train = blobs(DIVIDING)
        assert_close(scores(Softmax(l2=L2), train), scores(ClassBalanced(l2=L2, beta=0.0), train))

    def test_beta_near_one_is_inverse_counts(self) -> None:
        """As β goes to one the head goes to that of weights 1/n_c."""
        train = blobs(DIVIDING)
        head = ltbench.fit_linear(train, Softmax().loss, L2, (1 / train.class_counts)[train.targets], tolerance=1e-10)
        assert_close(head(new_rows(40)).values.double(), scores(ClassBalanced(l2=L2, beta=1 - 1e-7), train), atol=1e-3)

    @pytest.mark.parametrize("seed", [0, 1])
    def test_oversampling_to_the_maximum_has_the_optimum_of_balanced_weights(self, seed: int) -> None:
        """Rows repeated until all classes are as large as the largest give the head of row weights 1/n_c."""
        train = blobs(DIVIDING, seed=seed)
        weighted = ltbench.fit_linear(train, Softmax().loss, L2, (1 / train.class_counts)[train.targets], tolerance=1e-10)
        repeated = oversampled(DIVIDING, seed=seed)
        assert repeated.class_counts.tolist() == [12.0] * 5
        assert_close(weighted(new_rows(40)).values.double(), scores(Softmax(l2=L2), repeated), atol=1e-3)
        assert not torch.allclose(weighted(new_rows(40)).values.double(), scores(Softmax(l2=L2), train), atol=0.1)


class TestPriorCorrection:
    """Balanced softmax and logit adjustment."""

    @pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0])
    def test_the_loss_is_the_formulas(self, tau: float) -> None:
        """The head is the one that autograd finds for CE(z + τ·log n), log n by a loop."""
        train = blobs([30, 12, 5])
        shift = torch.tensor([tau * float(np.log(n)) for n in (30, 12, 5)])

        def formula(batch: ltbench.Batch) -> Tensor:
            return cross_entropy(batch.logits + shift.to(batch.logits.dtype), batch.targets, reduction="none")

        expected = ltbench.fit_linear(train, formula, L2, tolerance=1e-10)(new_rows(40)).values.double().softmax(dim=1)
        assert_close(expected, probabilities(LogitAdjustment(l2=L2, tau=tau), train))

    @pytest.mark.parametrize("mode", ["loss", "post-hoc"])
    def test_tau_zero_is_softmax(self, mode: Any) -> None:
        """Without τ there is no correction in either mode."""
        train = blobs([30, 12, 5])
        assert_close(scores(Softmax(l2=L2), train), scores(LogitAdjustment(l2=L2, tau=0.0, mode=mode), train), atol=1e-9)

    def test_loss_mode_at_tau_one_is_balanced_softmax(self) -> None:
        """At τ = 1 the two methods are one."""
        train = blobs([30, 12, 5])
        assert_close(scores(BalancedSoftmax(l2=L2), train), scores(LogitAdjustment(l2=L2, tau=1.0), train), atol=1e-9)

    @pytest.mark.parametrize("tau", [0.5, 1.0, 3.0])
    def test_post_hoc_takes_the_prior_off_softmax(self, tau: float) -> None:
        """Logits are those of softmax less τ·log π."""
        train = blobs([30, 12, 5])
        offset = [tau * float(np.log(n / 47)) for n in (30, 12, 5)]
        expected = scores(Softmax(l2=L2), train) - torch.tensor(offset, dtype=torch.float64)
        assert_close(expected, scores(LogitAdjustment(l2=L2, tau=tau, mode="post-hoc"), train), atol=1e-5)

    @pytest.mark.parametrize(
        "name", ["balanced-softmax", "logit-adjustment, loss", "logit-adjustment, post-hoc", "class-balanced"]
    )
    def test_balanced_counts_need_no_correction(self, name: str) -> None:
        """With equal counts every correction gives softmax's probabilities."""
        train = blobs([9, 9, 9])
        assert_close(probabilities(Softmax(l2=L2), train), probabilities(TRAINED[name](), train))

    @pytest.mark.parametrize("name", ["balanced-softmax", "logit-adjustment, loss", "logit-adjustment, post-hoc"])
    def test_corrections_favour_the_tail(self, name: str) -> None:
        """On long-tailed rows the rarest class is given more probability than softmax gives it."""
        train = blobs([60, 12, 3])
        plain, corrected = probabilities(Softmax(l2=L2), train), probabilities(TRAINED[name](), train)
        assert corrected[:, 2].mean().item() > plain[:, 2].mean().item() + 0.02

    @pytest.mark.parametrize("name", ["balanced-softmax", "logit-adjustment, loss", "logit-adjustment, post-hoc"])
    def test_effective_counts_correct_generated_rows_once(self, name: str) -> None:
        """On rows that a generator has balanced, effective counts leave nothing to correct: the head is softmax's."""
        train = oversampled(DIVIDING, "effective")
        assert_close(probabilities(Softmax(l2=L2), train), probabilities(TRAINED[name](), train))

    def test_real_counts_correct_generated_rows_twice(self) -> None:
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


class TestLinearDiscriminant:
    """LDA against scikit-learn's lsqr solver."""

    @pytest.mark.parametrize("shrinkage", [0.0, 0.01, 0.3, 1.0])
    @pytest.mark.parametrize(("counts", "width"), [([30, 12, 5], 4), ([9, 2, 2, 8], 3), ([5, 6, 4], 6)])
    def test_logits_and_probabilities_are_scikit_learns(self, counts: list[int], width: int, shrinkage: float) -> None:
        """Decision values and probabilities equal LinearDiscriminantAnalysis(solver='lsqr')."""
        train, new = blobs(counts, width), new_rows(40, width)
        theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)
        theirs.fit(train.x.double().numpy(), train.targets.numpy())
        x = new.double().numpy()
        ours = LinearDiscriminant(shrinkage=shrinkage)
        torch.testing.assert_close(
            torch.from_numpy(theirs.decision_function(x)), scores(ours, train, new), rtol=1e-8, atol=1e-8
        )
        assert_close(torch.from_numpy(theirs.predict_proba(x)), probabilities(ours, train, new), atol=1e-9)

    @pytest.mark.parametrize("shrinkage", [0.0, 0.5])
    def test_two_classes_have_scikit_learns_probabilities(self, shrinkage: float) -> None:
        """Scikit-learn folds two classes into one decision value; the probabilities are the same."""
        train, new = blobs([20, 7]), new_rows(40)
        theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)
        theirs.fit(train.x.double().numpy(), train.targets.numpy())
        expected = torch.from_numpy(theirs.predict_proba(new.double().numpy()))
        assert_close(expected, probabilities(LinearDiscriminant(shrinkage=shrinkage), train), atol=1e-9)

    @pytest.mark.parametrize("offset", [0.0, 0.3, -41.7, 1000.7])
    @pytest.mark.parametrize("place", [0, 3])
    def test_a_constant_feature_says_nothing(self, offset: float, place: int) -> None:
        """A feature without spread is left out: scores are scikit-learn's on the other features."""
        plain = blobs([30, 12, 5], 3)
        new = new_rows(40, 3)

        def widened(x: Tensor) -> Tensor:
            constant = torch.full((len(x), 1), offset)
            return torch.cat([x[:, :place], constant, x[:, place:]], dim=1)

        theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.0)
        theirs.fit(plain.x.double().numpy(), plain.targets.numpy())
        expected = torch.from_numpy(theirs.predict_proba(new.double().numpy()))
        train = train_of(widened(plain.x), plain.targets, 3)
        assert_close(expected, probabilities(LinearDiscriminant(), train, widened(new)), atol=1e-6)

    def test_fewer_rows_than_features_stay_finite(self) -> None:
        """A singular covariance is inverted where it has spread."""
        train = blobs([4, 3, 2], 30)
        values = scores(LinearDiscriminant(), train)
        assert bool(values.isfinite().all())
        assert float(values.abs().max()) < 1e6

    def test_far_from_the_origin_rounding_stays_small(self) -> None:
        """Features shifted by 1,000 give the probabilities of features that are not."""
        train, new = blobs([30, 12, 5]), new_rows(40)
        shifted = train_of(train.x.double() + 1000, train.targets, 3)
        expected = probabilities(LinearDiscriminant(), train, new)
        assert_close(expected, probabilities(LinearDiscriminant(), shifted, new.double() + 1000), atol=1e-5)


class TestNearestClassMean:
    """NCM against scikit-learn's NearestCentroid and a loop."""

    @pytest.mark.parametrize("center", [True, False])
    @pytest.mark.parametrize("normalize", [True, False])
    def test_predictions_are_scikit_learns(self, center: bool, normalize: bool) -> None:
        """On centred rows of unit length the predicted class is NearestCentroid's, and scores are −‖f(x) − m_c‖²."""
        train, new = blobs([30, 12, 5]), new_rows(60)
        x, z = train.x.double().numpy(), new.double().numpy()
        origin = x.mean(0) if center else np.zeros(4)
        f = [(rows - origin) / (np.linalg.norm(rows - origin, axis=1, keepdims=True) if normalize else 1.0) for rows in (x, z)]
        theirs = NearestCentroid().fit(f[0], train.targets.numpy())
        ours = scores(NearestClassMean(center=center, normalize=normalize), train, new)
        assert ours.argmax(dim=1).tolist() == theirs.predict(f[1]).tolist()
        expected = [[-float(((row - mean) ** 2).sum()) for mean in theirs.centroids_] for row in f[1]]
        assert_close(torch.tensor(expected, dtype=torch.float64), ours, atol=1e-9)

    def test_defaults_center_and_normalize(self) -> None:
        """Both steps are on by default, and scores are no probabilities."""
        assert NearestClassMean() == NearestClassMean(center=True, normalize=True)
        assert fitted(NearestClassMean(), blobs([3, 2]))(new_rows(2)).kind == "scores"


class TestMoments:
    """Weighted class means."""

    @several_examples
    @given(st.integers(0, 99), st.booleans())
    def test_means_are_those_of_a_loop(self, seed: int, soft: bool) -> None:
        """Each class's mean weighs rows by weight times label; an absent class's is zero."""
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(9, 2, generator=generator).double()
        labels = torch.randint(3, (9,), generator=generator)
        targets = one_hot(labels, 4).double()
        targets = 0.5 * targets + 0.5 * targets.roll(1, 0) if soft else targets
        weights = torch.rand(9, generator=generator).double() + 0.1
        train = train_of(x, targets if soft else labels, 4, weights)
        means = class_means(x, memberships(train))
        for c in range(4):
            total = sum(float(weights[i] * targets[i, c]) for i in range(9))
            for d in range(2):
                summed = sum(float(weights[i] * targets[i, c] * x[i, d]) for i in range(9))
                assert means[c, d].item() == pytest.approx(summed / total if total else 0.0, abs=1e-12)


@pytest.mark.parametrize("name", HEADS)
class TestEveryHead:
    """What holds for every head."""

    def test_one_hot_soft_labels_are_hard_labels(self, name: str) -> None:
        """Labels and their one-hot rows give the same scores."""
        hard = blobs([9, 5, 3])
        soft = train_of(hard.x, one_hot(hard.targets, 3).double(), 3)
        assert_close(scores(HEADS[name](), hard), scores(HEADS[name](), soft), atol=1e-3)

    def test_soft_labels_matter(self, name: str) -> None:
        """Rows with mixed labels give other scores than rows with the larger label alone."""
        hard = blobs([9, 5, 3])
        mixed = 0.6 * one_hot(hard.targets, 3) + 0.4 * one_hot((hard.targets + 1) % 3, 3)
        soft = train_of(hard.x, mixed.double(), 3)
        assert not torch.allclose(scores(HEADS[name](), hard), scores(HEADS[name](), soft), atol=1e-2)

    def test_weights_are_repetitions(self, name: str) -> None:
        """A row of weight n counts as n rows, class counts included."""
        plain = blobs([9, 5, 3])
        times = torch.tensor([1, 2, 3, 1] * 4 + [2])
        weighted = train_of(plain.x, plain.targets, 3, times)
        repeated = train_of(plain.x.repeat_interleave(times, 0), plain.targets.repeat_interleave(times), 3)
        assert weighted.class_counts.tolist() == repeated.class_counts.tolist()
        assert_close(scores(HEADS[name](), repeated), scores(HEADS[name](), weighted), atol=1e-3)

    @pytest.mark.parametrize("scale", [1e-3, 1.0, 255.0])
    @pytest.mark.parametrize("distance", [0.0, 1.0, 100.0])
    def test_an_absent_class_is_never_predicted(self, name: str, scale: float, distance: float) -> None:
        """A class without rows is not predicted, near or far, at any scale of features, and scores are finite."""
        plain = blobs([9, 5, 3])
        labels = torch.tensor([0, 1, 3])[plain.targets]
        values = fit_classifier(HEADS[name](), train_of(scale * plain.x, labels, 5))(scale * distance * new_rows(60)).values
        assert values.shape == (60, 5)
        assert bool(values.isfinite().all())
        assert set(values.argmax(dim=1).tolist()) <= {0, 1, 3}

    def test_an_absent_class_is_never_predicted_between_tight_classes(self, name: str) -> None:
        """Nor is it where classes are so tight that every logit of the others is far below zero."""
        plain = blobs([9, 5, 3])
        labels = torch.tensor([0, 1, 3])[plain.targets]
        centres = 10.0 * torch.eye(4)[labels]
        head = fit_classifier(HEADS[name](), train_of(centres + 1e-2 * plain.x, labels, 5))
        values = head(new_rows(60, scale=1.0)).values
        assert bool(values.isfinite().all())
        assert set(values.argmax(dim=1).tolist()) <= {0, 1, 3}

    def test_an_absent_class_leaves_the_others_alone(self, name: str) -> None:
        """Probabilities among the other classes are those without the absent one."""
        plain = blobs([9, 5, 3])
        labels = torch.tensor([0, 1, 3])[plain.targets]
        with_it = scores(HEADS[name](), train_of(plain.x, labels, 4))[:, [0, 1, 3]].softmax(dim=1)
        assert_close(probabilities(HEADS[name](), plain), with_it, atol=1e-3)

    def test_a_class_of_one_row_is_learned(self, name: str) -> None:
        """A single row away from the others is predicted as its class."""
        many = blobs([9, 5])
        far = torch.tensor([[8.0, -8.0, 8.0, 8.0]])
        train = train_of(torch.cat([many.x, far]), torch.cat([many.targets, torch.tensor([2])]), 3)
        values = fit_classifier(HEADS[name](), train)(far).values
        assert values.argmax().item() == 2

    def test_classes_of_one_row_each(self, name: str) -> None:
        """With one row a class, scores are finite."""
        train = train_of(torch.eye(3, 4), torch.arange(3), 3)
        assert bool(fit_classifier(HEADS[name](), train)(new_rows(9)).values.isfinite().all())

    def test_two_classes(self, name: str) -> None:
        """Two classes get two columns, and rows at the class means are told apart."""
        train = blobs([20, 15], seed=3)
        means = torch.stack([train.x[train.targets == c].mean(dim=0) for c in (0, 1)])
        values = fit_classifier(HEADS[name](), train)(means).values
        assert values.shape == (2, 2)
        assert values.argmax(dim=1).tolist() == [0, 1]

    @pytest.mark.parametrize("value", [0.0, 0.3, -41.7])
    def test_features_that_are_all_equal_stay_finite(self, name: str, value: float) -> None:
        """Where all rows are equal, their scores are finite and all the same."""
        train = train_of(torch.full((10, 4), value), torch.tensor([0] * 6 + [1] * 3 + [2]), 3)
        values = fit_classifier(HEADS[name](), train)(train.x).values
        assert bool(values.isfinite().all())
        assert torch.equal(values[:1].expand_as(values), values)

    def test_rows_are_scored_each_by_itself(self, name: str) -> None:
        """A row's scores are the same alone and among others."""
        head, x = fitted(HEADS[name](), blobs([9, 5, 3])), new_rows(6)
        together = head(x).values
        for i in range(6):
            torch.testing.assert_close(together[i : i + 1], head(x[i : i + 1]).values)

    def test_the_order_of_rows_does_not_matter(self, name: str) -> None:
        """Training rows in another order give the same scores."""
        train = blobs([9, 5, 3])
        turned = train_of(train.x.flip(0), train.targets.flip(0), 3)
        assert_close(scores(HEADS[name](), train), scores(HEADS[name](), turned), atol=1e-3)

    def test_nothing_given_is_written_to(self, name: str) -> None:
        """Training rows, scored rows and torch's random state are as before."""
        train, x, state = blobs([9, 5, 3]), new_rows(6), torch.get_rng_state()
        fields = ("x", "targets", "weights", "class_counts", "real_class_counts")
        before = [x.clone(), *(getattr(train, each).clone() for each in fields)]
        fit_classifier(HEADS[name](), train)(x)
        for expected, actual in zip(before, [x, *(getattr(train, each) for each in fields)], strict=True):
            assert torch.equal(expected, actual)
        assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name", [name for name in HEADS if name != "class-balanced"])
def test_a_soft_label_is_so_many_weighted_rows(name: str) -> None:
    """A row of soft label s counts as one row of each class c with weight s_c.

    Not so for class-balanced, which weighs a mixed row by its mixed weight, in every term alike.
    """
    hard = blobs([9, 5, 3])
    mixed = (0.6 * one_hot(hard.targets, 3) + 0.4 * one_hot((hard.targets + 1) % 3, 3)).double()
    soft = train_of(hard.x, mixed, 3)
    split = train_of(hard.x.repeat_interleave(3, 0), torch.arange(3).repeat(17), 3, mixed.flatten())
    assert_close(scores(HEADS[name](), split), scores(HEADS[name](), soft), atol=1e-3)


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
def test_features_without_information_give_the_prior_that_is_left(name: str, value: float) -> None:
    """Where all rows are equal, probabilities are π, corrected by π^−τ where the head corrects."""
    train = train_of(torch.full((10, 4), value), torch.tensor([0] * 6 + [1] * 3 + [2]), 3)
    expected = torch.tensor(EQUAL_FEATURES[name], dtype=torch.float64)
    assert_close(expected, probabilities(HEADS[name](), train, train.x)[0], atol=1e-3)
