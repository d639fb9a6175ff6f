"""Tests of what is remembered of files: their hashes, and whether they decode."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image

from ltbench_datasets import contents as module
from ltbench_datasets.contents import Content, Depth, File, examine, stat_file, unexamined


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the files that were read, in order."""
    names: list[str] = []
    look = module._look
    monkeypatch.setattr(module, "_look", lambda root, file, depth: (names.append(file.name), look(root, file, depth))[1])
    return names


def write(folder: Path, name: str, content: bytes, age: float = 3600.0) -> File:
    """Write a file that was last changed some seconds ago."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (time.time() - age,) * 2)
    return stat_file(folder, name)


def sha(content: bytes) -> str:
    """Return a hash by the plain way."""
    return hashlib.sha256(content).hexdigest()


def image_bytes(folder: Path, size: int = 64) -> bytes:
    """Return a PNG."""
    path = folder / "made.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)).save(path)
    return path.read_bytes()


class TestMemory:
    """A file is read once."""

    def test_hashes_are_those_of_the_bytes(self, tmp_path: Path) -> None:
        """In the order asked for, for more files than are read at a time."""
        files = [write(tmp_path, f"d/{i}.bin", str(i).encode()) for i in range(module.BLOCK + 10)]
        assert examine(tmp_path, files, Depth.BYTES) == [Content(sha(str(i).encode())) for i in range(module.BLOCK + 10)]

    def test_a_file_is_read_once(self, tmp_path: Path, read: list[str]) -> None:
        """The second time nothing is read, and the answers are the same."""
        files = [write(tmp_path, name, name.encode()) for name in ("a", "b", "ü/名")]
        first = examine(tmp_path, files, Depth.BYTES)
        assert sorted(read) == ["a", "b", "ü/名"]
        read.clear()
        assert unexamined(tmp_path, files, Depth.BYTES) == 0
        assert examine(tmp_path, files, Depth.BYTES) == first
        assert read == []

    @pytest.mark.parametrize(("content", "age"), [(b"longer", 3600.0), (b"new", 1800.0)], ids=["size", "time"])
    def test_a_changed_file_is_read_again(self, tmp_path: Path, read: list[str], content: bytes, age: float) -> None:
        """Another size or time of change is another file."""
        files = [write(tmp_path, "same", b"1"), write(tmp_path, "changed", b"old")]
        examine(tmp_path, files, Depth.BYTES)
        read.clear()
        files[1] = write(tmp_path, "changed", content, age)
        assert examine(tmp_path, files, Depth.BYTES) == [Content(sha(b"1")), Content(sha(content))]
        assert read == ["changed"]

    def test_a_young_file_is_not_remembered(self, tmp_path: Path, read: list[str]) -> None:
        """It could change again within one tick of a coarse clock, and look the same."""
        young = write(tmp_path, "young", b"1", age=0.0)
        assert examine(tmp_path, [young], Depth.BYTES) == examine(tmp_path, [young], Depth.BYTES)
        assert read == ["young", "young"]

    def test_a_closer_look_reads_again(self, tmp_path: Path, read: list[str]) -> None:
        """What was only hashed has not been decoded; what was decoded has been hashed."""
        file = write(tmp_path, "x.png", image_bytes(tmp_path))
        counts = []
        for depth in (Depth.BYTES, Depth.HEADER, Depth.PIXELS, Depth.HEADER, Depth.BYTES):
            examine(tmp_path, [file], depth)
            counts.append(len(read))
        assert counts == [1, 2, 3, 3, 3]

    def test_folders_are_told_apart(self, tmp_path: Path, read: list[str]) -> None:
        """The same name in another folder is another file; the same folder by a link is the same."""
        here, there = write(tmp_path / "here", "x", b"1"), write(tmp_path / "there", "x", b"2")
        (tmp_path / "link").symlink_to("here")
        examine(tmp_path / "here", [here], Depth.BYTES)
        assert examine(tmp_path / "there", [there], Depth.BYTES) == [Content(sha(b"2"))]
        assert examine(tmp_path / "link", [here], Depth.BYTES) == [Content(sha(b"1"))]
        assert read == ["x", "x"]

    @pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"pillow": "1", "files": {"x": [1]}}', b'{"files": 3}'])
    def test_a_damaged_memory_is_none(self, tmp_path: Path, read: list[str], damage: bytes) -> None:
        """Files are read again, and the memory is whole afterwards."""
        file = write(tmp_path, "x", b"1")
        examine(tmp_path, [file], Depth.BYTES)
        (memory,) = (Path(os.environ["LTBENCH_CACHE"]) / "contents").iterdir()
        memory.write_bytes(damage)
        for _ in range(2):
            assert examine(tmp_path, [file], Depth.BYTES) == [Content(sha(b"1"))]
        assert read == ["x", "x"]

    def test_another_pillow_decodes_anew(self, tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """Hashes hold for every version of Pillow, what it makes of a file does not."""
        file = write(tmp_path, "x.png", b"no image")
        (found,) = examine(tmp_path, [file], Depth.HEADER)
        assert found == Content(sha(b"no image"), "it is no image of a known format")
        monkeypatch.setattr(PIL, "__version__", "99")
        assert examine(tmp_path, [file], Depth.BYTES) == [Content(sha(b"no image"))]
        assert read == ["x.png"]
        assert examine(tmp_path, [file], Depth.HEADER) == [found]
        assert read == ["x.png", "x.png"]

    def test_a_memory_that_cannot_be_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It costs time, not the answer, and is told."""
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / "contents").write_text("a file where a folder must be")
        monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path / "cache"))
        with pytest.warns(UserWarning, match="what is in the files is not remembered: cannot write"):
            assert examine(tmp_path, [write(tmp_path, "x", b"1")], Depth.BYTES) == [Content(sha(b"1"))]

    def test_an_interrupted_look_keeps_what_it_has_seen(self, tmp_path: Path, read: list[str]) -> None:
        """Files read before an interruption are not read again."""
        files = [write(tmp_path, f"{i:04}", b"1") for i in range(2 * module.BLOCK)]

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            examine(tmp_path, files, Depth.BYTES, interrupt)
        assert unexamined(tmp_path, files, Depth.BYTES) == module.BLOCK

    def test_progress(self, tmp_path: Path) -> None:
        """Images done of those to be read, ending with all; nothing to tell when nothing is read."""
        told: list[tuple[str, int, int | None]] = []
        files = [write(tmp_path, f"{i}", b"1") for i in range(module.BLOCK + 1)]
        for _ in range(2):
            examine(tmp_path, files, Depth.BYTES, lambda *progress: told.append(progress))
        assert told == [(f"examine {tmp_path}", n, module.BLOCK + 1) for n in (module.BLOCK, module.BLOCK + 1)]


class TestProblems:
    """What keeps files from being images, by how closely one looks."""

    @pytest.mark.parametrize("depth", Depth)
    def test_what_each_look_finds(self, tmp_path: Path, depth: Depth) -> None:
        """A text is found by its header, a truncated image by its pixels alone."""
        whole = image_bytes(tmp_path)
        found = examine(
            tmp_path,
            [
                write(tmp_path, "good.png", whole),
                write(tmp_path, "text.png", b"text"),
                write(tmp_path, "half.png", whole[:6000]),
            ],
            depth,
        )
        assert [bool(content.problem) for content in found] == [False, depth >= Depth.HEADER, depth >= Depth.PIXELS]
        assert [content.sha256 for content in found] == [sha(whole), sha(b"text"), sha(whole[:6000])]

    def test_files_that_are_not_opened(self, tmp_path: Path, read: list[str]) -> None:
        """What is known to be no file is not read, whatever it is."""
        file = File("pipe.png", 0, 0, "it is no regular file")
        assert examine(tmp_path, [file], Depth.PIXELS) == [Content("", "it is no regular file")]
        assert unexamined(tmp_path, [file], Depth.PIXELS) == 0
        assert read == []

    def test_a_file_that_cannot_be_read_is_tried_again(self, tmp_path: Path, read: list[str]) -> None:
        """The reason may pass without a change of the file."""
        file = File("gone.png", 3, 1)
        assert examine(tmp_path, [file], Depth.BYTES) == [Content("", "No such file or directory")]
        later = write(tmp_path, "gone.png", b"yes")
        os.utime(tmp_path / "gone.png", ns=(1, 1))
        assert examine(tmp_path, [File("gone.png", later.size, 1)], Depth.BYTES) == [Content(sha(b"yes"))]
