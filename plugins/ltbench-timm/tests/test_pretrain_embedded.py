"""Tests of the script that trained the packaged weights: its schedule, its augmentation, and that it can be taken up again."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from ltbench_timm import embedded

SCRIPT = Path(__file__).parents[1] / "scripts" / "pretrain_embedded.py"
UNMOVED = [0.5, math.log(1 / 0.8) / math.log(1.35 / 0.8), 0.5, 0.5, 0.5]
AS_IT_IS = [*UNMOVED, 0.1, 0.2, 0.3, 0.9, 0.5, 0.5]


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """Import the script."""
    spec = importlib.util.spec_from_file_location("pretrain_embedded", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found  # where its dataclasses look their types up
    spec.loader.exec_module(found)
    yield found
    del sys.modules[spec.name]


def random_images(script: ModuleType, count: int) -> Any:
    """Return images of three classes."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return script.Images(pixels, torch.arange(count) % 3)


def test_the_packaged_model_is_the_scripts(script: ModuleType) -> None:
    """Architecture, arguments and preprocessing of the packaged folder are those that the script trains."""
    config = json.loads((Path(embedded.__file__).with_name(embedded.FOLDER) / "config.json").read_text(encoding="utf-8"))
    assert config["architecture"] == script.ARCHITECTURE
    assert {name: config["model_args"][name] for name in script.ARGUMENTS} == script.ARGUMENTS
    assert {name: config["pretrained_cfg"][name] for name in script.PREPROCESSING} == script.PREPROCESSING


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0, 0), (1, 0.5), (2, 1), (6, 0.5), (8, 0.5 * (1 - math.sqrt(0.5)) / 2), (9, 0)]
)
def test_the_rate_rises_falls_and_cools_down(script: ModuleType, epoch: float, expected: float) -> None:
    """Of 10 epochs the first two rise, then it falls as a cosine; of 9 that are run, the last two cool down as well."""
    schedule = script.Schedule(epochs=9, horizon=10, warmup=0.2, cooldown=2, rate=1.0)
    assert schedule.rate_at(epoch) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, lambda x: x),
        ({5: 0.9}, lambda x: x[:, [1, 2, 0]]),
        ({8: 0.1}, lambda x: -x),
        ({9: 1.0}, lambda x: 1.4 * x),
        ({10: 0.0}, lambda x: x - 0.4),
        ({3: 0.75}, lambda x: torch.cat([x[..., 1:], x[..., -1:]], dim=3)),
        ({4: 0.75}, lambda x: torch.cat([x[..., 1:, :], x[..., -1:, :]], dim=2)),
    ],
    ids=["as it is", "channels", "polarity", "contrast", "brightness", "left", "up"],
)
def test_each_draw_has_one_effect(script: ModuleType, changes: dict[int, float], expected: Any) -> None:
    """One uniform changes one thing of an image, by as much as it says, and the others nothing."""
    draws = torch.tensor([AS_IT_IS])
    for column, value in changes.items():
        draws[0, column] = value
    pixels = random_images(script, 1).pixels
    torch.testing.assert_close(expected(script.normalised(pixels)), script.augmented(pixels, draws), rtol=0, atol=1e-4)


@pytest.mark.slow
def test_a_training_taken_up_again_is_the_same_training(script: ModuleType, tmp_path: Path) -> None:
    """Two epochs at once and two with a halt between them give the same bits."""
    images = random_images(script, 24)

    def training(name: str) -> Any:
        return script.Training(script.Schedule(epochs=2, cooldown=1, batch=8), images, 3, tmp_path / name)

    whole, half = training("whole"), training("halted")
    losses = whole.run_epoch(), whole.run_epoch()
    half.run_epoch()
    half.keep()
    again = training("halted")
    assert (again.epoch, again.run_epoch()) == (1, losses[1])
    hashes = [script.write_folder(each.model, tmp_path / name) for name, each in (("a", whole), ("b", again), ("c", half))]
    assert hashes[0] == hashes[1] != hashes[2]
    with pytest.raises(SystemExit, match="of another schedule or model: delete it"):
        script.Training(script.Schedule(epochs=3), images, 3, tmp_path / "halted")
