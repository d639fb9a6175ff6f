"""Tests of temperature scaling as a user asks for it: ``softmax[temperature=true]``, with any head."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import scipy.optimize
import torch
from torch.nn.functional import cross_entropy

import ltbench
from ltbench.components import Resolved, resolve
from ltbench.errors import UsageError
from ltbench.heads import Task, fit_one, fit_temperature
from ltbench.plugins import discover
from ltbench.types import Scores


def resolved(name: str) -> Resolved:
    """Return a classifier."""
    return resolve(discover(), "classifier", name)


@pytest.mark.parametrize("name", ["softmax[l2=0.01,temperature=true]", "ncm[temperature=true]"])
def test_a_temperature_is_part_of_name_and_identity(name: str) -> None:
    """The canonical name says it and parses back, the key tells it, and the head itself is built without it."""
    found, plain = resolved(name), resolved(name.replace(",temperature=true", "").replace("[temperature=true]", ""))
    assert (found.canonical, found.temperature) == (name, True)
    assert resolved(found.canonical) == found
    assert found.build() == plain.build()
    assert found.identity()["params"] == {**plain.identity()["params"], "temperature": True}


def test_without_a_temperature_nothing_changes() -> None:
    """``temperature=false`` is the plain head, by name and by key."""
    off, plain = resolved("softmax[temperature=false]"), resolved("softmax")
    assert (off.canonical, off.temperature) == ("softmax", False)
    assert off.identity() == plain.identity()


def test_a_temperature_is_true_or_false() -> None:
    """A number is refused: it is fitted, not given."""
    with pytest.raises(UsageError, match="temperature must be true or false"):
        resolved("softmax[temperature=2]")
    with pytest.raises(UsageError, match="no parameter 'temperature'"):
        resolve(discover(), "generator", "smote[temperature=true]")


def test_a_classifier_with_such_a_parameter_keeps_it(make_plugin: Callable[..., Path]) -> None:
    """An author's own ``temperature`` is the author's."""
    code = """
        from dataclasses import dataclass
        import ltbench

        @dataclass(frozen=True, kw_only=True)
        class Warm:
            temperature: float = 1.0
            def fit(self, train): ...

        @ltbench.hookimpl
        def ltbench_classifiers():
            return [ltbench.Component("warm", "warm:Warm", "warm", reference="folklore: warm")]
    """
    make_plugin("warm", code)
    found = resolved("warm[temperature=2.0]")
    assert (found.build().temperature, found.temperature) == (2.0, False)


@pytest.mark.parametrize("kind", ["logits", "scores"])
def test_the_temperature_is_the_likeliest(kind: str) -> None:
    """NLL of held-out rows, each class counting alike, is the least that scipy finds over log T."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(4, (200,), generator=generator)
    logits = 9 * torch.randn(200, 4, generator=generator, dtype=torch.float64)
    logits[torch.arange(200), labels] += 6
    weight = 1 / torch.bincount(labels).double()

    def loss(log: float) -> float:
        return float(cross_entropy(logits / torch.tensor(log).exp(), labels, weight=weight))

    best = scipy.optimize.minimize_scalar(loss, bounds=(-5, 8), method="bounded", options={"xatol": 1e-9})
    parts = [(Scores(logits[rows], kind), labels[rows]) for rows in torch.arange(200).split(70)]
    assert torch.tensor(fit_temperature(parts)).log().item() == pytest.approx(best.x, abs=1e-4)


@dataclasses.dataclass(frozen=True)
class Fixed:
    """Scores rows by their own features."""

    def fit(self, train: ltbench.Train) -> Callable[[torch.Tensor], Scores]:
        """Learn nothing."""
        return lambda x: Scores(x, "scores")


def test_any_head_is_tempered_on_folds_and_predicts_as_before() -> None:
    """Distances become logits over T, T fitted on held-out rows; the order of classes stays."""
    x, labels = torch.randn(30, 3, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 3
    ones, counts = torch.ones(30, dtype=torch.float64), torch.full((3,), 10.0, dtype=torch.float64)
    train = ltbench.Train(x, labels, ones, torch.arange(30), counts, counts, ltbench.Stream.of(0))
    found = fit_one(Task([Fixed()], train, [(train, x, labels)], temperature=True), lambda scorer, x: scorer(x))
    assert found.temperature == pytest.approx(fit_temperature([(Scores(x, "logits"), labels)]))
    torch.testing.assert_close(x / found.temperature, found.scorer(x).values)
    assert found.scorer(x).kind == "logits"


def test_a_run_records_the_temperature_and_calibration_before(tmp_path: Path) -> None:
    """From names to records: accuracy as without it, NLL lower or the same, distances calibrated where they were not."""
    names = ["softmax", "ncm"]
    names += [f"{name}[temperature=true]" for name in names]
    settings = {"dataset": "digits", "backbone": "pixels[size=8]", "classifier": names, "ratio": 50.0, "reference": False}
    made = ltbench.run(out=tmp_path / "run", workers=0, **settings)
    results = {record.cell["classifier"]: record.result for record in made.records}
    softmax, ncm, warm, near = (
        next(result for name, result in results.items() if name.startswith(start) and ("temperature" in name) == tempered)
        for tempered in (False, True)
        for start in ("softmax", "ncm")
    )
    assert warm["temperature"]["before"] == {name: softmax["metrics"][name] for name in ("ece", "nll", "brier")}
    assert near["temperature"]["before"] == {"ece": None, "nll": None, "brier": None}
    assert warm["metrics"]["balanced"] == softmax["metrics"]["balanced"]
    assert near["metrics"]["balanced"] == ncm["metrics"]["balanced"]
    assert near["metrics"]["ece"] < 0.2
    assert "cross-validation" in warm["temperature"]["rows"]
    assert near["flops"]["selection"] > ncm["flops"]["selection"] == 0
