"""The command line: what users see, and one clear line for every mistake."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ltbench.cli import main
from ltbench.records import RunFolder

TOML = """
dataset = ["digits"]
backbone = ["pixels"]
generator = ["none", "smote[k=3]"]
classifier = ["ncm"]
ratio = [10, 20]
seeds = 2
"""


def call(*arguments: str) -> int:
    """Run the command line in this process and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


BAD = [
    (["run", "--out", "x"], "say what to run"),
    (["run", "-d", "digit", "-b", "pixels", "--out", "x"], "unknown dataset 'digit' (did you mean 'digits'?)"),
    (["run", "-d", "digits", "--out", "x"], "names no backbone"),
    (["run", "-d", "digits", "-b", "pixels", "-g", "smote[k=0]", "--out", "x"], "k must be int ≥ 1, not 0"),
    (["run", "-d", "digits", "-b", "pixels", "-g", "smote[k=3", "--out", "x"], "smote[k=3"),
    (["run", "-d", "digits", "-b", "pixels", "-c", "softmx", "--out", "x"], "did you mean 'softmax'?"),
    (["run", "-d", "digits", "-b", "pixels", "-c", "smote", "--out", "x"], "'smote' is a generator"),
    (["run", "-d", "digits", "-b", "pixels", "--ratio", "1000", "--out", "x"], "largest possible ratio is 124"),
    (["run", "-d", "digits", "-b", "pixels", "--ratio", "ten", "--out", "x"], "--ratio takes numbers, not 'ten'"),
    (["run", "-d", "digits", "-b", "pixels", "--seeds", "0", "--out", "x"], "seeds must be"),
    (["run", "-d", "digits", "-b", "pixels", "--groups", "strikt", "--out", "x"], "did you mean 'strict'?"),
    (["run", "-d", "digits", "-b", "pixels", "--groups", "3/3/3", "--out", "x"], "name 9 classes, the dataset has 10"),
    (["run", "-d", "digits", "-b", "pixels", "--device", "tpu", "--out", "x"], "device must be auto, cpu, cuda"),
    (["run", "-d", "digits", "-b", "pixels", "--workers", "many", "--out", "x"], "workers must be auto or a number"),
    (["run", "-d", "digits", "-b", "embedded[layer=9]", "--out", "x"], "embedded[layer=9]: layer=9 cannot be read: feature"),
    (["plan", "-d", "digits", "-b", "embedded[pool=token]"], "embedded[pool=token]: pool must be avg or max"),
    (["run", "missing.toml", "--out", "x"], "cannot read missing.toml"),
    (["run", "--suite", "quickstat", "--out", "x"], "did you mean 'quickstart'?"),
    (["run", "a.toml", "--suite", "quickstart", "--out", "x"], "not both"),
    (["show", "smot"], "did you mean 'smote'?"),
    (["list", "heads"], "kind must be one of"),
    (["status", "nowhere"], "is no run"),
    (["leaderboard", "nowhere"], "is no run"),
    (["leaderboard", "nowhere", "--check"], "name it"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(a) for a, _ in BAD])
def test_a_mistake_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A user's mistake exits with 2, one line that helps, no traceback, and leaves no folder behind."""
    monkeypatch.chdir(tmp_path)
    assert call(*arguments) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.startswith("error: ")
    assert shown.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_options_and_toml_are_the_same_thing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A TOML file and the options that say the same plan the same cells."""
    file = tmp_path / "e.toml"
    file.write_text(TOML)
    assert call("plan", file) == 0
    from_file = capsys.readouterr().out
    options = ["-d", "digits", "-b", "pixels", "-g", "none,smote[k=3]", "-c", "ncm", "--ratio", "10,20", "--seeds", "2"]
    assert call("plan", *options) == 0
    assert capsys.readouterr().out == from_file


def test_a_plan_tells_the_length_of_feature_vectors(capsys: pytest.CaptureFixture[str]) -> None:
    """Where a backbone can tell without weights or images."""
    assert call("plan", "-d", "digits", "-b", "pixels,hog[cell=4],embedded[layer=1]") == 0
    wanted = "pixels (features counted once it is loaded), hog[cell=4] (1764 features), embedded[layer=1] (64 features)"
    assert f"backbone: {wanted}\n" in capsys.readouterr().out


IDLE = [
    (["-g", "none,smote", "--regime", "real"], "--generator smote plays no part: the only regime is real"),
    (["--regime", "synthetic"], "--regime plays no part: no generator makes synthetic rows"),
    (["--prior-source", "real"], "--prior-source plays no part: no generator makes synthetic rows"),
    (["--profile", "native", "--ratio", "10"], "--ratio plays no part: the only profile is native"),
    (["--profile", "native", "--n-max", "50"], "--n-max plays no part: the only profile is native"),
]


@pytest.mark.parametrize(("options", "told"), IDLE, ids=[" ".join(options) for options, _ in IDLE])
def test_an_option_that_changes_nothing_is_told(options: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line on standard error, and the plan as without it."""
    assert call("plan", "-d", "digits", "-b", "pixels", "-c", "ncm", *options) == 0
    shown = capsys.readouterr().err
    assert shown.startswith(f"note: {told}")
    assert shown.count("\n") == 1


def test_options_that_matter_are_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Nor is what a suite says that the options leave alone."""
    given = ["-g", "smote", "--regime", "real,synthetic", "--prior-source", "real", "--profile", "exp,native", "--ratio", "10"]
    assert call("plan", "-d", "digits", "-b", "pixels", "-c", "ncm", *given) == 0
    assert call("plan", "-d", "digits", "-b", "pixels", "-c", "ncm", "--ratio", "10") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("seeds", "shown"), [("[3,7]", "3, 7"), ("12", "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, … (12 in all)")])
def test_plan_shows_no_more_seeds_than_can_be_read(seeds: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Many seeds are counted, after the first ten."""
    assert call("plan", "-d", "digits", "-b", "pixels", "-c", "ncm", "--seeds", seeds) == 0
    assert f"; seeds {shown}; protocol " in capsys.readouterr().out


def test_run_status_and_leaderboard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run, its status, its board and the board's check; a changed file is found."""
    file, out, page = tmp_path / "e.toml", tmp_path / "run", tmp_path / "board"
    file.write_text(TOML)
    assert call("run", file, "--out", out, "--workers", "0") == 0
    assert call("status", out) == 0
    assert "0 failed, 0 skipped, 0 missing" in capsys.readouterr().out
    assert call("leaderboard", out, "--out", page) == 0
    assert call("leaderboard", out, "--out", page, "--check") == 0
    assert call("leaderboard", page, "--out", page, "--check") == 0
    (page / "README.md").write_text((page / "README.md").read_text().replace("ncm", "nmc"))
    assert call("leaderboard", out, "--out", page, "--check") == 1
    assert "README.md is not what the records give" in capsys.readouterr().err


def test_list_show_and_plugins(capsys: pytest.CaptureFixture[str]) -> None:
    """The catalogue names components, parameters and plugins."""
    assert call("list", "generators") == 0
    assert {"none", "random-over", "smote", "gaussian"} <= {
        line.split()[1] for line in capsys.readouterr().out.splitlines()[2:]
    }
    assert call("show", "smote") == 0
    shown = capsys.readouterr().out
    assert "int ≥ 1" in shown
    assert "doi:10.1613/jair.953" in shown
    assert call("plugins") == 0
    assert "ltbench-generators" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["plugins"], ["run", "--help"]], ids=" ".join)
def test_light_commands_import_nothing_heavy(arguments: list[str]) -> None:
    """Help and catalogue import neither torch nor pandas nor pydantic."""
    code = (
        "import sys\nfrom ltbench.cli import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        "print('HEAVY', sorted({'torch', 'pandas', 'pydantic', 'scipy', 'numpy', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_the_module_runs_as_a_program() -> None:
    """``python -m ltbench`` is the command."""
    done = subprocess.run([sys.executable, "-m", "ltbench", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("ltbench, version ")


def test_completion_knows_component_names() -> None:
    """The shell completes the last name of a list."""
    environment = {
        **os.environ,
        "_LTBENCH_COMPLETE": "bash_complete",
        "COMP_WORDS": "ltbench run -g none,smot",
        "COMP_CWORD": "3",
    }
    done = subprocess.run([sys.executable, "-m", "ltbench"], capture_output=True, text=True, env=environment)
    assert done.stdout.split() == ["plain,none,smote"]


def test_json_events(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--json prints an object a line: every cell, then the end."""
    file = tmp_path / "e.toml"
    file.write_text(TOML)
    assert call("run", file, "--seeds", "1", "--out", tmp_path / "run", "--workers", "0", "--json") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    events = [event for event in events if event["event"] != "extract"]  # there are none where features are cached
    assert [event["event"] for event in events] == ["cell"] * (len(events) - 1) + ["end"]
    assert events[-1]["cells"] == events[-1]["computed"] == len(events) - 1
    assert {event["number"] for event in events[:-1]} == set(range(1, len(events)))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small finished run."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "e.toml").write_text(TOML)
    assert call("run", folder / "e.toml", "--out", folder / "run", "--workers", "0", "-q") == 0
    return folder / "run"


def test_top_shows_the_best(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows come best first, as many as asked for; an unknown column is refused."""
    assert call("top", finished, "-n", "3", "--by", "top1") == 0
    values = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()[2:]]
    assert len(values) == 3
    assert values == sorted(values, reverse=True)
    assert call("top", finished, "--by", "speed") == 2
    capsys.readouterr()
    ratios = []
    for more in ([], ["--references"]):
        assert call("top", finished, "-n", "99", *more) == 0
        ratios.append({line.split()[3] for line in capsys.readouterr().out.splitlines()[2:]})
    assert ratios == [{"10", "20"}, {"1", "10", "20"}]


def test_why_explains_a_key(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A cell planned anew has the same key; two cells differ in named parts; an unknown key is refused."""
    records = RunFolder(finished).load().records
    smote = [r for r in records.values() if r.cell["generator"] != "none" and r.cell["imbalance_ratio"] == 10]
    first, second = (next(r.key for r in smote if r.cell["seed"] == seed) for seed in (0, 1))
    assert call("why", first, "--run", finished) == 0
    assert "nothing differs" in capsys.readouterr().out
    assert call("why", first, second, "--run", finished) == 0
    changed = {line.split()[0] for line in capsys.readouterr().out.splitlines()[4:]}
    assert changed == {"rows", "seed"}
    assert call("why", "zzz", "--run", finished) == 2


def test_merge_is_a_union(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs of different seeds add up, in any order and twice over; scores come along; other protocols are refused."""
    (tmp_path / "e.toml").write_text(TOML)
    assert call("run", tmp_path / "e.toml", "--seeds", "[7]", "--out", tmp_path / "other", "--workers", "0", "-q") == 0
    assert call("merge", finished, tmp_path / "other", "--out", tmp_path / "a") == 0
    assert call("merge", tmp_path / "other", finished, tmp_path / "other", "--out", tmp_path / "b") == 0
    merged = [RunFolder(tmp_path / name).load().records for name in "ab"]
    assert merged[0] == merged[1]
    assert {record.cell["seed"] for record in merged[0].values()} == {0, 1, 7}
    assert merged[0].keys() == RunFolder(finished).load().records.keys() | RunFolder(tmp_path / "other").load().records.keys()
    for record in merged[0].values():
        assert len(RunFolder(tmp_path / "a").read_arrays(record).scores) == 500
    capsys.readouterr()
    assert call("status", tmp_path / "a") == 0
    assert "0 missing" in capsys.readouterr().out
    assert call("run", tmp_path / "e.toml", "-t", "l2", "--out", tmp_path / "l2", "--workers", "0", "-q") == 0
    assert call("merge", finished, tmp_path / "l2", "--out", tmp_path / "c") == 2


def test_merge_keeps_and_shows_conflicts(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two results under one key are both kept, shown, and end with exit code 1."""
    record = next(iter(RunFolder(finished).load().records.values()))
    assert record.result is not None
    other = RunFolder(tmp_path / "other")
    other.add(
        dataclasses.replace(record, result={**record.result, "metrics": {**record.result["metrics"], "top1": 0.0}}, scores=None)
    )
    other.flush()
    (tmp_path / "other" / "experiment.toml").write_text((finished / "experiment.toml").read_text())
    assert call("merge", finished, tmp_path / "other", "--out", tmp_path / "a") == 1
    assert f"conflict: {record.key}" in capsys.readouterr().err
    assert len(RunFolder(tmp_path / "a").load().conflicts) == 1


def test_a_wrong_batch_size_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is the user's mistake, not a plugin's failure that a record would keep."""
    monkeypatch.setenv("LTBENCH_BATCH", "many")
    assert call("run", "-d", "digits", "-b", "pixels", "-c", "ncm", "--workers", "0", "--out", tmp_path / "run") == 2
    assert "LTBENCH_BATCH must be a number of images of at least 1, not 'many'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_skipped_cells_are_not_computed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run of skipped cells says so, with the reason, and promises no table."""
    names = [
        "-d",
        "digits",
        "-b",
        "pixels",
        "-g",
        "text-anchor",
        "-c",
        "ncm",
        "--ratio",
        "10",
        "--seeds",
        "1",
        "--no-reference",
    ]
    assert call("run", *names, "--workers", "0", "-q", "--out", tmp_path / "run") == 0
    told = capsys.readouterr().err
    assert "1 cells: 0 computed, 0 failed, 1 skipped" in told
    assert "their tables" not in told


def test_two_runs_on_one_folder_at_once(tmp_path: Path) -> None:
    """Both end well, and the folder holds every cell of both, each with one result."""
    command = [sys.executable, "-m", "ltbench", "run", "-d", "digits", "-b", "pixels", "-c", "softmax,ncm", "--ratio", "10"]
    out = ["--no-reference", "--workers", "0", "-q", "--out", str(tmp_path / "run")]
    both = [subprocess.Popen([*command, "--seeds", seeds, *out]) for seeds in ("[0,1,2]", "[1,2,3]")]
    assert [process.wait(timeout=240) for process in both] == [0, 0]
    loaded = RunFolder(tmp_path / "run").load()
    assert sorted((r.cell["classifier"], r.cell["seed"]) for r in loaded.records.values()) == [
        (head, seed) for head in ("ncm", "softmax") for seed in range(4)
    ]
    assert all(record.status == "done" for record in loaded.records.values())
    assert loaded.conflicts == ()
