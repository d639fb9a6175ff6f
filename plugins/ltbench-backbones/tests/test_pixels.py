"""Tests of the pixels backbone against loops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import ltbench
from ltbench_backbones.pixels import PixelEncoder, Pixels


def images(count: int, height: int, width: int, channels: int, seed: int = 0) -> list[Tensor]:
    """Return random uint8 images ``[H, W, channels]``."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(256, (height, width, channels), generator=generator, dtype=torch.uint8) for _ in range(count)]


def encode(batch: list[Tensor]) -> Tensor:
    """Encode images as ltbench does: preprocess each, stack, call."""
    encoder = Pixels().load("cpu")
    return encoder(torch.stack([encoder.preprocess(image) for image in batch]))


@pytest.mark.parametrize("shape", [(8, 8, 1), (3, 5, 3), (1, 1, 1)])
def test_features_are_pixels_divided_by_255(shape: tuple[int, int, int]) -> None:
    """Features are float32 in [0, 1], row by row, channels last."""
    height, width, channels = shape
    batch = images(4, *shape)
    features = encode(batch)
    expected = [
        [image[i, j, k].item() / 255 for i in range(height) for j in range(width) for k in range(channels)] for image in batch
    ]
    torch.testing.assert_close(torch.tensor(expected), features)
    assert features.dtype == torch.float32
    assert features.shape == (4, height * width * channels)


def test_black_is_zero_and_white_is_one() -> None:
    """The ends of the scale are exact."""
    black, white = (torch.full((2, 2, 1), value, dtype=torch.uint8) for value in (0, 255))
    assert encode([black, white]).tolist() == [[0.0] * 4, [1.0] * 4]


def test_an_image_is_encoded_by_itself() -> None:
    """An image's features are the same bits alone and in a batch."""
    batch = images(6, 4, 4, 3)
    together = encode(batch)
    for i, image in enumerate(batch):
        assert torch.equal(together[i], encode([image])[0])


def test_images_are_not_written_to() -> None:
    """The images are as before."""
    (image,) = images(1, 4, 4, 1)
    before = image.clone()
    encode([image])
    assert torch.equal(before, image)


def test_vectors_are_not_its_business() -> None:
    """On ready-made vectors the cell is skipped, and the reason names the backbone for them."""
    with pytest.raises(ltbench.SkipCell) as caught:
        PixelEncoder(None).preprocess(torch.zeros(5))
    assert str(caught.value) == "pixels takes images, this dataset has ready-made vectors [5]: choose identity"


def test_there_is_nothing_to_pay_for() -> None:
    """Encoding costs no arithmetic worth counting."""
    assert PixelEncoder.flops_per_image == 0


def test_the_fingerprint_names_what_is_computed() -> None:
    """Encoders loaded anew, on any device, are known to be the same by their fingerprint."""
    assert (
        Pixels().load("cpu").fingerprint == Pixels().load("cuda").fingerprint == "pixels: uint8 / 255, row-major, channels last"
    )


def test_scaled_images_are_averages_over_areas() -> None:
    """Each new pixel is the mean of the pixels it covers, and images of several sizes become one size."""
    encoder = Pixels(size=2).load("cpu")
    small, large = images(1, 2, 2, 3)[0], images(1, 8, 4, 3)[0]
    batch = torch.stack([encoder.preprocess(small).float(), encoder.preprocess(large)])
    expected = [
        large[4 * i : 4 * i + 4, 2 * j : 2 * j + 2, k].float().mean().item() / 255
        for i in range(2)
        for j in range(2)
        for k in range(3)
    ]
    torch.testing.assert_close(encoder(batch)[1], torch.tensor(expected))
    torch.testing.assert_close(encoder(batch)[0], small.flatten().float() / 255)


@pytest.mark.parametrize("size", [None, 3])
def test_images_together_are_each_alone(size: int | None) -> None:
    """Preprocessing a batch gives what each image gives, bit for bit."""
    encoder = Pixels(size=size).load("cpu")
    batch = images(5, 7, 6, 3)
    together = encoder.preprocess_batch(torch.stack(batch))
    assert torch.equal(together, torch.stack([encoder.preprocess(image) for image in batch]))


def test_the_size_is_in_the_fingerprint() -> None:
    """Features of two sizes are two sets."""
    assert Pixels().load("cpu").fingerprint != Pixels(size=8).load("cpu").fingerprint
