"""Rows as a loss sees them: chunk by chunk, with its slopes by the logits, whether an author gives them or autograd does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ltbench.types import Batch, Train

CPU_NUMBERS, CUDA_NUMBERS = 2**19, 2**25
"""Most logits that are held at a time, on a CPU few enough for its cache; at least 1,024 rows are."""

SOME = 256
"""How many rows tell the kind of a loss."""

STEP = 0.05
"""How far logits are moved to measure curvature: a central difference then errs by about a thousandth."""

Loss = Callable[[Batch], Tensor | tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Chunk:
    """Some rows ``[B, R]`` in principal axes, what the loss sees of them, their weights ``[B, 1]`` and as float64 ``[B]``."""

    x: Tensor
    batch: Batch
    weights: Tensor
    exact: Tensor

    def slopes(self, loss: Slopes, weight: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
        """Return the losses of a head, ``weight [C, R]``, for each row ``[B]``, and their slopes by the logits ``[B, C]``."""
        return loss(self.batch, self.logits(weight, offset))

    def logits(self, weight: Tensor, offset: Tensor) -> Tensor:
        """Return the logits of a head, ``weight [C, R]``, for each row ``[B, C]``; they lie class by class."""
        return torch.addmm(offset[:, None], weight, self.x.T).T

    def probabilities(self, slopes: Tensor) -> Tensor:
        """Return slopes plus labels ``[B, C]``: the probabilities, where slopes are those of cross entropy."""
        targets = self.batch.targets
        ones = torch.ones_like(self.weights)
        return (slopes + targets if targets.ndim == 2 else slopes.scatter_add(1, targets[:, None], ones)).clamp_(0, 1)

    def unweighted(self, slopes: Tensor) -> Tensor:
        """Return slopes ``[B, C]`` that were multiplied by the rows' weights; zero where a row has none."""
        return torch.where(self.weights > 0, slopes / self.weights, 0.0)

    def curvatures(self, loss: Slopes, logits: Tensor, along: Tensor) -> Tensor:
        """Return what slopes change along a direction of the logits, both ``[B, C]``, by a central difference."""
        ahead = loss(self.batch, logits + STEP * along)[1].clone()  # an author's memory may be written to by the next call
        return ahead.sub_(loss(self.batch, logits - STEP * along)[1]).div_(2 * STEP)


def chunks_of(whole: Batch, x: Tensor) -> list[Chunk]:
    """Cut rows into chunks of a size that the device and the number of classes decide."""
    size = max(1024, (CPU_NUMBERS if x.device.type == "cpu" else CUDA_NUMBERS) // len(whole.class_counts))
    return [_chunk(whole, x, slice(first, first + size)) for first in range(0, len(x), size)]


def some_rows(whole: Batch, x: Tensor) -> Chunk:
    """Return some rows of all, at equal distances: enough to tell what kind of loss they have."""
    return _chunk(whole, x, slice(None, None, -(-len(x) // SOME)))


def _chunk(whole: Batch, x: Tensor, rows: slice) -> Chunk:
    """Cut out rows."""
    part = _part(whole, rows)
    return Chunk(x[rows], part, part.weights[:, None], part.weights.double())


def _part(whole: Batch, rows: slice) -> Batch:
    """Return what the loss sees of some rows."""
    parts = {name: getattr(whole, name)[rows] for name in ("targets", "weights", "x", "synthetic")}
    return dataclasses.replace(whole, **parts)


class Slopes:
    """An author's loss with its derivative by the logits: by hand where the author gives it, else by autograd.

    Logits lie class by class where that makes the product with a head fastest; autograd gets them row by row.
    """

    def __init__(self, loss: Loss) -> None:
        """Remember the loss; its first call shows which it is."""
        self.loss, self.by_hand = loss, False

    def __call__(self, batch: Batch, logits: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return losses ``[N]`` and slopes ``[N, C]``; raise ValueError for other shapes. Weights given replace the batch's."""
        if not self.by_hand:
            logits = logits.contiguous().requires_grad_()
        weights = batch.weights if weights is None else weights
        returned = self.loss(dataclasses.replace(batch, logits=logits, weights=weights))
        self.by_hand = isinstance(returned, tuple)
        if isinstance(returned, tuple):
            if len(returned) != 2:
                raise ValueError(f"the loss must return per-row losses, or them and their slopes, not {len(returned)} values")
            losses, slope = returned
            self._check("per-row losses", losses, logits.shape[:1])
        else:
            losses = returned
            self._check("per-row losses", losses, logits.shape[:1])
            if not losses.requires_grad:
                raise ValueError("the loss must be computed from batch.logits, it does not depend on them")
            (slope,) = torch.autograd.grad(losses.sum(), logits)
        self._check("slopes", slope, logits.shape)
        return losses.detach(), slope.detach().to(logits.dtype)

    def _check(self, what: str, values: Any, shape: Sequence[int]) -> None:
        """Raise ValueError for a tensor of another shape, or none."""
        if not isinstance(values, Tensor) or values.shape != torch.Size(shape):
            if isinstance(values, Tensor) and values.ndim == 0:
                raise ValueError(f"the loss must return {what}, not one number for all: use reduction='none'")
            found = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(f"the loss must return {what} {list(shape)}, not {found}")


def batch_of(train: Train, weights: Tensor) -> Batch:
    """Return what the loss sees of all rows, in the precision of the weights, without the logits."""
    dtype = weights.dtype
    targets = train.targets.to(dtype) if train.targets.ndim == 2 else train.targets
    counts, real, prior = (each.to(dtype) for each in (train.class_counts, train.real_class_counts, train.prior))
    return Batch(weights[:0, None], targets, weights, train.x, counts, real, prior, train.synthetic)


def class_shares(train: Train, weights: Tensor) -> Tensor:
    """Return each class's share of the weights ``[C]``, 0 for an absent class."""
    if train.targets.ndim == 2:
        return weights @ train.targets.to(weights.dtype)
    own = weights.double().cpu()  # one after the other: on CUDA the order of a sum is not the same every time
    return torch.bincount(train.targets.cpu(), own, minlength=train.classes).to(weights)
