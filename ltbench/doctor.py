"""What a bug report needs to say about an installation, and whether it works: no names of users, hosts or homes."""

from __future__ import annotations

import contextlib
import getpass
import importlib.metadata
import os
import platform
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ltbench import hardware
from ltbench.errors import LtbenchError, UsageError, did_you_mean
from ltbench.files import CACHE_VARIABLE, DATA_VARIABLE, cache_folder, data_folder
from ltbench.plugins import PLUGINS_VARIABLE, Registry, discover

if TYPE_CHECKING:
    from types import ModuleType

LIBRARIES = ("torch", "numpy", "scipy", "pandas", "pluggy", "pydantic", "safetensors")
VARIABLES = (CACHE_VARIABLE, DATA_VARIABLE, PLUGINS_VARIABLE, hardware.BATCH_VARIABLE)
_SECRET = re.compile("KEY|TOKEN|SECRET|PASS", re.IGNORECASE)

State = Literal["", "ok", "FAIL"]


@dataclass(frozen=True)
class Line:
    """A fact, or a check and how it ended."""

    name: str
    value: str
    state: State = ""


@dataclass(frozen=True)
class Section:
    """A heading and its lines."""

    title: str
    lines: tuple[Line, ...]

    @property
    def failed(self) -> int:
        """How many checks failed."""
        return sum(line.state == "FAIL" for line in self.lines)


def examine() -> Iterator[Section]:
    """Yield every section as soon as it is known; the self-test, the last one, takes a few seconds."""
    torch, cause = _import_torch()
    registry, problem = _discover()
    yield _section("versions", _versions(cause))
    yield _section("devices", _devices(torch))
    yield _section("plugins", _plugins(registry, problem))
    yield _section("folders", [_folder("cache", cache_folder, needed=True), _folder("data", data_folder, needed=False)])
    yield _section("environment", _environment())
    if torch is not None and registry is not None:
        from ltbench import selftest

        yield _section("self-test", (Line(*check) for check in selftest.checks(registry)))


def redacted(text: str) -> str:
    """Return a text in one line, the home folder as ``~``, the user's and the machine's name as ``<user>`` and ``<host>``."""
    home = os.path.expanduser("~")  # noqa: PTH111 - Path.home() raises where there is none
    if len(home) > 1:
        text = re.sub(rf"{re.escape(home.rstrip('/'))}(?![\w-])", "~", text)
    for names, sign in ((_users(), "<user>"), (_hosts(), "<host>")):
        for name in sorted(names, key=len, reverse=True):
            text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", sign, text)
    return " ".join(text.split())


def _section(title: str, lines: Iterator[Line] | list[Line]) -> Section:
    """Collect lines, without names."""
    return Section(title, tuple(Line(line.name, redacted(line.value), line.state) for line in lines))


def _users() -> set[str]:
    """Return the user's names; root is nobody's."""
    found = {os.environ.get(variable, "") for variable in ("USER", "LOGNAME", "USERNAME")}
    with contextlib.suppress(OSError, KeyError, ImportError):
        found.add(getpass.getuser())
    return found - {"", "root"}


def _hosts() -> set[str]:
    """Return the machine's names, long and short."""
    full = {socket.gethostname(), platform.node()}
    return {name for each in full for name in (each, each.partition(".")[0])} - {"", "localhost"}


def _import_torch() -> tuple[ModuleType | None, str]:
    """Import torch, or say why it cannot be."""
    try:
        import torch
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"
    return torch, ""


def _discover() -> tuple[Registry | None, str]:
    """Find the plugins, or say why they cannot be looked for."""
    try:
        return discover(), ""
    except LtbenchError as error:
        return None, str(error)


def _versions(torch_problem: str) -> Iterator[Line]:
    """Yield versions of Python, the platform and the libraries."""
    yield Line("ltbench", importlib.metadata.version("ltbench"))
    yield Line("python", f"{platform.python_version()} ({platform.python_implementation()})")
    yield Line("platform", platform.platform())
    for name in LIBRARIES:
        try:
            yield Line(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Line(name, "not installed: install ltbench again", "FAIL")
    if torch_problem:
        yield Line("torch", f"cannot be imported: {torch_problem}", "FAIL")


def _devices(torch: ModuleType | None) -> Iterator[Line]:
    """Yield the processor, every CUDA device and the driver."""
    capability = f", {torch.backends.cpu.get_cpu_capability()}" if torch is not None else ""
    yield Line("cpu", f"{hardware.cpu_model()}, {hardware.cores()} cores, {hardware.memory_gib()} GiB{capability}")
    yield Line("driver", f"NVIDIA {hardware.driver_version()}" if hardware.driver_version() else "no NVIDIA driver")
    if torch is None:
        return
    built = f"torch built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch built without CUDA"
    if not torch.cuda.is_available():
        yield Line("cuda", f"no device ({built})")
        return
    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        size = f"{found.total_memory / hardware.GIB:.0f} GiB"
        yield Line(f"cuda:{index}", f"{found.name}, {size}, capability {found.major}.{found.minor} ({built})")


def _plugins(registry: Registry | None, problem: str) -> Iterator[Line]:
    """Yield every plugin, and every problem of one."""
    if registry is None:
        yield Line("plugins", problem, "FAIL")
        return
    for plugin in registry.plugins:
        state: State = "FAIL" if plugin.problems else "ok"
        value = f"{plugin.distribution} {plugin.version}, {len(plugin.components)} components"
        yield Line(plugin.name, "; ".join([value, *plugin.problems]), state)
    if not registry.plugins:
        yield Line("plugins", "none found: install one, such as ltbench-datasets", "FAIL")
    for (kind, name), many in sorted(registry.index.items()):
        if len(many) > 1:
            yield Line(name, f"{kind} of {len(many)} plugins: write {' or '.join(f'{name}@{r.distribution}' for r in many)}")


def _folder(name: str, named: Callable[[], Path], *, needed: bool) -> Line:
    """Describe a folder, which need not exist yet; a data folder may be read-only, a cache must not."""
    try:
        folder = named()
    except UsageError as error:
        return Line(name, str(error), "FAIL")
    present = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    made = "" if present == folder.absolute() else ", not made yet"
    try:
        free = f"{shutil.disk_usage(present).free / hardware.GIB:.1f} GiB free"
        with tempfile.TemporaryFile(dir=present) as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        reason = error.strerror or str(error)
        remedy = f": make it writable, or set {CACHE_VARIABLE}" if needed else ""
        return Line(name, f"{folder}{made}, cannot be written ({reason}){remedy}", "FAIL" if needed else "ok")
    return Line(name, f"{folder}{made}, writable, {free}", "ok")


def _environment() -> Iterator[Line]:
    """Yield the environment variables that are ltbench's, or look like it."""
    found = {name: value for name, value in sorted(os.environ.items()) if name.startswith("LTBENCH_")}
    for name, value in found.items():
        shown = "(hidden)" if _SECRET.search(name) else value or "(empty)"
        told = f"{shown}: not a variable of ltbench itself{did_you_mean(name, VARIABLES)}; perhaps a plugin's"
        yield Line(name, shown if name in VARIABLES else told)
    if not found:
        yield Line("LTBENCH_*", "none set")
