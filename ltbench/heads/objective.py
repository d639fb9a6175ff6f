"""The pinned objective of one linear head, as the solver sees it: a function of one flat vector of parameters.

    F(W, b) = Σ_i w_i ℓ(x_i Wᵀ + b, y_i) / Σ_i w_i  +  λ/2 · ‖W‖²        W [C, D], b [C], the bias not penalised

The author's loss sees logits; it is differentiated by hand or by autograd, the linear part always by hand. Rows are
taken in chunks whose size depends on the number of classes alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ltbench.heads.axes import axes_of, checked_weights, turned_rows, variance_of
from ltbench.heads.curvature import Curvature, Doubt, KroneckerScaling
from ltbench.heads.lanes import Shape
from ltbench.heads.linear import ABSENT_LOGIT, LinearScorer
from ltbench.types import Batch, Train

CPU_NUMBERS, CUDA_NUMBERS = 2**19, 2**25
"""Most logits that are held at a time, on a CPU few enough for its cache; at least 1,024 rows are."""

KEPT_NUMBERS = 2**24
"""Most slopes that are kept from one call to the next look at the curvature, which then need not compute them again."""

Loss = Callable[[Batch], Tensor | tuple[Tensor, Tensor]]


class Objective:
    """F and ∇F at a point ``[C·(R + 1)]``: each class's W in R principal axes, then its b at the centre of the weighted rows.

    ``flops`` is what products of rows with heads and slopes have cost so far, 2 for a multiply-add.
    """

    def __init__(self, train: Train, loss: Loss, l2: float, row_weights: Tensor | None, dtype: torch.dtype) -> None:
        """Turn the rows and weigh them; raise ValueError for weights that are none."""
        own = checked_weights(train.weights * (1.0 if row_weights is None else row_weights.double()))
        self.axes, self.loss, self.l2, self.classes = axes_of(train), Slopes(loss), l2, train.classes
        x, weights = turned_rows(train, dtype), own.to(dtype)
        self.width, self.centre, self.variance = x.shape[1], weights @ x, variance_of(train).to(dtype)
        self.shares = class_shares(train, own).to(dtype)
        self.absent = torch.where(self.shares > 0, 0.0, ABSENT_LOGIT).to(dtype)
        self.chunks = _chunks(batch_of(train, weights), x)
        self.flops, self._product = 0, 2 * len(x) * self.width * self.classes
        self._seen: tuple[Tensor, list[Tensor]] | None = None
        self._kept = len(x) * self.classes <= KEPT_NUMBERS

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.classes * (self.width + 1)

    def start(self) -> tuple[Tensor, float]:
        """Return where to begin: W = 0 and, as bias, the log class shares, or zero where that is lower; and F there."""
        prior, zero = (self.centre.new_zeros(self.size) for _ in range(2))
        self._parts(prior)[1].copy_(torch.where(self.shares > 0, self.shares, 1.0).log())
        present, by_prior = self.shares[self.shares > 0], self._at_zero(self._parts(prior)[1])
        if bool((present == present[0]).all()):
            return prior, by_prior
        by_zero = self._at_zero(self._parts(zero)[1])
        return (zero, by_zero) if by_zero < by_prior else (prior, by_prior)

    def from_scorer(self, scorer: LinearScorer) -> Tensor:
        """Return a head as a point."""
        bias = torch.where(scorer.bias > ABSENT_LOGIT / 2, scorer.bias, 0.0)
        weight, bias = self.axes.turned(scorer.weight, bias)
        return _whole(weight, bias + weight @ self.centre.double()).to(self.centre.dtype)

    def to_scorer(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """Return a point as ``weight [D, C]`` and ``bias [C]`` for rows as they were, float64.

        Where the loss does not know a constant added to all logits, as no cross entropy does, biases have mean zero, and
        so have weights: at the optimum by themselves, here up to where the solver has stopped.
        """
        weight, bias = (part.double() for part in self._parts(point))
        weight, bias = self.axes.restored(weight, bias - weight @ self.centre.double())
        known = self.shares > 0
        if self._shift_invariant(point):
            weight, bias = weight - weight[:, known].mean(dim=1, keepdim=True), bias - bias[known].mean()
        return torch.where(known, weight, 0.0), torch.where(known, bias, ABSENT_LOGIT)

    def metric(self, by_class: Tensor | None = None) -> Tensor:
        """Return m such that Σ m·∇F² bounds the gap: curvature is at least λ in W, and about k_c in b_c.

        ``by_class [C]`` is k, at most the class's share, which takes its place where it is not known.
        """
        weight = self.centre.new_full((self.classes, self.width), 1 / (2 * self.l2))
        bias = self.shares if by_class is None else torch.minimum(self.shares, by_class.clamp_min(1e-12))
        return _whole(weight, 1 / torch.where(self.shares > 0, bias, 1.0))

    def scaling(self) -> KroneckerScaling:
        """Return about the inverse Hessian at W = 0."""
        zero = torch.zeros_like(self.centre)
        return KroneckerScaling.of(Curvature.of_shares(self.shares), zero, self.variance, self.l2)

    def shape_at(self, point: Tensor) -> Shape | None:
        """Return scaling, metric and bound at a point, from the curvature there; None for a loss of no known kind.

        Slopes of cross entropy are p − y, whatever is added to the logits: they tell p, and p(1−p), the curvature by each
        logit, is |s|(1−|s|) where labels are not soft. Slopes of another kind are told by their size and sum.
        """
        doubt, probabilities, known = Doubt(self.classes, self.centre), list[Tensor](), list[Tensor]()
        for chunk, slopes in zip(self.chunks, self._slopes_at(point), strict=True):
            known.append((slopes.sum(dim=1).abs().amax() <= 1e-4) & (slopes.abs().amax() <= 1 + 1e-4))
            probabilities.append(chunk.with_labels(slopes).clamp_(0, 1))
            size = probabilities[-1] if chunk.batch.targets.ndim == 2 else slopes.abs()
            self.flops += doubt.add(probabilities[-1], (size * (1 - size)).clamp_min_(0), chunk.weights, chunk.x)
        if not bool(torch.stack(known).all()):
            return None
        curvature = doubt.curvature()
        scaling = KroneckerScaling.of(curvature, doubt.mean - self.centre, self.variance, self.l2)
        return Shape(scaling, self.metric(doubt.by_class), lambda gradient: self._gap(probabilities, gradient, curvature))

    def _slopes_at(self, point: Tensor) -> Iterator[Tensor]:
        """Yield the slopes of each chunk at a point: those of the last call, if it was there and kept them."""
        if self._seen is not None and torch.equal(self._seen[0], point):
            yield from self._seen[1]
            return
        self.flops += self._product
        weight, offset = self._head(point)
        for chunk in self.chunks:
            yield chunk.slopes(self.loss, weight, offset)[1]

    def _gap(self, probabilities: Sequence[Tensor], gradient: Tensor, curvature: Curvature) -> float:
        """Return ‖∇_W F − B δ‖²/2λ + ∇_b Fᵀ δ, δ = M⁻¹ ∇_b F the step of the biases to their best, B their part in ∇_W F.

        Where F is a quadratic this is no less than the gap: the curvature by W that is left once biases are at their best
        is at least λ.
        """
        self.flops += self._product
        by_weight, by_bias = self._parts(gradient)
        step = curvature.bias_step(by_bias)
        change, total = torch.zeros_like(by_weight), torch.zeros_like(step)
        for chunk, probability in zip(self.chunks, probabilities, strict=True):
            moved = probability * (step - (probability * step).sum(dim=1, keepdim=True)) * chunk.weights
            change.addmm_(moved.T, chunk.x)
            total += moved.sum(dim=0)
        left = by_weight - change.addr_(total, self.centre, alpha=-1)
        return float(left.double().square().sum()) / (2 * self.l2) + float(by_bias.double() @ step.double())

    def __call__(self, point: Tensor, gradient: Tensor) -> Tensor:
        """Write ∇F into ``gradient``; return F, a float64 scalar."""
        self.flops += 2 * self._product
        weight, offset = self._head(point)
        by_weight, by_bias = self._parts(gradient.zero_())
        value, seen = weight.square().sum().double() * (0.5 * self.l2), list[Tensor]()
        self._seen = (point, seen) if self._kept else None
        for chunk in self.chunks:
            losses, slopes = chunk.slopes(self.loss, weight, offset)
            value += torch.dot(losses.double(), chunk.exact)
            if self._kept:
                seen.append(slopes)
            slopes = slopes * chunk.weights
            by_weight.addmm_(slopes.T, chunk.x)
            by_bias += slopes.sum(dim=0)
        by_weight.addr_(by_bias, self.centre, alpha=-1).add_(weight, alpha=self.l2)
        return value

    def _at_zero(self, bias: Tensor) -> float:
        """Return the mean loss where W = 0, from a bias ``[C]``."""
        logits = (bias + self.absent).expand(len(self.chunks[0].x), -1)
        losses = [self.loss(chunk.batch, logits[: len(chunk.x)].clone())[0] for chunk in self.chunks]
        return float(sum(torch.dot(each.double(), chunk.exact) for each, chunk in zip(losses, self.chunks, strict=True)))

    def _shift_invariant(self, point: Tensor) -> bool:
        """Whether the loss of some rows is the same where all logits are one larger."""
        some, (weight, offset) = self.chunks[0].first(256), self._head(point)
        here, there = (some.slopes(self.loss, weight, each)[0] for each in (offset, offset + 1))
        return bool(((here - there).abs() <= 1e-4 * (1 + here.abs())).all())

    def _head(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """Return weight ``[C, R]`` and the bias for rows as they are, ``[C]``, that of absent classes far below all."""
        weight, bias = self._parts(point)
        return weight, torch.addmv(bias + self.absent, weight, self.centre, alpha=-1)

    def _parts(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """Return views of weight ``[C, R]`` and bias ``[C]``."""
        both = point.view(self.classes, self.width + 1)
        return both[:, : self.width], both[:, self.width]


def _whole(weight: Tensor, bias: Tensor) -> Tensor:
    """Return weight ``[C, R]`` and bias ``[C]`` as one vector."""
    return torch.cat([weight, bias[:, None]], dim=1).flatten()


@dataclass(frozen=True)
class _Chunk:
    """Some rows ``[B, R]`` in principal axes, what the loss sees of them, their weights ``[B, 1]`` and as float64 ``[B]``."""

    x: Tensor
    batch: Batch
    weights: Tensor
    exact: Tensor

    def slopes(self, loss: Slopes, weight: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
        """Return the losses of a head, ``weight [C, R]``, for each row ``[B]``, and their slopes by the logits ``[B, C]``."""
        return loss(self.batch, torch.addmm(offset[:, None], weight, self.x.T).T)

    def with_labels(self, slopes: Tensor) -> Tensor:
        """Return slopes plus labels ``[B, C]``: the probabilities, where slopes are those of cross entropy."""
        targets = self.batch.targets
        return slopes + targets if targets.ndim == 2 else slopes.scatter_add(1, targets[:, None], torch.ones_like(self.weights))

    def first(self, count: int) -> _Chunk:
        """Return the first rows of a chunk."""
        return _Chunk(self.x[:count], _part(self.batch, slice(count)), self.weights[:count], self.exact[:count])


def _chunks(whole: Batch, x: Tensor) -> list[_Chunk]:
    """Cut rows into chunks of a size that the device and the number of classes decide."""
    size = max(1024, (CPU_NUMBERS if x.device.type == "cpu" else CUDA_NUMBERS) // len(whole.class_counts))
    chunks = []
    for first in range(0, len(x), size):
        rows = slice(first, first + size)
        part = _part(whole, rows)
        chunks.append(_Chunk(x[rows], part, part.weights[:, None], part.weights.double()))
    return chunks


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
