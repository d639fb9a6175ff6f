"""Fixtures of the datasets' tests: a cache of their own, and a server on loopback that can misbehave."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests away from the user's cache and data, and from one another's."""
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("LTBENCH_DATA", str(tmp_path_factory.mktemp("data")))


@dataclass
class Server:
    """A file on the web, and how its server behaves; ``asked`` and ``paths`` hold what was asked for."""

    content: bytes = b""
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"one"'})
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)  # of each answer so many bytes, then the connection ends
    errors: list[int] = field(default_factory=list)  # codes of the first answers
    wrong_start: int = 0
    length: bool = True
    asked: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        self.asked.append({name: value for name, value in request.headers.items() if name in ("Range", "If-Range")})
        self.paths.append(request.path)
        if self.errors:
            request.send_error(self.errors.pop(0))
            return
        start = self._start(request)
        if start >= len(self.content) > 0:
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(self.content)}")
            request.end_headers()
            return
        body = self.content[start:]
        request.send_response(206 if start else 200)
        for name, value in self.headers.items():
            request.send_header(name, value)
        if self.length:
            request.send_header("Content-Length", str(len(body)))
        if start:
            first = start + self.wrong_start
            request.send_header("Content-Range", f"bytes {first}-{len(self.content) - 1}/{len(self.content)}")
        request.end_headers()
        request.wfile.write(body[: self.cuts.pop(0)] if self.cuts else body)

    def _start(self, request: http.server.BaseHTTPRequestHandler) -> int:
        """Return the first byte to send, by RFC 9110: a range counts only if the file is still the one named."""
        match = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        named = request.headers.get("If-Range", self.headers.get("ETag"))
        same = named in (self.headers.get("ETag"), self.headers.get("Last-Modified"))
        return int(match[1]) if match and self.ranges and same else 0


@pytest.fixture
def server() -> Iterator[Server]:
    """Return a server that is up, and well-behaved until it is told otherwise."""
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        state.url = f"http://127.0.0.1:{running.server_port}/data.bin"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        running.shutdown()
        thread.join()
