"""Tests of factors and drawing: against a drawing pixel by pixel in Python's own integers, and against geometry."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ltbench
from ltbench_datasets.glyphs import drawing
from ltbench_datasets.glyphs import factors as f
from ltbench_datasets.glyphs.atlas import read_atlas
from ltbench_datasets.glyphs.drawing import draw_images, soft_maps
from ltbench_datasets.glyphs.factors import Bars, Factors, draw_factors

STREAM = ltbench.Stream.of(5, "drawing")
MANY = 3000


def some_factors(count: int) -> Factors:
    """Return the factors of the first ids."""
    return draw_factors(STREAM, torch.arange(count))


def plain(count: int = 1, **changes: Any) -> Factors:
    """Return factors of light, upright characters in the middle of dark paper, but for some changes."""
    zero = np.zeros(count, np.int64)
    nothing = Bars(*(zero[:, None] for _ in range(4)), zero[:, None] - f.PIXEL, np.zeros((count, 1, 3), np.int64))
    base = Factors(
        face=zero,
        turn=zero,
        size=zero + 20 * f.PIXEL,
        shift=np.zeros((count, 2), np.int64),
        paper=np.zeros((count, 3), np.int64) + 10,
        ink=np.zeros((count, 3), np.int64) + 200,
        light=np.zeros((count, 2), np.int64),
        texture=zero,
        coarseness=zero + 2,
        strokes=nothing,
        occluder=nothing,
        blur=zero,
        noise=zero,
    )
    return dataclasses.replace(base, **changes)


def ink_of(character: str, factors: Factors) -> np.ndarray[Any, Any]:
    """Draw one character with plain factors and return how much ink each pixel has, ``[32, 32]`` in [0, 1]."""
    atlas = read_atlas("benchmark")
    maps = soft_maps(atlas.bits[atlas.characters.index(character)])[factors.face]
    image = draw_images(maps, factors, STREAM, torch.arange(len(factors.face)))[0]
    return (image[..., 0].astype(float) - 10) / 190


class Naive:
    """Image i of some factors, one pixel at a time, in Python's integers, which never overflow."""

    def __init__(self, character: np.ndarray[Any, Any], factors: Factors, i: int) -> None:
        self.map = character.tolist()
        self.f, self.i = factors, i
        self.lattice = self.bytes_of("paper", 88)
        self.noise = self.bytes_of("noise", 6144)

    def bytes_of(self, name: str, count: int) -> list[int]:
        """Return random bytes, the lowest of each word first."""
        words = STREAM.child(name).bits(torch.tensor([self.i]), count // 8)[0].tolist()
        return [byte for word in words for byte in (word % 2**64).to_bytes(8, "little")]

    def rotation(self, turn: int, unit: int) -> tuple[int, int]:
        """Return cosine and sine."""
        whole = 512 * 512 + turn * turn
        return unit * (512 * 512 - turn * turn) // whole, unit * 1024 * turn // whole

    def paper(self, x: int, y: int, c: int) -> int:
        """Return textured paper."""
        k = int(self.f.coarseness[self.i])
        (cx, sx), (cy, sy) = divmod(x, 2**k), divmod(y, 2**k)
        corner = [[self.lattice[9 * (cy + j) + cx + i] - 128 for i in (0, 1)] for j in (0, 1)]
        left, right = (corner[0][i] * (2**k - sy) + corner[1][i] * sy for i in (0, 1))
        depth = (left * (2**k - sx) + right * sx) >> (2 * k)
        return max(0, min(1020, 4 * int(self.f.paper[self.i, c]) + (depth * int(self.f.texture[self.i]) >> 5)))

    def bar(self, bars: Bars, b: int, x: int, y: int) -> int:
        """Return how far a bar covers a pixel."""
        if bars.width[self.i, b] <= 0:
            return 0
        cosine, sine = self.rotation(int(bars.turn[self.i, b]), 4096)
        dx, dy = 16 * x + 8 - int(bars.x[self.i, b]), 16 * y + 8 - int(bars.y[self.i, b])
        along = (cosine * dx >> 12) + (sine * dy >> 12)
        beside = (-sine * dx >> 12) + (cosine * dy >> 12)
        inside = min(int(bars.length[self.i, b]) - abs(along), int(bars.width[self.i, b]) - abs(beside))
        return max(0, min(32, 2 * (inside + 8)))

    def character(self, x: int, y: int) -> int:
        """Return how far the character covers a pixel."""
        cosine, sine = (part * 256 // int(self.f.size[self.i]) for part in self.rotation(int(self.f.turn[self.i]), 7168))
        dx, dy = (16 * p + 8 - 256 - int(self.f.shift[self.i, a]) for a, p in enumerate((x, y)))
        u = max(0, min(31 * 256 - 1, (cosine * dx + sine * dy >> 8) + 31 * 128))
        v = max(0, min(31 * 256 - 1, (cosine * dy - sine * dx >> 8) + 31 * 128))
        (i, r), (j, s) = divmod(u, 256), divmod(v, 256)
        upper = self.map[j][i] * (256 - r) + self.map[j][i + 1] * r
        lower = self.map[j + 1][i] * (256 - r) + self.map[j + 1][i + 1] * r
        return (upper * (256 - s) + lower * s + 65536) >> 17

    def lit(self, x: int, y: int, c: int) -> int:
        """Return everything that lies on the paper, under its light."""
        value = self.paper(x, y, c)
        covers = [(self.bar(self.f.strokes, b, x, y), self.f.strokes.colour[self.i, b, c]) for b in range(f.STROKES)]
        covers += [
            (self.character(x, y), self.f.ink[self.i, c]),
            (self.bar(self.f.occluder, 0, x, y), self.f.occluder.colour[self.i, 0, c]),
        ]
        for cover, colour in covers:
            value += ((4 * int(colour) - value) * cover + 16) >> 5
        slope = sum(int(self.f.light[self.i, a]) * (16 * p + 8 - 256) for a, p in enumerate((x, y)))
        return min(1020, value * (1024 + (slope >> 4)) >> 10)

    def image(self) -> list[list[list[int]]]:
        """Return the finished image, by row, column and channel."""
        planes = [[[self.lit(x, y, c) for x in range(32)] for y in range(32)] for c in range(3)]
        for _ in range(int(self.f.blur[self.i])):
            planes = [[self.soft(row) for row in plane] for plane in planes]
            planes = [self.turned([self.soft(row) for row in self.turned(plane)]) for plane in planes]
        amount = 5 * int(self.f.noise[self.i])
        done = [[[0] * 3 for _ in range(32)] for _ in range(32)]
        for c, plane in enumerate(planes):
            for y, row in enumerate(plane):
                for x, value in enumerate(row):
                    place = c * 1024 + y * 32 + x
                    noise = (self.noise[place] + self.noise[3072 + place] - 255) * amount >> 7
                    done[y][x][c] = max(0, min(255, (value + noise + 2) >> 2))
        return done

    @staticmethod
    def soft(row: list[int]) -> list[int]:
        """Blur along a row."""
        return [(row[max(i - 1, 0)] + 2 * row[i] + row[min(i + 1, 31)] + 2) >> 2 for i in range(32)]

    @staticmethod
    def turned(plane: list[list[int]]) -> list[list[int]]:
        """Exchange rows and columns."""
        return [list(column) for column in zip(*plane, strict=True)]


class TestDrawing:
    """Pixels."""

    def test_pixels_are_those_drawn_one_by_one(self) -> None:
        """Images drawn together equal images drawn a pixel at a time in unbounded integers."""
        count = 24
        factors = some_factors(count)
        maps = soft_maps(read_atlas("benchmark").bits)[np.arange(count), factors.face]
        images = draw_images(maps, factors, STREAM, torch.arange(count))
        seen = {int(blur) for blur in factors.blur[:8]}
        assert seen == {0, 1, 2}, "the first images should show every blur"
        for i in range(8):
            assert images[i].tolist() == Naive(maps[i], factors, i).image()

    def test_extreme_factors_do_not_overflow(self) -> None:
        """Factors at their bounds, in any combination, give the pixels of unbounded integers."""
        count = 6
        drawn = some_factors(count)
        high = np.ones(count, np.int64)
        bars = {
            "colour": drawn.occluder.colour * 0 + 255,
            "width": drawn.occluder.width * 0 + 40,
            "turn": drawn.occluder.turn * 0 - 512,
        }
        factors = dataclasses.replace(
            drawn,
            turn=high * f.TURN * np.array([1, -1] * 3),
            size=high * np.array([f.SIZE[0], f.SIZE[1]] * 3),
            shift=drawn.shift * 0 + f.SHIFT * np.array([[1, -1]] * 3 + [[-1, 1]] * 3),
            paper=drawn.paper * 0 + np.array([[255], [0]] * 3),
            ink=drawn.ink * 0 + np.array([[0], [255]] * 3),
            light=drawn.light * 0 + f.SLOPE * np.array([[1], [-1]] * 3),
            texture=high * f.TEXTURE,
            noise=high * f.NOISE,
            occluder=dataclasses.replace(drawn.occluder, **bars),
        )
        maps = soft_maps(read_atlas("benchmark").bits)[:count, 0]
        images = draw_images(maps, factors, STREAM, torch.arange(count))
        for i in range(count):
            assert images[i].tolist() == Naive(maps[i], factors, i).image()

    def test_an_image_does_not_depend_on_its_neighbours(self) -> None:
        """Drawn alone, in another order or with others, an image has the same bytes."""
        ids = torch.arange(40)
        factors, maps = draw_factors(STREAM, ids), soft_maps(read_atlas("benchmark").bits)
        together = draw_images(maps[np.arange(40), factors.face], factors, STREAM, ids)
        for chosen in ([7], [39, 3, 11]):
            own = draw_factors(STREAM, ids[chosen])
            assert np.array_equal(draw_images(maps[np.array(chosen), own.face], own, STREAM, ids[chosen]), together[chosen])

    def test_no_floating_point_number_enters_a_pixel(self) -> None:
        """The drawing's code has no float, no true division and no function that gives floats."""
        source = Path(str(drawing.__file__)).read_text(encoding="utf-8")
        code = "\n".join(line.split("#")[0] for line in source.split('"""')[2::2])
        assert not any(word in code for word in ("float", ".mean", "np.sin", "np.cos", "sqrt", "math", ".uniform", ".normal"))
        assert " / " not in code


class TestGeometry:
    """What the factors do to a character, seen in the picture."""

    @pytest.mark.parametrize("shift", [(0, 0), (40, 0), (0, -40), (-24, 16)])
    def test_shift_moves_the_ink(self, shift: tuple[int, int]) -> None:
        """The ink's middle moves to the right and down by the shift, within a tenth of a pixel."""
        ink = ink_of("O", plain(shift=np.array([shift])))
        x, y = ((ink.sum(axis=a) * np.arange(32)).sum() / ink.sum() - 15.5 for a in (0, 1))
        assert (x, y) == pytest.approx((shift[0] / 16, shift[1] / 16), abs=0.1)

    @pytest.mark.parametrize("size", [16, 20, 24])
    def test_scale_is_the_longer_side(self, size: int) -> None:
        """The height of an E, between the places where it covers half, is the size in pixels, within a tenth of one."""
        rows = ink_of("E", plain(size=np.array([size * f.PIXEL]))).max(axis=1)
        top, bottom = (np.interp(0.5, half, np.arange(16)) for half in (rows[:16], rows[:15:-1]))
        assert 31 - top - bottom == pytest.approx(size, abs=0.1)

    @pytest.mark.parametrize("turn", [-90, -45, 0, 45, 90])
    def test_turn_is_clockwise(self, turn: int) -> None:
        """The long axis of a bar-like character turns clockwise by the angle, within a degree."""
        angles = []
        for t in (0, turn):
            ink = ink_of("1", plain(turn=np.array([t]), face=np.array([1])))
            y, x = (
                np.mgrid[:32, :32]
                - np.array([(ink.sum(axis=a) * np.arange(32)).sum() / ink.sum() for a in (1, 0)])[:, None, None]
            )
            xx, yy, xy = ((ink * product).sum() for product in (x * x, y * y, x * y))
            angles.append(math.degrees(math.atan2(2 * xy, xx - yy) / 2) % 180)
        assert angles[1] - angles[0] == pytest.approx(math.degrees(2 * math.atan(turn / 512)), abs=1)

    @given(st.integers(-512, 512), st.sampled_from([4096, 7168]))
    def test_rotation_is_sine_and_cosine(self, turn: int, unit: int) -> None:
        """Integers are within one of cosine and sine of twice the arc tangent."""
        cosine, sine = drawing._rotation(np.array([turn]), unit)
        angle = 2 * math.atan(turn / 512)
        assert abs(cosine[0] - unit * math.cos(angle)) <= 1
        assert abs(sine[0] - unit * math.sin(angle)) <= 1

    def test_noise_has_its_standard_deviation(self) -> None:
        """On plain grey paper the pixels' standard deviation is the factor, within 3 %, and their mean the paper's."""
        grey = np.full((1, 3), 128)
        for noise in (8, 24):
            factors = plain(paper=grey, ink=grey, noise=np.array([noise]))
            image = draw_images(np.zeros((1, 32, 32), np.uint8), factors, STREAM, torch.arange(1))
            assert image.std() == pytest.approx(noise, rel=0.03)
            assert image.mean() == pytest.approx(128, abs=4 * noise / math.sqrt(image.size))


class TestFactors:
    """What is drawn for each image."""

    def test_they_are_within_their_bounds_and_reach_them(self) -> None:
        """Over many images each factor takes its least and its largest value."""
        factors = some_factors(MANY)
        bounds = {
            "face": (0, 11),
            "turn": (-f.TURN, f.TURN),
            "size": f.SIZE,
            "shift": (-f.SHIFT, f.SHIFT),
            "paper": (0, 255),
            "ink": (0, 255),
            "light": (-f.SLOPE, f.SLOPE),
            "texture": (0, f.TEXTURE),
            "coarseness": (2, 4),
            "blur": (0, 2),
            "noise": (1, f.NOISE),
        }
        for name, (low, high) in bounds.items():
            values = getattr(factors, name)
            assert (values.min(), values.max()) == (low, high), name

    def test_ink_and_paper_differ(self) -> None:
        """Ink is lighter than paper in 90 of 100 images, within five standard errors."""
        factors = some_factors(MANY)
        lighter = (factors.ink.sum(axis=1) > factors.paper.sum(axis=1)).mean()
        assert lighter == pytest.approx(f.LIGHT_INK / 100, abs=0.05)

    def test_an_images_factors_depend_on_its_id_alone(self) -> None:
        """Drawn in another order, every image has the same factors."""
        order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
        one, other = some_factors(50).metadata(), draw_factors(STREAM, order).metadata()
        for name, values in one.items():
            assert torch.equal(values[order], other[name]), name

    def test_metadata_are_tensors_in_natural_units(self) -> None:
        """One value, pair or colour for each image; degrees, pixels and levels within what the constants say."""
        metadata = some_factors(MANY).metadata()
        assert {name: tuple(values.shape[1:]) for name, values in metadata.items()} == {
            "font": (),
            "angle": (),
            "scale": (),
            "shift": (2,),
            "paper": (3,),
            "ink": (3,),
            "light": (2,),
            "texture": (),
            "clutter": (),
            "occlusion": (),
            "blur": (),
            "noise": (),
        }
        assert {len(values) for values in metadata.values()} == {MANY}
        assert float(metadata["angle"].abs().max()) == pytest.approx(math.degrees(2 * math.atan(f.TURN / 512)), abs=1e-4)
        assert (float(metadata["scale"].min()), float(metadata["scale"].max())) == (f.SIZE[0] / 16, f.SIZE[1] / 16)
        assert metadata["clutter"].unique().tolist() == [0, 1, 2, 3]
        share = float((metadata["occlusion"] > 0).float().mean())
        assert share == pytest.approx(f.OCCLUDED / 100, abs=5 * math.sqrt(0.24 / MANY))
