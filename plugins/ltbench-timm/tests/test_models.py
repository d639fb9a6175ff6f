"""Tests of the timm backbone against timm itself, in a plain loop; models come from a loopback hub, in the true format."""

from __future__ import annotations

import argparse
import json
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import timm.data
import torch
from PIL import Image
from torch import Tensor, nn

import ltbench
from ltbench.testing import parametrize_with_checks
from ltbench_timm.backbone import Packaged, Reading, Timm
from ltbench_timm.weights import read_weights

SMALL_VIT = {"depth": 2, "embed_dim": 32, "num_heads": 2, "img_size": 32, "patch_size": 8}
TINY: dict[str, tuple[str, dict[str, Any]]] = {
    "ViT": ("vit_base_patch16_224", SMALL_VIT),
    "DINOv2 (registers)": ("vit_small_patch14_reg4_dinov2", {**SMALL_VIT, "patch_size": 7, "img_size": 28}),
    "SigLIP (attention pooling)": ("vit_base_patch16_siglip_224", SMALL_VIT),
    "EVA": ("eva02_tiny_patch14_224", {**SMALL_VIT, "patch_size": 7, "img_size": 28}),
    "ConvNeXt": ("convnext_atto", {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}),
    "ResNet": ("resnet18", {"layers": (1, 1, 1, 1), "channels": (8, 16, 24, 32)}),
    "Swin": (
        "swin_tiny_patch4_window7_224",
        {"embed_dim": 16, "depths": (1, 1), "num_heads": (2, 4), "img_size": 32, "window_size": 4},
    ),
    "MobileNet (hidden layer in the head)": ("test_efficientnet", {}),
}


def tiny(kind: str, folder: Path, seed: int = 0, **config: Any) -> Path:
    """Write a small model of a kind with random weights, as timm saves models for the hub, and return its folder."""
    architecture, arguments = TINY[kind]
    generator = torch.Generator().manual_seed(seed)
    model = timm.create_model(architecture, num_classes=7, **arguments)
    for values in model.state_dict().values():
        if values.is_floating_point():  # products keep their size, scales and variances are near one
            draws = torch.randn(values.shape, generator=generator)
            values.copy_(draws * values[0].numel() ** -0.5 if values.ndim > 1 else 1 + 0.1 * draws)
    folder.mkdir(parents=True)
    size = arguments.get("img_size", 48)
    data = {"input_size": (3, size, size), "crop_pct": 0.9, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4), **config}
    save(model, folder, arguments, data)
    return folder


def save(model: nn.Module, folder: Path, arguments: dict[str, Any], data: dict[str, Any]) -> None:
    """Save a model as timm does for the hub, with preprocessing of its own."""
    timm.models.save_for_hf(model, folder, model_args=arguments, safe_serialization=True)
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"] |= data
    (folder / "config.json").write_text(json.dumps(config))


def images(count: int = 3, channels: int = 3) -> list[Tensor]:
    """Return random uint8 images of different sizes and brightness, higher than wide."""
    generator = torch.Generator().manual_seed(1)
    sizes = [(40 + i, 36, channels) for i in range(count)]
    return [torch.randint(256 // (i + 1), size, generator=generator, dtype=torch.uint8) for i, size in enumerate(sizes)]


def encoded(component: Reading, batch: list[Tensor]) -> Tensor:
    """Encode images as ltbench does."""
    encoder = component.load("cpu")
    return encoder(torch.stack([encoder.preprocess(image) for image in batch]))


def bare(
    name: str, batch: list[Tensor], read: Callable[[Any, Tensor], Tensor] = lambda model, x: model(x), **args: Any
) -> Tensor:
    """Encode images by timm alone, one after the other, with its own transform."""
    model = timm.create_model(name, pretrained=True, num_classes=0, **args).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    with torch.no_grad():
        return torch.cat([read(model, transform(Image.fromarray(image.numpy())).unsqueeze(0)) for image in batch])


def close(expected: Tensor, actual: Tensor) -> None:
    """Require equality to float32 rounding: within 2e-6 of the largest number."""
    torch.testing.assert_close(expected, actual, rtol=0, atol=2e-6 * float(expected.abs().max()))


@parametrize_with_checks(["timm:test_vit[pretrained=false]"])
def test_conformance(component: Any, check: Any) -> None:
    """Every rule of the contract is kept."""
    check(component)


@pytest.mark.parametrize("kind", TINY)
def test_features_equal_the_bare_model(kind: str, hub: Any, tmp_path: Path) -> None:
    """A hub model's features are those of timm.create_model with its own transform in a plain loop; its length is planned."""
    hub.commit_folder("lab/tiny", tiny(kind, tmp_path / "tiny"))
    component = Timm(name="hf-hub:lab/tiny")
    assert component.feature_dimension() is None  # not fetched yet
    actual = encoded(component, images())
    close(bare("hf-hub:lab/tiny", images()), actual)
    assert component.feature_dimension() == actual.shape[1]
    assert float(actual.std(dim=0).max()) > 1e-3 * float(actual.abs().max())  # images differ far more than rounding does


@pytest.mark.parametrize(
    ("kind", "pool"),
    [
        *[("ViT", pool) for pool in ("avg", "max", "token", "token+avg")],
        *[("EVA", "token"), ("EVA", "token+avg"), ("DINOv2 (registers)", "avg"), ("DINOv2 (registers)", "token+avg")],
        *[("SigLIP (attention pooling)", "avg"), ("ConvNeXt", "max"), ("Swin", "max"), ("ResNet", "max")],
    ],
)
def test_pooling_equals_the_bare_models_tokens(kind: str, pool: Any, hub: Any, tmp_path: Path) -> None:
    """Pools are those of the last tokens or map of the bare model; their length is planned."""
    hub.commit_folder("lab/tiny", tiny(kind, tmp_path / "tiny"))

    def read(model: Any, x: Tensor) -> Tensor:
        found = model.forward_features(x)
        if found.ndim == 4:  # a map, its channels first or, of Swin, last
            places = found.flatten(1, 2) if kind == "Swin" else found.flatten(2).transpose(1, 2)
            largest = places.amax(dim=1)
            return model.head.norm(largest[..., None, None]).flatten(1) if kind == "ConvNeXt" else largest
        places, token = found[:, model.num_prefix_tokens :], found[:, 0]
        if pool == "token+avg":
            return torch.cat([token, places.mean(dim=1)], dim=1)
        return model.fc_norm({"avg": places.mean(dim=1), "max": places.amax(dim=1), "token": token}[pool])

    component = Timm(name="hf-hub:lab/tiny", pool=pool)
    actual = encoded(component, images())
    close(bare("hf-hub:lab/tiny", images(), read), actual)
    assert component.feature_dimension() == actual.shape[1]


@pytest.mark.parametrize(
    ("kind", "layer", "pool"),
    [
        *[("ViT", 0, None), ("ViT", -1, "avg"), ("ViT", 1, "max"), ("EVA", 1, None)],
        *[("ConvNeXt", 2, None), ("ConvNeXt", 0, "max"), ("ResNet", 1, None), ("Swin", 0, None)],
    ],
)
def test_layers_equal_the_bare_models_intermediates(kind: str, layer: int, pool: Any, hub: Any, tmp_path: Path) -> None:
    """A layer is forward_intermediates' map, pooled; of tokens, the class token where the model pools by it."""
    hub.commit_folder("lab/tiny", tiny(kind, tmp_path / "tiny"))

    def read(model: Any, x: Tensor) -> Tensor:
        tokens = kind in ("ViT", "EVA")
        more = {"return_prefix_tokens": True} if tokens else {}
        (found,) = model.forward_intermediates(x, indices=[layer], norm=tokens, intermediates_only=True, **more)
        found, prefix = found if tokens else (found, None)
        if kind == "ViT" and pool is None:
            return prefix[:, 0]
        return found.amax(dim=(2, 3)) if pool == "max" else found.mean(dim=(2, 3))

    component = Timm(name="hf-hub:lab/tiny", layer=layer, pool=pool)
    actual = encoded(component, images())
    close(bare("hf-hub:lab/tiny", images(), read), actual)
    assert component.feature_dimension() == actual.shape[1]


@pytest.mark.parametrize(("kind", "size"), [("ViT", 48), ("DINOv2 (registers)", 56), ("EVA", 56), ("Swin", 64), ("ResNet", 80)])
def test_images_of_another_size_equal_the_bare_models(kind: str, size: int, hub: Any, tmp_path: Path) -> None:
    """image_size resizes to it and interpolates position codes, as timm's img_size does; it is another model, by its cost."""
    hub.commit_folder("lab/tiny", tiny(kind, tmp_path / "tiny"))
    component, usual = Timm(name="hf-hub:lab/tiny", image_size=size), Timm(name="hf-hub:lab/tiny")
    built = {} if kind == "ResNet" else {"img_size": size}
    model = timm.create_model("hf-hub:lab/tiny", pretrained=True, num_classes=0, **built).eval()
    config = timm.data.resolve_data_config({"img_size": size}, model=model)
    transform = timm.data.create_transform(**config, is_training=False)
    with torch.no_grad():
        expected = torch.cat([model(transform(Image.fromarray(image.numpy())).unsqueeze(0)) for image in images()])
    close(expected, encoded(component, images()))
    assert component.feature_dimension() == expected.shape[1]
    assert component.load("cpu").flops_per_image > 1.5 * usual.load("cpu").flops_per_image
    assert component.load("cpu").fingerprint != usual.load("cpu").fingerprint


def test_the_last_layer_of_a_vit_is_its_feature(hub: Any, tmp_path: Path) -> None:
    """layer=-1 and no layer are one thing where the class token is read."""
    hub.commit_folder("lab/tiny", tiny("ViT", tmp_path / "tiny"))
    close(encoded(Timm(name="hf-hub:lab/tiny"), images()), encoded(Timm(name="hf-hub:lab/tiny", layer=-1), images()))


def test_a_registered_tag_is_fetched_from_the_hub(hub: Any, tmp_path: Path) -> None:
    """Timm's own name with a tag leads to timm's repository, offline once fetched."""
    model = timm.create_model("test_vit")
    timm.models.save_for_hf(model, tmp_path / "vit", safe_serialization=True)
    hub.commit_folder("timm/test_vit.r160_in1k", tmp_path / "vit")
    component = Timm(name="test_vit.r160_in1k")
    expected = bare("test_vit.r160_in1k", images())
    close(expected, encoded(component, images()))
    hub.stop()
    hub.stop = lambda: None
    close(expected, encoded(component, images()))
    assert component.load("cpu").fingerprint == Timm(name="test_vit").load("cpu").fingerprint  # the default tag


def test_pickled_weights_of_the_hub_are_read_without_running_code(hub: Any, tmp_path: Path) -> None:
    """pytorch_model.bin is taken where there is no safetensors file, and refused where it carries code."""
    folder = tiny("ViT", tmp_path / "tiny")
    expected = safetensors.torch.load_file(folder / "model.safetensors")
    files = {"config.json": (folder / "config.json").read_bytes()}
    torch.save(expected, tmp_path / "weights")
    hub.commit("lab/tiny", {**files, "pytorch_model.bin": (tmp_path / "weights").read_bytes()})
    encoded(Timm(name="hf-hub:lab/tiny"), images())
    torch.save({**expected, "extra": Payload(tmp_path / "ran")}, tmp_path / "weights")
    hub.commit("lab/evil", {**files, "pytorch_model.bin": (tmp_path / "weights").read_bytes()})
    with pytest.raises(ltbench.UsageError, match="could run code: it is refused"):
        Timm(name="hf-hub:lab/evil").load("cpu")
    assert not (tmp_path / "ran").exists()


def test_a_revision_is_a_model_of_its_own(hub: Any, tmp_path: Path) -> None:
    """user/model@revision takes that revision's weights, whatever is pushed to the main branch."""
    old = hub.commit_folder("lab/tiny", tiny("ViT", tmp_path / "old"), "v1")
    hub.commit_folder("lab/tiny", tiny("ViT", tmp_path / "new", seed=1))
    by_tag, by_commit, newest = (Timm(name=f"hf-hub:lab/tiny{at}").load("cpu").fingerprint for at in ("@v1", f"@{old}", ""))
    assert by_tag == by_commit != newest


class Payload:
    """An object whose unpickling writes a file."""

    def __init__(self, path: Path) -> None:
        """Remember the file."""
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        """Say what unpickling should call."""
        return Path.write_text, (self.path, "ran")


def checkpoint(form: str, path: Path, weights: dict[str, Tensor]) -> Path:
    """Write weights in one of the forms that are found in the wild."""
    torch.save(
        {
            "plain": weights,
            "nested": {"epoch": 3, "state_dict": weights, "optimizer": {"lr": 0.1}, "args": argparse.Namespace(lr=0.1)},
            "averaged": {"state_dict": {k: v + 1 for k, v in weights.items()}, "state_dict_ema": weights},
            "wrapped": {"model": {f"module._orig_mod.{k}": v for k, v in weights.items()}},
            "headless": {k: v for k, v in weights.items() if not k.startswith("head.")},
            "other classes": {k: v[:5] if k.startswith("head.") else v for k, v in weights.items()},
        }[form],
        path,
    )
    return path


@pytest.mark.parametrize("form", ["plain", "nested", "averaged", "wrapped", "headless", "other classes"])
def test_a_checkpoint_gives_the_features_of_its_weights(form: str, tmp_path: Path) -> None:
    """PyTorch's format with the weights plain, nested, averaged, wrapped, without a classifier or with another one."""
    model = timm.create_model("test_vit").eval()
    path = checkpoint(form, tmp_path / "weights.pth", model.state_dict())
    safe = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(model.state_dict(), safe)
    encoders = [Timm(name="test_vit", checkpoint=each).load("cpu") for each in (path, safe)]
    assert encoders[0].fingerprint == encoders[1].fingerprint
    batch = torch.stack([encoders[0].preprocess(image) for image in images()])
    with torch.no_grad():
        close(model.forward_head(model.forward_features(batch), pre_logits=True), encoders[0](batch))


def test_a_checkpoint_that_carries_code_is_refused_and_not_run(tmp_path: Path) -> None:
    """What unpickling would call is not called."""
    path = tmp_path / "evil.pth"
    torch.save({"state_dict": {}, "payload": Payload(tmp_path / "ran")}, path)
    with pytest.raises(
        ltbench.UsageError, match=r"evil.pth holds more than tensors.* save the model's state_dict\(\) in safetensors"
    ):
        Timm(name="test_vit", checkpoint=path).load("cpu")
    path.write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    with pytest.raises(ltbench.UsageError, match=r"evil\.pth"):
        Timm(name="test_vit", checkpoint=path).load("cpu")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.safetensors", b"not weights", "cannot be read; it is damaged or of another format"),
        ("a.pth", b"not weights", "a.pth"),
        ("a.pth", b"", "cannot be read"),
    ],
)
def test_a_damaged_checkpoint_is_one_clear_error(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    """A file of another format is told, not traced back."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ltbench.UsageError, match=message):
        Timm(name="test_vit", checkpoint=tmp_path / name).load("cpu")


def test_weights_must_fit_to_the_last_tensor(tmp_path: Path) -> None:
    """A tensor that is missing, of another shape or of another model is refused, not replaced by random numbers."""
    weights = timm.create_model("test_vit").state_dict()
    missing = {k: v for k, v in weights.items() if k != "blocks.3.attn.qkv.weight"}
    wider = {**weights, "norm.weight": torch.ones(65)}
    for wrong, named in (
        (missing, "blocks.3.attn.qkv.weight"),
        (wider, "norm.weight"),
        ({"conv1.weight": torch.ones(3)}, "cls_token"),
    ):
        torch.save(wrong, tmp_path / "wrong.pth")
        with pytest.raises(ltbench.UsageError, match=rf"timm cannot build 'test_vit' as it is told to: .*{named}"):
            Timm(name="test_vit", checkpoint=tmp_path / "wrong.pth").load("cpu")


def test_weights_without_names_are_refused(tmp_path: Path) -> None:
    """A list of tensors is no state_dict."""
    torch.save([torch.ones(2)], tmp_path / "list.pth")
    with pytest.raises(ltbench.UsageError, match="holds no tensors by name"):
        read_weights(tmp_path / "list.pth")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "vit_base_patch16_225"}, "timm has no model 'vit_base_patch16_225' .did you mean 'vit_base_patch16_224'"),
        ({"name": "qqqqqq"}, r"timm has no model 'qqqqqq': timm.list_models\(\) names all"),
        ({"name": "test_vit.in22k"}, "timm's 'test_vit' has no weights 'in22k'; it has r160_in1k"),
        ({"name": "cs3darknet_s"}, "timm has no weights for 'cs3darknet_s'"),
        ({"name": "lab/tiny"}, "'lab/tiny' must be a name of timm's or hf-hub:user/model"),
        ({"name": "local-dir:folder"}, "checkpoint=file.safetensors"),
        ({"name": "hf-hub:tiny"}, "a hub model is named user/model"),
        ({"name": "test_vit", "checkpoint": Path("none.pth")}, "checkpoint none.pth must be a file"),
        ({"name": "hf-hub:a/b", "checkpoint": Path("none.pth")}, "not with a hub id"),
        ({"name": "test_vit", "checkpoint": Path("none.pth"), "pretrained": False}, "or pretrained=false"),
    ],
)
def test_mistakes_are_found_while_planning(arguments: dict[str, Any], message: str) -> None:
    """Building the component is enough to hear of a wrong name, tag or file, with what comes closest."""
    with pytest.raises(ltbench.UsageError, match=message):
        Timm(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "test_vit", "layer": 6}, r"layer=6 cannot be read: feature index 6 is out of range \(0 to 5\)"),
        ({"name": "test_resnet", "pool": "token"}, "without a class token, not token"),
    ],
)
def test_what_a_model_does_not_have_is_one_clear_error(arguments: dict[str, Any], message: str) -> None:
    """Layers and class tokens that are not there."""
    component = Timm(**arguments, pretrained=False)
    for mistaken in (lambda: component.load("cpu"), component.feature_dimension):
        with pytest.raises(ltbench.UsageError, match=message):
            mistaken()


def test_a_model_without_a_head_is_one_clear_error() -> None:
    """An encoder of tokens alone has no pooled features."""
    component = Timm(name="mobilenetv5_300m_enc", pretrained=False)
    with pytest.raises(ltbench.UsageError, match="has no pooled features: name a layer="):
        component.feature_dimension()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (b'{"model_type": "bert"}', "hf-hub:lab/other has no config.json that names an architecture of timm"),
        (
            b'{"architecture": "vit_of_tomorrow"}',
            "hf-hub:lab/other has the architecture 'vit_of_tomorrow', which timm .* does not know",
        ),
        (b"{", "hf-hub:lab/other has no config.json that names"),
        (b"[1]", "hf-hub:lab/other has no config.json that names"),
        (b'{"architecture": ["test_vit"]}', "architecture in config.json of hf-hub:lab/other must be a name, not .'test_vit'"),
        (b'{"architecture": "test_vit", "pretrained_cfg": "x"}', "pretrained_cfg in config.json of hf-hub:lab/other must be a"),
        (
            b'{"architecture": "test_vit", "model_args": [6]}',
            "model_args in config.json of hf-hub:lab/other must be a JSON obj",
        ),
        (
            b'{"architecture": "test_vit", "pretrained_cfg": {"mean": "grey"}}',
            "pretrained_cfg of the model, in its config.json",
        ),
        (b'{"architecture": "test_vit", "pretrained_cfg": {"input_size": 5}}', "hf-hub:lab/other|pretrained_cfg of the model"),
        (
            b'{"architecture": "test_vit", "model_args": {"depth": "six"}}',
            "timm cannot build 'hf-hub:lab/other' as it is told to",
        ),
    ],
)
def test_a_hub_repository_of_another_library_is_one_clear_error(config: bytes, message: str, hub: Any) -> None:
    """A configuration that is not timm's, is of a newer timm, or cannot be built."""
    hub.commit("lab/other", {"config.json": config})
    with pytest.raises(ltbench.UsageError, match=message):
        Timm(name="hf-hub:lab/other", pretrained=False).load("cpu")


def variants(tmp_path: Path) -> dict[str, Reading]:
    """Return components that must differ in their fingerprint, one part changed in turn; all of the same images."""
    weights, others = timm.create_model("test_vit").state_dict(), timm.create_model("test_vit").state_dict()
    others["norm.weight"] = others["norm.weight"] + 2**-20
    paths = {name: tmp_path / f"{name}.safetensors" for name in ("a", "b")}
    safetensors.torch.save_file(weights, paths["a"])
    safetensors.torch.save_file({**weights, "norm.weight": others["norm.weight"]}, paths["b"])
    base = {"name": "test_vit", "checkpoint": paths["a"]}
    changes: dict[str, dict[str, Any]] = {
        "base": {},
        "one weight": {"checkpoint": paths["b"]},
        "pool": {"pool": "avg"},
        "layer": {"layer": 3},
        "dtype": {"dtype": "bfloat16"},
        "channels_last": {"channels_last": True},
    }
    return {name: Timm(**{**base, **change}) for name, change in changes.items()}


def test_every_part_of_a_feature_is_in_the_fingerprint(tmp_path: Path) -> None:
    """Weights, pooling, layer, precision and layout each make another fingerprint; loading again does not."""
    found = {name: component.load("cpu").fingerprint for name, component in variants(tmp_path).items()}
    assert len(set(found.values())) == len(found)
    assert variants(tmp_path)["base"].load("cpu").fingerprint != ""


def test_preprocessing_and_arguments_are_in_the_fingerprint(hub: Any, tmp_path: Path) -> None:
    """The same weights under another mean, crop, interpolation or dropout of a hub configuration are another model."""
    found = []
    for i, config in enumerate([{}, {}, {"mean": (0.1, 0.5, 0.6)}, {"crop_pct": 0.8}, {"interpolation": "bilinear"}]):
        hub.commit_folder("lab/tiny", tiny("ViT", tmp_path / str(i), **config))
        found.append(Timm(name="hf-hub:lab/tiny").load("cpu").fingerprint)
    assert found[0] == found[1]
    assert len(set(found[1:])) == 4


def test_the_place_of_a_checkpoint_is_not_in_the_fingerprint(tmp_path: Path) -> None:
    """A copy elsewhere, or the same weights in another format, are the same model."""
    weights = timm.create_model("test_vit").state_dict()
    safetensors.torch.save_file(weights, tmp_path / "a.safetensors")
    torch.save({"model": weights}, tmp_path / "b.pt")
    a, b = (Timm(name="test_vit", checkpoint=tmp_path / name).load("cpu").fingerprint for name in ("a.safetensors", "b.pt"))
    assert a == b


def test_weights_are_named_without_building_a_model(hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By content: other weights or preprocessing have another name, copies the same; random weights have none."""
    folders = [tiny("ViT", tmp_path / "a"), tiny("ViT", tmp_path / "b", seed=1), tiny("ViT", tmp_path / "c", crop_pct=0.8)]
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("a model was built"))
    hub.commit_folder("lab/tiny", folders[0], "v1")
    names = []
    for folder in (*folders, folders[0]):
        hub.commit_folder("lab/tiny", folder)
        names.append(Timm(name="hf-hub:lab/tiny").fingerprint())
    assert len(set(names)) == 3
    assert names[0] == names[3] == Timm(name="hf-hub:lab/tiny@v1").fingerprint()
    hub.stop()
    hub.stop = lambda: None
    assert Timm(name="hf-hub:lab/tiny").fingerprint() == names[0]
    files = [folder / "model.safetensors" for folder in folders]
    named = [Timm(name="vit_base_patch16_224", checkpoint=file).fingerprint() for file in files]
    assert named[0] == named[2] != named[1]
    assert Timm(name="test_vit", pretrained=False).fingerprint() is None


def test_grey_images_are_read_as_rgb(hub: Any, tmp_path: Path) -> None:
    """One channel stands for three equal ones."""
    hub.commit_folder("lab/tiny", tiny("ViT", tmp_path / "tiny"))
    component, grey = Timm(name="hf-hub:lab/tiny"), images(channels=1)
    assert torch.equal(encoded(component, grey), encoded(component, [image.expand(-1, -1, 3) for image in grey]))


def test_a_model_of_one_channel_reads_rgb_as_grey(hub: Any, tmp_path: Path) -> None:
    """Three channels become their luma for a model of grey images."""
    model = timm.create_model("test_vit", in_chans=1)
    save(model, tmp_path / "grey", {"in_chans": 1}, {"mean": (0.5,), "std": (0.5,), "input_size": (1, 160, 160)})
    hub.commit_folder("lab/grey", tmp_path / "grey")
    encoder = Timm(name="hf-hub:lab/grey").load("cpu")
    (image,) = images(1)
    grey = torch.tensor([[Image.fromarray(image.numpy()).convert("L").getpixel((x, y)) for x in range(36)] for y in range(40)])
    assert torch.equal(encoder.preprocess(image), encoder.preprocess(grey.to(torch.uint8).unsqueeze(2)))


@pytest.mark.parametrize("wrong", [torch.zeros(64), torch.zeros(8, 8, 4, dtype=torch.uint8), torch.zeros(8, 8, 3)])
def test_what_is_no_image_is_one_clear_error(wrong: Tensor) -> None:
    """Ready-made features and other channels are told what goes with them."""
    encoder = Timm(name="test_vit", pretrained=False).load("cpu")
    with pytest.raises(ltbench.UsageError, match=r"takes uint8 images \[H, W, 1 or 3\], not torch"):
        encoder.preprocess(wrong)


def test_preprocessing_by_many_threads_is_the_same() -> None:
    """Eight threads at once give what one gives, bit for bit."""
    preprocess = Timm(name="test_vit", pretrained=False).load("cpu").preprocess
    batch = images(32)
    expected = [preprocess(image) for image in batch]
    found: dict[int, Tensor] = {}
    threads = [
        threading.Thread(target=lambda start=start: found.update({i: preprocess(batch[i]) for i in range(start, 32, 8)}))
        for start in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(expected[i], found[i]) for i in range(32))


def test_preprocessing_survives_pickling() -> None:
    """A worker process may be sent the preprocessing alone, without the weights."""
    preprocess = Timm(name="test_vit", pretrained=False).load("cpu").preprocess
    pickled = pickle.dumps(preprocess)
    (image,) = images(1)
    assert len(pickled) < 10_000
    assert torch.equal(preprocess(image), pickle.loads(pickled)(image))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_near_and_leaves_in_float32(dtype: Any, hub: Any, tmp_path: Path) -> None:
    """Features in half precision agree to its rounding with those in float32, and are float32 numbers."""
    hub.commit_folder("lab/tiny", tiny("ViT", tmp_path / "tiny"))
    expected, actual = (encoded(Timm(name="hf-hub:lab/tiny", dtype=each), images()) for each in ("float32", dtype))
    assert actual.dtype == torch.float32
    assert not torch.equal(expected, actual)
    torch.testing.assert_close(
        expected, actual, rtol=0, atol=(0.05 if dtype == "bfloat16" else 0.01) * float(expected.abs().max())
    )


def test_channels_last_gives_the_same_features(hub: Any, tmp_path: Path) -> None:
    """The memory layout changes rounding at most."""
    hub.commit_folder("lab/tiny", tiny("ConvNeXt", tmp_path / "tiny"))
    close(encoded(Timm(name="hf-hub:lab/tiny"), images()), encoded(Timm(name="hf-hub:lab/tiny", channels_last=True), images()))


def test_a_compiled_model_gives_the_same_features(hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch.compile traces is the model, also for a last batch of another size; the tracer alone, for speed."""
    traced, compile_module = [], nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self: (traced.append(self), compile_module(self, backend="eager")))
    hub.commit_folder("lab/tiny", tiny("ViT", tmp_path / "tiny"))
    encoder = Timm(name="hf-hub:lab/tiny", compile=True).load("cpu")
    batch = torch.stack([encoder.preprocess(image) for image in images()])
    actual = torch.cat([encoder(batch[:2]), encoder(batch[2:])])
    close(encoded(Timm(name="hf-hub:lab/tiny"), images()), actual)
    assert len(traced) == 1


def test_flops_are_counted_by_hand() -> None:
    """A ViT costs its patch embedding, and per block four projections, two attention products and two layers."""
    model = timm.create_model("test_vit")
    width, depth, patches = model.embed_dim, len(model.blocks), model.patch_embed.num_patches
    tokens, hidden = patches + model.num_prefix_tokens, model.blocks[0].mlp.fc1.out_features
    per_block = tokens * 4 * width**2 + 2 * tokens**2 * width + 2 * tokens * width * hidden
    expected = 2 * (patches * width * 3 * 16**2 + depth * per_block)
    assert Timm(name="test_vit", pretrained=False).load("cpu").flops_per_image == expected


@pytest.mark.parametrize("changes", [{"dtype": "bfloat16"}, {"channels_last": True}, {"pool": "avg"}])
def test_flops_do_not_depend_on_how_a_model_computes(changes: dict[str, Any]) -> None:
    """Precision, layout and pooling leave the products as they are."""
    expected, actual = (Timm(name="test_vit", pretrained=False, **each).load("cpu").flops_per_image for each in ({}, changes))
    assert expected == actual


def test_random_weights_do_not_depend_on_global_state() -> None:
    """Whatever the global generators are at, random weights are the same bits, and the generators stay where they are."""
    torch.manual_seed(5)
    before, grad, dtype = torch.get_rng_state(), torch.is_grad_enabled(), torch.get_default_dtype()
    first = Timm(name="test_vit", pretrained=False).load("cpu").fingerprint
    assert torch.equal(before, torch.get_rng_state())
    assert (grad, dtype) == (torch.is_grad_enabled(), torch.get_default_dtype())
    torch.manual_seed(6)
    assert first == Timm(name="test_vit", pretrained=False).load("cpu").fingerprint


def test_planning_the_dimension_reads_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of a billion weights is measured on the meta device."""
    monkeypatch.setattr(nn.Module, "load_state_dict", lambda *_: pytest.fail("weights were read"))
    assert Timm(name="vit_giant_patch14_dinov2.lvd142m").feature_dimension() == 1536


def test_a_model_in_a_package_is_loaded_with_its_preprocessing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in the hub's format that is part of a package is a backbone; half precision weights are computed with in float32."""
    package = tmp_path / "my_plugin"
    folder = tiny("ConvNeXt", package / "weights")
    (package / "__init__.py").write_text("")
    weights = {name: values.half() for name, values in safetensors.torch.load_file(folder / "model.safetensors").items()}
    safetensors.torch.save_file(weights, folder / "model.safetensors")
    monkeypatch.syspath_prepend(str(tmp_path))
    component = Packaged(package="my_plugin", folder="weights")
    actual = encoded(component, images())
    close(bare(f"local-dir:{folder}", images()), actual)
    assert component.feature_dimension() == actual.shape[1]


def test_a_package_without_weights_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that holds no model is told."""
    (tmp_path / "empty_plugin").mkdir()
    (tmp_path / "empty_plugin" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ltbench.UsageError, match=r"empty_plugin/weights/model\.safetensors must be a file"):
        Packaged(package="empty_plugin", folder="weights").load("cpu")
