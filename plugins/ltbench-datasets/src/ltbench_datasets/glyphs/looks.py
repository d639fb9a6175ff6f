"""How alike two characters look, whatever their font, pose and size: the measure by which the classes were chosen.

Nothing here enters an image. K characters, F faces; sums are in float32, so distances agree to about 1e-5 only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float32]]

BENCHMARK_APART = 0.10
"""No two characters of the benchmark are closer."""

ALL_APART = 0.08
"""No two characters of the atlas are closer, of whichever set."""

TURNS = (0, 10, 20, 30, 40)
"""Degrees between two characters; images turn a character by up to 20 either way."""

_SIDE = 64
_MAP = 20
_REACH = 2.2
_KERNEL = np.convolve(np.ones(5), np.ones(5)) / 25


def distances(bits: np.ndarray[Any, np.dtype[np.uint8]]) -> Floats:
    """Return how far characters look apart, ``[K, K]`` in [0, 1], from their bits ``[K, F, 64, 8]``.

    Each bitmap is blurred, moved to its centre of mass and scaled to one radius of gyration. The distance of two
    characters is 1 − the largest cosine of such maps, over all pairs of faces and over all ``TURNS``.
    """
    characters, faces = bits.shape[:2]
    maps = _maps(np.unpackbits(bits, axis=-1).reshape(-1, _SIDE, _SIDE).astype(np.float32))
    maps = maps.reshape(len(TURNS), characters, faces, -1)
    nearest = np.zeros((characters, characters), np.float32)
    for turned in maps:
        for face in range(faces):
            cosines = maps[0, :, face] @ turned.reshape(characters * faces, -1).T
            np.maximum(nearest, cosines.reshape(characters, characters, faces).max(axis=-1), out=nearest)
    return 1 - np.minimum(np.maximum(nearest, nearest.T), 1)


def _maps(bitmaps: Floats) -> Floats:
    """Return blurred, centred, scaled and turned unit vectors ``[turns, N, 400]`` of bitmaps ``[N, 64, 64]``."""
    place = np.arange(_SIDE, dtype=np.float32) - (_SIDE - 1) / 2
    mass, columns, rows = bitmaps.sum((1, 2)), bitmaps.sum(1), bitmaps.sum(2)
    x, y = columns @ place / mass, rows @ place / mass
    radius = np.sqrt((columns + rows) @ place**2 / mass - x**2 - y**2)
    grid = (np.arange(_MAP) - (_MAP - 1) / 2) * (2 * _REACH / _MAP)
    soft = _blurred(bitmaps)
    found = []
    for turn in np.radians(TURNS):
        right, down = np.meshgrid(grid, grid)
        source_x = x[:, None] + radius[:, None] * (np.cos(turn) * right - np.sin(turn) * down).ravel()
        source_y = y[:, None] + radius[:, None] * (np.sin(turn) * right + np.cos(turn) * down).ravel()
        found.append(_sampled(soft, source_x, source_y))
    maps = np.stack(found).astype(np.float32)
    unit: Floats = maps / np.linalg.norm(maps, axis=-1, keepdims=True)
    return unit


def _sampled(soft: Floats, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> Floats:
    """Return the nearest pixel to each place, measured from the middle; 0 outside."""
    column, row = (np.rint(place + (_SIDE - 1) / 2).astype(np.int64) for place in (x, y))
    inside = (column >= 0) & (column < _SIDE) & (row >= 0) & (row < _SIDE)
    image = np.arange(len(soft))[:, None]
    return np.where(inside, soft[image, row.clip(0, _SIDE - 1), column.clip(0, _SIDE - 1)], 0)


def _blurred(bitmaps: Floats) -> Floats:
    """Blur along both axes with a triangle 9 pixels wide."""
    soft = bitmaps
    for axis in (1, 2):
        margin = [(4, 4) if axis == a else (0, 0) for a in range(3)]
        padded = np.pad(soft, margin)
        soft = sum(w * np.take(padded, range(i, i + _SIDE), axis=axis) for i, w in enumerate(_KERNEL.astype(np.float32)))
    return soft
