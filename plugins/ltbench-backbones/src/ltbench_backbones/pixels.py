"""The image itself as features: the floor that every learned backbone should clear."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import ltbench


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """Pixel values in [0, 1], flattened to ``[H·W·channels]``; all images must be of one size."""

    def load(self, device: str) -> PixelEncoder:
        """Return the encoder; there is nothing to load."""
        return PixelEncoder()


class PixelEncoder:
    """Flattens images."""

    fingerprint = "pixels: uint8 / 255, row-major, channels last"
    flops_per_image = 0

    def preprocess(self, image: Tensor) -> Tensor:
        """Return the image as it is, for stacking; raise SkipCell for a ready-made vector."""
        if image.ndim == 1:
            raise ltbench.SkipCell(
                f"pixels takes images, this dataset has ready-made vectors {list(image.shape)}: choose identity"
            )
        return image

    def __call__(self, batch: Tensor) -> Tensor:
        """Turn uint8 ``[B, H, W, channels]`` into float32 ``[B, H·W·channels]``."""
        return batch.flatten(1).float() / 255.0
