"""The plugin that runs slow tests: what a share is, when there is a report, and that no board is without one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ltbench.keys import ENGINE_VERSION, METRIC_VERSION
from ltbench.records import RunFolder

ROOT = Path(__file__).parent.parent
COMMITTED = sorted(path.parent for path in (ROOT / "leaderboards").glob("*/leaderboard.csv"))
FEWEST = 50
"""Slow tests that pass on any machine, at least."""

PROJECT = {
    "pytest.ini": "[pytest]\nmarkers =\n    slow: long\ntestpaths = some\n",
    "some/test_some.py": """
        import os
        import pytest

        @pytest.mark.slow
        @pytest.mark.parametrize("number", range(40))
        def test_slow(number, record_property):
            record_property("numeric setting", f"S={number % 2}")
            assert str(number) != os.environ.get("FAILS")

        def test_fast():
            pass
    """,
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project of 40 slow tests and a fast one."""
    for name, text in PROJECT.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text.replace("\n        ", "\n"), encoding="utf-8")
    return tmp_path


def run(project: Path, *options: str, **environment: str) -> tuple[int, str, set[int]]:
    """Run its slow tests; return the exit code, what is printed, and the numbers of the tests that passed."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    own["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # nothing else is needed, and each takes time to load
    own["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [own.get("PYTHONPATH")])])
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.slow",
        "-p",
        "no:cacheprovider",
        "-m",
        "slow",
        "-v",
        "-rs",
        *options,
    ]
    done = subprocess.run(command, cwd=project, env=own | environment, capture_output=True, text=True)
    passed = re.findall(r"test_slow\[(\d+)\] PASSED|PASSED \S+test_slow\[(\d+)\]", done.stdout)
    return done.returncode, done.stdout + done.stderr, {int(one or other) for one, other in passed}


def test_a_share_follows_from_the_seed(project: Path) -> None:
    """A tenth of 40 tests are four: the same for the same commit, others for another."""
    code, text, first = run(project, "--slow-share", "0.1", "--slow-seed", "abc")
    assert (code, len(first)) == (0, 4), text
    assert "a share of 0.1 chosen by abc" in text
    assert run(project, "--slow-share", "0.1", "--slow-seed", "abc")[2] == first
    assert run(project, "--slow-share", "0.1", "--slow-seed", "abd")[2] != first


def test_a_share_fails_as_its_tests_do(project: Path) -> None:
    """A test that fails fails the share; a share without a test does not."""
    assert run(project, "--slow-share", "1", FAILS="7")[0] == 1
    code, text, passed = run(project, "--slow-share", "0.1", "-k", "nothing")
    assert (code, passed) == (0, set()), text


def test_what_would_not_end_in_time_is_left_and_told(project: Path) -> None:
    """The seconds of the last report decide; what is unknown is taken to be short if a report is there."""
    (project / "tests").mkdir()
    known = {f"some/test_some.py::test_slow[{number}]": 1000 for number in range(30)}
    (project / "tests/slow.json").write_text(json.dumps({"runs": [], "seconds": known}))
    code, text, passed = run(project, "--slow-share", "1", "--slow-seconds", "500")
    assert (code, passed) == (0, set(range(30, 40))), text
    assert text.count("left for lack of time (1000 s, ") == 30
    (project / "tests/slow.json").unlink()
    assert run(project, "--slow-share", "1", "--slow-seconds", "10")[2] == set()


@pytest.mark.slow
def test_workers_run_the_same_share(project: Path) -> None:
    """With two workers the share is that of one process, and the seconds are counted from the start of all."""
    (project / "tests").mkdir()
    (project / "tests/slow.json").write_text(json.dumps({"runs": [], "seconds": {}}))
    options = ["--slow-share", "0.2", "--slow-seed", "abc"]
    alone = run(project, *options)[2]
    assert run(project, *options, "-p", "xdist", "-n", "2")[2] == alone
    assert run(project, *options, "-p", "xdist", "-n", "2", "--slow-seconds", "0")[2] == set()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [[], ["-p", "xdist", "-n", "2"]], ids=["one process", "two workers"])
def test_the_whole_is_reported(project: Path, workers: list[str]) -> None:
    """What ran, where and for which versions; another version's entry stays, the same version's gives way."""
    entries = [{"engine": 0, "metrics": 0}, {"engine": ENGINE_VERSION, "metrics": METRIC_VERSION, "passed": 0}]
    (project / "slow.json").write_text(json.dumps({"runs": entries, "seconds": {}}))
    code, text, passed = run(project, "--slow-report", "slow.json", *workers)
    assert (code, len(passed)) == (0, 40)
    assert "slow.json says that all slow tests passed" in text
    old, new = json.loads((project / "slow.json").read_text())["runs"]
    assert old == entries[0]
    assert (new["engine"], new["metrics"]) == (ENGINE_VERSION, METRIC_VERSION)
    assert (new["passed"], new["skipped"], new["failed"], new["settings"]) == (40, 0, 0, ["S=0", "S=1"])
    assert list(new["seconds"]) == ["some/test_some.py"]
    assert new["numerics"]["device"] == "cpu"


@pytest.mark.parametrize(
    ("options", "environment", "why"),
    [
        (["-k", "not 7"], {}, "these were not all slow tests"),
        (["some"], {}, "these were not all slow tests"),
        (["--deselect", "some/test_some.py::test_slow[7]"], {}, "these were not all slow tests"),
        (["-m", "slow and not gpu"], {}, "these were not all slow tests"),
        (["--slow-share", "0.5"], {}, "20 of 40 slow tests have not run"),
        ([], {"FAILS": "7"}, "not all passed"),
    ],
    ids=["-k", "a path", "--deselect", "-m", "a share", "a failure"],
)
def test_a_part_is_not_reported(project: Path, options: list[str], environment: dict[str, str], why: str) -> None:
    """Nothing is written where a test was left out or failed, and the reason is told."""
    _, text, _ = run(project, "--slow-report", "slow.json", *options, **environment)
    assert f"slow.json is not written: {why}" in text
    assert not (project / "slow.json").exists()


def versions(folder: Path) -> set[tuple[Any, Any]]:
    """Return the versions of engine and metrics that a board's records were made with."""
    parts = [record.provenance["key_parts"] for record in RunFolder(folder).load().records.values()]
    return {(each["engine"], each["metrics"]) for each in parts}


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda path: path.name)
def test_all_slow_tests_ran_before_each_board(folder: Path) -> None:
    """For the versions that a committed board was made with, the report of ``make slow`` is committed, too."""
    file = ROOT / "tests" / "slow.json"
    assert file.exists(), "run `make slow`, and commit tests/slow.json"
    runs = {(run["engine"], run["metrics"]): run for run in json.loads(file.read_text(encoding="utf-8"))["runs"]}
    for version in versions(folder):
        assert version in runs, f"run `make slow`: it has not run for engine and metrics {version}"
        assert runs[version]["failed"] == 0
        assert runs[version]["passed"] >= FEWEST
        assert runs[version]["settings"]
