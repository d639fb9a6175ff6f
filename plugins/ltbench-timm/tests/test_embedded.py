"""Tests of the backbone whose weights are in the package: what they are, and that features are timm's own, without a network."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

import ltbench
from ltbench.testing import parametrize_with_checks
from ltbench_datasets.glyphs.dataset import GlyphsPretrain
from ltbench_timm import embedded
from ltbench_timm.embedded import SHA256, Embedded

FOLDER = Path(embedded.__file__).with_name(embedded.FOLDER)
WEIGHTS = FOLDER / "model.safetensors"


def bare(**changes: Any) -> nn.Module:
    """Build the model by timm's factory and the packaged weights alone."""
    config = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
    model = timm.create_model(config["architecture"], **config["model_args"])
    model.load_state_dict({name: values.float() for name, values in safetensors.torch.load_file(WEIGHTS).items()})
    if changes:
        model.reset_classifier(**changes)
    return model.eval()


def normalised(image: Tensor) -> Tensor:
    """Return an image ``[H, W, 3]`` as ``[1, 3, H, W]``, written out from the card: levels of 255, mean 0.5, deviation 0.25."""
    return ((image / 255 - 0.5) / 0.25).permute(2, 0, 1).unsqueeze(0)


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> ltbench.Part:
    """Test images of the first five characters that the model was trained on."""
    return GlyphsPretrain(classes=5, train_per_class=20).load(tmp_path_factory.mktemp("data")).test


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let any attempt to reach another machine fail the test."""
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a connection was opened"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("a name was looked up"))


@pytest.mark.slow  # the core's tests have these checks, too
@parametrize_with_checks(["embedded"])
def test_conformance(component: Any, check: Any) -> None:
    """Every rule of the contract is kept."""
    check(component)


def test_features_equal_the_bare_model(unseen: ltbench.Part, no_network: None) -> None:
    """Features are those of timm.create_model with the packaged weights, image after image; no network is asked."""
    encoder = Embedded().load("cpu")
    model = bare(num_classes=0)
    with torch.no_grad():
        expected = torch.cat([model(normalised(image)) for image in unseen.images])
    actual = encoder(torch.stack([encoder.preprocess(image) for image in unseen.images]))
    assert actual.shape == (50, Embedded().feature_dimension()) == (50, 192)
    torch.testing.assert_close(expected, actual, rtol=0, atol=2e-6 * float(expected.abs().max()))


def test_small_grey_images_are_enlarged() -> None:
    """An 8×8 grey image is enlarged to 32×32, rows first, with whole levels between, and has three equal channels."""
    grey = torch.randint(256, (8, 8, 1), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    seen = Embedded().load("cpu").preprocess(grey)
    image = grey.permute(2, 0, 1).unsqueeze(0).float().expand(1, 3, 8, 8)
    for size in ((8, 32), (32, 32)):
        image = interpolate(image, size=size, mode="bicubic", antialias=True).clamp(0, 255).round()
    torch.testing.assert_close((image[0] / 255 - 0.5) / 0.25, seen, rtol=0, atol=1.5 / 255 / 0.25)


def test_the_weights_are_trained(unseen: ltbench.Part) -> None:
    """The packaged classifier recognises test images of characters it was trained on, among 300; chance is 1 in 300."""
    with torch.no_grad():
        found = bare()(torch.cat([normalised(image) for image in unseen.images])).argmax(dim=1)
    assert float((found == unseen.labels).double().mean()) > 0.7


def test_the_file_is_small_and_whole() -> None:
    """The weights are the published ones, in half precision, under 2 MB and under a million."""
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() == SHA256
    config = hashlib.sha256((FOLDER / "config.json").read_bytes()).hexdigest()
    assert Embedded().fingerprint() == f"{config} {SHA256}"
    assert WEIGHTS.stat().st_size < 2_000_000
    tensors = safetensors.torch.load_file(WEIGHTS)
    assert {values.dtype for values in tensors.values()} == {torch.float16, torch.int64}  # counters of batches are int64
    assert sum(parameter.numel() for parameter in bare().parameters()) < 1_000_000
    assert all(bool(values.isfinite().all()) for values in tensors.values())


@pytest.mark.parametrize(
    ("damage", "told"), [(b"", "not e3b0c44298fc"), (b"x", "must have the SHA-256"), (None, "not no file")]
)
def test_damaged_weights_are_one_clear_error(
    damage: bytes | None, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is empty, altered or missing is told, with what to do."""
    shutil.copytree(FOLDER, tmp_path / "weights")
    path = tmp_path / "weights" / WEIGHTS.name
    path.unlink()
    if damage is not None:
        path.write_bytes(damage + WEIGHTS.read_bytes()[1:] if damage else b"")
    monkeypatch.setattr(embedded, "_folder", lambda: tmp_path / "weights")
    for ask in (Embedded().fingerprint, lambda: Embedded().load("cpu")):
        with pytest.raises(ltbench.UsageError, match=told) as caught:
            ask()
        assert str(caught.value).endswith(": install ltbench-timm again")


def test_the_dimension_is_planned_without_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Length follows from the configuration alone, of the last layer and of others."""
    shutil.copy(FOLDER / "config.json", tmp_path)
    monkeypatch.setattr(embedded, "_folder", lambda: tmp_path)
    assert [Embedded(layer=layer).feature_dimension() for layer in (None, 1, 2)] == [192, 64, 112]


@pytest.mark.slow
def test_the_wheel_carries_weights_and_card(tmp_path: Path) -> None:
    """What pip installs holds the folder, bit for bit."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "wheel", "--no-deps", "--no-index"]
    project = Path(__file__).parents[1]
    command = [*pip, "--no-build-isolation", "-w", str(tmp_path), str(project)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        packed = {Path(name).name: wheel.read(name) for name in wheel.namelist() if embedded.FOLDER in name}
    assert packed == {path.name: path.read_bytes() for path in FOLDER.iterdir()}
