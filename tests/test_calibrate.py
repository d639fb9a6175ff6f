"""``ltbench calibrate``: structure, never size, of what is measured; where leaderboards show it, and where not."""

from __future__ import annotations

import dataclasses
import json
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import ltbench
from ltbench.calibrate import calibrate
from ltbench.calibration import FILE, SECONDS, Calibration, read_calibration, write_calibration
from ltbench.cli import main
from ltbench.errors import LtbenchError, UsageError
from ltbench.execute.alone import Cost
from ltbench.leaderboard.board import board
from ltbench.records import RunFolder


def call(*arguments: object) -> int:
    """Run the command line in this process and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of two ratios with fast heads, calibrated."""
    out = tmp_path_factory.mktemp("calibrated") / "run"
    grid = {"generator": "none,smote[k=3]", "classifier": "ncm,lda", "ratio": [5, 10], "seeds": [4, 2]}
    ltbench.run(dataset="digits", backbone="pixels", n_max=20, groups="3/4/3", out=out, **grid)
    calibrate(out, device="cpu")
    return out


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """Return a copy of the calibrated run, to change."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def made(folder: Path) -> Calibration:
    """Return a folder's calibration."""
    found = read_calibration(folder)
    assert found is not None
    return found


def test_every_method_is_measured_once_in_every_setting(finished: Path) -> None:
    """The methods of the calibration are those of the run, on its first seed, each with the key of its record."""
    records, timings = RunFolder(finished).load().records, made(finished).timings
    expected = {key for key, record in records.items() if record.cell["seed"] == 4}
    assert {timing.key for timing in timings} == expected
    assert all(timing.cell == records[timing.key].cell for timing in timings)


def test_seconds_are_medians_of_repeats(finished: Path) -> None:
    """Every part is there and positive; a head with nothing to choose selects nothing."""
    for timing in made(finished).timings:
        assert set(timing.seconds) == set(SECONDS)
        assert len(timing.repeats) == 3
        assert timing.seconds["total"] == statistics.median(timing.repeats)
        assert (timing.seconds["selection"] > 0) == (timing.cell["classifier"] != "ncm")
        assert all(timing.seconds[name] > 0 for name in SECONDS if name != "selection")
        assert timing.joules is None
        assert timing.peak_bytes is None or timing.peak_bytes >= 0


def test_the_hardware_is_named(finished: Path) -> None:
    """Device, processor, cores, memory, capability and torch are in the file; nothing else of the machine."""
    assert set(made(finished).hardware) == {"device", "cpu", "cores", "memory_gib", "capability", "torch"}
    assert made(finished).hardware["device"] == "cpu"
    assert made(finished).hardware["torch"] == torch.__version__
    text = (finished / FILE).read_text()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"


# Leaderboards


def test_a_board_shows_times_and_checks(run: Path, tmp_path: Path) -> None:
    """Every table has the columns, the foot names the hardware, and the board's folder gives the board again."""
    page = tmp_path / "board"
    board([run], page).write(page)
    text = (page / "README.md").read_text()
    assert text.count("|   seconds |") == 2
    (foot,) = [line for line in text.splitlines() if line.startswith("- times: calibrated on ")]
    assert all(f"{name} {value}" in foot for name, value in made(run).hardware.items())
    assert made(page) == made(run)
    assert "seconds_training" in (page / "leaderboard.csv").read_text()
    assert board([page], page).differences(page) == []


def test_an_incomplete_calibration_shows_nothing(run: Path, tmp_path: Path) -> None:
    """A table with one method untimed has no times; without any such table the board is as if there were none."""
    whole = made(run)
    untimed = next(t for t in whole.timings if t.cell["generator"] == "smote[k=3]" and t.cell["imbalance_ratio"] == 10)
    write_calibration(run, dataclasses.replace(whole, timings=tuple(t for t in whole.timings if t != untimed)))
    page = board([run], tmp_path).files["README.md"]
    assert page.count("|   seconds |") == 1
    write_calibration(run, dataclasses.replace(whole, timings=(untimed,)))
    partial = board([run], tmp_path)
    (run / FILE).unlink()
    assert partial == board([run], tmp_path)
    assert "times:" not in partial.files["README.md"]


def test_a_timing_of_earlier_code_does_not_count(run: Path, tmp_path: Path) -> None:
    """Timings belong to cells by key."""
    whole = made(run)
    write_calibration(run, dataclasses.replace(whole, timings=tuple(dataclasses.replace(t, key="0") for t in whole.timings)))
    assert FILE not in board([run], tmp_path).files


def test_two_machines_are_never_in_one_table(run: Path, tmp_path: Path) -> None:
    """Half of the methods from each of two machines are no column; two whole ones give one machine's."""
    whole = made(run)
    other = dataclasses.replace(whole, hardware={**whole.hardware, "cpu": "Another"})
    second = Path(shutil.copytree(run, tmp_path / "second"))
    half = len(whole.timings) // 2
    write_calibration(run, dataclasses.replace(whole, timings=whole.timings[:half]))
    write_calibration(second, dataclasses.replace(other, timings=whole.timings[half:]))
    assert FILE not in board([run, second], tmp_path).files
    write_calibration(run, whole)
    write_calibration(second, other)
    both = board([run, second], tmp_path)
    assert both.files["README.md"].count("calibrated on") == 1
    assert both == board([second, run], tmp_path)
    assert len({json.loads(both.files[FILE])["hardware"]["cpu"]}) == 1


def test_two_parts_of_one_machine_are_put_together(run: Path, tmp_path: Path) -> None:
    """Runs calibrated one by one on the same machine make a board with times."""
    whole = made(run)
    second = Path(shutil.copytree(run, tmp_path / "second"))
    write_calibration(run, dataclasses.replace(whole, timings=whole.timings[::2]))
    write_calibration(second, dataclasses.replace(whole, timings=whole.timings[1::2]))
    assert board([run, second], tmp_path).files["README.md"].count("|   seconds |") == 2


def test_memory_that_was_not_measured_is_no_column(run: Path, tmp_path: Path) -> None:
    """Where one method has no peak memory, its table has none."""
    whole = made(run)
    write_calibration(run, dataclasses.replace(whole, timings=tuple(_without_memory(t) for t in whole.timings)))
    page = board([run], tmp_path).files["README.md"]
    assert "|   seconds |" in page
    assert "peak MB |" not in page


def _without_memory(timing: Any) -> Any:
    """Return a timing without its peak."""
    return dataclasses.replace(timing, peak_bytes=None)


# Mistakes


def test_what_is_no_finished_run_is_one_line(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No run, an unfinished one, too few repeats, no such device: exit code 2, one line, nothing written."""
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    shutil.copy(finished / "experiment.toml", unfinished)
    for arguments, message in (
        ([tmp_path / "nowhere"], "is no run: it has no experiment.toml"),
        ([unfinished], "is not finished: 24 of 24 cells have no record"),
        ([finished, "--repeats", "2"], "repeats must be at least 3, for a median, not 2"),
        ([finished, "--device", "tpu"], "device must be auto, cpu, cuda"),
    ):
        assert call("calibrate", *arguments) == 2
        shown = capsys.readouterr().err
        assert message in shown
        assert shown.startswith("error: ")
        assert shown.count("\n") == 1
    assert [path.name for path in unfinished.iterdir()] == ["experiment.toml"]


DAMAGED = {
    "empty": "",
    "torn": '{"schema": 1, "hardw',
    "list": "[]",
    "number": "7",
    "deep": "[" * 100_000,
    "bytes": "\ufffe\ud800",
    "no timings": '{"schema": 1, "hardware": {}}',
    "wrong timing": '{"schema": 1, "hardware": {}, "timings": [{"key": "a"}]}',
    "text for timings": '{"schema": 1, "hardware": {}, "timings": "abc"}',
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_one_line(content: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both commands that read a calibration refuse a damaged one and say what to do."""
    (run / FILE).write_bytes(content.encode(errors="surrogatepass"))
    for command in ("calibrate", "leaderboard"):
        assert call(command, run) == 2
        shown = capsys.readouterr().err
        assert f"{FILE} is damaged or no calibration: move the file away" in shown
        assert shown.count("\n") == 1


@pytest.mark.parametrize(
    "change",
    [
        {"seconds": {"total": 1.0}},
        {"seconds": dict.fromkeys(SECONDS, -1.0)},
        {"seconds": dict.fromkeys(SECONDS, "fast")},
        {"repeats": []},
        {"peak_bytes": True},
        {"key": 3},
        {"cell": None},
        {"stranger": 1},
    ],
    ids=str,
)
def test_a_timing_is_checked(change: dict[str, Any], run: Path) -> None:
    """A number that is none, or a name too many or too few, is damage."""
    table = json.loads((run / FILE).read_text())
    table["timings"][0] |= change
    (run / FILE).write_text(json.dumps(table))
    with pytest.raises(UsageError, match="is damaged"):
        read_calibration(run)


def test_a_later_schema_asks_for_a_newer_ltbench(run: Path) -> None:
    """A file of a later ltbench is not damaged."""
    (run / FILE).write_text('{"schema": 2, "something": "new"}')
    with pytest.raises(UsageError, match=r"has schema 2, this ltbench knows up to 1: install a newer ltbench"):
        read_calibration(run)


def test_other_hardware_needs_force(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another machine's calibration stays unless --force; on the same machine it is replaced, elsewhere both are kept."""
    whole, seconds = made(run), dict.fromkeys(SECONDS, 1.0)
    monkeypatch.setattr("ltbench.calibrate.cost", lambda method, repeats: Cost(seconds, (1.0,) * repeats, None, None))
    write_calibration(run, dataclasses.replace(whole, hardware={**whole.hardware, "cpu": "Another"}))
    assert call("calibrate", run, "--device", "cpu") == 2
    assert f"is of other hardware (cpu Another, here {whole.hardware['cpu']}): --force replaces it" in capsys.readouterr().err
    assert made(run).hardware["cpu"] == "Another"
    assert call("calibrate", run, "--device", "cpu", "--force", "--out", tmp_path / "elsewhere") == 0
    assert "12/12 digits, pixels, ratio" in capsys.readouterr().err
    assert made(tmp_path / "elsewhere").hardware == whole.hardware
    shutil.copy(tmp_path / "elsewhere" / FILE, run)
    assert call("calibrate", run, "--device", "cpu", "--quiet", "--repeats", "4") == 0
    assert {len(timing.repeats) for timing in made(run).timings} == {4}


def test_a_method_that_fails_alone_is_named(make_plugin: Callable[..., Path], tmp_path: Path) -> None:
    """A head that worked in the run and raises now ends the calibration with its name and cause; no file is left."""
    make_plugin("moody", MOODY)
    ltbench.run(dataset="digits", backbone="pixels", classifier="moody", n_max=20, ratio=[5], reference=False, out=tmp_path)
    with pytest.raises(LtbenchError, match=r"none \+ moody on digits, seed 0 is done in the run, but failed alone: .*again"):
        calibrate(tmp_path, device="cpu")
    assert not (tmp_path / FILE).exists()


MOODY = """
from dataclasses import dataclass
import ltbench, torch

calls = []

@dataclass(frozen=True, kw_only=True)
class Moody:
    def fit(self, train):
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("not again")
        return lambda x: ltbench.Scores(torch.zeros(len(x), train.classes), "scores")

@ltbench.hookimpl
def ltbench_classifiers():
    return [ltbench.Component("moody", "moody:Moody", "works once")]
"""


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_is_calibrated(run: Path, tmp_path: Path) -> None:
    """On CUDA the GPU and its memory are named, and every method has a peak."""
    found = calibrate(run, out=tmp_path, device="cuda")
    assert found.hardware["gpu"] == torch.cuda.get_device_name()
    assert all(timing.peak_bytes is not None and timing.peak_bytes > 0 for timing in found.timings)
