"""Backbones of open_clip: what the plugin registers with ltbench."""

import ltbench


@ltbench.hookimpl
def ltbench_backbones() -> list[ltbench.Component]:
    """Return the backbones of this distribution."""
    return [
        ltbench.Component(
            "open_clip",
            "ltbench_openclip.backbone:OpenClip",
            "any model of open_clip, with class-text vectors: open_clip:ViT-B-32/laion2b_s34b_b79k, open_clip:hf-hub:a/b",
            reference="doi:10.5281/zenodo.5143773",
            family=True,
            requires=("open_clip_torch", "timm", "ltbench-timm"),
        ),
    ]
