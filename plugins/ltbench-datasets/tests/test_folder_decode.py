"""Tests of decoding image files, against Pillow and torchvision."""

from __future__ import annotations

import io
import pickle
import re
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, features

import ltbench
from ltbench_datasets.decode import SUFFIXES, ImageFiles, decode

COLOUR = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
GREY = COLOUR[..., 0]

LOSSLESS = {"png": {}, "bmp": {}, "tiff": {}, "ppm": {}, "webp": {"lossless": True}}
LOSSY = ["jpg", "webp", "gif", "jp2", *(["avif"] if features.check("avif") else [])]


def save(path: Path, image: Image.Image, **options: Any) -> str:
    """Write an image file and return its path."""
    image.save(path, **options)
    return str(path)


def as_torchvision(path: str) -> np.ndarray:
    """Return the pixels that torchvision's ImageFolder would give."""
    return np.asarray(pytest.importorskip("torchvision.datasets.folder").default_loader(path))


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_lossless_formats(tmp_path: Path, suffix: str) -> None:
    """What was written comes back: uint8 [H, W, 3], red first."""
    image = decode(save(tmp_path / f"x.{suffix}", Image.fromarray(COLOUR), **LOSSLESS[suffix]))
    assert (image.dtype, image.is_contiguous()) == (torch.uint8, True)
    assert np.array_equal(image.numpy(), COLOUR)


@pytest.mark.parametrize("suffix", LOSSY)
def test_lossy_formats(tmp_path: Path, suffix: str) -> None:
    """Pixels are those that torchvision's ImageFolder would give."""
    path = save(tmp_path / f"x.{suffix}", Image.fromarray(COLOUR))
    assert np.array_equal(decode(path).numpy(), as_torchvision(path))


def palette(transparency: Any) -> Image.Image:
    """Return an image of palette entries, with or without transparency."""
    image = Image.fromarray(COLOUR).quantize(16)
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.fromarray(GREY), np.repeat(GREY[..., None], 3, axis=2)),
        (Image.fromarray(GREY > 128), np.repeat(((GREY > 128) * 255)[..., None], 3, axis=2)),
        (Image.fromarray(np.dstack([GREY, GREY // 2])), np.repeat(GREY[..., None], 3, axis=2)),
        (Image.fromarray(np.dstack([COLOUR, GREY])), COLOUR),
        (palette(None), np.asarray(palette(None).convert("RGB"))),
        (palette(3), np.asarray(palette(None).convert("RGB"))),
        (palette(bytes(range(16))), np.asarray(palette(None).convert("RGB"))),
        (Image.fromarray(GREY.astype(np.uint16) * 256 + 255), np.repeat(GREY[..., None], 3, axis=2)),
    ],
    ids=["grey", "bits", "grey+alpha", "rgba", "palette", "palette+colour", "palette+alpha", "16-bit"],
)
def test_other_kinds_of_pixels(tmp_path: Path, image: Image.Image, expected: np.ndarray) -> None:
    """Grey is repeated, palettes looked up, alpha dropped, of 16 bits the high byte kept; without a warning."""
    found = decode(save(tmp_path / "x.png", image))
    assert found.tolist() == expected.tolist()


def test_sixteen_bits_of_colour(tmp_path: Path) -> None:
    """A PNG of 16 bits a channel, which Pillow cannot write, gives high bytes as well."""
    rows = b"".join(b"\0" + b"".join(struct.pack(">H", int(v) * 256 + 9) for v in row.ravel()) for row in COLOUR)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 7, 9, 16, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "x.png").write_bytes(png)
    assert np.array_equal(decode(str(tmp_path / "x.png")).numpy(), COLOUR)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_thirty_two_bits_have_no_scale(tmp_path: Path, mode: str) -> None:
    """Such files are refused rather than clipped."""
    path = save(tmp_path / "x.tiff", Image.fromarray(GREY).convert(mode))
    with pytest.raises(ltbench.LtbenchError, match=rf"{re.escape(path)} cannot be decoded: pixels of 32 bits \(mode {mode}\)"):
        decode(path)


def test_cmyk(tmp_path: Path) -> None:
    """Four printing colours become three, as torchvision has it."""
    path = save(tmp_path / "x.jpg", Image.fromarray(COLOUR).convert("CMYK"))
    assert np.array_equal(decode(path).numpy(), as_torchvision(path))


def test_orientation_is_left_as_stored(tmp_path: Path) -> None:
    """EXIF's orientation turns nothing, as in torchvision's ImageFolder."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "x.png", Image.fromarray(COLOUR), exif=exif)
    assert np.array_equal(decode(path).numpy(), COLOUR)


def test_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    """Later frames do not count."""
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    path = save(tmp_path / "x.gif", frames[0], save_all=True, append_images=frames[1:])
    assert np.array_equal(decode(path).numpy()[..., 0], GREY)


def test_content_tells_the_format(tmp_path: Path) -> None:
    """A PNG called .jpg is a PNG."""
    Image.fromarray(COLOUR).save(tmp_path / "x.jpg", format="PNG")
    assert np.array_equal(decode(str(tmp_path / "x.jpg")).numpy(), COLOUR)


def png() -> bytes:
    """Return a PNG of incompressible pixels."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (png()[:6000], "image file is truncated"),
        (b"no image", "it is no image of a known format"),
        (b"", "it is no image of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is no image of a known format"),
        (None, "No such file or directory"),
    ],
    ids=["truncated", "text", "empty", "postscript", "missing"],
)
def test_broken_files_are_named(tmp_path: Path, content: bytes | None, problem: str) -> None:
    """The message has the path and what is wrong; PostScript, which would start a program, is not read."""
    path = tmp_path / "naïve 名前.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ltbench.LtbenchError, match=f"image {re.escape(str(path))} cannot be decoded: {problem}"):
        decode(str(path))


@pytest.mark.parametrize("limit", [40, 20], ids=["warning", "error"])
def test_decompression_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """More pixels than Pillow allows are refused with the setting's name, before any is decoded."""
    path = save(tmp_path / "x.png", Image.fromarray(COLOUR))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(ltbench.LtbenchError, match=r"MAX_IMAGE_PIXELS allows \(Image size \(63 pixels\)"):
        decode(path)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tiff", "webp", "bmp", "jp2"])
def test_damaged_bytes(tmp_path: Path, suffix: str, seed: int) -> None:
    """Whatever bytes are changed, there is an image or an error with the path; nothing else is raised."""
    whole = Path(save(tmp_path / f"x.{suffix}", Image.fromarray(COLOUR))).read_bytes()
    random = np.random.default_rng(seed)
    outcomes = set()
    for _ in range(60):
        content = bytearray(whole)
        for position in random.integers(0, len(content), 3):
            content[position] = random.integers(0, 256)
        path = tmp_path / f"y.{suffix}"
        path.write_bytes(content)
        try:
            outcomes.add(decode(str(path)).shape[2])
        except ltbench.LtbenchError as error:
            outcomes.add(str(path) in str(error))
    assert outcomes <= {3, True}


class TestImageFiles:
    """A list of files, decoded when asked for."""

    def files(self, folder: Path, count: int = 20) -> tuple[ImageFiles, list[np.ndarray]]:
        """Write some images."""
        pixels = list(np.random.default_rng(0).integers(0, 256, (count, 5, 4, 3), dtype=np.uint8))
        (folder / "sub").mkdir()
        names = tuple(f"sub/{i}.png" for i in range(count))
        for name, image in zip(names, pixels, strict=True):
            Image.fromarray(image).save(folder / name)
        return ImageFiles(str(folder), names), pixels

    def test_it_is_a_sequence(self, tmp_path: Path) -> None:
        """Length, index from either end, slice and iteration; a slice decodes nothing."""
        files, pixels = self.files(tmp_path)
        assert len(files) == 20
        assert np.array_equal(files[3].numpy(), pixels[3])
        assert np.array_equal(files[-1].numpy(), pixels[-1])
        assert files[2:9:3] == ImageFiles(str(tmp_path), ("sub/2.png", "sub/5.png", "sub/8.png"))
        assert all(np.array_equal(a.numpy(), b) for a, b in zip(files, pixels, strict=True))
        with pytest.raises(IndexError):
            files[20]

    def test_threads_and_pickles(self, tmp_path: Path) -> None:
        """Many threads may ask at once, in this process and in another."""
        files, pixels = self.files(tmp_path)
        copied = pickle.loads(pickle.dumps(files))
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(copied.__getitem__, [*range(20)] * 5))
        assert all(np.array_equal(image.numpy(), pixels[i % 20]) for i, image in enumerate(found))


def test_suffixes_are_lower_case() -> None:
    """Names are compared in lower case, so these are."""
    assert list(SUFFIXES) == [suffix.lower() for suffix in SUFFIXES]
    assert all(suffix.startswith(".") for suffix in SUFFIXES)
