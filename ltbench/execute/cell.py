"""Cells of a setting: choose, fit and score heads on prepared rows. Everything in a result is deterministic."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ltbench.contract import Scorer
from ltbench.data import views_wanted
from ltbench.errors import SkipCell
from ltbench.execute.evaluation import Groups, calibration, evaluate
from ltbench.execute.failures import ComponentFailure, component_failure
from ltbench.execute.setting import Prepared
from ltbench.heads import RAISED, Fitted, Task, TemperedScorer, fitting
from ltbench.records import Arrays
from ltbench.types import Scores, Train

SCORE_CHUNK = 8192

Folds = tuple[tuple[Train, Tensor, Tensor], ...]


@dataclass(frozen=True)
class Candidates:
    """A classifier's instances to choose from, what each stands for, its name for messages; whether to fit a temperature."""

    name: str
    instances: Sequence[Any]
    values: Sequence[Mapping[str, Any]]
    temperature: bool = False

    @property
    def selecting(self) -> bool:
        """Whether held-out rows are wanted: to choose, or to fit a temperature."""
        return len(self.instances) > 1 or self.temperature


Result = tuple[dict[str, Any], Arrays]
"""What a record keeps of a cell that is done, and its test scores."""


def run_cell(prepared: Prepared, candidates: Candidates, labels: Tensor, extraction_flops: int) -> Result:
    """Return a cell's result and its test scores; ``labels [N]`` are the test labels, on the CPU."""
    (found,) = [ended[1] for ended in run_cells(prepared, [(candidates, extraction_flops)], labels) if ended is not None]
    if isinstance(found, BaseException):
        raise found
    return found


def run_cells(
    prepared: Prepared, heads: Sequence[tuple[Candidates, int]], labels: Tensor, groups: Groups | None = None
) -> Iterator[tuple[int, Result | BaseException] | None]:
    """Fit heads on the same rows, all together; yield each one's number and result, or its error, as they end.

    ``heads`` are candidates and what extraction has cost, ``groups`` those of a long tail. What one gives depends on itself
    alone. None is yielded now and then: a sign of life.
    """
    score = functools.partial(score_rows, classes=prepared.train.classes)
    seeing, tasks, numbers = _Seeing(prepared), [], []
    for number, (candidates, _) in enumerate(heads):
        try:
            tasks.append(Task(candidates.instances, *seeing(candidates), candidates.temperature))
            numbers.append(number)
        except RAISED as error:
            yield number, _blamed(error, candidates.name)
    for ended in fitting(tasks, score):
        if ended is None:
            yield None
            continue
        number, found = numbers[ended[0]], ended[1]
        if isinstance(found, Fitted):
            yield number, _measured(prepared, heads[number], found, labels, groups)
        else:
            yield number, _blamed(found, heads[number][0].name)


class _Seeing:
    """The training rows and folds that a head sees: the same objects for all heads that ask for the same views."""

    def __init__(self, prepared: Prepared) -> None:
        """Start with nothing asked for."""
        self._train = functools.cache(prepared.train.seeing)
        self._folds = functools.cache(functools.partial(folds_seen, prepared))

    def __call__(self, candidates: Candidates) -> tuple[Train, Folds]:
        """Return what a head sees, folds where it wants them; raise TypeError if it asks for views by what are no names."""
        names = tuple(sorted(views_wanted(candidates.instances[0])))
        return self._train(names), self._folds(names) if candidates.selecting else ()


def _blamed(error: BaseException, name: str) -> BaseException:
    """Blame a classifier for an error; a reason to skip is nobody's fault.

    The error is not raised again: heads may share one, and what a record tells of it must not depend on how many do.
    """
    if isinstance(error, SkipCell | ComponentFailure):
        return error
    failure = ComponentFailure("classifier", name)
    failure.__cause__ = error
    return failure


def _measured(
    prepared: Prepared, head: tuple[Candidates, int], fitted: Fitted, labels: Tensor, groups: Groups | None
) -> Result | BaseException:
    """Score the test rows and measure; return the error if there is one."""
    candidates, extraction_flops = head
    try:
        with component_failure("classifier", candidates.name):
            found = score_rows(fitted.scorer, prepared.test, prepared.train.classes)
            scores = Scores(found.values.cpu(), found.kind)  # metrics are the same on every device
            costs = _costs(prepared, fitted, extraction_flops)
        result = {
            **evaluate(scores, labels, groups),
            "train": prepared.train.shared("ltbench.execute summary", lambda: _train_summary(prepared.train)),
            "selected": _selected(prepared, candidates, fitted.choice),
            **_tempered(prepared, fitted, labels),
            "generator_notes": dict(prepared.notes),
            "fidelity": prepared.fidelity,
            **costs,
        }
    except Exception as error:
        return error
    return result, Arrays(scores.values.float())


def _costs(prepared: Prepared, fitted: Fitted, extraction_flops: int) -> dict[str, Any]:
    """Return what a head has cost, its size, and whether its training reached its end."""
    scorer, selecting = fitted.scorer, fitted.choice is not None or fitted.temperature is not None
    flops = {
        "extraction": extraction_flops,
        "generation": prepared.generation_flops,
        "selection": _sum(fitted.selection_flops, prepared.fold_flops) if selecting else 0,
        "training": getattr(scorer, "training_flops", None),
        "inference_per_row": getattr(scorer, "flops_per_row", None),
    }
    return {
        "flops": flops,
        "parameters": getattr(scorer, "parameters", None),
        "converged": getattr(scorer, "converged", None),
    }


def folds_seen(prepared: Prepared, names: Sequence[str]) -> Folds:
    """Return the folds, of whose views a head sees those that it asks for."""
    return tuple((train.seeing(names), x, labels) for train, x, labels in prepared.folds)


def _tempered(prepared: Prepared, fitted: Fitted, labels: Tensor) -> dict[str, Any]:
    """Return the temperature of a head that has one, the rows that it was fitted on, and calibration without it."""
    if not isinstance(fitted.scorer, TemperedScorer):
        return {}
    found = score_rows(fitted.scorer.scorer, prepared.test, prepared.train.classes)
    before = calibration(Scores(found.values.cpu(), found.kind), labels)
    return {"temperature": {"value": fitted.temperature, "rows": prepared.selection_rows, "before": before}}


def _sum(*costs: int | None) -> int | None:
    """Add costs; unknown if one is."""
    return None if None in costs else sum(cost for cost in costs if cost is not None)


def score_rows(scorer: Scorer, x: Tensor, classes: int) -> Scores:
    """Score rows in chunks of fixed size; raise ValueError for scores of a wrong shape, kind or value."""
    parts = [scorer(x[start : start + SCORE_CHUNK]) for start in range(0, max(1, len(x)), SCORE_CHUNK)]
    if not all(isinstance(part, Scores) for part in parts):
        raise TypeError(f"a scorer must return ltbench.Scores, not {type(parts[0]).__name__}")
    values = torch.cat([part.values.detach().to(x.device) for part in parts])
    kind = parts[0].kind
    if kind not in ("logits", "probabilities", "scores"):
        raise ValueError(f"scores must be 'logits', 'probabilities' or 'scores', not {kind!r}")
    if values.shape != (len(x), classes):
        raise ValueError(f"scores must be [{len(x)}, {classes}], not {list(values.shape)}")
    # A finite sum is one of finite values; one that is not may be a mere overflow.
    if not math.isfinite(float(values.sum())) and (bad := int((~values.isfinite()).any(dim=1).sum())):
        raise ValueError(f"scores hold NaN or infinity in {bad} of {len(x)} rows")
    if kind == "probabilities" and not torch.allclose(
        values.double().sum(dim=1), torch.ones(len(x), dtype=torch.float64, device=x.device), atol=1e-4
    ):
        raise ValueError("probabilities must sum to one in every row")
    return Scores(values, kind)


def _train_summary(train: Train) -> dict[str, Any]:
    """Return what heads were trained on, in counts."""
    synthetic = int(train.synthetic.sum())
    return {
        "class_counts": train.real_class_counts.long().tolist(),
        "prior_counts": train.class_counts.tolist(),
        "real_rows": len(train.row_ids) - synthetic,
        "synthetic_rows": synthetic,
    }


def _selected(prepared: Prepared, candidates: Candidates, choice: Any) -> dict[str, Any] | None:
    """Return what was chosen, from what, on which rows; None if there was nothing to choose."""
    if choice is None:
        return None
    return {
        "chosen": dict(candidates.values[choice.index]),
        "candidates": [dict(values) for values in candidates.values],
        "balanced_accuracy": list(choice.scores),
        "nll": list(choice.nll),
        "rows": prepared.selection_rows,
    }
