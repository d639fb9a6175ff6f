"""Tests of ``ltbench cache``: sets listed, verified, deleted, cleaned up, and handed from machine to machine."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ltbench.cli.app import main
from ltbench.errors import LtbenchError, UsageError
from ltbench.features import Extraction, Features, FeatureStore, Origin
from ltbench.features.exchange import export_sets, import_sets
from ltbench.features.folder import SetFolder, header, one_set, sets
from ltbench.features.manifest import DamagedError, read_manifest
from ltbench.features.upkeep import DAY, collect
from ltbench.files import CACHE_VARIABLE
from ltbench.keys import canonical_json
from ltbench.types import Dataset, Part


class Flat:
    """Pixels as features."""

    fingerprint = "flat"
    flops_per_image = 0

    def preprocess(self, image: torch.Tensor) -> torch.Tensor:
        """Return pixels as numbers."""
        return image.float()

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Encode a batch."""
        return batch.flatten(1)


def origin(name: str = "glyphs") -> Origin:
    """Return where a set comes from."""
    return Origin(name, "timm:vit[dtype=bfloat16]", {"dataset": name, "backbone": {"name": "vit"}}, {"torch": "1"}, 7)


def fill(cache: Path, name: str = "glyphs", rows: int = 40) -> Features:
    """Extract a set into a cache."""
    images = torch.arange(rows * 4).reshape(rows, 2, 2, 1).to(torch.uint8)
    data = Dataset(Part(torch.zeros(rows).long(), images), Part(torch.zeros(3).long(), images[:3]), ("a",), name)
    return FeatureStore(cache).extracted(Extraction(data, Flat(), threads=1), origin(name))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a cache with one set, which the command line uses."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    fill(tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def place(cache: Path) -> SetFolder:
    """Return the folder of the set."""
    return one_set(cache, "")


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Return what runs ``ltbench cache`` and gives its exit code and what it said."""

    def run(*arguments: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as caught:
            main(["cache", *map(str, arguments)])
        said = capsys.readouterr()
        return int(caught.value.code or 0), said.out + said.err

    return run


def flip(path: Path, at: int = -1) -> None:
    """Change a bit of a read-only file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.unlink()
    path.write_bytes(content)


def numbers_file(place: SetFolder, part: str = "train") -> Path:
    """Return the file of a part."""
    manifest = place.manifest()
    assert manifest is not None
    return place.path / manifest.parts[part].file


def age(folder: Path, days: float) -> None:
    """Make everything below a folder look as old as that."""
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (time.time() - days * DAY,) * 2)


# ls


def test_ls_says_what_sets_are(cache: Path, place: SetFolder, say: Callable[..., tuple[int, str]]) -> None:
    """A line for each set: key, names, rows, width, size, state."""
    code, said = say("ls")
    line = next(line for line in said.splitlines() if line.startswith(place.key[:12]))
    assert code == 0
    assert [*line.split()[:5], line.split()[-1]] == [
        place.key[:12],
        "glyphs",
        "timm:vit[dtype=bfloat16]",
        "43",
        "4",
        "complete",
    ]
    assert "KiB" in line
    assert "just now" in line


def test_ls_names_unfinished_and_damaged_sets(cache: Path, place: SetFolder, say: Callable[..., tuple[int, str]]) -> None:
    """What cannot be used is told apart."""
    flip(place.path / "manifest.json")
    unfinished = cache / "features" / ("0" * 32) / "unfinished-32"
    unfinished.mkdir(parents=True)
    (unfinished / "train-000000000-0123456789abcdef.safetensors").write_bytes(b"x")
    said = say("ls")[1]
    assert "unfinished, 1 shards done" in said
    assert "damaged: see 'ltbench cache verify'" in said


def test_ls_of_an_empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Callable[..., tuple[int, str]]) -> None:
    """No sets are no error, and the folder looked at is named."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "none"))
    assert say("ls") == (0, f"no features in {tmp_path / 'none'} (LTBENCH_CACHE names another folder)\n")


def test_the_cache_is_looked_after_without_torch(cache: Path) -> None:
    """Listing, verifying, exporting and importing import no torch."""
    key = sets(cache)[0].key
    code = (
        "import sys; from ltbench.cli.app import main\n"
        f"for words in (['ls'], ['verify'], ['export', {key!r}, '-o', 'x.tar'], ['import', 'x.tar'], ['gc'], ['rm', {key!r}]):\n"
        "    try: main(['cache', *words])\n"
        "    except SystemExit as error: assert not error.code, words\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cache.parent, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


# verify


def test_verify_finds_nothing_in_a_whole_cache(place: SetFolder, say: Callable[..., tuple[int, str]]) -> None:
    """Exit code 0, and a line for each set."""
    assert say("verify") == (0, f"ok       {place.key}\n")


@pytest.mark.parametrize("part", ["train", "test", "manifest"])
@pytest.mark.parametrize("at", [0, 9, -1])
def test_verify_names_the_damaged_file(place: SetFolder, say: Callable[..., tuple[int, str]], part: str, at: int) -> None:
    """A flipped bit anywhere is found although size and time are as remembered, and the exit code is 1."""
    path = place.path / "manifest.json" if part == "manifest" else numbers_file(place, part)
    before = path.stat()
    flip(path, at)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    code, said = say("verify", place.key[:5])
    assert code == 1
    assert said.startswith(f"DAMAGED  {path}: ")


def test_verify_reads_unfinished_sets_too(cache: Path, say: Callable[..., tuple[int, str]]) -> None:
    """A shard is named after its hash."""
    shard = cache / "features" / ("0" * 32) / "unfinished-32" / "train-000000000-0123456789abcdef.safetensors"
    shard.parent.mkdir(parents=True)
    shard.write_bytes(b"x")
    assert say("verify", "000") == (1, f"DAMAGED  {shard}: its SHA-256 is not that of its name\n")


# rm, gc


def test_rm_deletes_what_is_named(cache: Path, place: SetFolder, say: Callable[..., tuple[int, str]]) -> None:
    """One set goes, the others stay; it can be deleted although its files are read-only."""
    fill(cache, "digits")
    code, said = say("rm", place.key[:6])
    assert (code, said.startswith(f"deleted {place.key}")) == (0, True)
    assert [each.manifest().origin.dataset for each in sets(cache)] == ["digits"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("key", "cause"),
    [("zz", "0 sets of features have a key that begins with 'zz'"), ("", "KEY must be the beginning of a key, not ''")],
)
def test_an_unclear_key_deletes_nothing(cache: Path, say: Callable[..., tuple[int, str]], key: str, cause: str) -> None:
    """A key must name one set."""
    fill(cache, "digits")
    assert say("rm", key) == (2, f"error: {cause}: see 'ltbench cache ls'\n")
    with pytest.raises(UsageError, match="2 sets of features have a key"):
        one_set(cache, "")
    assert len(sets(cache)) == 2


def leftovers(cache: Path, place: SetFolder) -> list[Path]:
    """Leave behind what killed runs may leave behind."""
    left = [
        cache / "features" / ("0" * 32) / "unfinished-32" / "train-000000000-0123456789abcdef.safetensors",
        place.path / "unfinished-256" / "finish.lock",
        place.path / ".0123.tmp",
        cache / "features" / "fedcba98765432100123456789abcdef.safetensors",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"left")
    return left


def test_gc_takes_old_leftovers_only(cache: Path, place: SetFolder, say: Callable[..., tuple[int, str]]) -> None:
    """What is younger than a day may belong to a run; complete sets stay."""
    left = leftovers(cache, place)
    assert list(collect(cache)) == []
    for path in left:
        age(path.parent if path.parent != place.path else path, 1.1)
    for path in (place.path / "manifest.json", numbers_file(place), numbers_file(place, "test")):
        os.utime(path)
    code, said = say("gc")
    assert (code, said.splitlines()[-1]) == (0, "16 B freed")
    assert [path.exists() for path in left] == [False] * 4
    assert list(place.damage()) == []


def test_gc_takes_sets_that_nobody_used(cache: Path, place: SetFolder) -> None:
    """Using a set makes it young again."""
    age(cache, 40)
    assert list(collect(cache)) == []
    assert [removed.reason for removed in collect(cache, 50)] == []
    FeatureStore(cache).find(origin().key)
    assert list(collect(cache, 30)) == []
    age(cache, 40)
    assert [(removed.path, removed.reason) for removed in collect(cache, 30)] == [(place.path, "not used for 40 days")]
    assert sets(cache) == []


# export, import


@pytest.mark.parametrize("name", ["features.tar", "folder"])
def test_features_travel_whole(cache: Path, place: SetFolder, tmp_path: Path, name: str) -> None:
    """What was exported is found elsewhere without a backbone, bit for bit; taking it twice changes nothing."""
    fill(cache, "digits")
    export_sets(sets(cache), tmp_path / "out" / name)
    taken = import_sets(tmp_path / "out" / name, tmp_path / "other")
    assert sorted((manifest.key, fresh) for manifest, fresh in taken) == sorted((each.key, True) for each in sets(cache))
    assert [fresh for _, fresh in import_sets(tmp_path / "out" / name, tmp_path / "other")] == [False, False]
    for made in (origin(), origin("digits")):
        here, there = FeatureStore(cache).find(made.key), FeatureStore(tmp_path / "other").find(made.key)
        assert here is not None
        assert there is not None
        assert {n: x.tolist() for n, x in here.parts().items()} == {n: x.tolist() for n, x in there.parts().items()}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o444 for path in (tmp_path / "other").rglob("*.safetensors"))


def test_the_command_line_hands_on(cache: Path, place: SetFolder, tmp_path: Path, say: Callable[..., tuple[int, str]]) -> None:
    """Export, delete, import, and it is there again."""
    said = "glyphs × timm:vit[dtype=bfloat16], 43 rows"
    assert say("export", place.key, "-o", tmp_path / "x.tar") == (0, f"exported {place.key[:12]}  {said}, 944 B\n")
    say("rm", place.key)
    assert say("import", tmp_path / "x.tar") == (0, f"imported {place.key[:12]}  {said}\n")
    assert say("import", tmp_path / "x.tar") == (0, f"is here  {place.key[:12]}  {said}\n")
    assert say("verify")[0] == 0


def test_an_archive_of_the_same_sets_is_the_same(place: SetFolder, tmp_path: Path) -> None:
    """Neither owner nor time of the export is in it."""
    for name in ("a.tar", "b.tar"):
        export_sets([place], tmp_path / name)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as archive:
        assert {(each.uname, each.uid, each.mtime) for each in archive} == {("", 0, 0)}


def test_a_damaged_set_is_replaced_by_an_imported_one(cache: Path, place: SetFolder, tmp_path: Path) -> None:
    """Importing mends."""
    export_sets([place], tmp_path / "x.tar")
    flip(numbers_file(place))
    assert [fresh for _, fresh in import_sets(tmp_path / "x.tar", cache)] == [True]
    assert list(place.damage()) == []


def test_what_is_not_whole_is_not_exported(cache: Path, place: SetFolder, tmp_path: Path) -> None:
    """Neither damaged nor unfinished sets leave the house."""
    (cache / "features" / ("0" * 32)).mkdir()
    with pytest.raises(UsageError, match=r"^set 0+ is not complete: only complete sets can be exported$"):
        export_sets(sets(cache), tmp_path / "x.tar")
    flip(numbers_file(place))
    with pytest.raises(LtbenchError, match=r"^a damaged set cannot be exported: "):
        export_sets([place], tmp_path / "x.tar")
    assert not (tmp_path / "x.tar").exists()


def test_a_disk_too_small_for_an_export(place: SetFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One clear error, and no half archive."""

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(LtbenchError, match=r"^cannot write .*x\.tar: No space left on device$"):
        export_sets([place], tmp_path / "x.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def members(place: SetFolder) -> dict[str, bytes]:
    """Return what an archive of the set holds."""
    names = ["manifest.json", numbers_file(place).name, numbers_file(place, "test").name]
    return {f"{place.key}/{name}": (place.path / name).read_bytes() for name in names}


def archived(path: Path, content: dict[str, bytes], *more: tarfile.TarInfo) -> Path:
    """Write an archive by hand."""
    with tarfile.open(path, "w") as archive:
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in more:
            archive.addfile(info)
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """Return a member that is no plain file."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


HOSTILE = {
    "absolute": "/tmp/evil",
    "upwards": "../evil",
    "upwards inside": "{key}/../../evil",
    "deeper": "{key}/a/b",
    "backslash": "{key}/..\\evil",
    "another folder": "evil/manifest.json",
    "beside": "manifest.json",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_refused(place: SetFolder, tmp_path: Path, name: str) -> None:
    """One bad member, and nothing at all is taken."""
    evil = HOSTILE[name].format(key=place.key)
    path = archived(tmp_path / "x.tar", {**members(place), evil: b"evil"})
    with pytest.raises(LtbenchError, match="is refused because of its member"):
        import_sets(path, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE], ids=repr)
def test_links_and_devices_are_refused(place: SetFolder, tmp_path: Path, kind: bytes) -> None:
    """An archive holds plain files."""
    path = archived(tmp_path / "x.tar", members(place), special(f"{place.key}/link", kind, "/etc/passwd"))
    with pytest.raises(LtbenchError, match=r"is refused because of its member .*: an archive of features holds plain files"):
        import_sets(path, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_member_that_comes_twice_is_refused(place: SetFolder, tmp_path: Path) -> None:
    """What was looked at must be what is taken."""
    again = tarfile.TarInfo(f"{place.key}/manifest.json")
    path = archived(tmp_path / "x.tar", members(place), again)
    with pytest.raises(LtbenchError, match="it comes twice"):
        import_sets(path, tmp_path / "other")


def test_a_file_that_no_manifest_names_is_refused(place: SetFolder, tmp_path: Path) -> None:
    """Nothing rides along."""
    path = archived(tmp_path / "x.tar", {**members(place), f"{place.key}/evil.py": b"evil"})
    with pytest.raises(LtbenchError, match="holds more or something else"):
        import_sets(path, tmp_path / "other")


def test_an_archive_packed_by_hand_is_taken(cache: Path, tmp_path: Path) -> None:
    """``tar -C cache/features -cf x.tar .`` is an export, too; so is another machine's cache."""
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(cache / "features", arcname=".")
    assert [fresh for _, fresh in import_sets(tmp_path / "x.tar", tmp_path / "other")] == [True]
    assert [fresh for _, fresh in import_sets(cache, tmp_path / "third")] == [True]


def test_a_file_of_something_else_is_refused(place: SetFolder, tmp_path: Path) -> None:
    """A manifest may vouch for any bytes; they must still be rows of numbers."""
    name, content = numbers_file(place).name, members(place)
    evil = content[f"{place.key}/{name}"].replace(b'"x"', b'"y"')
    sha256 = hashlib.sha256(evil).hexdigest()
    renamed = f"train-{sha256[:16]}.safetensors"
    manifest = forged(place, lambda said: said["parts"]["train"].update(sha256=sha256, file=renamed))
    del content[f"{place.key}/{name}"]
    path = archived(tmp_path / "x.tar", {**content, f"{place.key}/{renamed}": evil, f"{place.key}/manifest.json": manifest})
    with pytest.raises(LtbenchError, match=r"is no file of 40 rows of 4 numbers$"):
        import_sets(path, tmp_path / "other")
    assert FeatureStore(tmp_path / "other").find(place.key) is None


@pytest.mark.parametrize("at", [130, 200, -1])
def test_damaged_content_is_refused(place: SetFolder, tmp_path: Path, at: int) -> None:
    """A bit that changed on the way is found, and no complete set comes of it."""
    content = members(place)
    name = next(name for name in content if "train" in name)
    damaged = bytearray(content[name])
    damaged[at] ^= 1
    path = archived(tmp_path / "x.tar", {**content, name: bytes(damaged)})
    with pytest.raises(LtbenchError, match="is damaged: its SHA-256 is not that of the manifest"):
        import_sets(path, tmp_path / "other")
    assert FeatureStore(tmp_path / "other").find(place.key) is None


def test_a_file_larger_than_told_is_refused(place: SetFolder, tmp_path: Path) -> None:
    """Sizes are those that rows and width make."""
    content = members(place)
    name = next(name for name in content if "train" in name)
    path = archived(tmp_path / "x.tar", {**content, name: content[name] + b"more"})
    with pytest.raises(LtbenchError, match=rf"must have {len(content[name])} bytes, it has {len(content[name]) + 4}$"):
        import_sets(path, tmp_path / "other")


def test_a_missing_file_is_refused(place: SetFolder, tmp_path: Path) -> None:
    """A set comes whole or not at all."""
    content = members(place)
    path = archived(tmp_path / "x.tar", {name: data for name, data in content.items() if "test-" not in name})
    with pytest.raises(LtbenchError, match=r"bytes, it has 0$"):
        import_sets(path, tmp_path / "other")


@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_a_truncated_archive_is_refused(place: SetFolder, tmp_path: Path, share: float) -> None:
    """A download that was cut off is one clear error."""
    export_sets([place], tmp_path / "x.tar")
    content = (tmp_path / "x.tar").read_bytes().rstrip(b"\0")
    (tmp_path / "x.tar").write_bytes(content[: int(share * len(content))])
    with pytest.raises(LtbenchError):
        import_sets(tmp_path / "x.tar", tmp_path / "other")
    assert FeatureStore(tmp_path / "other").find(place.key) is None


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b\x08\x00" + bytes(600)], ids=["empty", "text", "gzip"])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    """The error says what to give."""
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(UsageError, match="is no tar archive that 'ltbench cache export' wrote"):
        import_sets(tmp_path / "x.tar", tmp_path / "other")


def test_nothing_to_import(tmp_path: Path, say: Callable[..., tuple[int, str]]) -> None:
    """A folder without sets, and a path that is not there, are the user's mistakes."""
    (tmp_path / "empty").mkdir()
    assert say("import", tmp_path / "none")[0] == 2
    assert say("import", tmp_path / "empty")[1].endswith("give what 'ltbench cache export' wrote\n")


# Manifests


def forged(place: SetFolder, change: Callable[[dict[str, Any]], None]) -> bytes:
    """Return the set's manifest with a change, sealed as if it were genuine."""
    said = json.loads((place.path / "manifest.json").read_bytes())
    del said["sha256"]
    change(said)
    said["sha256"] = hashlib.sha256(canonical_json(said).encode()).hexdigest()
    return (json.dumps(said, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def test_a_manifest_survives_reading_and_writing(place: SetFolder) -> None:
    """The same bytes come out."""
    content = (place.path / "manifest.json").read_bytes()
    assert forged(place, lambda said: None) == content
    assert read_manifest(content).write() == content


FORGERIES: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "another format": (lambda said: said.update(format=2), "its format is 2, and this ltbench reads 1"),
    "a path": (lambda said: said["parts"]["train"].update(file="../../evil-0123456789abcdef.safetensors"), "no manifest"),
    "another hash": (lambda said: said["parts"]["train"].update(sha256="0" * 64), "no manifest"),
    "too few shards": (lambda said: said["parts"]["train"].update(shards=[]), "no manifest"),
    "rows below 0": (lambda said: said["parts"]["train"].update(rows=-1), "no manifest"),
    "text for a number": (lambda said: said["parts"]["train"].update(rows="40"), "no manifest"),
    "more than there is": (lambda said: said.update(extra=1), "its hash is not that of its content"),
    "an unknown part": (lambda said: said["parts"].update(more=said["parts"]["train"]), "with train among them"),
    "no parts": (lambda said: said.update(parts={}), "with train among them"),
    "another backbone's features": (
        lambda said: said["origin"]["parts"].update(backbone={"name": "better"}),
        "its key is not that of what it says it was made from",
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_forged_manifests_are_refused(place: SetFolder, forgery: str) -> None:
    """A manifest whose hash is right may still be wrong in itself."""
    change, message = FORGERIES[forgery]
    with pytest.raises(DamagedError, match=message):
        read_manifest(forged(place, change))


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"nonsense", b"[" * 10_000, b'{"format": 1}', b"\xff\xfe"])
def test_foreign_manifests_are_refused(content: bytes) -> None:
    """Anything at all may stand in a file of that name."""
    with pytest.raises(DamagedError, match="it is no manifest of features"):
        read_manifest(content)


def test_files_are_true_safetensors(place: SetFolder) -> None:
    """Other programs can read them: the library's own reader agrees with the header written by hand."""
    from safetensors import safe_open
    from safetensors.torch import load_file

    path = numbers_file(place)
    assert load_file(path)["x"].tolist() == fill(place.path.parent.parent).train.tolist()
    with safe_open(path, "pt") as file:
        assert list(file.keys()) == ["x"]
    assert path.read_bytes().startswith(header(40, 4))
    assert len(header(40, 4)) % 64 == 0
