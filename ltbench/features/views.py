"""Views of training images: each image again, flipped, cropped, recoloured, noisy or blurred. Knows no encoder and no file.

All arithmetic is of integers, and all draws come from streams: a view has the same pixels on every machine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ltbench.data import named_view, view_fingerprint
from ltbench.errors import SkipCell
from ltbench.streams import Stream
from ltbench.types import Dataset, Part

UNIT = 256
"""Factors and weights are counted in so many parts of one."""

View = Callable[[Tensor, Stream, Tensor], Tensor]


def flip(image: Tensor, stream: Stream, row: Tensor) -> Tensor:  # noqa: ARG001 - nothing is drawn
    """Swap left and right."""
    return image.flip(1)


def crop(image: Tensor, stream: Stream, row: Tensor) -> Tensor:
    """Cut out a window of 60 to 100 % of each side, anywhere, and enlarge it to the image's size (bilinear)."""
    height, width = image.shape[:2]
    share = 614 + int(stream.child("size").integers(row, 1, 411))  # of 1024
    rows, columns = max(1, height * share // 1024), max(1, width * share // 1024)
    top = int(stream.child("top").integers(row, 1, height - rows + 1))
    left = int(stream.child("left").integers(row, 1, width - columns + 1))
    return resized(image[top : top + rows, left : left + columns], height, width)


def colour(image: Tensor, stream: Stream, row: Tensor) -> Tensor:
    """Change brightness, contrast and saturation by factors of 0.6 to 1.4 each."""
    brightness, contrast, saturation = (154 + stream.integers(row, 3, 205))[0].tolist()
    x = (image.int() * brightness + UNIT // 2) // UNIT
    mean = int(x.sum(dtype=torch.int64)) // x.numel()
    x = mean + ((x - mean) * contrast + UNIT // 2) // UNIT
    grey = x.sum(dim=2, keepdim=True) // x.shape[2]
    coloured: Tensor = grey + ((x - grey) * saturation + UNIT // 2) // UNIT
    return coloured.clamp(0, 255).to(torch.uint8)


def noise(image: Tensor, stream: Stream, row: Tensor) -> Tensor:
    """Add normal noise of 10 grey levels to each value."""
    drawn = stream.normal(row, image.numel()).reshape(image.shape)
    return (image.int() + (10 * drawn).round().int()).clamp(0, 255).to(torch.uint8)


def blur(image: Tensor, stream: Stream, row: Tensor) -> Tensor:
    """Smooth with a 1-2-1 kernel along both sides, one to three times; edges are repeated."""
    for _ in range(1 + int(stream.integers(row, 1, 3))):
        for side in (0, 1):
            x = image.int()
            size = x.shape[side]
            before = torch.cat([x.narrow(side, 0, 1), x.narrow(side, 0, size - 1)], dim=side)
            after = torch.cat([x.narrow(side, 1, size - 1), x.narrow(side, size - 1, 1)], dim=side)
            image = ((before + 2 * x + after + 2) // 4).to(torch.uint8)
    return image


VIEWS: dict[str, View] = {"flip": flip, "crop": crop, "colour": colour, "noise": noise, "blur": blur}


@dataclass(frozen=True)
class Viewed(Sequence[Tensor]):
    """Images under a view, made when they are asked for; image i draws from the stream's row i."""

    images: Sequence[Tensor] | Tensor
    name: str
    stream: Stream

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def __getitem__(self, i: int) -> Tensor:  # type: ignore[override]
        """Return image i, uint8 ``[H, W, channels]``; raise SkipCell for a dataset of something else."""
        image = self.images[i]
        if image.ndim != 3 or image.dtype != torch.uint8:
            raise SkipCell(f"views need uint8 images [H, W, channels], image {i} is {image.dtype} {list(image.shape)}")
        return VIEWS[self.name](image, self.stream, torch.tensor([i]))


def view_of(dataset: Dataset, text: str) -> Dataset:
    """Return a dataset whose training images are a view of the dataset's; its other parts are not to be used.

    ``text`` is a view's name, ``crop``, or name and number, ``crop.3``: views of other numbers have other draws. It is one
    of ``VIEWS``, or of the dataset's own, which come first. The fingerprint names dataset, view and number, so each has
    features of its own. Raises UsageError for an unknown name.
    """
    name, number = named_view(dataset, text)
    if name in dataset.views:
        images = dataset.views[name](number)
    else:
        images = Viewed(dataset.train.images, name, Stream.of(number, "view", name))
    return dataclasses.replace(dataset, train=Part(dataset.train.labels, images), fingerprint=view_fingerprint(dataset, text))


def resized(image: Tensor, height: int, width: int) -> Tensor:
    """Enlarge uint8 ``[h, w, channels]`` to ``[height, width, channels]``, bilinear between pixels' middles."""
    above, below, down = _neighbours(image.shape[0], height)
    left, right, across = _neighbours(image.shape[1], width)
    x, down, across = image.int(), down[:, None, None], across[None, :, None]
    x = x[above] * (UNIT - down) + x[below] * down
    x = x[:, left] * (UNIT - across) + x[:, right] * across
    return ((x + UNIT * UNIT // 2) // (UNIT * UNIT)).to(torch.uint8)


def _neighbours(small: int, large: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return for each of ``large`` places the ``small`` ones on either side, and the weight of the second, of UNIT.

    Place i lies at ((2i + 1)·small − large) / (2·large), in pixels from the middle of the first.
    """
    place = ((2 * torch.arange(large) + 1) * small - large) * UNIT // (2 * large)
    place = place.clamp(0, (small - 1) * UNIT)
    first = place // UNIT
    return first, (first + 1).clamp(max=small - 1), place % UNIT
