"""Tests of generators that put rows between real ones, against imbalanced-learn and the rules themselves."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from imblearn.over_sampling import ADASYN, SMOTE, BorderlineSMOTE
from scipy import stats
from torch import Tensor

import ltbench
from ltbench_generators.adasyn import Adasyn, allotted
from ltbench_generators.borderline_smote import BorderlineSmote, other_neighbours
from ltbench_generators.draws import members
from ltbench_generators.mixup import Mixup, beta
from ltbench_generators.remix import Remix, remixed
from ltbench_generators.shared import Known
from ltbench_generators.smote import Smote, neighbours

many_examples = settings(max_examples=60, deadline=None, derandomize=True)
TrainOf = Callable[..., ltbench.Train]
Draw = Callable[..., ltbench.Rows]


def pairs_of(rows: ltbench.Rows, c: int) -> tuple[Tensor, Tensor]:
    """Return first and second parents of one class's rows."""
    assert rows.parents is not None
    return rows.parents[rows.targets == c].unbind(dim=1)


def same_distribution(expected: np.ndarray, actual: np.ndarray) -> None:
    """Compare projections on eight fixed directions by a Kolmogorov–Smirnov test."""
    directions = np.random.default_rng(0).normal(size=(expected.shape[1], 8))
    for one, other in zip((expected @ directions).T, (actual @ directions).T, strict=True):
        assert stats.ks_2samp(one, other).pvalue > 1e-3


class TestSmote:
    """SMOTE against imbalanced-learn."""

    @pytest.mark.parametrize("c", [1, 2])
    def test_neighbours_are_imbalanced_learns(self, train_of: TrainOf, c: int) -> None:
        """Fitted by imbalanced-learn, the neighbour search of each minority class gives the same sets."""
        train = train_of([30, 12, 9], width=6)
        x, y = train.x.numpy(), train.targets.numpy()
        theirs = SMOTE(k_neighbors=5, random_state=0, sampling_strategy={c: 30})
        theirs.fit_resample(x, y)
        rows = np.flatnonzero(y == c)
        expected = rows[theirs.nn_k_.kneighbors(x[rows], return_distance=False)[:, 1:]]
        table, reach = neighbours(Known(train), torch.tensor([c]), 5)
        assert int(reach[c]) == 5
        assert [set(row) for row in table[rows].tolist()] == [set(row) for row in expected.tolist()]

    def test_rows_lie_between_a_row_and_its_neighbour(self, train_of: TrainOf, draw: Draw) -> None:
        """Every row is x_i + u·(x_j − x_i) of its parents, u in [0, 1), x_j among the k nearest of x_i."""
        train = train_of([30, 12, 9], width=6)
        rows = draw(Smote(k=4), train, [5, 18, 21])
        assert rows.parents is not None
        assert rows.parent_weights is not None
        table, _ = neighbours(Known(train), torch.arange(3), 4)
        u = rows.parent_weights[:, 1:]
        start, end = (train.x[rows.parents[:, column]].double() for column in (0, 1))
        torch.testing.assert_close((start + u * (end - start)).float(), rows.x, rtol=1e-6, atol=1e-7)
        assert torch.equal(1 - u, rows.parent_weights[:, :1])
        assert bool(((u >= 0) & (u < 1)).all())
        assert all(j in table[i].tolist() for i, j in rows.parents.tolist())

    def test_rows_are_distributed_as_imbalanced_learns(self, train_of: TrainOf, draw: Draw) -> None:
        """Projections of 4,000 rows of either have one distribution; so do mean and spread."""
        train = train_of([4040, 40], width=5, seed=4)
        x, y = train.x.numpy(), train.targets.numpy()
        theirs, labels = SMOTE(k_neighbors=5, random_state=1).fit_resample(x, y)
        expected = theirs[len(x) :][labels[len(x) :] == 1]
        actual = draw(Smote(k=5), train, [0, 4000]).x.numpy()
        assert len(expected) == len(actual) == 4000
        same_distribution(expected, actual)
        real = x[y == 1]
        np.testing.assert_allclose(actual.mean(0), expected.mean(0), atol=0.06 * real.std())
        np.testing.assert_allclose(np.cov(actual.T), np.cov(expected.T), atol=0.08 * np.cov(real.T).max())

    def test_rows_neighbours_and_steps_are_drawn_evenly(self, train_of: TrainOf, draw: Draw) -> None:
        """Over 20,000 rows, seeds and neighbours pass a χ² test, and steps a test for uniformity."""
        rows = draw(Smote(k=4), train_of([6, 10]), [0, 20_000])
        assert rows.parents is not None
        assert rows.parent_weights is not None
        pairs = Counter(map(tuple, rows.parents.tolist()))
        assert len(pairs) == 10 * 4
        assert stats.chisquare(list(pairs.values())).pvalue > 1e-3
        assert stats.kstest(rows.parent_weights[:, 1].numpy(), "uniform").pvalue > 1e-3

    def test_k_is_clamped_to_small_classes_and_noted(self, train_of: TrainOf, draw: Draw) -> None:
        """A class with k rows or fewer takes all its other rows as neighbours, and the record says so, if it is asked."""
        train = train_of([12, 6, 5, 2])
        table, reach = neighbours(Known(train), torch.arange(4), 5)
        assert reach.tolist() == [5, 5, 4, 1]
        assert dict(draw(Smote(), train, [0, 6, 7, 10]).notes) == {"k_clamped": {"2": 4, "3": 1}}
        assert dict(draw(Smote(), train, [3, 6, 0, 0]).notes) == {}
        mine = members(train.targets, 2).tolist()
        for i in mine:
            assert sorted([i, *table[i].tolist()[:4]]) == mine

    def test_a_lone_row_is_jittered_and_noted(self, train_of: TrainOf, draw: Draw) -> None:
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
        noise = (rows.x.double().numpy() - lone) / (0.3 * np.sqrt(squares / free))
        np.testing.assert_allclose(noise.mean(0), 0, atol=4 / np.sqrt(20_000))
        np.testing.assert_allclose(noise.std(0), 1, atol=0.03)
        assert all(stats.kstest(column, "norm").pvalue > 1e-3 for column in noise.T)

    @pytest.mark.parametrize(("counts", "jitter"), [([9, 1], 0.0), ([1, 1], 0.5)])
    def test_a_lone_row_without_noise_is_repeated(
        self, train_of: TrainOf, draw: Draw, counts: list[int], jitter: float
    ) -> None:
        """Without jitter, or where no class has a spread to take it from, the row is repeated."""
        train = train_of(counts)
        rows = draw(Smote(jitter=jitter), train, [0, 6])
        assert torch.equal(train.x[train.targets == 1].expand(6, -1), rows.x)

    def test_other_classes_are_not_jittered(self, train_of: TrainOf, draw: Draw) -> None:
        """Jitter changes no row of a class with two rows or more."""
        one, other = (draw(Smote(jitter=jitter), train_of([9, 4, 1]), [3, 5, 8]) for jitter in (0.0, 5.0))
        several = one.targets != 2
        assert torch.equal(one.x[several], other.x[several])
        assert not torch.equal(one.x[~several], other.x[~several])


class TestBorderlineSmote:
    """Borderline-SMOTE against imbalanced-learn."""

    def test_seed_rows_and_neighbours_are_imbalanced_learns(self, train_of: TrainOf, draw: Draw) -> None:
        """Rows start at the rows that it finds in danger, and go to their neighbours there."""
        train = train_of([300, 60, 40], width=4, apart=0.7)
        x, y = train.x.numpy(), train.targets.numpy()
        theirs = BorderlineSMOTE(k_neighbors=5, m_neighbors=10, random_state=0)
        theirs.fit_resample(x, y)
        rows = draw(BorderlineSmote(k=5, m=10), train, [0, 4000, 4000])
        table, _ = neighbours(Known(train), torch.arange(3), 5)
        for c in (1, 2):
            seeds, others = pairs_of(rows, c)
            assert 5 < len(theirs.in_danger_indices[c]) < (y == c).sum()
            assert set(seeds.tolist()) == set(theirs.in_danger_indices[c].tolist())
            assert bool((table[seeds] == others[:, None]).any(dim=1).all())
        assert dict(rows.notes) == {}

    def test_rows_are_distributed_as_imbalanced_learns(self, train_of: TrainOf, draw: Draw) -> None:
        """Projections of 3,000 rows of either have one distribution."""
        train = train_of([3060, 60], width=4, apart=0.8, seed=3)
        x, y = train.x.numpy(), train.targets.numpy()
        theirs, _ = BorderlineSMOTE(random_state=1).fit_resample(x, y)
        same_distribution(theirs[len(x) :], draw(BorderlineSmote(), train, [0, 3000]).x.numpy())

    def test_a_row_in_danger_is_one_with_half_but_not_all_others(self) -> None:
        """On a line, with m = 4: two or three neighbours of another class are danger, one or four are not."""
        places = {0: [0.0, 0.1, 0.2, 0.3, 5.0, 5.1, 5.2, 5.3, 9.0, 9.1, 9.2], 1: [0.15, 5.25, 5.26, 9.15, 9.16, 9.17, 30.0]}
        x = torch.tensor([[p] for ps in places.values() for p in ps])
        targets = torch.tensor([c for c, ps in places.items() for _ in ps])
        count = torch.tensor([11.0, 7.0], dtype=torch.float64)
        train = ltbench.Train(x, targets, torch.ones(18), torch.arange(18), count, count, ltbench.Stream.of(0))
        others, seen = other_neighbours(Known(train), torch.tensor([1]), 4)
        assert seen == 4
        expected = []
        for i in range(11, 18):
            near = sorted((j for j in range(18) if j != i), key=lambda j: (abs(float(x[i, 0] - x[j, 0])), j))[:4]
            expected.append(sum(int(targets[j]) != 1 for j in near))
        assert others[11:].tolist() == expected
        assert set(expected) >= {1, 2, 3, 4}
        rows = BorderlineSmote(m=4, k=3).fit(train)(torch.tensor([0, 500]))
        assert rows.parents is not None
        danger = {11 + i for i, n in enumerate(expected) if n in (2, 3)}
        assert set(rows.parents[:, 0].tolist()) == danger

    def test_a_class_without_danger_is_smoted_and_noted(self, train_of: TrainOf, draw: Draw) -> None:
        """Far from all others no row is in danger: the rows are SMOTE's, where imbalanced-learn gives none."""
        train = train_of([30, 9], apart=100.0)
        rows, plain = draw(BorderlineSmote(), train, [0, 12]), draw(Smote(), train, [0, 12])
        assert dict(rows.notes) == {"no_borderline_classes": [1]}
        assert torch.equal(plain.x, rows.x)


class Quarter(np.random.RandomState):
    """Randomness by which a row between two is a quarter of the way from the first."""

    def uniform(self, *_: Any, size: Any = None, **__: Any) -> Any:
        """Return quarters."""
        return np.full(size, 0.25)


class TestAdasyn:
    """ADASYN against imbalanced-learn."""

    def test_rows_per_seed_are_imbalanced_learns(self, train_of: TrainOf, draw: Draw) -> None:
        """Each row starts as many rows as it does there, up to the one that rounding to the exact total moves."""
        train = train_of([200, 50, 30], width=4, apart=0.7)
        theirs = self.rows_per_seed(train, ADASYN(n_neighbors=5, random_state=Quarter(0)))
        rows = draw(Adasyn(k=5), train, [0, 150, 170])
        table, _ = neighbours(Known(train), torch.arange(3), 5)
        for c, budget in ((1, 150), (2, 170)):
            seeds, others = pairs_of(rows, c)
            mine = (train.targets == c).numpy()
            ours = np.bincount(seeds.numpy(), minlength=len(mine))[mine]
            assert ours.sum() == budget
            assert len(set(theirs[mine])) > 3
            assert abs(ours - theirs[mine]).max() <= 1
            assert bool((table[seeds] == others[:, None]).any(dim=1).all())

    @staticmethod
    def rows_per_seed(train: ltbench.Train, sampler: Any) -> np.ndarray:
        """Return how many rows each real row ``[N]`` starts in imbalanced-learn, by a mark that tells rows apart.

        Marks are as far from one another in any pair, so they leave the order of distances as it is.
        """
        marked = np.hstack([train.x.double().numpy(), np.eye(len(train.x))])
        resampled, _ = sampler.fit_resample(marked, train.targets.numpy())
        marks = resampled[len(marked) :, train.x.shape[1] :]
        assert (marks.max(axis=1) >= 0.75).all()
        return np.bincount(marks.argmax(axis=1), minlength=len(marked))

    def test_rows_are_distributed_as_imbalanced_learns(self, train_of: TrainOf, draw: Draw) -> None:
        """Projections of about 3,000 rows of either have one distribution."""
        train = train_of([3060, 60], width=4, apart=0.8, seed=3)
        x, y = train.x.numpy(), train.targets.numpy()
        theirs, _ = ADASYN(random_state=1).fit_resample(x, y)
        same_distribution(theirs[len(x) :], draw(Adasyn(), train, [0, 3000]).x.numpy())

    def test_separable_classes_are_smoted_and_noted(self, train_of: TrainOf, draw: Draw) -> None:
        """Where no neighbour is of another class, imbalanced-learn raises; here the rows are SMOTE's."""
        train = train_of([30, 9, 8], apart=100.0)
        with pytest.raises(RuntimeError, match="Not any neigbours belong to the majority"):
            ADASYN().fit_resample(train.x.numpy(), train.targets.numpy())
        rows = draw(Adasyn(), train, [0, 12, 5])
        assert dict(rows.notes) == {"separable_classes": [1, 2]}
        assert torch.equal(draw(Smote(), train, [0, 12, 5]).x, rows.x)

    @many_examples
    @given(st.lists(st.tuples(st.lists(st.integers(0, 5), max_size=6), st.integers(0, 40)), min_size=1, max_size=4))
    def test_budgets_are_parted_by_the_largest_remainder(self, classes: list[tuple[list[int], int]]) -> None:
        """Against a loop: floors of the shares, then one more for the largest remainders, the first of equals."""
        targets = torch.tensor([c for c, (shares, _) in enumerate(classes) for _ in shares], dtype=torch.long)
        shares = torch.tensor([share for each, _ in classes for share in each], dtype=torch.long)
        total = torch.tensor([sum(each) for each, _ in classes])
        budget = torch.tensor([wanted for _, wanted in classes])
        expected = []
        for each, wanted in classes:
            whole = [wanted * share // sum(each) if sum(each) else 0 for share in each]
            rest = [wanted * share % sum(each) if sum(each) else 0 for share in each]
            left = wanted - sum(whole) if sum(each) else 0
            for i in sorted(range(len(each)), key=lambda i: (-rest[i], i))[:left]:
                whole[i] += 1
            expected += whole
        assert allotted(targets, shares, total, budget).tolist() == expected


class TestMixup:
    """Rows and labels between two rows."""

    def test_labels_are_mixed_as_rows_are(self, train_of: TrainOf, draw: Draw) -> None:
        """λ·y_i + (1−λ)·y_j with the rows' own λ; the first row is of the class that wants one, the second any."""
        train = train_of([30, 12, 9])
        rows = draw(Mixup(alpha=0.4), train, [5, 40, 60])
        assert rows.parents is not None
        assert rows.parent_weights is not None
        for target, (i, j), (a, b) in zip(
            rows.targets.tolist(), rows.parents.tolist(), rows.parent_weights.tolist(), strict=True
        ):
            expected = [0.0, 0.0, 0.0]
            expected[int(train.targets[i])] += a
            expected[int(train.targets[j])] += b
            assert target == pytest.approx(expected)
        assert train.targets[rows.parents[:, 0]].tolist() == [0] * 5 + [1] * 40 + [2] * 60

    @pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
    def test_shares_are_beta(self, train_of: TrainOf, draw: Draw, alpha: float) -> None:
        """5,000 shares pass a test for Beta(α, α), and the second rows one for evenness."""
        rows = draw(Mixup(alpha=alpha), train_of([6, 4]), [0, 5000])
        assert rows.parents is not None
        assert rows.parent_weights is not None
        assert stats.kstest(rows.parent_weights[:, 0].numpy(), "beta", args=(alpha, alpha)).pvalue > 1e-3
        assert stats.chisquare(torch.bincount(rows.parents[:, 1], minlength=10).numpy()).pvalue > 1e-3

    def test_beta_inverts_the_distribution_function(self) -> None:
        """Quantiles are scipy's."""
        u = torch.linspace(0, 1, 21, dtype=torch.float64)
        for alpha in (0.3, 1.0, 2.5):
            np.testing.assert_allclose(beta(u, alpha).numpy(), stats.beta(alpha, alpha).ppf(u.numpy()), atol=1e-9)


class TestRemix:
    """The rule of labels."""

    @pytest.mark.parametrize(
        ("share", "first", "second", "expected"),
        [
            (0.4, 90, 30, 0.0),  # three times as many rows, and less than half of the mix: the label is the second's
            (0.5, 90, 30, 0.5),  # half of the mix is not less than half
            (0.4, 89, 30, 0.4),  # less than three times as many
            (0.6, 30, 90, 1.0),  # the mirror case
            (0.5, 30, 90, 0.5),
            (0.6, 30, 89, 0.6),
            (0.4, 30, 90, 0.4),  # the minority already has the smaller share: mixup's label
            (0.7, 50, 50, 0.7),
        ],
    )
    def test_examples(self, share: float, first: int, second: int, expected: float) -> None:
        """κ = 3 and τ = 0.5, as in the paper."""
        values = (torch.tensor([float(each)], dtype=torch.float64) for each in (share, first, second))
        assert remixed(*values, kappa=3.0, tau=0.5).tolist() == [expected]

    def test_rows_are_mixups(self, train_of: TrainOf, draw: Draw) -> None:
        """Rows and parents are mixup's; only labels differ, by the rule, row by row."""
        train = train_of([60, 18, 5])
        budget = [0, 300, 300]
        rows, plain = draw(Remix(), train, budget), draw(Mixup(), train, budget)
        assert torch.equal(plain.x, rows.x)
        assert rows.parents is not None
        assert rows.parent_weights is not None
        counts, differ = [60, 18, 5], 0
        for target, (i, j), (share, _) in zip(
            rows.targets.tolist(), rows.parents.tolist(), rows.parent_weights.tolist(), strict=True
        ):
            a, b = int(train.targets[i]), int(train.targets[j])
            kept = share
            if counts[a] / counts[b] >= 3 and share < 0.5:
                kept = 0.0
            elif counts[a] / counts[b] <= 1 / 3 and 1 - share < 0.5:
                kept = 1.0
            expected = [0.0, 0.0, 0.0]
            expected[a] += kept
            expected[b] += 1 - kept
            assert target == pytest.approx(expected)
            differ += kept != share
        assert 100 < differ < 500


@pytest.mark.parametrize("generator", [BorderlineSmote(k=7, jitter=0.0), Adasyn(k=7, jitter=0.0)])
def test_parameters_of_smote_are_handed_on(train_of: TrainOf, draw: Draw, generator: Any) -> None:
    """A clamped k and a lone row are noted as SMOTE notes them."""
    rows = draw(generator, train_of([20, 5, 1], apart=0.1), [0, 4, 6])
    assert rows.notes["k_clamped"] == {"1": 4}
    assert rows.notes["jittered_classes"] == [2]
    assert dataclasses.asdict(generator)["k"] == 7
