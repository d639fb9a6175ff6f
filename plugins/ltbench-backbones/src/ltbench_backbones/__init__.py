"""Backbones without weights: what the plugin registers with ltbench."""

import ltbench


@ltbench.hookimpl
def ltbench_backbones() -> list[ltbench.Component]:
    """Return the backbones of this distribution."""
    return [
        ltbench.Component(
            "pixels",
            "ltbench_backbones.pixels:Pixels",
            "the image itself: pixel values in [0, 1], flattened",
            reference="folklore: the floor that every learned backbone should clear",
        ),
    ]
