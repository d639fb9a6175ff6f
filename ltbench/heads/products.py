"""What products of matrices give on this machine: whether lanes of a stack get the same bits wherever they lie, and which.

BLAS may add up in another order where an operand begins elsewhere in memory. Stacks are laid out so that it does not
matter (``lanes.Stack``); here that is looked at, once in a process, before a stack is made. Takes some milliseconds.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ltbench.hardware import pinned
from ltbench.heads.history import MEMORY, on_cache_lines

SIZES, LARGE = (1, 2, 15, 16, 17, 33, 130, 257), (4097, 16383)
"""Numbers of a lane: one, odd ones, a cache line and its neighbours, about the blocks of products; and the largest."""

HEADS = ((1, 2), (5, 3), (33, 10), (16, 33), (130, 7))
"""Axes and classes of heads."""

ROWS = (1, 5, 64, 130)
"""Rows that heads are multiplied with."""

LANES = 8

GOLDEN_RATIO = (5**0.5 - 1) / 2

Multiply = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Products:
    """How many products were compared, which differed between lanes, and what they gave, as a hash of all their bits."""

    compared: int
    differing: tuple[str, ...]
    fingerprint: str

    @property
    def lanes_agree(self) -> bool:
        """Whether a lane's products are the same bits in every lane, alone or among others."""
        return not self.differing


def products(device: torch.device | str) -> Products:
    """Return what products give on a device, under the settings that cells run under; looked at once in a process."""
    found = torch.device(device)
    index = found.index if found.index is not None or found.type == "cpu" else torch.cuda.current_device()
    return _products(found.type if index is None else f"{found.type}:{index}")


@functools.cache
def _products(device: str) -> Products:
    """Look, and tell it where lanes differ."""
    with pinned(device):
        found = compare(device, on_cache_lines)
    if found.differing:
        told = f"{len(found.differing)} kinds of product ({found.differing[0]}, …) depend on the lane on this {device}"
        warnings.warn(f"{told}, so heads are solved one at a time: the same results alone and together, slower", stacklevel=4)
    return found


def compare(device: str, width: Callable[[int], int]) -> Products:
    """Compare products in every lane with those of the first; a lane of P numbers takes ``width(P)`` of them."""
    known, differing, count = hashlib.sha256(), list[str](), 0
    for name, alone, among in _cases(device, width):
        known.update(alone.cpu().contiguous().numpy().tobytes())
        count += len(among)
        if not all(torch.equal(alone, each) for each in among):
            differing.append(name)
    return Products(count, tuple(differing), known.hexdigest()[:16])


def _cases(device: str, width: Callable[[int], int]) -> Iterator[tuple[str, Tensor, list[Tensor]]]:
    """Yield a product's name, what it gives alone in the first lane, and in every lane among others."""
    first = itertools.count(1, 101)

    def drawn(*shape: int) -> Tensor:
        places = torch.arange(math.prod(shape), device="cpu").double() + next(first)
        return (places**2 * GOLDEN_RATIO % 2 - 1).view(shape)  # spread over −1 to 1; nobody's random numbers

    for dtype, size in [*itertools.product((torch.float32, torch.float64), SIZES), *((torch.float32, size) for size in LARGE)]:
        pairs, vector, weights = (each.to(device, dtype) for each in (drawn(2 * MEMORY, size), drawn(size), drawn(2 * MEMORY)))
        other = drawn(size).to(device, dtype)
        kinds: dict[str, Multiply] = {
            "pairs · vector": _inner,
            "weights · pairs": functools.partial(_outer, weights),
            "sum of products": _dotted,
        }
        alone = _stacks(pairs, vector, torch.zeros_like(other), width, [0])
        among = [
            _stacks(pairs, vector, other, width, lanes) for lanes in (range(LANES), range(0, LANES, 2), range(1, LANES, 2))
        ]
        for name, multiply in kinds.items():
            found = [product for stacks in among for product in multiply(*stacks[:2])[stacks[2]].unbind()]
            yield f"{name}, {size} {_short(dtype)}", multiply(*alone[:2])[0], found
    for dtype, (axes, classes), rows in itertools.product((torch.float32, torch.float64), HEADS, ROWS):
        head, x = drawn(classes * (axes + 1)).to(device, dtype), drawn(rows, axes).to(device, dtype)
        stack = head.new_zeros(LANES, width(len(head)))
        stack[:, : len(head)] = head
        found = [_head_products(stack[lane, : len(head)], x, classes) for lane in range(LANES)]
        yield f"head of {axes} × {classes} on {rows} rows, {_short(dtype)}", _head_products(head.clone(), x, classes), found
    for dtype in (torch.float32, torch.float64):
        yield f"large, {_short(dtype)}", _large(drawn(300, 260).to(device, dtype), drawn(260, 120).to(device, dtype)), []
    small = drawn(16, MEMORY, MEMORY).numpy()
    yield "small, numpy", torch.from_numpy(np.stack([a @ b @ b[0] for a, b in itertools.pairwise(small)])), []


def _stacks(
    pairs: Tensor, vector: Tensor, other: Tensor, width: Callable[[int], int], lanes: Sequence[int]
) -> tuple[Tensor, Tensor, list[int]]:
    """Return pairs and vectors of a stack, those given in some lanes and others in all others, and these lanes."""
    size = len(vector)
    stack, vectors = vector.new_zeros(LANES, len(pairs), width(size)), vector.new_zeros(LANES, width(size))
    stack[:, :, :size], vectors[:, :size] = other, other
    stack[list(lanes), :, :size], vectors[list(lanes), :size] = pairs, vector
    return stack, vectors, list(lanes)


def _large(a: Tensor, b: Tensor) -> Tensor:
    """Return large products, and what is taken apart: axes and discriminants rest on it."""
    square = a.T @ a
    square.diagonal().add_(len(square))
    values, vectors = torch.linalg.eigh(square)
    parts = (a @ b, square, a.exp().sum(dim=1), values, vectors, torch.linalg.cholesky(square), torch.linalg.qr(b).Q)
    return torch.cat([part.flatten() for part in parts])


def _inner(stack: Tensor, vectors: Tensor) -> Tensor:
    """Multiply every lane's pairs with its vector, as ``History`` does."""
    return torch.bmm(stack, vectors[:, :, None])[:, :, 0]


def _outer(weights: Tensor, stack: Tensor, vectors: Tensor) -> Tensor:
    """Add every lane's weighted pairs to its vector, as ``History`` does."""
    return torch.baddbmm(vectors[:, None], weights.expand(len(stack), 1, -1), stack)[:, 0]


def _dotted(stack: Tensor, vectors: Tensor) -> Tensor:
    """Add up products of two vectors, as ``Stack`` does."""
    return (stack[:, 0] * vectors).sum(dim=1, keepdim=True)


def _head_products(point: Tensor, x: Tensor, classes: int) -> Tensor:
    """Return what an objective makes of a point ``[C·(R + 1)]`` and of rows ``[N, R]``: logits and a gradient."""
    both = point.view(classes, -1)
    weight, bias = both[:, :-1], both[:, -1]
    logits = torch.addmm(bias[:, None], weight, x.T)
    slope = torch.zeros_like(point).view(classes, -1)
    slope[:, :-1].addmm_(logits, x)
    return torch.cat([logits.flatten(), slope.flatten(), weight.square().sum()[None], weight @ x[0]])


def _short(dtype: torch.dtype) -> str:
    """Name a precision."""
    return str(dtype).removeprefix("torch.")
