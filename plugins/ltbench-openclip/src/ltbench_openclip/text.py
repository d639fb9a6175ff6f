"""Class names to unit vectors by way of prompt templates: normalised, averaged, normalised again (Radford et al., 2021)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import open_clip
import torch
from torch import Tensor
from torch.nn.functional import normalize

import ltbench

TemplateSet = Literal["imagenet", "simple", "cifar"]
PLAIN = "a photo of a {}."
TEXTS_AT_ONCE = 256

# The 18 prompts of CLIP's authors for CIFAR-10 and CIFAR-100 (arXiv 2103.00020, data/prompts.md): each of these with
# "a" and with "the".
_CIFAR = (
    "a photo of {0} {1}.",
    "a blurry photo of {0} {1}.",
    "a black and white photo of {0} {1}.",
    "a low contrast photo of {0} {1}.",
    "a high contrast photo of {0} {1}.",
    "a bad photo of {0} {1}.",
    "a good photo of {0} {1}.",
    "a photo of {0} small {1}.",
    "a photo of {0} big {1}.",
)


def named_templates(name: TemplateSet) -> tuple[str, ...]:
    """Return a set of templates: open_clip's 80 for ImageNet, its 7 simple ones, or the 18 for CIFAR."""
    if name == "cifar":
        return tuple(each.format(article, "{}") for article in ("a", "the") for each in _CIFAR)
    library = open_clip.OPENAI_IMAGENET_TEMPLATES if name == "imagenet" else open_clip.SIMPLE_IMAGENET_TEMPLATES
    return tuple(template("{}") for template in library)


def read_templates(path: Path) -> tuple[str, ...]:
    """Return the templates of a text file, one a line; blank lines and lines that begin with # are left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ltbench.UsageError(f"templates_file {path} must be a readable text file: {error}") from error
    found = tuple(line.strip() for line in lines if line.strip() and not line.strip().startswith("#"))
    if not found:
        raise ltbench.UsageError(f"templates_file {path} holds no template: write one a line, such as {PLAIN}")
    return checked(found)


def checked(templates: tuple[str, ...]) -> tuple[str, ...]:
    """Return templates, or raise UsageError for one that has no place for the class name."""
    for template in templates:
        if "{}" not in template:
            raise ltbench.UsageError(
                f"a template must hold {{}} in place of the class name, such as {PLAIN!r}, not {template!r}"
            )
    return templates


def class_vectors(encode: Callable[[list[str]], Tensor], names: Sequence[str], templates: Sequence[str]) -> Tensor:
    """Return unit vectors ``[C, D]`` of class names, float32; ``encode`` turns T texts into ``[T, D]``.

    Underscores in names are read as blanks.
    """
    texts = [template.replace("{}", name.replace("_", " ")) for name in names for template in templates]
    chunks = [texts[start : start + TEXTS_AT_ONCE] for start in range(0, len(texts), TEXTS_AT_ONCE)]
    vectors = torch.cat([normalize(encode(chunk).float(), dim=-1) for chunk in chunks])
    return normalize(vectors.reshape(len(names), len(templates), -1).mean(dim=1), dim=-1)
