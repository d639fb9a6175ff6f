"""Random numbers that are the same on every device, and for a row whatever its neighbours.

Generators of torch draw different numbers on CPU and CUDA, and a draw depends on all that were taken before it. Here
a draw is a hash of (seed, stage, row id, column) by 64-bit integer arithmetic, which wraps around alike everywhere.
Knows nothing of datasets or methods.
"""

from __future__ import annotations

import functools
import hashlib
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# SplitMix64 (Steele, Lea & Flood, 2014, doi:10.1145/2660193.2660195): odd increment and the finaliser's two factors.
_GOLDEN = 0x9E3779B97F4A7C15
_FACTOR_1 = 0xBF58476D1CE4E5B9
_FACTOR_2 = 0x94D049BB133111EB

_TABLE_BITS = 16
_TABLE_UNIT = 2**20

_BLOCK = 2**16
"""Hashes made at once on the CPU, so that they and one copy stay in a core's cache. CUDA makes 64 times as many."""


@dataclass(frozen=True)
class Stream:
    """A named source of draws: the same key and row id give the same numbers, in any order, on any device."""

    key: int

    @staticmethod
    def of(seed: int, *stage: str | int) -> Stream:
        """Return the stream of a seed and a stage, such as ``Stream.of(3, "subset")``."""
        return Stream(seed).child(*stage)

    def child(self, *stage: str | int) -> Stream:
        """Return an independent stream named by this one and the stage."""
        text = "\x1f".join([str(self.key), *(f"{type(part).__name__}:{part}" for part in stage)])
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return Stream(int.from_bytes(digest, "little", signed=True))

    def bits(self, row_ids: Tensor, columns: int) -> Tensor:
        """Return 64 random bits for each of row ids ``[N]`` and columns: int64 ``[N, columns]``."""
        rows = _mix_(_mix_(row_ids.long() * _signed(_GOLDEN) + _signed(self.key)))
        steps = torch.arange(1, columns + 1, device=row_ids.device) * _signed(_GOLDEN)
        bits = rows.new_empty(len(rows), columns)
        for block in _blocks(bits):
            _mix_(torch.add(rows[block, None], steps, out=bits[block]))
        return bits

    def uniform(self, row_ids: Tensor, columns: int) -> Tensor:
        """Return uniforms in [0, 1), float64 ``[N, columns]``, on a grid of 2⁻⁵³."""
        return _shift(self.bits(row_ids, columns), 11).double() * 2.0**-53

    def integers(self, row_ids: Tensor, columns: int, high: int | Tensor) -> Tensor:
        """Return integers in [0, high), int64 ``[N, columns]``; ``high`` is below 2³¹ and may be ``[N, 1]``.

        Each is ⌊h · high / 2³²⌋ of a 32-bit hash h, so no value is favoured by more than high / 2³².
        """
        return _shift(_shift(self.bits(row_ids, columns), 32) * high, 32)

    def normal(self, row_ids: Tensor, columns: int, dtype: torch.dtype = torch.float64) -> Tensor:
        """Return standard normals ``[N, columns]``, in float64 or float32.

        Two are the sum and the difference of two quantiles from a table of 2¹⁶ equally likely ones, over the root of
        their variance: of independent normals, sum and difference are independent. Integers up to the last product, so
        no device's logarithm or cosine enters. |z| stays below 6.2, and so do |z₁| + |z₂| of the two: beside one draw
        beyond 4, one in 16,000, the other's variance is 0.8.
        """
        table, scale = _quantiles(row_ids.device)
        fours = -(-columns // 4)
        normals = torch.empty(len(row_ids), fours, 2, 2, dtype=dtype, device=row_ids.device)
        for block in _blocks(normals[..., 0]):
            quarters = self.bits(row_ids[block], fours).view(torch.uint16).int()  # the lowest 16 bits first, on every device
            a, b = table.index_select(0, quarters.flatten()).view(normals[block].shape).unbind(dim=-1)
            torch.add(a, b, out=normals[block, ..., 0])
            torch.sub(a, b, out=normals[block, ..., 1])
            normals[block].mul_(scale)
        return normals.flatten(1)[:, :columns].contiguous()

    def order(self, row_ids: Tensor) -> Tensor:
        """Return a random order of the rows: positions ``[N]``, which do not depend on the order they came in."""
        return torch.argsort(self.bits(row_ids, 1)[:, 0], stable=True)  # one hash for each id: no ties


def _signed(value: int) -> int:
    """Reinterpret an unsigned 64-bit integer as the signed one with the same bits."""
    value %= 2**64
    return value - 2**64 if value >= 2**63 else value


def _shift(bits: Tensor, count: int) -> Tensor:
    """Shift right without the sign bit coming in from the left."""
    return (bits >> count) & ((1 << (64 - count)) - 1)


def _mix_(bits: Tensor) -> Tensor:
    """Spread every input bit over all output bits, in place (SplitMix64's finaliser)."""
    shifted = torch.empty_like(bits)
    for count, factor in ((30, _FACTOR_1), (27, _FACTOR_2), (31, 1)):
        torch.bitwise_right_shift(bits, count, out=shifted)
        bits.bitwise_xor_(shifted.bitwise_and_((1 << (64 - count)) - 1))
        if factor != 1:
            bits.mul_(_signed(factor))
    return bits


def _blocks(numbers: Tensor) -> Iterator[slice]:
    """Cut the rows of ``[N, columns]`` into blocks of about ``_BLOCK`` numbers."""
    size = max(1, (_BLOCK * 64 if numbers.is_cuda else _BLOCK) // max(1, numbers.shape[1]))
    return (slice(start, start + size) for start in range(0, len(numbers), size))


@functools.cache
def _quantiles(device: torch.device) -> tuple[Tensor, float]:
    """Return 2¹⁶ normal quantiles in units of 2⁻²⁰, rounded to whole numbers, and the scale of sums and differences of two.

    They are kept as float32, which holds them, sums and differences exactly.
    """
    size = 2**_TABLE_BITS
    normal = statistics.NormalDist()
    upper = [round(normal.inv_cdf((i + 0.5) / size) * _TABLE_UNIT) for i in range(size // 2, size)]
    variance = 2 * sum(q * q for q in upper) / size
    table = [-q for q in reversed(upper)] + upper
    return torch.tensor(table, dtype=torch.float32, device=device), float((2 * variance) ** -0.5)
