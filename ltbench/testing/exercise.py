"""How a component of each kind is put to work, so that one check can serve several kinds. Knows no check."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ltbench.components import Resolved
from ltbench.errors import SkipCell, UsageError
from ltbench.execute.failures import ComponentFailure
from ltbench.files import data_folder
from ltbench.heads import fit_classifier
from ltbench.testing.problem import Problem
from ltbench.types import Dataset, Part, Rows

Outcome = Mapping[str, Tensor]

IMAGES = 200
"""How many images of a part a check decodes at most, evenly spaced."""


class CheckFailed(AssertionError):  # noqa: N818 - reads as what happened
    """A component does not keep the contract; says what must be what, and what it is."""


@dataclass(frozen=True)
class Fitted:
    """A fitted component as a function of tensors, with what it is usually given, and something far from that."""

    call: Callable[[Tensor], Outcome]
    usual: Tensor
    unusual: Tensor


@contextlib.contextmanager
def must(what: str) -> Iterator[None]:
    """Turn whatever a component raises inside into CheckFailed: it "must …, but raised …"."""
    try:
        yield
    except (SkipCell, CheckFailed):
        raise
    except (Exception, SystemExit) as error:
        cause = error.__cause__ if isinstance(error, ComponentFailure) and error.__cause__ else error
        if isinstance(cause, SkipCell | CheckFailed):
            raise cause from None
        raise CheckFailed(f"must {what}, but raised {type(cause).__name__}: {cause}") from cause


def fitted(kind: str, instance: Any, problem: Problem) -> Fitted:
    """Fit (or load) a component of any kind but dataset."""
    return _WAYS[kind](instance, problem)


def exercise(resolved: Resolved, problem: Problem, what: str = "serve a small long-tailed problem") -> Outcome:
    """Build, fit and use a component; return every tensor it gave, by name."""
    return exercise_instance(resolved.kind, resolved.build(), problem, what)


def exercise_instance(kind: str, instance: Any, problem: Problem, what: str = "serve a small long-tailed problem") -> Outcome:
    """Fit and use an instance; return every tensor it gave, by name."""
    if kind == "dataset":
        return _contents(load_dataset(instance))
    with must(what):
        ready = fitted(kind, instance, problem)
        return ready.call(ready.usual)


def load_dataset(instance: Any) -> Dataset:
    """Load a dataset; where its data are missing, which it says by a UsageError, the check is skipped."""
    with must("load from the data folder, or raise UsageError that says what is missing"):
        try:
            dataset = instance.load(data_folder())
        except UsageError as error:
            raise SkipCell(str(error)) from error
    if not isinstance(dataset, Dataset):
        raise CheckFailed(f"load(folder) must return ltbench.Dataset, not {type(dataset).__name__}")
    return dataset


def parts_of(dataset: Dataset) -> dict[str, Part]:
    """Return the parts there are, by name."""
    named = {"train": dataset.train, "test": dataset.test, "validation": dataset.validation}
    return {name: part for name, part in named.items() if part is not None}


def some_images(part: Part, limit: int = IMAGES) -> list[Tensor]:
    """Decode evenly spaced images of a part, all of them where it has no more than the limit."""
    count = len(part.images)
    return [part.images[i * count // min(count, limit)] for i in range(min(count, limit))]


def difference(a: Outcome, b: Outcome) -> str:
    """Say how two outcomes differ, bit for bit; empty where they do not."""
    if a.keys() != b.keys():
        return f"once there is {', '.join(sorted(a))}, once {', '.join(sorted(b))}"
    for name in a:
        if a[name].shape != b[name].shape or a[name].dtype != b[name].dtype:
            return f"{name} is {form(a[name])} and {form(b[name])}"
        unequal = (_bytes(a[name]) != _bytes(b[name])).any(dim=-1)
        if bool(unequal.any()):
            return f"{int(unequal.sum())} of {a[name].numel()} numbers of {name} differ"
    return ""


def require_finite(outcome: Outcome, where: str) -> None:
    """Raise CheckFailed where a floating tensor holds NaN or infinity."""
    for name, values in outcome.items():
        if values.is_floating_point() and not bool(values.isfinite().all()):
            bad = int((~values.isfinite()).sum())
            raise CheckFailed(f"must give finite {name} {where}: {bad} of {values.numel()} numbers are NaN or infinite")


def form(values: Any) -> str:
    """Describe a tensor's type and shape, or what is there instead of one."""
    if not isinstance(values, Tensor):
        return type(values).__name__
    return f"{str(values.dtype).removeprefix('torch.')} {list(values.shape)}"


def tensors_of(rows: Rows) -> Outcome:
    """Return the tensors that a generator gave."""
    if not isinstance(rows, Rows):
        raise CheckFailed(f"a sampler must return ltbench.Rows, not {type(rows).__name__}")
    fields = {field.name: getattr(rows, field.name) for field in dataclasses.fields(rows)}
    return {name: value for name, value in fields.items() if isinstance(value, Tensor)}


def _transform(instance: Any, problem: Problem) -> Fitted:
    """Fit a transform on training rows; it is used on test rows."""
    transformed = instance.fit(problem.train.x)
    return Fitted(lambda x: {"rows": transformed(x)}, problem.test, 1000 * problem.test + 7)


def _generator(instance: Any, problem: Problem) -> Fitted:
    """Fit a generator; it is used on the budget."""
    sampler = instance.fit(problem.train)
    return Fitted(lambda budget: tensors_of(sampler(budget)), problem.budget, 2 * problem.budget)


def _classifier(instance: Any, problem: Problem) -> Fitted:
    """Fit a head; it is used on test rows."""
    scorer = fit_classifier(instance, problem.train)
    return Fitted(lambda x: {"scores": scorer(x).values}, problem.test, 1000 * problem.test + 7)


def _backbone(instance: Any, problem: Problem) -> Fitted:
    """Load a backbone; it is used on uint8 images ``[B, 32, 32, 3]``."""
    encoder = instance.load("cpu")
    return Fitted(
        lambda images: {"features": encoder(torch.stack([encoder.preprocess(image) for image in images]))},
        problem.images,
        255 - problem.images,
    )


_WAYS: dict[str, Callable[[Any, Problem], Fitted]] = {
    "transform": _transform,
    "generator": _generator,
    "classifier": _classifier,
    "backbone": _backbone,
}


def _contents(dataset: Dataset) -> Outcome:
    """Return a dataset's labels and some of its images."""
    found: dict[str, Tensor] = {}
    for name, part in parts_of(dataset).items():
        found[f"{name} labels"] = part.labels
        found |= {f"{name} image {i}": image for i, image in enumerate(some_images(part, 10))}
    return found


def _bytes(values: Tensor) -> Tensor:
    """Return the bytes of every number: uint8 ``[numel, bytes]``."""
    flat = values.detach().cpu().contiguous().flatten()
    if not flat.numel():  # an empty tensor made of an empty array has strides that view() refuses
        return torch.empty(0, flat.element_size(), dtype=torch.uint8)
    return flat.view(torch.uint8).reshape(flat.numel(), flat.element_size())
