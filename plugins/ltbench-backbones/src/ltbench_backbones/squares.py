"""Images of any size and one or three channels to squares of three channels; what backbones without weights look at."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

import ltbench


def square(image: Tensor, size: int) -> Tensor:
    """Turn uint8 ``[H, W, 1 or 3]`` into float32 ``[3, size, size]`` in [0, 1]: as it is, or resized bilinearly, antialiased.

    Sides of different lengths are brought to one. Raises UsageError for what is no image.
    """
    if image.ndim != 3 or image.dtype != torch.uint8 or image.shape[2] not in (1, 3):
        raise ltbench.UsageError(
            f"this backbone takes uint8 images [H, W, 1 or 3], not {image.dtype} {list(image.shape)}: "
            "a dataset of ready-made features goes with backbone 'identity'"
        )
    channels = image.permute(2, 0, 1).unsqueeze(0).float() / 255.0
    if image.shape[:2] != (size, size):
        channels = interpolate(channels, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    return channels[0].expand(3, -1, -1)
