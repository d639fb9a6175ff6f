"""Tests of the hog backbone against loops over pixels, cells and blocks."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import ltbench
from ltbench.testing import parametrize_with_checks
from ltbench_backbones.hog import Hog


@parametrize_with_checks(["backbone:hog", "backbone:hog[cell=4,orientations=6]"])
def test_conformance(component: Any, check: Any) -> None:
    """Every rule of the contract is kept."""
    check(component)


def image(height: int, width: int, channels: int = 3, seed: int = 0) -> Tensor:
    """Return a random uint8 image ``[H, W, channels]``."""
    return torch.randint(256, (height, width, channels), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def encode(method: Hog, *images: Tensor) -> Tensor:
    """Encode images as ltbench does."""
    encoder = method.load("cpu")
    return encoder(torch.stack([encoder.preprocess(each) for each in images]))


def at(plane: list[list[float]], row: int, column: int) -> float:
    """Return a pixel, or the nearest one of the edge."""
    side = len(plane) - 1
    return plane[min(max(row, 0), side)][min(max(column, 0), side)]


def smooth(plane: list[list[float]]) -> list[list[float]]:
    """Smooth a plane by the 3×3 binomial kernel."""
    weights = {-1: 0.25, 0: 0.5, 1: 0.25}
    pixels = range(len(plane))
    return [
        [sum(weights[i] * weights[j] * at(plane, r + i, c + j) for i in weights for j in weights) for c in pixels]
        for r in pixels
    ]


def strongest(planes: list[list[list[float]]], row: int, column: int) -> tuple[float, float]:
    """Return a pixel's longest gradient among the colour channels: across, down."""
    found = [(at(p, row, column + 1) - at(p, row, column - 1), at(p, row + 1, column) - at(p, row - 1, column)) for p in planes]
    return max(found, key=lambda gradient: math.hypot(*gradient))


def naive(picture: Tensor, method: Hog) -> list[float]:
    """Return the features of a square uint8 image: each pixel votes for two orientations in four cells."""
    planes = [(picture[:, :, channel].double() / 255).tolist() for channel in range(3)]
    for _ in range(method.smoothing):
        planes = [smooth(plane) for plane in planes]
    count, bins = method.size // method.cell, method.orientations
    votes: dict[tuple[int, int, int], float] = {}
    for row in range(method.size):
        for column in range(method.size):
            across, down = strongest(planes, row, column)
            orientation = (math.atan2(down, across) % math.pi) / math.pi * bins - 0.5
            places = [(row + 0.5) / method.cell - 0.5, (column + 0.5) / method.cell - 0.5]
            for k in (math.floor(orientation), math.floor(orientation) + 1):
                for i in (math.floor(places[0]), math.floor(places[0]) + 1):
                    for j in (math.floor(places[1]), math.floor(places[1]) + 1):
                        share = (1 - abs(orientation - k)) * (1 - abs(places[0] - i)) * (1 - abs(places[1] - j))
                        votes[i, j, k % bins] = votes.get((i, j, k % bins), 0.0) + share * math.hypot(across, down)
    features = []
    for i in range(count - 1):
        for j in range(count - 1):
            block = [votes.get((i + a, j + b, k), 0.0) for a in (0, 1) for b in (0, 1) for k in range(bins)]
            block = [min(v / math.sqrt(sum(u * u for u in block) + 1e-10), 0.2) for v in block]
            features += [v / math.sqrt(sum(u * u for u in block) + 1e-10) for v in block]
    return features


@pytest.mark.parametrize(
    "method",
    [Hog(size=16, cell=4), Hog(size=16, cell=8, smoothing=0), Hog(size=12, cell=2, orientations=5, smoothing=2)],
    ids=str,
)
def test_features_equal_loops_over_pixels(method: Hog) -> None:
    """Votes, their shares and the blocks are those of the definition."""
    images = [image(method.size, method.size, seed=seed) for seed in range(2)]
    expected = torch.tensor([naive(each, method) for each in images])
    torch.testing.assert_close(expected.float(), encode(method, *images), rtol=0, atol=2e-5)


@pytest.mark.parametrize(("angle", "winner"), [(0, 0), (30, 1), (60, 3), (90, 4), (120, 6), (150, 7), (170, 8)])
def test_a_grating_votes_for_its_orientation(angle: int, winner: int) -> None:
    """A wave that runs at an angle fills the bin of that angle, 20 degrees each, also where colours are swapped."""
    place = torch.arange(32) - 15.5
    turned = math.cos(math.radians(angle)) * place + math.sin(math.radians(angle)) * place[:, None]
    wave = (127 + 100 * torch.sin(turned / 2)).to(torch.uint8).unsqueeze(2)
    for each in (wave, 255 - wave):
        blocks = encode(Hog(), each).reshape(9, 4, 9)
        sums = blocks.sum(dim=(0, 1))
        if angle % 20 == 10:
            assert int(sums.argmax()) == angle // 20
        else:
            assert winner in sums.topk(2).indices.tolist()


@pytest.mark.parametrize("shape", [(8, 8, 1), (5, 40, 3), (64, 48, 3), (32, 32, 1), (1, 1, 3)])
def test_any_image_becomes_a_square(shape: tuple[int, int, int]) -> None:
    """Whatever the size and the channels, there are (32 / 8 − 1)² · 4 · 9 finite features."""
    features = encode(Hog(), image(*shape))
    assert features.shape == (1, Hog().feature_dimension()) == (1, 324)
    assert bool(features.isfinite().all())


def test_grey_is_rgb_of_equal_channels() -> None:
    """One channel and three equal ones are the same image."""
    grey = image(32, 32, 1)
    assert torch.equal(encode(Hog(), grey), encode(Hog(), grey.expand(-1, -1, 3)))


def test_a_flat_image_has_no_features() -> None:
    """Without gradients there are no votes, and no division by zero."""
    assert encode(Hog(), torch.full((32, 32, 3), 9, dtype=torch.uint8)).abs().max() == 0


def test_brightness_and_contrast_do_not_matter() -> None:
    """Adding a level and halving the contrast leaves the features as they are, to the smoothing of ε."""
    bright = image(32, 32) // 2 * 2
    torch.testing.assert_close(encode(Hog(), bright), encode(Hog(), bright // 2 + 60), rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", [Hog(), Hog(cell=4, smoothing=2), Hog(size=64, orientations=6, smoothing=0)], ids=str)
def test_flops_are_those_of_the_sums(method: Hog) -> None:
    """What torch counts for a batch is what the encoder tells for an image, times the images."""
    encoder = method.load("cpu")
    batch = torch.stack([encoder.preprocess(image(method.size, method.size))] * 3)
    with FlopCounterMode(display=False) as counter:
        encoder(batch)
    assert counter.get_total_flops() == 3 * encoder.flops_per_image


@pytest.mark.parametrize(("size", "cell"), [(32, 6), (8, 8), (30, 4)])
def test_cells_must_fill_the_image(size: int, cell: int) -> None:
    """A size that is no multiple of the cell, or too small for a block, is refused."""
    with pytest.raises(
        ValueError, match=f"size must be a multiple of cell, at least twice as large; {size} and {cell} are not"
    ):
        Hog(size=size, cell=cell)


def test_fingerprints_tell_methods_apart() -> None:
    """Every parameter is in the fingerprint."""
    methods = [Hog(), Hog(size=64), Hog(cell=4), Hog(orientations=8), Hog(smoothing=0)]
    assert len({method.load("cpu").fingerprint for method in methods}) == len(methods)


def test_ready_made_features_are_refused() -> None:
    """A vector is no image."""
    with pytest.raises(ltbench.UsageError, match=r"takes uint8 images .* backbone 'identity'"):
        Hog().load("cpu").preprocess(torch.zeros(8))
