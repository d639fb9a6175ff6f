"""The values that travel between ltbench and its plugins; frozen, and free of any file, plugin or configuration.

N rows, D features, C classes. Importing this module imports no torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from ltbench.streams import Stream

ScoreKind = Literal["logits", "probabilities", "scores"]


@dataclass(frozen=True)
class Part:
    """One part of a dataset: labels ``[N]`` int64, and the images in the same order.

    ``images[i]`` decodes image i to a uint8 tensor ``[H, W, channels]``, or gives a ready-made float vector. It may be
    a tensor ``[N, …]``, and may be asked by several threads at once. ``metadata`` names what is known of each image: a
    tensor ``[N, …]`` or a sequence of N values by name.
    """

    labels: Tensor
    images: Sequence[Tensor] | Tensor
    metadata: Mapping[str, Tensor | Sequence[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    """What a dataset component's ``load(folder)`` returns.

    ``fingerprint`` is a hash of the content: order, pixels and label of every image of every part, and ``class_text``.
    ``class_text [C, D]`` are class-text vectors that come with ready-made features. ``notes`` is for the user: what
    was found while loading (unreadable files left out, say). ``views`` are ways in which the dataset itself can make its
    training images again (drawn under another light, say), by name: a function from a view's number, 0 or more, to the
    images in the order of the training part. They follow from the content: the fingerprint stands for them, too.
    """

    train: Part
    test: Part
    class_names: tuple[str, ...]
    fingerprint: str
    validation: Part | None = None
    class_text: Tensor | None = None
    notes: tuple[str, ...] = ()
    views: Mapping[str, Callable[[int], Sequence[Tensor]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Train:
    """Training rows, as a transform, a generator or a head sees them.

    ``targets`` are labels ``[N]`` int64, or soft labels ``[N, C]`` that sum to one. ``class_counts [C]`` is the
    total weight of each class among these rows, and ``prior [C]`` its share; a setting with
    ``prior_source = real`` puts the real rows' counts there instead. ``real_class_counts [C]`` always counts the
    real rows. ``row_ids [N]`` are positions in the dataset's training part, −1 for synthetic rows.
    ``stream`` is the only source of randomness a component may use. ``text [C, D]`` are class-text vectors under the
    cell's transform, where backbone or dataset has them. ``views`` are the R real rows again, in their order, seen
    through views of their images (flipped, cropped …) under the cell's transform: ``[R, D]`` by name, those that the
    component asks for. ``streamed`` says that the rows are too many for memory: ``x`` lies in a file, on the CPU whatever
    device all else is on, and is read by batches.
    """

    x: Tensor
    targets: Tensor
    weights: Tensor
    row_ids: Tensor
    class_counts: Tensor
    real_class_counts: Tensor
    stream: Stream
    text: Tensor | None = None
    views: Mapping[str, Tensor] = field(default_factory=dict)
    streamed: bool = False
    _shared: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def shared(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return ``compute()``, done once for these rows: moments that several heads need, or candidates of one head.

        The name starts with the package of whoever computes it; the value must follow from the rows alone, or a head
        would depend on its company.
        """
        if name not in self._shared:
            self._shared[name] = compute()
        return self._shared[name]

    @property
    def classes(self) -> int:
        """Number of classes C, absent ones included."""
        return len(self.class_counts)

    @property
    def prior(self) -> Tensor:
        """Class shares ``[C]``, in [0, 1], sum 1; 0 for an absent class."""
        return self.class_counts / self.class_counts.sum()

    @property
    def log_prior(self) -> Tensor:
        """Log class shares ``[C]``, finite: an absent class counts as a share of 1e-12."""
        return self.prior.clamp_min(1e-12).log()

    @property
    def synthetic(self) -> Tensor:
        """Which rows are synthetic, bool ``[N]``."""
        return self.row_ids < 0

    def replace(self, **changes: Any) -> Train:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def seeing(self, names: Sequence[str]) -> Train:
        """Return the same rows with these views alone; what was computed once for the rows stays."""
        if set(names) == set(self.views):
            return self
        seen = self.replace(views={name: self.views[name] for name in names})
        object.__setattr__(seen, "_shared", self._shared)
        return seen


@dataclass(frozen=True)
class Rows:
    """What a generator adds to M real training rows: S synthetic rows, and which real rows stay.

    ``targets`` are labels ``[S]`` or soft ``[S, C]``. ``parents [S, P]`` are positions among the training rows the
    generator saw (−1: none), ``parent_weights [S, P]`` their share, ``donors`` the class or classes a row borrowed
    from, ``[S]`` or ``[S, K]`` (−1: none). ``keep`` is bool ``[M]`` (``None``: all stay). ``notes`` goes into the
    record as it is (a clamped k, a fallback taken). ``flops`` is the analytic cost of fitting and sampling, ``None`` if
    unknown.
    """

    x: Tensor
    targets: Tensor
    weights: Tensor | None = None
    parents: Tensor | None = None
    parent_weights: Tensor | None = None
    donors: Tensor | None = None
    keep: Tensor | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    flops: int | None = None


@dataclass(frozen=True)
class Batch:
    """What a loss sees: ``logits [N, C]``, ``targets`` ``[N]`` or ``[N, C]``, ``weights [N]`` and ``x [N, D]``.

    ``class_counts``, ``real_class_counts`` and ``prior`` are those of the whole training set (see ``Train``);
    ``synthetic [N]``, bool, are the rows that a generator made. ``progress`` in [0, 1] is how far training has come:
    always 1 for a solver that trains to the optimum. Logits may lie class by class in memory: ``reshape`` them, ``view`` fails.
    """

    logits: Tensor
    targets: Tensor
    weights: Tensor
    x: Tensor
    class_counts: Tensor
    real_class_counts: Tensor
    prior: Tensor
    synthetic: Tensor
    progress: float = 1.0

    @property
    def log_prior(self) -> Tensor:
        """Log class shares ``[C]``, finite: an absent class counts as a share of 1e-12."""
        return self.prior.clamp_min(1e-12).log()


@dataclass(frozen=True)
class Scores:
    """``values [N, C]`` and what they are; ``scores`` (distances, say) have no calibration."""

    values: Tensor
    kind: ScoreKind
