"""Bad input among good: one clear error in the cell that has it, and its neighbours as they are without it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

import ltbench
from ltbench.components import resolve
from ltbench.execute.cell import Candidates, run_cells
from ltbench.execute.failures import failure_of
from ltbench.execute.setting import Prepared
from ltbench.heads.exact import Exact, Job
from ltbench.plugins import discover
from ltbench.testing.problem import Problem, long_tailed

pytestmark = pytest.mark.determinism

FAMILY = sorted(
    each.component.name for each in discover().components("classifier") if each.distribution == "ltbench-classifiers"
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Run on one thread, as cells do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def spoilt(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return what softmax returns, as NaN."""
    losses, slopes = ltbench.softmax_loss(values, torch.zeros(len(values), dtype=torch.long))
    return losses * float("nan"), slopes


def boom(_: Tensor) -> tuple[Tensor, Tensor]:
    """Raise."""
    raise RuntimeError("boom")


def leave(_: Tensor) -> tuple[Tensor, Tensor]:
    """End the program, if it is let."""
    raise SystemExit(3)


# What a loss does from some call on, and the error in its record.
BREAKS: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "wrong shape": (
        lambda z: ltbench.softmax_loss(z, torch.zeros(len(z), dtype=torch.long))[0][:-1],
        "ValueError: the loss must return per-row losses",
    ),
    "no tensor": (lambda z: 1.0, "ValueError: the loss must return per-row losses"),
    "no slopes": (lambda z: (z[:, 0], None), "ValueError: the loss must return slopes ["),
    "three": (
        lambda z: (z[:, 0], z, z),
        "ValueError: the loss must return per-row losses, or them and their slopes, not 3 values",
    ),
    "NaN": (spoilt, "ValueError: the loss must be finite, its mean is NaN"),
    "NaN slope": (
        lambda z: (z.sum(dim=1) * 0, z * float("nan")),
        "ValueError: the slope of the loss must be finite, it holds NaN or infinity",
    ),
    "raises": (boom, "RuntimeError: boom"),
    "leaves": (leave, "SystemExit: 3"),
}


@dataclass(frozen=True, eq=False)
class Breaking:
    """Softmax, until the given call of its loss."""

    how: str
    at: int
    solver: str = "exact"
    l2: float = 1e-6
    calls: list[int] = field(default_factory=list)

    def loss(self, batch: ltbench.Batch) -> Any:
        """Break at some call, and ever after."""
        self.calls.append(1)
        return (
            ltbench.softmax_loss(batch.logits, batch.targets)
            if len(self.calls) < self.at
            else BREAKS[self.how][0](batch.logits)
        )


def head(text: str) -> tuple[str, list[Any]]:
    """Return a head of the family by its name."""
    return text, [resolve(discover(), "classifier", f"{text}@ltbench-classifiers").build()]


@functools.cache
def problem() -> Problem:
    """Return a small long-tailed problem."""
    return long_tailed()


def run(of: Problem, heads: Sequence[tuple[str, list[Any]]], prepared: Prepared | None = None) -> dict[str, Any]:
    """Run heads together; return each one's result and scores, or the error that its record tells."""
    found: dict[str, Any] = {}
    prepared = prepared or of.prepared(of.test)
    cells = [(Candidates(name, made, [{"l2": n} for n in range(len(made))]), 0) for name, made in heads]
    for ended in run_cells(prepared, cells, of.test_labels):
        if ended is not None:
            name, outcome = heads[ended[0]][0], ended[1]
            if isinstance(outcome, BaseException):
                failure = failure_of(outcome)
                assert failure.blamed == ("classifier",)
                found[name] = failure.told["error"]
            else:
                found[name] = outcome[0], outcome[1].scores.tolist()
    assert sorted(found) == sorted(name for name, _ in heads)
    return found


HEALTHY = ("balanced-softmax", "ncm", "crt", "softmax", "cosine")


@functools.cache
def healthy() -> dict[str, Any]:
    """Return what heads give without bad company."""
    return run(problem(), [head(name) for name in HEALTHY])


@pytest.mark.parametrize("at", [1, 7])
@pytest.mark.parametrize("how", BREAKS)
def test_a_loss_that_breaks_costs_its_own_cell(how: str, at: int) -> None:
    """At once or at step 7, solved exactly, trained by a recipe or selected: the record says what, the others go on."""
    bad = {
        "exact": [Breaking(how, at)],
        "recipe": [Breaking(how, at, "crt")],
        "selected": [Breaking(how, at, l2=1e-5), Breaking(how, at)],
    }
    first, *rest = [head(name) for name in HEALTHY]
    found = run(problem(), [first, *bad.items(), *rest])
    for name in HEALTHY:
        assert found[name] == healthy()[name]
    assert BREAKS[how][1] in found["exact"]
    assert BREAKS[how][1] in found["selected"]
    left = "ValueError: training left the finite numbers in epoch"
    assert (left if how.startswith("NaN") else BREAKS[how][1]) in found["recipe"]


@pytest.mark.parametrize("how", ["raises", pytest.param("leaves", marks=pytest.mark.slow)])
def test_a_loss_may_break_at_any_call(how: str) -> None:
    """Whatever the loss is asked for, the search, the curvature or the head that is made, its cell alone ends."""
    train = problem().train
    counted, good = Breaking(how, 10**6, l2=1e-3), Job(train, Breaking(how, 10**6).loss, 1e-2)
    alone = fitted({"good": good})["good"]
    fitted({"counted": Job(train, counted.loss, counted.l2)})
    assert len(counted.calls) > 10
    for at in range(1, len(counted.calls) + 1):
        found = fitted({"bad": Job(train, Breaking(how, at).loss, counted.l2), "good": good})
        assert isinstance(found["bad"], RuntimeError if how == "raises" else SystemExit), at
        assert torch.equal(found["good"].weight, alone.weight)


def fitted(jobs: dict[str, Job]) -> dict[Any, Any]:
    """Return what becomes of jobs that are solved side by side."""
    solver = Exact()
    for name, job in jobs.items():
        solver.put(name, job)
    found: dict[Any, Any] = {}
    while solver.busy:
        found |= dict(solver.step())
    return found


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_rows_that_are_not_finite_are_refused(value: float) -> None:
    """Features that hold NaN or infinity are named by their number, by every solver."""
    x = problem().train.x.clone()
    x[[3, 5], 1] = value
    prepared = problem().prepared(problem().test)
    rows = prepared.train.replace(x=x, targets=problem().train.targets, **own_rows(problem()))
    broken = dataclasses.replace(prepared, train=rows)
    found = run(problem(), [head(name) for name in ("softmax", "crt", "cosine")], broken)
    told = f"ValueError: features must be finite, 2 of {len(x)} training rows hold NaN or infinity"
    assert found == {"softmax": told, "crt": told, "cosine": told}


def own_rows(of: Problem) -> dict[str, Tensor]:
    """Return what else goes with a problem's own rows."""
    return {name: getattr(of.train, name) for name in ("weights", "row_ids", "class_counts")}


ODD = {
    "a class of one row": (8, 4, 1),
    "an absent class": (8, 0, 4),
    "two classes": (9, 4),
    "one row each": (1, 1, 1),
}


@pytest.mark.parametrize("odd", [*ODD, "all rows equal"])
def test_odd_rows_are_no_error(odd: str) -> None:
    """Every head of the family is fitted, selected and scored on rows that are few, missing or all the same."""
    made = long_tailed(ODD.get(odd, (8, 4, 3)))
    if odd == "all rows equal":
        made = made.replace_train(x=torch.full_like(made.train.x, 0.3))
    found = run(made, [head(name) for name in FAMILY])
    assert {name: each for name, each in found.items() if isinstance(each, str)} == {}
