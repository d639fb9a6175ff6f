"""The backbone ``embedded``: a small network of timm whose learned weights lie in this package; its card is beside them."""

from __future__ import annotations

import hashlib
import importlib.resources
from dataclasses import dataclass
from pathlib import Path

import torch

import ltbench
from ltbench_timm import models
from ltbench_timm.backbone import Reading
from ltbench_timm.encoder import FrozenEncoder
from ltbench_timm.weights import read_weights

NAME = "embedded"
FOLDER = "embedded_weights"
SHA256 = "ebbec7e0ccbaadc0b5f46578bd5f02caa124676ec3ff15d5d7324a05dd73f9f4"
"""The hash of the weights' file, as scripts/pretrain_embedded.py printed it."""


@dataclass(frozen=True, kw_only=True)
class Embedded(Reading):
    """A pre-activation ResNet of 0.8 million weights for 32×32 images, trained on the 300 characters of glyphs-pretrain.

    It takes the way of any model of timm, from its own preprocessing to its 192 pooled numbers, without a network: a
    foundation model in a nutshell. It never saw a class of ``glyphs``, nor a photograph.
    """

    def load(self, device: str) -> FrozenEncoder:
        """Build the model and put it on the device; raise UsageError where its weights are not those that were published."""
        path = _weights()
        return self._encoder(models.from_folder(path.parent, read_weights(path), NAME), device)

    def fingerprint(self) -> str:
        """Name the model by its files' hashes; raise UsageError as ``load`` does."""
        return f"{_sha256(_folder() / models.CONFIG)} {_sha256(_weights())}"

    def feature_dimension(self) -> int:
        """Return the length of a feature vector; no weights are read."""
        with torch.device("meta"):
            return self._dimension(models.from_folder(_folder(), None, NAME).model)


def _folder() -> Path:
    """Return where architecture, preprocessing and weights lie, in the hub's format."""
    return Path(str(importlib.resources.files(__package__).joinpath(FOLDER)))


def _weights() -> Path:
    """Return the file of the weights; raise UsageError where it is missing, or another than was published."""
    path = _folder() / models.WEIGHTS[0]
    found = _sha256(path) if path.is_file() else "no file"
    if found != SHA256:
        raise ltbench.UsageError(f"{path} must have the SHA-256 {SHA256}, not {found}: install ltbench-timm again")
    return path


def _sha256(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
