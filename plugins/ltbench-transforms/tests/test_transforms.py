"""Tests of the transforms against scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.preprocessing import Normalizer, StandardScaler
from torch import Tensor

from ltbench_transforms.transforms import Identity, PrincipalComponents, Standardize, UnitNorm

TRANSFORMS: dict[str, Callable[[], Any]] = {
    "none": Identity,
    "l2": UnitNorm,
    "standardize": Standardize,
    "pca": lambda: PrincipalComponents(dim=3),
    "pca, whitened": lambda: PrincipalComponents(dim=3, whiten=True),
}
several_examples = settings(max_examples=40, deadline=None, derandomize=True)


def rows(count: int, width: int, seed: int = 0) -> Tensor:
    """Return float64 rows of features on different scales, correlated, off the origin."""
    generator = np.random.default_rng(seed)
    mixed = generator.normal(size=(count, width)) @ generator.normal(size=(width, width))
    return torch.from_numpy(mixed * np.logspace(-2, 2, width) + generator.normal(size=width))


class TestStandardize:
    """Mean 0 and deviation 1."""

    @several_examples
    @given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 99))
    def test_rows_are_scikit_learns(self, count: int, width: int, seed: int) -> None:
        """Training rows and new rows come out as from StandardScaler."""
        train, new = rows(count, width, seed), rows(7, width, seed + 1)
        scaler, fitted = StandardScaler().fit(train.numpy()), Standardize().fit(train)
        for x in (train, new):
            torch.testing.assert_close(torch.from_numpy(scaler.transform(x.numpy())), fitted(x), rtol=1e-9, atol=1e-9)

    def test_training_rows_get_mean_zero_and_deviation_one(self) -> None:
        """Each feature has mean 0 and deviation 1, divisor N."""
        x = rows(50, 5)
        out = Standardize().fit(x)(x).numpy()
        np.testing.assert_allclose(out.mean(0), 0, atol=1e-12)
        np.testing.assert_allclose(out.std(0), 1, atol=1e-12)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("constant", [0.0, 0.1, -7.3, 1e6, 1e-9])
    def test_a_constant_feature_is_only_centred(self, constant: float, dtype: torch.dtype) -> None:
        """A feature without spread becomes zero, and keeps its unit on new rows; the others are as scikit-learn's."""
        train = rows(13, 3).to(dtype)
        train[:, 1] = constant
        new = train[:2].clone()
        new[:, 1] += 2.0
        fitted = Standardize().fit(train)
        scaler = StandardScaler().fit(train.double().numpy())
        assert fitted(train)[:, 1].abs().max().item() == pytest.approx(0.0, abs=1e-9 * max(1.0, abs(constant)))
        expected = (new[:, 1].double() - train[0, 1].double()).to(dtype)
        torch.testing.assert_close(expected, fitted(new)[:, 1])
        others = [0, 2]
        torch.testing.assert_close(
            torch.from_numpy(scaler.transform(new.double().numpy())).to(dtype)[:, others], fitted(new)[:, others]
        )

    def test_one_row_becomes_zero(self) -> None:
        """A single training row is centred on itself."""
        x = rows(1, 4)
        assert Standardize().fit(x)(x).tolist() == [[0.0] * 4]


class TestUnitNorm:
    """Rows of length one."""

    @several_examples
    @given(st.integers(1, 20), st.integers(1, 8), st.integers(0, 99))
    def test_rows_are_scikit_learns(self, count: int, width: int, seed: int) -> None:
        """Rows come out as from Normalizer."""
        x = rows(count, width, seed)
        torch.testing.assert_close(torch.from_numpy(Normalizer().transform(x.numpy())), UnitNorm().fit(x)(x))

    def test_zero_rows_stay_zero(self) -> None:
        """A row of zeros has no direction and stays as it is; its neighbours get length one."""
        x = torch.tensor([[0.0, 0.0], [3.0, 4.0], [-2.0, 0.0]])
        torch.testing.assert_close(torch.tensor([[0.0, 0.0], [0.6, 0.8], [-1.0, 0.0]]), UnitNorm().fit(x)(x))

    def test_training_rows_teach_nothing(self) -> None:
        """New rows come out the same whatever it was fitted on."""
        new = rows(5, 4)
        assert torch.equal(UnitNorm().fit(rows(9, 4, 1))(new), UnitNorm().fit(rows(3, 4, 2) * 100)(new))


class TestPrincipalComponents:
    """Leading components."""

    @pytest.mark.parametrize(("count", "width", "dim"), [(30, 5, 3), (30, 5, 5), (6, 10, 4), (50, 1, 1)])
    @pytest.mark.parametrize("whiten", [False, True])
    def test_components_are_scikit_learns(self, count: int, width: int, dim: int, whiten: bool) -> None:
        """Training and new rows come out as from PCA; whitened ones with divisor N in place of N − 1."""
        train, new = rows(count, width), rows(9, width, 1)
        theirs = PCA(n_components=dim, whiten=whiten, svd_solver="full").fit(train.numpy())
        ours = PrincipalComponents(dim=dim, whiten=whiten).fit(train)
        factor = (count / (count - 1)) ** 0.5 if whiten else 1.0
        for x in (train, new):
            expected = theirs.transform(x.numpy()) * factor
            signs = np.sign(theirs.components_[np.arange(dim), np.abs(theirs.components_).argmax(1)])
            np.testing.assert_allclose(ours(x).numpy(), expected * signs, rtol=1e-7, atol=1e-7 * np.abs(expected).max())

    def test_whitened_components_have_variance_one(self) -> None:
        """Whitened training rows have the identity as covariance, divisor N."""
        x = rows(40, 6)
        out = PrincipalComponents(dim=4, whiten=True).fit(x)(x).numpy()
        np.testing.assert_allclose(np.cov(out.T, bias=True), np.eye(4), atol=1e-9)

    @pytest.mark.parametrize("whiten", [False, True])
    @pytest.mark.parametrize(("count", "rank"), [(40, 3), (40, 1), (8, 2)])
    def test_directions_without_spread_are_left_out(self, whiten: bool, count: int, rank: int) -> None:
        """Rows of rank r give r components however many are asked for, and new rows stay finite."""
        generator = np.random.default_rng(0)
        train = torch.from_numpy(generator.normal(size=(count, rank)) @ generator.normal(size=(rank, 7)) + 2.0)
        fitted = PrincipalComponents(dim=6, whiten=whiten).fit(train)
        out = fitted(train)
        assert out.shape == (count, rank)
        assert bool(fitted(rows(5, 7)).isfinite().all())
        theirs = PCA(n_components=rank, whiten=whiten, svd_solver="full").fit_transform(train.numpy())
        factor = (count / (count - 1)) ** 0.5 if whiten else 1.0
        np.testing.assert_allclose(np.abs(out.numpy()), np.abs(theirs) * factor, rtol=1e-6, atol=1e-9)

    @pytest.mark.parametrize("count", [2, 5])
    def test_fewer_rows_than_components_give_fewer(self, count: int) -> None:
        """N rows have at most N − 1 components about their mean."""
        assert PrincipalComponents(dim=32).fit(rows(count, 10))(rows(3, 10, 1)).shape == (3, count - 1)

    @pytest.mark.parametrize("whiten", [False, True])
    @pytest.mark.parametrize("count", [1, 6])
    def test_rows_that_are_all_equal_give_one_finite_component(self, whiten: bool, count: int) -> None:
        """Without any spread one component remains; it is zero on the training rows and finite on new ones."""
        train = torch.full((count, 4), 2.5)
        fitted = PrincipalComponents(dim=3, whiten=whiten).fit(train)
        assert fitted(train).tolist() == [[0.0]] * count
        assert bool(fitted(torch.tensor([[1.0, 2.0, 3.0, 4.0]])).isfinite().all())

    def test_the_largest_loading_is_positive(self) -> None:
        """Each axis points where its largest loading is positive, so signs do not depend on the library."""
        x = rows(30, 5)
        fitted = PrincipalComponents(dim=4).fit(x)
        axes = fitted(torch.eye(5, dtype=torch.float64)) - fitted(torch.zeros(1, 5, dtype=torch.float64))
        largest = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
        assert bool((largest > 0).all())
        mirrored = PrincipalComponents(dim=4).fit(-x)
        torch.testing.assert_close(fitted(x), -mirrored(-x))


@pytest.mark.parametrize("name", TRANSFORMS)
class TestEveryTransform:
    """What holds for every transform."""

    def test_rows_are_transformed_each_by_itself(self, name: str) -> None:
        """A row comes out the same alone and among others."""
        fitted, new = TRANSFORMS[name]().fit(rows(20, 5)), rows(6, 5, 1)
        together = fitted(new)
        for i in range(6):
            torch.testing.assert_close(together[i : i + 1], fitted(new[i : i + 1]))

    def test_fitting_learns_from_training_rows_only(self, name: str) -> None:
        """Transforming other rows in between changes nothing."""
        fitted, new = TRANSFORMS[name]().fit(rows(20, 5)), rows(6, 5, 1)
        first = fitted(new)
        fitted(1e3 * rows(50, 5, 2))
        assert torch.equal(first, fitted(new))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_precision_is_kept_and_inputs_are_not_written_to(self, name: str, dtype: torch.dtype) -> None:
        """Rows come out in the precision they came in, and the rows given are as before."""
        train, new = rows(20, 5).to(dtype), rows(6, 5, 1).to(dtype)
        before = train.clone(), new.clone()
        out = TRANSFORMS[name]().fit(train)(new)
        assert out.dtype == dtype
        assert torch.equal(before[0], train)
        assert torch.equal(before[1], new)

    def test_float32_is_computed_in_float64(self, name: str) -> None:
        """On float32 rows far from the origin the result is the float64 one, rounded."""
        train, new = (rows(20, 5, seed).float() + 1e4 for seed in (0, 1))
        expected = TRANSFORMS[name]().fit(train.double())(new.double()).float()
        torch.testing.assert_close(expected, TRANSFORMS[name]().fit(train)(new))

    def test_no_rows_are_allowed(self, name: str) -> None:
        """No new rows give no rows of the same width."""
        fitted = TRANSFORMS[name]().fit(rows(20, 5))
        assert fitted(rows(6, 5)[:0]).shape == (0, fitted(rows(6, 5)).shape[1])


def test_identity_returns_the_rows() -> None:
    """The identity gives back what it gets."""
    x = rows(4, 3)
    assert Identity().fit(rows(9, 3))(x) is x


@pytest.mark.parametrize("offset", [2**7, 2**14, 2**20])
@pytest.mark.parametrize("transform", [Standardize(), PrincipalComponents(dim=3), PrincipalComponents(dim=3, whiten=True)])
def test_a_common_offset_changes_no_centred_row(transform: Standardize | PrincipalComponents, offset: int) -> None:
    """Rows that float32 holds with and without the offset are the same after it is centred away."""
    x = torch.round(rows(50, 6) * 4) / 4
    assert torch.equal((x + offset).double(), x.double() + offset)
    torch.testing.assert_close(transform.fit(x)(x), transform.fit(x + offset)(x + offset), rtol=0, atol=1e-5)
