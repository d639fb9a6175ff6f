"""A pytest plugin for the slow tests: a share of them in a number of seconds, or a report that all of them passed.

``make slow`` runs all and, if nothing failed and nothing was left out, says so in ``tests/slow.json``; ``make slow-tenth``
runs a tenth, chosen by the commit. It is loaded by ``-p tests.slow`` and does nothing unless an option asks for it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

REPORT = Path("tests", "slow.json")

UNKNOWN_SECONDS = 20.0
"""How long a test is taken to last that no report knows."""

NOTED_SECONDS = 3.0
"""Shorter tests are not listed one by one in the report."""

NARROWING = ("keyword", "deselect", "ignore", "ignore_glob", "lf", "stepwise", "last_failed_no_failures_only")
"""Options of pytest that leave tests out."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of this plugin."""
    group = parser.getgroup("slow tests")
    group.addoption("--slow-report", metavar="FILE", help="write FILE if all slow tests ran and none failed")
    group.addoption("--slow-share", metavar="SHARE", type=float, help="run this share of the tests, in an order drawn anew")
    group.addoption("--slow-seed", metavar="TEXT", default="", help="what the share and the order are drawn from: a commit")
    group.addoption(
        "--slow-seconds", metavar="S", type=float, default=math.inf, help="start no test that would end later than that"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Choose tests in every process, report in the first one."""
    workerinput = getattr(config, "workerinput", {})
    if config.option.slow_share is not None:
        began = workerinput.get("slow_began", time.time())
        config.pluginmanager.register(Share(config.option, began, seconds_of_tests(config.rootpath / REPORT)), "slow-share")
    if config.option.slow_report is not None:
        config.pluginmanager.register(Report(config), "slow-report")


def seconds_of_tests(file: Path) -> dict[str, float]:
    """Return how long each of the longer tests took when all of them ran; of others, nothing is known."""
    return json.loads(file.read_text(encoding="utf-8"))["seconds"] if file.exists() else {}


class Share:
    """Runs a share of the tests that are left, those whose hashes with the seed are smallest, smallest first."""

    def __init__(self, option: Any, began: float, known: dict[str, float]) -> None:
        self.share, self.seed, self.seconds = option.slow_share, option.slow_seed, option.slow_seconds
        self.began, self.known = began, known
        self.shorter = NOTED_SECONDS if known else UNKNOWN_SECONDS

    def pytest_report_header(self) -> str:
        """Say what is chosen, so that it can be chosen again."""
        return f"slow tests: a share of {self.share} chosen by {self.seed or 'nothing'}, in {self.seconds:.0f} s"

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker when the first process began."""
        node.workerinput["slow_began"] = self.began

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep the share, rounded up, so that it is never empty."""
        items.sort(key=lambda item: hashlib.sha256(f"{self.seed} {item.nodeid}".encode()).digest())
        kept = math.ceil(self.share * len(items))
        config.hook.pytest_deselected(items=items[kept:])
        del items[kept:]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Leave out a test that would not end in time; a shorter one behind it may."""
        left = self.began + self.seconds - time.time()
        takes = self.known.get(item.nodeid, self.shorter)
        if takes > left:
            pytest.skip(f"left for lack of time ({takes:.0f} s, {max(left, 0):.0f} s were left): {item.nodeid}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Count a share that holds no test as no failure."""
        if session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            session.exitstatus = pytest.ExitCode.OK


class Report:
    """Notes what became of every slow test, and writes the report if all of them ran and none failed."""

    def __init__(self, config: pytest.Config) -> None:
        self.config, self.worker = config, hasattr(config, "workerinput")
        self.there: set[str] = set()
        self.outcomes: dict[str, str] = {}
        self.seconds: Counter[str] = Counter()
        self.settings: set[str] = set()
        self.ending = ""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Note which slow tests there are, before any option leaves some out."""
        self.there = {item.nodeid for item in items if item.get_closest_marker("slow")}
        if self.worker:
            self.config.workeroutput["slow"] = sorted(self.there)  # type: ignore[attr-defined]

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what a worker has noted."""
        self.there |= set(getattr(node, "workeroutput", {}).get("slow", ()))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how a test ended, how long it took, and the numeric setting that it imitated."""
        self.seconds[report.nodeid] += report.duration
        if report.when == "call" or not report.passed:
            self.outcomes[report.nodeid] = report.outcome
        if report.when == "call" and report.passed:
            self.settings |= {str(value) for name, value in report.user_properties if name == "numeric setting"}

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the report, or say why there is none."""
        if self.worker:
            return
        file = self.config.rootpath / self.config.option.slow_report
        why = self.why_not(session)
        if not why:
            write(file, self.entry(), {test: round(s) for test, s in self.seconds.items() if s >= NOTED_SECONDS})
        self.ending = f"{file.name} is not written: {why}" if why else f"{file.name} says that all slow tests passed"

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print what became of the report."""
        terminalreporter.write_line(f"slow tests: {self.ending}")

    def why_not(self, session: pytest.Session) -> str:
        """Return why this was not the whole, empty if it was."""
        option = self.config.option
        narrowed = [name for name in NARROWING if getattr(option, name, None)]
        if session.exitstatus != pytest.ExitCode.OK:
            return "not all passed"
        if option.markexpr != "slow" or self.config.args_source is not pytest.Config.ArgsSource.TESTPATHS or narrowed:
            return "these were not all slow tests"
        missing = self.there - set(self.outcomes)
        return f"{len(missing)} of {len(self.there)} slow tests have not run" if missing or not self.there else ""

    def entry(self) -> dict[str, Any]:
        """Return what there is to know about this run."""
        from ltbench.execute.numerics import numerics_class
        from ltbench.hardware import cores, cpu_model
        from ltbench.keys import ENGINE_VERSION, METRIC_VERSION

        counts, files = Counter(self.outcomes.values()), Counter[str]()
        for test, seconds in self.seconds.items():
            files[test.partition("::")[0]] += seconds
        return {
            "engine": ENGINE_VERSION,
            "metrics": METRIC_VERSION,
            "date": dt.datetime.now(dt.UTC).date().isoformat(),
            "commit": commit(self.config.rootpath),
            "processor": f"{cpu_model()}, {cores()} cores",
            "numerics": numerics_class("cpu"),
            "settings": sorted(self.settings),
            "passed": counts["passed"],
            "skipped": counts["skipped"],
            "failed": counts["failed"],
            "seconds": {file: round(seconds) for file, seconds in sorted(files.items())},
        }


def commit(root: Path) -> str:
    """Return the commit that was tested, with ``-dirty`` behind it if files were changed."""
    told = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    return subprocess.run(told, cwd=root, capture_output=True, text=True).stdout.strip()


def write(file: Path, entry: dict[str, Any], seconds: dict[str, int]) -> None:
    """Put an entry into the report in the place of an earlier one of its versions; keep the seconds of this run."""
    runs = json.loads(file.read_text(encoding="utf-8"))["runs"] if file.exists() else []
    kept = [run for run in runs if (run["engine"], run["metrics"]) != (entry["engine"], entry["metrics"])]
    whole = {"runs": [*kept, entry], "seconds": dict(sorted(seconds.items()))}
    file.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
