"""Tests of unpacking archives, hostile ones above all; each is written here, byte by byte where need be."""

from __future__ import annotations

import gzip
import io
import re
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ltbench
from ltbench_datasets.archives import CHUNK, HEADERS, Limits, unpacked

LIMITS = Limits(members=20, size=1 << 22)
FILES = {"set/train.bin": bytes(range(256)) * 40, "set/deep/naïve 名前.txt": "Ω".encode(), "empty": b""}


def tar_bytes(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """Return a tar.gz of entries."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for info, content in entries:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def tar_entry(name: str, content: bytes = b"x", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """Return one entry, with some header fields set."""
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def zip_bytes(*entries: tuple[zipfile.ZipInfo, bytes]) -> bytes:
    """Return a zip of entries."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as found:
        for info, content in entries:
            info.compress_type = zipfile.ZIP_DEFLATED
            found.writestr(info, content)
    return buffer.getvalue()


def zip_entry(name: str, content: bytes = b"x", mode: int = 0) -> tuple[zipfile.ZipInfo, bytes]:
    """Return one entry, with a Unix mode."""
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info, content


MAKERS: dict[str, tuple[Callable[..., bytes], Callable[..., Any]]] = {
    "tar.gz": (tar_bytes, tar_entry),
    "zip": (zip_bytes, zip_entry),
}


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Callable[..., bytes]:
    """Return ``make((name, content), …)``, which gives an archive's bytes."""
    pack, entry = MAKERS[request.param]
    return lambda *files: pack(*[entry(*file) for file in files])


def ignore(*_: Any) -> None:
    """Take no notice of progress."""


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder, by relative name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def unpack(folder: Path, archive: bytes, limits: Limits = LIMITS) -> dict[str, bytes]:
    """Unpack bytes and return what came out."""
    (folder / "a").write_bytes(archive)
    with unpacked(folder / "a", limits, ignore) as found:
        return contents(found)


def refused(folder: Path, archive: bytes, because: str, limits: Limits = LIMITS) -> None:
    """Require that an archive is refused with a reason, and that nothing is left of it anywhere."""
    inner = folder / "inner"
    inner.mkdir()
    with pytest.raises(ltbench.LtbenchError, match=because):
        unpack(inner, archive, limits)
    assert contents(folder) == {"inner/a": archive}
    assert list(inner.iterdir()) == [inner / "a"]


class TestGoodArchives:
    """Plain files in folders."""

    def test_every_file_comes_out(self, make: Callable[..., bytes], tmp_path: Path) -> None:
        """Names and bytes are those that went in; afterwards only the archive is left."""
        archive = make(*FILES.items())
        assert unpack(tmp_path, archive) == FILES
        assert contents(tmp_path) == {"a": archive}

    def test_folders_may_be_listed(self, tmp_path: Path) -> None:
        """Entries for folders are made, or are there already."""
        folder = tarfile.TarInfo("set/deep")
        folder.type = tarfile.DIRTYPE
        assert unpack(tmp_path, tar_bytes(tar_entry("set/deep/x"), (folder, b""))) == {"set/deep/x": b"x"}
        assert unpack(tmp_path, zip_bytes(zip_entry("set/", b""), zip_entry("set/x"))) == {"set/x": b"x"}

    def test_modes_are_not_taken_over(self, tmp_path: Path) -> None:
        """No file becomes executable or another user's."""
        (tmp_path / "a").write_bytes(tar_bytes(tar_entry("run", mode=0o6777, uid=12345)))
        with unpacked(tmp_path / "a", LIMITS, ignore) as found:
            status = (found / "run").stat()
        assert not stat.S_IMODE(status.st_mode) & 0o7111
        assert status.st_uid == tmp_path.stat().st_uid

    def test_what_a_killed_process_left_is_cleared(self, make: Callable[..., bytes], tmp_path: Path) -> None:
        """A folder that was being unpacked does not end up among the files."""
        (tmp_path / ".a.unpacking").mkdir()
        (tmp_path / ".a.unpacking" / "old").write_bytes(b"old")
        assert unpack(tmp_path, make(("new", b"new"))) == {"new": b"new"}

    def test_progress_counts_bytes(self, make: Callable[..., bytes], tmp_path: Path) -> None:
        """Each member adds its bytes."""
        (tmp_path / "a").write_bytes(make(*FILES.items()))
        seen: list[tuple[str, int, int | None]] = []
        with unpacked(tmp_path / "a", LIMITS, lambda *told: seen.append(told)):
            assert seen == [("unpack a", 10240, None), ("unpack a", 10242, None), ("unpack a", 10242, None)]

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(files=st.dictionaries(st.from_regex(r"[a-z]{1,3}[.][a-z]{1,3}", fullmatch=True), st.binary(max_size=50), max_size=9))
    def test_any_files(self, make: Callable[..., bytes], tmp_path: Path, files: dict[str, bytes]) -> None:
        """Whatever plain files go in come out."""
        archive = make(*files.items()) if files else make(("one.x", b""))
        assert unpack(tmp_path, archive) == (files or {"one.x": b""})


class TestHostileArchives:
    """Archives that want to write elsewhere, or to fill disk or memory."""

    @pytest.mark.parametrize("name", ["../out", "set/../../out", "/etc/out", "..", "//host/out"])
    def test_places_outside(self, make: Callable[..., bytes], tmp_path: Path, name: str) -> None:
        """Nothing is written above the folder."""
        refused(tmp_path, make(("good", b"1"), (name, b"2")), f"holds {re.escape(repr(name))}, which lies outside its folder")

    @pytest.mark.parametrize("name", ["C:out", "set\\..\\out", "line\nbreak"])
    def test_names_that_mean_more_elsewhere(self, make: Callable[..., bytes], tmp_path: Path, name: str) -> None:
        """Drives, backslashes and control characters are refused on every system."""
        refused(tmp_path, make((name, b"1")), "which is no name for a file")

    @pytest.mark.parametrize("second", ["twice", "twice/below"])
    def test_the_same_name_again(self, tmp_path: Path, second: str) -> None:
        """A file is not overwritten by a later one, nor used as a folder."""
        refused(tmp_path, tar_bytes(tar_entry("twice", b"1"), tar_entry(second, b"2")), f"it holds '{second}' twice")

    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
    def test_links_and_devices_in_tar(self, tmp_path: Path, kind: bytes) -> None:
        """Nothing but files and folders."""
        entry = tar_entry("odd", b"", type=kind, linkname="../../target")
        refused(tmp_path, tar_bytes(entry, tar_entry("odd/below")), "holds 'odd', a link or device")

    @pytest.mark.parametrize("mode", [stat.S_IFLNK | 0o777, stat.S_IFIFO, stat.S_IFCHR])
    def test_links_and_devices_in_zip(self, tmp_path: Path, mode: int) -> None:
        """A zip says so by Unix modes."""
        refused(tmp_path, zip_bytes(zip_entry("odd", b"../../target", mode)), "holds 'odd', a link or device")

    def test_encrypted_files(self, tmp_path: Path) -> None:
        """There is no password to be had."""
        archive = bytearray(zip_bytes(zip_entry("secret")))
        archive[archive.index(b"PK\x01\x02") + 8] |= 1
        refused(tmp_path, bytes(archive), "holds 'secret', which is encrypted")

    def test_too_many_members(self, make: Callable[..., bytes], tmp_path: Path) -> None:
        """The number of files is bounded."""
        archive = make(*[(str(i), b"") for i in range(21)])
        refused(tmp_path, archive, "holds more than 20 files and folders")

    def test_too_many_bytes(self, make: Callable[..., bytes], tmp_path: Path) -> None:
        """So is what they take, together."""
        archive = make(("a", bytes(600)), ("b", bytes(600)))
        refused(tmp_path, archive, "holds more than 1,000 bytes", Limits(members=9, size=1000))

    def test_bombs(self, make: Callable[..., bytes], tmp_path: Path) -> None:
        """So is how far they may expand."""
        archive = make(("zeros", bytes(CHUNK + 300_000)))
        limits = Limits(members=9, size=1 << 30, ratio=50)
        refused(tmp_path, archive, "holds more than 50 bytes for each of its", limits)

    def test_bombs_in_a_tars_headers(self, tmp_path: Path) -> None:
        """What lies between files counts, too: a header that is a gibibyte long is never held in memory."""
        header = tarfile.TarInfo("pax")
        header.type, header.size = tarfile.XHDTYPE, 1 << 30
        plain = header.tobuf() + bytes(2 * (HEADERS + 2048 * 9))
        refused(tmp_path, gzip.compress(plain), "holds more than its files account for", Limits(members=9, size=10))

    def test_bombs_behind_the_end(self, tmp_path: Path) -> None:
        """Nor is what follows the last file read without end."""
        plain = gzip.decompress(tar_bytes(tar_entry("good"))) + bytes(2 * (HEADERS + 2048 * 9))
        refused(tmp_path, gzip.compress(plain), "holds more than its files account for", Limits(members=9, size=10))

    def test_a_zip_that_lies_about_sizes(self, tmp_path: Path) -> None:
        """No more bytes are written than were told."""
        archive = bytearray(zip_bytes(zip_entry("liar", bytes(5000))))
        at = archive.index(b"PK\x01\x02") + 24
        assert struct.unpack_from("<I", archive, at) == (5000,)
        struct.pack_into("<I", archive, at, 10)
        refused(tmp_path, bytes(archive), r"is damaged|larger than it says")


class TestDamagedArchives:
    """Archives that are not whole, or no archives."""

    def test_half_of_one(self, make: Callable[..., bytes], tmp_path: Path) -> None:
        """Part of an archive is refused, and none of it is kept."""
        archive = make(("a", bytes(range(256)) * 99), ("b", b"2"))
        refused(tmp_path, archive[: len(archive) // 2], r"is damaged .*: delete it and fetch it again")

    def test_a_wrong_bit(self, make: Callable[..., bytes], tmp_path: Path) -> None:
        """Checksums inside are verified."""
        archive = bytearray(make(("a", bytes(range(256)) * 99)))
        archive[100] ^= 4
        refused(tmp_path, bytes(archive), "is damaged")

    def test_a_wrong_checksum_at_the_end(self, tmp_path: Path) -> None:
        """The checksum that comes last is read."""
        archive = bytearray(tar_bytes(tar_entry("a")))
        archive[-5] ^= 1
        refused(tmp_path, bytes(archive), "is damaged .*CRC")

    @pytest.mark.parametrize("content", [b"", b"<html>Sign in to this network</html>", b"PK\x05\x06" + bytes(18)])
    def test_something_else(self, tmp_path: Path, content: bytes) -> None:
        """Neither format."""
        refused(tmp_path, content, "must be tar.gz or zip, it is neither")

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_any_damage(self, make: Callable[..., bytes], tmp_path: Path, data: st.DataObject) -> None:
        """Whatever bytes are changed, the archive gives its files or is refused; never another error, never other bytes."""
        archive = bytearray(make(*FILES.items()))
        for _ in range(data.draw(st.integers(1, 4))):
            archive[data.draw(st.integers(0, len(archive) - 1))] = data.draw(st.integers(0, 255))
        try:
            found = unpack(tmp_path, bytes(archive))
        except ltbench.LtbenchError:
            found = {}
        assert all(FILES.get(name, content) == content for name, content in found.items())
        assert {path.name for path in tmp_path.iterdir()} == {"a"}

    def test_no_room(self, make: Callable[..., bytes], tmp_path: Path) -> None:
        """A disk that fills up is told, and nothing of the archive stays."""
        resource = pytest.importorskip("resource")
        archive = make(("a", bytes(300_000)))
        (tmp_path / "a").write_bytes(archive)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
        try:
            with (
                pytest.raises(ltbench.LtbenchError, match=r"no room left .*; nothing of the archive was unpacked"),
                unpacked(tmp_path / "a", LIMITS, ignore),
            ):
                pass
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert contents(tmp_path) == {"a": archive}
