"""``ltbench new``: an installable plugin with one readable file to fill in. Templates lie beside; nothing is imported."""

from __future__ import annotations

import keyword
import re
import sys
from pathlib import Path
from string import Template

import click

from ltbench.cli.completion import complete_words
from ltbench.errors import LtbenchError, UsageError, did_you_mean
from ltbench.hookspecs import KINDS
from ltbench.plugins import discover

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*([-_.][A-Za-z0-9]+)*")

# The third command of each kind's README; what it does not name is left to the defaults of the quickstart.
_RUN = {
    "dataset": "-d $spec -b pixels -c softmax",
    "backbone": "-d digits -b $spec -c softmax",
    "transform": "-d digits -b pixels -t standardize,$spec -c softmax",
    "generator": "-d digits -b pixels -g none,$spec -c softmax",
    "classifier": "-d digits -b pixels -c softmax,$spec",
}


@click.command("new")
@click.argument("kind", shell_complete=complete_words(*KINDS))
@click.argument("name")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="The folder to write, which must not exist. Default: NAME.")
def new_command(kind: str, name: str, out: Path | None) -> None:
    """Write a plugin with a component NAME of a KIND: dataset, backbone, transform, generator or classifier.

    It is a working example that passes the conformance kit. Fill in your method, install the package, and run
    'ltbench check NAME'; the README it writes says how.

    \b
    Examples:
      ltbench new classifier my-margin
      ltbench new generator my-noise --out plugins/my-noise
    """
    kind = _checked_kind(kind)
    package = _package(name)
    folder = out or Path(name)
    if folder.exists():
        raise UsageError(f"{folder} exists already: name another folder with --out")
    spec = _spec(kind, name)
    for path, text in scaffold(kind, name, package, spec).items():
        _write(folder / path, text)
    click.echo(f"wrote {folder}: fill in {folder / 'src' / package / f'{kind}.py'}; README.md says how to go on")


def scaffold(kind: str, name: str, package: str, spec: str) -> dict[str, str]:
    """Return the files of a plugin by their path; ``spec`` is what users write for its component."""
    module = _template(f"{kind}.py")
    class_name = "".join(word.capitalize() for word in package.split("_"))
    class_name += kind.capitalize() if re.search(rf"\b{class_name}\b", module) else ""
    words = {"kind": kind, "name": name, "package": package, "spec": spec, "class_name": class_name}
    words["run"] = f"ltbench run {Template(_RUN[kind]).substitute(spec=spec)} --ratio 10 --seeds 3 --out runs/{name}"
    return {
        "pyproject.toml": _filled("pyproject.toml.txt", words),
        "README.md": _filled("README.md.txt", words),
        f"src/{package}/__init__.py": _filled("registration.txt", words),
        f"src/{package}/{kind}.py": re.sub(r"\bExample\b", class_name, module),
        f"tests/test_{package}.py": _filled("test.txt", words),
    }


def _spec(kind: str, name: str) -> str:
    """Return what users write for a component; warn where another distribution has the name already."""
    others = sorted({r.distribution for r in discover().components(kind) if r.component.name == name})
    if not others:
        return name
    click.echo(f"warning: {', '.join(others)} gives a {kind} {name!r}, too: users have to write {name}@{name}", err=True)
    return f"{name}@{name}"


def _checked_kind(kind: str) -> str:
    """Return a kind, given in singular or plural, or raise UsageError."""
    if kind.removesuffix("s") not in KINDS:
        raise UsageError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}{did_you_mean(kind, KINDS)}")
    return kind.removesuffix("s")


def _package(name: str) -> str:
    """Return the package that a component's name gives, or raise UsageError for a name that cannot be one."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"name must be letters and digits, joined by - _ or . and beginning with a letter, such as my-margin, not {name!r}"
        )
    package = re.sub(r"[-.]", "_", name).lower()
    if keyword.iskeyword(package) or package in sys.stdlib_module_names or _importable(package):
        raise UsageError(f"name {name!r} would make a package {package!r}, which Python has already: choose another name")
    return package


def _importable(package: str) -> bool:
    """Whether a package of this name is installed; a mere folder is none."""
    from importlib.util import find_spec

    found = find_spec(package)
    return found is not None and found.origin is not None


def _filled(template: str, words: dict[str, str]) -> str:
    """Return a template with its words filled in."""
    return Template(_template(template)).substitute(words)


def _template(name: str) -> str:
    """Return a template."""
    from importlib import resources

    return (resources.files("ltbench.cli.templates") / name).read_text(encoding="utf-8")


def _write(path: Path, text: str) -> None:
    """Write one file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise LtbenchError(f"cannot write {path}: {error.strerror or error}") from error
