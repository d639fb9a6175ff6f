"""What a set of features says of itself: where it comes from, its files with their hashes. Knows no torch and no store."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Le

from ltbench.errors import LtbenchError
from ltbench.keys import canonical_json, digest

FORMAT = 1
"""Raised when older files cannot be read any more."""

SHARD = 2048
"""Images to a shard: what a killed extraction loses at most, and what a damaged set extracts again."""

HASH_DIGITS = 16
"""How much of its hash a file's name holds."""


class DamagedError(LtbenchError):
    """A file of a set is not what its manifest says; the message names it."""


@dataclass(frozen=True)
class Origin:
    """Where a set comes from: names for people, and everything that can change a bit of it.

    ``parts`` are those of the feature key (content, weights, preprocessing, precision), ``numerics`` the numerics class
    they were computed in, ``flops_per_image`` the analytic cost, for whoever has the features and not the weights.
    """

    dataset: str
    backbone: str
    parts: Mapping[str, Any]
    numerics: Mapping[str, str]
    flops_per_image: int = 0

    @property
    def key(self) -> str:
        """The name of the set: features never depend on which machine was there first."""
        return digest([digest(self.parts), dict(self.numerics)])


PARTS = ("train", "test", "validation", "text")
Count = Annotated[int, Ge(0), Le(2**48)]
_STEM = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class PartFile:
    """The file of one part, rows ``[rows, width]`` float32, and the SHA-256 of the file and of each shard's own.

    A file is named after the beginning of its hash: two processes can never write different bytes under one name.
    """

    file: str
    rows: Count
    width: Annotated[int, Ge(1), Le(2**31)]
    size: Count
    sha256: str
    shards: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse names that lead out of the folder, and hashes that are none."""
        stem = self.file.removesuffix(f"-{self.sha256[:HASH_DIGITS]}.safetensors")
        if stem == self.file or not _STEM.fullmatch(stem) or not all(map(_HASH.fullmatch, (self.sha256, *self.shards))):
            raise ValueError(f"{self.file!r} is not the name of a file of features")
        if len(self.shards) != -(-self.rows // SHARD):
            raise ValueError(f"{self.rows} rows have {-(-self.rows // SHARD)} shards, not {len(self.shards)}")


@dataclass(frozen=True)
class Manifest:
    """A complete set. ``batch`` images were encoded together; ``created`` is a date and time in ISO 8601, UTC."""

    key: str
    origin: Origin
    batch: Count
    created: str
    parts: Mapping[str, PartFile]

    @property
    def rows(self) -> int:
        """Images of all parts."""
        return sum(part.rows for name, part in self.parts.items() if name != "text")

    @property
    def width(self) -> int:
        """Numbers to a row."""
        return self.parts["train"].width

    @property
    def size(self) -> int:
        """Bytes of all parts' files."""
        return sum(part.size for part in self.parts.values())

    def write(self) -> bytes:
        """Return the manifest as JSON, with a hash of itself in it."""
        said = {"format": FORMAT, **dataclasses.asdict(self)}
        sealed = {**said, "sha256": hashlib.sha256(canonical_json(said).encode()).hexdigest()}
        return (json.dumps(sealed, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def read_manifest(content: bytes) -> Manifest:
    """Return a manifest, or raise DamagedError for anything but the bytes that ``write`` made."""
    import pydantic

    try:
        version = json.loads(content)["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedError("it is no manifest of features") from error
    if version != FORMAT:
        raise DamagedError(f"its format is {version!r}, and this ltbench reads {FORMAT}")
    try:
        made = pydantic.TypeAdapter(Manifest).validate_json(content, strict=True)
        whole = made.write() == content
    except (ValueError, RecursionError) as error:
        raise DamagedError("it is no manifest of features") from error
    if not whole:
        raise DamagedError("its hash is not that of its content")
    if "train" not in made.parts or not set(made.parts) <= set(PARTS):
        raise DamagedError(f"its parts must be of {', '.join(PARTS)}, with train among them")
    if made.key != made.origin.key:
        raise DamagedError("its key is not that of what it says it was made from")
    return made
