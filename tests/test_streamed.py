"""Tests of rows that are streamed from disk: the bits that memory gives, who is trained on them, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import ltbench
from ltbench.budget import Budget
from ltbench.components import resolve
from ltbench.errors import UsageError
from ltbench.execute.failures import ComponentFailure
from ltbench.execute.rows import Material, Recipe
from ltbench.execute.setting import Prepared, prepare
from ltbench.execute.streamed import ROWS_VARIABLE
from ltbench.files import cache_folder
from ltbench.plugins import discover
from ltbench.records import Record, RunFolder
from ltbench.streams import Stream
from ltbench.types import Rows, Train


class Usage(NamedTuple):
    """What a disk says of itself, in bytes."""

    total: int
    used: int
    free: int


class Plain:
    """A transform that leaves rows as they are."""

    def fit(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """Learn nothing."""
        return lambda rows: rows


def material(counts: tuple[int, ...] = (30, 9, 1), *, validation: bool = False, dtype: torch.dtype = torch.float32) -> Material:
    """Return normal rows of eight features."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    ids = torch.arange(len(labels))
    x = Stream.of(5).normal(ids, 8).to(dtype)
    held = (Stream.of(6).normal(torch.arange(6), 8).to(dtype), torch.arange(6) % 3) if validation else None
    return Material(x, labels, ids, x[:4] + 1, len(counts), held)


def recipe(generator: Any, **changes: Any) -> Recipe:
    """Return a recipe of a generator, given by its name or as it is."""
    built = resolve(discover(), "generator", generator).build() if isinstance(generator, str) else generator
    plain = Recipe(Plain(), "plain", built, "generator", Budget(), "effective", seed=3, folds=3)
    return dataclasses.replace(plain, **changes)


def contents(prepared: Prepared) -> dict[str, Any]:
    """Return everything that a setting says, but whether it is streamed."""
    trains = {"all": prepared.train, **{f"fold {i}": fold[0] for i, fold in enumerate(prepared.folds)}}
    names = ("x", "targets", "weights", "row_ids", "class_counts", "real_class_counts")
    tensors = {f"{which} {name}": getattr(train, name).tolist() for which, train in trains.items() for name in names}
    told = {name: getattr(prepared, name) for name in ("notes", "generation_flops", "fold_flops", "fidelity", "selection_rows")}
    return {**tensors, **told, "streams": [train.stream for train in trains.values()]}


CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "smote": ("smote", {}, {}),
    "normal noise": ("gaussian", {}, {}),
    "soft labels": ("mixup", {}, {}),
    "weighed": ("kde", {"budget": Budget(weight=0.3)}, {}),
    "alone": ("random-over", {"regime": "synthetic"}, {}),
    "validation part": ("smote", {"prior_source": "real"}, {"validation": True}),
    "half precision": ("smote", {"budget": Budget(target=50)}, {"dtype": torch.bfloat16}),
}


@pytest.mark.parametrize("case", CASES)
def test_streamed_rows_are_those_of_memory(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, with labels, weights, counts, notes, costs, folds and fidelity; no file is left beside the cache."""
    generator, changes, rows = CASES[case]
    whole = prepare(material(**rows), recipe(generator, **changes))
    monkeypatch.setenv(ROWS_VARIABLE, "0")
    monkeypatch.setattr("ltbench_generators.sampler.PART", 40)
    before = sorted(cache_folder().iterdir())
    streamed = prepare(material(**rows), recipe(generator, **changes))
    assert contents(whole) == contents(streamed)
    assert (whole.train.streamed, streamed.train.streamed) == (False, True)
    assert whole.train.x.dtype == streamed.train.x.dtype
    assert sorted(cache_folder().iterdir()) == before


@pytest.mark.parametrize(("limit", "streamed"), [("", False), ("4e-6", False), ("2e-6", True), ("0", True)])
def test_the_limit_counts_rows_and_their_copy(limit: str, streamed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """50 synthetic rows of eight float32 features are 3,200 bytes with the copy, 3·10⁻⁶ GiB; nothing said, half the memory."""
    monkeypatch.setenv(ROWS_VARIABLE, limit)
    assert prepare(material(), recipe("random-over")).train.streamed is streamed


@pytest.mark.parametrize("text", ["few", "-1", "nan"])
def test_a_limit_is_a_number(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anything else is refused, with what it must be."""
    monkeypatch.setenv(ROWS_VARIABLE, text)
    with pytest.raises(ComponentFailure) as caught:
        prepare(material(), recipe("smote"))
    assert isinstance(caught.value.__cause__, UsageError)
    assert f"LTBENCH_ROWS_GIB must be a number of GiB of at least 0, not {text!r}" in str(caught.value.__cause__)


@dataclasses.dataclass(frozen=True)
class InParts:
    """Zeros of the class that is asked for, in parts that are changed."""

    change: Callable[[Rows], Any] | None = None

    def fit(self, train: Train) -> Any:
        """Return a sampler, with parts if there is a change."""
        change = self.change

        class Whole:
            def __call__(self, budget: Tensor) -> Rows:
                labels = torch.arange(len(budget)).repeat_interleave(budget)
                return Rows(torch.zeros(len(labels), train.x.shape[1]), labels)

        class Parts(Whole):
            def parts(self, budget: Tensor) -> Iterator[Any]:
                assert change is not None
                yield change(self(budget))

        return Whole() if change is None else Parts()


def test_a_sampler_without_parts_is_held_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the limit; more than there is of memory is refused as ever."""
    monkeypatch.setenv(ROWS_VARIABLE, "0")
    assert prepare(material(), recipe(InParts())).train.streamed is False
    with pytest.raises(ComponentFailure) as caught:
        prepare(material(), recipe(InParts(), budget=Budget(target=10**12)))
    assert isinstance(caught.value.__cause__, MemoryError)
    assert "lower target or per_real, or give a cap" in str(caught.value.__cause__)


BAD_PARTS: dict[str, tuple[Callable[[Rows], Any], type[Exception], str]] = {
    "no Rows": (lambda rows: rows.x, TypeError, "must return ltbench.Rows"),
    "NaN": (lambda rows: dataclasses.replace(rows, x=rows.x / 0), ValueError, "hold NaN or infinity"),
    "keep": (
        lambda rows: dataclasses.replace(rows, keep=torch.ones(40, dtype=torch.bool)),
        ValueError,
        "must keep all real rows",
    ),
}


@pytest.mark.parametrize("name", BAD_PARTS)
def test_bad_parts_are_the_generators_failure(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part is checked as rows are."""
    change, error, message = BAD_PARTS[name]
    monkeypatch.setenv(ROWS_VARIABLE, "0")
    with pytest.raises(ComponentFailure, match="generator generator") as caught:
        prepare(material(), recipe(InParts(change)))
    assert isinstance(caught.value.__cause__, error)
    assert re.search(message, str(caught.value.__cause__))


@pytest.mark.parametrize("budget", [Budget(target=10**9), Budget(per_real=1e30)])
def test_a_full_disk_is_told_before_a_row_is_made(budget: Budget, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wanted, what is free, and what to do."""
    monkeypatch.setenv(ROWS_VARIABLE, "0")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 2**40 - 2**30, 2**30))
    with pytest.raises(ComponentFailure) as caught:
        prepare(material(), recipe("smote", budget=budget))
    assert isinstance(caught.value.__cause__, MemoryError)
    told = r"the budget is [\d,]{13,} rows of 8 features.* [\d,]+ GiB where 1 GiB are free: lower target .*LTBENCH_CACHE name"
    assert re.search(told, str(caught.value.__cause__))


BATCHED = ["softmax[solver=sgd]", "tau-norm[l2=0.001,solver=sgd,tau=0.5]"]
OTHERS = ["softmax[l2=0.001]", "lws[l2=0.001]", "ncm"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Record], dict[str, Record]]:
    """Run heads of each kind on digits, in memory and streamed."""
    found = []
    for limit in ("", "0"):
        out = tmp_path_factory.mktemp("run")
        settings = {
            "dataset": "digits",
            "backbone": "pixels",
            "generator": "smote",
            "classifier": ",".join([*BATCHED, *OTHERS]),
        }
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(ROWS_VARIABLE, limit)
            ltbench.run(**settings, ratio=[10], groups="thirds", reference=False, out=out)
        found.append({record.cell["classifier"]: record for record in RunFolder(out).load().records.values()})
    return found[0], found[1]


def test_a_head_trained_in_batches_gives_the_same_result(runs: tuple[dict[str, Record], dict[str, Record]]) -> None:
    """Equal results under equal keys, selection, costs and fidelity included; ``measured`` says that rows were streamed."""
    whole, streamed = runs
    assert {name: record.key for name, record in whole.items()} == {name: record.key for name, record in streamed.items()}
    for name in BATCHED:
        assert whole[name].status == streamed[name].status == "done"
        assert json.dumps(whole[name].result) == json.dumps(streamed[name].result)
        assert (whole[name].measured.get("streamed"), streamed[name].measured.get("streamed")) == (None, True)
    chosen = whole["softmax[solver=sgd]"].result
    assert chosen is not None
    assert chosen["selected"] is not None


def test_other_heads_are_out_of_memory_with_the_reason(runs: tuple[dict[str, Record], dict[str, Record]]) -> None:
    """What is solved exactly or has a fit of its own needs the rows in memory, and so does what is built on it."""
    whole, streamed = runs
    assert {whole[name].status for name in OTHERS} == {"done"}
    told = r"MemoryError: the [\d,]+ synthetic rows do not fit in memory and are streamed from disk, which only solver=sgd does: say "
    for name in OTHERS:
        assert streamed[name].status == "out of memory"
        assert re.match(told, str(streamed[name].failure["error"]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_batches_go_to_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is on the host, all else on the GPU: the head is the one that rows on the GPU give."""
    rows = material()
    there = {name: getattr(rows, name).cuda() for name in ("x", "labels", "row_ids", "test")}
    heads = []
    for limit in ("", "0"):
        monkeypatch.setenv(ROWS_VARIABLE, limit)
        prepared = prepare(dataclasses.replace(rows, **there), recipe("smote", budget=Budget(weight=0.5)))
        assert prepared.train.x.is_cuda == (limit == "")
        assert prepared.fidelity is not None
        heads.append(ltbench.fit_sgd(prepared.train, lambda batch: ltbench.softmax_loss(batch.logits, batch.targets), 1e-3))
    assert torch.equal(heads[0].weight, heads[1].weight)
