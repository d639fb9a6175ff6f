"""How a run reports: a live bar on a terminal, plain lines elsewhere, JSON events for programs, or nothing."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any, Protocol

import click

if TYPE_CHECKING:
    from ltbench.cells import Cell
    from ltbench.features.extraction import Pace
    from ltbench.runs import Event, Run

LINE_SECONDS = 5.0

FIRST_CELLS = 5
"""Cells that must have ended before the time left is worth telling."""


class Reporter(Protocol):
    """Takes the events of a run as they come, and its end."""

    def __call__(self, event: Event) -> None:
        """Take one event."""
        ...

    def watch(self, cell: Cell, pace: Pace) -> None:
        """Take how far the extraction of a cell's features is."""
        ...

    def close(self, finished: Run | None) -> None:
        """Say how the run ended; None if it did not come to its end."""
        ...


def reporter(*, quiet: bool, as_json: bool) -> Reporter:
    """Return the reporter that fits the options and the terminal."""
    if as_json:
        return JsonEvents()
    if quiet:
        return Summary()
    return Bar() if sys.stderr.isatty() else Lines()


class Tally:
    """Counts fresh cells and failures, and tells rate and time left."""

    def __init__(self) -> None:
        """Start the clock."""
        self.started = time.monotonic()
        self.fresh = self.failed = 0

    def take(self, event: Event) -> None:
        """Count one event."""
        self.fresh += event.fresh
        self.failed += event.record.failed

    def describe(self, event: Event) -> str:
        """Return ``12/270 cells, 0 failed, 5.1/s, 50 s left``."""
        rate = self.fresh / max(time.monotonic() - self.started, 1e-9)
        left = f", {(event.total - event.number) / rate:.0f} s left" if self.fresh >= FIRST_CELLS else ""
        return f"{event.number}/{event.total} cells, {self.failed} failed, {rate:.1f}/s{left}"


def failure_line(event: Event) -> str:
    """Return the line of a failed cell."""
    return (
        f"{event.record.status}: {event.cell.generator} + {event.cell.classifier}, seed {event.cell.seed}: {event.record.cause}"
    )


def extraction_line(cell: Cell, pace: Pace) -> str:
    """Return ``digits × pixels: 1,024/1,797 images, 310/s, 3 s left``."""
    left = "" if pace.seconds_left is None else f", {pace.seconds_left:.0f} s left"
    return f"{cell.dataset} × {cell.backbone}: {pace.done:,}/{pace.total:,} images, {pace.images_per_second:.0f}/s{left}"


class Summary:
    """Says nothing but the end."""

    def __call__(self, event: Event) -> None:
        """Take one event."""

    def watch(self, cell: Cell, pace: Pace) -> None:
        """Take how far an extraction is."""

    def close(self, finished: Run | None) -> None:
        """Print what was done and every cause of failure once."""
        if finished is None:
            return
        computed, failed = finished.computed, len(finished.failed)
        skipped = [record for record in finished.records if record.status == "skipped"]
        told = f"{computed} computed, {failed} failed{f', {len(skipped)} skipped' if skipped else ''}"
        click.echo(f"{len(finished.records)} cells: {told}, in {finished.folder}", err=True)
        for cause in sorted({record.cause for record in finished.failed}):
            click.echo(f"failed: {cause}", err=True)
        for cause in sorted({record.cause for record in skipped}):
            click.echo(f"skipped, {sum(r.cause == cause for r in skipped)} cells: {cause}", err=True)
        if failed:
            click.echo("a component alone: ltbench check NAME; once mended: the same command, with --retry-failed", err=True)
        if len(finished.records) > failed + len(skipped):
            click.echo(f"their tables: ltbench leaderboard {finished.folder}", err=True)


class Lines(Summary):
    """Prints a line every few seconds, and one for each failure."""

    def __init__(self) -> None:
        """Start the clock."""
        self._tally = Tally()
        self._last = self._tally.started

    def __call__(self, event: Event) -> None:
        """Take one event."""
        self._tally.take(event)
        if event.fresh and event.record.failed:
            click.echo(failure_line(event), err=True)
        if event.fresh and (self._due() or event.number == event.total):
            click.echo(self._tally.describe(event), err=True)

    def watch(self, cell: Cell, pace: Pace) -> None:
        """Print a line now and then."""
        if self._due():
            click.echo(extraction_line(cell, pace), err=True)

    def _due(self) -> bool:
        """Whether it is time for another line; the next is due some seconds later."""
        now = time.monotonic()
        due = now - self._last >= LINE_SECONDS
        if due:
            self._last = now
        return due


class Bar(Summary):
    """Draws a bar that moves in place; failures scroll by above it."""

    def __init__(self) -> None:
        """Start drawing."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._tally = Tally()
        self._progress = Progress(BarColumn(), TextColumn("{task.description}"), console=Console(stderr=True), transient=True)
        self._task: Any = None
        self._extractions: dict[tuple[str, str], Any] = {}
        self._progress.start()

    def __call__(self, event: Event) -> None:
        """Take one event."""
        self._tally.take(event)
        if self._task is None:
            self._task = self._progress.add_task("", total=event.total)
        if event.fresh and event.record.failed:
            self._progress.console.print(failure_line(event), style="red", markup=False, highlight=False)
        self._progress.update(self._task, completed=event.number, description=self._tally.describe(event))

    def watch(self, cell: Cell, pace: Pace) -> None:
        """Draw a bar of its own for each source, until it is full."""
        line, name = extraction_line(cell, pace), cell.source
        if name not in self._extractions:
            self._extractions[name] = self._progress.add_task("", total=pace.total)
        self._progress.update(self._extractions[name], completed=pace.done, description=line, visible=pace.done < pace.total)

    def close(self, finished: Run | None) -> None:
        """Take the bar away, and say how the run ended."""
        self._progress.stop()
        super().close(finished)


class JsonEvents:
    """Prints one JSON object a line on standard output.

    Its ``event`` is ``extract`` as images are encoded, ``cell`` as a cell ends, and ``end`` at the end.
    """

    def __call__(self, event: Event) -> None:
        """Take one event."""
        import dataclasses

        record = event.record
        metrics = record.result["metrics"] if record.result is not None else None
        row = {"event": "cell", "number": event.number, "total": event.total, "fresh": event.fresh, "status": record.status}
        click.echo(
            json.dumps(
                {**row, "key": record.key, "cell": dataclasses.asdict(event.cell), "metrics": metrics, "cause": record.cause}
            )
        )

    def watch(self, cell: Cell, pace: Pace) -> None:
        """Print an ``extract`` event."""
        row = {"event": "extract", "dataset": cell.dataset, "backbone": cell.backbone, "done": pace.done, "total": pace.total}
        click.echo(json.dumps({**row, "images_per_second": round(pace.images_per_second, 1)}))

    def close(self, finished: Run | None) -> None:
        """Print the last event."""
        if finished is not None:
            skipped = sum(record.status == "skipped" for record in finished.records)
            done = {
                "cells": len(finished.records),
                "computed": finished.computed,
                "failed": len(finished.failed),
                "skipped": skipped,
            }
            click.echo(json.dumps({"event": "end", **done, "folder": str(finished.folder)}))
