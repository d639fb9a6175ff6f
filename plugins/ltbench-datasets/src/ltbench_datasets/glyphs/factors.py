"""What makes an image: font, pose, colours, light, texture, clutter, blur, occlusion and noise, drawn as integers.

Knows no pixel. N images; lengths are in 1/16 pixel, and a turn is the tangent of half its angle in 1/512, so that sine
and cosine are quotients of integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

import ltbench
from ltbench_datasets.glyphs.atlas import FACES

Integers = np.ndarray[Any, np.dtype[np.int64]]

PIXEL = 16
"""Units of length in a pixel."""

TURN = 90
"""The largest turn of a character: 2 · atan(90 / 512), 19.9 degrees."""

SIZE = (16 * PIXEL, 25 * PIXEL)
"""A character's longer side, unturned."""

SHIFT = 5 * PIXEL // 2
"""How far the middle of a character is from that of the image, at most, along each axis."""

CONTRAST = (64, 160)
"""Difference in brightness of ink and paper, before each colour channel of either is moved by up to ``TINT``."""

TINT = 45
LIGHT_INK = 90
"""In how many of 100 images the ink is lighter than the paper."""

SLOPE = 16
"""The largest change of light per pixel and axis, in 1/1024 of the light in the middle."""

TEXTURE = 50
"""The largest depth of the paper's texture, in levels."""

STROKES = 3
BLURS = (0, 0, 1, 1, 1, 2)
NOISE = 24
"""The largest standard deviation of the noise, in levels."""

OCCLUDED = 40
"""How many of 100 images have a bar before the character."""


@dataclass(frozen=True)
class Bars:
    """B bars for each image: their middle, turn, half their length and width ``[N, B]``, and colours ``[N, B, 3]``.

    One of negative width is not there.
    """

    x: Integers
    y: Integers
    turn: Integers
    length: Integers
    width: Integers
    colour: Integers

    @property
    def there(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which bars there are, ``[N, B]``."""
        return self.width > 0


@dataclass(frozen=True)
class Factors:
    """What each of N images is made of."""

    face: Integers
    turn: Integers
    size: Integers
    shift: Integers
    paper: Integers
    ink: Integers
    light: Integers
    texture: Integers
    coarseness: Integers
    strokes: Bars
    occluder: Bars
    blur: Integers
    noise: Integers

    def metadata(self) -> dict[str, Tensor]:
        """Return the factors as tensors ``[N]``, ``[N, 2]`` (x, y) or ``[N, 3]`` (red, green, blue) in natural units."""
        degrees = np.degrees(2 * np.arctan(self.turn / 512))
        area = 4 * self.occluder.length * self.occluder.width * self.occluder.there / PIXEL**2
        found = {
            "font": self.face,
            "angle": degrees.astype(np.float32),
            "scale": (self.size / PIXEL).astype(np.float32),
            "shift": (self.shift / PIXEL).astype(np.float32),
            "paper": self.paper,
            "ink": self.ink,
            "light": (self.light / 1024).astype(np.float32),
            "texture": self.texture,
            "clutter": self.strokes.there.sum(axis=1),
            "occlusion": area[:, 0].astype(np.float32),
            "blur": self.blur,
            "noise": self.noise,
        }
        return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in found.items()}


def draw_factors(stream: ltbench.Stream, ids: Tensor) -> Factors:
    """Draw the factors of images by their ids ``[N]``; each has a stream of its own, and an image's depend on its id alone."""
    draws = _Draws(stream, ids)
    paper, ink = _colours(draws)
    return Factors(
        face=draws.below("font", len(FACES))[:, 0],
        turn=draws.between("turn", -TURN, TURN)[:, 0],
        size=draws.between("size", *SIZE)[:, 0],
        shift=draws.between("shift", -SHIFT, SHIFT, 2),
        paper=paper,
        ink=ink,
        light=draws.between("light", -SLOPE, SLOPE, 2),
        texture=draws.between("texture", 0, TEXTURE)[:, 0],
        coarseness=draws.between("coarseness", 2, 4)[:, 0],
        strokes=_strokes(draws, paper, ink),
        occluder=_occluder(draws),
        blur=np.array(BLURS)[draws.below("blur", len(BLURS))[:, 0]],
        noise=draws.between("noise", 1, NOISE)[:, 0],
    )


@dataclass(frozen=True)
class _Draws:
    """Integers by name, for each of N ids."""

    stream: ltbench.Stream
    ids: Tensor

    def below(self, name: str, high: int | Integers, columns: int = 1) -> Integers:
        """Draw ``[N, columns]`` in [0, high), where ``high`` may be ``[N, 1]``."""
        bound = high if isinstance(high, int) else torch.from_numpy(high)
        found: Integers = self.stream.child(name).integers(self.ids, columns, bound).numpy()
        return found

    def between(self, name: str, low: int, high: int, columns: int = 1) -> Integers:
        """Draw ``[N, columns]`` in [low, high]."""
        return self.below(name, high - low + 1, columns) + low


def _colours(draws: _Draws) -> tuple[Integers, Integers]:
    """Return paper and ink, ``[N, 3]`` in [0, 255], one clearly lighter than the other."""
    contrast = draws.between("contrast", *CONTRAST)
    dark = draws.below("brightness", 256 - contrast)
    light_ink = draws.below("polarity", 100) < LIGHT_INK
    light = dark + contrast
    paper = np.where(light_ink, dark, light) + draws.between("paper", -TINT, TINT, 3)
    ink = np.where(light_ink, light, dark) + draws.between("ink", -TINT, TINT, 3)
    return paper.clip(0, 255), ink.clip(0, 255)


def _strokes(draws: _Draws, paper: Integers, ink: Integers) -> Bars:
    """Return up to three thin bars anywhere behind the character, in shades between paper and ink."""
    there = np.arange(STROKES) < draws.between("strokes", 0, STROKES)
    shade = draws.between("stroke shade", 5, 14, STROKES)[..., None]
    return Bars(
        x=draws.below("stroke x", 32 * PIXEL, STROKES),
        y=draws.below("stroke y", 32 * PIXEL, STROKES),
        turn=draws.between("stroke turn", -512, 512, STROKES),
        length=draws.between("stroke length", 4 * PIXEL, 12 * PIXEL, STROKES),
        width=np.where(there, draws.between("stroke width", 8, 20, STROKES), -PIXEL),
        colour=(paper[:, None] * (16 - shade) + ink[:, None] * shade) >> 4,
    )


def _occluder(draws: _Draws) -> Bars:
    """Return a bar of any colour before the character, in some images."""
    there = draws.below("occluder", 100) < OCCLUDED
    return Bars(
        x=draws.between("occluder x", 8 * PIXEL, 24 * PIXEL),
        y=draws.between("occluder y", 8 * PIXEL, 24 * PIXEL),
        turn=draws.between("occluder turn", -512, 512),
        length=draws.between("occluder length", 5 * PIXEL, 12 * PIXEL),
        width=np.where(there, draws.between("occluder width", 16, 40), -PIXEL),
        colour=draws.below("occluder colour", 256, 3)[:, None],
    )
