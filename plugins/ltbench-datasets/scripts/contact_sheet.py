"""Draw the contact sheets of the glyphs benchmark: every class, and every factor by itself.

    python contact_sheet.py FOLDER   # writes glyphs-classes.png and glyphs-factors.png

Needs Pillow and matplotlib (for its fonts).
"""
# ruff: noqa: INP001

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

import ltbench
from ltbench_datasets.glyphs import factors as f
from ltbench_datasets.glyphs.atlas import FACES, Bytes, read_atlas
from ltbench_datasets.glyphs.drawing import IMAGE, draw_images, soft_maps
from ltbench_datasets.glyphs.recipe import Recipe

SCALE = 2
PAPER = (250, 250, 250)
PER_CLASS = 3
FONT = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def classes() -> Image.Image:
    """Return the first training images of each class under its name, ten classes a row."""
    recipe = Recipe("benchmark", 100, PER_CLASS, 0, 0, 0)
    images = np.empty((recipe.count, IMAGE, IMAGE, 3), np.uint8)
    recipe.draw(images, lambda _: None)
    cell = (PER_CLASS * IMAGE * SCALE + 8, IMAGE * SCALE + 20)
    sheet = Image.new("RGB", (10 * cell[0], 10 * cell[1]), PAPER)
    text = ImageDraw.Draw(sheet)
    for c, name in enumerate(recipe.atlas.class_names):
        x, y = c % 10 * cell[0] + 4, c // 10 * cell[1]
        text.text((x, y + 2), name, fill=(0, 0, 0), font=ImageFont.truetype(FONT, 13))
        for i in range(PER_CLASS):
            sheet.paste(_enlarged(images[PER_CLASS * c + i]), (x + i * IMAGE * SCALE, y + 19))
    return sheet


def factors() -> Image.Image:
    """Return a character under one factor a row, from little to much; all else is held."""
    rows = _rows()
    steps = len(FACES)
    sheet = Image.new("RGB", (110 + steps * (IMAGE * SCALE + 4), len(rows) * (IMAGE * SCALE + 4)), PAPER)
    text = ImageDraw.Draw(sheet)
    for r, (name, changed) in enumerate(rows.items()):
        y = r * (IMAGE * SCALE + 4)
        text.text((6, y + IMAGE * SCALE // 2 - 10), name, fill=(0, 0, 0), font=ImageFont.truetype(FONT, 16))
        for i, image in enumerate(_drawn(changed)):
            sheet.paste(_enlarged(image), (110 + i * (IMAGE * SCALE + 4), y + 2))
    return sheet


def _rows() -> dict[str, f.Factors]:
    """Return twelve images' factors for each row."""
    base = _plain()
    some = f.draw_factors(ltbench.Stream.of(7, "contact sheet"), torch.arange(len(FACES)))

    def ramp(low: int, high: int) -> f.Integers:
        return np.linspace(low, high, len(FACES)).astype(np.int64)

    pair = np.stack([ramp(-f.SHIFT, f.SHIFT), ramp(f.SHIFT, -f.SHIFT)], axis=1)
    slope = np.stack([ramp(-f.SLOPE, f.SLOPE), ramp(-f.SLOPE, f.SLOPE)], axis=1)
    count = ramp(0, f.STROKES)[:, None] > np.arange(f.STROKES)
    behind = replace(some.strokes, width=np.where(count, 14, -f.PIXEL), colour=_shades(base))
    before = replace(some.occluder, width=ramp(16, 40)[:, None], length=ramp(5 * f.PIXEL, 12 * f.PIXEL)[:, None])
    return {
        "font": replace(base, face=ramp(0, len(FACES) - 1)),
        "angle": replace(base, turn=ramp(-f.TURN, f.TURN)),
        "scale": replace(base, size=ramp(*f.SIZE)),
        "shift": replace(base, shift=pair),
        "colours": replace(base, paper=some.paper, ink=some.ink),
        "light": replace(base, light=slope),
        "texture": replace(base, texture=ramp(0, f.TEXTURE), coarseness=some.coarseness),
        "clutter": replace(base, strokes=behind),
        "occlusion": replace(base, occluder=before),
        "blur": replace(base, blur=ramp(0, 2)),
        "noise": replace(base, noise=ramp(1, f.NOISE)),
        "all": some,
    }


def _plain() -> f.Factors:
    """Return twelve plain images: upright, in the middle, light on dark, nothing else."""
    n = len(FACES)
    zero = np.zeros(n, np.int64)
    none = f.Bars(*(np.zeros((n, 1), np.int64) for _ in range(4)), np.full((n, 1), -f.PIXEL), np.zeros((n, 1, 3), np.int64))
    pairs, colours = np.zeros((n, 2), np.int64), np.ones((n, 3), np.int64)
    return f.Factors(
        face=zero,
        turn=zero,
        size=zero + 21 * f.PIXEL,
        shift=pairs,
        paper=colours * [40, 60, 90],
        ink=colours * [200, 190, 150],
        light=pairs,
        texture=zero,
        coarseness=zero + 3,
        strokes=none,
        occluder=none,
        blur=zero,
        noise=zero,
    )


def _shades(base: f.Factors) -> f.Integers:
    """Return colours of strokes between paper and ink."""
    shade = np.array([6, 9, 12])[:, None]
    found: f.Integers = (base.paper[:, None] * (16 - shade) + base.ink[:, None] * shade) >> 4
    return found


def _drawn(factors: f.Factors) -> Bytes:
    """Draw images of one character."""
    atlas = read_atlas("benchmark")
    maps = soft_maps(atlas.bits[atlas.characters.index("A")])
    return draw_images(maps[factors.face], factors, ltbench.Stream.of(7, "contact sheet"), torch.arange(len(factors.face)))


def _enlarged(image: Any) -> Image.Image:
    """Return an image with every pixel as a square."""
    return Image.fromarray(image).resize((IMAGE * SCALE, IMAGE * SCALE), Image.Resampling.NEAREST)


if __name__ == "__main__":
    for _name, _sheet in (("classes", classes()), ("factors", factors())):
        _sheet.quantize(128, dither=Image.Dither.NONE).save(Path(sys.argv[1]) / f"glyphs-{_name}.png", optimize=True)
