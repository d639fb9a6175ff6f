"""Any sampler of imbalanced-learn by its class's name (Lemaître, Nogueira & Aridas, JMLR 18, 2017, arXiv 1609.06570)."""

from __future__ import annotations

import ast
import difflib
import inspect
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import ltbench
from ltbench_generators.sampler import check_request, onto_sphere, unit_rows

CATEGORICAL = ("SMOTENC", "SMOTEN")
"""Classes for features that are categories, which those of a backbone are not."""


@dataclass(frozen=True, kw_only=True)
class ImbalancedLearn:
    """``name``, such as ``SVMSMOTE``, with ``params`` as Python writes them: ``"k_neighbors=3, m_neighbors=8"``.

    Over-samplers and combined ones get the budget as their strategy; those that only leave rows out keep their own,
    ``auto`` unless given, whatever the budget. Rows equal to a real one are that one, each once; all others are
    synthetic. A cell whose rows the class refuses is skipped, with what it says.
    """

    name: str
    params: str = ""

    def __post_init__(self) -> None:
        """Build the class once, so that unknown names and parameters are refused while planning."""
        self.build()

    def fit(self, train: ltbench.Train) -> Sampler:
        """Remember the rows."""
        return Sampler(self, train)

    def build(self, **own: Any) -> Any:
        """Build the class, or raise ValueError: unknown class or parameter, one that ltbench sets, or a bad value."""
        found = sampler_classes()
        if self.name not in found:
            close = difflib.get_close_matches(self.name, found, 1)
            hint = f" (did you mean {close[0]!r}?)." if close else "."
            raise ValueError(f"imbalanced-learn has no sampler {self.name!r} for numbers{hint} It has {', '.join(found)}")
        accepted, given = self.accepted, _parsed(self.params)
        ours = {"random_state", *(["sampling_strategy"] if self.adds_rows else [])}
        for name in given:
            if name in ours or name not in accepted:
                why = "is set by ltbench" if name in ours & accepted else "is none of its parameters"
                raise ValueError(f"{name!r} {why}: {self.name} takes {', '.join(sorted(accepted - ours)) or 'none'}")
        sampler = found[self.name](**given, **own)
        try:
            sampler._validate_params()  # noqa: SLF001 - the one way to check parameters before there are rows
        except ValueError as error:
            raise ValueError(" ".join(str(error).split())) from error
        return sampler

    @property
    def accepted(self) -> set[str]:
        """The names of the class's parameters."""
        return set(inspect.signature(sampler_classes()[self.name]).parameters)

    @property
    def adds_rows(self) -> bool:
        """Whether the class takes how many rows it shall make."""
        kind: str = sampler_classes()[self.name]._sampling_type  # noqa: SLF001 - as imbalanced-learn itself asks
        return kind == "over-sampling"


@dataclass(frozen=True)
class Sampler:
    """Hands real rows to imbalanced-learn, and tells what comes back apart."""

    chosen: ImbalancedLearn
    train: ltbench.Train

    @property
    def adds_rows(self) -> bool:
        """Whether the class takes a budget; one that leaves rows out does not."""
        return self.chosen.adds_rows

    def __call__(self, budget: Tensor) -> ltbench.Rows:
        """Return the rows that are new, and which real ones stay."""
        check_request(self.train, budget)
        real, labels = self.train.x.cpu().numpy(), self.train.targets.cpu().numpy()
        x, targets, warned = self._resampled(real, labels, budget)
        source, again = matched(real, labels, x, targets)
        keep = torch.zeros(len(real), dtype=torch.bool)
        keep[source[(source >= 0) & ~again]] = True
        new = (source < 0) | again
        made = torch.tensor(x[new]).to(self.train.x)
        made = onto_sphere(made.double())[0].to(made.dtype) if unit_rows(self.train.x) else made
        return ltbench.Rows(
            x=made,
            targets=torch.tensor(targets[new]).to(self.train.targets),
            parents=torch.tensor(source[new].reshape(-1, 1)).to(self.train.targets.device),
            keep=None if bool(keep.all()) else keep.to(self.train.x.device),
            notes={**self._missed(targets[new], budget), **({"warnings": warned} if warned else {})},
        )

    def _resampled(
        self, real: NDArray[Any], labels: NDArray[Any], budget: Tensor
    ) -> tuple[NDArray[Any], NDArray[Any], list[str]]:
        """Return what the class makes of real rows, and its warnings; raise SkipCell if it refuses them."""
        own: dict[str, Any] = {}
        if "random_state" in self.chosen.accepted:
            own["random_state"] = int(self.train.stream.child("imblearn").integers(torch.zeros(1), 1, 2**31 - 1))
        if self.chosen.adds_rows:
            sizes = self.train.real_class_counts.long()
            own["sampling_strategy"] = {c: n for c, n in enumerate((sizes + budget).tolist()) if sizes[c]}
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                x, targets = self.chosen.build(**own).fit_resample(real, labels)
            except (ValueError, RuntimeError) as error:
                text = " ".join(str(error).split())
                raise ltbench.SkipCell(f"imbalanced-learn's {self.chosen.name} refuses these rows: {text}") from error
        return x, targets, sorted({" ".join(str(each.message).split()) for each in warned})

    def _missed(self, targets: NDArray[Any], budget: Tensor) -> dict[str, Any]:
        """Return by how many rows each class misses its budget: some classes round, or make what they can."""
        given = np.bincount(targets, minlength=len(budget)) - budget.cpu().numpy()
        missed = {str(c): int(n) for c, n in enumerate(given) if n and self.chosen.adds_rows}
        return {"budget_missed": missed} if missed else {}


def sampler_classes() -> dict[str, Any]:
    """Return the over-, under- and combined samplers for numbers, by name."""
    from imblearn import combine, over_sampling, under_sampling

    modules = (over_sampling, under_sampling, combine)
    return {name: getattr(m, name) for m in modules for name in sorted(m.__all__) if name not in CATEGORICAL}


def matched(
    real: NDArray[Any], labels: NDArray[Any], x: NDArray[Any], targets: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return which real row each row ``[n, D]`` equals in features and label, −1 for none; and whether it does so again.

    Of equal real rows each is met once before any is met again.
    """
    both = np.ascontiguousarray(np.vstack([np.column_stack([real, labels]), np.column_stack([x, targets])]))
    _, group = np.unique(both.view(np.dtype((np.void, both.itemsize * both.shape[1])))[:, 0], return_inverse=True)
    ours, theirs = group[: len(real)], group[len(real) :]
    order = np.argsort(ours, kind="stable")
    first = np.searchsorted(ours[order], theirs)
    count = np.searchsorted(ours[order], theirs, side="right") - first
    by_group = np.argsort(theirs, kind="stable")
    rank = np.empty(len(theirs), dtype=np.int64)
    rank[by_group] = np.arange(len(theirs)) - np.searchsorted(theirs[by_group], theirs[by_group])
    place = first + np.minimum(rank, np.maximum(count - 1, 0))
    source = np.where(count > 0, order[np.minimum(place, len(order) - 1)], -1)
    return source, (count > 0) & (rank >= count)


def _parsed(params: str) -> dict[str, Any]:
    """Read ``"k_neighbors=3, kind='borderline-2'"``, or raise ValueError."""
    try:
        call = ast.parse(f"f({params})", mode="eval").body
        if (
            not isinstance(call, ast.Call)
            or not isinstance(call.func, ast.Name)
            or call.args
            or any(each.arg is None for each in call.keywords)
        ):
            raise ValueError
        return {str(each.arg): ast.literal_eval(each.value) for each in call.keywords}
    except (SyntaxError, ValueError):
        raise ValueError(
            f"params must be written as in Python, \"k_neighbors=3, kind='borderline-2'\", not {params!r}"
        ) from None
