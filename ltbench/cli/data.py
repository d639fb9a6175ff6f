"""``ltbench data``: which datasets there are, fetching them, checking them, and what a long tail of them looks like."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ltbench.cli.catalogue import table, warn_of_broken
from ltbench.cli.completion import complete_names
from ltbench.cli.options import data_option
from ltbench.errors import LtbenchError, UsageError
from ltbench.plugins import discover

if TYPE_CHECKING:
    from ltbench.components import Resolved
    from ltbench.config import Experiment
    from ltbench.plugins import Registered
    from ltbench.types import Dataset

LINE_SECONDS = 2.0
BARS, BAR_WIDTH, MANY = 20, 48, 5


@click.group("data")
def data_command() -> None:
    """List, fetch, verify and show datasets.

    \b
    Examples:
      ltbench data list
      ltbench data fetch cifar100
      ltbench data show cifar100 --ratio 100
    """


@data_command.command("list")
@data_option
def list_datasets() -> None:
    """List datasets, and whether they are there.

    \b
    Examples:
      ltbench data list
      ltbench data list --data datasets
    """
    from ltbench.files import data_folder

    registry, folder = discover(), data_folder()
    rows = [[each.component.name, _state(each, folder), each.component.summary] for each in registry.components("dataset")]
    click.echo(table(rows, ["dataset", "state", "summary"]))
    click.echo(f"\ndata folder: {folder}")
    warn_of_broken(registry)


@data_command.command("fetch")
@click.argument("names", nargs=-1, required=True, shell_complete=complete_names("dataset"))
@data_option
def fetch_datasets(names: tuple[str, ...]) -> None:
    """Download or make datasets by NAME; an interrupted download goes on where it stopped.

    \b
    Examples:
      ltbench data fetch cifar100
      ltbench data fetch cifar10 cifar100 --data datasets
    """
    for name in names:
        done = _fetched(name)
        _loaded(name)  # so that what is said to be ready is
        click.echo(f"{name}: {done}")


@data_command.command("verify")
@click.argument("name", shell_complete=complete_names("dataset"))
@data_option
def verify_dataset(name: str) -> int:
    """Decode every image of a dataset, and look for images that are in two parts; exit code 1 if it is not sound.

    \b
    Examples:
      ltbench data verify digits
      ltbench data verify "folder[path=birds]"
    """
    from ltbench.data import verify

    dataset, report = _loaded(name), Lines()
    found = verify(dataset, lambda done, total: report(name, done, total))
    for what, lines in (
        ("cannot be read", found.unreadable),
        ("in two parts", found.overlaps),
        ("equal, but of different classes", found.contradictions),
    ):
        click.echo(f"{len(lines)} {what}" + (":" if lines else ""))
        for line in lines[:MANY]:
            click.echo(f"  {line}")
        if len(lines) > MANY:
            click.echo(f"  … and {len(lines) - MANY} more")
    click.echo(f"{found.repeats} repeat an image of their part and class")
    click.echo(f"{found.images} images, fingerprint {dataset.fingerprint}")
    return 0 if found.sound else 1


@data_command.command("show")
@click.argument("name", shell_complete=complete_names("dataset"))
@click.option(
    "--profile",
    type=click.Choice(["exp", "step", "native"]),
    help="Shape of the tail; native is the dataset's own.  [default: exp where a ratio is given, otherwise native]",
)
@click.option("--ratio", type=click.FloatRange(1), help="Imbalance ratio.")
@click.option("--groups", default="strict", show_default=True, help="Rule of head, medium and tail.")
@click.option("--n-max", type=click.IntRange(1), help="Rows of the largest class.")
@click.option("--classes", is_flag=True, help="List every class.")
@data_option
def show_dataset(name: str, profile: str | None, ratio: float | None, groups: str, n_max: int | None, *, classes: bool) -> None:
    """Show a dataset, and how many rows its classes have: as they are, or under a long tail that is cut out of them.

    \b
    Examples:
      ltbench data show digits
      ltbench data show glyphs --ratio 100
      ltbench data show digits --profile step --ratio 10 --classes
    """
    from ltbench.config import experiment

    profile = profile or ("native" if ratio is None else "exp")
    settings: dict[str, Any] = {"profile": [profile], "ratio": [ratio or 1.0], "groups": groups, "n_max": n_max}
    given = {key: value for key, value in settings.items() if value is not None}
    wanted = experiment({"dataset": [name], "backbone": ["-"], **given})
    dataset = _loaded(name)
    _show_parts(name, dataset)
    _show_tail(dataset, wanted, classes=classes)


def _show_parts(name: str, dataset: Dataset) -> None:
    """Print what a dataset holds."""
    from ltbench.data import parts_of

    sizes = ", ".join(f"{part} {len(held.labels):,}" for part, held in parts_of(dataset).items())
    click.echo(f"{name}: {len(dataset.class_names):,} classes; {sizes} images")
    click.echo(f"fingerprint {dataset.fingerprint}")
    for note in dataset.notes:
        click.echo(f"note: {note}")


def _show_tail(dataset: Dataset, wanted: Experiment, *, classes: bool) -> None:
    """Print the counts of a long tail by group, as a plot, and by class if asked to."""
    import torch

    from ltbench.cells import tails
    from ltbench.longtail import GROUPS, groups_of, profile_counts

    have = torch.bincount(dataset.train.labels, minlength=len(dataset.class_names)).tolist()
    (tail,) = tails(wanted, have)
    shape = "exp" if tail["profile"] == "balanced" else tail["profile"]
    counts = have if shape == "native" else profile_counts(shape, tail["n_max"], tail["imbalance_ratio"], len(have))
    group = groups_of(wanted.groups, counts, tail)
    rows = []
    for each in GROUPS:
        held = [n for n, g in zip(counts, group, strict=True) if g == each]
        rows.append([each, len(held), f"{sum(held):,}", f"{max(held)}..{min(held)}" if held else "–"])
    click.echo(
        f"\n{tail['profile']}, imbalance ratio {tail['imbalance_ratio']:g}: {sum(counts):,} of {sum(have):,} training rows\n"
    )
    click.echo(table([list(map(str, row)) for row in rows], [f"group ({wanted.groups})", "classes", "rows", "per class"]))
    click.echo("\n" + "\n".join(_plot(sorted(zip(counts, group, strict=True), key=lambda pair: -pair[0]))))
    if classes:
        listed = zip(dataset.class_names, have, counts, group, strict=True)
        click.echo("\n" + table([[a, str(b), str(c), d] for a, b, c, d in listed], ["class", "rows there", "rows", "group"]))


def _plot(ranked: list[tuple[int, str]]) -> list[str]:
    """Draw counts by rank as bars, several classes to a bar where there are many."""
    lines, most = [], max(count for count, _ in ranked)
    bars = min(BARS, len(ranked))
    for bar in range(bars):
        first, last = bar * len(ranked) // bars, (bar + 1) * len(ranked) // bars - 1
        mean = sum(count for count, _ in ranked[first : last + 1]) / (last - first + 1)
        name = f"{first + 1}" if first == last else f"{first + 1}–{last + 1}"
        length = max(1, round(BAR_WIDTH * mean / most)) if mean else 0
        lines.append(f"{name:>11} {'█' * length} {mean:g}" if mean == round(mean) else f"{name:>11} {'█' * length} {mean:.1f}")
    return lines


class Lines:
    """Progress in plain lines on standard error, every other second; in place on a terminal."""

    def __init__(self) -> None:
        """Nothing printed yet."""
        self._last = float("-inf")

    def __call__(self, what: str, done: int, total: int | None) -> None:
        """Take how far something is."""
        now = time.monotonic()
        if now - self._last < LINE_SECONDS and done != total:
            return
        self._last = now
        share = f" of {total:,} ({done / total:.0%})" if total else ""
        end = "\r" if sys.stderr.isatty() and done != total else "\n"
        click.echo(f"{what}: {done:,}{share}{end}", err=True, nl=False)


def _fetched(name: str) -> str:
    """Fetch what is missing of a dataset, and say what was to be done."""
    from ltbench.contract import FetchedDataset
    from ltbench.files import DATA_VARIABLE, data_folder, need_writable

    instance, folder = _resolved(name).build(), data_folder()
    if not isinstance(instance, FetchedDataset):
        return "ready, there is nothing to fetch"
    missing = instance.missing(folder)
    if not missing:
        return "ready, nothing was missing"
    need_writable(folder, f"name another folder with --data or {DATA_VARIABLE}")
    click.echo(f"{name}: {missing}", err=True)
    _guarded(name, lambda: instance.fetch(folder, Lines()))
    return f"ready in {folder}"


def _state(registered: Registered, folder: Path) -> str:
    """Say whether a dataset is there, or which parameters say where it is, without loading it."""
    from dataclasses import MISSING

    from ltbench.components import parameters
    from ltbench.contract import FetchedDataset

    try:
        if needed := [f"{p.name}=…" for p in parameters(registered) if p.default is MISSING]:
            return f"say {registered.component.name}[{','.join(needed)}]"
        instance = _resolved(registered.component.name).build()
        if not isinstance(instance, FetchedDataset):
            return "ready"
        return instance.missing(folder) or "ready"
    except UsageError as error:
        return f"broken: {error}"
    except Exception as error:
        return f"broken: {type(error).__name__}: {error}"


def _resolved(name: str) -> Resolved:
    """Resolve a dataset by name."""
    from ltbench.components import resolve

    return resolve(discover(), "dataset", name)


def _loaded(name: str) -> Dataset:
    """Load and check a dataset."""
    from ltbench.data import load_dataset
    from ltbench.files import data_folder

    return load_dataset(_resolved(name), data_folder())


def _guarded(name: str, action: Any) -> None:
    """Do something with a plugin's dataset; what it raises is told, not shown as a traceback."""
    try:
        action()
    except LtbenchError:
        raise
    except Exception as error:
        raise LtbenchError(f"dataset {name!r} cannot be fetched: {type(error).__name__}: {error}") from error
