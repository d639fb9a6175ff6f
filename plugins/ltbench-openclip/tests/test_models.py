"""Tests of the open_clip backbone against open_clip itself; models come from a loopback hub, in the true format."""

from __future__ import annotations

import copy
import json
import logging
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

import ltbench
from ltbench.testing import parametrize_with_checks
from ltbench_openclip.backbone import OpenClip
from ltbench_openclip.text import named_templates
from ltbench_timm.tensors import Normalized, in_one_buffer

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
TINY: dict[str, dict[str, Any]] = {
    "CLIP ViT": {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": TEXT},
    "CLIP ResNet": {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64},
        "text_cfg": TEXT,
    },
    "timm tower": {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "avg", "timm_proj": "linear"},
        "text_cfg": TEXT,
    },
    "CoCa": {
        "embed_dim": 24,
        "vision_cfg": {**VIT, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        "text_cfg": {**TEXT, "embed_cls": True, "output_tokens": True, "context_length": 76},
        "multimodal_cfg": {"context_length": 76, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
        "custom_text": True,
    },
}
PREPROCESSING = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4], "interpolation": "bilinear", "resize_mode": "squash"}


def tiny(kind: str, folder: Path, seed: int = 0, **changes: Any) -> Path:
    """Write a small model of a kind with random weights, as open_clip's models lie on the hub, and return its folder."""
    folder.mkdir(parents=True)
    config = {"model_cfg": {**TINY[kind], **changes}, "preprocess_cfg": PREPROCESSING}
    (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.create_model(f"local-dir:{folder}", pretrained_text=False)
    import safetensors.torch

    safetensors.torch.save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture
def served(request: pytest.FixtureRequest, hub: Any, tmp_path: Path) -> Any:
    """Serve a small model of the kind that a test names as lab/tiny, and return open_clip's own model and transform."""
    folder = tiny(request.param, tmp_path / "tiny")
    hub.commit_folder("lab/tiny", folder)
    return open_clip.create_model_from_pretrained(f"local-dir:{folder}")


def images(count: int = 3) -> list[Tensor]:
    """Return random uint8 images of different sizes and brightness, higher than wide."""
    generator = torch.Generator().manual_seed(1)
    sizes = [(40 + i, 36, 3) for i in range(count)]
    return [torch.randint(256 // (i + 1), size, generator=generator, dtype=torch.uint8) for i, size in enumerate(sizes)]


def encoded(component: OpenClip) -> Tensor:
    """Encode images as ltbench does."""
    encoder = component.load("cpu")
    return encoder(torch.stack([encoder.preprocess(image) for image in images()]))


def bare(model: Any, transform: Any) -> Tensor:
    """Encode images by open_clip alone, one after the other."""
    with torch.no_grad():
        batch = [transform(Image.fromarray(image.numpy())).unsqueeze(0) for image in images()]
        return torch.cat([model.eval().encode_image(image, normalize=False) for image in batch])


def close(expected: Tensor, actual: Tensor) -> None:
    """Require equality to float32 rounding: within 2e-6 of the largest number."""
    torch.testing.assert_close(expected, actual, rtol=0, atol=2e-6 * float(expected.abs().max()))


def named(*names: str) -> ltbench.Dataset:
    """Return a dataset of which only the class names matter."""
    part = ltbench.Part(torch.zeros(1, dtype=torch.int64), torch.zeros(1, 4, 4, 3, dtype=torch.uint8))
    return ltbench.Dataset(part, part, names, "none")


@pytest.mark.parametrize("served", TINY, indirect=True)
def test_features_equal_encode_image(served: Any) -> None:
    """With projection, features are what open_clip's encode_image gives; their length is planned."""
    component = OpenClip(name="hf-hub:lab/tiny")
    assert component.feature_dimension() is None  # not fetched yet
    actual = encoded(component)
    close(bare(*served), actual)
    assert component.feature_dimension() == actual.shape[1] == 24
    assert float(actual.std(dim=0).max()) > 1e-3 * float(actual.abs().max())  # images differ far more than rounding does


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
def test_preprocessing_gives_the_bits_of_open_clips(resize_mode: Any) -> None:
    """Channels become numbers in one buffer, with the bits of open_clip's own transform."""
    transform = image_transform_v2(PreprocessCfg(**{**PREPROCESSING, "size": 32, "resize_mode": resize_mode}), is_train=False)
    ours = in_one_buffer(transform)
    assert isinstance(ours, Normalized)
    pictures = [Image.fromarray(image.numpy()) for image in images()]
    assert all(torch.equal(transform(picture), ours(picture)) for picture in pictures)


@pytest.mark.parametrize(
    ("served", "width"), [("CLIP ViT", 32), ("CLIP ResNet", 256), ("timm tower", 64), ("CoCa", 24)], indirect=["served"]
)
def test_features_without_projection_become_those_with_it(served: Any, width: int) -> None:
    """What the tower pools, put through the model's own projection, is what encode_image gives."""
    model, transform = served
    component = OpenClip(name="hf-hub:lab/tiny", projection=False)
    pooled = encoded(component)
    assert pooled.shape == (3, width)
    assert component.feature_dimension() == width
    visual = model.visual
    with torch.no_grad():
        if hasattr(visual, "attnpool"):
            projected = visual.attnpool.c_proj(pooled)
        else:
            projected = visual.head(pooled) if hasattr(visual, "head") else pooled @ visual.proj
    torch.testing.assert_close(bare(model, transform), projected, rtol=0, atol=5e-6 * float(projected.abs().max()))
    assert not hasattr(component.load("cpu"), "class_text")


def test_a_tower_without_projection_says_so(hub: Any, tmp_path: Path) -> None:
    """SigLIP's tower pools straight into the common space."""
    vision = {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "avg", "timm_proj": "none"}
    hub.commit_folder("lab/tiny", tiny("timm tower", tmp_path / "tiny", vision_cfg=vision, embed_dim=64))
    with pytest.raises(ltbench.UsageError, match="the image tower, a TimmModel, has no projection: leave projection=false out"):
        OpenClip(name="hf-hub:lab/tiny", projection=False).load("cpu")


@pytest.mark.parametrize("served", ["CLIP ViT", "CoCa"], indirect=True)
@pytest.mark.parametrize("templates", [["a photo of a {}."], ["a {}.", "the {} of {}", "{}"]])
def test_class_text_equals_encode_text(served: Any, templates: list[str], tmp_path: Path) -> None:
    """Vectors are encode_text's, normalised, averaged over prompts, normalised; underscores are blanks."""
    model, _ = served
    (tmp_path / "prompts.txt").write_text("# prompts\n\n" + "\n".join(templates), encoding="utf-8")
    encoder: Any = OpenClip(name="hf-hub:lab/tiny", templates_file=tmp_path / "prompts.txt").load("cpu")
    names = ["cat", "pick-up truck", "Bär"]
    tokenizer = open_clip.get_tokenizer(
        "ViT-B-32", context_length=model.context_length if hasattr(model, "context_length") else 76
    )
    expected = []
    with torch.no_grad():
        for name in names:
            each = [
                model.eval().encode_text(tokenizer([template.replace("{}", name)]), normalize=False)[0]
                for template in templates
            ]
            expected.append(normalize(torch.stack([normalize(vector, dim=0) for vector in each]).mean(dim=0), dim=0))
    actual = encoder.class_text(named("cat", "pick-up_truck", "Bär"))
    close(torch.stack(expected), actual)
    torch.testing.assert_close(torch.ones(3), actual.norm(dim=1))


@pytest.mark.parametrize("served", ["CLIP ViT"], indirect=True)
def test_many_texts_are_encoded_in_chunks(served: Any) -> None:
    """A class's vector does not depend on how many classes there are."""
    encoder: Any = OpenClip(name="hf-hub:lab/tiny", templates="imagenet").load("cpu")
    names = [f"thing {i}" for i in range(5)]
    close(encoder.class_text(named(names[4])), encoder.class_text(named(*names))[4:])


@pytest.mark.parametrize(
    ("name", "count", "some"),
    [
        ("imagenet", 80, "itap of my {}."),
        ("simple", 7, "a {} in a video game."),
        ("cifar", 18, "a black and white photo of the {}."),
    ],
)
def test_named_templates_are_those_of_the_literature(name: Any, count: int, some: str) -> None:
    """Each set has its known size and a known member, and every template one place for the name."""
    found = named_templates(name)
    assert len(found) == len(set(found)) == count
    assert some in found
    assert [template.count("{}") for template in found] == [1] * count


@pytest.mark.parametrize("served", ["CLIP ViT"], indirect=True)
def test_every_part_of_a_feature_is_in_the_fingerprint(served: Any) -> None:
    """Projection, prompts, precision and layout each make another fingerprint; the same prompts in another way do not."""
    base = {"name": "hf-hub:lab/tiny"}
    changes: list[dict[str, Any]] = [
        {},
        {"projection": False},
        {"text": False},
        {"template": "a {}"},
        {"templates": "simple"},
        {"dtype": "bfloat16"},
        {"channels_last": True},
    ]
    found = [OpenClip(**base, **change).load("cpu").fingerprint for change in changes]
    assert len(set(found)) == len(found)
    assert OpenClip(**base, template="a photo of a {}.").load("cpu").fingerprint == found[0]


def test_weights_and_configuration_are_in_the_fingerprint(hub: Any, tmp_path: Path) -> None:
    """Other weights, and the same weights under another activation, are other models."""
    found = []
    for i, (seed, changes) in enumerate([(0, {}), (0, {}), (1, {}), (0, {"quick_gelu": True})]):
        hub.commit_folder("lab/tiny", tiny("CLIP ViT", tmp_path / str(i), seed, **changes))
        found.append(OpenClip(name="hf-hub:lab/tiny").load("cpu").fingerprint)
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_weights_are_named_without_building_a_model(hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and prompts make the name, wherever prompts are written; random weights have none."""
    folders = [tiny("CLIP ViT", tmp_path / str(seed), seed) for seed in range(2)]
    prompts = tmp_path / "prompts.txt"
    monkeypatch.setattr(open_clip, "create_model", lambda *_, **__: pytest.fail("a model was built"))
    names = []
    for folder, prompt in ((folders[0], "a {}."), (folders[1], "a {}."), (folders[0], "the {}."), (folders[0], "a {}.")):
        hub.commit_folder("lab/tiny", folder)
        prompts.write_text(f"{prompt}\n")
        names.append(OpenClip(name="hf-hub:lab/tiny", templates_file=prompts).fingerprint())
    assert len(set(names)) == 3
    assert names[0] == names[3] == OpenClip(name="hf-hub:lab/tiny", template="a {}.").fingerprint()
    files = [folder / "open_clip_model.safetensors" for folder in folders]
    assert len({OpenClip(name="ViT-B-32", checkpoint=file).fingerprint() for file in files}) == 2
    assert OpenClip(name="ViT-B-32", pretrained=False).fingerprint() is None


def test_a_hub_model_is_served_offline_once_fetched(hub: Any, tmp_path: Path) -> None:
    """After the server has gone, images and texts are encoded as before; a revision is a model of its own."""
    hub.commit_folder("lab/tiny", tiny("CLIP ViT", tmp_path / "old"), "v1")
    hub.commit_folder("lab/tiny", tiny("CLIP ViT", tmp_path / "new", seed=1))
    components = [OpenClip(name=f"hf-hub:lab/tiny{at}") for at in ("", "@v1")]
    expected = [encoded(component) for component in components]
    hub.stop()
    hub.stop = lambda: None
    assert all(torch.equal(a, encoded(b)) for a, b in zip(expected, components, strict=True))
    assert not torch.equal(*expected)


def test_a_registered_tag_is_fetched_and_preprocessed_as_open_clip_does(
    hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """architecture/weights leads to the repository and preprocessing that open_clip has for them."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-ViT", TINY["CLIP ViT"])
    known = {"hf_hub": "lab/tiny/", **PREPROCESSING}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-ViT", {"lab400m": known})
    hub.commit_folder("lab/tiny", tiny("CLIP ViT", tmp_path / "tiny"))
    expected = bare(*open_clip.create_model_from_pretrained("tiny-ViT", "lab400m"))
    close(expected, encoded(OpenClip(name="tiny-ViT/lab400m")))
    checkpoint = next((tmp_path / "tiny").glob("*.safetensors"))
    monkeypatch.setitem(known, "interpolation", "bicubic")
    close(
        bare(*open_clip.create_model_from_pretrained("tiny-ViT", str(checkpoint))),
        encoded(OpenClip(name="tiny-ViT", checkpoint=checkpoint)),
    )


@pytest.mark.parametrize("file", ["open_clip_pytorch_model.bin", "checkpoint"])
def test_weights_that_carry_code_are_refused_and_not_run(hub: Any, tmp_path: Path, file: str) -> None:
    """On the hub or in a file, what unpickling would call is not called."""

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.write_text, (tmp_path / "ran", "ran")

    config = (tiny("CLIP ViT", tmp_path / "tiny") / "open_clip_config.json").read_bytes()
    torch.save({"state_dict": {}, "payload": Payload()}, tmp_path / "evil.pt")
    hub.commit(
        "lab/evil", {"open_clip_config.json": config, "open_clip_pytorch_model.bin": (tmp_path / "evil.pt").read_bytes()}
    )
    arguments: dict[str, Any] = {"name": "hf-hub:lab/evil"}
    if file == "checkpoint":
        arguments = {"name": "ViT-S-32-alt", "checkpoint": tmp_path / "evil.pt"}
    with pytest.raises(ltbench.UsageError, match="could run code: it is refused"):
        OpenClip(**arguments).load("cpu")
    assert not (tmp_path / "ran").exists()


def test_missing_weights_are_an_error_not_random_numbers(hub: Any, tmp_path: Path) -> None:
    """open_clip itself would go on with random weights."""
    folder = tiny("CLIP ViT", tmp_path / "tiny")
    hub.commit("lab/empty", {"open_clip_config.json": (folder / "open_clip_config.json").read_bytes()})
    with pytest.raises(ltbench.UsageError, match=r"lab/empty holds no open_clip_model\.safetensors or open_clip_pytorch"):
        OpenClip(name="hf-hub:lab/empty").load("cpu")


def test_a_damaged_download_is_one_clear_error(hub: Any, tmp_path: Path) -> None:
    """The hash that the hub gives for the weights is checked before they are used."""
    hub.commit_folder("lab/tiny", tiny("CLIP ViT", tmp_path / "tiny"))
    hub.damaged = True
    with pytest.raises(ltbench.LtbenchError, match="lab/tiny is damaged"):
        OpenClip(name="hf-hub:lab/tiny").load("cpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "ViT-B-3/openai"}, "open_clip has no architecture 'ViT-B-3' .did you mean 'ViT-B-32'"),
        ({"name": "ViT-B-32/laion2b"}, "'ViT-B-32' has no weights 'laion2b' .did you mean 'laion2b_e16'.*; it has openai, "),
        ({"name": "ViT-B-32"}, "write ViT-B-32/<weights>, or pretrained=false; open_clip has these weights: openai, "),
        ({"name": "ViT-B-32/openai"}, "'openai' were trained with QuickGELU: write open_clip:ViT-B-32-quickgelu/openai"),
        ({"name": "ViT-B-32/laion2b_e16", "pretrained": False}, "name the architecture alone, ViT-B-32"),
        ({"name": "hf-hub:tiny"}, "a hub model is named user/model"),
        ({"name": "ViT-B-32", "checkpoint": Path("none.pt")}, "checkpoint none.pt must be a file"),
        ({"name": "hf-hub:a/b", "checkpoint": Path("none.pt")}, "checkpoint goes with an architecture's name"),
        (
            {"name": "ViT-B-32", "pretrained": False, "template": "a photo"},
            "a template must hold {} in place of the class name",
        ),
        ({"name": "ViT-B-32", "pretrained": False, "template": "{}", "templates": "cifar"}, "not by template and templates"),
        (
            {"name": "ViT-B-32", "pretrained": False, "templates_file": Path("none.txt")},
            "none.txt must be a readable text file",
        ),
    ],
)
def test_mistakes_are_found_while_planning(arguments: dict[str, Any], message: str) -> None:
    """Building the component is enough to hear of a wrong name, tag, file or prompt, with what comes closest."""
    with pytest.raises(ltbench.UsageError, match=message):
        OpenClip(**arguments)


def test_an_empty_file_of_templates_is_refused(tmp_path: Path) -> None:
    """Comments alone are no template."""
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(ltbench.UsageError, match=r"empty\.txt holds no template: write one a line"):
        OpenClip(name="ViT-B-32", pretrained=False, templates_file=tmp_path / "empty.txt")


@pytest.fixture
def siglip(hub: Any, tmp_path: Path) -> str:
    """Serve a model whose tokenizer has files of its own, as SigLIP's has."""
    hub.commit_folder("lab/siglip", tiny("CLIP ViT", tmp_path / "tiny", text_cfg={**TEXT, "hf_tokenizer_name": "lab/siglip"}))
    return "hf-hub:lab/siglip"


def test_a_tokenizer_with_code_of_its_own_is_refused(hub: Any, tmp_path: Path) -> None:
    """A configuration of the hub cannot ask for foreign code to be run."""
    text = {**TEXT, "hf_tokenizer_name": "lab/foreign", "tokenizer_kwargs": {"trust_remote_code": True}}
    hub.commit_folder("lab/foreign", tiny("CLIP ViT", tmp_path / "tiny", text_cfg=text))
    with pytest.raises(
        ltbench.UsageError, match=r"asks to run a tokenizer's own code \(trust_remote_code\): ltbench runs none"
    ):
        OpenClip(name="hf-hub:lab/foreign").load("cpu")


def test_a_tokenizer_that_needs_transformers_says_so(siglip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One clear error names the library and the way around; without texts the images are encoded."""
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ltbench.UsageError, match=r"hf-hub:lab/siglip needs the library transformers: .*, or write text=false"):
        OpenClip(name=siglip).load("cpu")
    assert encoded(OpenClip(name=siglip, text=False)).shape == (3, 24)


def test_a_tokenizer_whose_files_are_missing_says_so(siglip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One clear error tells that files are wanted, and the way around."""
    monkeypatch.setitem(sys.modules, "transformers", ModuleType("transformers"))
    with pytest.raises(
        ltbench.LtbenchError, match=r"needs files that cannot be fetched; .* text=false .* lab/siglip holds none"
    ):
        OpenClip(name=siglip).load("cpu")


class Words:
    """A tokenizer in place of that of transformers: the numbers of words in a folder's ``tokenizer.json``."""

    def __init__(self, folder: str, context_length: int, tokenizer_mode: str | None, *, trust_remote_code: bool) -> None:
        """Read the numbers."""
        assert (tokenizer_mode, trust_remote_code) == (None, False)
        self.numbers, self.length = json.loads((Path(folder) / "tokenizer.json").read_text()), context_length

    def __call__(self, texts: list[str]) -> Tensor:
        """Return ``[T, length]``, the numbers of each text's words, then the last token and zeros."""
        rows = [[self.numbers.get(word, 1) for word in text.split()] + [49407] for text in texts]
        return torch.tensor([row + [0] * (self.length - len(row)) for row in rows])


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_tokenizers_files_are_in_the_fingerprint(
    elsewhere: bool, hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed file is another backbone with other vectors; the same files, and files of the model's revision, are not."""
    monkeypatch.setitem(sys.modules, "transformers", ModuleType("transformers"))
    monkeypatch.setattr(open_clip.tokenizer, "HFTokenizer", Words)
    repo = "lab/words" if elsewhere else "lab/model"
    model = tiny("CLIP ViT", tmp_path / "tiny", text_cfg={**TEXT, "hf_tokenizer_name": repo})
    files = {path.name: path.read_bytes() for path in model.iterdir()}
    first, second, more = (
        {"tokenizer.json": b'{"cat.": 2}'},
        {"tokenizer.json": b'{"cat.": 3}'},
        {"tokenizer.json": b'{"cat.": 2}', "special_tokens_map.json": b"{}"},
    )
    seen, vectors = [], []
    for tokens in (first, second, more, first):
        for name, content in {"lab/model": files, repo: tokens if elsewhere else {**files, **tokens}}.items():
            hub.commit(name, content)
        component = OpenClip(name="hf-hub:lab/model")
        encoder: Any = component.load("cpu")
        seen.append((component.fingerprint(), encoder.fingerprint))
        vectors.append(encoder.class_text(named("cat")))
    assert seen[0] == seen[3]
    assert [len(set(each)) for each in zip(*seen, strict=True)] == [3, 3]
    assert torch.equal(vectors[0], vectors[3])
    assert not torch.equal(vectors[0], vectors[1])
    without = OpenClip(name="hf-hub:lab/model", text=False)
    before = without.fingerprint(), without.load("cpu").fingerprint
    hub.stop()
    hub.stop = lambda: None
    assert seen[0] == (component.fingerprint(), component.load("cpu").fingerprint)  # without a network
    assert before == (without.fingerprint(), without.load("cpu").fingerprint)


def test_a_tokenizer_is_that_of_the_models_revision(hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model named at a revision reads the files of that revision, whatever the main branch has."""
    monkeypatch.setitem(sys.modules, "transformers", ModuleType("transformers"))
    monkeypatch.setattr(open_clip.tokenizer, "HFTokenizer", Words)
    model = tiny("CLIP ViT", tmp_path / "tiny", text_cfg={**TEXT, "hf_tokenizer_name": "lab/model"})
    files = {path.name: path.read_bytes() for path in model.iterdir()}
    names = []
    for number, revision in ((2, "v1"), (3, "main")):
        hub.commit("lab/model", {**files, "tokenizer.json": json.dumps({"cat": number}).encode()}, revision)
        names.append(OpenClip(name=f"hf-hub:lab/model@{revision}").load("cpu"))
    assert [encoder._texts.tokenizer.numbers["cat"] for encoder in names] == [2, 3]
    assert names[0].fingerprint != names[1].fingerprint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "open_clip_config.json of hf-hub:lab/other must be JSON, and cannot be read"),
        (b"\xff", "open_clip_config.json of hf-hub:lab/other must be JSON, and cannot be read"),
        (b"[1]", "open_clip_config.json of hf-hub:lab/other must be a JSON object, not [1]"),
        (b"{}", "open_clip_config.json of hf-hub:lab/other must name a model in model_cfg"),
        (b'{"model_cfg": 5}', "model_cfg in open_clip_config.json of hf-hub:lab/other must be a JSON object, not 5"),
        (b'{"model_cfg": {"text_cfg": "long"}}', "text_cfg in model_cfg in open_clip_config.json"),
        (b'{"model_cfg": {"text_cfg": {"hf_tokenizer_name": [1]}}}', "hf_tokenizer_name in open_clip_config.json"),
        (b'{"model_cfg": {"embed_dim": "wide", "vision_cfg": {}, "text_cfg": {}}}', "open_clip cannot build "),
    ],
)
def test_a_wrong_configuration_is_one_clear_error(content: bytes, message: str, hub: Any) -> None:
    """Broken JSON and things of other types are told with the file's name; planning tells the same, once it is there."""
    hub.commit("lab/other", {"open_clip_config.json": content})
    component = OpenClip(name="hf-hub:lab/other", pretrained=False)
    for mistaken in (lambda: component.load("cpu"), component.feature_dimension):
        with pytest.raises(ltbench.UsageError) as caught:
            mistaken()
        assert str(caught.value).startswith(message)
        assert "\n" not in str(caught.value)


def test_flops_are_counted_by_hand(hub: Any, tmp_path: Path) -> None:
    """A CLIP ViT costs its patches, four projections, two attention products and two layers a block, and the projection."""
    hub.commit_folder("lab/tiny", tiny("CLIP ViT", tmp_path / "tiny"))
    width, patches, tokens = 32, 16, 17
    block = tokens * 4 * width**2 + 2 * tokens**2 * width + 2 * tokens * width * 4 * width
    expected = 2 * (patches * width * 3 * 8**2 + 2 * block + width * 24)
    assert OpenClip(name="hf-hub:lab/tiny").load("cpu").flops_per_image == expected


@pytest.mark.parametrize("served", ["CLIP ViT"], indirect=True)
def test_global_state_is_left_alone(served: Any) -> None:
    """Random numbers, precision, gradients and logging are as before; random weights do not depend on them."""
    torch.manual_seed(5)
    before = torch.get_rng_state()
    state = (
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        list(logging.getLogger().handlers),
        torch.backends.mha.get_fastpath_enabled(),
    )
    first = OpenClip(name="hf-hub:lab/tiny", pretrained=False).load("cpu").fingerprint
    assert torch.equal(before, torch.get_rng_state())
    assert state == (
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        logging.getLogger().handlers,
        torch.backends.mha.get_fastpath_enabled(),
    )
    torch.manual_seed(6)
    assert first == OpenClip(name="hf-hub:lab/tiny", pretrained=False).load("cpu").fingerprint


@pytest.mark.parametrize("served", ["CLIP ViT"], indirect=True)
def test_half_precision_is_near_and_leaves_in_float32(served: Any) -> None:
    """Images and texts in bfloat16 agree to its rounding with those in float32, and are float32 numbers."""
    encoders: list[Any] = [OpenClip(name="hf-hub:lab/tiny", dtype=dtype).load("cpu") for dtype in ("float32", "bfloat16")]
    texts = [encoder.class_text(named("cat", "dog")) for encoder in encoders]
    expected, actual = (encoded(OpenClip(name="hf-hub:lab/tiny", dtype=dtype)) for dtype in ("float32", "bfloat16"))
    assert actual.dtype == texts[1].dtype == torch.float32
    torch.testing.assert_close(expected, actual, rtol=0, atol=0.05 * float(expected.abs().max()))
    torch.testing.assert_close(texts[0], texts[1], rtol=0, atol=0.05)


open_clip.factory._MODEL_CONFIGS["kit-ViT"] = copy.deepcopy(TINY["CLIP ViT"])


@parametrize_with_checks(["open_clip:kit-ViT[pretrained=false]"])
def test_conformance(component: Any, check: Any) -> None:
    """Every rule of the contract is kept."""
    check(component)
