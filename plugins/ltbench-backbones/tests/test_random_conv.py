"""Tests of the random-conv backbone against a loop over places and filters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import ltbench
from ltbench.testing import parametrize_with_checks
from ltbench_backbones.random_conv import RandomConv, filters


@parametrize_with_checks(["backbone:random-conv[first=8,second=16]"])
def test_conformance(component: Any, check: Any) -> None:
    """Every rule of the contract is kept."""
    check(component)


def image(height: int, width: int, channels: int = 3, seed: int = 0) -> Tensor:
    """Return a random uint8 image ``[H, W, channels]``."""
    return torch.randint(256, (height, width, channels), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def encode(method: RandomConv, *images: Tensor) -> Tensor:
    """Encode images as ltbench does."""
    encoder = method.load("cpu")
    return encoder(torch.stack([encoder.preprocess(each) for each in images]))


def layer(planes: Tensor, drawn: Tensor) -> Tensor:
    """Apply filters ``[K, C, s, s]`` at every place of planes ``[C, S, S]``, one by one; both signs, rectified."""
    side, reach = planes.shape[1], drawn.shape[-1] // 2
    found = torch.zeros(2 * len(drawn), side, side, dtype=torch.float64)
    for row in range(side):
        for column in range(side):
            rows = [min(max(row + i, 0), side - 1) for i in range(-reach, reach + 1)]
            columns = [min(max(column + j, 0), side - 1) for j in range(-reach, reach + 1)]
            response = (drawn * planes[:, rows][:, :, columns]).sum(dim=(1, 2, 3))
            found[:, row, column] = torch.cat([response.clamp(min=0), (-response).clamp(min=0)])
    return found


def test_features_equal_loops_over_places() -> None:
    """Standardised, filtered, pooled by 2×2, filtered, and the largest of nine overlapping parts."""
    method = RandomConv(size=16, first=3, second=4, seed=5)
    picture = image(16, 16)
    planes = picture.permute(2, 0, 1).double() / 255
    planes = (planes - planes.mean()) / (planes.std() + 0.05)
    stream = ltbench.Stream.of(5, "random-conv")
    first = layer(planes, filters(stream.child(0), (3, 3, 5, 5)).double())
    halved = torch.stack([first[:, i : i + 2].amax(dim=1) for i in range(0, 16, 2)], dim=1)
    halved = torch.stack([halved[:, :, j : j + 2].amax(dim=2) for j in range(0, 16, 2)], dim=2)
    second = layer(halved, filters(stream.child(1), (4, 6, 3, 3)).double())
    parts = [(8 * i // 3, -(-8 * (i + 1) // 3)) for i in range(3)]
    expected = [second[k, a:b, c:d].max() for k in range(8) for a, b in parts for c, d in parts]
    torch.testing.assert_close(torch.stack(expected).float()[None], encode(method, picture), rtol=1e-5, atol=1e-6)


def test_filters_have_zero_sum_and_unit_length() -> None:
    """A flat patch gives nothing, and no filter is louder than another."""
    drawn = filters(ltbench.Stream.of(0), (7, 3, 5, 5)).flatten(1)
    torch.testing.assert_close(torch.zeros(7), drawn.sum(dim=1), rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.ones(7), drawn.norm(dim=1))


def test_seeds_draw_other_filters_and_the_same_one_the_same() -> None:
    """The seed alone decides, whatever torch's global generator is at."""
    torch.manual_seed(3)
    first, again, other = (encode(RandomConv(first=4, second=4, seed=seed), image(32, 32)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


@pytest.mark.parametrize("shape", [(8, 8, 1), (5, 40, 3), (64, 48, 3), (1, 1, 1)])
def test_any_image_becomes_a_square(shape: tuple[int, int, int]) -> None:
    """Whatever the size and the channels, there are 2 · second · 9 finite features."""
    method = RandomConv(first=4, second=5)
    features = encode(method, image(*shape))
    assert features.shape == (1, method.feature_dimension()) == (1, 90)
    assert bool(features.isfinite().all())


def test_flops_are_those_of_the_convolutions() -> None:
    """What torch counts for a batch is what the encoder tells for an image, times the images."""
    encoder = RandomConv(first=4, second=5).load("cpu")
    batch = torch.stack([encoder.preprocess(image(32, 32))] * 3)
    with FlopCounterMode(display=False) as counter:
        encoder(batch)
    assert counter.get_total_flops() == 3 * encoder.flops_per_image


def test_fingerprints_tell_methods_apart() -> None:
    """Every parameter is in the fingerprint."""
    small = {"first": 2, "second": 3}
    methods = [RandomConv(**{**small, **change}) for change in ({}, {"size": 64}, {"first": 3}, {"second": 4}, {"seed": 1})]
    assert len({method.load("cpu").fingerprint for method in methods}) == len(methods)
