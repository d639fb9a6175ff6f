"""The folder that holds a run's records: atomic, mergeable, never half written.

``records/*.jsonl``, each file written once by one writer, and ``scores/*.safetensors`` beside them.
"""

from __future__ import annotations

import dataclasses
import time
import uuid
import warnings
from pathlib import Path
from typing import Any

from ltbench.errors import UsageError
from ltbench.files import write_atomically
from ltbench.records.lines import read_records, record_lines
from ltbench.records.record import Arrays, Record
from ltbench.records.union import Loaded, combine

FLUSH_SECONDS = 2.0


class RunFolder:
    """A folder of records; each writer has files of its own."""

    def __init__(self, path: Path) -> None:
        """Name the folder; nothing is read or made yet."""
        self.path = path
        self._writer = uuid.uuid4().hex[:12]
        self._batch = 0
        self._pending: list[tuple[Record, Arrays | None]] = []
        self._flushed = time.monotonic()

    def load(self) -> Loaded:
        """Read every record; raise UsageError for a file that is no list of records."""
        return combine(self.everything())

    def everything(self) -> list[Record]:
        """Read every record there is, also several of one key."""
        files, shared = sorted((self.path / "records").glob("*.jsonl")), dict[str, dict[str, Any]]()
        return [record for file in files for record in read_records(file, shared)]

    def add(self, record: Record, arrays: Arrays | None = None) -> None:
        """Take a record; it is on disk a few seconds later, or after ``flush``."""
        self._pending.append((record, arrays))
        if time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is pending: first the scores, then the records that point to them."""
        if self._pending:
            name = f"{self._writer}-{self._batch:05d}"
            place = f"scores/{name}.safetensors"
            records = [r if a is None else dataclasses.replace(r, scores=place) for r, a in self._pending]
            self._write_scores(place)
            write_atomically(self.path / "records" / f"{name}.jsonl", record_lines(records))
            self._batch += 1
            self._pending.clear()
        self._flushed = time.monotonic()

    def take(self, other: RunFolder) -> None:
        """Take every record of another folder, contradicting ones too, and the files of their scores."""
        for record in {record.to_json(): record for record in other.everything()}.values():
            if record.scores is not None and not (self.path / record.scores).exists():
                _copy(other.path / record.scores, self.path / record.scores)
            self._pending.append((record, None))

    def read_arrays(self, record: Record) -> Arrays:
        """Return the scores beside a record."""
        from safetensors import SafetensorError, safe_open

        if record.scores is None:
            raise UsageError(f"record {record.key} has no scores beside it")
        path = self.path / record.scores
        try:
            with safe_open(path, framework="pt") as file:
                return Arrays(file.get_tensor(f"{record.key}.scores"))
        except (OSError, SafetensorError) as error:
            raise UsageError(f"cannot read the scores of record {record.key} from {path}: {error}") from None

    def _write_scores(self, place: str) -> None:
        """Write the pending arrays into one file of the folder."""
        from safetensors.numpy import save  # writes the same bytes as its sister for torch, in less time

        found = {}
        for record, arrays in self._pending:
            if arrays is not None:
                found[f"{record.key}.scores"] = arrays.scores.contiguous().numpy()
        if found:
            write_atomically(self.path / place, save(found))


def _copy(source: Path, target: Path) -> None:
    """Copy a file of scores; a missing one is said, and its records come without."""
    if source.exists():
        write_atomically(target, source.read_bytes())
    else:
        warnings.warn(f"{source} is missing: its records come without scores", stacklevel=3)
