"""Determinism under other numeric settings: the tests marked ``determinism`` again, as on other processors."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent

# Instructions that torch and MKL choose by the processor, MKL's modes of reproducibility, and numbers of threads.
SETTINGS = [
    *(f"ATEN_CPU_CAPABILITY={value}" for value in ("default", "avx2", "avx512")),
    *(f"MKL_ENABLE_INSTRUCTIONS={value}" for value in ("SSE4_2", "AVX2", "AVX512")),
    *(f"MKL_CBWR={value}" for value in ("AUTO", "COMPATIBLE", "AVX2", "AVX512")),
    *(f"OMP_NUM_THREADS={value}" for value in ("1", "2")),
]
NAMES = {setting.partition("=")[0] for setting in SETTINGS}

# What torch takes to be the processor and its threads, and what MKL says of a product: its instructions and its mode.
PROBE = """
import torch
print(torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(), flush=True)
torch.mm(torch.ones(64, 64), torch.ones(64, 64))
"""


def python(setting: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run Python under a setting, without any that this process runs under."""
    own = {name: value for name, value in os.environ.items() if name not in NAMES and not name.startswith("PYTEST_")}
    environment = own | dict([setting.split("=")] if setting else []) | more
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)


@functools.cache
def effect(setting: str) -> str:
    """Return what torch and MKL say that they do under a setting, without times and addresses."""
    done = python(setting, "-c", PROBE, MKL_VERBOSE="1")
    assert done.returncode == 0, done.stderr
    return re.sub(r"\S+s CNR|0x\w+", "", done.stdout)


def supported(setting: str) -> bool:
    """Whether the processor has the instructions that torch takes without asking; MKL asks."""
    name, _, value = setting.partition("=")
    has = {"avx2": torch.cpu._is_avx2_supported, "avx512": torch.cpu._is_avx512_supported}
    return name != "ATEN_CPU_CAPABILITY" or value not in has or has[value]()


def marked() -> list[str]:
    """Return the files that have tests of determinism."""
    files = {*ROOT.glob("tests/test_*.py"), *ROOT.glob("plugins/*/tests/test_*.py")} - {Path(__file__)}
    return sorted(str(file) for file in files if "pytest.mark.determinism" in file.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_bits_do_not_depend_on_company(setting: str, record_property: Callable[[str, object], None]) -> None:
    """Alone is together under every setting that differs from the machine's own."""
    if not supported(setting) or effect(setting) == effect(""):
        pytest.skip(f"this machine cannot imitate {setting}, or does so by itself")
    options = ["-q", "-p", "no:xdist", "-p", "no:cacheprovider", "-m", "determinism and not slow and not gpu"]
    done = python(setting, "-m", "pytest", *options, *marked())
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-2_000:]
    record_property("numeric setting", setting)


def test_there_are_tests_of_determinism() -> None:
    """Heads, lanes, bad input among good, and generators that fit together have some."""
    names = {Path(file).name for file in marked()}
    assert names >= {"test_together.py", "test_together_bad.py", "test_heads_lanes.py", "test_neighbours.py", "test_shared.py"}


@pytest.mark.slow
def test_a_setting_has_an_effect() -> None:
    """Fewer instructions are told apart from the machine's own, and a variable that nobody reads is not."""
    assert effect("LTBENCH_NOTHING=1") == effect("")
    if torch.cpu._is_avx2_supported():
        assert effect("ATEN_CPU_CAPABILITY=default") != effect("")
