"""Tests of what a common offset of all rows changes: nothing, and neighbours against loops over float64 distances."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch import Tensor
from torch.nn.functional import normalize, one_hot

import ltbench
from ltbench.components import resolve
from ltbench.plugins import discover
from ltbench_classifiers import knn as module
from ltbench_classifiers.knn import NearestNeighbours
from ltbench_classifiers.lda import LinearDiscriminant
from ltbench_classifiers.moments import moments_of
from ltbench_classifiers.ncm import NearestClassMean
from ltbench_classifiers.tau_norm import TauNorm

TrainOf = Callable[..., ltbench.Train]

OFFSETS = [2**7, 2**14, 2**20]
"""Powers of two, up to about a million deviations."""

TRAINED = {"cosine", "ldam", "ldam-drw", "crt"}
"""Heads of directions, and heads that mini-batches bring only some way: an offset is another problem for them."""

EXACT = {"lda": 1e-6, "gda": 1e-6, "ridge": 1e-6, "ncm": 1e-6, "knn": 1e-5}
"""How far scores of closed forms may go with the offset; all others end at a gap of 1e-10 to their optimum."""


def gridded(train: ltbench.Train, x: Tensor, offset: float) -> tuple[ltbench.Train, Tensor, ltbench.Train, Tensor]:
    """Return rows that float32 holds with and without the offset alike, both without and with it."""
    step = 2.0 ** (math.ceil(math.log2(max(offset, 8))) - 22)
    near, new = (torch.round(each / step) * step for each in (train.x, x))
    assert torch.equal((near + offset).double(), near.double() + offset)
    return train.replace(x=near), new, train.replace(x=near + offset), new + offset


def heads() -> dict[str, Any]:
    """Return every installed head that should not see an offset, and settings that should not."""
    registry = discover()
    names = [each.component.name for each in registry.components("classifier") if each.distribution == "ltbench-classifiers"]
    return {
        **{name: resolve(registry, "classifier", name).build() for name in names if name not in TRAINED},
        "knn, raw": NearestNeighbours(normalize=False),
        "ncm, raw": NearestClassMean(normalize=False),
        "ncm, as it is": NearestClassMean(center=False, normalize=False),
        "lda, shrunk": LinearDiscriminant(shrinkage=0.3),
        "tau-norm, 0.5": TauNorm(tau=0.5),
    }


def naive(k: int, x: np.ndarray, labels: np.ndarray, new: np.ndarray, classes: int) -> np.ndarray:
    """Return shares of votes by inverse distance, by sorting all distances of float64 differences."""
    shares = np.zeros((len(new), classes))
    for row, distance in zip(shares, cdist(new, x), strict=True):
        for i in sorted(range(len(x)), key=lambda j, d=distance: (d[j], j))[:k]:
            nothing = distance.min() == 0
            row[labels[i]] += float(distance[i] == 0) if nothing else 1 / distance[i]
    return shares / shares.sum(axis=1, keepdims=True)


class TestNearestNeighbours:
    """Neighbours wherever the rows lie."""

    @pytest.mark.parametrize("placed", [True, False])
    @pytest.mark.parametrize("votes", ["distance", "uniform"])
    def test_a_row_finds_itself_far_from_the_origin(self, train_of: TrainOf, placed: bool, votes: Any) -> None:
        """Nineteen rows of unit deviation, 10,000 away: with k = 1 each has its own label."""
        x = torch.randn(19, 2, generator=torch.Generator().manual_seed(0)) + 1e4
        assert len(x.unique(dim=0)) == 19
        train = train_of(x, torch.arange(19), 19)
        found = NearestNeighbours(k=1, votes=votes, normalize=placed).fit(train)(x).values
        assert torch.equal(torch.eye(19, dtype=torch.float64), found)

    @pytest.mark.parametrize("offset", [0.0, 1e2, 1e4, 1e6])
    @pytest.mark.parametrize(("rows", "width"), [(300, 2), (600, 64), (40, 512)])
    @pytest.mark.parametrize("placed", [True, False])
    def test_shares_are_those_of_float64_distances(
        self, train_of: TrainOf, rows: int, width: int, offset: float, placed: bool
    ) -> None:
        """The rows are what float32 holds of them; the distances are those between them, or between their unit rows."""
        generator = torch.Generator().manual_seed(width)
        x, new = (torch.randn(n, width, generator=generator) + offset for n in (rows, 25))
        labels = torch.randint(5, (rows,), generator=generator)
        new[:3] = x[:3]
        far, theirs = x.double(), new.double()
        if placed:
            far, theirs = (normalize(each - x.double().mean(dim=0), dim=1).float().double() for each in (far, theirs))
        expected = naive(5, far.numpy(), labels.numpy(), theirs.numpy(), 5)
        actual = NearestNeighbours(normalize=placed).fit(train_of(x, labels, 5))(new).values
        torch.testing.assert_close(torch.from_numpy(expected), actual, rtol=0, atol=1e-9)

    @pytest.mark.parametrize("offset", [0.0, 1e4])
    @pytest.mark.parametrize("numbers", [2**22, 64])
    def test_more_rows_than_are_looked_at_first_are_told_apart(
        self, train_of: TrainOf, monkeypatch: pytest.MonkeyPatch, offset: float, numbers: int
    ) -> None:
        """Ninety rows nearer to each other than float32's squares can tell, and copies of them, have the votes of a loop."""
        monkeypatch.setattr(module, "_NUMBERS", numbers)
        generator = torch.Generator().manual_seed(1)
        close = 1 + 2.0**-10 * torch.randint(8, (90, 3), generator=generator)
        x = torch.cat([close, torch.randn(30, 3, generator=generator), close[:40]]) + offset
        labels = torch.randint(4, (160,), generator=generator)
        new = torch.cat([close[:9] + 2.0**-11, close[9:12]]) + offset
        expected = naive(3, x.double().numpy(), labels.numpy(), new.double().numpy(), 4)
        actual = NearestNeighbours(k=3, normalize=False).fit(train_of(x, labels, 4))(new).values
        torch.testing.assert_close(torch.from_numpy(expected), actual, rtol=0, atol=1e-9)

    def test_of_equally_distant_rows_the_first_has_the_vote(self, train_of: TrainOf) -> None:
        """Fifty copies of a row have as many labels: the first copies are the neighbours."""
        x = torch.randn(1, 7, generator=torch.Generator().manual_seed(2)).repeat(50, 1) + 100
        train = train_of(x, torch.arange(50), 50)
        found = NearestNeighbours(k=2, normalize=False).fit(train)(x[:1] + 0.37).values[0]
        assert found.nonzero().flatten().tolist() == [0, 1]

    @pytest.mark.parametrize("size", [1e-25, 1e25])
    def test_rows_of_any_size_find_themselves(self, train_of: TrainOf, size: float) -> None:
        """Squares that leave the range of float32 turn nothing, nor does a query that is infinitely far in it."""
        x = size * torch.randn(40, 3, generator=torch.Generator().manual_seed(3))
        fitted = NearestNeighbours(k=1, normalize=False).fit(train_of(x, torch.arange(40), 40))
        assert torch.equal(torch.eye(40, dtype=torch.float64), fitted(x).values)
        far = torch.tensor([[3e38, 0.0, 0.0]])
        expected = int((x.double() - far.double()).norm(dim=1).argmin())
        assert int(fitted(far).values.argmax()) == expected

    def test_weighted_rows_fill_places_wherever_they_lie(self, train_of: TrainOf) -> None:
        """Rows of half a weight take half a place each; the offset changes no share."""
        x = torch.randn(90, 3, generator=torch.Generator().manual_seed(4))
        near = (torch.round(x * 64) / 64, torch.round(x * 64) / 64 + 2.0**14)
        weights, labels = torch.full((90,), 0.5), torch.arange(90) % 4
        ours = [NearestNeighbours(normalize=False).fit(train_of(each, labels, 4, weights))(each[:9] + 0.5) for each in near]
        torch.testing.assert_close(ours[0].values, ours[1].values, rtol=0, atol=1e-12)


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("name", heads())
def test_a_common_offset_changes_no_prediction(blobs: TrainOf, fitted: Callable[..., Any], name: str, offset: int) -> None:
    """Rows that float32 holds with and without the offset have the same probabilities, and so the same predictions."""
    head = heads()[name]
    new = 2 * torch.randn(60, 6, generator=torch.Generator().manual_seed(77))
    near, x, far, shifted = gridded(blobs([60, 25, 9, 3], 6), new, offset)
    first, second = fitted(head, near)(x), fitted(head, far)(shifted)
    expected, actual = (each.values.double() for each in (first, second))
    if first.kind == "logits":
        expected, actual = expected.softmax(dim=1), actual.softmax(dim=1)
    torch.testing.assert_close(expected, actual, rtol=0, atol=EXACT.get(name.split(",", maxsplit=1)[0], 1e-4))


@pytest.mark.parametrize("away", [0.0, 1e4, 1e6])
def test_a_class_far_away_changes_nothing_between_the_others(train_of: TrainOf, away: float) -> None:
    """The scatter within classes is that of a loop over classes, however far a class lies from the others."""
    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(90) % 3
    x = torch.randn(90, 5, generator=generator).double() + labels[:, None] + away * (labels == 2)[:, None]
    expected = torch.zeros(5, 5).double()
    for c in range(3):
        own = x[labels == c] - x[labels == c].mean(dim=0)
        expected += own.T @ own
    torch.testing.assert_close(expected, moments_of(train_of(x, labels, 3)).within.matrix, rtol=1e-9, atol=1e-9)


def test_directions_far_from_the_origin_are_told_apart(train_of: TrainOf) -> None:
    """Ncm on unit rows that are not centred has the distances of float64 differences, though all directions are nearly one."""
    generator = torch.Generator().manual_seed(6)
    labels = torch.arange(40) % 4
    x = torch.randn(40, 3, generator=generator) + 2 * torch.randn(4, 3, generator=generator)[labels] + 1e5
    unit = normalize(x.double(), dim=1)
    means = one_hot(labels).double().T @ unit / 10
    expected = ((unit[:, None] - means) ** 2).sum(dim=2)
    actual = -NearestClassMean(center=False).fit(train_of(x, labels, 4))(x).values
    torch.testing.assert_close(expected, actual, rtol=1e-4, atol=1e-18)
