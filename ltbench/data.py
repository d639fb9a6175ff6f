"""Datasets as ltbench takes them in: loaded and checked, described by class, and verified image by image."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ltbench.components import Resolved
from ltbench.errors import LtbenchError, UsageError, did_you_mean
from ltbench.hardware import cores
from ltbench.keys import digest
from ltbench.types import Dataset, Part

Where = tuple[str, Part, int]
"""Where an image is: the name of its part, the part, and its number there."""

BLOCK = 256
"""Images that threads are given at a time."""

IMAGE_VIEWS = ("flip", "crop", "colour", "noise", "blur")
"""Views of images that ``features.views`` makes of any dataset's."""

VIEWS_VERSION = 2
"""Raised when the pixels of one of them change."""


def load_dataset(resolved: Resolved, folder: Path) -> Dataset:
    """Load a dataset from the data folder and check its parts; raise UsageError if it is not there, or not whole."""
    try:
        dataset: Dataset = resolved.build().load(folder)
    except LtbenchError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"dataset {resolved.canonical!r} cannot be loaded: {type(error).__name__}: {error}") from error
    if not isinstance(dataset, Dataset):
        raise UsageError(f"dataset {resolved.canonical!r}: load() must return ltbench.Dataset, not {type(dataset).__name__}")
    for name, part in parts_of(dataset).items():
        _check_part(f"dataset {resolved.canonical!r}", name, part, len(dataset.class_names))
    return dataset


def parts_of(dataset: Dataset) -> dict[str, Part]:
    """Return the parts there are, by name."""
    named = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    return {name: part for name, part in named.items() if part is not None}


def views_wanted(component: Any) -> tuple[str, ...]:
    """Return the views that a generator or a classifier asks for, each once; raise TypeError if they are no tuple of texts."""
    names = getattr(component, "views", ())
    if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"views must be a tuple of names, such as ('flip', 'crop.1'), not {names!r}")
    return tuple(dict.fromkeys(names))


def named_view(dataset: Dataset, text: str) -> tuple[str, int]:
    """Return the name and the number of a view, written ``crop`` or ``crop.3``; raise UsageError for an unknown one."""
    name, dot, number = text.partition(".")
    known = (*IMAGE_VIEWS, *dataset.views)
    if name not in known:
        raise UsageError(f"unknown view {name!r}; there are {', '.join(known)}{did_you_mean(name, known)}")
    if dot and not (number.isascii() and number.isdecimal()):
        raise UsageError(f"a view is a name, {name}, or name and number, {name}.3, not {text!r}")
    return name, int(number or 0)


def view_fingerprint(dataset: Dataset, text: str) -> str:
    """Return the fingerprint of a dataset whose training images are seen through a view."""
    return digest([dataset.fingerprint, "view", *named_view(dataset, text), VIEWS_VERSION])


def _check_part(of: str, name: str, part: Part, classes: int) -> None:
    """Raise UsageError unless a part has labels for its images, in range, and, to train or test on, for every class."""
    if len(part.labels) == 0 or len(part.labels) != len(part.images):
        raise UsageError(f"{of}: the {name} part has {len(part.labels)} labels and {len(part.images)} images")
    if part.labels.dtype != torch.int64 or part.labels.ndim != 1:
        shape = f"{part.labels.dtype} {list(part.labels.shape)}"
        raise UsageError(f"{of}: labels of the {name} part must be torch.int64 [N], not {shape}")
    if int(part.labels.min()) < 0 or int(part.labels.max()) >= classes:
        raise UsageError(
            f"{of}: labels of the {name} part must be 0 to {classes - 1}, "
            f"not {int(part.labels.min())} to {int(part.labels.max())}"
        )
    empty = torch.bincount(part.labels, minlength=classes).eq(0).nonzero().flatten().tolist()
    if empty and name != "validation":
        raise UsageError(f"{of}: class {empty[0]} has no row in the {name} part")


@dataclass(frozen=True)
class Findings:
    """What decoding every image of a dataset has shown, a line for each thing found.

    ``overlaps`` are images that training and test or validation share, ``contradictions`` equal training images of
    different classes, ``repeats`` counts equal images of one part and class.
    """

    images: int
    unreadable: tuple[str, ...] = ()
    overlaps: tuple[str, ...] = ()
    contradictions: tuple[str, ...] = ()
    repeats: int = 0

    @property
    def sound(self) -> bool:
        """Whether every image can be read, and none is in two parts."""
        return not self.unreadable and not self.overlaps


def verify(dataset: Dataset, progress: Callable[[int, int], None] = lambda *_: None) -> Findings:
    """Decode every image of every part, and look for equal ones; ``progress(done, total)`` counts images."""
    total = sum(len(part.labels) for part in parts_of(dataset).values())
    unreadable, overlaps, contradictions, repeats = [], [], [], 0
    first: dict[bytes, tuple[str, int]] = {}
    for done, ((name, part, i), content) in enumerate(_looked_at(dataset), 1):
        progress(done, total)
        if isinstance(content, str):
            unreadable.append(f"{place(name, part, i)}: {content}")
            continue
        seen, j = first.setdefault(content, (name, i))
        if (seen, j) == (name, i):
            continue
        other = parts_of(dataset)[seen]
        pair = f"{place(seen, other, j)} = {place(name, part, i)}"
        if seen != name:
            overlaps.append(pair)
        elif int(part.labels[i]) != int(part.labels[j]):
            contradictions.append(pair)
        else:
            repeats += 1
    return Findings(total, tuple(unreadable), tuple(overlaps), tuple(contradictions), repeats)


def place(name: str, part: Part, i: int) -> str:
    """Name an image: by its path, if the dataset knows it, otherwise by part and number."""
    return str(part.metadata["path"][i]) if "path" in part.metadata else f"{name} image {i}"


def _images(dataset: Dataset) -> Iterator[Where]:
    """Yield every image's part and number."""
    for name, part in parts_of(dataset).items():
        for i in range(len(part.labels)):
            yield name, part, i


def _looked_at(dataset: Dataset) -> Iterator[tuple[Where, bytes | str]]:
    """Yield every image, in order, with the hash of its content or with what keeps it from being read; threads decode."""
    images = _images(dataset)
    with ThreadPoolExecutor(cores()) as pool:
        while block := list(islice(images, BLOCK)):
            yield from zip(block, pool.map(_look, block), strict=True)


def _look(image: Where) -> bytes | str:
    """Return the hash of an image's content, or what keeps it from being read, in one line."""
    _, part, i = image
    try:
        return _content(part.images[i])
    except Exception as error:
        told = str(error) if isinstance(error, LtbenchError) else f"{type(error).__name__}: {error}"
        return " ".join(told.split())


def _content(image: Tensor) -> bytes:
    """Hash an image's shape and values."""
    form = f"{image.dtype} {list(image.shape)}".encode()
    return hashlib.blake2b(form + image.contiguous().numpy().tobytes(), digest_size=16).digest()
