"""``ltbench calibrate``: what every method of a run costs, alone, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ltbench.cli.options import data_option

if TYPE_CHECKING:
    from ltbench.calibrate import Measured


@click.command("calibrate")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder of calibration.json. Default: RUN.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:<index>.")
@click.option("--repeats", type=int, default=3, show_default=True, help="Passes to take the median of, at least 3.")
@click.option("--force", is_flag=True, help="Replace a calibration of other hardware.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@data_option
def calibrate_command(run: Path, out: Path | None, device: str, repeats: int, *, force: bool, quiet: bool) -> None:
    """Measure every method of a finished RUN alone and warm: seconds, peak memory, and energy where NVML is.

    Each goes through all of its cell's steps in this process, one method after the other; nothing else should run on
    the machine. Leaderboards show seconds only from here, with the hardware named.

    \b
    Examples:
      ltbench calibrate runs/quickstart
      ltbench calibrate runs/quickstart --device cuda --repeats 5 --force
    """
    from ltbench.calibrate import calibrate
    from ltbench.calibration import FILE

    made = calibrate(run, out=out, device=device, repeats=repeats, force=force, progress=(lambda _: None) if quiet else _tell)
    hardware = ", ".join(f"{name} {value}" for name, value in made.hardware.items())
    click.echo(f"wrote {(out or run) / FILE}: {len(made.timings)} methods on {hardware}", err=True)


def _tell(measured: Measured) -> None:
    """Print one method's cost."""
    cell, timing = measured.cell, measured.timing
    names = f"{cell.dataset}, {cell.backbone}, ratio {cell.imbalance_ratio:g}: {cell.generator} + {cell.classifier}"
    peak = "" if timing.peak_bytes is None else f", {timing.peak_bytes / 1e6:.1f} MB"
    energy = "" if timing.joules is None else f", {timing.joules:.3g} J"
    click.echo(f"{measured.number}/{measured.total} {names}: {timing.seconds['total']:.3g} s{peak}{energy}", err=True)
