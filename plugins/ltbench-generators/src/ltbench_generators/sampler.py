"""From what synthetic rows are made of to the rows: part by part, in bounded memory, on the unit sphere where the real are."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

import ltbench

PART = 2**18
"""Numbers in a part on the CPU, whose working copies stay in a core's cache. CUDA takes parts 64 times as large."""

UNIT = 1e-3


@dataclass(frozen=True)
class Part:
    """Consecutive synthetic rows of one class: its label, their places among all, and the ids of their draws ``[s]``."""

    label: int
    rows: slice
    ids: Tensor


Added = Callable[[Part], Tensor | None]


@dataclass(frozen=True)
class Recipe:
    """What S rows are made of: row s = P⁻¹(Σ_p parent_weights[s, p] · P(x[parents[s, p]]) + added), P(x) = sign(x)|x|^power.

    ``targets``, ``parents``, ``parent_weights`` and ``donors`` are those of ``ltbench.Rows``; weights left out are 1.
    ``added(part)`` gives ``[s, D]`` for the rows of a part, in float64 or the features' precision, or None. ``flops`` is
    what all but the sum costs.
    """

    targets: Tensor
    parents: Tensor | None = None
    parent_weights: Tensor | None = None
    donors: Tensor | None = None
    added: Added | None = None
    power: float = 1.0
    notes: Mapping[str, Any] = field(default_factory=dict)
    flops: int = 0


@dataclass(frozen=True)
class Sampler:
    """Plans a budget, then makes its rows: all at once, or part by part where all would not fit."""

    train: ltbench.Train
    plan: Callable[[ltbench.Train, Tensor], Recipe]

    def __call__(self, budget: Tensor) -> ltbench.Rows:
        """Return the budget ``[C]`` as rows ``[S, D]``, class by class."""
        recipe = self._planned(budget)
        if recipe.added is None and recipe.parents is not None and not self._precise(recipe):
            return self._rows(recipe, slice(None), _summed(self.train.x, recipe, slice(None)))
        x = self.train.x.new_empty(int(budget.sum()), self.train.x.shape[1])
        lengths = torch.empty(len(x), dtype=torch.float64, device=x.device)
        for part in _parts(budget, x):
            x[part.rows], lengths[part.rows] = self._made(recipe, part)
        return self._rows(recipe, slice(None), x, lengths if self._unit else 1.0)

    def parts(self, budget: Tensor) -> Iterator[ltbench.Rows]:
        """Yield the same rows in parts: each of one class, and of at most ``PART`` numbers on the CPU.

        Each says all notes; costs add up to those of all rows.
        """
        recipe = self._planned(budget)
        for part in _parts(budget, self.train.x):
            made, lengths = self._made(recipe, part)
            yield self._rows(recipe, part.rows, made.to(self.train.x.dtype), lengths)
            recipe = dataclasses.replace(recipe, flops=0)  # planned once: the first part bears it

    def _planned(self, budget: Tensor) -> Recipe:
        """Plan a budget that can be met, or raise UsageError."""
        check_request(self.train, budget)
        return self.plan(self.train, budget)

    def _precise(self, recipe: Recipe) -> bool:
        """Whether rows are made in float64: under a power and onto the sphere, but no sum of parents gains by it."""
        return recipe.power != 1 or self._unit

    def _made(self, recipe: Recipe, part: Part) -> tuple[Tensor, Tensor | float]:
        """Return rows ``[s, D]``, and by what each was divided to have length one."""
        made = None if recipe.added is None else recipe.added(part)
        if recipe.parents is not None:
            precise = self._precise(recipe) or (made is not None and made.dtype != self.train.x.dtype)
            summed = (_summed_precisely if precise else _summed)(self.train.x, recipe, part.rows)
            made = summed if made is None else summed.add_(made)
        if made is None:
            raise TypeError("a recipe without parents must add something")
        made = signed_power(made, 1 / recipe.power)
        return onto_sphere(made.double()) if self._unit else (made, 1.0)

    def _rows(self, recipe: Recipe, rows: slice, x: Tensor, lengths: Tensor | float = 1.0) -> ltbench.Rows:
        """Return made rows with their provenance; weights of parents, under the power, are divided as the rows were."""
        parents, weights, donors = (
            None if each is None else each[rows] for each in (recipe.parents, recipe.parent_weights, recipe.donors)
        )
        if parents is not None and isinstance(lengths, Tensor):
            weights = (lengths.new_ones(parents.shape) if weights is None else weights) / lengths[:, None] ** recipe.power
        terms = 0 if parents is None else 2 * parents.shape[1]
        return ltbench.Rows(
            x=x,
            targets=recipe.targets[rows],
            parents=parents,
            parent_weights=weights,
            donors=donors,
            notes={**recipe.notes, **({"unit_rows": True} if self._unit and len(x) else {})},
            flops=recipe.flops + terms * x.numel(),
        )

    @functools.cached_property
    def _unit(self) -> bool:
        """Whether all real rows have length one, so that synthetic ones must."""
        return unit_rows(self.train.x)


def unit_rows(x: Tensor) -> bool:
    """Return whether all rows have length one, up to the rounding of half precision: a few first, most often enough."""
    return all(bool(((rows.norm(dim=1) - 1).abs() < UNIT).all()) for rows in (x[:16], x))


def onto_sphere(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return float64 rows ``[s, D]`` at length one, and by what each was divided; copies of unit rows stay as they are."""
    length = rows.norm(dim=1)
    length = torch.where((length - 1).abs() > 1e-6, length.clamp_min(1e-30), 1.0)
    return rows / length[:, None], length


def signed_power(x: Tensor, power: float) -> Tensor:
    """Return sign(x)·|x|^power: Tukey's ladder, for features of either sign."""
    return x if power == 1 else x.sign() * x.abs().pow(power)


def _summed(x: Tensor, recipe: Recipe, rows: slice) -> Tensor:
    """Return the weighted sum over parents for some rows ``[s, D]``, in the features' precision and one pass."""
    assert recipe.parents is not None
    weights = None if recipe.parent_weights is None else recipe.parent_weights[rows].to(x.dtype)
    return embedding_bag(recipe.parents[rows], x.contiguous(), mode="sum", per_sample_weights=weights)


def _summed_precisely(x: Tensor, recipe: Recipe, rows: slice) -> Tensor:
    """Return the weighted sum over parents for some rows ``[s, D]``, in float64 and under the power."""
    assert recipe.parents is not None
    total = None
    for p, positions in enumerate(recipe.parents[rows].unbind(dim=1)):
        term = signed_power(x[positions].double(), recipe.power)
        if recipe.parent_weights is not None:
            term.mul_(recipe.parent_weights[rows, p, None].double())
        total = term if total is None else total.add_(term)
    assert total is not None
    return total


def _parts(budget: Tensor, x: Tensor) -> Iterator[Part]:
    """Cut a budget into parts that begin at multiples of one size within each class, whatever other classes want."""
    size = max(1, (PART * 64 if x.is_cuda else PART) // max(1, x.shape[1]))
    first = 0
    for label, count in enumerate(budget.tolist()):
        for start in range(0, count, size):
            stop = min(count, start + size)
            ids = label * 2**32 + torch.arange(start, stop, device=x.device)
            yield Part(label, slice(first + start, first + stop), ids)
        first += count


def check_request(train: ltbench.Train, budget: Tensor) -> None:
    """Raise UsageError unless the training rows are finite and each class that wants rows has one."""
    if not bool(train.x.sum().isfinite()) and not bool(train.x.isfinite().all()):  # a sum is one pass, but may overflow
        bad = int((~train.x.isfinite()).any(dim=1).sum())
        raise ltbench.UsageError(f"training rows must be finite: {bad} of {len(train.x)} hold NaN or infinity")
    if budget.shape != (train.classes,) or bool((budget < 0).any()):
        raise ltbench.UsageError(f"a budget must be {train.classes} numbers of at least 0, not {budget.tolist()}")
    empty = ((budget > 0) & (train.real_class_counts == 0)).nonzero().flatten().tolist()
    if empty:
        raise ltbench.UsageError(f"classes {empty} have no training row, so none can be made for them: their budget must be 0")
