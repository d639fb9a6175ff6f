"""A server on the loopback that speaks the Hugging Face hub's protocol, as far as downloads of model files need it.

Small files are answered at once, with git's SHA-1 as ETag; large ones (weights) by a redirect to a content store, with
their SHA-256 in X-Linked-Etag. Ranges are honoured. A file can be cut off or damaged on its way.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

LARGE = (".safetensors", ".bin")


@dataclass
class Request:
    """What a client asked for."""

    method: str
    path: str
    range: str | None


@dataclass
class LoopbackHub:
    """Repositories by name, each with revisions that point to commits, and what was asked of them."""

    commits: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    revisions: dict[str, dict[str, str]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    cut_after: list[int] = field(default_factory=list)
    damaged: bool = False
    requests: list[Request] = field(default_factory=list)
    server: ThreadingHTTPServer | None = None

    def commit(self, repo: str, files: dict[str, bytes], revision: str = "main") -> str:
        """Put files into a new commit, point a revision to it, and return its name."""
        name = hashlib.sha1(
            repr((repo, sorted((k, hashlib.sha1(v).hexdigest()) for k, v in files.items()))).encode()
        ).hexdigest()
        self.commits[repo, name] = files
        self.revisions.setdefault(repo, {})[revision] = name
        return name

    def commit_folder(self, repo: str, folder: Path, revision: str = "main") -> str:
        """Put a folder's files into a new commit."""
        return self.commit(repo, {path.name: path.read_bytes() for path in folder.iterdir()}, revision)

    @property
    def endpoint(self) -> str:
        """The address that HF_ENDPOINT takes."""
        assert self.server is not None
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    @property
    def store(self) -> str:
        """The address of the content store: the same server, by a name that huggingface_hub takes for another host."""
        return self.endpoint.replace("127.0.0.1", "localhost")

    def start(self) -> None:
        """Serve on a free port, from a thread."""
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        """Close the port, so that connections are refused."""
        assert self.server is not None
        self.server.shutdown()
        self.server.server_close()

    def asked(self, method: str) -> list[str]:
        """Return the paths of files that were asked for by a method."""
        return [each.path for each in self.requests if each.method == method and not each.path.startswith("/api/")]


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection's requests."""

    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        """Answer with headers alone."""
        self.answer()

    def do_GET(self) -> None:
        """Answer with a file."""
        self.answer()

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def answer(self) -> None:
        """Find what a path stands for."""
        self.hub.requests.append(Request(self.command, self.path, self.headers.get("Range")))
        stored = re.fullmatch(r"/cdn/([0-9a-f]{64})", self.path)
        named = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        if stored:
            contents = [c for files in self.hub.commits.values() for c in files.values()]
            found = [c for c in contents if hashlib.sha256(c).hexdigest() == stored[1]]
            self.send(found[0], {}) if found else self.refuse(404, "EntryNotFound")
        elif named:
            self.resolve(named[1], unquote(named[2]), unquote(named[3]))
        else:
            self.refuse(404, "EntryNotFound")

    def resolve(self, repo: str, revision: str, name: str) -> None:
        """Answer for a file of a repository."""
        if repo not in self.hub.revisions:
            return self.refuse(401, "RepoNotFound")
        if repo in self.hub.gated:
            return self.refuse(401, "GatedRepo")
        commit = self.hub.revisions[repo].get(revision, revision)
        if (repo, commit) not in self.hub.commits:
            return self.refuse(404, "RevisionNotFound")
        headers = {"X-Repo-Commit": commit}
        content = self.hub.commits[repo, commit].get(name)
        if content is None:
            return self.refuse(404, "EntryNotFound", headers)
        if not name.endswith(LARGE):
            sha1 = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            return self.send(content, {**headers, "ETag": f'"{sha1}"'})
        sha256 = hashlib.sha256(content).hexdigest()
        linked = {
            "X-Linked-Etag": f'"{sha256}"',
            "X-Linked-Size": str(len(content)),
            "Location": f"{self.hub.store}/cdn/{sha256}",
        }
        return self.reply(302, {**headers, **linked}, b"")

    def send(self, content: bytes, headers: dict[str, str]) -> None:
        """Send a file, or the end of it that a Range asks for; cut or damage it if the hub is told to."""
        if self.hub.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if asked and self.command == "GET":
            start = int(asked[1])
            headers = {**headers, "Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
            return self.reply(206, headers, content[start:])
        return self.reply(200, headers, content)

    def refuse(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        """Answer as the hub does where there is nothing."""
        self.reply(status, {**(headers or {}), "X-Error-Code": code, "X-Error-Message": code}, b"")

    def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
        """Write status, headers and body; close the connection early where the hub is told to cut."""
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.hub.cut_after and self.path.startswith("/cdn/"):
            self.wfile.write(body[: self.hub.cut_after.pop(0)])
            self.close_connection = True
        else:
            self.wfile.write(body)


@contextmanager
def loopback_hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """Serve an empty hub, and let huggingface_hub know no other, with a cache of its own and no waiting."""
    from huggingface_hub import constants

    hub = LoopbackHub()
    hub.start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    try:
        yield hub
    finally:
        hub.stop()
