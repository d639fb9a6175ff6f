"""What ``sgd`` can train: a linear layer, one on the unit sphere, or one scale for each class of a head that is fixed.

Gradients are by hand. B rows, D features, C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor
from torch.linalg import vector_norm
from torch.nn.functional import normalize

from ltbench.heads.linear import CosineScorer, LinearScorer
from ltbench.types import Train

Parameters = list[Tensor]

Kept = tuple[Tensor, ...]
"""What ``forward`` needs of rows, and ``backward`` of rows and parameters."""


class Layer(Protocol):
    """From rows to logits, and back from slopes to gradients; the first parameter is the one that ``l2`` holds down.

    ``products`` is how many products of its rows with a matrix ``[D, C]`` a batch costs, there and back.
    """

    products: ClassVar[int]

    def start(self, train: Train) -> Parameters:
        """Return the parameters to begin with."""
        ...

    def rows(self, x: Tensor) -> Kept:
        """Return what ``forward`` takes of rows ``[B, D]``: made once, whatever heads of this layer see them."""
        ...

    def forward(self, parameters: Parameters, rows: Kept) -> tuple[Tensor, Kept]:
        """Return logits ``[B, C]``, those of absent classes as of others, and what ``backward`` needs."""
        ...

    def backward(self, kept: Kept, slopes: Tensor) -> Parameters:
        """Return the gradient of each parameter, meaned over rows, from slopes of the loss by the logits ``[B, C]``."""
        ...

    def scorer(self, parameters: Parameters, absent: Tensor) -> LinearScorer | CosineScorer:
        """Return the head; ``absent [C]`` is added to its logits."""
        ...


class Linear:
    """x Wᵀ + b, weights uniform within ±1/√D to begin with."""

    products: ClassVar[int] = 2

    def start(self, train: Train) -> Parameters:
        """Draw W ``[C, D]``, and b ``[C]`` at zero."""
        weight = _drawn(train)
        return [weight, torch.zeros_like(weight[:, 0])]

    def rows(self, x: Tensor) -> Kept:
        """Return the rows as they are."""
        return (x,)

    def forward(self, parameters: Parameters, rows: Kept) -> tuple[Tensor, Kept]:
        """Return logits and the rows."""
        weight, bias = parameters
        return torch.addmm(bias[:, None], weight, rows[0].T).T, rows

    def backward(self, kept: Kept, slopes: Tensor) -> Parameters:
        """Return the gradients of W and b."""
        return [_mean_product(slopes, kept[0]), slopes.mean(dim=0)]

    def scorer(self, parameters: Parameters, absent: Tensor) -> LinearScorer:
        """Return a linear head."""
        weight, bias = parameters
        return LinearScorer(torch.where(absent < 0, 0.0, weight.T), bias + absent)


class Cosine:
    """cos(x, w_c): rows and weights of unit length, no bias. What rows are divided by, logits and slopes are instead."""

    products: ClassVar[int] = 2

    def start(self, train: Train) -> Parameters:
        """Draw directions, of length one."""
        return [normalize(_drawn(train), dim=1)]

    def rows(self, x: Tensor) -> Kept:
        """Return the rows, and one over the length of each ``[B, 1]``."""
        return x, vector_norm(x, dim=1, keepdim=True).clamp_min_(1e-12).reciprocal_()

    def forward(self, parameters: Parameters, rows: Kept) -> tuple[Tensor, Kept]:
        """Return cosines, and the rows with the weights' directions and lengths."""
        x, by_row = rows
        length = vector_norm(parameters[0], dim=1, keepdim=True).clamp_min_(1e-12)
        unit = parameters[0] / length
        return (unit @ x.T).T.mul_(by_row), (x, by_row, unit, length)

    def backward(self, kept: Kept, slopes: Tensor) -> Parameters:
        """Return the gradient: (I − uuᵀ) sᵀ(x/‖x‖) / ‖w‖, u = w / ‖w‖."""
        x, by_row, unit, length = kept
        raw = _mean_product(slopes * by_row, x)
        return [raw.addcmul_((raw * unit).sum(dim=1, keepdim=True), unit, value=-1).div_(length)]

    def scorer(self, parameters: Parameters, absent: Tensor) -> CosineScorer:
        """Return a head of cosines."""
        return CosineScorer(normalize(parameters[0], dim=1).T, absent)


@dataclass(frozen=True)
class Scales:
    """s_c · (x w_c + b_c), W and b fixed: one scale for each class of a fitted head, one to begin with."""

    products: ClassVar[int] = 1

    head: LinearScorer

    def start(self, train: Train) -> Parameters:
        """Return scales of one."""
        return [torch.ones(train.classes, device=train.weights.device)]

    def rows(self, x: Tensor) -> Kept:
        """Return the head's own logits; added up in float64, as rows may lie far from the origin."""
        bias = torch.where(self.head.absent, 0.0, self.head.bias)
        return (torch.addmm(bias.double(), x.double(), self.head.weight.double()).to(x.dtype),)

    def forward(self, parameters: Parameters, rows: Kept) -> tuple[Tensor, Kept]:
        """Return scaled logits, and the head's own."""
        return rows[0] * parameters[0], rows

    def backward(self, kept: Kept, slopes: Tensor) -> Parameters:
        """Return the gradient by the scales, from the head's own logits."""
        return [(slopes * kept[0]).mean(dim=0)]

    def scorer(self, parameters: Parameters, absent: Tensor) -> LinearScorer:  # noqa: ARG002 - the head knows
        """Return the head with its columns scaled."""
        return self.head.scaled(parameters[0])


LAYERS: dict[str, Layer] = {"linear": Linear(), "cosine": Cosine()}


def _drawn(train: Train) -> Tensor:
    """Return weights ``[C, D]``, uniform within ±1/√D, drawn for each class by its number."""
    classes, width = torch.arange(train.classes, device=train.weights.device), train.x.shape[1]
    drawn: Tensor = 2 * train.stream.child("sgd", "weights").uniform(classes, width) - 1
    return (drawn / math.sqrt(width)).float()


def _mean_product(slopes: Tensor, rows: Tensor) -> Tensor:
    """Return sᵀx / B of slopes ``[B, C]`` and rows ``[B, D]``: the factor costs nothing within the product."""
    return torch.addmm(slopes.new_empty(()), slopes.T, rows, beta=0, alpha=1 / len(rows))
