"""How many synthetic rows each class gets, and what they weigh: the part of a generator's name that ltbench itself reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from ltbench.specs import Spec

Target = Literal["max", "median", "mean"] | Annotated[int, Ge(1)] | Annotated[float, Gt(0), Le(1)]

_TOPPED_UP = {"all": ("head", "medium", "tail"), "medium+tail": ("medium", "tail"), "tail": ("tail",)}


@dataclass(frozen=True)
class Budget:
    """How many rows a generator tops each class up to.

    ``target``: ``max``, ``median`` or ``mean`` of the real class counts, a number of rows, or a share of the largest
    class (0.5). ``per_real`` takes its place: so many synthetic rows for each real one. ``groups`` are the classes that
    get any, ``cap`` is the most that one class gets, and ``weight`` what a synthetic row weighs beside a real one.
    """

    target: Target = "max"
    per_real: Annotated[float, Gt(0)] | None = None
    groups: Literal["all", "medium+tail", "tail"] = "all"
    cap: Annotated[int, Ge(1)] | None = None
    weight: Annotated[float, Gt(0)] = 1.0

    def wanted(self, class_counts: Sequence[int], groups: Sequence[str] = (), *, alone: bool = False) -> list[int]:
        """Return how many synthetic rows each class gets; none for a class without rows.

        ``class_counts [C]`` are the real rows, ``groups [C]`` their groups where the budget asks for some. ``alone``:
        the synthetic rows replace the real ones, so that the target counts from zero.
        """
        chosen = [self.groups == "all" or group in _TOPPED_UP[self.groups] for group in groups or [""] * len(class_counts)]
        wanted = [
            self._rows(n, class_counts, alone=alone) if n and topped_up else 0
            for n, topped_up in zip(class_counts, chosen, strict=True)
        ]
        return wanted if self.cap is None else [min(self.cap, rows) for rows in wanted]

    def _rows(self, count: int, class_counts: Sequence[int], *, alone: bool) -> int:
        """Return the rows of a class that has ``count`` real ones."""
        if self.per_real is not None:
            return round(self.per_real * count)
        return max(0, self._target(class_counts) - (0 if alone else count))

    def _target(self, class_counts: Sequence[int]) -> int:
        """Return the number of rows that classes are topped up to."""
        present = sorted(n for n in class_counts if n)
        if isinstance(self.target, float):
            return round(self.target * max(present))
        middle = (present[(len(present) - 1) // 2] + present[len(present) // 2]) // 2
        named = {"max": max(present), "median": middle, "mean": sum(present) // len(present)}
        return named[self.target] if isinstance(self.target, str) else self.target


BUDGET_NAMES = tuple(field.name for field in dataclasses.fields(Budget))


def budget_part(spec: Spec) -> dict[str, object]:
    """Return the parameters of a generator's name that are its budget's."""
    return {key: value for key, value in spec.params if key in BUDGET_NAMES}
