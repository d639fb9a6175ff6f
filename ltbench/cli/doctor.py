"""``ltbench doctor``: what a bug report needs to say, and whether this installation works."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ltbench.doctor import Section

_COLOURS = {"ok": "green", "FAIL": "red"}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of text.")
def doctor_command(*, as_json: bool) -> int:
    """Show versions, devices, plugins, folders and settings, and run a self-test of a few seconds.

    The output is fit for a bug report: it names neither you nor your machine, and your home folder is ~. Exit codes:
    0 all ok, 1 a check failed.

    \b
    Examples:
      ltbench doctor
      ltbench doctor --json > doctor.json
    """
    from ltbench.doctor import examine

    sections = []
    for section in examine():
        sections.append(section)
        if not as_json:
            _show(section)
    failed = sum(section.failed for section in sections)
    if as_json:
        _print_json(sections)
    else:
        click.echo(f"{failed} checks failed" if failed else "all checks ok")
    return 1 if failed else 0


def _show(section: Section) -> None:
    """Print a section: a heading, and a line each."""
    click.echo(section.title)
    width = max(len(line.name) for line in section.lines)
    for line in section.lines:
        state = click.style(f"{line.state:4}", fg=_COLOURS.get(line.state))
        click.echo(f"  {state} {line.name:{width}}  {line.value}")
    click.echo("")


def _print_json(sections: list[Section]) -> None:
    """Print everything as JSON."""
    import dataclasses
    import json

    document = {
        "ok": not any(section.failed for section in sections),
        "sections": {section.title: [dataclasses.asdict(line) for line in section.lines] for section in sections},
    }
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))
