"""The component: any model of open_clip as a backbone, with class-text vectors where it can give them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from torch import Tensor, nn

import ltbench
from ltbench_openclip import models
from ltbench_openclip.text import PLAIN, TemplateSet, checked, class_vectors, named_templates, read_templates
from ltbench_openclip.tokenizer import Tokenizer
from ltbench_timm import hub
from ltbench_timm.encoder import Dtype, FrozenEncoder, Precision, Preprocess, Recipe
from ltbench_timm.tensors import in_one_buffer


@dataclass(frozen=True, kw_only=True)
class OpenClip:
    """A model by ``architecture/weights`` of open_clip, or by hub id, ``hf-hub:user/model@revision``.

    ``checkpoint`` is a file with weights for the architecture alone; ``pretrained=false`` draws random weights.
    Without ``projection``, features are what the image tower pools, before the space it shares with texts, and there
    are no class-text vectors. Their prompts are one ``template``, a set of ``templates``, or a file of them.
    """

    name: str
    pretrained: bool = True
    checkpoint: Path | None = None
    projection: bool = True
    text: bool = True
    template: str | None = None
    templates: TemplateSet | None = None
    templates_file: Path | None = None
    dtype: Dtype = "float32"
    channels_last: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        """Check name, files and prompts before anything is fetched."""
        models.check_name(self.name, weights_wanted=self.pretrained and self.checkpoint is None)
        if self.checkpoint is not None and (not self.pretrained or self.name.startswith(models.HUB)):
            raise ltbench.UsageError("checkpoint goes with an architecture's name, not with a hub id or pretrained=false")
        if self.checkpoint is not None and not self.checkpoint.is_file():
            raise ltbench.UsageError(f"checkpoint {self.checkpoint} must be a file, and there is none")
        self.prompts()

    def prompts(self) -> tuple[str, ...]:
        """Return the templates of the class-text vectors; raise UsageError for more than one way to give them."""
        given = [key for key in ("template", "templates", "templates_file") if getattr(self, key) is not None]
        if len(given) > 1:
            raise ltbench.UsageError(f"prompts must be given in one way, not by {' and '.join(given)}")
        if self.templates_file is not None:
            return read_templates(self.templates_file)
        return named_templates(self.templates) if self.templates is not None else checked((self.template or PLAIN,))

    def load(self, device: str) -> FrozenEncoder:
        """Build the model, fetch its weights if need be, and put it on the device."""
        built = self._built()
        preprocess = preprocessing(built.model, self.name)
        precision = Precision(self.dtype, self.channels_last, self.compile)
        told = {**built.told, "projection": self.projection}
        if not self.projection:
            models.drop_projection(built.model)
        if not (self.projection and self.text):
            return FrozenEncoder(Recipe(ImageTower(built.model), preprocess, precision, told), device)
        tokenizer = Tokenizer.of(self.name)
        texts = Texts(tokenizer.load(), self.prompts())
        told |= {"prompts": texts.templates, "tokenizer": tokenizer.hashes()}
        return ClipEncoder(Recipe(ImageTower(built.model), preprocess, precision, told), device, texts)

    def fingerprint(self) -> str | None:
        """Name weights, prompts and tokenizer: the files' hashes, and the templates; None for random weights."""
        if not (self.pretrained or self.checkpoint):
            return None
        files = models.files(self.name) if self.checkpoint is None else (self.checkpoint,)
        tokenizer = Tokenizer.of(self.name).hashes() if self.projection and self.text else None
        return json.dumps([[hub.content_hash(file) for file in files], self.prompts(), tokenizer])

    def feature_dimension(self) -> int | None:
        """Return the length of a feature vector without any weights; None for a hub model that was not fetched yet."""
        model = models.skeleton(self.name)
        if model is None:
            return None
        if not self.projection:
            models.drop_projection(model)
        height, width = image_size(model)
        with torch.no_grad():
            return int(ImageTower(model).eval()(torch.zeros(1, 3, height, width, device="meta")).shape[1])

    def _built(self) -> models.Built:
        """Return the model with the weights that are asked for."""
        if self.checkpoint is not None:
            return models.from_checkpoint(self.name, self.checkpoint)
        return models.pretrained(self.name) if self.pretrained else models.with_random_weights(self.name)


class ImageTower(nn.Module):
    """A model of open_clip, called for its images: ``[B, 3, height, width]`` to ``[B, D]``, of any length."""

    def __init__(self, model: Any) -> None:
        """Hold the model."""
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Encode images; they are not normalised."""
        features: Tensor = self.model.encode_image(images, normalize=False)
        return features


@dataclass(frozen=True)
class Texts:
    """How class names become tokens: open_clip's tokenizer, and the templates."""

    tokenizer: Any
    templates: Sequence[str]


class ClipEncoder(FrozenEncoder):
    """An encoder whose features share their space with texts."""

    def __init__(self, recipe: Recipe, device: str, texts: Texts) -> None:
        """Make the model ready, and remember how to read class names."""
        super().__init__(recipe, device)
        self._texts = texts

    def class_text(self, dataset: ltbench.Dataset) -> Tensor:
        """Return unit vectors of a dataset's class names, float32 ``[C, D]``."""
        with torch.no_grad():
            return class_vectors(self._encoded, dataset.class_names, self._texts.templates)

    def _encoded(self, texts: list[str]) -> Tensor:
        """Encode T texts to ``[T, D]``."""
        tower: Any = self._model
        encoded: Tensor = tower.model.encode_text(self._texts.tokenizer(texts).to(self.device), normalize=False)
        return encoded


def preprocessing(model: Any, name: str) -> Preprocess:
    """Return a model's own evaluation preprocessing; raise UsageError where its configuration gives none."""
    config = model.visual.preprocess_cfg
    try:
        transform = image_transform_v2(PreprocessCfg(**config), is_train=False)
        return Preprocess(in_one_buffer(transform), 3, _text(config))
    except (AssertionError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise ltbench.UsageError(f"preprocess_cfg of {name} cannot be used: {error}; it says {config}") from error


def image_size(model: Any) -> tuple[int, int]:
    """Return the height and width of the images that a model takes."""
    size = model.visual.preprocess_cfg["size"]
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def _text(config: Any) -> str:
    """Write a preprocessing configuration in one form."""
    return json.dumps(config if isinstance(config, dict) else dataclasses.asdict(config), sort_keys=True)
