"""What ``sgd`` can train: a linear layer, one on the unit sphere, or one scale for each class of a head that is fixed.

Gradients are by hand. B rows, D features, C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ltbench.heads.linear import CosineScorer, LinearScorer
from ltbench.types import Train

Parameters = list[Tensor]

Kept = tuple[Tensor, ...]
"""What ``backward`` needs of rows and parameters."""


class Layer(Protocol):
    """From rows to logits, and back from slopes to gradients; the first parameter is the one that ``l2`` holds down."""

    def start(self, train: Train) -> Parameters:
        """Return the parameters to begin with."""
        ...

    def forward(self, parameters: Parameters, x: Tensor) -> tuple[Tensor, Kept]:
        """Return logits ``[B, C]``, those of absent classes as of others, and what ``backward`` needs."""
        ...

    def backward(self, kept: Kept, slopes: Tensor) -> Parameters:
        """Return the gradient of each parameter, from slopes of the loss by the logits ``[B, C]``."""
        ...

    def scorer(self, parameters: Parameters, absent: Tensor) -> LinearScorer | CosineScorer:
        """Return the head; ``absent [C]`` is added to its logits."""
        ...


class Linear:
    """x Wᵀ + b, weights uniform within ±1/√D to begin with."""

    def start(self, train: Train) -> Parameters:
        """Draw W ``[C, D]``, and b ``[C]`` at zero."""
        weight = _drawn(train)
        return [weight, torch.zeros_like(weight[:, 0])]

    def forward(self, parameters: Parameters, x: Tensor) -> tuple[Tensor, Kept]:
        """Return logits and the rows."""
        weight, bias = parameters
        return torch.addmm(bias[:, None], weight, x.T).T, (x,)

    def backward(self, kept: Kept, slopes: Tensor) -> Parameters:
        """Return the gradients of W and b."""
        return [slopes.T @ kept[0], slopes.sum(dim=0)]

    def scorer(self, parameters: Parameters, absent: Tensor) -> LinearScorer:
        """Return a linear head."""
        weight, bias = parameters
        return LinearScorer(torch.where(absent < 0, 0.0, weight.T), bias + absent)


class Cosine:
    """cos(x, w_c): rows and weights of unit length, no bias."""

    def start(self, train: Train) -> Parameters:
        """Draw directions, of length one."""
        return [normalize(_drawn(train), dim=1)]

    def forward(self, parameters: Parameters, x: Tensor) -> tuple[Tensor, Kept]:
        """Return cosines, and the rows with one over their lengths: logits are fewer than features, so they are scaled."""
        inverse = x.norm(dim=1, keepdim=True).clamp_min_(1e-12).reciprocal_()
        length = parameters[0].norm(dim=1, keepdim=True).clamp_min_(1e-12)
        unit = parameters[0] / length
        return (unit @ x.T).T.mul_(inverse), (x, inverse, unit, length)

    def backward(self, kept: Kept, slopes: Tensor) -> Parameters:
        """Return the gradient: (I − uuᵀ) sᵀx / ‖w‖, u = w / ‖w‖."""
        rows, inverse, unit, length = kept
        raw = (slopes * inverse).T @ rows
        return [raw.addcmul_((raw * unit).sum(dim=1, keepdim=True), unit, value=-1).div_(length)]

    def scorer(self, parameters: Parameters, absent: Tensor) -> CosineScorer:
        """Return a head of cosines."""
        return CosineScorer(normalize(parameters[0], dim=1).T, absent)


@dataclass(frozen=True)
class Scales:
    """s_c · (x w_c + b_c), W and b fixed: one scale for each class of a fitted head, one to begin with."""

    head: LinearScorer

    def start(self, train: Train) -> Parameters:
        """Return scales of one."""
        return [torch.ones(train.classes, device=train.weights.device)]

    def forward(self, parameters: Parameters, x: Tensor) -> tuple[Tensor, Kept]:
        """Return scaled logits, and the head's own."""
        bias = torch.where(self.head.absent, 0.0, self.head.bias)
        own = torch.addmm(bias.to(x.dtype), x, self.head.weight.to(x.dtype))
        return own * parameters[0], (own,)

    def backward(self, kept: Kept, slopes: Tensor) -> Parameters:
        """Return the gradient by the scales, from the head's own logits."""
        return [(slopes * kept[0]).sum(dim=0)]

    def scorer(self, parameters: Parameters, absent: Tensor) -> LinearScorer:  # noqa: ARG002 - the head knows
        """Return the head with its columns scaled."""
        return self.head.scaled(parameters[0])


LAYERS: dict[str, Layer] = {"linear": Linear(), "cosine": Cosine()}


def _drawn(train: Train) -> Tensor:
    """Return weights ``[C, D]``, uniform within ±1/√D, drawn for each class by its number."""
    classes, width = torch.arange(train.classes, device=train.weights.device), train.x.shape[1]
    drawn: Tensor = 2 * train.stream.child("sgd", "weights").uniform(classes, width) - 1
    return (drawn / math.sqrt(width)).float()
