"""What the tests of generators share: small training sets, and drawing from a generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

import ltbench


def _train_of(counts: Sequence[int], width: int = 4, seed: int = 0, stream: int = 7, apart: float = 3.0) -> ltbench.Train:
    """Return real rows, the classes mixed, each ``apart`` further along every feature than the one before."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    x = torch.randn(len(labels), width, generator=generator) + apart * labels[:, None]
    count = torch.tensor(counts, dtype=torch.float64)
    weights = torch.ones(len(labels), dtype=torch.float64)
    return ltbench.Train(x, labels, weights, 100 + torch.arange(len(labels)), count, count, ltbench.Stream.of(stream))


def _draw(generator: Any, train: ltbench.Train, budget: Sequence[int]) -> ltbench.Rows:
    """Fit and sample."""
    rows = generator.fit(train)(torch.tensor(budget))
    assert isinstance(rows, ltbench.Rows)
    return rows


@pytest.fixture(scope="session")
def train_of() -> Callable[..., ltbench.Train]:
    """Return ``train_of(counts, width=4, seed=0, stream=7, apart=3.0)``."""
    return _train_of


@pytest.fixture(scope="session")
def draw() -> Callable[..., ltbench.Rows]:
    """Return ``draw(generator, train, budget)``."""
    return _draw
