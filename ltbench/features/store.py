"""Features on disk, by content key: extracted once, mapped into memory ever after, checked before they are believed."""

from __future__ import annotations

import contextlib
import datetime as dt
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ltbench.errors import LtbenchError
from ltbench.features.extraction import EXTRACTOR_VERSION, Extraction, Features, split
from ltbench.features.folder import SetFolder, header, named_after_hash, sets, write_read_only
from ltbench.features.manifest import SHARD, DamagedError, Manifest, Origin, PartFile
from ltbench.features.shards import Piece, Shards, gather, mapped, numbers
from ltbench.keys import canonical_json
from ltbench.types import Dataset


@dataclass(frozen=True)
class FeatureStore:
    """A cache folder; sets of features lie in ``features`` below it. Several processes and machines may use it at once."""

    folder: Path

    def set(self, key: str) -> SetFolder:
        """Return the folder of a set."""
        return SetFolder(self.folder / "features" / key)

    def find(self, key: str) -> Features | None:
        """Return a complete set, or None; needs no backbone. What is damaged or unreadable is told in a warning.

        Rows are mapped, not read: what is never looked at costs no memory, and processes share what is.
        """
        place = self.set(key)
        try:
            manifest = place.manifest()
        except DamagedError as error:
            warnings.warn(f"cached features are damaged, extracting again: {error}", stacklevel=3)
            return None
        except OSError as error:
            warnings.warn(f"cached features cannot be read, extracting again: {error}", stacklevel=3)
            return None
        return None if manifest is None else _opened(place, manifest)

    def made_from(self, dataset: Dataset, backbone: Mapping[str, Any]) -> list[Manifest]:
        """Return the complete sets of a dataset and a backbone's identity, the newest first, whatever its weights were.

        For heads on features whose weights are out of reach: if there are several, the weights have changed since, or
        the machine; ``Manifest.origin`` says which is which.
        """
        found = []
        for place in sets(self.folder):
            try:
                manifest = place.manifest()
            except (DamagedError, OSError):
                continue
            if manifest is not None and _matches(manifest.origin.parts, dataset, backbone):
                found.append(manifest)
        return sorted(found, key=lambda each: each.created, reverse=True)

    def imported(self, parts: Mapping[str, Any]) -> Manifest | None:
        """Return the newest complete set that was imported and was made from these parts, on whatever machine; or None."""
        found = []
        for place in sets(self.folder):
            with contextlib.suppress(DamagedError, OSError):
                manifest = place.manifest() if place.is_imported() else None
                if manifest is not None and canonical_json(manifest.origin.parts) == canonical_json(parts):
                    found.append(manifest)
        return max(found, key=lambda each: each.created, default=None)

    def extracted(self, extraction: Extraction, origin: Origin) -> Features:
        """Return the features of an origin: from disk if they are there and whole, otherwise extracted and stored.

        Every shard is kept as soon as it is done, and processes that want the same set share its shards between them.
        A store that cannot be written (read-only, full) costs the cache, not the run.
        """
        place = self.set(origin.key)
        shards = Shards(place.path / f"unfinished-{extraction.batch}")
        while (stored := self.find(origin.key)) is None:
            gather(shards, extraction, place.is_complete)
            with shards.finishing():
                if not place.is_complete():
                    return self._finished(shards, extraction, origin)
            shards.remove()
        return stored

    def _finished(self, shards: Shards, extraction: Extraction, origin: Origin) -> Features:
        """Put the shards of all parts together, in files of one part each."""
        encoded = shards.pieces(extraction)
        widths = {piece.rows.shape[1] for piece in encoded.values()}
        if len(widths) != 1:
            raise LtbenchError(f"the backbone must give rows of one width, it gave {sorted(widths)}")
        parts = {name: [encoded[shard] for shard in extraction.shards(name)] for name in extraction.parts}
        text = extraction.text(widths.pop())
        if text is not None:
            parts["text"] = [Piece.of(text[rows.start : rows.stop]) for rows in split(range(len(text)), SHARD)]
        features = self._committed(origin, parts, extraction.batch)
        if self.set(origin.key).is_complete():
            shards.remove()
        return features

    def _committed(self, origin: Origin, parts: Mapping[str, list[Piece]], batch: int) -> Features:
        """Store the shards of each part, and return them as they are found there; in memory if they cannot be stored."""
        place = self.set(origin.key)
        try:
            files = {name: _written(place.path, name, pieces) for name, pieces in parts.items()}
            created = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
            place.commit(Manifest(origin.key, origin, batch, created, files))
        except LtbenchError as error:
            warnings.warn(f"features are not cached: {error}", stacklevel=4)
        else:
            stored = self.find(origin.key)
            if stored is not None:
                return stored
        return Features.of(origin.key, {name: torch.cat([piece.rows for piece in pieces]) for name, pieces in parts.items()})


def _opened(place: SetFolder, manifest: Manifest) -> Features | None:
    """Map the files of a complete set; a damaged one is taken apart, so that only what is damaged is extracted again."""
    try:
        place.check(manifest)
        parts = {name: mapped(place.path / part.file, part.rows) for name, part in manifest.parts.items()}
    except OSError as error:
        warnings.warn(f"cached features cannot be read, extracting again: {error}", stacklevel=4)
        return None
    except DamagedError as error:
        warnings.warn(f"cached features are damaged, extracting again: {error}", stacklevel=4)
        place.salvage(manifest)
        return None
    place.used()
    return Features.of(manifest.key, parts)


def _written(folder: Path, name: str, pieces: list[Piece]) -> PartFile:
    """Write the shards of a part to one file, beside their hashes."""
    rows, width = sum(len(piece.rows) for piece in pieces), pieces[0].rows.shape[1]
    content: list[bytes | memoryview] = [header(rows, width), *(numbers(piece.rows) for piece in pieces)]
    file, size, sha256 = write_read_only(folder, named_after_hash(name), content)
    return PartFile(file, rows, width, size, sha256, tuple(piece.sha256 for piece in pieces))


def _matches(parts: Mapping[str, Any], dataset: Dataset, backbone: Mapping[str, Any]) -> bool:
    """Return whether parts of a feature key are those of a dataset and a backbone's identity."""
    names = parts.get("class_names")
    same = canonical_json(parts.get("backbone")) == canonical_json(backbone)
    of_dataset = parts.get("dataset") == dataset.fingerprint and names in (None, list(dataset.class_names))
    return same and of_dataset and parts.get("extractor") == EXTRACTOR_VERSION
