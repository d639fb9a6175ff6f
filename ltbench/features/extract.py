"""Images to feature rows, batch by batch. Knows no file and no long tail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ltbench.contract import Encoder
from ltbench.errors import LtbenchError
from ltbench.keys import digest
from ltbench.types import Dataset, Part

EXTRACTOR_VERSION = 1
BATCH = 256


@dataclass(frozen=True)
class Features:
    """A dataset seen through a backbone: float32 rows ``[N, D]`` of each part, in the dataset's order.

    ``text [C, D]`` are class-text vectors, where backbone or dataset has them.
    """

    key: str
    train: Tensor
    test: Tensor
    validation: Tensor | None = None
    text: Tensor | None = None

    def parts(self) -> dict[str, Tensor]:
        """Return the parts there are, by name."""
        named = {"train": self.train, "test": self.test, "validation": self.validation, "text": self.text}
        return {name: x for name, x in named.items() if x is not None}


def feature_key(dataset: Dataset, encoder: Encoder, backbone: Mapping[str, Any] | None = None) -> str:
    """Return the key of a dataset's features: content, weights, preprocessing, precision, extractor, backbone's identity."""
    return digest(
        {
            "dataset": dataset.fingerprint,
            "class_names": list(dataset.class_names) if hasattr(encoder, "class_text") else None,
            "encoder": encoder.fingerprint,
            "backbone": backbone,
            "dtype": "float32",
            "extractor": EXTRACTOR_VERSION,
        }
    )


def extract(dataset: Dataset, encoder: Encoder, device: str) -> Features:
    """Encode every part of a dataset; raise LtbenchError for features that are not finite rows of one length."""
    parts = {"train": dataset.train, "test": dataset.test, "validation": dataset.validation}
    encoded = {name: _encode(part, encoder, device, name) for name, part in parts.items() if part is not None}
    widths = {name: x.shape[1] for name, x in encoded.items()}
    if len(set(widths.values())) != 1:
        raise LtbenchError(f"the backbone must give every part rows of one width, it gave {widths}")
    return Features(feature_key(dataset, encoder), **encoded, text=_class_text(dataset, encoder, next(iter(widths.values()))))


def _class_text(dataset: Dataset, encoder: Encoder, width: int) -> Tensor | None:
    """Return class-text vectors ``[C, D]`` float32 on the CPU, or None where there are none."""
    give = getattr(encoder, "class_text", None)
    text: Tensor | None = None if give is None else give(dataset)
    if text is None:
        return None
    wanted = [len(dataset.class_names), width]
    if list(text.shape) != wanted or not bool(text.isfinite().all()):
        raise LtbenchError(f"the backbone must give finite class-text vectors {wanted}, it gave {list(text.shape)}")
    return text.detach().float().cpu()


def _encode(part: Part, encoder: Encoder, device: str, name: str) -> Tensor:
    """Encode one part to ``[N, D]`` on the CPU."""
    with torch.no_grad():
        rows = [encoder(batch.to(device)).float().cpu() for batch in _batches(part, encoder)]
    widths = {tuple(row.shape[1:]) for row in rows}
    if len(widths) != 1:
        raise LtbenchError(f"the backbone must give rows of one width, it gave {sorted(widths)} for the {name} part")
    x = torch.cat(rows)
    if x.ndim != 2 or len(x) != len(part.labels) or x.shape[1] == 0:
        raise LtbenchError(
            f"the backbone must give [{len(part.labels)}, D] features for the {name} part, it gave {list(x.shape)}"
        )
    bad = int((~x.isfinite()).any(dim=1).sum())
    if bad:
        raise LtbenchError(f"the backbone gave NaN or infinite features for {bad} of {len(x)} images of the {name} part")
    return x


def _batches(part: Part, encoder: Encoder) -> Iterator[Tensor]:
    """Decode and preprocess images, a batch at a time."""
    for start in range(0, len(part.labels), BATCH):
        stop = min(start + BATCH, len(part.labels))
        yield torch.stack([encoder.preprocess(_decoded(part, i)) for i in range(start, stop)])


def _decoded(part: Part, i: int) -> Tensor:
    """Return one image, or raise LtbenchError that blames the dataset."""
    try:
        return part.images[i]
    except Exception as error:
        raise LtbenchError(f"image {i} of the dataset cannot be decoded: {type(error).__name__}: {error}") from error
