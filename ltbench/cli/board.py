"""``ltbench leaderboard``: records to tables, or a check that committed tables are what the records give."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("leaderboard")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder of README.md and leaderboard.csv.")
@click.option("--groups", help="Another group rule than the protocol's.")
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if the files in --out are not what the records give.")
def leaderboard_command(runs: tuple[Path, ...], out: Path, groups: str | None, *, check: bool) -> int:
    """Write a leaderboard of one or more RUNs.

    \b
    Examples:
      ltbench leaderboard runs/quickstart --out leaderboards/quickstart
      ltbench leaderboard leaderboards/quickstart --out leaderboards/quickstart --check
    """
    from ltbench.leaderboard.board import board

    made = board(runs, out, groups)
    if check:
        different = made.differences(out)
        for name in different:
            click.echo(f"{out / name} is not what the records give: run 'ltbench leaderboard' without --check", err=True)
        return 1 if different else 0
    made.write(out)
    click.echo(f"wrote {', '.join(str(out / name) for name in made.files)}", err=True)
    return 0
