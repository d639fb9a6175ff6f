"""Images drawn once and kept in a file: checked when opened, drawn anew when damaged. Knows a recipe, not how it draws."""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

import ltbench
from ltbench_datasets.download import Progress, locked
from ltbench_datasets.glyphs.atlas import Bytes
from ltbench_datasets.glyphs.drawing import IMAGE
from ltbench_datasets.glyphs.recipe import Recipe

_HEAD = 65
"""The fingerprint in hexadecimal digits and the end of its line; the pixels follow."""


class Canvas:
    """The images of a recipe ``[N, 32, 32, 3]``, read or drawn when they are first needed, once, by any of several threads."""

    def __init__(self, recipe: Recipe, folder: Path, fingerprint: str | None = None) -> None:
        """Say where the file is to be; a fingerprint that is not known is that of what is read or drawn."""
        self.recipe = recipe
        self.path = folder.absolute() / "glyphs" / f"{recipe.name}.images"
        self._images: Bytes | None = None
        self._lock = threading.Lock()
        self._fingerprint = fingerprint

    def __getstate__(self) -> dict[str, Any]:
        """Pickle what is needed to open the file again."""
        return {"recipe": self.recipe, "path": self.path, "fingerprint": self.fingerprint}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin without images."""
        self.recipe, self.path, self._fingerprint = state["recipe"], state["path"], state["fingerprint"]
        self._images, self._lock = None, threading.Lock()

    @property
    def fingerprint(self) -> str:
        """The hash of the content: as published, or as found."""
        if self._fingerprint is None:
            self.images()
        return str(self._fingerprint)

    @property
    def is_there(self) -> bool:
        """Whether there is a file of the right size; it is not read."""
        try:
            return self.path.stat().st_size == _HEAD + self._pixels
        except OSError:
            return False

    @property
    def _pixels(self) -> int:
        """Bytes of all images."""
        return self.recipe.count * IMAGE * IMAGE * 3

    def images(self) -> Bytes:
        """Return all images, mapped from the file; held in memory only where the file cannot be written, which is told.

        Raises LtbenchError if this machine draws other images than it should.
        """
        with self._lock:
            if self._images is None:
                self._images = self._read()
            if self._images is None:
                self._images, problem = self._made(lambda *_: None)
                if problem:
                    warnings.warn(f"images are drawn again next time: {problem}", stacklevel=2)
            return self._images

    def keep(self, progress: Progress) -> None:
        """Put the file there unless it is there and whole; raises LtbenchError where it cannot be written."""
        with self._lock:
            if self._read() is None:
                _, problem = self._made(progress)
                if problem:
                    raise problem

    def _made(self, progress: Progress) -> tuple[Bytes, ltbench.LtbenchError | None]:
        """Draw the images and write them, unless another process has just done so; return them and what kept them from it."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(self.path, progress))
            except ltbench.LtbenchError as problem:
                return self._draw(progress), problem
            images, _ = self._look()
            if images is not None:
                return images, None
            images = self._draw(progress)
            try:
                ltbench.write_atomically(self.path, b"\n".join([str(self._fingerprint).encode(), images.data]))
            except ltbench.LtbenchError as problem:
                return images, problem
            mapped, _ = self._look()
            return images if mapped is None else mapped, None

    def _read(self) -> Bytes | None:
        """Return the images in the file, or None if there is none or a bit is wrong."""
        images, problem = self._look()
        if problem:
            warnings.warn(f"{self.path} {problem}, drawing again", stacklevel=3)
        return images

    def _look(self) -> tuple[Bytes | None, str]:
        """Return the images in the file, or None and what is wrong with it; with one that is not there, nothing is."""
        try:
            images = self._mapped()
        except (FileNotFoundError, NotADirectoryError):
            return None, ""
        except OSError as error:
            return None, f"cannot be read ({error.strerror})"
        return images, "is damaged" if images is None else ""

    def _mapped(self) -> Bytes | None:
        """Return the images in the file if they are those of its head and of the fingerprint, otherwise None.

        They are mapped read-only, so that processes share one copy of them; the mapping lasts as long as the images.
        """
        with self.path.open("rb") as file:
            if os.fstat(file.fileno()).st_size != _HEAD + self._pixels:
                return None
            whole = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
        head = whole[:_HEAD].tobytes().decode("ascii", "replace").strip()
        wanted = self._fingerprint or head
        images: Bytes = whole[_HEAD:].reshape(-1, IMAGE, IMAGE, 3)
        if not head == wanted == self.recipe.fingerprint(images):
            return None
        self._fingerprint = wanted
        return images

    def _draw(self, progress: Progress) -> Bytes:
        """Draw the images; raise LtbenchError if they are not those that they should be."""
        images = np.empty((self.recipe.count, IMAGE, IMAGE, 3), np.uint8)
        self.recipe.draw(images, lambda done: progress("draw glyphs", done, self.recipe.count))
        found = self.recipe.fingerprint(images)
        if self._fingerprint not in (None, found):
            raise ltbench.LtbenchError(
                f"the images drawn must have the fingerprint {self._fingerprint}, but have {found}: "
                "this machine computes differently, please report it with the output of 'ltbench doctor'"
            )
        self._fingerprint = found
        return images


class Images(Sequence[Tensor]):
    """Some consecutive images of a canvas, each as uint8 ``[32, 32, 3]``."""

    def __init__(self, canvas: Canvas, start: int, count: int) -> None:
        """Name the images."""
        self._canvas, self._range = canvas, range(start, start + count)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._range)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...

    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...

    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        """Return an image, or several."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return torch.from_numpy(self._canvas.images()[self._range[index]].copy())
