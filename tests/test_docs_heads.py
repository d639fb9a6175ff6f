"""Tests of what the documentation of heads says: its example works, and its table names every classifier and recipe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import ltbench
from ltbench.components import parameters, resolve
from ltbench.heads import RECIPES, fit_classifier
from ltbench.plugins import discover
from ltbench.testing import run_checks

PAGE = (Path(__file__).parent.parent / "docs" / "heads.md").read_text(encoding="utf-8")
EXAMPLE = PAGE.partition("```python\n")[2].partition("```")[0]


@pytest.fixture
def example(make_plugin: Callable[..., Path]) -> Any:
    """Return the example's component, installed."""
    make_plugin("my-cdt", EXAMPLE)
    return resolve(discover(), "classifier", "cdt")


def test_the_example_keeps_the_contract_in_forty_lines(example: Any) -> None:
    """Every rule of the kit holds for it, slopes by hand included."""
    assert len(EXAMPLE.splitlines()) <= 40
    assert [finding for finding in run_checks(example) if finding.outcome == "FAIL"] == []


def test_the_example_is_its_formula(example: Any) -> None:
    """At γ = 0 it is softmax; otherwise its head is the one that autograd finds for CE(z/a), which does not see a added to z."""
    labels = torch.arange(3).repeat_interleave(torch.tensor([20, 8, 2]))
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0)) + labels[:, None]
    counts = torch.tensor([20.0, 8.0, 2.0], dtype=torch.float64)
    train = ltbench.Train(x, labels, torch.ones(30), torch.arange(30), counts, counts, ltbench.Stream.of(0))
    plain = fit_classifier(resolve(discover(), "classifier", "softmax").build(), train)
    torch.testing.assert_close(plain(x).values, fit_classifier(example.build(gamma=0.0), train)(x).values)
    warmth = torch.tensor([(20 / n) ** 0.2 for n in (20, 8, 2)])

    def formula(batch: ltbench.Batch) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(batch.logits / warmth.to(batch.logits), batch.targets, reduction="none")

    expected = ltbench.fit_linear(train, formula, 1e-3, tolerance=1e-11)(x).values
    actual = ltbench.fit_linear(train, example.build().loss, 1e-3, tolerance=1e-11)(x).values
    seen = [(values / warmth).softmax(dim=1) for values in (expected, actual)]
    torch.testing.assert_close(*seen, atol=1e-5, rtol=0)


NOT_IN_A_ROW = {"l2", "solver", "drw", "margin", "scale", "beta"}
"""Parameters that the page tells of elsewhere, or in another row."""


def test_the_tables_are_complete() -> None:
    """Every classifier of the family is named with its parameters, and every recipe with its numbers."""
    rows = {line.split("`")[1]: line for line in PAGE.partition("## The objective")[0].splitlines() if line.startswith("| `")}
    family = [each for each in discover().components("classifier") if each.distribution == "ltbench-classifiers"]
    assert sorted(rows) == sorted(each.component.name for each in family)
    for each in family:
        row, own = rows[each.component.name], {parameter.name for parameter in parameters(each)} - NOT_IN_A_ROW
        assert {name for name in own if f"`{name}`" not in row and f"`{name}=" not in row} == set()
    for name, recipe in RECIPES.items():
        assert f"| `{name}` | {recipe.epochs} | {recipe.batch} | {recipe.rate:g} | " in PAGE
