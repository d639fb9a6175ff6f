"""Weights as tensors by name: read from files without running code, drawn at random, and named by their content."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import math
import pickle
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import ltbench

_NESTED = ("state_dict_ema", "model_ema", "state_dict", "model")
_WRAPPERS = ("module.", "_orig_mod.")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return a checkpoint's tensors by name: safetensors, or PyTorch's format so far as it holds tensors only.

    A training checkpoint's averaged weights come before its plain ones; prefixes that wrappers leave behind are
    dropped. Raises UsageError for a missing or unreadable file, and for one that carries code, which is not run.
    """
    if not path.is_file():
        raise ltbench.UsageError(f"checkpoint {path} must be a file, and there is none")
    loaded = _load(path)
    nested: Any = next((loaded[key] for key in _NESTED if isinstance(loaded, dict) and loaded.get(key)), loaded)
    tensors = {_bare(str(k)): v for k, v in nested.items() if isinstance(v, Tensor)} if isinstance(nested, Mapping) else {}
    if not tensors:
        raise ltbench.UsageError(f"checkpoint {path} holds no tensors by name: save the model's state_dict()")
    return tensors


def weights_hash(model: nn.Module) -> str:
    """Return the SHA-256 over names, types, shapes and bytes of a model's weights, in hexadecimal."""
    seen = hashlib.sha256()
    for name, values in sorted(model.state_dict().items()):
        seen.update(f"{name} {values.dtype} {list(values.shape)}\n".encode())
        seen.update(values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return seen.hexdigest()


def randomize(model: nn.Module, stream: ltbench.Stream) -> None:
    """Draw a model's weights anew, the same on every machine: uniform, as large as the library's own initial ones.

    A tensor keeps its root mean square, to the next power of two, so that rounding cannot matter. Constant tensors
    (scales of ones, biases of zeros) and frozen ones (fixed position codes) stay as they are.
    """
    for name, parameter in model.named_parameters():
        values = parameter.data
        if not parameter.requires_grad or values.numel() < 2 or bool((values == values.flatten()[0]).all()):
            continue
        size = 2.0 ** round(math.log2(float(values.norm()) / math.sqrt(values.numel())))
        columns = values.numel() // len(values)
        hashes = stream.child(name).bits(torch.arange(len(values)), -(-columns // 4))
        draws = hashes.view(torch.int16)[:, :columns]  # four of each hash; times √3 / 2¹⁵, their root mean square is 1
        values.copy_((draws * (size * math.sqrt(3) / 2**15)).reshape(values.shape))


@contextlib.contextmanager
def untouched_random_state() -> Iterator[None]:
    """Put the global generators of Python, NumPy and torch back to where they were; inside, they start anywhere fixed."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    torch.default_generator.manual_seed(0)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


def carries_code(path: Path) -> ltbench.UsageError:
    """Return the error for a file that asks to import more than tensors need, which unpickling would run."""
    return ltbench.UsageError(
        f"checkpoint {path} holds more than tensors, and what it carries could run code: it is refused; "
        "save the model's state_dict() in safetensors format"
    )


def _load(path: Path) -> Any:
    """Return what a checkpoint holds, or raise UsageError."""
    import safetensors.torch

    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with torch.serialization.safe_globals([argparse.Namespace]):  # training scripts keep their options beside the weights
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise carries_code(path) from error
    except Exception as error:
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ltbench.UsageError(f"checkpoint {path} cannot be read; it is damaged or of another format: {cause}") from error


def _bare(name: str) -> str:
    """Return a tensor's name without the prefixes of parallel and compiled models, in any order."""
    while name.startswith(_WRAPPERS):
        name = name.partition(".")[2]
    return name
