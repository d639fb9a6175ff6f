"""A dataset seen through a backbone: loaded, described and extracted when a cell first needs it.

Knows plans and the feature store. What is known of it without its features, its ``Facts``, travels between processes, so
that only one of them loads the backbone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ltbench.cells import Cell, Split
from ltbench.contract import Encoder
from ltbench.execute.failures import Failure, SourceFailed, component_failure, failure_of
from ltbench.execute.numerics import numerics_class, pinned
from ltbench.execute.setting import Material
from ltbench.features.extract import Features, extract, feature_key
from ltbench.features.store import FeatureStore
from ltbench.keys import digest
from ltbench.plan import Plan
from ltbench.types import Dataset


@dataclass(frozen=True)
class Facts:
    """The key of a source's features, the analytic cost of encoding its training and test images once, or why not."""

    key: str
    extraction_flops: int = 0
    failure: Failure | None = None


class Once:
    """Calls a function once; its result or its exception is the answer ever after."""

    def __init__(self, function: Any) -> None:
        """Remember the function."""
        self._function = function
        self._value: Any = None
        self._error: Exception | None = None

    def __call__(self) -> Any:
        """Return the value, or raise what the first call raised."""
        if self._error is not None:
            raise self._error
        if self._value is None:
            try:
                self._value = self._function()
            except Exception as error:
                self._error = error
                raise
        return self._value


class Source:
    """The features of one dataset and backbone."""

    def __init__(self, made: Plan, cell: Cell, store: FeatureStore, device: str) -> None:
        """Remember the names; nothing is loaded yet."""
        self.dataset: Dataset = made.datasets[cell.dataset]
        self._component = made.component("backbone", cell.backbone)
        self._name, self._store, self._device = cell.backbone, store, device
        self._facts: Facts | None = None
        self._encoder: Encoder | None = None
        self._features = Once(self._stored)

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
        return Facts(digest(["unknown", self.dataset.fingerprint, self._component.identity()]), failure=failure)

    def features(self) -> Features:
        """Return the features, from the cache or extracted now; raise what keeps them from being there."""
        if self.facts.failure is not None:
            raise SourceFailed(self.facts.failure)
        features: Features = self._features()
        return features

    def material(self, split: Split) -> Material:
        """Return a split's rows on the device."""
        features, dataset, device = self.features(), self.dataset, self._device
        validation = None
        if features.validation is not None and dataset.validation is not None:
            validation = (features.validation.to(device), dataset.validation.labels.to(device))
        return Material(
            x=features.train[split.row_ids].to(device),
            labels=dataset.train.labels[split.row_ids].to(device),
            row_ids=split.row_ids.to(device),
            test=features.test.to(device),
            classes=len(dataset.class_names),
            validation=validation,
            text=None if features.text is None else features.text.to(device),
        )

    def _described(self) -> Facts:
        """Load the backbone; a failure is kept, for the records of its cells."""
        try:
            encoder = self._loaded()
            images = len(self.dataset.train.labels) + len(self.dataset.test.labels)
            with component_failure("backbone", self._name):
                key = feature_key(self.dataset, encoder, self._component.identity())
                return Facts(key, images * encoder.flops_per_image)
        except (Exception, SystemExit) as error:
            return self.unknown(failure_of(error))

    def _loaded(self) -> Encoder:
        """Return the loaded backbone."""
        if self._encoder is None:
            with component_failure("backbone", self._name):
                self._encoder = self._component.build().load(self._device)
        assert self._encoder is not None
        return self._encoder

    def _stored(self) -> Features:
        """Read or extract, and let go of the backbone; a failure is its own."""
        with component_failure("backbone", self._name):
            place = digest([self.facts.key, numerics_class(self._device)])  # so that features never depend on who came first
            with pinned(self._device):
                features = self._store.get(place, lambda: extract(self.dataset, self._loaded(), self._device))
        self._encoder = None
        return features
