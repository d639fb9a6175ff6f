"""Measure the backbones of docs/backbones.md without any weights, and write its table; --check compares instead.

Every number comes from the installed libraries: models are built on torch's meta device, and shapes, parameters and
products are counted there.
"""

# ruff: noqa: INP001 - a script, no module of a package

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ltbench_openclip import backbone as clip_backbone
from ltbench_openclip import models as clip_models
from ltbench_timm import models as timm_models
from ltbench_timm.backbone import input_size
from ltbench_timm.encoder import count_flops
from ltbench_timm.pooling import PooledFeatures

DOCUMENT = Path(__file__).parents[3] / "docs" / "backbones.md"
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"

BACKBONES = {
    "CLIP (OpenAI's weights; QuickGELU)": (
        "open_clip:RN50-quickgelu/openai",
        "open_clip:ViT-B-32-quickgelu/openai",
        "open_clip:ViT-B-16-quickgelu/openai",
        "open_clip:ViT-B-16-quickgelu/openai[projection=false]",
        "open_clip:ViT-L-14-quickgelu/openai",
        "open_clip:ViT-L-14-quickgelu/openai[projection=false]",
        "open_clip:ViT-L-14-336-quickgelu/openai",
    ),
    "CLIP (LAION, DataComp, MetaCLIP)": (
        "open_clip:ViT-B-32/laion2b_s34b_b79k",
        "open_clip:ViT-B-16/laion2b_s34b_b88k",
        "open_clip:ViT-B-16/datacomp_xl_s13b_b90k",
        "open_clip:ViT-B-16-quickgelu/metaclip_fullcc",
        "open_clip:ViT-L-14/laion2b_s32b_b82k",
        "open_clip:ViT-L-14/datacomp_xl_s13b_b90k",
        "open_clip:ViT-H-14/laion2b_s32b_b79k",
    ),
    "EVA-CLIP": ("open_clip:EVA02-B-16/merged2b_s8b_b131k", "open_clip:EVA02-L-14/merged2b_s4b_b131k"),
    "SigLIP and SigLIP 2 (class-text vectors need `transformers`)": (
        "open_clip:ViT-B-16-SigLIP/webli",
        "open_clip:ViT-L-16-SigLIP-256/webli",
        "open_clip:ViT-SO400M-14-SigLIP/webli",
        "open_clip:ViT-B-16-SigLIP2/webli",
        "open_clip:ViT-SO400M-16-SigLIP2-256/webli",
        "timm:vit_base_patch16_siglip_224.webli",
    ),
    "DINOv2 (timm's own preprocessing is 518 pixels)": (
        "timm:vit_small_patch14_dinov2.lvd142m[image_size=224]",
        "timm:vit_base_patch14_dinov2.lvd142m",
        "timm:vit_base_patch14_dinov2.lvd142m[image_size=224]",
        "timm:vit_base_patch14_dinov2.lvd142m[image_size=224,pool=token+avg]",
        "timm:vit_base_patch14_reg4_dinov2.lvd142m[image_size=224]",
        "timm:vit_large_patch14_dinov2.lvd142m[image_size=224]",
        "timm:vit_giant_patch14_dinov2.lvd142m[image_size=224]",
    ),
    "DINOv3": (
        "timm:vit_small_patch16_dinov3.lvd1689m",
        "timm:vit_base_patch16_dinov3.lvd1689m",
        "timm:vit_large_patch16_dinov3.lvd1689m",
        "timm:convnext_base.dinov3_lvd1689m",
    ),
    "ImageNet-21k": (
        "timm:vit_small_patch16_224.augreg_in21k",
        "timm:vit_base_patch16_224.augreg_in21k",
        "timm:vit_base_patch16_224.orig_in21k",
        "timm:vit_large_patch16_224.augreg_in21k",
        "timm:eva02_base_patch14_224.mim_in22k",
        "timm:beitv2_base_patch16_224.in1k_ft_in22k",
        "timm:swin_base_patch4_window7_224.ms_in22k",
        "timm:convnext_base.fb_in22k",
    ),
    "ImageNet-1k, small": ("timm:resnet18.a1_in1k", "timm:resnet50.a1_in1k", "timm:convnext_tiny.fb_in1k"),
}


def main() -> None:
    """Write the table into the document, or exit with 1 where --check finds another."""
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    measured = before + BEGIN + "".join(f"{line}\n" for line in table()) + END + after
    if "--check" not in sys.argv:
        DOCUMENT.write_text(measured, encoding="utf-8")
    elif measured != text:
        sys.exit(f"{DOCUMENT} is not what is measured: run {Path(__file__).name}")


def table() -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| backbone | dimension | image | parameters, M | GFLOPs an image |"
    yield "|---|--:|--:|--:|--:|"
    for section, names in BACKBONES.items():
        yield f"| **{section}** | | | | |"
        yield from map(row, names)


def row(name: str) -> str:
    """Measure one backbone."""
    family, _, rest = name.removesuffix("]").partition(":")
    rest, _, inside = rest.partition("[")
    skeleton = {"timm": of_timm, "open_clip": of_open_clip}[family]
    model, tower, size = skeleton(rest, dict(item.split("=") for item in inside.split(",") if item))
    with torch.no_grad():
        image = torch.zeros(1, *size, device="meta")
        dimension = model.eval().requires_grad_(requires_grad=False)(image).shape[1]
    parameters = sum(each.numel() for each in tower.parameters())
    return f"| `{name}` | {dimension} | {size[1]} | {parameters / 1e6:.1f} | {count_flops(model, image) / 1e9:.1f} |"


def of_timm(name: str, params: dict[str, str]) -> tuple[nn.Module, nn.Module, tuple[int, int, int]]:
    """Return a model without weights that gives features, what of it encodes images, and their size."""
    timm_models.check_name(name, weights_wanted=True)
    model = timm_models.skeleton(name, int(params["image_size"]) if "image_size" in params else None)
    assert model is not None
    pool: Any = params.get("pool")
    features = PooledFeatures(model, pool, None)
    if pool == "token+avg":
        features.model.reset_classifier(0)  # not reached, and not counted
    return features, features, input_size(model)


def of_open_clip(name: str, params: dict[str, str]) -> tuple[nn.Module, nn.Module, tuple[int, int, int]]:
    """Return the same of a model of open_clip, whose text tower does not count."""
    clip_models.check_name(name, weights_wanted=True)
    model = clip_models.skeleton(name)
    if params.get("projection") == "false":
        clip_models.drop_projection(model)
    return clip_backbone.ImageTower(model), model.visual, (3, *clip_backbone.image_size(model))


if __name__ == "__main__":
    main()
