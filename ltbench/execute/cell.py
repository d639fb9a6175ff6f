"""One cell: choose, fit, score and measure a head on prepared rows. Everything in its result is deterministic."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ltbench import metrics
from ltbench.contract import Scorer
from ltbench.data import views_wanted
from ltbench.execute.failures import component_failure
from ltbench.execute.setting import Prepared
from ltbench.heads import choose, fit_classifier
from ltbench.records import Arrays
from ltbench.types import Scores, Train

SCORE_CHUNK = 8192

Folds = tuple[tuple[Train, Tensor, Tensor], ...]


@dataclass(frozen=True)
class Candidates:
    """A classifier's instances to choose from, what each stands for, and its name for messages."""

    name: str
    instances: Sequence[Any]
    values: Sequence[Mapping[str, Any]]


def run_cell(
    prepared: Prepared, candidates: Candidates, labels: Tensor, extraction_flops: int
) -> tuple[dict[str, Any], Arrays]:
    """Return a cell's result and its test scores; ``labels [N]`` are the test labels, on the CPU."""
    score = functools.partial(score_rows, classes=prepared.train.classes)
    train, folds = seen_by(candidates.instances[0], prepared)
    with component_failure("classifier", candidates.name):
        choice = choose(candidates.instances, folds, score) if len(candidates.instances) > 1 else None
        index = 0 if choice is None else choice.index
        scorer = fit_classifier(candidates.instances[index], train)
        found = score(scorer, prepared.test)
        scores = Scores(found.values.cpu(), found.kind)  # metrics are the same on every device
    own = getattr(scorer, "training_flops", None)
    per_row = getattr(scorer, "flops_per_row", None)
    flops = {
        "extraction": extraction_flops,
        "generation": prepared.generation_flops,
        "selection": 0 if choice is None else _sum(choice.flops, prepared.fold_flops),
        "training": own,
        "inference_per_row": per_row,
    }
    result = {
        **evaluate(scores, labels),
        "train": _train_summary(prepared),
        "selected": _selected(prepared, candidates, choice),
        "generator_notes": dict(prepared.notes),
        "fidelity": prepared.fidelity,
        "flops": flops,
        "parameters": getattr(scorer, "parameters", None),
        "converged": getattr(scorer, "converged", None),
    }
    correct = scores.values.argmax(dim=1) == labels
    return result, Arrays(scores.values.float(), correct)


def seen_by(head: Any, prepared: Prepared) -> tuple[Train, Folds]:
    """Return training rows and folds, of whose views a head sees those that it asks for."""
    names = views_wanted(head)
    return prepared.train.seeing(names), tuple((train.seeing(names), x, y) for train, x, y in prepared.folds)


def _sum(*costs: int | None) -> int | None:
    """Add costs; unknown if one is."""
    return None if None in costs else sum(cost for cost in costs if cost is not None)


def evaluate(scores: Scores, labels: Tensor) -> dict[str, Any]:
    """Return every metric of scores ``[N, C]`` on labels ``[N]``; calibration is null for mere scores."""
    predictions = scores.values.argmax(dim=1)
    confusion = metrics.confusion_matrix(predictions, labels, scores.values.shape[1])
    probability = metrics.probabilities(scores)
    bins = None if probability is None else metrics.reliability_bins(probability, labels)
    return {
        "metrics": {
            "top1": metrics.top1(predictions, labels),
            "balanced": metrics.balanced_accuracy(confusion),
            "macro_f1": metrics.macro_f1(confusion),
            "ece": None if bins is None else metrics.expected_calibration_error(bins),
            "nll": metrics.negative_log_likelihood(scores, labels),
            "brier": None if probability is None else metrics.brier_score(probability, labels),
        },
        "per_class": {
            "recall": metrics.per_class_recall(confusion),
            "precision": metrics.per_class_precision(confusion),
            "f1": metrics.per_class_f1(confusion),
            "test_rows": confusion.sum(dim=1).tolist(),
        },
        "reliability": None if bins is None else dict(vars(bins)),
    }


def score_rows(scorer: Scorer, x: Tensor, classes: int) -> Scores:
    """Score rows in chunks of fixed size; raise ValueError for scores of a wrong shape, kind or value."""
    parts = [scorer(chunk) for chunk in torch.split(x, SCORE_CHUNK)]
    if not all(isinstance(part, Scores) for part in parts):
        raise TypeError(f"a scorer must return ltbench.Scores, not {type(parts[0]).__name__}")
    values = torch.cat([part.values.to(x.device) for part in parts])
    kind = parts[0].kind
    if kind not in ("logits", "probabilities", "scores"):
        raise ValueError(f"scores must be 'logits', 'probabilities' or 'scores', not {kind!r}")
    if values.shape != (len(x), classes):
        raise ValueError(f"scores must be [{len(x)}, {classes}], not {list(values.shape)}")
    bad = int((~values.isfinite()).any(dim=1).sum())
    if bad:
        raise ValueError(f"scores hold NaN or infinity in {bad} of {len(x)} rows")
    if kind == "probabilities" and not torch.allclose(
        values.double().sum(dim=1), torch.ones(len(x), dtype=torch.float64, device=x.device), atol=1e-4
    ):
        raise ValueError("probabilities must sum to one in every row")
    return Scores(values, kind)


def _train_summary(prepared: Prepared) -> dict[str, Any]:
    """Return what the head was trained on, in counts."""
    train = prepared.train
    return {
        "class_counts": train.real_class_counts.long().tolist(),
        "prior_counts": train.class_counts.tolist(),
        "real_rows": int((~train.synthetic).sum()),
        "synthetic_rows": int(train.synthetic.sum()),
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
