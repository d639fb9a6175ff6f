"""Training images drawn again with other factors: the same character in another font, pose, light or background."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ltbench_datasets.glyphs.atlas import Bytes
from ltbench_datasets.glyphs.drawing import draw_images, soft_maps
from ltbench_datasets.glyphs.factors import draw_factors
from ltbench_datasets.glyphs.recipe import CHUNK, Recipe

FACTORS = {
    "font": ("face",),
    "pose": ("turn", "size", "shift"),
    "light": ("light",),
    "background": ("texture", "coarseness", "strokes"),
    "occlusion": ("occluder",),
}
"""Which factors a view draws anew; all others stay, so do texture's and noise's own draws."""

REMEMBERED = 64
"""Chunks of images kept for who asks next."""


@dataclass(frozen=True)
class Redrawn(Sequence[Tensor]):
    """The training images of a recipe, uint8 ``[32, 32, 3]``, drawn when they are asked for; each number has other draws."""

    recipe: Recipe
    view: str
    number: int

    def __len__(self) -> int:
        """Return the number of images."""
        return self.recipe.classes * self.recipe.train

    def __getitem__(self, i: int) -> Tensor:  # type: ignore[override]
        """Return image i."""
        if not 0 <= i < len(self):
            raise IndexError(f"there are {len(self)} images, and none of number {i}")
        chunk, place = divmod(i, CHUNK)
        return torch.from_numpy(_chunk(self, chunk)[place].copy())


@functools.lru_cache(REMEMBERED)
def _chunk(images: Redrawn, chunk: int) -> Bytes:
    """Draw some images together; what they look like does not depend on it."""
    recipe, rows = images.recipe, slice(chunk * CHUNK, (chunk + 1) * CHUNK)
    ids, labels, stream = recipe.ids("train")[rows], recipe.labels("train")[rows], recipe.stream("train")
    others = draw_factors(stream.child("view", images.view, images.number), ids)
    changes = {name: getattr(others, name) for name in FACTORS[images.view]}
    factors = dataclasses.replace(draw_factors(stream, ids), **changes)
    return draw_images(_maps(recipe)[labels.numpy(), factors.face], factors, stream, ids)


@functools.lru_cache(2)
def _maps(recipe: Recipe) -> Bytes:
    """Return the soft maps of a recipe's characters."""
    return soft_maps(recipe.atlas.bits)
