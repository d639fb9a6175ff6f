"""Checks of datasets, and of the fingerprint that they share with backbones."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from ltbench.components import Resolved
from ltbench.testing.exercise import CheckFailed, form, load_dataset, must, parts_of, some_images
from ltbench.types import Dataset, Part


def check_labels(resolved: Resolved) -> None:
    """Require rows in every part, a label for each image, and labels within the class names."""
    dataset = load_dataset(resolved.build())
    names = dataset.class_names
    if not (isinstance(names, tuple) and all(isinstance(name, str) for name in names) and len(set(names)) == len(names) > 1):
        raise CheckFailed(f"class_names must be a tuple of at least two different texts, not {names!r:.80}")
    for name, part in parts_of(dataset).items():
        _require_labels(name, part, len(names))


def check_images(resolved: Resolved) -> None:
    """Require images that decode to uint8 ``[H, W, channels]``, or are float vectors of one length."""
    for name, part in parts_of(load_dataset(resolved.build())).items():
        with must(f"decode the images of the {name} part"):
            images = some_images(part, 20)
        lengths = {tuple(image.shape) for image in images if image.ndim == 1}
        wrong = [form(image) for image in images if not _is_image(image)]
        if wrong or len(lengths) > 1:
            found = wrong[0] if wrong else f"vectors of lengths {sorted(length for (length,) in lengths)}"
            raise CheckFailed(
                f"images of the {name} part must be uint8 [H, W, channels] or finite float vectors of one length, not {found}"
            )


def check_parts_disjoint(resolved: Resolved) -> None:
    """Require that no image is in two parts; of large parts, evenly spaced images are compared."""
    found: dict[bytes, str] = {}
    for name, part in parts_of(load_dataset(resolved.build())).items():
        contents = {image.contiguous().numpy().tobytes() for image in some_images(part)}
        shared = [content for content in contents if content in found]
        if shared:
            raise CheckFailed(
                f"parts must be disjoint: {len(shared)} of {len(contents)} images of {name} are in {found[shared[0]]}"
            )
        found |= dict.fromkeys(contents, name)


def check_labels_without_decoding(resolved: Resolved) -> None:
    """Require that loading reads labels, not images: planning an experiment must not decode a data set."""
    watch = _Watch()
    previous = sys.getprofile()
    sys.setprofile(watch)
    try:
        dataset = load_dataset(resolved.build())
    finally:
        sys.setprofile(previous)
    touched = [name for name, part in parts_of(dataset).items() if id(part.images) in watch.indexed]
    if touched or watch.decoded:
        how = f"decoded {watch.decoded} image files" if watch.decoded else f"took images of {', '.join(touched)}"
        raise CheckFailed(f"load must not decode images, but {how}: read labels from file names or an index")


def check_fingerprint_stable(resolved: Resolved) -> None:
    """Require a fingerprint, a text that does not change from load to load."""
    instance = resolved.build()
    first, second = (_fingerprint(resolved.kind, instance) for _ in range(2))
    if not isinstance(first, str) or not first:
        raise CheckFailed(f"fingerprint must be a text that names the content, not {first!r}")
    if first != second:
        raise CheckFailed(f"fingerprint must be a hash of the content, the same at every load: {first!r} is not {second!r}")


class _Watch:
    """A profile hook that notes which sequences are indexed, and how many files Pillow decodes."""

    def __init__(self) -> None:
        """Nothing seen yet."""
        self.indexed: dict[int, Any] = {}
        self.decoded = 0

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """Look at a call of a Python function."""
        code = frame.f_code
        if event == "call" and code.co_name == "__getitem__":
            owner = frame.f_locals.get("self")
            self.indexed[id(owner)] = owner  # kept alive, so that no other object gets its id
        elif event == "call" and code.co_name == "load" and code.co_filename.endswith("ImageFile.py"):
            self.decoded += 1


def _fingerprint(kind: str, instance: Any) -> Any:
    """Load a dataset or backbone and return its fingerprint."""
    loaded: Dataset | Any = load_dataset(instance) if kind == "dataset" else instance.load("cpu")
    return loaded.fingerprint


def _require_labels(name: str, part: Part, classes: int) -> None:
    """Labels must be int64 ``[N]`` in [0, C), N at least one, and as many as images."""
    labels = part.labels
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64 or labels.ndim != 1:
        raise CheckFailed(f"labels of the {name} part must be int64 [N], not {form(labels)}")
    if not len(labels) or len(labels) != len(part.images):
        raise CheckFailed(
            f"the {name} part must have images, and a label for each: {len(labels)} labels, {len(part.images)} images"
        )
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        low, high = int(labels.min()), int(labels.max())
        raise CheckFailed(
            f"labels of the {name} part must be 0 to {classes - 1} for {classes} class names, not {low} to {high}"
        )


def _is_image(image: Any) -> bool:
    """Whether this is an image or a float vector."""
    if not isinstance(image, Tensor):
        return False
    picture = image.dtype == torch.uint8 and image.ndim == 3
    return picture or (image.is_floating_point() and image.ndim == 1 and bool(image.isfinite().all()))
