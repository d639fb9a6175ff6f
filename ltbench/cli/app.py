"""The command group, and what becomes of errors: one line and an exit code, never a traceback for a user's mistake."""

from __future__ import annotations

import sys
import traceback
import warnings
from typing import Any

import click

import ltbench
from ltbench.cli.board import leaderboard_command
from ltbench.cli.cache import cache_command
from ltbench.cli.calibrate import calibrate_command
from ltbench.cli.catalogue import list_command, plugins_command, show_command
from ltbench.cli.check import check_command
from ltbench.cli.data import data_command
from ltbench.cli.doctor import doctor_command
from ltbench.cli.new import new_command
from ltbench.cli.records import merge_command, top_command, why_command
from ltbench.cli.running import plan_command, run_command, status_command
from ltbench.cli.synth import synth_command
from ltbench.errors import LtbenchError
from ltbench.hardware import steady_blas

INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(ltbench.__version__, prog_name="ltbench")
def cli() -> None:
    """Benchmark long-tail image classification on frozen foundation models.

    \b
    Examples:
      ltbench run --suite quickstart --out runs/quickstart
      ltbench run -d digits -b pixels -g "none,smote[k=3]" -c softmax --ratio 10,50 --seeds 5 --out runs/x
      ltbench leaderboard runs/quickstart --out leaderboards/quickstart

    Exit codes: 0 all done, 1 some cells failed (or --check found differences), 2 bad usage, 3 the run could not go on,
    130 interrupted.
    """


for command in (
    run_command,
    plan_command,
    status_command,
    top_command,
    why_command,
    merge_command,
    leaderboard_command,
    calibrate_command,
    synth_command,
    data_command,
    cache_command,
    list_command,
    show_command,
    plugins_command,
    check_command,
    new_command,
    doctor_command,
):
    cli.add_command(command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    warnings.showwarning = _show_warning
    steady_blas()
    try:
        code = cli.main(arguments, prog_name="ltbench", standalone_mode=False)
    except LtbenchError as error:
        _fail(str(error), error.exit_code)
    except OSError as error:
        _fail(f"{error.filename or 'a file'} cannot be read or written: {error.strerror or error}", 3)
    except click.exceptions.Abort:
        _fail("interrupted; what was done is kept, and running again goes on from there", INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except Exception:
        traceback.print_exc()
        _fail("this is a mistake of ltbench, not of yours: please report it with the output of 'ltbench doctor'", 3)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> None:
    """Print an error and exit."""
    click.echo(f"error: {message}", err=True)
    sys.exit(code)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning in one line."""
    click.echo(f"warning: {message}", err=True)
