"""scikit-learn's handwritten digits: real images that need no download."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor

import ltbench


@dataclass(frozen=True, kw_only=True)
class Digits:
    """The 1,797 test digits of the UCI set, 8×8, 17 grey levels, written by 13 people.

    The last ``test_per_class`` images of each class, in file order, are the test part; the file goes from writer to
    writer, so they come from the last writers. E. Alpaydin and C. Kaynak, 1998, doi:10.24432/C50P49.
    """

    test_per_class: Annotated[int, Ge(1), Le(150)] = 50

    def load(self, folder: Path) -> ltbench.Dataset:
        """Return the images as uint8 ``[8, 8, 1]``, 0 to 255; ``folder`` is not needed."""
        from sklearn.datasets import load_digits

        raw = load_digits()
        labels = torch.from_numpy(raw.target).long()
        images = (torch.from_numpy(raw.images) * (255 / 16)).round().to(torch.uint8)[..., None]
        test = torch.zeros(len(labels), dtype=torch.bool)
        for c in range(10):
            test[(labels == c).nonzero().flatten()[-self.test_per_class :]] = True
        content = hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes() + test.numpy().tobytes())
        return ltbench.Dataset(
            train=_part(images, labels, ~test),
            test=_part(images, labels, test),
            class_names=tuple(str(c) for c in range(10)),
            fingerprint=content.hexdigest(),
        )


def _part(images: Tensor, labels: Tensor, chosen: Tensor) -> ltbench.Part:
    """Return the chosen images and labels."""
    kept: Sequence[Tensor] = list(images[chosen])
    return ltbench.Part(labels[chosen], kept)
