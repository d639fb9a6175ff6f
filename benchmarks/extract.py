"""How fast features are extracted, beside the bare model's forward loop on the same tensors, device, batch and precision.

    python benchmarks/extract.py                                                    # minutes on two idle cores
    python benchmarks/extract.py --device cuda --images 8192 --repeats 5

Three questions. *Bare*: images ready as tensors; the loop ``model(batch)`` under torch's own threads against ltbench's
extraction into its store, in turn: the ratio is what the harness leaves of the model's speed. *Fed*: JPEG files decoded
and preprocessed on the way, with 1, 2, … threads, as a share of the bare rate. *Growth*: rate and peak memory from 1,000
to 50,000 images made on the spot, through a model that costs almost nothing, so that everything seen is the harness.
Models are timm's, with random weights. On CUDA, the share of the bfloat16 peak is that of a product of 8192×8192 matrices
in the same run. Best quoted as ratios, from an otherwise idle machine. Needs timm, torchvision and ltbench-datasets. Writes
``results/extract-<device>-<date>.json`` beside this file.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import Any

import feed as jpeg
import timm
import torch
from torch import Tensor, nn

from ltbench.execute.meters import peak_bytes
from ltbench.features import Extraction, FeatureStore, Origin
from ltbench.features.extraction import CPU_BATCH, CUDA_BATCH
from ltbench.hardware import cores, hardware_of
from ltbench.types import Dataset, Part
from ltbench_datasets.folder import Folder

MODELS = ("resnet18", "vit_small_patch16_224")
GROWTH = (1_000, 10_000, 50_000)
PEAK_SIZE = 8192


@dataclass(frozen=True)
class Model:
    """A model as an encoder; images are ready, or uint8 ``[H, W, 3]`` that are preprocessed."""

    model: nn.Module
    dtype: torch.dtype
    preprocess: Callable[[Tensor], Tensor]
    fingerprint: str = "benchmark"
    flops_per_image: int = 0

    def __call__(self, batch: Tensor) -> Tensor:
        """Encode a batch."""
        out: Tensor = self.model(batch.to(self.dtype))
        return out


@dataclass(frozen=True)
class Ready(Model):
    """Images that need no preprocessing."""

    def preprocess_batch(self, images: Tensor) -> Tensor:
        """Return the images."""
        return images


@dataclass(frozen=True)
class Drawn(Sequence[Tensor]):
    """Numbered images 224×224 that are made when they are asked for, of one colour each."""

    numbers: range

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.numbers)

    def __getitem__(self, i: Any) -> Any:
        """Return image i, float32, or fewer images."""
        return Drawn(self.numbers[i]) if isinstance(i, slice) else torch.full((3, 224, 224), (self.numbers[i] % 251) / 251)


def unchanged(image: Tensor) -> Tensor:
    """Return an image that is ready."""
    return image


class Mean(nn.Module):
    """A model that costs almost nothing: the mean colour, 256 times."""

    def forward(self, batch: Tensor) -> Tensor:
        """Return ``[B, 768]``."""
        return batch.mean(dim=(2, 3)).repeat(1, 256)


def dataset(images: Any, name: str, test: int) -> Dataset:
    """Return a dataset of these images, the last ``test`` of them in its test part."""
    parts = [Part(torch.zeros(len(x)).long(), x) for x in (images[:-test], images[-test:])]
    return Dataset(parts[0], parts[1], ("a",), name)


def extraction_rate(extraction: Extraction) -> float:
    """Return the images per second of one extraction into a store that is new."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        FeatureStore(Path(folder)).extracted(extraction, Origin("benchmark", "benchmark", {}, {}))
        seconds = time.perf_counter() - started
    return sum(len(shard) for shard in extraction.shards()) / seconds


def bare_rate(encoder: Model, images: Tensor, batch: int, device: str) -> float:
    """Return the images per second of the model's forward loop, features on the CPU at the end."""
    started = time.perf_counter()
    with torch.no_grad():
        rows = [encoder(part.to(device, non_blocking=True)).float() for part in images.split(batch)]
        torch.cat(rows).cpu()
    return len(images) / (time.perf_counter() - started)


def bare(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Compare extraction from ready tensors with the bare loop, in turn."""
    encoder, images = built(name, options.device, Ready, unchanged), torch.rand(options.images, 3, 224, 224)
    batch = default_batch(options.device)
    images = images.pin_memory() if options.device.startswith("cuda") else images
    bare_rate(encoder, images[: 2 * batch], batch, options.device)
    rates = []
    for _ in range(options.repeats):
        extracted = extraction_rate(Extraction(dataset(images, name, batch), encoder, options.device))
        rates.append((extracted, bare_rate(encoder, images, batch, options.device)))
    ours, theirs = (statistics.median(column) for column in zip(*rates, strict=True))
    found = {"model": name, "batch": batch, "images": options.images, "ltbench_images_per_s": round(ours, 2)}
    ratios = {
        "bare_images_per_s": round(theirs, 2),
        "ratio": round(ours / theirs, 3),
        "ratios": [round(a / b, 3) for a, b in rates],
    }
    return {**found, **ratios, **_peak_share(encoder, ours, options)}


def _peak_share(encoder: Model, rate: float, options: argparse.Namespace) -> dict[str, float]:
    """Return which share of the device's bfloat16 peak an extraction reaches; nothing on the CPU."""
    if not options.device.startswith("cuda"):
        return {}
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder(torch.zeros(1, 3, 224, 224, device=options.device))
    a = torch.randn(PEAK_SIZE, PEAK_SIZE, device=options.device, dtype=torch.bfloat16)
    for _ in range(3):
        a @ a
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(20):
        a @ a
    torch.cuda.synchronize()
    peak = 20 * 2 * PEAK_SIZE**3 / (time.perf_counter() - started)
    return {"bfloat16_peak_tflops": round(peak / 1e12, 1), "peak_share": round(rate * counter.get_total_flops() / peak, 3)}


def fed(name: str, folder: Path, bare_images_per_s: float, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Extract from JPEG files with 1, 2, … threads."""
    encoder = built(name, options.device, Model, jpeg.preprocessed().preprocess)
    images = Folder(path=folder, fingerprint="quick").load(folder).train.images
    data = dataset(images, name, default_batch(options.device))
    found = []
    for threads in (n for n in (1, 2, 4, 8, 16, 32) if n <= cores()):
        rate = statistics.median(
            extraction_rate(Extraction(data, encoder, options.device, threads=threads)) for _ in range(options.repeats)
        )
        share = round(rate / bare_images_per_s, 3)
        found.append({"model": name, "threads": threads, "images_per_s": round(rate, 2), "share_of_bare": share})
        print("fed", found[-1], flush=True)
    return found


def growth(count: int, queue: Any) -> None:
    """Extract so many images in a process of its own; tell the rate and the peak memory beyond the start."""
    torch.set_num_threads(1)
    data = dataset(Drawn(range(count)), "drawn", 32)
    rates: list[float] = []
    peak = peak_bytes("cpu", lambda: rates.append(extraction_rate(Extraction(data, Model(Mean(), torch.float32, unchanged)))))
    features = 4 * 768 * count / 2**20
    said = {"images": count, "images_per_s": round(rates[-1], 1) if rates else None, "features_mib": round(features, 1)}
    queue.put({**said, "peak_mib": None if peak is None else round(peak / 2**20, 1)})


def default_batch(device: str) -> int:
    """Return how many images ltbench encodes together where nobody says otherwise."""
    return CUDA_BATCH if device.startswith("cuda") else CPU_BATCH


def grown(counts: Sequence[int]) -> list[dict[str, Any]]:
    """Return rate and peak memory by the number of images."""
    start = multiprocessing.get_context("spawn")
    found = []
    for count in counts:
        queue = start.Queue()
        process = start.Process(target=growth, args=(count, queue))
        process.start()
        found.append(told_by(process, queue))
        process.join()
        print("growth", found[-1], flush=True)
    return found


def told_by(process: Any, queue: Any) -> Any:
    """Return what a process puts into a queue; raise RuntimeError where it ends without a word."""
    while True:
        gone = not process.is_alive()  # asked before looking, so that a last word is not missed
        with contextlib.suppress(Empty):
            return queue.get(timeout=1)
        if gone:
            raise RuntimeError(f"the process that was to extract ended with exit code {process.exitcode}, see above")


def built(name: str, device: str, kind: type[Model], preprocess: Callable[[Tensor], Tensor]) -> Model:
    """Return a model with random weights: float32 on the CPU, bfloat16 on CUDA, channels last."""
    torch.manual_seed(0)
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    model = timm.create_model(name, pretrained=False, num_classes=0).eval().requires_grad_(requires_grad=False)
    return kind(model.to(device, dtype).to(memory_format=torch.channels_last), dtype, preprocess)


def main() -> int:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=192, help="images of a pass; the batch on the CPU is 32, on CUDA 256")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=MODELS, help="names of timm's")
    parser.add_argument("--growth", nargs="+", type=int, default=GROWTH, help="numbers of images, from a thousand on")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    today = dt.datetime.now(dt.UTC).date().isoformat()
    found: dict[str, Any] = {"bare": [], "fed": []}
    with tempfile.TemporaryDirectory() as folder:
        jpeg.write_photos(Path(folder) / "train", options.images)
        jpeg.write_photos(Path(folder) / "test", jpeg.CLASSES)
        for name in options.models:
            found["bare"].append(bare(name, options))
            print("bare", found["bare"][-1], flush=True)
            found["fed"] += fed(name, Path(folder), found["bare"][-1]["bare_images_per_s"], options)
    found["growth"] = grown(options.growth)
    said = {"date": today, "hardware": hardware_of(options.device), "timm": timm.__version__, "repeats": options.repeats}
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"extract-{options.device.partition(':')[0]}-{today}.json"
    path.write_text(json.dumps({**said, **found}, indent=1) + "\n", encoding="utf-8")
    ratio = min(each["ratio"] for each in found["bare"])
    print(f"extraction reaches at least {ratio:.2f} of the bare model's rate; {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
