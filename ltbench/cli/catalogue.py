"""``ltbench list``, ``show`` and ``plugins``: what there is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ltbench.cli.completion import complete_names, complete_words
from ltbench.errors import UsageError
from ltbench.hookspecs import KINDS
from ltbench.plugins import Registered, Registry, discover
from ltbench.specs import Spec, format_value, parse_spec

if TYPE_CHECKING:
    from ltbench.records import Record


def table(rows: list[list[str]], headers: list[str]) -> str:
    """Return a plain table."""
    from tabulate import tabulate

    return tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True)


@click.command("list")
@click.argument("kind", required=False, shell_complete=complete_words(*KINDS))
def list_command(kind: str | None) -> None:
    """List components, of one KIND (dataset, backbone, transform, generator, classifier) or of all.

    \b
    Examples:
      ltbench list
      ltbench list generator
    """
    if kind is not None and kind.removesuffix("s") not in KINDS:
        raise UsageError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    registry = discover()
    found = registry.components(kind.removesuffix("s") if kind else None)
    rows = [[r.kind, _name(r), r.component.summary, r.distribution] for r in found]
    click.echo(table(rows, ["kind", "name", "summary", "distribution"]))
    warn_of_broken(registry)


@click.command("show")
@click.argument("name", shell_complete=complete_names(*KINDS))
def show_command(name: str) -> None:
    """Show a component: summary, parameters with types and defaults, reference.

    \b
    Examples:
      ltbench show smote
      ltbench show none@ltbench-generators
    """
    from ltbench.components import TEMPERATURE, parameters
    from ltbench.config import PLAIN_GENERATOR

    registry = discover()
    spec = parse_spec(name)
    named = [kind for kind in KINDS if spec.name in registry.names(kind)]
    kinds = [kind for kind in named if _gives(registry, kind, spec)] or named
    if not kinds:
        everything = sorted({each for kind in KINDS for each in registry.names(kind)})
        raise UsageError(f"unknown component {name!r}{_hint(spec.name, everything)}: see 'ltbench list'")
    for kind in kinds:
        registered = registry.find(kind, spec)
        click.echo(f"{kind} {_name(registered)}   ({registered.distribution} {registered.version})")
        click.echo(f"  {registered.component.summary}")
        document = _documentation(registered)
        if document:
            click.echo("\n" + document)
        found = parameters(registered)
        extra = _budget_rows() if kind == "generator" and spec.name != PLAIN_GENERATOR else []
        if kind == "classifier" and TEMPERATURE not in [p.name for p in found]:
            extra = [[TEMPERATURE, "bool", "false"]]  # every head's
        rows = [[p.name, p.type_text, "required" if p.required else _shown(p.default)] for p in found]
        if rows or extra:
            click.echo("\n" + table([*rows, *extra], ["parameter", "type", "default"]))
        if registered.component.reference:
            click.echo(f"\nreference: {registered.component.reference}")
        click.echo("")


@click.command("plugins")
def plugins_command() -> None:
    """List the plugins found, and what is wrong with those that are broken.

    \b
    Examples:
      ltbench plugins
      LTBENCH_PLUGINS=ltbench-datasets ltbench plugins
    """
    registry = discover()
    rows = [
        [p.name, f"{p.distribution} {p.version}", str(len(p.components)), "broken" if p.problems else "ok"]
        for p in registry.plugins
    ]
    click.echo(table(rows, ["plugin", "distribution", "components", "state"]))
    for plugin in registry.broken:
        for problem in plugin.problems:
            click.echo(click.style(f"{plugin}: {problem}", fg="red"))
    for (kind, name), many in sorted(registry.index.items()):
        if len(many) > 1:
            ways = " or ".join(f"{name}@{r.distribution} ({r.distribution} {r.version})" for r in many)
            click.echo(click.style(f"{kind} {name!r} is given by {len(many)} plugins: write {ways}", fg="red"))


def warn_of_broken(registry: Registry) -> None:
    """Say which plugins failed to load."""
    if registry.broken:
        click.echo(registry.failures, err=True)


def warn_of_outdated(records: Iterable[Record]) -> None:
    """Say which components have made records with other code than is installed now."""
    from ltbench.outdated import outdated

    for name, count in outdated(records, discover()).items():
        again = "'ltbench status' and 'ltbench why' say more, the same 'ltbench run' computes them again"
        click.echo(f"{count} cells were made with other code of {name} than is installed now: {again}", err=True)


def _budget_rows() -> list[list[str]]:
    """Return the parameters of a budget, which every generator has."""
    from ltbench.budget import Budget
    from ltbench.parameters import fields_of

    return [[p.name, p.type_text, _shown(p.default)] for p in fields_of(Budget)]


def _shown(value: Any) -> str:
    """Write a default as a user would."""
    return str(value) if isinstance(value, Path) else format_value(value)


def _gives(registry: Registry, kind: str, spec: Spec) -> bool:
    """Whether a component of this kind has the name, and comes from the distribution named, if one is."""
    found = registry.index.get((kind, spec.name), [])
    return any(spec.distribution in (None, each.distribution) for each in found)


def _name(registered: Registered) -> str:
    """Return a component's name; a family's with the place of the rest."""
    return f"{registered.component.name}:<name>" if registered.component.family else registered.component.name


def _documentation(registered: Registered) -> str:
    """Return the docstring of a component's class, indented."""
    import inspect
    import textwrap

    from ltbench.components import import_target

    return textwrap.indent(inspect.getdoc(import_target(registered)) or "", "  ")


def _hint(name: str, known: list[str]) -> str:
    """Suggest close names."""
    from ltbench.errors import did_you_mean

    return did_you_mean(name, known)
