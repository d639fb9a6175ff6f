"""``ltbench leaderboard``: records to tables, or a check that committed tables are what the records give."""

from __future__ import annotations

from pathlib import Path

import click

from ltbench.cli.catalogue import warn_of_outdated
from ltbench.errors import UsageError


@click.command("leaderboard")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder of README.md and leaderboard.csv.")
@click.option("--groups", help="Another group rule than the protocol's.")
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if the files in --out are not what the records give.")
def leaderboard_command(runs: tuple[Path, ...], out: Path | None, groups: str | None, *, check: bool) -> int:
    """Write a leaderboard of one or more RUNs; without --out, print it.

    \b
    Examples:
      ltbench leaderboard runs/quickstart --out leaderboards/quickstart
      ltbench leaderboard leaderboards/quickstart --out leaderboards/quickstart --check
    """
    from ltbench.leaderboard.board import board
    from ltbench.records import RunFolder, newest

    if check and out is None:
        raise UsageError("--check compares the files in --out FOLDER: name it")
    made = board(runs, out or runs[0], groups)
    warn_of_outdated(record for run in runs for record in newest(RunFolder(run).load().records.values()))
    if made.left_out:
        click.echo(f"{made.left_out} outdated records of the same cells are left out", err=True)
    if out is None:
        click.echo(made.files["README.md"])
        command = f"ltbench leaderboard {' '.join(map(str, runs))} --out FOLDER"
        click.echo(f"'{command}' writes this page, its numbers and its records", err=True)
        return 0
    if check:
        different = made.differences(out)
        for name in different:
            click.echo(f"{out / name} is not what the records give: run 'ltbench leaderboard' without --check", err=True)
        return 1 if different else 0
    made.write(out)
    click.echo(f"wrote {', '.join(str(out / name) for name in made.files)}", err=True)
    return 0
