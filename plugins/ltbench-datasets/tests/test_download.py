"""Tests of downloads from a server on loopback that misbehaves in the ways servers and networks do."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import subprocess
import sys
import textwrap
import types
from pathlib import Path
from typing import Any

import pytest

import ltbench
from ltbench_datasets import download as module
from ltbench_datasets.download import Remote, cannot_write, download, locked

CONTENT = bytes(i * i % 251 for i in range(300_000))
Server = Any
"""What the fixture ``server`` of conftest.py gives."""


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the pauses that were made, none of which is waited for."""
    made: list[float] = []
    monkeypatch.setattr(module, "time", types.SimpleNamespace(sleep=made.append))
    return made


@pytest.fixture(autouse=True)
def _content(server: Server) -> None:
    """Let the server have the content."""
    server.content = CONTENT


def remote(server: Server, content: bytes = CONTENT) -> Remote:
    """Return the file with the checksum of some content."""
    return Remote(server.url, hashlib.sha256(content).hexdigest())


def ignore(*_: Any) -> None:
    """Take no notice of progress."""


def names(folder: Path) -> set[str]:
    """Return what lies in a folder, but for lock files."""
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}


class TestAWholeDownload:
    """Nothing goes wrong."""

    def test_the_file_is_there_and_nothing_else(self, server: Server, tmp_path: Path) -> None:
        """The bytes are those of the server, the folder is made, and no partial file is left."""
        download(remote(server), tmp_path / "deep" / "data.bin", ignore)
        assert (tmp_path / "deep" / "data.bin").read_bytes() == CONTENT
        assert names(tmp_path / "deep") == {"data.bin"}
        assert server.asked == [{}]

    def test_progress_counts_bytes(self, server: Server, tmp_path: Path) -> None:
        """Progress names the file, rises from 0 to its length, and knows the length."""
        seen: list[tuple[str, int, int | None]] = []
        download(remote(server), tmp_path / "data.bin", lambda *told: seen.append(told))
        assert {(name, total) for name, _, total in seen} == {("data.bin", len(CONTENT))}
        counts = [done for _, done, _ in seen]
        assert counts == sorted(counts)
        assert (counts[0], counts[-1]) == (0, len(CONTENT))

    def test_a_file_that_is_there_is_not_asked_for(self, server: Server, tmp_path: Path) -> None:
        """A file with the right checksum is used as it is."""
        (tmp_path / "data.bin").write_bytes(CONTENT)
        download(remote(server), tmp_path / "data.bin", ignore)
        assert server.asked == []

    def test_a_server_that_tells_no_length(self, server: Server, tmp_path: Path) -> None:
        """The end of the connection is the end of the file."""
        server.length = False
        seen: list[int | None] = []
        download(remote(server), tmp_path / "data.bin", lambda *told: seen.append(told[2]))
        assert (tmp_path / "data.bin").read_bytes() == CONTENT
        assert set(seen) == {None}


class TestCutConnections:
    """Connections that end early."""

    def test_the_rest_is_asked_for(self, server: Server, tmp_path: Path, pauses: list[float]) -> None:
        """After each cut the download goes on at the byte where it stopped, if the file is still the same."""
        server.cuts = [150_000, 100_000]
        download(remote(server), tmp_path / "data.bin", ignore)
        assert (tmp_path / "data.bin").read_bytes() == CONTENT
        rests = [{"Range": f"bytes={start}-", "If-Range": '"one"'} for start in (150_000, 250_000)]
        assert server.asked == [{}, *rests]
        assert pauses == [1.0, 1.0]

    def test_a_later_call_goes_on(self, server: Server, tmp_path: Path) -> None:
        """What came is kept when the tries are used up, and the next call asks for the rest alone."""
        server.cuts = [100_000, 0, 0, 0, 0, 0]
        with pytest.raises(ltbench.LtbenchError, match=r"lost 5 times in a row .*100,000 bytes that came are kept in .*\.part"):
            download(remote(server), tmp_path / "data.bin", ignore)
        assert not (tmp_path / "data.bin").exists()
        server.asked.clear()
        server.cuts.clear()
        download(remote(server), tmp_path / "data.bin", ignore)
        assert server.asked == [{"Range": "bytes=100000-", "If-Range": '"one"'}]
        assert (tmp_path / "data.bin").read_bytes() == CONTENT
        assert names(tmp_path) == {"data.bin"}

    @pytest.mark.parametrize(
        ("headers", "ranges", "asked"),
        [
            ({"ETag": '"one"'}, False, {"Range": "bytes=1000-", "If-Range": '"one"'}),
            ({"Last-Modified": "Thu, 01 Jan 2009 00:00:00 GMT"}, True, None),
            ({"ETag": 'W/"weak"'}, True, {}),
            ({}, True, {}),
        ],
        ids=["no-ranges", "by-date", "weak-tag", "no-name"],
    )
    def test_other_servers(
        self, server: Server, tmp_path: Path, headers: dict[str, str], ranges: bool, asked: dict[str, str] | None
    ) -> None:
        """Without ranges the file comes anew; without a name for its state it is not gone on with; a date is a name."""
        server.headers, server.ranges, server.cuts = headers, ranges, [1000]
        download(remote(server), tmp_path / "data.bin", ignore)
        assert (tmp_path / "data.bin").read_bytes() == CONTENT
        by_date = {"Range": "bytes=1000-", "If-Range": headers.get("Last-Modified")}
        assert server.asked[1] == (by_date if asked is None else asked)

    def test_a_file_that_changed_in_between(self, server: Server, tmp_path: Path) -> None:
        """Bytes of two states of a file are never joined: the new state comes whole."""
        server.content, server.cuts = CONTENT[::-1], [1000, 0, 0, 0, 0, 0]
        with pytest.raises(ltbench.LtbenchError, match="lost"):
            download(remote(server), tmp_path / "data.bin", ignore)
        server.content, server.headers, server.cuts = CONTENT, {"ETag": '"two"'}, []
        download(remote(server), tmp_path / "data.bin", ignore)
        assert (tmp_path / "data.bin").read_bytes() == CONTENT

    def test_a_file_that_became_shorter(self, server: Server, tmp_path: Path) -> None:
        """More bytes than the file has now are thrown away."""
        (tmp_path / "data.bin.part").write_bytes(b"x" * 400_000)
        (tmp_path / "data.bin.part.version").write_text('"one"')
        download(remote(server), tmp_path / "data.bin", ignore)
        assert (tmp_path / "data.bin").read_bytes() == CONTENT
        assert server.asked == [{"Range": "bytes=400000-", "If-Range": '"one"'}, {}]

    def test_a_process_that_ended_just_before_the_end(self, server: Server, tmp_path: Path) -> None:
        """All bytes are there, only the name is missing: nothing comes again."""
        (tmp_path / "data.bin.part").write_bytes(CONTENT)
        (tmp_path / "data.bin.part.version").write_text('"one"')
        download(remote(server), tmp_path / "data.bin", ignore)
        assert names(tmp_path) == {"data.bin"}
        assert len(server.asked) == 1

    def test_a_server_that_sends_other_bytes_than_asked_for(self, server: Server, tmp_path: Path) -> None:
        """A range that begins elsewhere is not appended."""
        server.cuts, server.wrong_start = [1000], 5
        download(remote(server), tmp_path / "data.bin", ignore)
        assert (tmp_path / "data.bin").read_bytes() == CONTENT

    def test_a_server_that_is_busy_for_a_while(self, server: Server, tmp_path: Path, pauses: list[float]) -> None:
        """Errors that pass are waited out, longer and longer."""
        server.errors = [503, 429, 500]
        download(remote(server), tmp_path / "data.bin", ignore)
        assert (tmp_path / "data.bin").read_bytes() == CONTENT
        assert pauses == [1.0, 2.0, 4.0]


class TestErrors:
    """What cannot be mended by trying again."""

    def test_a_wrong_checksum(self, server: Server, tmp_path: Path) -> None:
        """Both checksums are told, and nothing of the file is kept."""
        found, wanted = hashlib.sha256(CONTENT).hexdigest(), hashlib.sha256(b"other").hexdigest()
        with pytest.raises(
            ltbench.LtbenchError, match=f"must have SHA-256 {wanted}, but what came has {found} and was deleted"
        ):
            download(remote(server, b"other"), tmp_path / "data.bin", ignore)
        assert names(tmp_path) == set()

    def test_a_wrong_file_that_is_there(self, server: Server, tmp_path: Path) -> None:
        """A user's file is never deleted or overwritten."""
        (tmp_path / "data.bin").write_bytes(b"mine")
        with pytest.raises(ltbench.LtbenchError, match="is damaged or another file; move it away and fetch again"):
            download(remote(server), tmp_path / "data.bin", ignore)
        assert (tmp_path / "data.bin").read_bytes() == b"mine"
        assert server.asked == []

    @pytest.mark.parametrize("code", [403, 404, 410])
    def test_no_such_file(self, server: Server, tmp_path: Path, pauses: list[float], code: int) -> None:
        """The server's answer is told at once."""
        server.errors = [code]
        with pytest.raises(ltbench.LtbenchError, match=rf"{server.url} answers {code} .*put data.bin into .* yourself"):
            download(remote(server), tmp_path / "data.bin", ignore)
        assert pauses == []

    def test_nobody_listens(self, tmp_path: Path, pauses: list[float]) -> None:
        """A server that cannot be reached is told at once, with the cause."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}/data.bin"
        with pytest.raises(ltbench.LtbenchError, match=r"cannot be reached \(.*[Rr]efused\): check the network and its proxy"):
            download(Remote(url, "0" * 64), tmp_path / "data.bin", ignore)
        assert pauses == []

    def test_no_such_host(self, tmp_path: Path) -> None:
        """A name without an address is told."""
        with pytest.raises(ltbench.LtbenchError, match=r"http://nowhere\.invalid/data.bin cannot be reached"):
            download(Remote("http://nowhere.invalid/data.bin", "0" * 64), tmp_path / "data.bin", ignore)

    @pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/file", "data.bin"])
    def test_other_addresses(self, tmp_path: Path, url: str) -> None:
        """Only the web is downloaded from."""
        with pytest.raises(ltbench.UsageError, match="must be from http:// or https://"):
            download(Remote(url, "0" * 64), tmp_path / "data.bin", ignore)

    @pytest.mark.parametrize(
        ("number", "told"),
        [
            (errno.ENOSPC, "there is no room left for here (No space left on device): make room and try again"),
            (errno.EDQUOT, "there is no room left for here (Disk quota exceeded): make room and try again"),
            (errno.EACCES, "cannot write here: Permission denied"),
        ],
    )
    def test_what_a_disk_says(self, number: int, told: str) -> None:
        """A full disk and a used-up quota are told apart from a folder one may not write to."""
        assert str(cannot_write(Path("here"), OSError(number, os.strerror(number)))) == told

    def test_a_disk_that_fills_up(self, server: Server, tmp_path: Path) -> None:
        """What came until then is kept, and gone on with once there is room."""
        resource = pytest.importorskip("resource")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
        try:
            with pytest.raises(
                ltbench.LtbenchError, match=r"no room left .*; the 200,000 bytes that came are kept in .*\.part"
            ):
                download(remote(server), tmp_path / "data.bin", ignore)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        server.asked.clear()
        download(remote(server), tmp_path / "data.bin", ignore)
        assert server.asked == [{"Range": "bytes=200000-", "If-Range": '"one"'}]
        assert (tmp_path / "data.bin").read_bytes() == CONTENT

    def test_a_folder_that_is_a_file(self, server: Server, tmp_path: Path) -> None:
        """A data folder that cannot be made is told."""
        (tmp_path / "file").write_text("")
        with pytest.raises(ltbench.LtbenchError, match=f"cannot write {tmp_path / 'file'}"):
            download(remote(server), tmp_path / "file" / "data.bin", ignore)


class TestSeveralProcesses:
    """Two at the same file at the same time."""

    def test_the_second_waits_for_the_first(self, server: Server, tmp_path: Path) -> None:
        """The file comes once; the second process says that it waits, and then finds the file there."""
        source, path = remote(server), tmp_path / "data.bin"
        code = f"""
            from pathlib import Path
            from ltbench_datasets.download import Remote, download
            download(Remote({source.url!r}, {source.sha256!r}), Path({str(path)!r}), lambda *told: print(*told, flush=True))
        """
        others: list[subprocess.Popen[str]] = []

        def start_another(*_: Any) -> None:
            if not others:
                others.append(start(code))
                assert others[0].stdout is not None
                assert others[0].stdout.readline() == "wait for another process at work on data.bin 0 None\n"

        download(source, path, start_another)
        assert others[0].communicate(timeout=60) == ("", None)
        assert others[0].returncode == 0
        assert server.asked == [{}]

    def test_a_lock_ends_with_its_process(self, tmp_path: Path) -> None:
        """A lock file left behind by a process that is gone stops nobody."""
        path = tmp_path / "data.bin"
        code = f"""
            import os
            from pathlib import Path
            from ltbench_datasets.download import locked
            with locked(Path({str(path)!r}), print):
                os._exit(7)
        """
        other = start(code)
        other.communicate(timeout=60)
        told: list[Any] = []
        with locked(path, lambda *progress: told.append(progress)):
            assert told == []
        assert other.returncode == 7


def start(code: str) -> subprocess.Popen[str]:
    """Run Python code in another process."""
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
