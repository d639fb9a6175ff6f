"""Tests of which rows are compared for fidelity, of what a record says of them, and of the board's tables."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import one_hot

import ltbench
from ltbench.execute import fidelity as module
from ltbench.execute.fidelity import chosen_rows, compared
from ltbench.leaderboard.board import board
from ltbench.longtail import GROUPS, assign_groups
from ltbench.metrics import Labelled, fidelity_figures
from ltbench.records import Record, RunFolder
from ltbench.streams import Stream
from ltbench.types import Rows, Train

several_examples = settings(max_examples=40, deadline=None, derandomize=True)
counts_of_three = st.lists(st.integers(0, 30), min_size=3, max_size=3)


def rows_of(counts: list[int], seed: int = 0) -> Labelled:
    """Return rows of normal classes, mixed, whose first feature is a number of their own."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    x = torch.randn(len(labels), 3, generator=generator) + labels[:, None]
    x[:, 0] = 1000 * seed + torch.arange(len(labels))
    return Labelled(x, labels)


def train_of(rows: Labelled, classes: int = 3) -> Train:
    """Return rows as a generator sees them."""
    counts, ones = torch.bincount(rows.labels, minlength=classes).double(), torch.ones(len(rows.x)).double()
    return Train(rows.x, rows.labels, ones, torch.arange(len(rows.x)), counts, counts, Stream.of(4))


@several_examples
@given(have=counts_of_three, wanted=counts_of_three, seed=st.integers(0, 9))
def test_so_many_rows_of_each_class_are_chosen(have: list[int], wanted: list[int], seed: int) -> None:
    """As many as wanted or as there are, each once, with its own label; another stream chooses others."""
    rows = rows_of(have)
    chosen = chosen_rows(rows, torch.tensor(wanted), Stream.of(seed))
    assert torch.bincount(chosen.labels, minlength=3).tolist() == [min(pair) for pair in zip(have, wanted, strict=True)]
    places = chosen.x[:, 0].long()
    assert len(set(places.tolist())) == len(places)
    assert torch.equal(rows.labels[places], chosen.labels)


def test_the_stream_chooses() -> None:
    """The same stream the same rows, another one others."""
    rows, wanted = rows_of([40, 40, 40]), torch.tensor([9, 9, 9])
    one, again, other = (chosen_rows(rows, wanted, Stream.of(seed)).x for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@several_examples
@given(real=counts_of_three, made=counts_of_three, held=counts_of_three, most=st.integers(1, 25), soft=st.booleans())
def test_as_many_synthetic_rows_as_held_out_ones_are_compared(
    real: list[int], made: list[int], held: list[int], most: int, *, soft: bool
) -> None:
    """In every class, few enough; none of a class without real rows; all real rows; soft labels by their largest share."""
    seen, ours, theirs = (rows_of(counts, seed) for seed, counts in enumerate((real, made, held), start=1))
    targets = 0.6 * one_hot(ours.labels, 3) + 0.4 / 3 if soft else ours.labels
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PER_CLASS", most)
        found = compared(train_of(seen), Rows(ours.x, targets), theirs, "somewhere")
    numbers = [min(m, h, most) if n else 0 for n, m, h in zip(real, made, held, strict=True)]
    if not any(numbers):
        assert found is None
        return
    assert found is not None
    assert torch.equal(found.real.x, seen.x)
    for each, all_rows in ((found.made, ours), (found.held_out, theirs)):
        assert torch.bincount(each.labels, minlength=3).tolist() == numbers
        assert set(each.x[:, 0].tolist()) <= set(all_rows.x[:, 0].tolist())
    told = found.figures()
    assert (told["rows"], told["held_out_from"]) == (numbers, "somewhere")


def test_figures_are_those_of_the_rows_compared() -> None:
    """To six digits, synthetic and held out apart."""
    seen, ours, theirs = rows_of([20, 12, 8], 1), rows_of([10, 10, 10], 2), rows_of([10, 10, 10], 3)
    found = compared(train_of(seen), Rows(ours.x, ours.labels), theirs, "")
    assert found is not None
    told = found.figures()
    for kind, rows in (("synthetic", ours), ("held_out", theirs)):
        expected = vars(fidelity_figures(seen, rows, 3))
        assert told[kind].keys() == expected.keys()
        for name, values in expected.items():
            assert told[kind][name] == [pytest.approx(value, rel=1e-5) for value in values]


def test_many_classes_have_fewer_rows_each() -> None:
    """Together no more than ``TOGETHER``, but one of each class."""
    for classes, most in ((100, 20), (1000, 5), (6000, 1)):
        rows = Labelled(torch.zeros(30 * classes, 1), torch.arange(classes).repeat(30))
        found = compared(train_of(rows, classes), Rows(rows.x, rows.labels), rows, "")
        assert found is not None
        assert torch.bincount(found.made.labels).tolist() == [most] * classes


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run copies and interpolations of digits under two heads and two seeds."""
    out = tmp_path_factory.mktemp("run")
    settings = {"dataset": "digits", "backbone": "pixels", "generator": "none,random-over,smote", "classifier": "ncm,lda"}
    ltbench.run(**settings, ratio=[10], groups="thirds", seeds=2, reference=False, out=out)
    return out


def records_of(run: Path, generator: str) -> list[Record]:
    """Return a generator's records."""
    return [record for record in RunFolder(run).load().records.values() if record.cell["generator"] == generator]


def test_a_record_says_how_near_its_rows_are(run: Path) -> None:
    """Copies are all memorised duplicates, interpolations none; held-out rows are neither; without rows there is nothing."""
    for generator, duplicates in (("random-over", {1.0, None}), ("smote", {0.0, None})):
        for record in records_of(run, generator):
            assert record.result is not None
            told = record.result["fidelity"]
            assert told["held_out_from"] == "first of 3 folds of training rows"
            assert told["rows"][0] == 0  # the largest class gets no synthetic row
            assert min(told["rows"][1:]) > 0
            assert max(told["rows"]) <= module.PER_CLASS
            assert set(told["synthetic"]["duplicates"]) == duplicates
            assert set(told["held_out"]["duplicates"]) == {0.0, None}
    assert [record.result["fidelity"] for record in records_of(run, "none") if record.result] == [None] * 4


def test_all_heads_of_a_setting_tell_the_same(run: Path) -> None:
    """Rows are compared once for all of them, and other seeds have other rows."""
    by_seed: dict[int, list[object]] = {0: [], 1: []}
    for record in records_of(run, "smote"):
        by_seed[record.cell["seed"]].append(record.result["fidelity"] if record.result else None)
    assert [len(each) for each in by_seed.values()] == [2, 2]
    assert all(one == other for one, other in by_seed.values())
    assert by_seed[0] != by_seed[1]


def test_the_board_has_a_table_of_it(run: Path) -> None:
    """A row per generator and group: the means over classes and seeds, synthetic beside held out."""
    page = board([run], run).files["FIDELITY.md"]
    assert "Held-out rows: first of 3 folds of training rows." in page
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| ")][1:]
    assert [row[:3] for row in rows] == [
        [generator, "real+synthetic", group] for generator in ("random-over", "smote") for group in GROUPS
    ]
    one_head = {record.cell["seed"]: record.result for record in records_of(run, "smote") if record.result}
    for kind, place in (("synthetic", 0), ("held_out", 1)):
        per_seed = []
        for result in one_head.values():
            groups = assign_groups(result["train"]["class_counts"], "thirds")
            of_tail = [v for v, group in zip(result["fidelity"][kind]["coverage"], groups, strict=True) if group == "tail"]
            per_seed.append(statistics.fmean(v for v in of_tail if v is not None))
        assert rows[5][5].split(" / ")[place] == f"{100 * statistics.fmean(per_seed):.1f}"


def test_a_board_without_synthetic_rows_has_no_such_page(run: Path, tmp_path: Path) -> None:
    """Nor do records of a version that did not tell."""
    settings = {"dataset": "digits", "backbone": "pixels", "classifier": "ncm"}
    ltbench.run(**settings, ratio=[10], groups="thirds", reference=False, out=tmp_path)
    assert "FIDELITY.md" not in board([tmp_path], tmp_path).files
