"""A dataset: labelled training images, of which ltbench takes long-tailed subsets, and balanced test images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor

import ltbench


@dataclass(frozen=True, kw_only=True)
class Example:
    """Noisy images, 8×8, that are a little more red, green or blue; a stand-in for files of yours."""

    # Fields are hyper-parameters: users write name[per_class=500]. Types and bounds are checked before anything runs.
    per_class: Annotated[int, Ge(20)] = 200

    def load(self, folder: Path) -> ltbench.Dataset:
        """Read labels below ``folder``, but no image; raise ltbench.UsageError for missing data, and say how to get them."""
        train, test = torch.arange(3 * self.per_class) % 3, torch.arange(3 * 50) % 3
        return ltbench.Dataset(
            train=ltbench.Part(train, Images(train, "train")),
            test=ltbench.Part(test, Images(test, "test")),
            class_names=("red", "green", "blue"),
            # A hash of the content: order, pixels and label of every image. Of files, hash the bytes.
            fingerprint=hashlib.sha256(f"noisy colours, version 1, {self.per_class}".encode()).hexdigest(),
        )


@dataclass(frozen=True)
class Images(Sequence[Tensor]):
    """The images of a part; each is made, or read from its file, when it is asked for."""

    labels: Tensor
    part: str

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.labels)

    def __getitem__(self, index: Any) -> Any:
        """Return image ``index`` as uint8 ``[H, W, channels]``."""
        noise = ltbench.Stream.of(0, self.part).integers(torch.tensor([index]), 8 * 8 * 3, 200).reshape(8, 8, 3)
        return (noise + 50 * (torch.arange(3) == self.labels[index])).to(torch.uint8)
