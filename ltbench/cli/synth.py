"""``ltbench synth``: the synthetic rows of a recorded cell, with where each comes from."""

from __future__ import annotations

from pathlib import Path

import click

from ltbench.cli.options import data_option
from ltbench.errors import UsageError


@click.command("synth")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--cell", required=True, help="The cell's key, or how it begins (see 'ltbench top RUN').")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="File to write, *.parquet.")
@data_option
def synth_command(run: Path, cell: str, out: Path) -> None:
    """Draw the synthetic rows of a cell of RUN again, and write them with parents, weights, donors and labels.

    \b
    Example:
      ltbench synth runs/x --cell 3f2a --out rows.parquet
    """
    from ltbench.plugins import discover
    from ltbench.synth import draw, write_parquet

    if out.suffix != ".parquet":
        raise UsageError(f"--out must be a *.parquet file, not {out}")
    drawn = draw(run, cell, discover())
    write_parquet(drawn, out)
    click.echo(f"{len(drawn.rows.x)} synthetic rows of {drawn.record.cell['generator']}, cell {drawn.record.key}: {out}")
