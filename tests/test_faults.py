"""Plugins that are broken in every way at once, disks that fill up, and the exit codes, through the real command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from ltbench.records import Record, RunFolder

METADATA = """\
Metadata-Version: 2.1
Name: {name}
Version: {version}
"""

HOOK = """
    import ltbench

    @ltbench.hookimpl
    def ltbench_classifiers():
        return {returned}
"""

HEAD = """
    import ctypes
    import time
    from dataclasses import dataclass

    import ltbench
    import torch

    @dataclass(frozen=True, kw_only=True)
    class Head:
        {parameter}

        def fit(self, train):
            {fit}
            return self.scores

        def scores(self, x):
            return ltbench.Scores({scores}, "logits")

    @ltbench.hookimpl
    def ltbench_classifiers():
        return [ltbench.Component("{name}", "{module}:Head", "a head")]
"""

ZEROS = "torch.zeros(len(x), 10)"
BUILT_IN = ("lda", "softmax", "ncm@ltbench-classifiers")


def head(name: str, fit: str = "pass", scores: str = ZEROS, parameter: str = "size: int = 1") -> str:
    """Return the module of a distribution ``lab-<name>`` with one head."""
    return HEAD.format(name=name, module=f"lab_{name}", fit=fit, scores=scores, parameter=parameter)


def one(name: str, target: str) -> str:
    """Return a module whose hook gives one component."""
    return HOOK.format(returned=f"[ltbench.Component('{name}', '{target}', 'a head')]")


# Broken while plugins are discovered: code, and the cause in a row of ``ltbench plugins``.
DISCOVERY = {
    "runtime": (
        "raise RuntimeError('operator nms does not exist')",
        "cannot be imported: RuntimeError: operator nms does not exist",
    ),
    "exit": ("import sys\nsys.exit(3)", "cannot be imported: SystemExit: 3"),
    "raises": (HOOK.format(returned="1 / 0"), "hook ltbench_classifiers failed: ZeroDivisionError: division by zero"),
    "misspelt": (
        HOOK.format(returned="[]").replace("classifiers", "clasifiers"),
        "implements unknown hook 'ltbench_clasifiers'",
    ),
    "record": (HOOK.format(returned="[{'name': 'a'}]"), "returned {'name': 'a'}, which is no ltbench.Component"),
}

# Unusable once named: code, how a user names it, and the cause while planning.
PLANNING = {
    "clash": (one("ncm", "lab_clash:Head"), "ncm", "is given by 2 plugins"),
    "target": (one("target", "lab_gone:Head"), "target", "cannot import lab_gone:Head: ModuleNotFoundError"),
    "type": (head("type", parameter='size: int = "three"'), "type", "size must be int, not 'three'"),
    "annotation": (
        head("annotation", parameter="size: torch.Tensor = None"),
        "annotation",
        "size has a type that cannot be checked: Tensor",
    ),
}

# Broken in a cell: code, and the status and cause of its record.
CELL = {
    "nan": (
        head("nan", scores=f"{ZEROS} / 0"),
        "failed",
        "ValueError: scores hold NaN or infinity in 500 of 500 rows",
    ),
    "shape": (head("shape", scores="torch.zeros(len(x), 3)"), "failed", "ValueError: scores must be [500, 10], not [500, 3]"),
    "fit": (head("fit", fit="raise RuntimeError('no step taken')"), "failed", "RuntimeError: no step taken"),
    "segfault": (head("segfault", fit="ctypes.string_at(0)"), "killed", "the worker process was killed by signal 11"),
    "endless": (
        head("endless", fit="while True: time.sleep(0.1)"),
        "timed out",
        "the cell took longer than the time limit",
    ),
}

CODES = {
    **{name: code for name, (code, _) in DISCOVERY.items()},
    **{name: code for name, (code, _, _) in PLANNING.items()},
    **{name: code for name, (code, _, _) in CELL.items()},
    "healthy": head("healthy"),
}
VERSIONS = {name: f"1.{number}" for number, name in enumerate(CODES, 1)}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install all the plugins, broken and healthy, into one folder."""
    folder = tmp_path_factory.mktemp("site-packages")
    for name, code in CODES.items():
        install(folder, name, code, VERSIONS[name])
    return folder


def install(folder: Path, name: str, code: str, version: str) -> None:
    """Write the distribution ``lab-<name>`` into a folder, as pip would."""
    folder.mkdir(exist_ok=True)
    (folder / f"lab_{name}.py").write_text(textwrap.dedent(code), encoding="utf-8")
    info = folder / f"lab_{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(METADATA.format(name=f"lab-{name}", version=version), encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[ltbench]\n{name} = lab_{name}\n", encoding="utf-8")


def ltbench(*arguments: object, path: Path | None = None, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, with a folder of plugins."""
    return subprocess.run(
        [sys.executable, "-m", "ltbench", *map(str, arguments)],
        env={**os.environ, **({} if path is None else {"PYTHONPATH": str(path)})},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def digits(classifiers: str, seeds: int = 1) -> list[str]:
    """Return the options of a small experiment on the digits."""
    options = ["-d", "digits", "-b", "pixels", "-c", classifiers, "--ratio", "10", "--seeds", str(seeds)]
    return [*options, "--no-reference"]


def records(out: Path) -> dict[tuple[str, int], Record]:
    """Return a run's records by head and seed."""
    return {(r.cell["classifier"], r.cell["seed"]): r for r in RunFolder(out).load().records.values()}


@pytest.mark.slow
def test_no_broken_plugin_loses_a_cell(lab: Path, tmp_path: Path) -> None:
    """With every plugin broken in its own way, healthy cells are done and broken ones name plugin, version and cause."""
    # The broken heads stand between the healthy ones, so that a lost worker has neighbours on both sides.
    named = ",".join(["lda", *CELL, "softmax", "ncm@ltbench-classifiers", "healthy"])
    done = ltbench("run", *digits(named, 2), "--workers", 2, "--timeout", 15, "--out", tmp_path, path=lab)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    found = records(tmp_path)
    assert len(found) == 2 * (len(BUILT_IN) + 1 + len(CELL))
    for seed in (0, 1):
        assert {name: found[name, seed].status for name in (*BUILT_IN, "healthy")} == dict.fromkeys(
            (*BUILT_IN, "healthy"), "done"
        )
        for name, (_, status, cause) in CELL.items():
            record = found[name, seed]
            assert (name, record.status) == (name, status)
            assert cause in record.cause
            assert f"classifier {name} (lab-{name} {VERSIONS[name]})" in record.cause
            assert record.provenance["plugins"][f"lab-{name}"] == VERSIONS[name]
            assert record.cause in done.stderr


BACKBONE = """
    import ctypes, time
    from dataclasses import dataclass
    import ltbench

    class Encoder:
        fingerprint = "{name}"
        flops_per_image = 0
        def preprocess(self, image): return image.flatten().float()
        def __call__(self, batch):
            {encode}
            return batch

    @dataclass(frozen=True, kw_only=True)
    class Backbone:
        def load(self, device):
            {load}
            return Encoder()

    @ltbench.hookimpl
    def ltbench_backbones(): return [ltbench.Component("{name}", "lab_{name}:Backbone", "breaks")]
"""

BACKBONES = {
    "crashload": ("ctypes.string_at(0)", "pass", "killed", "killed by signal 11"),
    "endlessload": ("while True: time.sleep(0.1)", "pass", "timed out", "longer than the time limit of 15 s"),
    "crashencode": ("pass", "ctypes.string_at(0)", "killed", "killed by signal 11"),
    "raiseload": ("raise SystemExit('no weights')", "pass", "failed", "SystemExit: no weights"),
}


@pytest.mark.slow
def test_a_backbone_that_crashes_or_hangs_costs_its_own_cells_only(tmp_path: Path) -> None:
    """Backbones are loaded and features extracted in workers, so a segfault or an endless load is a record, too."""
    for name, (load, encode, *_) in BACKBONES.items():
        install(tmp_path / "lab", name, BACKBONE.format(name=name, load=load, encode=encode), "1.0")
    names = ",".join([*BACKBONES, "pixels"])
    options = ["-d", "digits", "-b", names, "-c", "ncm", "--ratio", "10", "--no-reference", "--workers", 2, "--timeout", 15]
    done = ltbench("run", *options, "--out", tmp_path / "run", path=tmp_path / "lab")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    found = {r.cell["backbone"]: r for r in RunFolder(tmp_path / "run").load().records.values()}
    assert found["pixels"].status == "done"
    for name, (_, _, status, cause) in BACKBONES.items():
        assert (name, found[name].status) == (name, status)
        assert found[name].cause.startswith(f"backbone {name} (lab-{name} 1.0): ")
        assert cause in found[name].cause


def test_broken_plugins_are_rows_with_plugin_version_and_cause(lab: Path) -> None:
    """``ltbench plugins`` names each broken plugin, and no other, with its distribution, version and cause."""
    done = ltbench("plugins", path=lab)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    lines = done.stdout.splitlines()
    states = {words[1]: words[-1] for words in map(str.split, lines) if len(words) == 5}
    assert {name for name, state in states.items() if state == "broken"} == {f"lab-{name}" for name in DISCOVERY}
    assert states["ltbench-classifiers"] == states["lab-healthy"] == "ok"
    for name, (_, cause) in DISCOVERY.items():
        (line,) = [line for line in lines if line.startswith(f"plugin {name!r} of lab-{name} {VERSIONS[name]}: ")]
        assert cause in line


def test_a_clash_of_names_is_a_row_with_plugin_and_version(lab: Path) -> None:
    """Two plugins that give one name are both named with their versions, since either may be the one to remove."""
    done = ltbench("plugins", path=lab)
    (line,) = [line for line in done.stdout.splitlines() if "'ncm'" in line]
    assert "ncm@ltbench-classifiers" in line
    assert "ncm@lab-clash" in line
    assert f"lab-clash {VERSIONS['clash']}" in line


@pytest.mark.parametrize(("name", "named", "cause"), [(n, named, cause) for n, (_, named, cause) in PLANNING.items()])
def test_an_unusable_component_is_refused_while_planning(lab: Path, tmp_path: Path, name: str, named: str, cause: str) -> None:
    """One clear error names plugin, version and cause, before anything is computed or written."""
    out = tmp_path / "out"
    done = ltbench("run", *digits(f"lda,{named}"), "--out", out, path=lab)
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if not line.startswith("failed to load: ")]
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert cause in errors[0]
    assert f"lab-{name} {VERSIONS[name]}" in errors[0]
    assert not out.exists()


def test_all_done_is_exit_code_0(tmp_path: Path) -> None:
    """Healthy cells alone end with 0, and so does running them again."""
    for computed in (1, 0):
        done = ltbench("run", *digits("ncm"), "--workers", 0, "--json", "--out", tmp_path)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1])["computed"] == computed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 64 KiB, enough for one or two cells of ``slow``."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small disk can be mounted by root only")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def slow_head(tmp_path: Path) -> Path:
    """Install a head that takes longer than a run waits before it writes, so that every cell is written by itself."""
    folder = tmp_path / "slow"
    info = folder / "lab_slow-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "lab_slow.py").write_text(textwrap.dedent(head("slow", fit="time.sleep(2.1)")), encoding="utf-8")
    (info / "METADATA").write_text(METADATA.format(name="lab-slow", version="1.0"), encoding="utf-8")
    (info / "entry_points.txt").write_text("[ltbench]\nslow = lab_slow\n", encoding="utf-8")
    return folder


@pytest.mark.slow
def test_a_full_disk_ends_the_run_with_3_and_keeps_what_was_written(small_disk: Path, slow_head: Path) -> None:
    """The error is one line; with more space the run goes on from there and gives every cell once."""
    out = small_disk / "run"
    arguments = ["run", *digits("slow", 5), "--workers", 0, "--quiet", "--out", out]
    full = ltbench(*arguments, path=slow_head)
    assert full.returncode == 3, full.stderr
    (line,) = full.stderr.splitlines()
    assert line.startswith(f"error: cannot write {out}")
    assert line.endswith("No space left on device")
    kept = records(out)
    assert 0 < len(kept) < 5
    for record in kept.values():
        assert RunFolder(out).read_arrays(record).scores.shape == (500, 10)
    assert [path.name for path in out.rglob("*.tmp")] == []
    subprocess.run(["mount", "-o", "remount,size=1m", small_disk], check=True)
    resumed = ltbench(*arguments, path=slow_head)
    assert resumed.returncode == 0, resumed.stderr
    assert f"5 cells: {5 - len(kept)} computed, 0 failed" in resumed.stderr
    assert {place: record for place, record in records(out).items() if place in kept} == kept


def test_an_unwritable_folder_ends_the_run_with_3(tmp_path: Path) -> None:
    """A folder that cannot be made is one line that names it."""
    (tmp_path / "file").write_text("in the way")
    done = ltbench("run", *digits("ncm"), "--workers", 0, "--out", tmp_path / "file" / "run")
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: cannot write {tmp_path / 'file' / 'run'}")
