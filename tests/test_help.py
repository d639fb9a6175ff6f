"""Help: every command shows one to three examples, and each of them is a command line that works."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from ltbench.cli.app import cli
from ltbench.cli.running import _experiment
from ltbench.hookspecs import KINDS
from ltbench.plugins import discover
from ltbench.specs import parse_spec

EXAMPLES = re.compile(r"^  Examples?:\n((?:    .+\n)+)", re.MULTILINE)


def commands(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command below one, with the words that call it."""
    yield words, command
    for name, each in getattr(command, "commands", {}).items():
        yield from commands(each, (*words, name))


COMMANDS = {" ".join(["ltbench", *words]): command for words, command in commands(cli)}


def examples(command: click.Command) -> list[str]:
    """Return the examples that a command's help shows."""
    shown = command.get_help(click.Context(command, info_name="ltbench"))
    return [line.strip() for block in EXAMPLES.findall(shown) for line in block.splitlines()]


LINES = {line: name for name, command in COMMANDS.items() for line in examples(command)}


def parsed(line: str) -> tuple[str, click.Context]:
    """Parse a line of shell as the command line would; return the command's words and what it is given."""
    words = shlex.split(line.partition(" > ")[0])
    while "=" in words[0]:  # variables of the environment
        del words[0]
    name = ""
    while f"{name} {words[0]}".strip() in COMMANDS:
        name = f"{name} {words.pop(0)}".strip()
        if not words:
            break
    return name, COMMANDS[name].make_context(name, words)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_examples(name: str) -> None:
    """One to three, each of the command itself or, for a group, of a command below it."""
    shown = examples(COMMANDS[name])
    assert 1 <= len(shown) <= 3
    assert [line for line in shown if not parsed(line)[0].startswith(name)] == []


@pytest.mark.parametrize("line", LINES)
def test_every_example_is_understood(line: str) -> None:
    """The command exists and takes what it is given; components, settings and suites that it names exist, too."""
    name, context = parsed(line)
    given, registry = context.params, discover()
    if name in ("ltbench run", "ltbench plan") and given["experiment"] is None:
        wanted = _experiment(given)
        for kind in KINDS:
            for spec in wanted.specs(kind):
                assert registry.find(kind, spec).kind == kind
    if name == "ltbench show":
        spec = parse_spec(given["name"])
        assert [kind for kind in KINDS if spec.name in registry.names(kind)] != []
    if name.startswith("ltbench data"):
        for text in [given["name"]] if "name" in given else given.get("names", ()):
            assert registry.find("dataset", parse_spec(text)).kind == "dataset"
