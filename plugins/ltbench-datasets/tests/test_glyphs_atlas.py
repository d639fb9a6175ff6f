"""Tests of the atlas, of how far its characters look apart, and of the script that makes it."""

from __future__ import annotations

import importlib.util
import unicodedata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ltbench_datasets.glyphs.atlas import FACES, INK, SIDE, read_atlas
from ltbench_datasets.glyphs.looks import ALL_APART, BENCHMARK_APART, TURNS, distances

SCRIPT = Path(__file__).parents[1] / "scripts" / "make_atlas.py"
SETS = ("benchmark", "pretrain")


def ink_of(name: str) -> np.ndarray[Any, Any]:
    """Return an atlas as bool ``[K, F, 64, 64]``."""
    return np.unpackbits(read_atlas(name).bits, axis=-1).astype(bool)


def packed(*bitmaps: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return characters of one face, ``[K, 1, 64, 8]``."""
    return np.packbits(np.stack(bitmaps)[:, None], axis=-1)


def block(rows: slice, columns: slice) -> np.ndarray[Any, Any]:
    """Return a rectangle of ink."""
    found = np.zeros((64, 64), bool)
    found[rows, columns] = True
    return found


class TestAtlas:
    """Characters and bits."""

    def test_there_are_100_and_300_characters_in_twelve_faces(self) -> None:
        """The benchmark has 100 characters, pretraining 300 others, each in every face."""
        shapes = {name: read_atlas(name).bits.shape for name in SETS}
        assert shapes == {"benchmark": (100, 12, 64, 8), "pretrain": (300, 12, 64, 8)}
        assert len(set(read_atlas("benchmark").characters + read_atlas("pretrain").characters)) == 400
        assert len(set(FACES)) == 12

    @pytest.mark.parametrize("name", SETS)
    def test_ink_fills_its_box(self, name: str) -> None:
        """The longer side of the ink is 56 of 64 pixels, less one at an end where the outline is pointed."""
        ink = ink_of(name)
        rows, columns = ink.any(axis=3), ink.any(axis=2)
        longer = np.maximum(*(SIDE - side.argmax(axis=2) - side[..., ::-1].argmax(axis=2) for side in (rows, columns)))
        assert (longer.min(), longer.max()) == (INK - 2, INK)
        margin = (SIDE - INK) // 2
        assert not ink[..., :margin, :].any()
        assert not ink[..., -margin:].any()

    def test_class_names_are_code_point_and_character(self) -> None:
        """A class is named as in U+0041 A."""
        atlas = read_atlas("benchmark")
        assert atlas.class_names[atlas.characters.index("A")] == "U+0041 A"
        assert atlas.meanings[atlas.characters.index("A")] == "LATIN CAPITAL LETTER A"

    def test_the_benchmark_has_several_scripts(self) -> None:
        """Letters of five scripts, digits and signs, in the numbers that the script asks for."""
        characters = read_atlas("benchmark").characters
        letters = [c for c in characters if unicodedata.category(c).startswith("L")]
        scripts = [unicodedata.name(c).split()[0] for c in letters]
        counts = {script: scripts.count(script) for script in sorted(set(scripts))}
        assert counts == {"ARMENIAN": 10, "CYRILLIC": 10, "GEORGIAN": 9, "GREEK": 10, "LATIN": 23}
        assert sum(c.isdigit() for c in characters) == 8

    def test_no_pretraining_character_is_made_of_a_benchmark_one(self) -> None:
        """A character that decomposes into one of the benchmark's, such as an accented letter, is not used."""
        mine = set(read_atlas("benchmark").characters)
        assert [c for c in read_atlas("pretrain").characters if mine & set(unicodedata.normalize("NFKD", c))] == []


class TestLooks:
    """The distance by which the characters were chosen."""

    def test_equal_looks_are_at_zero_whatever_place_and_size(self) -> None:
        """A square and a larger one elsewhere do not differ; a square and a bar do."""
        apart = distances(
            packed(block(slice(10, 40), slice(10, 40)), block(slice(20, 60), slice(4, 44)), block(slice(30, 34), slice(4, 60)))
        )
        assert apart[0, 1] == pytest.approx(0, abs=0.01)
        assert apart[0, 2] > 0.3
        assert np.allclose(apart, apart.T)

    @pytest.mark.parametrize("turn", TURNS)
    def test_a_turned_character_looks_alike(self, turn: int) -> None:
        """A bar and the same bar turned within the benchmark's poses are close; by a right angle they are far."""
        y, x = np.mgrid[:64, :64] - 31.5

        def bar(degrees: float) -> np.ndarray[Any, Any]:
            c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
            return (abs(c * x + s * y) < 24) & (abs(c * y - s * x) < 5)

        apart = distances(packed(bar(0), bar(turn), bar(-turn), bar(90)))
        assert apart[0, 1] < 0.02
        assert apart[0, 2] < 0.02
        assert apart[0, 3] > 0.3

    def test_it_is_the_least_over_all_pairs_of_faces(self) -> None:
        """Characters that are alike in any two faces are alike."""
        square, bar, tall = (
            block(slice(10, 50), slice(10, 50)),
            block(slice(30, 34), slice(4, 60)),
            block(slice(4, 60), slice(20, 44)),
        )
        bits = np.concatenate([packed(square, bar), packed(tall, square)], axis=1)
        assert distances(bits)[0, 1] == pytest.approx(0, abs=1e-5)

    def test_benchmark_classes_look_apart(self) -> None:
        """No two of the benchmark's characters are closer than 0.10, in any faces and poses."""
        apart = distances(read_atlas("benchmark").bits) + 2 * np.eye(100, dtype=np.float32)
        assert apart.min() >= BENCHMARK_APART - 1e-4

    @pytest.mark.slow
    def test_all_characters_look_apart(self) -> None:
        """No two of the 400 are closer than 0.08, so no pretraining character looks like one of the benchmark's."""
        bits = np.concatenate([read_atlas(name).bits for name in SETS])
        apart = distances(bits) + 2 * np.eye(400, dtype=np.float32)
        assert apart.min() >= ALL_APART - 1e-4


class TestScript:
    """The script that makes the atlas, where its libraries are installed."""

    @staticmethod
    def script() -> ModuleType:
        """Import the script from its file."""
        pytest.importorskip("matplotlib")
        pytest.importorskip("fontTools")
        spec = importlib.util.spec_from_file_location("make_atlas", SCRIPT)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def test_bits_come_from_the_fonts(self) -> None:
        """Matplotlib's fonts give the bits of the atlas, for every 20th character of it."""
        from fontTools.ttLib import TTFont

        script = self.script()
        fonts = [TTFont(script.FONTS / f"DejaVu{face}.ttf") for face in FACES]
        for name in SETS:
            atlas = read_atlas(name)
            assert np.array_equal(script.bits_of(fonts, atlas.characters[::20]), atlas.bits[::20])

    @pytest.mark.parametrize("character", "A&§Ю♂ღ")
    def test_pillow_draws_the_same_character(self, character: str) -> None:
        """FreeType's picture of a character, scaled to the same box, differs on few pixels, all at edges."""
        from PIL import Image, ImageDraw, ImageFont

        font = ImageFont.truetype(self.script().FONTS / "DejaVuSans.ttf", 800)
        picture = Image.new("L", (1600, 1600))
        ImageDraw.Draw(picture).text((300, 300), character, fill=255, font=font)
        left, top, right, bottom = picture.getbbox() or (0, 0, 0, 0)
        unit = max(right - left, bottom - top) / INK
        x, y = (left + right) / 2 - SIDE / 2 * unit, (top + bottom) / 2 - SIDE / 2 * unit
        place = ((np.arange(SIDE) + 0.5) * unit).astype(int)
        expected = np.asarray(picture)[(y + place).astype(int)[:, None], (x + place).astype(int)] > 127
        index = read_atlas("benchmark").characters.index(character)
        assert (ink_of("benchmark")[index, 0] != expected).mean() < 0.01
