"""Published long tails: the figures of their papers, whether list files agree with them, and the datasets made of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

import ltbench
from ltbench_datasets.contents import Progress
from ltbench_datasets.lists import Images, Listed, Parts, listed_dataset, names_of, read_list
from ltbench_datasets.locate import locate

Groups = tuple[int, int, int]


@dataclass(frozen=True)
class Published:
    """The figures of a published long tail.

    ``largest`` and ``smallest`` are training images of a class, ``validation`` and ``test`` images of each class.
    ``inclusive`` counts classes of at least 100 training images, between, and at most 20; ``strict`` those of more than
    100, of 20 to 100, and of fewer than 20. Groups are None where the literature's figures are not sure.
    """

    title: str
    classes: int
    train: int
    largest: int
    smallest: int
    validation: int
    test: int
    inclusive: Groups | None = None
    strict: Groups | None = None

    def check(self, where: Path, parts: Parts) -> None:
        """Raise UsageError that tells every figure in which lists differ from what was published."""
        classes = 1 + max(int(listed.labels.max()) for listed in parts.values())
        found = {"classes": f"{classes:,}"}
        if classes == self.classes:
            found |= _figures({part: torch.bincount(listed.labels, minlength=classes) for part, listed in parts.items()})
        published = self.figures()
        wrong = [
            f"{figure} {name} (published: {published[name]})"
            for name, figure in found.items()
            if published.get(name, figure) != figure
        ]
        if wrong:
            raise ltbench.UsageError(
                f"the lists in {where} are not those of {self.title}: {'; '.join(wrong)}; take the published files as they are"
            )

    def figures(self) -> dict[str, str]:
        """Return the figures by name, as messages have them."""
        sizes = {"train": self.train, "validation": self.validation * self.classes, "test": self.test * self.classes}
        return {
            "classes": f"{self.classes:,}",
            **{f"{part} images": f"{size:,}" for part, size in sizes.items()},
            "train images of a class": _span(self.smallest, self.largest),
            "validation images of a class": _span(self.validation, self.validation),
            "test images of a class": _span(self.test, self.test),
            **({} if self.strict is None else {"head, medium and tail classes (strict)": _slashed(self.strict)}),
            **({} if self.inclusive is None else {"head, medium and tail classes (inclusive)": _slashed(self.inclusive)}),
        }


class Settings(Protocol):
    """What the user says: where images are, where lists are if not there, and how content is named."""

    @property
    def root(self) -> Path:
        """The folder of the images."""

    @property
    def lists(self) -> Path | None:
        """The folder of the list files; None: the images'."""

    @property
    def fingerprint(self) -> Literal["quick", "exact"]:
        """Whether images are read, or names and sizes trusted."""


@dataclass(frozen=True)
class PublishedLists:
    """A published long tail over a user's images, a dataset called ``component`` whose images lie as ``layout`` says.

    ``files`` are the names of its list files by part, in the forms in which they are around. ``read`` reads one.
    ``name(where, train, classes)`` gives class names, and what to tell about them.
    """

    component: str
    layout: str
    figures: Published
    files: tuple[Mapping[str, str], ...]
    name: Callable[[Path, Listed, int], tuple[list[str], list[str]]]
    read: Callable[[Path], Listed] = read_list
    flat_validation: bool = False

    def load(self, settings: Settings, folder: Path) -> ltbench.Dataset:
        """Return the dataset; raise UsageError if lists or images are missing, or are not those published."""
        where, parts = self._parts(settings, folder)
        self.figures.check(where, parts)
        names, notes = self.name(where, parts["train"], self.figures.classes)
        return listed_dataset(self._images(settings, folder), parts, names, notes)

    def missing(self, settings: Settings, folder: Path) -> str:
        """Say whether images or list files are not there, or how many images are still to be read."""
        try:
            root = self._root(settings, folder)
        except ltbench.UsageError:
            return f"needs your images: there is no folder {settings.root}"
        try:
            self._chosen(settings, folder)
        except ltbench.UsageError:
            return f"needs its list files: they are not in {settings.lists or root.name}"
        try:
            count = self._unread(settings, folder)
        except ltbench.UsageError as error:
            return str(error)
        return f"{count:,} images are to be read" if count else ""

    def fetch(self, settings: Settings, folder: Path, progress: Progress) -> None:
        """Read images that are new or have changed; nothing can be downloaded."""
        _, parts = self._parts(settings, folder)
        images = self._images(settings, folder)
        files = images.files(names_of(parts))
        if images.unread(files):
            images.contents(files, progress)

    def _unread(self, settings: Settings, folder: Path) -> int:
        """Return how many images are still to be read; none where they are not read at all."""
        if settings.fingerprint == "quick":
            return 0
        images = self._images(settings, folder)
        return images.unread(images.files(names_of(self._parts(settings, folder)[1])))

    def _images(self, settings: Settings, folder: Path) -> Images:
        """Return where the images are."""
        return Images(self.figures.title, self._root(settings, folder), settings.fingerprint, self.flat_validation)

    def _root(self, settings: Settings, folder: Path) -> Path:
        """Return where the images are; raise UsageError that says how they are to lie where there is no such folder."""
        try:
            return locate(settings.root, folder)
        except ltbench.UsageError as error:
            raise ltbench.UsageError(
                f"{self.figures.title} cannot be downloaded, and {error}: put your images there, or a link to them, as "
                f"{self.layout}, with the list files {self._forms}; or say where they are: "
                f"{self.component}[root=FOLDER,lists=FOLDER]"
            ) from None

    def _parts(self, settings: Settings, folder: Path) -> tuple[Path, Parts]:
        """Return where the lists are, and what they hold."""
        where, files = self._chosen(settings, folder)
        return where, {part: self.read(where / name) for part, name in files.items()}

    def _chosen(self, settings: Settings, folder: Path) -> tuple[Path, Mapping[str, str]]:
        """Return where the lists are, and in which form; raise UsageError if there are none."""
        root = self._root(settings, folder)
        where = root if settings.lists is None else locate(settings.lists, folder)
        for files in self.files:
            if all((where / name).is_file() for name in files.values()):
                return where, files
        raise ltbench.UsageError(
            f"{self.figures.title} needs its list files in {where}: {self._forms}; put the published files there, or say where "
            f"they are: {self.component}[lists=FOLDER]"
        )

    @property
    def _forms(self) -> str:
        """The names of the list files, in every form."""
        return ", or ".join(", ".join(files.values()) for files in self.files)


def _figures(counts: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the figures of lists by name, from the number of images of each class ``[C]`` in each part."""
    figures = {}
    for part, count in counts.items():
        figures[f"{part} images"] = f"{int(count.sum()):,}"
        figures[f"{part} images of a class"] = _span(int(count.min()), int(count.max()))
    train = counts["train"]
    for rule, head, tail in (("strict", train > 100, train < 20), ("inclusive", train >= 100, train <= 20)):
        sizes = (int(head.sum()), len(train) - int(head.sum()) - int(tail.sum()), int(tail.sum()))
        figures[f"head, medium and tail classes ({rule})"] = _slashed(sizes)
    return figures


def _span(low: int, high: int) -> str:
    """Write a range."""
    return f"{high:,}" if low == high else f"{low:,} to {high:,}"


def _slashed(groups: Groups) -> str:
    """Write the sizes of groups."""
    return "/".join(map(str, groups))
