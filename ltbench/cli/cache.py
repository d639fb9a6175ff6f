"""``ltbench cache``: the features on this machine. Lists, checks, deletes, hands on; imports no torch."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ltbench.cli.catalogue import table
from ltbench.errors import UsageError

if TYPE_CHECKING:
    from ltbench.features.folder import SetFolder

PATH = click.Path(path_type=Path)
DIGITS = 12


@click.group("cache")
def cache_command() -> None:
    """List, check, clean up and share extracted features.

    KEY is the beginning of a key that 'ltbench cache ls' shows. The cache lies where LTBENCH_CACHE says.

    \b
    Examples:
      ltbench cache ls
      ltbench cache export 3f2a 9c01 -o features.tar
      ltbench cache import features.tar
    """


@cache_command.command("ls")
def ls_command() -> None:
    """List sets of features: what they were made from, size, age, and whether they are complete.

    \b
    Example:
      ltbench cache ls
    """
    from ltbench.features.folder import sets
    from ltbench.files import CACHE_VARIABLE, cache_folder

    found = sets(cache_folder())
    if not found:
        click.echo(f"no features in {cache_folder()} ({CACHE_VARIABLE} names another folder)")
        return
    heads = ["key", "dataset", "backbone", "rows", "width", "size", "made", "used", "state"]
    click.echo(table([_row(place) for place in found], heads))


@cache_command.command("verify")
@click.argument("keys", nargs=-1, metavar="[KEY]...")
def verify_command(keys: tuple[str, ...]) -> int:
    """Read every byte of the sets with these KEYs, or of all, and compare with their hashes.

    Exit code 1 if a file is damaged: the next run that needs it extracts again what is wrong, and only that.

    \b
    Examples:
      ltbench cache verify
      ltbench cache verify 3f2a
    """
    damaged = 0
    for place in _chosen(keys):
        problems = list(place.damage())
        damaged += bool(problems)
        for problem in problems:
            click.echo(click.style(f"DAMAGED  {problem}", fg="red"))
        if not problems:
            click.echo(f"ok       {place.key}")
    return 1 if damaged else 0


@cache_command.command("rm")
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
def rm_command(keys: tuple[str, ...]) -> None:
    """Delete the sets with these KEYs; a run that needs them extracts them again.

    \b
    Example:
      ltbench cache rm 3f2a 9c01
    """
    from ltbench.features.upkeep import size_of

    for place in _chosen(keys):
        size = size_of(place.path)
        place.remove()
        click.echo(f"deleted {place.key}, {_bytes(size)}")


@cache_command.command("gc")
@click.option("--unused", type=click.FloatRange(0), metavar="DAYS", help="Also delete complete sets not used for so many days.")
def gc_command(unused: float | None) -> None:
    """Delete what runs left behind more than a day ago: unfinished sets, temporary files, older formats.

    \b
    Examples:
      ltbench cache gc
      ltbench cache gc --unused 30
    """
    from ltbench.features.upkeep import collect
    from ltbench.files import cache_folder

    if unused is not None and not math.isfinite(unused):
        raise UsageError(f"--unused must be a number of days, not {unused}")
    freed = 0
    for removed in collect(cache_folder(), unused):
        freed += removed.size
        click.echo(f"deleted {removed.path.name}, {removed.reason}, {_bytes(removed.size)}")
    click.echo(f"{_bytes(freed)} freed")


@cache_command.command("export")
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@click.option("-o", "--out", required=True, type=PATH, help="A folder, or a file that ends in .tar.")
def export_command(keys: tuple[str, ...], out: Path) -> None:
    """Write the sets with these KEYs to a folder or an archive, for another machine's cache.

    \b
    Examples:
      ltbench cache export 3f2a -o features
      ltbench cache export 3f2a 9c01 -o features.tar
    """
    from ltbench.features.exchange import export_sets

    for manifest in export_sets(_chosen(keys), out):
        names = f"{manifest.origin.dataset} × {manifest.origin.backbone}"
        click.echo(f"exported {manifest.key[:DIGITS]}  {names}, {manifest.rows:,} rows, {_bytes(manifest.size)}")


@cache_command.command("import")
@click.argument("source", type=PATH, metavar="PATH")
def import_command(source: Path) -> None:
    """Take the sets of an exported folder or archive into the cache; every byte is checked before it counts.

    \b
    Example:
      ltbench cache import features.tar
    """
    from ltbench.features.exchange import import_sets
    from ltbench.files import cache_folder

    for manifest, fresh in import_sets(source, cache_folder()):
        names = f"{manifest.origin.dataset} × {manifest.origin.backbone}"
        click.echo(f"{'imported' if fresh else 'is here '} {manifest.key[:DIGITS]}  {names}, {manifest.rows:,} rows")


def _chosen(keys: tuple[str, ...]) -> list[SetFolder]:
    """Return the sets with these keys, each once; all for none."""
    from ltbench.features.folder import one_set, sets
    from ltbench.files import cache_folder

    if "" in keys:  # an empty variable of the shell would delete a cache of one set
        raise UsageError("KEY must be the beginning of a key, not '': see 'ltbench cache ls'")
    cache = cache_folder()
    return list(dict.fromkeys(one_set(cache, key) for key in keys)) if keys else sets(cache)


def _row(place: SetFolder) -> list[str]:
    """Describe a set in one line."""
    from ltbench.features.manifest import DamagedError
    from ltbench.features.upkeep import size_of

    size, used = _bytes(size_of(place.path)), _age(place.last_used())
    try:
        manifest = place.manifest()
    except (DamagedError, OSError):
        return [place.key[:DIGITS], "?", "?", "", "", size, "", used, "damaged: see 'ltbench cache verify'"]
    if manifest is None:
        shards = len(list(place.path.glob("unfinished-*/*.safetensors")))
        return [place.key[:DIGITS], "?", "?", "", "", size, "", used, f"unfinished, {shards} shards done"]
    origin = manifest.origin
    shape = [f"{manifest.rows:,}", str(manifest.width)]
    return [place.key[:DIGITS], origin.dataset, origin.backbone, *shape, size, manifest.created[:10], used, "complete"]


def _bytes(size: int) -> str:
    """Return a size in the unit that suits it."""
    value, units = float(size), iter(("B", "KiB", "MiB", "GiB"))
    unit = next(units)
    while value >= 1024 and unit != "GiB":
        value, unit = value / 1024, next(units)
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def _age(moment: float) -> str:
    """Return how long ago a moment was."""
    seconds = max(0.0, time.time() - moment)
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return "just now"
