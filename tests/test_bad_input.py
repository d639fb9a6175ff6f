"""Bad input on every command: one clear error and an exit code, never a traceback; fuzz over settings and records."""

from __future__ import annotations

import contextlib
import copy
import datetime as dt
import io
import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ltbench
from ltbench.cli import main
from ltbench.cli.app import cli
from ltbench.config import Experiment, experiment, load_toml
from ltbench.errors import LtbenchError, UsageError
from ltbench.files import CACHE_VARIABLE, DATA_VARIABLE
from ltbench.plugins import PLUGINS_VARIABLE
from ltbench.records import SCHEMA, RunFolder

BASE = ["-d", "digits", "-b", "pixels", "-c", "ncm", "--ratio", "10"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, own_folders: tuple[Path, Path]) -> Path:
    """Return the folder of a finished run of two cells; tests work on copies of it."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(own_folders[0]))
        ltbench.run(dataset="digits", backbone="pixels", classifier="ncm,lda", ratio=[10], reference=False, out=folder)
    return folder


@pytest.fixture
def run_folder(finished: Path, tmp_path: Path) -> Path:
    """Return a copy of the finished run."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


Refused = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Return ``refused(*arguments, code=2)``: check exit code and single error line, and return the line."""

    def check(*arguments: object, code: int = 2) -> str:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        assert (ended.value.code, shown.out) == (code, "")
        lines = [line for line in shown.err.splitlines() if line.strip()]
        (error,) = [line for line in lines if line.lower().startswith("error: ")]
        # click shows the command's usage before the error; all else is one line alone.
        assert lines[-1] == error
        assert lines[0].startswith("Usage: ") or lines == [error]
        return error

    return check


ARGUMENTS = {
    "run without out": (["run", *BASE], "Missing option '-o'"),
    "unknown command": (["rnu"], "No such command 'rnu'"),
    "unknown option": (["plan", *BASE, "--sead", "1"], "No such option"),
    "an option without its value": (["plan", *BASE, "--seeds"], "requires an argument"),
    "too many arguments": (["plan", "a.toml", "b.toml"], "unexpected extra argument"),
    "n-max no number": (["plan", *BASE, "--n-max", "many"], "'many' is not a valid integer"),
    "n-max zero": (["plan", *BASE, "--n-max", "0"], "n_max must be"),
    "n-max too large": (["plan", *BASE, "--n-max", "9" * 30], ""),
    "seeds endless": (["plan", *BASE, "--seeds", "9" * 30], "seeds"),
    "seeds too many to count": (["plan", *BASE, "--seeds", str(10**15)], "seeds"),
    "seeds negative": (["plan", *BASE, "--seeds", "[1,-1]"], "seeds must be"),
    "seeds empty": (["plan", *BASE, "--seeds", "[]"], "seeds must be"),
    "seeds unbalanced": (["plan", *BASE, "--seeds", "[1"], "[1"),
    "ratio below one": (["plan", *BASE[:-1], "0.5"], "ratio must be"),
    "ratio infinite": (["plan", *BASE[:-1], "1e999"], "numbers must be finite"),
    "ratio as large as can be": (["plan", *BASE[:-1], "1e308"], "largest possible ratio"),
    "ratio empty": (["plan", *BASE[:-1], ""], "ratio must be"),
    "rows unknown": (["plan", *BASE, "--rows", "all"], "rows must be drawn | fixed | published"),
    "class order unknown": (["plan", *BASE, "--class-order", "up"], "class_order must be"),
    "profile unknown": (["plan", *BASE, "--profile", "linear"], "profile must be"),
    "prior source unknown": (["plan", *BASE, "--prior-source", "none"], "prior_source must be"),
    "reference ratio": (["plan", *BASE, "--groups", "reference:x"], "reference:<ratio> needs a number"),
    "reference ratio infinite": (["plan", *BASE, "--groups", "reference:inf"], ""),
    "group sizes too large": (["plan", *BASE, "--groups", f"{'9' * 5000}/0/0"], ""),
    "a name of nothing": (["plan", "-d", "", "-b", "pixels"], "dataset"),
    "timeout no number": (["run", *BASE, "--timeout", "soon", "--out", "x"], "'soon' is not a valid float"),
    "timeout negative": (["run", *BASE, "--timeout", "-1", "--workers", "1", "--out", "x"], "timeout"),
    "timeout zero": (["run", *BASE, "--timeout", "0", "--workers", "1", "--out", "x"], "timeout"),
    "timeout nan": (["run", *BASE, "--timeout", "nan", "--workers", "1", "--out", "x"], "timeout"),
    "timeout without workers": (["run", *BASE, "--timeout", "9", "--workers", "0", "--out", "x"], "--timeout needs worker"),
    "workers negative": (["run", *BASE, "--workers", "-1", "--out", "x"], "workers must be auto or a number"),
    "workers a digit that is no number": (["run", *BASE, "--workers", "²", "--out", "x"], "workers must be auto or a number"),
    "device empty": (["run", *BASE, "--device", "", "--out", "x"], "device must be"),
    "device meta": (["run", *BASE, "--device", "meta", "--out", "x"], "device must be"),
    "a file name too long": (["run", "x" * 5000, "--out", "x"], "cannot read"),
    "list of nothing known": (["list", ""], "kind must be one of"),
    "show nothing": (["show", ""], "is no component name"),
    "show unbalanced": (["show", "smote[k=3"], "smote[k=3"),
    "show of a wrong distribution": (["show", "smote@lab"], "not by 'lab'"),
    "check nothing": (["check", ""], "is no component name"),
    "check a kind alone": (["check", "generator:"], "is no component name"),
    "check unknown": (["check", "smot"], "did you mean 'smote'?"),
    "check a wrong parameter": (["check", "smote[k=0]"], "k must be int ≥ 1, not 0"),
    "check of a wrong kind": (["check", "classifier:smote"], "smote"),
    "new of an unknown kind": (["new", "head", "my-head"], "kind must be one of"),
    "new without a name": (["new", "classifier", ""], "name must be"),
    "new with a keyword": (["new", "classifier", "class"], "which Python has already"),
    "new outside": (["new", "classifier", "../x"], "name must be"),
    "new over an installed package": (["new", "classifier", "torch"], "which Python has already"),
    "new in letters of another script": (["new", "classifier", "köpfe"], "name must be"),
    "status of nothing": (["status", "nowhere"], "nowhere is no run"),
    "status of a name too long": (["status", "x" * 5000], ""),
    "top of nothing": (["top", "nowhere"], "nowhere is no run"),
    "top by nothing known": (["top", "nowhere", "--by", "luck"], "--by must be one of"),
    "top none": (["top", "nowhere", "-n", "0"], "is not in the range"),
    "why without a run": (["why", "3f2a"], "Missing option '-r'"),
    "why of nothing": (["why", "3f2a", "--run", "nowhere"], "nowhere"),
    "merge of nothing": (["merge", "nowhere", "--out", "x"], "nowhere is no run"),
    "merge without runs": (["merge", "--out", "x"], "Missing argument 'RUN...'"),
    "cache verify of an empty key": (["cache", "verify", ""], "KEY must be the beginning of a key, not ''"),
    "cache rm of an empty key": (["cache", "rm", "3f2a", ""], "KEY must be the beginning of a key, not ''"),
    "cache gc of no number": (["cache", "gc", "--unused", "nan"], "--unused must be a number of days, not nan"),
    "data in a file": (["data", "list", "--data", __file__], "is a file"),
    "show of a ratio that is none": (["data", "show", "digits", "--ratio", "nan"], "ratio must be"),
    "calibrate too few times": (["calibrate", "nowhere", "--repeats", "2"], "repeats must be at least 3"),
    "synth of another file": (["synth", "nowhere", "--cell", "3f2a", "--out", "x.csv"], "--out must be a *.parquet file"),
    "leaderboard without runs": (["leaderboard"], "Missing argument 'RUN...'"),
    "leaderboard of a name too long": (["leaderboard", "x" * 5000], ""),
}


@pytest.mark.parametrize(("arguments", "message"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_bad_arguments_are_refused(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    """Every command refuses what it cannot use with 2, says why, and leaves nothing behind."""
    monkeypatch.chdir(tmp_path)
    assert message in refused(*arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"],
        ["plugins"],
        ["show", "smote"],
        ["check", "smote"],
        ["new", "classifier", "mine"],
        ["plan", *BASE],
        ["run", *BASE, "--out", "x"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_choice_of_unknown_plugins_is_refused(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """``LTBENCH_PLUGINS`` that names no plugin is an error of every command that looks for plugins."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(PLUGINS_VARIABLE, "heads")
    assert "LTBENCH_PLUGINS names no installed plugin 'heads'" in refused(*arguments)


TOML = {
    "malformed": b"dataset = [",
    "binary": bytes(range(256)),
    "utf-16": 'dataset = "digits"'.encode("utf-16"),
    "empty": b"",
    "a number too long": b"seeds = " + b"9" * 5000,
    "deeply nested": b"dataset = " + b"[" * 100_000,
    "deep tables": b"[" + b"a." * 50_000 + b"a]",
    "unknown setting": b'dataset = "digits"\nbackbone = "pixels"\nsead = 1',
    "a table as a name": b'dataset = {name = "digits"}\nbackbone = "pixels"',
    "a date": b'dataset = "digits"\nbackbone = 2020-01-01',
    "names of numbers": b'dataset = [1, 2]\nbackbone = "pixels"',
    "a null character": b'dataset = "digits\\u0000"\nbackbone = "pixels"',
    "selection a list": b'dataset = "digits"\nbackbone = "pixels"\nselection = [1]',
    "candidates of text": b'dataset = "digits"\nbackbone = "pixels"\n[selection]\ncandidates = {l2 = ["a", "b"]}',
    "candidates of nan": b'dataset = "digits"\nbackbone = "pixels"\n[selection]\ncandidates = {l2 = [nan, 1]}',
    "seeds endless": b'dataset = "digits"\nbackbone = "pixels"\nseeds = 9223372036854775807',
    "ratio nan": b'dataset = "digits"\nbackbone = "pixels"\nratio = nan',
}


@pytest.mark.parametrize("content", TOML.values(), ids=TOML)
def test_a_bad_experiment_file_is_refused(refused: Refused, tmp_path: Path, content: bytes) -> None:
    """``plan`` and ``run`` refuse an experiment file that is none."""
    file, out = tmp_path / "e.toml", tmp_path / "out"
    file.write_bytes(content)
    refused("plan", file)
    refused("run", file, "--out", out)
    assert not out.exists()


READERS: Mapping[str, list[str]] = {
    "status": ["status", "RUN"],
    "leaderboard": ["leaderboard", "RUN"],
    "top": ["top", "RUN"],
    "why": ["why", "", "--run", "RUN"],
    "merge": ["merge", "RUN", "--out", "OUT"],
    "run": ["run", "-d", "digits", "-b", "pixels", "-c", "ncm", "--ratio", "10", "--no-reference", "--quiet", "--out", "RUN"],
}


def reading(command: str, folder: Path) -> list[str]:
    """Return the arguments of a command that reads a run."""
    places = {"RUN": str(folder), "OUT": str(folder.parent / "union")}
    return [places.get(word, word) for word in READERS[command]]


@pytest.mark.parametrize("command", READERS)
@pytest.mark.parametrize("damage", [name for name in TOML if name not in ("deep tables", "a null character")])
def test_a_damaged_experiment_is_refused(refused: Refused, run_folder: Path, command: str, damage: str) -> None:
    """A run whose experiment.toml is damaged is refused by every command that reads it."""
    (run_folder / "experiment.toml").write_bytes(TOML[damage])
    refused(*reading(command, run_folder))


@pytest.mark.parametrize("command", [name for name in READERS if name != "run"])
def test_a_folder_that_is_no_run_is_refused(refused: Refused, tmp_path: Path, command: str) -> None:
    """An empty folder, a file, and a folder whose experiment.toml is a folder are no runs."""
    empty, file, odd = tmp_path / "empty", tmp_path / "file", tmp_path / "odd"
    empty.mkdir()
    file.write_text("text")
    (odd / "experiment.toml").mkdir(parents=True)
    for folder in (empty, file, odd):
        assert str(folder) in refused(*reading(command, folder))


@pytest.mark.parametrize("command", ["leaderboard", "top", "why"])
def test_a_run_without_records_is_refused(refused: Refused, run_folder: Path, command: str) -> None:
    """A run that has computed nothing yet has nothing to show."""
    shutil.rmtree(run_folder / "records")
    assert str(run_folder) in refused(*reading(command, run_folder))


RECORD: Mapping[str, Any] = {"schema": SCHEMA, "key": "0" * 32, "status": "failed", "cell": {}, "failure": {"error": "x"}}


def line(**changes: Any) -> bytes:
    """Return a record's line with some fields changed."""
    return json.dumps({**RECORD, **changes}).encode() + b"\n"


RECORDS = {
    "torn": line()[:30],
    "a good line, then a torn one": line() + line()[:-20],
    "binary": bytes(range(256)),
    "utf-16": line().decode().encode("utf-16"),
    "foreign": b'{"name": "x", "value": 3}\n',
    "a list": b"[]\n",
    "a number": b"3\n",
    "later schema": line(schema=99, novelty=1),
    "schema true": line(schema=True),
    "schema below one": line(schema=0),
    "earlier schema": line(schema=SCHEMA - 1),
    "a part of another name": json.dumps({"part": "0" * 16, "schema": SCHEMA, "values": {"cell.seed": 1}}).encode(),
    "a part of a record that is not there": line(parts=["0" * 16]),
    "unknown field": line(novelty=1),
    "a field missing": b'{"schema": 2, "key": "x", "status": "done"}\n',
    "a key of a list": line(key=[1]),
    "a key of a number": line(key=3),
    "unknown status": line(status="perfect"),
    "status of a list": line(status=[]),
    "a cell of a number": line(cell=3),
    "a cell of a list": line(cell=["a"]),
    "a cell of nothing": line(cell=None),
    "a result of a list": line(status="done", result=[1]),
    "done without a result": line(status="done", failure=None),
    "a failure of text": line(failure="x"),
    "measured nothing": line(measured=None),
    "provenance of a list": line(provenance=[]),
    "scores of a number": line(scores=3),
    "nan": line(measured={"seconds": float("nan")}),
    "a number too long": line(key="KEY").replace(b'"KEY"', b"9" * 5000),
    "deeply nested": b"[" * 100_000,
    "half a surrogate": line(failure={"error": "SAY"}).replace(b"SAY", b"\\ud800"),
}
HARMLESS = {"nan", "half a surrogate"}


@pytest.mark.parametrize("command", READERS)
@pytest.mark.parametrize("damage", [name for name in RECORDS if name not in HARMLESS])
def test_damaged_records_are_refused(refused: Refused, run_folder: Path, command: str, damage: str) -> None:
    """A file of records that is torn, foreign, of a later schema or no record at all is named, by every command."""
    bad = run_folder / "records" / "bad.jsonl"
    bad.write_bytes(RECORDS[damage])
    assert str(bad) in refused(*reading(command, run_folder))


def attempt(*arguments: object) -> str | None:
    """Run a command in this process; return its error, None if there is none; let everything else through."""
    quiet = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        warnings.simplefilter("ignore")
        try:
            cli.main([str(argument) for argument in arguments], prog_name="ltbench", standalone_mode=False)
        except (LtbenchError, click.ClickException) as error:
            return str(error)
    return None


@pytest.mark.parametrize("command", READERS)
@pytest.mark.parametrize("damage", sorted(HARMLESS))
def test_odd_records_raise_nothing_else(run_folder: Path, command: str, damage: str) -> None:
    """A record that is odd may be refused or shown, and breaks no command."""
    (run_folder / "records" / "bad.jsonl").write_bytes(RECORDS[damage])
    attempt(*reading(command, run_folder))


def test_a_folder_in_place_of_records_is_an_error(refused: Refused, run_folder: Path) -> None:
    """What cannot be read ends a command with 3."""
    (run_folder / "records" / "bad.jsonl").mkdir()
    assert "Is a directory" in refused("status", run_folder, code=3)


def test_records_without_their_scores_still_make_a_board(run_folder: Path) -> None:
    """Scores lie beside; a board and a status do without."""
    shutil.rmtree(run_folder / "scores")
    assert attempt("leaderboard", run_folder) is None
    assert attempt("status", run_folder) is None


NOTES = {"binary": bytes(range(256)), "utf-16": "notes".encode("utf-16")}


@pytest.mark.parametrize("content", NOTES.values(), ids=NOTES)
def test_notes_that_are_no_text_are_refused(refused: Refused, run_folder: Path, content: bytes) -> None:
    """The notes of a leaderboard are named if they cannot be read."""
    (run_folder / "NOTES.md").write_bytes(content)
    assert "NOTES.md" in refused("leaderboard", run_folder)


def test_a_folder_of_notes_is_refused(run_folder: Path) -> None:
    """Notes that are a folder are an error that names them."""
    (run_folder / "NOTES.md").mkdir()
    assert "NOTES.md" in (attempt("leaderboard", run_folder) or "")


@pytest.mark.parametrize("rule", ["strikt", "3/3/3", "reference:x", ""])
def test_a_leaderboard_of_another_rule_is_checked(refused: Refused, run_folder: Path, rule: str) -> None:
    """The group rule of a leaderboard is checked as that of an experiment."""
    assert "groups" in refused("leaderboard", run_folder, "--groups", rule)


def test_runs_of_two_protocols_have_no_board_and_no_union(refused: Refused, run_folder: Path, tmp_path: Path) -> None:
    """Numbers of two protocols are refused together, and nothing is written."""
    other, out = tmp_path / "other", tmp_path / "out"
    shutil.copytree(run_folder, other)
    text = (other / "experiment.toml").read_text()
    (other / "experiment.toml").write_text(text.replace('groups = "strict"', 'groups = "thirds"'))
    for arguments in (["leaderboard", run_folder, other], ["merge", run_folder, other, "--out", out]):
        assert "another protocol (groups differ)" in refused(*arguments)
    assert not out.exists()


WRITERS: Mapping[str, list[str]] = {
    "run": ["run", *BASE, "--no-reference", "--workers", "0", "--out", "PLACE"],
    "leaderboard": ["leaderboard", "RUN", "--out", "PLACE"],
    "merge": ["merge", "RUN", "--out", "PLACE"],
    "new": ["new", "classifier", "mine", "--out", "PLACE"],
}


@pytest.mark.parametrize("command", WRITERS)
def test_a_place_that_cannot_be_written_ends_with_3(
    refused: Refused, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """A file where a folder must be is named."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    place = tmp_path / "file" / "below"
    words = {"RUN": str(run_folder), "PLACE": str(place)}
    assert f"cannot write {place}" in refused(*(words.get(word, word) for word in WRITERS[command]), code=3)


USERS: Mapping[str, list[list[str]]] = {
    DATA_VARIABLE: [
        ["data", "list"],
        ["data", "fetch", "cifar100"],
        ["data", "verify", "digits"],
        ["data", "show", "digits"],
        ["plan", *BASE],
        ["run", *BASE, "--out", "OUT"],
        ["status", "RUN"],
        ["why", "KEY", "--run", "RUN"],
        ["synth", "RUN", "--cell", "KEY", "--out", "x.parquet"],
        ["calibrate", "RUN"],
    ],
    CACHE_VARIABLE: [
        ["cache", "ls"],
        ["cache", "verify"],
        ["cache", "rm", "3f2a"],
        ["cache", "gc"],
        ["cache", "export", "3f2a", "--out", "OUT"],
        ["cache", "import", "RUN"],
        ["plan", *BASE],
        ["run", *BASE, "--out", "OUT"],
        ["calibrate", "RUN"],
    ],
}


@pytest.mark.parametrize(
    ("variable", "arguments"),
    [(variable, arguments) for variable, each in USERS.items() for arguments in each],
    ids=lambda value: value if isinstance(value, str) else " ".join(value[:2]),
)
def test_a_file_in_the_place_of_a_folder_is_refused(
    refused: Refused, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, arguments: list[str]
) -> None:
    """Every command that uses the cache or the data folder names the file, and the variable that says where it is."""
    (tmp_path / "file").touch()
    key = next(iter(RunFolder(run_folder).load().records))
    words = {"RUN": str(run_folder), "OUT": str(tmp_path / "out"), "KEY": key}
    command = [words.get(word, word) for word in arguments]
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv(variable, str(place))
        error = refused(*command)
        assert f"{tmp_path / 'file'} is a file, and {place} must be a folder: let {variable} name another" in error
    assert not (tmp_path / "out").exists()


def test_the_home_of_nobody_is_refused(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder below the home of a user that is not known."""
    monkeypatch.setenv(DATA_VARIABLE, "~no-such-user/data")
    assert "begins with the home of an unknown user" in refused("data", "list")


def test_nothing_is_fetched_into_a_folder_that_cannot_be_written(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused before anything is drawn or downloaded, and what to do is said."""

    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    error = refused("data", "fetch", "glyphs", "--data", tmp_path)
    assert f"cannot write in {tmp_path} (Permission denied): name another folder with --data or LTBENCH_DATA" in error


def shell(command: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of shell in which ``LTBENCH`` is the command."""
    return subprocess.run(["sh", "-c", command.replace("LTBENCH", f"{sys.executable} -m ltbench")], capture_output=True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_output_that_cannot_be_written_ends_with_3() -> None:
    """A full disk behind standard output is one line."""
    done = shell("LTBENCH list > /dev/full")
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith(b"error: ")
    assert done.stderr.count(b"\n") == 1


def test_a_reader_that_leaves_early_is_no_error() -> None:
    """A pipe that is closed (``ltbench list | head``) ends the command without a word."""
    assert shell("{ sleep 0.2; LTBENCH list; } | true").stderr == b""


def test_arguments_that_are_no_text_are_refused() -> None:
    """Bytes that are no UTF-8 are shown escaped."""
    done = shell("LTBENCH show \"$(printf 'sm\\377te')\"")
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: ")
    assert done.stderr.count(b"\n") == 1


# Numbers between are left out: a million seeds are a valid experiment, which takes its time.
NUMBERS = st.integers(-5, 300) | st.integers(10**16, 2**63 - 1) | st.integers(-(2**63), -(10**16)) | st.floats()
DATES = st.dates() | st.times() | st.datetimes() | st.just(dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
WORDS = st.sampled_from(["digits", "smote[k=3]", "none", "exp", "strict", "real", "a,b", "[", "a[b=1|2]", "l2", "balanced"])
SCALARS = NUMBERS | st.booleans() | WORDS | st.text(max_size=8) | DATES
NAMES = st.sampled_from([*Experiment.__dataclass_fields__, "candidates", "budget", "folds", "criterion", "l2"]) | st.text(
    max_size=4
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
)
TABLES = st.dictionaries(NAMES, VALUES, max_size=6)


@settings(derandomize=True, max_examples=400, deadline=None)
@given(TABLES)
def test_any_table_is_an_experiment_or_refused(table: dict[str, Any]) -> None:
    """Whatever a TOML file may hold, an experiment says what is wrong with it."""
    with contextlib.suppress(UsageError):
        experiment({"dataset": "digits", "backbone": "pixels", **table})


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.dictionaries(NAMES, VALUES, max_size=3))
def test_any_selection_is_one_or_refused(table: dict[str, Any]) -> None:
    """The table of the selection is checked as deeply."""
    with contextlib.suppress(UsageError):
        experiment({"dataset": "digits", "backbone": "pixels", "selection": table})


@settings(derandomize=True, max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60) | st.text("ab=[]{}\"'.,\n#0123456789-_:TZ\\ué", max_size=60).map(str.encode))
def test_any_bytes_are_toml_or_refused(tmp_path: Path, content: bytes) -> None:
    """Whatever bytes a file holds, reading it as TOML says what is wrong."""
    file = tmp_path / "any.toml"
    file.write_bytes(content)
    with contextlib.suppress(UsageError):
        load_toml(file)


WORD_PIECES = [
    "smote",
    "none",
    "ncm",
    "softmax",
    "digits",
    "pixels",
    "pca",
    "k",
    "l2",
    "dim",
    "target",
    "mean",
    "select",
    "true",
]
NUMBER_PIECES = ["3", "0", "-1", "1e400", "1e-300", "nan", "inf", "9" * 40, "٣", "²", "é", "\0", "\udcff"]
PIECES = st.sampled_from([*"[],=|:@'\"\\()/- ", *WORD_PIECES, *NUMBER_PIECES])
SPECS = st.lists(PIECES, max_size=7).map("".join) | st.text(max_size=6)
PLAIN_COUNTS = ["", "0", "1", "3", "-1", "1.5", "1e308", "1e-9", "nan", "inf", "²", "٣", "true", "'3'", "9" * 30, str(2**63)]
LIST_COUNTS = ["[", "[]", "[1,2]", "[1,1]", "[-1]", "[1e3]", "[[1]]", ",", "10,20", "10,", "1|2", f"[{'9' * 30}]"]
COUNTS = st.sampled_from([*PLAIN_COUNTS, *LIST_COUNTS])
RULES = st.sampled_from(
    ["strict", "thirds", "reference:10", "reference:nan", "reference:1e308", "3/4/3", "0/0/10", "٣/4/3", "//"]
)
OPTIONS: Mapping[str, st.SearchStrategy[str]] = {
    **dict.fromkeys(["-d", "-b", "-g", "-c", "-t", "--profile", "--prior-source", "--suite", "--class-order", "--rows"], SPECS),
    **dict.fromkeys(["--ratio", "--seeds", "--n-max"], COUNTS),
    "--groups": RULES | SPECS,
}
GIVEN = st.sampled_from(sorted(OPTIONS)).flatmap(lambda name: OPTIONS[name].map(lambda value: [name, value]))
COMMAND_LINES = st.lists(GIVEN, min_size=1, max_size=3).map(lambda given: [word for pair in given for word in pair])


@settings(derandomize=True, max_examples=250, deadline=None)
@given(COMMAND_LINES)
def test_any_options_are_planned_or_refused(arguments: list[str]) -> None:
    """Whatever stands in the options of ``plan``, a mistake is said in an error of ltbench or click."""
    attempt("plan", "-d", "digits", "-b", "pixels", "--no-reference", *arguments)


@settings(derandomize=True, max_examples=80, deadline=None)
@given(st.lists(st.sampled_from(["plan", "show", "list", "--", "-", "-h"]) | SPECS, max_size=4))
def test_any_words_are_understood_or_refused(words: list[str]) -> None:
    """Whatever words follow the command, a mistake is said in an error of ltbench or click."""
    with contextlib.suppress(click.exceptions.Exit):
        attempt("list", *words)
    with contextlib.suppress(click.exceptions.Exit):
        attempt("show", *words)


JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=4) | st.sampled_from(["done", "skipped", "failed", "ncm"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every value inside a nested value, three levels deep."""
    inside = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    return [at, *(place for key, item in inside if len(at) < 3 for place in places(item, (*at, key)))]


def changed(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    """Return a nested value with one place changed; ``...`` takes it away."""
    if not at:
        return new
    other = copy.copy(value)
    if len(at) == 1 and new is ...:
        del other[at[0]]
    else:
        other[at[0]] = changed(value[at[0]], at[1:], new)
    return other


@pytest.mark.slow
@settings(
    derandomize=True,
    max_examples=150,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_change_of_a_record_is_shown_or_refused(finished: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Wherever a record is changed, status, leaderboard and top show what they can or refuse it."""
    lines = [record.to_json() for record in RunFolder(finished).everything()]  # without parts, whose names tell of a change
    record = json.loads(lines[0])
    place = data.draw(st.sampled_from(places(record)[1:]), "place")
    new = changed(record, place, data.draw(st.just(...) | JSON, "value"))
    folder = tmp_path / "run"
    (folder / "records").mkdir(parents=True, exist_ok=True)
    shutil.copy(finished / "experiment.toml", folder)
    (folder / "records" / "a.jsonl").write_text("\n".join([json.dumps(new), *lines[1:]]))
    for command in ("status", "leaderboard", "top"):
        attempt(command, folder)


@settings(derandomize=True, max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=80) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_records_or_refused(finished: Path, tmp_path: Path, content: bytes) -> None:
    """Whatever lies in a file of records, status and leaderboard show the rest or refuse it."""
    folder = tmp_path / "run"
    if not folder.exists():
        shutil.copytree(finished, folder)
    (folder / "records" / "bad.jsonl").write_bytes(content)
    for command in ("status", "leaderboard"):
        attempt(command, folder)
