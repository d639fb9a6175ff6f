"""Features on disk, by content key: one safetensors file each, written atomically and checked when read."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ltbench.errors import LtbenchError
from ltbench.features.extract import Features
from ltbench.files import write_atomically


@dataclass(frozen=True)
class FeatureStore:
    """A folder of extracted features."""

    folder: Path

    def path(self, key: str) -> Path:
        """Return the file of a key."""
        return self.folder / "features" / f"{key}.safetensors"

    def get(self, key: str, extract: Callable[[], Features]) -> Features:
        """Return the features of a key: from disk if they are there and whole, otherwise extracted and stored.

        A store that cannot be written (read-only, full) costs the cache, not the run.
        """
        stored = self._read(key)
        if stored is not None:
            return stored
        features = extract()
        try:
            self._write(key, features)
        except LtbenchError as error:
            warnings.warn(f"features are not cached: {error}", stacklevel=2)
        return features

    def _write(self, key: str, features: Features) -> None:
        """Store features, with the SHA-256 of the tensors in front."""
        from safetensors.torch import save

        body = save({name: x.contiguous() for name, x in features.parts().items()})
        write_atomically(self.path(key), hashlib.sha256(body).digest() + body)

    def _read(self, key: str) -> Features | None:
        """Return stored features, or None if there are none or a bit is wrong."""
        from safetensors.torch import load

        try:
            content = self.path(key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            warnings.warn(f"cached features cannot be read, extracting again: {error}", stacklevel=3)
            return None
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            warnings.warn(f"cached features {self.path(key)} are damaged, extracting again", stacklevel=3)
            return None
        return Features(key, **load(content[32:]))
