"""Whether products are the same bits in every lane, under every setting that this machine can imitate; added to the results.

Each setting is a process of its own. Told are the processor, torch and its BLAS, what torch takes the processor for, the
fingerprint that records carry in their numerics class, and what would differ if lanes did not begin on cache lines.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from ltbench.hardware import cpu_model
from ltbench.heads.history import on_cache_lines
from ltbench.heads.products import compare

SETTINGS = [
    "",
    *(f"ATEN_CPU_CAPABILITY={value}" for value in ("default", "avx2", "avx512")),
    *(f"MKL_ENABLE_INSTRUCTIONS={value}" for value in ("SSE4_2", "AVX2", "AVX512")),
    *(f"MKL_CBWR={value}" for value in ("AUTO", "COMPATIBLE", "AVX2", "AVX512")),
    *(f"OMP_NUM_THREADS={value}" for value in ("1", "2")),
]
OWN = {setting.partition("=")[0] for setting in SETTINGS}


def main() -> None:
    """Look under every setting, print what was seen, and write it down by processor and torch."""
    if sys.argv[1:] == ["here"]:
        print(json.dumps(here()))
        return
    found = {setting or "as it is": under(setting) for setting in SETTINGS}
    known = {
        "processor": cpu_model(),
        "system": f"{platform.system()} {platform.machine()}",
        "torch": torch.__version__,
        "blas": blas(),
    }
    report = {"date": dt.datetime.now(dt.UTC).date().isoformat(), **known, "settings": found}
    text = json.dumps(report, indent=1) + "\n"
    name = re.sub(r"[^a-z0-9.]+", "-", f"{known['processor']}-torch-{torch.__version__.partition('+')[0]}".lower()).strip("-")
    folder = Path(__file__).parent / "results" / "numerics"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(text)
    print(text)


def under(setting: str) -> dict[str, Any] | str:
    """Look in a process under a setting; return why it could not, in a line, where it could not."""
    own = {name: value for name, value in os.environ.items() if name not in OWN}
    environment = own | (dict([setting.split("=")]) if setting else {})
    done = subprocess.run([sys.executable, __file__, "here"], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def here() -> dict[str, Any]:
    """Look in this process, with one thread."""
    capability = torch.backends.cpu.get_cpu_capability()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    laid_out, as_they_come = compare("cpu", on_cache_lines), compare("cpu", lambda size: size)
    return {
        "capability": capability,
        "threads": threads,
        "fingerprint": laid_out.fingerprint,
        "compared": laid_out.compared,
        "differing": list(laid_out.differing),
        "differing_without_cache_lines": list(as_they_come.differing),
    }


def blas() -> str:
    """Name torch's library of products."""
    lines = [line.strip(" -") for line in torch.__config__.show().splitlines() if "Math Kernel" in line or "OpenBLAS" in line]
    return lines[0] if lines else "unknown"


if __name__ == "__main__":
    main()
