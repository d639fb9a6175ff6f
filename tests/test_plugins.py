"""Tests of discovery: third-party plugins beside ours, and what a broken one may not do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ltbench.errors import UsageError
from ltbench.hookspecs import KINDS, Component
from ltbench.plugins import PLUGINS_VARIABLE, Plugin, Registered, discover, register
from ltbench.specs import parse_spec

MakePlugin = Callable[..., Path]

GOOD = """
    import ltbench


    @ltbench.hookimpl
    def ltbench_classifiers():
        return [ltbench.Component("nearest", "lab_nearest_impl:Nearest", "the nearest row")]
"""

HOOK = """
    import ltbench


    @ltbench.hookimpl
    def ltbench_classifiers():
        return {returned}
"""

OURS = ("ltbench-backbones", "ltbench-classifiers", "ltbench-datasets", "ltbench-generators", "ltbench-transforms")


def plugin_of(distribution: str) -> Plugin:
    """Discover, and return the plugin of one distribution."""
    (found,) = [plugin for plugin in discover().plugins if plugin.distribution == distribution]
    return found


def names() -> dict[str, list[str]]:
    """Discover, and return the names of every kind."""
    registry = discover()
    return {kind: registry.names(kind) for kind in KINDS}


def test_a_third_partys_plugin_is_found_beside_ours(make_plugin: MakePlugin) -> None:
    """An installed distribution's components are registered with its name and version, and ours stay."""
    make_plugin("lab-nearest", GOOD, entry="heads", version="2.3")
    registry = discover()
    found = registry.find("classifier", parse_spec("nearest"))
    assert found == Registered(
        Component("nearest", "lab_nearest_impl:Nearest", "the nearest row"), "classifier", "lab-nearest", "2.3"
    )
    assert [p for p in registry.plugins if p.distribution == "lab-nearest"] == [
        Plugin("heads", "lab_nearest", "lab-nearest", "2.3", (found,))
    ]
    assert {"softmax", "nearest"} <= set(registry.names("classifier"))
    assert set(OURS) <= {plugin.distribution for plugin in registry.plugins}
    assert registry.broken == []


def test_every_kind_has_a_hook(make_plugin: MakePlugin) -> None:
    """One module may implement the hooks of all kinds."""
    hooks = [
        f"@ltbench.hookimpl\ndef ltbench_{kind}s():\n    return [ltbench.Component('my-{kind}', 'm:C', 'mine')]"
        for kind in KINDS
    ]
    make_plugin("lab-all", "\n".join(["import ltbench", *hooks]))
    assert [(r.kind, r.component.name) for r in plugin_of("lab-all").components] == [(kind, f"my-{kind}") for kind in KINDS]


BROKEN = {
    "runtime error": (
        "raise RuntimeError('operator torchvision::nms does not exist')",
        "cannot be imported: RuntimeError: operator torchvision::nms does not exist (lab_bad.py:1)",
    ),
    "exit": ("import sys\nsys.exit(3)", "cannot be imported: SystemExit: 3 (lab_bad.py:2)"),
    "import error": ("import no_such_library", "cannot be imported: ModuleNotFoundError: No module named 'no_such_library'"),
    "import error of a name": ("from ltbench import Classifier", "cannot be imported: ImportError: cannot import name"),
    "syntax error": ("def f(:\n    pass", "cannot be imported: SyntaxError: invalid syntax (lab_bad.py, line 1)"),
    "many lines": ("raise ValueError('first\\n  second')", "cannot be imported: ValueError: first second (lab_bad.py:1)"),
    "hook raises": (
        HOOK.format(returned="1 / 0"),
        "hook ltbench_classifiers failed: ZeroDivisionError: division by zero (lab_bad.py:7)",
    ),
    "hook exits": (HOOK.format(returned="exit(1)"), "hook ltbench_classifiers failed: SystemExit: 1"),
    "hook returns a number": (
        HOOK.format(returned="3"),
        "hook ltbench_classifiers failed: TypeError: 'int' object is not iterable",
    ),
    "hook returns one component": (
        HOOK.format(returned="ltbench.Component('a', 'm:C', 'a head')"),
        "hook ltbench_classifiers failed: TypeError: 'Component' object is not iterable",
    ),
    "hook returns text": (HOOK.format(returned="'x'"), "hook ltbench_classifiers returned 'x', which is no ltbench.Component"),
    "hook returns nothing": (HOOK.format(returned="None"), "hook ltbench_classifiers returned None"),
    "wrong record": (
        HOOK.format(returned="[{'name': 'a'}]"),
        "hook ltbench_classifiers returned {'name': 'a'}, which is no ltbench.Component",
    ),
    "misspelt hook": (
        HOOK.format(returned="[]").replace("classifiers", "clasifiers"),
        "implements unknown hook 'ltbench_clasifiers' (did you mean 'ltbench_classifiers'",
    ),
    "hook with an argument": (
        HOOK.format(returned="[]").replace("classifiers()", "classifiers(registry)"),
        "cannot be registered: PluginValidationError",
    ),
    "no hook": ("import ltbench\n\ndef ltbench_classifiers():\n    return []", "implements no hook: decorate functions with"),
    "name with a blank": (
        HOOK.format(returned="[ltbench.Component('two words', 'm:C', 'a head')]"),
        "hook ltbench_classifiers failed: ValueError: Component name 'two words' must not be empty or hold spaces",
    ),
    "name missing": (
        HOOK.format(returned="[ltbench.Component('', 'm:C', 'a head')]"),
        "ValueError: Component name '' must not be",
    ),
    "name no text": (
        HOOK.format(returned="[ltbench.Component(3, 'm:C', 'a head')]"),
        "TypeError: Component name must be a string",
    ),
    "target without a class": (
        HOOK.format(returned="[ltbench.Component('a', 'package.module', 'a head')]"),
        "ValueError: Component 'a': target must be 'package.module:Class', not 'package.module'",
    ),
    "summary missing": (HOOK.format(returned="[ltbench.Component('a', 'm:C')]"), "TypeError: Component.__init__() missing 1"),
    "requires a text": (
        HOOK.format(returned="[ltbench.Component('a', 'm:C', 'a head', requires='numpy')]"),
        "TypeError: Component 'a': requires must be a tuple of distribution names, not a string",
    ),
    "params no mapping": (
        HOOK.format(returned="[ltbench.Component('a', 'm:C', 'a head', params=3)]"),
        "TypeError: 'int' object",
    ),
}


@pytest.mark.parametrize(("code", "problem"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_harms_nobody(make_plugin: MakePlugin, code: str, problem: str) -> None:
    """One broken plugin keeps its cause, and every other plugin's components are there as before."""
    make_plugin("lab-nearest", GOOD)
    before = names()
    make_plugin("lab-bad", code, entry="bad", version="0.7")
    registry = discover()
    (broken,) = registry.broken
    assert (broken.name, broken.module, broken.distribution, broken.version) == ("bad", "lab_bad", "lab-bad", "0.7")
    assert str(broken) == "plugin 'bad' of lab-bad 0.7"
    assert len(broken.problems) == 1
    assert problem in broken.problems[0]
    assert "\n" not in broken.problems[0]
    assert broken.components == ()
    assert names() == before


def test_an_entry_point_without_a_module_harms_nobody(make_plugin: MakePlugin) -> None:
    """A distribution whose module is gone is broken by itself."""
    before = names()
    folder = make_plugin("lab-bad", "")
    (folder / "lab_bad.py").unlink()
    (problem,) = plugin_of("lab-bad").problems
    assert problem.startswith("cannot be imported: ModuleNotFoundError: No module named 'lab_bad'")
    assert names() == before


def test_a_half_removed_distribution_harms_nobody(make_plugin: MakePlugin) -> None:
    """Metadata that a broken upgrade left without name and version does not stop the others."""
    make_plugin("lab-nearest", GOOD)
    folder = make_plugin("lab-bad", "import ltbench")
    (folder / "lab_bad-1.0.dist-info" / "METADATA").unlink()
    assert "nearest" in discover().names("classifier")


def test_a_misspelt_hook_leaves_the_others_of_its_plugin(make_plugin: MakePlugin) -> None:
    """The misspelt hook is named with the one that was meant, and the plugin's right hooks work."""
    code = (
        GOOD
        + """

    @ltbench.hookimpl
    def ltbench_generator():
        return [ltbench.Component("copies", "lab:Copies", "copies")]
    """
    )
    make_plugin("lab-mixed", code)
    plugin = plugin_of("lab-mixed")
    assert [r.component.name for r in plugin.components] == ["nearest"]
    (problem,) = plugin.problems
    assert problem.startswith("implements unknown hook 'ltbench_generator' (did you mean 'ltbench_generators'")
    assert problem.endswith("hooks are " + ", ".join(f"ltbench_{kind}s" for kind in KINDS))


def test_a_raising_hook_leaves_the_others_of_its_plugin(make_plugin: MakePlugin) -> None:
    """Each hook is called by itself."""
    code = (
        GOOD
        + """

    @ltbench.hookimpl
    def ltbench_datasets():
        raise OSError("no data folder")
    """
    )
    make_plugin("lab-mixed", code)
    plugin = plugin_of("lab-mixed")
    assert [r.component.name for r in plugin.components] == ["nearest"]
    assert plugin.problems == ("hook ltbench_datasets failed: OSError: no data folder (lab_mixed.py:12)",)


def test_a_wrong_record_leaves_the_right_ones(make_plugin: MakePlugin) -> None:
    """What a hook returns is sifted record by record."""
    make_plugin("lab-mixed", HOOK.format(returned="[None, ltbench.Component('a', 'm:C', 'a head')]"))
    plugin = plugin_of("lab-mixed")
    assert [r.component.name for r in plugin.components] == ["a"]
    assert plugin.problems == ("hook ltbench_classifiers returned None, which is no ltbench.Component",)


def test_a_name_given_twice_in_one_plugin_is_its_problem(make_plugin: MakePlugin) -> None:
    """Of two components with one name the first counts, and the plugin is named as broken."""
    twice = "[ltbench.Component('a', 'm:First', 'one'), ltbench.Component('a', 'm:Second', 'two')]"
    make_plugin("lab-twice", HOOK.format(returned=twice))
    plugin = plugin_of("lab-twice")
    assert [r.component.target for r in plugin.components] == ["m:First"]
    assert plugin.problems == ("hook ltbench_classifiers returned two components named 'a'",)


def test_a_name_given_twice_in_one_distribution_is_its_problem() -> None:
    """Two entry points of one distribution cannot be told apart by ``name@distribution``: the first counts."""
    first = Registered(Component("a", "m:First", "one"), "classifier", "lab", "1.0")
    second = Registered(Component("a", "m:Second", "two"), "classifier", "lab", "1.0")
    registry = register([Plugin("one", "m", "lab", "1.0", (first,)), Plugin("two", "n", "lab", "1.0", (second,))])
    assert [plugin.name for plugin in registry.broken] == ["two"]
    assert registry.find("classifier", parse_spec("a")) == first


def test_a_name_of_two_plugins_is_ambiguous(make_plugin: MakePlugin) -> None:
    """Neither plugin wins silently: the error shows both ways to write the name."""
    make_plugin("lab-b", GOOD)
    make_plugin("lab-a", GOOD)
    with pytest.raises(UsageError) as caught:
        discover().find("classifier", parse_spec("nearest"))
    assert (
        str(caught.value)
        == "classifier 'nearest' is given by 2 plugins: write nearest@lab-a (lab-a 1.0) or nearest@lab-b (lab-b 1.0)"
    )


@pytest.mark.parametrize("distribution", ["lab-a", "lab-b"])
def test_a_distribution_picks_one_of_two(make_plugin: MakePlugin, distribution: str) -> None:
    """``name@distribution`` names one component."""
    make_plugin("lab-a", GOOD)
    make_plugin("lab-b", GOOD)
    assert discover().find("classifier", parse_spec(f"nearest@{distribution}")).distribution == distribution


def test_a_distribution_that_does_not_give_the_name_is_refused(make_plugin: MakePlugin) -> None:
    """The error says who does."""
    make_plugin("lab-a", GOOD)
    make_plugin("lab-b", GOOD)
    with pytest.raises(UsageError) as caught:
        discover().find("classifier", parse_spec("nearest@lab-c"))
    assert str(caught.value) == "classifier 'nearest' is given by lab-a, lab-b, not by 'lab-c'"


def test_one_name_may_serve_two_kinds() -> None:
    """``none`` is a transform and a generator, each found by its kind."""
    registry = discover()
    found = [registry.find(kind, parse_spec("none")).distribution for kind in ("transform", "generator")]
    assert found == ["ltbench-transforms", "ltbench-generators"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("", []),
        (" , ", []),
        ("heads", ["lab-nearest"]),
        ("lab-nearest", ["lab-nearest"]),
        ("heads,lab-nearest", ["lab-nearest"]),
        ("lab-nearest, ltbench-generators", ["lab-nearest", "ltbench-generators"]),
        ("datasets,backbones", ["ltbench-backbones", "ltbench-datasets"]),
    ],
)
def test_plugins_can_be_chosen(
    make_plugin: MakePlugin, monkeypatch: pytest.MonkeyPatch, wanted: str, expected: list[str]
) -> None:
    """``LTBENCH_PLUGINS`` names entry points or distributions; empty loads none."""
    make_plugin("lab-nearest", GOOD, entry="heads")
    monkeypatch.setenv(PLUGINS_VARIABLE, wanted)
    assert [plugin.distribution for plugin in discover().plugins] == expected


def test_a_plugin_left_out_is_not_imported(make_plugin: MakePlugin, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that hurts can be kept out without removing it."""
    make_plugin("lab-bad", "raise RuntimeError")
    monkeypatch.setenv(PLUGINS_VARIABLE, "ltbench-classifiers")
    assert discover().broken == []
    assert "lab_bad" not in sys.modules


def test_an_unknown_choice_is_refused(make_plugin: MakePlugin, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that is not installed cannot be chosen, and the error says which was meant."""
    make_plugin("lab-nearest", GOOD)
    monkeypatch.setenv(PLUGINS_VARIABLE, "lab-nearest,lab-neerest")
    with pytest.raises(UsageError) as caught:
        discover()
    assert str(caught.value) == "LTBENCH_PLUGINS names no installed plugin 'lab-neerest' (did you mean 'lab-nearest'?)"


def test_an_unknown_name_shows_what_is_close_and_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the closest names and lists all of the kind."""
    monkeypatch.setenv(PLUGINS_VARIABLE, "ltbench-generators")
    registry = discover()
    with pytest.raises(UsageError) as caught:
        registry.find("generator", parse_spec("smoot"))
    known = ", ".join(registry.names("generator"))
    assert str(caught.value) == f"unknown generator 'smoot' (did you mean 'smote'?). Known generators: {known}"


def test_an_unknown_name_tells_of_plugins_that_failed(make_plugin: MakePlugin) -> None:
    """The name may be in a plugin that could not be loaded."""
    make_plugin("lab-bad", "raise RuntimeError")
    make_plugin("lab-worse", "raise RuntimeError")
    with pytest.raises(UsageError) as caught:
        discover().find("classifier", parse_spec("softmaxx"))
    failed = "failed to load: lab-bad of lab-bad, lab-worse of lab-worse; see 'ltbench plugins'"
    message = f"unknown classifier 'softmaxx' (did you mean 'softmax'?) ({failed})"
    assert str(caught.value).startswith(message)


def test_a_name_of_another_kind_is_hinted() -> None:
    """Who writes a generator where a classifier belongs is told so."""
    with pytest.raises(UsageError, match="unknown classifier 'smote'; 'smote' is a generator"):
        discover().find("classifier", parse_spec("smote"))


def test_without_plugins_the_error_asks_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare ltbench knows no dataset."""
    monkeypatch.setenv(PLUGINS_VARIABLE, "")
    with pytest.raises(UsageError) as caught:
        discover().find("dataset", parse_spec("digits"))
    assert str(caught.value) == "unknown dataset 'digits'. Known datasets: none: is a plugin installed?"


def test_discovery_does_not_import_a_target(make_plugin: MakePlugin) -> None:
    """A component's class is imported when it is resolved, not when it is listed."""
    folder = make_plugin("lab-nearest", GOOD)
    (folder / "lab_nearest_impl.py").write_text("raise RuntimeError('imported too early')", encoding="utf-8")
    registry = discover()
    assert "nearest" in registry.names("classifier")
    assert registry.broken == []
    assert "lab_nearest_impl" not in sys.modules


def test_discovery_imports_nothing_heavy(make_plugin: MakePlugin) -> None:
    """A fresh process that lists all components has imported neither torch nor any class of a component."""
    folder = make_plugin("lab-nearest", GOOD)
    script = """
import json, sys
from ltbench.plugins import discover
registry = discover()
targets = [r.component.target.partition(":")[0] for r in registry.components()]
heavy = ["torch", "pandas", "numpy", "scipy", "sklearn", "pydantic"]
print(json.dumps([registry.names("classifier"), [name for name in [*heavy, *targets] if name in sys.modules]]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    listed, imported = json.loads(done.stdout)
    assert {"nearest", "softmax"} <= set(listed)
    assert imported == []
