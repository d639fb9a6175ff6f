"""Tests of the feature store: sets come back whole or not at all, whoever writes, kills, damages or refuses them."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from ltbench.errors import LtbenchError
from ltbench.features import Extraction, Features, FeatureStore, Origin, key_parts
from ltbench.features.folder import SetFolder
from ltbench.features.manifest import SHARD
from ltbench.types import Dataset, Part

TRAIN, TEST = 2 * SHARD + 100, 300


class Flat:
    """Pixels as features; counts the batches it encodes, and may refuse."""

    fingerprint = "flat"
    flops_per_image = 3

    def __init__(self, refuse_after: int | None = None) -> None:
        """Refuse after so many batches."""
        self.batches, self.refuse_after = 0, refuse_after

    def preprocess_batch(self, images: Tensor) -> Tensor:
        """Return pixels as they are."""
        return images

    def preprocess(self, image: Tensor) -> Tensor:
        """Return pixels as they are."""
        return image

    def __call__(self, batch: Tensor) -> Tensor:
        """Encode a batch."""
        self.batches += 1
        if self.refuse_after is not None and self.batches > self.refuse_after:
            raise LtbenchError("out of patience")
        return batch.flatten(1).float() / 255.0


def pictures(train: int = TRAIN, test: int = TEST) -> Dataset:
    """Return a dataset of 2 × 2 grey pixels."""
    images = torch.randint(0, 256, (train + test, 2, 2, 1), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    parts = [Part(torch.zeros(len(x)).long(), x) for x in (images[:train], images[train:])]
    return Dataset(parts[0], parts[1], ("a",), f"{train}+{test}")


def extraction(encoder: Any = None, **how: Any) -> Extraction:
    """Return how the pictures are extracted."""
    return Extraction(how.pop("data", pictures()), encoder or Flat(), **{"threads": 1, **how})


def origin(data: Dataset | None = None, **changes: Any) -> Origin:
    """Return where their features come from."""
    data = data or pictures()
    made = Origin("pictures", "flat", key_parts(data, Flat(), {"name": "flat"}), {"torch": "1"}, 3)
    return dataclasses.replace(made, **changes)


def by_hand(data: Dataset | None = None) -> dict[str, list[list[float]]]:
    """Return the features by division."""
    data = data or pictures()
    return {name: (part.images.flatten(1).float() / 255.0).tolist() for name, part in parts_of(data).items()}  # type: ignore[union-attr]


def parts_of(data: Dataset) -> dict[str, Part]:
    """Return the parts there are."""
    return {"train": data.train, "test": data.test}


def rows_of(features: Features) -> dict[str, list[list[float]]]:
    """Return features as lists, for exact comparison."""
    return {name: x.tolist() for name, x in features.parts().items()}


def refused() -> Extraction:
    """Return an extraction that must not happen."""
    return extraction(Flat(refuse_after=0))


def files_of(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the files of a complete set."""
    folder = tmp_path_factory.mktemp("made")
    FeatureStore(folder).extracted(extraction(), origin())
    return files_of(folder)


@pytest.fixture
def store(tmp_path: Path, made: dict[str, bytes]) -> FeatureStore:
    """Return a store that holds the set."""
    for name, content in made.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return FeatureStore(tmp_path)


def place_of(store: FeatureStore) -> SetFolder:
    """Return the folder of the set."""
    return store.set(origin().key)


# Once


def test_features_are_extracted_once(tmp_path: Path) -> None:
    """The second time every part comes from disk, bit for bit, also in a store opened anew."""
    first = FeatureStore(tmp_path).extracted(extraction(), origin())
    second = FeatureStore(tmp_path).extracted(refused(), origin())
    assert rows_of(first) == rows_of(second) == by_hand()
    assert (first.key, second.key) == (origin().key, origin().key)
    assert {x.dtype for x in second.parts().values()} == {torch.float32}


def test_features_are_found_without_a_backbone(store: FeatureStore) -> None:
    """Whoever knows the key needs no encoder; an unknown key finds nothing."""
    found = store.find(origin().key)
    assert found is not None
    assert rows_of(found) == by_hand()
    assert store.find("0" * 32) is None


def test_sets_are_found_by_what_they_were_made_from(store: FeatureStore) -> None:
    """Dataset and identity of the backbone find every set of theirs, with the costs; the weights need not be known."""
    found = store.made_from(pictures(), {"name": "flat"})
    assert [(each.key, each.origin, each.rows, each.width) for each in found] == [(origin().key, origin(), TRAIN + TEST, 4)]
    assert store.made_from(pictures(), {"name": "other"}) == []
    assert store.made_from(pictures(train=9), {"name": "flat"}) == []


MISSES: dict[str, Origin] = {
    "content": origin(pictures(train=9)),
    "weights": origin(parts={**origin().parts, "encoder": "other"}),
    "identity": origin(parts={**origin().parts, "backbone": {"name": "other"}}),
    "extractor": origin(parts={**origin().parts, "extractor": 0}),
    "precision": origin(parts={**origin().parts, "dtype": "float16"}),
    "machine": origin(numerics={"torch": "2"}),
}


@pytest.mark.parametrize("part", MISSES)
def test_stale_features_are_impossible(store: FeatureStore, part: str) -> None:
    """A set is missed as soon as one part of what it was made from differs."""
    with pytest.raises(LtbenchError, match="out of patience"):
        store.extracted(refused(), MISSES[part])


HITS: dict[str, Origin] = {"nothing": origin(), "names": origin(dataset="p", backbone="f"), "cost": origin(flops_per_image=9)}


@pytest.mark.parametrize("part", HITS)
@pytest.mark.parametrize("how", [{"batch": 7}, {"threads": 3}, {"progress": print}])
def test_what_changes_no_feature_is_a_hit(store: FeatureStore, tmp_path: Path, part: str, how: dict[str, Any]) -> None:
    """Names, costs, batch size, threads and the cache's place do not count."""
    moved = tmp_path.rename(tmp_path.with_name(f"{tmp_path.name}-moved"))
    assert rows_of(FeatureStore(moved).extracted(extraction(Flat(refuse_after=0), **how), HITS[part])) == by_hand()


def test_every_part_is_kept(tmp_path: Path) -> None:
    """Validation rows and class text, which may be more than a shard, come back from disk, too."""
    data = pictures(5, 4)
    text = torch.randn(SHARD + 1, 4, generator=torch.Generator().manual_seed(0))
    held_out = Part(torch.zeros(3).long(), data.train.images[:3])  # type: ignore[index]
    data = dataclasses.replace(data, validation=held_out, class_names=tuple(map(str, range(SHARD + 1))))

    class Speaking(Flat):
        def class_text(self, _: Dataset) -> Tensor:
            return text

    found = [FeatureStore(tmp_path).extracted(extraction(Speaking(), data=data), origin(data)) for _ in range(2)]
    wanted = {**by_hand(data), "validation": by_hand(data)["train"][:3], "text": text.tolist()}
    assert [rows_of(each) for each in found] == [wanted, wanted]
    assert list(place_of(FeatureStore(tmp_path)).damage()) == []


def test_rows_are_mapped_and_private(store: FeatureStore) -> None:
    """Rows are not read before they are used; writing to them changes neither the files nor what others see."""
    found, other = store.find(origin().key), store.find(origin().key)
    assert found is not None
    assert other is not None
    found.train[0] = -1.0
    assert other.train[0].tolist() == by_hand()["train"][0]
    assert list(place_of(store).damage()) == []


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux")
def test_rows_are_pages_of_the_file(store: FeatureStore) -> None:
    """The numbers lie in a mapping of the file itself."""
    found = store.find(origin().key)
    assert found is not None
    file = str(place_of(store).path / _manifest(store).parts["train"].file)
    ranges = [line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(file)]
    assert any(int(start, 16) <= found.train.data_ptr() < int(end, 16) for start, end in ranges)


def test_numbers_are_aligned(store: FeatureStore) -> None:
    """Rows begin where vector instructions like it."""
    found = store.find(origin().key)
    assert found is not None
    assert [x.data_ptr() % 64 for x in found.parts().values()] == [0, 0]


def test_a_set_is_a_few_read_only_files(store: FeatureStore, tmp_path: Path) -> None:
    """A complete set is a file a part, a manifest and a note; neither shards nor temporary files nor locks stay."""
    folder = FeatureStore(tmp_path / "new")
    folder.extracted(extraction(), origin())
    found = sorted(path.name for path in place_of(folder).path.rglob("*"))
    parts = sorted(part.file for part in _manifest(folder).parts.values())
    assert found == ["checked.json", "manifest.json", *parts]
    modes = [stat.S_IMODE((place_of(folder).path / name).stat().st_mode) for name in ("manifest.json", *parts)]
    assert modes == [0o444] * 3


def test_a_manifest_says_what_a_set_is(store: FeatureStore) -> None:
    """Names, size, date, hashes and origin can be read by anybody."""
    said = json.loads((place_of(store).path / "manifest.json").read_bytes())
    assert (said["format"], said["key"], said["batch"]) == (1, origin().key, 32)
    assert (said["origin"]["dataset"], said["origin"]["backbone"]) == ("pictures", "flat")
    assert (said["parts"]["train"]["rows"], said["parts"]["train"]["width"]) == (TRAIN, 4)
    assert len(said["parts"]["train"]["shards"]) == 3


def _manifest(store: FeatureStore) -> Any:
    """Return the manifest of the set."""
    manifest = place_of(store).manifest()
    assert manifest is not None
    return manifest


# Kills and company


def test_what_was_done_before_an_error_stays(tmp_path: Path) -> None:
    """An extraction that fails keeps its finished shards, and the next one goes on from there."""
    per_shard = SHARD // 32
    with pytest.raises(LtbenchError, match="out of patience"):
        FeatureStore(tmp_path).extracted(extraction(Flat(refuse_after=per_shard + 5)), origin())
    encoder = Flat()
    assert rows_of(FeatureStore(tmp_path).extracted(extraction(encoder), origin())) == by_hand()
    assert encoder.batches == -(-TRAIN // 32) + -(-TEST // 32) - per_shard


def test_another_batch_size_begins_anew(tmp_path: Path) -> None:
    """Shards of two batch sizes, whose rounding may differ, never come into one set."""
    with pytest.raises(LtbenchError, match="out of patience"):
        FeatureStore(tmp_path).extracted(extraction(Flat(refuse_after=SHARD // 32 + 5)), origin())
    encoder = Flat()
    FeatureStore(tmp_path).extracted(extraction(encoder, batch=64), origin())
    assert encoder.batches == -(-TRAIN // 64) + -(-TEST // 64)


def test_a_damaged_shard_is_made_again(tmp_path: Path) -> None:
    """A shard of an unfinished set that is not what its name says is not used."""
    with pytest.raises(LtbenchError, match="out of patience"):
        FeatureStore(tmp_path).extracted(extraction(Flat(refuse_after=SHARD // 32 + 5)), origin())
    (shard,) = tmp_path.rglob("train-*.safetensors")
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.unlink()
    shard.write_bytes(content)
    assert rows_of(FeatureStore(tmp_path).extracted(extraction(), origin())) == by_hand()


def _extract_in_company(folder: Path, counts: Any, meeting: Any, stall_at: int = -1) -> None:
    """Extract in a process of its own, beginning when all have a shard to work on; tell how many batches that took.

    At batch ``stall_at`` it waits to be killed.
    """
    torch.set_num_threads(1)

    class Waiting(Flat):
        def __call__(self, batch: Tensor) -> Tensor:
            if not self.batches:
                meeting.wait(60)
            if self.batches == stall_at:
                time.sleep(3600)
            return super().__call__(batch)

    encoder = Waiting()
    features = FeatureStore(folder).extracted(extraction(encoder), origin())
    counts.put((encoder.batches, rows_of(features) == by_hand()))


@pytest.fixture
def start() -> Iterator[Callable[..., Any]]:
    """Return what starts a process, which does not outlive the test."""
    started: list[Any] = []

    def begin(*arguments: Any) -> Any:
        process = multiprocessing.get_context("fork").Process(target=_extract_in_company, args=arguments)
        process.start()
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.join()


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork")
def test_processes_share_the_work(tmp_path: Path, start: Callable[..., Any]) -> None:
    """Three that want the same set at once extract every shard once between them, and all get it."""
    fork = multiprocessing.get_context("fork")
    counts, meeting = fork.Queue(), fork.Barrier(3)
    processes = [start(tmp_path, counts, meeting) for _ in range(3)]
    found = [counts.get(timeout=60) for _ in processes]
    assert [right for _, right in found] == [True] * 3
    assert sum(batches for batches, _ in found) == -(-TRAIN // 32) + -(-TEST // 32)
    assert min(batches for batches, _ in found) > 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork")
def test_a_killed_extraction_goes_on_where_it_stopped(tmp_path: Path, start: Callable[..., Any]) -> None:
    """What a killed process had claimed is free at once, and its finished shards are used."""
    fork = multiprocessing.get_context("fork")
    process = start(tmp_path, fork.Queue(), fork.Barrier(1), SHARD // 32 + 5)
    while not list(tmp_path.rglob("train-*.safetensors")):
        assert process.is_alive()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    encoder = Flat()
    assert rows_of(FeatureStore(tmp_path).extracted(extraction(encoder), origin())) == by_hand()
    assert encoder.batches == -(-TRAIN // 32) + -(-TEST // 32) - SHARD // 32


def test_without_locks_nothing_is_torn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that knows no locks costs work done twice at most."""
    import filelock

    def unknown(*_: Any, **__: Any) -> Any:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(filelock.FileLock, "acquire", unknown)
    assert rows_of(FeatureStore(tmp_path).extracted(extraction(), origin())) == by_hand()


def test_a_set_completed_by_another_is_taken(tmp_path: Path, made: dict[str, bytes]) -> None:
    """Who finds the set complete after its own last shard uses it, and leaves no shards behind."""
    store = FeatureStore(tmp_path)

    class Overtaken(Flat):
        def __call__(self, batch: Tensor) -> Tensor:
            if self.batches == 3:
                for name, content in made.items():
                    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                    (tmp_path / name).write_bytes(content)
            return super().__call__(batch)

    encoder = Overtaken()
    assert rows_of(store.extracted(extraction(encoder), origin())) == by_hand()
    assert encoder.batches <= SHARD // 32 + 4
    assert [path.name for path in place_of(store).path.iterdir() if path.is_dir()] == []


# Damage


def damaged_is_healed(store: FeatureStore, name: str, content: bytes) -> int:
    """Put content in place of a file; check that it is noticed and mended for good; return the batches it took."""
    path, encoder = place_of(store).path / name, Flat()
    good = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="^cached features are damaged, extracting again: ") as warned:
        found = store.extracted(extraction(encoder), origin())
    assert len(warned) == 1
    assert str(path) in str(warned[0].message)
    assert rows_of(found) == by_hand()
    if name != "manifest.json":  # which holds the time it was made
        assert path.read_bytes() == good
    assert rows_of(store.extracted(refused(), origin())) == by_hand()
    return encoder.batches


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.integers(0, 2), place=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255))
@example(number=0, place=0.0, bits=1)
@example(number=1, place=0.9999, bits=128)
@example(number=2, place=0.9999, bits=8)
def test_a_flipped_bit_is_found(store: FeatureStore, number: int, place: float, bits: int) -> None:
    """Any changed bit, in manifest, header or numbers, costs an extraction and never a wrong number."""
    name = sorted(name for name in files_of(place_of(store).path) if name != "checked.json")[number]
    content = bytearray((place_of(store).path / name).read_bytes())
    content[int(place * len(content))] ^= bits
    damaged_is_healed(store, name, bytes(content))


def test_only_what_is_damaged_is_extracted_again(store: FeatureStore) -> None:
    """A wrong bit in the second shard costs the second shard."""
    name = _manifest(store).parts["train"].file
    content = bytearray((place_of(store).path / name).read_bytes())
    content[-4 * 4 * (SHARD + 100) + 5] ^= 1
    assert damaged_is_healed(store, name, bytes(content)) == SHARD // 32


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_truncated_file_is_found(store: FeatureStore, number: int, share: float) -> None:
    """What a crash or a full disk cut off is extracted again."""
    name = sorted(name for name in files_of(place_of(store).path) if name != "checked.json")[number]
    content = (place_of(store).path / name).read_bytes()
    damaged_is_healed(store, name, content[: int(share * len(content))])


def test_a_missing_file_is_found(store: FeatureStore) -> None:
    """A file that somebody deleted is extracted again."""
    (place_of(store).path / _manifest(store).parts["test"].file).unlink()
    with pytest.warns(UserWarning, match="it is missing"):
        assert rows_of(store.extracted(extraction(), origin())) == by_hand()


def test_files_are_hashed_once_a_state(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is hashed when its size or time has changed, and not at every opening."""
    hashed: list[Path] = []
    from ltbench.features import folder

    genuine = folder.sha256_of
    monkeypatch.setattr(folder, "sha256_of", lambda path: hashed.append(path) or genuine(path))
    (place_of(store).path / "checked.json").unlink()
    for _ in range(3):
        store.find(origin().key)
    assert len(hashed) == 2
    os.utime(place_of(store).path / _manifest(store).parts["test"].file, ns=(1, 1))
    store.find(origin().key)
    assert len(hashed) == 3


def test_a_foreign_set_is_not_believed(store: FeatureStore) -> None:
    """A whole set in the folder of another key is not taken for that key's features."""
    place_of(store).path.rename(store.set("0" * 32).path)
    with pytest.warns(UserWarning, match="not that of its folder"):
        assert store.find("0" * 32) is None


# A store that cannot be used


def costs_only_the_cache(folder: Path, message: str) -> None:
    """Check that features come although nothing can be stored, with a warning that says so."""
    for _ in range(2):
        encoder = Flat()
        with pytest.warns(UserWarning, match="cached") as warned:
            found = FeatureStore(folder).extracted(extraction(encoder), origin())
        assert message in str(warned[-1].message)
        assert rows_of(found) == by_hand()
        assert encoder.batches == -(-TRAIN // 32) + -(-TEST // 32)


def refusing(*_: Any, **__: Any) -> Any:
    """Refuse, as a system call on a read-only folder does."""
    raise PermissionError(13, "Permission denied")


def test_a_full_disk_costs_only_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features that cannot be flushed are used all the same, and no half file is left."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    costs_only_the_cache(tmp_path, "No space left on device")
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"] == []


def test_a_disk_that_fills_up_costs_only_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shards that were written before the disk was full are used, too, and kept."""
    genuine, calls = os.fsync, iter(range(100))

    def filling(descriptor: int) -> None:
        if next(calls) >= 2:
            raise OSError(28, "No space left on device")
        genuine(descriptor)

    monkeypatch.setattr(os, "fsync", filling)
    encoder = Flat()
    with pytest.warns(UserWarning, match="^features are not cached: .*No space left on device"):
        assert rows_of(FeatureStore(tmp_path).extracted(extraction(encoder), origin())) == by_hand()
    monkeypatch.setattr(os, "fsync", genuine)
    again = Flat()
    assert rows_of(FeatureStore(tmp_path).extracted(extraction(again), origin())) == by_hand()
    assert again.batches == encoder.batches - 2 * SHARD // 32


def test_a_read_only_folder_costs_only_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that cannot be made is no reason to stop."""
    monkeypatch.setattr(Path, "mkdir", refusing)
    costs_only_the_cache(tmp_path / "cache", "Permission denied")


def test_a_file_in_place_of_the_folder_costs_only_the_cache(tmp_path: Path) -> None:
    """A cache folder that is a file cannot hold anything."""
    file = tmp_path / "cache"
    file.write_text("a file", encoding="utf-8")
    costs_only_the_cache(file, "features are not cached: cannot write to ")
    assert file.read_text(encoding="utf-8") == "a file"


def test_a_manifest_that_cannot_be_read_costs_only_the_cache(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of another user, say, are not worth a failed run."""
    monkeypatch.setattr(Path, "read_bytes", refusing)
    with pytest.warns(UserWarning, match="cached features cannot be read, extracting again: .*Permission denied"):
        assert rows_of(store.extracted(extraction(), origin())) == by_hand()


def test_a_read_only_cache_is_used(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shared cache that may not be written serves its features, without a word."""
    (place_of(store).path / "checked.json").unlink()
    monkeypatch.setattr(os, "utime", refusing)
    monkeypatch.setattr(Path, "replace", refusing)
    assert rows_of(store.extracted(refused(), origin())) == by_hand()


def test_errors_of_the_backbone_are_no_matter_of_the_cache(tmp_path: Path) -> None:
    """An error passes through, releases its shards, and leaves no manifest."""
    with pytest.raises(LtbenchError, match="out of patience"):
        FeatureStore(tmp_path).extracted(refused(), origin())
    assert list(tmp_path.rglob("*.json")) == []
    assert rows_of(FeatureStore(tmp_path).extracted(extraction(), origin())) == by_hand()
