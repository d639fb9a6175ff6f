"""The image itself as features: the floor that every learned backbone should clear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor

import ltbench


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """Pixel values in [0, 1], flattened to ``[H·W·channels]``; all images must be of one size, or are made so.

    ``size`` scales images to ``[size, size]`` first, by averages over the area of each new pixel.
    """

    size: Annotated[int, Ge(1), Le(1024)] | None = None

    def load(self, device: str) -> PixelEncoder:
        """Return the encoder; there is nothing to load."""
        return PixelEncoder(self.size)


class PixelEncoder:
    """Flattens images, scaled if need be."""

    flops_per_image = 0

    def __init__(self, size: int | None) -> None:
        """Remember the size."""
        self.size = size
        scaled = "" if size is None else f", area-averaged to {size}x{size}"
        self.fingerprint = f"pixels: uint8 / 255{scaled}, row-major, channels last"

    def preprocess(self, image: Tensor) -> Tensor:
        """Return the image for stacking, scaled if need be; raise SkipCell for a ready-made vector."""
        if image.ndim == 1:
            raise ltbench.SkipCell(
                f"pixels takes images, this dataset has ready-made vectors {list(image.shape)}: choose identity"
            )
        return self._scaled(image[None])[0]

    def preprocess_batch(self, images: Tensor) -> Tensor:
        """Do the same to images ``[B, H, W, channels]`` of one size."""
        if images.ndim == 2:
            self.preprocess(images[0])
        return self._scaled(images)

    def __call__(self, batch: Tensor) -> Tensor:
        """Turn ``[B, H, W, channels]``, 0 to 255, into float32 ``[B, H·W·channels]``."""
        return batch.flatten(1).float() / 255.0

    def _scaled(self, images: Tensor) -> Tensor:
        """Return images ``[B, size, size, channels]``; uint8 as they are where nothing is to be scaled."""
        if self.size is None or images.shape[1:3] == (self.size, self.size):
            return images
        planes = images.permute(0, 3, 1, 2).float()
        scaled = torch.nn.functional.adaptive_avg_pool2d(planes, self.size)
        return scaled.permute(0, 2, 3, 1).contiguous()
