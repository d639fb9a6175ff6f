"""The atlas: how each character looks in each face, as bits. Knows no image."""

from __future__ import annotations

import functools
import hashlib
import json
import lzma
import unicodedata
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np

FACES = tuple(
    family + style
    for family, slanted in (("Sans", "Oblique"), ("SansMono", "Oblique"), ("Serif", "Italic"))
    for style in ("", "-Bold", f"-{slanted}", f"-Bold{slanted}")
)
"""The twelve DejaVu faces that draw every character, in the atlas's order."""

SIDE = 64
"""Pixels along a side of a bitmap."""

INK = 56
"""Pixels that a character's longer side takes."""

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class Atlas:
    """Characters and their bits, uint8 ``[K, 12, 64, 8]``, most significant bit on the left."""

    characters: tuple[str, ...]
    bits: Bytes

    @property
    def class_names(self) -> tuple[str, ...]:
        """Code point and character, as in ``U+0041 A``."""
        return tuple(f"U+{ord(c):04X} {c}" for c in self.characters)

    @property
    def meanings(self) -> tuple[str, ...]:
        """Unicode's names of the characters, as in ``LATIN CAPITAL LETTER A``."""
        return tuple(unicodedata.name(c) for c in self.characters)

    @functools.cached_property
    def sha256(self) -> str:
        """The hash of characters and bits."""
        return hashlib.sha256("".join(self.characters).encode() + self.bits.tobytes()).hexdigest()


@functools.cache
def read_atlas(name: str) -> Atlas:
    """Return the atlas of ``benchmark`` or ``pretrain``."""
    folder = files(__package__)
    sets: dict[str, list[str]] = json.loads((folder / "characters.json").read_text(encoding="utf-8"))
    with (folder / "atlas.npy.xz").open("rb") as packed, lzma.open(packed) as unpacked:
        bits = np.load(unpacked, allow_pickle=False)
    first = 0 if name == "benchmark" else len(sets["benchmark"])
    return Atlas(tuple(sets[name]), bits[first : first + len(sets[name])])
