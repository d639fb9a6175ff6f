"""Tests of views: the same pixels everywhere, each image its own draws, features of their own in the cache."""

from __future__ import annotations

import dataclasses
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ltbench.data import IMAGE_VIEWS
from ltbench.errors import SkipCell, UsageError
from ltbench.features import Extraction, FeatureStore, Origin, key_parts
from ltbench.features.views import VIEWS, blur, colour, crop, flip, noise, resized, view_of
from ltbench.keys import digest
from ltbench.streams import Stream
from ltbench.types import Dataset, Part

ROW = torch.tensor([0])


def picture(height: int = 9, width: int = 12, channels: int = 3, seed: int = 0) -> Tensor:
    """Return a random image."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (height, width, channels), generator=generator, dtype=torch.uint8)


def pictures() -> Dataset:
    """Return a dataset of six images."""
    images = torch.stack([picture(seed=seed) for seed in range(6)])
    return Dataset(Part(torch.arange(6) % 2, images), Part(torch.arange(2), images[:2]), ("a", "b"), "pictures")


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("size", [(1, 1, 1), (1, 7, 3), (8, 8, 1), (9, 12, 3)])
def test_a_view_is_an_image_of_the_same_size(name: str, size: tuple[int, int, int]) -> None:
    """Values stay bytes, the image itself stays as it is, and another one comes out wherever it can."""
    image = picture(*size)
    before = image.clone()
    seen = VIEWS[name](image, Stream.of(0), ROW)
    assert (seen.shape, seen.dtype) == (image.shape, torch.uint8)
    assert image.equal(before)
    assert image.numel() < 20 or not seen.equal(image)


PINNED = {"flip": "51389e18", "crop": "11d75fb2", "colour": "808afbc3", "noise": "5907fe61", "blur": "8f6a461c"}


@pytest.mark.parametrize("name", VIEWS)
def test_views_are_the_same_on_every_machine(name: str) -> None:
    """Pixels of a fixed image, pinned: a change needs another VIEWS_VERSION."""
    image = ((torch.arange(9 * 12 * 3) * 37) % 256).to(torch.uint8).reshape(9, 12, 3)
    assert digest(VIEWS[name](image, Stream.of(5), torch.tensor([3])).tolist())[:8] == PINNED[name]


def test_images_differ_in_their_draws() -> None:
    """Row, number and name of a view all change what is drawn."""
    same = Dataset(Part(torch.zeros(3).long(), picture().repeat(3, 1, 1, 1)), pictures().test, ("a",), "same")
    for name in ("crop", "colour", "noise"):
        views = [view_of(same, f"{name}.{number}").train.images[i] for number in range(2) for i in range(3)]
        assert len({digest(view.tolist()) for view in views}) == 6


def test_views_of_an_image_do_not_depend_on_the_others() -> None:
    """An image's draws belong to its place, whatever is asked for before."""
    images = view_of(pictures(), "noise").train.images
    backwards = [images[i].tolist() for i in reversed(range(6))]
    assert backwards[::-1] == [images[i].tolist() for i in range(6)]


def test_flip_swaps_left_and_right() -> None:
    """Twice is the image again."""
    image = picture()
    assert flip(image, Stream.of(0), ROW).tolist() == [row[::-1] for row in image.tolist()]


def test_crop_of_one_colour_is_that_colour() -> None:
    """Enlarging invents nothing."""
    image = torch.full((10, 10, 3), 77, dtype=torch.uint8)
    assert crop(image, Stream.of(0), ROW).equal(image)


@settings(max_examples=40, deadline=None)
@given(small=st.tuples(st.integers(1, 9), st.integers(1, 9)), more=st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_enlarging_is_bilinear(small: tuple[int, int], more: tuple[int, int]) -> None:
    """Within two grey levels of torch's own interpolation, which is in floating point."""
    image = picture(*small, seed=small[0])
    height, width = small[0] + more[0], small[1] + more[1]
    wanted = torch.nn.functional.interpolate(image.permute(2, 0, 1)[None].double(), (height, width), mode="bilinear")
    assert (resized(image, height, width).double() - wanted[0].permute(1, 2, 0)).abs().max() <= 2


def test_colour_of_grey_stays_grey() -> None:
    """Saturation alone cannot colour an image that has none."""
    grey = picture(channels=1).repeat(1, 1, 3)
    seen = colour(grey, Stream.of(0), ROW)
    assert seen[..., 0].equal(seen[..., 1])
    assert seen[..., 0].equal(seen[..., 2])


def test_noise_has_the_size_it_says() -> None:
    """Normal, mean 0, ten grey levels, independent of the image."""
    image = torch.full((100, 100, 3), 128, dtype=torch.uint8)
    added = noise(image, Stream.of(0), ROW).double() - 128
    assert abs(float(added.mean())) < 4 * 10 / math.sqrt(added.numel())
    assert abs(float(added.std()) - 10) < 0.2


def test_blur_smooths_and_keeps_the_mean() -> None:
    """Neighbours come closer, no light is lost but for rounding."""
    image = picture(40, 40)
    seen = blur(image, Stream.of(0), ROW)
    assert seen.double().var() < 0.5 * image.double().var()
    assert abs(float(seen.double().mean() - image.double().mean())) < 1.5


def test_only_training_images_are_viewed() -> None:
    """Labels, classes and the other parts are the dataset's, and it can be sent to a worker."""
    data = pictures()
    seen = pickle.loads(pickle.dumps(view_of(data, "flip")))
    assert [image.tolist() for image in seen.train.images] == [image.flip(1).tolist() for image in data.train.images]
    assert seen.train.labels.equal(data.train.labels)
    assert [image.tolist() for image in seen.test.images] == [image.tolist() for image in data.test.images]


def test_each_view_has_features_of_its_own() -> None:
    """Dataset, name and number make the fingerprint."""
    other = dataclasses.replace(pictures(), fingerprint="other")
    seen = [view_of(pictures(), "crop"), view_of(pictures(), "crop.1"), view_of(pictures(), "flip"), view_of(other, "crop")]
    assert len({each.fingerprint for each in [pictures(), *seen]}) == 5
    assert view_of(pictures(), "crop.0").fingerprint == seen[0].fingerprint


def test_unknown_views_are_refused() -> None:
    """The error names those there are, and how a number is written."""
    with pytest.raises(
        UsageError, match=r"^unknown view 'flop'; there are flip, crop, colour, noise, blur \(did you mean 'flip'\?\)$"
    ):
        view_of(pictures(), "flop")
    with pytest.raises(UsageError, match=r"^a view is a name, crop, or name and number, crop\.3, not 'crop\.x'$"):
        view_of(pictures(), "crop.x")


def test_every_view_has_its_name() -> None:
    """What may be asked for is what can be made."""
    assert tuple(VIEWS) == IMAGE_VIEWS


def test_a_dataset_may_have_views_of_its_own() -> None:
    """They are asked for by number, come before ltbench's, and have fingerprints like the others."""
    data = dataclasses.replace(pictures(), views={"darker": Darker, "flip": Darker})
    seen = view_of(data, "darker.2")
    assert [image.tolist() for image in seen.train.images] == [(image // 3).tolist() for image in data.train.images]
    assert view_of(data, "flip").train.images[0].tolist() == data.train.images[0].tolist()
    assert len({view_of(data, name).fingerprint for name in ("darker", "darker.2", "flip", "crop")}) == 4


class Darker(list[Tensor]):
    """The pictures' training images, divided by a number and one."""

    def __init__(self, number: int) -> None:
        """Divide them."""
        super().__init__(image // (number + 1) for image in pictures().train.images)


@pytest.mark.parametrize("image", [torch.zeros(5), torch.zeros(2, 2, 3)])
def test_ready_made_vectors_have_no_views(image: Tensor) -> None:
    """Views are of pixels."""
    data = dataclasses.replace(pictures(), train=Part(torch.zeros(1).long(), [image]))
    with pytest.raises(SkipCell, match="views need uint8 images"):
        view_of(data, "flip").train.images[0]


class Flat:
    """Pixels as features."""

    fingerprint = "flat"
    flops_per_image = 0

    def preprocess(self, image: Tensor) -> Tensor:
        """Return pixels as numbers."""
        return image.float()

    def __call__(self, batch: Tensor) -> Tensor:
        """Encode a batch."""
        return batch.flatten(1)

    def class_text(self, data: Dataset) -> Tensor:
        """Refuse: a view has no class text."""
        raise AssertionError("asked for class text")


def test_views_are_extracted_and_cached_by_themselves(tmp_path: Path) -> None:
    """A view's set holds its training rows and nothing else."""
    data = view_of(pictures(), "flip")
    origin = Origin("pictures, view flip 0", "flat", key_parts(data, Flat()), {})
    found: list[Any] = [FeatureStore(tmp_path).extracted(Extraction(data, Flat(), only=("train",)), origin) for _ in range(2)]
    wanted = [image.flip(1).flatten().float().tolist() for image in pictures().train.images]
    assert [each.train.tolist() for each in found] == [wanted, wanted]
    assert [(list(each.test.shape), each.validation, each.text) for each in found] == [([0, 324], None, None)] * 2
