"""Models of open_clip, built from its registry, the hub or a checkpoint; never with weights that were not asked for.

Whatever open_clip draws or logs while it builds leaves global state alone.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import logging
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

import ltbench
from ltbench_timm import hub
from ltbench_timm.weights import carries_code, randomize, untouched_random_state

HUB = "hf-hub:"
CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


@dataclass(frozen=True)
class Built:
    """A model, and what weights alone do not tell of it."""

    model: Any
    told: Mapping[str, Any]


def check_name(name: str, *, weights_wanted: bool) -> None:
    """Raise UsageError unless a name is ``architecture/weights`` of open_clip, ``architecture`` alone, or a hub id."""
    if name.startswith(HUB):
        hub.HubModel.parse(name.removeprefix(HUB))
        return
    architecture, slash, tag = name.partition("/")
    if architecture not in open_clip.list_models():
        raise ltbench.UsageError(
            f"open_clip has no architecture {architecture!r}{_close(architecture, open_clip.list_models())}"
        )
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    there = ", ".join(tags) or "none"
    if slash and not weights_wanted:
        raise ltbench.UsageError(f"name the architecture alone, {architecture}, with checkpoint= or pretrained=false")
    if weights_wanted and not slash:
        raise ltbench.UsageError(f"write {architecture}/<weights>, or pretrained=false; open_clip has these weights: {there}")
    if slash and not open_clip.is_pretrained_cfg(architecture, tag):
        raise ltbench.UsageError(f"open_clip's {architecture!r} has no weights {tag!r}{_close(tag, tags)}; it has {there}")
    if slash:
        _check_activation(architecture, tag)


def pretrained(name: str) -> Built:
    """Build a model with the weights that open_clip or the hub has for its name, fetched if they are not there yet."""
    fetched = files(name)
    if name.startswith(HUB):
        config = read_config(fetched[0], name)
        return Built(_create(f"local-dir:{fetched[0].parent}", require_pretrained=True), {"config": config})
    architecture, _, tag = name.partition("/")
    config, path = open_clip.get_pretrained_cfg(architecture, tag), fetched[-1]
    preprocessing = {key: value for key, value in config.items() if key in ("mean", "std", "interpolation", "resize_mode")}
    return _registered(architecture, pretrained=str(path), force_preprocess_cfg=preprocessing)


def files(name: str) -> tuple[Path, ...]:
    """Return the files of a model by name, its weights last, fetched if they are not there yet."""
    if name.startswith(HUB):
        source = hub.HubModel.parse(name.removeprefix(HUB))
        config_file = hub.fetch(source, [CONFIG])
        return config_file, hub.fetch(source.pinned(config_file), WEIGHTS)
    architecture, _, tag = name.partition("/")
    repo, _, file = open_clip.get_pretrained_cfg(architecture, tag)["hf_hub"].rpartition("/")
    names = (file.replace(".bin", ".safetensors"), file) if file else WEIGHTS
    return (hub.fetch(hub.HubModel.parse(repo), tuple(dict.fromkeys(names))),)


def from_checkpoint(architecture: str, path: Path) -> Built:
    """Build an architecture with the weights of a file, safetensors or PyTorch's format with tensors only."""
    return _registered(architecture, pretrained=str(path))


def with_random_weights(name: str) -> Built:
    """Build a model whose weights are drawn, the same on every machine."""
    if name.startswith(HUB):
        file = hub.fetch(hub.HubModel.parse(name.removeprefix(HUB)), [CONFIG])
        config = read_config(file, name)
        built = Built(_create(f"local-dir:{file.parent}", load_weights=False), {"config": config})
    else:
        built = _registered(name, load_weights=False)
    randomize(built.model, ltbench.Stream.of(0, "random weights"))
    return built


def skeleton(name: str) -> Any:
    """Return a model without weights, for counting; None for one of the hub whose configuration was not fetched yet."""
    source = name.partition("/")[0]
    if name.startswith(HUB):
        config = hub.cached(hub.HubModel.parse(name.removeprefix(HUB)), CONFIG)
        if config is None:
            return None
        read_config(config, name)
        source = f"local-dir:{config.parent}"
    with torch.device("meta"):
        return _create(source, load_weights=False, device="meta")


def drop_projection(model: Any) -> None:
    """Let the image tower end before its projection into the space it shares with texts; UsageError if it has none."""
    visual = model.visual
    if getattr(visual, "proj", None) is not None:  # open_clip's own transformer
        visual.proj = None
    elif hasattr(visual, "attnpool"):  # its ResNet, whose attention pooling ends in the projection
        visual.attnpool = AttentionPooled(visual.attnpool)
    elif {"proj", "mlp"} & set(dict(getattr(visual, "head", nn.Identity()).named_children())):  # a model of timm
        visual.head = nn.Sequential(*[child for name, child in visual.head.named_children() if name == "pool"])
    else:
        raise ltbench.UsageError(f"the image tower, a {type(visual).__name__}, has no projection: leave projection=false out")


class AttentionPooled(nn.Module):
    """open_clip's attention pooling but for the projection it ends in: one query, the mean, over a map and its mean."""

    def __init__(self, pool: Any) -> None:
        """Take over weights and number of heads."""
        super().__init__()
        self.query, self.key, self.value = pool.q_proj, pool.k_proj, pool.v_proj
        self.positional_embedding, self.heads = pool.positional_embedding, pool.num_heads

    def forward(self, places: Tensor) -> Tensor:
        """Pool a map ``[B, C, H, W]`` to ``[B, C]``."""
        x = places.flatten(2).transpose(1, 2)  # [B, N, C]
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1) + self.positional_embedding.to(x.dtype)
        inputs = (self.query(x[:, :1]), self.key(x), self.value(x))
        q, k, v = (y.unflatten(2, (self.heads, -1)).transpose(1, 2) for y in inputs)  # [B, heads, 1 or N, C / heads]
        return scaled_dot_product_attention(q, k, v).flatten(1)


@contextlib.contextmanager
def without_root_handler() -> Iterator[None]:
    """Keep open_clip, which logs by the root logger, from configuring logging for the whole process."""
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


def _registered(architecture: str, **arguments: Any) -> Built:
    """Build one of open_clip's architectures."""
    config = open_clip.get_model_config(architecture)
    return Built(_create(architecture, **arguments), {"config": config})


def _create(name: str, **arguments: Any) -> Any:
    """Call open_clip's factory; raise UsageError for what it cannot build, or for weights that do not fit the model."""
    try:
        with untouched_random_state(), without_root_handler():
            return open_clip.create_model(name, pretrained_text=False, **arguments)
    except pickle.UnpicklingError as error:
        raise carries_code(Path(arguments.get("pretrained") or name)) from error
    except (AssertionError, AttributeError, ImportError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        cause = " ".join(f"{error}".split())[:300]
        raise ltbench.UsageError(f"open_clip cannot build {name.rpartition('/')[2]!r}: {cause}") from error


def read_config(path: Path, name: str) -> dict[str, Any]:
    """Return what the configuration of a hub model says; raise UsageError unless it has the form of open_clip's."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ltbench.UsageError(f"{path.name} of {name} must be JSON, and cannot be read: {error}") from error
    model = _objects(config, ("model_cfg", "preprocess_cfg"), f"{path.name} of {name}").get("model_cfg")
    if model is None:
        raise ltbench.UsageError(f"{path.name} of {name} must name a model in model_cfg: it is no model of open_clip's")
    text = _objects(model, ("text_cfg", "vision_cfg"), f"model_cfg in {path.name} of {name}").get("text_cfg", {})
    _objects(text, ("tokenizer_kwargs",), f"text_cfg in {path.name} of {name}")
    if not isinstance(text.get("hf_tokenizer_name") or "", str):
        raise ltbench.UsageError(
            f"hf_tokenizer_name in {path.name} of {name} must be a text, not {text['hf_tokenizer_name']!r}"
        )
    return dict(config)


def _objects(found: Any, names: tuple[str, ...], what: str) -> Mapping[str, Any]:
    """Return a JSON object; raise UsageError where it is none, or has other things by these names."""
    if not isinstance(found, dict):
        raise ltbench.UsageError(f"{what} must be a JSON object, not {found!r:.60}")
    for name in names:
        if not isinstance(found.get(name) or {}, dict):
            raise ltbench.UsageError(f"{name} in {what} must be a JSON object, not {found[name]!r:.60}")
    return found


def _check_activation(architecture: str, tag: str) -> None:
    """Raise UsageError for weights that another architecture has, too, with the activation they were trained with.

    open_clip only warns, and the features are wrong.
    """
    trained = bool(open_clip.get_pretrained_cfg(architecture, tag).get("quick_gelu"))
    built = bool(open_clip.get_model_config(architecture).get("quick_gelu"))
    other = f"{architecture}-quickgelu" if trained else architecture.removesuffix("-quickgelu")
    if trained != built and other != architecture and open_clip.is_pretrained_cfg(other, tag):
        word = "with" if trained else "without"
        raise ltbench.UsageError(f"the weights {tag!r} were trained {word} QuickGELU: write open_clip:{other}/{tag}")


def _close(name: str, known: list[str]) -> str:
    """Return a hint at the names that come closest."""
    found = difflib.get_close_matches(name, known, n=3)
    return f" (did you mean {' or '.join(map(repr, found))}?)" if found else ""
