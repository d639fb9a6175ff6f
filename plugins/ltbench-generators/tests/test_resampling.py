"""Tests of generators that repeat rows or leave some out, against imbalanced-learn and naive loops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from imblearn.over_sampling import RandomOverSampler
from scipy import stats

import ltbench
from ltbench_generators.draws import ClassRows, asked_for, class_rows, draw_ids, labels_of, lone_classes, members, numbers_of
from ltbench_generators.random_over import RandomOver
from ltbench_generators.random_under import RandomUnder
from ltbench_generators.smoothed_bootstrap import SmoothedBootstrap, bandwidth

many_examples = settings(max_examples=60, deadline=None, derandomize=True)
counts_and_budgets = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12)), min_size=1, max_size=5).filter(
    lambda pairs: any(count for count, _ in pairs)
)
TrainOf = Callable[..., ltbench.Train]
Draw = Callable[..., ltbench.Rows]


class TestDraws:
    """Which row belongs to which class, and ids for its draws."""

    @many_examples
    @given(st.lists(st.integers(0, 6), min_size=1, max_size=6))
    def test_labels_and_ids_are_those_of_a_loop(self, budget: list[int]) -> None:
        """Labels go class by class; numbers and ids count within the class, and ids never meet."""
        labels = labels_of(torch.tensor(budget))
        pairs = [(c, i) for c, n in enumerate(budget) for i in range(n)]
        assert labels.tolist() == [c for c, _ in pairs]
        assert numbers_of(labels).tolist() == [i for _, i in pairs]
        ids = draw_ids(labels).tolist()
        assert ids == [c * 2**32 + i for c, i in pairs]
        assert asked_for(torch.tensor(budget)).tolist() == [c for c, n in enumerate(budget) if n]

    @many_examples
    @given(pairs=counts_and_budgets, seed=st.integers(0, 99))
    def test_class_rows_are_positions(self, train_of: TrainOf, pairs: list[tuple[int, int]], seed: int) -> None:
        """Rows of a class are its positions, ascending, with or without a choice among them; lone classes have one."""
        counts, budget = [n for n, _ in pairs], torch.tensor([b for _, b in pairs])
        train = train_of(counts, seed=seed)
        chosen = torch.rand(len(train.x), generator=torch.Generator().manual_seed(seed)) < 0.5
        for rows, among in ((class_rows(train), torch.ones_like(chosen)), (class_rows(train, chosen), chosen)):
            assert isinstance(rows, ClassRows)
            for c in range(len(counts)):
                expected = [i for i in members(train.targets, c).tolist() if among[i]]
                assert rows.of(c).tolist() == expected
                which = torch.arange(len(expected))
                assert rows.at(torch.full_like(which, c), which).tolist() == expected
        assert lone_classes(train, budget) == [c for c, (n, b) in enumerate(pairs) if n == 1 and b]


class TestRandomOver:
    """Real rows again."""

    @many_examples
    @given(pairs=counts_and_budgets, seed=st.integers(0, 99))
    def test_copies_differ_by_one_at_most(self, train_of: TrainOf, draw: Draw, pairs: list[tuple[int, int]], seed: int) -> None:
        """Within a class no row is repeated two times more often than another."""
        counts, budget = [n for n, _ in pairs], [b if n else 0 for n, b in pairs]
        train = train_of(counts, seed=seed)
        rows = draw(RandomOver(), train, budget)
        assert rows.parents is not None
        copies = Counter(rows.parents[:, 0].tolist())
        for c in range(len(counts)):
            mine = [copies[int(i)] for i in members(train.targets, c)]
            assert sum(mine) == budget[c]
            assert not mine or max(mine) - min(mine) <= 1

    def test_rows_are_copies(self, train_of: TrainOf, draw: Draw) -> None:
        """Every synthetic row is a real row of its class, bit for bit, on the unit sphere too."""
        train = train_of([9, 4, 1])
        for x in (train.x, torch.nn.functional.normalize(train.x, dim=1)):
            rows = draw(RandomOver(), train.replace(x=x), [0, 5, 8])
            assert rows.parents is not None
            assert torch.equal(x[rows.parents[:, 0]], rows.x)
            assert torch.equal(train.targets[rows.parents[:, 0]], rows.targets)

    def test_the_same_rows_as_imbalanced_learns(self, train_of: TrainOf, draw: Draw) -> None:
        """Each class's copies are rows of the class, as many as imbalanced-learn's, and as evenly spread or more so."""
        train = train_of([400, 20, 7])
        x, y = train.x.numpy(), train.targets.numpy()
        theirs = RandomOverSampler(random_state=0)
        _, labels = theirs.fit_resample(x, y)
        rows = draw(RandomOver(), train, [0, 380, 393])
        assert rows.parents is not None
        added = theirs.sample_indices_[len(x) :]
        for c in (1, 2):
            real = members(train.targets, c).tolist()
            ours = np.bincount(np.searchsorted(real, rows.parents[rows.targets == c, 0].numpy()), minlength=len(real))
            other = np.bincount(np.searchsorted(real, added[labels[len(x) :] == c]), minlength=len(real))
            assert ours.sum() == other.sum()
            assert stats.chisquare(ours).pvalue > 0.99
            assert stats.chisquare(other).pvalue > 1e-3
            assert ours.var() <= other.var()

    def test_which_rows_come_first_depends_on_ids_not_on_positions(self, train_of: TrainOf, draw: Draw) -> None:
        """Rows in another order, with their ids, give the same copies."""
        train = train_of([9, 5])
        turned = train.replace(x=train.x.flip(0), targets=train.targets.flip(0), row_ids=train.row_ids.flip(0))
        assert torch.equal(draw(RandomOver(), train, [4, 3]).x, draw(RandomOver(), turned, [4, 3]).x)


class TestRandomUnder:
    """Fewer real rows."""

    @pytest.mark.parametrize(
        ("to", "kept"),
        [("min", [2, 2, 2, 0]), ("median", [4, 4, 2, 0]), ("mean", [5, 4, 2, 0]), (3, [3, 3, 2, 0]), (99, [9, 4, 2, 0])],
    )
    def test_classes_keep_so_many_rows(self, train_of: TrainOf, draw: Draw, to: object, kept: list[int]) -> None:
        """Counts 9, 4, 2 and none: the least is 2, the median 4, the mean 5."""
        train = train_of([9, 4, 2, 0])
        rows = draw(RandomUnder(to=to), train, [0, 0, 0, 0])
        assert rows.keep is not None
        assert torch.bincount(train.targets[rows.keep], minlength=4).tolist() == kept
        assert rows.notes == {
            "rows_kept_per_class_at_most": {"min": 2, "median": 4, "mean": 5}.get(str(to), to),
            "rows_left_out": 15 - sum(kept),
        }
        assert rows.x.shape == (0, 4)

    @pytest.mark.slow
    def test_rows_are_left_out_evenly(self, train_of: TrainOf, draw: Draw) -> None:
        """Over 2,000 streams every row stays as often as any other."""
        kept = torch.zeros(10)
        for stream in range(2000):
            rows = draw(RandomUnder(to=2), train_of([7, 3], stream=stream), [0, 0])
            assert rows.keep is not None
            kept += rows.keep
        targets = train_of([7, 3]).targets
        assert stats.chisquare(kept[targets == 0].numpy()).pvalue > 1e-3
        assert stats.chisquare(kept[targets == 1].numpy()).pvalue > 1e-3


class TestSmoothedBootstrap:
    """ROSE against imbalanced-learn and its formula."""

    def test_bandwidth_is_silvermans(self) -> None:
        """(4 / ((D + 2)·n))^(1 / (D + 4)), worked by hand; it is near 1 with hundreds of features, whatever n."""
        assert float(bandwidth(torch.tensor(32.0), 2)) == pytest.approx((1 / 32) ** (1 / 6))
        assert 0.98 < float(bandwidth(torch.tensor(500.0), 768)) < float(bandwidth(torch.tensor(5.0), 768)) < 1.0

    def test_noise_is_that_of_imbalanced_learn(self, train_of: TrainOf, draw: Draw) -> None:
        """With n counting all rows, as it does there, rows less their real row have one distribution, by feature."""
        train = train_of([3000, 12], width=3)
        train = train.replace(x=train.x * torch.tensor([0.5, 1.0, 7.0]))
        x, y = train.x.numpy(), train.targets.numpy()
        theirs = RandomOverSampler(random_state=0, shrinkage=1.0)
        added, _ = theirs.fit_resample(x, y)
        expected = (added - x[theirs.sample_indices_])[len(x) :]
        scale = float(bandwidth(torch.tensor(float(len(x))), 3) / bandwidth(torch.tensor(12.0), 3))
        rows = draw(SmoothedBootstrap(scale=scale), train, [0, 4000])
        assert rows.parents is not None
        actual = (rows.x - train.x[rows.parents[:, 0]]).numpy()
        for one, other in zip(expected.T, actual.T, strict=True):
            assert stats.ks_2samp(one, other).pvalue > 1e-3
        deviation = x[y == 1].std(axis=0) * float(bandwidth(torch.tensor(float(len(x))), 3))
        np.testing.assert_allclose(actual.std(axis=0) / deviation, 1, atol=4 / np.sqrt(2 * 4000))

    def test_a_lone_row_takes_the_pooled_deviation(self, train_of: TrainOf, draw: Draw) -> None:
        """With n = 1, and the within-class deviation of the others, per feature; noted."""
        train = train_of([30, 1, 12], width=2)
        rows = draw(SmoothedBootstrap(), train, [0, 20_000, 0])
        assert dict(rows.notes) == {"pooled_deviation_classes": [1]}
        squares = sum(((train.x[train.targets == c] - train.x[train.targets == c].mean(0)) ** 2).sum(0) for c in (0, 2))
        expected = (torch.as_tensor(squares) / 40).sqrt() * bandwidth(torch.tensor(1.0), 2)
        torch.testing.assert_close(rows.x.std(dim=0).double(), expected.double(), rtol=0.03, atol=0)
