"""Tests of generators that borrow from other classes or from texts, against the package tailcalib and their formulas."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor
from torch.nn.functional import normalize

import ltbench
from ltbench_generators.covariance_transfer import CovarianceTransfer
from ltbench_generators.distribution_calibration import DistributionCalibration
from ltbench_generators.donors import Donors
from ltbench_generators.head_tail_fuse import HeadTailFuse
from ltbench_generators.sampler import signed_power
from ltbench_generators.tailcalib import TailCalib
from ltbench_generators.text_anchor import TextAnchor

TrainOf = Callable[..., ltbench.Train]
Draw = Callable[..., ltbench.Rows]
BORROWING = (DistributionCalibration, TailCalib, CovarianceTransfer, HeadTailFuse)
SIZE = 20_000


def stretched(train: ltbench.Train) -> ltbench.Train:
    """Return rows whose classes differ in spread: each is stretched about its mean, along directions of its own."""
    x = train.x.clone()
    for c in range(train.classes):
        mine = train.targets == c
        turn = torch.randn(x.shape[1], x.shape[1], generator=torch.Generator().manual_seed(c))
        x[mine] = (x[mine] - x[mine].mean(0)) @ turn + x[mine].mean(0) if bool(mine.any()) else x[mine]
    return train.replace(x=x)


def require_moments(samples: Tensor, mean: Tensor, covariance: Tensor) -> None:
    """Compare mean and covariance of samples ``[n, D]`` with what they must be, within what n leaves open."""
    deviation = covariance.diagonal().sqrt()
    assert float(((samples.mean(0) - mean) / deviation).abs().max()) < 4.5 / len(samples) ** 0.5
    scaled = (samples.T.cov() - covariance) / torch.outer(deviation, deviation)
    assert float(scaled.abs().max()) < 7 / len(samples) ** 0.5


def moments_of(x: Tensor, targets: Tensor, c: int) -> tuple[Tensor, Tensor]:
    """Return a class's mean and covariance (divisor n − 1)."""
    rows = x[targets == c].double()
    return rows.mean(0), rows.T.cov()


def calibrated(train: ltbench.Train, i: int, chosen: list[int], alpha: float, ridge: float) -> tuple[Tensor, Tensor]:
    """Return the calibrated mean and covariance of row i with given donors, as the papers write them."""
    means, covariances = zip(*(moments_of(train.x, train.targets, c) for c in chosen), strict=True)
    mean = (sum(means) + train.x[i].double()) / (len(chosen) + 1)
    width = train.x.shape[1]
    covariance = sum(covariances) / len(chosen) + alpha + ridge * torch.eye(width, dtype=torch.float64)
    return mean, covariance


def nearest_classes(train: ltbench.Train, i: int, among: list[int], k: int) -> list[int]:
    """Return the classes whose means are nearest to row i, by a loop."""
    x = train.x[i].double()
    return sorted(among, key=lambda c: float((moments_of(train.x, train.targets, c)[0] - x).norm()))[:k]


class TestCalibration:
    """Distribution calibration and TailCalib against their formulas."""

    @pytest.mark.parametrize(
        ("generator", "among", "ridge"),
        [
            (TailCalib(), [0, 1, 2, 3], 1e-4),
            (TailCalib(k=2, alpha=0.2), [0, 1, 2, 3], 1e-4),
            (DistributionCalibration(power=1.0), [0, 1], 0.0),
            (DistributionCalibration(power=1.0, k=1, alpha=0.0, donors="1"), [1], 0.0),
        ],
    )
    def test_each_row_has_its_calibrated_moments(
        self, train_of: TrainOf, draw: Draw, generator: Any, among: list[int], ridge: float
    ) -> None:
        """Around each row of a class: donors, mean and covariance are those of the formula."""
        train = stretched(train_of([40, 30, 3, 2], width=5, apart=1.0))
        rows = draw(generator, train, [0, 0, 0, 2 * SIZE])
        assert rows.parents is not None
        assert rows.donors is not None
        for i in (train.targets == 3).nonzero().flatten().tolist():
            mine = rows.parents[:, 0] == i
            chosen = nearest_classes(train, i, among, generator.k)
            assert {tuple(donors) for donors in rows.donors[mine].tolist()} == {tuple(chosen)}
            mean, covariance = calibrated(train, i, chosen, generator.alpha, ridge)
            require_moments(rows.x[mine].double(), mean, covariance)

    @pytest.mark.parametrize("power", [0.5, 0.9])
    def test_a_power_is_taken_back(self, train_of: TrainOf, draw: Draw, power: float) -> None:
        """Rows under the power are those made of rows under the power; negative features are noted."""
        train = stretched(train_of([40, 30, 3, 2], width=4))
        generator = {"k": 2, "alpha": 0.1}
        rows = draw(TailCalib(power=power, **generator), train, [0, 0, 0, 500])
        plain = draw(TailCalib(**generator), train.replace(x=signed_power(train.x, power)), [0, 0, 0, 500])
        torch.testing.assert_close(plain.x, signed_power(rows.x, power), rtol=1e-4, atol=1e-5)
        assert rows.notes["signed_power"] is True
        assert "signed_power" not in plain.notes
        positive = train.replace(x=train.x.abs())
        assert "signed_power" not in draw(TailCalib(power=power), positive, [0, 0, 0, 5]).notes

    def test_signed_powers_keep_signs_and_invert(self) -> None:
        """sign(x)|x|^λ, and back."""
        x = torch.tensor([-4.0, -0.25, 0.0, 0.25, 9.0], dtype=torch.float64)
        torch.testing.assert_close(torch.tensor([-2.0, -0.5, 0.0, 0.5, 3.0], dtype=torch.float64), signed_power(x, 0.5))
        torch.testing.assert_close(x, signed_power(signed_power(x, 0.3), 1 / 0.3))

    @pytest.mark.parametrize(("k", "alpha"), [(1, 0.0), (3, 0.0), (3, 0.2)])
    def test_rows_are_distributed_as_the_packages(self, train_of: TrainOf, draw: Draw, k: int, alpha: float) -> None:
        """On unit rows, as the paper has them, projections of 1,900 rows of a class have one distribution."""
        package = pytest.importorskip("tailcalib")
        train = stretched(train_of([2000, 100, 30], width=5, apart=1.0))
        train = train.replace(x=normalize(train.x.double(), dim=1).float())
        state = np.random.get_state()
        np.random.seed(0)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            _, _, made = package.tailcalib(base_engine="numpy").generate(
                X=train.x.double().numpy(), y=train.targets.numpy(), tukey_value=1.0, alpha=alpha, topk=k
            )
        np.random.set_state(state)
        rows = draw(TailCalib(k=k, alpha=alpha), train, [0, 1900, 1970])
        for c in (1, 2):
            theirs = made[c] / np.linalg.norm(made[c], axis=1, keepdims=True)  # ours are kept on the sphere
            ours = rows.x[rows.targets == c].double().numpy()
            assert len(theirs) == len(ours)
            for direction in np.random.default_rng(1).normal(size=(6, 5)):
                assert stats.ks_2samp(theirs @ direction, ours @ direction).pvalue > 1e-3

    def test_rows_take_turns(self, train_of: TrainOf, draw: Draw) -> None:
        """No row of a class is used two times more often than another."""
        rows = draw(TailCalib(), train_of([40, 7]), [0, 33])
        assert rows.parents is not None
        counts = torch.bincount(rows.parents[:, 0])[rows.parents[:, 0].unique()]
        assert len(counts) == 7
        assert int(counts.max() - counts.min()) == 1

    def test_named_donors_of_one_row_are_left_out_and_noted(self, train_of: TrainOf, draw: Draw) -> None:
        """Those that can lend do; a list of those that cannot stands in the notes, if there are any."""
        train = train_of([40, 9, 1, 1])
        notes = draw(TailCalib(k=1, donors="3 1 2 3"), train, [0, 3, 3, 0]).notes
        assert (notes["donor_classes"], notes["donors_left_out"]) == (1, [2, 3])
        assert "donors_left_out" not in draw(TailCalib(k=1, donors="1"), train, [0, 3, 3, 0]).notes

    def test_fewer_donors_than_asked_are_noted(self, train_of: TrainOf, draw: Draw) -> None:
        """A donor cannot borrow from itself, unless it is tailcalib's; each such class is noted, and uses those it has."""
        train = train_of([40, 9, 1])
        rows = draw(DistributionCalibration(donors="all", power=1.0, alpha=0.0), train, [0, SIZE, SIZE])
        assert rows.notes["donors_clamped"] == {"1": 1}
        assert rows.donors is not None
        assert rows.parents is not None
        assert {tuple(each) for each in rows.donors[rows.targets == 1].tolist()} == {(0, -1)}
        i = int(rows.parents[0, 0])
        mine = rows.x[rows.parents[:, 0] == i].double()
        require_moments(mine, *calibrated(train, i, [0], 0.0, 0.0))
        assert draw(TailCalib(), train, [0, 3, 3]).notes["donors_clamped"] == {"1": 2, "2": 2}
        assert "donors_clamped" not in draw(TailCalib(k=2), train, [0, 3, 3]).notes


class TestCovarianceTransfer:
    """A head class's spread."""

    def test_rows_have_the_donors_covariance_around_their_row(self, train_of: TrainOf, draw: Draw) -> None:
        """Around each real row, with the covariance of the head class whose mean is nearest."""
        train = stretched(train_of([40, 30, 3, 2], width=5, apart=1.0))
        rows = draw(CovarianceTransfer(), train, [0, 0, 0, 2 * SIZE])
        assert rows.parents is not None
        assert rows.donors is not None
        means = {c: moments_of(train.x, train.targets, c)[0] for c in (0, 1, 3)}
        expected = min((0, 1), key=lambda c: float((means[c] - means[3]).norm()))
        assert set(rows.donors.tolist()) == {expected}
        for i in (train.targets == 3).nonzero().flatten().tolist():
            _, covariance = moments_of(train.x, train.targets, expected)
            require_moments(rows.x[rows.parents[:, 0] == i].double(), train.x[i].double(), covariance)

    @pytest.mark.parametrize("counts", [[300, 9], [6, 3]])
    def test_donors_of_many_and_few_rows(self, train_of: TrainOf, draw: Draw, counts: list[int]) -> None:
        """With more rows than features, or fewer, the spread is the donor's."""
        train = stretched(train_of(counts, width=8, apart=1.0))
        rows = draw(CovarianceTransfer(), train, [0, SIZE])
        assert rows.parents is not None
        _, covariance = moments_of(train.x, train.targets, 0)
        noise = rows.x.double() - train.x[rows.parents[:, 0]].double()
        require_moments(noise, torch.zeros(8, dtype=torch.float64), covariance)


class TestHeadTailFuse:
    """A head row's deviation."""

    @pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
    def test_rows_are_recomputed_from_parents_and_donor(self, train_of: TrainOf, draw: Draw, share: float) -> None:
        """x_i + β·(x_j − μ_h), x_j of the donor h, drawn evenly."""
        train = train_of([40, 30, 3], apart=1.0)
        rows = draw(HeadTailFuse(share=share), train, [0, 0, 4000])
        assert rows.parents is not None
        assert rows.donors is not None
        assert rows.parent_weights is not None
        i, j = rows.parents.unbind(dim=1)
        assert torch.equal(train.targets[j], rows.donors)
        assert set(rows.donors.tolist()) == {1}
        mean = moments_of(train.x, train.targets, 1)[0]
        expected = train.x[i].double() + share * (train.x[j].double() - mean)
        torch.testing.assert_close(expected.float(), rows.x, rtol=1e-6, atol=1e-6)
        assert set(map(tuple, rows.parent_weights.tolist())) == {(1.0, share)}
        assert stats.chisquare(torch.bincount(j, minlength=73)[train.targets == 1].numpy()).pvalue > 1e-3


class TestDonors:
    """Which classes may be borrowed from."""

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(st.lists(st.integers(0, 9), min_size=1, max_size=7).filter(any))
    def test_head_classes_have_no_fewer_rows_than_the_mean(self, train_of: TrainOf, counts: list[int]) -> None:
        """And two or more, whatever the counts; ``all`` are those of two or more."""
        mean = sum(counts) / sum(n > 0 for n in counts)
        for wanted, expected in (
            ("head", [c for c, n in enumerate(counts) if n > 1 and n >= mean]),
            ("all", [c for c, n in enumerate(counts) if n > 1]),
        ):
            if expected:
                assert Donors.of(train_of(counts), wanted).numbers.tolist() == expected
            else:
                with pytest.raises(ltbench.SkipCell, match=f"no class of donors='{wanted}' has two training rows"):
                    Donors.of(train_of(counts), wanted)

    def test_named_classes_lend_if_they_can(self, train_of: TrainOf) -> None:
        """Those without two rows are left out."""
        assert Donors.of(train_of([9, 5, 1, 0, 4]), "1 2 3 4").numbers.tolist() == [1, 4]

    @pytest.mark.parametrize("component", BORROWING)
    def test_unknown_donors_are_refused(self, train_of: TrainOf, draw: Draw, component: Any) -> None:
        """A class that does not exist, while fitting; what is no list of classes, while planning."""
        with pytest.raises(ltbench.UsageError, match="donors must be classes 0 to 2, not 7"):
            draw(component(donors="0 7"), train_of([9, 5, 2]), [0, 0, 3])
        for bad in ("tails", "", "0,1", "-1", "1.5"):
            with pytest.raises(ValueError, match="donors must be head, all, or class numbers such as '0 1 5'"):
                component(donors=bad)

    @pytest.mark.parametrize("component", BORROWING)
    def test_a_lone_donor_lends_to_itself(self, train_of: TrainOf, draw: Draw, component: Any) -> None:
        """Where there is no other class to borrow from, a class's own spread serves."""
        rows = draw(component(donors="0"), train_of([9, 1]), [5, 5])
        assert rows.donors is not None
        assert set(rows.donors.flatten().tolist()) == {0}

    def test_distances_are_compared_in_any_chunks(self, train_of: TrainOf, monkeypatch: pytest.MonkeyPatch) -> None:
        """The nearest donors of many rows are found a few rows at a time."""
        train = train_of([20, 15, 9], apart=0.5)
        donors = Donors.of(train, "all")
        whole = donors.nearest(train.x, train.targets, 2, own=False)
        monkeypatch.setattr("ltbench_generators.donors.ROWS", 7)
        assert torch.equal(whole, donors.nearest(train.x, train.targets, 2, own=False))
        for i, found in enumerate(whole.tolist()):
            others = [c for c in range(3) if c != int(train.targets[i])]
            assert found == nearest_classes(train, i, others, 2)


class TestTextAnchor:
    """Class-text vectors."""

    def test_rows_lie_around_the_anchor(self, train_of: TrainOf, draw: Draw) -> None:
        """With the mean t_c + g and the pooled within-class covariance."""
        train = train_of([30, 12, 1], width=3)
        text = torch.tensor([[1.0, 0.0, 2.0], [0.0, 5.0, 1.0], [3.0, 3.0, 3.0]])
        rows = draw(TextAnchor(), train.replace(text=text), [0, SIZE, SIZE])
        gap = (train.x - text[train.targets]).double().mean(0)
        scatter = sum(moments_of(train.x, train.targets, c)[1] * (n - 1) for c, n in ((0, 30), (1, 12)))
        for c in (1, 2):
            require_moments(rows.x[rows.targets == c].double(), text[c].double() + gap, torch.as_tensor(scatter) / 40)

    def test_texts_moved_alike_make_no_difference(self, train_of: TrainOf, draw: Draw) -> None:
        """The gap takes up what all texts have in common."""
        train, text = train_of([30, 12]), torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
        one, other = (draw(TextAnchor(), train.replace(text=text + shift), [0, 9]).x for shift in (0.0, 100.0))
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)

    def test_without_texts_a_cell_is_skipped(self, train_of: TrainOf) -> None:
        """With the reason."""
        with pytest.raises(ltbench.SkipCell, match="text-anchor needs class-text vectors"):
            TextAnchor().fit(train_of([3, 2]))
