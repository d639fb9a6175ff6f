"""Images that are there more than once, byte for byte: between parts, within one, and under two labels. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ltbench_datasets.folder_scan import SHOWN


@dataclass(frozen=True)
class Sample:
    """One image: its file's name below the folder, class, bytes, and their SHA-256 if they were read."""

    name: str
    label: int
    size: int
    sha256: str = ""


Pair = tuple[Sample, Sample]


def overlaps(parts: Mapping[str, Sequence[Sample]]) -> list[Pair]:
    """Return each image of a later part that an earlier part holds as well, with that one's first copy."""
    seen: dict[str, Sample] = {}
    found: list[Pair] = []
    for samples in parts.values():
        found += [(sample, seen[sample.sha256]) for sample in samples if sample.sha256 in seen]
        for sample in samples:
            seen.setdefault(sample.sha256, sample)
    return found


def copies(samples: Sequence[Sample]) -> list[Pair]:
    """Return each image of a part that is there before, with its first copy."""
    first: dict[str, Sample] = {}
    for sample in samples:
        first.setdefault(sample.sha256, sample)
    return [(sample, first[sample.sha256]) for sample in samples if sample is not first[sample.sha256]]


def copy_notes(parts: Mapping[str, Sequence[Sample]]) -> Iterator[str]:
    """Say which parts hold images more than once, and where copies have different labels."""
    for part, samples in parts.items():
        pairs = copies(samples)
        if pairs:
            yield f"{len(pairs):,} images of {part} are copies of others there: {shown(pairs)}"
        if torn := [(a, b) for a, b in pairs if a.label != b.label]:
            yield f"{len(torn):,} images of {part} are copies of images of another class: {shown(torn)}"


def shown(pairs: Sequence[Pair]) -> str:
    """Return the first few pairs as text."""
    more = f" and {len(pairs) - SHOWN:,} more" if len(pairs) > SHOWN else ""
    return ", ".join(f"{a.name!r} = {b.name!r}" for a, b in pairs[:SHOWN]) + more
