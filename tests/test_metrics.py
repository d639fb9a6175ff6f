"""Tests of the metrics against naive loops, scikit-learn and torchmetrics."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from torch import Tensor
from torchmetrics.classification import MulticlassCalibrationError

from ltbench import metrics
from ltbench.streams import Stream
from ltbench.types import Scores

PROPERTY = settings(deadline=None, max_examples=80, derandomize=True)


@st.composite
def outcomes(draw: st.DrawFn) -> tuple[int, list[int], list[int]]:
    """Draw a number of classes, predictions and labels; few rows, so that classes are often absent from either."""
    classes = draw(st.integers(1, 6))
    pairs = draw(st.lists(st.tuples(*[st.integers(0, classes - 1)] * 2), min_size=1, max_size=25))
    return classes, [p for p, _ in pairs], [y for _, y in pairs]


def confusion_of(drawn: tuple[int, list[int], list[int]]) -> Tensor:
    """Return the confusion matrix of drawn outcomes."""
    classes, predictions, labels = drawn
    return metrics.confusion_matrix(torch.tensor(predictions), torch.tensor(labels), classes)


def counts_of(drawn: tuple[int, list[int], list[int]]) -> metrics.ClassCounts:
    """Return the counts per class of drawn outcomes."""
    classes, predictions, labels = drawn
    return metrics.class_counts(torch.tensor(predictions), torch.tensor(labels), classes)


def naive_ratio(hits: int, rows: int) -> float | None:
    """Divide, or return None where there is nothing to divide by."""
    return hits / rows if rows > 0 else None


def naive_mean(values: list[float | None]) -> float | None:
    """Return the mean of the values that are defined."""
    total, known = 0.0, 0
    for value in values:
        if value is not None:
            total += value
            known += 1
    return total / known if known else None


# Accuracy


@PROPERTY
@given(outcomes())
def test_top1_is_the_share_of_right_predictions(drawn: tuple[int, list[int], list[int]]) -> None:
    """Top-1 equals a count over the rows."""
    _, predictions, labels = drawn
    right = sum(p == y for p, y in zip(predictions, labels, strict=True))

    assert right / len(labels) == metrics.top1(counts_of(drawn))


@PROPERTY
@given(outcomes())
def test_confusion_matrix_counts_label_by_prediction(drawn: tuple[int, list[int], list[int]]) -> None:
    """Rows are labels and columns predictions, absent classes included."""
    classes, predictions, labels = drawn
    expected = [[0] * classes for _ in range(classes)]
    for p, y in zip(predictions, labels, strict=True):
        expected[y][p] += 1

    assert expected == confusion_of(drawn).tolist()


@PROPERTY
@given(outcomes())
def test_per_class_metrics_equal_loops(drawn: tuple[int, list[int], list[int]]) -> None:
    """Recall, precision and F1 equal counts over the rows, and are None exactly where a class gives nothing to count."""
    classes, predictions, labels = drawn
    pairs = list(zip(predictions, labels, strict=True))
    hits = [sum(p == y == c for p, y in pairs) for c in range(classes)]
    rows, predicted = [labels.count(c) for c in range(classes)], [predictions.count(c) for c in range(classes)]
    counts = counts_of(drawn)

    assert metrics.ClassCounts(rows, predicted, hits) == counts
    assert [naive_ratio(hits[c], rows[c]) for c in range(classes)] == metrics.per_class_recall(counts)
    assert [naive_ratio(hits[c], predicted[c]) for c in range(classes)] == metrics.per_class_precision(counts)
    assert [naive_ratio(2 * hits[c], rows[c] + predicted[c]) for c in range(classes)] == metrics.per_class_f1(counts)


@PROPERTY
@given(outcomes())
def test_averages_equal_loops_over_defined_classes(drawn: tuple[int, list[int], list[int]]) -> None:
    """Balanced accuracy and macro-F1 average what is defined and leave the rest out."""
    counts = counts_of(drawn)
    recall, f1 = metrics.per_class_recall(counts), metrics.per_class_f1(counts)

    assert naive_mean(recall) == pytest.approx(metrics.class_average(recall), rel=1e-12)
    assert naive_mean(recall) == pytest.approx(metrics.balanced_accuracy(confusion_of(drawn)), rel=1e-12)
    assert naive_mean(f1) == pytest.approx(metrics.class_average(f1), rel=1e-12)


@PROPERTY
@given(st.lists(st.tuples(st.none() | st.floats(0, 1), st.sampled_from(["head", "medium", "tail"])), max_size=12))
def test_a_groups_average_is_over_its_own_classes(drawn: list[tuple[float | None, str]]) -> None:
    """Each group averages its own classes' recall, and is None without any class that has test rows."""
    recall, groups = [r for r, _ in drawn], [g for _, g in drawn]
    for group in ("head", "medium", "tail"):
        expected = naive_mean([r for r, g in drawn if g == group])

        assert metrics.group_average(recall, groups, group) == (
            None if expected is None else pytest.approx(expected, rel=1e-12)
        )


def test_undefined_values_are_none() -> None:
    """A class without test rows, one never predicted and one with neither each lack what cannot be computed."""
    # class 0: rows and predictions; 1: rows, never predicted; 2: predicted, no rows; 3: neither
    counts = metrics.class_counts(torch.tensor([0, 0, 2]), torch.tensor([0, 1, 1]), 4)

    assert metrics.per_class_recall(counts) == [1.0, 0.0, None, None]
    assert metrics.per_class_precision(counts) == [0.5, None, 0.0, None]
    assert metrics.per_class_f1(counts) == [2 / 3, 0.0, 0.0, None]
    assert metrics.class_average([1.0, 0.0, None, None]) == 0.5
    assert metrics.class_average([None, None]) == 0.0


@pytest.mark.parametrize(
    ("recall", "groups", "expected"),
    [
        ([0.5, 1.0], ["head", "head"], None),
        ([0.5, None], ["head", "tail"], None),
        ([0.5, 0.0], ["head", "tail"], 0.0),
        ([0.5, None, 0.25], ["head", "tail", "tail"], 0.25),
    ],
)
def test_an_empty_group_is_none_and_a_failed_one_is_zero(
    recall: list[float | None], groups: list[str], expected: float | None
) -> None:
    """No class, or none with test rows, is undefined; a class that was never right counts as 0."""
    assert expected == metrics.group_average(recall, groups, "tail")


def test_a_groups_average_wants_a_group_for_every_class() -> None:
    """Lists of different lengths are a mistake, never cut short."""
    with pytest.raises(ValueError, match="shorter"):
        metrics.group_average([0.5, 0.5], ["head"], "head")


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize("seed", range(5))
def test_accuracy_agrees_with_scikit_learn(seed: int) -> None:
    """Every accuracy equals scikit-learn's, with a class that is never predicted and one without test rows."""
    stream, rows = Stream.of(seed, "scikit-learn"), torch.arange(300)
    labels = stream.child("labels").integers(rows, 1, 7)[:, 0]  # of 9 classes 7 and 8 have no rows
    guesses = stream.child("guesses").integers(rows, 1, 8)[:, 0]  # 8 is never predicted, 7 without being there
    predictions = torch.where(stream.uniform(rows, 1)[:, 0] < 0.4, labels, guesses)
    predictions[predictions == 3] = 4  # 3 is never predicted
    confusion, counts = metrics.confusion_matrix(predictions, labels, 9), metrics.class_counts(predictions, labels, 9)
    options = {"labels": range(9), "average": None, "zero_division": np.nan}
    table = [
        (sklearn_metrics.recall_score, metrics.per_class_recall),
        (sklearn_metrics.precision_score, metrics.per_class_precision),
        (sklearn_metrics.f1_score, metrics.per_class_f1),
    ]

    for oracle, ours in table:
        expected = oracle(labels, predictions, **options)
        assert [None if math.isnan(value) else pytest.approx(value, rel=1e-12) for value in expected] == ours(counts)
    assert sklearn_metrics.accuracy_score(labels, predictions) == pytest.approx(metrics.top1(counts))
    assert sklearn_metrics.balanced_accuracy_score(labels, predictions) == pytest.approx(metrics.balanced_accuracy(confusion))
    expected = sklearn_metrics.f1_score(labels, predictions, average="macro", zero_division=0)
    assert expected == pytest.approx(metrics.class_average(metrics.per_class_f1(counts)))
    assert sklearn_metrics.confusion_matrix(labels, predictions, labels=range(9)).tolist() == confusion.tolist()


# Ranking


def naive_auroc(values: list[float], positive: list[bool]) -> float:
    """Return how often a row of the class beats another one, ties half."""
    pairs = [(a, b) for a, p in zip(values, positive, strict=True) if p for b, q in zip(values, positive, strict=True) if not q]
    return sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)


@PROPERTY
@given(outcomes(), st.data())
def test_ranking_equals_a_loop_and_scikit_learn(drawn: tuple[int, list[int], list[int]], data: st.DataObject) -> None:
    """Both figures of each class equal scikit-learn's, many ties included; a class without rows, or without others, has none."""
    classes, _, labels = drawn
    row = st.lists(st.sampled_from([-1.0, 0.0, 0.25, 0.5, 3.0]), min_size=classes, max_size=classes)
    values = data.draw(st.lists(row, min_size=len(labels), max_size=len(labels)))
    found = metrics.ranking(torch.tensor(values, dtype=torch.float64), torch.tensor(labels))
    for c in range(classes):
        own, positive = [row[c] for row in values], [label == c for label in labels]
        if all(positive) or not any(positive):
            assert (found.auroc[c], found.average_precision[c]) == (None, None)
            continue
        assert naive_auroc(own, positive) == pytest.approx(found.auroc[c], abs=1e-12)
        assert sklearn_metrics.roc_auc_score(positive, own) == pytest.approx(found.auroc[c], abs=1e-12)
        assert sklearn_metrics.average_precision_score(positive, own) == pytest.approx(found.average_precision[c], abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ranking_of_many_classes_agrees_with_scikit_learn(dtype: torch.dtype) -> None:
    """More classes than are sorted at once, all present: the means are scikit-learn's macro averages."""
    stream, rows = Stream.of(0, "ranking"), torch.arange(600)
    labels = torch.cat([torch.arange(150), stream.child("labels").integers(rows[150:], 1, 150)[:, 0]])
    values = (stream.normal(rows, 150) + 2 * torch.eye(150)[labels]).to(dtype)
    found, wanted = metrics.ranking(values, labels), torch.eye(150)[labels].numpy()

    assert sklearn_metrics.roc_auc_score(wanted, values.numpy(), average="macro") == pytest.approx(
        metrics.mean_of_known(found.auroc), abs=1e-12
    )
    assert sklearn_metrics.average_precision_score(wanted, values.numpy(), average="macro") == pytest.approx(
        metrics.mean_of_known(found.average_precision), abs=1e-12
    )


# Calibration


def rows_of(confidences: list[float], classes: int = 8) -> Tensor:
    """Return probabilities ``[N, C]`` whose winner is class 0 with these confidences, the rest shared evenly."""
    winning = torch.tensor(confidences, dtype=torch.float64)[:, None]
    return torch.cat([winning, ((1 - winning) / (classes - 1)).expand(-1, classes - 1)], dim=1)


def naive_bin(confidence: float, bins: int) -> int:
    """Return the bin (lo, hi] that holds a confidence; the first also holds 0."""
    for b in range(bins):
        if confidence <= (b + 1) / bins:
            return b
    return bins - 1


def torchmetrics_bin(confidence: float, bins: int) -> int:
    """Return the bin [lo, hi) that holds a confidence; 1.0 has one of its own."""
    edges = torch.linspace(0, 1, bins + 1)
    return sum(bool(torch.tensor(confidence, dtype=torch.float32) >= edge) for edge in edges) - 1


def naive_error(confidences: list[float], right: list[bool], bins: int, place: Callable[[float, int], int]) -> float:
    """Return the expected calibration error by a loop over bins and rows."""
    total = 0.0
    for b in range(bins + 1):
        inside = [i for i, confidence in enumerate(confidences) if place(confidence, bins) == b]
        if inside:
            accuracy = sum(right[i] for i in inside) / len(inside)
            confidence = sum(confidences[i] for i in inside) / len(inside)
            total += len(inside) / len(confidences) * abs(accuracy - confidence)
    return total


def our_error(confidences: list[float], right: list[bool], bins: int = metrics.BINS) -> float:
    """Return our expected calibration error; a wrong row is labelled with another class than the winner."""
    labels = torch.tensor([0 if hit else 1 for hit in right])
    return metrics.expected_calibration_error(metrics.reliability_bins(rows_of(confidences), labels, bins))


def torchmetrics_error(confidences: list[float], right: list[bool]) -> float:
    """Return the expected calibration error of torchmetrics."""
    metric = MulticlassCalibrationError(num_classes=8, n_bins=15, norm="l1")
    return float(metric(rows_of(confidences), torch.tensor([0 if hit else 1 for hit in right])))


off_edges = st.integers(160, 1023).map(lambda k: k / 1024)  # no fraction of 1024 but 0 and 1 is one of 15
edges = st.integers(3, 15).map(lambda k: k / 15)


def judged(confidence: st.SearchStrategy[float]) -> st.SearchStrategy[list[tuple[float, bool]]]:
    """Draw rows with a confidence, each right or wrong."""
    return st.lists(st.tuples(confidence, st.booleans()), min_size=1, max_size=25)


@PROPERTY
@given(judged(off_edges | edges | st.floats(0.15, 1)), st.sampled_from([1, 2, 10, 15]))
def test_calibration_error_equals_a_loop(rows: list[tuple[float, bool]], bins: int) -> None:
    """The error equals a loop over bins (lo, hi], confidences on an edge included."""
    confidences, right = [c for c, _ in rows], [r for _, r in rows]

    assert naive_error(confidences, right, bins, naive_bin) == pytest.approx(our_error(confidences, right, bins), abs=1e-12)


@PROPERTY
@given(judged(off_edges))
def test_calibration_error_agrees_with_torchmetrics_off_the_edges(rows: list[tuple[float, bool]]) -> None:
    """Where no confidence lies on an edge of a bin, both libraries agree."""
    confidences, right = [c for c, _ in rows], [r for _, r in rows]

    assert torchmetrics_error(confidences, right) == pytest.approx(our_error(confidences, right), abs=1e-6)


@pytest.mark.parametrize(
    ("on_edge", "beside", "ours", "theirs"),
    [
        (1 / 3, 0.30, abs(0.5 - (1 / 3 + 0.30) / 2), ((1 - 1 / 3) + 0.30) / 2),
        (4 / 15, 0.25, abs(0.5 - (4 / 15 + 0.25) / 2), ((1 - 4 / 15) + 0.25) / 2),
        (1.0, 0.95, abs(0.5 - 0.975), (0.0 + 0.95) / 2),
    ],
)
def test_calibration_error_differs_from_torchmetrics_on_an_edge(
    on_edge: float, beside: float, ours: float, theirs: float
) -> None:
    """A right row on a bin's upper edge joins a wrong one below it here; torchmetrics puts it into the next bin."""
    confidences, right = [on_edge, beside], [True, False]

    assert ours == pytest.approx(our_error(confidences, right), abs=1e-12)
    assert theirs == pytest.approx(torchmetrics_error(confidences, right), abs=1e-6)
    assert ours == pytest.approx(naive_error(confidences, right, 15, naive_bin), abs=1e-12)
    assert theirs == pytest.approx(naive_error(confidences, right, 15, torchmetrics_bin), abs=1e-6)


def test_reliability_bins_hold_their_rows() -> None:
    """Bins keep rows, mean confidence and accuracy, are None where empty, and hold their upper edge."""
    bins = metrics.reliability_bins(rows_of([0.25, 0.5, 0.45, 0.75, 1.0]), torch.tensor([0, 0, 1, 1, 0]), bins=4)

    assert bins.count == [1, 2, 1, 1]
    assert bins.confidence == pytest.approx([0.25, 0.475, 0.75, 1.0])
    assert bins.accuracy == [1.0, 0.5, 0.0, 1.0]
    assert metrics.reliability_bins(rows_of([0.9]), torch.tensor([0]), bins=2) == metrics.ReliabilityBins(
        [0, 1], [0, 1], [None, 0.9]
    )


def test_bins_of_some_rows_are_theirs() -> None:
    """Winners of a few rows give the bins that those rows alone would have."""
    probability, labels = rows_of([0.25, 0.5, 0.45, 0.75, 1.0]), torch.tensor([0, 0, 1, 1, 0])
    mask = np.array([True, False, True, True, False])

    assert metrics.reliability_bins(probability[mask], labels[mask]) == metrics.winners(probability, labels).among(mask).bins()


def test_rounded_bins_have_counts_and_six_digits() -> None:
    """What a record keeps of bins leaves accuracy out, which follows, and keeps an empty bin empty."""
    bins = metrics.ReliabilityBins([3, 0], [2, 0], [1 / 3, None])

    assert bins.rounded() == {"count": [3, 0], "right": [2, 0], "confidence": [0.333333, None]}
    assert bins.accuracy == [2 / 3, None]


def test_ties_go_to_the_lowest_class() -> None:
    """Of two winners the first is the prediction."""
    bins = metrics.reliability_bins(torch.tensor([[0.1, 0.45, 0.45]] * 2, dtype=torch.float64), torch.tensor([1, 2]), bins=1)

    assert bins.accuracy == [0.5]


@pytest.mark.parametrize("confidence", [1.0, 1.0000000000000002])
def test_certainty_lies_in_the_last_bin(confidence: float) -> None:
    """Confidence 1, and what rounding makes of it, has no bin of its own."""
    bins = metrics.reliability_bins(torch.tensor([[confidence, 0.0]], dtype=torch.float64), torch.tensor([0]))

    assert bins.count == [0] * 14 + [1]


@pytest.mark.parametrize(("right", "expected"), [([True] * 4, 0.0), ([False] * 4, 1.0), ([True, False, True, False], 0.5)])
def test_calibration_error_of_certain_rows_is_their_error_rate(right: list[bool], expected: float) -> None:
    """Rows that are sure of themselves are off by as much as they are wrong."""
    assert expected == our_error([1.0] * 4, right)


# Probabilities, likelihood and Brier score


@st.composite
def scored(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Draw logits ``[N, C]`` and labels ``[N]``."""
    classes = draw(st.integers(2, 5))
    row = st.lists(st.floats(-30, 30, width=32), min_size=classes, max_size=classes)
    logits = draw(st.lists(row, min_size=1, max_size=8))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=len(logits), max_size=len(logits)))
    return torch.tensor(logits), torch.tensor(labels)


@PROPERTY
@given(scored())
def test_probabilities_of_logits_are_their_softmax(drawn: tuple[Tensor, Tensor]) -> None:
    """Logits become exponentials over their sum, in double precision."""
    logits, _ = drawn
    expected = []
    for row in logits.tolist():
        powers = [math.exp(z) for z in row]
        expected.append([power / sum(powers) for power in powers])
    actual = metrics.probabilities(Scores(logits, "logits"))

    assert actual.dtype == torch.float64
    assert torch.tensor(expected, dtype=torch.float64).allclose(actual, rtol=1e-12, atol=0)


def test_probabilities_pass_unchanged() -> None:
    """What already is a probability is only widened."""
    values = torch.tensor([[0.25, 0.75]])

    assert values.double().equal(metrics.probabilities(Scores(values, "probabilities")))


@PROPERTY
@given(scored())
def test_likelihood_and_brier_score_equal_loops(drawn: tuple[Tensor, Tensor]) -> None:
    """Both equal a loop over rows and classes, and the likelihood is one number for logits and probabilities."""
    logits, labels = drawn
    probability = metrics.probabilities(Scores(logits, "logits"))
    likelihood, brier = 0.0, 0.0
    for row, label in zip(probability.tolist(), labels.tolist(), strict=True):
        likelihood -= math.log(row[label])
        for c, p in enumerate(row):
            brier += (p - (1 if c == label else 0)) ** 2

    assert likelihood / len(labels) == pytest.approx(
        metrics.negative_log_likelihood(Scores(logits, "logits"), labels), abs=1e-9
    )
    assert likelihood / len(labels) == pytest.approx(
        metrics.negative_log_likelihood(Scores(probability, "probabilities"), labels), abs=1e-9
    )
    assert brier / len(labels) == pytest.approx(metrics.brier_score(probability, labels), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_likelihood_and_brier_score_agree_with_scikit_learn(seed: int) -> None:
    """The likelihood is scikit-learn's log loss; for two classes the Brier score is twice its one-sided one."""
    stream, rows = Stream.of(seed, "likelihood"), torch.arange(200)
    logits, labels = stream.normal(rows, 5) * 3, stream.child("labels").integers(rows, 1, 5)[:, 0]
    probability = torch.softmax(logits, dim=1)
    two, binary = torch.softmax(logits[:, :2], dim=1), labels % 2

    expected = sklearn_metrics.log_loss(labels, probability, labels=range(5))
    assert expected == pytest.approx(metrics.negative_log_likelihood(Scores(logits, "logits"), labels))
    expected = sklearn_metrics.brier_score_loss(binary, two[:, 1])
    assert 2 * expected == pytest.approx(metrics.brier_score(two, binary))


@PROPERTY
@given(scored())
def test_class_means_equal_loops(drawn: tuple[Tensor, Tensor]) -> None:
    """Each class's mean is over its own rows, and None without any."""
    logits, labels = drawn
    values, wanted = logits[:, 0].tolist(), labels.tolist()
    expected = [[v for v, label in zip(values, wanted, strict=True) if label == c] for c in range(logits.shape[1])]
    found = metrics.class_means(logits[:, 0], labels, logits.shape[1])

    assert [pytest.approx(sum(own) / len(own), abs=1e-6) if own else None for own in expected] == found


@pytest.mark.parametrize(("label", "brier", "likelihood"), [(0, 0.0, 0.0), (1, 2.0, -math.log(1e-300))], ids=["right", "wrong"])
def test_certain_rows_stay_finite(label: int, brier: float, likelihood: float) -> None:
    """A probability of 0 for the right class is floored, and the Brier score spans 0 to 2."""
    probability, labels = torch.tensor([[1.0, 0.0]], dtype=torch.float64), torch.tensor([label])

    assert brier == metrics.brier_score(probability, labels)
    assert likelihood == pytest.approx(metrics.negative_log_likelihood(Scores(probability, "probabilities"), labels))


def test_likelihood_of_logits_far_apart_is_exact() -> None:
    """A gap between logits that no probability can hold still counts in full."""
    logits = torch.tensor([[500.0, 0.0], [500.0, 0.0]])

    assert metrics.negative_log_likelihood(Scores(logits, "logits"), torch.tensor([0, 1])) == pytest.approx(250.0)


def test_mere_scores_have_no_calibration() -> None:
    """Distances are no probabilities: there is neither a probability nor a likelihood."""
    scores = Scores(torch.tensor([[-1.0, -2.0]]), "scores")

    assert metrics.probabilities(scores) is None
    assert metrics.negative_log_likelihood(scores, torch.tensor([0])) is None


def test_counts_and_bins_need_no_torch() -> None:
    """What tables make of records' counts and bins is imported without torch."""
    code = "import sys, ltbench.metrics; print('torch' in sys.modules, hasattr(ltbench.metrics, 'nothing'))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.split() == ["False", "False"]
