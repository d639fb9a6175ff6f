"""The small long-tailed problems that components are tried on: float32 rows, as a backbone gives them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ltbench.budget import Budget
from ltbench.data import views_wanted
from ltbench.execute.rows import Material, Recipe
from ltbench.execute.setting import Prepared, prepare
from ltbench.streams import Stream
from ltbench.types import Rows, Train

COUNTS = (40, 20, 10, 6, 4)
"""Rows of each class, unless a check wants a class of one row, or of none."""

TEST_ROWS_PER_CLASS = 6


@dataclass(frozen=True)
class Problem:
    """What components are given: training rows, a budget ``[C]``, test rows with labels, and images."""

    train: Train
    budget: Tensor
    test: Tensor
    test_labels: Tensor
    images: Tensor

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Everything a component could modify, by the name that messages use."""
        names = ("x", "targets", "weights", "row_ids", "class_counts", "real_class_counts")
        given = {f"train.{name}": getattr(self.train, name) for name in names}
        return {**given, "budget": self.budget, "test rows": self.test, "images": self.images}

    def replace_train(self, **changes: Any) -> Problem:
        """Return a copy whose training rows differ in some fields."""
        return Problem(self.train.replace(**changes), self.budget, self.test, self.test_labels, self.images)

    def prepared(self, test: Tensor, **components: Any) -> Prepared:
        """Make rows as a run does, with a ``transform`` or ``generator`` in place of the stand-ins, for a ``classifier``."""
        train = self.train
        asked = [view for component in components.values() for view in views_wanted(component)]
        views = {view: train.views[view] for view in asked}
        material = Material(train.x, train.targets, train.row_ids, test, train.classes, text=train.text, views=views)
        transform, generator = components.get("transform", Unchanged()), components.get("generator", Copies())
        recipe = Recipe(transform, "transform", generator, "generator", Budget(), "effective", seed=0, folds=2)
        return prepare(material, recipe)


def long_tailed(counts: Sequence[int] = COUNTS, width: int = 6, seed: int = 0) -> Problem:
    """Return a problem with these class counts and so many features; rows of all classes in random order.

    Its class-text vectors are the classes' centres; a view is there under any name.
    """
    stream = Stream.of(seed, "conformance")
    centres = 2 * stream.child("centres").normal(torch.arange(len(counts)), width)
    in_order = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    labels = in_order[stream.child("order").order(torch.arange(len(in_order)))]
    test_labels = torch.arange(len(counts)).repeat(TEST_ROWS_PER_CLASS)
    class_counts = torch.tensor(counts).double()
    x = _around(centres, labels, stream.child("train"))
    train = Train(
        x=x,
        targets=labels,
        weights=torch.ones(len(labels), dtype=torch.float64),
        row_ids=3 * torch.arange(len(labels)) + 1,
        class_counts=class_counts,
        real_class_counts=class_counts.clone(),
        stream=stream.child("component"),
        text=centres.float(),
        views=Nearby(x, stream.child("views")),
    )
    images = stream.child("images").integers(torch.arange(6), 32 * 32 * 3, 256).to(torch.uint8).reshape(6, 32, 32, 3)
    wanted = torch.tensor(Budget().wanted(list(counts)))
    return Problem(train, wanted, _around(centres, test_labels, stream.child("test")), test_labels, images)


def _around(centres: Tensor, labels: Tensor, stream: Stream) -> Tensor:
    """Return float32 rows ``[N, D]`` around their class's centre."""
    return (centres[labels] + stream.normal(torch.arange(len(labels)), centres.shape[1])).float()


@dataclass(frozen=True)
class Nearby(Mapping[str, Tensor]):
    """Views by any name, for components that ask for them: rows near the rows ``[N, D]`` themselves."""

    x: Tensor
    stream: Stream

    def __getitem__(self, name: str) -> Tensor:
        """Return the rows of a view."""
        drawn = self.stream.child(name).normal(torch.arange(len(self.x)), self.x.shape[1])
        return (self.x + 0.3 * drawn).to(self.x.dtype)

    def __iter__(self) -> Iterator[str]:
        """Name none of them."""
        return iter(())

    def __len__(self) -> int:
        """Return how many are named."""
        return 0


class Unchanged:
    """A transform that does nothing, where another kind is tried."""

    def fit(self, _: Tensor) -> Unchanged:
        """Return itself; nothing is learned."""
        return self

    def __call__(self, x: Tensor) -> Tensor:
        """Return the rows as they are."""
        return x


@dataclass(frozen=True)
class Copies:
    """A generator of copies of each class's first row, where another kind is tried."""

    train: Train | None = None

    def fit(self, train: Train) -> Copies:
        """Remember the rows."""
        return Copies(train)

    def __call__(self, budget: Tensor) -> Rows:
        """Return the budget."""
        assert self.train is not None
        labels = torch.arange(len(budget)).repeat_interleave(budget)
        first = {c: int((self.train.targets == c).nonzero()[0]) for c in set(labels.tolist())}
        parents = torch.tensor([first[c] for c in labels.tolist()], dtype=torch.long)
        return Rows(self.train.x[parents], labels, parents=parents[:, None])
