"""Whether a component draws random numbers, wherever it gets them from, and whether they follow the stream."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ltbench.components import Resolved
from ltbench.streams import Stream
from ltbench.testing.exercise import CheckFailed, difference, exercise
from ltbench.testing.problem import long_tailed

STREAMS = 3
"""How many other streams have to change nothing before a draw counts as ignored."""

RANDOM_FUNCTIONS = re.compile(
    r"(rand(int|n|perm|om)?(_like)?|(log_)?normal|uniform|bernoulli|multinomial|poisson|exponential|geometric|cauchy)_?"
)
"""Functions of torch that draw from a generator, those that work in place with an underscore."""


def check_seed_used(resolved: Resolved) -> None:
    """Require that what a component draws changes with its stream; one that draws nothing is exempt."""
    problem = long_tailed()
    with watched_draws() as draws:
        first = exercise(resolved, problem)
    if not draws:
        return
    for seed in range(STREAMS):
        other = exercise(resolved, problem.replace_train(stream=Stream.of(seed, "another stream")))
        if difference(first, other):
            return
    raise CheckFailed(
        f"draws random numbers ({', '.join(sorted(set(draws)))}), yet {STREAMS + 1} streams give the same result: "
        "draw from train.stream.child(...), or seed your generator from it"
    )


@contextlib.contextmanager
def watched_draws() -> Iterator[list[str]]:
    """Collect the names of what is drawn from: any Stream, torch's RANDOM_FUNCTIONS, NumPy's ``default_rng``."""
    found: list[str] = []
    bits, default_rng = Stream.bits, np.random.default_rng

    def watched_bits(self: Stream, row_ids: Tensor, columns: int) -> Tensor:
        found.append("ltbench.Stream")
        return bits(self, row_ids, columns)

    def watched_rng(*arguments: Any) -> np.random.Generator:
        found.append("numpy.random.default_rng")
        return default_rng(*arguments)

    with (
        mock.patch.object(Stream, "bits", watched_bits),
        mock.patch.object(np.random, "default_rng", watched_rng),
        _Watch(found),
    ):
        yield found


class _Watch(TorchFunctionMode):
    """Notes every call of a function of torch that draws from a generator."""

    def __init__(self, found: list[str]) -> None:
        """Remember where to note."""
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note, and go on."""
        name = getattr(func, "__name__", "")
        if RANDOM_FUNCTIONS.fullmatch(name):
            self.found.append(f"torch {name}")
        return func(*args, **(kwargs or {}))
