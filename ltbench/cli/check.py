"""``ltbench check``: the conformance kit on one component, or on all of a distribution."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from ltbench.cli.completion import complete_names
from ltbench.errors import UsageError, did_you_mean
from ltbench.hookspecs import KINDS
from ltbench.plugins import Plugin, Registered, Registry, discover
from ltbench.specs import parse_spec

if TYPE_CHECKING:
    from ltbench.components import Resolved
    from ltbench.testing import Finding

_COLOURS = {"ok": "green", "FAIL": "red", "skip": "yellow"}


@click.command("check")
@click.argument("name", metavar="NAME|DISTRIBUTION", shell_complete=complete_names(*KINDS))
def check_command(name: str) -> int:
    """Check that a component, or every one of a DISTRIBUTION, keeps to the contract.

    One line for each component and check: ok, FAIL with what must be what, or skip with the component's reason.
    Exit codes: 0 none failed, 1 some failed, 2 unknown name.

    \b
    Examples:
      ltbench check "smote[k=3]"
      ltbench check transform:none
      ltbench check ltbench-generators
    """
    registry = discover()
    plugins = [plugin for plugin in registry.plugins if plugin.distribution == name]
    findings = _of_distribution(registry, plugins) if plugins else _of_component(registry, name)
    counts = dict.fromkeys(_COLOURS, 0)
    for title, finding in findings:
        counts[finding.outcome] += 1
        reason = f": {finding.reason}" if finding.reason else ""
        click.echo(f"{click.style(f'{finding.outcome:4}', fg=_COLOURS[finding.outcome])} {title} {finding.check}{reason}")
    click.echo(f"{counts['ok']} ok, {counts['FAIL']} failed, {counts['skip']} skipped", err=True)
    return 1 if counts["FAIL"] else 0


def _of_component(registry: Registry, name: str) -> Iterator[tuple[str, Finding]]:
    """Check the component that a name stands for; it is looked up at once, so that a mistake comes before any output."""
    from ltbench.testing import find

    known = {registered.component.name for registered in registry.components()} | {p.distribution for p in registry.plugins}
    bare = parse_spec(name.partition(":")[2] if name.partition(":")[0] in KINDS else name)
    if bare.name not in known:
        hint = did_you_mean(bare.name, known)
        seen = "see 'ltbench list'; is its package installed here?"
        raise UsageError(f"unknown component or distribution {name!r}{hint}: {seen}")
    return _findings(find(registry, name))


def _of_distribution(registry: Registry, plugins: list[Plugin]) -> Iterator[tuple[str, Finding]]:
    """Check every component of a distribution, after saying what is wrong with its plugins."""
    from ltbench.testing import Finding

    for plugin in plugins:
        for problem in plugin.problems:
            yield f"plugin {plugin.name}", Finding("loads", "FAIL", problem)
        for registered in plugin.components:
            yield from _of_registered(registry, registered)


def _of_registered(registry: Registry, registered: Registered) -> Iterator[tuple[str, Finding]]:
    """Check a component with its defaults; one that cannot do without a name or a parameter is skipped."""
    from ltbench.components import parameters, resolve
    from ltbench.testing import Finding

    kind, name = registered.kind, registered.component.name
    title = f"{kind} {name}"
    try:
        required = [parameter.name for parameter in parameters(registered) if parameter.required]
        if registered.component.family:
            yield title, Finding("all", "skip", f"a family: check a member, {kind}:{name}:<name>")
        elif required:
            yield title, Finding("all", "skip", f"needs {', '.join(required)}: check {kind}:{name}[{required[0]}=...]")
        else:
            yield from _findings([resolve(registry, kind, f"{name}@{registered.distribution}")])
    except UsageError as error:
        yield title, Finding("resolves", "FAIL", str(error))


def _findings(components: list[Resolved]) -> Iterator[tuple[str, Finding]]:
    """Run the checks of components, one after the other."""
    from ltbench.testing import run_checks

    for resolved in components:
        for finding in run_checks(resolved):
            yield f"{resolved.kind} {resolved.canonical}", finding
