"""The ``sgd`` solver: heads by mini-batches, as papers train them; the same draws on every device, and no data loader.

It lowers the pinned objective, weighted mean loss + λ/2 · ‖W‖², by unbiased gradients: a batch counts its rows' weights
against the mean weight of all rows. Heads that share rows and recipe see the same batches and are trained side by
side; each does with them what it would do alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ltbench.heads.axes import checked_weights, require_finite
from ltbench.heads.lanes import RAISED
from ltbench.heads.layers import LAYERS, Kept, Layer, Parameters
from ltbench.heads.linear import ABSENT_LOGIT, CosineScorer, LinearScorer
from ltbench.heads.recipes import Recipe, recipe_of
from ltbench.heads.samplers import epoch_order
from ltbench.heads.slopes import Loss, Slopes, batch_of, class_shares
from ltbench.types import Batch, Train

Trained = LinearScorer | CosineScorer


@dataclass(frozen=True, eq=False)
class SgdJob:
    """A head to train: a loss on the logits of a layer, weights of rows ``[N]`` and of the penalty."""

    loss: Loss
    l2: float
    row_weights: Tensor | None = None
    layer: Layer = field(default_factory=lambda: LAYERS["linear"])


def fit_sgd(
    train: Train,
    loss: Loss,
    l2: float,
    recipe: Recipe | str = "sgd",
    row_weights: Tensor | None = None,
    layer: Layer | str = "linear",
) -> Trained:
    """Train one head by a recipe or its name; ``layer`` is ``linear``, ``cosine``, or one like ``ltbench.Scales(head)``.

    The loss sees logits, and ``batch.progress`` from 0 to below 1. Raises ValueError where weights leave the finite.
    """
    job = SgdJob(loss, l2, row_weights, LAYERS[layer] if isinstance(layer, str) else layer)
    course = training(train, recipe_of(recipe), [job])
    try:
        while True:
            next(course)
    except StopIteration as ended:
        (found,) = ended.value
    if isinstance(found, BaseException):
        raise found
    trained: Trained = found
    return trained


Course = Generator[None, None, list[Trained | BaseException]]
"""Training under way, an epoch at a time; it returns the heads, or the errors that came instead."""


def training(train: Train, recipe: Recipe, jobs: Sequence[SgdJob]) -> Course:
    """Train several heads on the same batches; an error ends its own head only."""
    lanes, whole = [_begun(train, recipe, job) for job in jobs], batch_of(train, train.weights.float())
    order = epoch_order(train, recipe, 0)
    steps = -(-len(order) // recipe.batch)
    for epoch in range(recipe.epochs):
        order = order if epoch == 0 else epoch_order(train, recipe, epoch)
        for step, rows in enumerate(torch.split(order, recipe.batch), start=epoch * steps):
            x = whole.x.index_select(0, rows.to(whole.x.device)).to(rows.device).float()  # rows of a file are on the CPU
            targets, synthetic = whole.targets.index_select(0, rows), whole.synthetic.index_select(0, rows)
            progress = step / (recipe.epochs * steps)
            batch = dataclasses.replace(whole, targets=targets, x=x, synthetic=synthetic, progress=progress)
            seen = dict[int, Kept]()
            for lane in lanes:
                lane.step(rows, batch, seen)
        for lane in lanes:
            lane.check(epoch)
        yield
    return [lane.failed or lane.trained(recipe.epochs * len(order)) for lane in lanes]


def _begun(train: Train, recipe: Recipe, job: SgdJob) -> _Lane:
    """Return a head before its first step; one that cannot begin has failed already."""
    try:
        require_finite(train)
        own = checked_weights(train.weights * (1.0 if job.row_weights is None else job.row_weights.double()))
        absent = torch.where(class_shares(train, own) > 0, 0.0, ABSENT_LOGIT).float()
        return _Lane(job, recipe, (own * len(own)).float(), absent, job.layer.start(train))
    except RAISED as error:
        return _Lane(job, recipe, train.weights, train.weights, [], failed=error)


@dataclass
class _Lane:
    """One head under way; ``offset [C]`` is added to its logits, far below zero for classes without rows.

    ``weights [N]`` are those of all rows, one on average.
    """

    job: SgdJob
    recipe: Recipe
    weights: Tensor
    offset: Tensor
    parameters: Parameters
    failed: BaseException | None = None
    steps: int = 0

    def __post_init__(self) -> None:
        """Start the moments at zero."""
        self.slopes, self.some_absent = Slopes(self.job.loss), bool((self.offset != 0).any())
        self.even = bool((self.weights == 1).all())
        self.total = torch.zeros((), device=self.weights.device)
        self.first, self.second = ([torch.zeros_like(each) for each in self.parameters] for _ in range(2))

    def step(self, rows: Tensor, batch: Batch, seen: dict[int, Kept]) -> None:
        """Go one batch further, rows by their positions; an error is kept, and the head stands still from then on.

        ``seen`` keeps what layers make of the batch's rows, by the layer's id, for the heads that come after.
        """
        if self.failed is None:
            try:
                self._step(rows, batch, seen)
            except RAISED as error:
                self.failed = error

    def _step(self, rows: Tensor, batch: Batch, seen: dict[int, Kept]) -> None:
        """Compute loss, slopes and gradients of a batch, and move the parameters."""
        layer = self.job.layer
        if id(layer) not in seen:
            seen[id(layer)] = layer.rows(batch.x)
        logits, kept = layer.forward(self.parameters, seen[id(layer)])
        if self.some_absent:
            logits = logits + self.offset
        weights = self.weights.new_ones(len(rows)) if self.even else self.weights.index_select(0, rows)
        losses, slopes = self.slopes(batch, logits, weights)
        self.total += losses.sum()
        gradients = layer.backward(kept, slopes if self.even else slopes * weights[:, None])
        self._move(gradients, self.recipe.rate_at(batch.progress))

    def _move(self, gradients: Parameters, rate: float) -> None:
        """Take a step of momentum or AdamW (Loshchilov & Hutter, 2019), whose decay is apart from the gradient."""
        if self.recipe.optimizer == "momentum":
            gradients[0].add_(self.parameters[0], alpha=self.job.l2)
            for parameter, moment, gradient in zip(self.parameters, self.first, gradients, strict=True):
                parameter.sub_(torch.add(gradient, moment, alpha=self.recipe.momentum, out=moment), alpha=rate)
            return
        self.steps += 1
        fade, near = 1 - self.recipe.momentum**self.steps, 1 - 0.999**self.steps
        self.parameters[0].mul_(1 - rate * self.job.l2)
        for parameter, moment, square, gradient in zip(self.parameters, self.first, self.second, gradients, strict=True):
            moment.lerp_(gradient, 1 - self.recipe.momentum)
            square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            parameter.addcdiv_(moment / fade, (square / near).sqrt_().add_(1e-8), value=-rate)

    def check(self, epoch: int) -> None:
        """Fail where a parameter is no longer finite, or a loss was not."""
        if self.failed is None and not all(bool(each.isfinite().all()) for each in (*self.parameters, self.total)):
            self.failed = ValueError(
                f"training left the finite numbers in epoch {epoch + 1} of {self.recipe.epochs}: the loss or its slope "
                f"must be finite, and the learning rate ({self.recipe.rate:g}) not too high for these features"
            )

    def trained(self, drawn: int) -> Trained:
        """Return the head, and what its training cost."""
        scorer = self.job.layer.scorer(self.parameters, self.offset)
        return dataclasses.replace(scorer, training_flops=self.job.layer.products * drawn * scorer.flops_per_row)
