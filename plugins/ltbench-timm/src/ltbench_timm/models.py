"""Models of timm, built from its registry, the hub, a checkpoint or a folder; weights must fit to the last tensor.

Whatever timm draws while it builds leaves the global random state alone.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

import ltbench
from ltbench_timm import hub
from ltbench_timm.weights import randomize, read_weights, untouched_random_state

HUB = "hf-hub:"
CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Built:
    """A model, and what weights alone do not tell of it: architecture and arguments."""

    model: nn.Module
    told: Mapping[str, Any]


def check_name(name: str, *, weights_wanted: bool) -> None:
    """Raise UsageError unless a name is one of timm's, a tag of it has weights if wanted, or it is a hub id."""
    if name.startswith(HUB):
        hub.HubModel.parse(name.removeprefix(HUB))
        return
    if ":" in name or "/" in name:
        raise ltbench.UsageError(
            f"{name!r} must be a name of timm's or {HUB}user/model; weights in a file go with an architecture: "
            "timm:resnet50[checkpoint=file.safetensors]"
        )
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise ltbench.UsageError(f"timm has no model {architecture!r}{_close(architecture, timm.list_models())}")
    tags = [known.partition(".")[2] for known in timm.list_models(f"{architecture}.*", include_tags=True)]
    if tag and tag not in tags:
        raise ltbench.UsageError(
            f"timm's {architecture!r} has no weights {tag!r}; it has {', '.join(filter(None, tags)) or 'none'}"
        )
    config = timm.get_pretrained_cfg(name)
    if weights_wanted and not (config and config.has_weights):
        raise ltbench.UsageError(
            f"timm has no weights for {name!r}: name a checkpoint=, or pretrained=false for random weights"
        )


def pretrained(name: str, size: int | None) -> Built:
    """Build a model with the weights that timm or the hub has for its name, fetched if they are not there yet.

    ``size`` is the side of the images it is to take, for None that of its own preprocessing; here and below.
    """
    fetched = files(name)
    if fetched is None:
        return _registered(name, size, pretrained=True)
    weights = read_weights(fetched[-1])
    if name.startswith(HUB):
        return from_folder(fetched[0].parent, weights, name, size)
    return _registered(name, size, pretrained=True, pretrained_cfg_overlay={"state_dict": weights})


def files(name: str) -> tuple[Path, ...] | None:
    """Return the files of a model by name, its weights last, fetched if they are not there yet.

    None is for some twenty models that timm fetches by itself, from their authors' servers.
    """
    if name.startswith(HUB):
        source = hub.HubModel.parse(name.removeprefix(HUB))
        config_file = hub.fetch(source, [CONFIG])
        return config_file, hub.fetch(source.pinned(config_file), WEIGHTS)
    config: Any = timm.get_pretrained_cfg(name)
    if not config.hf_hub_id:
        return None
    names = [config.hf_hub_filename] if config.hf_hub_filename else WEIGHTS
    return (hub.fetch(hub.HubModel.parse(config.hf_hub_id), names),)


def from_checkpoint(name: str, path: Path, size: int | None) -> Built:
    """Build one of timm's architectures with the weights of a file, whose classifier may have any number of classes."""
    weights = read_weights(path)
    config = timm.get_pretrained_cfg(name)
    named = config.classifier if config and config.classifier else ()
    heads = [weights[key] for each in ([named] if isinstance(named, str) else named) if (key := f"{each}.weight") in weights]
    classes = len(heads[0]) if heads else 0
    changes = {"state_dict": weights, "num_classes": classes, "label_offset": 0}
    return _registered(name, size, pretrained=True, num_classes=classes, pretrained_cfg_overlay=changes)


def from_folder(folder: Path, weights: Mapping[str, Tensor] | None, name: str, size: int | None = None) -> Built:
    """Build the model of a folder in the hub's format (``timm.models.save_for_hf`` writes it), with random weights for None.

    ``name`` is what errors call it.
    """
    config = _config(folder, name)
    architecture = config["architecture"]
    if not timm.is_model(architecture):
        raise ltbench.UsageError(f"{name} has the architecture {architecture!r}, which timm {timm.__version__} does not know")
    changes = {"source": "", "state_dict": dict(weights)} if weights is not None else {}
    arguments = {"pretrained": weights is not None, "pretrained_cfg_overlay": changes}
    arguments |= _built_for(size, fixed=config.get("pretrained_cfg", config).get("fixed_input_size", False))
    return Built(_resized(_create(f"local-dir:{folder}", name, arguments), size), {"config": config})


def _config(folder: Path, name: str) -> dict[str, Any]:
    """Return what a model's configuration says; raise UsageError unless it has the form of timm's."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        architecture = config["architecture"]
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise ltbench.UsageError(f"{name} has no {CONFIG} that names an architecture of timm: {error!r}") from error
    if not isinstance(architecture, str):
        raise ltbench.UsageError(f"architecture in {CONFIG} of {name} must be a name, not {architecture!r:.60}")
    for key in ("pretrained_cfg", "model_args"):
        if not isinstance(config.get(key, {}), dict):
            raise ltbench.UsageError(f"{key} in {CONFIG} of {name} must be a JSON object, not {config[key]!r:.60}")
    return dict(config)


def with_random_weights(name: str, size: int | None) -> Built:
    """Build a model whose weights are drawn, the same on every machine."""
    if name.startswith(HUB):
        built = from_folder(hub.fetch(hub.HubModel.parse(name.removeprefix(HUB)), [CONFIG]).parent, None, name, size)
    else:
        built = _registered(name, size)
    randomize(built.model, ltbench.Stream.of(0, "random weights"))
    return built


def skeleton(name: str, size: int | None) -> nn.Module | None:
    """Return a model without weights, for counting; None for one of the hub whose configuration was not fetched yet."""
    with torch.device("meta"):
        if not name.startswith(HUB):
            return _registered(name, size).model
        config = hub.cached(hub.HubModel.parse(name.removeprefix(HUB)), CONFIG)
        return from_folder(config.parent, None, name, size).model if config else None


def _registered(name: str, size: int | None, **arguments: Any) -> Built:
    """Build a model of timm's registry."""
    config = timm.get_pretrained_cfg(name)
    arguments |= _built_for(size, fixed=config is not None and config.fixed_input_size)
    return Built(_resized(_create(name, name, arguments), size), {"architecture": name.partition(".")[0]})


def _built_for(size: int | None, *, fixed: bool) -> dict[str, Any]:
    """Return the argument of a model that is built for one size of images (its position code is interpolated)."""
    return {"img_size": size} if size is not None and fixed else {}


def _resized(model: Any, size: int | None) -> nn.Module:
    """Let a model's data configuration, which its preprocessing follows, tell the size that is asked for."""
    if size is not None:
        model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (model.pretrained_cfg["input_size"][0], size, size)}
    found: nn.Module = model
    return found


def _create(source: str, name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Call timm's factory; raise UsageError for what it cannot build, or for weights that do not fit the model."""
    try:
        with untouched_random_state():
            return timm.create_model(source, **arguments)
    except (AssertionError, AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        cause = " ".join(f"{error}".split())[:300]
        raise ltbench.UsageError(f"timm cannot build {name!r} as it is told to: {cause}") from error


def _close(name: str, known: list[str]) -> str:
    """Return a hint at the names that come closest."""
    found = difflib.get_close_matches(name, known, n=3)
    return f" (did you mean {' or '.join(map(repr, found))}?)" if found else ": timm.list_models() names all"
