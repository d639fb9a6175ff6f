"""Make the atlas of the glyphs datasets from the DejaVu fonts that matplotlib ships.

    python make_atlas.py choose   # which characters: writes characters.json (some minutes)
    python make_atlas.py draw     # their outlines as bits: writes atlas.npy.xz
    python make_atlas.py check    # is the atlas what these fonts give? exits with 1 if not

Needs matplotlib and fontTools. Outlines are integers in the font file and are filled here, without FreeType, so that
the bits do not depend on versions. Each character fills 56 of 64 pixels along its longer side, in every face.
"""
# ruff: noqa: INP001, T201

from __future__ import annotations

import hashlib
import json
import lzma
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from fontTools.pens.basePen import decomposeQuadraticSegment  # type: ignore[import-untyped]
from fontTools.pens.recordingPen import DecomposingRecordingPen  # type: ignore[import-untyped]
from fontTools.ttLib import TTFont  # type: ignore[import-untyped]

from ltbench_datasets.glyphs.atlas import FACES, INK, SIDE
from ltbench_datasets.glyphs.looks import ALL_APART, BENCHMARK_APART, distances

Array = np.ndarray[Any, Any]

PACKAGE = Path(__file__).parents[1] / "src" / "ltbench_datasets" / "glyphs"
FONTS = Path(mpl.get_data_path()) / "fonts" / "ttf"

QUOTA = {"digit": 8, "latin": 23, "greek": 10, "cyrillic": 10, "armenian": 10, "georgian": 9}
"""How many characters of each script the benchmark has; symbols fill it up to 100."""

SYMBOLS = "&%#@?§¶€$£¥₹«<+*≈∞∑√∂∇∩∈⊕⊥↻↰→↔♣♪♠♫♩☼☿♂♀△▷◐◔⬚~±≠≤☺♭♯"
"""Symbols that people know, in the order in which they are tried."""

BENCHMARK, PRETRAIN = 100, 300
THINNEST = 2.0
"""The least mean width of strokes in any face, in pixels of the atlas: thinner ones drown in noise."""

STEPS = np.linspace(0, 1, 9)[1:, None]


def outline(font: TTFont, character: str) -> Array:
    """Return a character's outline as directed edges ``[E, 2, 2]`` in font units; each curve is eight of them."""
    pen = DecomposingRecordingPen(font.getGlyphSet())
    font.getGlyphSet()[font.getBestCmap()[ord(character)]].draw(pen)
    edges: list[tuple[Array, Array]] = []
    start = here = np.zeros(2)
    for step, points in pen.value:
        if step == "moveTo":
            start = here = np.array(points[0], float)
        elif step == "qCurveTo" and points[-1] is None:  # a contour without a corner begins halfway between two controls
            begin = tuple((a + b) / 2 for a, b in zip(points[-2], points[0], strict=True))
            start = here = np.array(begin)
            edges += _curve(here, (*points[:-1], begin))
        elif step == "qCurveTo":
            edges += _curve(here, points)
            here = edges[-1][1]
        elif step == "lineTo":
            edges.append((here, np.array(points[0], float)))
            here = edges[-1][1]
        elif step == "closePath":
            edges.append((here, start))
    return np.array([edge for edge in edges if (edge[0] != edge[1]).any()]).reshape(-1, 2, 2)


def _curve(here: Array, points: Sequence[tuple[float, float]]) -> list[tuple[Array, Array]]:
    """Return a chain of quadratic curves as edges."""
    edges: list[tuple[Array, Array]] = []
    for control, end in decomposeQuadraticSegment(points):
        corners = (1 - STEPS) ** 2 * here + 2 * STEPS * (1 - STEPS) * np.array(control, float) + STEPS**2 * np.array(end, float)
        for corner in corners:
            edges.append((here, corner))
            here = corner
    return edges


def filled(edges: Array) -> Array:
    """Fill an outline by the non-zero winding rule at pixel centres: bool ``[64, 64]``, the ink's box in the middle."""
    low, high = edges.reshape(-1, 2).min(axis=0), edges.reshape(-1, 2).max(axis=0)
    unit, middle = (high - low).max() / INK, (low + high) / 2
    centres = (np.arange(SIDE) + 0.5 - SIDE / 2) * unit
    across, down = middle[0] + centres, middle[1] - centres
    winding = np.zeros((SIDE, SIDE), np.int64)
    for (x0, y0), (x1, y1) in edges:
        rows = (down >= min(y0, y1)) & (down < max(y0, y1))
        if rows.any():
            crossing = x0 + (down[rows] - y0) * ((x1 - x0) / (y1 - y0))
            winding[rows] += np.where(across[None] > crossing[:, None], 1 if y1 > y0 else -1, 0)
    ink: Array = winding != 0
    return ink


def bits_of(fonts: Sequence[TTFont], characters: Iterable[str]) -> Array:
    """Return the bits of characters in every face, uint8 ``[K, F, 64, 8]``."""
    return np.array([[np.packbits(filled(outline(font, c)), axis=-1) for font in fonts] for c in characters])


def candidates(fonts: Sequence[TTFont]) -> tuple[list[str], Array]:
    """Return the characters that every face has with ink, are letters, digits, signs or pictures by themselves; and bits."""
    shared = set.intersection(*(set(font.getBestCmap()) for font in fonts))
    left_out = {"Mn", "Lm", "Sk", "No", "Zs", "Cf", "Lt", "Pc"}
    boxes = range(0x2500, 0x25A0)
    found = [chr(c) for c in sorted(shared) if unicodedata.category(chr(c)) not in left_out and c not in boxes]
    inked = [c for c in found if all(len(outline(font, c)) for font in fonts)]
    bits = bits_of(fonts, inked)
    kept = stroke_widths(bits).min(axis=1) >= THINNEST
    return [c for c, keep in zip(inked, kept, strict=True) if keep], bits[kept]


def stroke_widths(bits: Array) -> Array:
    """Return the mean width of strokes ``[K, F]`` in pixels: twice the area over the length of its edge along the axes."""
    ink = np.unpackbits(bits, axis=-1).astype(np.int8)
    edge = sum(np.abs(np.diff(ink, axis=axis)).sum((-2, -1), dtype=np.int64) for axis in (-2, -1))
    widths: Array = 2 * ink.sum((-2, -1), dtype=np.int64) / edge
    return widths


def script_of(character: str) -> str:
    """Return which quota a character counts to; composed characters and rarer letters count to none."""
    category, name = unicodedata.category(character), unicodedata.name(character, "").lower()
    if len(unicodedata.normalize("NFKD", character)) > 1:
        return ""
    if character.isascii() and category == "Nd":
        return "digit"
    if character.isascii() and category in {"Lu", "Ll"}:
        return "latin"
    scripts = ("greek", "cyrillic", "armenian", "georgian")
    return next((s for s in scripts if name.startswith(s) and category.startswith("L")), "")


def spread(open_: list[int], near: Array, taken: list[int], count: int) -> list[int]:
    """Take up to ``count`` candidates, none near another or a taken one: always the one near the fewest others left."""
    left = [i for i in open_ if not near[i, taken].any()]
    found: list[int] = []
    while left and len(found) < count:
        best = min(left, key=lambda i: (int(near[i, left].sum()), i))
        found.append(best)
        left = [i for i in left if i != best and not near[best, i]]
    return found


def choose(fonts: Sequence[TTFont]) -> dict[str, list[str]]:
    """Choose the characters of both sets; each set's order is that of a hash, so that its first classes are a fair sample."""
    characters, bits = candidates(fonts)
    apart = distances(bits)
    benchmark: list[int] = []
    for script, quota in QUOTA.items():
        own = [i for i, c in enumerate(characters) if script_of(c) == script]
        benchmark += spread(own, apart < BENCHMARK_APART, benchmark, quota)
    for symbol in SYMBOLS:
        if symbol in characters and len(benchmark) < BENCHMARK:
            benchmark += spread([characters.index(symbol)], apart < BENCHMARK_APART, benchmark, 1)
    mine = {characters[i] for i in benchmark}
    others = [i for i, c in enumerate(characters) if not mine & set(unicodedata.normalize("NFKD", c))]
    pretrain = spread(others, apart < ALL_APART, benchmark, PRETRAIN)
    return {"benchmark": _shuffled(characters[i] for i in benchmark), "pretrain": _shuffled(characters[i] for i in pretrain)}


def _shuffled(characters: Iterable[str]) -> list[str]:
    """Order characters by a hash of theirs."""
    return sorted(characters, key=lambda c: hashlib.sha256(c.encode()).digest())


def main(task: str) -> int:
    """Do one of the three tasks."""
    fonts = [TTFont(FONTS / f"DejaVu{face}.ttf") for face in FACES]
    if task == "choose":
        chosen = choose(fonts)
        (PACKAGE / "characters.json").write_text(json.dumps(chosen, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        print({name: len(characters) for name, characters in chosen.items()})
        return 0
    chosen = json.loads((PACKAGE / "characters.json").read_text(encoding="utf-8"))
    bits = bits_of(fonts, [c for characters in chosen.values() for c in characters])
    target = PACKAGE / "atlas.npy.xz"
    if task == "draw":
        with lzma.open(target, "wb", preset=9) as file:
            np.save(file, bits)
        print(f"{len(bits)} characters in {len(FACES)} faces, {target.stat().st_size} bytes")
        return 0
    with lzma.open(target) as file:
        same = np.array_equal(np.load(file), bits)
    print("the same" if same else "these fonts give other bits")
    return 0 if same else 1


if __name__ == "__main__":
    if sys.argv[1:] not in (["choose"], ["draw"], ["check"]):
        raise SystemExit(__doc__)
    raise SystemExit(main(sys.argv[1]))
