"""Datasets: what the plugin registers with ltbench."""

import ltbench


@ltbench.hookimpl
def ltbench_datasets() -> list[ltbench.Component]:
    """Return the datasets of this distribution."""
    return [
        ltbench.Component(
            "digits",
            "ltbench_datasets.digits:Digits",
            "1,797 handwritten digits, 8×8 grey, 10 classes; 50 test images a class",
            reference="doi:10.24432/C50P49",
        ),
        ltbench.Component(
            "cifar10",
            "ltbench_datasets.cifar:Cifar10",
            "60,000 images, 32×32 RGB, 10 classes; 1,000 test images a class",
            reference='A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009',
        ),
        ltbench.Component(
            "cifar100",
            "ltbench_datasets.cifar:Cifar100",
            "60,000 images, 32×32 RGB, 100 classes; 100 test images a class",
            reference='A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009',
        ),
        ltbench.Component(
            "folder",
            "ltbench_datasets.folder:Folder",
            "images of yours: a folder for each class, or such folders below train, val and test",
            reference="folklore: one folder a class",
        ),
        ltbench.Component(
            "features",
            "ltbench_datasets.features:Features",
            "ready-made features of yours: a .npz, .safetensors or .parquet file with x and y; for the backbone identity",
            reference="folklore: linear probes on stored features",
        ),
    ]
