"""Tests of the generators, against imbalanced-learn, scikit-learn and naive loops."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from imblearn.over_sampling import SMOTE
from scipy import stats
from sklearn.covariance import ledoit_wolf
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

import ltbench
from ltbench.budget import Budget
from ltbench_generators.draws import draw_ids, labels_of, members
from ltbench_generators.gaussian import Gaussian, ledoit_wolf_shrinkage
from ltbench_generators.none import NoRows
from ltbench_generators.random_over import RandomOver
from ltbench_generators.smote import Smote

GENERATORS: dict[str, Callable[[], Any]] = {
    "random-over": RandomOver,
    "smote": Smote,
    "smote, k = 1": lambda: Smote(k=1),
    "gaussian": Gaussian,
    "gaussian, shrinkage = 0": lambda: Gaussian(shrinkage=0.0),
    "gaussian, shrinkage = 1": lambda: Gaussian(shrinkage=1.0),
}
WITH_PARENTS = ("random-over", "smote", "smote, k = 1")

several_examples = settings(max_examples=12, deadline=None, derandomize=True)
many_examples = settings(max_examples=60, deadline=None, derandomize=True)
counts_and_budgets = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12)), min_size=1, max_size=5).filter(
    lambda pairs: any(count for count, _ in pairs)
)


def train_of(counts: list[int], width: int = 4, seed: int = 0, stream: int = 7) -> ltbench.Train:
    """Return real rows, the classes mixed, each with a mean of its own; some rows of equal labels are neighbours."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    x = torch.randn(len(labels), width, generator=generator) + 3.0 * labels[:, None]
    count = torch.tensor(counts, dtype=torch.float64)
    weights = torch.ones(len(labels), dtype=torch.float64)
    return ltbench.Train(x, labels, weights, 100 + torch.arange(len(labels)), count, count, ltbench.Stream.of(stream))


def draw(generator: Any, train: ltbench.Train, budget: list[int]) -> ltbench.Rows:
    """Fit and sample."""
    rows = generator.fit(train)(torch.tensor(budget))
    assert isinstance(rows, ltbench.Rows)
    return rows


def allowed(pairs: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Return counts and budgets, no budget for a class without rows."""
    return [count for count, _ in pairs], [budget if count else 0 for count, budget in pairs]


@pytest.mark.parametrize("name", GENERATORS)
class TestEveryGenerator:
    """What holds for every generator that adds rows."""

    @several_examples
    @given(pairs=counts_and_budgets, width=st.integers(1, 5), seed=st.integers(0, 99))
    def test_budgets_are_met_exactly(self, name: str, pairs: list[tuple[int, int]], width: int, seed: int) -> None:
        """Each class gets the rows it wants, finite, labelled as it, in the features' width and precision."""
        counts, budget = allowed(pairs)
        train = train_of(counts, width, seed)
        rows = draw(GENERATORS[name](), train, budget)
        assert [int((rows.targets == c).sum()) for c in range(len(counts))] == budget
        assert rows.x.shape == (sum(budget), width)
        assert (rows.x.dtype, rows.targets.dtype) == (torch.float32, torch.int64)
        assert bool(rows.x.isfinite().all())
        assert rows.keep is None

    @pytest.mark.parametrize("target", ["max", "median", "mean", 7, 40])
    def test_budgets_top_classes_up_to_the_target(self, name: str, target: str | int) -> None:
        """Real and synthetic rows together reach the target in every class below it that has rows."""
        counts = [20, 9, 3, 1, 0]
        rows = draw(GENERATORS[name](), train_of(counts), Budget(target=target).wanted(counts))
        together = [n + int((rows.targets == c).sum()) for c, n in enumerate(counts)]
        level = {"max": 20, "median": 6, "mean": 8}.get(str(target), target)
        assert together == [max(n, level) if n else 0 for n in counts]

    def test_no_budget_gives_no_rows(self, name: str) -> None:
        """A budget of zeros gives no rows, in the right width, and no notes."""
        rows = draw(GENERATORS[name](), train_of([3, 1, 0]), [0, 0, 0])
        assert rows.x.shape == (0, 4)
        assert rows.targets.shape == (0,)
        assert dict(rows.notes) == {}

    def test_the_same_stream_gives_the_same_rows(self, name: str) -> None:
        """Two fits, and two draws from one fit, are equal bit for bit, whatever torch's global seed."""
        train, budget = train_of([12, 5, 1]), torch.tensor([3, 9, 14])
        sampler = GENERATORS[name]().fit(train)
        first = sampler(budget)
        torch.manual_seed(99)
        for again in (sampler(budget), GENERATORS[name]().fit(train_of([12, 5, 1]))(budget)):
            assert torch.equal(first.x, again.x)
            assert torch.equal(first.targets, again.targets)

    def test_another_stream_gives_other_rows(self, name: str) -> None:
        """The stream decides: each class's rows change with it."""
        budget = [7, 7, 7]
        one, other = (draw(GENERATORS[name](), train_of([12, 9, 8], stream=stream), budget) for stream in (7, 8))
        for c in range(3):
            assert not torch.equal(one.x[one.targets == c], other.x[other.targets == c])

    def test_nothing_global_is_drawn_from_or_written_to(self, name: str) -> None:
        """Torch's and NumPy's random states, and the training rows, are as before."""
        train = train_of([6, 2, 1])
        fields = ("x", "targets", "weights", "row_ids", "class_counts", "real_class_counts")
        before = {each: getattr(train, each).clone() for each in fields}
        torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()
        draw(GENERATORS[name](), train, [1, 4, 5])
        assert torch.equal(torch_state, torch.get_rng_state())
        assert repr(numpy_state) == repr(np.random.get_state())
        for each in fields:
            assert torch.equal(before[each], getattr(train, each))

    def test_samples_do_not_share_memory_with_real_rows(self, name: str) -> None:
        """Writing to synthetic rows leaves the training rows alone."""
        train = train_of([6, 2, 1])
        before = train.x.clone()
        draw(GENERATORS[name](), train, [2, 4, 5]).x.fill_(1e9)
        assert torch.equal(before, train.x)

    @several_examples
    @given(pairs=counts_and_budgets, seed=st.integers(0, 99))
    def test_a_classs_rows_do_not_depend_on_other_budgets(self, name: str, pairs: list[tuple[int, int]], seed: int) -> None:
        """A class asked for alone gives the rows that it gives among others."""
        counts, budget = allowed(pairs)
        train = train_of(counts, seed=seed)
        sampler = GENERATORS[name]().fit(train)
        together = sampler(torch.tensor(budget))
        for c, n in enumerate(budget):
            alone = sampler(torch.tensor([n if other == c else 0 for other in range(len(budget))]))
            assert torch.equal(together.x[together.targets == c], alone.x)

    def test_a_larger_budget_keeps_the_first_rows(self, name: str) -> None:
        """The n-th row of a class is the same whatever its budget, up to rounding."""
        sampler = GENERATORS[name]().fit(train_of([12, 5, 1]))
        small, large = sampler(torch.tensor([3, 4, 5])), sampler(torch.tensor([9, 9, 9]))
        for c, n in enumerate([3, 4, 5]):
            torch.testing.assert_close(small.x[small.targets == c], large.x[large.targets == c][:n])

    def test_equal_rows_stay_equal(self, name: str) -> None:
        """A class whose rows are all one point gives that point, however many classes there are beside it."""
        train = train_of([6, 4])
        train.x[train.targets == 1] = torch.tensor([1.0, -2.0, 0.0, 5.0])
        rows = draw(GENERATORS[name](), train, [0, 8])
        torch.testing.assert_close(torch.tensor([[1.0, -2.0, 0.0, 5.0]] * 8), rows.x, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", WITH_PARENTS)
class TestProvenance:
    """Generators that name the rows a synthetic row comes from."""

    @several_examples
    @given(pairs=counts_and_budgets, seed=st.integers(0, 99))
    def test_parents_recompute_their_row(self, name: str, pairs: list[tuple[int, int]], seed: int) -> None:
        """Parents are of the row's class, weights sum to one, and the weighted parents are the row."""
        counts, budget = allowed(pairs)
        train = train_of(counts, seed=seed)
        rows = draw(GENERATORS[name](), train, budget)
        parents = rows.parents
        assert parents is not None
        assert parents.shape[0] == sum(budget)
        share = torch.ones(parents.shape, dtype=torch.float64) if rows.parent_weights is None else rows.parent_weights
        assert bool((train.targets[parents] == rows.targets[:, None]).all())
        torch.testing.assert_close(torch.ones(len(parents), dtype=torch.float64), share.sum(dim=1))
        expected = (share[:, :, None] * train.x[parents].double()).sum(dim=1)
        exact = train.real_class_counts[rows.targets] > 1 if "smote" in name else torch.ones(len(parents), dtype=torch.bool)
        torch.testing.assert_close(expected[exact].float(), rows.x[exact])


class TestNone:
    """The generator that adds nothing."""

    @pytest.mark.parametrize("budget", [[0, 0, 0], [0, 5, 9]])
    def test_no_rows_whatever_the_budget(self, budget: list[int]) -> None:
        """There are no rows, no notes and no cost, in the right width and types."""
        rows = draw(NoRows(), train_of([9, 4, 1]), budget)
        assert rows.x.shape == (0, 4)
        assert rows.targets.shape == (0,)
        assert rows.targets.dtype == torch.int64
        assert (dict(rows.notes), rows.flops) == ({}, 0)


class TestRandomOver:
    """Real rows again."""

    @many_examples
    @given(pairs=counts_and_budgets, seed=st.integers(0, 99))
    def test_copies_differ_by_one_at_most(self, pairs: list[tuple[int, int]], seed: int) -> None:
        """Within a class no row is repeated two times more often than another."""
        counts, budget = allowed(pairs)
        train = train_of(counts, seed=seed)
        rows = draw(RandomOver(), train, budget)
        assert rows.parents is not None
        copies = Counter(rows.parents[:, 0].tolist())
        for c in range(len(counts)):
            mine = [copies[int(i)] for i in members(train.targets, c)]
            assert sum(mine) == budget[c]
            assert not mine or max(mine) - min(mine) <= 1

    def test_rows_are_copies(self) -> None:
        """Every synthetic row is a real row of its class, bit for bit."""
        train = train_of([9, 4, 1])
        rows = draw(RandomOver(), train, Budget().wanted([9, 4, 1]))
        assert rows.parents is not None
        assert torch.equal(train.x[rows.parents[:, 0]], rows.x)
        assert torch.equal(train.targets[rows.parents[:, 0]], rows.targets)
        assert (dict(rows.notes), rows.flops) == ({}, 0)

    def test_which_rows_come_first_depends_on_ids_not_on_positions(self) -> None:
        """Rows in another order, with their ids, give the same copies."""
        train = train_of([9, 5])
        turned = train.replace(x=train.x.flip(0), targets=train.targets.flip(0), row_ids=train.row_ids.flip(0))
        assert torch.equal(draw(RandomOver(), train, [4, 3]).x, draw(RandomOver(), turned, [4, 3]).x)


class TestSmote:
    """SMOTE against imbalanced-learn."""

    @pytest.mark.parametrize("k", [1, 5, 8])
    def test_neighbours_are_scikit_learns(self, k: int) -> None:
        """Each row's neighbours are those of scikit-learn within the class, in the same order, itself left out."""
        train = train_of([30, 12, 9], width=6)
        sampler = Smote(k=k).fit(train)
        for c in range(3):
            x = train.x[train.targets == c].numpy()
            expected = NearestNeighbors(n_neighbors=k).fit(x).kneighbors(return_distance=False)
            assert sampler.neighbours(c).tolist() == expected.tolist()

    @pytest.mark.parametrize("c", [1, 2])
    def test_neighbours_are_imbalanced_learns(self, c: int) -> None:
        """Fitted by imbalanced-learn, the neighbour search of each minority class gives the same sets."""
        train = train_of([30, 12, 9], width=6)
        x, y = train.x.numpy(), train.targets.numpy()
        theirs = SMOTE(k_neighbors=5, random_state=0, sampling_strategy={c: 30})
        theirs.fit_resample(x, y)
        expected = theirs.nn_k_.kneighbors(x[y == c], return_distance=False)[:, 1:]
        actual = Smote(k=5).fit(train).neighbours(c).tolist()
        assert [set(row) for row in actual] == [set(row) for row in expected.tolist()]

    def test_rows_lie_between_a_row_and_its_neighbour(self) -> None:
        """Every row is x_i + u·(x_j − x_i) of its parents, u in [0, 1), x_j among the k nearest of x_i."""
        train = train_of([30, 12, 9], width=6)
        sampler = Smote(k=3).fit(train)
        rows = sampler(torch.tensor([5, 40, 60]))
        assert rows.parents is not None
        assert rows.parent_weights is not None
        u = rows.parent_weights[:, 1:]
        start, end = (train.x[rows.parents[:, column]].double() for column in (0, 1))
        assert torch.equal((start + u * (end - start)).float(), rows.x)
        assert torch.equal(1 - u, rows.parent_weights[:, :1])
        assert bool(((u >= 0) & (u < 1)).all())
        for (i, j), c in zip(rows.parents.tolist(), rows.targets.tolist(), strict=True):
            mine = members(train.targets, c).tolist()
            assert mine.index(j) in sampler.neighbours(c)[mine.index(i)].tolist()

    def test_rows_are_distributed_as_imbalanced_learns(self) -> None:
        """On fixed directions the projections of 4,000 rows of either have one distribution; so do mean and spread."""
        train = train_of([4040, 40], width=5, seed=4)
        x, y = train.x.numpy(), train.targets.numpy()
        theirs, labels = SMOTE(k_neighbors=5, random_state=1).fit_resample(x, y)
        expected = theirs[len(x) :][labels[len(x) :] == 1]
        actual = draw(Smote(k=5), train, [0, 4000]).x.numpy()
        assert len(expected) == len(actual) == 4000
        directions = np.random.default_rng(0).normal(size=(5, 8))
        for one, other in zip((expected @ directions).T, (actual @ directions).T, strict=True):
            assert stats.ks_2samp(one, other).pvalue > 1e-3
        real = x[y == 1]
        np.testing.assert_allclose(actual.mean(0), expected.mean(0), atol=0.06 * real.std())
        np.testing.assert_allclose(np.cov(actual.T), np.cov(expected.T), atol=0.08 * np.cov(real.T).max())

    def test_rows_neighbours_and_steps_are_drawn_evenly(self) -> None:
        """Over 20,000 rows, seeds and neighbours pass a χ² test, and steps a test for uniformity."""
        sampler = Smote(k=4).fit(train_of([6, 10]))
        rows = sampler(torch.tensor([0, 20_000]))
        assert rows.parents is not None
        assert rows.parent_weights is not None
        pairs = Counter(map(tuple, rows.parents.tolist()))
        assert len(pairs) == 10 * 4
        assert stats.chisquare(list(pairs.values())).pvalue > 1e-3
        assert stats.kstest(rows.parent_weights[:, 1].numpy(), "uniform").pvalue > 1e-3

    def test_k_is_clamped_to_small_classes_and_noted(self) -> None:
        """A class with k rows or fewer takes all its other rows as neighbours, and the record says so."""
        train = train_of([12, 6, 5, 2])
        sampler = Smote(k=5).fit(train)
        assert [sampler.neighbours(c).shape[1] for c in range(4)] == [5, 5, 4, 1]
        rows = sampler(torch.tensor([0, 6, 7, 10]))
        assert dict(rows.notes) == {"k_clamped": {"2": 4, "3": 1}}
        for i, neighbours in enumerate(sampler.neighbours(2).tolist()):
            assert sorted([i, *neighbours]) == [0, 1, 2, 3, 4]

    def test_only_classes_that_are_asked_are_noted(self) -> None:
        """A small class without a budget is not noted."""
        assert dict(draw(Smote(), train_of([12, 3, 1]), [2, 0, 0]).notes) == {}

    def test_a_lone_row_is_jittered_and_noted(self) -> None:
        """A class of one row gives normal noise around it, of the jitter times the pooled deviation per feature."""
        train = train_of([5, 1, 4], width=3)
        train = train.replace(x=train.x * torch.tensor([0.1, 1.0, 20.0]))
        rows = draw(Smote(jitter=0.3), train, [0, 20_000, 0])
        assert dict(rows.notes) == {"jittered_classes": [1]}
        lone = train.x[train.targets == 1][0].double().numpy()
        squares, free = np.zeros(3), 0
        for c in (0, 2):
            x = train.x[train.targets == c].double().numpy()
            squares += ((x - x.mean(0)) ** 2).sum(0)
            free += len(x) - 1
        expected = 0.3 * np.sqrt(squares / free)
        noise = (rows.x.double().numpy() - lone) / expected
        np.testing.assert_allclose(noise.mean(0), 0, atol=4 / np.sqrt(20_000))
        np.testing.assert_allclose(noise.std(0), 1, atol=0.03)
        assert all(stats.kstest(column, "norm").pvalue > 1e-3 for column in noise.T)
        assert rows.parents is not None
        assert set(rows.parents.flatten().tolist()) == set(members(train.targets, 1).tolist())

    @pytest.mark.parametrize(("counts", "jitter"), [([9, 1], 0.0), ([1, 1], 0.5)])
    def test_a_lone_row_without_noise_is_repeated(self, counts: list[int], jitter: float) -> None:
        """Without jitter, or where no class has a spread to take it from, the row is repeated."""
        train = train_of(counts)
        rows = draw(Smote(jitter=jitter), train, [0, 6])
        assert torch.equal(train.x[train.targets == 1].expand(6, -1), rows.x)

    def test_other_classes_are_not_jittered(self) -> None:
        """Jitter changes no row of a class with two rows or more."""
        train, budget = train_of([9, 4, 1]), [3, 5, 8]
        one, other = (draw(Smote(jitter=jitter), train, budget) for jitter in (0.0, 5.0))
        several = one.targets != 2
        assert torch.equal(one.x[several], other.x[several])
        assert not torch.equal(one.x[~several], other.x[~several])

    def test_duplicate_rows_are_neighbours_of_each_other(self) -> None:
        """A row is never its own neighbour, even where another row equals it."""
        train = train_of([6, 4])
        train.x[train.targets == 1] = 2.0
        for i, neighbours in enumerate(Smote(k=3).fit(train).neighbours(1).tolist()):
            assert sorted([i, *neighbours]) == [0, 1, 2, 3]


def correlated(rows: int, width: int, seed: int = 0) -> np.ndarray:
    """Return float64 rows of a correlated normal distribution off the origin."""
    generator = np.random.default_rng(seed)
    return generator.normal(size=(rows, width)) @ generator.normal(size=(width, width)) + 5.0


def pooled(train: ltbench.Train) -> np.ndarray:
    """Return rows less their class's mean, of classes with two rows or more, by a loop."""
    parts = [train.x[train.targets == c].double().numpy() for c in range(train.classes)]
    return np.vstack([part - part.mean(0) for part in parts if len(part) > 1])


class TestGaussian:
    """Normal classes against scikit-learn's Ledoit–Wolf."""

    @pytest.mark.parametrize(("rows", "width"), [(2, 3), (5, 20), (20, 5), (30, 30), (500, 4)])
    def test_shrinkage_and_covariance_are_scikit_learns(self, rows: int, width: int) -> None:
        """Ledoit and Wolf's share and the covariance equal scikit-learn's, with more features than rows or fewer."""
        x = correlated(rows, width)
        covariance, shrinkage = ledoit_wolf(x)
        centred = torch.from_numpy(x - x.mean(0))
        assert ledoit_wolf_shrinkage(centred, centred.T @ centred / rows) == pytest.approx(shrinkage, rel=1e-9)
        torch.testing.assert_close(torch.from_numpy(covariance), Gaussian().covariance(centred), rtol=1e-9, atol=1e-12)

    @many_examples
    @given(st.integers(2, 12), st.integers(2, 8), st.integers(0, 999))
    def test_shrinkage_lies_between_none_and_all(self, rows: int, width: int, seed: int) -> None:
        """The share is in [0, 1] and scikit-learn's, whatever the rows."""
        x = correlated(rows, width, seed)
        centred = torch.from_numpy(x - x.mean(0))
        shrinkage = ledoit_wolf_shrinkage(centred, centred.T @ centred / rows)
        assert 0.0 <= shrinkage <= 1.0
        assert shrinkage == pytest.approx(ledoit_wolf(x)[1], rel=1e-6, abs=1e-9)

    @pytest.mark.parametrize("shrinkage", [0.0, 0.3, 1.0])
    def test_a_given_share_blends_with_the_identity(self, shrinkage: float) -> None:
        """(1−s)·S + s·tr(S)/D·I, entry by entry."""
        x = correlated(9, 4)
        centred = x - x.mean(0)
        empirical = np.cov(x.T, bias=True)
        expected = [
            [(1 - shrinkage) * empirical[i, j] + shrinkage * (i == j) * empirical.trace() / 4 for j in range(4)]
            for i in range(4)
        ]
        actual = Gaussian(shrinkage=shrinkage).covariance(torch.from_numpy(centred))
        torch.testing.assert_close(torch.tensor(expected, dtype=torch.float64), actual)

    @pytest.mark.parametrize("shrinkage", ["ledoit-wolf", 0.0, 0.5])
    def test_samples_have_the_classes_moments(self, shrinkage: Any) -> None:
        """Over 40,000 samples of each class, mean and covariance are the class's, and projections are normal."""
        train = train_of([25, 12], width=3)
        train = train.replace(x=train.x @ torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.3, 0.2], [0.0, 0.0, 1.0]]))
        size = 40_000
        rows = draw(Gaussian(shrinkage=shrinkage), train, [size, size])
        for c in (0, 1):
            x, samples = (each.double().numpy() for each in (train.x[train.targets == c], rows.x[rows.targets == c]))
            empirical = np.cov(x.T, bias=True)
            s = ledoit_wolf(x)[1] if shrinkage == "ledoit-wolf" else shrinkage
            covariance = (1 - s) * empirical + s * empirical.trace() / 3 * np.eye(3)
            deviation = np.sqrt(covariance.diagonal())
            np.testing.assert_allclose((samples.mean(0) - x.mean(0)) / deviation, 0, atol=4 / np.sqrt(size))
            scaled = np.cov(samples.T) / np.outer(deviation, deviation)
            np.testing.assert_allclose(scaled, covariance / np.outer(deviation, deviation), atol=6 / np.sqrt(size))
            whitened = np.linalg.solve(np.linalg.cholesky(covariance), (samples - x.mean(0)).T)
            assert all(stats.kstest(row[:5000], "norm").pvalue > 1e-3 for row in whitened)

    def test_a_lone_row_takes_the_pooled_covariance(self) -> None:
        """A class of one row is centred on it, with the shrunk within-class covariance of the others, and noted."""
        train = train_of([30, 1, 12], width=3)
        train = train.replace(x=train.x * torch.tensor([0.5, 1.0, 4.0]))
        size = 40_000
        rows = draw(Gaussian(), train, [0, size, 0])
        assert dict(rows.notes) == {"pooled_covariance_classes": [1]}
        covariance, _ = ledoit_wolf(pooled(train), assume_centered=True)
        deviation = np.sqrt(covariance.diagonal())
        samples = rows.x.double().numpy()
        lone = train.x[train.targets == 1][0].double().numpy()
        np.testing.assert_allclose((samples.mean(0) - lone) / deviation, 0, atol=4 / np.sqrt(size))
        scale = np.outer(deviation, deviation)
        np.testing.assert_allclose(np.cov(samples.T) / scale, covariance / scale, atol=6 / np.sqrt(size))

    def test_only_lone_classes_that_are_asked_are_noted(self) -> None:
        """Classes with more rows, or without a budget, are not noted."""
        assert dict(draw(Gaussian(), train_of([9, 3, 1]), [2, 4, 0]).notes) == {}

    def test_lone_rows_alone_take_the_spread_between_them(self) -> None:
        """Where every class has one row, the covariance of all rows together stands in."""
        train = train_of([1, 1, 1, 1], width=2)
        size = 20_000
        rows = draw(Gaussian(shrinkage=0.0), train, [size, 0, 0, 0])
        expected = np.cov(train.x.double().numpy().T, bias=True)
        np.testing.assert_allclose(np.cov(rows.x.double().numpy().T), expected, atol=0.05 * expected.max())
        assert dict(rows.notes) == {"pooled_covariance_classes": [0]}

    def test_a_singular_covariance_stays_in_its_directions(self) -> None:
        """Two rows without shrinkage give points on the line through them, up to the ridge that keeps it solvable."""
        train = train_of([8, 2], width=4)
        a, b = train.x[train.targets == 1].double()
        rows = draw(Gaussian(shrinkage=0.0), train, [0, 50]).x.double()
        direction = (b - a) / (b - a).norm()
        off = rows - a - ((rows - a) @ direction)[:, None] * direction
        assert float(off.norm(dim=1).max()) < 1e-3 * float((b - a).norm())
        assert float(((rows - a) @ direction).std()) == pytest.approx(float((b - a).norm()) / 2, rel=0.3)


class TestDraws:
    """Which row belongs to which class, and ids for its draws."""

    @many_examples
    @given(st.lists(st.integers(0, 6), min_size=1, max_size=6))
    def test_labels_and_ids_are_those_of_a_loop(self, budget: list[int]) -> None:
        """Labels go class by class; ids count within the class and never meet."""
        labels = labels_of(torch.tensor(budget))
        pairs = [(c, i) for c, n in enumerate(budget) for i in range(n)]
        assert labels.tolist() == [c for c, _ in pairs]
        ids = draw_ids(labels).tolist()
        assert ids == [c * 2**32 + i for c, i in pairs]
        assert len(set(ids)) == len(ids)

    @many_examples
    @given(st.lists(st.integers(0, 3), max_size=12), st.integers(0, 4))
    def test_members_are_positions(self, labels: list[int], c: int) -> None:
        """Members of a class are its positions, ascending."""
        targets: Tensor = torch.tensor(labels, dtype=torch.long)
        assert members(targets, c).tolist() == [i for i, label in enumerate(labels) if label == c]


class TestBudget:
    """How many rows a generator is asked for."""

    @many_examples
    @given(
        st.lists(st.integers(0, 50), min_size=1, max_size=9).filter(any),
        st.one_of(st.sampled_from(["max", "median", "mean"]), st.integers(1, 80)),
    )
    def test_wanted_is_that_of_a_loop(self, counts: list[int], target: str | int) -> None:
        """Classes are topped up to the largest, median or mean count of classes with rows, rounded down, or a number."""
        present = [n for n in counts if n > 0]
        by_name = {
            "max": max(present),
            "median": int(statistics.median(present)),
            "mean": int(statistics.fmean(present) + 1e-9),
        }
        level = by_name[target] if isinstance(target, str) else target
        expected = []
        for n in counts:
            missing = 0
            while n and n + missing < level:
                missing += 1
            expected.append(missing)
        assert Budget(target=target).wanted(counts) == expected

    @pytest.mark.parametrize(
        ("target", "wanted"),
        [
            ("max", [0, 6, 9, 0]),
            ("median", [0, 0, 3, 0]),
            ("mean", [0, 1, 4, 0]),
            (5, [0, 1, 4, 0]),
            (12, [2, 8, 11, 0]),
            (1, [0] * 4),
        ],
    )
    def test_examples(self, target: str | int, wanted: list[int]) -> None:
        """Counts 10, 4, 1 and none: the largest is 10, the median 4, the mean 5."""
        assert Budget(target=target).wanted([10, 4, 1, 0]) == wanted

    def test_pairs_of_middle_counts_are_averaged(self) -> None:
        """The median of an even number of classes is the mean of the middle two, rounded down."""
        for counts, median in (([1, 2, 5, 9], 3), ([3, 4], 3), ([7], 7), ([0, 0, 6, 2], 4)):
            reached = [n + more for n, more in zip(counts, Budget(target="median").wanted(counts), strict=True)]
            assert reached == [max(n, median) if n else 0 for n in counts]

    @pytest.mark.parametrize("order", list(itertools.permutations([10, 4, 1])))
    def test_classes_may_come_in_any_order(self, order: tuple[int, ...]) -> None:
        """The target does not depend on which class is the largest."""
        assert Budget().wanted(list(order)) == [10 - n for n in order]
