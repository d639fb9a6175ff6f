"""Tests of features: images to checked rows, and a store that returns them whole or not at all."""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from ltbench.errors import LtbenchError
from ltbench.features import Features, FeatureStore, extract, feature_key
from ltbench.features.extract import BATCH
from ltbench.types import Dataset, Part

KEY = "0123456789abcdef"


@dataclasses.dataclass
class Sums:
    """An encoder of three features: sum, largest and smallest value of an image; remembers its batches."""

    fingerprint: str = "sums"
    flops_per_image: int = 12
    batches: list[int] = dataclasses.field(default_factory=list)

    def preprocess(self, image: Tensor) -> Tensor:
        """Return pixel values in [0, 1]."""
        return image.double() / 255.0

    def __call__(self, batch: Tensor) -> Tensor:
        """Encode a batch."""
        self.batches.append(len(batch))
        flat = batch.flatten(1)
        return torch.stack([flat.sum(dim=1), flat.amax(dim=1), flat.amin(dim=1)], dim=1)


@dataclasses.dataclass
class Giving(Sums):
    """An encoder that gives whatever a function makes of a batch."""

    make: Callable[[Tensor], Tensor] = lambda batch: batch

    def __call__(self, batch: Tensor) -> Tensor:
        """Encode a batch."""
        return self.make(batch)


def part(rows: int, seed: int = 0) -> Part:
    """Return random images of 2 × 2 grey pixels, of two classes."""
    images = torch.randint(0, 256, (rows, 2, 2, 1), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return Part(torch.arange(rows) % 2, list(images))


def dataset(train: int = 5, test: int = 4, validation: int | None = None, fingerprint: str = "random") -> Dataset:
    """Return a dataset of that many images."""
    held_out = None if validation is None else part(validation, 2)
    return Dataset(part(train), part(test, 1), ("a", "b"), fingerprint, held_out)


def by_hand(images: Sequence[Tensor]) -> list[list[float]]:
    """Return the features of ``Sums`` by a loop over pixels."""
    rows = []
    for image in images:
        values = [int(value) / 255.0 for value in image.flatten()]
        rows.append([sum(values), max(values), min(values)])
    return rows


def rows_of(features: Features) -> dict[str, list[list[float]]]:
    """Return features as lists, for exact comparison."""
    return {name: x.tolist() for name, x in features.parts().items()}


# Extraction


@pytest.mark.parametrize("rows", [1, 2, BATCH - 1, BATCH, BATCH + 1, 2 * BATCH + 3])
def test_each_image_becomes_its_row(rows: int) -> None:
    """Rows come in the dataset's order, whatever the number of batches."""
    encoder = Sums()
    data = dataset(train=rows)
    features = extract(data, encoder, "cpu")
    assert (features.train.dtype, list(features.train.shape)) == (torch.float32, [rows, 3])
    torch.testing.assert_close(features.train, torch.tensor(by_hand(data.train.images)), rtol=1e-6, atol=1e-6)
    assert sum(encoder.batches) == rows + 4
    assert max(encoder.batches) <= BATCH


def test_every_part_is_encoded() -> None:
    """Features have the parts that the dataset has."""
    with_validation = extract(dataset(validation=3), Sums(), "cpu")
    assert {name: list(x.shape) for name, x in with_validation.parts().items()} == {
        "train": [5, 3],
        "test": [4, 3],
        "validation": [3, 3],
    }
    assert list(extract(dataset(), Sums(), "cpu").parts()) == ["train", "test"]


def test_features_carry_their_key() -> None:
    """The key of what was extracted is that of the dataset and the encoder."""
    assert extract(dataset(), Sums(), "cpu").key == feature_key(dataset(), Sums())


def test_features_of_half_precision_become_single() -> None:
    """What a backbone gives in another precision is kept as float32."""
    features = extract(dataset(), Giving(make=lambda batch: batch.flatten(1).half()), "cpu")
    assert {x.dtype for x in features.parts().values()} == {torch.float32}


def test_features_keep_no_graph() -> None:
    """A backbone with trainable weights leaves nothing behind for a gradient, which would hold every image in memory."""
    weight = torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
    features = extract(dataset(), Giving(make=lambda batch: batch.flatten(1) @ weight), "cpu")
    assert [x.requires_grad for x in features.parts().values()] == [False, False]


def test_ready_made_vectors_pass_through() -> None:
    """Images may be feature vectors; an encoder that returns them changes nothing."""
    vectors = torch.randn(6, 7, generator=torch.Generator().manual_seed(0))
    data = Dataset(Part(torch.arange(6), list(vectors)), Part(torch.arange(2), list(vectors[:2])), tuple("abcdef"), "vectors")
    encoder = Giving(make=lambda batch: batch)
    encoder.preprocess = lambda image: image  # type: ignore[method-assign]
    assert extract(data, encoder, "cpu").train.equal(vectors)


def spoiled(value: float) -> Callable[[Tensor], Tensor]:
    """Return an encoding whose rows 1 and 3 hold a value that is not finite."""

    def make(batch: Tensor) -> Tensor:
        x = batch.flatten(1).clone()
        x[1, 2] = x[3, 0] = x[3, 1] = value
        return x

    return make


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_features_that_are_not_finite_are_refused(value: float) -> None:
    """The error counts the images, and names the part."""
    with pytest.raises(LtbenchError, match=r"^the backbone gave NaN or infinite features for 2 of 5 images of the train part$"):
        extract(dataset(), Giving(make=spoiled(value)), "cpu")


def test_features_that_single_precision_cannot_hold_are_refused() -> None:
    """A finite double beyond float32 is infinite in what is kept."""
    with pytest.raises(LtbenchError, match="NaN or infinite features for 5 of 5 images of the train part"):
        extract(dataset(), Giving(make=lambda batch: batch.flatten(1) + 1e300), "cpu")


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda batch: batch.flatten(1).sum(dim=1), "[5]"),
        (lambda batch: batch, "[5, 2, 2, 1]"),
        (lambda batch: batch.flatten(1)[:, None, :], "[5, 1, 4]"),
        (lambda batch: batch.flatten(1)[1:], "[4, 4]"),
        (lambda batch: batch.flatten(1).repeat(2, 1), "[10, 4]"),
    ],
    ids=["one number each", "images", "tokens", "a row short", "twice the rows"],
)
def test_features_of_a_wrong_shape_are_refused(make: Callable[[Tensor], Tensor], shape: str) -> None:
    """The error says which shape was wanted, and which was given."""
    with pytest.raises(LtbenchError) as caught:
        extract(dataset(), Giving(make=make), "cpu")
    assert str(caught.value) == f"the backbone must give [5, D] features for the train part, it gave {shape}"


def test_rows_of_two_lengths_are_refused() -> None:
    """Batches whose features differ in length are the backbone's mistake, told as such."""
    with pytest.raises(LtbenchError, match="the backbone"):
        extract(dataset(train=BATCH + 1), Giving(make=lambda batch: batch.flatten(1)[:, : min(len(batch), 3)]), "cpu")


def test_parts_of_two_lengths_are_refused() -> None:
    """Test rows must be as long as training rows."""
    with pytest.raises(LtbenchError, match="the backbone"):
        extract(dataset(train=3, test=2), Giving(make=lambda batch: batch.flatten(1)[:, : len(batch)]), "cpu")


def test_no_features_at_all_are_refused() -> None:
    """Rows of length zero cannot be learned from."""
    with pytest.raises(LtbenchError, match="the backbone"):
        extract(dataset(), Giving(make=lambda batch: batch.flatten(1)[:, :0]), "cpu")


# Keys


def test_a_key_changes_with_content_and_weights() -> None:
    """Another dataset and another encoder have other features; anything else about them does not count."""
    base = feature_key(dataset(), Sums())
    assert feature_key(dataset(train=9), Sums(flops_per_image=7)) == base
    others = [feature_key(dataset(fingerprint="other"), Sums()), feature_key(dataset(), Sums(fingerprint="other"))]
    assert len({base, *others}) == 3


def test_a_key_tells_dataset_and_encoder_apart() -> None:
    """Fingerprints that change places are another pair."""
    one = feature_key(dataset(fingerprint="a"), Sums(fingerprint="b"))
    assert one != feature_key(dataset(fingerprint="b"), Sums(fingerprint="a"))


def test_a_key_changes_with_the_extractor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raising the extractor's version extracts everything anew."""
    before = feature_key(dataset(), Sums())
    monkeypatch.setattr(importlib.import_module("ltbench.features.extract"), "EXTRACTOR_VERSION", 999)
    assert feature_key(dataset(), Sums()) != before


# The store


class Counting:
    """Extracts the same features each time, and counts how often."""

    def __init__(self, *, validation: bool = True) -> None:
        """Make features whose bits are hard to guess."""
        generator = torch.Generator().manual_seed(3)
        train, test, held_out = (torch.randn(n, 3, generator=generator) for n in (4, 2, 3))
        self.features = Features(KEY, train, test, held_out if validation else None)
        self.calls = 0

    def __call__(self) -> Features:
        """Return the features."""
        self.calls += 1
        return self.features


def forbidden() -> Features:
    """Extract nothing: the store must have it."""
    raise AssertionError("features were extracted again")


@pytest.mark.parametrize("validation", [True, False])
def test_stored_features_are_not_extracted_again(tmp_path: Path, validation: bool) -> None:
    """The second time every part comes from disk, bit for bit; also in a store opened anew."""
    counting = Counting(validation=validation)
    first = FeatureStore(tmp_path).get(KEY, counting)
    second = FeatureStore(tmp_path).get(KEY, forbidden)
    assert (counting.calls, first, second.key) == (1, counting.features, KEY)
    assert rows_of(second) == rows_of(counting.features)
    assert {x.dtype for x in second.parts().values()} == {torch.float32}


def test_each_key_has_its_own_features(tmp_path: Path) -> None:
    """One key's features are not another's."""
    store = FeatureStore(tmp_path)
    store.get(KEY, Counting())
    other = Features("other", torch.zeros(1, 2), torch.ones(1, 2))
    assert rows_of(store.get("other", lambda: other)) == rows_of(other)
    assert rows_of(store.get(KEY, forbidden)) == rows_of(Counting().features)


def test_features_that_are_views_are_stored_whole(tmp_path: Path) -> None:
    """A transposed or sliced tensor comes back as its values."""
    base = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    features = Features(KEY, base.T, base.T[::2])
    FeatureStore(tmp_path).get(KEY, lambda: features)
    assert rows_of(FeatureStore(tmp_path).get(KEY, forbidden)) == rows_of(features)


def test_the_store_leaves_one_file_a_key(tmp_path: Path) -> None:
    """No temporary file stays behind."""
    store = FeatureStore(tmp_path)
    store.get(KEY, Counting())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [store.path(KEY)]


def test_a_failed_extraction_stores_nothing(tmp_path: Path) -> None:
    """An error passes through, and the next try extracts again."""

    def failing() -> Features:
        raise LtbenchError("out of images")

    with pytest.raises(LtbenchError, match="out of images"):
        FeatureStore(tmp_path).get(KEY, failing)
    assert list(tmp_path.rglob("*.safetensors")) == []
    counting = Counting()
    FeatureStore(tmp_path).get(KEY, counting)
    assert counting.calls == 1


def healed(folder: Path, content: bytes) -> None:
    """Put content in place of a stored file; check that it is noticed, extracted again, and mended for good."""
    store, counting = FeatureStore(folder), Counting()
    store.get(KEY, counting)
    good = store.path(KEY).read_bytes()
    store.path(KEY).write_bytes(content)
    with pytest.warns(UserWarning, match=r"damaged, extracting again$") as warned:
        found = store.get(KEY, counting)
    assert len(warned) == 1
    assert KEY in str(warned[0].message)
    assert rows_of(found) == rows_of(counting.features)
    assert store.path(KEY).read_bytes() == good
    assert rows_of(store.get(KEY, forbidden)) == rows_of(counting.features)
    store.path(KEY).unlink()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the bytes of a stored file."""
    store = FeatureStore(tmp_path_factory.mktemp("whole"))
    store.get(KEY, Counting())
    return store.path(KEY).read_bytes()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255))
@example(place=0.0, bits=1)
@example(place=0.9999, bits=128)
def test_a_flipped_byte_is_found(tmp_path: Path, whole: bytes, place: float, bits: int) -> None:
    """Any changed bit, in checksum, header or numbers, costs an extraction and never a wrong number."""
    content = bytearray(whole)
    content[int(place * len(whole))] ^= bits
    healed(tmp_path, bytes(content))


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.6, 0.99])
def test_a_truncated_file_is_found(tmp_path: Path, whole: bytes, share: float) -> None:
    """What a crash or a full disk cut off is extracted again."""
    healed(tmp_path, whole[: int(share * len(whole))])


@pytest.mark.parametrize("content", [b"\x00" * 500, b"x" * 31, b"x" * 32, b"not features"], ids=["zeros", "31", "32", "text"])
def test_a_foreign_file_is_found(tmp_path: Path, content: bytes) -> None:
    """A file of anything else is not taken for features."""
    healed(tmp_path, content)


def test_a_file_with_more_at_its_end_is_found(tmp_path: Path, whole: bytes) -> None:
    """Bytes too many are as bad as bytes too few."""
    healed(tmp_path, whole + b"\x00")


# A store that cannot be used


def costs_only_the_cache(store: FeatureStore, message: str) -> None:
    """Check that features come although nothing can be stored, with a warning that says so."""
    for _ in range(2):
        counting = Counting()
        with pytest.warns(UserWarning, match="cached") as warned:
            found = store.get(KEY, counting)
        assert re.match(message, str(warned[-1].message))
        assert (counting.calls, found) == (1, counting.features)


def refusing(*_: Any, **__: Any) -> Any:
    """Refuse, as a system call on a read-only folder does."""
    raise PermissionError(13, "Permission denied")


def test_a_full_disk_costs_only_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features that cannot be flushed are used all the same, and no half file is left."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    costs_only_the_cache(FeatureStore(tmp_path), "features are not cached: cannot write .*No space left on device")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_read_only_folder_costs_only_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that cannot be made is no reason to stop."""
    monkeypatch.setattr(Path, "mkdir", refusing)
    costs_only_the_cache(FeatureStore(tmp_path / "cache"), "features are not cached: cannot write .*Permission denied")


def test_a_file_in_place_of_the_folder_costs_only_the_cache(tmp_path: Path) -> None:
    """A cache folder that is a file cannot hold anything."""
    file = tmp_path / "cache"
    file.write_text("a file", encoding="utf-8")
    costs_only_the_cache(FeatureStore(file), "features are not cached: cannot write ")
    assert file.read_text(encoding="utf-8") == "a file"


def test_a_file_that_cannot_be_read_is_extracted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of another user, say, are not worth a failed run."""
    store, counting = FeatureStore(tmp_path), Counting()
    store.get(KEY, counting)
    monkeypatch.setattr(Path, "read_bytes", refusing)
    with pytest.warns(UserWarning, match="cached features cannot be read, extracting again: .*Permission denied"):
        found = store.get(KEY, counting)
    assert (counting.calls, found) == (2, counting.features)


def test_a_folder_in_place_of_the_file_costs_only_the_cache(tmp_path: Path) -> None:
    """What cannot be read or replaced is left alone."""
    store = FeatureStore(tmp_path)
    (store.path(KEY) / "inside").mkdir(parents=True)
    costs_only_the_cache(store, "features are not cached: cannot write ")
    assert (store.path(KEY) / "inside").is_dir()
