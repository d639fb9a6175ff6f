"""Histograms of oriented gradients (Dalal & Triggs, CVPR 2005, doi:10.1109/CVPR.2005.177)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, MultipleOf
from torch import Tensor
from torch.nn.functional import conv2d, pad

from ltbench_backbones.squares import square

EPSILON = 1e-5
CLIP = 0.2
BLOCK = 2


@dataclass(frozen=True, kw_only=True)
class Hog:
    """Votes of gradients for unsigned orientations, in cells, normalised in overlapping blocks of 2×2 cells.

    At each pixel, the colour channel with the strongest gradient [−1, 0, 1] votes with its magnitude, shared linearly
    between the nearest orientations and cells. A block's votes v become v / √(|v|² + ε²), at most 0.2, and once more
    v / √(|v|² + ε²). Images are resized to ``size`` and, unlike the paper's, smoothed by [1, 2, 1] / 4 so many times.
    """

    size: Annotated[int, Ge(4)] = 32
    cell: Annotated[int, Ge(2), MultipleOf(2)] = 8
    orientations: Annotated[int, Ge(2)] = 9
    smoothing: Annotated[int, Ge(0)] = 1

    def __post_init__(self) -> None:
        """Require whole cells, and enough of them for a block."""
        if self.size % self.cell or self.size < BLOCK * self.cell:
            raise ValueError(f"size must be a multiple of cell, at least twice as large; {self.size} and {self.cell} are not")

    def load(self, device: str) -> HogEncoder:
        """Return the encoder; there is nothing to load."""
        return HogEncoder(self)

    def feature_dimension(self) -> int:
        """Return the length of a feature vector."""
        return (self.size // self.cell - BLOCK + 1) ** 2 * BLOCK**2 * self.orientations


class HogEncoder:
    """Encodes squares; runs where they are."""

    def __init__(self, method: Hog) -> None:
        """Name the method and count its sums: 2 FLOPs for each weight of the smoothing and of the cells."""
        self._method = method
        self.fingerprint = f"{method}; bilinear antialiased resize, uint8 / 255"
        cells = (method.size // method.cell) ** 2
        smoothing = method.smoothing * 2 * 3 * 3 * method.size**2
        self.flops_per_image = 2 * (smoothing + method.orientations * cells * (2 * method.cell) ** 2)

    def preprocess(self, image: Tensor) -> Tensor:
        """Return a square of three channels, float32 ``[3, size, size]``."""
        return square(image, self._method.size)

    def __call__(self, batch: Tensor) -> Tensor:
        """Turn squares ``[B, 3, S, S]`` into float32 ``[B, (S/cell − 1)² · 4 · orientations]``."""
        for _ in range(self._method.smoothing):
            batch = smoothed(batch)
        return blocks(self._cells(*strongest_gradient(batch)))

    def _cells(self, across: Tensor, down: Tensor) -> Tensor:
        """Share the votes of gradients ``[B, S, S]`` among cells: ``[B, orientations, S/cell, S/cell]``."""
        count = self._method.orientations
        magnitude = (across**2 + down**2).sqrt()
        place = torch.atan2(down, across) * (count / math.pi) - 0.5  # in bins, whose middles are whole numbers
        return torch.cat([self._summed(magnitude * _share(place - k, count)) for k in range(count)], dim=1)

    def _summed(self, votes: Tensor) -> Tensor:
        """Sum votes ``[B, S, S]`` into cells ``[B, 1, S/cell, S/cell]``, a pixel's shared by the nearest middles."""
        cell = self._method.cell
        offset = torch.arange(2 * cell, device=votes.device, dtype=votes.dtype) + 0.5 - cell
        weight = 1 - offset.abs() / cell
        return conv2d(votes.unsqueeze(1), (weight[:, None] * weight)[None, None], stride=cell, padding=cell // 2)


def smoothed(batch: Tensor) -> Tensor:
    """Smooth images ``[B, C, H, W]`` by [1, 2, 1] / 4 down and across; edges are repeated."""
    kernel = torch.tensor([0.25, 0.5, 0.25], device=batch.device, dtype=batch.dtype)
    planes = batch.flatten(0, 1).unsqueeze(1)
    planes = conv2d(pad(planes, (0, 0, 1, 1), mode="replicate"), kernel[None, None, :, None])
    planes = conv2d(pad(planes, (1, 1, 0, 0), mode="replicate"), kernel[None, None, None, :])
    return planes.reshape(batch.shape)


def strongest_gradient(batch: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients across and down ``[B, H, W]`` of the channel in which they are longest; edges are repeated."""
    wide = pad(batch, (1, 1, 1, 1), mode="replicate")
    across = wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2]
    down = wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1]
    strongest = (across**2 + down**2).argmax(dim=1, keepdim=True)
    return across.gather(1, strongest)[:, 0], down.gather(1, strongest)[:, 0]


def blocks(cells: Tensor) -> Tensor:
    """Normalise overlapping blocks of cells ``[B, orientations, R, C]``: ``[B, (R − 1)(C − 1) · 4 · orientations]``."""
    found = cells.unfold(2, BLOCK, 1).unfold(3, BLOCK, 1).permute(0, 2, 3, 4, 5, 1).flatten(3)
    found = _unit(_unit(found).clamp(max=CLIP))
    return found.flatten(1)


def _share(distance: Tensor, count: int) -> Tensor:
    """Return the share of a bin at a distance, in bins on a circle of so many: 1 at 0, down to 0 at 1."""
    around = torch.remainder(distance + count / 2, count) - count / 2
    return (1 - around.abs()).clamp(min=0)


def _unit(vectors: Tensor) -> Tensor:
    """Divide vectors by their length, or a little more."""
    return vectors / (vectors.square().sum(dim=-1, keepdim=True) + EPSILON**2).sqrt()
