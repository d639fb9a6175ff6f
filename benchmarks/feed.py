"""How fast images are fed to a backbone, beside torchvision's ImageFolder and DataLoader on the same JPEG files.

    python benchmarks/feed.py --images 2000

Writes photo-like 256×256 JPEGs, then feeds them in batches of 64, in turn with ltbench's threads and with as many
worker processes of a DataLoader: decoded only, and decoded and preprocessed as models of timm want it by default (shorter
side to 256, bicubic, middle 224×224, normalised): theirs by timm's transform, ours by ltbench-timm's preprocessing made
of it. Both must give the same bits in the first batch. Files are in the page cache; every run is a whole pass, its start
included. Best quoted as ratios, from an otherwise idle machine. Needs ltbench-timm and ltbench-datasets. Writes
``results/feed-<date>.json`` beside this file.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from timm.data import create_transform
from torch import Tensor
from torchvision import transforms

from ltbench.features.feed import feed
from ltbench.hardware import cores, hardware_of
from ltbench.types import Part
from ltbench_datasets.folder import Folder
from ltbench_timm.encoder import Preprocess
from ltbench_timm.tensors import in_one_buffer

BATCH = 64
CLASSES = 10

Pass = Callable[[int], Iterable[Tensor]]


@dataclass(frozen=True)
class Preprocessing:
    """What is done to an image: the transform of a PIL image, and as an encoder of ltbench has it."""

    transform: Callable[[Image.Image], Tensor]
    preprocess: Callable[[Tensor], Tensor]
    fingerprint: str = "benchmark"
    flops_per_image: int = 0

    def __call__(self, batch: Tensor) -> Tensor:
        """Encode nothing."""
        return batch.flatten(1)


def decoded() -> Preprocessing:
    """Return what does nothing to an image; torchvision's tensors have the channels first, ours last."""
    return Preprocessing(transforms.PILToTensor(), lambda image: image.permute(2, 0, 1))


def preprocessed() -> Preprocessing:
    """Return timm's default preprocessing of models for ImageNet, and ltbench's of the same."""
    transform = create_transform((3, 224, 224), is_training=False)
    return Preprocessing(transform, Preprocess(in_one_buffer(transform), 3, ""))


def write_photos(folder: Path, count: int) -> None:
    """Write JPEGs of quality 90 that compress as photographs do: smooth light, edges and a little noise."""
    chance = np.random.default_rng(0)
    for number in range(count):
        smooth = Image.fromarray(chance.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize(
            (256, 256), Image.Resampling.BICUBIC
        )
        edges = Image.fromarray(chance.integers(0, 256, (32, 32, 3), dtype=np.uint8)).resize(
            (256, 256), Image.Resampling.NEAREST
        )
        mixed = (
            0.75 * np.asarray(smooth, np.float32) + 0.2 * np.asarray(edges, np.float32) + chance.normal(12, 6, (256, 256, 3))
        )
        path = folder / f"class-{number % CLASSES}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mixed.clip(0, 255).astype(np.uint8)).save(path, quality=90)


def ours(part: Part, encoder: Preprocessing) -> Pass:
    """Return a pass of ltbench's feed with so many threads."""
    return lambda threads: feed(part, encoder, BATCH, threads)


def theirs(folder: Path, encoder: Preprocessing) -> Pass:
    """Return a pass of a DataLoader with so many worker processes."""
    images = torchvision.datasets.ImageFolder(str(folder), encoder.transform)

    def loaded(workers: int) -> Iterator[Tensor]:
        for batch, _ in torch.utils.data.DataLoader(images, BATCH, num_workers=workers):
            yield batch

    return loaded


def rate(batches: Iterable[Tensor]) -> float:
    """Return the images per second of one pass."""
    started = time.perf_counter()
    images = sum(len(batch) for batch in batches)
    return images / (time.perf_counter() - started)


def compare(one: Pass, other: Pass, workers: int, repeats: int) -> dict[str, Any]:
    """Return the median rates of two feeds, taken in turn, and the median of the ratios of passes beside each other."""
    rates = [(rate(one(workers)), rate(other(workers))) for _ in range(repeats)]
    ltbench, torchvision_ = (statistics.median(column) for column in zip(*rates, strict=True))
    ratios = [a / b for a, b in rates]
    return {
        "workers": workers,
        "ltbench_images_per_s": round(ltbench, 1),
        "torchvision_images_per_s": round(torchvision_, 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(each, 3) for each in ratios],
    }


def worker_counts() -> list[int]:
    """Return 1, 2, 4 … and the number of cores."""
    return sorted({*(1 << i for i in range(cores().bit_length())), cores()})


def measure(folder: Path, count: int, repeats: int) -> dict[str, Any]:
    """Write the photographs and compare both feeds, with and without preprocessing."""
    write_photos(folder / "train", count)
    write_photos(folder / "test", CLASSES)
    part = Folder(path=folder, fingerprint="quick").load(folder).train
    found: dict[str, Any] = {}
    for name, encoder in {"decoded": decoded(), "preprocessed": preprocessed()}.items():
        one, other = ours(part, encoder), theirs(folder / "train", encoder)
        if not next(iter(one(1))).equal(next(iter(other(0)))):
            raise RuntimeError(f"{name}: the two feeds do not give the same images")
        found[name] = []
        for workers in worker_counts():
            found[name].append(compare(one, other, workers, repeats))
            print(name, found[name][-1], flush=True)
    return found


def main() -> int:
    """Measure, write the result, and say whether we were slower anywhere."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    today = dt.datetime.now(dt.UTC).date().isoformat()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options.images, options.repeats)
    said = {"date": today, "hardware": hardware_of("cpu"), "images": options.images, "batch": BATCH, "repeats": options.repeats}
    versions = {"torchvision": torchvision.__version__, "pillow": Image.__version__}
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"feed-{today}.json"
    path.write_text(json.dumps({**said, **versions, **found}, indent=1) + "\n", encoding="utf-8")
    slowest = min(each["ratio"] for rows in found.values() for each in rows)
    print(f"ltbench feeds at least {slowest:.2f} times as many images a second as torchvision; {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
