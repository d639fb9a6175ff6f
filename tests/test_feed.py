"""Tests of the feed: images decoded and preprocessed by threads, in order, in bounded memory, with errors that name them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ltbench.errors import LtbenchError
from ltbench.features.feed import feed, in_order, load
from ltbench.types import Part


class Half:
    """Halves pixels; counts how it was asked."""

    fingerprint = "half"
    flops_per_image = 0

    def __init__(self) -> None:
        """Nothing was asked yet."""
        self.images = 0

    def preprocess(self, image: Tensor) -> Tensor:
        """Return half of each pixel."""
        self.images += 1
        return image.float() / 2

    def __call__(self, batch: Tensor) -> Tensor:
        """Encode a batch."""
        return batch.flatten(1)


class Together(Half):
    """Halves the pixels of many images at once."""

    def __init__(self) -> None:
        """Nothing was asked yet."""
        super().__init__()
        self.batches: list[int] = []

    def preprocess_batch(self, images: Tensor) -> Tensor:
        """Return half of each pixel."""
        self.batches.append(len(images))
        return images.float() / 2


@dataclass
class Slow(Sequence[Tensor]):
    """Images that take their time, the first ones most; remembers how many were asked for at once."""

    size: int
    broken: tuple[int, ...] = ()
    error: Exception | None = None
    now: int = 0
    most: int = 0
    lock: Any = None

    def __len__(self) -> int:
        """Return the number of images."""
        return self.size

    def __getitem__(self, i: int) -> Tensor:  # type: ignore[override]
        """Decode image i."""
        self.lock = self.lock or threading.Lock()
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.002 / (1 + i % 7))
        with self.lock:
            self.now -= 1
        if i in self.broken:
            raise self.error or OSError(f"bad bytes in {i}")
        return torch.full((2, 2, 3), i % 256, dtype=torch.uint8)


def part(images: Any) -> Part:
    """Return a part of these images."""
    return Part(torch.zeros(len(images)).long(), images)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("batch", [1, 8, 64, 100])
def test_batches_come_in_order(threads: int, batch: int) -> None:
    """Each image comes once, in its place, although some take longer than others; the last batch is short."""
    batches = list(feed(part(Slow(64)), Half(), batch, threads))
    assert [len(x) for x in batches] == [min(batch, 64 - start) for start in range(0, 64, batch)]
    assert torch.cat(batches)[:, 0, 0, 0].tolist() == [i / 2 for i in range(64)]


def test_threads_decode_at_once() -> None:
    """As many images are decoded at a time as there are threads, and no more."""
    images = Slow(64)
    list(feed(part(images), Half(), 4, 3))
    assert images.most == 3


@pytest.mark.parametrize("images", [torch.arange(60).reshape(5, 2, 2, 3), list(torch.arange(60).reshape(5, 2, 2, 3))], ids=type)
def test_images_of_one_size_are_preprocessed_together(images: Any) -> None:
    """An encoder that can is given whole batches, and gives what it would give one by one."""
    alone, together = Half(), Together()
    one_by_one = list(feed(part(images), alone, 2, 1))
    at_once = list(feed(part(images), together, 2, 1))
    assert torch.cat(one_by_one).equal(torch.cat(at_once))
    assert (alone.images, together.images, together.batches) == (5, 0, [2, 2, 1])


def test_images_of_two_sizes_are_preprocessed_alone() -> None:
    """What cannot be stacked is resized first."""

    class Resizing(Together):
        def preprocess(self, image: Tensor) -> Tensor:
            return super().preprocess(image[:2, :2])

    encoder = Resizing()
    images = [torch.ones(2, 2, 1), torch.ones(3, 4, 1)]
    assert torch.cat(list(feed(part(images), encoder, 2, 1))).tolist() == torch.full((2, 2, 2, 1), 0.5).tolist()
    assert (encoder.images, encoder.batches) == (2, [])


@settings(max_examples=50, deadline=None)
@given(size=st.integers(0, 40), threads=st.integers(1, 5))
def test_any_work_comes_in_order(size: int, threads: int) -> None:
    """Items and what was made of them, in the items' order."""
    assert list(in_order(lambda i: i * i, iter(range(size)), threads)) == [(i, i * i) for i in range(size)]


def test_memory_is_bounded() -> None:
    """Items are drawn at most twice as many as there are threads ahead of what was taken."""
    drawn: list[int] = []

    def numbers() -> Iterator[int]:
        for i in range(100):
            drawn.append(i)
            yield i

    ahead = []
    for taken, _ in enumerate(in_order(lambda i: i, numbers(), 3), 1):
        ahead.append(len(drawn) - taken)
        time.sleep(0.001)
    assert max(ahead) <= 6


def test_nothing_runs_on_after_the_last_was_wanted() -> None:
    """Who stops early leaves no thread and no queue behind."""
    before = threading.active_count()
    made: list[int] = []
    for i, _ in in_order(lambda i: made.append(i) or time.sleep(0.001), range(1000), 2):  # type: ignore[func-returns-value]
        if i == 3:
            break
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
    assert len(made) < 20


# Errors


def failing(images: Any, encoder: Any = None) -> str:
    """Return what a feed of images that cannot be had says."""
    with pytest.raises(LtbenchError) as caught:
        list(feed(part(images), encoder or Half(), 4, 3))
    return str(caught.value)


def test_an_image_that_cannot_be_decoded_is_named() -> None:
    """The first one, in the images' order, however the threads ran."""
    assert failing(Slow(40, (9, 10, 33))) == "image 9 of the dataset cannot be decoded: OSError: bad bytes in 9"


def test_a_dataset_s_own_error_passes_through() -> None:
    """A dataset knows the path; nothing is put before its words."""
    assert failing(Slow(40, (9,), LtbenchError("image cat.jpg is cut off"))) == "image cat.jpg is cut off"


def raising(image: Tensor) -> Tensor:
    """Refuse an image."""
    raise ValueError("too green")


@pytest.mark.parametrize("kind", [Half, Together])
def test_an_image_that_cannot_be_preprocessed_is_named(kind: Callable[[], Half]) -> None:
    """With its size, as the backbone saw it."""
    encoder = kind()
    encoder.preprocess = raising  # type: ignore[method-assign]
    images = [torch.zeros(2, 2, 1), torch.zeros(3, 2, 1)]
    said = "image 0, torch.float32 [2, 2, 1], cannot be preprocessed by the backbone: ValueError: too green"
    assert failing(images, encoder) == said


def test_images_that_cannot_be_preprocessed_together_are_named() -> None:
    """The whole batch is to blame."""
    encoder = Together()
    encoder.preprocess_batch = raising  # type: ignore[method-assign]
    said = "images 4 to 5, torch.float32 [2, 2, 1], cannot be preprocessed by the backbone: ValueError: too green"
    with pytest.raises(LtbenchError) as caught:
        load(part(torch.zeros(6, 2, 2, 1)), encoder, range(4, 6))
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("second", "made"),
    [(torch.zeros(3, 2, 1), "torch.float32 [3, 2, 1]"), (torch.zeros(2, 2, 1).double(), "torch.float64 [2, 2, 1]")],
)
def test_images_of_two_sizes_need_a_backbone_that_resizes(second: Tensor, made: str) -> None:
    """The error names both images."""
    encoder = Half()
    encoder.preprocess = lambda image: image  # type: ignore[method-assign]
    said = "the backbone must make images of one size: it made torch.float32 [2, 2, 1] of image 0 and"
    assert failing([torch.zeros(2, 2, 1), second], encoder) == f"{said} {made} of image 1; choose one that resizes"


def test_memory_errors_are_not_the_image_s_fault() -> None:
    """A machine without memory is told as such."""
    with pytest.raises(MemoryError):
        load(part(Slow(3, (1,), MemoryError())), Half(), range(3))
