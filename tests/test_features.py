"""Tests of extraction: images to checked rows, the same bits however the work is shared, and keys that tell features apart."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from ltbench.errors import LtbenchError, UsageError
from ltbench.execute.numerics import pinned
from ltbench.features import extract, feature_key
from ltbench.features.extraction import CPU_BATCH, Extraction, Pace, Shard
from ltbench.features.manifest import SHARD
from ltbench.types import Dataset, Part


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


# Extraction


@pytest.mark.parametrize("rows", [1, 2, CPU_BATCH - 1, CPU_BATCH, CPU_BATCH + 1, SHARD, SHARD + 3])
def test_each_image_becomes_its_row(rows: int) -> None:
    """Rows come in the dataset's order, whatever the number of batches and shards; every batch is full."""
    encoder = Sums()
    data = dataset(train=rows)
    features = extract(data, encoder, "cpu")
    assert (features.train.dtype, list(features.train.shape)) == (torch.float32, [rows, 3])
    torch.testing.assert_close(features.train, torch.tensor(by_hand(data.train.images)), rtol=1e-6, atol=1e-6)
    assert set(encoder.batches) == {CPU_BATCH}


def test_shards_cover_each_part_once() -> None:
    """Shards are of one size but for the last of a part, in order, without gap or overlap."""
    shards = Extraction(dataset(train=2 * SHARD + 1, test=SHARD, validation=1), Sums()).shards()
    assert shards == [
        Shard("train", 0, SHARD),
        Shard("train", SHARD, 2 * SHARD),
        Shard("train", 2 * SHARD, 2 * SHARD + 1),
        Shard("test", 0, SHARD),
        Shard("validation", 0, 1),
    ]


class Net:
    """A small network with random weights: convolution, normalisation, attention, pooling."""

    fingerprint = "net"
    flops_per_image = 0

    def __init__(self) -> None:
        """Draw the weights."""
        generator = torch.Generator().manual_seed(0)
        self.kernel = torch.randn(16, 1, 3, 3, generator=generator)
        self.weight = torch.randn(48, 16, generator=generator)

    def preprocess(self, image: Tensor) -> Tensor:
        """Return pixel values in [0, 1], channels first."""
        return image.permute(2, 0, 1).float() / 255.0

    def __call__(self, batch: Tensor) -> Tensor:
        """Encode a batch."""
        x = torch.nn.functional.gelu(torch.nn.functional.conv2d(batch, self.kernel, padding=1))
        x = torch.nn.functional.layer_norm(x.flatten(2).transpose(1, 2), [16])
        q, k, v = (x @ self.weight.T).chunk(3, dim=2)
        return torch.nn.functional.scaled_dot_product_attention(q, k, v).mean(dim=1)


@pytest.fixture(scope="module")
def pictures() -> Dataset:
    """Return 100 training and 9 test images of 12 × 12 grey pixels."""
    images = torch.randint(0, 256, (109, 12, 12, 1), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return Dataset(Part(torch.zeros(100).long(), images[:100]), Part(torch.zeros(9).long(), images[100:]), ("a",), "pictures")


def encoded(data: Dataset, **how: Any) -> Tensor:
    """Return the training features of a dataset through the network."""
    extraction = Extraction(data, Net(), **how)
    return torch.cat([x for shard, x in extraction.encode(extraction.shards()) if shard.part == "train"])


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_threads_change_no_bit(pictures: Dataset, threads: int) -> None:
    """However many threads encode batches, the features are those of one."""
    assert encoded(pictures, threads=threads).equal(encoded(pictures, threads=1, batch=CPU_BATCH))


def test_threads_of_torch_change_no_bit(pictures: Dataset) -> None:
    """Operators use one thread each while features are extracted, and as many as before afterwards."""
    before, wanted = torch.get_num_threads(), encoded(pictures)
    try:
        torch.set_num_threads(3)
        assert encoded(pictures).equal(wanted)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_neighbours_change_no_bit(pictures: Dataset) -> None:
    """At one batch size, a row depends on its image alone: not on its place, its neighbours or the size of the dataset."""
    order = torch.randperm(100, generator=torch.Generator().manual_seed(2))
    other = dataclasses.replace(pictures, train=Part(torch.zeros(100).long(), pictures.train.images[order]))  # type: ignore[index]
    assert encoded(other).equal(encoded(pictures)[order])
    fewer = dataclasses.replace(pictures, train=Part(torch.zeros(37).long(), pictures.train.images[:37]))
    assert encoded(fewer).equal(encoded(pictures)[:37])


@pytest.mark.parametrize("batch", [1, 7, 64, 500])
def test_the_batch_size_changes_rounding_only(pictures: Dataset, batch: int) -> None:
    """Rows agree within 1e-5 of the largest number, whatever the batch size."""
    wanted = encoded(pictures)
    difference = (encoded(pictures, batch=batch) - wanted).abs().max() / wanted.abs().max()
    assert difference <= 1e-5


def test_the_environment_may_say_how_many_images_go_together(pictures: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """LTBENCH_BATCH is the batch size where the program says none; what is no number above 0 is refused."""
    monkeypatch.setenv("LTBENCH_BATCH", "9")
    assert [Extraction(pictures, Net(), batch=batch).batch for batch in (0, 4)] == [9, 4]
    assert encoded(pictures).equal(encoded(pictures, batch=9))
    for wrong in ("0", "-1", "many", "1.5"):
        monkeypatch.setenv("LTBENCH_BATCH", wrong)
        with pytest.raises(UsageError, match=f"^LTBENCH_BATCH must be a number of images of at least 1, not '{wrong}'$"):
            Extraction(pictures, Net())


@pytest.mark.parametrize("batch", [1, 32, 100])
def test_pieces_become_batches(pictures: Dataset, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device is fed pieces of batches, which it puts together: the same rows come out (seen without a device)."""
    wanted = encoded(pictures, batch=batch)
    monkeypatch.setattr(Extraction, "on_cuda", property(lambda self: True))
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(Tensor, "pin_memory", lambda x: x)
    assert encoded(pictures, batch=batch, threads=3).equal(wanted)


@pytest.mark.gpu
@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_a_gpu_gives_the_same_features(pictures: Dataset, device: str) -> None:
    """Within rounding of the CPU's; the same bits whatever the threads that feed it, and in which order images come."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")

    class OnDevice(Net):
        def __init__(self) -> None:
            super().__init__()
            self.kernel, self.weight = self.kernel.to(device), self.weight.to(device)

    def rows(data: Dataset, threads: int) -> Tensor:
        extraction = Extraction(data, OnDevice(), device, threads=threads)
        return torch.cat([x for shard, x in extraction.encode(extraction.shards()) if shard.part == "train"])

    order = torch.randperm(100, generator=torch.Generator().manual_seed(2))
    shuffled = dataclasses.replace(pictures, train=Part(torch.zeros(100).long(), pictures.train.images[order]))  # type: ignore[index]
    with pinned(device):
        found, wanted = rows(pictures, 1), encoded(pictures)
        assert (found - wanted).abs().max() <= 1e-4 * wanted.abs().max()
        assert rows(pictures, 4).equal(found)
        assert rows(shuffled, 2).equal(found[order])


def test_progress_is_told(pictures: Dataset) -> None:
    """After every batch: how many images are done of how many, at which rate, and how long the rest takes."""
    paces: list[Pace] = []
    extract(pictures, Net(), "cpu", progress=paces.append)
    assert [(pace.done, pace.total) for pace in paces] == [(32, 109), (64, 109), (96, 109), (100, 109), (109, 109)]
    assert all(pace.images_per_second > 0 for pace in paces)
    assert paces[-1].seconds_left == 0
    assert Pace(done=30, total=100, fresh=20, seconds=4.0).images_per_second == 5.0
    assert Pace(done=30, total=100, fresh=20, seconds=4.0).seconds_left == 14.0
    assert Pace(done=30, total=100, fresh=0, seconds=4.0).seconds_left is None


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
    with pytest.raises(
        LtbenchError, match=r"^the backbone gave NaN or infinite features for 2 of 5 images, images 0 to 4 of the train part$"
    ):
        extract(dataset(), Giving(make=spoiled(value)), "cpu")


def test_features_that_single_precision_cannot_hold_are_refused() -> None:
    """A finite double beyond float32 is infinite in what is kept."""
    with pytest.raises(LtbenchError, match="NaN or infinite features for 5 of 5 images, images 0 to 4 of the train part"):
        extract(dataset(), Giving(make=lambda batch: batch.flatten(1) + 1e300), "cpu")


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda batch: batch.flatten(1).sum(dim=1), "[32]"),
        (lambda batch: batch, "[32, 2, 2, 1]"),
        (lambda batch: batch.flatten(1)[:, None, :], "[32, 1, 4]"),
        (lambda batch: batch.flatten(1)[1:], "[31, 4]"),
        (lambda batch: batch.flatten(1).repeat(2, 1), "[64, 4]"),
        (lambda batch: batch.flatten(1)[:, :0], "[32, 0]"),
        (lambda batch: batch.tolist(), "list"),
    ],
    ids=["one number each", "images", "tokens", "a row short", "twice the rows", "nothing", "no tensor"],
)
def test_features_of_a_wrong_shape_are_refused(make: Callable[[Tensor], Any], shape: str) -> None:
    """The error says which shape was wanted, and which was given."""
    with pytest.raises(LtbenchError) as caught:
        extract(dataset(), Giving(make=make), "cpu")
    wanted = "[32, D] features for 32 images of the train part"
    assert str(caught.value) == f"the backbone must give {wanted}, it gave {shape}"


@pytest.mark.parametrize(("train", "test"), [(CPU_BATCH + 1, 2), (3, 2)], ids=["within a part", "between parts"])
def test_rows_of_two_lengths_are_refused(train: int, test: int) -> None:
    """Batches whose features differ in length are the backbone's mistake, told as such."""
    calls = iter(range(100))
    encoder = Giving(make=lambda batch: batch.flatten(1)[:, : 4 - (next(calls) > 0)])
    extraction = Extraction(dataset(train, test), encoder, threads=1)
    with pytest.raises(
        LtbenchError, match=r"^the backbone must give rows of one width, it gave 4 for images of the train part"
    ):
        list(extraction.encode(extraction.shards()))


def test_a_part_without_images_is_refused() -> None:
    """There is nothing to extract, and nothing to say about its width."""
    with pytest.raises(LtbenchError, match=r"^a part must have images, and part 'test' of the dataset has none$"):
        extract(dataset(test=0), Sums(), "cpu")


class Speaking(Giving):
    """An encoder with class text."""

    text: Any = None

    def class_text(self, data: Dataset) -> Tensor | None:
        """Return what was set."""
        return self.text  # type: ignore[no-any-return]


def speaking(text: Any) -> Speaking:
    """Return an encoder that gives such class text beside features of width 4."""
    encoder = Speaking(make=lambda batch: batch.flatten(1))
    encoder.text = text
    return encoder


def test_class_text_is_kept() -> None:
    """Class-text vectors are features, too; a backbone may have none for a dataset."""
    text = torch.eye(2, 4).double()
    found = extract(dataset(), speaking(text), "cpu").text
    assert found is not None
    assert (found.dtype, found.tolist()) == (torch.float32, text.tolist())
    assert extract(dataset(), speaking(None), "cpu").text is None


@pytest.mark.parametrize("text", [torch.zeros(3, 4), torch.zeros(2, 5), torch.full((2, 4), float("nan"))])
def test_wrong_class_text_is_refused(text: Tensor) -> None:
    """Class-text vectors must be finite, one for each class, as wide as features."""
    with pytest.raises(LtbenchError, match=r"^the backbone must give finite class-text vectors \[2, 4\], it gave \["):
        extract(dataset(), speaking(text), "cpu")


# Keys


KEYS: dict[str, Callable[[], str]] = {
    "content": lambda: feature_key(dataset(fingerprint="other"), Sums(), {"name": "sums"}),
    "weights or preprocessing": lambda: feature_key(dataset(), Sums(fingerprint="other"), {"name": "sums"}),
    "name, parameters, code or versions": lambda: feature_key(dataset(), Sums(), {"name": "sums", "parameters": {"k": 1}}),
    "class names read by a text tower": lambda: feature_key(dataset(), speaking(None), {"name": "sums"}),
}


@pytest.mark.parametrize("part", KEYS)
def test_a_key_changes_with_each_part(part: str) -> None:
    """Content, weights, preprocessing, identity: each alone makes another key."""
    assert KEYS[part]() != feature_key(dataset(), Sums(), {"name": "sums"})


def test_class_names_count_where_they_are_read() -> None:
    """Other class names are other features for a backbone with a text tower, and the same for others."""
    renamed = dataclasses.replace(dataset(), class_names=("a", "c"))
    assert feature_key(dataset(), Sums()) == feature_key(renamed, Sums())
    assert feature_key(dataset(), speaking(None)) != feature_key(renamed, speaking(None))


def test_what_changes_no_feature_is_in_no_key() -> None:
    """Costs, and names of classes nobody reads, do not count."""
    assert feature_key(dataset(train=9), Sums(flops_per_image=7)) == feature_key(dataset(), Sums())


def test_a_key_tells_dataset_and_encoder_apart() -> None:
    """Fingerprints that change places are another pair."""
    one = feature_key(dataset(fingerprint="a"), Sums(fingerprint="b"))
    assert one != feature_key(dataset(fingerprint="b"), Sums(fingerprint="a"))


def test_a_key_changes_with_the_extractor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raising the extractor's version extracts everything anew."""
    before = feature_key(dataset(), Sums())
    monkeypatch.setattr(importlib.import_module("ltbench.features.extraction"), "EXTRACTOR_VERSION", 999)
    assert feature_key(dataset(), Sums()) != before
