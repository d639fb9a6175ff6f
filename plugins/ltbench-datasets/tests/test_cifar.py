"""Tests of CIFAR-10 and CIFAR-100 on small archives in the true format, written here and served on loopback."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import pickle
import re
import subprocess
import sys
import tarfile
import textwrap
import types
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ltbench
from ltbench.contract import FetchedDataset
from ltbench.longtail import assign_groups, profile_counts, select_published_rows
from ltbench.testing import parametrize_with_checks
from ltbench_datasets import cifar
from ltbench_datasets import download as download_module
from ltbench_datasets.cifar import Cifar10, Cifar100, Published

Server = Any
COMPONENTS = {"cifar10": Cifar10(), "cifar100": Cifar100()}


@dataclasses.dataclass(frozen=True)
class Made:
    """An archive in the true format, and what is in it: images [N, 32, 32, 3] and labels [N, label bytes] of each part."""

    published: Published
    archive: bytes
    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


def make(published: Published, classes: int, seed: int) -> Made:
    """Write an archive with 7 training and 3 test images a class, in random order."""
    random = np.random.default_rng(seed)
    parts, files = [], {}
    for names, each in ((published.train, 7), (published.test, 3)):
        fine = random.permutation(np.repeat(np.arange(classes), each)).astype(np.uint8)
        labels = fine[:, None] if published.label_bytes == 1 else np.stack([fine // 5, fine], axis=1)
        images = random.integers(0, 256, (len(fine), 32, 32, 3), dtype=np.uint8)
        rows = np.array([[*label, *image.transpose(2, 0, 1).ravel()] for label, image in zip(labels, images, strict=True)])
        for name, block in zip(names, np.array_split(rows.astype(np.uint8), len(names)), strict=True):
            files[name] = block.tobytes()
        parts.append((images, labels))
    files[published.names[0]] = "".join(f"class {i}\n" for i in range(classes)).encode() + b"\n"
    if published.label_bytes == 2:
        files[published.names[1]] = "".join(f"group {i}\n" for i in range(classes // 5)).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in {"readme.html": b"<html>", **files}.items():
            info = tarfile.TarInfo(f"{published.folder}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    archive = buffer.getvalue()
    known = dataclasses.replace(published, sha256=hashlib.sha256(archive).hexdigest())
    return Made(known, archive, *parts)


MADE = {"cifar10": make(cifar.CIFAR10, 10, 1), "cifar100": make(cifar.CIFAR100, 100, 2)}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    """Publish the small archives in place of the real ones; nothing is waited for."""
    monkeypatch.setattr(cifar, "CIFAR10", MADE["cifar10"].published)
    monkeypatch.setattr(cifar, "CIFAR100", MADE["cifar100"].published)
    monkeypatch.setenv(cifar.URL_VARIABLE, server.url.rpartition("/")[0] + "/mirror/")
    monkeypatch.setattr(download_module, "time", types.SimpleNamespace(sleep=lambda _: None))


@pytest.fixture(params=MADE)
def name(request: pytest.FixtureRequest, server: Server) -> str:
    """Return the name of one of the two datasets, which the server has."""
    server.content = MADE[request.param].archive
    return str(request.param)


def ignore(*_: Any) -> None:
    """Take no notice of progress."""


def fetched(name: str, folder: Path) -> ltbench.Dataset:
    """Fetch and load."""
    COMPONENTS[name].fetch(folder, ignore)
    return COMPONENTS[name].load(folder)


class TestContent:
    """What comes out is what was written."""

    def test_images_and_labels_in_file_order(self, name: str, tmp_path: Path) -> None:
        """Every image, [32, 32, 3] with red first, and its class, file by file."""
        dataset, made = fetched(name, tmp_path), MADE[name]
        for part, (images, labels) in ((dataset.train, made.train), (dataset.test, made.test)):
            assert part.labels.dtype == torch.int64
            assert part.labels.tolist() == labels[:, -1].tolist()
            assert np.array_equal(torch.stack(list(part.images)).numpy(), images)
            assert all(image.is_contiguous() and image.dtype == torch.uint8 for image in part.images)

    def test_class_names(self, name: str, tmp_path: Path) -> None:
        """Names come from the archive, in the order of labels; its blank last line names no class."""
        dataset = fetched(name, tmp_path)
        assert dataset.class_names == tuple(f"class {i}" for i in range(10 if name == "cifar10" else 100))
        assert dataset.validation is None

    def test_superclasses(self, tmp_path: Path, server: Server) -> None:
        """CIFAR-100's coarse label is known of every image, by name."""
        server.content = MADE["cifar100"].archive
        dataset = fetched("cifar100", tmp_path)
        assert dataset.test.metadata["superclass"] == [f"group {i // 5}" for i in dataset.test.labels.tolist()]

    def test_images_by_index_and_slice(self, name: str, tmp_path: Path) -> None:
        """Indexing is a sequence's: negative, sliced, and IndexError at the end, where iteration stops."""
        images = fetched(name, tmp_path).train.images
        everything = torch.stack(list(images))
        assert len(images) == len(everything)
        assert torch.equal(images[-1], everything[-1])
        assert torch.equal(torch.stack(list(images[5:17:3])), everything[5:17:3])
        for index in (len(images), -len(images) - 1):
            with pytest.raises(IndexError):
                images[index]

    def test_many_threads_and_other_processes(self, name: str, tmp_path: Path) -> None:
        """Images may be asked for by several threads at once, and survive pickling as names of files, not as pixels."""
        images = fetched(name, tmp_path).train.images
        alone = list(images)
        fresh = pickle.dumps(images)
        assert len(fresh) < 1000
        copied = pickle.loads(fresh)
        with ThreadPoolExecutor(8) as pool:
            assert all(map(torch.equal, pool.map(copied.__getitem__, range(len(copied))), alone))

    def test_an_image_is_the_readers_own(self, name: str, tmp_path: Path) -> None:
        """Writing to an image changes neither the file nor the next reader's image."""
        images = fetched(name, tmp_path).train.images
        first = images[0].clone()
        images[0].zero_()
        assert torch.equal(images[0], first)


class TestPublishedSubsets:
    """The long-tailed subsets of the literature, from the labels alone."""

    def test_rows_are_the_literatures(self, name: str, tmp_path: Path) -> None:
        """A naive loop over classes, with the legacy generator seeded once, selects the same rows of the same images."""
        labels = fetched(name, tmp_path).train.labels
        counts = profile_counts("exp", 7, 7, len(set(labels.tolist())))
        generator, expected = np.random.RandomState(0), []
        for c, count in enumerate(counts):
            rows = np.where(labels.numpy() == c)[0]
            generator.shuffle(rows)
            expected.extend(rows[:count].tolist())
        assert select_published_rows(labels, counts).tolist() == expected

    @pytest.mark.parametrize(
        ("classes", "ratio", "profile", "rows", "last", "strict", "inclusive"),
        [
            (100, 1, "exp", 50_000, 500, (100, 0, 0), (100, 0, 0)),
            (100, 10, "exp", 19_573, 50, (69, 31, 0), (70, 30, 0)),
            (100, 20, "exp", 15_907, 25, (53, 47, 0), (54, 46, 0)),
            (100, 50, "exp", 12_608, 10, (41, 41, 18), (41, 40, 19)),
            (100, 100, "exp", 10_847, 5, (35, 35, 30), (35, 34, 31)),
            (100, 200, "exp", 9_502, 2, (30, 31, 39), (31, 29, 40)),
            (100, 10, "step", 27_500, 50, (50, 50, 0), (50, 50, 0)),
            (100, 50, "step", 25_500, 10, (50, 0, 50), (50, 0, 50)),
            (100, 100, "step", 25_250, 5, (50, 0, 50), (50, 0, 50)),
            (10, 10, "exp", 20_431, 500, (10, 0, 0), (10, 0, 0)),
            (10, 50, "exp", 13_996, 100, (9, 1, 0), (10, 0, 0)),
            (10, 100, "exp", 12_406, 50, (8, 2, 0), (8, 2, 0)),
        ],
    )
    def test_counts_and_groups_are_the_published_ones(
        self, classes: int, ratio: float, profile: str, rows: int, last: int, strict: Any, inclusive: Any
    ) -> None:
        """Labels as the real files have them, 50,000 in classes of equal size, give the tables of PROTOCOL.md."""
        size = 50_000 // classes
        labels = torch.from_numpy(np.random.default_rng(0).permutation(np.repeat(np.arange(classes), size)))
        counts = profile_counts(profile, size, ratio, classes)
        chosen = select_published_rows(labels, counts)
        assert (len(chosen), counts[-1]) == (rows, last)
        assert Counter(labels[chosen].tolist()) == dict(enumerate(counts))
        for rule, groups in (("strict", strict), ("inclusive", inclusive)):
            found = Counter(assign_groups(counts, rule))
            assert (found["head"], found["medium"], found["tail"]) == groups


class TestFingerprint:
    """A name for the content."""

    def test_it_is_that_of_the_files(self, name: str, tmp_path: Path) -> None:
        """It does not depend on the folder, and differs between datasets."""
        here, there = fetched(name, tmp_path / "here"), fetched(name, tmp_path / "there")
        assert here.fingerprint == there.fingerprint
        assert re.fullmatch("[0-9a-f]{64}", here.fingerprint)

    def test_every_byte_counts(self, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Another image or another order is another dataset."""
        found = set()
        for seed in (1, 3):
            made = make(cifar.CIFAR10, 10, seed)
            server.content = made.archive
            monkeypatch.setattr(cifar, "CIFAR10", made.published)
            found.add(fetched("cifar10", tmp_path / str(seed)).fingerprint)
        assert len(found) == 2


class TestFetching:
    """From a server to files that can be mapped into memory."""

    def test_the_contract(self, name: str, tmp_path: Path, server: Server) -> None:
        """Missing says what is to be done, fetch does it, and then nothing is missing."""
        component = COMPONENTS[name]
        assert isinstance(component, FetchedDataset)
        assert component.missing(tmp_path) == f"{MADE[name].published.archive} is not there"
        component.fetch(tmp_path / "data", ignore)
        assert component.missing(tmp_path / "data") == ""
        assert server.paths == [f"/mirror/{MADE[name].published.archive}"]

    def test_load_does_not_download(self, name: str, tmp_path: Path, server: Server) -> None:
        """Without files, load says what is missing and which command mends it."""
        with pytest.raises(ltbench.UsageError, match=f"{name} in .*is not there: run 'ltbench data fetch {name}'"):
            COMPONENTS[name].load(tmp_path)
        assert server.asked == []
        assert list(tmp_path.iterdir()) == []

    def test_an_archive_that_is_there(self, name: str, tmp_path: Path, server: Server) -> None:
        """A user's own download is unpacked without a server."""
        (tmp_path / MADE[name].published.archive).write_bytes(MADE[name].archive)
        with pytest.raises(ltbench.UsageError, match="is there, but not unpacked: run 'ltbench data fetch"):
            COMPONENTS[name].load(tmp_path)
        assert len(fetched(name, tmp_path).train.labels) == len(MADE[name].train[1])
        assert server.asked == []

    def test_fetching_again(self, name: str, tmp_path: Path, server: Server) -> None:
        """What is whole is left as it is, even when the archive has been deleted since."""
        fetched(name, tmp_path)
        (tmp_path / MADE[name].published.archive).unlink()
        COMPONENTS[name].fetch(tmp_path, ignore)
        assert len(server.asked) == 1
        assert COMPONENTS[name].missing(tmp_path) == ""

    def test_a_connection_cut_half_way(self, name: str, tmp_path: Path, server: Server) -> None:
        """The other half is asked for, and the dataset is whole."""
        half = len(server.content) // 2
        server.cuts = [half]
        dataset = fetched(name, tmp_path)
        assert server.asked == [{}, {"Range": f"bytes={half}-", "If-Range": '"one"'}]
        assert dataset.train.labels.tolist() == MADE[name].train[1][:, -1].tolist()

    def test_a_wrong_checksum(self, name: str, tmp_path: Path, server: Server) -> None:
        """Another archive is not unpacked, and not kept."""
        server.content = MADE["cifar100" if name == "cifar10" else "cifar10"].archive
        with pytest.raises(ltbench.LtbenchError, match=r"must have SHA-256 .* and was deleted"):
            COMPONENTS[name].fetch(tmp_path, ignore)
        assert COMPONENTS[name].missing(tmp_path) == f"{MADE[name].published.archive} is not there"

    @pytest.mark.parametrize("room", ["for half the archive", "for the archive alone"])
    def test_a_full_disk(self, tmp_path: Path, server: Server, room: str) -> None:
        """Too little room for the archive or for what is in it is told; with room the next fetch goes through."""
        resource = pytest.importorskip("resource")
        zeros = make_compressible()
        server.content = zeros.archive
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(cifar, "CIFAR10", zeros.published)
            patched.setattr(cifar, "LIMITS", dataclasses.replace(cifar.LIMITS, ratio=1e6))
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            bound = len(zeros.archive) // 2 if "half" in room else len(zeros.archive) + 1000
            resource.setrlimit(resource.RLIMIT_FSIZE, (bound, hard))
            try:
                with pytest.raises(ltbench.LtbenchError, match=f"no room left for {tmp_path}"):
                    COMPONENTS["cifar10"].fetch(tmp_path, ignore)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            assert not any(path.name.endswith(".unpacking") for path in tmp_path.iterdir())
            assert len(fetched("cifar10", tmp_path).train.labels) == 500

    def test_a_second_process_at_the_same_time(self, tmp_path: Path, server: Server) -> None:
        """The archive comes once; the second process waits, and then has nothing to do."""
        made = MADE["cifar10"]
        server.content = made.archive
        code = f"""
            import dataclasses
            from pathlib import Path
            from ltbench_datasets import cifar
            cifar.CIFAR10 = dataclasses.replace(cifar.CIFAR10, sha256={made.published.sha256!r})
            cifar.Cifar10().fetch(Path({str(tmp_path)!r}), lambda *told: print(*told, flush=True))
            print(len(cifar.Cifar10().load(Path({str(tmp_path)!r})).train.labels))
        """
        others: list[subprocess.Popen[str]] = []

        def start_another(*_: Any) -> None:
            if not others:
                command = [sys.executable, "-c", textwrap.dedent(code)]
                others.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ}))
                assert others[0].stdout is not None
                told = others[0].stdout.readline()
                assert told == f"wait for another process at work on {made.published.folder} 0 None\n"

        COMPONENTS["cifar10"].fetch(tmp_path, start_another)
        assert others[0].communicate(timeout=60) == ("70\n", None)
        assert len(server.asked) == 1

    def test_progress_names_both_steps(self, name: str, tmp_path: Path) -> None:
        """Downloading and unpacking are told apart."""
        told: list[tuple[str, int, int | None]] = []
        COMPONENTS[name].fetch(tmp_path, lambda *progress: told.append(progress))
        archive = MADE[name].published.archive
        assert list(dict.fromkeys(what for what, _, _ in told)) == [archive, f"unpack {archive}"]


class TestDamage:
    """Unpacked files that are no longer what they were."""

    @pytest.mark.parametrize("harm", ["flip", "cut", "delete"])
    def test_a_changed_file_is_found_and_mended(self, name: str, tmp_path: Path, server: Server, harm: str) -> None:
        """Load names the file; fetch unpacks it again from the archive that is there."""
        first = fetched(name, tmp_path)
        path = tmp_path / MADE[name].published.folder / MADE[name].published.train[0]
        content = bytearray(path.read_bytes())
        content[5000] ^= 1
        {"flip": lambda: path.write_bytes(content), "cut": lambda: path.write_bytes(content[:-1]), "delete": path.unlink}[
            harm
        ]()
        told = "is there, but not unpacked" if harm == "delete" else f"{path.name} in .* must be as unpacked, but differ"
        with pytest.raises(ltbench.UsageError, match=f"{told}: run 'ltbench data fetch {name}'"):
            COMPONENTS[name].load(tmp_path)
        assert re.search(told, COMPONENTS[name].missing(tmp_path))
        assert fetched(name, tmp_path).fingerprint == first.fingerprint
        assert len(server.asked) == 1

    def test_a_spoilt_list_of_checksums(self, name: str, tmp_path: Path) -> None:
        """A list that cannot be read is damage like any other."""
        fetched(name, tmp_path)
        (tmp_path / MADE[name].published.folder / "SHA256SUMS").write_bytes(b"nonsense\n\xff\n\n")
        with pytest.raises(ltbench.UsageError, match="must be as unpacked, but differ"):
            COMPONENTS[name].load(tmp_path)

    def test_checksums_are_in_the_usual_form(self, name: str, tmp_path: Path) -> None:
        """``sha256sum --check SHA256SUMS`` would find every file to be right."""
        fetched(name, tmp_path)
        folder = tmp_path / MADE[name].published.folder
        for line in (folder / "SHA256SUMS").read_text().splitlines():
            digest, file = line.split("  ")
            assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == digest

    def test_an_archive_that_lacks_a_file(self, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What an archive must hold is told."""
        server.content = MADE["cifar10"].archive
        monkeypatch.setattr(cifar, "CIFAR10", dataclasses.replace(cifar.CIFAR10, test=("other.bin",)))
        with pytest.raises(ltbench.LtbenchError, match=r"must hold .*; it lacks other\.bin"):
            COMPONENTS["cifar10"].fetch(tmp_path, ignore)


def make_compressible() -> Made:
    """Return an archive that is far smaller than what is in it: 500 black training images."""
    files = {name: bytes(100 * 3073) for name in (*cifar.CIFAR10.train, *cifar.CIFAR10.test)}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in {**files, cifar.CIFAR10.names[0]: b"a\nb\n"}.items():
            info = tarfile.TarInfo(f"{cifar.CIFAR10.folder}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    archive = buffer.getvalue()
    none = np.zeros(0)
    return Made(
        dataclasses.replace(cifar.CIFAR10, sha256=hashlib.sha256(archive).hexdigest()), archive, (none, none), (none, none)
    )


def test_the_published_archives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names and layout are the official ones: 162 and 161 MiB on the authors' page."""
    monkeypatch.undo()
    assert cifar.URL + cifar.CIFAR10.archive == "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    assert cifar.URL + cifar.CIFAR100.archive == "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"
    assert cifar.CIFAR10.files[:6] == (*[f"data_batch_{i}.bin" for i in (1, 2, 3, 4, 5)], "test_batch.bin")
    assert cifar.CIFAR100.files == ("train.bin", "test.bin", "fine_label_names.txt", "coarse_label_names.txt")


@parametrize_with_checks(["cifar10", "cifar100"])
def test_conformance(component: Any, check: Any, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both keep the contract of datasets."""
    name = component.canonical
    server.content = MADE[name].archive
    monkeypatch.setenv("LTBENCH_DATA", str(tmp_path))
    COMPONENTS[name].fetch(tmp_path, ignore)
    check(component)
