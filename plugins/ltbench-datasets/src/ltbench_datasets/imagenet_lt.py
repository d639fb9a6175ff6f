"""ImageNet-LT: a long tail of ImageNet's 1,000 classes, by its published lists over a user's images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import ltbench
from ltbench_datasets.lists import Listed, folder_names
from ltbench_datasets.published import Published, PublishedLists

NAME_FILES = ("classnames.txt", "LOC_synset_mapping.txt")
"""Files that tell what a WordNet id stands for, ``n01440764 tench, Tinca tinca`` in each line; the second is Kaggle's."""


def class_names(where: Path, train: Listed, classes: int) -> tuple[list[str], list[str]]:
    """Name classes in words if a file tells them, otherwise by WordNet id, which is their folder.

    The first of several words; where it is not a class's alone, all of them, and the id where these are not, either.
    """
    ids = folder_names(train, classes)
    path = next((where / name for name in NAME_FILES if (where / name).is_file()), None)
    if path is None:
        return ids, [
            f"classes are named by their folder, such as {ids[0]}: for class text put {NAME_FILES[0]} beside the lists"
        ]
    lines = [line.strip().partition(" ") for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    words = {wordnet: text.strip() for wordnet, _, text in lines}
    lacking = [wordnet for wordnet in ids if not words.get(wordnet)]
    if lacking:
        raise ltbench.UsageError(
            f"{path} must name classes in lines such as 'n01440764 tench'; {len(lacking):,} are not named, {lacking[0]} for one"
        )
    first = [words[wordnet].partition(",")[0] for wordnet in ids]
    full = _distinct(first, [words[wordnet] for wordnet in ids])
    return _distinct(full, [f"{name} ({wordnet})" for name, wordnet in zip(full, ids, strict=True)]), []


def _distinct(names: list[str], longer: list[str]) -> list[str]:
    """Return names, and the longer ones where several classes share one."""
    shared = {name for name, times in Counter(names).items() if times > 1}
    return [more if name in shared else name for name, more in zip(names, longer, strict=True)]


FILES = {part: f"ImageNet_LT_{name}.txt" for part, name in (("train", "train"), ("validation", "val"), ("test", "test"))}

FIGURES = Published("ImageNet-LT", 1000, 115_846, 1280, 5, validation=20, test=50, inclusive=(390, 445, 165))

LAYOUT = "train/n01440764/….JPEG and val/….JPEG"

IMAGENET_LT = PublishedLists("imagenet-lt", LAYOUT, FIGURES, (FILES,), class_names, flat_validation=True)


@dataclass(frozen=True, kw_only=True)
class ImageNetLT:
    """ImageNet-LT over your ImageNet: ``root`` holds train/<id>/… and val/, and the three lists unless ``lists`` does.

    ``fingerprint`` trusts names and sizes (``quick``), or reads every image once (``exact``). Z. Liu et al., "Large-Scale
    Long-Tailed Recognition in an Open World", CVPR 2019, arXiv 1904.05160.
    """

    root: Path = Path("imagenet-lt")
    lists: Path | None = None
    fingerprint: Literal["quick", "exact"] = "quick"

    def load(self, folder: Path) -> ltbench.Dataset:
        """Return the published parts, images decoded when asked for."""
        return IMAGENET_LT.load(self, folder)

    def missing(self, folder: Path) -> str:
        """Say what is missing."""
        return IMAGENET_LT.missing(self, folder)

    def fetch(self, folder: Path, progress: Callable[[str, int, int | None], None]) -> None:
        """Read what is to be read; images cannot be downloaded."""
        IMAGENET_LT.fetch(self, folder, progress)
