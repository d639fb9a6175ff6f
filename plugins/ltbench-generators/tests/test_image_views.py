"""Tests of rows made of views of a class's own images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch

import ltbench
from ltbench.testing import parametrize_with_checks
from ltbench_generators.image_views import ImageViews


@parametrize_with_checks(["image-views", "image-views[of=crop+crop.1]"])
def test_conformance(component: Any, check: Any) -> None:
    """Every rule of the contract is kept."""
    check(component)


@pytest.fixture
def train(train_of: Callable[..., ltbench.Train]) -> ltbench.Train:
    """Return rows of three classes with two views: their negatives, and a hundred more."""
    train = train_of([5, 3, 1])
    return train.replace(views={"flip": -train.x, "blur": train.x + 100})


def test_rows_are_views_of_their_parents(train: ltbench.Train, draw: Callable[..., ltbench.Rows]) -> None:
    """Bit for bit, of the class that wants them; each pair of row and view once before any comes twice."""
    rows = draw(ImageViews(of="flip+blur"), train, [0, 9, 5])
    assert rows.parents is not None
    assert rows.targets.tolist() == [1] * 9 + [2] * 5
    pairs = []
    for x, label, parent in zip(rows.x, rows.targets.tolist(), rows.parents[:, 0].tolist(), strict=True):
        assert train.targets[parent] == label
        (name,) = [name for name, seen in train.views.items() if x.equal(seen[parent])]
        pairs.append((label, parent, name))
    counts = Counter(pairs)
    assert sorted(counts[pair] for pair in counts if pair[0] == 1) == [1, 1, 1, 2, 2, 2]
    assert sorted(counts[pair] for pair in counts if pair[0] == 2) == [2, 3]
    assert rows.notes["rows_of_views"] == {
        name: sum(n for pair, n in counts.items() if pair[2] == name) for name in train.views
    }


def test_draws_belong_to_rows(train: ltbench.Train, draw: Callable[..., ltbench.Rows]) -> None:
    """Where a row stands among the others changes nothing; another stream does."""
    generator, budget = ImageViews(of="flip+blur"), [4, 2, 0]
    back = torch.arange(len(train.x)).flip(0)
    moved = {name: getattr(train, name)[back] for name in ("x", "targets", "row_ids")}
    other = train.replace(**moved, views={name: seen[back] for name, seen in train.views.items()})
    assert draw(generator, other, budget).x.equal(draw(generator, train, budget).x)
    assert not draw(generator, train.replace(stream=ltbench.Stream.of(1)), budget).x.equal(draw(generator, train, budget).x)
