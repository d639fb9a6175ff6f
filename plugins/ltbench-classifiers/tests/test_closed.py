"""Tests of heads in closed form, and of neighbours, against scikit-learn and formulas that form every matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.linear_model import RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from torch import Tensor
from torch.nn.functional import normalize, one_hot

import ltbench
from ltbench_classifiers.gda import GaussianDiscriminant
from ltbench_classifiers.knn import NearestNeighbours
from ltbench_classifiers.lda import LinearDiscriminant
from ltbench_classifiers.moments import moments_of
from ltbench_classifiers.ncm import NearestClassMean
from ltbench_classifiers.ridge import Ridge

TrainOf = Callable[..., ltbench.Train]
several_examples = settings(max_examples=15, deadline=None, derandomize=True)


def new_rows(count: int, width: int = 4) -> Tensor:
    """Return rows to score."""
    return 2.0 * torch.randn(count, width, generator=torch.Generator().manual_seed(77))


def scores(classifier: Any, train: ltbench.Train, x: Tensor) -> Tensor:
    """Return float64 scores."""
    values: Tensor = classifier.fit(train)(x).values
    return values.double()


def close(expected: Any, actual: Tensor, rtol: float = 1e-8) -> None:
    """Compare relative to the largest number."""
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(expected, actual, rtol=0, atol=rtol * max(1.0, float(expected.abs().max())))


def contrasts(logits: Any) -> Tensor:
    """Return logits less their mean in each row: what a head says of its classes, whatever it adds to all of them."""
    values = torch.as_tensor(logits, dtype=torch.float64)
    return values - values.mean(dim=1, keepdim=True)


def scatter_within(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return Σ (x_i − μ_y)(x_i − μ_y)ᵀ by a loop over classes."""
    return sum((x[labels == c] - x[labels == c].mean(0)).T @ (x[labels == c] - x[labels == c].mean(0)) for c in set(labels))


SIZES = [([30, 12, 5], 4), ([9, 2, 2, 8], 3), ([5, 6, 4], 6), ([5, 6, 4], 15), ([6, 5, 3], 40), ([1, 4, 2], 90)]
"""Class counts and features: more rows than features, as many, and fewer."""


class TestLinearDiscriminant:
    """LDA against scikit-learn's lsqr solver."""

    @pytest.mark.parametrize("shrinkage", [0.0, 0.01, 0.3, 1.0])
    @pytest.mark.parametrize(("counts", "width"), SIZES[:4])
    def test_logits_and_probabilities_are_scikit_learns(
        self, blobs: TrainOf, counts: list[int], width: int, shrinkage: float
    ) -> None:
        """Probabilities, and decision values but for what is common to all classes, are those of solver='lsqr'."""
        train, new = blobs(counts, width), new_rows(40, width)
        theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)
        theirs.fit(train.x.double().numpy(), train.targets.numpy())
        actual = scores(LinearDiscriminant(shrinkage=shrinkage), train, new)
        close(contrasts(theirs.decision_function(new.double().numpy())), contrasts(actual), 1e-7)
        close(theirs.predict_proba(new.double().numpy()), actual.softmax(dim=1), 1e-7)

    @pytest.mark.parametrize("shrinkage", [0.0, 0.5])
    def test_two_classes_have_scikit_learns_probabilities(self, blobs: TrainOf, shrinkage: float) -> None:
        """Scikit-learn folds two classes into one decision value; the probabilities are the same."""
        train, new = blobs([20, 7]), new_rows(40)
        theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)
        theirs.fit(train.x.double().numpy(), train.targets.numpy())
        expected = theirs.predict_proba(new.double().numpy())
        close(expected, scores(LinearDiscriminant(shrinkage=shrinkage), train, new).softmax(dim=1), 1e-9)

    @pytest.mark.parametrize("offset", [0.0, 0.3, -41.7, 1000.7])
    @pytest.mark.parametrize("place", [0, 3])
    def test_a_constant_feature_says_nothing(self, blobs: TrainOf, train_of: TrainOf, offset: float, place: int) -> None:
        """A feature without spread is left out: scores are scikit-learn's on the other features."""
        plain, new = blobs([30, 12, 5], 3), new_rows(40, 3)

        def widened(x: Tensor) -> Tensor:
            constant = torch.full((len(x), 1), offset)
            return torch.cat([x[:, :place], constant, x[:, place:]], dim=1)

        theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.0)
        theirs.fit(plain.x.double().numpy(), plain.targets.numpy())
        train = train_of(widened(plain.x), plain.targets, 3)
        actual = scores(LinearDiscriminant(), train, widened(new)).softmax(dim=1)
        close(theirs.predict_proba(new.double().numpy()), actual, 1e-6)

    @pytest.mark.parametrize("shrinkage", [0.0, 0.01, 0.3, 1.0])
    @pytest.mark.parametrize(("counts", "width"), SIZES)
    def test_fewer_rows_than_features_have_the_direct_formulas_answer(
        self, blobs: TrainOf, counts: list[int], width: int, shrinkage: float
    ) -> None:
        """Solved in the span of the rows, logits are those of the whole covariance's pseudo-inverse."""
        train, new = blobs(counts, width), new_rows(40, width)
        x, labels = train.x.double().numpy(), train.targets.numpy()
        covariance = scatter_within(x, labels) / len(x)
        covariance = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / width * np.eye(width)
        means = np.stack([x[labels == c].mean(0) for c in range(len(counts))])
        weight = np.linalg.pinv(covariance, rcond=1e-12, hermitian=True) @ means.T
        bias = -0.5 * (means.T * weight).sum(0) + np.log(np.array(counts) / sum(counts))
        expected = new.double().numpy() @ weight + bias
        close(contrasts(expected), contrasts(scores(LinearDiscriminant(shrinkage=shrinkage), train, new)), 1e-7)

    def test_far_from_the_origin_rounding_stays_small(self, blobs: TrainOf, train_of: TrainOf) -> None:
        """Features shifted by 1,000 give the probabilities of features that are not."""
        train, new = blobs([30, 12, 5]), new_rows(40)
        shifted = train_of(train.x.double() + 1000, train.targets, 3)
        expected = scores(LinearDiscriminant(), train, new).softmax(dim=1)
        close(expected, scores(LinearDiscriminant(), shifted, new.double() + 1000).softmax(dim=1), 1e-5)


class TestGaussianDiscriminant:
    """GDA against the paper's formula, with every matrix formed."""

    @pytest.mark.parametrize(("counts", "width"), SIZES)
    def test_logits_are_the_formulas(self, blobs: TrainOf, counts: list[int], width: int) -> None:
        """W = Σ⁻¹μ and b = −½ μᵀΣ⁻¹μ, Σ⁻¹ = D((N−1)Σ̂ + tr(Σ̂)I)⁻¹, also where rows are fewer than features."""
        train, new = blobs(counts, width), new_rows(40, width)
        x, labels = train.x.double().numpy(), train.targets.numpy()
        scatter = scatter_within(x, labels)
        precision = width * np.linalg.inv(scatter + np.trace(scatter) / (len(x) - 1) * np.eye(width))
        means = np.stack([x[labels == c].mean(0) for c in range(len(counts))])
        bias = [-0.5 * mean @ precision @ mean for mean in means]
        expected = new.double().numpy() @ precision @ means.T + bias
        close(contrasts(expected), contrasts(scores(GaussianDiscriminant(), train, new)), 1e-8)

    def test_alpha_adds_zero_shot_logits(self, blobs: TrainOf) -> None:
        """With α, scores are 100·cos(x, t_c) + α · logits."""
        train, new, text = blobs([9, 5, 3]), new_rows(8), new_rows(3)
        expected = 100 * normalize(new.double(), dim=1) @ normalize(text.double(), dim=1).T
        expected = expected + 0.3 * scores(GaussianDiscriminant(), train, new)
        close(expected, scores(GaussianDiscriminant(alpha=0.3), train.replace(text=text), new))

    def test_alpha_without_text_is_skipped(self, blobs: TrainOf) -> None:
        """A cell without class-text vectors is no failure."""
        with pytest.raises(ltbench.SkipCell, match="class-text"):
            GaussianDiscriminant(alpha=0.3).fit(blobs([9, 5, 3]))

    def test_features_without_spread_decide_nothing(self, train_of: TrainOf) -> None:
        """Where all rows are equal, all logits are zero."""
        train = train_of(torch.full((10, 4), -41.7), torch.tensor([0] * 6 + [1] * 3 + [2]), 3)
        assert scores(GaussianDiscriminant(), train, new_rows(5)).abs().max().item() == 0.0


class TestRidge:
    """Least squares against scikit-learn."""

    @pytest.mark.parametrize("l2", [1e-4, 1e-2, 10.0])
    @pytest.mark.parametrize(("counts", "width"), SIZES)
    def test_scores_are_scikit_learns(self, blobs: TrainOf, counts: list[int], width: int, l2: float) -> None:
        """Scores are those of Ridge on one-hot labels with α = λN, and predictions those of RidgeClassifier."""
        train, new = blobs(counts, width), new_rows(40, width)
        x, z, alpha = train.x.double().numpy(), new.double().numpy(), l2 * len(train.x)
        theirs = SklearnRidge(alpha=alpha, solver="cholesky").fit(x, one_hot(train.targets).double().numpy())
        actual = scores(Ridge(l2=l2), train, new)
        close(theirs.predict(z), actual, 1e-8)
        classifier = RidgeClassifier(alpha=alpha, solver="cholesky").fit(x, train.targets.numpy())
        assert actual.argmax(dim=1).tolist() == classifier.predict(z).tolist()

    def test_weighted_rows_are_scikit_learns(self, blobs: TrainOf, train_of: TrainOf) -> None:
        """Weights of rows count as scikit-learn's sample weights do, α = λ · Σw."""
        plain, weights = blobs([9, 5, 3]), torch.linspace(0.2, 2, 17, dtype=torch.float64)
        theirs = SklearnRidge(alpha=0.1 * float(weights.sum()), solver="cholesky")
        theirs.fit(plain.x.double().numpy(), one_hot(plain.targets).double().numpy(), sample_weight=weights.numpy())
        train = train_of(plain.x, plain.targets, 3, weights)
        close(theirs.predict(new_rows(9).double().numpy()), scores(Ridge(l2=0.1), train, new_rows(9)))


class TestNearestNeighbours:
    """Votes against scikit-learn's KNeighborsClassifier."""

    @pytest.mark.parametrize("k", [1, 5, 17, 47])
    @pytest.mark.parametrize("votes", ["distance", "uniform"])
    @pytest.mark.parametrize("placed", [True, False])
    def test_shares_are_scikit_learns(self, blobs: TrainOf, k: int, votes: Any, placed: bool) -> None:
        """Shares of votes equal predict_proba, on centred rows of unit length or on rows as they are."""
        train, new = blobs([30, 12, 5]), new_rows(60)
        x, z = train.x.double(), new.double()
        if placed:
            x, z = (normalize(each - x.mean(dim=0), dim=1) for each in (x, z))
        theirs = KNeighborsClassifier(k, weights=votes, algorithm="brute").fit(x.numpy(), train.targets.numpy())
        actual = scores(NearestNeighbours(k=k, votes=votes, normalize=placed), train, new)
        close(theirs.predict_proba(z.numpy()), actual, 1e-5)

    def test_a_row_of_the_training_set_outvotes_all_others(self, blobs: TrainOf) -> None:
        """At distance zero a row's own label has all votes, as in scikit-learn."""
        train = blobs([30, 12, 5])
        actual = scores(NearestNeighbours(normalize=False), train, train.x)
        close(one_hot(train.targets, 3), actual)

    def test_soft_labels_vote_in_parts(self, blobs: TrainOf, train_of: TrainOf) -> None:
        """The vote of a row goes to its classes as its label does."""
        hard = blobs([9, 5, 3])
        mixed = 0.75 * one_hot(hard.targets, 3).double() + 0.25 / 3
        expected = 0.75 * scores(NearestNeighbours(), hard, new_rows(9)) + 0.25 / 3
        close(expected, scores(NearestNeighbours(), train_of(hard.x, mixed, 3), new_rows(9)))


class TestNearestClassMean:
    """NCM against scikit-learn's NearestCentroid and a loop."""

    @pytest.mark.parametrize("center", [True, False])
    @pytest.mark.parametrize("unit", [True, False])
    def test_predictions_are_scikit_learns(self, blobs: TrainOf, center: bool, unit: bool) -> None:
        """On centred rows of unit length the predicted class is NearestCentroid's, and scores are −‖f(x) − m_c‖²."""
        train, new = blobs([30, 12, 5]), new_rows(60)
        x, z = train.x.double().numpy(), new.double().numpy()
        origin = x.mean(0) if center else np.zeros(4)
        f = [(rows - origin) / (np.linalg.norm(rows - origin, axis=1, keepdims=True) if unit else 1.0) for rows in (x, z)]
        theirs = NearestCentroid().fit(f[0], train.targets.numpy())
        ours = scores(NearestClassMean(center=center, normalize=unit), train, new)
        assert ours.argmax(dim=1).tolist() == theirs.predict(f[1]).tolist()
        close([[-float(((row - mean) ** 2).sum()) for mean in theirs.centroids_] for row in f[1]], ours, 1e-9)

    def test_defaults_center_and_normalize(self, blobs: TrainOf) -> None:
        """Both steps are on by default, and scores are no probabilities."""
        assert NearestClassMean() == NearestClassMean(center=True, normalize=True)
        assert NearestClassMean().fit(blobs([3, 2]))(new_rows(2)).kind == "scores"


class TestMoments:
    """Weighted class means and scatters."""

    @several_examples
    @given(st.integers(0, 99), st.booleans(), st.sampled_from([2, 12]))
    def test_moments_are_those_of_a_loop(self, train_of: TrainOf, seed: int, soft: bool, width: int) -> None:
        """Rows count by weight times label, in class means and in both scatters, with rows more and fewer than features."""
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(9, width, generator=generator).double()
        labels = torch.randint(3, (9,), generator=generator)
        targets = one_hot(labels, 4).double()
        targets = 0.5 * targets + 0.5 * targets.roll(1, 0) if soft else targets
        weights = torch.rand(9, generator=generator).double() + 0.1
        found = moments_of(train_of(x, targets if soft else labels, 4, weights))
        total, within = torch.zeros(width, width).double(), torch.zeros(width, width).double()
        mean = (weights @ x) / weights.sum()
        for c in range(4):
            share = weights * targets[:, c]
            own = share @ x / share.sum() if share.sum() > 0 else mean
            close(own - mean, found.means[c], 1e-12)
            for i in range(9):
                total += share[i] * torch.outer(x[i] - mean, x[i] - mean)
                within += share[i] * torch.outer(x[i] - own, x[i] - own)
        for expected, scatter in ((total, found.total), (within, found.within)):
            inner = scatter.matrix
            close(expected, inner if scatter.span is None else scatter.span @ inner @ scatter.span.T, 1e-11)

    def test_many_rows_are_added_up_in_chunks(self, blobs: TrainOf, monkeypatch: pytest.MonkeyPatch) -> None:
        """More rows than a chunk holds have the moments of all at once."""
        whole = moments_of(blobs([1500, 700, 3]))
        monkeypatch.setattr("ltbench_classifiers.moments._CHUNK_NUMBERS", 1)
        parts = moments_of(blobs([1500, 700, 3]))
        for expected, actual in ((whole.means, parts.means), (whole.total.matrix, parts.total.matrix)):
            close(expected, actual, 1e-12)


@pytest.mark.parametrize(
    "head", [LinearDiscriminant(), GaussianDiscriminant(), Ridge(), NearestClassMean(), NearestNeighbours()]
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_rows_that_are_not_finite_are_one_clear_error(blobs: TrainOf, head: Any, value: float) -> None:
    """NaN or infinity among the features is refused, and counted."""
    train = blobs([9, 5, 3])
    train.x[3, 1] = value
    with pytest.raises(ValueError, match="1 of 17 training rows hold NaN or infinity"):
        head.fit(train)
