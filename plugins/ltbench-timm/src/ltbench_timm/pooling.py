"""From a model of timm to one vector per image: which layer is read, and how its tokens or map become a vector."""

from __future__ import annotations

import inspect
from typing import Any, Literal

import torch
from torch import Tensor, nn

import ltbench

Pool = Literal["avg", "max", "token", "token+avg"]


class PooledFeatures(nn.Module):
    """Images ``[B, channels, height, width]`` to features ``[B, D]``.

    Without a layer, these are what the model itself hands its classifier. A layer is read as
    ``forward_intermediates`` gives it; tokens pass the model's last norm, as the field reads them.
    """

    def __init__(self, model: Any, pool: Pool | None, layer: int | None) -> None:
        """Take the classifier off; raise UsageError where the model has no such pooling."""
        super().__init__()
        if pool in ("token", "token+avg") and getattr(model, "cls_token", None) is None:
            raise ltbench.UsageError(f"pool must be avg or max for a model without a class token, not {pool}")
        if layer is not None and not hasattr(model, "forward_intermediates"):
            raise ltbench.UsageError(f"timm reads no layers of a {type(model).__name__}: leave layer={layer} out")
        if layer is None and pool != "token+avg":
            _take_classifier_off(model, pool)
        self.model, self.pool, self.layer = model, pool, layer

    def forward(self, images: Tensor) -> Tensor:
        """Return features ``[B, D]``."""
        if self.layer is not None:
            tokens, prefix = self._tokens_of_layer(images)
            return pooled(tokens, prefix, self.pool or _default_pool(self.model, prefix))
        if self.pool == "token+avg":
            found = self.model.forward_features(images)
            count = self.model.num_prefix_tokens
            return pooled(found[:, count:], found[:, :count], self.pool)
        features: Tensor = self.model(images)
        if features.ndim != 2:
            raise ltbench.UsageError(f"the model gives {list(features.shape[1:])} per image: say how to pool with pool=avg")
        return features

    def _tokens_of_layer(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return a layer's tokens, or places of its map, ``[B, N, D]``, and prefix tokens ``[B, P, D]`` if there are any."""
        read = self.model.forward_intermediates
        asked: dict[str, Any] = {"indices": [self.layer], "intermediates_only": True, "stop_early": True}
        if "return_prefix_tokens" not in inspect.signature(read).parameters:
            (places,) = read(images, **asked)
            return places.flatten(2).transpose(1, 2), None
        (found,) = read(images, **asked, return_prefix_tokens=True, norm=True, output_fmt="NLC")
        return found if isinstance(found, tuple) else (found, None)


def pooled(tokens: Tensor, prefix: Tensor | None, pool: Pool) -> Tensor:
    """Pool tokens ``[B, N, D]`` and prefix tokens ``[B, P, D]``, class token first, to ``[B, D]`` (token+avg: ``[B, 2D]``)."""
    if pool == "avg":
        return tokens.mean(dim=1)
    if pool == "max":
        return tokens.amax(dim=1)
    if prefix is None:
        raise ltbench.UsageError("this layer has no class token: pool must be avg or max")
    return prefix[:, 0] if pool == "token" else torch.cat([prefix[:, 0], tokens.mean(dim=1)], dim=1)


def _default_pool(model: Any, prefix: Tensor | None) -> Pool:
    """Return the pooling of a layer where none is named: the model's own, so far as it can be applied to any layer."""
    return "token" if prefix is not None and getattr(model, "global_pool", "") == "token" else "avg"


def _take_classifier_off(model: Any, pool: Pool | None) -> None:
    """Leave what comes before the classifier, pooled as told, or as the model does it."""
    if not hasattr(model, "reset_classifier"):
        raise ltbench.UsageError(f"a {type(model).__name__} has no pooled features: name a layer=")
    try:
        model.reset_classifier(0) if pool is None else model.reset_classifier(0, global_pool=pool)
    except (AssertionError, ValueError) as error:
        raise ltbench.UsageError(f"a {type(model).__name__} cannot pool by {pool}: {error}") from error
