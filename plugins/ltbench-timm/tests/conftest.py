"""The loopback hub as a fixture."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_SERVER = Path(__file__).with_name("hub_server.py")


def server_module() -> Any:
    """Import the server, which is no package's module, once for all tests."""
    if _SERVER.stem not in sys.modules:
        spec = importlib.util.spec_from_file_location(_SERVER.stem, _SERVER)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[_SERVER.stem] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[_SERVER.stem])
    return sys.modules[_SERVER.stem]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Serve an empty hub that huggingface_hub is pointed at."""
    with server_module().loopback_hub(tmp_path / "hub-cache", monkeypatch) as found:
        yield found
