"""Meters of memory and energy: what they see, and None where they cannot see."""

from __future__ import annotations

import types
from pathlib import Path

import pytest

from ltbench.execute import meters


def test_peak_memory_sees_what_was_freed() -> None:
    """The high-water mark counts memory that is gone again, and only this work's; elsewhere than on Linux it is None."""
    size = 64 * 2**20
    bytearray(2 * size)
    found = meters.peak_bytes("cpu", lambda: len(bytearray(size)))
    assert found is None or size <= found + 2**20 < 1.5 * size


def test_peak_memory_that_cannot_be_measured_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the high-water mark cannot be reset, nothing is claimed."""
    monkeypatch.setattr(meters, "_CLEAR", tmp_path / "no" / "clear_refs")
    assert meters.peak_bytes("cpu", lambda: 0) is None


def test_energy_is_read_in_joules(monkeypatch: pytest.MonkeyPatch) -> None:
    """NVML counts millijoules; without NVML, without a counter, or on the CPU, there is no energy."""
    readings = iter([0, 1500, 4000])
    library = types.SimpleNamespace(nvmlDeviceGetTotalEnergyConsumption=lambda handle: next(readings))
    monkeypatch.setattr(meters, "nvml", lambda: library)
    monkeypatch.setattr(meters, "nvml_device", lambda device: "handle")
    counter = meters.joules_so_far("cuda")
    assert counter is not None
    assert [counter(), counter()] == [1.5, 4.0]
    assert meters.joules_so_far("cuda") is None  # the counter raises
    assert meters.joules_so_far("cpu") is None
    monkeypatch.setattr(meters, "nvml", lambda: None)
    assert meters.joules_so_far("cuda") is None
