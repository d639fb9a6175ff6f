"""``ltbench doctor``: every section is there, a fault is a FAIL line and exit code 1, and nobody is named."""

from __future__ import annotations

import getpass
import importlib.metadata
import json
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ltbench import doctor, selftest
from ltbench.cli import main
from ltbench.heads import products
from ltbench.plugins import Registry, discover

SECTIONS = ["versions", "devices", "plugins", "folders", "environment", "self-test"]


def call(*arguments: str) -> int:
    """Run the command line in this process and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the self-test out."""
    monkeypatch.setattr(selftest, "checks", lambda registry: iter([("nothing", "left out", "ok")]))


def test_all_is_well_here(capsys: pytest.CaptureFixture[str]) -> None:
    """Every section is printed, the self-test passes on every device, and the exit code is 0."""
    assert call("doctor") == 0
    shown = capsys.readouterr().out
    assert [line for line in shown.splitlines() if line in SECTIONS] == SECTIONS
    assert f"torch        {importlib.metadata.version('torch')}" in shown
    assert "ok   cell, cpu" in shown
    assert "digits@ltbench-datasets, hog@ltbench-backbones, softmax: the same bits twice" in shown
    assert "FAIL" not in shown
    assert shown.endswith("all checks ok\n")


@pytest.mark.usefixtures("quick")
def test_json_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json, standard output is one document."""
    assert call("doctor", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is True
    assert list(document["sections"]) == SECTIONS
    assert document["sections"]["self-test"] == [{"name": "nothing", "value": "left out", "state": "ok"}]


@pytest.mark.usefixtures("quick")
def test_nobody_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The home folder is ~, users and hosts are placeholders, and what looks like a secret is hidden."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(getpass, "getuser", lambda: "alice")
    monkeypatch.setattr(platform, "node", lambda: "lab-7.example.org")
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LTBENCH_DATA", "/scratch/alice/on/lab-7/data")
    monkeypatch.setenv("LTBENCH_TOKEN", "abc123")
    assert call("doctor") == 0
    shown = capsys.readouterr().out
    assert str(tmp_path) not in shown
    assert "~/cache, not made yet, writable" in shown
    assert "/scratch/<user>/on/<host>/data" in shown
    assert "(hidden): not a variable of ltbench itself" in shown
    for name in ("alice", "lab-7", "abc123"):
        assert name not in shown


def test_only_whole_names_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user called ``data`` does not make a word such as ``dataset`` unreadable."""
    monkeypatch.setattr(getpass, "getuser", lambda: "data")
    monkeypatch.setenv("HOME", "/home/data")
    assert (
        doctor.redacted("/home/data/x of dataset\n/home/database /mnt/data/y") == "~/x of dataset /home/database /mnt/<user>/y"
    )


@pytest.mark.usefixtures("quick")
def test_a_broken_plugin_fails(make_plugin: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    """A plugin that cannot be imported is a FAIL line with its cause, and the exit code is 1."""
    make_plugin("broken", "raise RuntimeError('wrong torchvision')")
    assert call("doctor") == 1
    shown = capsys.readouterr().out
    (line,) = [line for line in shown.splitlines() if "FAIL" in line]
    assert "broken 1.0, 0 components; cannot be imported: RuntimeError: wrong torchvision" in line
    assert shown.endswith("1 checks failed\n")


def test_an_unknown_plugin_in_the_environment_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where plugins cannot be looked for, everything else is still said."""
    monkeypatch.setenv("LTBENCH_PLUGINS", "nonesuch")
    assert call("doctor") == 1
    shown = capsys.readouterr().out
    assert "FAIL plugins  LTBENCH_PLUGINS names no installed plugin 'nonesuch'" in shown
    assert "folders" in shown


def test_without_plugins_there_is_nothing_to_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An installation of the core alone fails with a reason."""
    monkeypatch.setenv("LTBENCH_PLUGINS", "")
    assert call("doctor") == 1
    shown = capsys.readouterr().out
    assert "none found: install one" in shown
    assert "nothing to run: no dataset and backbone without a required parameter is installed" in shown


@pytest.mark.usefixtures("quick")
def test_a_cache_that_is_a_file_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file in the place of a folder is a failure with what to do, and everything else is still said."""
    (tmp_path / "file").touch()
    for variable in ("LTBENCH_CACHE", "LTBENCH_DATA"):
        monkeypatch.setenv(variable, str(tmp_path / "file"))
    assert call("doctor") == 1
    shown = capsys.readouterr().out
    assert shown.count("FAIL") == shown.count("file is a file, and") == 2
    assert "let LTBENCH_CACHE name another" in shown
    assert "environment" in shown


@pytest.mark.usefixtures("quick")
def test_a_cache_that_cannot_be_written_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A cache that cannot be written is a failure with what to do; a data folder may be read-only."""

    def refuse(**_: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    assert call("doctor") == 1
    shown = capsys.readouterr().out
    assert "cannot be written (Read-only file system): make it writable, or set LTBENCH_CACHE" in shown
    assert shown.count("Read-only file system") == 2
    assert shown.count("FAIL") == 1


@pytest.mark.usefixtures("quick")
def test_a_library_that_is_missing_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A library that is not installed is a FAIL line."""
    monkeypatch.setattr(doctor, "LIBRARIES", ("torch", "no-such-library"))
    assert call("doctor") == 1
    assert "FAIL no-such-library  not installed" in capsys.readouterr().out


def test_other_draws_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """The self-test finds a machine whose random numbers differ."""
    monkeypatch.setattr(selftest, "BITS", [1, 2, 3])
    name, problem, state = next(selftest.checks(Registry()))
    assert (name, state) == ("streams, cpu", "FAIL")
    assert "not [1, 2, 3]" in problem


def test_a_cell_that_differs_or_fails_is_found(make_plugin: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that gives another result each time, and one that raises, fail the self-test."""
    make_plugin("moody", MOODY)
    monkeypatch.setattr(selftest, "PLAIN_CLASSIFIER", "moody")
    assert "the same cell gave two results" in _cell()[1]
    monkeypatch.setattr(selftest, "PLAIN_CLASSIFIER", "angry")
    assert "angry: failed: classifier angry (moody 1.0): RuntimeError: no" in _cell()[1]


def test_a_large_dataset_is_not_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The self-test says so rather than encode many images."""
    monkeypatch.setattr(selftest, "MOST_IMAGES", 100)
    wanted, reason = selftest.small_experiment(discover())
    assert wanted is None
    assert reason == "dataset digits@ltbench-datasets has more than 100 images"


def _cell() -> Any:
    """Return the self-test's check of a cell on the CPU."""
    found: Iterator[selftest.Check] = selftest.checks(discover())
    name, problem, state = next(check for check in found if check[0] == "cell, cpu")
    assert state == "FAIL"
    return name, problem


MOODY = """
from dataclasses import dataclass
import ltbench, torch

calls = []

@dataclass(frozen=True, kw_only=True)
class Moody:
    angry: bool = False

    def fit(self, train):
        if self.angry:
            raise RuntimeError("no")
        calls.append(1)
        return lambda x: ltbench.Scores(torch.full((len(x), train.classes), float(len(calls))), "scores")

@ltbench.hookimpl
def ltbench_classifiers():
    return [
        ltbench.Component("moody", "moody:Moody", "another result each time"),
        ltbench.Component("angry", "moody:Moody", "raises", params={"angry": True}),
    ]
"""


def test_products_are_compared_between_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The self-test says whether products depend on the lane, and what follows: no fault, but one head at a time."""
    found = {name: (told, state) for name, told, state in selftest.checks(Registry())}
    told, state = found["products, cpu"]
    assert "products are the same in every lane" in told
    assert state == "ok"
    differing = products.Products(700, ("head of 5 × 3 on 1 rows, float32",), "0123456789abcdef")
    monkeypatch.setattr(selftest, "products", lambda device: differing)
    found = {name: (told, state) for name, told, state in selftest.checks(Registry())}
    told, state = found["products, cpu"]
    assert (
        "1 kinds of product depend on the lane (head of 5 × 3 on 1 rows, float32, …), so heads are solved one at a time" in told
    )
    assert state == "ok"
