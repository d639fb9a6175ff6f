"""From factors to pixels, in integers alone: the same bytes on every machine. Knows no file.

N images of 32×32; a layer is int16 ``[N, 3, 1024]`` in quarters of a level, coverage is 0 to 32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

import ltbench
from ltbench_datasets.glyphs.atlas import INK, SIDE, Bytes
from ltbench_datasets.glyphs.factors import PIXEL, Bars, Factors, Integers

Layer = np.ndarray[Any, np.dtype[np.int16]]

IMAGE = 32
FULL = 32
"""Coverage of a pixel that is covered wholly."""

_MAP = SIDE // 2
_MIDDLE = IMAGE * PIXEL // 2
_CENTRES = (np.arange(IMAGE) * PIXEL + PIXEL // 2 - _MIDDLE).astype(np.int64)


def soft_maps(bits: Bytes) -> Bytes:
    """Halve and soften bitmaps ``[…, 64, 8]`` to coverages ``[…, 32, 32]`` in [0, 64]."""
    pixels = np.unpackbits(bits, axis=-1)
    halved = pixels.reshape(*pixels.shape[:-2], _MAP, 2, _MAP, 2).sum(axis=(-3, -1), dtype=np.uint8)
    for axis in (-2, -1):  # nothing reaches the margin, so rolling wraps only zeros
        halved = np.roll(halved, 1, axis) + 2 * halved + np.roll(halved, -1, axis)
    soft: Bytes = halved
    return soft


def draw_images(maps: Bytes, factors: Factors, stream: ltbench.Stream, ids: Tensor) -> Bytes:
    """Draw images ``[N, 32, 32, 3]`` of characters whose soft maps ``[N, 32, 32]`` are those of their faces."""
    layer = _textured(factors, _bytes(stream.child("paper"), ids, 81).reshape(-1, 9, 9))
    layer = _with_bars(layer, factors.strokes)
    layer = _blend(layer, _character(maps, factors), factors.ink)
    layer = _with_bars(layer, factors.occluder)
    layer = _blurred(_lit(layer, factors.light), factors.blur)
    layer += _noise(stream, ids, factors.noise)
    levels = ((layer + 2) >> 2).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(levels.reshape(-1, 3, IMAGE, IMAGE).transpose(0, 2, 3, 1))


def _bytes(stream: ltbench.Stream, ids: Tensor, count: int) -> Bytes:
    """Return random bytes ``[N, count]``."""
    words = stream.bits(ids, -(-count // 8)).numpy().astype("<i8", copy=False)
    return words.view(np.uint8)[:, :count]


def _rotation(turn: Integers, unit: int) -> tuple[Integers, Integers]:
    """Return ``unit`` times cosine and sine of turns, floored: (1 − t²)/(1 + t²) and 2t/(1 + t²) for t = turn/512."""
    whole = 512**2 + turn**2
    return unit * (512**2 - turn**2) // whole, unit * 2 * 512 * turn // whole


def _character(maps: Bytes, factors: Factors) -> Layer:
    """Return how far characters cover each pixel, ``[N, 1024]``, by linear interpolation of their maps."""
    cosine, sine = (part * 256 // factors.size for part in _rotation(factors.turn, 256 * (INK // 2)))
    x = _CENTRES - factors.shift[:, :1]
    y = _CENTRES - factors.shift[:, 1:]
    edge = (_MAP - 1) << 8
    middle = edge // 2
    # 16 bits below a map's pixel, of which 8 are used.
    across = ((cosine[:, None] * x)[:, None, :] + (sine[:, None] * y)[:, :, None]) >> 8
    down = ((cosine[:, None] * y)[:, :, None] - (sine[:, None] * x)[:, None, :]) >> 8
    across, down = (np.clip(place + middle, 0, edge - 1).reshape(-1, IMAGE**2) for place in (across, down))
    first = (down >> 8) * _MAP + (across >> 8) + np.arange(len(maps))[:, None] * _MAP**2
    right, below = (across & 255).astype(np.int32), (down & 255).astype(np.int32)
    flat = maps.reshape(-1)
    upper = flat[first] * (256 - right) + flat[first + 1] * right
    lower = flat[first + _MAP] * (256 - right) + flat[first + _MAP + 1] * right
    cover: Layer = ((upper * (256 - below) + lower * below + (1 << 16)) >> 17).astype(np.int16)
    return cover


def _textured(factors: Factors, lattice: Bytes) -> Layer:
    """Return paper whose brightness varies smoothly between random values at every 4th, 8th or 16th pixel."""
    texture = np.empty((len(lattice), IMAGE**2), np.int32)
    for coarseness in (2, 3, 4):
        chosen = np.flatnonzero(factors.coarseness == coarseness)
        cell, step = np.divmod(np.arange(IMAGE), 1 << coarseness)
        values = lattice[chosen].astype(np.int32) - 128
        rows = values[:, cell] * ((1 << coarseness) - step)[:, None] + values[:, cell + 1] * step[:, None]
        both = rows[:, :, cell] * ((1 << coarseness) - step) + rows[:, :, cell + 1] * step
        texture[chosen] = (both >> (2 * coarseness)).reshape(-1, IMAGE**2)
    texture = (texture * factors.texture[:, None].astype(np.int32)) >> 5  # 128 steps are 4 · depth
    paper = (factors.paper * 4).astype(np.int32)
    return (paper[:, :, None] + texture[:, None]).clip(0, 1020).astype(np.int16)


def _with_bars(layer: Layer, bars: Bars) -> Layer:
    """Lay bars over a layer, one after the other."""
    for b in range(bars.x.shape[1]):
        there = np.flatnonzero(bars.there[:, b])
        cover = _bar(*(values[there, b] for values in (bars.x, bars.y, bars.turn, bars.length, bars.width)))
        layer[there] = _blend(layer[there], cover, bars.colour[there, b])
    return layer


def _bar(x: Integers, y: Integers, turn: Integers, length: Integers, width: Integers) -> Layer:
    """Return how far bars cover each pixel, ``[N, 1024]``: their edges are a pixel wide."""
    cosine, sine = _rotation(turn, 1 << 12)
    across = (_CENTRES + _MIDDLE) - x[:, None]
    down = (_CENTRES + _MIDDLE) - y[:, None]
    along_x, along_y = ((part[:, None] * place >> 12).astype(np.int16) for part, place in ((cosine, across), (sine, down)))
    beside_x, beside_y = ((part[:, None] * place >> 12).astype(np.int16) for part, place in ((-sine, across), (cosine, down)))
    half, thin = (values.astype(np.int16)[:, None, None] for values in (length, width))
    inside = np.minimum(
        half - np.abs(along_x[:, None, :] + along_y[:, :, None]), thin - np.abs(beside_x[:, None, :] + beside_y[:, :, None])
    )
    cover: Layer = (2 * (inside + PIXEL // 2)).clip(0, FULL).reshape(-1, IMAGE**2)
    return cover


def _blend(layer: Layer, cover: Layer, colour: Integers) -> Layer:
    """Put colours ``[N, 3]`` over a layer where they cover it; 32 · 1,020 fits into 16 bits."""
    over = (4 * colour).astype(np.int16)[:, :, None]
    return layer + (((over - layer) * cover[:, None] + FULL // 2) >> 5)


def _lit(layer: Layer, slope: Integers) -> Layer:
    """Change the light from one side to the other."""
    across, down = (slope[:, axis, None] * _CENTRES for axis in (0, 1))
    light = (1024 + ((across[:, None, :] + down[:, :, None]) >> 4)).astype(np.int32).reshape(-1, 1, IMAGE**2)
    lit: Layer = np.minimum((layer * light) >> 10, 1020).astype(np.int16)
    return lit


def _blurred(layer: Layer, times: Integers) -> Layer:
    """Blur by 1-2-1 along rows, then along columns, once or twice, the edges repeated."""
    image = layer.reshape(-1, 3, IMAGE, IMAGE)
    for passed in range(int(times.max(initial=0))):
        chosen = np.flatnonzero(times > passed)
        soft = image[chosen]
        for axis in (3, 2):
            padded = np.pad(soft, [(1, 1) if a == axis else (0, 0) for a in range(4)], mode="edge")
            left, middle, right = (padded.take(range(i, i + IMAGE), axis) for i in range(3))
            soft = (left + 2 * middle + right + 2) >> 2
        image[chosen] = soft
    return image.reshape(layer.shape)


def _noise(stream: ltbench.Stream, ids: Tensor, deviation: Integers) -> Layer:
    """Return noise of some standard deviation in levels: the sum of two bytes, less its mean, has one of 104.5."""
    draws = _bytes(stream.child("noise"), ids, 6 * IMAGE**2).reshape(-1, 2, 3, IMAGE**2)
    sums = draws[:, 0].astype(np.int16) + draws[:, 1] - 255
    return (sums * deviation[:, None, None].astype(np.int16) * 5) >> 7  # 4 / 104.5 is nearly 5 / 128
