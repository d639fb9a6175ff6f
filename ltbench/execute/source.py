"""A dataset seen through a backbone: loaded, described and extracted when a cell first needs it.

Knows plans and the feature store. What is known of it without its features, its ``Facts``, travels between processes, so
that only one of them loads the backbone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ltbench.cells import Cell, Split
from ltbench.contract import Encoder
from ltbench.errors import ImageError, LtbenchError
from ltbench.execute.failures import ComponentFailure, Failure, SourceFailed, component_failure, describe, failure_of
from ltbench.execute.numerics import feature_numerics, on_a_cache_line, pinned
from ltbench.execute.rows import Material
from ltbench.features.described import Described, Note
from ltbench.features.extraction import Extraction, Features, Progress, key_parts
from ltbench.features.manifest import Origin
from ltbench.features.store import FeatureStore
from ltbench.features.views import view_of
from ltbench.keys import digest
from ltbench.plan import Plan
from ltbench.records import UNKNOWN
from ltbench.types import Dataset


@dataclass(frozen=True)
class Facts:
    """The key of a source's features and where they come from, the cost of encoding its images once, or why not."""

    key: str
    origin: Origin | None = None
    extraction_flops: int = 0
    failure: Failure | None = None


class Source:
    """The features of one dataset and backbone."""

    def __init__(self, made: Plan, cell: Cell, store: FeatureStore, device: str, threads: int = 0) -> None:
        """Remember the names; nothing is loaded yet."""
        self.dataset: Dataset = made.datasets[cell.dataset]
        self._component = made.component("backbone", cell.backbone)
        self._dataset_name, self._name = cell.dataset, cell.backbone
        self._store, self._device, self._threads = store, device, threads
        self._numerics = feature_numerics(device)
        self._facts: Facts | None = None
        self._encoder: Encoder | None = None
        self._features: Features | None = None
        self._wanted = made.views(*[each for each in made.cells if each.source == cell.source])
        self._views: dict[str, Tensor] = {}

    @property
    def facts(self) -> Facts:
        """What is known without the features; loads the backbone, unless another process has told."""
        if self._facts is None:
            self._facts = self._described()
        return self._facts

    @facts.setter
    def facts(self, facts: Facts) -> None:
        self._facts = facts

    def unknown(self, failure: Failure) -> Facts:
        """Return the facts of a backbone that cannot even be loaded."""
        name = digest([self.dataset.fingerprint, self._component.identity()])
        return Facts(f"{UNKNOWN}-{name}", failure=failure)

    def features(self, progress: Progress | None = None) -> Features:
        """Return the features, from the cache or extracted now; raise what keeps them from being there."""
        if self.facts.failure is not None:
            raise SourceFailed(self.facts.failure)
        if self._features is None:
            try:
                self._features = self._stored(self.dataset, self._origin, progress)
            except Exception as error:
                self._facts = dataclasses.replace(self.facts, failure=failure_of(error))
                raise
            if self._features.key != self._origin.key:  # those of another machine were damaged
                self._facts = dataclasses.replace(self.facts, origin=self._here(self._origin))
            for name in self._wanted:  # while the backbone is here; what fails is told to the cells that ask for it
                with contextlib.suppress(Exception):
                    self.view(name, progress)
            self._encoder = None
        return self._features

    def view(self, name: str, progress: Progress | None = None) -> Tensor:
        """Return the training rows ``[N, D]`` of a view of the images, from the cache or extracted now."""
        if name not in self._views:
            seen = view_of(self.dataset, name)
            parts = {**self._origin.parts, "dataset": seen.fingerprint, "class_names": None}
            origin = dataclasses.replace(self._origin, dataset=f"{self._dataset_name}, view {name}", parts=parts)
            self._views[name] = self._stored(seen, origin, progress).train
        return self._views[name]

    @property
    def elsewhere(self) -> str:
        """The numerics class of features that another machine has computed; empty for this machine's."""
        origin = self.facts.origin
        return "" if origin is None or dict(origin.numerics) == self._numerics else told(origin)

    def extraction_flops(self, views: int) -> int:
        """Return the cost of encoding the images once, and the training images once more for each of so many views."""
        each = 0 if self.facts.origin is None else self.facts.origin.flops_per_image
        return self.facts.extraction_flops + views * len(self.dataset.train.labels) * each

    def material(self, split: Split, views: Sequence[str] = ()) -> Material:
        """Return a split's rows on the device, and those of views of its images."""
        features, dataset, device = self.features(), self.dataset, self._device
        validation = None
        if features.validation is not None and dataset.validation is not None:
            validation = (on_a_cache_line(features.validation.to(device)), dataset.validation.labels.to(device))
        return Material(
            x=features.train[split.row_ids].to(device),
            labels=dataset.train.labels[split.row_ids].to(device),
            row_ids=split.row_ids.to(device),
            test=on_a_cache_line(features.test.to(device)),
            classes=len(dataset.class_names),
            validation=validation,
            text=None if features.text is None else features.text.to(device),
            views={name: self.view(name)[split.row_ids].to(device) for name in views},
        )

    def _described(self) -> Facts:
        """Describe the backbone; a failure is kept, for the records of its cells, unless its features are here already."""
        try:
            with component_failure("backbone", self._name):
                encoder = self._encoder_described()
                parts = key_parts(self.dataset, encoder, self._component.identity())
                names = (self._dataset_name, self._name)
                origin = Origin(*names, parts, self._numerics, encoder.flops_per_image)
                return self._from(self._imported(origin) or origin)
        except (Exception, SystemExit) as error:
            found = self._store.made_from(self.dataset, self._component.identity())
            if not found:
                return self.unknown(failure_of(error))
            cause = describe(error)["error"]
            serves = f"backbone {self._name} cannot be loaded, so its features of {found[0].created} serve: {cause}"
            warnings.warn(serves, stacklevel=2)
            return self._from(found[0].origin)

    def _imported(self, origin: Origin) -> Origin | None:
        """Return where imported features of the same images and weights come from, if there are none of this machine's."""
        found = None if self._store.set(origin.key).is_complete() else self._store.imported(origin.parts)
        if found is None:
            return None
        warnings.warn(f"features of {self._name} are those imported, of another machine: {told(found.origin)}", stacklevel=2)
        return found.origin

    def _encoder_described(self) -> Described:
        """Return what the encoder says of itself: remembered, where the backbone can name its weights, or once loaded."""
        note = self._note()
        known = None if note is None else note.read()
        if known is None:
            known = Described.of(self._loaded())
            if note is not None:
                note.write(known)
        return known

    def _note(self) -> Note | None:
        """Return where it is remembered; None for a backbone that cannot name its weights without loading them."""
        name: Any = getattr(self._component.build(), "fingerprint", None)
        weights: str | None = name() if callable(name) else None  # a text where a backbone is its own encoder
        return None if weights is None else Note(self._store.folder, self._component.identity(), weights)

    def _from(self, origin: Origin) -> Facts:
        """Return the facts of features of that origin."""
        images = len(self.dataset.train.labels) + len(self.dataset.test.labels)
        return Facts(digest(origin.parts), origin, images * origin.flops_per_image)

    def _loaded(self) -> Encoder:
        """Return the loaded backbone."""
        if self._encoder is None:
            with component_failure("backbone", self._name):
                self._encoder = self._component.build().load(self._device)
        assert self._encoder is not None
        return self._encoder

    @property
    def _origin(self) -> Origin:
        """Where the features come from; they are known."""
        assert self.facts.origin is not None
        return self.facts.origin

    def _changed(self) -> LtbenchError:
        """Return the error for weights that are not those the features are named after; forget what was remembered."""
        note = self._note()
        if note is not None:
            note.forget()
        return LtbenchError("the weights have changed since this run named its features: run again")

    def _here(self, origin: Origin) -> Origin:
        """Return the origin of the same features computed on this machine."""
        return dataclasses.replace(origin, numerics=self._numerics)

    def _stored(self, dataset: Dataset, origin: Origin, progress: Progress | None) -> Features:
        """Read or extract; a failure is the backbone's own. Of a view, the training images alone are encoded.

        What is extracted is this machine's, wherever the other features come from.
        """
        here = self._here(origin)
        with component_failure("backbone", self._name), pinned(self._device):
            for each in (origin, here):
                features = self._store.find(each.key)
                if features is not None:
                    return features
            return self._extracted(dataset, here, progress)

    def _extracted(self, dataset: Dataset, origin: Origin, progress: Progress | None) -> Features:
        """Extract and store; an image that cannot be read is the dataset's failure."""
        only = () if dataset is self.dataset else ("train",)
        encoder = self._loaded()
        if encoder.fingerprint != origin.parts["encoder"]:
            raise self._changed()
        try:
            extraction = Extraction(dataset, encoder, self._device, 0, self._threads, progress, only)
            return self._store.extracted(extraction, origin)
        except ImageError as error:
            raise ComponentFailure("dataset", self._dataset_name) from error


def told(origin: Origin) -> str:
    """Return the numerics class of features as text."""
    return ", ".join(f"{name} {value}" for name, value in sorted(origin.numerics.items()))
