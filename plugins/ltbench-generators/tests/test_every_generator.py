"""Tests of what holds for every generator: budgets, labels, reproducibility, unit rows, provenance, bad input, the kit."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

import ltbench
from ltbench.execute.numerics import pinned
from ltbench.plugins import discover
from ltbench.testing import parametrize_with_checks
from ltbench_generators import sampler as sampler_module
from ltbench_generators.adasyn import Adasyn
from ltbench_generators.borderline_smote import BorderlineSmote
from ltbench_generators.covariance_transfer import CovarianceTransfer
from ltbench_generators.distribution_calibration import DistributionCalibration
from ltbench_generators.gaussian import Gaussian
from ltbench_generators.gmm import GaussianMixture
from ltbench_generators.head_tail_fuse import HeadTailFuse
from ltbench_generators.kde import KernelDensity
from ltbench_generators.mixup import Mixup
from ltbench_generators.none import NoRows
from ltbench_generators.random_over import RandomOver
from ltbench_generators.random_under import RandomUnder
from ltbench_generators.remix import Remix
from ltbench_generators.sampler import Recipe, Sampler, signed_power
from ltbench_generators.smoothed_bootstrap import SmoothedBootstrap
from ltbench_generators.smote import Smote
from ltbench_generators.tailcalib import TailCalib
from ltbench_generators.text_anchor import TextAnchor
from ltbench_generators.vmf import VonMisesFisher

ESTIMATES = ("empirical", "diagonal", "tied", "ledoit-wolf", "oas", "low-rank", "blended")
GENERATORS: dict[str, Any] = {
    "random-over": RandomOver(),
    "smoothed-bootstrap": SmoothedBootstrap(),
    "smote": Smote(),
    "smote, k = 1": Smote(k=1),
    "borderline-smote": BorderlineSmote(),
    "adasyn": Adasyn(),
    "mixup": Mixup(),
    "mixup, alpha = 0.3": Mixup(alpha=0.3),
    "remix": Remix(),
    **{f"gaussian, {covariance}": Gaussian(covariance=covariance) for covariance in ESTIMATES},
    "gmm": GaussianMixture(components=2),
    "kde": KernelDensity(dim=3),
    "kde, bandwidth = 0.5": KernelDensity(bandwidth=0.5),
    "vmf": VonMisesFisher(),
    "distribution-calibration": DistributionCalibration(donors="all"),
    "tailcalib": TailCalib(),
    "tailcalib, power = 0.9": TailCalib(power=0.9, alpha=0.2),
    "covariance-transfer": CovarianceTransfer(),
    "head-tail-fuse": HeadTailFuse(),
    "text-anchor": TextAnchor(),
}
EXACT = ("random-over", "smote", "smote, k = 1", "borderline-smote", "adasyn", "mixup", "mixup, alpha = 0.3", "remix")
SOFT = ("mixup", "mixup, alpha = 0.3", "remix")
BORROWING = ("distribution-calibration", "tailcalib", "tailcalib, power = 0.9", "covariance-transfer", "head-tail-fuse")

several_examples = settings(max_examples=8, deadline=None, derandomize=True)
counts_and_budgets = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12)), min_size=1, max_size=5)
TrainOf = Callable[..., ltbench.Train]
Draw = Callable[..., ltbench.Rows]


def with_text(train: ltbench.Train) -> ltbench.Train:
    """Return the rows with class-text vectors: points of each class's own."""
    text = torch.arange(train.classes)[:, None] + torch.linspace(-1, 1, train.x.shape[1])
    return train.replace(text=text)


def allowed(pairs: list[tuple[int, int]], *, donors: bool) -> tuple[list[int], list[int]]:
    """Return counts and budgets: no budget for a class without rows; a first class of two rows at least for donors."""
    counts = [count for count, _ in pairs]
    if donors or not any(counts):
        counts[0] = max(2, counts[0])
    return counts, [budget if count else 0 for count, (_, budget) in zip(counts, pairs, strict=True)]


def labels_of(rows: ltbench.Rows, budget: list[int]) -> list[int]:
    """Return the labels that rows of a budget must have, class by class."""
    return [c for c, count in enumerate(budget) for _ in range(count)]


@pytest.mark.parametrize("name", GENERATORS)
class TestBudgets:
    """How many rows there are, and of which class."""

    @several_examples
    @given(pairs=counts_and_budgets, width=st.integers(1, 5), seed=st.integers(0, 99))
    def test_budgets_are_met_exactly(
        self, train_of: TrainOf, draw: Draw, name: str, pairs: list[tuple[int, int]], width: int, seed: int
    ) -> None:
        """Each class gets the rows it wants, finite, labelled as it, in the features' width and precision."""
        counts, budget = allowed(pairs, donors=name in BORROWING)
        rows = draw(GENERATORS[name], with_text(train_of(counts, width, seed)), budget)
        assert rows.x.shape == (sum(budget), width)
        assert rows.x.dtype == torch.float32
        assert bool(rows.x.isfinite().all())
        assert rows.keep is None
        if name in SOFT:
            assert rows.targets.shape == (sum(budget), len(counts))
            torch.testing.assert_close(rows.targets.sum(dim=1), torch.ones(sum(budget), dtype=torch.float64))
        else:
            assert rows.targets.dtype == torch.int64
            assert rows.targets.tolist() == labels_of(rows, budget)

    def test_no_budget_gives_no_rows(self, train_of: TrainOf, draw: Draw, name: str) -> None:
        """A budget of zeros gives no rows, in the right width."""
        rows = draw(GENERATORS[name], with_text(train_of([3, 1, 0])), [0, 0, 0])
        assert rows.x.shape == (0, 4)
        assert len(rows.targets) == 0

    def test_rows_go_with_the_sampler(self, train_of: TrainOf, name: str) -> None:
        """No cycle keeps training rows in memory until the next garbage collection, which may be many settings later."""
        train = with_text(train_of([9, 5, 1]))
        sampler = GENERATORS[name].fit(train)
        sampler(torch.tensor([0, 4, 8]))
        alive = weakref.ref(train)
        gc.disable()
        try:
            del train, sampler
            assert alive() is None
        finally:
            gc.enable()

    @pytest.mark.determinism
    def test_parts_are_the_same_rows(self, train_of: TrainOf, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Drawn in parts of a few rows, each of one class, the rows and their provenance are those drawn at once."""
        monkeypatch.setattr(sampler_module, "PART", 12)
        train, budget = with_text(train_of([9, 4, 1])), torch.tensor([0, 7, 5])
        sampler = GENERATORS[name].fit(train)
        whole, parts = sampler(budget), list(sampler.parts(budget))
        assert [len(part.x) for part in parts] == [3, 3, 1, 3, 2]
        for field in ("x", "targets", "parents", "parent_weights", "donors"):
            values = [getattr(part, field) for part in parts]
            if getattr(whole, field) is None:
                assert values == [None] * 5
            else:
                assert torch.equal(getattr(whole, field), torch.cat(values))
        assert all(dict(part.notes) == dict(whole.notes) for part in parts)

    @pytest.mark.determinism
    @several_examples
    @given(pairs=counts_and_budgets, seed=st.integers(0, 99))
    def test_a_classs_rows_do_not_depend_on_other_budgets(
        self, train_of: TrainOf, name: str, pairs: list[tuple[int, int]], seed: int
    ) -> None:
        """A class asked for alone gives the rows that it gives among others, bit for bit."""
        counts, budget = allowed(pairs, donors=name in BORROWING)
        sampler = GENERATORS[name].fit(with_text(train_of(counts, seed=seed)))
        together = sampler(torch.tensor(budget))
        mine = torch.tensor(labels_of(together, budget), dtype=torch.long)
        for c, n in enumerate(budget):
            alone = sampler(torch.tensor([n if other == c else 0 for other in range(len(budget))]))
            assert torch.equal(together.x[mine == c], alone.x)
            assert torch.equal(together.targets[mine == c], alone.targets)

    def test_a_larger_budget_keeps_the_first_rows(self, train_of: TrainOf, name: str) -> None:
        """The n-th row of a class is the same whatever its budget, up to rounding."""
        if name == "adasyn":
            pytest.skip("adasyn parts a budget among rows by their difficulty")
        sampler = GENERATORS[name].fit(with_text(train_of([12, 5, 1])))
        small, large = sampler(torch.tensor([3, 4, 5])), sampler(torch.tensor([9, 9, 9]))
        torch.testing.assert_close(small.x, torch.cat([large.x[0:3], large.x[9:13], large.x[18:23]]))


@pytest.mark.parametrize("name", GENERATORS)
class TestReproducibility:
    """The stream decides, and nothing else does."""

    @pytest.mark.determinism
    def test_the_same_stream_gives_the_same_rows(self, train_of: TrainOf, name: str) -> None:
        """Two fits, and two draws from one fit, are equal bit for bit, whatever torch's global seed."""
        train, budget = with_text(train_of([12, 5, 1])), torch.tensor([3, 9, 14])
        sampler = GENERATORS[name].fit(train)
        first = sampler(budget)
        torch.manual_seed(99)
        for again in (sampler(budget), GENERATORS[name].fit(with_text(train_of([12, 5, 1])))(budget)):
            assert torch.equal(first.x, again.x)
            assert torch.equal(first.targets, again.targets)

    def test_another_stream_gives_other_rows(self, train_of: TrainOf, draw: Draw, name: str) -> None:
        """Each class's rows change with the stream."""
        one, other = (draw(GENERATORS[name], with_text(train_of([12, 9, 8], stream=s)), [7, 7, 7]) for s in (7, 8))
        for start in (0, 7, 14):
            assert not torch.equal(one.x[start : start + 7], other.x[start : start + 7])

    def test_nothing_global_is_drawn_from_or_written_to(self, train_of: TrainOf, draw: Draw, name: str) -> None:
        """Torch's and NumPy's random states, and the training rows, are as before; samples are memory of their own."""
        train = with_text(train_of([6, 2, 1]))
        fields = ("x", "targets", "weights", "row_ids", "class_counts", "real_class_counts", "text")
        before = {each: getattr(train, each).clone() for each in fields}
        torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()
        draw(GENERATORS[name], train, [1, 4, 5]).x.fill_(1e9)
        assert torch.equal(torch_state, torch.get_rng_state())
        assert repr(numpy_state) == repr(np.random.get_state())
        for each in fields:
            assert torch.equal(before[each], getattr(train, each))

    def test_rows_may_stand_in_any_order_of_memory(self, train_of: TrainOf, draw: Draw, name: str) -> None:
        """Features whose numbers do not lie one after the other in memory give the same rows."""
        train = with_text(train_of([9, 4, 2]))
        turned = train.replace(x=train.x.T.contiguous().T)
        torch.testing.assert_close(draw(GENERATORS[name], train, [0, 4, 5]).x, draw(GENERATORS[name], turned, [0, 4, 5]).x)


@pytest.mark.parametrize("name", GENERATORS)
class TestUnitRows:
    """Where the real rows have length one, so have the synthetic ones."""

    def test_length_one_is_kept(self, train_of: TrainOf, draw: Draw, name: str) -> None:
        """Every synthetic row has length one, and the record says that this was seen to."""
        train = with_text(train_of([20, 9, 1], width=6))
        rows = draw(GENERATORS[name], train.replace(x=normalize(train.x, dim=1)), [0, 11, 19])
        torch.testing.assert_close(rows.x.double().norm(dim=1), torch.ones(30, dtype=torch.float64), atol=1e-6, rtol=0)
        assert rows.notes["unit_rows"] is True

    def test_other_lengths_are_left(self, train_of: TrainOf, draw: Draw, name: str) -> None:
        """Rows of other lengths are not made unit vectors."""
        rows = draw(GENERATORS[name], with_text(train_of([20, 9, 2])), [0, 11, 18])
        assert "unit_rows" not in rows.notes
        assert not bool(((rows.x.norm(dim=1) - 1).abs() < 1e-3).all())


@pytest.mark.parametrize("name", GENERATORS)
class TestBadInput:
    """What a generator is given by mistake, or by an awkward data set."""

    def test_a_budget_for_a_class_without_rows_is_refused(self, train_of: TrainOf, draw: Draw, name: str) -> None:
        """The message names the class."""
        with pytest.raises(ltbench.UsageError, match=r"classes \[2\] have no training row"):
            draw(GENERATORS[name], with_text(train_of([5, 3, 0])), [0, 2, 4])

    @pytest.mark.parametrize("budget", [[1, -1, 0], [1, 2]])
    def test_a_budget_that_is_none_is_refused(self, train_of: TrainOf, draw: Draw, name: str, budget: list[int]) -> None:
        """A budget has a number of at least 0 for each class."""
        with pytest.raises(ltbench.UsageError, match="a budget must be 3 numbers of at least 0"):
            draw(GENERATORS[name], with_text(train_of([5, 3, 2])), budget)

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_rows_that_are_not_finite_are_refused(self, train_of: TrainOf, draw: Draw, name: str, bad: float) -> None:
        """The message counts them."""
        train = with_text(train_of([5, 3, 2]))
        train.x[[1, 4], 2] = bad
        with pytest.raises(ltbench.UsageError, match="2 of 10 hold NaN or infinity"):
            draw(GENERATORS[name], train, [0, 2, 4])

    def test_constant_features_give_finite_rows(self, train_of: TrainOf, draw: Draw, name: str) -> None:
        """A feature that never varies, or no feature that does, is no reason for NaN."""
        train = with_text(train_of([7, 3, 1]))
        train.x[:, 1] = 2.0
        assert bool(draw(GENERATORS[name], train, [0, 4, 6]).x.isfinite().all())
        train.x[:] = 2.0
        assert bool(draw(GENERATORS[name], train, [0, 4, 6]).x.isfinite().all())

    def test_many_equal_rows_are_no_trouble(self, train_of: TrainOf, draw: Draw, name: str) -> None:
        """Thirty times the same row in two classes gives finite rows."""
        train = with_text(train_of([40, 30, 5]))
        train.x[train.targets < 2] = torch.tensor([0.5, -1.0, 0.0, 2.0])
        assert bool(draw(GENERATORS[name], train, [0, 10, 35]).x.isfinite().all())


class TestRepeats:
    """Methods that can only give what they have seen."""

    @pytest.mark.parametrize(
        "name", ["random-over", "smoothed-bootstrap", "smote", "borderline-smote", "adasyn", "gaussian, ledoit-wolf", "gmm"]
    )
    def test_equal_rows_stay_equal(self, train_of: TrainOf, draw: Draw, name: str) -> None:
        """A class whose rows are all one point gives that point."""
        train = train_of([6, 4])
        train.x[train.targets == 1] = torch.tensor([1.0, -2.0, 0.0, 5.0])
        rows = draw(GENERATORS[name], train, [0, 8])
        torch.testing.assert_close(torch.tensor([[1.0, -2.0, 0.0, 5.0]] * 8), rows.x, atol=1e-6, rtol=0)

    @pytest.mark.parametrize("budget", [[0, 0, 0], [0, 5, 9]])
    def test_none_gives_no_rows(self, train_of: TrainOf, draw: Draw, budget: list[int]) -> None:
        """There are no rows, no notes and no cost, in the right width and types."""
        rows = draw(NoRows(), train_of([9, 4, 1]), budget)
        assert (rows.x.shape, rows.targets.shape, rows.targets.dtype) == ((0, 4), (0,), torch.int64)
        assert (dict(rows.notes), rows.flops) == ({}, 0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("name", GENERATORS)
def test_cuda_gives_the_rows_of_the_cpu(train_of: TrainOf, draw: Draw, name: str, *, unit: bool) -> None:
    """The same labels, parents and donors, and rows up to rounding, with deterministic algorithms; twice the same bits."""
    train = with_text(train_of([40, 25, 9, 1], width=12, apart=0.5))
    train = train.replace(x=normalize(train.x, dim=1)) if unit else train
    tensors = {f.name: getattr(train, f.name) for f in dataclasses.fields(train)}
    on_cuda = train.replace(**{key: value.cuda() for key, value in tensors.items() if isinstance(value, torch.Tensor)})
    budget = torch.tensor([0, 15, 31, 39])
    with pinned("cuda"):
        expected = GENERATORS[name].fit(train)(budget)
        actual, again = (GENERATORS[name].fit(on_cuda)(budget.cuda()) for _ in range(2))
    assert torch.equal(actual.x, again.x)
    torch.testing.assert_close(expected.x, actual.x.cpu(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(expected.targets, actual.targets.cpu())
    for field in ("parents", "donors"):
        one, other = getattr(expected, field), getattr(actual, field)
        assert (one is None and other is None) or torch.equal(one, other.cpu())
    assert dict(expected.notes).keys() == dict(actual.notes).keys()


class TestProvenance:
    """A row can be recomputed from what is said of where it comes from."""

    @pytest.mark.parametrize("unit", [False, True])
    @pytest.mark.parametrize("name", EXACT)
    @several_examples
    @given(pairs=counts_and_budgets, seed=st.integers(0, 99))
    def test_weighted_parents_are_the_row(
        self, train_of: TrainOf, draw: Draw, name: str, pairs: list[tuple[int, int]], seed: int, *, unit: bool
    ) -> None:
        """Σ weight · parent is the row, on the unit sphere too; only a lone row's jitter comes from the seed."""
        counts, budget = allowed(pairs, donors=False)
        train = train_of(counts, seed=seed)
        train = train.replace(x=normalize(train.x, dim=1)) if unit else train
        rows = draw(GENERATORS[name], train, budget)
        assert rows.parents is not None
        share = torch.ones(rows.parents.shape, dtype=torch.float64) if rows.parent_weights is None else rows.parent_weights
        labels = torch.tensor(labels_of(rows, budget), dtype=torch.long)
        assert bool((train.targets[rows.parents[:, 0]] == labels).all())
        if name not in SOFT:
            assert bool((train.targets[rows.parents] == labels[:, None]).all())
        if not unit:
            torch.testing.assert_close(torch.ones(len(share), dtype=torch.float64), share.sum(dim=1))
        expected = (share[:, :, None] * train.x[rows.parents].double()).sum(dim=1).float()
        jittered = torch.isin(labels, torch.tensor(rows.notes.get("jittered_classes", []), dtype=torch.long))
        torch.testing.assert_close(expected[~jittered], rows.x[~jittered], rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
    def test_weights_are_those_of_a_row_scaled_under_a_power(self, train_of: TrainOf, power: float) -> None:
        """P⁻¹(Σ w·P(parent)) is the row on the unit sphere, whatever the power; with two parents, uneven."""
        train = train_of([12, 9])
        train = train.replace(x=normalize(train.x, dim=1))
        parents, share = torch.tensor([[0, 3], [2, 1], [5, 5]]), torch.tensor([[0.3, 0.7], [0.5, 0.5], [1.0, 0.0]])

        def plan(_: ltbench.Train, __: torch.Tensor) -> Recipe:
            return Recipe(torch.zeros(3, dtype=torch.long), parents, share.double(), power=power)

        rows = Sampler(train, plan)(torch.tensor([3, 0]))
        assert rows.parent_weights is not None
        summed = (rows.parent_weights[:, :, None] * signed_power(train.x[parents].double(), power)).sum(dim=1)
        torch.testing.assert_close(signed_power(summed, 1 / power).float(), rows.x, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(rows.x.norm(dim=1), torch.ones(3))

    def test_k_may_be_any_number(self, train_of: TrainOf) -> None:
        """More neighbours than there are rows are all of them, without a table for as many."""
        train = train_of([12, 9, 4])
        few, many = (Smote(k=k).fit(train)(torch.tensor([0, 3, 8])) for k in (11, 10**9))
        assert torch.equal(few.x, many.x)

    @pytest.mark.parametrize("name", [name for name in GENERATORS if name not in EXACT])
    def test_the_seed_recomputes_one_row(self, train_of: TrainOf, name: str) -> None:
        """The n-th row of a class, asked for with as few others as can be, is that of the whole draw."""
        train = with_text(train_of([12, 9, 4]))
        whole = GENERATORS[name].fit(train)(torch.tensor([6, 8, 10]))
        again = GENERATORS[name].fit(train)(torch.tensor([0, 5, 0]))
        torch.testing.assert_close(whole.x[6 + 4], again.x[4])

    @pytest.mark.parametrize("name", BORROWING)
    def test_donors_are_named(self, train_of: TrainOf, draw: Draw, name: str) -> None:
        """Every row that borrows names classes of two rows or more; parents are of the row's class."""
        train = train_of([12, 9, 1, 4])
        rows = draw(GENERATORS[name], train, [0, 3, 11, 8])
        assert rows.donors is not None
        assert rows.parents is not None
        assert set(rows.donors.flatten().tolist()) <= {0, 1, 3}
        assert bool((train.targets[rows.parents[:, 0]] == rows.targets).all())


@parametrize_with_checks([f"generator:{name}" for name in discover().names("generator") if not name.startswith("imblearn")])
def test_conformance(component: Any, check: Any) -> None:
    """Every generator passes the kit."""
    check(component)


def test_undersampling_is_no_exception_to_bad_input(train_of: TrainOf) -> None:
    """random-under gives no rows whatever the budget, and keeps rows of every class."""
    rows = RandomUnder().fit(train_of([9, 4, 2]))(torch.tensor([0, 5, 7]))
    assert len(rows.x) == 0
    assert rows.keep is not None
    assert int(rows.keep.sum()) == 6
