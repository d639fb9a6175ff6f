"""Tests of the identity backbone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import ltbench
from ltbench.features import extract
from ltbench.testing import parametrize_with_checks
from ltbench_backbones.identity import Identity, IdentityEncoder


def dataset(train: Tensor, test: Tensor, text: Tensor | None = None) -> ltbench.Dataset:
    """Return a dataset of two classes with these images or vectors."""
    parts = [ltbench.Part(torch.arange(len(images)) % 2, images) for images in (train, test)]
    return ltbench.Dataset(parts[0], parts[1], ("a", "b"), "fingerprint", class_text=text)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_vectors_come_out_as_they_went_in(dtype: torch.dtype) -> None:
    """Features are the vectors as float32, row for row."""
    generator = torch.Generator().manual_seed(0)
    train, test = (torch.randn(n, 5, generator=generator).to(dtype) for n in (300, 7))
    features = extract(dataset(train, test), Identity().load("cpu"), "cpu")
    assert torch.equal(features.train, train.float())
    assert torch.equal(features.test, test.float())
    assert features.train.dtype == torch.float32


def test_class_text_is_the_datasets() -> None:
    """Class-text vectors are those that came with the features, if any did."""
    text = torch.eye(2, 5)
    encoder = Identity().load("cpu")
    assert torch.equal(extract(dataset(torch.ones(4, 5), torch.zeros(4, 5), text), encoder, "cpu").text, text)
    assert extract(dataset(torch.ones(4, 5), torch.zeros(4, 5)), encoder, "cpu").text is None


@pytest.mark.parametrize(
    "image", [torch.zeros(8, 8, 3, dtype=torch.uint8), torch.zeros(8, dtype=torch.uint8), torch.zeros(8, 8)]
)
def test_images_are_not_its_business(image: Tensor) -> None:
    """On anything but float vectors the cell is skipped, and the reason says what to choose instead."""
    with pytest.raises(ltbench.SkipCell) as caught:
        IdentityEncoder().preprocess(image)
    assert str(caught.value) == (
        f"identity takes ready-made vectors, float [D], this dataset has images, {image.dtype} {list(image.shape)}: "
        "choose a backbone that encodes images, such as pixels, timm:<model> or open_clip:<model>"
    )


def test_there_is_nothing_to_pay_for() -> None:
    """Encoding costs nothing, and encoders loaded anew are known to be the same."""
    assert IdentityEncoder.flops_per_image == 0
    assert Identity().load("cpu").fingerprint == Identity().load("cuda").fingerprint


@parametrize_with_checks(["identity"], expected_failures={})
def test_conformance(component, check) -> None:  # type: ignore[no-untyped-def]
    """It keeps to the contract; checks on images are skipped with its reason."""
    check(component)
