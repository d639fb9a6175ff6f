"""A backbone: a frozen model that turns images into feature rows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

import ltbench


@dataclass(frozen=True, kw_only=True)
class Example:
    """Mean brightness on a grid of 4×4, times a random matrix: a stand-in for weights of yours."""

    # Fields are hyper-parameters: users write name[width=256]. Types and bounds are checked before anything runs.
    width: Annotated[int, Ge(1)] = 64

    def load(self, device: str) -> Encoder:
        """Load the weights onto ``device``; raise ltbench.UsageError for missing ones, and say how to get them."""
        weights = ltbench.Stream.of(0, "weights").normal(torch.arange(4 * 4), self.width).float()
        return Encoder(weights.to(device), hashlib.sha256(weights.numpy().tobytes()).hexdigest())


class Encoder:
    """The loaded model."""

    def __init__(self, weights: Tensor, name: str) -> None:
        """Put all that can change a feature into the fingerprint: weights and preprocessing; and count 2 per multiply-add."""
        self.weights = weights
        self.fingerprint = f"mean brightness, 4×4 cells, uint8 / 255; weights {name}"
        self.flops_per_image = 2 * weights.numel()

    def preprocess(self, image: Tensor) -> Tensor:
        """Turn an image, uint8 ``[H, W, channels]``, into what ``__call__`` gets a stack of: resize and crop here."""
        grey = image.float().mean(dim=2) / 255
        return adaptive_avg_pool2d(grey[None], 4).flatten()

    def __call__(self, batch: Tensor) -> Tensor:
        """Encode a batch ``[B, …]`` to features ``[B, D]``, each image by itself."""
        return (batch @ self.weights).relu()
