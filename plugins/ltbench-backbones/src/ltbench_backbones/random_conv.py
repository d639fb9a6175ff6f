"""Two layers of random convolutions: what an architecture alone sees, without any training (Saxe et al., ICML 2011)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d, conv2d, max_pool2d, pad, relu

import ltbench
from ltbench_backbones.squares import square

GRID = 3
SIDES = (5, 3)
CONTRAST = 0.05


@dataclass(frozen=True, kw_only=True)
class RandomConv:
    """Random filters of zero sum and unit length, both signs rectified, the largest response of 2×2, then of a 3×3 grid.

    Filters are normal numbers of a named stream: the same on every machine. Images are resized to ``size``; each is
    standardised by its mean and by its standard deviation + 0.05.
    """

    size: Annotated[int, Ge(8)] = 32
    first: Annotated[int, Ge(1)] = 64
    second: Annotated[int, Ge(1)] = 128
    seed: Annotated[int, Ge(0)] = 0

    def load(self, device: str) -> RandomConvEncoder:
        """Draw the filters."""
        return RandomConvEncoder(self, device)

    def feature_dimension(self) -> int:
        """Return the length of a feature vector."""
        return 2 * self.second * GRID**2


class RandomConvEncoder:
    """Encodes squares by the filters it holds."""

    def __init__(self, method: RandomConv, device: str) -> None:
        """Draw the filters of both layers, and count their products."""
        self._size = method.size
        self.fingerprint = f"{method}; bilinear antialiased resize, uint8 / 255"
        stream = ltbench.Stream.of(method.seed, "random-conv")
        channels = (3, 2 * method.first)
        counts = (method.first, method.second)
        self._filters = [
            filters(stream.child(layer), (counts[layer], channels[layer], SIDES[layer], SIDES[layer])).to(device)
            for layer in range(2)
        ]
        places = (method.size**2, (method.size // 2) ** 2)
        self.flops_per_image = sum(2 * n * each.numel() for n, each in zip(places, self._filters, strict=True))

    def preprocess(self, image: Tensor) -> Tensor:
        """Return a square of three channels, float32 ``[3, size, size]``."""
        return square(image, self._size)

    def __call__(self, batch: Tensor) -> Tensor:
        """Turn squares ``[B, 3, S, S]`` into float32 ``[B, 2 · second · 9]``."""
        spread, mean = torch.std_mean(batch, dim=(1, 2, 3), keepdim=True)
        responses = max_pool2d(rectified((batch - mean) / (spread + CONTRAST), self._filters[0]), 2)
        return adaptive_max_pool2d(rectified(responses, self._filters[1]), GRID).flatten(1)


def filters(stream: ltbench.Stream, shape: tuple[int, int, int, int]) -> Tensor:
    """Draw filters ``[count, channels, side, side]``, each of zero sum and unit length."""
    count, channels, height, width = shape
    drawn = stream.normal(torch.arange(count), channels * height * width)
    drawn = drawn - drawn.mean(dim=1, keepdim=True)
    unit: Tensor = drawn / drawn.norm(dim=1, keepdim=True)
    return unit.float().reshape(shape)


def rectified(batch: Tensor, drawn: Tensor) -> Tensor:
    """Return what is above zero of the responses and of their negatives, ``[B, 2 · count, H, W]``; edges are repeated."""
    margin = drawn.shape[-1] // 2
    responses = conv2d(pad(batch, (margin, margin, margin, margin), mode="replicate"), drawn)
    return torch.cat([relu(responses), relu(-responses)], dim=1)
