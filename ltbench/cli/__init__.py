"""The command line: one small module per command. ``--help``, ``list`` and ``plugins`` import no torch."""

from ltbench.cli.app import main

__all__ = ["main"]
