"""Leaderboards: statistics against references, tables against naive sums, and the committed boards."""

from __future__ import annotations

import dataclasses
import math
import shutil
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import ltbench
from ltbench.config import experiment, load_toml, to_toml
from ltbench.execute.group import Context
from ltbench.execute.local import Local
from ltbench.execute.numerics import numerics_class
from ltbench.keys import ENGINE_VERSION, METRIC_VERSION, canonical_json
from ltbench.leaderboard.board import board, percent
from ltbench.leaderboard.statistics import Estimate, estimate, gap_closed
from ltbench.leaderboard.tables import BALANCED, tables
from ltbench.plan import plan
from ltbench.plugins import discover
from ltbench.records import Record, RunFolder, correct_of
from ltbench.suites import load_suite

ROOT = Path(__file__).parent.parent
COMMITTED = sorted(path.parent for path in (ROOT / "leaderboards").glob("*/leaderboard.csv"))

accuracies = st.lists(st.floats(0, 1), min_size=2, max_size=8)


@given(accuracies)
def test_the_interval_is_that_of_scipy(values: list[float]) -> None:
    """Mean and half-width equal scipy's t interval."""
    found = estimate(values)
    assert found is not None
    assert found.mean == pytest.approx(statistics.fmean(values))
    error = statistics.stdev(values) / math.sqrt(len(values))
    expected = stats.t.ppf(0.975, len(values) - 1) * error
    assert found.half_width == pytest.approx(expected, abs=1e-12)


def test_estimates_of_few_values() -> None:
    """One seed has no interval, none no estimate."""
    assert estimate([0.5]) == Estimate(0.5, None, 1)
    assert estimate([]) is None


def test_gap_closed_is_one_for_the_reference_and_zero_for_plain() -> None:
    """Balanced data closes the whole gap, plain softmax none of it; halfway is half."""
    plain, balanced = [0.5, 0.6, 0.55], [0.9, 0.92, 0.88]
    halfway = [(p + b) / 2 for p, b in zip(plain, balanced, strict=True)]
    for method, expected in ((balanced, 1.0), (plain, 0.0), (halfway, 0.5)):
        found = gap_closed(method, plain, balanced)
        assert found is not None
        assert found.mean == pytest.approx(expected)
        assert found.half_width == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("balanced", [[0.5, 0.7, 0.4], [0.4, 0.5, 0.45], [0.5, 0.6, 0.55]])
def test_gap_closed_is_empty_within_noise(balanced: list[float]) -> None:
    """Where the reference is not clearly above plain softmax there is no gap to close."""
    assert gap_closed([0.6, 0.6, 0.6], [0.5, 0.6, 0.55], balanced) is None


@pytest.mark.parametrize(
    ("value", "exact", "text"),
    [
        (None, False, "–"),
        (Estimate(0.8123, 0.0101, 5), False, "81.2 ± 1.0"),
        (Estimate(0.8123, 0.0, 5), True, "81.2"),
        (Estimate(0.8123, None, 1), False, "81.2"),
        (Estimate(-0.0001, 0.01, 5), False, "0.0 ± 1.0"),
    ],
)
def test_percentages(value: Estimate | None, exact: bool, text: str) -> None:
    """Numbers are shown with their interval where they have one."""
    assert percent(value, exact=exact) == text


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small run: two heads, two generators, three seeds, two ratios."""
    out = tmp_path_factory.mktemp("run")
    ltbench.run(
        dataset="digits",
        backbone="pixels",
        generator="none,smote",
        classifier="ncm,lda",
        ratio=[10, 40],
        seeds=3,
        groups="3/4/3",
        out=out,
    )
    return out


def recall(record: Record) -> list[float]:
    """Return each class's recall by a loop over the test rows, which are in the order of their classes."""
    correct, found = correct_of(record).tolist(), []
    for rows in (record.result or {})["per_class"]["rows"]:
        found.append(sum(correct[:rows]) / rows)
        correct = correct[rows:]
    return found


def test_rows_are_means_over_seeds(small: Path) -> None:
    """Every number of a table is the naive mean over the records of its method."""
    records = list(RunFolder(small).load().records.values())
    made = tables(records, "3/4/3", "balanced")
    assert [table.setting["imbalance_ratio"] for table in made] == [10.0, 40.0]
    for table in made:
        for row in (row for row in table.rows if not row.reference):
            members = [
                r
                for r in records
                if r.cell["imbalance_ratio"] == table.setting["imbalance_ratio"]
                and all(r.cell[k] == v for k, v in row.method.items())
            ]
            assert row.seeds == len(members) == 3
            for group, classes in (("head", range(3)), ("medium", range(3, 7)), ("tail", range(7, 10))):
                naive = statistics.fmean(statistics.fmean(recall(r)[c] for c in classes) for r in members if r.result)
                value = row.values[group]
                assert value is not None
                assert value.mean == pytest.approx(naive)


def test_references_take_the_groups_of_the_long_tail(small: Path) -> None:
    """The balanced reference's recall is averaged over the long-tail cell's groups; it stands in every table."""
    records = list(RunFolder(small).load().records.values())
    balanced = [r for r in records if r.cell["imbalance_ratio"] == 1 and r.cell["classifier"] == "lda"]
    expected = statistics.fmean(statistics.fmean(recall(r)[7:]) for r in balanced if r.result)
    for table in tables(records, "3/4/3", "balanced"):
        row = next(row for row in table.rows if row.method["generator"] == BALANCED and row.method["classifier"] == "lda")
        assert row.values["tail"] is not None
        assert row.values["tail"].mean == pytest.approx(expected)


def test_the_gap_to_balanced_is_paired_by_seed(small: Path) -> None:
    """The gap is the mean over seeds of the balanced reference's accuracy minus the method's."""
    records = list(RunFolder(small).load().records.values())

    def accuracy(seed: int, **names: Any) -> float:
        wanted = {"seed": seed, "classifier": "lda", **names}
        found = [r for r in records if all(r.cell[key] == value for key, value in wanted.items())]
        assert len(found) == 1
        assert found[0].result is not None
        return float(found[0].result["metrics"]["balanced"])

    naive = [accuracy(s, imbalance_ratio=1) - accuracy(s, imbalance_ratio=40, generator="smote") for s in range(3)]
    table = tables(records, "3/4/3", "balanced")[1]
    row = next(r for r in table.rows if (r.method["generator"], r.method["classifier"]) == ("smote", "lda"))
    assert row.values["gap_to_balanced"] is not None
    assert row.values["gap_to_balanced"].mean == pytest.approx(statistics.fmean(naive))


def test_a_board_does_not_depend_on_the_order_of_records(small: Path, tmp_path: Path) -> None:
    """Split over two folders and shuffled, the records give the same bytes."""
    records = sorted(RunFolder(small).load().records.values(), key=lambda r: r.key[::-1])
    for name, part in (("a", records[::2]), ("b", records[1::2])):
        folder = RunFolder(tmp_path / name)
        for record in part:
            folder.add(record)
        folder.flush()
        (tmp_path / name / "experiment.toml").write_text((small / "experiment.toml").read_text())
    whole = board([small], tmp_path)
    assert board([tmp_path / "b", tmp_path / "a"], tmp_path).files == whole.files


def test_failed_cells_are_counted_and_explained(small: Path, tmp_path: Path) -> None:
    """A failed cell is in the table's last column, and its cause below."""
    records = list(RunFolder(small).load().records.values())
    failure = {"component": "classifier lda", "error": "RuntimeError: a | b"}
    broken = [
        dataclasses.replace(r, status="failed", result=None, failure=failure) if _is(r, "lda", 10, 2) else r for r in records
    ]
    folder = RunFolder(tmp_path)
    for record in broken:
        folder.add(record)
    folder.flush()
    (tmp_path / "experiment.toml").write_text((small / "experiment.toml").read_text())
    page = board([tmp_path], tmp_path).files["README.md"]
    assert "1 × failed: classifier lda: RuntimeError: a \\| b" in page
    row = next(line for line in page.splitlines() if line.startswith("| smote") and "lda" in line)
    assert [cell.strip() for cell in row.split("|")][-3:-1] == ["2", "1"]


def _is(record: Record, classifier: str, ratio: float, seed: int) -> bool:
    """Whether a record is SMOTE with this head, ratio and seed."""
    wanted = {"classifier": classifier, "imbalance_ratio": ratio, "seed": seed, "generator": "smote"}
    return all(record.cell[key] == value for key, value in wanted.items())


def test_conflicting_results_are_shown(small: Path, tmp_path: Path) -> None:
    """Two results under one key and one numerics class stand on the page."""
    record = next(iter(RunFolder(small).load().records.values()))
    changed = dataclasses.replace(record, result={**(record.result or {}), "parameters": 1})
    folder = RunFolder(tmp_path)
    folder.add(record)
    folder.add(changed)
    folder.flush()
    (tmp_path / "experiment.toml").write_text((small / "experiment.toml").read_text())
    assert record.key in board([tmp_path], tmp_path).files["README.md"]


def test_a_board_can_be_read_under_another_group_rule(small: Path, tmp_path: Path) -> None:
    """Groups are a view: no training, other columns."""
    page = board([small], tmp_path, groups="5/0/5").files["README.md"]
    assert "head (5)" in page
    assert "medium (0)" in page


def test_a_board_says_what_a_suite_was_joined_with(small: Path, tmp_path: Path) -> None:
    """Rows of other runs are not the suite's: the page names the axes that they add, and the engine."""
    shutil.copytree(small, tmp_path / "run")
    file = tmp_path / "run" / "experiment.toml"
    names = {"name": "quickstart", "version": 2, "generator": "none,smote[per_real=0.5|1]", "classifier": "ncm", "ratio": [50]}
    file.write_text(to_toml(experiment({**load_toml(file), **names, "prior_source": ["effective", "real"]})), encoding="utf-8")
    page = board([tmp_path / "run"], tmp_path).files["README.md"]
    added = "of runs like it with `--backbone pixels`, `--generator 'smote[per_real=0.5|1]'`, `--prior-source real`"
    assert added in page
    assert f"; engine {ENGINE_VERSION}, metrics {METRIC_VERSION}\n" in page
    file.write_text(to_toml(experiment({**load_toml(file), "version": 99})), encoding="utf-8")
    assert "runs like it" not in board([tmp_path / "run"], tmp_path).files["README.md"]


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda path: path.name)
def test_committed_boards_are_what_their_records_give(folder: Path) -> None:
    """README.md and leaderboard.csv of every committed board follow from its records, byte for byte."""
    assert board([folder], folder).differences(folder) == []


@pytest.mark.parametrize(
    "folder",
    [pytest.param(path, marks=pytest.mark.slow if path.name == "glyphs100-lt" else ()) for path in COMMITTED],
    ids=lambda path: path.name,
)
def test_committed_cells_are_recomputed(folder: Path, tmp_path: Path) -> None:
    """A few cells of every committed board: the same keys, and the same results, bit for bit in one numerics class.

    In another class, accuracies agree within one point and calibration within two.
    """
    made = plan(experiment(load_toml(folder / "experiment.toml")), discover(), tmp_path)
    context, known = Context(made, "cpu"), RunFolder(folder).load().records
    planned = {canonical_json(dataclasses.asdict(cell)): cell for cell in made.cells}
    own = plan(experiment(load_suite(made.experiment.name)), discover(), tmp_path).cells
    there = {canonical_json(record.cell) for record in known.values()}  # runs that were joined have not every combination
    assert {canonical_json(dataclasses.asdict(cell)) for cell in own} <= there <= set(planned)
    chosen = [cell for name, cell in planned.items() if name in there and cell.seed == 0][:: max(1, len(there) // 50)]
    assert len(chosen) >= 10
    outcomes = list(Local().run(context, chosen[:1], lambda _: [(cell,) for cell in chosen], lambda *_: None))
    assert len(outcomes) == len(chosen)
    for outcome in outcomes:
        assert outcome is not None
        committed = known[outcome.record.key]
        assert outcome.record.status == committed.status == "done"
        if committed.numerics == canonical_json(numerics_class("cpu")):
            assert outcome.record.result == committed.result
        else:
            _agree(outcome.record.result, committed.result)


def _agree(new: Any, old: Any) -> None:
    """Compare metrics across numerics classes, where the same candidate was chosen: of two that tie, rounding may decide."""
    assert new["train"] == old["train"]
    if (new.get("selected") or {}).get("chosen") != (old.get("selected") or {}).get("chosen"):
        return
    for name, tolerance in (("top1", 0.01), ("balanced", 0.01), ("macro_f1", 0.015), ("ece", 0.02)):
        if old["metrics"][name] is not None:
            assert new["metrics"][name] == pytest.approx(old["metrics"][name], abs=tolerance)
