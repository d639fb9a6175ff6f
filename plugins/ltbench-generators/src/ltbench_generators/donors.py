"""Which classes others may borrow from, which of them are nearest, and noise of their covariance."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import ltbench
from ltbench_generators.draws import ClassRows, class_rows
from ltbench_generators.moments import ROWS, class_sums
from ltbench_generators.neighbours import nearest_points
from ltbench_generators.sampler import signed_power
from ltbench_generators.shrinkage import factor

FACTORS = 64
"""Factors of covariances remembered: what a class borrows from, it borrows from again."""


def check_donors(donors: str) -> None:
    """Raise ValueError unless donors are ``head``, ``all`` or class numbers such as ``0 1 5``."""
    if donors not in ("head", "all") and not re.fullmatch(r"\d+( \d+)*", donors):
        raise ValueError(f"donors must be head, all, or class numbers such as '0 1 5', not {donors!r}")


@dataclass(frozen=True)
class Donors:
    """Classes to borrow from: their numbers ``[H]``, and the means of all classes ``[C, D]`` in the space of ``power``.

    ``left_out`` are classes that were named, but cannot lend.
    """

    train: ltbench.Train
    rows: ClassRows
    numbers: Tensor
    means: Tensor
    power: float
    left_out: tuple[int, ...] = ()

    @staticmethod
    def of(train: ltbench.Train, wanted: str, power: float = 1.0) -> Donors:
        """Find the donors: of two rows or more, and for ``head`` of no fewer than classes have on average.

        One row has no spread to lend. Raises UsageError for a class that does not exist, SkipCell if no donor is left.
        """
        counts, left_out = train.real_class_counts, tuple[int, ...]()
        able = counts > 1
        if wanted == "head":
            able = able & (counts * int((counts > 0).sum()) >= counts.sum())
        elif wanted != "all":
            named = [int(number) for number in wanted.split()]
            if max(named) >= train.classes:
                raise ltbench.UsageError(f"donors must be classes 0 to {train.classes - 1}, not {max(named)}")
            left_out = tuple(sorted({number for number in named if not able[number]}))
            able = able & torch.isin(torch.arange(train.classes, device=able.device), torch.tensor(named, device=able.device))
        if not bool(able.any()):
            raise ltbench.SkipCell(f"no class of donors={wanted!r} has two training rows to borrow from")
        sums = class_sums(train, lambda x, _: signed_power(x, power))
        return Donors(train, class_rows(train), able.nonzero().flatten(), sums / counts.clamp_min(1)[:, None], power, left_out)

    @property
    def notes(self) -> dict[str, Any]:
        """How many classes lend, and which were named and cannot."""
        return {"donor_classes": len(self.numbers), **({"donors_left_out": list(self.left_out)} if self.left_out else {})}

    def nearest(self, points: Tensor, labels: Tensor, k: int, *, own: bool) -> Tensor:
        """Return the k donors whose means are nearest to rows ``[n, D]`` of classes ``[n]``: numbers ``[n, k]``, −1 for none.

        ``own`` lets a class borrow from itself; otherwise it does so only where it is the only donor.
        """
        found, means = [], self.means[self.numbers]
        left_out = torch.full_like(labels, -1)
        if not own and len(self.numbers) > 1:
            place = torch.full((len(self.means),), -1, device=labels.device).scatter_(
                0, self.numbers, torch.arange(len(self.numbers), device=labels.device)
            )
            left_out = place[labels]
        for start in range(0, len(points), ROWS):
            rows = slice(start, start + ROWS)
            nearest = nearest_points(signed_power(points[rows].double(), self.power), means, k, left_out[rows])
            found.append(torch.where(nearest == left_out[rows, None], -1, self.numbers[nearest]))
        return torch.cat(found) if found else torch.empty(0, k, dtype=torch.long, device=points.device)

    def noise(self, donors: Tensor, stream: ltbench.Stream, ids: Tensor) -> Tensor:
        """Return normal noise ``[s, D]`` with the covariance (divisor n − 1) of each row's donor ``[s]``; 0 without one."""
        noise = torch.zeros(len(donors), self.means.shape[1], dtype=torch.float64, device=donors.device)
        for donor in torch.bincount(donors[donors >= 0]).nonzero().flatten().tolist():
            mine = donors == donor
            matrix = self._factors(donor)
            noise[mine] = stream.normal(ids[mine], len(matrix)) @ matrix
        return noise

    @functools.cached_property
    def _factors(self) -> Callable[[int], Tensor]:
        """F with FᵀF the covariance of a donor; the last ``FACTORS`` are remembered.

        What computes them does not know this object: in a cycle, rows would stay in memory until the next collection.
        """
        train, own, means, power = self.train, self.rows, self.means, self.power

        def computed(donor: int) -> Tensor:
            rows = signed_power(train.x[own.of(donor)].double(), power) - means[donor]
            return factor(rows / math.sqrt(len(rows) - 1))

        return functools.lru_cache(maxsize=FACTORS)(computed)
