"""Sets of features as files to hand on: a folder or a tar archive, checked before anything is taken from it.

Knows no torch: a set is bytes that its manifest vouches for.
"""

from __future__ import annotations

import contextlib
import functools
import io
import tarfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ltbench.errors import LtbenchError, UsageError
from ltbench.features.folder import CHECKED, IMPORTED, KEY, SetFolder, header, named_after_hash, sets_in, write_read_only
from ltbench.features.manifest import DamagedError, Manifest, PartFile, read_manifest

MANIFEST = "manifest.json"
NOTES = {CHECKED, IMPORTED}
"""What a cache keeps beside a set, and an archive that somebody packed by hand may hold."""

LARGEST_MANIFEST = 2**24
MOST_MEMBERS = 100_000
CHUNK = 2**20


@dataclass(frozen=True)
class Offer:
    """A set that lies in a folder or an archive: its manifest, and how each of its files is opened."""

    manifest: Manifest
    files: Mapping[str, Callable[[], IO[bytes]]]


def export_sets(chosen: Sequence[SetFolder], out: Path) -> list[Manifest]:
    """Write complete sets to ``out``, a folder, or an archive if it ends in ``.tar``; every byte is checked.

    Raises UsageError for a set that is not complete, LtbenchError for a damaged one or if ``out`` cannot be written.
    """
    offers = [_offer_of(place) for place in chosen]
    for place in chosen:
        for problem in place.damage():
            raise LtbenchError(f"a damaged set cannot be exported: {problem}")
    if out.suffix == ".tar":
        _write_archive(offers, out)
    else:
        for offer in offers:
            _take(offer, out / offer.manifest.key)
    return [offer.manifest for offer in offers]


def import_sets(source: Path, cache: Path) -> list[tuple[Manifest, bool]]:
    """Take all sets of an exported folder or archive into a cache; return each, and whether it was new there.

    Nothing is taken from a source that offers anything but whole sets. Raises UsageError for what is no export, LtbenchError
    for one that is damaged or not to be trusted.
    """
    if not source.exists():
        raise UsageError(f"there is no {source} to import from")
    with _archive(source) if source.is_file() else contextlib.nullcontext(_folder_offers(source)) as offers:
        if not offers:
            raise UsageError(f"{source} holds no set of features: give what 'ltbench cache export' wrote")
        return [(offer.manifest, _imported(offer, SetFolder(cache / "features" / offer.manifest.key))) for offer in offers]


def _imported(offer: Offer, place: SetFolder) -> bool:
    """Take a set, unless it is there and whole; return whether it was taken."""
    if place.is_complete() and not list(place.damage()):
        return False
    _take(offer, place.path)
    place.mark_imported()
    return True


def _take(offer: Offer, folder: Path) -> None:
    """Copy a set's files, and its manifest last, so that a reader never sees half a set."""
    for part in offer.manifest.parts.values():
        stem = part.file.rpartition("-")[0]
        try:
            with offer.files[part.file]() as file:
                name, _, sha256 = write_read_only(folder, named_after_hash(stem), _chunks(file, part))
        except (OSError, EOFError, tarfile.TarError) as error:
            raise LtbenchError(f"{part.file} of set {offer.manifest.key} cannot be read: {error}") from error
        if sha256 != part.sha256:
            (folder / name).unlink(missing_ok=True)
            raise LtbenchError(f"{part.file} of set {offer.manifest.key} is damaged: its SHA-256 is not that of the manifest")
    write_read_only(folder, lambda _: MANIFEST, [offer.manifest.write()])


def _chunks(file: IO[bytes], part: PartFile) -> Iterator[bytes]:
    """Yield a file's bytes, never more than its manifest says; raise LtbenchError unless they begin as rows of floats do."""
    start = header(part.rows, part.width)
    if file.read(len(start)) != start:
        raise LtbenchError(f"{part.file} is no file of {part.rows} rows of {part.width} numbers")
    yield start
    left = part.size - len(start)
    while left > 0 and (chunk := file.read(min(CHUNK, left))):
        left -= len(chunk)
        yield chunk


def _offer_of(place: SetFolder) -> Offer:
    """Return what a set on disk offers, or raise."""
    manifest = place.manifest()
    if manifest is None:
        raise UsageError(f"set {place.key} is not complete: only complete sets can be exported")
    return _offer(
        manifest, {part.file: (place.path / part.file).stat().st_size for part in manifest.parts.values()}, place.open
    )


def _offer(manifest: Manifest, sizes: Mapping[str, int], opener: Callable[[str], IO[bytes]]) -> Offer:
    """Return an offer, or raise LtbenchError unless it has each file of the manifest, in the size that rows and width make."""
    for part in manifest.parts.values():
        wanted = len(header(part.rows, part.width)) + 4 * part.rows * part.width
        if not sizes.get(part.file) == part.size == wanted:
            raise LtbenchError(f"{part.file} of set {manifest.key} must have {wanted} bytes, it has {sizes.get(part.file, 0)}")
    return Offer(manifest, {part.file: functools.partial(opener, part.file) for part in manifest.parts.values()})


def _folder_offers(source: Path) -> list[Offer]:
    """Return the complete sets of an exported folder, or of another cache."""
    found = [*sets_in(source), *sets_in(source / "features")]
    return [_offer_of(place) for place in found if place.manifest() is not None]


@contextlib.contextmanager
def _archive(source: Path) -> Iterator[list[Offer]]:
    """Return the sets of an archive, or raise LtbenchError for one that holds anything else."""
    try:
        with tarfile.open(source, "r:") as archive:  # no compression: what it claims to hold is what lies there
            yield _archive_offers(archive, source)
    except tarfile.ReadError as error:
        raise UsageError(f"{source} is no tar archive that 'ltbench cache export' wrote: {error}") from error
    except (tarfile.TarError, OSError) as error:
        raise LtbenchError(f"{source} cannot be read: {error}") from error


def _archive_offers(archive: tarfile.TarFile, source: Path) -> list[Offer]:
    """Return the sets of an open archive: every member is looked at before any is taken."""
    sets: dict[str, dict[str, tarfile.TarInfo]] = {}
    for number, member in enumerate(archive):
        key, name = _place_of(member, source)
        if number >= MOST_MEMBERS or name in sets.setdefault(key, {}):
            raise _refused(source, member, "it comes twice, or there are too many")
        sets[key][name] = member
    return [_archive_offer(archive, source, key, members) for key, members in sets.items() if key]


def _archive_offer(archive: tarfile.TarFile, source: Path, key: str, members: Mapping[str, tarfile.TarInfo]) -> Offer:
    """Return one set of an archive."""

    def opened(name: str) -> IO[bytes]:
        return archive.extractfile(members[name]) or io.BytesIO()

    if MANIFEST not in members or members[MANIFEST].size > LARGEST_MANIFEST:
        raise LtbenchError(f"{source}: set {key} has no {MANIFEST}, or one that is too large")
    try:
        manifest = read_manifest(opened(MANIFEST).read())
    except DamagedError as error:
        raise LtbenchError(f"{source}: {key}/{MANIFEST}: {error}") from error
    extra = set(members) - {part.file for part in manifest.parts.values()} - {MANIFEST, *NOTES, ""}
    if manifest.key != key or extra:
        raise LtbenchError(f"{source}: folder {key} holds more or something else than the set of that key")
    return _offer(manifest, {name: member.size for name, member in members.items()}, opened)


def _place_of(member: tarfile.TarInfo, source: Path) -> tuple[str, str]:
    """Return the key and the file name of a member, empty where it is a folder; refuse all else."""
    key, _, name = member.name.removeprefix("./").rstrip("/").partition("/")
    if member.isdir() and not name and (key in ("", ".") or KEY.fullmatch(key)):
        return key.removeprefix("."), ""
    plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()
    if not plain or not KEY.fullmatch(key) or not name or "/" in name or "\\" in name:
        raise _refused(source, member, "an archive of features holds plain files <key>/<file> and nothing else")
    return key, name


def _refused(source: Path, member: tarfile.TarInfo, reason: str) -> LtbenchError:
    """Say why an archive is refused; nothing was taken from it."""
    return LtbenchError(f"{source} is refused because of its member {member.name[:200]!r}: {reason}")


def _write_archive(offers: Sequence[Offer], out: Path) -> None:
    """Write an archive, atomically: the same sets make the same bytes, but for the dates in the manifests."""
    temporary = out.with_name(f".{out.name}.{uuid.uuid4().hex}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(temporary, "w") as archive:
            for offer in offers:
                _add(archive, offer)
        temporary.replace(out)
    except OSError as error:
        raise LtbenchError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _add(archive: tarfile.TarFile, offer: Offer) -> None:
    """Add a set to an archive."""
    content = offer.manifest.write()
    archive.addfile(_member(f"{offer.manifest.key}/{MANIFEST}", len(content)), io.BytesIO(content))
    for part in offer.manifest.parts.values():
        with offer.files[part.file]() as file:
            archive.addfile(_member(f"{offer.manifest.key}/{part.file}", part.size), file)


def _member(name: str, size: int) -> tarfile.TarInfo:
    """Return a member without owner and date."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o444
    return member
