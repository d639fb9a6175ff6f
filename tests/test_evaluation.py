"""Tests of what a record keeps of test scores, group by group, against loops over rows and classes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltbench.execute.evaluation import Groups, calibration, evaluate
from ltbench.metrics import log_odds, ranking, reliability_bins
from ltbench.records import Record, correct_of, counts_of
from ltbench.types import Scores

PROPERTY = settings(deadline=None, max_examples=60, derandomize=True)


@st.composite
def drawn_scores(draw: st.DrawFn) -> tuple[Scores, torch.Tensor, Groups]:
    """Draw logits of a few rows and classes, labels that may leave a class out, and groups that may be empty."""
    classes = draw(st.integers(1, 5))
    row = st.lists(st.integers(-12, 12).map(lambda k: k / 4), min_size=classes, max_size=classes)
    logits = draw(st.lists(row, min_size=1, max_size=12))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=len(logits), max_size=len(logits)))
    groups = draw(st.lists(st.sampled_from(["head", "medium", "tail"]), min_size=classes, max_size=classes))
    return Scores(torch.tensor(logits), "logits"), torch.tensor(labels), Groups("3/4/3", tuple(groups))


def mean(values: list[float]) -> float | None:
    """Return a mean, None of nothing."""
    return sum(values) / len(values) if values else None


@PROPERTY
@given(drawn_scores())
def test_a_groups_calibration_equals_loops(drawn: tuple[Scores, torch.Tensor, Groups]) -> None:
    """NLL and Brier score are means over a group's classes of the class's mean, and bins those of its rows alone."""
    scores, labels, groups = drawn
    probability = scores.values.double().softmax(dim=1)
    found = evaluate(scores, labels, groups)["groups"]
    assert found["rule"] == "3/4/3"
    for group in ("head", "medium", "tail"):
        own = [c for c, name in enumerate(groups.of_class) if name == group]
        if not own:
            assert found[group] is None
            continue
        nll, brier = [], []
        for c in own:
            rows = probability[labels == c].tolist()
            nll += [mean([-math.log(row[c]) for row in rows])] if rows else []
            brier += [mean([sum((p - (k == c)) ** 2 for k, p in enumerate(row)) for row in rows])] if rows else []
        mask = torch.tensor([groups.of_class[c] == group for c in labels.tolist()])

        assert found[group]["classes"] == len(own)
        assert found[group]["nll"] == (pytest.approx(mean(nll), rel=5e-6) if nll else None)
        assert found[group]["brier"] == (pytest.approx(mean(brier), rel=5e-6) if brier else None)
        assert found[group]["reliability"] == reliability_bins(probability[mask], labels[mask]).rounded()


@PROPERTY
@given(drawn_scores())
def test_groups_bins_add_up_to_all(drawn: tuple[Scores, torch.Tensor, Groups]) -> None:
    """Every row lies in one group's bins."""
    result = evaluate(*drawn)
    told = [each["reliability"] for name, each in result["groups"].items() if name != "rule" and each]
    for name in ("count", "right"):
        assert result["reliability"][name] == [sum(each) for each in zip(*(bins[name] for bins in told), strict=True)]


@PROPERTY
@given(drawn_scores())
def test_bits_and_counts_are_those_of_the_predictions(drawn: tuple[Scores, torch.Tensor, Groups]) -> None:
    """Rows are right where the first of the highest scores is the label's; nothing else is kept per class."""
    scores, labels, _ = drawn
    result = evaluate(scores, labels)
    predictions = [row.index(max(row)) for row in scores.values.tolist()]
    pairs = list(zip(labels.tolist(), predictions, strict=True))
    record, classes = Record("k", "done", {}, result), range(scores.values.shape[1])

    assert [p == c for k in classes for c, p in pairs if c == k] == correct_of(record).tolist()
    assert [sum(c == p == k for c, p in pairs) for k in classes] == counts_of(record).right
    assert result["per_class"] == {
        "rows": [sum(c == k for c, _ in pairs) for k in classes],
        "predicted": [sum(p == k for _, p in pairs) for k in classes],
    }
    assert result["groups"] is None


def test_mere_scores_have_ranks_but_no_calibration() -> None:
    """Distances are ranked as they are; everything else that needs a probability is null."""
    scores, labels = Scores(torch.tensor([[-1.0, -2.0], [-3.0, -1.0], [-2.0, -2.0]]), "scores"), torch.tensor([0, 1, 1])
    result: dict[str, Any] = evaluate(scores, labels, Groups("thirds", ("head", "tail")))

    assert (result["metrics"]["auroc"], result["metrics"]["average_precision"]) == (7 / 8, 11 / 12)
    assert [result["metrics"][name] for name in ("ece", "nll", "brier")] == [None] * 3
    assert calibration(scores, labels) == {"ece": None, "nll": None, "brier": None}
    assert result["reliability"] is None
    nothing = {"classes": 1, "nll": None, "brier": None, "reliability": None}
    assert result["groups"] == {"rule": "thirds", "head": nothing, "medium": None, "tail": nothing}


def test_one_class_alone_has_no_ranks() -> None:
    """Without rows of another class there is nothing to rank before."""
    result = evaluate(Scores(torch.tensor([[1.0, 0.0]]), "logits"), torch.tensor([0]))

    assert (result["metrics"]["auroc"], result["metrics"]["average_precision"]) == (None, None)


def test_rows_are_ranked_beyond_where_probabilities_round_to_one() -> None:
    """Logits that rank every row right have an AUROC of one, however large; both classes of two have the same one."""
    logits = torch.tensor([[60.0, 0.0], [50.0, 0.0], [45.0, 0.0], [40.0, 0.0]])
    found = evaluate(Scores(logits, "logits"), torch.tensor([0, 0, 1, 1]))["metrics"]
    assert (found["auroc"], found["average_precision"]) == (1.0, 1.0)
    mixed = log_odds(logits)
    assert ranking(mixed, torch.tensor([0, 1, 0, 1])).auroc == [0.75, 0.75]
    torch.testing.assert_close(torch.tensor([60.0, 50, 45, 40], dtype=torch.float64), mixed[:, 0])


@PROPERTY
@given(drawn_scores())
def test_log_odds_are_those_of_the_probabilities(drawn: tuple[Scores, torch.Tensor, Groups]) -> None:
    """Log p − log(1 − p), p by softmax in float64, for logits that are not large."""
    scores = drawn[0].values
    p = scores.double().softmax(dim=1)
    found = log_odds(scores)
    if scores.shape[1] == 1:
        assert bool((found == math.inf).all())  # nothing is against the only class
    else:
        torch.testing.assert_close(p.log() - (-p).log1p(), found, rtol=1e-7, atol=1e-7)


def test_absent_classes_are_ranked_last_and_finite() -> None:
    """A class without training rows has a logit of −2¹⁰⁰: its log odds are that, and finite."""
    found = log_odds(torch.tensor([[1.0, 2.0, -(2.0**100)], [0.0, 0.0, -(2.0**100)]], dtype=torch.float64))
    assert bool(found.isfinite().all())
    assert bool((found[:, 2] <= -(2.0**99)).all())


def test_there_is_one_winner_of_a_row() -> None:
    """Logits whose probabilities round to the same number have the winner of the logits, in bits and in bins."""
    found = evaluate(Scores(torch.tensor([[0.0, 1e-17]], dtype=torch.float64), "logits"), torch.tensor([1]))
    assert found["metrics"]["top1"] == 1.0
    assert sum(found["reliability"]["right"]) == 1
