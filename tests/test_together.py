"""Alone = together: a head gives the same bits by itself and among others, in any company, order and number of lanes."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import ltbench
from ltbench.components import resolve
from ltbench.execute.cell import Candidates, run_cells
from ltbench.execute.numerics import pinned
from ltbench.execute.setting import Prepared
from ltbench.heads import Task, exact, fit_many
from ltbench.heads.history import MEMORY
from ltbench.plan import candidate_values
from ltbench.plugins import Registry, discover
from ltbench.runs import Event
from ltbench.testing.problem import Problem, long_tailed

pytestmark = pytest.mark.determinism

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

Ended = dict[str, Any]
"""What each head left behind, by its name: a result with test scores, or the text of an error."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Run on one thread, as cells do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@functools.cache
def registry() -> Registry:
    """Return what is installed."""
    return discover()


@functools.cache
def names() -> tuple[str, ...]:
    """Return every head of the family."""
    known = registry().components("classifier")
    return tuple(sorted(each.component.name for each in known if each.distribution == "ltbench-classifiers"))


@functools.cache
def has_penalty(name: str) -> bool:
    """Whether a head has an ``l2``."""
    return hasattr(resolve(registry(), "classifier", f"{name}@ltbench-classifiers").build(), "l2")


def candidates(text: str) -> Candidates:
    """Return a head's instances, built anew."""
    component = resolve(registry(), "classifier", text)
    values = candidate_values(component)
    return Candidates(text, [component.build(**chosen) for chosen in values], values)


def selecting(name: str) -> str:
    """Name a head of the family, choosing its penalty where it has one."""
    return f"{name}@ltbench-classifiers" + ("[l2=select(0.1,0.003,0.0001)]" if has_penalty(name) else "")


@functools.cache
def problem() -> Problem:
    """Return a small long-tailed problem."""
    return long_tailed()


def prepared() -> Prepared:
    """Return its rows, made anew, with synthetic rows and two folds."""
    return problem().prepared(problem().test)


def run(texts: Sequence[str]) -> Ended:
    """Run heads together."""
    found: Ended = {}
    for ended in run_cells(prepared(), [(candidates(text), 7) for text in texts], problem().test_labels):
        if ended is not None:
            number, outcome = ended
            found[texts[number]] = repr(outcome.__cause__) if isinstance(outcome, BaseException) else plain(outcome)
    assert len(found) == len(texts)
    return found


def plain(outcome: Any) -> Any:
    """Return a result with its scores as values that compare by their bits."""
    result, arrays = outcome
    return result, arrays.scores.numpy().tobytes()


@functools.cache
def together() -> Ended:
    """Run the whole family at once."""
    return run([selecting(name) for name in names()])


@pytest.mark.parametrize("name", names())
def test_alone_is_together(name: str) -> None:
    """Selected, fitted and measured alone, a head leaves behind what it left among the whole family."""
    text = selecting(name)
    alone = run([text])[text]
    assert not isinstance(alone, str), alone
    assert together()[text] == alone


@pytest.mark.parametrize("seed", range(2))
def test_company_and_order_do_not_matter(seed: int) -> None:
    """Any half of the family, in any order, gives what all give together."""
    drawn = random.Random(seed)
    some = [selecting(name) for name in drawn.sample(names(), len(names()) // 2)]
    assert run(some) == {text: together()[text] for text in some}


def test_one_lane_is_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Problems so large that they have one lane do not depend on their company either."""
    monkeypatch.setattr(exact, "CPU_PARAMETERS", 0)
    some = [selecting(name) for name in ("softmax", "tau-norm", "focal")]
    found = run(some)
    for text in some[:2]:
        assert run([text])[text] == found[text]


@pytest.mark.slow
def test_alone_is_among_five_hundred() -> None:
    """One head of each kind, without selection, is as it is among 500 of other penalties."""
    trained = [name for name in names() if has_penalty(name)]
    penalties = [round(10 ** (-0.1 * step - 0.5), 6) for step in range(500 // len(trained) + 1)]
    everyone = [f"{name}@ltbench-classifiers[l2={l2}]" for l2 in penalties for name in trained]
    everyone += [f"{name}@ltbench-classifiers" for name in names() if name not in trained]
    assert len(everyone) >= 500
    random.Random(0).shuffle(everyone)
    found = run(everyone)
    for name in names():
        text = next(text for text in everyone if text.startswith(f"{name}@"))
        assert run([text])[text] == found[text], text


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_cuda])])
@pytest.mark.parametrize("lanes", [8, 16, 32])
@pytest.mark.parametrize(("width", "classes"), [(12, 4), (96, 40), (512, 100)])
def test_lanes_do_not_know_of_each_other(
    monkeypatch: pytest.MonkeyPatch, device: str, lanes: int, width: int, classes: int
) -> None:
    """Heads of 40 penalties on stacks of any height: each has the weights that it has alone."""
    monkeypatch.setattr(exact, "CPU_LANES", lanes)
    monkeypatch.setattr(exact, "CUDA_LANES", lanes)
    monkeypatch.setattr(exact, "CPU_PARAMETERS", 2**20)
    labels = torch.arange(3 * classes, device=device) % classes
    x = torch.randn(len(labels), width, generator=torch.Generator().manual_seed(0)).to(device) + labels[:, None] / classes
    counts = torch.bincount(labels).double()
    ones, ids = torch.ones(len(labels), dtype=torch.float64, device=device), torch.arange(len(labels), device=device)
    train = ltbench.Train(x, labels, ones, ids, counts, counts, ltbench.Stream.of(0))
    heads = [candidates(f"softmax[l2={10 ** (-0.1 * step)}]").instances[0] for step in range(40)]

    def weights(chosen: Sequence[int]) -> dict[int, torch.Tensor]:
        found = fit_many([Task([heads[number]], train) for number in chosen], lambda scorer, rows: scorer(rows))
        return {chosen[place]: fitted.scorer.weight for place, fitted in found}

    with pinned(device):
        among = weights(range(40))
        for number in (0, 17, 39):
            assert torch.equal(among[number], weights([number])[number])


def test_lanes_follow_from_the_size_of_the_problem() -> None:
    """Many small ones on a CPU, one large one; on a GPU as many as their curvature has room, and never none."""
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert [exact.lanes_by_size(size, cpu) for size in (10, exact.CPU_PARAMETERS, exact.CPU_PARAMETERS + 1)] == [8, 8, 1]
    lanes = [exact.lanes_by_size(10**power, cuda) for power in range(1, 11)]
    assert lanes == sorted(lanes, reverse=True)
    assert (lanes[0], lanes[-1]) == (16, 1)
    assert all(k == 1 or k * 2 * MEMORY * 4 * 10**power <= exact.HISTORY_BYTES for power, k in enumerate(lanes, start=1))


SMALL: dict[str, Any] = {
    "dataset": "digits",
    "backbone": "pixels",
    "ratio": [5],
    "seeds": [3],
    "n_max": 10,
    "reference": False,
    "selection": {"folds": 2, "budget": 2, "candidates": {"l2": [0.1, 0.001], "shrinkage": [0.6, 0.1]}},
}


def results(out: Path, **settings: Any) -> dict[str, Any]:
    """Run an experiment with half the family; return results by key."""
    heads = [f"{name}@ltbench-classifiers" for name in names()[::2]]
    done = ltbench.run(out=out, **{**SMALL, "classifier": ",".join(heads), **settings})
    assert {record.status for record in done.records} == {"done"}
    return {record.key: record.result for record in done.records}


def test_a_resume_and_workers_do_not_matter(tmp_path: Path) -> None:
    """Records are the same from one process, from two workers, and after Ctrl-C in the middle of a group."""

    def interrupt(event: Event) -> None:
        if event.number == len(names()) // 4:
            raise KeyboardInterrupt

    undisturbed = results(tmp_path / "one")
    with pytest.raises(KeyboardInterrupt):
        results(tmp_path / "two", progress=interrupt)
    assert results(tmp_path / "two") == undisturbed
    assert results(tmp_path / "three", workers=2) == undisturbed
