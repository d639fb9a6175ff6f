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
            "glyphs",
            "ltbench_datasets.glyphs.dataset:Glyphs",
            "100 characters in many fonts, poses and conditions, 32×32 RGB, drawn, no download; 100 test images a class",
            reference="folklore: rendered characters, after DejaVu's outlines (https://dejavu-fonts.github.io)",
        ),
        ltbench.Component(
            "glyphs-pretrain",
            "ltbench_datasets.glyphs.dataset:GlyphsPretrain",
            "300 other characters, drawn alike: for training a backbone, disjoint in looks from glyphs",
            reference="folklore: rendered characters, after DejaVu's outlines (https://dejavu-fonts.github.io)",
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
        ltbench.Component(
            "hf",
            "ltbench_datasets.hf:HuggingFace",
            "images of the Hugging Face hub, or saved by the datasets library",
            reference="Q. Lhoest et al., EMNLP 2021 (demonstrations), arXiv:2109.02846",
        ),
        ltbench.Component(
            "lists",
            "ltbench_datasets.lists:Lists",
            "images of yours, named by list files: path/of/image.jpg label",
            reference="folklore: the list files of published long tails",
        ),
        ltbench.Component(
            "imagenet-lt",
            "ltbench_datasets.imagenet_lt:ImageNetLT",
            "115,846 training images of 1,000 classes, 1,280 to 5 a class; your ImageNet and the published lists",
            reference="arXiv:1904.05160",
        ),
        ltbench.Component(
            "places-lt",
            "ltbench_datasets.places_lt:PlacesLT",
            "62,500 training images of 365 scenes, 4,980 to 5 a class; your Places365 and the published lists",
            reference="arXiv:1904.05160",
        ),
        ltbench.Component(
            "inat2018",
            "ltbench_datasets.inat2018:INat2018",
            "437,513 training images of 8,142 species, 1,000 to 2 a class; your iNaturalist 2018 and its lists",
            reference="arXiv:1707.06642",
        ),
    ]
