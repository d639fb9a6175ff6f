"""Tests of the script that measures the backbones of the docs, and of the table it wrote."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "describe_backbones.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """Import the script."""
    spec = importlib.util.spec_from_file_location("describe_backbones", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.mark.parametrize(
    "name",
    [
        "timm:resnet18.a1_in1k",
        "timm:vit_small_patch14_dinov2.lvd142m[image_size=224]",
        "timm:vit_base_patch14_dinov2.lvd142m[image_size=224,pool=token+avg]",
        "open_clip:RN50-quickgelu/openai",
        "open_clip:ViT-B-16-quickgelu/openai[projection=false]",
    ],
)
def test_the_docs_tell_what_is_measured(script: ModuleType, name: str) -> None:
    """A row of the table is what the script measures now."""
    assert script.row(name) in script.DOCUMENT.read_text(encoding="utf-8").splitlines()


def test_the_docs_hold_a_row_for_every_backbone(script: ModuleType) -> None:
    """No backbone of the script is missing in the table, and none is left over."""
    _, _, rest = script.DOCUMENT.read_text(encoding="utf-8").partition(script.BEGIN)
    lines = rest.partition(script.END)[0].splitlines()
    told = [line.split("`")[1] for line in lines if line.startswith("| `")]
    assert told == [name for names in script.BACKBONES.values() for name in names]


def test_known_costs_are_met(script: ModuleType) -> None:
    """ResNet-50's 4.1 billion multiply-adds (He et al., 2016, with timm's stem) and 23.5 million parameters."""
    cells = [cell.strip() for cell in script.row("timm:resnet50.a1_in1k").strip("| ").split("|")]
    assert cells[1:] == ["2048", "224", "23.5", "8.2"]
