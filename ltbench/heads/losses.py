"""Losses whose derivative is known by hand, for authors to build on."""

from __future__ import annotations

from torch import Tensor


def softmax_loss(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return cross entropy ``[N]`` and its derivative by the logits ``[N, C]``: softmax(z) − y.

    ``targets`` are labels ``[N]`` or soft labels ``[N, C]`` that sum to one.
    """
    logs = logits.log_softmax(dim=1)
    if targets.ndim == 2:
        return -(targets * logs).sum(dim=1), logs.exp().sub_(targets)
    index = targets[:, None]
    losses = logs.gather(1, index).neg_()[:, 0]
    slope = logs.exp_() if not logs.requires_grad else logs.exp()
    return losses, slope.scatter_(1, index, slope.gather(1, index) - 1.0)
