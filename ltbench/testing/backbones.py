"""Checks of backbones alone: what their encoders do in threads and on whole batches, and how they name their weights."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from ltbench.components import Resolved
from ltbench.contract import Encoder
from ltbench.testing.exercise import CheckFailed, difference, form, must
from ltbench.testing.problem import long_tailed

THREADS = 4
ROUNDS = 5


def check_many_threads(resolved: Resolved) -> None:
    """Require the same bits from several threads that preprocess and encode at once as from one: runs do so on the CPU."""
    encoder, images = _loaded(resolved), long_tailed().images
    batches = [images.roll(place, dims=0) for place in range(THREADS)]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with must("encode images"):
            alone = [_encoded(encoder, batch) for batch in batches]
        with must("encode images in several threads at once"), ThreadPoolExecutor(THREADS) as pool:
            together = list(pool.map(lambda batch: _encoded(encoder, batch), batches * ROUNDS))
    finally:
        torch.set_num_threads(before)
    for wanted, given in zip(alone * ROUNDS, together, strict=True):
        found = difference({"features": wanted}, {"features": given})
        if found:
            raise CheckFailed(
                f"must give the same bits when several threads call it at once: {found}. Keep nothing between calls"
            )


def check_preprocessed_together(resolved: Resolved) -> None:
    """Require of ``preprocess_batch``, where an encoder has it, the bits of ``preprocess`` image by image."""
    encoder, images = _loaded(resolved), long_tailed().images
    together: Callable[[Tensor], Tensor] | None = getattr(encoder, "preprocess_batch", None)
    if together is None:
        return
    for wanted in (images, images[:1]):
        with must(f"preprocess images {list(wanted.shape)} together, and each alone"):
            alone, given = torch.stack([encoder.preprocess(image) for image in wanted]), together(wanted)
        if not isinstance(given, Tensor):
            raise CheckFailed(f"preprocess_batch must give a tensor, not {form(given)}")
        found = difference({"what it gives": alone}, {"what it gives": given})
        if found:
            raise CheckFailed(f"preprocess_batch must give what preprocess gives image by image: {found}")


def check_weights_named(resolved: Resolved) -> None:
    """Require of ``fingerprint``, where a backbone has it, a text or None, the same from an instance built anew."""
    if not callable(getattr(resolved.build(), "fingerprint", None)):
        return
    with must("name its weights without loading them, or say None"):
        first, second = (resolved.build().fingerprint() for _ in range(2))
    if first != second or not (first is None or (isinstance(first, str) and first)):
        raise CheckFailed(
            f"fingerprint() must be a text that names what load reads, or None, not {first!r} and then {second!r}"
        )


def check_features_counted(resolved: Resolved) -> None:
    """Require of ``feature_dimension``, where a backbone has it, the number of features that its encoder gives, or None."""
    tell = getattr(resolved.build(), "feature_dimension", None)
    if tell is None:
        return
    with must("tell the number of features without loading, or say None"):
        told = tell()
    given = _encoded(_loaded(resolved), long_tailed().images[:1]).shape[1]
    if told is not None and told != given:
        raise CheckFailed(f"feature_dimension() must be the number of features, {given}, or None, not {told!r}")


def _loaded(resolved: Resolved) -> Encoder:
    """Load a backbone's encoder."""
    with must("load on the CPU"):
        encoder: Encoder = resolved.build().load("cpu")
    return encoder


def _encoded(encoder: Encoder, images: Tensor) -> Tensor:
    """Preprocess and encode images as one batch."""
    with torch.no_grad():
        return encoder(torch.stack([encoder.preprocess(image) for image in images]))
