"""What lies in a folder of images: parts, classes and files by name. Opens no file."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ltbench
from ltbench_datasets.contents import File
from ltbench_datasets.decode import SUFFIXES

PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
SHOWN = 3
"""How many examples a message gives."""

Classes = Mapping[str, Sequence[File]]


@dataclass(frozen=True)
class Tree:
    """The image files of each class, by part; ``whole`` instead of parts where classes lie in the folder itself.

    Classes and files are in the order of their names, which are compared in Unicode's composed form, so that the order is
    the same on every file system.
    """

    root: Path
    parts: Mapping[str, Classes]
    notes: tuple[str, ...]

    @property
    def files(self) -> list[File]:
        """Every image file, part by part and class by class."""
        return [file for classes in self.parts.values() for files in classes.values() for file in files]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the training classes."""
        return tuple(self.parts["train" if "train" in self.parts else "whole"])


def scan(root: Path) -> Tree:
    """Find parts, classes and image files below a folder; raise UsageError where classes are missing or empty.

    Links are followed, but for those that lead back. Hidden files and folders, and files that no image is named like, are
    left alone and noted.
    """
    walk = _Walk()
    folders = walk.folders(root)
    parts = _parts(root, folders)
    if parts:
        walk.beside += [name for name, path in folders.items() if path not in set(parts.values())]
        found = {part: walk.classes(root, path) for part, path in parts.items()}
    else:
        found = {"whole": walk.classes(root, root, folders)}
    _require_classes(root, found)
    return Tree(root, found, tuple(walk.notes(root)))


def composed(name: str) -> str:
    """Return a name in Unicode's composed form; macOS stores names decomposed."""
    return unicodedata.normalize("NFC", name)


def examples(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more


def _parts(root: Path, folders: Mapping[str, Path]) -> dict[str, Path]:
    """Return the folders of train, validation and test; none where the folders are classes.

    A class may be called train (CIFAR-100 has one): only beside test or val is it a part.
    """
    found: dict[str, list[Path]] = {part: [] for part in ("train", "validation", "test")}
    for name, path in folders.items():
        if name.lower() in PARTS:
            found[PARTS[name.lower()]].append(path)
    named = {part: paths for part, paths in found.items() if paths}
    if "train" in named and len(named) > 1:
        return {part: _only(root, part, paths) for part, paths in named.items()}
    if named and len(folders) == sum(map(len, named.values())):
        lacks = "neither test nor val" if "train" in named else "no train"
        raise ltbench.UsageError(
            f"folder {root}: there is {examples(list(folders))}, but {lacks}: "
            "give the path of the folder that holds the classes, or add the other part"
        )
    return {}


def _only(root: Path, part: str, paths: Sequence[Path]) -> Path:
    """Return the one folder of a part, or raise UsageError."""
    if len(paths) > 1:
        raise ltbench.UsageError(f"folder {root}: {examples([path.name for path in paths])} are both {part}: keep one")
    return paths[0]


def _require_classes(root: Path, parts: Mapping[str, Classes]) -> None:
    """Raise UsageError for a folder without two classes, an empty class, or classes that differ between parts."""
    wanted = parts.get("train", parts.get("whole", {}))
    if len(wanted) < 2:
        there = f"it holds the folder {next(iter(wanted))!r} alone" if wanted else "it holds none"
        raise ltbench.UsageError(
            f"folder {root}: images must lie in a folder for each class, at least two, or in such folders below train and "
            f"test; {there}"
        )
    for part, classes in parts.items():
        where = "" if part == "whole" else f" in {part}"
        if empty := [name for name, files in classes.items() if not files]:
            raise ltbench.UsageError(
                f"folder {root}: {len(empty)} class folders{where} hold no image: {examples(empty)}; fill or remove them"
            )
        if strange := [name for name in classes if name not in wanted]:
            raise ltbench.UsageError(f"folder {root}: {len(strange)} classes{where} are not in train: {examples(strange)}")
        if part == "validation" and "test" in parts:
            continue  # need not have every class
        if lacking := [name for name in wanted if name not in classes]:
            raise ltbench.UsageError(f"folder {root}: {len(lacking)} classes of train are not{where}: {examples(lacking)}")


class _Walk:
    """A walk through folders that counts what it leaves alone."""

    def __init__(self) -> None:
        """Nothing seen yet."""
        self.hidden: list[str] = []
        self.beside: list[str] = []
        self.stray: list[str] = []
        self.loops: list[str] = []
        self.others: Counter[str] = Counter()

    def folders(self, path: Path) -> dict[str, Path]:
        """Return the folders in a folder by composed name, in order; counts the files."""
        found: dict[str, Path] = {}
        for name, entry in self._entries(str(path)):
            if entry.is_dir():
                if name in found:
                    raise ltbench.UsageError(f"folder {path}: two folders are named {name!r} once composed: keep one")
                found[name] = Path(entry.path)
            elif self._is_image(name):
                self.stray.append(entry.name)
        return found

    def classes(self, root: Path, path: Path, folders: Mapping[str, Path] | None = None) -> dict[str, tuple[File, ...]]:
        """Return the image files of each class folder."""
        folders = self.folders(path) if folders is None else folders
        prefixes = {name: f"{folder.relative_to(root).as_posix()}/" for name, folder in folders.items()}
        above = frozenset(_identity(each) for each in (root, path))
        return {name: tuple(self._files(str(folder), prefixes[name], above)) for name, folder in folders.items()}

    def _files(self, path: str, prefix: str, above: frozenset[tuple[int, int]]) -> Iterator[File]:
        """Return the image files at any depth below a folder, named with a prefix; ``above`` are the folders it lies in."""
        here = _identity(path)
        if here in above:
            self.loops.append(prefix)
            return
        for name, entry in self._entries(path):
            if entry.is_dir():
                yield from self._files(entry.path, f"{prefix}{entry.name}/", above | {here})
            elif self._is_image(name):
                yield _file(entry, prefix + entry.name)

    def _entries(self, path: str) -> list[tuple[str, os.DirEntry[str]]]:
        """Return what is in a folder and not hidden, with composed names, in their order."""
        found = []
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or entry.name == "__MACOSX":
                        self.hidden.append(entry.name)
                    else:
                        found.append((_readable(entry), entry))
        except OSError as error:
            raise ltbench.UsageError(f"folder {path} cannot be read: {error.strerror}") from error
        return sorted(found, key=lambda pair: (pair[0], pair[1].name))

    def _is_image(self, name: str) -> bool:
        """Whether a file is named as images are; counts it if not."""
        suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - as above
        if suffix not in SUFFIXES:
            self.others[suffix or "without suffix"] += 1
        return suffix in SUFFIXES

    def notes(self, root: Path) -> Iterator[str]:
        """Say what was left alone."""
        if self.beside:
            yield f"folders beside the parts are left alone: {examples(self.beside)}"
        if self.stray:
            yield f"{len(self.stray):,} images in no class folder are left alone: {examples(self.stray)}"
        if self.others:
            kinds = ", ".join(f"{suffix} ({count:,})" for suffix, count in self.others.most_common(2 * SHOWN))
            yield f"{self.others.total():,} files that no image is named like are left alone: {kinds}"
        if self.hidden:
            yield f"{len(self.hidden):,} hidden files or folders are left alone: {examples(sorted(self.hidden))}"
        if self.loops:
            yield f"{len(self.loops):,} links that lead back are not followed: {examples(self.loops)}"


def _identity(path: str | Path) -> tuple[int, int]:
    """Return what tells folders apart, whatever links lead to them."""
    found = os.stat(path)  # noqa: PTH116 - paths are texts here, for speed
    return found.st_dev, found.st_ino


def _readable(entry: os.DirEntry[str]) -> str:
    """Return an entry's composed name, or raise UsageError for bytes that are no text."""
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        raise ltbench.UsageError(f"{os.fsencode(entry.path)!r}: names must be UTF-8: rename it") from None
    return composed(entry.name)


def _file(entry: os.DirEntry[str], name: str) -> File:
    """Return a file with what can be told of it without opening it."""
    try:
        found = entry.stat()
    except OSError:
        return File(name, 0, 0, "it is a link that leads nowhere")
    if not stat.S_ISREG(found.st_mode):
        return File(name, 0, 0, "it is no regular file")  # opening a pipe would wait for ever
    return File(name, found.st_size, found.st_mtime_ns, "" if found.st_size else "it is empty")
