"""Tests of the random streams: placement, independence and distribution; all seeds are fixed, so no test is random."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from ltbench import streams
from ltbench.streams import Stream

PROPERTY = settings(deadline=None, max_examples=40, derandomize=True)
LEAST_P = 0.001
QUANTILES = stats.norm.ppf((np.arange(2**16) + 0.5) / 2**16)
SCALE = 1 / np.sqrt(2 * QUANTILES.var())
MOST_SIGMAS = 4.5

DRAWS: dict[str, Callable[[Stream, Tensor, int], Tensor]] = {
    "bits": lambda stream, ids, columns: stream.bits(ids, columns),
    "uniform": lambda stream, ids, columns: stream.uniform(ids, columns),
    "integers": lambda stream, ids, columns: stream.integers(ids, columns, 1000),
    "normal": lambda stream, ids, columns: stream.normal(ids, columns),
}
every_draw = pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)

row_ids = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=12)
keys = st.integers(-(2**63), 2**63 - 1)


# Where a draw comes from


def reference_bits(key: int, row_id: int, column: int) -> int:
    """Return one draw as an unsigned integer, by SplitMix64 on Python's integers."""

    def mix(z: int) -> int:
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        return z ^ (z >> 31)

    row = mix(mix((row_id * 0x9E3779B97F4A7C15 + key) % 2**64))
    return mix((row + (column + 1) * 0x9E3779B97F4A7C15) % 2**64)


def reference_normal(bits: int, number: int) -> float:
    """Return one of four normals from 64 bits: sum or difference of two of 2¹⁶ quantiles, over the root of its variance."""
    half = bits >> 32 if number >= 2 else bits % 2**32
    a, b = QUANTILES[half % 2**16], QUANTILES[half >> 16]
    return float((a - b if number % 2 else a + b) * SCALE)


@PROPERTY
@given(keys, row_ids, st.integers(1, 5))
def test_draws_follow_from_whole_number_arithmetic(key: int, ids: list[int], columns: int) -> None:
    """Every kind of draw equals a loop over rows and columns in Python's own integers."""
    stream, rows = Stream(key), torch.tensor(ids)
    bits = [[reference_bits(key, row, column) for column in range(columns)] for row in ids]

    assert bits == [[b % 2**64 for b in row] for row in stream.bits(rows, columns).tolist()]
    assert [[(b >> 11) / 2**53 for b in row] for row in bits] == stream.uniform(rows, columns).tolist()
    assert [[(b >> 32) * 77 >> 32 for b in row] for row in bits] == stream.integers(rows, columns, 77).tolist()
    expected = [[reference_normal(row[c // 4], c % 4) for c in range(columns)] for row in bits]
    assert torch.tensor(expected, dtype=torch.float64).allclose(stream.normal(rows, columns), rtol=0, atol=1e-6)


def test_the_key_is_a_hash_of_seed_and_stage() -> None:
    """Stages are told apart by type and text, hashed on top of the seed."""
    text = "3\x1fstr:subset\x1fint:4"
    expected = hashlib.blake2b(text.encode(), digest_size=8).digest()

    assert int.from_bytes(expected, "little", signed=True) == Stream.of(3, "subset", 4).key


def test_golden_draws() -> None:
    """A few draws are pinned: who changes them changes every result, and must raise the engine's version."""
    stream, rows = Stream.of(0, "golden"), torch.tensor([0, 1, 2, -1, 2**40])

    assert stream.key == 2311453723749085486
    assert stream.bits(rows, 2).tolist() == [
        [3821314123703215870, 7634146775054707741],
        [-4202318587393547054, -8036777898521798491],
        [-7259936171620807904, 8469825678137708012],
        [-2862706879949597117, -68350687519956955],
        [8602555999468988583, -8771792057819652807],
    ]
    assert [[draw.hex() for draw in row] for row in stream.uniform(rows[:2], 2).tolist()] == [
        ["0x1.a8404798341b0p-3", "0x1.a7c7c02d8951ap-2"],
        ["0x1.8b5cbb04eac5cp-1", "0x1.20ef4229f7cbbp-1"],
    ]
    assert [[draw.hex() for draw in row] for row in stream.normal(rows[:2], 5).tolist()] == [
        [
            "-0x1.8e34498b10d70p+0",
            "0x1.34a7bdca4c288p+0",
            "-0x1.dbd83e74e9c62p+0",
            "-0x1.689c4a24c0412p-1",
            "-0x1.634a1f7bf95a3p-2",
        ],
        [
            "0x1.9dd6d141c8511p-1",
            "0x1.e93c6068f85c3p-1",
            "0x1.22dbce61d3192p-2",
            "-0x1.8acdeb1bd5df8p-1",
            "0x1.1e664da465e05p+1",
        ],
    ]
    assert stream.integers(rows, 3, 10).tolist() == [[2, 4, 6], [7, 5, 0], [6, 4, 5], [8, 9, 7], [4, 5, 0]]
    assert stream.order(torch.arange(10)).tolist() == [3, 7, 2, 9, 1, 6, 5, 0, 4, 8]


# What a draw does not depend on


@every_draw
@PROPERTY
@given(keys, row_ids, st.randoms(use_true_random=False))
def test_a_row_draws_the_same_in_any_order(draw: Callable[..., Tensor], key: int, ids: list[int], random: object) -> None:
    """Shuffling the rows shuffles their draws along, and a row alone draws what it draws in company."""
    moved = list(range(len(ids)))
    random.shuffle(moved)
    rows, together = torch.tensor(ids), draw(Stream(key), torch.tensor(ids), 3)

    assert together[moved].equal(draw(Stream(key), rows[moved], 3))
    assert together[-1:].equal(draw(Stream(key), rows[-1:], 3))


@every_draw
@PROPERTY
@given(keys, row_ids, st.integers(1, 6))
def test_more_columns_leave_the_first_ones_alone(draw: Callable[..., Tensor], key: int, ids: list[int], columns: int) -> None:
    """A draw depends on its column, not on how many there are."""
    rows = torch.tensor(ids)

    assert draw(Stream(key), rows, 7)[:, :columns].equal(draw(Stream(key), rows, columns))


@every_draw
def test_draws_do_not_depend_on_the_width_of_row_ids(draw: Callable[..., Tensor]) -> None:
    """Row ids of 32 bits draw what the same ids of 64 bits draw."""
    rows = torch.tensor([0, 5, -1, 2**31 - 1])

    assert draw(Stream.of(1), rows, 3).equal(draw(Stream.of(1), rows.int(), 3))


@every_draw
@pytest.mark.parametrize("block", [1, 7, 64])
def test_draws_do_not_depend_on_blocks(draw: Callable[..., Tensor], block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many hashes are made at once, the bits are the same."""
    rows, expected = torch.arange(20), draw(Stream.of(1), torch.arange(20), 5)
    monkeypatch.setattr(streams, "_BLOCK", block)

    assert expected.equal(draw(Stream.of(1), rows, 5))


def test_float32_normals_are_the_others_rounded() -> None:
    """Within two roundings of the float64 ones."""
    rows, stream = torch.arange(500), Stream.of(2)

    torch.testing.assert_close(stream.normal(rows, 9), stream.normal(rows, 9, torch.float32).double(), rtol=2**-23, atol=0)


@every_draw
def test_draws_do_not_depend_on_threads(draw: Callable[..., Tensor]) -> None:
    """One thread and four give the same bits where torch would share out the work."""
    rows, threads = torch.arange(100_000), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = draw(Stream.of(1), rows, 2)
        torch.set_num_threads(4)
        actual = draw(Stream.of(1), rows, 2)
    finally:
        torch.set_num_threads(threads)

    assert expected.equal(actual)


@every_draw
def test_draws_neither_read_nor_move_the_global_generator(draw: Callable[..., Tensor]) -> None:
    """Torch's own generator has no part in a stream."""
    rows = torch.arange(10)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        expected = draw(Stream.of(1), rows, 2)
        torch.manual_seed(2)
        before = torch.get_rng_state()

        assert expected.equal(draw(Stream.of(1), rows, 2))
        assert before.equal(torch.get_rng_state())


@every_draw
def test_no_rows_draw_nothing(draw: Callable[..., Tensor]) -> None:
    """An empty list of rows keeps its columns, and rows without columns are as many."""
    assert draw(Stream.of(0), torch.arange(0), 3).shape == (0, 3)
    assert draw(Stream.of(0), torch.arange(3), 0).shape == (3, 0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_draws_are_bit_equal_on_cuda() -> None:
    """Bits, uniforms, integers, normals and orders are the same on CPU and GPU."""
    rows = torch.cat([torch.arange(50_000), torch.tensor([-1, 2**40, -(2**63), 2**63 - 1])])
    high = torch.arange(1, len(rows) + 1)[:, None]
    for seed in range(3):
        stream = Stream.of(seed, "cuda")
        for name, draw in DRAWS.items():
            assert draw(stream, rows, 5).equal(draw(stream, rows.cuda(), 5).cpu()), name
        assert stream.integers(rows, 3, high).equal(stream.integers(rows.cuda(), 3, high.cuda()).cpu())
        assert stream.order(rows).equal(stream.order(rows.cuda()).cpu())


# Independence


def test_seeds_stages_and_children_are_all_different() -> None:
    """Streams that differ in seed, stage, order or type of a part, or depth have different keys."""
    stages = [(), ("a",), ("b",), ("a", "b"), ("b", "a"), ("ab",), ("", "ab"), ("ab", ""), (1,), ("1",), (1, 2), (12,), (True,)]
    streams = [Stream.of(seed, *stage) for seed in range(50) for stage in stages]
    children = [Stream.of(seed, "a").child(*stage) for seed in range(50) for stage in stages]

    assert len({stream.key for stream in streams + children}) == 2 * 50 * len(stages)


@PROPERTY
@given(st.lists(st.tuples(st.integers(), st.lists(st.text() | st.integers(), max_size=3).map(tuple)), unique=True, max_size=5))
def test_different_names_are_different_streams(names: list[tuple[int, tuple[str | int, ...]]]) -> None:
    """Any two seeds with stages that are not the same give two keys, and the same names the same keys."""
    streams = [Stream.of(seed, *stage) for seed, stage in names]

    assert len(set(streams)) == len(names)
    assert streams == [Stream.of(seed, *stage) for seed, stage in names]


COUNT = 20_000
ROWS = torch.arange(COUNT)
SOURCES: dict[str, Callable[[], list[Tensor]]] = {
    "columns": lambda: [Stream.of(0, "a").normal(ROWS, 8)],
    "rows": lambda: [Stream.of(0, "a").normal(ROWS + step, 1) for step in (0, 1, 2, 3, 64, 2**32, -(2**33))],
    "stages": lambda: [Stream.of(0, stage).normal(ROWS, 2) for stage in ("a", "b", "c", "aa")],
    "children": lambda: [stream.normal(ROWS, 2) for stream in (Stream.of(0), *(Stream.of(0).child(i) for i in range(3)))],
    "seeds": lambda: [Stream.of(seed, "a").normal(ROWS, 2) for seed in (0, 1, 2, 2**32)],
    "neighbouring keys": lambda: [Stream(key).normal(ROWS, 2) for key in (0, 1, 2, 3)],
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
@pytest.mark.parametrize("power", [1, 2, 3, 4])
def test_draws_are_uncorrelated(source: Callable[[], list[Tensor]], power: int) -> None:
    """Correlations of draws, and of their squares, stay within sampling error for every pair of columns."""
    z = torch.cat(source(), dim=1).numpy() ** power
    correlation = np.corrcoef(z.T) - np.eye(z.shape[1])

    assert np.abs(correlation).max() * math.sqrt(COUNT) < MOST_SIGMAS


# Distribution


def layouts(seed: int, kind: str) -> dict[str, np.ndarray]:
    """Return many draws of one kind ``[n]``, laid out along rows, columns, ids far apart, and seeds."""
    stream, draw = Stream.of(seed, kind), DRAWS[kind]
    return {
        "rows": draw(stream, torch.arange(20_000), 1).flatten().numpy(),
        "columns": draw(stream, torch.tensor([3]), 20_000).flatten().numpy(),
        "both": draw(stream, torch.arange(200), 100).flatten().numpy(),
        "negative": draw(stream, -torch.arange(1, 10_001), 2).flatten().numpy(),
        "strided": draw(stream, torch.arange(10_000) * 2**32, 2).flatten().numpy(),
        "seeds": torch.cat([draw(Stream.of(1000 * seed + s, kind), torch.tensor([0]), 2) for s in range(500)])
        .flatten()
        .numpy(),
    }


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("kind", "law"), [("uniform", "uniform"), ("normal", "norm")])
def test_draws_follow_their_law(kind: str, law: str, seed: int) -> None:
    """Kolmogorov and Smirnov's test finds nothing in any layout."""
    values = {name: stats.kstest(draws, law).pvalue for name, draws in layouts(seed, kind).items()}

    assert min(values.values()) > LEAST_P, values


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("kind", "moments"),
    [
        ("uniform", [1 / 2, 1 / 3, 1 / 4, 1 / 5, 1 / 6, 1 / 7, 1 / 8, 1 / 9]),
        ("normal", [0, 1, 0, 3, 0, 15, 0, 105]),
    ],
)
def test_draws_have_the_right_moments(kind: str, moments: list[float], seed: int) -> None:
    """The first four moments lie within sampling error, whose size the first eight give."""
    draws = DRAWS[kind](Stream.of(seed, "moments"), torch.arange(50_000), 4).flatten()
    for power in range(1, 5):
        error = math.sqrt((moments[2 * power - 1] - moments[power - 1] ** 2) / len(draws))
        assert abs(float((draws**power).mean()) - moments[power - 1]) < MOST_SIGMAS * error, power


def test_uniforms_use_all_their_bits_and_stay_below_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest and largest hashes give 0 and 1 − 2⁻⁵³, and half the draws have an odd last bit."""
    grid = Stream.of(0).uniform(torch.arange(10_000), 1) * 2**53
    assert grid.equal(grid.round())
    assert abs(float((grid % 2).mean()) - 0.5) < MOST_SIGMAS * 0.5 / 100

    monkeypatch.setattr(Stream, "bits", lambda self, ids, columns: torch.tensor([[0, -1]]))
    assert Stream.of(0).uniform(torch.arange(1), 2).tolist() == [[0.0, 1 - 2.0**-53]]


def test_normals_have_gaussian_tails() -> None:
    """Of two million draws as many lie beyond 1 to 4.5 sigma, on either side, as a Gaussian puts there."""
    draws = Stream.of(1, "tails").normal(torch.arange(500_000), 4).flatten()
    for sigma, side in itertools.product((1, 2, 3, 3.5, 4, 4.5), (draws, -draws)):
        expected = len(draws) * stats.norm.sf(sigma)
        assert abs(int((side > sigma).sum()) - expected) < MOST_SIGMAS * math.sqrt(expected), sigma


def test_normals_are_symmetric_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extreme hashes give opposite numbers that lie beyond 6 and within 6.2, and differences of nothing."""
    monkeypatch.setattr(Stream, "bits", lambda self, ids, columns: torch.tensor([[0], [-1]]))
    low, high = Stream.of(0).normal(torch.arange(2), 4).tolist()

    assert [-z for z in low] == high
    assert 6 < high[0] == high[2] < 6.2
    assert high[1] == high[3] == 0


@pytest.mark.parametrize("high", [2, 3, 7, 10, 100, 1000])
def test_integers_are_equally_likely(high: int) -> None:
    """Every value below the bound comes up, as often as any other."""
    drawn = Stream.of(2, "integers").integers(torch.arange(30_000), 2, high).flatten()
    count = torch.bincount(drawn, minlength=high)

    assert len(count) == high
    assert stats.chisquare(count.numpy()).pvalue > LEAST_P


@pytest.mark.parametrize("high", [1, 2, 2**31 - 1])
def test_integers_reach_their_bounds_and_no_further(high: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest hash gives 0 and the largest gives the bound less one."""
    monkeypatch.setattr(Stream, "bits", lambda self, ids, columns: torch.tensor([[0, -1]]))

    assert Stream.of(0).integers(torch.arange(1), 2, high).tolist() == [[0, high - 1]]


def test_integers_take_a_bound_for_each_row() -> None:
    """A column of bounds gives each row what its own bound would give it."""
    rows, bounds, stream = torch.arange(6), [1, 2, 3, 10, 1000, 2**31 - 1], Stream.of(3)
    expected = [stream.integers(rows[i : i + 1], 4, high).tolist()[0] for i, high in enumerate(bounds)]

    assert expected == stream.integers(rows, 4, torch.tensor(bounds)[:, None]).tolist()


# Orders


@PROPERTY
@given(keys, st.lists(st.integers(-(2**63), 2**63 - 1), max_size=30, unique=True), st.randoms(use_true_random=False))
def test_an_order_is_a_permutation_that_does_not_depend_on_the_input(key: int, ids: list[int], random: object) -> None:
    """Every position comes once, and the rows come in the same order however they were handed in."""
    moved = list(range(len(ids)))
    random.shuffle(moved)
    rows = torch.tensor(ids, dtype=torch.int64)
    order = Stream(key).order(rows)

    assert list(range(len(ids))) == sorted(order.tolist())
    assert rows[order].equal(rows[moved][Stream(key).order(rows[moved])])


def test_an_order_of_some_rows_is_the_order_of_all_without_the_others() -> None:
    """Leaving rows out does not reorder those that stay."""
    every, some = torch.arange(50), torch.arange(0, 50, 3)
    ordered = every[Stream.of(4).order(every)]

    assert [row for row in ordered.tolist() if row % 3 == 0] == some[Stream.of(4).order(some)].tolist()


def test_all_orders_are_equally_likely() -> None:
    """The 24 orders of four rows come up alike over many streams."""
    rows = torch.arange(4)
    found = Counter(tuple(Stream.of(seed, "order").order(rows).tolist()) for seed in range(2400))

    assert len(found) == 24
    assert stats.chisquare(list(found.values())).pvalue > LEAST_P
