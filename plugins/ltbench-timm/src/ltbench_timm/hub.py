"""Files of the Hugging Face hub: fetched once, checked against the hub's hashes, with one clear error for each failure.

Knows no model library.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ltbench

ATTEMPTS = 3
SHA256_DIGITS = 64
SHA1_DIGITS = 40


@dataclass(frozen=True)
class HubModel:
    """A model repository, and the branch, tag or commit of it (the main branch if none is named).

    ``commit`` is what the revision stood for when a first file was fetched: the others are to be of the same.
    """

    repo: str
    revision: str | None = None
    commit: str | None = None

    @staticmethod
    def parse(text: str) -> HubModel:
        """Read ``user/model`` or ``user/model@revision``; raise UsageError for anything else."""
        repo, at, revision = text.partition("@")
        user, _, model = repo.partition("/")
        if not (user and model) or "/" in model or (at and not revision):
            raise ltbench.UsageError(f"a hub model is named user/model or user/model@revision, not {text!r}")
        return HubModel(repo, revision or None)

    def pinned(self, file: Path) -> HubModel:
        """Return the same model at the commit of a file that was fetched, whatever is pushed from now on."""
        return HubModel(self.repo, self.revision, commit=file.parent.name)

    def __str__(self) -> str:
        """Return the name as it was parsed."""
        return self.repo + (f"@{self.revision}" if self.revision else "")


def fetch(model: HubModel, names: Sequence[str]) -> Path:
    """Return the local copy of the first of these files that a repository holds, downloading it if it has changed.

    Without a network, the copy of an earlier download serves. Raises UsageError where the hub has no such model,
    revision or file, and LtbenchError where it cannot be reached or a file is not what the hub says it is.
    """
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for name in names:
        try:
            path = _downloaded(model, name)
        except LocalEntryNotFoundError as error:
            found = next(filter(None, (cached(model, each) for each in names)), None)
            if found is None:
                raise _explained(error, model) from error
            path = found
        except EntryNotFoundError:
            continue
        except Exception as error:
            raise _explained(error, model) from error
        verify(path, model)
        return path
    raise ltbench.UsageError(f"hub model {model} holds no {' or '.join(names)}: name a model that was saved for this library")


def fetch_some(model: HubModel, names: Sequence[str]) -> tuple[Path, ...]:
    """Return the local copies of those of these files that a repository holds, all of one commit; raises as ``fetch``.

    Without a network, earlier downloads serve if they tell of each file whether it is there.
    """
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    found: list[Path] = []
    for name in names:
        try:
            found.append(_downloaded(model, name))
        except LocalEntryNotFoundError as error:
            if not _known_missing(model, name):
                raise _explained(error, model) from error
            continue
        except EntryNotFoundError:
            continue
        except Exception as error:
            raise _explained(error, model) from error
        verify(found[-1], model)
        model = model.pinned(found[0])
    return tuple(found)


def _downloaded(model: HubModel, name: str) -> Path:
    """Let huggingface_hub find or download a file; where the connection breaks, go on as far as its version can."""
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError

    for attempt in range(ATTEMPTS):
        try:
            return Path(huggingface_hub.hf_hub_download(model.repo, name, revision=model.commit or model.revision))
        except (EntryNotFoundError, OSError, ValueError):  # the hub's own answers, a full disk, a wrong name
            raise
        except Exception:
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError  # not reached


def cached(model: HubModel, name: str) -> Path | None:
    """Return a file that was downloaded before, or None; asks no network."""
    import huggingface_hub

    found = huggingface_hub.try_to_load_from_cache(model.repo, name, revision=model.commit or model.revision)
    return Path(found) if isinstance(found, str) else None


def _known_missing(model: HubModel, name: str) -> bool:
    """Tell whether the hub has once said that a revision does not hold a file; asks no network."""
    import huggingface_hub

    found = huggingface_hub.try_to_load_from_cache(model.repo, name, revision=model.commit or model.revision)
    return found is not None and not isinstance(found, str)


def content_hash(path: Path) -> str:
    """Return a hash of a file's content: the one that a file of the hub's cache is named after, else its SHA-256."""
    promised = path.readlink().name if path.is_symlink() else ""
    return promised if len(promised) in (SHA1_DIGITS, SHA256_DIGITS) else _sha256(path)


def verify(path: Path, model: HubModel) -> None:
    """Raise LtbenchError unless a cached file has the hash that the hub gave for it.

    The cache links each file to one that is named after its ETag: the SHA-256 of a large file, git's SHA-1 of a
    small one. Where there are no links (some file systems), there is nothing to compare with.
    """
    promised = path.readlink().name if path.is_symlink() else ""
    hashes = {SHA256_DIGITS: _sha256, SHA1_DIGITS: _git_sha1}
    found = hashes[len(promised)](path) if len(promised) in hashes else promised
    if found != promised:
        raise ltbench.LtbenchError(
            f"{path.name} of hub model {model} is damaged: its hash is {found[:12]}…, the hub says {promised[:12]}…; "
            f"delete {path.resolve()} and run again"
        )


def _sha256(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git_sha1(path: Path) -> str:
    """Return the name git gives to a file's content, in hexadecimal."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _explained(error: Exception, model: HubModel) -> ltbench.LtbenchError:
    """Return the one sentence that says what went wrong and what to do."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.GatedRepoError):
        return ltbench.UsageError(
            f"hub model {model} is gated: accept its terms at {constants.ENDPOINT}/{model.repo}, then run 'hf auth login'"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return ltbench.UsageError(
            f"{constants.ENDPOINT} has no model {model.repo!r} that you may read: check the name; if private, 'hf auth login'"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ltbench.UsageError(f"hub model {model.repo!r} has no revision {model.revision!r}: name a branch, tag or commit")
    if isinstance(error, errors.LocalEntryNotFoundError):
        return ltbench.LtbenchError(
            f"hub model {model} is not in the cache {constants.HF_HUB_CACHE}, and {constants.ENDPOINT} {_silence(error)}: "
            "run once with a network, or copy the cache of a machine that has it"
        )
    if isinstance(error, errors.HFValidationError):
        return ltbench.UsageError(f"{model.repo!r} cannot be the name of a hub model: it must be user/model")
    cause = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return ltbench.LtbenchError(f"hub model {model} cannot be fetched from {constants.ENDPOINT}: {cause}")


def _silence(error: Exception) -> str:
    """Say why nothing came from the hub."""
    from huggingface_hub import errors

    if isinstance(error.__cause__, errors.FileMetadataError):
        return "does not answer as a hub does (a proxy's page, perhaps)"
    if isinstance(error.__cause__, errors.HfHubHTTPError):
        return f"answers with status {error.__cause__.response.status_code}"
    return "cannot be reached"
