"""The components: any model of timm by name, and models whose weights lie in a package."""

from __future__ import annotations

import contextlib
import importlib.resources
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import timm.data
import torch
from annotated_types import Ge
from torch import nn

import ltbench
from ltbench_timm import hub, models
from ltbench_timm.encoder import Dtype, FrozenEncoder, Precision, Preprocess, Recipe
from ltbench_timm.pooling import Pool, PooledFeatures
from ltbench_timm.tensors import in_one_buffer
from ltbench_timm.weights import read_weights

_DATA: Any = timm.data  # has no types


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How features are read from a model, whatever its weights are.

    ``pool`` is by default the model's own: ``avg`` and ``max`` of the last map or of the patch tokens, ``token`` the
    class token, ``token+avg`` both beside each other. ``layer`` counts from 0, or from the end below 0. ``compile``
    lets torch compile the model.
    """

    pool: Pool | None = None
    layer: int | None = None
    dtype: Dtype = "float32"
    channels_last: bool = False
    compile: bool = False

    def _encoder(self, built: models.Built, device: str) -> FrozenEncoder:
        """Return the encoder of a model; raise UsageError where it cannot be read so."""
        features = PooledFeatures(built.model, self.pool, self.layer)
        precision = Precision(self.dtype, self.channels_last, self.compile)
        told = {**built.told, "pool": self.pool, "layer": self.layer}
        with self._readable():
            return FrozenEncoder(Recipe(features, preprocessing(built.model), precision, told), device)

    def _dimension(self, model: nn.Module) -> int:
        """Return the length of a feature vector from shapes alone, of a model on the meta device; raises as ``_encoder``."""
        features = PooledFeatures(model, self.pool, self.layer).eval()
        with torch.no_grad(), self._readable():
            return int(features(torch.zeros(1, *input_size(model), device="meta")).shape[1])

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        """Raise UsageError where timm says, by an assertion, that there is no such layer, or that images do not fit."""
        try:
            yield
        except AssertionError as error:
            what = "the model" if self.layer is None else f"layer={self.layer}"
            raise ltbench.UsageError(f"{what} cannot be read: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Timm(Reading):
    """A model by timm's own name with or without a tag, ``resnet50.a1_in1k``, or by hub id, ``hf-hub:user/model@revision``.

    ``checkpoint`` is a file with weights for the architecture: safetensors, or PyTorch's format with tensors only.
    ``pretrained=false`` draws random weights, the same on every machine. ``image_size`` is the side of the images that
    the model takes, where it is not to be that of its own preprocessing: timm runs DINOv2 at 518, the field at 224.
    """

    name: str
    pretrained: bool = True
    checkpoint: Path | None = None
    image_size: Annotated[int, Ge(8)] | None = None

    def __post_init__(self) -> None:
        """Check the name and whether there are weights, before anything is fetched."""
        models.check_name(self.name, weights_wanted=self.pretrained and self.checkpoint is None)
        if self.checkpoint is None:
            return
        if not self.pretrained or self.name.startswith(models.HUB):
            raise ltbench.UsageError("checkpoint goes with an architecture's name, not with a hub id or pretrained=false")
        if not self.checkpoint.is_file():
            raise ltbench.UsageError(f"checkpoint {self.checkpoint} must be a file, and there is none")

    def load(self, device: str) -> FrozenEncoder:
        """Build the model, fetch its weights if need be, and put it on the device."""
        return self._encoder(self._built(), device)

    def fingerprint(self) -> str | None:
        """Name the weights by their files' hashes; None for models that timm fetches by itself, and random weights."""
        if self.checkpoint is not None:
            return hub.content_hash(self.checkpoint)
        files = models.files(self.name) if self.pretrained else None
        return None if files is None else " ".join(map(hub.content_hash, files))

    def feature_dimension(self) -> int | None:
        """Return the length of a feature vector without any weights; None for a hub model that was not fetched yet."""
        found = models.skeleton(self.name, self.image_size)
        return None if found is None else self._dimension(found)

    def _built(self) -> models.Built:
        """Return the model with the weights that are asked for."""
        if self.checkpoint is not None:
            return models.from_checkpoint(self.name, self.checkpoint, self.image_size)
        build = models.pretrained if self.pretrained else models.with_random_weights
        return build(self.name, self.image_size)


@dataclass(frozen=True, kw_only=True)
class Packaged(Reading):
    """A model whose folder in the hub's format, ``config.json`` and ``model.safetensors``, is part of a Python package.

    ``timm.models.save_for_hf`` writes such a folder: architecture, arguments, preprocessing and weights. Weights in half
    precision are computed with in the precision that is asked for.
    """

    package: str
    folder: str

    def load(self, device: str) -> FrozenEncoder:
        """Build the model from the package and put it on the device."""
        weights = read_weights(self._place / models.WEIGHTS[0])
        return self._encoder(models.from_folder(self._place, weights, f"{self.package}/{self.folder}"), device)

    def fingerprint(self) -> str:
        """Name the model by its files' hashes."""
        return " ".join(hub.content_hash(self._place / name) for name in (models.CONFIG, models.WEIGHTS[0]))

    def feature_dimension(self) -> int:
        """Return the length of a feature vector; no weights are read."""
        with torch.device("meta"):
            return self._dimension(models.from_folder(self._place, None, f"{self.package}/{self.folder}").model)

    @property
    def _place(self) -> Path:
        """The folder."""
        return Path(str(importlib.resources.files(self.package).joinpath(self.folder)))


def preprocessing(model: nn.Module) -> Preprocess:
    """Return a model's own evaluation preprocessing; raise UsageError where its data configuration gives none."""
    try:
        config = _DATA.resolve_model_data_config(model)
        transform = in_one_buffer(_DATA.create_transform(**config, is_training=False))
        return Preprocess(transform, config["input_size"][0], _text(config))
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ltbench.UsageError(f"pretrained_cfg of the model, in its config.json, tells no preprocessing: {cause}") from error


def input_size(model: nn.Module) -> tuple[int, int, int]:
    """Return the channels, height and width that a model's preprocessing makes."""
    channels, height, width = _DATA.resolve_model_data_config(model)["input_size"]
    return channels, height, width


def _text(config: Mapping[str, Any]) -> str:
    """Write a data configuration in one form."""
    return "; ".join(f"{key}={value}" for key, value in sorted(config.items()))
