"""A method that is edited after a run: every command that shows its numbers says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ltbench.cli import main

HEAD = '''
from dataclasses import dataclass
import torch
import ltbench

@dataclass(frozen=True, kw_only=True)
class Constant:
    """Scores classes by their number."""

    def fit(self, train):
        return lambda x: ltbench.Scores(torch.arange({first}, {first} + len(train.class_counts)).float().expand(len(x), -1), "logits")

@ltbench.hookimpl
def ltbench_classifiers():
    return [ltbench.Component("constant", "lab_constant:Constant", "a constant", reference="folklore: none")]
'''


RUN = ["run", "-d", "digits", "-b", "pixels", "-c", "ncm,constant", "--ratio", "10", "--seeds", "1", "--no-reference"]
RUN += ["--workers", "0", "-q"]


@pytest.fixture
def edited(make_plugin: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Return a finished run of two heads, one of which has been edited since."""
    run = tmp_path / "run"
    make_plugin("lab-constant", HEAD.format(first=0))
    with pytest.raises(SystemExit) as ended:
        main([*RUN, "--out", str(run)])
    assert ended.value.code in (0, None)
    capsys.readouterr()
    make_plugin("lab-constant", HEAD.format(first=1))
    return run


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command and return all that it prints."""
    with pytest.raises(SystemExit):
        main(list(arguments))
    return "".join(capsys.readouterr())


def test_tables_warn_of_other_code(edited: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Board and top name the component and how many of its cells are of other code; unchanged ones are not named."""
    for command in ("leaderboard", "top"):
        text = told(capsys, command, str(edited))
        assert "1 cells were made with other code of classifier constant than is installed now" in text
        assert "code of classifier ncm" not in text


def test_records_that_were_computed_again_are_left_out(
    edited: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command says how many; the board that it writes knows nothing of them, and is what its own records give."""
    told(capsys, *RUN, "--out", str(edited))
    out = str(tmp_path / "board")
    assert "1 outdated records of the same cells are left out" in told(capsys, "leaderboard", str(edited), "--out", out)
    assert told(capsys, "leaderboard", out, "--out", out, "--check") == ""


def test_status_and_why_say_what_changed(edited: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The cell is missing because something has changed, and the key named tells that it is the head's code."""
    text = told(capsys, "status", str(edited))
    assert "1 of 2 cells done, 0 failed, 0 skipped, 1 missing" in text
    line = next(line for line in text.splitlines() if "1 × missing" in line)
    key = line.partition("ltbench why ")[2].split()[0]
    assert "the cell would be computed again: the code of its classifier has changed" in told(
        capsys, "why", key, "--run", str(edited)
    )
