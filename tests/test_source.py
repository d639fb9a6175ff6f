"""Tests of where features come from: told while they are made, kept by key, and used where the weights are out of reach."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import ltbench
from ltbench.cells import Cell
from ltbench.cli.progress import extraction_line
from ltbench.execute import source
from ltbench.features.exchange import export_sets, import_sets
from ltbench.features.extraction import Pace
from ltbench.features.folder import sets

BACKBONE = """
    from dataclasses import dataclass
    from pathlib import Path
    import ltbench

    class Encoder:
        flops_per_image = 3
        def __init__(self, weights): self.fingerprint = weights
        def preprocess(self, image): return image.flatten().float()
        def __call__(self, batch): return batch * len(self.fingerprint)

    @dataclass(frozen=True, kw_only=True)
    class Backbone:
        weights: Path
        def load(self, device):
            if not self.weights.exists():
                raise ltbench.LtbenchError(f"there are no weights in {self.weights}")
            return Encoder(self.weights.read_text())

    @ltbench.hookimpl
    def ltbench_backbones(): return [ltbench.Component("weighty", "weighty_plugin:Backbone", "weights in a file")]
"""


@pytest.fixture
def weights(make_plugin: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a backbone and return the file of its weights; the cache is empty."""
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path / "cache"))
    make_plugin("weighty-plugin", BACKBONE)
    file = tmp_path / "weights.txt"
    file.write_text("one")
    return file


def ran(weights: Path, out: Path, **settings: Any) -> ltbench.Run:
    """Run one head on the digits through the backbone."""
    name = f"weighty[weights={weights}]"
    return ltbench.run(
        dataset="digits", backbone=name, classifier="ncm", ratio=[10], groups="thirds", reference=False, out=out, **settings
    )


def test_how_far_an_extraction_is_is_told(weights: Path, tmp_path: Path) -> None:
    """The last thing heard is that all images are done; features that are there already make no sound."""
    heard: list[tuple[Cell, Pace]] = []
    ran(weights, tmp_path / "a", watch=lambda cell, pace: heard.append((cell, pace)))
    assert [heard[-1][1].done, heard[-1][1].total] == [1797, 1797]
    assert heard[-1][0].dataset == "digits"
    heard.clear()
    ran(weights, tmp_path / "b", watch=lambda cell, pace: heard.append((cell, pace)))
    assert heard == []


def test_workers_tell_how_far_they_are(weights: Path, tmp_path: Path) -> None:
    """Signs of life come through the pipes, too."""
    heard: list[Pace] = []
    ran(weights, tmp_path / "a", watch=lambda _, pace: heard.append(pace), workers=1)
    assert [heard[-1].done, heard[-1].total] == [1797, 1797]


def test_a_line_of_progress_names_source_rate_and_time_left(weights: Path, tmp_path: Path) -> None:
    """Before the first batch there is no time to tell."""
    cell = Cell("digits", "pixels", "", "", 1, "", "", 1, "", "", "", "", 0)
    assert extraction_line(cell, Pace(500, 2000, 500, 2.0)) == "digits × pixels: 500/2,000 images, 250/s, 6 s left"
    assert extraction_line(cell, Pace(0, 2000, 0, 0.0)) == "digits × pixels: 0/2,000 images, 0/s"


def test_features_serve_where_the_weights_are_out_of_reach(weights: Path, tmp_path: Path) -> None:
    """Heads are fitted on the cached features, under the same keys; a warning says which features, and why."""
    first = ran(weights, tmp_path / "a")
    weights.unlink()
    with pytest.warns(
        UserWarning, match=r"cannot be loaded, so its features of .* serve: LtbenchError: there are no weights in"
    ):
        second = ran(weights, tmp_path / "b")
    assert [record.key for record in second.records] == [record.key for record in first.records]
    assert [record.result for record in second.records] == [record.result for record in first.records]


ELSEWHERE = {"device": "another", "torch": "9"}


@pytest.fixture
def brought(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ltbench.Run:
    """Extract features on another machine, bring them here as files, and return the run there."""
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path / "there"))
    with monkeypatch.context() as there:
        there.setattr(source, "feature_numerics", lambda device: ELSEWHERE)
        made = ran(weights, tmp_path / "a")
    export_sets(sets(tmp_path / "there"), tmp_path / "x.tar")
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path / "here"))
    return made


@pytest.mark.parametrize("weights_here", [True, False])
def test_imported_features_of_another_machine_are_used(
    brought: ltbench.Run, weights: Path, tmp_path: Path, weights_here: bool
) -> None:
    """Whether the weights are here or not; a warning says so, and the record where its features were computed."""
    import_sets(tmp_path / "x.tar", tmp_path / "here")
    if not weights_here:
        weights.unlink()
    with pytest.warns(UserWarning, match=r"device another, torch 9$" if weights_here else "cannot be loaded"):
        (record,) = ran(weights, tmp_path / "b").records
    (there,) = brought.records
    assert (record.key, record.result) == (there.key, there.result)
    assert record.provenance["numerics"]["features"] == "device another, torch 9"
    assert len(sets(tmp_path / "here")) == 1


def test_features_of_this_machine_come_before_imported_ones(brought: ltbench.Run, weights: Path, tmp_path: Path) -> None:
    """What was extracted here stays in use; and features of another machine count as imported by an import alone."""
    shutil.copytree(tmp_path / "there", tmp_path / "here")
    (first,) = ran(weights, tmp_path / "b").records
    import_sets(tmp_path / "x.tar", tmp_path / "here")
    (second,) = ran(weights, tmp_path / "c").records
    assert ["features" in record.provenance["numerics"] for record in (first, second)] == [False, False]
    assert len(sets(tmp_path / "here")) == 2


def test_an_imported_set_that_is_damaged_is_made_again_as_this_machines(
    brought: ltbench.Run, weights: Path, tmp_path: Path
) -> None:
    """Features that are computed here never stand under another machine's name."""
    import_sets(tmp_path / "x.tar", tmp_path / "here")
    (place,) = sets(tmp_path / "here")
    file = next(place.path.glob("train-*"))
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1] + b"\x77")
    with pytest.warns(UserWarning, match="damaged|imported") as heard:
        (record,) = ran(weights, tmp_path / "b").records
    assert ["damaged" in str(each.message) for each in heard] == [False, True]
    assert "features" not in record.provenance["numerics"]
    whole = [m.origin.numerics for each in sets(tmp_path / "here") if (m := each.manifest()) is not None]
    assert [numerics["torch"] for numerics in whole] == [torch.__version__]


def test_without_features_missing_weights_are_the_cells_failure(weights: Path, tmp_path: Path) -> None:
    """The backbone is blamed, with its error."""
    weights.unlink()
    (record,) = ran(weights, tmp_path / "a").records
    assert record.status == "failed"
    assert "weighty" in record.cause
    assert record.cause.endswith(f"LtbenchError: there are no weights in {weights}")


def test_other_weights_in_the_same_place_are_other_features(weights: Path, tmp_path: Path) -> None:
    """The key holds what the file says, not where it lies."""
    (first,) = ran(weights, tmp_path / "a").records
    weights.write_text("three")
    (second,) = ran(weights, tmp_path / "a").records
    assert first.key != second.key


NAMING = """
    from dataclasses import dataclass
    from pathlib import Path
    import ltbench

    LOADED = []

    class Encoder:
        flops_per_image = 3
        def __init__(self, weights): self.fingerprint = weights
        def preprocess(self, image): return image.flatten().float()
        def __call__(self, batch): return batch * len(self.fingerprint)

    @dataclass(frozen=True, kw_only=True)
    class Backbone:
        weights: Path
        def fingerprint(self):
            text = self.weights.read_text()
            return None if text == "unknown" else text[:5]
        def load(self, device):
            LOADED.append(device)
            return Encoder(self.weights.read_text())

    @ltbench.hookimpl
    def ltbench_backbones(): return [ltbench.Component("weighty", "naming_plugin:Backbone", "weights in a file")]
"""


@pytest.fixture
def naming(weights: Path, make_plugin: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Install, in place of the other backbone, one that names its weights by five letters, and return its module."""
    monkeypatch.setenv(
        "LTBENCH_PLUGINS", "naming-plugin,ltbench-datasets,ltbench-transforms,ltbench-generators,ltbench-classifiers"
    )
    make_plugin("naming-plugin", NAMING)
    return importlib.import_module("naming_plugin")


def test_a_backbone_that_names_its_weights_is_loaded_for_extraction_alone(naming: Any, weights: Path, tmp_path: Path) -> None:
    """Cached features are found, under the same key, without loading it; other weights are another key, and are loaded."""
    (first,) = ran(weights, tmp_path / "a").records
    assert len(naming.LOADED) == 1
    (second,) = ran(weights, tmp_path / "b").records
    assert len(naming.LOADED) == 1
    assert (second.key, second.result) == (first.key, first.result)
    weights.write_text("other")
    (third,) = ran(weights, tmp_path / "c").records
    assert len(naming.LOADED) == 2
    assert third.key != first.key


def test_what_cannot_be_known_without_loading_is_loaded(naming: Any, weights: Path, tmp_path: Path) -> None:
    """A backbone that names nothing is asked itself, every time."""
    weights.write_text("unknown")
    for name in ("a", "b"):
        ran(weights, tmp_path / name)
    assert len(naming.LOADED) == 2


@pytest.mark.parametrize("damage", [lambda text: text[:-9], lambda text: text.replace("one", "two"), lambda text: "[]"])
def test_a_damaged_note_is_not_believed(naming: Any, weights: Path, tmp_path: Path, damage: Callable[[str], str]) -> None:
    """A changed bit in what is remembered of a backbone costs loading it, and no wrong key."""
    (first,) = ran(weights, tmp_path / "a").records
    (note,) = (tmp_path / "cache" / "backbones").iterdir()
    note.write_text(damage(note.read_text()))
    (second,) = ran(weights, tmp_path / "b").records
    assert len(naming.LOADED) == 2
    assert second.key == first.key


def test_weights_that_are_not_what_their_name_said_are_no_features(naming: Any, weights: Path, tmp_path: Path) -> None:
    """A name that stays while the weights change (here: it is five letters long) is told, and forgotten."""
    weights.write_text("three")
    ran(weights, tmp_path / "a")
    weights.write_text("threescore")
    shutil.rmtree(tmp_path / "cache" / "features")
    (record,) = ran(weights, tmp_path / "b").records
    assert record.status == "failed"
    assert record.cause.endswith("the weights have changed since this run named its features: run again")
    (again,) = ran(weights, tmp_path / "c").records
    assert again.status == "done"


TORN = """
    from dataclasses import dataclass
    import torch
    import ltbench

    class Images(list):
        def __getitem__(self, i):
            if i == 2:
                raise OSError("birds/3.jpg is truncated")
            return torch.zeros(2, 2, 1, dtype=torch.uint8)

    @dataclass(frozen=True, kw_only=True)
    class Torn:
        def load(self, folder):
            part = ltbench.Part(torch.arange(9) % 3, Images([0] * 9))
            return ltbench.Dataset(part, part, ("a", "b", "c"), "torn")

    @ltbench.hookimpl
    def ltbench_datasets(): return [ltbench.Component("torn", "torn_plugin:Torn", "one image is torn")]
"""


def test_an_image_that_cannot_be_read_is_the_datasets_failure(make_plugin: Callable[..., Path], tmp_path: Path) -> None:
    """The backbone is not to blame, and the image is named."""
    make_plugin("torn-plugin", TORN)
    settings = {"backbone": "pixels", "classifier": "ncm", "ratio": [2], "groups": "thirds", "reference": False}
    (record,) = ltbench.run(dataset="torn", **settings, out=tmp_path / "run").records
    assert record.status == "failed"
    assert record.cause.startswith("dataset torn (torn-plugin 1.0): ImageError: image 2 of the dataset cannot be decoded")
    assert record.cause.endswith("OSError: birds/3.jpg is truncated")
