"""Images named by list files, a line ``path/below/root.jpg label`` each: reading lists, finding images, a dataset of both."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

import ltbench
from ltbench_datasets.contents import Content, Depth, File, Progress, examine, unexamined
from ltbench_datasets.decode import RULE, ImageFiles
from ltbench_datasets.folder_copies import Sample, copy_notes, overlaps, shown
from ltbench_datasets.locate import locate

SHOWN = 3
"""How many examples a message gives."""


@dataclass(frozen=True)
class Listed:
    """What a list holds: names below the images' folder, and labels ``[N]`` int64, in its order."""

    names: tuple[str, ...]
    labels: Tensor


Parts = Mapping[str, Listed]


@dataclass(frozen=True)
class Images:
    """The folder that listed images lie in, whose they are, and whether their content is read or size and name trusted.

    ``flat_validation``: images that are listed below ``val/<class>/`` may lie in ``val`` itself, as ImageNet unpacks.
    ``overlap`` says whether parts may share images, byte for byte; only read ones are compared.
    """

    title: str
    root: Path
    fingerprint: Literal["quick", "exact"]
    flat_validation: bool = False
    overlap: Literal["refuse", "allow"] = "allow"

    def places(self, names: Iterable[str]) -> list[str]:
        """Return where listed images are to be looked for, below the root."""
        val = self.root / "val"
        if not self.flat_validation or not val.is_dir() or any(entry.is_dir() for entry in val.iterdir()):
            return list(names)
        return [f"val/{name.rpartition('/')[2]}" if name.startswith("val/") else name for name in names]

    def files(self, names: Sequence[str]) -> list[File]:
        """Return the file of each listed image; raise UsageError that tells all that are missing."""
        places = self.places(names)
        found = _found(self.root, places)
        missing = [place for place in places if place not in found]
        if missing:
            told = f"{_some(missing)}{_listed_in_file(self.title, missing)}"
            told += "; is it the folder in which these names start?" if len(missing) == len(places) else ""
            raise ltbench.UsageError(
                f"{self.title}: {len(missing):,} of {len(places):,} images are missing below {self.root}: {told}"
            )
        return [found[place] for place in places]

    def unread(self, files: Sequence[File]) -> int:
        """Return how many files have not been read yet, and are to be."""
        return unexamined(self.root, files, Depth.HEADER) if self.fingerprint == "exact" else 0

    def contents(self, files: Sequence[File], progress: Progress | None = None) -> list[Content]:
        """Return what is in each file; raise UsageError for files that are no images."""
        found = examine(self.root, files, Depth.HEADER, progress)
        bad = [f"{file.name} ({content.problem})" for file, content in zip(files, found, strict=True) if content.problem]
        if bad:
            raise ltbench.UsageError(
                f"{self.title}: {len(bad):,} of {len(files):,} files below {self.root} are no readable images: {_some(bad)}"
            )
        return found

    def copies(self, parts: Mapping[str, Sequence[Sample]]) -> list[str]:
        """Say which images are there more than once; raise UsageError where parts share some and may not."""
        if self.fingerprint == "quick":
            return []
        shared = overlaps(parts)
        told = [f"{len(shared):,} images are in two parts: {shown(shared)}"] if shared else []
        if shared and self.overlap == "refuse":
            raise ltbench.UsageError(f"{self.title}: {told[0]}; remove them from one list, or say overlap=allow")
        return [*told, *copy_notes(parts)]


def read_list(path: Path) -> Listed:
    """Read a list file; raise UsageError with the line that is none."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise ltbench.UsageError(f"there is no list file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ltbench.UsageError(f"{path} cannot be read as a list of images: {error}") from None
    names, labels = [], []
    for number, line in enumerate(lines, 1):
        words = line.rsplit(None, 1)
        if not words:
            continue
        if len(words) < 2 or not (words[1].isascii() and words[1].isdecimal()) or len(words[1]) > 9:
            raise ltbench.UsageError(f"{path}: line {number} must be 'path/of/image.jpg label', not {line.strip()[:80]!r}")
        names.append(words[0].strip())
        labels.append(int(words[1]))
    if not names:
        raise ltbench.UsageError(f"{path} lists no image")
    return Listed(tuple(names), torch.tensor(labels, dtype=torch.int64))


def listed_dataset(images: Images, parts: Parts, class_names: Sequence[str], notes: Sequence[str] = ()) -> ltbench.Dataset:
    """Return the dataset of lists ``train``, ``test`` and perhaps ``validation``, once every image is found."""
    _require_disjoint(images.title, parts)
    names = names_of(parts)
    files = images.files(names)
    known = [f"{file.size} {name}" for file, name in zip(files, names, strict=True)]  # stand for what is not read
    if images.fingerprint == "exact":
        known = [content.sha256 for content in images.contents(files)]
    samples: dict[str, list[Sample]] = {}
    fingerprint, start = hashlib.sha256(f"lists 1 {images.fingerprint}\0{RULE}\0".encode()), 0
    for part, listed in parts.items():
        mine = slice(start, start + len(listed.names))
        rows = zip(files[mine], listed.labels.tolist(), known[mine], strict=True)
        samples[part] = [Sample(file.name, label, file.size, content) for file, label, content in rows]
        for sample in samples[part]:
            fingerprint.update(f"{part} {sample.label} {sample.sha256}\0".encode())
        start = mine.stop
    made = {part: _part(images.root, listed, samples[part]) for part, listed in parts.items()}
    return ltbench.Dataset(
        train=made["train"],
        validation=made.get("validation"),
        test=made["test"],
        class_names=tuple(class_names),
        fingerprint=fingerprint.hexdigest(),
        notes=(*notes, *images.copies(samples)),
    )


def _part(root: Path, listed: Listed, samples: Sequence[Sample]) -> ltbench.Part:
    """Return one part; the place of each image is known of it."""
    places = tuple(sample.name for sample in samples)
    return ltbench.Part(listed.labels, ImageFiles(str(root), places), {"path": places})


def names_of(parts: Parts) -> list[str]:
    """Return the names of all images, part by part."""
    return [name for listed in parts.values() for name in listed.names]


def folder_names(listed: Listed, classes: int) -> list[str]:
    """Name classes by the folder of their images; by their number, where a folder is not one class's alone."""
    folders: list[set[str]] = [set() for _ in range(classes)]
    for name, label in zip(listed.names, listed.labels.tolist(), strict=True):
        folders[label].add(name.rpartition("/")[0])
    names = [next(iter(found)).rpartition("/")[2] if len(found) == 1 else "" for found in folders]
    return names if all(names) and len(set(names)) == classes else [str(label) for label in range(classes)]


@dataclass(frozen=True, kw_only=True)
class Lists:
    """Images of your own, named by list files: ``path/below/root.jpg label`` in each line, labels from 0.

    ``overlap`` of parts, byte for byte, is refused unless allowed. ``fingerprint`` reads every image (``exact``; once, for
    it is remembered), or trusts names and sizes (``quick``; copies are then not looked for).
    """

    train: Path
    test: Path
    validation: Path | None = None
    root: Path
    overlap: Literal["refuse", "allow"] = "refuse"
    fingerprint: Literal["exact", "quick"] = "exact"

    def load(self, folder: Path) -> ltbench.Dataset:
        """Return the images, uint8 ``[H, W, 3]``, decoded when they are asked for; raise UsageError for what is wrong."""
        lists = {"train": self.train, "validation": self.validation, "test": self.test}
        parts = {part: read_list(locate(path, folder)) for part, path in lists.items() if path is not None}
        images = Images("lists", locate(self.root, folder), self.fingerprint, overlap=self.overlap)
        classes = _classes(parts)
        notes = ["copies of images were not looked for: fingerprint=quick"] if self.fingerprint == "quick" else []
        return listed_dataset(images, parts, folder_names(parts["train"], classes), notes)


def _classes(parts: Parts) -> int:
    """Return the number of classes; raise UsageError unless labels have no gap, and training and test part every class."""
    classes = 1 + max(int(listed.labels.max()) for listed in parts.values())
    if classes < 2:
        raise ltbench.UsageError("lists: there must be at least two classes, all labels are 0")
    for part, listed in parts.items():
        present = torch.unique(listed.labels)
        if part != "validation" and len(present) != classes:
            first = next(i for i, label in enumerate([*present.tolist(), classes]) if label != i)
            raise ltbench.UsageError(
                f"lists: labels must be 0 to {classes - 1} without gaps, {classes - len(present):,} of them have no image in "
                f"the {part} list, {first} for one"
            )
    return classes


def _require_disjoint(title: str, parts: Parts) -> None:
    """Raise UsageError where a list names an image twice, or two lists name it."""
    first: dict[str, str] = {}
    for part, listed in parts.items():
        names = set(listed.names)
        if len(names) < len(listed.names):
            raise ltbench.UsageError(f"{title}: {len(listed.names) - len(names):,} lines of the {part} list repeat an image")
        shared = sorted(first.keys() & names)
        if shared:
            raise ltbench.UsageError(
                f"{title}: {len(shared):,} images are in the {first[shared[0]]} list and in the {part} list: {_some(shared)}"
            )
        first |= dict.fromkeys(names, part)


def _found(root: Path, names: Iterable[str]) -> dict[str, File]:
    """Return the files there are, by name; each folder is read once."""
    folders: dict[str, list[str]] = {}
    for name in names:
        folders.setdefault(name.rpartition("/")[0], []).append(name)
    found = {}
    for folder, wanted in folders.items():
        try:
            with os.scandir(root / folder) as scan:
                entries = {entry.name: entry for entry in scan}
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ltbench.UsageError(f"{root / folder} cannot be read: {error.strerror or error}") from None
        for name in wanted:
            entry = entries.get(name.rpartition("/")[2])
            if entry is not None and entry.is_file():
                status = entry.stat()
                found[name] = File(name, status.st_size, status.st_mtime_ns)
    return found


def _listed_in_file(title: str, missing: Sequence[str]) -> str:
    """Write all names to a file in the cache folder, and say where; nothing to say where all were shown already."""
    if len(missing) <= SHOWN:
        return ""
    path = ltbench.cache_folder() / "missing" / f"{title}.txt"
    try:
        ltbench.write_atomically(path, "\n".join([*missing, ""]).encode())
    except ltbench.LtbenchError:
        return ""
    return f"; all of them are in {path}"


def _some(names: Sequence[str]) -> str:
    """Return the first few names."""
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
