"""What this machine is, in words and numbers that may be published: no names of hosts, users or folders."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import platform
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ltbench.errors import UsageError

GIB = 2**30
BATCH_VARIABLE = "LTBENCH_BATCH"
"""Says how many images to encode at a time, for a GPU whose memory is too small for the usual number in a large model."""


def hardware_of(device: str) -> dict[str, Any]:
    """Return what seconds on a device depend on; two calibrations may stand in one column only if these are equal."""
    import torch

    common = {
        "device": device.partition(":")[0],
        "cpu": cpu_model(),
        "cores": cores(),
        "memory_gib": memory_gib(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
    }
    if not device.startswith("cuda"):
        return common
    found = torch.cuda.get_device_properties(torch.device(device))
    gpu = {"gpu": found.name, "gpu_memory_gib": round(found.total_memory / GIB), "cuda": str(torch.version.cuda)}
    return {**common, **gpu, "driver": driver_version()}


def cpu_model() -> str:
    """Return the processor's name."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return " ".join(named[1].split()) if named else platform.processor() or platform.machine()


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_gib() -> int | None:
    """Return the machine's memory, in whole GiB; None where the system does not say."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB)
    except (AttributeError, ValueError, OSError):
        return None


def driver_version() -> str | None:
    """Return the NVIDIA driver's version, from NVML or the kernel module; None where neither is there."""
    with contextlib.suppress(Exception):  # NVML is missing, or has errors of its own
        version = nvml().nvmlSystemGetDriverVersion()
        return version.decode() if isinstance(version, bytes) else str(version)
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"\s(\d+\.\d+(\.\d+)?)\s", text)
    return found[1] if found else None


@functools.cache
def nvml() -> Any:
    """Return NVIDIA's management library (``pip install nvidia-ml-py``), ready to be asked, or None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an older distribution of the same name calls itself deprecated
            library = importlib.import_module("pynvml")
        library.nvmlInit()
    except Exception:
        return None
    return library


def nvml_device(device: str) -> Any:
    """Return NVML's handle of a CUDA device, found by its UUID: NVML counts devices that are hidden from torch, too."""
    import torch

    uuid = torch.cuda.get_device_properties(torch.device(device)).uuid
    return nvml().nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")


def batch_told() -> int:
    """Return the batch size that the environment names, 0 if none; raise UsageError unless it is a number above 0."""
    text = os.environ.get(BATCH_VARIABLE, "")
    if text and not (text.isascii() and text.isdecimal() and int(text)):
        raise UsageError(f"{BATCH_VARIABLE} must be a number of images of at least 1, not {text!r}")
    return int(text or 0)


def steady_blas() -> None:
    """Ask MKL for results that do not depend on where operands lie, in this process and those it starts; before torch.

    For the command line, whose process it is. Workers of a program that calls ltbench have that program's setting, or their
    results could be others. Nothing rests on it: lanes begin on cache lines, and ``heads.products`` looks at what they give.
    """
    os.environ.setdefault("MKL_CBWR", "AUTO")


@contextlib.contextmanager
def pinned(device: str) -> Iterator[None]:
    """Run with one thread on the CPU, deterministic algorithms and no TF32; restore everything afterwards.

    Matrix products add up in an order that depends on the number of threads, so a cell always has one. The debug mode
    is the same switch as ``use_deterministic_algorithms``, which imports torch's compiler: seconds, in every process.
    """
    import torch

    if device.startswith("cuda"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    threads, deterministic = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    precision = torch.get_float32_matmul_precision()
    try:
        torch.set_num_threads(1)
        torch.set_deterministic_debug_mode("error")
        torch.set_float32_matmul_precision("highest")
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(deterministic)
        torch.set_float32_matmul_precision(precision)
