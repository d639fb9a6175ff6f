"""Images to feature rows, shard by shard. Knows no file and no long tail."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ltbench.contract import Encoder
from ltbench.errors import LtbenchError
from ltbench.features.described import Described
from ltbench.features.feed import PIECE, in_order, load
from ltbench.features.manifest import SHARD
from ltbench.hardware import batch_told, cores
from ltbench.keys import digest
from ltbench.types import Dataset, Part

EXTRACTOR_VERSION = 2
CPU_BATCH = 32
CUDA_BATCH = 256


@dataclass(frozen=True)
class Features:
    """A dataset seen through a backbone: float32 rows ``[N, D]`` of each part, in the dataset's order.

    ``text [C, D]`` are class-text vectors, where backbone or dataset has them. Of a view there are training rows alone.
    """

    key: str
    train: Tensor
    test: Tensor
    validation: Tensor | None = None
    text: Tensor | None = None

    @staticmethod
    def of(key: str, parts: Mapping[str, Tensor]) -> Features:
        """Return features of parts by name; ``test [0, D]`` where there is none."""
        train = parts["train"]
        return Features(key, train, parts.get("test", train[:0]), parts.get("validation"), parts.get("text"))

    def parts(self) -> dict[str, Tensor]:
        """Return the parts there are, by name."""
        named = {"train": self.train, "test": self.test, "validation": self.validation, "text": self.text}
        return {name: x for name, x in named.items() if x is not None}


def key_parts(dataset: Dataset, encoder: Encoder | Described, backbone: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what features depend on: content, weights, preprocessing, precision, extractor, the backbone's identity."""
    known = encoder if isinstance(encoder, Described) else Described.of(encoder)
    return {
        "dataset": dataset.fingerprint,
        "class_names": list(dataset.class_names) if known.reads_names else None,
        "encoder": known.fingerprint,
        "backbone": backbone,
        "dtype": "float32",
        "extractor": EXTRACTOR_VERSION,
    }


def feature_key(dataset: Dataset, encoder: Encoder, backbone: Mapping[str, Any] | None = None) -> str:
    """Return the key of a dataset's features, which is the hash of their ``key_parts``."""
    return digest(key_parts(dataset, encoder, backbone))


@dataclass(frozen=True)
class Pace:
    """How far an extraction is: images done of ``total``, ``fresh`` of them by this process, in so many seconds."""

    done: int
    total: int
    fresh: int
    seconds: float

    @property
    def images_per_second(self) -> float:
        """The rate of this process; 0 before its first batch."""
        return self.fresh / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at this rate; None before the first batch."""
        return (self.total - self.done) / self.images_per_second if self.fresh else None


Progress = Callable[[Pace], None]


@dataclass(frozen=True, order=True)
class Shard:
    """Rows ``start`` to ``stop`` of a part: what is encoded, written and claimed as one."""

    part: str
    start: int
    stop: int

    def __len__(self) -> int:
        """Return the number of images."""
        return self.stop - self.start

    @property
    def rows(self) -> range:
        """The rows' positions in the part."""
        return range(self.start, self.stop)


def split(rows: range, size: int) -> list[range]:
    """Cut rows into ranges of one size; the last may be short."""
    return [range(start, min(start + size, rows.stop)) for start in range(rows.start, rows.stop, size)]


@dataclass(frozen=True)
class Extraction:
    """A dataset and the encoder its images go through, and how: what is here besides these two changes no result.

    ``only`` names the parts to encode, without class text; by default all there are.
    Every batch has ``batch`` images; one that would be shorter is filled up with its last image. So a row depends
    on its image and on ``batch`` alone, bit for bit on one machine, and on ``batch`` only by rounding. On the CPU,
    ``threads`` each prepare and encode batches of their own, single-threaded; on CUDA they prepare, and the device encodes.
    """

    dataset: Dataset
    encoder: Encoder
    device: str = "cpu"
    batch: int = 0
    threads: int = 0
    progress: Progress | None = None
    only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Fill in what this machine suggests; refuse a part without images."""
        if not self.batch:
            object.__setattr__(self, "batch", batch_told() or (CUDA_BATCH if self.on_cuda else CPU_BATCH))
        if not self.threads:
            object.__setattr__(self, "threads", cores())
        empty = [name for name, part in self.parts.items() if not len(part.labels)]
        if empty:
            raise LtbenchError(f"a part must have images, and part {empty[0]!r} of the dataset has none")

    @property
    def on_cuda(self) -> bool:
        """Whether the device does the encoding beside the CPU."""
        return self.device.startswith("cuda")

    @property
    def parts(self) -> dict[str, Part]:
        """The parts to encode, by name."""
        named = {"train": self.dataset.train, "test": self.dataset.test, "validation": self.dataset.validation}
        return {name: part for name, part in named.items() if part is not None and name in (self.only or named)}

    def shards(self, part: str | None = None) -> list[Shard]:
        """Return the shards of one part, or of all."""
        sizes = {name: len(each.labels) for name, each in self.parts.items() if part in (None, name)}
        return [Shard(name, rows.start, rows.stop) for name, size in sizes.items() for rows in split(range(size), SHARD)]

    def encode(self, shards: Iterable[Shard], meter: Meter | None = None) -> Iterator[tuple[Shard, Tensor]]:
        """Yield each shard with its features, float32 ``[n, D]`` on the CPU; shards are drawn as they are begun.

        Raises LtbenchError for images that cannot be read, and features that are not finite rows of one length.
        """
        batches = ((shard, rows) for shard in shards for rows in split(shard.rows, self.batch))
        check, done = _Check(), []
        with one_thread_each():
            for (shard, rows), x in self._on_cuda(batches) if self.on_cuda else self._on_cpu(batches):
                check(x, self.batch, shard.part)
                done.append(x[: len(rows)])
                if meter is not None:
                    meter.count(len(rows))
                if rows.stop == shard.stop:
                    encoded = torch.cat(done).detach().float().cpu()
                    _refuse_infinite(encoded, shard)
                    yield shard, encoded
                    done.clear()

    def text(self, width: int) -> Tensor | None:
        """Return class-text vectors ``[C, D]`` float32 on the CPU, or None where there are none."""
        give = getattr(self.encoder, "class_text", None)
        text: Tensor | None = None if give is None or self.only else give(self.dataset)
        if text is None:
            return None
        wanted = [len(self.dataset.class_names), width]
        if list(text.shape) != wanted or not bool(text.isfinite().all()):
            raise LtbenchError(f"the backbone must give finite class-text vectors {wanted}, it gave {list(text.shape)}")
        return text.detach().float().cpu()

    def _on_cpu(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Tensor]]:
        """Load and encode whole batches in threads."""
        return in_order(lambda batch: self._encoded(self._loaded(batch)), batches, self.threads, _single_thread)

    def _on_cuda(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Tensor]]:
        """Load pieces of batches in threads, into memory that the device can fetch by itself; encode here."""
        pieces = ((shard, rows, piece) for shard, rows in batches for piece in split(rows, PIECE))
        index = torch.device(self.device).index
        start = functools.partial(torch.cuda.set_device, torch.cuda.current_device() if index is None else index)
        held: list[Tensor] = []
        for (shard, rows, piece), images in in_order(
            lambda item: self._loaded((item[0], item[2])).pin_memory(), pieces, self.threads, start
        ):
            held.append(images.to(self.device, non_blocking=True))
            if piece.stop == rows.stop:
                yield (shard, rows), self._encoded(torch.cat(held))
                held.clear()

    def _loaded(self, batch: Batch) -> Tensor:
        """Return images as the encoder takes them."""
        shard, rows = batch
        return load(self.parts[shard.part], self.encoder, rows)

    def _encoded(self, images: Tensor) -> Tensor:
        """Encode a batch, filled up to its full size."""
        if short := self.batch - len(images):
            images = torch.cat([images, images[-1:].expand(short, *images.shape[1:])])
        with torch.no_grad():
            return self.encoder(images)


Batch = tuple[Shard, range]


@dataclass
class Meter:
    """Counts images and tells the pace."""

    total: int
    progress: Progress | None = None
    fresh: int = 0
    others: int = 0
    started: float = field(default_factory=time.monotonic)

    def count(self, images: int) -> None:
        """Count images that this process has encoded."""
        self.fresh += images
        self.tell()

    def tell(self) -> None:
        """Report, if anybody listens."""
        if self.progress is not None:
            self.progress(Pace(self.fresh + self.others, self.total, self.fresh, time.monotonic() - self.started))


def extract(dataset: Dataset, encoder: Encoder, device: str, progress: Progress | None = None) -> Features:
    """Encode every part of a dataset in memory; see ``Extraction`` for how, and for what is raised."""
    extraction = Extraction(dataset, encoder, device, progress=progress)
    encoded = dict(extraction.encode(extraction.shards(), Meter(sum(map(len, extraction.shards())), progress)))
    parts = {name: torch.cat([encoded[shard] for shard in extraction.shards(name)]) for name in extraction.parts}
    text = extraction.text(parts["train"].shape[1])
    return Features.of(feature_key(dataset, encoder), parts if text is None else {**parts, "text": text})


@contextlib.contextmanager
def one_thread_each() -> Iterator[None]:
    """Let operators on the CPU use one thread: images are prepared beside each other, and bits do not depend on cores."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(threads)


def _single_thread() -> None:
    """Give this thread no helpers of its own."""
    torch.set_num_threads(1)


class _Check:
    """Checks that every batch gives rows, all of one width."""

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self.first: tuple[int, str] | None = None

    def __call__(self, x: Any, images: int, part: str) -> None:
        """Raise LtbenchError for anything but ``[images, D]`` of the same D as before."""
        shape = list(x.shape) if isinstance(x, Tensor) else type(x).__name__
        if not isinstance(x, Tensor) or x.ndim != 2 or len(x) != images or x.shape[1] == 0:
            raise LtbenchError(
                f"the backbone must give [{images}, D] features for {images} images of the {part} part, it gave {shape}"
            )
        width, first = self.first = self.first or (x.shape[1], part)
        if x.shape[1] != width:
            given = f"{width} for images of the {first} part and {x.shape[1]} for images of the {part} part"
            raise LtbenchError(f"the backbone must give rows of one width, it gave {given}")


def _refuse_infinite(x: Tensor, shard: Shard) -> None:
    """Raise LtbenchError for rows that hold NaN or infinity."""
    bad = int((~x.isfinite()).any(dim=1).sum())
    if bad:
        where = f"images {shard.start} to {shard.stop - 1} of the {shard.part} part"
        raise LtbenchError(f"the backbone gave NaN or infinite features for {bad} of {len(x)} images, {where}")
