"""Tests of views on their way to generators and heads: asked for, transformed and selected like rows, in keys where used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

import ltbench
from ltbench.config import experiment
from ltbench.data import views_wanted
from ltbench.execute.cell import folds_seen
from ltbench.execute.group import Context
from ltbench.execute.numerics import pinned
from ltbench.execute.rows import assemble
from ltbench.execute.setting import Prepared, prepare
from ltbench.features.folder import sets
from ltbench.features.manifest import Manifest
from ltbench.files import cache_folder, data_folder
from ltbench.plan import Plan, plan
from ltbench.plugins import discover
from ltbench.streams import Stream
from ltbench.types import Rows, Train

SEEING = '''
    from dataclasses import dataclass
    import torch
    import ltbench

    SEEN = []

    @dataclass(frozen=True, kw_only=True)
    class Again:
        """Rows of a view, each class's from its first."""
        of: str = "flip"

        @property
        def views(self):
            return tuple(self.of.split("+"))

        def fit(self, train):
            SEEN.append(train)
            def sample(budget):
                labels = torch.arange(len(budget)).repeat_interleave(budget)
                first = torch.stack([(train.targets == c).nonzero()[0, 0] for c in range(len(budget))])
                parents = first[labels]
                return ltbench.Rows(train.views[self.views[0]][parents], labels, parents=parents[:, None])
            return sample

    @dataclass(frozen=True, kw_only=True)
    class Means:
        """The nearest mean of rows and of their blurred selves."""
        views = ("blur",)
        def fit(self, train):
            real = ~train.synthetic
            x, y = torch.cat([train.x[real], train.views["blur"]]), train.targets[real].repeat(2)
            means = torch.stack([x[y == c].mean(dim=0) for c in range(train.classes)])
            return lambda rows: ltbench.Scores(-torch.cdist(rows, means), "scores")

    @dataclass(frozen=True, kw_only=True)
    class Wrong(Means):
        views = "blur"

    class Encoder:
        fingerprint = "sixteen pixels"
        flops_per_image = 3
        def preprocess(self, image): return image
        def preprocess_batch(self, images): return images
        def __call__(self, batch): return batch.flatten(1)[:, ::4].float()

    @dataclass(frozen=True, kw_only=True)
    class Sixteen:
        def load(self, device): return Encoder()

    def component(name, of):
        return ltbench.Component(name, f"{__name__}:{of}", "asks for views")

    @ltbench.hookimpl
    def ltbench_backbones(): return [component("sixteen", "Sixteen")]

    @ltbench.hookimpl
    def ltbench_generators(): return [component("again", "Again")]

    @ltbench.hookimpl
    def ltbench_classifiers(): return [component("means", "Means"), component("wrong", "Wrong")]
'''
RUN = {"dataset": "digits", "backbone": "pixels", "transform": "l2", "groups": "thirds", "ratio": [10], "reference": False}


@pytest.fixture
def seeing(make_plugin: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the components; the cache is empty."""
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path / "cache"))
    make_plugin("seeing", SEEING)


def planned(**settings: Any) -> Plan:
    """Plan a small run."""
    return plan(experiment({**RUN, "n_max": 20, **settings}), discover(), data_folder())


def prepared(made: Plan) -> tuple[Context, Prepared]:
    """Make the rows of the plan's cells, all of one setting."""
    context = Context(made, "cpu")
    with pinned("cpu"):
        return context, prepare(context.material(*made.cells), context.recipe(made.cells[0]))


def by_hand(context: Context, how: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Return the features of the selected training images, each changed, in a plain loop."""
    cell = context.plan.cells[0]
    images = context.plan.datasets[cell.dataset].train.images
    rows = [how(images[i]).flatten().float() / 255.0 for i in context.split(cell).row_ids.tolist()]
    return normalize(torch.stack(rows), dim=1)


@pytest.mark.usefixtures("seeing")
def test_a_generator_sees_its_rows_again() -> None:
    """The rows of a view are those of the changed images under the cell's transform, row for row."""
    context, made = prepared(planned(generator="again"))
    flipped = by_hand(context, lambda image: image.flip(1))
    rows, real = made.train.x[made.train.synthetic], ~made.train.synthetic
    first = [int((made.train.targets[real] == c).nonzero()[0, 0]) for c in made.train.targets[~real].tolist()]
    assert len(rows) > 0
    torch.testing.assert_close(rows, flipped[first], rtol=0, atol=1e-6)


@pytest.mark.usefixtures("seeing")
def test_views_are_seen_by_those_who_ask() -> None:
    """Each generator and head has the views it names and no other; in a fold, of the fold's training rows alone."""
    import seeing  # type: ignore[import-not-found]  # the plugin made on the spot

    context, made = prepared(planned(generator="again", classifier="means,ncm"))
    assert len(made.folds) == 3
    for train in seeing.SEEN:
        assert list(train.views) == ["flip"]
        assert train.views["flip"].shape == train.x.shape
    assert len({len(train.x) for train in seeing.SEEN}) > 1
    heads = {cell.classifier: context.candidates(cell).instances[0] for cell in context.plan.cells}
    assert {name: views_wanted(head) for name, head in heads.items()} == {"means": ("blur",), "ncm": ()}
    for head in heads.values():
        names = views_wanted(head)
        for each in (made.train.seeing(names), *(fold[0] for fold in folds_seen(made, names))):
            assert tuple(each.views) == views_wanted(head)
            assert all(len(rows) == int((~each.synthetic).sum()) for rows in each.views.values())


@pytest.mark.usefixtures("seeing")
def test_views_are_in_the_key_where_they_are_used() -> None:
    """Other views make another key; a cell that uses none has the key it would have without them beside it."""
    keys = {}
    for settings in ({"generator": "none,again"}, {"generator": "again[of=flip+crop.1]"}, {"generator": "none"}):
        context = Context(planned(classifier="means,ncm", **settings), "cpu")
        for cell in context.plan.cells:
            record = context.blank(cell)
            keys.setdefault((cell.generator, cell.classifier), set()).add(record.key)
            named = record.provenance["key_parts"].get("views", {})
            assert set(named) == set(context.plan.views(cell))
    assert {len(each) for each in keys.values()} == {1}
    assert len(set.union(*keys.values())) == len(keys) == 6


def sets_held() -> dict[str, Manifest]:
    """Return the manifests in the cache by the name of the dataset."""
    found = [place.manifest() for place in sets(cache_folder())]
    return {manifest.origin.dataset: manifest for manifest in found if manifest is not None}


@pytest.mark.usefixtures("seeing")
def test_views_are_cached_by_themselves(tmp_path: Path) -> None:
    """Only what is asked for is extracted, once; its cost is counted where it is used, and a run gives the same again."""
    settings = {**RUN, "n_max": 20, "generator": "none,again", "classifier": "means,ncm", "backbone": "sixteen"}
    first = ltbench.run(**settings, out=tmp_path / "a")
    assert [record.status for record in first.records] == ["done"] * 4
    held = sets_held()
    assert sorted(held) == ["digits", "digits, view blur", "digits, view flip"]
    assert all(set(held[name].parts) == {"train"} for name in held if "view" in name)
    train, test = (held["digits"].parts[name].rows for name in ("train", "test"))
    each = held["digits"].origin.flops_per_image
    wanted = {("none", "ncm"): 0, ("none", "means"): 1, ("again", "ncm"): 1, ("again", "means"): 2}
    for record in first.records:
        views = wanted[record.cell["generator"], record.cell["classifier"]]
        assert record.result is not None
        assert record.result["flops"]["extraction"] == each * (train + test + views * train)
    created = {name: manifest.created for name, manifest in held.items()}
    second = ltbench.run(**settings, out=tmp_path / "b")
    assert [record.result for record in second.records] == [record.result for record in first.records]
    assert {name: manifest.created for name, manifest in sets_held().items()} == created


@pytest.mark.usefixtures("seeing")
def test_ready_made_features_have_no_views(tmp_path: Path) -> None:
    """Cells that ask for views are skipped with the reason; the others are done."""
    import numpy as np

    x = np.random.default_rng(0).normal(size=(200, 4)).astype("float32")
    np.savez(tmp_path / "x.npz", x=x, y=np.arange(200) % 2)
    settings = {**RUN, "dataset": f"features[path={tmp_path / 'x.npz'}]", "backbone": "identity"}
    made = ltbench.run(**{**settings, "ratio": [2]}, generator="again,random-over", classifier="ncm", out=tmp_path / "run")
    found = {record.cell["generator"]: (record.status, record.cause) for record in made.records}
    assert found["random-over"][0] == "done"
    assert found["again"][0] == "skipped"
    assert "views need uint8 images" in found["again"][1]


@pytest.mark.usefixtures("seeing")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"generator": "again[of=flop]"}, "unknown view 'flop'; there are flip, crop, colour, noise, blur"),
        ({"generator": "again[of=crop.x]"}, "a view is a name, crop, or name and number, crop.3, not 'crop.x'"),
        ({"classifier": "wrong"}, "classifier wrong: views must be a tuple of names, such as ('flip', 'crop.1'), not 'blur'"),
    ],
)
def test_wrong_views_are_refused_while_planning(settings: dict[str, Any], message: str) -> None:
    """A view nobody knows, or names in a wrong form."""
    with pytest.raises(ltbench.UsageError) as caught:
        planned(**settings)
    assert str(caught.value).startswith(message)


def rows_of(count: int) -> Train:
    """Return real rows with a view."""
    x, ones = torch.arange(2.0 * count).reshape(-1, 2), torch.ones(count, dtype=torch.float64)
    labels, counts = torch.arange(count) % 2, torch.tensor([2.0, 2.0], dtype=torch.float64)
    return Train(x, labels, ones, torch.arange(count), counts, counts, Stream.of(0), views={"flip": -x, "blur": x + 1})


def test_views_of_rows_that_go_go_with_them() -> None:
    """Where a generator drops real rows, the views are those of the rows that stay, in their order."""
    real = rows_of(4)
    made = assemble(
        real, Rows(torch.zeros(1, 2), torch.tensor([1]), keep=torch.tensor([True, False, False, True])), "effective"
    )
    assert made.views["flip"].tolist() == (-real.x[[0, 3]]).tolist()
    assert len(made.x) == 3


def test_what_is_shared_stays_shared() -> None:
    """Training rows with fewer views know what was computed for the rows, either way."""
    train = rows_of(4)
    seeing = train.seeing(["flip"])
    assert list(seeing.views) == ["flip"]
    assert seeing.shared("mean", lambda: 1) == train.shared("mean", lambda: 2) == 1
    assert train.seeing(["blur", "flip"]) is train
