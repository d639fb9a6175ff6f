"""Tests of generators that fit a distribution to each class, against scikit-learn and SciPy."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import ive
from sklearn.covariance import ledoit_wolf, oas
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as SklearnMixture
from sklearn.neighbors import KernelDensity as SklearnDensity
from torch import Tensor

import ltbench
from ltbench_generators.gaussian import Gaussian, Noise
from ltbench_generators.gmm import GaussianMixture, fit_mixture, seeded
from ltbench_generators.kde import CANDIDATES, KernelDensity, log_likelihoods, principal_axes
from ltbench_generators.moments import class_means, class_squares, pooled_factor, within_deviation
from ltbench_generators.shrinkage import factor, low_rank, oracle_approximating, root
from ltbench_generators.shrinkage import ledoit_wolf as our_ledoit_wolf
from ltbench_generators.vmf import VonMisesFisher, angle_table, concentration, interpolate

many_examples = settings(max_examples=60, deadline=None, derandomize=True)
several_examples = settings(max_examples=15, deadline=None, derandomize=True)
TrainOf = Callable[..., ltbench.Train]
Draw = Callable[..., ltbench.Rows]

SIZES = [(2, 3), (5, 20), (20, 5), (30, 30), (500, 4)]


def correlated(rows: int, width: int, seed: int = 0) -> np.ndarray:
    """Return float64 rows of a correlated normal distribution off the origin."""
    generator = np.random.default_rng(seed)
    return generator.normal(size=(rows, width)) @ generator.normal(size=(width, width)) + 5.0


def centred(x: np.ndarray) -> Tensor:
    """Return rows less their mean."""
    return torch.from_numpy(x - x.mean(0))


def covariance_of(noise: Noise, width: int) -> Tensor:
    """Return the covariance that noise is drawn with: FᵀF + diag(deviation²) + PᵀP."""
    total = torch.zeros(width, width, dtype=torch.float64)
    for matrix in (noise.factor, noise.pooled):
        total += matrix.T @ matrix if matrix is not None else 0
    return total + (torch.diag(noise.deviation**2) if noise.deviation is not None else 0)


def pooled(train: ltbench.Train) -> np.ndarray:
    """Return rows less their class's mean, of classes with two rows or more, by a loop."""
    parts = [train.x[train.targets == c].double().numpy() for c in range(train.classes)]
    return np.vstack([part - part.mean(0) for part in parts if len(part) > 1])


class TestMoments:
    """Means, squares and pooled covariances against loops and scikit-learn."""

    @several_examples
    @given(counts=st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any), seed=st.integers(0, 99))
    def test_means_and_squares_are_those_of_a_loop(self, train_of: TrainOf, counts: list[int], seed: int) -> None:
        """By class; zero for an absent one."""
        train = train_of(counts, seed=seed)
        means = class_means(train)
        squares = class_squares(train, means)
        for c, n in enumerate(counts):
            x = train.x[train.targets == c].double()
            torch.testing.assert_close(x.mean(0) if n else torch.zeros(4, dtype=torch.float64), means[c])
            torch.testing.assert_close(((x - x.mean(0)) ** 2).sum(0) if n else torch.zeros(4, dtype=torch.float64), squares[c])

    @pytest.mark.parametrize("counts", [[40, 9, 1], [5, 3, 2], [2, 1, 1]])
    def test_the_pooled_covariance_is_that_of_a_loop(self, train_of: TrainOf, counts: list[int]) -> None:
        """Σ (x − μ_y)(x − μ_y)ᵀ / (N − classes), with fewer rows than features or more; deviations are its diagonal's roots."""
        train = train_of(counts, width=12)
        rows = pooled(train)
        expected = torch.from_numpy(rows.T @ rows) / (sum(counts) - len(counts))
        actual = pooled_factor(train)
        assert len(actual) <= 12
        torch.testing.assert_close(expected, actual.T @ actual, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(expected.diagonal().sqrt(), within_deviation(train), rtol=1e-6, atol=1e-7)

    def test_the_pooled_covariance_is_that_of_scikit_learns_discriminant(self, train_of: TrainOf) -> None:
        """Which divides by N instead."""
        train = train_of([40, 9, 5])
        theirs = LinearDiscriminantAnalysis(store_covariance=True).fit(train.x.double().numpy(), train.targets.numpy())
        actual = pooled_factor(train)
        torch.testing.assert_close(torch.from_numpy(theirs.covariance_) * 54 / 51, actual.T @ actual, rtol=1e-6, atol=1e-7)

    def test_lone_rows_alone_have_the_spread_between_them(self, train_of: TrainOf) -> None:
        """Where every class has one row, all rows about their mean stand in, with divisor N."""
        train = train_of([1, 1, 1, 1], width=2)
        actual = pooled_factor(train)
        torch.testing.assert_close(torch.from_numpy(np.cov(train.x.double().numpy().T, bias=True)), actual.T @ actual)

    @pytest.mark.parametrize(("rows", "width"), SIZES)
    def test_factors_are_no_larger_than_needed(self, rows: int, width: int) -> None:
        """FᵀF = XᵀX, with min(n, D) rows."""
        x = centred(correlated(rows, width))
        actual = factor(x)
        assert actual.shape == (min(rows, width), width)
        torch.testing.assert_close(x.T @ x, actual.T @ actual, rtol=1e-7, atol=1e-5)

    def test_the_root_of_nothing_is_nothing(self) -> None:
        """A covariance of zeros has a root that is as good as zero."""
        assert float(root(torch.zeros(3, 3, dtype=torch.float64)).abs().max()) < 1e-12


class TestShrinkage:
    """Ledoit and Wolf, and OAS, against scikit-learn."""

    @many_examples
    @given(st.integers(2, 40), st.integers(1, 30), st.integers(0, 999))
    def test_shares_and_levels_are_scikit_learns(self, rows: int, width: int, seed: int) -> None:
        """The same share of the identity, and the same covariance, whatever the rows."""
        x = correlated(rows, width, seed)
        for ours, theirs in ((our_ledoit_wolf, ledoit_wolf), (oracle_approximating, oas)):
            covariance, expected = theirs(x)
            share, level = ours(centred(x))
            empirical = np.cov(x.T, bias=True).reshape(width, width)
            assert 0.0 <= share <= 1.0
            if width > 1:  # with one feature any share gives the same
                assert share == pytest.approx(expected, rel=1e-6, abs=1e-9)
            np.testing.assert_allclose(
                (1 - share) * empirical + share * level * np.eye(width), covariance, rtol=1e-6, atol=1e-9
            )

    @pytest.mark.parametrize("estimate", [our_ledoit_wolf, oracle_approximating])
    def test_no_spread_is_shrunk_wholly(self, estimate: Callable[[Tensor], tuple[float, float]]) -> None:
        """Rows that are all equal have no covariance: share 1, level 0."""
        assert estimate(torch.zeros(5, 3, dtype=torch.float64)) == (1.0, 0.0)

    @pytest.mark.parametrize(
        ("rows", "width", "rank"), [(200, 10, 3), (200, 10, 9), (12, 40, 4), (12, 40, 30), (2, 3, 5), (50, 1, 2)]
    )
    def test_low_rank_is_probabilistic_pca(self, rows: int, width: int, rank: int) -> None:
        """Leading eigenvalues are kept, the others are their mean, so that the trace stays; as in scikit-learn's PCA."""
        x = correlated(rows, width)
        directions, deviation = low_rank(centred(x), rank)
        actual = directions.T @ directions + torch.diag(deviation**2)
        kept = min(rank, rows - 1, width - 1)
        values, vectors = np.linalg.eigh(np.cov(x.T, bias=True).reshape(width, width))
        values, vectors = values[::-1], vectors[:, ::-1]
        rest = max(0.0, values[kept:].mean())
        leading = vectors[:, :kept]
        expected = leading * (values[:kept] - rest) @ leading.T + rest * np.eye(width)
        np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-6, atol=1e-6 * values[0])
        assert float(actual.trace()) == pytest.approx(values.sum(), rel=1e-6)
        if rows > width > kept + 1:
            theirs = PCA(n_components=kept, svd_solver="full").fit(x).get_covariance() * (rows - 1) / rows
            np.testing.assert_allclose(actual.numpy(), theirs, rtol=1e-6, atol=1e-6 * values[0])


class TestGaussian:
    """Normal classes."""

    @pytest.mark.parametrize(("rows", "width"), SIZES)
    def test_covariances_are_those_of_their_names(self, rows: int, width: int) -> None:
        """Each estimate, entry by entry, from NumPy's covariance with divisor n and a pooled one."""
        x = correlated(rows, width)
        empirical = np.cov(x.T, bias=True)
        other = np.cov(correlated(100, width, seed=1).T)
        expected = {
            "empirical": empirical,
            "diagonal": np.diag(empirical.diagonal()),
            "tied": other,
            "ledoit-wolf": ledoit_wolf(x)[0],
            "oas": oas(x)[0],
            "blended": 0.7 * empirical + 0.3 * other,
        }
        pooled_root = torch.linalg.cholesky(torch.from_numpy(other)).T
        for covariance, value in expected.items():
            noise = Gaussian(covariance=covariance, blend=0.3).noise(centred(x), pooled_root)
            np.testing.assert_allclose(covariance_of(noise, width).numpy(), value, rtol=1e-6, atol=1e-6 * empirical.max())

    @pytest.mark.parametrize("covariance", ["empirical", "diagonal", "tied", "ledoit-wolf", "oas", "low-rank", "blended"])
    @pytest.mark.parametrize("counts", [[25, 12], [60, 3]])
    def test_samples_have_the_classes_moments(self, train_of: TrainOf, draw: Draw, covariance: Any, counts: list[int]) -> None:
        """Over 20,000 samples of each class, mean and covariance are those fitted, and projections are normal."""
        train = train_of(counts, width=5)
        train = train.replace(x=train.x @ torch.randn(5, 5, generator=torch.Generator().manual_seed(1)))
        size, generator = 20_000, Gaussian(covariance=covariance, rank=2)
        rows = draw(generator, train, [size, size])
        for c in (0, 1):
            x, samples = (each.double() for each in (train.x[train.targets == c], rows.x[rows.targets == c]))
            fitted = covariance_of(generator.noise(x - x.mean(0), pooled_factor(train)), 5)
            deviation = fitted.diagonal().sqrt()
            assert float(((samples.mean(0) - x.mean(0)) / deviation).abs().max()) < 4 / np.sqrt(size)
            scaled = (samples.T.cov() - fitted) / torch.outer(deviation, deviation)
            assert float(scaled.abs().max()) < 6 / np.sqrt(size)
            direction = torch.tensor([0.3, -0.5, 0.1, 0.7, 0.2], dtype=torch.float64)
            spread = float(direction @ fitted @ direction) ** 0.5
            assert stats.kstest(((samples - x.mean(0)) @ direction / spread).numpy(), "norm").pvalue > 1e-3

    def test_a_lone_row_takes_the_pooled_covariance(self, train_of: TrainOf, draw: Draw) -> None:
        """A class of one row is centred on it, with the within-class covariance of the others, and noted if it is asked."""
        train = train_of([30, 1, 12], width=3)
        train = train.replace(x=train.x * torch.tensor([0.5, 1.0, 4.0]))
        size = 40_000
        rows = draw(Gaussian(), train, [0, size, 0])
        assert dict(rows.notes) == {"pooled_covariance_classes": [1]}
        assert dict(draw(Gaussian(), train, [2, 0, 4]).notes) == {}
        covariance = pooled(train).T @ pooled(train) / 40
        deviation = np.sqrt(covariance.diagonal())
        samples, lone = rows.x.double().numpy(), train.x[train.targets == 1][0].double().numpy()
        np.testing.assert_allclose((samples.mean(0) - lone) / deviation, 0, atol=4 / np.sqrt(size))
        scale = np.outer(deviation, deviation)
        np.testing.assert_allclose(np.cov(samples.T) / scale, covariance / scale, atol=6 / np.sqrt(size))

    def test_a_singular_covariance_stays_in_its_directions(self, train_of: TrainOf, draw: Draw) -> None:
        """Two rows without shrinkage give points on the line through them."""
        train = train_of([8, 2], width=4)
        a, b = train.x[train.targets == 1].double()
        rows = draw(Gaussian(covariance="empirical"), train, [0, 50]).x.double()
        direction = (b - a) / (b - a).norm()
        off = rows - a - ((rows - a) @ direction)[:, None] * direction
        assert float(off.norm(dim=1).max()) < 1e-5 * float((b - a).norm())
        assert float(((rows - a) @ direction).std()) == pytest.approx(float((b - a).norm()) / 2, rel=0.3)


class TestGaussianMixture:
    """Mixtures against scikit-learn."""

    @pytest.mark.parametrize(("rows", "width", "k"), [(200, 4, 3), (60, 10, 2), (300, 2, 5)])
    def test_the_fit_is_scikit_learns_from_the_same_start(self, rows: int, width: int, k: int) -> None:
        """From one set of responsibilities both come to the same weights, means and variances."""
        x = np.vstack([correlated(rows // k, width, seed) * 0.3 + 2 * seed for seed in range(k)])
        start = torch.nn.functional.one_hot(torch.arange(len(x)) * k // len(x), k).double()
        first = [x[start[:, j].bool().numpy()] for j in range(k)]
        theirs = SklearnMixture(
            k,
            covariance_type="diag",
            reg_covar=0.0,
            weights_init=[len(each) / len(x) for each in first],
            means_init=[each.mean(0) for each in first],
            precisions_init=[1 / each.var(0) for each in first],
            tol=1e-3,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            theirs.fit(x)
        ours = fit_mixture(torch.from_numpy(x), start)
        np.testing.assert_allclose(ours.weights.numpy(), theirs.weights_, atol=2e-3)
        np.testing.assert_allclose(ours.means.numpy(), theirs.means_, atol=2e-2)
        np.testing.assert_allclose(ours.variances.numpy(), theirs.covariances_, rtol=2e-2)

    def test_samples_are_those_of_the_mixture(self, train_of: TrainOf, draw: Draw) -> None:
        """Against 20,000 samples of scikit-learn's mixture of two far blobs: the same distribution of each feature."""
        train = train_of([40, 30], width=3)
        blob = train.x[train.targets == 1]
        blob[:15] += 8.0
        train.x[train.targets == 1] = blob
        rows = draw(GaussianMixture(components=2), train, [0, 20_000]).x.numpy()
        theirs = SklearnMixture(2, covariance_type="diag", random_state=0, n_init=3, reg_covar=1e-6).fit(blob.double().numpy())
        expected, _ = theirs.sample(20_000)
        for one, other in zip(rows.T, expected.T, strict=True):
            assert stats.ks_2samp(one, other).pvalue > 1e-3

    def test_seeds_are_far_apart(self) -> None:
        """Three far clouds get a seed each, whatever the stream."""
        x = torch.cat([torch.randn(20, 3, generator=torch.Generator().manual_seed(s)) + 100 * s for s in range(3)]).double()
        for stream in range(20):
            which = seeded(x, 3, ltbench.Stream.of(stream))
            assert sorted(which.argmax(dim=1)[[0, 20, 40]].tolist()) == [0, 1, 2]
            assert which.sum(dim=0).tolist() == [20.0, 20.0, 20.0]

    def test_small_classes_have_fewer_components_and_lone_rows_the_pooled_deviation(
        self, train_of: TrainOf, draw: Draw
    ) -> None:
        """One component for five rows, which is noted, as is the lone class."""
        train = train_of([40, 12, 5, 1])
        rows = draw(GaussianMixture(components=4), train, [0, 3, 3, 20_000])
        assert dict(rows.notes) == {"components_clamped": {"1": 2, "2": 1, "3": 1}, "pooled_deviation_classes": [3]}
        lone = rows.x[rows.targets == 3].double()
        torch.testing.assert_close(lone.std(dim=0), within_deviation(train), rtol=0.03, atol=0)


class TestKernelDensity:
    """Kernel densities against scikit-learn."""

    @pytest.mark.parametrize(("rows", "width"), [(2, 3), (12, 2), (30, 6)])
    def test_likelihoods_leave_each_row_out(self, rows: int, width: int) -> None:
        """Σ_i log p_{−i}(x_i) of scikit-learn's density of all other rows, for each bandwidth."""
        x = correlated(rows, width)
        bandwidths = [0.1, 0.5, 2.0]
        actual = log_likelihoods(torch.from_numpy(x), bandwidths)
        for h, value in zip(bandwidths, actual.tolist(), strict=True):
            others = [
                SklearnDensity(bandwidth=h).fit(np.delete(x, i, axis=0)).score_samples(x[i : i + 1])[0] for i in range(rows)
            ]
            assert value == pytest.approx(sum(others), rel=1e-9)

    @pytest.mark.parametrize("dim", [2, 5, 9])
    def test_axes_are_scikit_learns_components(self, train_of: TrainOf, dim: int) -> None:
        """The leading components of all rows, up to sign; all of them where more are asked for."""
        train = train_of([40, 12], width=5)
        axes = principal_axes(train, dim)
        expected = PCA(n_components=min(dim, 5), svd_solver="full").fit(train.x.double().numpy()).components_
        torch.testing.assert_close(torch.from_numpy(expected).abs(), axes.abs(), rtol=1e-5, atol=1e-7)
        assert bool((axes.gather(1, axes.abs().argmax(dim=1, keepdim=True)) > 0).all())

    def test_samples_are_scikit_learns(self, train_of: TrainOf, draw: Draw) -> None:
        """Projected to the components, 10,000 samples are distributed as those of its density of the same bandwidth."""
        train = train_of([60, 25], width=5)
        rows = draw(KernelDensity(dim=2, bandwidth=0.7), train, [0, 10_000])
        axes = principal_axes(train, 2).numpy()
        z = train.x.double().numpy() @ axes.T
        within = np.concatenate([z[train.targets == c] - z[train.targets == c].mean(0) for c in (0, 1)])
        sigma = np.sqrt((within**2).sum() / (85 - 2) / 2)
        theirs = SklearnDensity(bandwidth=0.7 * sigma).fit(z[train.targets == 1]).sample(10_000, random_state=0)
        for one, other in zip((rows.x.double().numpy() @ axes.T).T, theirs.T, strict=True):
            assert stats.ks_2samp(one, other).pvalue > 1e-3
        assert rows.parents is not None
        left = (rows.x - train.x[rows.parents[:, 0]]).double().numpy()
        np.testing.assert_allclose(left - left @ axes.T @ axes, 0, atol=1e-5)  # what is left out stays with the row
        assert list(rows.notes["bandwidths"]) == [0.7] * 3

    def test_the_likeliest_bandwidth_is_chosen(self, train_of: TrainOf, draw: Draw) -> None:
        """Of the 24 candidates the one that a loop over scikit-learn's densities finds; a lone class takes the best of all."""
        train = train_of([20, 14, 1], width=3)
        rows = draw(KernelDensity(dim=3), train, [0, 4000, 4000])
        x, y = train.x.double().numpy(), train.targets.numpy()
        sigma = float((within_deviation(train) ** 2).mean().sqrt())
        scores = {c: self.scores(x[y == c], [h * sigma for h in CANDIDATES]) for c in (0, 1)}
        expected = {1: CANDIDATES[int(scores[1].argmax())], 2: CANDIDATES[int((scores[0] + scores[1]).argmax())]}
        assert rows.parents is not None
        noise = (rows.x - train.x[rows.parents[:, 0]]).double() / sigma
        for c, h in expected.items():
            assert float(noise[rows.targets == c].std()) == pytest.approx(h, rel=0.03)
        assert rows.notes["shared_bandwidth_classes"] == [2]
        assert rows.notes["bandwidths"] == [min(expected.values()), np.median(list(expected.values())), max(expected.values())]

    @staticmethod
    def scores(x: np.ndarray, bandwidths: list[float]) -> np.ndarray:
        """Return leave-one-out likelihoods by a loop."""
        return np.array(
            [
                sum(SklearnDensity(bandwidth=h).fit(np.delete(x, i, axis=0)).score(x[i : i + 1]) for i in range(len(x)))
                for h in bandwidths
            ]
        )


class TestVonMisesFisher:
    """Directions against SciPy."""

    @pytest.mark.parametrize(
        ("width", "kappa"), [(2, 0.0), (2, 3.0), (3, 0.0), (3, 1.0), (3, 1e6), (10, 20.0), (768, 500.0), (768, 1e5)]
    )
    def test_angles_are_scipys(self, width: int, kappa: float) -> None:
        """Cosines of θ at 20,000 even quantiles is distributed as SciPy's samples' along the mean direction."""
        angles, share = angle_table(kappa, width, torch.device("cpu"))
        u = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
        cosines = interpolate(u, share, angles).cos()
        mean = np.eye(width)[0]
        if kappa:
            theirs = stats.vonmises_fisher(mean, kappa).rvs(500 if width > 100 else 5000, random_state=0)[:, 0]
        else:
            theirs = stats.uniform_direction(width).rvs(5000, random_state=0)[:, 0]
        assert stats.ks_2samp(cosines.numpy(), theirs).pvalue > 1e-3
        if 0 < kappa < 1e5:  # the mean cosine is a ratio of Bessel functions
            expected = ive(width / 2, kappa) / ive(width / 2 - 1, kappa)
            assert float(cosines.mean()) == pytest.approx(expected, abs=1e-3)

    @pytest.mark.parametrize(("width", "kappa"), [(3, 5.0), (5, 0.4), (20, 40.0), (30, 900.0)])
    def test_concentration_is_the_likeliest(self, width: int, kappa: float) -> None:
        """It is that of SciPy's fit, at the same mean resultant length."""
        x = stats.vonmises_fisher(np.eye(width)[0], kappa).rvs(200, random_state=0)
        _, expected = stats.vonmises_fisher.fit(x)
        assert concentration(float(np.linalg.norm(x.mean(0))), width) == pytest.approx(expected, rel=1e-6)

    def test_samples_are_scipys(self, train_of: TrainOf, draw: Draw) -> None:
        """On unit rows: projections on three directions are distributed as those of SciPy's fitted distribution."""
        x = torch.from_numpy(stats.vonmises_fisher([0.6, 0.0, 0.8], 12.0).rvs(300, random_state=0)).float()
        train = train_of([300], width=3).replace(x=x)
        rows = draw(VonMisesFisher(), train, [5000]).x.double().numpy()
        mean, kappa = stats.vonmises_fisher.fit(x.double().numpy() / np.linalg.norm(x.double().numpy(), axis=1, keepdims=True))
        theirs = stats.vonmises_fisher(mean, kappa).rvs(5000, random_state=1)
        for direction in np.random.default_rng(0).normal(size=(3, 3)):
            assert stats.ks_2samp(rows @ direction, theirs @ direction).pvalue > 1e-3

    def test_lengths_are_the_classes(self, train_of: TrainOf, draw: Draw) -> None:
        """Rows that are no unit vectors get the mean length of their class."""
        train = train_of([9, 6], width=5)
        rows = draw(VonMisesFisher(), train, [3, 4])
        for c in (0, 1):
            length = train.x[train.targets == c].double().norm(dim=1).mean()
            torch.testing.assert_close(rows.x[rows.targets == c].double().norm(dim=1), length.expand(3 + c), rtol=1e-6, atol=0)

    def test_a_lone_row_takes_the_others_concentration(self, train_of: TrainOf, draw: Draw) -> None:
        """Its samples are as concentrated as R, the mean over the other rows of their class's; noted."""
        train = train_of([30, 1, 20], width=6)
        unit = torch.nn.functional.normalize(train.x.double(), dim=1)
        rows = draw(VonMisesFisher(), train.replace(x=unit.float()), [0, 20_000, 0])
        assert rows.notes["pooled_concentration_classes"] == [1]
        lengths = {c: float(unit[train.targets == c].mean(0).norm()) for c in (0, 2)}
        resultant = (30 * lengths[0] + 20 * lengths[2]) / 50
        kappa = concentration(resultant, 6)
        expected = ive(3.0, kappa) / ive(2.0, kappa)
        assert float((rows.x.double() @ unit[train.targets == 1][0]).mean()) == pytest.approx(expected, abs=3e-3)
