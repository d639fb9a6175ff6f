"""Tests of planning: cells, references and their order, what is refused before any work, splits and keys."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ltbench.budget import Budget
from ltbench.config import experiment, references_of
from ltbench.errors import UsageError
from ltbench.keys import digest
from ltbench.longtail import exponential_counts, groups_of, step_counts
from ltbench.plan import Cell, Plan, candidate_values, plan, split_rows
from ltbench.plugins import Registry, discover

MakePlugin = Callable[..., Path]
Planner = Callable[..., Plan]

LAB = '''
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ltbench
import torch


class Undecodable(Sequence):
    """Images that must not be touched."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return self.rows

    def __getitem__(self, index):
        raise AssertionError("an image was decoded while planning")


def part(labels, images=None):
    labels = torch.as_tensor(labels)
    return ltbench.Part(labels, Undecodable(len(labels) if images is None else images))


def dataset(train, test=None, validation=None, classes=None):
    test = part(range(classes)) if test is None else test
    return ltbench.Dataset(train, test, tuple(map(str, range(classes))), "spy", validation)


@dataclass(frozen=True, kw_only=True)
class Spy:
    """Labels in a mixed order, as many of each class as ``counts`` says."""

    counts: str = "40-40-40-40"

    def load(self, folder):
        counts = [int(n) for n in self.counts.split("-")]
        labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
        mixed = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
        return dataset(part(mixed), classes=len(counts))


@dataclass(frozen=True, kw_only=True)
class Wrong:
    """A dataset with one mistake."""

    how: str

    def load(self, folder):
        good = part([0, 1, 2] * 4)
        return {
            "negative": lambda: dataset(part([0, 1, 2, -1]), classes=3),
            "too-high": lambda: dataset(good, part([0, 1, 2, 3]), classes=3),
            "high-validation": lambda: dataset(good, None, part([5]), classes=3),
            "empty-class": lambda: dataset(part([0, 2, 2]), classes=3),
            "empty-test-class": lambda: dataset(good, part([0, 0, 2]), classes=3),
            "no-rows": lambda: dataset(part([]), classes=3),
            "no-test-rows": lambda: dataset(good, part([]), classes=3),
            "no-validation-rows": lambda: dataset(good, None, part([]), classes=3),
            "few-images": lambda: dataset(part([0, 1, 2], images=2), classes=3),
            "one-class": lambda: dataset(part([0, 0]), classes=1),
            "float-labels": lambda: dataset(part([0.0, 1.0, 2.0]), classes=3),
            "square-labels": lambda: dataset(part([[0, 1, 2]] * 3), classes=3),
            "nothing": lambda: None,
            "sparse-validation": lambda: dataset(good, None, part([0, 2]), classes=3),
        }[self.how]()


@dataclass(frozen=True, kw_only=True)
class Raising:
    """A dataset that cannot be loaded."""

    usage: bool = False

    def load(self, folder):
        raise ltbench.UsageError("put the images into data/") if self.usage else OSError("the disk is gone")


@dataclass(frozen=True, kw_only=True)
class Heavy:
    """A backbone that must not be loaded."""

    def load(self, device):
        raise AssertionError("a backbone was loaded while planning")


@dataclass(frozen=True, kw_only=True)
class Told(Heavy):
    """A backbone that tells the length of its vectors; below 0 its user has erred, at 0 it has itself."""

    size: int

    def feature_dimension(self):
        if self.size < 0:
            raise ltbench.UsageError("size must not be negative")
        return self.size * (1 // self.size)


@ltbench.hookimpl
def ltbench_datasets():
    return [
        ltbench.Component("spy", f"{__name__}:Spy", "labels"),
        ltbench.Component("wrong", f"{__name__}:Wrong", "a mistake"),
        ltbench.Component("raising", f"{__name__}:Raising", "an error"),
    ]


@ltbench.hookimpl
def ltbench_backbones():
    return [ltbench.Component(name.lower(), f"{__name__}:{name}", "a backbone") for name in ("Heavy", "Told")]
'''


@pytest.fixture
def lab(make_plugin: MakePlugin) -> Registry:
    """Return a registry with datasets whose images raise when touched, beside the first-party plugins."""
    make_plugin("lab", LAB, module="lab_data")
    return discover()


@pytest.fixture
def planned(lab: Registry, tmp_path: Path) -> Planner:
    """Return ``planned(**settings)``, which plans an experiment on the spy dataset."""

    def make(**settings: Any) -> Plan:
        defaults = {"dataset": "spy", "backbone": "heavy", "groups": "1/2/1"}
        return plan(experiment({**defaults, **settings}), lab, tmp_path)

    return make


def named(cell: Cell) -> tuple[Any, ...]:
    """Return what tells the cells of most tests apart."""
    return cell.profile, cell.imbalance_ratio, cell.generator, cell.classifier, cell.seed


# Cells and references


def test_a_plan_without_references_is_the_product_of_its_axes(planned: Planner) -> None:
    """Every combination is a cell for each seed, none twice."""
    made = planned(generator="none,smote", classifier="softmax,ncm", ratio=[4, 8], seeds=2, reference=False)
    expected = itertools.product(["exp"], [4.0, 8.0], ["none", "smote"], ["softmax", "ncm"], [0, 1])
    assert sorted(map(named, made.cells)) == sorted(expected)
    assert made.references == frozenset()


def test_every_head_gets_its_references_once(planned: Planner) -> None:
    """The same head on balanced data and plain softmax on the long tail, for each seed, and nothing else."""
    made = planned(generator="smote", classifier="ncm,balanced-softmax", ratio=[4], seeds=2)
    heads, seeds = ("ncm", "balanced-softmax"), (0, 1)
    asked = [("exp", 4.0, "smote", head, seed) for head in heads for seed in seeds]
    balanced = [("balanced", 1.0, "none", head, seed) for head in heads for seed in seeds]
    plain = [("exp", 4.0, "none", "softmax", seed) for seed in seeds]
    assert sorted(map(named, made.cells)) == sorted([*asked, *balanced, *plain])
    assert sorted(map(named, made.references)) == sorted([*balanced, *plain])


def test_each_long_tail_gets_its_own_plain_reference(planned: Planner) -> None:
    """Two ratios and two profiles share the balanced reference, and each has its plain softmax."""
    made = planned(generator="smote", classifier="ncm", ratio=[4, 8], profile=["exp", "step"])
    plain = [(profile, ratio, "none", "softmax", 0) for profile in ("exp", "step") for ratio in (4.0, 8.0)]
    assert sorted(map(named, made.references)) == sorted([("balanced", 1.0, "none", "ncm", 0), *plain])


def test_a_cell_that_is_asked_for_is_no_reference(planned: Planner) -> None:
    """What the experiment names itself is not added again."""
    made = planned(generator="none,smote", classifier="softmax", ratio=[1, 4])
    balanced = [("balanced", 1.0, generator, "softmax", 0) for generator in ("none", "smote")]
    assert sorted(map(named, made.cells)) == sorted(
        [*balanced, ("exp", 4.0, "none", "softmax", 0), ("exp", 4.0, "smote", "softmax", 0)]
    )
    assert made.references == frozenset()


def test_balanced_data_needs_no_reference(planned: Planner) -> None:
    """At ratio 1 there is no gap to close."""
    assert sorted(map(named, planned(generator="smote", classifier="ncm", ratio=[1]).cells)) == [
        ("balanced", 1.0, "smote", "ncm", 0)
    ]


def test_references_are_those_that_a_board_looks_for(planned: Planner) -> None:
    """The names that ``references_of`` gives for a cell are cells of the plan."""
    made = planned(generator="smote", classifier="lda", ratio=[4], rows="published", prior_source="real", seeds=2)
    cells = {digest(dataclasses.asdict(cell)) for cell in made.cells}
    for cell in set(made.cells) - made.references:
        assert {digest(ref) for ref in references_of(dataclasses.asdict(cell))} <= cells


@pytest.mark.parametrize(
    ("settings", "cells"),
    [
        ({"classifier": "ncm,ncm"}, 1),
        ({"classifier": "ncm,ncm[center=true],ncm[normalize=true,center=true]"}, 1),
        ({"classifier": "ncm,ncm@ltbench-classifiers"}, 1),
        ({"classifier": "ncm,ncm[center=false]"}, 2),
        ({"generator": "smote,smote[target=max],smote[k=5]"}, 1),
        ({"generator": "smote[target=median,k=5],smote[target=median]"}, 1),
        ({"generator": "smote,smote[target=median],smote[target=39]"}, 3),
        ({"generator": "smote[k=3|5|3]"}, 2),
        ({"generator": "none,smote", "prior_source": ["effective", "real"]}, 3),
        ({"transform": "l2,l2"}, 1),
        ({"transform": "pca,pca[dim=32],pca[dim=32,whiten=false],pca[dim=8]"}, 2),
        ({"ratio": [4, 4.0]}, 1),
        ({"ratio": [1], "profile": ["exp", "step"]}, 1),
        ({"seeds": [0, 1, 0]}, 2),
        ({"dataset": "spy,spy[counts=40-40-40-40]"}, 1),
    ],
)
def test_repeats_collapse(planned: Planner, settings: Mapping[str, Any], cells: int) -> None:
    """Two spellings of one cell are run once."""
    made = planned(**{"classifier": "ncm", "ratio": [4], "reference": False, **settings})
    assert len(made.cells) == len(set(made.cells)) == cells


def test_canonical_names_keep_the_budget(planned: Planner) -> None:
    """A generator's name holds its own parameters and its budget, and finds both."""
    made = planned(generator="smote[target=median,k=3],smote[target=max],smote[k=5,target=20]", ratio=[4], reference=False)
    names = [cell.generator for cell in made.cells]
    assert names == ["smote[k=3,target=median]", "smote", "smote[target=20]"]
    assert [made.budgets[name] for name in names] == [Budget("median"), Budget("max"), Budget(20)]
    assert [made.component("generator", name).build().k for name in names] == [3, 5, 5]


def test_a_parameter_that_is_fixed_at_its_default_is_not_chosen(planned: Planner) -> None:
    """``softmax[l2=0.001]`` and plain softmax, whose l2 is chosen, are two cells, although 0.001 is the class's default."""
    made = planned(classifier="softmax[l2=0.001]", ratio=[4])
    (asked,) = set(made.cells) - made.references
    assert asked.classifier != "softmax"
    assert candidate_values(made.component("classifier", asked.classifier)) == [{}]
    plain = candidate_values(made.component("classifier", "softmax"))
    assert plain == [{"l2": 0.1}, {"l2": 0.01}, {"l2": 0.001}, {"l2": 0.0001}]


def test_every_name_of_a_cell_is_resolved(planned: Planner) -> None:
    """The plan knows the component behind each name, references included."""
    made = planned(generator="smote", classifier="ncm", ratio=[4])
    kinds = ("dataset", "backbone", "transform", "generator", "classifier")
    assert {(cell.classifier, made.component("classifier", cell.classifier).canonical) for cell in made.cells} == {
        ("ncm", "ncm"),
        ("softmax", "softmax"),
    }
    assert all(made.component(kind, getattr(cell, kind)).kind == kind for cell in made.cells for kind in kinds)


def groups(values: list[Any]) -> int:
    """Return how many stretches of equal neighbours there are."""
    return len(list(itertools.groupby(values)))


def test_cells_that_share_work_are_neighbours(planned: Planner) -> None:
    """Cells of one feature set, one split and one setting follow each other, however the axes are crossed."""
    made = planned(
        dataset="spy,spy[counts=50-50-50-50]",
        backbone="heavy,pixels",
        transform="l2,none",
        generator="none,smote,random-over",
        classifier="softmax,ncm",
        prior_source=["effective", "real"],
        profile=["exp", "step"],
        ratio=[4, 1, 8],
        seeds=[1, 0],
    )
    for shared in (
        lambda cell: (cell.dataset, cell.backbone),
        lambda cell: (cell.dataset, cell.backbone, cell.profile, cell.imbalance_ratio, cell.rows, cell.seed),
        lambda cell: cell.setting,
    ):
        values = [shared(cell) for cell in made.cells]
        assert groups(values) == len(set(values))


def test_cells_run_in_the_order_they_are_named(planned: Planner) -> None:
    """The first dataset, ratio, seed and generator come first."""
    made = planned(generator="smote,none", classifier="ncm,softmax", ratio=[8, 4], seeds=[3, 1], reference=False)
    expected = itertools.product([8.0, 4.0], [3, 1], ["smote", "none"], ["ncm", "softmax"])
    found = [(cell.imbalance_ratio, cell.seed, cell.generator, cell.classifier) for cell in made.cells]
    assert found == list(expected)


@pytest.mark.parametrize(
    ("generator", "prior", "regime", "kept"),
    [
        ("none", "effective", "real", "effective"),
        ("none", "real", "real", "effective"),
        ("smote", "effective", "real+synthetic", "effective"),
        ("smote", "real", "real+synthetic", "real"),
    ],
)
def test_regime_and_prior_follow_the_generator(planned: Planner, generator: str, prior: str, regime: str, kept: str) -> None:
    """Without synthetic rows the two priors are one."""
    (cell,) = planned(generator=generator, prior_source=prior, ratio=[4], reference=False).cells
    assert (cell.regime, cell.prior_source) == (regime, kept)


# What is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ratio": [41]}, "imbalance ratio 41 leaves a class without rows: the largest class has 40, so the largest possible"),
        ({"ratio": [4, 1000]}, "imbalance ratio 1000 leaves a class without rows"),
        ({"ratio": [4], "n_max": 3}, "imbalance ratio 4 leaves a class without rows: the largest class has 3"),
        ({"ratio": [4], "n_max": 41}, "class 0 has 40 rows, the profile needs 41: lower n_max"),
        (
            {"groups": "third"},
            "groups must be strict, inclusive, thirds, reference:<ratio> or sizes such as 3/4/3, not 'third'",
        ),
        ({"groups": "3/4/3"}, "groups '3/4/3' name 10 classes, the dataset has 4"),
        ({"groups": "reference:0.5"}, "groups: reference:<ratio> needs a number of at least 1, not 'reference:0.5'"),
        ({"groups": "reference:1000"}, "imbalance ratio 1000 leaves a class without rows"),
        ({"generator": "none[target=max]"}, "generator none[target=max] adds no rows, so it takes no budget"),
        (
            {"generator": "smote[target=0]"},
            "generator smote[target=0]: target must be max | median | mean | int ≥ 1 | float > 0 and ≤ 1, not 0",
        ),
        ({"generator": "smote[k=select(3,5)]"}, "generator smote[k=select(3,5)]: select() is for classifiers"),
        ({"transform": "pca[dim=select(8,16)]"}, "transform pca[dim=select(8,16)]: select() is for classifiers"),
        ({"dataset": "spy[counts=select(a,b)]"}, "dataset spy[counts=select(a,b)]: select() is for classifiers"),
        (
            {"classifier": "softmax[l2=select(1,2,3,4,5)]"},
            "classifier softmax[l2=select(1,2,3,4,5)] would choose among 5 candidates (l2); the budget is 4 for every head",
        ),
        (
            {"classifier": "logit-adjustment[tau=select(0.5,1)]"},
            "classifier logit-adjustment[tau=select(0.5,1)] would choose among 8 candidates",
        ),
        ({"classifier": "ncm:x"}, "classifier 'ncm' is no family"),
        ({"classifier": "ncm[centre=true]"}, "classifier 'ncm' (ltbench-classifiers "),
    ],
)
def test_what_cannot_be_run_is_refused_while_planning(planned: Planner, settings: Mapping[str, Any], message: str) -> None:
    """One line says what is wrong, before an image is decoded or a backbone loaded."""
    with pytest.raises(UsageError) as caught:
        planned(**{"ratio": [4], **settings})
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_the_length_of_vectors_is_known_where_a_backbone_tells(planned: Planner) -> None:
    """A number; None for one that tells nothing, or cannot; a user's mistake is refused, by the backbone's name."""
    names = ["heavy", "told[size=1]", "told[size=0]"]
    assert planned(backbone=names).dimensions() == {"heavy": None, "told[size=1]": 1, "told[size=0]": None}
    with pytest.raises(UsageError, match=r"^backbone told\[size=-3\]: size must not be negative$"):
        planned(backbone="told[size=-3]").dimensions()


def test_a_larger_selection_budget_admits_more_candidates(planned: Planner) -> None:
    """The budget is the experiment's: what exceeds 4 candidates fits 8."""
    made = planned(classifier="logit-adjustment[tau=select(0.5,1)]", ratio=[4], selection={"budget": 8}, reference=False)
    (cell,) = made.cells
    values = candidate_values(made.component("classifier", cell.classifier))
    l2s, taus = (0.1, 0.01, 0.001, 0.0001), (0.5, 1.0)
    assert values == [{"l2": l2, "tau": tau} for l2 in l2s for tau in taus]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classifier": "sofmax"}, "unknown classifier 'sofmax' (did you mean 'softmax'"),
        ({"generator": "smot"}, "unknown generator 'smot' (did you mean 'smote'"),
        ({"transform": "standardise"}, "unknown transform 'standardise' (did you mean 'standardize'"),
        ({"backbone": "pixel"}, "unknown backbone 'pixel' (did you mean 'pixels'"),
        ({"classifier": "ncm[centre=true]"}, "classifier 'ncm' (ltbench-classifiers "),
        ({"generator": "smote[k=0]"}, "generator 'smote' (ltbench-generators "),
        ({"groups": "third"}, "groups must be strict"),
    ],
)
def test_names_are_checked_before_a_dataset_is_loaded(planned: Planner, settings: Mapping[str, Any], message: str) -> None:
    """A typing error is told at once, not after a dataset was read or downloaded."""
    with pytest.raises(UsageError) as caught:
        planned(**{"dataset": "raising", **settings})
    assert str(caught.value).startswith(message)


def test_every_dataset_is_resolved_before_one_is_loaded(planned: Planner) -> None:
    """The second dataset's name is checked before the first is read."""
    with pytest.raises(UsageError, match="unknown dataset 'spi'"):
        planned(dataset="raising,spi")


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("wrong[how=negative]", "labels of the train part must be 0 to 2, not -1 to 2"),
        ("wrong[how=too-high]", "labels of the test part must be 0 to 2, not 0 to 3"),
        ("wrong[how=high-validation]", "labels of the validation part must be 0 to 2, not 5 to 5"),
        ("wrong[how=empty-class]", "class 1 has no row in the train part"),
        ("wrong[how=empty-test-class]", "class 1 has no row in the test part"),
        ("wrong[how=no-rows]", "the train part has 0 labels and 0 images"),
        ("wrong[how=no-test-rows]", "the test part has 0 labels and 0 images"),
        ("wrong[how=no-validation-rows]", "the validation part has 0 labels and 0 images"),
        ("wrong[how=few-images]", "the train part has 3 labels and 2 images"),
    ],
)
def test_a_wrong_dataset_is_refused(planned: Planner, dataset: str, message: str) -> None:
    """One line names the dataset, the part and what is wrong with it."""
    with pytest.raises(UsageError) as caught:
        planned(dataset=dataset)
    assert str(caught.value) == f"dataset {dataset!r}: {message}"


@pytest.mark.parametrize("how", ["float-labels", "square-labels", "nothing"])
def test_what_is_no_dataset_is_refused(planned: Planner, how: str) -> None:
    """Labels that are no int64 row, and a load that returns nothing, are the plugin's mistake, named as such."""
    with pytest.raises(UsageError, match=rf"^dataset 'wrong\[how={how}\]'"):
        planned(dataset=f"wrong[how={how}]")


def test_a_dataset_that_cannot_be_loaded_is_refused(planned: Planner) -> None:
    """Whatever a dataset raises becomes one line; its own UsageError is passed on as it is."""
    with pytest.raises(UsageError, match=r"^dataset 'raising' cannot be loaded: OSError: the disk is gone$"):
        planned(dataset="raising")
    with pytest.raises(UsageError, match=r"^put the images into data/$"):
        planned(dataset="raising[usage=true]")


def test_a_dataset_of_one_class_is_refused(planned: Planner) -> None:
    """There is no long tail of one class."""
    with pytest.raises(UsageError, match="a long tail needs at least two classes, this dataset has 1"):
        planned(dataset="wrong[how=one-class]")


def test_a_validation_part_may_lack_classes(planned: Planner) -> None:
    """Only training and test rows must hold every class."""
    made = planned(dataset="wrong[how=sparse-validation]", ratio=[2], groups="thirds", reference=False)
    assert len(made.cells) == 1


# Splits


@pytest.mark.parametrize("rows", ["drawn", "fixed", "published"])
@pytest.mark.parametrize(("profile", "expected"), [("exp", exponential_counts(40, 8, 4)), ("step", step_counts(40, 8, 4))])
def test_a_split_has_the_profiles_counts(planned: Planner, rows: str, profile: str, expected: list[int]) -> None:
    """Each class keeps as many different rows as its rank says, whichever way they are chosen."""
    made = planned(rows=rows, profile=profile, ratio=[8], reference=False)
    (cell,) = made.cells
    split = made.split(cell)
    labels = made.datasets["spy"].train.labels
    assert labels[split.row_ids].bincount().tolist() == list(split.class_counts) == expected
    assert len(split.row_ids.unique()) == sum(expected)


def test_a_balanced_split_has_equal_counts(planned: Planner) -> None:
    """At ratio 1 every class has n_max rows: as many as the smallest class has, or as told."""
    for n_max, expected in ((None, 12), (5, 5)):
        made = planned(dataset="spy[counts=30-12-20-40]", ratio=[1], **({"n_max": n_max} if n_max else {}))
        (cell,) = made.cells
        assert made.split(cell).class_counts == (expected,) * 4


@pytest.mark.parametrize(("rows", "differ"), [("drawn", True), ("fixed", False), ("published", False)])
def test_rows_differ_between_seeds_where_they_are_drawn(planned: Planner, rows: str, differ: bool) -> None:
    """``fixed`` and ``published`` rows are the same for every seed, ``drawn`` ones are not."""
    made = planned(rows=rows, ratio=[8], seeds=2, reference=False)
    first, second = (made.split(cell).row_ids.tolist() for cell in made.cells)
    assert (sorted(first) != sorted(second)) is differ


def test_fixed_rows_are_seed_zeros_draw(planned: Planner) -> None:
    """What ``fixed`` fixes is what seed 0 draws."""
    (drawn,) = planned(rows="drawn", ratio=[8], seeds=[0], reference=False).cells
    made = planned(rows="fixed", ratio=[8], seeds=[5], reference=False)
    (fixed,) = made.cells
    labels = made.datasets["spy"].train.labels
    assert split_rows(labels, fixed).row_ids.tolist() == split_rows(labels, drawn).row_ids.tolist()


def test_published_rows_are_the_legacy_generators(planned: Planner) -> None:
    """Seeded 0 once, classes ascending, each class's rows shuffled in place and the first n taken."""
    made = planned(dataset="spy[counts=50-40-45-60]", rows="published", ratio=[8], seeds=[3], reference=False)
    (cell,) = made.cells
    labels = made.datasets["spy[counts=50-40-45-60]"].train.labels.tolist()
    generator, expected = np.random.RandomState(0), []
    for c, n in enumerate(exponential_counts(40, 8, 4)):
        rows = np.array([i for i, label in enumerate(labels) if label == c])
        generator.shuffle(rows)
        expected += rows[:n].tolist()
    assert made.split(cell).row_ids.tolist() == expected


def test_the_balanced_reference_of_published_rows_is_fixed(planned: Planner) -> None:
    """The published subsets are long-tailed only, so one draw stands in for their balanced data."""
    made = planned(rows="published", classifier="ncm", ratio=[8], seeds=2)
    assert {(cell.profile, cell.rows) for cell in made.cells} == {("exp", "published"), ("balanced", "fixed")}
    balanced = [made.split(cell).row_ids.tolist() for cell in made.cells if cell.profile == "balanced"]
    assert balanced[0] == balanced[1]


def test_a_shuffled_class_order_permutes_the_counts(planned: Planner) -> None:
    """Each seed has an order of its own; the counts are the profile's in all of them."""
    made = planned(
        dataset="spy[counts=40-40-40-40-40-40]", groups="2/2/2", class_order="shuffled", ratio=[8], seeds=6, reference=False
    )
    counts = [made.split(cell).class_counts for cell in made.cells]
    labels = next(iter(made.datasets.values())).train.labels
    assert {tuple(sorted(each, reverse=True)) for each in counts} == {tuple(exponential_counts(40, 8, 6))}
    assert len(set(counts)) > 1
    found = [tuple(labels[made.split(cell).row_ids].bincount().tolist()) for cell in made.cells]
    assert found == counts


# Groups


@pytest.mark.parametrize(
    ("rule", "counts", "expected"),
    [
        ("strict", (500, 107, 23, 5), ["head", "head", "medium", "tail"]),
        ("strict", (5, 23, 107, 500), ["tail", "medium", "head", "head"]),
        ("reference:100", (500, 500, 500, 500), ["head", "head", "medium", "tail"]),
        ("reference:100", (500, 107, 23, 5), ["head", "head", "medium", "tail"]),
        ("reference:100", (250, 500, 62, 125), ["head", "head", "tail", "medium"]),
        ("reference:10", (500, 107, 23, 5), ["head", "head", "head", "medium"]),
        ("reference:1", (500, 107, 23, 5), ["head"] * 4),
        ("1/2/1", (5, 500, 23, 107), ["tail", "head", "medium", "medium"]),
    ],
)
def test_groups_of_a_cell(rule: str, counts: tuple[int, ...], expected: list[str]) -> None:
    """``reference:<ratio>`` names the groups by the counts that each class's rank would have at that ratio."""
    for profile in ("exp", "balanced"):
        assert groups_of(rule, counts, {"profile": profile, "n_max": 500}) == expected


def test_groups_of_a_step_profile_use_its_counts() -> None:
    """The reference counts are those of the cell's own profile."""
    cell = {"profile": "step", "n_max": 500}
    assert groups_of("reference:100", (500, 500, 50, 50), cell) == ["head", "head", "tail", "tail"]


# Keys


ONE: Mapping[str, Any] = {
    "dataset": "spy",
    "generator": "smote",
    "classifier": "softmax",
    "transform": "pca",
    "ratio": [4],
    "reference": False,
}


def key(made: Plan, cell: Cell, features: str = "features", row_ids: torch.Tensor | None = None) -> str:
    """Return the digest that names a cell's record."""
    return digest(made.key_parts(cell, features, digest((made.split(cell).row_ids if row_ids is None else row_ids).tolist())))


def only_key(made: Plan) -> str:
    """Return the key of a plan's one cell."""
    (cell,) = made.cells
    return key(made, cell)


@pytest.mark.parametrize(
    "changed",
    [
        {"seeds": [1]},
        {"generator": "none"},
        {"generator": "random-over"},
        {"generator": "smote[k=3]"},
        {"generator": "smote[target=median]"},
        {"generator": "smote[target=40]"},
        {"prior_source": "real"},
        {"classifier": "balanced-softmax"},
        {"classifier": "softmax[l2=0.001]"},
        {"classifier": "softmax[l2=select(0.1,0.01)]"},
        {"transform": "l2"},
        {"transform": "pca[whiten=true]"},
        {"ratio": [5]},
        {"profile": "step"},
        {"n_max": 30},
        {"rows": "published"},
        {"class_order": "shuffled"},
        {"selection": {"folds": 4}},
        {"selection": {"candidates": {"l2": [0.1, 0.01]}}},
        {"selection": {"candidates": {"l2": [0.0001, 0.001, 0.01, 0.1]}}},
        {"selection": {"candidates": {}}},
    ],
    ids=repr,
)
def test_what_can_change_a_result_changes_its_key(planned: Planner, changed: Mapping[str, Any]) -> None:
    """Two cells that differ in rows, method, selection or seed never share a record."""
    assert only_key(planned(**{**ONE, **changed})) != only_key(planned(**ONE))


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"name": "other", "version": 2, "description": "described"},
        {"groups": "thirds"},
        {"headline": "tail"},
        {"n_max": 40},
        {"seeds": 1},
        {"generator": "smote[target=max,k=5]"},
        {"generator": "smote@ltbench-generators[jitter=0.1]"},
        {"classifier": "softmax@ltbench-classifiers"},
        {"transform": "pca[whiten=false,dim=32]"},
        {"selection": {"budget": 9}},
        {"selection": {"candidates": {"l2": [0.1, 0.01, 0.001, 0.0001], "shrinkage": [0.1, 0.9]}}},
    ],
    ids=repr,
)
def test_what_cannot_change_a_result_leaves_its_key(planned: Planner, changed: Mapping[str, Any]) -> None:
    """Names, groups, spelling, and candidates of parameters that the head does not have compute nothing anew."""
    assert only_key(planned(**{**ONE, **changed})) == only_key(planned(**ONE))


def test_other_cells_leave_a_key(planned: Planner) -> None:
    """A cell keeps its record when seeds, methods, ratios and references join it."""
    more = {"seeds": 3, "generator": "none,smote", "classifier": "ncm,softmax", "ratio": [2, 4], "reference": True}
    (cell,) = planned(**ONE).cells
    made = planned(**{**ONE, **more})
    assert cell in made.cells
    assert key(made, cell) == only_key(planned(**ONE))


def test_features_and_rows_change_a_key(planned: Planner) -> None:
    """Other features, other row ids, and the same rows in another order are another cell."""
    made = planned(**ONE)
    (cell,) = made.cells
    rows = made.split(cell).row_ids
    others = [key(made, cell, "others"), key(made, cell, row_ids=rows + 1), key(made, cell, row_ids=rows.flip(0))]
    assert len({key(made, cell), *others}) == 4


def test_a_regime_changes_a_key(planned: Planner) -> None:
    """Training on synthetic rows alone is another cell."""
    made = planned(**ONE)
    (cell,) = made.cells
    assert key(made, dataclasses.replace(cell, regime="synthetic")) != key(made, cell)


@pytest.mark.parametrize(("budget", "other"), [("groups=tail", True), ("groups=medium+tail", True), ("cap=9", False)])
def test_what_groups_are_changes_the_key_where_a_budget_names_some(planned: Planner, budget: str, *, other: bool) -> None:
    """Another rule tops up other classes; who tops up all does not ask."""
    one, two = (only_key(planned(**{**ONE, "generator": f"smote[{budget}]", "groups": rule})) for rule in ("strict", "thirds"))
    assert (one != two) is other


@pytest.mark.parametrize("version", ["ENGINE_VERSION", "METRIC_VERSION"])
def test_a_version_of_the_engine_changes_every_key(planned: Planner, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """Raising the version of the engine or of the metrics computes everything anew."""
    made = planned(**ONE)
    before = only_key(made)
    monkeypatch.setattr(f"ltbench.plan.{version}", 999)
    assert only_key(made) != before


def test_the_cells_of_a_plan_have_keys_of_their_own(planned: Planner) -> None:
    """No two cells share a key, references included."""
    made = planned(
        generator="none,smote,smote[target=median]",
        classifier="softmax,ncm,lda",
        transform="l2,none",
        prior_source=["effective", "real"],
        profile=["exp", "step"],
        ratio=[1, 4],
        seeds=2,
    )
    assert len({key(made, cell) for cell in made.cells}) == len(made.cells)


def test_regimes_are_an_axis_of_generators(planned: Planner) -> None:
    """A generator has a cell beside the real rows and one in their place; the real regime is that of ``none``."""
    made = planned(
        generator=["random-over", "none"], classifier="ncm", regime=["real", "real+synthetic", "synthetic"], ratio=[4]
    )
    found = {(c.generator, c.regime) for c in made.cells if c.classifier == "ncm" and c.imbalance_ratio > 1}
    assert found == {("none", "real"), ("random-over", "real+synthetic"), ("random-over", "synthetic")}


def test_rows_in_place_of_the_real_ones_need_every_group(planned: Planner) -> None:
    """A class that gets no synthetic row would be without any."""
    with pytest.raises(UsageError, match="regime synthetic needs groups=all"):
        planned(generator=["random-over[groups=tail]"], regime=["synthetic"], ratio=[4])
