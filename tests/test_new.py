"""``ltbench new`` and ``ltbench check``: what they write and say, and scaffolds that pass their own tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ltbench.cli import main
from ltbench.hookspecs import KINDS


def call(*arguments: object) -> int:
    """Run the command line in this process and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def run(arguments: list[str], **environment: str) -> str:
    """Run a command and return what it printed."""
    done = subprocess.run(arguments, capture_output=True, text=True, env={**os.environ, **environment}, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# What is written


def test_a_scaffold_is_five_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A project file, a README, the registration, one file to fill in, and its tests; it lands in NAME."""
    monkeypatch.chdir(tmp_path)
    assert call("new", "classifier", "my-margin") == 0
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == [
        "my-margin/README.md",
        "my-margin/pyproject.toml",
        "my-margin/src/my_margin/__init__.py",
        "my-margin/src/my_margin/classifier.py",
        "my-margin/tests/test_my_margin.py",
    ]
    assert "fill in my-margin/src/my_margin/classifier.py" in capsys.readouterr().out
    method = (tmp_path / "my-margin/src/my_margin/classifier.py").read_text()
    assert "class MyMargin:" in method
    assert "Example" not in method
    readme = (tmp_path / "my-margin/README.md").read_text()
    commands = readme.partition("```sh\n")[2].partition("```")[0].splitlines()
    assert commands == [
        "pip install -e .",
        "ltbench check my-margin",
        "ltbench run -d digits -b pixels -c softmax,my-margin --ratio 10 --seeds 3 --out runs/my-margin",
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_to_fill_in_is_short(kind: str, tmp_path: Path) -> None:
    """The example of each kind has at most 40 lines of code and comments, and none is left unfilled."""
    assert call("new", kind, "a-method", "--out", tmp_path / "x") == 0
    lines = (tmp_path / "x" / "src" / "a_method" / f"{kind}.py").read_text().splitlines()
    assert 15 <= len([line for line in lines if line.strip()]) <= 45
    for path in (tmp_path / "x").rglob("*.*"):
        assert "$" not in path.read_text(), path


def test_a_class_never_takes_a_name_that_its_module_uses(tmp_path: Path) -> None:
    """A generator named after what the template calls its sampler gets a longer class name."""
    assert call("new", "generators", "sampler", "--out", tmp_path / "x") == 0
    assert "class SamplerGenerator:" in (tmp_path / "x/src/sampler/generator.py").read_text()
    assert '"sampler.generator:SamplerGenerator"' in (tmp_path / "x/src/sampler/__init__.py").read_text()


def test_a_name_that_is_taken_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The scaffold then uses the name with its distribution, so that it works beside the other."""
    assert call("new", "generator", "smote", "--out", tmp_path / "x") == 0
    assert "ltbench-generators gives a generator 'smote', too: users have to write smote@smote" in capsys.readouterr().err
    assert '"generator:smote@smote"' in (tmp_path / "x/tests/test_smote.py").read_text()
    assert call("new", "classifier", "smote", "--out", tmp_path / "y") == 0
    assert "warning" not in capsys.readouterr().err


BAD_NEW = [
    (["clasifier", "x"], "did you mean 'classifier'?"),
    (["executor", "x"], "kind must be one of dataset, backbone, transform, generator, classifier"),
    (["classifier", "a b"], "name must be letters and digits"),
    (["classifier", "a[k=1]"], "name must be letters and digits"),
    (["classifier", "-"], "name must be letters and digits"),
    (["classifier", "../x"], "name must be letters and digits"),
    (["classifier", "torch"], "would make a package 'torch', which Python has already"),
    (["classifier", "Random"], "would make a package 'random', which Python has already"),
    (["classifier", "class"], "would make a package 'class', which Python has already"),
    (["classifier", "taken"], "taken exists already: name another folder with --out"),
    (["classifier", "x", "--out", "taken"], "taken exists already"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_NEW, ids=[" ".join(arguments) for arguments, _ in BAD_NEW])
def test_a_mistake_writes_nothing(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bad kinds, bad names and folders that exist are refused in one line."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    assert call("new", *arguments) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["taken"]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file where a folder should be is named, without a traceback."""
    (tmp_path / "file").touch()
    assert call("new", "transform", "x", "--out", tmp_path / "file" / "x") == 3
    assert "cannot write" in capsys.readouterr().err


# ltbench check


def test_check_prints_a_line_for_each_check(capsys: pytest.CaptureFixture[str]) -> None:
    """A component that keeps to the contract: a line for each check, and exit code 0."""
    assert call("check", "transform:l2") == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert "ok   transform l2 batch_invariant" in lines
    assert all(line.startswith("ok ") for line in lines)
    assert f"{len(lines)} ok, 0 failed, 0 skipped" in err


def test_check_of_values_checks_each(capsys: pytest.CaptureFixture[str]) -> None:
    """``a|b`` in a name checks a component for each value."""
    assert call("check", "pca[dim=2|3]") == 0
    out = capsys.readouterr().out
    assert "transform pca[dim=2] deterministic" in out
    assert "transform pca[dim=3] deterministic" in out


BROKEN = """
from dataclasses import dataclass
import ltbench

@dataclass(frozen=True, kw_only=True)
class Rounded:
    def fit(self, x):
        return lambda rows: rows.round().long()

@dataclass(frozen=True, kw_only=True)
class Needy:
    size: int
    def fit(self, x):
        raise ltbench.SkipCell("needs larger rows")

@dataclass
class Loose:
    def fit(self, x):
        return lambda rows: rows

@ltbench.hookimpl
def ltbench_transforms():
    return [
        ltbench.Component("rounded", "my_broken:Rounded", "", reference="folklore"),
        ltbench.Component("needy", "my_broken:Needy", "", reference="folklore"),
        ltbench.Component("many", "my_broken:Rounded", "", reference="folklore", family=True),
        ltbench.Component("loose", "my_broken:Loose", "", reference="folklore"),
    ]

@ltbench.hookimpl
def ltbench_backbones():
    raise RuntimeError("no driver")
"""


def test_check_of_a_distribution_says_all_that_is_wrong(
    make_plugin: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Every component, the plugin's own problems, what cannot be resolved, and what cannot be checked without a name."""
    make_plugin("my-broken", BROKEN)
    assert call("check", "my-broken") == 1
    out, err = capsys.readouterr()
    assert "FAIL plugin my-broken loads: hook ltbench_backbones failed: RuntimeError: no driver" in out
    assert "FAIL transform rounded shapes_and_types: training rows must be floating numbers [80, 6], not int64 [80, 6]" in out
    assert "ok   transform rounded deterministic" in out
    assert "skip transform needy all: needs size: check transform:needy[size=...]" in out
    assert "skip transform many all: a family: check a member, transform:many:<name>" in out
    assert "FAIL transform loose resolves: transform 'loose' (my-broken 1.0)" in out
    assert "3 failed, 2 skipped" in err


def test_check_skips_with_the_reason_of_a_component(
    make_plugin: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A component that states a reason not to serve is no failure."""
    make_plugin("my-broken", BROKEN)
    assert call("check", "needy[size=3]") == 0
    assert "skip transform needy[size=3] deterministic: needs larger rows" in capsys.readouterr().out


BAD_CHECK = [
    ("smot", "unknown component or distribution 'smot' (did you mean 'smote'?)"),
    ("ltbench-generator", "did you mean 'ltbench-generators'"),
    ("transform:smote", "'smote' is a generator"),
    ("none", "'none' is a transform and a generator: write transform:none or generator:none"),
    ("smote[k=0]", "k must be int ≥ 1, not 0"),
    ("smote[", "smote["),
]


@pytest.mark.parametrize(("name", "message"), BAD_CHECK, ids=[name for name, _ in BAD_CHECK])
def test_a_wrong_name_to_check_is_one_line(name: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Unknown and ambiguous names and wrong parameters exit with 2 before anything is checked."""
    assert call("check", name) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert err.count("\n") == 1
    assert out == ""


@pytest.mark.slow
def test_every_fresh_scaffold_passes_its_own_tests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Installed as pip does, each kind's scaffold passes its tests and ``ltbench check``, and runs beside the built-in ones."""
    for kind in KINDS:
        assert call("new", kind, f"my-{kind}", "--out", tmp_path / kind) == 0
    sources, target = [str(tmp_path / kind) for kind in KINDS], str(tmp_path / "site")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    run([*pip, "install", "--no-deps", "--no-build-isolation", "--no-index", "--target", target, *sources])
    environment = {"PYTHONPATH": target, "LTBENCH_CACHE": str(tmp_path / "cache")}
    tests = [f"{source}/tests" for source in sources]
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "--import-mode=importlib"]
    assert "failed" not in run([*pytest_, "--rootdir", str(tmp_path), *tests], **environment)
    main_ = f"import ltbench.cli\nfor kind in {KINDS!r}:\n    try: ltbench.cli.main(['check', f'my-{{kind}}'])\n"
    ended = "    except SystemExit as end: assert end.code == 0, end.code\n"
    checked = run([sys.executable, "-c", main_ + ended], **environment)
    other = [line for line in checked.splitlines() if not line.startswith("ok ")]
    assert [line.split()[3] for line in other] == ["reference:"] * len(KINDS)  # still the template's, and said so
    assert all(line.startswith("skip") for line in other)
    names = ["-d", "my-dataset", "-b", "my-backbone", "-t", "my-transform", "-g", "my-generator", "-c", "softmax,my-classifier"]
    options = ["--ratio", "10", "--seeds", "1", "--no-reference", "--workers", "0", "--out", str(tmp_path / "run")]
    run([sys.executable, "-m", "ltbench", "run", *names, *options], **environment)
