"""Tests of the glyphs datasets: parts, fingerprints, and the file that keeps the images."""

from __future__ import annotations

import dataclasses
import gc
import mmap
import pickle
import subprocess
import sys
import threading
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ltbench
from ltbench.testing import parametrize_with_checks
from ltbench_datasets.glyphs.atlas import read_atlas
from ltbench_datasets.glyphs.canvas import Canvas
from ltbench_datasets.glyphs.dataset import Glyphs, GlyphsPretrain
from ltbench_datasets.glyphs.published import PUBLISHED
from ltbench_datasets.glyphs.recipe import Recipe

SMALL = Glyphs(classes=5, train_per_class=20)
"""850 images; its fingerprint is published."""

FEW = GlyphsPretrain(classes=5, train_per_class=20)
"""200 images; its fingerprint is published."""

OWN = Glyphs(classes=3, train_per_class=4, seed=11)
"""462 images; its fingerprint is not."""


@parametrize_with_checks(["glyphs[classes=5,train_per_class=20]", "glyphs-pretrain[classes=4,train_per_class=3]"])
def test_conformance(component: Any, check: Any) -> None:
    """The rules of the contract hold."""
    check(component)


def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make drawing an error."""

    def draw(*_: Any) -> None:
        raise AssertionError("nothing must be drawn")

    monkeypatch.setattr(Recipe, "draw", draw)


def pixels(part: ltbench.Part) -> torch.Tensor:
    """Return all images of a part."""
    return torch.stack(list(part.images))


def file_in(folder: Path) -> Path:
    """Return the only file that keeps images."""
    (found,) = (folder / "glyphs").glob("*.images")
    return found


def open_descriptors() -> int:
    """Return how many files this process holds open; 0 where the system does not tell."""
    place = Path("/proc/self/fd")
    return len(list(place.iterdir())) if place.exists() else 0


class TestParts:
    """Labels, images and metadata."""

    def test_the_default_has_the_geometry_of_cifar_100(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """500, 50 and 100 images of each of 100 classes, known without drawing any."""
        no_drawing(monkeypatch)
        dataset = Glyphs().load(tmp_path)
        for part, count in ((dataset.train, 500), (dataset.validation, 50), (dataset.test, 100)):
            assert part is not None
            assert Counter(part.labels.tolist()) == dict.fromkeys(range(100), count)
            assert len(part.images) == len(part.labels) == 100 * count
            assert {len(values) for values in part.metadata.values()} == {100 * count}
        assert dataset.class_names == read_atlas("benchmark").class_names
        assert list(tmp_path.iterdir()) == []

    def test_pretraining_has_hundreds_of_other_classes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """300 classes, none of which the benchmark has."""
        no_drawing(monkeypatch)
        dataset = GlyphsPretrain().load(tmp_path)
        assert Counter(dataset.train.labels.tolist()) == dict.fromkeys(range(300), 300)
        assert not set(dataset.class_names) & set(Glyphs().load(tmp_path).class_names)

    def test_images_are_drawn_by_their_metadata(self, tmp_path: Path) -> None:
        """Image i is that of metadata i: the colours of corners go with those of the papers, and with no other image's."""
        train = SMALL.load(tmp_path).train
        corners = torch.stack([image[:4, :4].float().mean(dim=(0, 1)) for image in train.images]).flatten()
        paper = train.metadata["paper"]
        assert float(torch.corrcoef(torch.stack([corners, paper.float().flatten()]))[0, 1]) > 0.9
        assert float(torch.corrcoef(torch.stack([corners, paper.roll(1, 0).float().flatten()]))[0, 1]) < 0.5

    def test_a_smaller_set_is_a_part_of_a_larger_one(self, tmp_path: Path) -> None:
        """Fewer classes and fewer training images are the first ones of more."""
        large, small = SMALL.load(tmp_path), Glyphs(classes=3, train_per_class=7).load(tmp_path)
        chosen = torch.cat([torch.arange(7) + 20 * c for c in range(3)])
        assert torch.equal(pixels(small.train), pixels(large.train)[chosen])
        assert torch.equal(pixels(small.test), pixels(large.test)[:300])
        assert small.class_names == large.class_names[:3]

    def test_another_seed_draws_other_images(self, tmp_path: Path) -> None:
        """No image is shared between seeds, nor between parts."""
        contents = [
            image.numpy().tobytes()
            for seed in (0, 1)
            for image in Glyphs(classes=2, train_per_class=5, seed=seed).load(tmp_path).train.images
        ]
        validation = SMALL.load(tmp_path).validation
        assert validation is not None
        contents += [image.numpy().tobytes() for part in (validation, SMALL.load(tmp_path).test) for image in part.images]
        assert len(set(contents)) == len(contents) == 2 * 10 + 5 * 150

    def test_images_may_be_sliced_and_counted_from_the_end(self, tmp_path: Path) -> None:
        """Indexing follows Python's sequences, and an image is the caller's to change."""
        images = SMALL.load(tmp_path).test.images
        assert torch.equal(images[-1], images[len(images) - 1])
        assert [image.tolist() for image in images[2:6:2]] == [images[2].tolist(), images[4].tolist()]
        with pytest.raises(IndexError):
            images[len(images)]
        before = images[0]
        images[0].zero_()
        assert torch.equal(images[0], before)


class TestFingerprint:
    """The name of the content."""

    @pytest.mark.parametrize(
        "component", [SMALL, Glyphs(classes=20, train_per_class=200), FEW], ids=["small", "medium", "pretrain"]
    )
    def test_what_is_drawn_has_the_published_one(self, component: Glyphs, tmp_path: Path) -> None:
        """The published fingerprint is that of the images drawn here, and is known before they are."""
        canvas = Canvas(component._recipe, tmp_path)
        assert canvas.fingerprint == PUBLISHED[component._recipe] == component.load(tmp_path).fingerprint

    @pytest.mark.slow
    def test_the_whole_has_the_published_one(self) -> None:
        """All 65,000 images of the benchmark are those that were published."""
        recipe = Glyphs()._recipe
        images = np.empty((recipe.count, 32, 32, 3), np.uint8)
        recipe.draw(images, lambda _: None)
        assert recipe.fingerprint(images) == PUBLISHED[recipe]

    def test_it_is_a_hash_of_labels_and_pixels(self) -> None:
        """One bit of one image, or one image more, gives another."""
        recipe = OWN._recipe
        images = np.zeros((recipe.count, 32, 32, 3), np.uint8)
        changed = images.copy()
        changed[-1, -1, -1, -1] = 1
        other = dataclasses.replace(recipe, train=5, validation=49)
        assert len({recipe.fingerprint(images), recipe.fingerprint(changed), other.fingerprint(images)}) == 3

    def test_a_machine_that_draws_otherwise_is_found_out(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Images that are not the published ones are refused, and nothing is kept."""
        monkeypatch.setattr(Recipe, "draw", lambda recipe, into, progress: into.fill(7))
        dataset = SMALL.load(tmp_path)
        with pytest.raises(ltbench.LtbenchError, match=r"must have the fingerprint a.*, but have .*: this machine"):
            dataset.train.images[0]
        assert list(tmp_path.glob("glyphs/*.images")) == []


class TestFile:
    """The file that keeps the images."""

    def test_it_is_read_the_second_time(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Images are drawn once, and a dataset whose fingerprint is not published has the same one again."""
        first = OWN.load(tmp_path)
        expected = pixels(first.train)
        no_drawing(monkeypatch)
        again = OWN.load(tmp_path)
        assert again.fingerprint == first.fingerprint
        assert torch.equal(pixels(again.train), expected)

    @pytest.mark.parametrize("component", [SMALL, OWN], ids=["published", "own"])
    @pytest.mark.parametrize("damage", ["bit", "head", "cut", "longer", "empty"])
    def test_a_damaged_one_is_drawn_anew(self, component: Glyphs, damage: str, tmp_path: Path) -> None:
        """A flipped bit anywhere, or another size, is seen; the images and the file are then what they were."""
        dataset = component.load(tmp_path)
        expected = pixels(dataset.test)
        path = file_in(tmp_path)
        whole = path.read_bytes()
        bit, head = bytearray(whole), bytearray(whole)
        bit[-5] ^= 1
        head[3] ^= 1
        path.write_bytes({"bit": bit, "head": head, "cut": whole[:-1000], "longer": whole + b"x", "empty": b""}[damage])
        with pytest.warns(UserWarning, match="drawing again"):
            again = self.loaded(component, tmp_path)
        assert again.fingerprint == dataset.fingerprint
        assert torch.equal(pixels(again.test), expected)
        assert path.read_bytes() == whole

    def test_sound_images_of_another_drawing_are_not_taken_for_published_ones(self, tmp_path: Path) -> None:
        """A file that agrees with itself, but not with the published fingerprint, is drawn anew."""
        expected = pixels(SMALL.load(tmp_path).train)
        path = file_in(tmp_path)
        other = Canvas(dataclasses.replace(SMALL._recipe, seed=5), tmp_path)
        other.keep(lambda *_: None)
        other.path.replace(path)
        with pytest.warns(UserWarning, match="drawing again"):
            again = self.loaded(SMALL, tmp_path)
        assert torch.equal(pixels(again.train), expected)

    @staticmethod
    def loaded(component: Glyphs, folder: Path) -> ltbench.Dataset:
        """Load a dataset and its first image."""
        dataset = component.load(folder)
        dataset.train.images[0]
        return dataset

    def test_a_folder_that_cannot_be_written_costs_the_file_alone(self, tmp_path: Path) -> None:
        """Where the folder is a file, images are drawn and a warning says so; fetching says that it cannot."""
        blocked = tmp_path / "blocked"
        blocked.write_text("not a folder")
        expected = pixels(SMALL.load(tmp_path).train)
        with pytest.warns(UserWarning, match="images are drawn again next time: cannot write"):
            assert torch.equal(pixels(SMALL.load(blocked).train), expected)
        with pytest.raises(ltbench.LtbenchError, match="cannot write"):
            SMALL.fetch(blocked, lambda *_: None)

    def test_fetching_draws_what_is_missing_and_tells_how_far_it_is(self, tmp_path: Path) -> None:
        """Images done rise to the total; then nothing is missing, and a second call draws nothing."""
        told: list[tuple[str, int, int | None]] = []
        assert SMALL.missing(tmp_path) == "850 images are to be drawn"
        SMALL.fetch(tmp_path, lambda *args: told.append(args))
        assert SMALL.missing(tmp_path) == ""
        done = [each[1] for each in told]
        assert done == sorted(done)
        assert told[-1] == ("draw glyphs", 850, 850)
        SMALL.fetch(tmp_path, lambda *args: pytest.fail("nothing is missing"))

    def test_threads_draw_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Threads that ask for images at the same time get the same ones, drawn a single time."""
        calls: list[int] = []
        draw = Recipe.draw
        monkeypatch.setattr(Recipe, "draw", lambda *args: (calls.append(1), draw(*args))[1])
        images = SMALL.load(tmp_path).train.images
        found: list[torch.Tensor] = []
        threads = [threading.Thread(target=lambda: found.append(images[0])) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(calls) == 1
        assert all(torch.equal(image, found[0]) for image in found)
        assert len(found) == 8

    def test_a_dataset_travels_without_its_images(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A pickled dataset is small, has the same fingerprint, and reads its images where they are kept."""
        dataset = SMALL.load(tmp_path)
        expected = pixels(dataset.train)
        content = pickle.dumps(dataset)
        assert len(content) < 850 * 32 * 32 * 3 / 10
        no_drawing(monkeypatch)
        copy = pickle.loads(content)
        assert copy.fingerprint == dataset.fingerprint
        assert torch.equal(pixels(copy.train), expected)

    def test_images_are_mapped_and_let_go_of(self, tmp_path: Path) -> None:
        """Drawn or read, images are the file's own pages, they outlast the file, and no descriptor outlasts them."""
        expected = pixels(OWN.load(tmp_path).test)
        descriptors = open_descriptors()
        for state in ("read", "drawn"):
            dataset = OWN.load(tmp_path)
            whole: Any = Canvas(OWN._recipe, tmp_path).images()
            while isinstance(whole, np.ndarray):
                assert not whole.flags.writeable
                whole = whole.base
            assert isinstance(whole.obj if isinstance(whole, memoryview) else whole, mmap.mmap), state
            first = dataset.test.images[0]
            file_in(tmp_path).unlink()
            assert torch.equal(first, expected[0])
            assert torch.equal(dataset.test.images[-1], expected[-1])
        del dataset, whole
        gc.collect()
        assert open_descriptors() == descriptors

    @pytest.mark.slow
    def test_of_two_processes_at_once_one_draws(self, tmp_path: Path) -> None:
        """The second waits for the first and takes its images; both have the same ones, and nothing else is left."""
        code = (
            "import sys, pathlib; from ltbench_datasets.glyphs.recipe import Recipe\n"
            "draw = Recipe.draw\n"
            "Recipe.draw = lambda *args: (print('drawn'), draw(*args))[1]\n"
            "from ltbench_datasets.glyphs.dataset import Glyphs\n"
            "images = Glyphs(classes=5, train_per_class=20).load(pathlib.Path(sys.argv[1])).train.images\n"
            "sys.stdin.readline()\n"
            "print(images[99].sum().item())"
        )
        command = [sys.executable, "-W", "error", "-c", code, str(tmp_path)]
        pipe = subprocess.PIPE
        running = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
        told = [process.communicate("go\n")[0].split() for process in running]
        assert [process.returncode for process in running] == [0, 0]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            expected = str(SMALL.load(tmp_path).train.images[99].sum().item())
        assert sorted(told, key=len) == [[expected], ["drawn", expected]]
        assert file_in(tmp_path).stat().st_size == 65 + 850 * 3072
        assert {path.suffix for path in (tmp_path / "glyphs").iterdir()} == {".images", ".lock"}


def test_every_published_recipe_is_one_of_a_component() -> None:
    """The table names what users can ask for: no entry is of other counts of validation or test images."""
    for recipe in PUBLISHED:
        kind = {"benchmark": Glyphs, "pretrain": GlyphsPretrain}[recipe.characters]
        assert kind(classes=recipe.classes, train_per_class=recipe.train, seed=recipe.seed)._recipe == recipe
