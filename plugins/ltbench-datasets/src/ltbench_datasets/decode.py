"""Image files as uint8 RGB tensors, decoded by Pillow when they are asked for. Knows no dataset."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, overload

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

import ltbench

RULE = "first frame, RGB without alpha, high byte of 16 bits, orientation as stored"
"""What a file's pixels are; part of fingerprints, so that another rule is another dataset."""

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif"),
)
"""Which names are images', in lower case; what a file holds is told by its content."""

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")


@dataclass(frozen=True)
class ImageFiles(Sequence[Tensor]):
    """Images below a folder: ``files[i]`` decodes file i; many threads and processes may ask at once."""

    root: str
    names: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...

    @overload
    def __getitem__(self, index: slice) -> ImageFiles: ...

    def __getitem__(self, index: int | slice) -> Tensor | ImageFiles:
        """Decode one image, or return a part of the list without decoding any."""
        if isinstance(index, slice):
            return ImageFiles(self.root, self.names[index])
        return decode(os.path.join(self.root, self.names[index]))  # noqa: PTH118 - a tenth of the cost of a Path


def decode(path: str) -> Tensor:
    """Decode an image file to uint8 ``[H, W, 3]``, or raise LtbenchError with its path and what is wrong with it.

    The first frame of an animation. Grey is repeated, palettes are looked up, an alpha channel is dropped, of 16 bits
    the high byte is kept. EXIF orientation is not applied: pixels are as stored, as torchvision's ImageFolder has them.
    """
    problem = ""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - as above
            return decode_open(file)
    except Exception as error:  # whatever Pillow's parsers raise on broken bytes
        problem = problem_of(error)
    raise ltbench.LtbenchError(f"image {path} cannot be decoded: {problem}")


def decode_open(file: IO[bytes]) -> Tensor:
    """Decode an open image file to uint8 ``[H, W, 3]``; raises whatever Pillow raises."""
    with Image.open(file, formats=_formats()) as image:
        return torch.from_numpy(_rgb(image))


def read_header(file: IO[bytes]) -> None:
    """Read an image's format and size without decoding it; raises whatever Pillow raises."""
    with Image.open(file, formats=_formats()):
        pass


def problem_of(error: Exception) -> str:
    """Say in one line what keeps a file from being decoded."""
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"it has more pixels than PIL.Image.MAX_IMAGE_PIXELS allows ({error})"
    if isinstance(error, UnidentifiedImageError):
        return "it is no image of a known format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _rgb(image: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return an opened image's pixels, uint8 ``[H, W, 3]``, in memory of their own."""
    if image.mode.startswith("I;16"):  # Pillow's own conversion clips at 255
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of 32 bits (mode {image.mode}) have no fixed scale: convert it to 8 or 16 bits")
    if image.mode in ("P", "PA") and "transparency" in image.info:
        image = image.convert("RGBA")  # the same colours, without Pillow's warning
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))  # a conversion to itself would be a copy


@functools.cache
def _formats() -> tuple[str, ...]:
    """Return the formats that this Pillow reads; none that starts other programs."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)
