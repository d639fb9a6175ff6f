"""Backbones of timm: what the plugin registers with ltbench."""

import ltbench


@ltbench.hookimpl
def ltbench_backbones() -> list[ltbench.Component]:
    """Return the backbones of this distribution."""
    return [
        ltbench.Component(
            "embedded",
            "ltbench_timm.embedded:Embedded",
            "a small ResNet with learned weights in the package, for 32×32 images: 192 numbers, no download",
            reference="arXiv:1603.05027",
            requires=("timm",),
        ),
        ltbench.Component(
            "timm",
            "ltbench_timm.backbone:Timm",
            "any model of timm: timm:vit_base_patch16_224.augreg_in21k, timm:hf-hub:user/model, timm:resnet50[checkpoint=file]",
            reference="doi:10.5281/zenodo.4414861",
            family=True,
            requires=("timm",),
        ),
    ]
