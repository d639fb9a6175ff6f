"""Places-LT: a long tail of the 365 scenes of Places2, by its published lists over a user's images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import ltbench
from ltbench_datasets.lists import Listed, folder_names
from ltbench_datasets.published import Published, PublishedLists


def class_names(_where: Path, train: Listed, classes: int) -> tuple[list[str], list[str]]:
    """Name classes by their folder: ``apartment_building-outdoor`` is apartment building, outdoor."""
    return [name.replace("-", ", ").replace("_", " ") for name in folder_names(train, classes)], []


FILES = {part: f"Places_LT_{name}.txt" for part, name in (("train", "train"), ("validation", "val"), ("test", "test"))}

FIGURES = Published("Places-LT", 365, 62_500, 4980, 5, validation=20, test=100, inclusive=(132, 156, 77), strict=(131, 163, 71))

LAYOUT = "train/airfield/….jpg and val/airfield/….jpg"

PLACES_LT = PublishedLists("places-lt", LAYOUT, FIGURES, (FILES,), class_names)


@dataclass(frozen=True, kw_only=True)
class PlacesLT:
    """Places-LT over your Places365 ("easy directory structure"): ``root`` holds train/<scene>/… and val/<scene>/….

    The three lists lie there, too, unless ``lists`` says where. ``fingerprint`` trusts names and sizes (``quick``), or
    reads every image once (``exact``). Z. Liu et al., "Large-Scale Long-Tailed Recognition in an Open World", CVPR 2019,
    arXiv 1904.05160.
    """

    root: Path = Path("places-lt")
    lists: Path | None = None
    fingerprint: Literal["quick", "exact"] = "quick"

    def load(self, folder: Path) -> ltbench.Dataset:
        """Return the published parts, images decoded when asked for."""
        return PLACES_LT.load(self, folder)

    def missing(self, folder: Path) -> str:
        """Say what is missing."""
        return PLACES_LT.missing(self, folder)

    def fetch(self, folder: Path, progress: Callable[[str, int, int | None], None]) -> None:
        """Read what is to be read; images cannot be downloaded."""
        PLACES_LT.fetch(self, folder, progress)
