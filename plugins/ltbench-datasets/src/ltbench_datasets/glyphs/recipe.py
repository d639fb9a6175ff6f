"""Which images a glyphs dataset has, in which order, and how they are drawn. Knows no file but the atlas."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

import ltbench
from ltbench_datasets.glyphs.atlas import Atlas, Bytes, read_atlas
from ltbench_datasets.glyphs.drawing import IMAGE, draw_images, soft_maps
from ltbench_datasets.glyphs.factors import Factors, draw_factors

PARTS = ("train", "validation", "test")
DRAWING_VERSION = 1
"""Raised when a change to factors or drawing changes an image."""

CHUNK = 200
"""Images drawn together; what they look like does not depend on it."""


@dataclass(frozen=True)
class Recipe:
    """The first classes of a set of characters, so many images of each in every part, and a seed."""

    characters: Literal["benchmark", "pretrain"]
    classes: int
    train: int
    validation: int
    test: int
    seed: int

    @property
    def atlas(self) -> Atlas:
        """The set of characters."""
        return read_atlas(self.characters)

    @property
    def name(self) -> str:
        """A name that no other images have: settings, drawing version and atlas, hashed."""
        text = "\x1f".join(map(str, (*astuple(self), DRAWING_VERSION, self.atlas.sha256)))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def count(self) -> int:
        """Images of all parts together."""
        return self.classes * (self.train + self.validation + self.test)

    def labels(self, part: str) -> Tensor:
        """Return the labels of a part, class by class: int64 ``[N]``."""
        return torch.arange(self.classes).repeat_interleave(getattr(self, part))

    def ids(self, part: str) -> Tensor:
        """Return the ids of a part's images ``[N]``, made of code point and running number.

        So the images of a smaller set are among those of a larger one.
        """
        points = torch.tensor([ord(c) for c in self.atlas.characters[: self.classes]])
        return (points[:, None] * 2**20 + torch.arange(getattr(self, part))).flatten()

    def stream(self, part: str) -> ltbench.Stream:
        """Return the stream of a part."""
        return ltbench.Stream.of(self.seed, "glyphs", self.characters, part)

    def factors(self, part: str) -> Factors:
        """Return the factors of a part's images."""
        return draw_factors(self.stream(part), self.ids(part))

    def draw(self, into: Bytes, progress: Callable[[int], None]) -> None:
        """Draw all images, in the order of ``PARTS``, into ``[N, 32, 32, 3]``; ``progress`` gets the images done."""
        maps = soft_maps(self.atlas.bits)
        done = 0
        with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
            for start, chunk in pool.map(lambda work: (work[0], self._chunk(maps, *work[1:])), self._chunks()):
                into[start : start + len(chunk)] = chunk
                done += len(chunk)
                progress(done)

    def _chunks(self) -> Iterator[tuple[int, str, Tensor, Tensor]]:
        """Yield the pieces of work: where their images go, part, ids and labels."""
        start = 0
        for part in PARTS:
            ids, labels = self.ids(part), self.labels(part)
            for first in range(0, len(ids), CHUNK):
                yield start + first, part, ids[first : first + CHUNK], labels[first : first + CHUNK]
            start += len(ids)

    def _chunk(self, maps: Bytes, part: str, ids: Tensor, labels: Tensor) -> Bytes:
        """Draw some images of a part."""
        factors = draw_factors(self.stream(part), ids)
        return draw_images(maps[labels.numpy(), factors.face], factors, self.stream(part), ids)

    def fingerprint(self, images: Bytes) -> str:
        """Return the SHA-256 of numbers, labels and pixels of all parts."""
        content = hashlib.sha256(f"glyphs {self.classes} {self.train} {self.validation} {self.test} {IMAGE}\n".encode())
        for part in PARTS:
            content.update(self.labels(part).numpy().astype("<i8").tobytes())
        content.update(np.ascontiguousarray(images).data)
        return content.hexdigest()
