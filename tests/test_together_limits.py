"""The time limit of heads that are run together: a group has as much as its cells, and must show signs of life."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ltbench.cells import Cell
from ltbench.execute.local import _Worker
from ltbench.execute.worker import Job, Sign, with_signs

pytestmark = pytest.mark.determinism

CELL: Any = object()

# Cells in the job, seconds since the last sign of life, seconds since it began, and whether that is too late.
LIMIT = 10.0
TIMES: dict[str, tuple[int, float, float, bool]] = {
    "a cell in time": (1, 9, 9, False),
    "a cell too late": (1, 11, 11, True),
    "a cell too late, with signs": (1, 1, 11, True),
    "a group in time": (4, 9, 39, False),
    "a group without signs": (4, 11, 39, True),
    "a group too late, with signs": (4, 1, 41, True),
}


@pytest.mark.parametrize(("cells", "since", "begun", "late"), TIMES.values(), ids=TIMES)
def test_a_group_has_the_time_of_its_cells(cells: int, since: float, begun: float, late: bool) -> None:
    """Late is who shows no sign of life for the limit of one cell, or takes longer than that of all its cells."""
    now = time.monotonic()
    group: tuple[Cell, ...] = (CELL,) * cells
    worker = _Worker(None, CELL, 0, Job("run", group), begun=now - begun, since=now - since)
    assert worker.late(LIMIT) is late
    assert worker.late(None) is False


def test_starting_up_does_not_count_and_extraction_counts_from_the_last_image() -> None:
    """A worker that has not started is not late, and one that extracts may take as long as it shows signs."""
    now = time.monotonic()
    starting = _Worker(None, CELL, 0, Job("run", (CELL,)))
    assert starting.late(1e-9) is False
    starting.heard()
    assert starting.begun == starting.since
    assert _Worker(None, CELL, 0, Job("extract", (CELL,)), begun=now - 100, since=now - 9).late(LIMIT) is False
    assert _Worker(None, CELL, 0, Job("extract", (CELL,)), begun=now - 100, since=now - 11).late(LIMIT) is True


def test_signs_are_sent_now_and_then() -> None:
    """Outcomes all pass; of many signs of life only as many as are needed."""
    outcomes: list[Any] = [None] * 1000 + [CELL] + [None] * 1000 + [CELL]
    sent = list(with_signs(iter(outcomes)))
    assert [each for each in sent if not isinstance(each, Sign)] == [CELL, CELL]
    assert len(sent) < 20
