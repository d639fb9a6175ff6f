"""Peak memory and energy of a piece of work. Knows no method; None stands for what cannot be measured here."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import re
from collections.abc import Callable
from pathlib import Path

from ltbench.hardware import nvml, nvml_device

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def peak_bytes(device: str, work: Callable[[], object]) -> int | None:
    """Do the work and return by how much memory rose at most: allocated on the GPU, resident on the CPU.

    Resident memory needs Linux, where a process may reset its own high-water mark; elsewhere None, without the work.
    """
    return _allocated(device, work) if device.startswith("cuda") else _resident(work)


def joules_so_far(device: str) -> Callable[[], float] | None:
    """Return a function that reads a GPU's energy counter; None on the CPU, without NVML, or on a GPU without one."""
    if not device.startswith("cuda") or nvml() is None:
        return None
    try:
        handle = nvml_device(device)
        nvml().nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:
        return None
    return lambda: float(nvml().nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000  # it counts millijoules


def _allocated(device: str, work: Callable[[], object]) -> int:
    """Return the rise of allocated GPU memory."""
    import torch

    gc.collect()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    torch.cuda.synchronize(device)
    return int(torch.cuda.max_memory_allocated(device)) - before


def _resident(work: Callable[[], object]) -> int | None:
    """Return the rise of resident memory; what freed objects left behind is given back first, lest it be reused unseen."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
    try:
        _CLEAR.write_text("5")  # resets the high-water mark to what is resident now
        before = _status("VmRSS")
    except (OSError, ValueError):
        return None
    work()
    return max(0, _status("VmHWM") - before)


def _status(name: str) -> int:
    """Return a size from the process's status, in bytes; raise ValueError if it is not there."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", _STATUS.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise ValueError(f"{_STATUS} has no {name}")
    return int(found[1]) * 1024
