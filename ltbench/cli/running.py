"""``ltbench run``, ``plan`` and ``status``: experiments from a file, a suite or options, all written the same way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ltbench.cli.catalogue import table, warn_of_broken
from ltbench.cli.completion import complete_names, complete_suites, complete_words
from ltbench.cli.options import data_option
from ltbench.cli.progress import reporter
from ltbench.errors import UsageError
from ltbench.specs import parse_scalar, split_list

if TYPE_CHECKING:
    from ltbench.config import Experiment

_LISTS = ("dataset", "backbone", "generator", "classifier", "transform", "profile", "regime", "prior_source")
FEW = 10


def experiment_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say what to run; the same names are the settings of a TOML file."""
    options: list[Any] = [
        click.argument("experiment", required=False, type=click.Path(path_type=Path)),
        click.option("--suite", shell_complete=complete_suites, help="A protocol that comes with ltbench, such as quickstart."),
        click.option(
            "-d", "--dataset", multiple=True, shell_complete=complete_names("dataset"), help="Datasets, separated by commas."
        ),
        click.option("-b", "--backbone", multiple=True, shell_complete=complete_names("backbone"), help="Backbones."),
        click.option(
            "-g",
            "--generator",
            multiple=True,
            shell_complete=complete_names("generator"),
            help="Generators: none,smote[k=3,target=median].",
        ),
        click.option(
            "-c",
            "--classifier",
            multiple=True,
            shell_complete=complete_names("classifier"),
            help="Classifiers: softmax,balanced-softmax[l2=0.01].",
        ),
        click.option(
            "-t",
            "--transform",
            multiple=True,
            shell_complete=complete_names("transform"),
            help="Feature transforms. Default: standardize.",
        ),
        click.option(
            "--profile",
            multiple=True,
            shell_complete=complete_words("exp", "step", "native"),
            help="exp, step or native (all rows as they are).",
        ),
        click.option("--ratio", help="Imbalance ratios: 10,50,100."),
        click.option("--seeds", help="How many seeds; or a list in brackets: [3,7]."),
        click.option("--groups", help="strict, inclusive, thirds, reference:<ratio>, or sizes such as 3/4/3."),
        click.option("--rows", help="drawn (anew for each seed), fixed, or published."),
        click.option("--class-order", help="index (class 0 is the head) or shuffled."),
        click.option("--n-max", type=int, help="Rows of the largest class."),
        click.option("--regime", multiple=True, help="real, real+synthetic or synthetic (in place of the real rows)."),
        click.option("--prior-source", multiple=True, help="effective (what is trained on) or real."),
        data_option,
        click.option("--no-reference", is_flag=True, help="Leave out the balanced and plain references."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command("run")
@experiment_options
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder of the records.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:<index>.")
@click.option("--workers", default="auto", show_default=True, help="Worker processes; 0 runs all in this one.")
@click.option("--timeout", type=float, help="Seconds that one cell, or one batch of an extraction, may take, with workers.")
@click.option("--retry-failed", is_flag=True, help="Compute failed cells again.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first failed cell.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, only the end.")
@click.option("--json", is_flag=True, help="One JSON object a line on standard output: events cell, extract and end.")
def run_command(**options: Any) -> int:
    """Run an EXPERIMENT (a TOML file), a suite, or what the options say.

    \b
    Examples:
      ltbench run --suite quickstart --out runs/quickstart
      ltbench run my.toml --seeds 10 --out runs/mine
      ltbench run -d digits -b pixels -g none,smote -c softmax,lda --ratio 10,50 --out runs/x

    Running again into the same folder computes only what is missing.
    """
    from ltbench.runs import run

    wanted = _experiment(options)
    report = reporter(quiet=options["quiet"], as_json=options["json"])
    finished = None
    try:
        finished = run(
            wanted,
            out=options["out"],
            device=options["device"],
            workers=options["workers"],
            timeout=options["timeout"],
            retry_failed=options["retry_failed"],
            fail_fast=options["fail_fast"],
            registry=_registry(),
            progress=report,
            watch=report.watch,
        )
    finally:
        report.close(finished)
    return 1 if finished.failed else 0


@click.command("plan")
@experiment_options
def plan_command(**options: Any) -> None:
    """Resolve and check everything that 'run' would do with the same arguments, and print it.

    \b
    Examples:
      ltbench plan --suite quickstart
      ltbench plan my.toml --seeds 10
      ltbench plan -d digits -b pixels -g "none,smote[k=3|5]" -c softmax,lda --ratio 10,50
    """
    from ltbench.files import cache_folder, data_folder
    from ltbench.hardware import batch_told
    from ltbench.plan import plan

    wanted = _experiment(options)
    made = plan(wanted, _registry(), data_folder())
    cache_folder()
    batch_told()  # as 'run' does, which refuses what the environment says wrongly
    backbones = [f"{name} ({_counted(size)})" for name, size in made.dimensions().items()]
    rows = []
    for cell in dict.fromkeys((c.dataset, c.profile, c.imbalance_ratio) for c in made.cells):
        members = [c for c in made.cells if (c.dataset, c.profile, c.imbalance_ratio) == cell]
        counts = sorted(made.split(members[0]).class_counts, reverse=True)
        rows.append([cell[0], cell[1], f"{cell[2]:g}", f"{len(members)}", f"{sum(counts)}", f"{counts[0]}..{counts[-1]}"])
    click.echo(table(rows, ["dataset", "profile", "ratio", "cells", "training rows", "per class"]))
    click.echo(f"backbone: {', '.join(backbones)}")
    for kind in ("transform", "generator", "classifier"):
        names = dict.fromkeys(getattr(c, kind) for c in made.cells)
        click.echo(f"{kind}: {', '.join(names)}")
    click.echo(
        f"{len(made.cells)} cells, {len(made.references)} of them references; seeds {_few(wanted.seeds)}; "
        f"protocol {wanted.protocol_hash()}"
    )


@click.command("status")
@click.argument("run", type=click.Path(path_type=Path))
@data_option
def status_command(run: Path) -> int:
    """Say how far a RUN is: cells done, failed and missing, and why.

    \b
    Example:
      ltbench status runs/x
    """
    from ltbench.runs import status

    state = status(run, _registry())
    click.echo(
        f"{state.done} of {state.total} cells done, {state.failed} failed, {state.skipped} skipped, {state.missing} missing"
    )
    for cause, count in state.causes.items():
        click.echo(f"  {count} × {cause}")
    if state.changed:
        key = state.changed[0].key[:8]
        click.echo(f"  {len(state.changed)} × missing: what it is made of has changed, see 'ltbench why {key} --run {run}'")
    return 1 if state.failed else 0


def _experiment(options: dict[str, Any]) -> Experiment:
    """Turn options into an experiment."""
    from ltbench.config import load_experiment

    settings: dict[str, Any] = {
        name: [item for text in options[name] for item in split_list(text)] for name in _LISTS if options[name]
    }
    if options["ratio"] is not None:
        settings["ratio"] = [_number(item, "--ratio") for item in split_list(options["ratio"])]
    if options["seeds"] is not None:
        settings["seeds"] = _seeds(options["seeds"])
    for name in ("groups", "rows", "class_order", "n_max"):
        if options[name] is not None:
            settings[name] = options[name]
    if options["no_reference"]:
        settings["reference"] = False
    if not settings and options["suite"] is None and options["experiment"] is None:
        raise UsageError("say what to run: a TOML file, --suite NAME, or options such as -d digits -b pixels (see --help)")
    wanted = load_experiment(options["experiment"], options["suite"], settings)
    for name, reason in _without_effect(wanted, settings):
        click.echo(f"note: {name} plays no part: {reason}", err=True)
    return wanted


def _without_effect(wanted: Experiment, settings: dict[str, Any]) -> list[tuple[str, str]]:
    """Return which of the options that were given change nothing beside the others, and why."""
    from ltbench.config import PLAIN_GENERATOR

    generators = [str(spec) for spec in wanted.specs("generator") if spec.name != PLAIN_GENERATOR]
    idle = []
    if set(wanted.regime) == {"real"} and "generator" in settings and generators:
        idle.append((f"--generator {', '.join(generators)}", "the only regime is real, without synthetic rows"))
    elif not generators:
        without = "no generator makes synthetic rows"
        idle += [(f"--{name.replace('_', '-')}", without) for name in ("regime", "prior_source") if name in settings]
    if set(wanted.profile) == {"native"}:
        reason = "the only profile is native, all rows as they are"
        idle += [(f"--{name.replace('_', '-')}", reason) for name in ("ratio", "n_max") if name in settings]
    return idle


def _counted(size: int | None) -> str:
    """Say how long a backbone's feature vectors are."""
    return "features counted once it is loaded" if size is None else f"{size} features"


def _few(seeds: tuple[int, ...]) -> str:
    """Return seeds as text, no more than a line of them."""
    more = f", … ({len(seeds):,} in all)" if len(seeds) > FEW else ""
    return ", ".join(map(str, seeds[:FEW])) + more


def _seeds(text: str) -> Any:
    """Read a number of seeds, or a list of them."""
    if text.startswith("[") and text.endswith("]"):
        return [_number(item, "--seeds") for item in split_list(text[1:-1])]
    return _number(text, "--seeds")


def _number(text: str, option: str) -> float | int:
    """Read a number."""
    value = parse_scalar(text, text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{option} takes numbers, not {text!r}")
    return value


def _registry() -> Any:
    """Discover plugins, and say if some are broken."""
    from ltbench.plugins import discover

    registry = discover()
    warn_of_broken(registry)
    return registry
