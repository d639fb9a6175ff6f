"""Tests of how training rows are made, with spies that record what transforms and generators see."""

from __future__ import annotations

import dataclasses
import re
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import one_hot

from ltbench.budget import Budget
from ltbench.errors import SkipCell
from ltbench.execute.checked import checked_rows
from ltbench.execute.failures import ComponentFailure, failure_of
from ltbench.execute.rows import Material, Recipe, assemble, class_weights
from ltbench.execute.setting import Prepared, prepare
from ltbench.execute.streamed import streams
from ltbench.streams import Stream
from ltbench.types import Rows, Train

TEST_IDS = torch.arange(1000, 1006)
VALIDATION_IDS = torch.arange(2000, 2004)
many_examples = settings(max_examples=60, deadline=None, derandomize=True)


def features(ids: Tensor) -> Tensor:
    """Return rows ``[N, 2]`` whose first feature is their id."""
    return torch.stack([ids.float(), (ids % 7).float()], dim=1)


def ids_in(x: Tensor) -> list[int]:
    """Return the ids that rows carry."""
    return sorted(x[:, 0].long().tolist())


@dataclass
class SpyTransform:
    """Adds a column that says which fit it was, and remembers the rows it was fitted on."""

    seen: list[Tensor] = field(default_factory=list)

    def fit(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """Remember the rows."""
        self.seen.append(x.clone())
        number = float(len(self.seen) - 1)
        return lambda rows: torch.cat([rows, torch.full((len(rows), 1), number)], dim=1)


@dataclass
class SpyGenerator:
    """Repeats each class's first row, with a random column, and remembers rows and budgets."""

    seen: list[Train] = field(default_factory=list)
    budgets: list[list[int]] = field(default_factory=list)

    def fit(self, train: Train) -> Callable[[Tensor], Rows]:
        """Remember the rows."""
        self.seen.append(train)

        def sample(budget: Tensor) -> Rows:
            self.budgets.append(budget.tolist())
            labels = torch.arange(len(budget)).repeat_interleave(budget)
            first = torch.tensor([int((train.targets == c).nonzero()[0]) if budget[c] else 0 for c in range(len(budget))])
            x = train.x[first[labels]].clone()
            x[:, 1] = train.stream.uniform(torch.arange(len(labels)), 1)[:, 0].float()
            return Rows(x, labels, notes={"rows": len(labels)}, flops=17)

        return sample


@dataclass(frozen=True)
class Fixed:
    """Gives the rows it is told to give, whatever the budget."""

    rows: Any

    def fit(self, train: Train) -> Callable[[Tensor], Any]:
        """Return the rows."""
        return lambda budget: self.rows


def material(counts: tuple[int, ...] = (6, 3, 1), validation: bool = False) -> Material:
    """Return rows with ids as features; row ids are 10 apart."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    ids = 10 * torch.arange(len(labels))
    held = (features(VALIDATION_IDS), torch.tensor([0, 1, 1, 0])) if validation else None
    return Material(features(ids), labels, ids, features(TEST_IDS), len(counts), held)


def recipe(**changes: Any) -> Recipe:
    """Return a recipe of spies."""
    plain = Recipe(SpyTransform(), "spy-transform", SpyGenerator(), "spy-generator", Budget(), "effective", seed=3, folds=3)
    return dataclasses.replace(plain, **changes)


def real_rows(counts: tuple[int, ...] = (3, 1, 2)) -> Train:
    """Return real training rows, four features each."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    x = torch.arange(4.0 * len(labels)).reshape(-1, 4)
    count = torch.tensor(counts, dtype=torch.float64)
    return Train(x, labels, torch.ones(len(x), dtype=torch.float64), torch.arange(len(x)) + 50, count, count, Stream.of(0))


def same(a: Train, b: Train) -> bool:
    """Whether two training sets are equal bit for bit."""
    names = ("x", "targets", "weights", "row_ids", "class_counts", "real_class_counts")
    return a.stream == b.stream and all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)


def same_prepared(a: Prepared, b: Prepared) -> bool:
    """Whether two settings are equal bit for bit."""
    folds = len(a.folds) == len(b.folds) and all(
        same(one[0], other[0]) and torch.equal(one[1], other[1]) and torch.equal(one[2], other[2])
        for one, other in zip(a.folds, b.folds, strict=True)
    )
    told = (a.selection_rows, a.notes, a.generation_flops) == (b.selection_rows, b.notes, b.generation_flops)
    return folds and told and same(a.train, b.train) and torch.equal(a.test, b.test)


class TestAssemble:
    """Real and synthetic rows together."""

    def test_synthetic_rows_follow_the_real_ones(self) -> None:
        """Rows, labels and weights are appended; ids are kept, and −1 for synthetic rows."""
        real = real_rows()
        train = assemble(real, Rows(torch.full((2, 4), 9.0), torch.tensor([1, 2])), "effective")
        assert torch.equal(torch.cat([real.x, torch.full((2, 4), 9.0)]), train.x)
        assert train.targets.tolist() == [0, 0, 0, 1, 2, 2, 1, 2]
        assert train.weights.tolist() == [1.0] * 8
        assert train.row_ids.tolist() == [50, 51, 52, 53, 54, 55, -1, -1]
        assert train.synthetic.tolist() == [False] * 6 + [True] * 2

    @pytest.mark.parametrize(("prior_source", "counts"), [("effective", [3.0, 1.5, 2.25]), ("real", [3.0, 1.0, 2.0])])
    def test_prior_source_chooses_the_counts(self, prior_source: str, counts: list[float]) -> None:
        """Effective counts are the total weights; real ones leave synthetic rows out. Real counts stay beside them."""
        rows = Rows(torch.zeros(2, 4), torch.tensor([1, 2]), weights=torch.tensor([0.5, 0.25]))
        train = assemble(real_rows(), rows, prior_source)
        assert train.class_counts.tolist() == counts
        assert train.prior.tolist() == pytest.approx([count / sum(counts) for count in counts])
        assert train.real_class_counts.tolist() == [3.0, 1.0, 2.0]
        assert train.weights.tolist() == [1.0] * 6 + [0.5, 0.25]

    def test_keep_drops_real_rows(self) -> None:
        """Only real rows that stay are trained on; effective counts follow, real counts do not."""
        keep = torch.tensor([True, False, True, True, False, True])
        train = assemble(real_rows(), Rows(torch.zeros(1, 4), torch.tensor([2]), keep=keep), "effective")
        assert train.row_ids.tolist() == [50, 52, 53, 55, -1]
        assert train.targets.tolist() == [0, 0, 1, 2, 2]
        assert torch.equal(real_rows().x[keep], train.x[:4])
        assert train.class_counts.tolist() == [2.0, 1.0, 2.0]
        assert train.real_class_counts.tolist() == [3.0, 1.0, 2.0]

    def test_soft_labels_make_all_labels_soft(self) -> None:
        """Real labels become one-hot, and a mixed row counts in part for each of its classes."""
        real = real_rows()
        soft = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.5, 0.5]])
        train = assemble(real, Rows(torch.zeros(2, 4), soft, weights=torch.tensor([2.0, 1.0])), "effective")
        assert torch.equal(torch.cat([one_hot(real.targets, 3).double(), soft.double()]), train.targets)
        assert train.class_counts.tolist() == [3.5, 3.0, 2.5]

    def test_no_rows_leave_the_real_ones(self) -> None:
        """Without synthetic rows the training set is the real one."""
        real = real_rows()
        assert same(real, assemble(real, Rows(real.x[:0], real.targets[:0]), "effective"))

    def test_rows_take_the_real_rows_precision(self) -> None:
        """Synthetic float64 rows are trained on in the features' own precision."""
        train = assemble(real_rows(), Rows(torch.zeros(1, 4, dtype=torch.float64), torch.tensor([0])), "effective")
        assert train.x.dtype == torch.float32

    @many_examples
    @given(
        st.lists(st.tuples(st.integers(0, 3), st.floats(0, 10)), min_size=1, max_size=12),
        st.booleans(),
    )
    def test_class_weights_are_sums(self, rows: list[tuple[int, float]], soft: bool) -> None:
        """The weight of a class is the sum over its rows, by a loop, for labels and for soft labels."""
        labels, weights = torch.tensor([c for c, _ in rows]), torch.tensor([w for _, w in rows], dtype=torch.float64)
        expected = [sum(w for label, w in rows if label == c) for c in range(4)]
        targets = one_hot(labels, 4).double() if soft else labels
        assert class_weights(targets, weights, 4).tolist() == pytest.approx(expected)


GOOD = Rows(torch.zeros(2, 4), torch.tensor([0, 2]))
BAD_ROWS: dict[str, tuple[Any, type[Exception], str]] = {
    "no Rows": ((torch.zeros(2, 4), torch.tensor([0, 2])), TypeError, "must return ltbench.Rows, not tuple"),
    "None": (None, TypeError, "must return ltbench.Rows, not NoneType"),
    "too wide": (dataclasses.replace(GOOD, x=torch.zeros(2, 5)), ValueError, r"must be \[S, 4\], not \[2, 5\]"),
    "one row flat": (dataclasses.replace(GOOD, x=torch.zeros(4)), ValueError, r"must be \[S, 4\], not \[4\]"),
    "a label short": (dataclasses.replace(GOOD, targets=torch.tensor([0])), ValueError, r"\[2\] or \[2, 3\], not \[1\]"),
    "soft, too few classes": (dataclasses.replace(GOOD, targets=torch.ones(2, 2)), ValueError, r"\[2, 3\], not \[2, 2\]"),
    "NaN": (dataclasses.replace(GOOD, x=torch.tensor([[0.0] * 4, [float("nan")] * 4])), ValueError, "1 of 2 synthetic rows"),
    "infinite": (dataclasses.replace(GOOD, x=torch.full((2, 4), float("inf"))), ValueError, "2 of 2 synthetic rows"),
    "label too large": (
        dataclasses.replace(GOOD, targets=torch.tensor([0, 3])),
        ValueError,
        "labels must be 0 to 2, not 0 to 3",
    ),
    "label negative": (
        dataclasses.replace(GOOD, targets=torch.tensor([-1, 1])),
        ValueError,
        "labels must be 0 to 2, not -1 to 1",
    ),
    "weights short": (dataclasses.replace(GOOD, weights=torch.ones(1)), ValueError, r"weights must be \[2\]"),
    "weights NaN": (
        dataclasses.replace(GOOD, weights=torch.tensor([1.0, float("nan")])),
        ValueError,
        "finite and not negative",
    ),
    "weights infinite": (dataclasses.replace(GOOD, weights=torch.tensor([1.0, float("inf")])), ValueError, "finite"),
    "weights negative": (dataclasses.replace(GOOD, weights=torch.tensor([1.0, -1.0])), ValueError, "not negative"),
    "keep short": (
        dataclasses.replace(GOOD, keep=torch.ones(2, dtype=torch.bool)),
        ValueError,
        r"bool \[6\], not torch.bool \[2\]",
    ),
    "keep no bool": (dataclasses.replace(GOOD, keep=torch.ones(6)), ValueError, r"bool \[6\], not torch.float32 \[6\]"),
    "soft NaN": (dataclasses.replace(GOOD, targets=torch.full((2, 3), float("nan"))), ValueError, "soft labels"),
    "soft negative": (dataclasses.replace(GOOD, targets=torch.tensor([[2.0, -1.0, 0.0]] * 2)), ValueError, "soft labels"),
    "soft, sum not one": (dataclasses.replace(GOOD, targets=torch.ones(2, 3)), ValueError, "soft labels"),
}


class TestCheckedRows:
    """What a generator may return."""

    @pytest.mark.parametrize("name", BAD_ROWS)
    def test_bad_rows_are_refused(self, name: str) -> None:
        """Wrong types, shapes, labels and values are refused with what must be what."""
        rows, error, message = BAD_ROWS[name]
        with pytest.raises(error, match=message):
            checked_rows(rows, real_rows())

    @pytest.mark.parametrize(
        "rows",
        [
            pytest.param(GOOD, id="labels"),
            pytest.param(Rows(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)), id="none"),
            pytest.param(Rows(torch.zeros(3, 4), torch.eye(3)), id="soft, as many as classes"),
            pytest.param(dataclasses.replace(GOOD, weights=torch.tensor([0.0, 2.0])), id="weights"),
            pytest.param(dataclasses.replace(GOOD, keep=torch.zeros(6, dtype=torch.bool)), id="keep"),
        ],
    )
    def test_good_rows_pass_as_they_are(self, rows: Rows) -> None:
        """Rows within the contract are returned untouched."""
        assert checked_rows(rows, real_rows()) is rows


class TestPrepare:
    """Transform and generator, for the head and inside each fold."""

    def test_the_first_fit_sees_all_training_rows_and_no_other(self) -> None:
        """For the head itself, transform and generator see every training row once, and no test row."""
        spies = recipe()
        prepared = prepare(material(), spies)
        everything = ids_in(material().x)
        assert ids_in(spies.transform.seen[0]) == everything
        assert ids_in(spies.generator.seen[0].x) == everything
        assert spies.generator.seen[0].row_ids.tolist() == everything
        assert ids_in(prepared.test) == TEST_IDS.tolist()

    def test_folds_fit_on_their_own_training_rows(self) -> None:
        """In each fold neither transform nor generator sees a held-out row; every row is held out exactly once."""
        spies = recipe()
        prepared = prepare(material(), spies)
        everything = set(ids_in(material().x))
        held_out: list[int] = []
        assert len(prepared.folds) == 3
        for number, (train, x, labels) in enumerate(prepared.folds, start=1):
            held = ids_in(x)
            held_out += held
            seen = sorted(everything - set(held))
            assert ids_in(spies.transform.seen[number]) == seen
            assert ids_in(spies.generator.seen[number].x) == seen
            assert set(ids_in(train.x)) <= set(seen)
            assert sorted(train.row_ids[~train.synthetic].tolist()) == seen
            assert [material().labels[int(i) // 10].item() for i in x[:, 0]] == labels.tolist()
        assert sorted(held_out) == sorted(everything)

    @many_examples
    @given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(2, 5), st.integers(0, 99))
    def test_no_fit_ever_sees_test_or_held_out_rows(self, counts: list[int], folds: int, seed: int) -> None:
        """Whatever the counts, folds and seed: fit n sees training rows less fold n's held-out ones."""
        spies = recipe(folds=folds, seed=seed)
        prepared = prepare(material(tuple(counts)), spies)
        everything = set(ids_in(material(tuple(counts)).x))
        held = [set(), *(set(ids_in(x)) for _, x, _ in prepared.folds)]
        assert [set(ids_in(x)) for x in spies.transform.seen] == [everything - each for each in held]
        assert [set(ids_in(train.x)) for train in spies.generator.seen] == [everything - each for each in held]

    def test_each_side_is_transformed_by_its_own_fit(self) -> None:
        """Training, test and held-out rows carry the mark of the one fit that they belong to."""
        prepared = prepare(material(), recipe())
        assert prepared.train.x[:, 2].unique().tolist() == [0.0]
        assert prepared.test[:, 2].unique().tolist() == [0.0]
        for number, (train, x, _) in enumerate(prepared.folds, start=1):
            assert train.x[:, 2].unique().tolist() == [float(number)]
            assert x[:, 2].unique().tolist() == [float(number)]

    def test_the_generator_gets_the_budget_of_the_rows_it_sees(self) -> None:
        """Each fold's budget tops up the fold's own counts, and a class without rows in it gets none."""
        spies = recipe()
        prepared = prepare(material((6, 3, 1)), spies)
        assert spies.generator.budgets[0] == [0, 3, 5]
        for (train, _, _), budget in zip(prepared.folds, spies.generator.budgets[1:], strict=True):
            counts = [int((train.targets[~train.synthetic] == c).sum()) for c in range(3)]
            assert budget == [max(counts) - n if n else 0 for n in counts]
            assert train.class_counts.tolist() == [float(max(counts)) if n else 0.0 for n in counts]

    def test_a_class_of_one_row_is_held_out_once(self) -> None:
        """Its row is in one fold's held-out part, is absent from that fold's training, and in all the others."""
        prepared = prepare(material((6, 3, 1)), recipe())
        held = [int((labels == 2).sum()) for _, _, labels in prepared.folds]
        assert sorted(held) == [0, 0, 1]
        for (train, _, _), away in zip(prepared.folds, held, strict=True):
            assert train.real_class_counts[2].item() == 1 - away
            assert train.classes == 3

    @pytest.mark.parametrize(
        ("counts", "folds", "expected"),
        [((6, 3, 1), 3, 3), ((3, 1), 5, 3), ((2, 2), 5, 2), ((1, 1, 1), 3, 0), ((1,), 2, 0), ((2, 1), 2, 2)],
    )
    def test_folds_without_rows_on_a_side_are_left_out(self, counts: tuple[int, ...], folds: int, expected: int) -> None:
        """A fold that holds out nothing, or everything, is skipped; nothing is fitted for it."""
        spies = recipe(folds=folds)
        prepared = prepare(material(counts), spies)
        assert len(prepared.folds) == expected
        assert len(spies.transform.seen) == len(spies.generator.seen) == 1 + expected

    def test_validation_rows_replace_the_folds(self) -> None:
        """With a validation part there is one fit, and selection is on those rows under the same transform."""
        spies = recipe()
        prepared = prepare(material(validation=True), spies)
        ((train, x, labels),) = prepared.folds
        assert len(spies.transform.seen) == len(spies.generator.seen) == 1
        assert ids_in(spies.transform.seen[0]) == ids_in(material().x)
        assert train is prepared.train
        assert ids_in(x) == VALIDATION_IDS.tolist()
        assert x[:, 2].unique().tolist() == [0.0]
        assert labels.tolist() == [0, 1, 1, 0]
        assert prepared.selection_rows == "validation part (4 rows)"

    def test_selection_rows_are_described(self) -> None:
        """Without a validation part the record says how many folds of how many rows."""
        assert prepare(material(), recipe()).selection_rows == "3-fold class-weighted cross-validation on 10 training rows"

    @pytest.mark.parametrize(("prior_source", "counts"), [("effective", [6.0, 6.0, 6.0]), ("real", [6.0, 3.0, 1.0])])
    def test_prior_source_reaches_head_and_folds(self, prior_source: str, counts: list[float]) -> None:
        """The head and every fold count classes as the recipe says."""
        prepared = prepare(material(), recipe(prior_source=prior_source))
        assert prepared.train.class_counts.tolist() == counts
        assert prepared.train.real_class_counts.tolist() == [6.0, 3.0, 1.0]
        for train, _, _ in prepared.folds:
            wanted = class_weights(train.targets, train.weights, 3) if prior_source == "effective" else train.real_class_counts
            assert wanted.tolist() == train.class_counts.tolist()

    def test_notes_and_cost_are_those_of_the_heads_rows(self) -> None:
        """What the generator says of the final fit is kept, not what it says of a fold."""
        prepared = prepare(material(), recipe())
        assert (prepared.notes, prepared.generation_flops) == ({"rows": 8}, 17)


class TestHeldOut:
    """Folds are made for who asks for them."""

    def test_folds_wait_until_they_are_asked_for(self) -> None:
        """Fidelity needs the first fold alone, selection all of them; each is made once."""
        spies = recipe()
        prepared = prepare(material(), spies)
        made = []
        for ask in (lambda: None, lambda: prepared.compared, lambda: prepared.fidelity, lambda: prepared.folds):
            ask()
            made.append(len(spies.generator.seen) - 1)
        assert made == [0, 1, 1, 3]
        assert [prepared.folds is prepared.folds, prepared.fold_flops, len(spies.generator.seen)] == [True, 51, 4]

    def test_a_setting_of_real_rows_has_nothing_to_compare(self) -> None:
        """Where no row is synthetic by definition, no fold is made for fidelity."""
        spies = recipe(regime="real")
        assert prepare(material(), spies).fidelity is None
        assert len(spies.generator.seen) == 1

    def test_a_fold_that_fails_fails_alike_for_all(self) -> None:
        """It is tried once, and each who asks gets the same error; who does not ask gets none."""
        tried = []

        def once(x: Tensor) -> Tensor:
            tried.append(len(x))
            return x if len(tried) <= 2 else x[:0]  # all training rows, test rows, then those of a fold

        plain = recipe(transform=Transforming(once), budget=Budget(per_real=1))
        prepared = prepare(material(), dataclasses.replace(plain, generator=Fixed(Rows(torch.ones(1, 2), torch.tensor([1])))))
        assert len(prepared.train.x) == 11
        errors = []
        for _ in range(2):
            with pytest.raises(ComponentFailure, match="spy-transform") as caught:
                assert prepared.folds
            errors.append(caught.value)
        assert errors[0] is errors[1]
        assert len(tried) == 3


@dataclass
class Together(SpyGenerator):
    """Fits training sets together, and remembers how many it was given at once; it may give too many samplers, or too few."""

    asked: list[int] = field(default_factory=list)
    change: Callable[[list[Any]], list[Any]] = list

    def fit_many(self, trains: list[Train]) -> list[Callable[[Tensor], Rows]]:
        """Fit one after the other."""
        self.asked.append(len(trains))
        return self.change([self.fit(train) for train in trains])


@dataclass
class Stubborn(Together):
    """Fits one training set at a time, and none without row 0."""

    def fit(self, train: Train) -> Callable[[Tensor], Rows]:
        """Look for the row."""
        if 0 not in ids_in(train.x):
            raise ValueError("no row 0")
        return super().fit(train)


class TestFoldsTogether:
    """Of a generator that fits many training sets together."""

    def test_all_folds_are_fitted_at_once(self) -> None:
        """With the rows that they have one by one; a fold that is asked for before is made alone, and once."""
        alone, generator = prepare(material((6, 3, 2)), recipe()), Together()
        together = prepare(material((6, 3, 2)), recipe(generator=generator))
        assert same_prepared(alone, together)
        assert generator.asked == [3]
        generator = Together()
        together = prepare(material((6, 3, 2)), recipe(generator=generator))
        assert together.compared is not None
        assert same(alone.folds[0][0], together.held_out[0].train)
        assert [same(one, other) for (one, _, _), (other, _, _) in zip(alone.folds, together.folds, strict=True)] == [True] * 3
        assert (generator.asked, len(generator.seen)) == ([2], 4)

    def test_a_fold_that_fails_is_told_as_alone(self) -> None:
        """The others are made; what it raises is blamed on the generator."""
        generator = Stubborn()
        prepared = prepare(material((6, 3, 2)), recipe(generator=generator))
        with pytest.raises(ComponentFailure, match="spy-generator") as caught:
            assert prepared.folds
        assert "no row 0" in str(caught.value.__cause__)
        whole = [0 in ids_in(x) for x in (train.x for train in generator.seen[1:])]
        assert (generator.asked, all(whole)) == ([3], True)
        made = [number for number in range(3) if self._is_made(prepared, number)]
        assert len(made) == 2

    @staticmethod
    def _is_made(prepared: Prepared, number: int) -> bool:
        """Whether a fold could be made."""
        try:
            return bool(len(prepared.held_out[number].x))
        except ComponentFailure:
            return False

    @pytest.mark.parametrize("change", [lambda found: found[1:], lambda found: [found[0], *found]], ids=["few", "many"])
    def test_samplers_must_be_as_many_as_training_sets(self, change: Callable[[list[Any]], list[Any]]) -> None:
        """Where one is missing, or there is one too many, folds are made one by one."""
        plain, generator = recipe(transform=Transforming(lambda x: x)), Together(change=change)
        alone = prepare(material((6, 3, 2)), plain)
        assert same_prepared(alone, prepare(material((6, 3, 2)), dataclasses.replace(plain, generator=generator)))
        assert generator.asked == [3]

    def test_folds_that_are_large_are_made_one_by_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """So that no more is in memory than one of them needs."""
        monkeypatch.setattr("ltbench.execute.setting.TOGETHER", 3 * 11 * 2 * 4 - 1)
        generator = Together()
        assert len(prepare(material((6, 3, 2)), recipe(generator=generator)).folds) == 3
        assert generator.asked == []
        monkeypatch.setattr("ltbench.execute.setting.TOGETHER", 3 * 11 * 2 * 4)
        assert len(prepare(material((6, 3, 2)), recipe(generator=generator)).folds) == 3
        assert generator.asked == [3]

    def test_what_a_fold_leaves_behind_is_let_go(self) -> None:
        """When the rows of a fold are made, the real rows of the one before are gone; the first's are kept for fidelity."""
        alive: list[weakref.ref[Tensor]] = []
        counts = []

        class Counting(Together):
            def fit(self, train: Train) -> Callable[[Tensor], Rows]:
                alive.append(weakref.ref(train.x))
                plain = Fixed(Rows(torch.ones(1, 3), torch.tensor([1]))).fit(train)

                def sample(budget: Tensor) -> Rows:
                    counts.append(sum(each() is not None for each in alive))
                    return plain(budget)

                return sample

        prepared = prepare(material((6, 3, 2)), recipe(generator=Counting()))
        del alive[:], counts[:]
        assert len(prepared.folds) == 3
        assert counts == [3, 3, 2]


class TestCompared:
    """Which rows fidelity is told by."""

    def test_the_first_folds_rows_are_compared(self) -> None:
        """Real rows that the generator saw in it, rows it made of them, and rows held out from it: never a test row."""
        spies = recipe()
        prepared = prepare(material(), spies)
        assert prepared.compared is not None
        (train, x, labels), seen = prepared.folds[0], spies.generator.seen[1].x
        assert torch.equal(seen, prepared.compared.real.x)
        assert set(ids_in(prepared.compared.made.x)) <= set(ids_in(train.x[train.synthetic]))
        held_out = set(zip(ids_in(x), sorted(labels.tolist()), strict=True))
        found = prepared.compared.held_out
        assert set(zip(ids_in(found.x), sorted(found.labels.tolist()), strict=True)) <= held_out
        assert prepared.fidelity is prepared.fidelity
        assert prepared.fidelity is not None
        assert prepared.fidelity["held_out_from"] == "first of 3 folds of training rows"

    @pytest.mark.parametrize("regime", ["real+synthetic", "synthetic"])
    def test_validation_rows_are_the_held_out_ones(self, regime: str) -> None:
        """The generator's rows beside them, under the one transform, against all training rows in any regime."""
        prepared = prepare(material(validation=True), recipe(regime=regime))
        assert prepared.compared is not None
        assert prepared.compared.held_out_from == "validation part"
        assert ids_in(prepared.compared.real.x) == ids_in(material().x)
        assert set(ids_in(prepared.compared.held_out.x)) <= set(VALIDATION_IDS.tolist())
        assert set(prepared.compared.held_out.x[:, 2].tolist()) == {0.0}

    def test_without_rows_there_is_nothing_to_tell(self) -> None:
        """No synthetic rows, or no fold that holds any out."""
        none = Fixed(Rows(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)))
        assert prepare(material(), recipe(generator=none, regime="real")).fidelity is None
        assert prepare(material((1, 1, 1)), recipe()).fidelity is None


class TestRandomness:
    """Streams are the only randomness."""

    def test_the_result_is_the_same_alone_and_after_others(self) -> None:
        """Neither other settings before it nor torch's global seed change a setting."""
        alone = prepare(material(), recipe())
        torch.manual_seed(123)
        prepare(material((4, 4)), recipe(seed=8, folds=2))
        prepare(material(validation=True), recipe())
        torch.rand(5)
        assert same_prepared(alone, prepare(material(), recipe()))

    def test_the_global_generator_is_left_alone(self) -> None:
        """Torch's random state is the same before and after."""
        state = torch.get_rng_state()
        assert len(prepare(material(), recipe()).folds) == 3
        assert torch.equal(state, torch.get_rng_state())

    def test_the_seed_changes_folds_and_synthetic_rows(self) -> None:
        """Another seed deals other folds and draws other rows from the same real ones."""
        one, other = (prepare(material((30, 30)), recipe(seed=seed)) for seed in (3, 4))
        assert [ids_in(x) for _, x, _ in one.folds] != [ids_in(x) for _, x, _ in other.folds]
        one, other = (prepare(material(), recipe(seed=seed)) for seed in (3, 4))
        assert torch.equal(one.train.x[~one.train.synthetic], other.train.x[~other.train.synthetic])
        assert not torch.equal(one.train.x[one.train.synthetic], other.train.x[other.train.synthetic])

    def test_every_fit_has_streams_of_its_own(self) -> None:
        """Generators and heads of the final fit and of each fold draw from different streams."""
        spies = recipe()
        prepared = prepare(material(), spies)
        streams = [prepared.train.stream, *(train.stream for train, _, _ in prepared.folds)]
        streams += [train.stream for train in spies.generator.seen]
        assert len(set(streams)) == len(streams) == 8

    def test_folds_do_not_depend_on_the_order_of_rows(self) -> None:
        """Rows that come in another order are dealt to the same folds."""
        plain = material()
        turned = dataclasses.replace(plain, x=plain.x.flip(0), labels=plain.labels.flip(0), row_ids=plain.row_ids.flip(0))
        one, other = prepare(plain, recipe()), prepare(turned, recipe())
        assert [ids_in(x) for _, x, _ in one.folds] == [ids_in(x) for _, x, _ in other.folds]

    def test_the_material_is_not_written_to(self) -> None:
        """Features and labels are as before."""
        given_material, untouched = material(), material()
        assert len(prepare(given_material, recipe()).folds) == 3
        for name in ("x", "labels", "row_ids", "test"):
            assert torch.equal(getattr(untouched, name), getattr(given_material, name))


@dataclass(frozen=True)
class Transforming:
    """A transform that applies a function."""

    function: Callable[[Tensor], Any]

    def fit(self, x: Tensor) -> Callable[[Tensor], Any]:
        """Return the function."""
        return self.function


def raising(error: BaseException) -> Callable[[Any], Any]:
    """Return a function that raises."""

    def function(_: Any) -> Any:
        raise error

    return function


BAD_TRANSFORMS: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "fewer rows": (lambda x: x[1:], r"must return rows \[10, E\], not \[9, 2\]"),
    "flat": (lambda x: x[:, 0], r"must return rows \[10, E\], not \[10\]"),
    "no tensor": (lambda x: x.tolist(), r"must return rows \[10, E\], not list"),
    "NaN": (lambda x: x * float("nan"), "NaN or infinity"),
    "infinite": (lambda x: x / 0.0, "NaN or infinity"),
    "raises": (raising(RuntimeError("no such thing")), "no such thing"),
}


class TestFailures:
    """Who is blamed for what."""

    @pytest.mark.parametrize("name", BAD_TRANSFORMS)
    def test_a_bad_transform_is_named(self, name: str) -> None:
        """Wrong shapes, values that are not finite and exceptions are the transform's failure, with their cause."""
        function, message = BAD_TRANSFORMS[name]
        with pytest.raises(ComponentFailure, match="transform spy-transform") as caught:
            prepare(material(), recipe(transform=Transforming(function)))
        assert (caught.value.kind, caught.value.name) == ("transform", "spy-transform")
        with pytest.raises(type(caught.value.__cause__), match=message):
            raise caught.value.__cause__

    @pytest.mark.parametrize("rows", [None, Rows(torch.zeros(1, 9), torch.tensor([0]))])
    def test_a_bad_generator_is_named(self, rows: Any) -> None:
        """Rows outside the contract are the generator's failure."""
        with pytest.raises(ComponentFailure, match="generator spy-generator") as caught:
            prepare(material(), recipe(generator=Fixed(rows)))
        assert isinstance(caught.value.__cause__, TypeError if rows is None else ValueError)

    @pytest.mark.parametrize("budget", [Budget(target=10**12), Budget(per_real=1e30)])
    def test_a_budget_beyond_memory_is_refused_before_a_row_is_made(self, budget: Budget) -> None:
        """The message counts rows, features and memory, and says what to lower; a budget that fits is drawn."""
        spy = SpyGenerator()
        with pytest.raises(ComponentFailure, match="generator spy-generator") as caught:
            prepare(material(), recipe(generator=spy, budget=budget))
        assert isinstance(caught.value.__cause__, MemoryError)
        told = r"the budget is [\d,]{17,} synthetic rows of 3 features, [\d,]+ GiB .*: lower target or per_real, or give a cap"
        assert re.search(told, str(caught.value.__cause__))
        assert spy.budgets == []
        prepare(material(), recipe(generator=spy, budget=dataclasses.replace(budget, cap=7)))
        assert max(spy.budgets[0]) == 7

    def test_a_reason_to_skip_passes_through(self) -> None:
        """SkipCell is nobody's failure."""
        with pytest.raises(SkipCell, match="needs text"):
            prepare(material(), recipe(transform=Transforming(raising(SkipCell("needs text")))))

    def test_a_reason_to_skip_is_one_whatever_it_came_from(self) -> None:
        """A component may say so because another library refuses; its text is the reason, and the cell is skipped."""
        refused = SkipCell("the library refuses these rows")
        refused.__cause__ = ValueError("n_neighbors")
        failure = failure_of(refused)
        assert (failure.status, failure.told) == ("skipped", {"reason": "the library refuses these rows"})

    @pytest.mark.parametrize(
        "error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes.")]
    )
    def test_memory_that_runs_out_is_told_as_such(self, error: Exception) -> None:
        """Python's error, and what torch says on the CPU; another error that came from one is a failure."""
        blamed, other = ComponentFailure("generator", "huge"), RuntimeError("boom")
        blamed.__cause__, other.__cause__ = error, error
        assert failure_of(blamed).status == "out of memory"
        assert failure_of(other).status == "failed"

    def test_a_sampler_that_adds_no_rows_is_asked_whatever_the_budget(self) -> None:
        """Also a setting of real rows, where nobody asks for any."""
        kept = Rows(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), keep=torch.ones(10, dtype=torch.bool))

        class Under(Fixed):
            def fit(self, train: Train) -> Any:
                return Leaves()

        class Leaves:
            adds_rows = False

            def __call__(self, budget: Tensor) -> Rows:
                assert int(budget.max()) > 10**11
                return kept

        huge = Budget(target=10**12)
        assert len(prepare(material(), recipe(generator=Under(kept), budget=huge)).train.x) == 10
        assert len(prepare(material(), recipe(generator=Fixed(kept), budget=huge, regime="real")).train.x) == 10

    def test_soft_labels_take_memory_too(self) -> None:
        """They stay in memory: told before they are made, by one row; hard labels of as many rows are no matter."""
        classes = 3

        class Soft:
            def __init__(self, *, soft: bool) -> None:
                self.soft, self.asked = soft, list[int]()

            def __call__(self, budget: Tensor) -> Rows:
                self.asked.append(rows := int(budget.sum()))
                assert rows == 1
                labels = torch.zeros(rows, dtype=torch.long)
                return Rows(torch.zeros(rows, 0), torch.eye(classes)[labels] if self.soft else labels)

        x, budget = torch.zeros(1, 0), [0, 10**12, 10**12]
        with pytest.raises(
            MemoryError, match=r"2,000,000,000,000 synthetic rows with a label for each of 3 classes, [\d,]+ GiB"
        ):
            streams(Soft(soft=True), budget, x)
        hard = Soft(soft=False)
        assert not streams(hard, budget, x)
        assert hard.asked == [1]
        assert not streams(hard, [0, 1, 1], x)
        assert hard.asked == [1]


class TestBudgetOfASetting:
    """What of a budget and a regime reaches the rows a head sees."""

    def test_only_chosen_groups_get_rows(self) -> None:
        """The groups are the split's, in folds as well."""
        groups = ("head", "medium", "tail")
        spy = SpyGenerator()
        prepared = prepare(material(), recipe(generator=spy, budget=Budget(groups="tail"), groups=groups))
        assert len(prepared.folds) == len(spy.budgets) - 1 == 3
        assert spy.budgets[0] == [0, 0, 5]
        assert all(budget[:2] == [0, 0] for budget in spy.budgets)

    def test_synthetic_rows_weigh_what_the_budget_says(self) -> None:
        """Their weight counts in the classes' totals."""
        train = prepare(material(), recipe(budget=Budget(weight=0.5))).train
        assert set(train.weights[train.synthetic].tolist()) == {0.5}
        assert set(train.weights[~train.synthetic].tolist()) == {1.0}
        assert train.class_counts.tolist() == [6.0, 3 + 0.5 * 3, 1 + 0.5 * 5]

    def test_synthetic_rows_take_the_real_ones_place(self) -> None:
        """No real row is left, and every class has the target; real counts stay known."""
        train = prepare(material(), recipe(regime="synthetic")).train
        assert bool(train.synthetic.all())
        assert train.class_counts.tolist() == [6.0, 6.0, 6.0]
        assert train.real_class_counts.tolist() == [6.0, 3.0, 1.0]

    @pytest.mark.parametrize("budget", [Budget(target=1), Budget(groups="tail")])
    def test_a_budget_that_asks_for_nothing_is_idle(self, budget: Budget) -> None:
        """Below what every class has, or of groups without classes: the cell would be that of generator none."""
        groups = ("head", "head", "medium")
        assert prepare(material(), recipe(budget=budget, groups=groups)).idle
        assert not prepare(material(), recipe(budget=budget, groups=groups, regime="real")).idle
        assert not prepare(material(), recipe()).idle

    @pytest.mark.parametrize("rows", [0, 1])
    def test_synthetic_rows_alone_are_of_every_class(self, rows: int) -> None:
        """Otherwise the setting is skipped, with the classes that have none."""
        given = Fixed(Rows(torch.zeros(rows, 3), torch.zeros(rows, dtype=torch.long)))
        missing = {0: "3 classes (0, 1, 2)", 1: "2 classes (1, 2)"}[rows]
        with pytest.raises(SkipCell, match=re.escape(f"there are none of {missing}: raise target or per_real")):
            prepare(material(), recipe(generator=given, regime="synthetic"))
