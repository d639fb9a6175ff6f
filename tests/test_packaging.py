"""Every distribution builds a wheel that works, and the README's plugin is really installed and run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DISTRIBUTIONS = [ROOT, *sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]


def run(arguments: list[str], folder: Path, **environment: str) -> str:
    """Run a command in a folder, away from the checkout, and return what it printed."""
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=folder, env={**os.environ, **environment}, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel of every distribution and install them into one folder."""
    wheels, target = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("site")
    run([*PIP, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(wheels), *map(str, DISTRIBUTIONS)], wheels)
    built = sorted(wheels.glob("*.whl"))
    assert len(built) == len(DISTRIBUTIONS)
    run([*PIP, "install", "--no-deps", "--no-index", "--target", str(target), *map(str, built)], target)
    return target


@pytest.mark.slow
def test_wheels_work_without_the_checkout(installed: Path, tmp_path: Path) -> None:
    """From wheels alone, every plugin loads and the suites are there; -S keeps the checkout's links out."""
    libraries = sysconfig.get_paths()["purelib"]
    code = (
        "import ltbench.plugins as p, ltbench.suites as c, ltbench; r = p.discover();"
        "print(ltbench.__file__); print(len(r.plugins), [q.problems for q in r.broken], c.suite_names())"
    )
    environment = {"PYTHONPATH": os.pathsep.join([str(installed), libraries]), "LTBENCH_CACHE": str(tmp_path)}
    where, what = run([sys.executable, "-S", "-c", code], tmp_path, **environment).splitlines()
    assert where.startswith(str(installed))
    assert what.startswith(f"{len(DISTRIBUTIONS) - 1} [] ")
    assert "quickstart" in what
    out = str(tmp_path / "run")
    cell = [
        "-d",
        "digits",
        "-b",
        "pixels",
        "-g",
        "smote",
        "-c",
        "softmax",
        "--no-reference",
        "--workers",
        "0",
        "-q",
        "--out",
        out,
    ]
    run([sys.executable, "-S", "-m", "ltbench", "run", *cell], tmp_path, **environment)


@pytest.mark.slow
def test_the_plugin_of_the_readme_works(tmp_path: Path) -> None:
    """The README's two files, installed as they stand, give a head that runs beside the built-in ones."""
    blocks = re.findall(r"```(toml|python)\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    project = next(text for language, text in blocks if language == "toml" and "my-margin" in text)
    module = next(text for language, text in blocks if language == "python" and "class Margin" in text)
    assert len([line for line in module.splitlines() if line.strip()]) <= 20
    source, target = tmp_path / "my-margin", tmp_path / "site"
    source.mkdir()
    (source / "pyproject.toml").write_text(project, encoding="utf-8")
    (source / "my_margin.py").write_text(module, encoding="utf-8")
    run([*PIP, "install", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(target), str(source)], tmp_path)
    environment = {"PYTHONPATH": str(target), "LTBENCH_CACHE": str(tmp_path / "cache")}
    out = str(tmp_path / "run")
    options = [
        "-d",
        "digits",
        "-b",
        "pixels",
        "-c",
        "softmax,my-margin",
        "--ratio",
        "20",
        "--workers",
        "0",
        "--out",
        out,
    ]
    run([sys.executable, "-m", "ltbench", "run", *options], tmp_path, **environment)
    page = run([sys.executable, "-m", "ltbench", "leaderboard", out], tmp_path, **environment)
    assert re.search(r"\| none +\| my-margin +\|", page)
    assert "my-margin 0.1" in page


@pytest.mark.slow
def test_the_generator_of_the_docs_works(tmp_path: Path) -> None:
    """The generator of docs/plugins.md fills every class up and is reproducible."""
    text = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[0]
    (tmp_path / "my_noise.py").write_text(code, encoding="utf-8")
    info = tmp_path / "my_noise-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-noise\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ltbench]\nnoise = my_noise\n")
    environment = {"PYTHONPATH": str(tmp_path), "LTBENCH_CACHE": str(tmp_path / "cache")}
    options = ["-d", "digits", "-b", "pixels", "-g", "noise", "-c", "ncm", "--no-reference", "--workers", "0"]
    for name in ("a", "b"):
        run([sys.executable, "-m", "ltbench", "run", *options, "--out", str(tmp_path / name)], tmp_path, **environment)
    pages = [
        run([sys.executable, "-m", "ltbench", "leaderboard", str(tmp_path / name)], tmp_path, **environment)
        for name in ("a", "b")
    ]
    assert pages[0] == pages[1]
    records = next((tmp_path / "a" / "records").glob("*.jsonl")).read_text()
    assert '"real_rows":503' in records
    assert '"synthetic_rows":737' in records


def test_the_readme_names_every_first_party_plugin() -> None:
    """The plain pip commands install all that make installs."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [f"plugins/{path.name}" for path in DISTRIBUTIONS[1:] if f"plugins/{path.name}" not in text] == []
