"""Backbones without weights: what the plugin registers with ltbench."""

import ltbench


@ltbench.hookimpl
def ltbench_backbones() -> list[ltbench.Component]:
    """Return the backbones of this distribution."""
    return [
        ltbench.Component(
            "hog",
            "ltbench_backbones.hog:Hog",
            "histograms of oriented gradients, of images resized to 32×32",
            reference="doi:10.1109/CVPR.2005.177",
        ),
        ltbench.Component(
            "identity",
            "ltbench_backbones.identity:Identity",
            "ready-made vectors as they are, for datasets that come as features",
            reference="folklore: features extracted elsewhere",
        ),
        ltbench.Component(
            "pixels",
            "ltbench_backbones.pixels:Pixels",
            "the image itself: pixel values in [0, 1], flattened",
            reference="folklore: the floor that every learned backbone should clear",
        ),
        ltbench.Component(
            "random-conv",
            "ltbench_backbones.random_conv:RandomConv",
            "two layers of random convolutions, of images resized to 32×32",
            reference="Saxe et al. (2011): On random weights and unsupervised feature learning, ICML",
        ),
    ]
