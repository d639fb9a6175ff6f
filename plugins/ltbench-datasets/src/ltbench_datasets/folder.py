"""A user's own images: a folder for each class, or such folders below train, val and test."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from annotated_types import Gt

import ltbench
from ltbench_datasets.contents import Content, Depth, File, examine, unexamined
from ltbench_datasets.decode import RULE, ImageFiles
from ltbench_datasets.folder_copies import Sample, copy_notes, overlaps, shown
from ltbench_datasets.folder_scan import SHOWN, Tree, composed, scan
from ltbench_datasets.folder_split import held_out
from ltbench_datasets.locate import locate

Samples = dict[str, list[Sample]]


@dataclass(frozen=True, kw_only=True)
class Folder:
    """Images in a folder for each class, or in such folders below ``train``, ``val`` and ``test``.

    Without parts, ``test`` of each class are test images: a share below 1, or a number of images, by rising SHA-256 of
    their bytes. ``unreadable`` files are an error, or are skipped and noted; to find them, each is decoded once.
    ``overlap`` of parts, byte for byte, is refused unless allowed. ``fingerprint`` reads every file (``exact``; once, for
    it is remembered), or trusts names and sizes (``quick``; copies are then not looked for).
    """

    path: Path
    test: Annotated[int | float, Gt(0)] = 0.2
    unreadable: Literal["error", "skip"] = "error"
    overlap: Literal["refuse", "allow"] = "refuse"
    fingerprint: Literal["exact", "quick"] = "exact"

    def __post_init__(self) -> None:
        """Refuse a number of images that is not whole."""
        if self.test >= 1 and self.test != int(self.test):
            raise ValueError(f"test must be a share below 1 or a whole number of images, not {self.test:g}")

    def load(self, folder: Path) -> ltbench.Dataset:
        """Return the images, uint8 ``[H, W, 3]``, decoded when they are asked for; raise UsageError for what is wrong."""
        tree = scan(_place(self.path, folder))
        samples, notes = self._samples(tree)
        notes = [*tree.notes, *notes]
        if "whole" in samples:
            samples = self._divided(tree, samples["whole"])
        elif "test" not in samples:
            samples["test"] = samples.pop("validation")
            notes.append("there is no test folder: the validation images are the test images")
        notes += self._copy_notes(tree.root, samples)
        parts = {part: _part(tree.root, found) for part, found in samples.items()}
        return ltbench.Dataset(
            train=parts["train"],
            validation=parts.get("validation"),
            test=parts["test"],
            class_names=tree.class_names,
            fingerprint=_fingerprint(samples, self.fingerprint),
            notes=tuple(notes),
        )

    def missing(self, folder: Path) -> str:
        """Say that the folder is not there, or how many of its images are still to be looked at."""
        try:
            tree = scan(_place(self.path, folder))
        except ltbench.UsageError as error:
            return str(error)
        depth = self._depth
        count = 0 if depth is None else unexamined(tree.root, tree.files, depth)
        return f"{count:,} images are to be looked at" if count else ""

    def fetch(self, folder: Path, progress: Callable[[str, int, int | None], None]) -> None:
        """Look at every image that is new or has changed; ``load`` does so, too, but tells no progress."""
        tree = scan(_place(self.path, folder))
        if self._depth is not None:
            examine(tree.root, tree.files, self._depth, progress)

    @property
    def _depth(self) -> Depth | None:
        """How closely files are looked at before the first image is asked for; not at all if None."""
        if self.unreadable == "skip":
            return Depth.PIXELS
        return Depth.HEADER if self.fingerprint == "exact" else None

    def _samples(self, tree: Tree) -> tuple[Samples, list[str]]:
        """Return the readable images of each part, and a note on the others, or raise UsageError for them."""
        files = tree.files
        found = {file.name: content for file, content in zip(files, _contents(tree, files, self._depth), strict=True)}
        bad = {name: content.problem for name, content in found.items() if content.problem}
        told = f"{len(bad):,} files are no readable images: " + ", ".join(f"{n!r} ({p})" for n, p in list(bad.items())[:SHOWN])
        if bad and self.unreadable == "error":
            raise ltbench.UsageError(f"folder {tree.root}: {told}; mend or remove them, or leave them out by unreadable=skip")
        exact = self.fingerprint == "exact"  # otherwise contents decide nothing, even where they are known
        hashes = {name: content.sha256 if exact else "" for name, content in found.items() if not content.problem}
        return _labelled(tree, hashes), [f"left out: {told}"] if bad else []

    def _divided(self, tree: Tree, samples: Sequence[Sample]) -> Samples:
        """Divide each class into training and test images; without contents, by hashes of the names."""
        classes: list[list[Sample]] = [[] for _ in tree.class_names]
        for sample in samples:
            classes[sample.label].append(sample)
        divided: Samples = {"train": [], "test": []}
        for name, held in zip(tree.class_names, classes, strict=True):
            try:
                chosen = held_out([sample.sha256 or _hashed(composed(sample.name)) for sample in held], self.test)
            except ValueError as error:
                raise ltbench.UsageError(
                    f"folder {tree.root}: class {name!r} {error}: add images, remove the class, choose another test=, or make "
                    "folders train and test"
                ) from None
            for position, sample in enumerate(held):
                divided["test" if position in chosen else "train"].append(sample)
        return divided

    def _copy_notes(self, root: Path, samples: Samples) -> list[str]:
        """Say what is there more than once, or raise UsageError where parts share images."""
        if self.fingerprint == "quick":
            return ["copies of images were not looked for: fingerprint=quick"]
        order = [part for part in ("train", "validation", "test") if part in samples]
        shared = overlaps({part: samples[part] for part in order})
        told = [f"{len(shared):,} images are in two parts: {shown(shared)}"] if shared else []
        if shared and self.overlap == "refuse":
            raise ltbench.UsageError(f"folder {root}: {told[0]}; remove them from one, or say overlap=allow")
        return [*told, *copy_notes(samples)]


def _place(path: Path, folder: Path) -> Path:
    """Return where the images are: below the data folder, otherwise below the working folder."""
    place = locate(path, folder)
    if not place.is_dir():
        raise ltbench.UsageError(f"{place} must be a folder of images, it is a file")
    return place


def _contents(tree: Tree, files: Sequence[File], depth: Depth | None) -> Sequence[Content]:
    """Return what is in each file, as far as it is looked at."""
    if depth is None:
        return [Content("", file.problem) for file in files]
    return examine(tree.root, files, depth)


def _labelled(tree: Tree, hashes: Mapping[str, str]) -> Samples:
    """Return the images of each part whose content is given, with labels; raise UsageError where a class has none."""
    place = {name: label for label, name in enumerate(tree.class_names)}
    samples: Samples = {}
    for part, classes in tree.parts.items():
        samples[part] = []
        for name, files in classes.items():
            kept = [Sample(file.name, place[name], file.size, hashes[file.name]) for file in files if file.name in hashes]
            if not kept:
                raise ltbench.UsageError(f"folder {tree.root}: class {name!r} holds no readable image, but {len(files)} files")
            samples[part] += kept
    return samples


def _part(root: Path, samples: Sequence[Sample]) -> ltbench.Part:
    """Return one part; the name of each file is known of it."""
    names = tuple(sample.name for sample in samples)
    labels = torch.tensor([sample.label for sample in samples], dtype=torch.int64)
    return ltbench.Part(labels, ImageFiles(str(root), names), {"path": names})


def _fingerprint(samples: Mapping[str, Sequence[Sample]], mode: str) -> str:
    """Hash order, part, label and content of every image; ``quick`` takes name and size for the content."""
    found = hashlib.sha256(f"folder 1 {mode}\0{RULE}\0".encode())
    for part in sorted(samples):
        for sample in samples[part]:
            content = sample.sha256 if mode == "exact" else f"{sample.size} {composed(sample.name)}"
            found.update(f"{part} {sample.label} {content}\0".encode())
    return found.hexdigest()


def _hashed(name: str) -> str:
    """Return a hash that stands for an image that is not read."""
    return hashlib.sha256(name.encode()).hexdigest()
