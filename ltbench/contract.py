"""What a component does: the methods that ltbench calls on what a plugin registers, by kind. Knows no plugin.

N rows, D features, C classes. Importing this module imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from ltbench.types import Batch, Dataset, Rows, Scores, Train


class Encoder(Protocol):
    """A loaded backbone: images to features, with an identity that names weights and preprocessing.

    On the CPU, several threads call ``preprocess`` and ``__call__`` at once; on CUDA several preprocess, on the CPU, and
    one encodes. An image's features depend on that image alone, but for rounding, whatever else is in the batch; batches
    are of one size, the last filled up.

    Optional methods: ``class_text(dataset) -> [C, D]``, where it has a text tower, unit vectors of the class names in
    the space of its features, or None; ``preprocess_batch(images [B, H, W, channels]) -> [B, …]``, which gives the bits
    that ``preprocess`` gives image by image and is called where images are of one size.
    """

    fingerprint: str
    flops_per_image: int

    def preprocess(self, image: Tensor) -> Tensor:
        """Turn one uint8 image ``[H, W, channels]`` into what ``__call__`` stacks."""
        ...

    def __call__(self, batch: Tensor) -> Tensor:
        """Encode a stack of preprocessed images ``[B, …]`` to features ``[B, D]``."""
        ...


class Scorer(Protocol):
    """A fitted head: rows ``[N, D]`` to ``Scores``; each row's scores depend on that row alone."""

    def __call__(self, x: Tensor) -> Scores:
        """Score rows."""
        ...


@runtime_checkable
class DatasetComponent(Protocol):
    """``load(folder) -> Dataset``; labels are known without decoding an image."""

    def load(self, folder: Path) -> Dataset:
        """Read the dataset below the data folder, or raise UsageError with what is missing."""
        ...


@runtime_checkable
class FetchedDataset(DatasetComponent, Protocol):
    """A dataset that can be fetched: what ``ltbench data fetch`` and ``ltbench data list`` call."""

    def missing(self, folder: Path) -> str:
        """Say in a few words what is not there yet, without reading much; an empty text if all is."""
        ...

    def fetch(self, folder: Path, progress: Callable[[str, int, int | None], None]) -> None:
        """Download or make what is missing, going on where an earlier call stopped; two processes may do so at once.

        ``progress(what, done, total)`` is called now and then, with bytes or images done, and the total if known.
        """
        ...


@runtime_checkable
class BackboneComponent(Protocol):
    """``load(device) -> Encoder``.

    Two further methods are optional. ``fingerprint() -> str | None`` names what ``load`` would read, a file's hash or a
    commit, without building the model. Where it is the same, and so are parameters, code and versions, the encoder has to
    be the same: ltbench remembers what it says of itself, and does not load it where its features are cached.
    ``feature_dimension() -> int | None`` tells D while planning, without weights, and raises UsageError for a model that
    cannot be read as told. None is for what cannot be known without loading.
    """

    def load(self, device: str) -> Encoder:
        """Load the frozen model onto a device."""
        ...


class Transformed(Protocol):
    """A fitted transform: rows ``[N, D]`` to rows ``[N, E]``."""

    def __call__(self, x: Tensor) -> Tensor:
        """Transform rows, each by itself."""
        ...


@runtime_checkable
class TransformComponent(Protocol):
    """``fit(x) -> callable``; sees real training features ``[N, D]`` only."""

    def fit(self, x: Tensor) -> Transformed:
        """Fit on training rows."""
        ...


class Sampler(Protocol):
    """A fitted generator: how many rows each class wants, ``[C]`` int64, to ``Rows``.

    One further method is optional: ``parts(budget) -> Iterator[Rows]``, which yields the same rows in parts, one after the
    other. Where all would not fit in memory, heads are trained on what it yields, from disk. Each part says what is true
    of all rows in its notes, ``flops`` add up to those of all rows, and ``keep`` is None: all real rows stay. A sampler whose
    ``adds_rows`` is False only leaves real rows out: however large the budget, it is asked.
    """

    def __call__(self, budget: Tensor) -> Rows:
        """Draw the budget."""
        ...


@runtime_checkable
class GeneratorComponent(Protocol):
    """``fit(train) -> sampler``; sees training rows only.

    An attribute is optional: ``views``, a tuple of names such as ``("flip", "crop.1")``. Then ``train.views`` holds the
    real rows again, as the backbone sees those views of their images (see ``Train``). A classifier may ask alike.
    """

    def fit(self, train: Train) -> Sampler:
        """Fit on real training rows.

        One further method is optional: ``fit_many(trains) -> samplers`` for training sets of the same features, of other
        rows and sizes, each sampler giving the same bits as that of a fit alone. A run calls it for folds that heads are
        chosen on, where these are small, and ``fit`` for each where it raises.
        """
        ...


@runtime_checkable
class ClassifierComponent(Protocol):
    """``fit(train) -> scorer``."""

    def fit(self, train: Train) -> Scorer:
        """Fit on real and synthetic rows."""
        ...


@runtime_checkable
class LossComponent(Protocol):
    """A classifier given by its loss alone: ltbench trains a linear head on it, with the ``l2`` it holds.

    Optional, as fields, properties or class variables: ``solver``, ``"exact"`` (the default), the name of a recipe or an
    ``ltbench.Recipe`` for mini-batches; ``layer``, ``"linear"`` (the default) or ``"cosine"``, whose logits are the
    cosines of rows and weights, for recipes only. Optional methods: ``row_weights(train) -> [N]``, and
    ``post_hoc(scorer, train) -> scorer``, which corrects the trained head; ``reduces_to(train) -> classifier | None``, a
    component that has the same optimum on these rows (balanced softmax is plain softmax where all classes count alike):
    heads that come down to an equal one share its fit. Where it has a ``base`` that is not None, that is fitted instead
    of its loss (see ``PostHocComponent``).
    """

    l2: float

    def loss(self, batch: Batch) -> Tensor | tuple[Tensor, Tensor]:
        """Per-row losses ``[N]``, not yet weighted; or they and their derivatives by the logits ``[N, C]``.

        A row's loss follows from that row and from what the batch says of the whole training set: rows may be seen
        all at once, in chunks, or in mini-batches, where ``batch.progress`` says how far training has come.
        """
        ...


@runtime_checkable
class PostHocComponent(Protocol):
    """A classifier that corrects another: ``base`` is fitted first, once for all heads that are built on an equal one."""

    @property
    def base(self) -> Any:
        """The classifier to fit, an instance that compares equal where it is the same."""
        ...

    def post_hoc(self, scorer: Any, train: Train) -> Scorer:
        """Make the head out of the fitted base."""
        ...
