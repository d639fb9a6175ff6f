"""The end of a transform of pictures, ToTensor and Normalize, in one buffer: the same bits in half the time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import transforms  # type: ignore[import-untyped]


@dataclass(frozen=True)
class Normalized:
    """What a transform does to a PIL image of 8 bits: some steps on the image, then its channels to numbers.

    Of a value v of channel c, ((v / 255) − mean[c]) / std[c] in float32: torchvision's sums in torchvision's order.
    """

    steps: tuple[Callable[[Any], Any], ...]
    mean: Tensor
    std: Tensor

    def __call__(self, picture: Any) -> Tensor:
        """Return ``[channels, height, width]``, float32."""
        for step in self.steps:
            picture = step(picture)
        pixels = torch.from_numpy(np.atleast_3d(np.array(picture))).permute(2, 0, 1)
        numbers = torch.empty(pixels.shape, dtype=torch.float32).copy_(pixels)
        return numbers.div_(255).sub_(self.mean).div_(self.std)


def in_one_buffer(transform: Callable[[Any], Tensor]) -> Callable[[Any], Tensor]:
    """Return a transform of PIL images of 8 bits that gives the same bits; the same one where it has another end."""
    steps = tuple(getattr(transform, "transforms", ()))
    kinds = (transforms.ToTensor, transforms.Normalize)
    if len(steps) < len(kinds) or not all(map(isinstance, steps[-2:], kinds)):
        return transform
    mean, std = (torch.as_tensor(each, dtype=torch.float32).view(-1, 1, 1) for each in (steps[-1].mean, steps[-1].std))
    return Normalized(steps[:-2], mean, std)
