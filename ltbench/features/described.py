"""What an encoder says of itself, remembered under what names its weights: features are found without loading a backbone."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ltbench.contract import Encoder
from ltbench.errors import LtbenchError
from ltbench.files import write_atomically
from ltbench.keys import digest


@dataclass(frozen=True)
class Described:
    """An encoder's fingerprint and cost, and whether it reads class names."""

    fingerprint: str
    flops_per_image: int
    reads_names: bool

    @staticmethod
    def of(encoder: Encoder) -> Described:
        """Describe a loaded encoder."""
        return Described(encoder.fingerprint, encoder.flops_per_image, hasattr(encoder, "class_text"))


@dataclass(frozen=True)
class Note:
    """Where a description is kept: in a cache folder, under a backbone's identity and the text that names its weights."""

    cache: Path
    identity: Mapping[str, Any]
    weights: str

    @property
    def path(self) -> Path:
        """The file."""
        return self.cache / "backbones" / f"{digest([self.identity, self.weights])}.json"

    def read(self) -> Described | None:
        """Return what is remembered; None where nothing is, or not as it was written."""
        try:
            said = json.loads(self.path.read_bytes())
            described = Described(**said["described"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return described if said.get("digest") == digest(asdict(described)) else None

    def write(self, described: Described) -> None:
        """Remember; a cache that cannot be written costs loading the backbone next time."""
        said = {"described": asdict(described), "digest": digest(asdict(described))}
        with contextlib.suppress(LtbenchError):
            write_atomically(self.path, json.dumps(said).encode())

    def forget(self) -> None:
        """Let go of what is remembered."""
        with contextlib.suppress(OSError):
            self.path.unlink()
