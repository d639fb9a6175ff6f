"""Tests of resolving: which parameters are taken, the canonical form, which classes are refused, and identities."""

from __future__ import annotations

import importlib.metadata
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ltbench.components import Resolved, parameters, resolve
from ltbench.errors import UsageError
from ltbench.keys import digest
from ltbench.parameters import Parameter
from ltbench.plugins import PLUGINS_VARIABLE, Registry, discover
from ltbench.specs import Select, Spec, format_value, parse_spec

MakePlugin = Callable[..., Path]

LAB = '''
from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TYPE_CHECKING

import ltbench
from annotated_types import Ge, Gt, Le

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Head:
    """A head with a parameter of every type."""

    rate: Annotated[float, Gt(0), Le(10)] = 1.0
    steps: Annotated[int, Ge(1)] = 5
    centre: bool = True
    mode: Literal["mean", "median"] = "mean"
    limit: int | None = None
    label: str = "plain"
    shift: float = 0.0

    def fit(self, train):
        return None


@dataclass(frozen=True, kw_only=True)
class Needy:
    """A head that must be told something."""

    folder: str
    depth: int = 1

    def fit(self, train):
        return None


@dataclass(frozen=True, kw_only=True)
class Named:
    """A member of a family."""

    name: str
    depth: int = 1

    def fit(self, train):
        return None


@dataclass(frozen=True, kw_only=True)
class Picky:
    """A head with checks of its own."""

    rate: float = 1.0
    crash: bool = False

    def __post_init__(self):
        if self.rate == 13:
            raise ValueError("rate 13 brings bad luck")
        if self.crash:
            raise RuntimeError("no licence found")

    def fit(self, train):
        return None


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A head given by its loss."""

    l2: float = 1e-3

    def loss(self, batch):
        return None


@dataclass(frozen=True, kw_only=True)
class LossWithoutL2:
    """A loss that does not say how it is regularised."""

    def loss(self, batch):
        return None


@dataclass(frozen=True, kw_only=True)
class Nothing:
    """A class without the methods of any kind."""


class Plain:
    """No dataclass."""

    def fit(self, train):
        return None


@dataclass(kw_only=True)
class Thawed:
    """Not frozen."""

    def fit(self, train):
        return None


@dataclass(frozen=True)
class Positional:
    """Not keyword-only."""

    depth: int = 1

    def fit(self, train):
        return None


@dataclass(frozen=True, kw_only=True)
class Unnamable:
    """A type that is imported for the type checker alone."""

    folder: Path | None = None

    def fit(self, train):
        return None


class Opaque:
    """No type of a setting."""


@dataclass(frozen=True, kw_only=True)
class Untypable:
    """A type that no text can be checked against."""

    thing: Opaque = Opaque()

    def fit(self, train):
        return None


def function():
    """No class."""


@ltbench.hookimpl
def ltbench_classifiers():
    here = __name__
    return [
        ltbench.Component("head", f"{here}:Head", "a head"),
        ltbench.Component("head9", f"{here}:Head", "a head of nine steps", params={"steps": 9}),
        ltbench.Component("needy", f"{here}:Needy", "a head"),
        ltbench.Component("filled", f"{here}:Needy", "a head", params={"folder": "here"}),
        ltbench.Component("family", f"{here}:Named", "a family", family=True),
        ltbench.Component("nameless", f"{here}:Head", "a family of a class without a name", family=True),
        ltbench.Component("picky", f"{here}:Picky", "a head"),
        ltbench.Component("loss", f"{here}:Loss", "a loss"),
        ltbench.Component("loss-without-l2", f"{here}:LossWithoutL2", "a loss"),
        ltbench.Component("nothing", f"{here}:Nothing", "nothing"),
        ltbench.Component("plain", f"{here}:Plain", "no dataclass"),
        ltbench.Component("thawed", f"{here}:Thawed", "not frozen"),
        ltbench.Component("positional", f"{here}:Positional", "not keyword-only"),
        ltbench.Component("unnamable", f"{here}:Unnamable", "a type out of reach"),
        ltbench.Component("untypable", f"{here}:Untypable", "a type of its own"),
        ltbench.Component("function", f"{here}:function", "no class"),
        ltbench.Component("no-class", f"{here}:Absent", "no such class"),
        ltbench.Component("no-module", "lab_absent:Head", "no such module"),
        ltbench.Component("raising-module", "lab_raising:Head", "a module that raises"),
        ltbench.Component("exiting-module", "lab_exiting:Head", "a module that exits"),
        ltbench.Component("stray", f"{here}:Head", "binds what is not there", params={"depth": 1, "width": 2}),
        ltbench.Component("ill-bound", f"{here}:Head", "binds a wrong type", params={"steps": "many"}),
        ltbench.Component("versioned", f"{here}:Head", "a head", requires=("numpy", "torch")),
        ltbench.Component("uninstalled", f"{here}:Head", "a head", requires=("numpy", "no-such-library")),
    ]


@ltbench.hookimpl
def ltbench_datasets():
    return [ltbench.Component("head-as-dataset", f"{__name__}:Head", "no dataset")]
'''


@pytest.fixture
def lab(make_plugin: MakePlugin, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Return a registry of one plugin, whose classes are right and wrong in many ways."""
    folder = make_plugin("lab", LAB, module="lab_heads")
    (folder / "lab_raising.py").write_text("raise RuntimeError('no driver')", encoding="utf-8")
    (folder / "lab_exiting.py").write_text("raise SystemExit(1)", encoding="utf-8")
    monkeypatch.setenv(PLUGINS_VARIABLE, "lab")
    return discover()


def head(registry: Registry, text: str) -> Resolved:
    """Resolve a classifier."""
    return resolve(registry, "classifier", text)


# Parameters


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "head[step=1]",
            "has no parameter 'step' (did you mean 'steps'?); it takes centre, label, limit, mode, rate, shift, steps",
        ),
        ("head[zzz=1]", "has no parameter 'zzz'; it takes centre, label, limit, mode, rate, shift, steps"),
        ("nothing[a=1]", "has no parameter 'a'; it takes none"),
        ("needy", "needs the parameter 'folder'; it takes depth, folder"),
        ("needy[depth=2]", "needs the parameter 'folder'; it takes depth, folder"),
        ("needy[folder=3]", "folder must be text, not 3"),
        ("head[steps=1.5]", "steps must be int ≥ 1, not 1.5"),
        ("head[steps=2.0]", "steps must be int ≥ 1, not 2.0"),
        ("head[steps=true]", "steps must be int ≥ 1, not True"),
        ("head[steps=none]", "steps must be int ≥ 1, not None"),
        ("head[steps='2']", "steps must be int ≥ 1, not '2'"),
        ("head[steps=0]", "steps must be int ≥ 1, not 0"),
        ("head[rate=true]", "rate must be float > 0 and ≤ 10, not True"),
        ("head[rate=fast]", "rate must be float > 0 and ≤ 10, not 'fast'"),
        ("head[rate=0]", "rate must be float > 0 and ≤ 10, not 0"),
        ("head[rate=10.5]", "rate must be float > 0 and ≤ 10, not 10.5"),
        ("head[centre=1]", "centre must be bool, not 1"),
        ("head[centre=yes]", "centre must be bool, not 'yes'"),
        ("head[mode=middle]", "mode must be mean | median, not 'middle'"),
        ("head[mode=none]", "mode must be mean | median, not None"),
        ("head[limit=few]", "limit must be int | none, not 'few'"),
        ("head[limit=1.0]", "limit must be int | none, not 1.0"),
        ("head[label=7]", "label must be text, not 7"),
        ("head[label=true]", "label must be text, not True"),
        ("head[rate=1,steps=0]", "steps must be int ≥ 1, not 0"),
        ("head[steps=1|2]", "steps=Choice(values=(1, 2)) must be expanded first"),
    ],
)
def test_a_wrong_parameter_is_refused(lab: Registry, text: str, message: str) -> None:
    """Unknown, missing, ill-typed and out-of-range parameters are named with what is accepted."""
    with pytest.raises(UsageError) as caught:
        head(lab, text)
    name = text.partition("[")[0]
    assert str(caught.value).startswith(f"classifier {name!r} (lab 1.0)")
    assert str(caught.value).endswith(message)


@pytest.mark.parametrize("text", ["head[shift=1e999]", "head[shift=-1e999]", "head[shift=select(0,1e999)]"])
def test_an_infinite_parameter_is_refused(lab: Registry, text: str) -> None:
    """A number that no key can hold is refused while planning."""
    with pytest.raises(UsageError, match=r"must be finite|shift must be"):
        head(lab, text)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("head", "rate", 1.0),
        ("head[rate=2]", "rate", 2.0),
        ("head[rate=1e-3]", "rate", 0.001),
        ("head[rate=10]", "rate", 10.0),
        ("head[shift=-3]", "shift", -3.0),
        ("head[steps=1]", "steps", 1),
        ("head[centre=false]", "centre", False),
        ("head[mode=median]", "mode", "median"),
        ("head[limit=3]", "limit", 3),
        ("head[limit=none]", "limit", None),
        ("head[label='3']", "label", "3"),
        ('head[label="a, [b] | c"]', "label", "a, [b] | c"),
        ("head9", "steps", 9),
        ("head9[steps=5]", "steps", 5),
        ("needy[folder='/data/x']", "folder", "/data/x"),
        ("filled", "folder", "here"),
        ("filled[folder=there]", "folder", "there"),
        ("family:a/b-c.d", "name", "a/b-c.d"),
    ],
)
def test_a_right_parameter_reaches_the_class(lab: Registry, text: str, name: str, value: Any) -> None:
    """The built instance holds the value in the type of its annotation: an int serves as a float."""
    built = getattr(head(lab, text).build(), name)
    assert (built, type(built)) == (value, type(value))


def test_parameters_lists_types_and_defaults(lab: Registry) -> None:
    """Bound values stand as defaults, and the name of a family's member is no parameter."""
    assert parameters(lab.find("classifier", parse_spec("filled"))) == [
        Parameter("folder", str, "here"),
        Parameter("depth", int, 1),
    ]
    assert parameters(lab.find("classifier", parse_spec("family"))) == [Parameter("depth", int, 1)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("stray", "classifier 'stray' (lab 1.0) binds parameters that Head does not have: depth, width"),
        ("ill-bound", "classifier 'ill-bound' (lab 1.0): steps must be int ≥ 1, not 'many'"),
    ],
)
def test_wrong_bound_parameters_are_refused(lab: Registry, name: str, message: str) -> None:
    """What a plugin binds beforehand is checked as what a user writes."""
    with pytest.raises(UsageError) as caught:
        head(lab, name)
    assert str(caught.value) == message


# Canonical form


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("head", "head"),
        ("head[]", "head"),
        ("head@lab", "head"),
        (" head[ steps = 7 ] ", "head[steps=7]"),
        ("head[steps=5]", "head"),
        ("head[rate=1]", "head"),
        ("head[rate=1.0,steps=5,limit=none,label='plain']", "head"),
        ("head[steps=7,rate=2]", "head[rate=2.0,steps=7]"),
        ("head@lab[rate=2.0,steps=+7]", "head[rate=2.0,steps=7]"),
        ("head[rate=20e-1,mode=mean,steps=7]", "head[rate=2.0,steps=7]"),
        ("head[centre=FALSE]", "head[centre=false]"),
        ("head[label='a,b']", 'head[label="a,b"]'),
        ("head[label='none']", 'head[label="none"]'),
        ("head9", "head9"),
        ("head9[steps=9]", "head9"),
        ("head9[steps=5]", "head9[steps=5]"),
        ("filled[folder=here]", "filled"),
        ("head[rate=select(1,2)]", "head[rate=select(1.0,2.0)]"),
        ("head[rate=select(2,1)]", "head[rate=select(2.0,1.0)]"),
        ("family:x/y[depth=1]", "family:x/y"),
        ("family@lab:x[depth=2]", "family:x[depth=2]"),
    ],
)
def test_the_canonical_form(lab: Registry, text: str, canonical: str) -> None:
    """Defaults are dropped, keys sorted and numbers written in one way; the form resolves to itself."""
    first = head(lab, text)
    assert first.canonical == canonical
    again = head(lab, canonical)
    assert (again.canonical, again.params, again.select) == (canonical, first.params, first.select)


def test_the_canonical_form_keeps_a_distribution_that_is_needed(
    lab: Registry, make_plugin: MakePlugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where two plugins give a name, the canonical form says whose it is."""
    make_plugin("other", LAB, module="other_heads")
    monkeypatch.setenv(PLUGINS_VARIABLE, "lab,other")
    assert head(discover(), "head@other[steps=7]").canonical == "head@other[steps=7]"


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "rate": st.floats(min_value=1e-300, max_value=10) | st.integers(1, 10),
    "steps": st.integers(1, 10**20),
    "centre": st.booleans(),
    "mode": st.sampled_from(["mean", "median"]),
    "limit": st.none() | st.integers(),
    "label": st.text(),
    "shift": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53),
}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(params=st.fixed_dictionaries({}, optional=VALUES), data=st.data())
def test_all_spellings_of_a_component_are_one(lab: Registry, params: dict[str, Any], data: st.DataObject) -> None:
    """Any order of any values has one canonical form, which resolves to those values and one identity."""
    text = ",".join(f"{key}={format_value(params[key])}" for key in data.draw(st.permutations(sorted(params))))
    defaults = {"rate": 1.0, "steps": 5, "centre": True, "mode": "mean", "limit": None, "label": "plain", "shift": 0.0}
    found = head(lab, f"head[{text}]")
    assert found.params == {**defaults, **params}
    again = head(lab, found.canonical)
    assert again.canonical == found.canonical == head(lab, str(Spec("head").with_params({**defaults, **params}))).canonical
    assert again.identity() == found.identity()


# Families


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("family", "classifier 'family' is a family: write family:<name>"),
        ("family[depth=2]", "classifier 'family' is a family: write family:<name>"),
        ("head:resnet", "classifier 'head' is no family: write head, without ':resnet'"),
        ("family:x[name=y]", "classifier 'family' (lab 1.0) has no parameter 'name'; it takes depth"),
    ],
)
def test_families_and_others_are_not_confused(lab: Registry, text: str, message: str) -> None:
    """A family needs the rest of the name, and nothing else takes one."""
    with pytest.raises(UsageError) as caught:
        head(lab, text)
    assert str(caught.value) == message


def test_a_family_without_a_name_is_the_plugins_mistake(lab: Registry) -> None:
    """A family's class must take ``name``."""
    with pytest.raises(UsageError, match=r"classifier 'nameless' \(lab 1\.0\) cannot be built: TypeError: .*'name'"):
        head(lab, "nameless:x")


# Classes


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no-module", "cannot import lab_absent:Head: ModuleNotFoundError: No module named 'lab_absent'"),
        ("no-class", "cannot import lab_heads:Absent: AttributeError: module 'lab_heads' has no attribute 'Absent'"),
        ("raising-module", "cannot import lab_raising:Head: RuntimeError: no driver"),
        ("exiting-module", "cannot import lab_exiting:Head: SystemExit: 1"),
        ("plain", "lab_heads:Plain must be a @dataclass(frozen=True, kw_only=True)"),
        ("thawed", "lab_heads:Thawed must be a @dataclass(frozen=True, kw_only=True)"),
        ("positional", "lab_heads:Positional must be a @dataclass(frozen=True, kw_only=True)"),
        ("function", "lab_heads:function must be a @dataclass(frozen=True, kw_only=True)"),
    ],
)
def test_a_wrong_target_is_refused(lab: Registry, name: str, message: str) -> None:
    """A target must be a class that can be imported, and a frozen keyword-only dataclass."""
    with pytest.raises(UsageError) as caught:
        head(lab, name)
    assert str(caught.value) == f"classifier {name!r} (lab 1.0): {message}"


@pytest.mark.parametrize("name", ["nothing", "loss-without-l2"])
def test_a_class_that_does_not_serve_its_kind_is_refused(lab: Registry, name: str) -> None:
    """A classifier needs ``fit``, or ``loss`` and ``l2``."""
    with pytest.raises(UsageError, match=r"must be a ClassifierComponent \(.*\) or LossComponent \("):
        head(lab, name)


def test_a_class_of_another_kind_is_refused(lab: Registry) -> None:
    """A class with ``fit`` is no dataset."""
    with pytest.raises(UsageError, match=r"dataset 'head-as-dataset' \(lab 1\.0\): class Head must be a DatasetComponent"):
        resolve(lab, "dataset", "head-as-dataset")


def test_a_loss_is_a_classifier(lab: Registry) -> None:
    """A class with ``loss`` and ``l2`` serves as it is."""
    assert head(lab, "loss[l2=1]").build().l2 == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("picky[rate=13]", "classifier 'picky' (lab 1.0): rate 13 brings bad luck"),
        ("picky[rate=select(1,13)]", "classifier 'picky' (lab 1.0): rate 13 brings bad luck"),
        ("picky[crash=true]", "classifier 'picky' (lab 1.0) cannot be built: RuntimeError: no licence found"),
    ],
)
def test_a_class_that_refuses_is_heard_while_planning(lab: Registry, text: str, message: str) -> None:
    """A ValueError of the class is the user's mistake, anything else the plugin's."""
    with pytest.raises(UsageError) as caught:
        head(lab, text)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["unnamable", "untypable"])
def test_a_parameter_whose_type_cannot_be_read_is_the_plugins_mistake(lab: Registry, name: str) -> None:
    """The error names the component and its distribution, not just what Python said."""
    with pytest.raises(UsageError, match=rf"classifier '{name}' \(lab 1\.0\)"):
        head(lab, name)


# Candidates


def test_candidates_are_conformed_and_buildable(lab: Registry) -> None:
    """``select()`` keeps every candidate in the parameter's type; the first stands in until one is chosen."""
    found = head(lab, "head[rate=select(3,0.5)]")
    assert found.select == {"rate": (3.0, 0.5)}
    assert [type(value) for value in found.select["rate"]] == [float, float]
    assert (found.build().rate, found.build(rate=0.5).rate) == (3.0, 0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("head[rate=select(1,0)]", "rate must be float > 0 and ≤ 10, not 0"),
        ("head[steps=select(1,2.5)]", "steps must be int ≥ 1, not 2.5"),
        ("head[mode=select(mean,middle)]", "mode must be mean | median, not 'middle'"),
    ],
)
def test_every_candidate_is_checked(lab: Registry, text: str, message: str) -> None:
    """A candidate that is out of range is refused wherever it stands."""
    with pytest.raises(UsageError) as caught:
        head(lab, text)
    assert str(caught.value).endswith(message)


def test_defaults_fill_what_the_user_left_out(lab: Registry) -> None:
    """Candidates of a protocol do not show in the name, and parameters that a class does not have are left alone."""
    defaults = {"rate": Select((2.0, 1.0)), "l2": Select((0.1, 0.2))}
    found = resolve(lab, "classifier", "head[steps=7]", defaults)
    assert (found.canonical, found.select, found.params["rate"]) == ("head[steps=7]", {"rate": (2.0, 1.0)}, 2.0)


def test_what_the_user_says_replaces_the_defaults(lab: Registry) -> None:
    """A parameter that is given is not chosen, and its name says so even where it equals the class's own default."""
    defaults = {"rate": Select((2.0, 3.0))}
    fixed = resolve(lab, "classifier", "head[rate=1]", defaults)
    assert (fixed.select, fixed.params["rate"]) == ({}, 1.0)
    assert fixed.canonical != resolve(lab, "classifier", "head", defaults).canonical


# Identity


SMALL = '''
"""A module."""

from dataclasses import dataclass

import ltbench


@dataclass(frozen=True, kw_only=True)
class Head:
    """A head."""

    steps: int = 5
    rate: float = 1.0

    def fit(self, train):
        """Fit."""
        total = self.steps + 1
        return total


@ltbench.hookimpl
def ltbench_classifiers():
    return [ltbench.Component("small", f"{__name__}:Head", "a head")]
'''


def identity_of(make_plugin: MakePlugin, code: str, text: str = "small") -> str:
    """Install a plugin in place of the one before, and return a digest of what names its component in a key."""
    make_plugin("small", code, module="small_heads")
    return digest(head(discover(), text).identity())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("self.steps + 1", "self.steps + 2"),
        ("self.steps + 1", "self.steps + 1.0"),
        ("self.steps + 1", "1 + self.steps"),
        ("steps: int = 5", "steps: int = 6"),
        ("total = ", "sum_ = total = "),
    ],
)
def test_identity_changes_with_the_code(make_plugin: MakePlugin, before: str, after: str) -> None:
    """One changed line makes another component, whose results are its own."""
    assert identity_of(make_plugin, SMALL) != identity_of(make_plugin, SMALL.replace(before, after))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("total = self.steps + 1", "total = self.steps + 1  # one more"),
        ('"""Fit."""', '"""Fit a head to rows."""'),
        ('"""A module."""', ""),
        ("total = self.steps + 1", "total = (\n            self.steps\n\n            + 1\n        )"),
    ],
    ids=["comment", "docstring", "module docstring", "layout"],
)
def test_identity_does_not_change_with_comments(make_plugin: MakePlugin, before: str, after: str) -> None:
    """Comments, docstrings and layout cannot change a result."""
    changed = SMALL.replace(before, after)
    assert changed != SMALL
    assert identity_of(make_plugin, SMALL) == identity_of(make_plugin, changed)


@pytest.mark.parametrize("changed", [True, False])
def test_identity_follows_imports_of_its_own_package(make_plugin: MakePlugin, changed: bool) -> None:
    """A module of the same package that the class's module imports is part of the code."""
    code = textwrap.dedent(SMALL).replace("import ltbench\n", "import ltbench\nfrom small_pkg.sums import add\n", 1)
    found = []
    for body in ("return a + b", "return a - b" if changed else "return a + b  # sum"):
        folder = make_plugin("small", code, module="small_pkg.heads")
        (folder / "small_pkg" / "sums.py").write_text(f"def add(a, b):\n    {body}\n", encoding="utf-8")
        found.append(head(discover(), "small").identity())
    assert (found[0] != found[1]) is changed


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("head", "head[steps=6]"),
        ("head[rate=1]", "head[rate=1.0000000000000002]"),
        ("head[label='1']", "head[label='2']"),
        ("head[limit=none]", "head[limit=0]"),
        ("head", "head[rate=select(1,2)]"),
        ("head[rate=select(1,2)]", "head[rate=select(1,3)]"),
        ("head[rate=select(1,2)]", "head[rate=select(2,1)]"),
        ("head", "picky"),
        ("family:a", "family:b"),
        ("filled", "needy[folder=there]"),
    ],
)
def test_identity_changes_with_name_and_parameters(lab: Registry, one: str, other: str) -> None:
    """Whatever can change a result has an identity of its own."""
    assert digest(head(lab, one).identity()) != digest(head(lab, other).identity())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("head[rate=2,steps=7]", "head[steps=7,rate=2]"),
        ("head[rate=2]", "head@lab[rate=2.0,steps=5]"),
        ("head9", "head9[steps=9]"),
        ("family:a", "family:a[depth=1]"),
    ],
)
def test_identity_does_not_change_with_the_spelling(lab: Registry, one: str, other: str) -> None:
    """Order of arguments, spelled-out defaults and the distribution's name are the same component."""
    assert digest(head(lab, one).identity()) == digest(head(lab, other).identity())


def test_identity_changes_with_a_required_library(lab: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade of a library in ``requires`` makes another component; one of any other library does not."""
    installed = {"numpy": "1.0", "torch": "2.0", "scipy": "3.0"}
    monkeypatch.setattr(importlib.metadata, "version", installed.__getitem__)

    def now() -> tuple[dict[str, Any], dict[str, Any]]:
        return head(lab, "versioned").identity(), head(lab, "head").identity()

    before = now()
    assert before[0]["requires"] == {"numpy": "1.0", "torch": "2.0"}
    installed["scipy"] = "3.1"
    assert now() == before
    installed["numpy"] = "1.1"
    assert now()[0]["requires"] == {"numpy": "1.1", "torch": "2.0"}
    assert now()[0] != before[0]
    assert now()[1] == before[1]


def test_a_required_library_that_is_not_installed_is_refused(lab: Registry) -> None:
    """The error comes while planning, and names the component and the library."""
    with pytest.raises(UsageError) as caught:
        head(lab, "uninstalled")
    assert str(caught.value) == "classifier 'uninstalled' (lab 1.0) requires no-such-library, which is not installed"


def test_identity_holds_what_a_key_can(lab: Registry) -> None:
    """Every part of an identity is named."""
    found = head(lab, "family:a[depth=2]").identity()
    assert found == {
        "name": "family:a",
        "distribution": "lab",
        "params": {"depth": 2},
        "select": {},
        "code": head(lab, "head").identity()["code"],
        "class": "Named",
        "requires": {},
    }
