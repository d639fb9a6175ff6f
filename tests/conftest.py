"""Fixtures of all tests: folders of their own for cache and data, and third-party plugins made on the spot."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ltbench.files import CACHE_VARIABLE, DATA_VARIABLE
from ltbench.keys import code_hash
from ltbench.plugins import PLUGINS_VARIABLE

METADATA = """\
Metadata-Version: 2.1
Name: {name}
Version: {version}
"""


@pytest.fixture(scope="session")
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a cache folder and a data folder that live as long as the session."""
    return tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("data")


@pytest.fixture(autouse=True)
def _own_environment(own_folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests away from the user's cache, data and choice of plugins."""
    cache, data = own_folders
    monkeypatch.setenv(CACHE_VARIABLE, str(cache))
    monkeypatch.setenv(DATA_VARIABLE, str(data))
    monkeypatch.delenv(PLUGINS_VARIABLE, raising=False)


@pytest.fixture
def make_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Return ``make_plugin(name, code, entry=None, version="1.0", module=None)``, which installs a distribution.

    Its module holds ``code`` and is the entry point ``entry``, by default named as the distribution; a dotted
    ``module`` makes packages. A later call with the same name or module takes the earlier one's place, as an upgrade
    does. Returns the folder put on ``sys.path``; afterwards nothing of it is left.
    """
    made: list[str] = []

    def make(name: str, code: str, entry: str | None = None, version: str = "1.0", module: str | None = None) -> Path:
        module = module or name.replace("-", "_")
        folder = tmp_path / "site-packages" / str(len(made))
        source = folder.joinpath(*module.split(".")).with_suffix(".py")
        source.parent.mkdir(parents=True)
        for package in source.relative_to(folder).parents[:-1]:
            (folder / package / "__init__.py").touch()
        source.write_text(textwrap.dedent(code), encoding="utf-8")
        info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(METADATA.format(name=name, version=version), encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[ltbench]\n{entry or name} = {module}\n", encoding="utf-8")
        monkeypatch.syspath_prepend(folder)
        made.append(module)
        _forget(module)
        return folder

    yield make
    for module in made:
        _forget(module)
    importlib.invalidate_caches()


def _forget(module: str) -> None:
    """Drop a module and all of its top-level package from what Python and ltbench remember."""
    top = module.partition(".")[0]
    for name in [name for name in sys.modules if name == top or name.startswith(f"{top}.")]:
        del sys.modules[name]
    code_hash.cache_clear()
