"""Tests of the digits dataset against scikit-learn's file."""

from __future__ import annotations

import functools
from collections import Counter
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits

import ltbench
from ltbench_datasets.digits import Digits

SIZES = (1, 50, 150)


@functools.cache
def loaded(test_per_class: int) -> ltbench.Dataset:
    """Return the dataset with a test part of some size."""
    return Digits(test_per_class=test_per_class).load(Path("nowhere"))


@functools.cache
def raw() -> list[tuple[int, tuple[int, ...]]]:
    """Return label and pixels (0 to 16) of every image, in file order."""
    file = load_digits()
    return [(int(label), tuple(int(v) for v in image.ravel())) for label, image in zip(file.target, file.images, strict=True)]


def pairs(part: ltbench.Part) -> list[tuple[int, tuple[int, ...]]]:
    """Return label and grey levels (0 to 16) of a part's images, in order."""
    return [
        (int(label), tuple(round(v * 16 / 255) for v in image.flatten().tolist()))
        for label, image in zip(part.labels, part.images, strict=True)
    ]


@pytest.mark.parametrize("size", SIZES)
class TestParts:
    """Training and test parts of several sizes."""

    def test_the_test_part_is_balanced(self, size: int) -> None:
        """Every class has as many test images as asked for."""
        assert Counter(loaded(size).test.labels.tolist()) == dict.fromkeys(range(10), size)

    def test_the_parts_cover_the_file_once(self, size: int) -> None:
        """Training and test images together are the 1,797 images of the file, each once."""
        dataset = loaded(size)
        assert Counter(pairs(dataset.train) + pairs(dataset.test)) == Counter(raw())
        assert len(dataset.train.labels) + len(dataset.test.labels) == 1797

    def test_test_images_are_the_last_of_their_class(self, size: int) -> None:
        """In file order each class's last images are the test part, and the order is kept."""
        dataset = loaded(size)
        for c in range(10):
            mine = [pair for pair in raw() if pair[0] == c]
            assert [pair for pair in pairs(dataset.train) if pair[0] == c] == mine[:-size]
            assert [pair for pair in pairs(dataset.test) if pair[0] == c] == mine[-size:]
        positions = iter(raw())
        assert all(any(pair == other for other in positions) for pair in pairs(dataset.test))

    def test_no_image_is_in_both_parts(self, size: int) -> None:
        """An image of the test part is not in the training part."""
        dataset = loaded(size)
        assert not set(pairs(dataset.train)) & set(pairs(dataset.test))


def test_training_counts_are_the_files_less_the_test_part() -> None:
    """By default 50 of each class's images are held for testing, and at least 124 are left."""
    in_file = Counter(label for label, _ in raw())
    expected = {c: n - 50 for c, n in in_file.items()}
    assert Counter(Digits().load(Path("nowhere")).train.labels.tolist()) == expected
    assert min(expected.values()) == 124


def test_images_are_bytes_on_the_full_scale() -> None:
    """Images are uint8 [8, 8, 1], grey level g of 16 as the byte nearest to g · 255 / 16."""
    dataset = loaded(50)
    levels = set()
    for image in [*dataset.train.images, *dataset.test.images]:
        assert (image.dtype, tuple(image.shape)) == (torch.uint8, (8, 8, 1))
        levels |= set(image.flatten().tolist())
    # 8 · 255 / 16 = 127.5 rounds to the even 128.
    assert sorted(levels) == [round(g * 255 / 16) for g in range(17)]


def test_labels_and_names() -> None:
    """Labels are int64 from 0 to 9, classes are named by their digit, and there is no validation part."""
    dataset = loaded(50)
    assert dataset.train.labels.dtype == dataset.test.labels.dtype == torch.int64
    assert dataset.class_names == tuple("0123456789")
    assert dataset.validation is None


def test_images_may_be_indexed_singly() -> None:
    """Image i belongs to label i: the part's sequences have one length and indexing gives one image."""
    train = loaded(50).train
    assert len(train.images) == len(train.labels)
    assert torch.equal(train.images[3], list(train.images)[3])


class TestFingerprint:
    """A name for the content."""

    def test_it_is_stable(self) -> None:
        """Loading again, or from another folder, gives the same fingerprint."""
        assert Digits(test_per_class=50).load(Path("elsewhere")).fingerprint == loaded(50).fingerprint

    def test_it_is_that_of_the_published_file(self) -> None:
        """It has not changed since results were first recorded: such a change makes them incomparable."""
        assert loaded(50).fingerprint == "346ad77b414d45cf60446425b056aefe85a5cd4ee300120738f4df647bc7e31a"

    def test_it_changes_with_the_test_part(self) -> None:
        """Parts of another size are another dataset."""
        assert len({loaded(size).fingerprint for size in SIZES}) == len(SIZES)
