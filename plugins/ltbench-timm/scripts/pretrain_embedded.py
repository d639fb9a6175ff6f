"""Pretrain the backbone `embedded` on glyphs-pretrain and write its folder; what is interrupted goes on where it stopped.

All draws (weights, order, augmentation) come from ltbench's streams. One machine, torch version and number of threads give
the same bits again; another machine gives other rounding, and weights that reach about the same.
"""

# ruff: noqa: INP001, T201 - a script, no module of a package

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample

import ltbench
from ltbench_datasets.glyphs.dataset import GlyphsPretrain
from ltbench_timm.weights import randomize, untouched_random_state

FOLDER = Path(__file__).parents[1] / "src" / "ltbench_timm" / "embedded_weights"

ARCHITECTURE = "resnetv2_18d"
ARGUMENTS: dict[str, Any] = {"layers": [1, 1, 1], "channels": [64, 112, 192], "stem_chs": 32}
PREPROCESSING: dict[str, Any] = {
    "input_size": [3, 32, 32],
    "crop_pct": 1.0,
    "interpolation": "bicubic",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
}


@dataclass(frozen=True)
class Schedule:
    """AdamW for so many epochs, with a rate that rises, falls slowly, and cools down.

    It rises linearly over the first ``warmup`` of ``horizon`` epochs and falls as a cosine towards the end of them; over the
    last ``cooldown`` epochs it is scaled down linearly to 0, so that a short training ends as calmly as a long one.
    """

    epochs: int = 5
    horizon: int = 12
    cooldown: int = 3
    batch: int = 128
    rate: float = 2e-3
    warmup: float = 0.05
    weight_decay: float = 0.05
    seed: int = 0
    threads: int = 1

    def rate_at(self, epoch: float) -> float:
        """Return the learning rate so many epochs after the start."""
        progress = epoch / self.horizon
        if progress < self.warmup:
            return self.rate * progress / self.warmup
        cosine = (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup))) / 2
        return self.rate * cosine * min(1, (self.epochs - epoch) / self.cooldown)


@dataclass(frozen=True)
class Images:
    """Images of one part, uint8 ``[N, 3, 32, 32]``, and their labels ``[N]``."""

    pixels: Tensor
    labels: Tensor

    @staticmethod
    def of(part: ltbench.Part) -> Images:
        """Read a part of the dataset."""
        pixels = torch.stack(list(part.images)).permute(0, 3, 1, 2).contiguous()
        return Images(pixels, part.labels)


def normalised(pixels: Tensor) -> Tensor:
    """Return levels in [0, 255] as the model takes them."""
    mean, std = PREPROCESSING["mean"][0], PREPROCESSING["std"][0]
    return pixels.float().div_(255).sub_(mean).div_(std).contiguous(memory_format=torch.channels_last)


def augmented(pixels: Tensor, draws: Tensor) -> Tensor:
    """Vary images ``[B, 3, 32, 32]`` as uniforms ``[B, 11]`` say: pose, order of the channels, polarity and contrast.

    None changes which character it is: it is turned by up to 8 degrees, scaled by 0.8 to 1.35 and by up to 10 % more along
    one axis, and shifted by up to 2 pixels; nothing is mirrored.
    """
    images = normalised(pixels)
    images = grid_sample(
        images,
        affine_grid(_poses(draws[:, :5]), list(images.shape), align_corners=False),
        padding_mode="reflection",
        align_corners=False,
    )
    order = draws[:, 5:8].argsort(dim=1)
    images = images.gather(1, order[:, :, None, None].expand_as(images))
    sign = torch.where(draws[:, 8] < 0.3, -1.0, 1.0)
    gain, shift = 0.6 + 0.8 * draws[:, 9], 0.8 * (draws[:, 10] - 0.5)
    images = images * (sign * gain)[:, None, None, None] + shift[:, None, None, None]
    return images.contiguous(memory_format=torch.channels_last)


def _poses(draws: Tensor) -> Tensor:
    """Return affine maps ``[B, 2, 3]`` from places of the new image to those of the old."""
    angle = (2 * draws[:, 0] - 1) * math.radians(8)
    scale = 0.8 * (1.35 / 0.8) ** draws[:, 1]
    stretch = 1.1 ** (draws[:, 2] - 0.5)
    shift = (2 * draws[:, 3:5] - 1) * (2 / 16)
    turned = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1).view(-1, 2, 2)
    scaled = turned / torch.stack([scale * stretch, scale / stretch], dim=1)[:, :, None]
    return torch.cat([scaled, shift[:, :, None]], dim=2)


class Training:
    """A model on its way: it can be kept after each epoch, and taken up again."""

    def __init__(self, schedule: Schedule, images: Images, classes: int, kept: Path) -> None:
        """Draw the weights, or read what was kept of the same schedule."""
        self.schedule, self.images, self.kept = schedule, images, kept
        self.stream = ltbench.Stream.of(schedule.seed, "embedded")
        with untouched_random_state():  # weights that are drawn anew keep the size of those that timm draws
            self.model = timm.create_model(ARCHITECTURE, num_classes=classes, **ARGUMENTS)
        randomize(self.model, self.stream.child("weights"))
        self.model.to(memory_format=torch.channels_last)
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": schedule.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=schedule.rate)
        self.epoch, self.seconds = 0, 0.0
        if kept.exists():
            self._take_up(torch.load(kept, weights_only=True))

    def _take_up(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        if state["schedule"] != asdict(self.schedule) or state["arguments"] != ARGUMENTS:
            raise SystemExit(f"{self.kept} is of another schedule or model: delete it, or name another folder with --out")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.seconds = state["epoch"], state["seconds"]

    def keep(self) -> None:
        """Write the state, atomically."""
        state = {"schedule": asdict(self.schedule), "arguments": ARGUMENTS, "epoch": self.epoch, "seconds": self.seconds}
        partial = self.kept.with_suffix(".part")
        torch.save({**state, "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}, partial)
        partial.replace(self.kept)

    def run_epoch(self, steps: int | None = None) -> float:
        """Train on every image once, but the last short batch, or for so many steps; return the mean loss."""
        began, total = time.monotonic(), 0.0
        drawn = self.stream.child("epoch", self.epoch)
        batches = drawn.child("order").order(torch.arange(len(self.images.labels))).split(self.schedule.batch)
        batches = [rows for rows in batches if len(rows) == self.schedule.batch][:steps]
        self.model.train()
        for i, rows in enumerate(batches):
            at = self.epoch + i / len(batches)
            total += self._step(rows, drawn.child("augmentation").uniform(rows, 11).float(), at)
            if i % 100 == 99:
                print(f"  {i + 1}/{len(batches)}: loss {total / (i + 1):.3f}, {time.monotonic() - began:.0f} s", flush=True)
        self.epoch += 1
        self.seconds += time.monotonic() - began
        return total / len(batches)

    def _step(self, rows: Tensor, draws: Tensor, epoch: float) -> float:
        """Take one step on some rows, and return their loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate_at(epoch)
        loss = cross_entropy(self.model(augmented(self.images.pixels[rows], draws)), self.images.labels[rows])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


def accuracy(model: nn.Module, images: Images) -> float:
    """Return the share of images that are recognised."""
    model.eval()
    with torch.no_grad():
        found = torch.cat([model(normalised(pixels)).argmax(dim=1) for pixels in images.pixels.split(500)])
    return float((found == images.labels).double().mean())


def rounded(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's weights in half precision; counters of batches, which nothing reads, are 0."""
    values = {name: each.half() if each.is_floating_point() else each * 0 for name, each in model.state_dict().items()}
    return {name: each.contiguous() for name, each in values.items()}


def write_folder(model: Any, folder: Path) -> str:
    """Write a model as timm does for the hub, weights in half precision; return the SHA-256 of the weights' file."""
    model.to(memory_format=torch.contiguous_format)
    timm.models.save_for_hf(model, folder, model_args=ARGUMENTS, safe_serialization=True)
    weights = folder / "model.safetensors"
    safetensors.torch.save_file(rounded(model), weights)
    weights.chmod(0o644)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kept = {name: config["pretrained_cfg"][name] for name in ("classifier", "crop_mode", "first_conv", "num_classes")}
    config["pretrained_cfg"] = {**kept, **PREPROCESSING, "license": "apache-2.0", "pool_size": [2, 2]}
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return hashlib.sha256(weights.read_bytes()).hexdigest()


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("runs/embedded"), help="where glyphs-pretrain is drawn")
    parser.add_argument("--out", type=Path, default=Path("runs/embedded"), help="where the state is kept")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the weights go")
    parser.add_argument("--epochs", type=int, default=Schedule.epochs)
    parser.add_argument("--steps", type=int, help="at most so many steps an epoch, to see whether two runs are equal")
    return parser.parse_args()


def main() -> None:
    """Train, write the folder, and print what is reached on images that were not trained on."""
    asked = arguments()
    schedule = Schedule(epochs=asked.epochs)
    torch.set_num_threads(schedule.threads)
    asked.out.mkdir(parents=True, exist_ok=True)
    data = GlyphsPretrain().load(asked.data)
    assert data.validation is not None
    training = Training(schedule, Images.of(data.train), len(data.class_names), asked.out / "state.pt")
    validation, test = Images.of(data.validation), Images.of(data.test)
    while training.epoch < schedule.epochs:
        loss = training.run_epoch(asked.steps)
        training.keep()
        reached = accuracy(training.model, validation)
        print(f"epoch {training.epoch}: loss {loss:.3f}, validation {reached:.4f}, {training.seconds:.0f} s", flush=True)
    sha256 = write_folder(training.model, asked.folder)
    training.model.load_state_dict({name: each.float() for name, each in rounded(training.model).items()})
    print(f"sha256 {sha256}; test {accuracy(training.model, test):.4f} in {training.seconds:.0f} s")


if __name__ == "__main__":
    main()
