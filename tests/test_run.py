"""Whole runs: determinism, resume, failures, keys."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import ltbench
from ltbench.errors import UsageError
from ltbench.leaderboard.frame import frame
from ltbench.metrics import per_class_recall
from ltbench.plugins import discover
from ltbench.records import Record, RunFolder, correct_of, counts_of
from ltbench.runs import Event, Run, status

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
SMALL: dict[str, Any] = {"dataset": "digits", "backbone": "pixels", "ratio": [20], "seeds": [3]}


def results(run: Run) -> dict[str, Any]:
    """Return every cell's result by key."""
    return {record.key: record.result for record in run.records}


def go(out: Path, **settings: Any) -> Run:
    """Run a small experiment in this process."""
    return ltbench.run(out=out, **{**SMALL, **settings})


def test_a_cell_alone_equals_the_cell_among_others(tmp_path: Path) -> None:
    """The same cell gives the same bits alone, among many, and in another order."""
    alone = go(tmp_path / "a", generator="smote", classifier="balanced-softmax", reference=False)
    among = go(tmp_path / "b", generator="gaussian,smote,none", classifier="ncm,lda,balanced-softmax,softmax", seeds=[5, 3])
    (key, result) = next(iter(results(alone).items()))
    assert len(among.records) > 20
    assert results(among)[key] == result


def test_a_resumed_run_equals_an_undisturbed_one(tmp_path: Path) -> None:
    """Ctrl-C keeps what is done; running again computes only what is missing, with the same results."""
    undisturbed = go(tmp_path / "a", generator="none,smote", classifier="softmax,ncm,lda")

    def interrupt(event: Event) -> None:
        if event.number == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "b", generator="none,smote", classifier="softmax,ncm,lda", progress=interrupt)
    assert status(tmp_path / "b", discover()).done == 4
    resumed = go(tmp_path / "b", generator="none,smote", classifier="softmax,ncm,lda")
    assert resumed.computed == len(undisturbed.records) - 4
    assert results(resumed) == results(undisturbed)


def test_running_again_computes_nothing(tmp_path: Path) -> None:
    """A second run of the same experiment finds every record, however the experiment is spelt."""
    first = go(tmp_path, generator="smote[jitter=0.2,k=3]", classifier="ncm")
    again = go(tmp_path, generator="smote[k=3, jitter=0.2, target=max]", classifier="ncm[center=true]")
    assert (first.computed, again.computed) == (len(first.records), 0)


@pytest.mark.parametrize("threads", [2, 4])
def test_threads_do_not_change_results(tmp_path: Path, threads: int) -> None:
    """Results are the same whatever number of threads the process is allowed."""
    one = go(tmp_path / "one", classifier="softmax", reference=False)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        many = go(tmp_path / "many", classifier="softmax", reference=False)
    finally:
        torch.set_num_threads(before)
    assert results(many) == results(one)


@pytest.mark.slow
def test_workers_do_not_change_results(tmp_path: Path) -> None:
    """Two worker processes give the results and the board of none."""
    from ltbench.leaderboard.board import board

    settings = {"generator": "none,smote", "classifier": "softmax,ncm", "seeds": [0, 1]}
    none = go(tmp_path / "a", **settings)
    two = go(tmp_path / "b", workers=2, **settings)
    assert results(two) == results(none)
    assert board([tmp_path / "a"], tmp_path).files["README.md"] == board([tmp_path / "b"], tmp_path).files["README.md"]


BROKEN = """
import os, time
from dataclasses import dataclass
import torch, ltbench

@dataclass(frozen=True, kw_only=True)
class Broken:
    how: str = "raise"
    def fit(self, train):
        if self.how == "raise":
            raise RuntimeError("boom")
        if self.how == "exit":
            raise SystemExit(3)
        if self.how == "memory":
            raise MemoryError
        if self.how == "skip":
            raise ltbench.SkipCell("needs class-text vectors")
        if self.how == "endless":
            time.sleep(3600)
        if self.how == "segfault":
            os.kill(os.getpid(), 11)
        return self.scores
    def scores(self, x):
        if self.how == "nan":
            return ltbench.Scores(torch.full((len(x), 10), float("nan")), "logits")
        if self.how == "shape":
            return ltbench.Scores(torch.zeros(len(x), 3), "logits")
        if self.how == "kind":
            return ltbench.Scores(torch.zeros(len(x), 10), "logit")
        if self.how == "type":
            return torch.zeros(len(x), 10)
        return ltbench.Scores(torch.zeros(len(x), 10), "probabilities")

@ltbench.hookimpl
def ltbench_classifiers():
    return [ltbench.Component("broken", "broken_head:Broken", "fails in every way")]
"""


@pytest.mark.parametrize(
    ("how", "expected", "cause"),
    [
        ("raise", "failed", "(broken-head 1.0): RuntimeError: boom"),
        ("exit", "failed", "SystemExit: 3"),
        ("memory", "out of memory", "MemoryError"),
        ("skip", "skipped", "needs class-text vectors"),
        ("nan", "failed", "scores hold NaN or infinity in 500 of 500 rows"),
        ("shape", "failed", r"scores must be [500, 10], not [500, 3]"),
        ("kind", "failed", "must be 'logits', 'probabilities' or 'scores', not 'logit'"),
        ("type", "failed", "a scorer must return ltbench.Scores, not Tensor"),
        ("sum", "failed", "probabilities must sum to one"),
    ],
)
def test_a_failing_head_is_a_record_and_the_others_go_on(
    tmp_path: Path, make_plugin: Callable[..., Path], how: str, expected: str, cause: str
) -> None:
    """Every way to fail is recorded with its cause, and costs its own cell only."""
    make_plugin("broken-head", BROKEN)
    run = go(tmp_path / "out", classifier=f"ncm,broken[how={how}]", reference=False)
    by_name = {record.cell["classifier"].partition("[")[0]: record for record in run.records}
    assert by_name["ncm"].status == "done"
    assert by_name["broken"].status == expected
    assert cause in by_name["broken"].cause


@pytest.mark.parametrize(
    ("how", "expected"), [pytest.param("endless", "timed out", marks=pytest.mark.slow), ("segfault", "killed")]
)
def test_a_lost_worker_costs_its_own_cell(
    tmp_path: Path, make_plugin: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, how: str, expected: str
) -> None:
    """A head that never ends or kills its process is found cell by cell; its neighbours are done."""
    folder = make_plugin("broken-head", BROKEN)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    run = go(tmp_path / "out", classifier=f"ncm,broken[how={how}],lda", reference=False, workers=1, timeout=15)
    assert {r.cell["classifier"].partition("[")[0]: r.status for r in run.records} == {
        "ncm": "done",
        "broken": expected,
        "lda": "done",
    }


def test_failed_cells_are_tried_again_on_request(tmp_path: Path, make_plugin: Callable[..., Path]) -> None:
    """A failure stays until --retry-failed; a success then supersedes it."""
    make_plugin("broken-head", BROKEN)
    settings = {"classifier": "broken", "reference": False}
    assert go(tmp_path, **settings).computed == 1
    assert go(tmp_path, **settings).computed == 0
    assert go(tmp_path, **settings, retry_failed=True).computed == 1


def test_fail_fast_stops_at_the_first_failure(tmp_path: Path, make_plugin: Callable[..., Path]) -> None:
    """With --fail-fast nothing runs after a failure; what was done is kept."""
    make_plugin("broken-head", BROKEN)
    run = go(tmp_path, classifier="ncm,broken,lda", reference=False, fail_fast=True)
    assert [record.status for record in run.records] == ["done", "failed"]
    assert status(tmp_path, discover()).missing == 1


GENERATOR = """
from dataclasses import dataclass
import ltbench
@dataclass(frozen=True, kw_only=True)
class Copy:
    {comment}
    times: int = 1
    def fit(self, train):
        return lambda budget: ltbench.Rows({rows}, train.targets[:{n}])
@ltbench.hookimpl
def ltbench_generators():
    return [ltbench.Component("copy", "copy_rows:Copy", "x", requires=("numpy",))]
"""


def key_of(run: Run) -> str:
    """Return the key of the only cell."""
    (record,) = run.records
    return record.key


def test_keys_see_what_can_change_a_result_and_nothing_else(
    tmp_path: Path, make_plugin: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A code line, a parameter, a row or a library misses; a comment, a folder or the order of arguments hits."""

    def key(name: str, code: dict[str, str], **settings: Any) -> str:
        make_plugin("copy-rows", GENERATOR.format(**{"comment": "'doc'", "rows": "train.x[:5]", "n": "5", **code}))
        return key_of(go(tmp_path / name, **{"classifier": "ncm", "reference": False, "generator": "copy", **settings}))

    base = key("base", {})
    assert key("elsewhere", {"comment": "# another comment"}) == base
    assert key("order", {}, generator="copy[target=max,times=1]") == base
    assert key("line", {"rows": "train.x[:5] + 0"}) != base
    assert key("parameter", {}, generator="copy[times=2]") != base
    assert key("budget", {}, generator="copy[target=median]") != base
    assert key("row", {}, ratio=[21]) != base
    assert key("seed", {}, seeds=[4]) != base
    assert key("transform", {}, transform="l2") != base
    assert key("prior", {}, prior_source="real") != base
    assert key("folds", {}, selection={"folds": 4}) != base
    import importlib.metadata

    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99" if name == "numpy" else real(name))
    assert key("library", {}) != base


def test_two_protocols_do_not_share_a_folder(tmp_path: Path) -> None:
    """A folder holds one protocol; the error says what differs."""
    go(tmp_path, classifier="ncm", reference=False)
    with pytest.raises(UsageError, match="another protocol \\(transform differ"):
        go(tmp_path, classifier="ncm", reference=False, transform="l2")


def test_a_folder_takes_more_methods_of_its_protocol(tmp_path: Path) -> None:
    """Runs of one protocol add up; the experiment file then names them all."""
    go(tmp_path, classifier="ncm", reference=False)
    more = go(tmp_path, classifier="lda", reference=False)
    assert more.computed == 1
    text = (tmp_path / "experiment.toml").read_text()
    assert '"ncm"' in text
    assert '"lda"' in text


def test_the_frame_has_a_row_per_cell_with_groups(tmp_path: Path) -> None:
    """to_frame gives names, metrics and groups; group accuracies are means of per-class recall."""
    run = go(tmp_path, classifier="ncm", groups="3/4/3")
    frame = run.to_frame().set_index(["imbalance_ratio", "classifier"])
    record: Record = next(r for r in run.records if r.cell["imbalance_ratio"] > 1 and r.cell["classifier"] == "ncm")
    assert record.result is not None
    recall = per_class_recall(counts_of(record))
    row = frame.loc[(20.0, "ncm")]
    assert (row["head_classes"], row["medium_classes"], row["tail_classes"]) == (3, 4, 3)
    assert row["head"] == pytest.approx(sum(recall[:3]) / 3)
    assert row["tail"] == pytest.approx(sum(recall[7:]) / 3)
    assert row.isna()["tail_nll"]  # distances are no probabilities
    assert frame.loc[(1.0, "ncm")]["head"] is None or frame.loc[(1.0, "ncm")].isna()["head"]


def test_the_frame_has_calibration_by_the_runs_own_groups(tmp_path: Path) -> None:
    """ECE, NLL and Brier score of each group are in the frame under the rule of the run, and in none under another."""
    run = go(tmp_path, classifier="softmax", groups="3/0/7", reference=False)
    (record,), (_, row) = run.records, next(run.to_frame().iterrows())
    told = (record.result or {})["groups"]
    bins = told["tail"]["reliability"]
    gaps = [abs(r - n * (c or 0)) for n, r, c in zip(bins["count"], bins["right"], bins["confidence"], strict=True)]
    assert (told["rule"], told["medium"], told["head"]["classes"], sum(bins["count"])) == ("3/0/7", None, 3, 350)
    assert row["tail_ece"] == pytest.approx(sum(gaps) / 350)
    assert (row["head_nll"], row["tail_brier"]) == (told["head"]["nll"], told["tail"]["brier"])
    assert "medium_nll" not in row
    assert "tail_nll" not in frame(run.records, "thirds")


def test_scores_beside_the_record_give_its_metrics(tmp_path: Path) -> None:
    """The stored scores give which rows are right, and the record's accuracy, without training again."""
    run = go(tmp_path, classifier="softmax", reference=False)
    (record,) = RunFolder(tmp_path).load().records.values()
    arrays = RunFolder(tmp_path).read_arrays(record)
    assert record.result is not None
    labels = run.plan.datasets["digits"].test.labels
    by_class = labels.argsort(stable=True)
    right = arrays.scores.argmax(dim=1)[by_class] == labels[by_class]
    assert right.tolist() == correct_of(record).tolist()
    assert float(right.double().mean()) == record.result["metrics"]["top1"]
    assert arrays.scores.shape == (500, 10)
    assert run.records[0].key == record.key


def test_a_record_says_how_it_was_selected(tmp_path: Path) -> None:
    """The record names the candidates, their scores, the rows and the choice."""
    run = go(tmp_path, classifier="softmax", reference=False)
    selected = run.records[0].result["selected"] if run.records[0].result else {}
    best = max(selected["balanced_accuracy"])
    assert selected["chosen"] == selected["candidates"][selected["balanced_accuracy"].index(best)]
    assert selected["rows"].startswith("3-fold class-weighted cross-validation on ")
    assert json.dumps(selected["candidates"]) == '[{"l2": 0.1}, {"l2": 0.01}, {"l2": 0.001}, {"l2": 0.0001}]'


BACKBONE = """
from dataclasses import dataclass
import ltbench
@dataclass(frozen=True, kw_only=True)
class Missing:
    def load(self, device):
        raise FileNotFoundError("weights.safetensors is not there")
@ltbench.hookimpl
def ltbench_backbones():
    return [ltbench.Component("missing", "missing_weights:Missing", "x")]
"""


def test_a_backbone_without_weights_fails_its_own_cells(tmp_path: Path, make_plugin: Callable[..., Path]) -> None:
    """A backbone that cannot be loaded makes failed records; the other backbone's cells are done."""
    make_plugin("missing-weights", BACKBONE)
    run = go(tmp_path, backbone="missing,pixels", classifier="ncm", reference=False)
    assert {r.cell["backbone"]: r.status for r in run.records} == {"missing": "failed", "pixels": "done"}
    assert "weights.safetensors is not there" in run.failed[0].cause


@pytest.mark.gpu
@needs_cuda
def test_cuda_and_cpu_agree(tmp_path: Path) -> None:
    """The same experiment on CUDA and CPU: the same keys, and balanced accuracies within a point."""
    settings = {
        "generator": "none,smote,gaussian,random-over",
        "classifier": "softmax,balanced-softmax,ncm,lda",
        "seeds": [0, 1],
    }
    cpu = {r.key: r for r in go(tmp_path / "cpu", device="cpu", **settings).records}
    cuda = {r.key: r for r in go(tmp_path / "cuda", device="cuda", **settings).records}
    assert cpu.keys() == cuda.keys()
    assert all(record.status == "done" for record in cuda.values())
    gaps = [abs(cpu[k].result["metrics"]["balanced"] - cuda[k].result["metrics"]["balanced"]) for k in cpu]  # type: ignore[index]
    assert max(gaps) <= 0.01


@pytest.mark.gpu
@needs_cuda
def test_cuda_is_deterministic(tmp_path: Path) -> None:
    """The same experiment twice on CUDA gives the same bits."""
    settings = {"generator": "smote,gaussian", "classifier": "softmax,lda", "device": "cuda"}
    assert results(go(tmp_path / "a", **settings)) == results(go(tmp_path / "b", **settings))


CLASH = """
import ltbench
@ltbench.hookimpl
def ltbench_generators():
    return [ltbench.Component("none", "ltbench_generators.smote:Smote", "takes a name of the protocol")]
"""


def test_a_clash_with_a_protocols_own_name_harms_nobody(tmp_path: Path, make_plugin: Callable[..., Path]) -> None:
    """Another plugin's ``none`` is a component of its own; references and bare names stay the protocol's."""
    before = go(tmp_path / "before", classifier="ncm")
    make_plugin("clashing", CLASH)
    after = go(tmp_path / "after", classifier="ncm", generator="none,none@clashing")
    assert {r.cell["generator"] for r in after.records} == {"none", "none@clashing"}
    assert results(before).items() <= results(after).items()


def test_a_changed_plugin_outdates_its_records(tmp_path: Path, make_plugin: Callable[..., Path]) -> None:
    """After a code change, the board counts each cell once: the one that ended last."""
    from ltbench.leaderboard.board import board

    for rows in ("train.x[:5]", "train.x[:5] * 2"):
        make_plugin("copy-rows", GENERATOR.format(comment="'doc'", rows=rows, n="5"))
        run = go(tmp_path / "out", classifier="ncm", generator="copy", reference=False, seeds=2)
        assert run.computed == 2
    made = board([tmp_path / "out"], tmp_path)
    page = made.files["README.md"]
    assert made.left_out == 2
    made.write(tmp_path / "board")
    again = board([tmp_path / "board"], tmp_path / "board")
    assert (again.files, again.left_out) == (made.files, 0)
    row = next(line for line in page.splitlines() if line.startswith("| copy"))
    assert [cell.strip() for cell in row.split("|")][-3:-1] == ["2", "0"]
    fresh = go(tmp_path / "fresh", classifier="ncm", generator="copy", reference=False, seeds=2)
    assert row in board([tmp_path / "fresh"], tmp_path).files["README.md"]
    assert results(fresh) == results(run)


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan"), float("inf"), 5.0])
def test_a_time_limit_must_be_usable(tmp_path: Path, timeout: float) -> None:
    """A limit that is no number of seconds, or that nothing can keep, is refused."""
    with pytest.raises(UsageError, match="--timeout needs worker processes"):
        go(tmp_path, classifier="ncm", timeout=timeout, workers=0 if timeout == 5.0 else 1)


ENCODER = """
from dataclasses import dataclass
import ltbench
@dataclass(frozen=True, kw_only=True)
class Flat:
    fingerprint = "flat"
    flops_per_image = 0
    def load(self, device):
        return self
    def preprocess(self, image):
        return image
    def __call__(self, batch):
        return batch.flatten(1).float() / {scale}
@ltbench.hookimpl
def ltbench_backbones():
    return [ltbench.Component("flat", "flat_pixels:Flat", "x")]
"""


def test_a_backbones_code_is_in_the_key_and_in_the_cache(tmp_path: Path, make_plugin: Callable[..., Path]) -> None:
    """A changed line of a backbone misses cells and cached features, though its fingerprint says nothing of it."""
    found = []
    for scale in ("255", "127", "255  # as before"):
        make_plugin("flat-pixels", ENCODER.format(scale=scale))
        found.append(
            go(tmp_path / scale[:3] / str(len(found)), backbone="flat", transform="none", classifier="softmax", reference=False)
        )
    assert key_of(found[0]) == key_of(found[2]) != key_of(found[1])
    assert results(found[0]) == results(found[2])
    assert found[0].records[0].result != found[1].records[0].result
