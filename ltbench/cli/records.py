"""``ltbench merge``, ``why`` and ``top``: what records say, and putting them together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ltbench.cli.catalogue import table, warn_of_outdated
from ltbench.cli.completion import complete_metrics
from ltbench.cli.options import data_option
from ltbench.errors import UsageError

PATH = click.Path(path_type=Path)


@click.command("merge")
@click.argument("runs", nargs=-1, required=True, type=PATH, metavar="RUN...")
@click.option("-o", "--out", required=True, type=PATH, help="Folder of the union.")
def merge_command(runs: tuple[Path, ...], out: Path) -> int:
    """Put RUNs of one protocol together: every cell of any of them, by key.

    A success takes a failure's place; two different results under one key are kept both and shown. Merging in any
    order, or twice, gives the same. Exit code 1 if results contradict each other.

    \b
    Example:
      ltbench merge runs/monday runs/tuesday --out runs/all
    """
    from ltbench.runs import merge

    loaded = merge(runs, out)
    click.echo(f"{len(loaded.records)} cells of {len(runs)} runs, {len(loaded.conflicts)} in conflict, in {out}", err=True)
    for first, second in loaded.conflicts:
        names = f"{first.cell['generator']} + {first.cell['classifier']}, seed {first.cell['seed']}"
        click.echo(f"conflict: {first.key} {names}: {_difference(first.result, second.result)}", err=True)
    return 1 if loaded.conflicts else 0


@click.command("why")
@click.argument("cell")
@click.argument("other", required=False)
@click.option("-r", "--run", "run", required=True, type=PATH, help="The run that holds the cell.")
@data_option
def why_command(cell: str, other: str | None, run: Path) -> None:
    """Say what CELL's key is made of, and what has changed since, or against an OTHER cell.

    CELL is the beginning of a key, as in 'ltbench top RUN'. Without OTHER, the cell is planned anew from the run's
    experiment: the parts that differ are why it would be computed again.

    \b
    Examples:
      ltbench why 3f2a --run runs/x
      ltbench why 3f2a 9c01 --run runs/x
    """
    from ltbench.plugins import discover
    from ltbench.runs import explain

    explained = explain(run, cell, other, discover())
    click.echo(f"{explained.key}  {explained.name}")
    click.echo(f"against {explained.against}")
    if not explained.changes:
        click.echo("nothing differs: the record stands, and the cell would not be computed again")
        return
    rows = [[part, before, after] for part, before, after in explained.changes]
    click.echo(table(rows, ["part of the key", "recorded" if other is None else "CELL", "now" if other is None else "OTHER"]))
    if other is None:
        click.echo("the cell would be computed again" + _in_words(explained.changes))


@click.command("top")
@click.argument("run", type=PATH)
@click.option("-n", "--count", type=click.IntRange(1), default=10, show_default=True, help="How many cells.")
@click.option(
    "--by",
    default="balanced",
    show_default=True,
    shell_complete=complete_metrics,
    help="balanced (a board's 'overall'), top1, head, medium, tail, macro_f1, auroc, average_precision, ece, nll or brier.",
)
@click.option("--references", is_flag=True, help="Show the references on balanced data, too.")
def top_command(run: Path, count: int, by: str, *, references: bool) -> None:
    """Show the best cells of a RUN so far, one row each.

    \b
    Examples:
      ltbench top runs/x
      ltbench top runs/x --by tail -n 20
      ltbench top runs/x --by ece --references
    """
    from ltbench.config import experiment_of
    from ltbench.leaderboard.frame import METRICS, frame, whole, whole_records
    from ltbench.longtail import GROUPS
    from ltbench.records import RunFolder, newest

    if by not in (*METRICS, *GROUPS):
        raise UsageError(f"--by must be one of {', '.join((*METRICS, *GROUPS))}, not {by!r}")
    wanted, records = experiment_of(run), newest(RunFolder(run).load().records.values())
    ratios = (*wanted.ratio, 1.0) if references else wanted.ratio
    done = [whole(r) for r in records if r.status == "done" and r.cell.get("imbalance_ratio") in ratios]
    if not done:
        raise UsageError(f"{run} has no finished cell yet")
    warn_of_outdated(records)
    with whole_records([run]):
        cells = frame(done, wanted.groups).dropna(subset=[by])
        best = cells.sort_values([by, "key"], ascending=[by in ("ece", "nll", "brier"), True]).head(count)
        rows: list[list[Any]] = [
            [
                row["key"][:8],
                row["dataset"],
                row["backbone"],
                f"{row['imbalance_ratio']:g}",
                row["generator"],
                row["classifier"],
                row["seed"],
                f"{row[by]:.4f}",
            ]
            for _, row in best.iterrows()
        ]
    click.echo(table(rows, ["key", "dataset", "backbone", "ratio", "generator", "classifier", "seed", by]))


def _in_words(changes: Sequence[tuple[str, str, str]]) -> str:
    """Say whose code or which libraries have changed, if any."""
    kinds = {"features": "dataset or backbone"}
    told = {kinds.get(part.partition(".")[0], part.partition(".")[0]): part for part, _, _ in changes}
    code = [kind for kind, part in told.items() if part.endswith(".code") or part == "features"]
    return f": the code of its {' and '.join(code)} has changed" if code else ""


def _difference(a: Any, b: Any) -> str:
    """Name the first metrics that differ."""
    first, second = (a or {}).get("metrics", {}), (b or {}).get("metrics", {})
    parts = [f"{name} {first[name]} or {second.get(name)}" for name in first if first[name] != second.get(name)]
    return ", ".join(parts[:3]) or "same metrics, other details"
