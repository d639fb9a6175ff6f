"""Images on their way to an encoder: decoded and preprocessed by threads ahead of time. Knows no feature and no file."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from ltbench.contract import Encoder
from ltbench.errors import ImageError, LtbenchError, SkipCell
from ltbench.types import Part

Item = TypeVar("Item")
Value = TypeVar("Value")

PIECE = 32
"""Images that one thread prepares at a time."""


def feed(part: Part, encoder: Encoder, batch: int, threads: int) -> Iterator[Tensor]:
    """Yield a part's images ``[B, …]`` as the encoder takes them, in order, the last batch as short as it is.

    Pillow and torch let go of Python's lock while they decode and resize, so threads do as well as processes, and
    copy nothing between them.
    """
    size = len(part.labels)
    batches = (range(start, min(start + batch, size)) for start in range(0, size, batch))
    for _, images in in_order(lambda rows: load(part, encoder, rows), batches, threads):
        yield images


def in_order(
    function: Callable[[Item], Value], items: Iterable[Item], threads: int, start: Callable[[], object] | None = None
) -> Iterator[tuple[Item, Value]]:
    """Yield each item and what the function makes of it, in the items' order, computed by threads ahead of time.

    At most ``2 · threads`` items are under way, so that memory is bounded; the first error in the items' order is
    raised. ``start`` is called in every thread at its beginning. Items are drawn in the thread that asks.
    """
    waiting: deque[tuple[Item, Future[Value]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="ltbench", initializer=start) as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(function, item)))
                if len(waiting) >= 2 * threads:
                    first, value = waiting.popleft()
                    yield first, value.result()
            while waiting:
                first, value = waiting.popleft()
                yield first, value.result()
        finally:
            for _, value in waiting:
                value.cancel()


def load(part: Part, encoder: Encoder, rows: range) -> Tensor:
    """Return some of a part's images ``[B, …]`` decoded and preprocessed; raise LtbenchError that names the image.

    Images of one size are preprocessed together by an encoder that has ``preprocess_batch``.
    """
    together: Callable[[Tensor], Tensor] | None = getattr(encoder, "preprocess_batch", None)
    if together is None:
        return _stacked(rows, lambda i: _preprocessed(encoder, _decoded(part, i), i))
    if isinstance(part.images, Tensor):
        return _preprocessed_together(together, part.images[rows.start : rows.stop], rows)
    images = [_decoded(part, i) for i in rows]
    if len({(image.shape, image.dtype) for image in images}) == 1:
        return _preprocessed_together(together, torch.stack(images), rows)
    return _stacked(rows, lambda i: _preprocessed(encoder, images[i - rows.start], i))


def _stacked(rows: range, image: Callable[[int], Tensor]) -> Tensor:
    """Put images ``[…]`` into one tensor ``[B, …]``, one after the other; raise LtbenchError if they differ in shape."""
    first = image(rows.start)
    stack = first.new_empty(len(rows), *first.shape)
    stack[0] = first
    for place, i in enumerate(rows[1:], 1):
        each = image(i)
        if (each.shape, each.dtype) != (first.shape, first.dtype):
            raise LtbenchError(
                f"the backbone must make images of one size: it made {first.dtype} {list(first.shape)} of image "
                f"{rows.start} and {each.dtype} {list(each.shape)} of image {i}; choose one that resizes"
            )
        stack[place] = each
    return stack


def _preprocessed_together(preprocess: Callable[[Tensor], Tensor], images: Tensor, rows: range) -> Tensor:
    """Return images of one size as the encoder takes them, or raise LtbenchError that blames its preprocessing."""
    try:
        return preprocess(images)
    except (LtbenchError, SkipCell, MemoryError):
        raise
    except Exception as error:
        named = f"images {rows.start} to {rows.stop - 1}, {images.dtype} {list(images.shape[1:])}"
        raise LtbenchError(f"{named}, cannot be preprocessed by the backbone: {_cause(error)}") from error


def _preprocessed(encoder: Encoder, image: Tensor, i: int) -> Tensor:
    """Return one image as the encoder takes it, or raise LtbenchError that blames its preprocessing."""
    try:
        return encoder.preprocess(image)
    except (LtbenchError, SkipCell, MemoryError):
        raise
    except Exception as error:
        raise LtbenchError(
            f"image {i}, {image.dtype} {list(image.shape)}, cannot be preprocessed by the backbone: {_cause(error)}"
        ) from error


def _decoded(part: Part, i: int) -> Tensor:
    """Return one image, or raise ImageError, which blames the dataset, in the dataset's own words if it has any."""
    try:
        return part.images[i]
    except (MemoryError, SkipCell):
        raise
    except LtbenchError as error:
        raise ImageError(str(error)) from error
    except Exception as error:
        raise ImageError(f"image {i} of the dataset cannot be decoded: {_cause(error)}") from error


def _cause(error: Exception) -> str:
    """Name an exception with its message."""
    return f"{type(error).__name__}: {error}"
