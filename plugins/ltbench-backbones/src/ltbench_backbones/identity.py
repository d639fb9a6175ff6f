"""Ready-made features as they are, for datasets that come with them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import ltbench


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Vectors ``[D]`` unchanged, with the dataset's class-text vectors where it has them."""

    def load(self, device: str) -> IdentityEncoder:
        """Return the encoder; there is nothing to load."""
        return IdentityEncoder()


class IdentityEncoder:
    """Hands vectors on."""

    fingerprint = "identity: the dataset's vectors as float32"
    flops_per_image = 0

    def preprocess(self, image: Tensor) -> Tensor:
        """Return the vector ``[D]`` as it is, for stacking; raise SkipCell for an image."""
        if image.ndim != 1 or not image.is_floating_point():
            raise ltbench.SkipCell(
                f"identity takes ready-made vectors, float [D], this dataset has images, {image.dtype} {list(image.shape)}: "
                "choose a backbone that encodes images, such as pixels, timm:<model> or open_clip:<model>"
            )
        return image

    def __call__(self, batch: Tensor) -> Tensor:
        """Return vectors ``[B, D]`` as float32."""
        return batch.float()

    def class_text(self, dataset: ltbench.Dataset) -> Tensor | None:
        """Return the dataset's class-text vectors ``[C, D]``, or None."""
        return dataset.class_text
