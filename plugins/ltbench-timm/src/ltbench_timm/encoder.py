"""A frozen model as ltbench's encoder: preprocessing, precision, identity and cost. Knows no model library."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import ltbench
from ltbench_timm.weights import weights_hash

Dtype = Literal["float32", "bfloat16", "float16"]

ENCODER_VERSION = 1
"""Raised when a change here can change a feature: plugins that build on this one have keys of their own code only."""


@dataclass(frozen=True)
class Precision:
    """How a model computes: number format, memory layout of images, and whether torch compiles it."""

    dtype: Dtype = "float32"
    channels_last: bool = False
    compile: bool = False

    @property
    def torch_dtype(self) -> torch.dtype:
        """The number format as torch names it."""
        found: torch.dtype = getattr(torch, self.dtype)
        return found

    @property
    def memory_format(self) -> torch.memory_format:
        """The memory layout as torch names it."""
        return torch.channels_last if self.channels_last else torch.contiguous_format


@dataclass(frozen=True)
class Preprocess:
    """Turns one uint8 image ``[H, W, 1 or 3]`` into what a model takes; may be called by many threads at once.

    ``transform`` takes a PIL image of ``channels`` channels; ``told`` is what there is to say about it, for keys.
    """

    transform: Callable[[Any], Tensor]
    channels: int
    told: str

    def __call__(self, image: Tensor) -> Tensor:
        """Return the model's input ``[channels, height, width]``, float32; raise UsageError for what is no image."""
        from PIL import Image

        if image.ndim != 3 or image.dtype != torch.uint8 or image.shape[2] not in (1, 3):
            raise ltbench.UsageError(
                f"this backbone takes uint8 images [H, W, 1 or 3], not {image.dtype} {list(image.shape)}: "
                "a dataset of ready-made features goes with backbone 'identity'"
            )
        picture = Image.fromarray(image.squeeze(2).cpu().numpy())
        mode = "L" if self.channels == 1 else "RGB"
        return self.transform(picture if picture.mode == mode else picture.convert(mode))  # to its own would be a copy


@dataclass(frozen=True)
class Recipe:
    """All that makes a feature what it is, but the image and the device it is computed on.

    ``told`` is what else can change a feature: architecture, pooling, prompts.
    """

    model: nn.Module
    preprocess: Preprocess
    precision: Precision
    told: Mapping[str, Any]

    def fingerprint(self) -> str:
        """Return the SHA-256 over weights, preprocessing, precision and what is told, in hexadecimal."""
        parts = {
            **self.told,
            "weights": weights_hash(self.model),
            "preprocess": self.preprocess.told,
            **vars(self.precision),
            "encoder": ENCODER_VERSION,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


class FrozenEncoder:
    """A frozen model with its preprocessing; features leave in float32, whatever the model computes in."""

    def __init__(self, recipe: Recipe, device: str) -> None:
        """Name the model, move it to its device, and count what an image costs."""
        self.fingerprint, self.preprocess, self.device = recipe.fingerprint(), recipe.preprocess, torch.device(device)
        self._precision = recipe.precision
        self._model = recipe.model.eval().requires_grad_(requires_grad=False).to(self.device, recipe.precision.torch_dtype)
        self._model = self._model.to(memory_format=recipe.precision.memory_format)
        blank = self.preprocess(torch.zeros(32, 32, 3, dtype=torch.uint8))
        self.flops_per_image = count_flops(self, blank.unsqueeze(0).to(self.device))
        if recipe.precision.compile:
            self._model.compile()

    def __call__(self, batch: Tensor) -> Tensor:
        """Encode preprocessed images ``[B, channels, height, width]`` to features ``[B, D]``, float32."""
        with torch.no_grad():
            images = batch.to(self._precision.torch_dtype, memory_format=self._precision.memory_format)
            features: Tensor = self._model(images).float()
        return features


def count_flops(model: Callable[[Tensor], Tensor], image: Tensor) -> int:
    """Return the analytic cost of one image ``[1, channels, height, width]``: 2 for each multiply-add.

    Matrix products and convolutions are counted, attention as the two products it stands for; operators that
    torch.utils.flop_counter does not know (norms, activations, pooling) count as 0.
    """
    with torch.no_grad(), plain_attention(), FlopCounterMode(display=False) as counter:
        model(image)
    return int(counter.get_total_flops())


@contextlib.contextmanager
def plain_attention() -> Iterator[None]:
    """Let attention run as matrix products, which can be counted alike on every device; undone afterwards."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
