"""How near a setting's synthetic rows are to real ones, beside real rows that were held out. Never sees a test row."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ltbench.metrics import Labelled, fidelity_figures
from ltbench.streams import Stream
from ltbench.types import Rows, Train

PER_CLASS = 20
"""Rows compared of a class at most: what the published validation parts of ImageNet-LT and Places-LT have."""

TOGETHER = 5000
"""Rows compared of all classes at most, unless there are more classes."""


@dataclass(frozen=True)
class Compared:
    """Real rows that a generator saw, some that it made of them, and as many real rows of each class that it did not see.

    ``held_out_from`` says which those are; all are under one transform.
    """

    real: Labelled
    made: Labelled
    held_out: Labelled
    held_out_from: str
    classes: int

    def figures(self) -> dict[str, Any]:
        """Return fidelity figures ``[C]`` of synthetic and of held-out rows, six digits each, and the rows compared."""
        kinds = {"synthetic": self.made, "held_out": self.held_out}
        found = {name: fidelity_figures(self.real, rows, self.classes) for name, rows in kinds.items()}
        return {
            "held_out_from": self.held_out_from,
            "rows": torch.bincount(self.made.labels, minlength=self.classes).tolist(),
            **{name: {key: _rounded(values) for key, values in vars(each).items()} for name, each in found.items()},
        }


def compared(real: Train, rows: Rows, held_out: Labelled, held_out_from: str) -> Compared | None:
    """Choose rows to compare, at random; None where no class has real, synthetic and held-out rows.

    Of each class as many rows of one kind as of the other, because coverage and Fréchet distance follow the number of
    rows; ``PER_CLASS`` at most. A row of soft labels is of the class of its largest share.
    """
    made = Labelled(rows.x, rows.targets if rows.targets.ndim == 1 else rows.targets.argmax(dim=1))
    counts = torch.stack([torch.bincount(each.labels, minlength=real.classes) for each in (made, held_out)])
    numbers = counts.amin(dim=0).clamp_max(min(PER_CLASS, max(1, TOGETHER // real.classes))) * (real.real_class_counts > 0)
    if not bool(numbers.any()):
        return None
    stream = real.stream.child("fidelity")
    ours, theirs = (chosen_rows(each, numbers, stream.child(i)) for i, each in enumerate((made, held_out)))
    return Compared(Labelled(real.x, real.targets), ours, theirs, held_out_from, real.classes)


def chosen_rows(rows: Labelled, numbers: Tensor, stream: Stream) -> Labelled:
    """Return so many rows of each class ``[C]``: those that the stream puts first."""
    order = stream.order(torch.arange(len(rows.labels), device=rows.labels.device))
    order = order[rows.labels[order].argsort(stable=True)]
    labels = rows.labels[order]
    place = torch.arange(len(labels), device=labels.device) - torch.searchsorted(labels, labels)
    chosen = order[place < numbers[labels]]
    return Labelled(rows.x[chosen.to(rows.x.device)].to(labels.device), rows.labels[chosen])  # x may lie in a file


def _rounded(values: list[float | None]) -> list[float | None]:
    """Round to six digits; None for what is not finite."""
    return [float(f"{v:.6g}") if v is not None and math.isfinite(v) else None for v in values]
