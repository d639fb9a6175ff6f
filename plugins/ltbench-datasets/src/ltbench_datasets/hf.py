"""Image datasets of the Hugging Face hub, or saved by the ``datasets`` library: fetched once, then read from disk."""

from __future__ import annotations

import contextlib
import hashlib
import io
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
from torch import Tensor

import ltbench
from ltbench_datasets.decode import RULE, decode_open, problem_of, read_header
from ltbench_datasets.download import locked
from ltbench_datasets.labels import Names, read_labels, require_rows
from ltbench_datasets.repeats import PARTS, Content, content_of, remembered

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
SAVED = "dataset_dict.json"
"""The file that ``DatasetDict.save_to_disk`` writes beside the splits."""

SINGLE = "state.json"
"""The file that ``Dataset.save_to_disk`` writes beside the rows."""

BATCH = 64
"""Encoded images that are in memory at a time while they are looked through."""

Splits = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class HuggingFace:
    """A dataset with images by its name on the hub, fetched into the data folder, or one of your own, ``save_to_disk``'s.

    ``image`` and ``label`` name its columns, ``config`` one of its configurations. Without a test split, or where its labels
    are withheld, the validation images are the test images. ``overlap`` of parts, byte for byte, is refused unless
    allowed. ``fingerprint`` reads every image (``exact``; once, for it is remembered), or trusts sizes (``quick``).
    """

    name: str
    config: str | None = None
    image: str = "image"
    label: str = "label"
    overlap: Literal["refuse", "allow"] = "refuse"
    fingerprint: Literal["exact", "quick"] = "exact"

    def load(self, folder: Path) -> ltbench.Dataset:
        """Return the images, uint8 ``[H, W, 3]``, decoded when they are asked for; raise UsageError for what is wrong."""
        place = self._place(folder)
        if self.missing(folder):
            config = "" if self.config is None else f",config={self.config}"
            raise ltbench.UsageError(
                f"{self._where}: {self.missing(folder)}: ltbench data fetch 'hf[name={self.name}{config}]'"
            )
        splits, notes = _parts(self._where, _opened(self._where, place), self.label)
        labels, names = self._labels(splits)
        sizes = [len(splits[part]) if part in splits else 0 for part in PARTS]
        codes = torch.arange(len(PARTS), dtype=torch.uint8).repeat_interleave(torch.tensor(sizes))
        images = {part: Images(f"{self._where}, {part}", self._column(split), self.image) for part, split in splits.items()}
        content = _content(images, codes, self.fingerprint)
        parts = {part: ltbench.Part(labels[codes == PARTS.index(part)], found) for part, found in images.items()}
        require_rows(self._where, {part: parts[part].labels for part in ("train", "test")}, names)
        notes += content.notes(self._where, self.overlap)
        digest = hashlib.sha256(f"hf 1 {self.fingerprint}\0{RULE}\0{sizes}\0{content.digest}".encode())
        digest.update(labels.numpy().tobytes())
        return ltbench.Dataset(parts["train"], parts["test"], names, digest.hexdigest(), parts.get("validation"), notes=notes)

    def missing(self, folder: Path) -> str:
        """Say that it has to be fetched, if so."""
        place = self._place(folder)
        return "" if _is_saved(place) else f"it is not in {place}"

    def fetch(self, folder: Path, progress: Callable[[str, int, int | None], None]) -> None:
        """Download the dataset through the ``datasets`` library, which shows how far it is, and save it in the data folder."""
        place = self._place(folder)
        with locked(place, progress):
            if self.missing(folder):
                with tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent) as temporary, _told(self._where):
                    made = Path(temporary) / "saved"
                    _library(self._where).load_dataset(self.name, self.config).save_to_disk(made)
                    made.rename(place)
        self.load(folder)  # what is amiss is told now, and what is in the images remembered

    @property
    def _where(self) -> str:
        """What messages begin with."""
        return f"hf {self.name}"

    def _place(self, folder: Path) -> Path:
        """Return where the dataset lies, or will lie."""
        mine = [place for place in (folder / self.name, Path(self.name).expanduser()) if _is_saved(place)]
        if mine:
            return mine[0].absolute()
        name = self.name if self.config is None else f"{self.name}--{self.config}"
        return folder / "hf" / name.replace("/", "--")

    def _labels(self, splits: Splits) -> tuple[Tensor, Names]:
        """Return the labels of all parts, one after the other, and class names."""
        kinds = {part: _feature(self._where, split, self.label) for part, split in splits.items()}
        names = {part: tuple(kind.names) if hasattr(kind, "names") else None for part, kind in kinds.items()}
        if len(set(names.values())) > 1:
            raise ltbench.UsageError(f"{self._where}: {self.label} must have the same class names in {' and '.join(names)}")
        raw = np.concatenate([_values(self._where, splits[part], self.label) for part in PARTS if part in splits])
        return read_labels(self._where, self.label, raw, names["train"])

    def _column(self, split: Any) -> Any:
        """Return the rows of a split with the encoded image alone, or raise UsageError if the column holds none."""
        library = _library(self._where)
        kind = _feature(self._where, split, self.image)
        if not isinstance(kind, library.Image):
            raise ltbench.UsageError(f"{self._where}: {self.image} must be a column of images, not {kind}: name it by image=")
        return split.select_columns([self.image]).cast_column(self.image, library.Image(decode=False))


@dataclass(frozen=True)
class Images(Sequence[Tensor]):
    """The images of a split: ``images[i]`` decodes one; many threads and processes may ask at once."""

    where: str
    rows: Any
    column: str

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...

    @overload
    def __getitem__(self, index: slice) -> Images: ...

    def __getitem__(self, index: int | slice) -> Tensor | Images:
        """Decode one image, or return a part of the split without decoding any."""
        if isinstance(index, slice):
            return Images(self.where, self.rows.select(range(*index.indices(len(self)))), self.column)
        content = self.rows[index][self.column]["bytes"]
        try:
            return decode_open(io.BytesIO(content))
        except Exception as error:  # whatever Pillow's parsers raise on broken bytes
            problem = problem_of(error)
        raise ltbench.LtbenchError(f"{self.where}: image {index} cannot be decoded: {problem}")

    def encoded(self) -> Iterator[Any]:
        """Yield arrays of the images' bytes, in order."""
        for batch in self.rows.with_format("arrow").iter(batch_size=BATCH):
            for chunk in batch.column(self.column).chunks:
                found = chunk.field("bytes")
                if found.null_count:
                    raise ltbench.UsageError(
                        f"{self.where}: {found.null_count} images are missing, or are paths to files elsewhere"
                    )
                yield found


def _is_saved(place: Path) -> bool:
    """Whether the ``datasets`` library saved something there: splits, or a single one."""
    return any((place / name).is_file() for name in (SAVED, SINGLE))


def _opened(where: str, place: Path) -> Splits:
    """Open saved splits, or raise UsageError."""
    if not (place / SAVED).is_file():
        raise ltbench.UsageError(f"{where}: {place} holds a single split: save a DatasetDict with train and test")
    with _told(where):
        splits: Splits = _library(where).load_from_disk(str(place))
    return splits


def _parts(where: str, splits: Splits, label: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the splits that are parts, and what to tell about them; raise UsageError without training and test part."""
    named = [(SPLITS[name], name) for name in splits if name in SPLITS]
    parts, notes = {part: splits[name] for part, name in named}, []
    if len(parts) < len(named):
        raise ltbench.UsageError(f"{where}: two of its splits name one part: {', '.join(splits)}")
    if len(named) < len(splits):
        notes.append(f"left alone: {', '.join(name for name in splits if name not in SPLITS)}")
    withheld = "test" in parts and _withheld(where, parts["test"], label)
    if withheld and "validation" in parts:
        del parts["test"]
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
        why = "the test labels are withheld" if withheld else "there is no test split"
        notes.append(f"{why}: the validation images are the test images")
    if not {"train", "test"} <= parts.keys():
        raise ltbench.UsageError(
            f"{where} must have splits train and test, or train and validation, it has {', '.join(splits)}"
        )
    return {part: parts[part] for part in PARTS if part in parts}, tuple(notes)


def _withheld(where: str, split: Any, label: str) -> bool:
    """Whether a split's labels are all −1, or missing: the way in which the hub withholds them."""
    found = _arrow(where, split, label).to_pylist()
    return all(value is None or value == -1 for value in found)


def _values(where: str, split: Any, column: str) -> np.ndarray[Any, np.dtype[Any]]:
    """Return a column's values, none missing."""
    found = _arrow(where, split, column)
    if found.null_count:
        raise ltbench.UsageError(f"{where}: {column} is missing in {found.null_count} of {len(found)} rows")
    return np.asarray(found.to_pylist())


def _arrow(where: str, split: Any, column: str) -> Any:
    """Return a column as it is stored; no other is read."""
    _feature(where, split, column)
    return split.select_columns([column]).with_format("arrow")[:].column(column)


def _feature(where: str, split: Any, column: str) -> Any:
    """Return what a column holds, or raise UsageError that lists the columns there are."""
    if column not in split.features:
        raise ltbench.UsageError(
            f"{where} has no column {column!r}; it has {', '.join(split.features)}: name it by image= or label="
        )
    return split.features[column]


def _content(images: Mapping[str, Images], codes: Tensor, mode: str) -> Content:
    """Return what the images hold; in quick mode their sizes stand for it, and copies are not looked for."""
    if mode == "quick":
        sizes = [len(value.as_buffer()) for part in images.values() for found in part.encoded() for value in found]
        return Content(hashlib.sha256(str(sizes).encode()).hexdigest())
    files = [Path(each["filename"]) for part in images.values() for each in part.rows.cache_files]
    salt = " ".join([*(part.column for part in images.values()), str(len(codes))])
    return remembered(files, salt, lambda: content_of([digest for part in images.values() for digest in _digests(part)], codes))


def _digests(images: Images) -> Iterator[bytes]:
    """Yield a hash of each image's bytes; raise UsageError that tells all that are no images."""
    bad, count = [], 0
    for found in images.encoded():
        for value in found:
            content = value.as_buffer()
            try:
                read_header(io.BytesIO(content))
            except Exception as error:  # whatever Pillow's parsers raise on broken bytes
                bad.append(f"row {count} ({problem_of(error)})")
            count += 1
            yield hashlib.blake2b(content, digest_size=16).digest()
    if bad:
        raise ltbench.UsageError(f"{images.where}: {len(bad)} of {count} are no readable images: {', '.join(bad[:3])}")


def _library(where: str) -> Any:
    """Import the ``datasets`` library, or raise UsageError that says how to get it."""
    try:
        import datasets
    except ImportError:
        raise ltbench.UsageError(f"{where} needs the datasets library: pip install 'ltbench-datasets[hf]'") from None
    return datasets


@contextlib.contextmanager
def _told(where: str) -> Iterator[None]:
    """Turn whatever the library raises into UsageError."""
    try:
        yield
    except (ltbench.LtbenchError, MemoryError):
        raise
    except Exception as error:
        cause = " ".join(str(error).split())
        raise ltbench.UsageError(f"{where} cannot be loaded: {type(error).__name__}: {cause[:500]}") from error
