"""CIFAR-10 and CIFAR-100 from their official binary archives, which hold no pickles."""

from __future__ import annotations

import bisect
import functools
import hashlib
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

import ltbench
from ltbench_datasets.archives import Limits, unpacked
from ltbench_datasets.contents import Depth, examine, stat_file
from ltbench_datasets.download import Progress, Remote, cannot_write, download, locked, sha256_of

URL_VARIABLE = "LTBENCH_CIFAR_URL"
"""Names a mirror: the address of the folder that holds the archives."""

URL = "https://www.cs.toronto.edu/~kriz/"
SUMS = "SHA256SUMS"
PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Published:
    """What an archive is called, its SHA-256, and which of its files hold what.

    A record is ``label_bytes`` bytes, the last of which is the class, and the red, green and blue planes of an image.
    ``names`` are files of one class name a line; with two label bytes, the first is a superclass, named in the second file.
    """

    name: str
    archive: str
    sha256: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def label_bytes(self) -> int:
        """Labels in front of each image."""
        return len(self.names)

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that is read."""
        return (*self.train, *self.test, *self.names)


CIFAR10 = Published(
    name="cifar10",
    archive="cifar-10-binary.tar.gz",
    sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    folder="cifar-10-batches-bin",
    train=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    test=("test_batch.bin",),
    names=("batches.meta.txt",),
)
CIFAR100 = Published(
    name="cifar100",
    archive="cifar-100-binary.tar.gz",
    sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    folder="cifar-100-binary",
    train=("train.bin",),
    test=("test.bin",),
    names=("fine_label_names.txt", "coarse_label_names.txt"),
)
LIMITS = Limits(members=100, size=1 << 28)


@dataclass(frozen=True, kw_only=True)
class Cifar10:
    """50,000 training and 10,000 test images, 32×32 RGB, 10 classes of equal size.

    A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """

    def load(self, folder: Path) -> ltbench.Dataset:
        """Return the images as uint8 ``[32, 32, 3]``, read from the unpacked files when they are asked for."""
        return load(CIFAR10, folder)

    def missing(self, folder: Path) -> str:
        """Say whether the archive is to be downloaded or unpacked."""
        return missing(CIFAR10, folder)

    def fetch(self, folder: Path, progress: Callable[[str, int, int | None], None]) -> None:
        """Download the archive (162 MiB) unless it lies in the folder, and unpack it."""
        fetch(CIFAR10, folder, progress)


@dataclass(frozen=True, kw_only=True)
class Cifar100:
    """50,000 training and 10,000 test images, 32×32 RGB, 100 classes of equal size in 20 superclasses.

    A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """

    def load(self, folder: Path) -> ltbench.Dataset:
        """Return the images as uint8 ``[32, 32, 3]``, read from the unpacked files when they are asked for."""
        return load(CIFAR100, folder)

    def missing(self, folder: Path) -> str:
        """Say whether the archive is to be downloaded or unpacked."""
        return missing(CIFAR100, folder)

    def fetch(self, folder: Path, progress: Callable[[str, int, int | None], None]) -> None:
        """Download the archive (161 MiB) unless it lies in the folder, and unpack it."""
        fetch(CIFAR100, folder, progress)


@dataclass(frozen=True)
class Records(Sequence[Tensor]):
    """Images in files of fixed-length records, read when they are asked for, by any number of threads."""

    paths: tuple[str, ...]
    label_bytes: int

    def __len__(self) -> int:
        """Return the number of images in all files."""
        return self._ends[-1]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the names of the files, not what is in them."""
        return Records, (self.paths, self.label_bytes)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...

    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...

    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        """Return an image, uint8 ``[32, 32, 3]``."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        file = bisect.bisect_right(self._ends, position)
        record = self._files[file][position - self._ends[file]]  # from the end of its file: a negative index
        planes = record[self.label_bytes :].reshape(3, 32, 32)
        return torch.from_numpy(np.ascontiguousarray(planes.transpose(1, 2, 0)))

    def labels(self, byte: int) -> Tensor:
        """Return one of the label bytes of every record, int64 ``[N]``."""
        return torch.from_numpy(np.concatenate([file[:, byte] for file in self._files]).astype(np.int64))

    @functools.cached_property
    def _files(self) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
        """The records of each file, ``[N, label_bytes + 3072]``, mapped into memory."""
        width = self.label_bytes + PIXELS
        return [np.memmap(path, np.uint8, "r").reshape(-1, width) for path in self.paths]

    @functools.cached_property
    def _ends(self) -> list[int]:
        """How many images there are up to the end of each file."""
        return list(itertools.accumulate(len(file) for file in self._files))


def missing(published: Published, folder: Path) -> str:
    """Say in a few words what is not there yet, or is no longer what it was; reads files that have changed."""
    place = folder / published.folder
    if all((place / name).is_file() for name in (*published.files, SUMS)):
        return _damage(place, published.files)
    there = (folder / published.archive).is_file()
    return f"{published.archive} is there, but not unpacked" if there else f"{published.archive} is not there"


def load(published: Published, folder: Path) -> ltbench.Dataset:
    """Return the dataset, or raise UsageError where files are missing or are not what was unpacked."""
    place = (folder / published.folder).absolute()
    if problem := missing(published, folder):
        raise ltbench.UsageError(f"{published.name} in {folder}: {problem}: run 'ltbench data fetch {published.name}'")
    names = [_lines(place / file) for file in published.names]
    sums = _sums(place)
    return ltbench.Dataset(
        train=_part(place, published.train, names),
        test=_part(place, published.test, names),
        class_names=names[0],
        fingerprint=hashlib.sha256("\n".join(sums[name] for name in published.files).encode()).hexdigest(),
    )


def fetch(published: Published, folder: Path, progress: Progress) -> None:
    """Download the archive unless it is there, and unpack it unless what was unpacked is there and whole."""
    place, archive = folder / published.folder, folder / published.archive
    with locked(place, progress):
        if not missing(published, folder):
            return
        address = f"{(os.environ.get(URL_VARIABLE) or URL).rstrip('/')}/{published.archive}"
        download(Remote(address, published.sha256), archive, progress)
        with unpacked(archive, LIMITS, progress) as found:
            _install(found / published.folder, place, published.files)


def _install(found: Path, place: Path, files: Sequence[str]) -> None:
    """Move unpacked files to their place, and note their checksums last: what has none is not there yet."""
    lacking = [name for name in files if not (found / name).is_file()]
    if lacking:
        raise ltbench.LtbenchError(f"the archive of {place} must hold {', '.join(files)}; it lacks {', '.join(lacking)}")
    sums = "".join(f"{sha256_of(found / name)}  {name}\n" for name in files)
    try:
        place.mkdir(exist_ok=True)
        (place / SUMS).unlink(missing_ok=True)
        for name in files:
            (found / name).replace(place / name)
    except OSError as error:
        raise cannot_write(place, error) from error
    ltbench.write_atomically(place / SUMS, sums.encode())


def _damage(place: Path, files: Sequence[str]) -> str:
    """Say which files are not what was unpacked; empty if all are."""
    sums = _sums(place)
    contents = examine(place, [stat_file(place, name) for name in files], Depth.BYTES)
    changed = [name for name, content in zip(files, contents, strict=True) if content.sha256 != sums.get(name)]
    return f"{', '.join(changed)} in {place} must be as unpacked, but differ" if changed else ""


def _sums(place: Path) -> Mapping[str, str]:
    """Return the SHA-256 of each unpacked file, by name."""
    rows = (line.partition("  ") for line in (place / SUMS).read_text(encoding="utf-8", errors="replace").splitlines())
    return {name: digest for digest, _, name in rows}


def _lines(path: Path) -> tuple[str, ...]:
    """Return the lines of a text file that are not empty."""
    return tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())


def _part(place: Path, files: Sequence[str], names: Sequence[Sequence[str]]) -> ltbench.Part:
    """Return one part; CIFAR-100 knows the superclass of each image, too."""
    records = Records(tuple(str(place / name) for name in files), len(names))
    labels = records.labels(len(names) - 1)
    superclass = {"superclass": [names[1][i] for i in records.labels(0).tolist()]} if len(names) > 1 else {}
    return ltbench.Part(labels, records, superclass)
