"""The conformance kit: first-party components pass it, and for each check a broken component on which that one fails."""

# ruff: noqa: D102 - the broken classes say what is wrong with them; their methods are the contract's

from __future__ import annotations

import ast
import dataclasses
import itertools
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import ltbench
import ltbench.testing
from ltbench.components import Resolved, parameters, resolve
from ltbench.errors import UsageError
from ltbench.hookspecs import KINDS, Component
from ltbench.plugins import Plugin, Registered, discover, register
from ltbench.testing import CheckFailed, checks_for, find, name_of, parametrize_with_checks, run_checks
from ltbench.testing.draws import watched_draws
from ltbench.types import Dataset, Part, Rows, Scores, Train

plain = dataclass(frozen=True, kw_only=True)

FIRST_PARTY = [
    f"{registered.kind}:{registered.component.name}"
    for registered in discover().components()
    if registered.distribution.startswith("ltbench-")
    and not registered.component.family
    and not any(parameter.required for parameter in parameters(registered))
]
LARGE = {"dataset:glyphs", "dataset:glyphs-pretrain"}
"""Drawn in tens of seconds; the same rules are checked on a few of their classes."""

FIRST_PARTY = [name for name in FIRST_PARTY if name not in LARGE]
FIRST_PARTY += [f"{name}[classes=3,train_per_class=4]" for name in sorted(LARGE)]
VARIANTS = ["gaussian[covariance=empirical]", "smote[k=1,jitter=0]", "logit-adjustment[mode=post-hoc]", "lda[shrinkage=0.5]"]
VARIANTS += ["ncm[center=false,normalize=false]", "pca[dim=3,whiten=true]", "digits[test_per_class=10]"]


@parametrize_with_checks([*FIRST_PARTY, *VARIANTS])
def test_first_party_components_conform(component: Resolved, check: Callable[[Resolved], None]) -> None:
    """What comes with ltbench keeps to the rules that it sets others."""
    check(component)


# Broken components: each would pass but for one rule.


def resolved(kind: str, target: type, **registration: Any) -> Resolved:
    """Return a class of this file as a component."""
    told = {"reference": "folklore: broken on purpose", **registration}
    component = Component("broken", f"{target.__module__}:{target.__name__}", "breaks a rule", **told)
    registered = Registered(component, kind, "broken", "1.0")
    return resolve(register([Plugin("broken", "broken", "broken", "1.0", (registered,))]), kind, "broken")


def frames() -> Iterator[dict[str, Any]]:
    """Yield the local variables of every caller, as a cheat could read them."""
    frame = sys._getframe(1)
    while frame is not None:
        yield frame.f_locals
        frame = frame.f_back


@plain
class Centred:
    """A transform that is right."""

    scale: float = 1.0

    def fit(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        mean = x.mean(dim=0)
        return lambda rows: (rows - mean) * abs(self.scale)


@plain
class Holds(Centred):
    """Holds what its registration binds, whatever it is."""

    held: Any = None


@plain
class Positive(Centred):
    """Takes the liberty to mend a parameter."""

    scale: float = -1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", abs(self.scale))


@plain
class Forgetful(Centred):
    """Overwrites a parameter with what it learned."""

    def fit(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        transformed = Centred().fit(x)
        object.__setattr__(self, "scale", 2.0)
        return transformed


@plain
class Remembers(Centred):
    """Keeps the first mean it saw for every later fit."""

    seen: list[Tensor] = field(default_factory=list, init=False)

    def fit(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        self.seen.append(x.mean(dim=0))
        return lambda rows: rows - self.seen[0]


@plain
class Seeds(Centred):
    """Seeds the global generator."""

    def fit(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        torch.manual_seed(0)
        return super().fit(x)


@plain
class Rounded:
    """Gives whole numbers."""

    def fit(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda rows: rows.round().long()


@plain
class Clamps(Centred):
    """Works in place on the rows it is given."""

    def fit(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        return super().fit(x.clamp_(-1, 1))


@plain
class Counts(Centred):
    """Adds the number of calls."""

    def fit(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        calls = itertools.count()
        return lambda rows: rows + next(calls)


@plain
class Peeks(Centred):
    """Takes the mean of test rows along, found in a caller's variables."""

    def fit(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        found = [each["material"].test.mean(dim=0) for each in frames() if "material" in each]
        mean = found[0] if found else x.mean(dim=0)
        return lambda rows: rows - mean


@plain
class ManyRows(Centred):
    """Needs more rows than features."""

    def fit(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        torch.linalg.qr(x)[1].reshape(x.shape[1], x.shape[1])
        return super().fit(x)


@plain
class Divides:
    """Divides by the deviation of each feature, though it be zero."""

    def fit(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda rows: rows / x.std(dim=0)


@plain
class OfBatch:
    """Standardises by the rows at hand."""

    def fit(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda rows: (rows - rows.mean(dim=0)) / (1 + rows.std(dim=0, correction=0))


@plain
class Copies:
    """A generator that is right: copies of the class's mean, plus noise from the stream."""

    def fit(self, train: Train) -> Callable[[Tensor], Rows]:
        return lambda budget: self.draw(train, budget)

    def draw(self, train: Train, budget: Tensor) -> Rows:
        labels = torch.arange(len(budget)).repeat_interleave(budget)
        x = torch.stack([train.x[train.targets == c].mean(dim=0) for c in labels.tolist()] or [train.x[0]])[: len(labels)]
        return Rows(x + self.noise(train, x).to(x.dtype), labels)

    def noise(self, train: Train, x: Tensor) -> Tensor:
        return train.stream.normal(torch.arange(len(x)), x.shape[1])


@plain
class Unseeded(Copies):
    """Draws from entropy, once in each fit."""

    def fit(self, train: Train) -> Callable[[Tensor], Rows]:
        shift = float(np.random.default_rng().normal())
        return lambda budget: dataclasses.replace(made := self.draw(train, budget), x=made.x + shift)


@plain
class FixedTorch(Copies):
    """Draws from a generator of torch with a seed of its own."""

    def noise(self, train: Train, x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


@plain
class FixedNumpy(Copies):
    """Draws from a generator of NumPy with a seed of its own."""

    def noise(self, train: Train, x: Tensor) -> Tensor:
        return torch.from_numpy(np.random.default_rng(0).normal(size=x.shape))


@plain
class FixedStream(Copies):
    """Draws from a stream that it makes itself."""

    def noise(self, train: Train, x: Tensor) -> Tensor:
        return ltbench.Stream.of(0).normal(torch.arange(len(x)), x.shape[1])


@plain
class Advances(Copies):
    """Goes on drawing where the last call ended."""

    def fit(self, train: Train) -> Callable[[Tensor], Rows]:
        calls = itertools.count()
        return lambda budget: self.draw(train.replace(stream=train.stream.child(next(calls))), budget)


@plain
class Deviates(Copies):
    """Scales the noise by the class's deviation, which one row does not have."""

    def draw(self, train: Train, budget: Tensor) -> Rows:
        made = super().draw(train, budget)
        spread = [train.x[train.targets == c] for c in range(len(budget))]
        scale = torch.stack([((r - r.mean(dim=0)) ** 2).sum() / (len(r) - 1) if len(r) else torch.zeros(()) for r in spread])
        return dataclasses.replace(made, x=made.x * scale[made.targets, None])


@plain
class AtLeastOne(Copies):
    """Gives a row more than it is asked for, of classes that have rows."""

    def draw(self, train: Train, budget: Tensor) -> Rows:
        return super().draw(train, budget + (train.real_class_counts > 0))


@plain
class TogetherAlike(Copies):
    """Fits many training sets as if they were the first."""

    def fit_many(self, trains: Sequence[Train]) -> list[Callable[[Tensor], Rows]]:
        return [self.fit(trains[0]) for _ in trains]


@plain
class OneSampler(Copies):
    """Fits many training sets and returns a sampler for the first alone."""

    def fit_many(self, trains: Sequence[Train]) -> list[Callable[[Tensor], Rows]]:
        return [self.fit(trains[0])]


@plain
class PartsInReverse(Copies):
    """Yields its parts from the last class to the first."""

    def fit(self, train: Train) -> Any:
        draw = super().fit(train)

        class Sampler:
            def __call__(self, budget: Tensor) -> Rows:
                return draw(budget)

            def parts(self, budget: Tensor) -> Iterator[Rows]:
                for c in range(len(budget) - 1, -1, -1):
                    yield draw(torch.where(torch.arange(len(budget)) == c, budget, 0))

        return Sampler()


@plain
class PaidInEachPart(Copies):
    """Counts the cost of all rows in each of its parts."""

    def fit(self, train: Train) -> Any:
        drawn = super().fit(train)

        class Sampler:
            def __call__(self, budget: Tensor) -> Rows:
                return dataclasses.replace(drawn(budget), flops=17, notes={"k": 3})

            def parts(self, budget: Tensor) -> Iterator[Rows]:
                whole = self(budget)
                for half in (slice(9), slice(9, None)):
                    yield dataclasses.replace(whole, x=whole.x[half], targets=whole.targets[half])

        return Sampler()


@plain
class SilentParts(PaidInEachPart):
    """Leaves the notes out of its parts."""

    def fit(self, train: Train) -> Any:
        sampler = super().fit(train)

        class Sampler:
            def __call__(self, budget: Tensor) -> Rows:
                return sampler(budget)

            def parts(self, budget: Tensor) -> Iterator[Rows]:
                for part in sampler.parts(budget):
                    yield dataclasses.replace(part, notes={})

        return Sampler()


@plain
class Weighs(Copies):
    """Changes the weights of the rows it is given."""

    def fit(self, train: Train) -> Callable[[Tensor], Rows]:
        train.weights.fill_(0.5)
        return super().fit(train)


@plain
class ShortLabels(Copies):
    """Gives labels in int32."""

    def draw(self, train: Train, budget: Tensor) -> Rows:
        made = super().draw(train, budget)
        return dataclasses.replace(made, targets=made.targets.int())


@plain
class FarParents(Copies):
    """Names parents by row id, not by position."""

    def draw(self, train: Train, budget: Tensor) -> Rows:
        made = super().draw(train, budget)
        return dataclasses.replace(made, parents=train.row_ids[-1:].expand(len(made.x))[:, None])


@plain
class TensorNotes(Copies):
    """Puts a tensor into its notes."""

    def draw(self, train: Train, budget: Tensor) -> Rows:
        return dataclasses.replace(super().draw(train, budget), notes={"budget": budget})


@plain
class Means:
    """A head that is right: less the squared distance to the class's mean."""

    def fit(self, train: Train) -> Callable[[Tensor], Scores]:
        means = self.means(train)
        return lambda x: Scores(-((x[:, None] - means) ** 2).sum(dim=2) + self.extra(x), "scores")

    def means(self, train: Train) -> Tensor:
        own = self.shares(train).to(train.x.dtype)
        return (own.T @ train.x) / own.sum(dim=0).clamp_min(1)[:, None]

    def shares(self, train: Train) -> Tensor:
        return train.targets if train.targets.ndim == 2 else torch.nn.functional.one_hot(train.targets, train.classes)

    def extra(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), 1)


@plain
class EmptyMeans(Means):
    """Divides by the count of a class without rows."""

    def means(self, train: Train) -> Tensor:
        own = self.shares(train).to(train.x.dtype)
        return (own.T @ train.x) / own.sum(dim=0)[:, None]


@plain
class LabelsAlone(Means):
    """Takes targets for labels, whatever they are."""

    def shares(self, train: Train) -> Tensor:
        return torch.nn.functional.one_hot(train.targets, train.classes)


@plain
class Smears(Means):
    """Gives every class a little of a row with a soft label."""

    def shares(self, train: Train) -> Tensor:
        return super().shares(train).clamp_min(0.1 if train.targets.ndim == 2 else 0)


@plain
class ByPlace(Means):
    """Scores a row by its place in the batch, too."""

    def extra(self, x: Tensor) -> Tensor:
        return torch.arange(len(x))[:, None] * torch.ones(1)


@plain
class PeekingHead(Means):
    """Finds the test rows in a caller's variables while it is fitted."""

    def means(self, train: Train) -> Tensor:
        found = [each["prepared"].test.mean() for each in frames() if "prepared" in each]
        return super().means(train) + sum(found)


@plain
class Misnamed(Means):
    """Calls its scores what no one knows."""

    def fit(self, train: Train) -> Callable[[Tensor], Scores]:
        scorer = super().fit(train)
        return lambda x: dataclasses.replace(scorer(x), kind="logit")


@plain
class TensorCost(Means):
    """Tells its cost as a tensor."""

    def fit(self, train: Train) -> Any:
        scorer = super().fit(train)
        scorer.training_flops = torch.tensor(3)  # type: ignore[attr-defined]
        return scorer


@plain
class WrongSlopes:
    """Gives derivatives that are a little too large."""

    l2: float = 0.1

    def loss(self, batch: ltbench.Batch) -> tuple[Tensor, Tensor]:
        losses, slopes = ltbench.softmax_loss(batch.logits, batch.targets)
        return losses, 1.001 * slopes


@plain
class Plain:
    """Cross entropy."""

    l2: float = 0.1

    def loss(self, batch: ltbench.Batch) -> tuple[Tensor, Tensor]:
        return ltbench.softmax_loss(batch.logits, batch.targets)


@plain
class AlwaysPlain(Plain):
    """Counts classes by their prior, and says that it does not."""

    def loss(self, batch: ltbench.Batch) -> tuple[Tensor, Tensor]:
        return ltbench.softmax_loss(batch.logits + batch.log_prior, batch.targets)

    def reduces_to(self, train: Train) -> Plain:
        return Plain(l2=self.l2)


class Mean:
    """An encoder that is right: each channel's mean."""

    fingerprint, flops_per_image = "mean", 0

    def preprocess(self, image: Tensor) -> Tensor:
        return image

    def __call__(self, batch: Tensor) -> Tensor:
        return batch.float().mean(dim=(1, 2)) / 255


class Normalises(Mean):
    """Normalises by the batch, as batch norm does in training mode."""

    def __call__(self, batch: Tensor) -> Tensor:
        features = super().__call__(batch)
        return features - features.mean(dim=0)


class Flat(Mean):
    """Gives no rows."""

    flops_per_image = 0.5


@plain
class MeanBackbone:
    """A backbone that is right."""

    def load(self, device: str) -> Any:
        return Mean()


@plain
class BatchNorm:
    """Loads an encoder that mixes images."""

    def load(self, device: str) -> Any:
        return Normalises()


@plain
class HalfFlops:
    """Loads an encoder with half an operation for an image."""

    def load(self, device: str) -> Any:
        return Flat()


@plain
class Renamed:
    """Names the weights anew at each load."""

    def load(self, device: str) -> Any:
        encoder = Mean()
        encoder.fingerprint = uuid.uuid4().hex
        return encoder


class Keeps(Mean):
    """An encoder that keeps a batch while it works on it."""

    def __call__(self, batch: Tensor) -> Tensor:
        self.held = batch
        time.sleep(0.002)
        return super().__call__(self.held)


@plain
class OneAtATime:
    """Loads an encoder that one thread alone can use."""

    def load(self, device: str) -> Any:
        return Keeps()


@plain
class Miscounts:
    """Tells one feature too many."""

    def feature_dimension(self) -> int:
        return 4

    def load(self, device: str) -> Any:
        return Mean()


class Doubles(Mean):
    """An encoder that preprocesses a batch in another way than an image."""

    def preprocess_batch(self, images: Tensor) -> Tensor:
        return torch.stack([self.preprocess(image) for image in images]) * 2


@plain
class OtherTogether:
    """Loads an encoder whose two ways differ."""

    def load(self, device: str) -> Any:
        return Doubles()


@plain
class NamesAnew:
    """Names its weights anew each time."""

    def fingerprint(self) -> str:
        return uuid.uuid4().hex

    def load(self, device: str) -> Any:
        return Mean()


@plain
class Squares:
    """A dataset that is right."""

    def load(self, folder: Path) -> Dataset:
        return Dataset(self.part(0, 40), self.part(40, 60), ("even", "odd"), "squares")

    def part(self, start: int, stop: int) -> Part:
        images = [torch.full((2, 2, 1), i, dtype=torch.uint8) for i in range(start, stop)]
        return Part(torch.arange(start, stop) % 2, images)


@plain
class ShortIntegers(Squares):
    """Labels in int32."""

    def part(self, start: int, stop: int) -> Part:
        made = super().part(start, stop)
        return Part(made.labels.int(), made.images)


@plain
class FromOne(Squares):
    """Labels that count from one."""

    def part(self, start: int, stop: int) -> Part:
        made = super().part(start, stop)
        return Part(made.labels + 1, made.images)


@plain
class FloatImages(Squares):
    """Images in floating numbers."""

    def part(self, start: int, stop: int) -> Part:
        made = super().part(start, stop)
        return Part(made.labels, [image / 255 for image in made.images])


@plain
class Overlapping(Squares):
    """Test images from among the training images."""

    def part(self, start: int, stop: int) -> Part:
        return super().part(max(0, start - 5), stop)


@plain
class Restamped(Squares):
    """A fingerprint of the load, not of the content."""

    def load(self, folder: Path) -> Dataset:
        return dataclasses.replace(super().load(folder), fingerprint=os.urandom(8).hex())


class Lazy(Sequence[Tensor]):
    """Images made when they are asked for, with a loader that may not be pickled."""

    def __init__(self, images: Sequence[Tensor], loader: Any = None) -> None:
        self.images, self.loader = images, loader

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> Any:
        return self.images[index]


@plain
class ReadsLabels(Squares):
    """Reads each label off its image."""

    def part(self, start: int, stop: int) -> Part:
        images = Lazy(super().part(start, stop).images)
        return Part(torch.tensor([int(images[i][0, 0, 0]) % 2 for i in range(len(images))]), images)


@plain
class OpensFiles(Squares):
    """Opens every image file to learn its label."""

    def load(self, folder: Path) -> Dataset:
        import io

        image = pytest.importorskip("PIL.Image")
        file = io.BytesIO()
        image.new("L", (2, 2)).save(file, "png")
        image.open(file).load()
        return super().load(folder)


@plain
class OpenFile(Squares):
    """Images that hold on to what cannot be sent to a worker."""

    def part(self, start: int, stop: int) -> Part:
        made = super().part(start, stop)
        return Part(made.labels, Lazy(made.images, loader=lambda path: path))


BROKEN: list[tuple[str, str, type, str]] = [
    ("parameters_stored", "transform", Positive, "scale is 1.0 when built with scale=-1.0"),
    ("parameters_stored", "transform", Forgetful, "scale is 2.0 after use, built with scale=1.0"),
    ("deterministic", "transform", Remembers, "used before on other rows, 180 of 180 numbers of rows differ"),
    ("deterministic", "generator", Unseeded, "must give the same bits for the same input and stream"),
    ("random_state_untouched", "transform", Seeds, "moved that of torch"),
    ("shapes_and_types", "transform", Rounded, "training rows must be floating numbers [80, 6], not int64 [80, 6]"),
    ("shapes_and_types", "generator", ShortLabels, "labels must be int64, not torch.int32"),
    ("shapes_and_types", "generator", FarParents, "parents must be −1 to 79, not 238 to 238"),
    ("shapes_and_types", "generator", TensorNotes, "must give notes that a record can hold"),
    ("shapes_and_types", "classifier", Misnamed, "not 'logit'"),
    ("shapes_and_types", "classifier", TensorCost, "its training cost must be an int, not tensor(3)"),
    ("shapes_and_types", "backbone", HalfFlops, "flops_per_image must be an int of at least 0, not 0.5"),
    ("inputs_unmodified", "transform", Clamps, "must not modify train.x: work on a copy"),
    ("inputs_unmodified", "generator", Weighs, "must not modify train.weights"),
    ("repeatable_calls", "transform", Counts, "after a call with other input"),
    ("repeatable_calls", "generator", Advances, "after a call with other input"),
    ("test_rows_unseen", "transform", Peeks, "must see training rows only"),
    ("test_rows_unseen", "classifier", PeekingHead, "must see training rows only"),
    ("fewer_rows_than_features", "transform", ManyRows, "must serve a training set where there are fewer rows than features"),
    ("constant_feature", "transform", Divides, "must give finite rows where a feature is constant: 30 of 180 numbers"),
    ("seed_used", "generator", FixedTorch, "draws random numbers (torch randn), yet 4 streams give the same result"),
    ("seed_used", "generator", FixedNumpy, "draws random numbers (numpy.random.default_rng)"),
    ("seed_used", "generator", FixedStream, "draws random numbers (ltbench.Stream)"),
    ("one_row_class", "generator", Deviates, "must give finite x where a class has one row"),
    ("absent_class", "classifier", EmptyMeans, "must give finite scores where a class has no row: 30 of 150 numbers"),
    ("budget_kept", "generator", AtLeastOne, "must give at most the budget of rows, [0, 20, 30, 34, 36] per class"),
    ("fitted_together", "generator", OneSampler, "fit_many must return a sampler for each of 4 training sets, not 1"),
    ("fitted_together", "generator", TogetherAlike, "fit_many must give what fit gives: of training set 1"),
    ("drawn_in_parts", "generator", PartsInReverse, "parts must be the rows that are drawn at once"),
    ("drawn_in_parts", "generator", PaidInEachPart, "flops of parts must add up to 17, as at once, not to 34"),
    ("drawn_in_parts", "generator", SilentParts, "notes of parts must together be {'k': 3}, as at once, not {}"),
    ("batch_invariant", "transform", OfBatch, "rows alone must be as they are together, within 1e-06"),
    ("batch_invariant", "classifier", ByPlace, "scores alone must be as they are together"),
    ("batch_invariant", "backbone", BatchNorm, "features alone must be as they are together, within 1e-05"),
    ("soft_labels", "classifier", LabelsAlone, "must serve soft labels [N, C], but raised"),
    ("soft_labels", "classifier", Smears, "must give the same scores where labels [N] are written as soft ones [N, C]"),
    ("loss_and_slopes", "classifier", WrongSlopes, "slopes must be the derivatives of the losses"),
    ("reduction", "classifier", AlwaysPlain, "must give a component of the same weighted losses; on (40, 20, 10, 6, 4) rows"),
    ("many_threads", "backbone", OneAtATime, "must give the same bits when several threads call it at once"),
    ("preprocessed_together", "backbone", OtherTogether, "must give what preprocess gives image by image"),
    ("weights_named", "backbone", NamesAnew, "fingerprint() must be a text that names what load reads, or None"),
    ("features_counted", "backbone", Miscounts, "feature_dimension() must be the number of features, 3, or None, not 4"),
    ("fingerprint_stable", "backbone", Renamed, "the same at every load"),
    ("fingerprint_stable", "dataset", Restamped, "the same at every load"),
    ("labels", "dataset", ShortIntegers, "labels of the train part must be int64 [N], not int32 [40]"),
    ("labels", "dataset", FromOne, "labels of the train part must be 0 to 1 for 2 class names, not 1 to 2"),
    ("images", "dataset", FloatImages, "must be uint8 [H, W, channels] or finite float vectors of one length"),
    ("parts_disjoint", "dataset", Overlapping, "5 of 25 images of test are in train"),
    ("labels_without_decoding", "dataset", ReadsLabels, "took images of train, test"),
    ("labels_without_decoding", "dataset", OpensFiles, "decoded 1 image files"),
    ("pickles", "dataset", OpenFile, "must give a Dataset that survives pickling"),
]
ELSEWHERE = {"reference", "lazy_import"}  # broken by a registration, not by a class: tests of their own below


def failures(component: Resolved) -> dict[str, str]:
    """Return which checks fail, and why."""
    return {finding.check: finding.reason for finding in run_checks(component) if finding.outcome == "FAIL"}


@pytest.mark.parametrize(
    ("check", "kind", "target", "reason"), BROKEN, ids=[f"{each[0]}-{each[2].__name__}" for each in BROKEN]
)
def test_a_broken_component_fails_that_check_alone(check: str, kind: str, target: type, reason: str) -> None:
    """The check that is meant for it fails and says what is wrong; no other check is dragged along."""
    found = failures(resolved(kind, target))
    assert list(found) == [check], found
    assert reason in found[check]


@pytest.mark.parametrize(
    ("kind", "target"),
    [("transform", Centred), ("generator", Copies), ("classifier", Means), ("backbone", MeanBackbone), ("dataset", Squares)],
)
def test_what_the_broken_ones_are_made_from_is_right(kind: str, target: type) -> None:
    """Without the fault, the same code passes every check: it is the fault that fails."""
    assert failures(resolved(kind, target)) == {}


def test_every_check_has_a_broken_component() -> None:
    """A check that cannot fail would be none."""
    checks = {name_of(check) for kind in KINDS for check in checks_for(kind)}
    assert checks - {check for check, *_ in BROKEN} == ELSEWHERE


def test_a_missing_reference_fails() -> None:
    """A registration without a reference, or with blanks for one."""
    assert list(failures(resolved("transform", Centred, reference=""))) == ["reference"]
    assert list(failures(resolved("transform", Centred, reference=" "))) == ["reference"]


def test_a_parameter_that_cannot_be_pickled_fails() -> None:
    """A worker process could not get it."""
    found = failures(resolved("transform", Holds, params={"held": lambda: None}))
    assert list(found) == ["pickles"]
    assert "must survive pickling to a worker process" in found["pickles"]


PLUGIN = """
{imports}
from dataclasses import dataclass
import ltbench

@dataclass(frozen=True, kw_only=True)
class Same:
    def fit(self, x):
        return lambda rows: rows

@ltbench.hookimpl
def ltbench_transforms():
    return [ltbench.Component("same", "{module}:Same", "nothing", reference="folklore")]
"""


@pytest.mark.parametrize("heavy", ["torch", "numpy", "from sklearn import svm"])
def test_a_heavy_import_fails(make_plugin: Callable[..., Path], heavy: str) -> None:
    """The module of the hooks imports what ``ltbench list`` has no time for; the line is named."""
    imports = heavy if heavy.startswith("from") else f"import {heavy}"
    make_plugin("heavy-plugin", PLUGIN.format(imports=imports, module="heavy_plugin"))
    found = failures(resolve(discover(), "transform", "same"))
    assert list(found) == ["lazy_import"]
    assert "heavy_plugin.py:2 imports" in found["lazy_import"]


def test_a_light_plugin_passes(make_plugin: Callable[..., Path]) -> None:
    """The same plugin without the import passes, although torch is imported in this process long since."""
    make_plugin("light-plugin", PLUGIN.format(imports="", module="light_plugin"))
    assert failures(resolve(discover(), "transform", "same")) == {}


def test_the_generator_of_the_docs_passes(make_plugin: Callable[..., Path]) -> None:
    """What the documentation shows keeps to the rules it states."""
    page = (Path(__file__).parent.parent / "docs" / "plugins.md").read_text(encoding="utf-8")
    make_plugin("my-noise", page.partition("```python\n")[2].partition("```")[0])
    assert failures(resolve(discover(), "generator", "noise")) == {}


def test_the_head_of_the_docs_passes(make_plugin: Callable[..., Path]) -> None:
    """So does the head, with weights and soft labels."""
    page = (Path(__file__).parent.parent / "docs" / "plugins.md").read_text(encoding="utf-8")
    make_plugin("my-means", page.partition("## A head\n")[2].partition("```python\n")[2].partition("```")[0])
    assert failures(resolve(discover(), "classifier", "means")) == {}


def test_the_docs_name_every_check() -> None:
    """The table of rules is complete."""
    page = (Path(__file__).parent.parent / "docs" / "plugins.md").read_text(encoding="utf-8")
    assert [name_of(check) for kind in KINDS for check in checks_for(kind) if f"`{name_of(check)}`" not in page] == []


# The kit itself


def test_what_draws_nothing_is_exempt_from_seeds() -> None:
    """Streams, torch and NumPy are watched; making a stream, a child or a generator of torch draws nothing."""
    with watched_draws() as draws:
        ltbench.Stream.of(3).child("x")
        torch.Generator().manual_seed(0)
        torch.zeros(3).add_(1)
    assert draws == []
    with watched_draws() as draws:
        torch.empty(2).normal_()
        torch.randperm(3)
        np.random.default_rng(0)
        ltbench.Stream.of(3).order(torch.arange(2))
    assert draws == ["torch normal_", "torch randperm", "numpy.random.default_rng", "ltbench.Stream"]


def test_a_check_leaves_the_random_state_alone() -> None:
    """Even where the component does not."""
    before = torch.get_rng_state()
    with pytest.raises(CheckFailed):
        ltbench.testing.general.check_random_state_untouched(resolved("transform", Seeds))
    assert torch.equal(torch.get_rng_state(), before)


def test_ids_are_readable() -> None:
    """A test is named by component and check; by the kind, too, where two components share a name."""
    ids = [parameter.id for parameter in parametrize_with_checks(["classifier:softmax", "smote[k=2|3]"]).args[1]]
    assert {"softmax-one_row_class", "smote[k=2]-seed_used", "smote[k=3]-seed_used"} <= set(ids)
    ids = [parameter.id for parameter in parametrize_with_checks(["transform:none", "generator:none"]).args[1]]
    assert {"transform:none-batch_invariant", "generator:none-budget_kept"} <= set(ids)


def test_an_expected_failure_is_strict_and_has_a_reason() -> None:
    """The named check is expected to fail, and no other."""
    made = parametrize_with_checks(["softmax"], expected_failures={"check_absent_class": "needs all classes"}).args[1]
    marked = {parameter.id: parameter.marks for parameter in made if parameter.marks}
    assert list(marked) == ["softmax-absent_class"]
    (mark,) = marked["softmax-absent_class"]
    assert (mark.name, mark.kwargs) == ("xfail", {"reason": "needs all classes", "strict": True})


def test_a_wrong_expected_failure_is_refused() -> None:
    """A name that is no check's, or a failure without a reason."""
    with pytest.raises(UsageError, match=r"names no check of these components: 'absent_clas' .did you mean 'absent_class'"):
        parametrize_with_checks(["softmax"], expected_failures={"absent_clas": "x"})
    with pytest.raises(UsageError, match="names no check of these components: 'budget_kept'"):
        parametrize_with_checks(["softmax"], expected_failures={"budget_kept": "x"})
    with pytest.raises(UsageError, match="must say why 'absent_class' fails"):
        parametrize_with_checks(["softmax"], expected_failures={"absent_class": " "})


@plain
class Reluctant:
    """States a reason not to serve."""

    def fit(self, train: Train) -> Any:
        raise ltbench.SkipCell("needs class text")


@plain
class NoData:
    """A dataset whose files are not there."""

    def load(self, folder: Path) -> Dataset:
        raise ltbench.UsageError("put the images into the data folder")


@pytest.mark.parametrize(("kind", "target", "reason"), [("classifier", Reluctant, "class text"), ("dataset", NoData, "images")])
def test_a_reason_to_skip_is_no_failure(kind: str, target: type, reason: str) -> None:
    """A stated reason, and a dataset's missing files, skip checks; in pytest, too."""
    component = resolved(kind, target)
    findings = {finding.check: finding for finding in run_checks(component)}
    assert findings["deterministic"].outcome == "skip"
    assert reason in findings["deterministic"].reason
    assert {finding.outcome for finding in findings.values()} == {"ok", "skip"}
    registry = register([Plugin("broken", "broken", "broken", "1.0", (component.registered,))])
    made = parametrize_with_checks(["broken"], registry=registry).args[1]
    run = next(parameter.values[1] for parameter in made if parameter.id == "broken-deterministic")
    with pytest.raises(pytest.skip.Exception, match=reason):
        run(component)


@plain
class Raises:
    """Raises whatever it is given."""

    def fit(self, x: Tensor) -> Any:
        raise SystemExit("no licence")


def test_whatever_is_raised_is_a_finding() -> None:
    """A SystemExit from a component ends neither the check of others nor pytest."""
    found = failures(resolved("transform", Raises))
    assert found["deterministic"] == "must serve a small long-tailed problem, but raised SystemExit: no licence"


def test_names_are_looked_up() -> None:
    """The kind may be left out where it is clear."""
    registry = discover()
    assert [each.canonical for each in find(registry, "smote[k=3|4]")] == ["smote[k=3]", "smote[k=4]"]
    assert find(registry, "transform:none")[0].kind == "transform"
    with pytest.raises(UsageError, match="'none' is a transform and a generator: write transform:none or generator:none"):
        find(registry, "none")
    with pytest.raises(UsageError, match=r"unknown component 'smot' .did you mean 'smote'"):
        find(registry, "smot")
    with pytest.raises(UsageError, match="kind must be one of"):
        checks_for("head")


def test_the_kit_imports_pytest_only_when_used() -> None:
    """``ltbench check`` works where pytest is not installed."""
    for path in Path(ltbench.testing.__file__).parent.glob("*.py"):
        top = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.Import)]
        assert "pytest" not in {alias.name for node in top for alias in node.names}
