"""Tests of experiments: settings and TOML, what is refused and how, protocols, suites and budgets."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltbench.budget import Budget
from ltbench.config import (
    Experiment,
    Selection,
    experiment,
    joined_experiment,
    load_experiment,
    load_toml,
    split_budget,
    to_toml,
)
from ltbench.errors import UsageError
from ltbench.specs import Select, parse_spec
from ltbench.suites import load_suite, suite_names

BASE: Mapping[str, Any] = {"dataset": "digits", "backbone": "pixels"}

TOML = """
name = "lab"
version = 2
description = "é"
dataset = ["digits", "cifar[size=8]"]
backbone = ["pixels"]
transform = ["l2", "pca[dim=16,whiten=true]"]
profile = ["exp", "step"]
ratio = [10, 50.5]
generator = ["none", "smote[k=3]"]
classifier = ["softmax", "ncm"]
prior_source = ["effective", "real"]
seeds = 3
groups = "thirds"
rows = "fixed"
class_order = "shuffled"
n_max = 100
reference = false
headline = "tail"

[selection]
folds = 5
budget = 2

[selection.candidates]
l2 = [1, 0.5]
"""


def test_defaults_complete_an_experiment() -> None:
    """A dataset and a backbone are all that must be said."""
    assert experiment(BASE) == Experiment(dataset=("digits",), backbone=("pixels",))


def test_toml_and_settings_give_the_same_experiment(tmp_path: Path) -> None:
    """A file, its table, keyword settings with commas, and the constructor agree."""
    file = tmp_path / "lab.toml"
    file.write_text(TOML, encoding="utf-8")
    expected = Experiment(
        name="lab",
        version=2,
        description="é",
        dataset=("digits", "cifar[size=8]"),
        backbone=("pixels",),
        transform=("l2", "pca[dim=16,whiten=true]"),
        profile=("exp", "step"),
        ratio=(10.0, 50.5),
        generator=("none", "smote[k=3]"),
        classifier=("softmax", "ncm"),
        prior_source=("effective", "real"),
        seeds=(0, 1, 2),
        groups="thirds",
        rows="fixed",
        class_order="shuffled",
        n_max=100,
        reference=False,
        headline="tail",
        selection=Selection(candidates={"l2": (1.0, 0.5)}, folds=5, budget=2),
    )
    said = {
        "name": "lab",
        "version": 2,
        "description": "é",
        "dataset": "digits, cifar[size=8]",
        "backbone": "pixels",
        "transform": "l2,pca[dim=16,whiten=true]",
        "profile": ("exp", "step"),
        "ratio": [10, 50.5],
        "generator": "none,smote[k=3]",
        "classifier": ["softmax", "ncm"],
        "prior_source": ["effective", "real"],
        "seeds": [0, 1, 2],
        "groups": "thirds",
        "rows": "fixed",
        "class_order": "shuffled",
        "n_max": 100,
        "reference": False,
        "headline": "tail",
        "selection": Selection(candidates={"l2": (1.0, 0.5)}, folds=5, budget=2),
    }
    assert experiment(load_toml(file)) == expected
    assert experiment(tomllib.loads(TOML)) == expected
    assert experiment(said) == expected


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("seeds", 1, (0,)),
        ("seeds", 3, (0, 1, 2)),
        ("seeds", [4], (4,)),
        ("seeds", (7, 0), (7, 0)),
        ("ratio", 10, (10.0,)),
        ("ratio", 1, (1.0,)),
        ("ratio", [10, 100], (10.0, 100.0)),
        ("profile", "step", ("step",)),
        ("prior_source", "real", ("real",)),
        ("generator", "none,smote[k=3|5,jitter=0.2]", ("none", "smote[k=3|5,jitter=0.2]")),
        ("dataset", "folder['a,b']", ("folder['a,b']",)),
        ("dataset", ["a,b"], ("a,b",)),
        ("n_max", 5, 5),
        ("reference", False, False),
    ],
)
def test_a_setting_may_be_written_in_its_short_form(setting: str, value: Any, expected: Any) -> None:
    """One value stands for a list of one, a number of seeds for that many, and text is split at its commas."""
    found = getattr(experiment({**BASE, setting: value}), setting)
    assert (found, repr(found)) == (expected, repr(expected))


WRONG: list[tuple[Mapping[str, Any], str]] = [
    ({"dataset": ""}, 'the experiment names no dataset: give --dataset NAME, or dataset = ["NAME"] in the TOML file'),
    ({"dataset": []}, "the experiment names no dataset"),
    ({"backbone": ""}, "the experiment names no backbone"),
    (
        {"datasets": "digits"},
        "the experiment has no setting 'datasets' (did you mean 'dataset'?); it takes dataset, backbone, ",
    ),
    ({"zzz": 1}, "the experiment has no setting 'zzz'; it takes dataset, backbone, "),
    ({"dataset": [3]}, "dataset must be a list of text (at least one), not (3,)"),
    ({"dataset": 3}, "dataset must be a list of text (at least one), not (3,)"),
    ({"generator": []}, "generator must be a list of text (at least one), not ()"),
    ({"generator": ""}, "generator must be a list of text (at least one), not ()"),
    ({"generator": "smote[k=3"}, "'smote[k=3': a bracket is not balanced"),
    ({"classifier": "softmax,,ncm"}, "'softmax,,ncm': there is nothing between two ','"),
    ({"transform": [True]}, "transform must be a list of text (at least one), not (True,)"),
    ({"profile": "expo"}, "profile must be a list of exp | step | native (at least one), not ('expo',)"),
    ({"profile": []}, "profile must be a list of exp | step | native (at least one), not ()"),
    ({"ratio": 0.5}, "ratio must be a list of float ≥ 1 (at least one), not (0.5,)"),
    ({"ratio": []}, "ratio must be a list of float ≥ 1 (at least one), not ()"),
    ({"ratio": "10"}, "ratio must be a list of float ≥ 1 (at least one), not ('10',)"),
    ({"ratio": True}, "ratio must be a list of float ≥ 1 (at least one), not (True,)"),
    ({"ratio": [10, float("nan")]}, "ratio must be a list of float ≥ 1 (at least one), not (10, nan)"),
    ({"ratio": float("inf")}, "ratio must be a list of float ≥ 1 (at least one), not (inf,)"),
    ({"seeds": 0}, "seeds must be a number of seeds of at least 1, or a list of them, not 0"),
    ({"seeds": -1}, "seeds must be a number of seeds of at least 1, or a list of them, not -1"),
    ({"seeds": []}, "seeds must be a list of int ≥ 0 (at least one), not ()"),
    ({"seeds": [0, -1]}, "seeds must be a list of int ≥ 0 (at least one), not (0, -1)"),
    ({"seeds": True}, "seeds must be a list of int ≥ 0 (at least one), not True"),
    ({"seeds": 1.5}, "seeds must be a list of int ≥ 0 (at least one), not 1.5"),
    ({"seeds": "3"}, "seeds must be a list of int ≥ 0 (at least one), not '3'"),
    ({"prior_source": "test"}, "prior_source must be a list of effective | real (at least one), not ('test',)"),
    ({"groups": 3}, "groups must be text, not 3"),
    ({"rows": "random"}, "rows must be drawn | fixed | published, not 'random'"),
    ({"class_order": "sorted"}, "class_order must be index | shuffled, not 'sorted'"),
    ({"n_max": 0}, "n_max must be int > 0 | none, not 0"),
    ({"n_max": 1.5}, "n_max must be int > 0 | none, not 1.5"),
    ({"reference": "yes"}, "reference must be bool, not 'yes'"),
    ({"reference": 1}, "reference must be bool, not 1"),
    ({"headline": "f1"}, "headline must be balanced | top1 | head | medium | tail, not 'f1'"),
    ({"name": 3}, "name must be text, not 3"),
    ({"version": 0}, "version must be int ≥ 1, not 0"),
    ({"version": "1"}, "version must be int ≥ 1, not '1'"),
    ({"selection": "none"}, "selection must be a table, not 'none'"),
    (
        {"selection": {"fold": 3}},
        "selection has no setting 'fold' (did you mean 'folds'?); it takes candidates, budget, folds, criterion",
    ),
    ({"selection": {"folds": 1}}, "selection.folds must be int ≥ 2, not 1"),
    ({"selection": {"budget": 0}}, "selection.budget must be int ≥ 1, not 0"),
    ({"selection": {"criterion": "loss"}}, "selection.criterion must be balanced-accuracy, not 'loss'"),
    ({"selection": {"candidates": 3}}, "selection.candidates must be "),
    ({"selection": {"candidates": {"l2": 0.1}}}, "selection.candidates must be "),
    ({"selection": {"candidates": {"l2": ["a", "b"]}}}, "selection.candidates must be "),
    (
        {"selection": {"candidates": {"l2": [0.1]}}},
        "selection.candidates.l2 must hold 2 to 4 (the budget) finite values, not (0.1,)",
    ),
    ({"selection": {"candidates": {"l2": []}}}, "selection.candidates.l2 must hold 2 to 4 (the budget) finite values, not ()"),
    (
        {"selection": {"budget": 2, "candidates": {"l2": [1, 2, 3]}}},
        "selection.candidates.l2 must hold 2 to 2 (the budget) finite values, not (1.0, 2.0, 3.0)",
    ),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG, ids=[repr(wrong) for wrong, _ in WRONG])
def test_a_wrong_setting_is_refused(wrong: Mapping[str, Any], message: str) -> None:
    """One line says which setting must be what, and what it is."""
    with pytest.raises(UsageError) as caught:
        experiment({**BASE, **wrong})
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_candidate_must_be_finite(value: float) -> None:
    """Neither infinity nor NaN is tried."""
    with pytest.raises(UsageError, match=r"^selection\.candidates"):
        experiment({**BASE, "selection": {"candidates": {"l2": [0.1, value]}}})


@pytest.mark.parametrize("missing", ["dataset", "backbone"])
def test_a_dataset_and_a_backbone_must_be_named(missing: str) -> None:
    """Whichever is missing is asked for, in both ways to say it."""
    message = f'the experiment names no {missing}: give --{missing} NAME, or {missing} = ["NAME"] in the TOML file'
    with pytest.raises(UsageError, match="^" + re.escape(message) + "$"):
        experiment({key: value for key, value in BASE.items() if key != missing})


def test_checking_leaves_the_table_alone() -> None:
    """What a caller passes in is not changed."""
    table = tomllib.loads(TOML)
    experiment(table)
    assert table == tomllib.loads(TOML)


# Files


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"dataset = [", "is no valid TOML: "),
        (b"dataset = digits", "is no valid TOML: "),
        (b"a = 1\na = 2", "is no valid TOML: "),
        (b"\xff\xfe\x00\x01", "is no valid TOML: "),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "is no valid TOML: "),
        (b"\x00", "is no valid TOML: "),
    ],
)
def test_a_malformed_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    """A file that is no TOML, or no text, is named."""
    file = tmp_path / "lab.toml"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=re.escape(f"{file} {message}")):
        load_toml(file)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """The error says which file, and why."""
    with pytest.raises(UsageError, match=re.escape(f"cannot read {tmp_path / 'lab.toml'}: No such file or directory")):
        load_toml(tmp_path / "lab.toml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """A folder in place of a file is refused as any file that cannot be read."""
    with pytest.raises(UsageError, match=re.escape(f"cannot read {tmp_path}: Is a directory")):
        load_toml(tmp_path)


# Sources


def test_settings_replace_those_of_a_file_or_suite(tmp_path: Path) -> None:
    """What is said beside a file or suite wins, and all else stays."""
    file = tmp_path / "lab.toml"
    file.write_text(TOML, encoding="utf-8")
    from_file = load_experiment(file, None, {"seeds": 2, "generator": "none"})
    assert from_file == experiment({**tomllib.loads(TOML), "seeds": 2, "generator": "none"})
    from_suite = load_experiment(None, "quickstart", {"seeds": [9]})
    assert from_suite == experiment({**load_suite("quickstart"), "seeds": [9]})


def test_settings_alone_are_an_experiment() -> None:
    """No file and no suite is needed."""
    assert load_experiment(None, None, BASE) == experiment(BASE)


def test_a_file_and_a_suite_are_one_too_many(tmp_path: Path) -> None:
    """Two sources are refused."""
    with pytest.raises(UsageError, match="give an experiment file or a suite, not both"):
        load_experiment(tmp_path / "lab.toml", "quickstart", {})


def test_an_experiment_is_taken_as_it_is() -> None:
    """An Experiment without further settings comes back unchanged."""
    made = experiment(BASE)
    assert load_experiment(made, None, {}) is made


@pytest.mark.parametrize("said", [{"seeds": 3}, {"generator": "none,smote"}, {"ratio": 5}, {"seeds": [1]}])
def test_settings_beside_an_experiment_may_be_short(said: dict[str, Any]) -> None:
    """What is said beside an Experiment is checked and completed as everywhere."""
    made = experiment(BASE)
    assert load_experiment(made, None, said) == experiment({**BASE, **said})


@pytest.mark.parametrize("said", [{"seed": 3}, {"rows": "random"}, {"seeds": 0}])
def test_wrong_settings_beside_an_experiment_are_refused(said: dict[str, Any]) -> None:
    """A wrong setting is the user's mistake wherever it is said."""
    with pytest.raises(UsageError):
        load_experiment(experiment(BASE), None, said)


# Suites


@pytest.mark.parametrize("name", suite_names())
def test_a_suite_is_valid(name: str) -> None:
    """Every suite that comes with ltbench is an experiment of that name whose components can be parsed."""
    found = experiment(load_suite(name))
    assert found.name == name
    assert found.description
    assert all(found.specs(kind) for kind in ("dataset", "backbone", "transform", "generator", "classifier"))


def test_an_unknown_suite_is_refused() -> None:
    """The error names what was meant and what there is."""
    with pytest.raises(UsageError) as caught:
        load_suite("quickstat")
    message = f"unknown suite 'quickstat' (did you mean 'quickstart'?). Suites: {', '.join(suite_names())}"
    assert str(caught.value) == message


# Protocol


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "other"},
        {"version": 2},
        {"profile": "step"},
        {"profile": ["exp", "step"]},
        {"groups": "thirds"},
        {"rows": "fixed"},
        {"class_order": "shuffled"},
        {"n_max": 10},
        {"transform": "l2"},
        {"headline": "tail"},
        {"selection": {"folds": 4}},
        {"selection": {"budget": 5}},
        {"selection": {"candidates": {"l2": [0.1, 0.2]}}},
    ],
    ids=repr,
)
def test_a_protocols_settings_change_its_hash(changed: dict[str, Any]) -> None:
    """Numbers made under other rules have another name."""
    assert experiment({**BASE, **changed}).protocol_hash() != experiment(BASE).protocol_hash()


@pytest.mark.parametrize(
    "changed",
    [
        {"generator": "smote,none"},
        {"classifier": "ncm"},
        {"regime": "synthetic"},
        {"prior_source": "real"},
        {"seeds": 5},
        {"seeds": [3, 1]},
        {"description": "the same, described"},
        {"dataset": "other"},
        {"backbone": "other"},
        {"reference": False},
        {"profile": ["exp"], "transform": "standardize", "n_max": None},
    ],
    ids=repr,
)
def test_methods_and_seeds_do_not_change_a_protocols_hash(changed: dict[str, Any]) -> None:
    """Methods and seeds are what a protocol compares."""
    assert experiment({**BASE, **changed}).protocol_hash() == experiment(BASE).protocol_hash()


def test_a_protocols_hash_is_eight_digits() -> None:
    """The name of a protocol is short enough to read."""
    assert re.fullmatch("[0-9a-f]{8}", experiment(BASE).protocol_hash())


def test_runs_of_one_protocol_join() -> None:
    """The methods and seeds of both, in order and without repeats, under the one protocol."""
    one = experiment({**BASE, "generator": "none,smote", "seeds": 2, "reference": False, "ratio": [10]})
    two = experiment({**BASE, "generator": "gaussian,none", "seeds": [1, 5], "ratio": [50, 10]})
    joined = joined_experiment(one, two, Path("runs/x"))
    expected = {**BASE, "generator": "none,smote,gaussian", "seeds": [0, 1, 5], "ratio": [10, 50], "reference": True}
    assert joined == experiment(expected)


def test_runs_of_two_protocols_do_not_join() -> None:
    """The error names the folder and the settings that differ."""
    one, two = experiment({**BASE, "rows": "fixed", "groups": "thirds"}), experiment(BASE)
    with pytest.raises(UsageError, match=re.escape("runs/x holds another protocol (groups, rows differ)")):
        joined_experiment(one, two, Path("runs/x"))


# There and back


NAMES = st.lists(st.text(), min_size=1, max_size=3)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)
TABLES = st.fixed_dictionaries(
    {"dataset": NAMES, "backbone": NAMES},
    optional={
        "generator": NAMES,
        "classifier": NAMES,
        "transform": NAMES,
        "profile": st.lists(st.sampled_from(["exp", "step"]), min_size=1, max_size=3),
        "ratio": st.lists(st.floats(1, 1e300) | st.integers(1, 10**6), min_size=1, max_size=3),
        "seeds": st.integers(1, 5) | st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=3),
        "prior_source": st.lists(st.sampled_from(["effective", "real"]), min_size=1, max_size=2),
        "groups": st.text(),
        "rows": st.sampled_from(["drawn", "fixed", "published"]),
        "class_order": st.sampled_from(["index", "shuffled"]),
        "n_max": st.integers(1, 10**9),
        "reference": st.booleans(),
        "headline": st.sampled_from(["balanced", "top1", "head", "medium", "tail"]),
        "name": st.text(),
        "version": st.integers(1, 9),
        "description": st.text(),
        "selection": st.fixed_dictionaries(
            {"candidates": st.dictionaries(st.text(), st.lists(NUMBERS, min_size=2, max_size=4), max_size=3)},
            optional={"budget": st.integers(4, 9), "folds": st.integers(2, 9)},
        ),
    },
)


@settings(max_examples=100, deadline=None)
@given(table=TABLES)
def test_an_experiment_comes_back_from_its_table_and_its_file(table: dict[str, Any]) -> None:
    """``to_dict`` and TOML text keep every setting, whatever the text and numbers in it."""
    made = experiment(table)
    assert experiment(made.to_dict()) == made
    assert experiment(tomllib.loads(to_toml(made))) == made
    assert experiment(tomllib.loads(to_toml(made))).protocol_hash() == made.protocol_hash()


@pytest.mark.parametrize("name", suite_names())
def test_a_suite_comes_back_from_its_file(name: str) -> None:
    """What a run folder keeps runs the suite again."""
    made = experiment(load_suite(name))
    assert experiment(tomllib.loads(to_toml(made))) == made


# Axes and budgets


def test_an_axis_is_expanded_in_order_without_repeats() -> None:
    """``a|b`` makes one component of each value; one that is there already is not repeated."""
    made = experiment({**BASE, "generator": "smote[k=3|5],none,smote[k=5]"})
    assert [str(spec) for spec in made.specs("generator")] == ["smote[k=3]", "smote[k=5]", "none"]


def test_selection_gives_its_candidates_as_values() -> None:
    """Each list of candidates is what ``select()`` would hold."""
    made = experiment({**BASE, "selection": {"candidates": {"l2": [1, 0.5]}}})
    assert made.selection.defaults() == {"l2": Select((1.0, 0.5))}


@pytest.mark.parametrize(
    ("text", "own", "budget"),
    [
        ("none", "none", Budget()),
        ("smote", "smote", Budget("max")),
        ("smote[k=3]", "smote[k=3]", Budget("max")),
        ("smote[k=3,target=median]", "smote[k=3]", Budget("median")),
        ("smote[target=200]", "smote", Budget(200)),
        ("smote@lab[target='mean']", "smote@lab", Budget("mean")),
    ],
)
def test_a_budget_is_parted_from_the_generator(text: str, own: str, budget: Budget) -> None:
    """The generator keeps its own parameters, ltbench reads the target."""
    found, read = split_budget(parse_spec(text))
    assert (str(found), read) == (own, budget)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("none[target=max]", "generator none[target=max] adds no rows, so it takes no budget"),
        ("none@lab[target=5]", "generator none@lab[target=5] adds no rows, so it takes no budget"),
        (
            "smote[target=most]",
            "generator smote[target=most]: target must be max | median | mean | int ≥ 1 | float > 0 and ≤ 1, not 'most'",
        ),
        (
            "smote[target=0]",
            "generator smote[target=0]: target must be max | median | mean | int ≥ 1 | float > 0 and ≤ 1, not 0",
        ),
        (
            "smote[target=1.5]",
            "generator smote[target=1.5]: target must be max | median | mean | int ≥ 1 | float > 0 and ≤ 1, not 1.5",
        ),
        (
            "smote[target=true]",
            "generator smote[target=true]: target must be max | median | mean | int ≥ 1 | float > 0 and ≤ 1, not True",
        ),
        ("smote[target=select(max,mean)]", "generator smote[target=select(max,mean)]: target must be max | median | mean"),
    ],
)
def test_a_wrong_budget_is_refused(text: str, message: str) -> None:
    """The generator is named as it was written."""
    with pytest.raises(UsageError) as caught:
        split_budget(parse_spec(text))
    assert str(caught.value).startswith(message)


def test_an_experiment_is_frozen() -> None:
    """An experiment that was checked stays as it was."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        experiment(BASE).rows = "fixed"  # type: ignore[misc]
