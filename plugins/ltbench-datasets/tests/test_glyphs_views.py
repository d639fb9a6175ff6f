"""Tests of glyphs drawn again with other factors."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest

import ltbench
from ltbench_datasets.glyphs.dataset import Glyphs
from ltbench_datasets.glyphs.drawing import draw_images, soft_maps
from ltbench_datasets.glyphs.factors import Factors, draw_factors
from ltbench_datasets.glyphs.recipe import CHUNK, Recipe
from ltbench_datasets.glyphs.views import FACTORS, Redrawn

RECIPE = Recipe("benchmark", 3, 80, 1, 1, 0)


def again(view: str, number: int = 0) -> Redrawn:
    """Return the images of a view."""
    return Redrawn(RECIPE, view, number)


@pytest.mark.parametrize("view", FACTORS)
def test_only_the_factors_of_a_view_change(view: str) -> None:
    """An image is the one that is drawn by itself, with the other factors of the image it is a view of."""
    stream, maps = RECIPE.stream("train"), soft_maps(RECIPE.atlas.bits)
    for i in (0, 7, CHUNK - 1, CHUNK, len(again(view)) - 1):
        ids, label = RECIPE.ids("train")[i : i + 1], int(RECIPE.labels("train")[i])
        own, other = draw_factors(stream, ids), draw_factors(stream.child("view", view, 0), ids)
        kept = {name: getattr(own, name) for name in Factors.__dataclass_fields__ if name not in FACTORS[view]}
        factors = Factors(**kept, **{name: getattr(other, name) for name in FACTORS[view]})
        wanted = draw_images(maps[label, factors.face], factors, stream, ids)[0]
        assert np.array_equal(again(view)[i].numpy(), wanted)


PINNED = {"font": "c68cb4f6", "pose": "a1a00bef", "light": "2fc53bfd", "background": "61e7b8f1", "occlusion": "a248c77d"}


@pytest.mark.parametrize("view", FACTORS)
def test_views_are_the_same_on_every_machine(view: str) -> None:
    """Bytes of an image, pinned; another number makes other images."""
    assert hashlib.sha256(again(view, 1)[3].numpy().tobytes()).hexdigest()[:8] == PINNED[view]
    assert any(not again(view, 1)[i].equal(again(view, 2)[i]) for i in range(9))


def test_the_dataset_offers_them(tmp_path: Path) -> None:
    """By name, of every training image, also in a worker process; none beyond the last."""
    dataset = pickle.loads(pickle.dumps(Glyphs(classes=2, train_per_class=5).load(tmp_path)))
    assert list(dataset.views) == list(FACTORS)
    images = dataset.views["pose"](0)
    assert isinstance(dataset, ltbench.Dataset)
    assert (len(images), list(images[9].shape)) == (10, [32, 32, 3])
    with pytest.raises(IndexError):
        images[10]
