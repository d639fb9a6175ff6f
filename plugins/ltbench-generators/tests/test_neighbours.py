"""Tests of the neighbour search, against scikit-learn and a stable sort of all distances."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from ltbench_generators import neighbours
from ltbench_generators.neighbours import nearest, nearest_within

pytestmark = pytest.mark.determinism

many_examples = settings(max_examples=80, deadline=None, derandomize=True)


def naive(x: Tensor, queries: list[int], pool: list[int], k: int) -> list[list[int]]:
    """Sort all other rows of the pool by distance, then by place."""
    found = []
    for q in queries:
        others = sorted((float(((x[q].double() - x[p].double()) ** 2).sum().sqrt()), p) for p in pool if p != q)
        found.append([p for _, p in others[:k]])
    return found


@pytest.fixture(params=[0, 512], ids=["candidates", "all in float64"])
def few(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Search small pools as large ones are searched, and as they are."""
    monkeypatch.setattr(neighbours, "FEW", request.param)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(("rows", "width", "k"), [(40, 3, 5), (200, 20, 1), (300, 64, 10), (30, 100, 29)])
def test_neighbours_are_scikit_learns(rows: int, width: int, k: int) -> None:
    """The same rows in the same order, each itself left out."""
    x = torch.randn(rows, width, generator=torch.Generator().manual_seed(0))
    expected = NearestNeighbors(n_neighbors=k).fit(x.numpy()).kneighbors(return_distance=False)
    assert nearest(x, torch.arange(rows), torch.arange(rows), k).tolist() == expected.tolist()


@many_examples
@given(
    rows=st.integers(1, 40),
    width=st.integers(1, 3),
    k=st.integers(1, 12),
    levels=st.integers(1, 4),
    held=st.sampled_from([1, 100, 2**21]),
    few=st.sampled_from([0, 512]),
    everyone=st.booleans(),
    seed=st.integers(0, 999),
)
def test_equal_distances_go_by_place(
    rows: int, width: int, k: int, levels: int, held: int, few: int, everyone: bool, seed: int
) -> None:
    """On a coarse grid, with ties and repeated rows everywhere, the answer is that of a stable sort, in any chunks."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(levels, (rows, width), generator=generator).float()
    pool = (torch.rand(rows, generator=generator) < 0.7).nonzero().flatten()
    queries = pool.flip(0)[len(pool) // 4 :] if everyone else torch.randperm(rows, generator=generator)[: max(1, rows // 2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "HELD", held)
        patch.setattr(neighbours, "CACHED", held)
        patch.setattr(neighbours, "FEW", few)
        if len(pool) == 0 or len(queries) == 0:
            assert nearest(x, queries, pool, k).numel() == 0
            return
        actual = nearest(x, queries, pool, k)
    expected = naive(x, queries.tolist(), pool.tolist(), k)
    fewest = min(len(each) for each in expected)
    assert actual.tolist() == [each[:fewest] for each in expected]


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("spare", [0, 1, 8])
def test_rounding_leaves_no_neighbour_out(monkeypatch: pytest.MonkeyPatch, spare: int) -> None:
    """Far from the origin, where float32 products cannot tell rows apart, the neighbours are still the nearest."""
    monkeypatch.setattr(neighbours, "SPARE", spare)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(120, 8, generator=generator) * 1e-3
    x[60:] += 1000.0  # two clouds, so that centring does not help
    assert nearest(x, torch.arange(120), torch.arange(120), 4).tolist() == naive(x, list(range(120)), list(range(120)), 4)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("scale", [1e-20, 1e20, 1e30])
def test_any_scale_serves(scale: float) -> None:
    """Numbers whose squares float32 cannot hold are compared all the same."""
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(2))
    expected = nearest(x, torch.arange(50), torch.arange(50), 3)
    assert torch.equal(nearest(x * scale, torch.arange(50), torch.arange(50), 3), expected)


@pytest.mark.usefixtures("few")
def test_the_company_does_not_matter() -> None:
    """A query alone gets what it gets among all."""
    x = torch.randn(500, 32, generator=torch.Generator().manual_seed(3))
    together = nearest(x, torch.arange(500), torch.arange(500), 7)
    for q in (0, 77, 499):
        assert torch.equal(together[q], nearest(x, torch.tensor([q]), torch.arange(500), 7)[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [100, 600, 1100])
def test_every_precision_serves(rows: int, dtype: torch.dtype) -> None:
    """Rows far from the origin with many equal ones, of a few and of most of the pool, by their distances; x stays."""
    x = torch.randint(3, (rows, 4), generator=torch.Generator().manual_seed(5)).to(dtype) + 3
    before, pool = x.clone(), torch.arange(rows)
    for queries in ([0, 7, rows - 1], list(range(rows - 1, -1, -1))):
        found = nearest(x, torch.tensor(queries), pool, 3)
        assert found[:5].tolist() == naive(x, queries[:5], pool.tolist(), 3)
    assert torch.equal(x, before)


@pytest.mark.parametrize("scale", [2.0**-60, 2.0**-67, 2.0**-70, 2.0**-73, 2.0**-100])
def test_squares_too_small_for_float32_are_not_trusted(scale: float) -> None:
    """The neighbours of tiny rows are those of the same rows at full size."""
    x = torch.randint(40, (700, 1), generator=torch.Generator().manual_seed(6)).float()
    assert torch.equal(
        nearest(x * scale, torch.arange(700), torch.arange(700), 5), nearest(x, torch.arange(700), torch.arange(700), 5)
    )


@pytest.mark.parametrize("rows", [600, 1100])
def test_a_search_among_all_shares_its_products(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Rows of most of the pool, by tiles of a part each, get what they get one half at a time."""
    x = torch.randn(rows, 32, generator=torch.Generator().manual_seed(4))
    queries, pool = torch.arange(10, rows), torch.arange(rows)
    halves = torch.cat([nearest(x, part, pool, 6) for part in queries.split(rows // 4)])
    for held in (2**23, 2**14, 2**9):
        monkeypatch.setattr(neighbours, "HELD", held)
        assert torch.equal(nearest(x, queries, pool, 6), halves)


@many_examples
@given(
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=12),
    k=st.integers(0, 12),
    levels=st.sampled_from([1, 2, 4, 2**20]),
    held=st.sampled_from([1, 100, 2**21]),
    few=st.sampled_from([0, 12, 512]),
    seed=st.integers(0, 999),
)
def test_sets_are_searched_together(sizes: list[int], k: int, levels: int, held: int, few: int, seed: int) -> None:
    """Sets of all sizes, with ties or without, of two matrices in turns: each gets its stable sort of distances."""
    generator = torch.Generator().manual_seed(seed)
    matrices = [torch.randint(levels, (60, 3), generator=generator).float() for _ in range(2)]
    chosen = [torch.randperm(60, generator=generator)[:size].sort().values for size in sizes]
    sets = [(matrices[number % 2], rows) for number, rows in enumerate(chosen)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "HELD", held)
        patch.setattr(neighbours, "FEW", few)
        found = nearest_within(sets, k)
    assert [each.tolist() for each in found] == [naive(x, rows.tolist(), rows.tolist(), k) for x, rows in sets]
    assert nearest_within([], k) == []


def test_many_sets_take_few_searches() -> None:
    """A hundred classes of a long tail in fifteen splits are searched in 16 pieces of work, not in 1,500."""
    x, sizes = torch.randn(500, 8, generator=torch.Generator().manual_seed(7)), [500 * 0.95**c for c in range(100)]
    sets = [(x, torch.arange(max(1, int(size)))) for size in sizes for _ in range(15)]
    with mock.patch.object(neighbours, "_among_few", wraps=neighbours._among_few) as counted:
        nearest_within(sets, 5)
    assert counted.call_count == 16
