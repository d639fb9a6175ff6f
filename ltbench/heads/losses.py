"""Losses whose derivative is known by hand, for authors to build on."""

from __future__ import annotations

from torch import Tensor


def softmax_loss(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return cross entropy ``[N]`` and its derivative by the logits ``[N, C]``: softmax(z) − y.

    ``targets`` are labels ``[N]`` or soft labels ``[N, C]`` that sum to one.
    """
    top = logits.amax(dim=1, keepdim=True)
    powers = (logits - top).exp_()
    total = powers.sum(dim=1, keepdim=True)
    slope = powers.div_(total)
    normaliser = (total.log_() + top)[:, 0]
    if targets.ndim == 2:
        return normaliser - (targets * logits).sum(dim=1), slope.sub_(targets)
    index = targets[:, None]
    losses = normaliser - logits.gather(1, index)[:, 0]
    return losses, slope.scatter_(1, index, slope.gather(1, index) - 1.0)
