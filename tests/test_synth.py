"""Tests of synthetic rows drawn again from a record, and of the file they are written to."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import ltbench
from ltbench.cli.app import cli
from ltbench.config import experiment_of
from ltbench.errors import UsageError
from ltbench.execute.group import Context
from ltbench.execute.numerics import pinned
from ltbench.execute.setting import prepare
from ltbench.files import data_folder
from ltbench.plan import plan
from ltbench.plugins import discover
from ltbench.records import RunFolder
from ltbench.runs import planned_cell
from ltbench.synth import draw, write_parquet


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run smote, soft-labelled mixup and no generator at all."""
    out = tmp_path_factory.mktemp("run")
    settings = {"dataset": "digits", "backbone": "pixels", "generator": "none,smote,mixup", "classifier": "ncm"}
    ltbench.run(**settings, ratio=[10], groups="thirds", reference=False, out=out)
    return out


def key_of(run: Path, generator: str) -> str:
    """Return the key of a generator's cell."""
    return next(key for key, r in RunFolder(run).load().records.items() if r.cell["generator"] == generator)


@pytest.mark.parametrize("generator", ["smote", "mixup"])
def test_rows_drawn_again_are_those_the_head_was_trained_on(run: Path, generator: str) -> None:
    """Bit for bit, and each is the weighted sum of its parents among the training rows."""
    drawn = draw(run, key_of(run, generator), discover())
    made = plan(experiment_of(run), discover(), data_folder())
    context, cell = Context(made, "cpu"), planned_cell(made, drawn.record, run)
    with pinned("cpu"):
        train = prepare(context.source(cell).material(context.split(cell)), context.recipe(cell)).train
    assert torch.equal(drawn.rows.x, train.x[train.synthetic])
    parents, weights = drawn.rows.parents, drawn.rows.parent_weights
    assert parents is not None
    assert weights is not None
    real = train.x[~train.synthetic]
    assert torch.allclose((real[parents] * weights[..., None]).sum(dim=1).float(), drawn.rows.x, atol=1e-5)


def test_the_file_holds_rows_labels_and_where_they_come_from(run: Path, tmp_path: Path) -> None:
    """Parents are ids in the dataset's training part; the metadata names cell, generator and numerics."""
    import pyarrow.parquet as pq

    key, out = key_of(run, "smote"), tmp_path / "rows.parquet"
    done = CliRunner().invoke(cli, ["synth", str(run), "--cell", key[:8], "-o", str(out)], standalone_mode=False)
    assert done.exception is None, done.exception
    drawn, table = draw(run, key, discover()), pq.read_table(out)
    assert table.column_names == ["x", "label", "weight", "parents", "parent_weights"]
    assert torch.equal(torch.tensor(table["x"].to_pylist()), drawn.rows.x)
    assert table["label"].to_pylist() == drawn.rows.targets.tolist()
    assert drawn.rows.parents is not None
    assert table["parents"].to_pylist() == drawn.row_ids[drawn.rows.parents].tolist()
    told = json.loads(table.schema.metadata[b"ltbench"])
    assert (told["key"], told["generator"]["name"], told["cell"]["seed"]) == (key, "smote", 0)
    assert told["numerics"] == told["recorded_numerics"]
    assert told["seed"] == 0
    assert told["plugins"]["ltbench-generators"] == importlib.metadata.version("ltbench-generators")


def test_rows_are_written_a_few_at_a_time(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And come back as they were."""
    import pyarrow.parquet as pq

    monkeypatch.setattr("ltbench.synth.AT_ONCE", 7)
    drawn = draw(run, key_of(run, "smote"), discover())
    write_parquet(drawn, tmp_path / "rows.parquet")
    file = pq.ParquetFile(tmp_path / "rows.parquet")
    assert file.num_row_groups == -(-len(drawn.rows.x) // 7) > 1
    assert torch.equal(torch.tensor(file.read()["x"].to_pylist()), drawn.rows.x)


def test_soft_labels_are_a_column_of_their_own(run: Path, tmp_path: Path) -> None:
    """They sum to one in every row."""
    import pyarrow.parquet as pq

    out = tmp_path / "rows.parquet"
    CliRunner().invoke(cli, ["synth", str(run), "--cell", key_of(run, "mixup"), "-o", str(out)], standalone_mode=False)
    targets = torch.tensor(pq.read_table(out)["targets"].to_pylist())
    assert targets.shape[1] == 10
    assert torch.allclose(targets.sum(dim=1), torch.ones(len(targets)), atol=1e-5)


def test_a_cell_without_synthetic_rows_is_refused(run: Path) -> None:
    """The generator is named."""
    with pytest.raises(UsageError, match="has no synthetic rows: its generator is none"):
        draw(run, key_of(run, "none"), discover())


@pytest.mark.parametrize(
    ("generator", "status", "why"),
    [
        ('imblearn:SMOTE[params="k_neighbors=50"]', "skipped", "imbalanced-learn's SMOTE refuses these rows"),
        ("smote[target=99999999999]", "out of memory", "MemoryError: the budget is"),
        ("smote[target=1]", "skipped", "the budget asks for no row"),
    ],
)
def test_a_cell_that_never_had_rows_is_refused(tmp_path: Path, generator: str, status: str, why: str) -> None:
    """With what its record says."""
    settings = {"dataset": "digits", "backbone": "pixels", "generator": generator, "classifier": "ncm"}
    ltbench.run(**settings, ratio=[10], groups="thirds", reference=False, out=tmp_path)
    (key,) = [key for key, record in RunFolder(tmp_path).load().records.items() if record.cell["generator"] != "none"]
    with pytest.raises(UsageError, match=rf"cell {key} has no synthetic rows: it is {status} \(.*{why}"):
        draw(tmp_path, key, discover())


def test_rows_that_cannot_be_drawn_here_are_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A smaller machine than the one that ran the cell, say."""

    def refuse(*_: object) -> bool:
        raise MemoryError("the budget is too much for 1 GiB")

    key = key_of(run, "smote")
    monkeypatch.setattr("ltbench.execute.rows.streams", refuse)
    with pytest.raises(UsageError, match=f"the rows of cell {key} cannot be drawn here: the budget is too much for 1 GiB"):
        draw(run, key, discover())


def test_a_cell_that_would_be_another_today_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of changed code are not those of the record; ``ltbench why`` tells the difference."""
    key = key_of(run, "smote")
    monkeypatch.setattr("ltbench.plan.ENGINE_VERSION", 999)
    with pytest.raises(UsageError, match=f"cell {key} would be .* today, with other rows: 'ltbench why {key[:8]}"):
        draw(run, key, discover())


def test_only_parquet_is_written(run: Path) -> None:
    """Another suffix is refused before anything is drawn."""
    done = CliRunner().invoke(cli, ["synth", str(run), "--cell", "x", "-o", "rows.csv"], standalone_mode=False)
    assert str(done.exception) == "--out must be a *.parquet file, not rows.csv"
