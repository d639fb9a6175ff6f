"""Characters drawn in many fonts, poses and conditions: a benchmark of 100 classes, and others to train a backbone on."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Le

import ltbench
from ltbench_datasets.glyphs.canvas import Canvas, Images
from ltbench_datasets.glyphs.published import PUBLISHED
from ltbench_datasets.glyphs.recipe import PARTS, Recipe
from ltbench_datasets.glyphs.views import FACTORS, Redrawn


@dataclass(frozen=True, kw_only=True)
class Glyphs:
    """100 characters of several scripts in the geometry of CIFAR-100: 32×32 RGB, 50 validation and 100 test images a class.

    Images are drawn from an atlas of outlines by integer arithmetic, the same on every machine, and kept in the data
    folder. What each is made of is its metadata. Fewer ``classes`` are the first ones, fewer training images the first ones.
    """

    classes: Annotated[int, Ge(2), Le(100)] = 100
    train_per_class: Annotated[int, Ge(1), Le(10_000)] = 500
    seed: Annotated[int, Ge(0), Le(2**31)] = 0

    characters: ClassVar[Literal["benchmark", "pretrain"]] = "benchmark"
    validation_per_class: ClassVar[int] = 50
    test_per_class: ClassVar[int] = 100

    def load(self, folder: Path) -> ltbench.Dataset:
        """Return the images as uint8 ``[32, 32, 3]``, drawn when the first is asked for, if no file has them.

        Where the fingerprint is not published, they are drawn now.
        """
        recipe = self._recipe
        canvas = self._canvas(folder)
        parts: dict[str, ltbench.Part] = {}
        start = 0
        for part in PARTS:
            labels = recipe.labels(part)
            parts[part] = ltbench.Part(labels, Images(canvas, start, len(labels)), recipe.factors(part).metadata())
            start += len(labels)
        names = recipe.atlas.class_names[: self.classes]
        return ltbench.Dataset(
            train=parts["train"],
            test=parts["test"],
            class_names=names,
            fingerprint=canvas.fingerprint,
            validation=parts["validation"],
            views={name: functools.partial(Redrawn, recipe, name) for name in FACTORS},
        )

    def missing(self, folder: Path) -> str:
        """Say how many images are still to be drawn."""
        return "" if self._canvas(folder).is_there else f"{self._recipe.count:,} images are to be drawn"

    def fetch(self, folder: Path, progress: Callable[[str, int, int | None], None]) -> None:
        """Draw the images and keep them, unless they are there."""
        self._canvas(folder).keep(progress)

    @property
    def _recipe(self) -> Recipe:
        """What is to be drawn."""
        counts = (self.train_per_class, self.validation_per_class, self.test_per_class)
        return Recipe(self.characters, self.classes, *counts, self.seed)

    def _canvas(self, folder: Path) -> Canvas:
        """Where it is drawn."""
        return Canvas(self._recipe, folder, PUBLISHED.get(self._recipe))


@dataclass(frozen=True, kw_only=True)
class GlyphsPretrain(Glyphs):
    """300 other characters, none of which looks like one of the benchmark's: for training a backbone on.

    Drawn alike, from streams of their own; 10 validation and 10 test images a class.
    """

    classes: Annotated[int, Ge(2), Le(300)] = 300
    train_per_class: Annotated[int, Ge(1), Le(10_000)] = 300

    characters: ClassVar[Literal["benchmark", "pretrain"]] = "pretrain"
    validation_per_class: ClassVar[int] = 10
    test_per_class: ClassVar[int] = 10
