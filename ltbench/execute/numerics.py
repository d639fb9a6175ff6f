"""The numerics cells run under, so that the same cell gives the same bits, and the class they belong to."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from ltbench.errors import UsageError
from ltbench.hardware import pinned

if TYPE_CHECKING:
    from torch import Tensor

CACHE_LINE = 64
"""Bytes."""

__all__ = ["feature_numerics", "numerics_class", "on_a_cache_line", "pinned", "resolve_device"]


def resolve_device(name: str) -> str:
    """Return ``cuda`` or ``cpu`` for ``auto``, or the device named; raise UsageError if it is not there."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(name)
    except RuntimeError:
        raise UsageError(f"device must be auto, cpu, cuda or cuda:<index>, not {name!r}") from None
    if kind.type not in ("cpu", "cuda"):
        raise UsageError(f"device must be auto, cpu, cuda or cuda:<index>, not {name!r}")
    if kind.type == "cuda" and (kind.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device {name!r} is not there: this machine has {torch.cuda.device_count()} CUDA devices")
    return name


def numerics_class(device: str) -> dict[str, str]:
    """Return what results depend on beside the key: within one class they are equal bit for bit.

    ``products`` is a hash of what the machine's products give: processors of one capability, and one processor under other
    settings of its BLAS, may add up in other orders.
    """
    from ltbench.heads.products import products

    found = products(device)
    own = {"products": found.fingerprint, **({} if found.lanes_agree else {"lanes": "one at a time"})}
    return {**feature_numerics(device), "solver": "float32, then float64 where it stops short", **own}


def on_a_cache_line(x: Tensor) -> Tensor:
    """Return rows whose first number begins on a cache line: a copy, where they were read from a file that has them elsewhere.

    BLAS may add up in another order where an operand begins elsewhere, and what was just extracted lies elsewhere than
    what is read.
    """
    return x if x.data_ptr() % CACHE_LINE == 0 else x.clone()


def feature_numerics(device: str) -> dict[str, str]:
    """Return what features depend on beside their key."""
    import torch

    common = {"torch": torch.__version__, "float32_matmul": "highest"}
    if device.startswith("cuda"):
        return {**common, "device": torch.cuda.get_device_name(device), "cuda": str(torch.version.cuda)}
    capability = torch.backends.cpu.get_cpu_capability()
    return {**common, "device": "cpu", "capability": capability, "machine": platform.machine(), "threads": "1"}
