"""iNaturalist 2018: 8,142 species as they were seen, by its published lists over a user's images."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

import ltbench
from ltbench_datasets.lists import Listed, folder_names, read_list
from ltbench_datasets.published import Published, PublishedLists

NAMES = "categories.json"
"""The species' names, released after the competition; in the annotations they are hidden."""


def read(path: Path) -> Listed:
    """Read a list, or the competition's annotations, whose images are in the order of the usual lists."""
    if path.suffix != ".json":
        return read_list(path)
    found = _json(path)
    try:
        labels = {each["image_id"]: int(each["category_id"]) for each in found["annotations"]}
        images = [(str(each["file_name"]), labels[each["id"]]) for each in found["images"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ltbench.UsageError(f"{path} must hold images and annotations as iNaturalist's do: {error!r} is amiss") from None
    if not images or min(labels.values()) < 0:
        raise ltbench.UsageError(f"{path} must hold images, with categories from 0 on")
    return Listed(tuple(name for name, _ in images), torch.tensor([label for _, label in images], dtype=torch.int64))


def class_names(where: Path, train: Listed, classes: int) -> tuple[list[str], list[str]]:
    """Name classes by species if ``categories.json`` is there, otherwise by number."""
    path = where / NAMES
    if not path.is_file():
        return folder_names(train, classes), [f"classes are named by number: for class text put {NAMES} beside the lists"]
    found: Any = _json(path)
    try:
        named = {int(each["id"]): str(each["name"]) for each in (found["categories"] if isinstance(found, dict) else found)}
        names = [named[label] for label in range(classes)]
    except (KeyError, TypeError, ValueError) as error:
        raise ltbench.UsageError(f"{path} must give id and name of {classes:,} categories: {error!r} is amiss") from None
    taken = Counter(names)
    return [f"{name} ({label})" if taken[name] > 1 else name for label, name in enumerate(names)], []


def _json(path: Path) -> Any:
    """Read a JSON file, or raise UsageError."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ltbench.UsageError(f"{path} cannot be read as JSON: {error}") from None


LISTS = {"train": "iNaturalist18_train.txt", "test": "iNaturalist18_val.txt"}
ANNOTATIONS = {"train": "train2018.json", "test": "val2018.json"}

FIGURES = Published("iNaturalist 2018", 8142, 437_513, 1000, 2, validation=0, test=3, inclusive=(842, 3701, 3599))

LAYOUT = "train_val2018/Aves/3124/….jpg"

INAT2018 = PublishedLists("inat2018", LAYOUT, FIGURES, (LISTS, ANNOTATIONS), class_names, read)


@dataclass(frozen=True, kw_only=True)
class INat2018:
    """iNaturalist 2018; its validation images are the test images, since the competition's labels are not public.

    ``root`` holds train_val2018/…, and the lists or the competition's annotations unless ``lists`` does. ``fingerprint``
    trusts names and sizes (``quick``), or reads every image once (``exact``). G. Van Horn et al., "The iNaturalist Species
    Classification and Detection Dataset", CVPR 2018, arXiv 1707.06642.
    """

    root: Path = Path("inat2018")
    lists: Path | None = None
    fingerprint: Literal["quick", "exact"] = "quick"

    def load(self, folder: Path) -> ltbench.Dataset:
        """Return the published parts, images decoded when asked for."""
        return INAT2018.load(self, folder)

    def missing(self, folder: Path) -> str:
        """Say what is missing."""
        return INAT2018.missing(self, folder)

    def fetch(self, folder: Path, progress: Callable[[str, int, int | None], None]) -> None:
        """Read what is to be read; images cannot be downloaded."""
        INAT2018.fetch(self, folder, progress)
