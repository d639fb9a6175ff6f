"""Tests of the transforms' end against the libraries' own transforms, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import timm.data
import torch
from PIL import Image
from torchvision import transforms

from ltbench_timm.tensors import Normalized, in_one_buffer

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)


def picture(channels: int) -> Image.Image:
    """Return a picture that is wider than high and holds every value."""
    values = torch.arange(40 * 56 * channels).mul(37).remainder(256).to(torch.uint8).reshape(40, 56, channels)
    return Image.fromarray(values.squeeze(2).numpy())


@pytest.mark.parametrize(
    ("size", "told"),
    [
        ((3, 32, 32), {"mean": MEAN, "std": STD, "interpolation": "bicubic"}),
        ((3, 24, 32), {"mean": MEAN, "std": STD, "crop_mode": "squash", "interpolation": "bilinear"}),
        ((3, 32, 32), {"mean": MEAN, "std": STD, "crop_mode": "border"}),
        ((3, 48, 48), {"crop_pct": 1.0}),
        ((1, 32, 32), {"mean": 0.5, "std": 0.25}),
    ],
)
def test_timms_transforms_keep_their_bits(size: tuple[int, int, int], told: dict[str, Any]) -> None:
    """Every kind of timm's evaluation transform gives the bits that it gives by itself, in memory of its own."""
    transform = timm.data.create_transform(size, is_training=False, **told)
    ours = in_one_buffer(transform)
    assert isinstance(ours, Normalized)
    found = ours(picture(size[0]))
    assert found.shape == size
    assert found.is_contiguous()
    assert torch.equal(transform(picture(size[0])), found)


def test_another_end_is_left_alone() -> None:
    """A transform that does not end in ToTensor and Normalize is the same object afterwards."""
    ends = [transforms.ToTensor(), transforms.Compose([transforms.ToTensor()]), transforms.Compose([])]
    assert all(in_one_buffer(transform) is transform for transform in ends)
