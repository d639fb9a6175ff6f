"""How a run reports as it goes: bar, lines, JSON or nothing; and what Ctrl-C leaves behind."""

from __future__ import annotations

import functools
import io
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from ltbench.cells import Cell
from ltbench.cli import progress
from ltbench.features.extraction import Pace
from ltbench.records import Record, RunFolder
from ltbench.runs import Event

CELL = Cell("digits", "pixels", "l2", "exp", 10.0, "drawn", "index", 99, "smote", "real+synthetic", "ncm", "effective", 3)
CAUSE = "failed: smote + ncm, seed 3: classifier ncm: no"
TALLY = "{}/10 cells, {} failed, 0.5/s"


def event(number: int, *, failed: bool = False, fresh: bool = True) -> Event:
    """Return the event of one of ten cells."""
    failure = {"component": "classifier ncm", "error": "no"} if failed else None
    record = Record("ab" * 16, "failed" if failed else "done", vars(CELL), {"metrics": {"top1": 0.5}}, failure)
    return Event(CELL, record, fresh=fresh, number=number, total=10)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Stop the reporters' clock, and return what moves it on."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def wait(seconds: float) -> None:
        now[0] += seconds

    return wait


def report(reporter: progress.Reporter, wait: Callable[[float], None]) -> None:
    """Tell of two cells that were there, and of six that end every other second, the third of them failed."""
    for number in range(1, 9):
        wait(2.0 * (number > 2))
        reporter(event(number, failed=number == 5, fresh=number > 2))


def test_lines_tell_done_failed_rate_and_time_left(clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]) -> None:
    """A line every five seconds at most; each failure at once; time left from the fifth cell on, by the rate of fresh ones."""
    report(progress.Lines(), clock)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [CAUSE, TALLY.format(5, 1), TALLY.format(8, 1) + ", 4 s left"]


def test_the_bar_tells_done_failed_rate_and_time_left(
    clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It moves in place on a terminal, a failure stays above it, and nothing of it is left at the end."""
    screen = io.StringIO()
    monkeypatch.setattr("rich.console.Console", lambda **_: Console(file=screen, force_terminal=True, width=120))
    bar = progress.Bar()
    report(bar, clock)
    bar.watch(CELL, Pace(done=512, total=1797, fresh=256, seconds=2.0))
    bar._progress.refresh()
    drawn = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    bar.close(None)
    assert TALLY.format(8, 1) + ", 4 s left" in drawn
    assert CAUSE in drawn
    assert "digits × pixels: 512/1,797 images, 128/s, 10 s left" in drawn
    assert screen.getvalue().endswith("\x1b[2K")  # the last line is wiped
    assert capsys.readouterr() == ("", "")


def test_quiet_says_nothing_as_it_goes(clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]) -> None:
    """Neither cells nor images nor failures, and nothing for a run that did not come to its end."""
    quiet = progress.reporter(quiet=True, as_json=False)
    report(quiet, clock)
    quiet.watch(CELL, Pace(done=512, total=1797, fresh=256, seconds=2.0))
    quiet.close(None)
    assert capsys.readouterr() == ("", "")


def test_json_is_an_object_a_line(clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]) -> None:
    """Every event by its name, with what a program needs to follow a run; standard error stays empty."""
    events = progress.reporter(quiet=False, as_json=True)
    events.watch(CELL, Pace(done=512, total=1797, fresh=256, seconds=2.0))
    report(events, clock)
    shown = capsys.readouterr()
    first, *cells = [json.loads(line) for line in shown.out.splitlines()]
    assert first == {
        "event": "extract",
        "dataset": "digits",
        "backbone": "pixels",
        "done": 512,
        "total": 1797,
        "images_per_second": 128.0,
    }
    assert [(row["event"], row["number"], row["total"], row["fresh"]) for row in cells] == [
        ("cell", number, 10, number > 2) for number in range(1, 9)
    ]
    assert [row["status"] for row in cells] == ["done"] * 4 + ["failed"] + ["done"] * 3
    assert cells[4]["cause"] == "classifier ncm: no"
    assert cells[0]["cell"] == vars(CELL)
    assert cells[0]["metrics"] == {"top1": 0.5}
    assert shown.err == ""


@pytest.mark.parametrize(("terminal", "kind"), [(True, progress.Bar), (False, progress.Lines)])
def test_a_bar_is_for_terminals(monkeypatch: pytest.MonkeyPatch, terminal: bool, kind: type) -> None:
    """Elsewhere, plain lines."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    chosen = progress.reporter(quiet=False, as_json=False)
    chosen.close(None)
    assert type(chosen) is kind


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_in_the_middle_of_a_run(tmp_path: Path) -> None:
    """One line, exit code 130, and the folder holds what was done: running again computes the rest."""
    names = ["-d", "digits", "-b", "pixels", "-c", "softmax", "--ratio", "10", "--seeds", "400", "--no-reference"]
    command = [sys.executable, "-m", "ltbench", "run", *names, "--workers", "0", "--json", "--out", str(tmp_path / "run")]
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # tests in a shell's background ignore it
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, preexec_fn=heard) as process:  # noqa: PLW1509
        for line in process.stdout:
            if json.loads(line)["event"] == "cell":
                break
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        rest, error = process.communicate(timeout=60)
    told = 1 + sum(json.loads(line)["event"] == "cell" for line in rest.splitlines())
    assert process.returncode == 130
    assert error.splitlines()[-1] == "error: interrupted; what was done is kept, and running again goes on from there"
    assert "Traceback" not in error
    written = RunFolder(tmp_path / "run").everything()
    assert told <= len(written) < 400
