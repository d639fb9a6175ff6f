"""The pinned objective of one linear head, as the solver sees it: a function of one flat vector of parameters.

    F(W, b) = Σ_i w_i ℓ(x_i Wᵀ + b, y_i) / Σ_i w_i  +  λ/2 · ‖W‖²        W [C, D], b [C], the bias not penalised

The author's loss sees logits; it is differentiated by hand or by autograd, the linear part always by hand. Rows are
taken in chunks whose size depends on the number of classes alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ltbench.heads.axes import axes_of, checked_weights, turned_rows, variance_of
from ltbench.heads.curvature import Curvature, CurvatureSums, KroneckerScaling, bias_step
from ltbench.heads.lanes import Shape
from ltbench.heads.linear import ABSENT_LOGIT, LinearScorer
from ltbench.heads.slopes import Chunk, Loss, Slopes, batch_of, chunks_of, class_shares, some_rows
from ltbench.types import Train

KEPT_NUMBERS = 2**24
"""Most slopes that are kept from one call to the next look at the curvature, which then need not compute them again."""


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
        whole = batch_of(train, weights)
        self.chunks, self._some = chunks_of(whole, x), some_rows(whole, x)
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
        """Return m such that Σ m·∇F² is about a bound on the gap: curvature is at least λ in W, and about k_c in b_c.

        ``by_class [C]`` is k, at most the class's share, which takes its place where it is not known.
        """
        weight = self.centre.new_full((self.classes, self.width), 1 / (2 * self.l2))
        bias = self.shares if by_class is None else torch.minimum(self.shares, by_class.clamp_min(1e-12))
        return _whole(weight, 1 / torch.where(self.shares > 0, bias, 1.0))

    def scaling(self) -> KroneckerScaling:
        """Return about the inverse Hessian at W = 0."""
        zero = torch.zeros_like(self.centre)
        return KroneckerScaling.of(Curvature.of_shares(self.shares), zero, self.variance, self.l2)

    def shape_at(self, point: Tensor) -> Shape:
        """Return scaling, metric and bound at a point, from the curvature there: told by slopes, or measured."""
        return self._told(point) if self._tells(point) else self._measured(point)

    def _tells(self, point: Tensor) -> bool:
        """Whether slopes tell the curvature, as those of cross entropy do, p − y, whatever is added to the logits.

        On some rows, what slopes change along random signs is compared with (diag p − p pᵀ) times them.
        """
        some, (weight, offset) = self._some, self._head(point)
        logits = some.logits(weight, offset)
        probability, along = some.probabilities(some.slopes(self.loss, weight, offset)[1]), _signs(logits)
        expected = probability * (along - (probability * along).sum(dim=1, keepdim=True))
        off = (some.curvatures(self.loss, logits, along) - expected).abs().amax()
        return bool(off <= 0.02 * expected.abs().amax() + 1e-5)

    def _told(self, point: Tensor) -> Shape:
        """Return the shape where slopes are p − y."""
        sums = CurvatureSums(self.classes, self.centre)
        for chunk, slopes in zip(self.chunks, self._slopes_at(point), strict=True):
            self.flops += sums.add(chunk.probabilities(slopes), chunk.weights, chunk.x)
        curvature = sums.curvature()
        scaling = KroneckerScaling.of(curvature, sums.mean - self.centre, self.variance, self.l2)

        def gap(gradient: Tensor) -> float:
            step = curvature.bias_step(self._parts(gradient)[1])
            return self._gap(gradient, step, self._changes_told(point, step))

        return Shape(scaling, self.metric(sums.by_class), gap)

    def _measured(self, point: Tensor) -> Shape:
        """Return the shape of any other loss: the mean curvature by each logit, measured along random signs.

        Off the diagonal, what signs of different classes add is zero on average.
        """
        by_class = torch.zeros_like(self.shares)
        for chunk, logits in self._logits(point):
            along = _signs(logits)
            by_class += (along * chunk.curvatures(self.loss, logits, along) * chunk.weights).sum(dim=0)
        by_class = torch.where(by_class > 0, by_class, self.shares)  # where a loss is not convex, or flat, nothing is known
        metric = self.metric(by_class)
        scaling = KroneckerScaling.of(Curvature.of(by_class), torch.zeros_like(self.centre), self.variance, self.l2)

        def gap(gradient: Tensor) -> float:
            step = bias_step(
                lambda each: self._by_bias(self._changes_measured(point, each)), by_class, self._parts(gradient)[1]
            )
            if step is None:
                return float((metric * gradient**2).sum())
            return self._gap(gradient, step, self._changes_measured(point, step))

        return Shape(scaling, metric, gap)

    def _logits(self, point: Tensor) -> Iterator[tuple[Chunk, Tensor]]:
        """Yield each chunk with its logits at a point ``[B, C]``."""
        self.flops += self._product
        weight, offset = self._head(point)
        return ((chunk, chunk.logits(weight, offset)) for chunk in self.chunks)

    def _changes_told(self, point: Tensor, step: Tensor) -> Iterator[Tensor]:
        """Yield what a step of the biases ``[C]`` changes in each chunk's slopes, p · (δ − pᵀδ), times the rows' weights."""
        for chunk, slopes in zip(self.chunks, self._slopes_at(point), strict=True):
            probability = chunk.probabilities(slopes)
            yield probability * (step - (probability * step).sum(dim=1, keepdim=True)) * chunk.weights

    def _changes_measured(self, point: Tensor, step: Tensor) -> Iterator[Tensor]:
        """Yield the same of any other loss, by differences."""
        size = step.abs().amax().clamp_min(1e-30)
        for chunk, logits in self._logits(point):
            yield chunk.curvatures(self.loss, logits, step / size) * size * chunk.weights

    def _by_bias(self, changes: Iterator[Tensor]) -> Tensor:
        """Return what slopes change by the biases ``[C]``."""
        return torch.stack([change.sum(dim=0) for change in changes]).sum(dim=0)

    def _slopes_at(self, point: Tensor) -> Iterator[Tensor]:
        """Yield the slopes of each chunk at a point: those of the last call, if it was there and kept them."""
        if self._seen is not None and torch.equal(self._seen[0], point):
            yield from (chunk.unweighted(slopes) for chunk, slopes in zip(self.chunks, self._seen[1], strict=True))
            return
        self.flops += self._product
        weight, offset = self._head(point)
        for chunk in self.chunks:
            yield chunk.slopes(self.loss, weight, offset)[1]

    def _gap(self, gradient: Tensor, step: Tensor, changes: Iterator[Tensor]) -> float:
        """Return ‖∇_W F − B δ‖²/2λ + ∇_b Fᵀ δ, δ = M⁻¹ ∇_b F the step of the biases to their best, B their part in ∇_W F.

        Where F is a quadratic this is no less than the gap: the curvature by W that is left once biases are at their best
        is at least λ. Of classes so many that M counts as its diagonal it is about that.
        """
        self.flops += self._product
        by_weight, by_bias = self._parts(gradient)
        left, total = by_weight.clone(), torch.zeros_like(step)
        for chunk, moved in zip(self.chunks, changes, strict=True):
            left.addmm_(moved.T, chunk.x, alpha=-1)
            total += moved.sum(dim=0)
        left.addr_(total, self.centre)
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
            slopes = slopes * chunk.weights  # memory of its own: an author's may be written to by the next call
            if self._kept:
                seen.append(slopes)
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
        some, (weight, offset) = self._some, self._head(point)
        here, there = (some.slopes(self.loss, weight, each)[0].clone() for each in (offset, offset + 1))
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


def _signs(logits: Tensor) -> Tensor:
    """Return signs as if at random for logits ``[B, C]``, the same each time: a bit of a hash of their place."""
    rows, columns = (torch.arange(size, device=logits.device) for size in logits.shape)
    mixed = (rows[:, None] * 0x9E3779B1 + columns * 0x85EBCA77) ^ (rows[:, None] * columns)
    mixed = (mixed ^ (mixed >> 15)) * 0xC2B2AE3D
    return torch.where((mixed >> 17) & 1 == 1, 1.0, -1.0).to(logits.dtype)
