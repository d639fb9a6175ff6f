"""Rows go when their heads are done: no cycle may keep them until the next garbage collection, many settings later."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest
import torch

import ltbench
from ltbench.components import resolve
from ltbench.heads import Task, fit_many
from ltbench.plugins import discover

HEADS = (
    "softmax",
    "softmax[solver=sgd]",
    "cosine",
    "ncm",
    "knn",
    "lda",
    "gda",
    "ridge",
    "tau-norm",
    "lws",
    "logit-adjustment[mode=post-hoc]",
)


@pytest.fixture(autouse=True)
def _no_collection() -> Iterator[None]:
    """Leave cycles where they are."""
    gc.disable()
    yield
    gc.enable()


def rows(seed: int) -> ltbench.Train:
    """Return a few classes."""
    labels = torch.arange(30) % 3
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(seed)) + labels[:, None]
    counts = torch.bincount(labels).double()
    return ltbench.Train(x, labels, torch.ones(30), torch.arange(30), counts, counts, ltbench.Stream.of(seed))


@pytest.mark.parametrize("temperature", [False, True])
@pytest.mark.parametrize("name", HEADS)
def test_rows_go_with_their_heads(name: str, temperature: bool) -> None:
    """Of several candidates on a fold, tempered or not, two cells at once."""
    made = [resolve(discover(), "classifier", name).build() for _ in range(2)]
    train, fold = rows(0), rows(1)
    task = Task(made, train, [(fold, fold.x, fold.targets)], temperature)
    found = list(fit_many([task, task], lambda scorer, x: scorer(x)))
    assert not any(isinstance(each, BaseException) for _, each in found)
    alive = [weakref.ref(train), weakref.ref(fold)]
    del train, fold, task
    assert [each() for each in alive] == [None, None]


def test_rows_go_where_a_head_fails() -> None:
    """A loss that raises, and its neighbour."""

    class Raises:
        l2 = 1e-3

        def loss(self, batch: ltbench.Batch) -> torch.Tensor:
            raise RuntimeError("boom")

    train, fold = rows(0), rows(1)
    tasks = [
        Task([part, part], train, [(fold, fold.x, fold.targets)])
        for part in (Raises(), resolve(discover(), "classifier", "softmax").build())
    ]
    (_, first), (_, second) = sorted(fit_many(tasks, lambda scorer, x: scorer(x)), key=lambda ended: ended[0])
    assert isinstance(first, RuntimeError)
    assert not isinstance(second, BaseException)
    first.__traceback__ = None  # whoever holds the error holds what it was raised in
    alive = [weakref.ref(train), weakref.ref(fold)]
    del train, fold, tasks
    assert [each() for each in alive] == [None, None]
