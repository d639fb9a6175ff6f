"""Kill -9 of a run and of its workers at random moments: nothing lost, nothing changed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "kill.py"


@pytest.fixture
def kill(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import the script that measures the same with a hundred kills."""
    spec = importlib.util.spec_from_file_location("benchmarks_kill", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "benchmarks_kill", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the processes of a run in /proc")
def test_a_killed_run_comes_to_the_same_end(
    kill: ModuleType, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Six kills of run and workers, each resumed: results, scores and board are those of an undisturbed run."""
    work = kill.Workload(heads=5, seeds=6, seconds=0.05)
    report = kill.rehearse(tmp_path, work, kills=6, seed=1)
    sys.stdout.write(
        f"{report.begun_again} fits done again: {dict(report.kills)} kills, {report.runs} x {report.cells} cells\n"
    )
    record_property("begun_again", report.begun_again)
    assert report.different == []
    assert (report.hung, report.left_behind) == (0, 0)
    assert sum(report.kills.values()) == 6
    assert report.begun_again >= 0
