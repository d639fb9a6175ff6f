"""What the tests of classifiers share: small training sets, one thread, and heads fitted to their optimum."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

import ltbench
from ltbench.heads import fit_classifier


def _train_of(x: Tensor, targets: Tensor, classes: int, weights: Tensor | None = None) -> ltbench.Train:
    """Return training rows, classes counted by weight in a loop."""
    weights = torch.ones(len(x), dtype=torch.float64) if weights is None else weights.double()
    counts, rows = torch.zeros(classes, dtype=torch.float64), torch.zeros(classes, dtype=torch.float64)
    for target, weight in zip(targets, weights, strict=True):
        share = target.double() if target.ndim else one_hot(target, classes).double()
        counts += weight * share
        rows += share
    return ltbench.Train(x, targets, weights, torch.arange(len(x)), counts, rows, ltbench.Stream.of(0))


def _blobs(counts: list[int], width: int = 4, seed: int = 0) -> ltbench.Train:
    """Return overlapping Gaussian classes of these sizes, rows in class order."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    means = 1.5 * torch.randn(len(counts), width, generator=generator)
    return _train_of(means[labels] + torch.randn(len(labels), width, generator=generator), labels, len(counts))


def _fitted(classifier: Any, train: ltbench.Train) -> Any:
    """Fit as ltbench does, but what is solved exactly to a gap of 1e-10."""
    base = getattr(classifier, "base", None)
    if hasattr(classifier, "fit") or (base is None and getattr(classifier, "solver", "exact") != "exact"):
        return fit_classifier(classifier, train)
    if base is not None:
        return classifier.post_hoc(_fitted(base, train), train)
    weights = classifier.row_weights(train) if hasattr(classifier, "row_weights") else None
    head = ltbench.fit_linear(train, classifier.loss, classifier.l2, weights, tolerance=1e-10)
    return classifier.post_hoc(head, train) if hasattr(classifier, "post_hoc") else head


@pytest.fixture(scope="session")
def train_of() -> Callable[..., ltbench.Train]:
    """Return ``train_of(x, targets, classes, weights=None)``."""
    return _train_of


@pytest.fixture(scope="session")
def blobs() -> Callable[..., ltbench.Train]:
    """Return ``blobs(counts, width=4, seed=0)``."""
    return _blobs


@pytest.fixture(scope="session")
def fitted() -> Callable[..., Any]:
    """Return ``fitted(classifier, train)``."""
    return _fitted


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Run on one thread, which small problems are fastest on, and restore the number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
