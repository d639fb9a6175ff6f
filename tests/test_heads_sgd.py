"""Tests of training by mini-batches: what losses see of a batch, what they may return, and what heads share."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import ltbench
from ltbench.heads.layers import Kept, Linear
from ltbench.heads.recipes import recipe_of
from ltbench.heads.sgd import Course, SgdJob, fit_sgd, training


def few(rows: int = 20, classes: int = 5) -> ltbench.Train:
    """Return fewer rows than a batch of the recipes has."""
    labels = torch.arange(rows) % classes
    x = torch.randn(rows, 6, generator=torch.Generator().manual_seed(0)) + labels[:, None]
    counts = torch.bincount(labels, minlength=classes).double()
    return ltbench.Train(x, labels, torch.ones(rows), torch.arange(rows), counts, counts, ltbench.Stream.of(0))


def by_hand(batch: ltbench.Batch) -> tuple[Tensor, Tensor]:
    """Cross entropy."""
    return ltbench.softmax_loss(batch.logits, batch.targets)


@pytest.mark.parametrize("recipe", ["sgd", "adamw", "crt", "lift"])
@pytest.mark.parametrize("rows", [5, 20])
def test_a_batch_has_a_weight_for_each_of_its_rows(recipe: str, rows: int) -> None:
    """Also where classes take turns, and a batch has more rows than there are."""

    def weighted(batch: ltbench.Batch) -> tuple[Tensor, Tensor]:
        assert batch.weights.shape == batch.targets.shape == batch.synthetic.shape
        losses, slopes = by_hand(batch)
        return losses * batch.weights, slopes * batch.weights[:, None]

    train = few(rows)
    assert torch.equal(fit_sgd(train, weighted, 1e-3, recipe).weight, fit_sgd(train, by_hand, 1e-3, recipe).weight)


def test_what_a_loss_does_to_its_weights_is_gone_with_the_batch() -> None:
    """A loss that halves the weights it sees finds them whole in the next batch."""
    seen = []

    def halving(batch: ltbench.Batch) -> tuple[Tensor, Tensor]:
        seen.append(batch.weights.clone())
        batch.weights.mul_(0.5)
        return by_hand(batch)

    fit_sgd(few(), halving, 1e-3)
    assert all(bool((each == 1).all()) for each in seen)


@pytest.mark.parametrize("weights", [None, torch.linspace(0.5, 1.5, 20)], ids=["even", "uneven"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int64])
def test_slopes_of_any_precision_serve(weights: Tensor | None, dtype: torch.dtype) -> None:
    """Slopes of whole numbers, as a hinge has them, are what the same in float32 are."""

    def whole(batch: ltbench.Batch) -> tuple[Tensor, Tensor]:
        own = torch.nn.functional.one_hot(batch.targets, 5)
        slopes = ((batch.logits + (1 - own) > 0).long() - own).to(dtype)
        return (batch.logits * slopes).sum(dim=1), slopes

    def plain(batch: ltbench.Batch) -> tuple[Tensor, Tensor]:
        losses, slopes = whole(batch)
        return losses, slopes.float()

    train = few()
    found, expected = (fit_sgd(train, loss, 1e-3, row_weights=weights) for loss in (whole, plain))
    assert torch.equal(found.weight, expected.weight)


def test_heads_of_a_layer_share_what_it_makes_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made once a batch for three heads; where that fails, each fails by itself, those of another layer do not."""
    calls = []
    monkeypatch.setattr(Linear, "rows", lambda self, x: calls.append(len(x)) or (x,))
    recipe, shared = recipe_of("sgd"), Linear()
    alone = [fit_sgd(few(), by_hand, l2, recipe, layer=shared).weight for l2 in (1e-3, 1e-2)]
    steps = len(calls) // 2
    calls.clear()
    together = ended(training(few(), recipe, [SgdJob(by_hand, l2, None, shared) for l2 in (1e-3, 1e-2)]))
    assert [torch.equal(each.weight, other) for each, other in zip(together, alone, strict=True)] == [True, True]
    assert len(calls) == steps == recipe.epochs

    def refuse(self: Linear, x: Tensor) -> Kept:
        if self is shared:
            raise ValueError("no such rows")
        return (x,)

    monkeypatch.setattr(Linear, "rows", refuse)
    jobs = [SgdJob(by_hand, 1e-3, None, layer) for layer in (shared, Linear(), shared)]
    first, second, third = ended(training(few(), recipe, jobs))
    assert str(first) == str(third) == "no such rows"
    assert torch.equal(second.weight, alone[0])


def ended(course: Course) -> Any:
    """Return what a training under way comes to."""
    while True:
        try:
            next(course)
        except StopIteration as end:
            return end.value
