"""Tests of long-tailed splits: counts, groups, selected rows and folds, against published tables and naive loops."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ltbench.errors import UsageError
from ltbench.longtail import (
    GROUPS,
    assign_groups,
    check_group_rule,
    class_order,
    groups_of,
    profile_counts,
    select_published_rows,
    select_rows,
    stratified_folds,
)
from ltbench.streams import Stream

PROPERTY = settings(deadline=None, max_examples=60, derandomize=True)

# ratio: rows, smallest class, strict and inclusive head / medium / tail classes of CIFAR-100-LT
CIFAR_100 = {
    1: (50_000, 500, (100, 0, 0), (100, 0, 0)),
    10: (19_573, 50, (69, 31, 0), (70, 30, 0)),
    20: (15_907, 25, (53, 47, 0), (54, 46, 0)),
    50: (12_608, 10, (41, 41, 18), (41, 40, 19)),
    100: (10_847, 5, (35, 35, 30), (35, 34, 31)),
    200: (9_502, 2, (30, 31, 39), (31, 29, 40)),
}

seeds = st.integers(0, 2**32)


def sizes_of(groups: list[str]) -> tuple[int, ...]:
    """Return how many classes are head, medium and tail."""
    return tuple(groups.count(name) for name in GROUPS)


def message_of(error: pytest.ExceptionInfo[UsageError]) -> str:
    """Return what a caught error says."""
    return str(error.value)


# Profiles


@pytest.mark.parametrize("ratio", CIFAR_100)
def test_exponential_profile_gives_the_published_sizes_of_cifar_100_lt(ratio: int) -> None:
    """Rows, largest and smallest class of CIFAR-100-LT are the published ones at every ratio."""
    counts = profile_counts("exp", 500, ratio, 100)

    assert (*CIFAR_100[ratio][:2], 500) == (sum(counts), counts[-1], counts[0])


@pytest.mark.parametrize(
    ("ratio", "counts"),
    [
        (10, [5000, 3871, 2997, 2320, 1796, 1391, 1077, 834, 645, 500]),
        (50, [5000, 3237, 2096, 1357, 878, 568, 368, 238, 154, 100]),
        (100, [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]),
    ],
)
def test_exponential_profile_gives_the_published_classes_of_cifar_10_lt(ratio: int, counts: list[int]) -> None:
    """Every class of CIFAR-10-LT has its published size, and so has the whole."""
    assert counts == profile_counts("exp", 5000, ratio, 10)
    assert {10: 20_431, 50: 13_996, 100: 12_406}[ratio] == sum(profile_counts("exp", 5000, ratio, 10))


@pytest.mark.parametrize("ratio", [1, 10, 20, 50, 100, 200])
def test_exponential_profile_is_the_published_formula(ratio: int) -> None:
    """The counts equal the formula as published code writes it, with the imbalance factor as a decimal fraction."""
    factor = {1: 1.0, 10: 0.1, 20: 0.05, 50: 0.02, 100: 0.01, 200: 0.005}[ratio]
    expected = []
    for i in range(100):
        expected.append(int(450 * (factor ** (i / (100 - 1.0)))))

    assert expected == profile_counts("exp", 450, ratio, 100)


@pytest.mark.parametrize(
    ("n_max", "classes", "ratio", "rows"),
    [
        (500, 100, 1, 50_000),
        (500, 100, 10, 27_500),
        (500, 100, 50, 25_500),
        (500, 100, 100, 25_250),
        (5000, 10, 1, 50_000),
        (5000, 10, 10, 27_500),
        (5000, 10, 50, 25_500),
        (5000, 10, 100, 25_250),
    ],
)
def test_step_profile_gives_the_published_sizes(n_max: int, classes: int, ratio: int, rows: int) -> None:
    """The step profile has two sizes, half the classes each, and the published number of rows."""
    counts = profile_counts("step", n_max, ratio, classes)

    assert rows == sum(counts)
    assert [n_max] * (classes // 2) + [n_max // ratio] * (classes // 2) == counts


def test_step_profile_of_an_odd_number_of_classes_has_one_more_small_class() -> None:
    """The first half, rounded down, is large."""
    assert profile_counts("step", 60, 10, 5) == [60, 60, 6, 6, 6]


@PROPERTY
@given(
    st.sampled_from(["exp", "step"]),
    st.integers(1, 5000),
    st.floats(0, 1),
    st.integers(2, 60),
)
def test_profiles_fall_from_n_max_to_n_max_over_ratio(profile: str, n_max: int, share: float, classes: int) -> None:
    """Any profile starts at n_max, never rises, and ends within one row of n_max / ratio."""
    ratio = 1 + share * (0.99 * n_max - 1) if n_max > 1 else 1.0
    counts = profile_counts(profile, n_max, ratio, classes)

    assert classes == len(counts)
    assert n_max == counts[0]
    assert sorted(counts, reverse=True) == counts
    assert n_max / ratio - 1 - 1e-9 <= counts[-1] <= n_max / ratio + 1e-9


@pytest.mark.parametrize("profile", ["exp", "step"])
@pytest.mark.parametrize("n_max", [2, 49, 98, 103, 450, 500, 5000])
def test_the_largest_possible_ratio_is_accepted(profile: str, n_max: int) -> None:
    """At ratio n_max, which the error for larger ones recommends, the smallest class keeps one row."""
    assert profile_counts(profile, n_max, n_max, 10)[-1] == 1


@pytest.mark.parametrize(
    ("profile", "n_max", "ratio", "classes", "message"),
    [
        ("exponential", 500, 10, 100, "profile must be one of exp, step, not 'exponential'"),
        ("stp", 500, 10, 100, "profile must be one of exp, step, not 'stp' (did you mean 'step'?)"),
        ("exp", 500, 10, 1, "a long tail needs at least two classes, this dataset has 1"),
        ("exp", 500, 0.5, 100, "the imbalance ratio must be a number of at least 1, not 0.5"),
        ("exp", 500, 0, 100, "the imbalance ratio must be a number of at least 1, not 0"),
        ("step", 500, -10, 100, "the imbalance ratio must be a number of at least 1, not -10"),
        ("exp", 500, math.nan, 100, "the imbalance ratio must be a number of at least 1, not nan"),
        ("exp", 500, math.inf, 100, "the imbalance ratio must be a number of at least 1, not inf"),
        (
            "exp",
            500,
            501,
            100,
            "imbalance ratio 501 leaves a class without rows: the largest class has 500, so the largest possible ratio is 500",
        ),
        (
            "step",
            20,
            20.5,
            10,
            "imbalance ratio 20.5 leaves a class without rows: the largest class has 20, so the largest possible ratio is 20",
        ),
    ],
)
def test_impossible_profiles_are_refused(profile: str, n_max: int, ratio: float, classes: int, message: str) -> None:
    """An unknown profile, a bad ratio or an empty class is a usage error that says what is possible."""
    with pytest.raises(UsageError) as error:
        profile_counts(profile, n_max, ratio, classes)

    assert message == message_of(error)


# Class order


def test_class_order_by_index_makes_class_0_the_head() -> None:
    """Under 'index' class c takes rank c."""
    assert class_order("index", 4, Stream.of(0)) == [0, 1, 2, 3]


def test_shuffled_class_order_is_a_permutation_that_the_stream_decides() -> None:
    """Under 'shuffled' each seed gives one permutation, the same every time, and seeds differ."""
    orders = [class_order("shuffled", 20, Stream.of(seed, "classes")) for seed in range(10)]

    assert [list(range(20))] * 10 == [sorted(order) for order in orders]
    assert orders == [class_order("shuffled", 20, Stream.of(seed, "classes")) for seed in range(10)]
    assert len({tuple(order) for order in orders}) == 10


def test_unknown_class_order_is_refused() -> None:
    """Another rule is a usage error that names the two."""
    with pytest.raises(UsageError) as error:
        class_order("random", 4, Stream.of(0))

    assert message_of(error) == "class_order must be 'index' or 'shuffled', not 'random'"


# Groups


@pytest.mark.parametrize("ratio", CIFAR_100)
@pytest.mark.parametrize(("rule", "column"), [("strict", 2), ("inclusive", 3)])
def test_groups_of_cifar_100_lt_have_the_published_sizes(ratio: int, rule: str, column: int) -> None:
    """Both rules give the published head / medium / tail classes at every ratio, the head first."""
    groups = assign_groups(profile_counts("exp", 500, ratio, 100), rule)

    assert CIFAR_100[ratio][column] == sizes_of(groups)
    assert sorted(groups, key=GROUPS.index) == groups


@pytest.mark.parametrize(
    ("rows", "strict", "inclusive"),
    [
        (1, "tail", "tail"),
        (19, "tail", "tail"),
        (20, "medium", "tail"),
        (21, "medium", "medium"),
        (99, "medium", "medium"),
        (100, "medium", "head"),
        (101, "head", "head"),
    ],
)
def test_group_rules_differ_at_their_bounds(rows: int, strict: str, inclusive: str) -> None:
    """Classes of exactly 20 and 100 rows are medium under 'strict', and tail and head under 'inclusive'."""
    assert [strict, inclusive] == [assign_groups([rows], "strict")[0], assign_groups([rows], "inclusive")[0]]


@pytest.mark.parametrize("ratio", [10, 50, 100])
def test_cifar_10_lt_has_no_strict_tail_at_the_usual_ratios(ratio: int) -> None:
    """The reason why small datasets name explicit sizes."""
    counts = profile_counts("exp", 5000, ratio, 10)

    assert assign_groups(counts, "strict").count("tail") == 0
    assert assign_groups(counts, "3/4/3") == ["head"] * 3 + ["medium"] * 4 + ["tail"] * 3


@pytest.mark.parametrize(
    ("classes", "sizes"), [(2, (0, 2, 0)), (3, (1, 1, 1)), (10, (3, 4, 3)), (11, (3, 5, 3)), (100, (33, 34, 33))]
)
def test_thirds_split_classes_by_rank(classes: int, sizes: tuple[int, int, int]) -> None:
    """A third of the classes, rounded down, is head, as many are tail, and the rest is medium."""
    assert sizes == sizes_of(assign_groups(range(classes, 0, -1), "thirds"))


@pytest.mark.parametrize("ratio", CIFAR_100)
def test_a_reference_ratio_gives_the_same_groups_at_every_ratio(ratio: int) -> None:
    """LIFT's rule takes the strict groups of ratio 100 whatever the run's own counts."""
    counts = profile_counts("exp", 500, ratio, 100)
    groups = assign_groups(counts, "reference:100", lambda r: profile_counts("exp", 500, r, 100))

    assert assign_groups(profile_counts("exp", 500, 100, 100), "strict") == groups
    assert sizes_of(groups) == (35, 35, 30)


def test_a_reference_ratio_may_be_a_fraction() -> None:
    """The ratio after the colon is handed over as the number it is."""
    asked = []
    groups = assign_groups([1, 1], "reference:12.5", lambda ratio: asked.append(ratio) or [200, 2])

    assert asked == [12.5]
    assert groups == ["head", "tail"]


def counts_by_class(ratio: float, order: list[int], profile: str = "exp") -> list[int]:
    """Return CIFAR-100-LT's counts with the classes ranked in an order of their own."""
    counts = [0] * 100
    for c, count in zip(order, profile_counts(profile, 500, ratio, 100), strict=True):
        counts[c] = count
    return counts


@pytest.mark.parametrize("ratio", CIFAR_100)
@pytest.mark.parametrize("order", ["index", "shuffled"])
def test_a_cell_has_its_reference_ratio_groups_whatever_its_own_ratio(order: str, ratio: int) -> None:
    """A class is in the group of its rank at the reference ratio, also where many classes of the cell are equally large."""
    for seed in range(5):
        ranks = class_order(order, 100, Stream.of(seed, "class-order"))
        cell = {"profile": "exp", "n_max": 500, "imbalance_ratio": ratio, "class_order": order, "seed": seed}
        expected = assign_groups(counts_by_class(50, ranks), "strict")

        assert expected == groups_of("reference:50", counts_by_class(ratio, ranks), cell)


@pytest.mark.parametrize("rule", ["strict", "inclusive", "thirds", "30/40/30"])
def test_a_cell_has_the_groups_of_its_own_counts_under_other_rules(rule: str) -> None:
    """Without a reference ratio only the class counts matter."""
    counts = counts_by_class(100, class_order("shuffled", 100, Stream.of(1)))

    assert assign_groups(counts, rule) == groups_of(rule, counts, {"profile": "exp", "n_max": 500})


@pytest.mark.parametrize(("profile", "sizes"), [("exp", (35, 35, 30)), ("balanced", (35, 35, 30)), ("step", (50, 0, 50))])
def test_a_reference_ratio_follows_the_profile(profile: str, sizes: tuple[int, int, int]) -> None:
    """The reference counts are those of the cell's own profile; a balanced cell is compared with the exponential one."""
    counts = counts_by_class(1, list(range(100)), "step")

    assert sizes == sizes_of(groups_of("reference:100", counts, {"profile": profile, "n_max": 500}))


@PROPERTY
@given(st.data())
def test_explicit_sizes_rank_classes_by_count_and_ties_by_index(data: st.DataObject) -> None:
    """Sizes are filled by repeatedly taking the largest class left, the first of equals."""
    counts = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=12))
    head = data.draw(st.integers(0, len(counts)))
    medium = data.draw(st.integers(0, len(counts) - head))
    rule = f"{head}/{medium}/{len(counts) - head - medium}"

    left = list(range(len(counts)))
    expected = [""] * len(counts)
    for rank in range(len(counts)):
        largest = left[0]
        for c in left:
            if counts[c] > counts[largest]:
                largest = c
        left.remove(largest)
        expected[largest] = "head" if rank < head else "medium" if rank < head + medium else "tail"

    assert expected == assign_groups(counts, rule)


@pytest.mark.parametrize("rule", ["strict", "inclusive", "thirds", "reference:1", "reference:100", "reference:1e2", "3/4/3"])
def test_known_group_rules_pass_the_check(rule: str) -> None:
    """Rules can be checked before any class is counted."""
    assert check_group_rule(rule) is None


RULES = "groups must be strict, inclusive, thirds, reference:<ratio> or sizes such as 3/4/3, not "


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("", f"{RULES}''"),
        ("halves", f"{RULES}'halves'"),
        ("strickt", f"{RULES}'strickt' (did you mean 'strict'?)"),
        ("third", f"{RULES}'third' (did you mean 'thirds'?)"),
        ("3/4", f"{RULES}'3/4'"),
        ("3/4/3/1", f"{RULES}'3/4/3/1'"),
        ("3/-4/3", f"{RULES}'3/-4/3'"),
        ("reference", f"{RULES}'reference'"),
        ("reference:", "groups: reference:<ratio> needs a number of at least 1, not 'reference:'"),
        ("reference:ten", "groups: reference:<ratio> needs a number of at least 1, not 'reference:ten'"),
        ("reference:0.5", "groups: reference:<ratio> needs a number of at least 1, not 'reference:0.5'"),
        ("reference:nan", "groups: reference:<ratio> needs a number of at least 1, not 'reference:nan'"),
    ],
)
def test_bad_group_rules_are_refused(rule: str, message: str) -> None:
    """The check and the assignment itself give the same usage error, with the rules that exist."""
    with pytest.raises(UsageError) as checked:
        check_group_rule(rule)
    with pytest.raises(UsageError) as assigned:
        assign_groups([5] * 10, rule, lambda ratio: [5] * 10)

    assert [message, message] == [message_of(checked), message_of(assigned)]


def test_sizes_that_do_not_sum_to_the_classes_are_refused() -> None:
    """Explicit sizes must name every class once."""
    with pytest.raises(UsageError) as error:
        assign_groups([9] * 10, "3/4/4")

    assert message_of(error) == "groups '3/4/4' name 11 classes, the dataset has 10"


# Rows


def published_rows(labels: np.ndarray, counts: list[int], seed: int) -> list[int]:
    """Choose rows as the published code does: with NumPy's global generator, class by class."""
    before = np.random.get_state()
    np.random.seed(seed)
    rows = []
    for the_class, the_count in enumerate(counts):
        indices = np.where(labels == the_class)[0]
        np.random.shuffle(indices)
        rows.extend(indices[:the_count].tolist())
    np.random.set_state(before)
    return rows


def cifar_like_labels(classes: int, rows: int) -> torch.Tensor:
    """Return labels ``[classes · rows]`` in an order without pattern."""
    return Stream.of(7, "labels").order(torch.arange(classes * rows)) % classes


@pytest.mark.parametrize(("classes", "n_max"), [(10, 500), (100, 50)])
@pytest.mark.parametrize(("profile", "ratio"), [("exp", 10), ("exp", 50), ("step", 10)])
@pytest.mark.parametrize("seed", [0, 1])
def test_published_rows_are_those_of_the_global_generator(
    classes: int, n_max: int, profile: str, ratio: int, seed: int
) -> None:
    """The published subsets come out row by row, in their order."""
    labels, counts = cifar_like_labels(classes, n_max), profile_counts(profile, n_max, ratio, classes)

    assert published_rows(labels.numpy(), counts, seed) == select_published_rows(labels, counts, seed).tolist()


def test_published_rows_use_seed_0_and_leave_the_global_generator_alone() -> None:
    """Without a seed the published one is used, and nobody else's draws change."""
    labels, counts = cifar_like_labels(10, 20), [20, 15, 10, 9, 8, 7, 6, 5, 4, 3]
    np.random.seed(5)
    before = np.random.get_state()[1].tolist()

    assert published_rows(labels.numpy(), counts, 0) == select_published_rows(labels, counts).tolist()
    assert before == np.random.get_state()[1].tolist()


@st.composite
def labels_and_counts(draw: st.DrawFn) -> tuple[torch.Tensor, list[int], list[int]]:
    """Draw labels, counts that they can serve, and counts that are nowhere larger."""
    labels = draw(st.lists(st.integers(0, 4), min_size=1, max_size=60))
    have = [labels.count(c) for c in range(5)]
    many = [draw(st.integers(0, n)) for n in have]
    few = [draw(st.integers(0, n)) for n in many]
    return torch.tensor(labels), many, few


@PROPERTY
@given(labels_and_counts(), seeds)
def test_selected_rows_have_the_exact_counts(drawn: tuple[torch.Tensor, list[int], list[int]], seed: int) -> None:
    """Row ids ascend, none is twice, and each class has as many as asked for."""
    labels, counts, _ = drawn
    rows = select_rows(labels, counts, Stream.of(seed)).tolist()

    assert sorted(set(rows)) == rows
    assert {c: n for c, n in enumerate(counts) if n} == dict(Counter(int(labels[row]) for row in rows))


@PROPERTY
@given(labels_and_counts(), seeds)
def test_a_smaller_subset_is_nested_in_a_larger_one(drawn: tuple[torch.Tensor, list[int], list[int]], seed: int) -> None:
    """Rows chosen under smaller counts are among those chosen under larger ones."""
    labels, many, few = drawn

    assert set(select_rows(labels, few, Stream.of(seed)).tolist()) <= set(select_rows(labels, many, Stream.of(seed)).tolist())


def test_subsets_are_nested_across_ratios() -> None:
    """Each larger ratio's rows are among the smaller ratio's, under both profiles."""
    labels = cifar_like_labels(10, 200)
    for profile in ("exp", "step"):
        subsets = [
            set(select_rows(labels, profile_counts(profile, 200, ratio, 10), Stream.of(0)).tolist())
            for ratio in (1, 5, 10, 50, 100)
        ]
        assert all(larger > smaller for larger, smaller in itertools.pairwise(subsets))


@PROPERTY
@given(labels_and_counts(), seeds, st.integers(0, 2**63 - 1))
def test_selection_neither_reads_nor_moves_the_global_generator(
    drawn: tuple[torch.Tensor, list[int], list[int]], seed: int, torch_seed: int
) -> None:
    """Torch's own generator has no part in which rows are chosen."""
    labels, counts, _ = drawn
    expected = select_rows(labels, counts, Stream.of(seed))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed)
        before = torch.get_rng_state()
        actual = select_rows(labels, counts, Stream.of(seed))

        assert expected.equal(actual)
        assert before.equal(torch.get_rng_state())


@PROPERTY
@given(labels_and_counts(), seeds)
def test_a_class_keeps_its_rows_whatever_the_others_keep(drawn: tuple[torch.Tensor, list[int], list[int]], seed: int) -> None:
    """Changing the counts of all other classes does not change the rows of one."""
    labels, counts, others = drawn
    expected = select_rows(labels, counts, Stream.of(seed))
    actual = select_rows(labels, [counts[0], *others[1:]], Stream.of(seed))

    assert expected[labels[expected] == 0].equal(actual[labels[actual] == 0])


def test_seeds_select_different_rows() -> None:
    """Twenty seeds give twenty subsets."""
    labels = cifar_like_labels(5, 40)

    assert len({tuple(select_rows(labels, [20] * 5, Stream.of(seed, "subset")).tolist()) for seed in range(20)}) == 20


def test_every_row_of_a_class_is_equally_likely() -> None:
    """Over many seeds rows are chosen evenly, the first and last of the dataset included."""
    labels = torch.tensor([0, 1] * 10)
    times = torch.zeros(20)
    for seed in range(1500):
        times[select_rows(labels, [3, 5], Stream.of(seed))] += 1

    assert stats.chisquare(times[0::2].numpy()).pvalue > 0.01
    assert stats.chisquare(times[1::2].numpy()).pvalue > 0.01


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([4, 1, 1], "class 0 has 3 rows, the profile needs 4: lower n_max"),
        ([3, 3, 1], "class 1 has 2 rows, the profile needs 3: lower n_max"),
        ([3, 2, 1], "class 2 has 0 rows, the profile needs 1: lower n_max"),
        ([9, 9, 9], "class 0 has 3 rows, the profile needs 9: lower n_max"),
    ],
)
def test_too_few_rows_in_a_class_are_refused(counts: list[int], message: str) -> None:
    """Both selections name the first class that is too small, what it has and what it needs."""
    labels = torch.tensor([0, 1, 0, 1, 0])
    with pytest.raises(UsageError) as ours:
        select_rows(labels, counts, Stream.of(0))
    with pytest.raises(UsageError) as published:
        select_published_rows(labels, counts)

    assert [message, message] == [message_of(ours), message_of(published)]


# Folds


@st.composite
def labelled_rows(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw labels ``[N]`` and distinct row ids ``[N]``."""
    row_ids = draw(st.lists(st.integers(0, 10**6), min_size=1, max_size=50, unique=True))
    labels = draw(st.lists(st.integers(0, 3), min_size=len(row_ids), max_size=len(row_ids)))
    return torch.tensor(labels), torch.tensor(row_ids)


@PROPERTY
@given(labelled_rows(), st.integers(2, 7), seeds)
def test_folds_deal_every_class_out_evenly(drawn: tuple[torch.Tensor, torch.Tensor], folds: int, seed: int) -> None:
    """Within a class fold sizes differ by one at most, so a class of fewer rows than folds never shares a fold."""
    labels, row_ids = drawn
    fold = stratified_folds(labels, row_ids, folds, Stream.of(seed))

    assert labels.shape == fold.shape
    assert set(fold.tolist()) <= set(range(folds))
    for c in set(labels.tolist()):
        of_class = fold[labels == c].tolist()
        sizes = [of_class.count(f) for f in range(folds)]
        assert max(sizes) - min(sizes) <= 1
        assert min(folds, len(of_class)) == len(set(of_class))


@PROPERTY
@given(labelled_rows(), st.integers(2, 7), seeds, st.randoms(use_true_random=False))
def test_a_row_keeps_its_fold_in_any_order(
    drawn: tuple[torch.Tensor, torch.Tensor], folds: int, seed: int, random: object
) -> None:
    """Shuffling the rows shuffles their folds along."""
    labels, row_ids = drawn
    moved = list(range(len(labels)))
    random.shuffle(moved)
    expected = stratified_folds(labels, row_ids, folds, Stream.of(seed))[moved]

    assert expected.equal(stratified_folds(labels[moved], row_ids[moved], folds, Stream.of(seed)))


@PROPERTY
@given(labelled_rows(), st.integers(2, 7), seeds)
def test_a_class_keeps_its_folds_without_the_others(drawn: tuple[torch.Tensor, torch.Tensor], folds: int, seed: int) -> None:
    """Folds of one class do not depend on which other rows are there."""
    labels, row_ids = drawn
    kept = labels == labels[0]
    expected = stratified_folds(labels, row_ids, folds, Stream.of(seed))[kept]

    assert expected.equal(stratified_folds(labels[kept], row_ids[kept], folds, Stream.of(seed)))


def test_seeds_give_different_folds() -> None:
    """Ten streams deal the same rows out in ten ways."""
    labels, row_ids = torch.zeros(40, dtype=torch.int64), torch.arange(40)

    assert len({tuple(stratified_folds(labels, row_ids, 5, Stream.of(s, "folds")).tolist()) for s in range(10)}) == 10
