"""What one cell left behind, and the folder that holds it: atomic, mergeable, never half written.

A record keeps apart ``result`` (deterministic), ``measured`` (seconds) and ``provenance``. A run's folder holds
``records/*.jsonl``, each file written once by one writer, and ``scores/*.safetensors`` beside them.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ltbench.errors import LtbenchError, UsageError
from ltbench.files import write_atomically
from ltbench.keys import canonical_json

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = 1
UNKNOWN = "unknown"
"""How the key of features begins that nobody could name."""

FLUSH_SECONDS = 2.0

Status = Literal["done", "failed", "out of memory", "timed out", "killed", "skipped"]


@dataclass(frozen=True)
class Record:
    """One cell: its names, and its result, failure or reason to be skipped."""

    key: str
    status: Status
    cell: Mapping[str, Any]
    result: Mapping[str, Any] | None = None
    failure: Mapping[str, Any] | None = None
    measured: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    scores: str | None = None
    schema: int = SCHEMA

    @property
    def failed(self) -> bool:
        """Whether the cell ended without a result and without a stated reason to skip it."""
        return self.status not in ("done", "skipped")

    @property
    def keyless(self) -> bool:
        """Whether the cell failed before the key of its features was known, as when a backbone cannot be loaded."""
        return self.failed and str(self.provenance.get("key_parts", {}).get("features", "")).startswith(UNKNOWN)

    @property
    def cause(self) -> str:
        """Who failed and why, or the reason to skip, in one line; empty for a cell that is done."""
        failure = self.failure or {}
        who, why = failure.get("component"), failure.get("error") or failure.get("reason") or ""
        return f"{who}: {why}" if who else str(why)

    @property
    def numerics(self) -> str:
        """The numerics class, as canonical text: within one, results are equal bit for bit."""
        return canonical_json(self.provenance.get("numerics", {}))

    def to_json(self) -> str:
        """Write the record in one line."""
        return canonical_json(vars(self))


@dataclass(frozen=True)
class Arrays:
    """What lies beside a record: the test rows' scores ``[N, C]`` and which were right, bool ``[N]``, on the CPU.

    In its file the latter are bits, the first in the lowest one of the first byte.
    """

    scores: Tensor
    correct: Tensor

    def __reduce__(self) -> tuple[Any, ...]:
        """Come from a worker as arrays of numpy: torch pickles each tensor as a file, which takes longer than a small cell."""
        return _arrays, (self.scores.numpy(), self.correct.numpy())


def _arrays(scores: Any, correct: Any) -> Arrays:
    """Return what arrays of numpy stand for."""
    import torch

    return Arrays(torch.from_numpy(scores), torch.from_numpy(correct))


@dataclass(frozen=True)
class Loaded:
    """The records of some folders: the best one for each key, and different results under one key."""

    records: dict[str, Record]
    conflicts: tuple[tuple[Record, Record], ...] = ()


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
        files, shared = sorted((self.path / "records").glob("*.jsonl")), dict[str, Any]()
        return [record for file in files for record in _read(file, shared)]

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
            write_atomically(self.path / "records" / f"{name}.jsonl", _lines(records))
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
        """Return the scores and correctness bits beside a record."""
        import numpy as np
        import torch
        from safetensors import SafetensorError, safe_open

        if record.scores is None:
            raise UsageError(f"record {record.key} has no scores beside it")
        path = self.path / record.scores
        try:
            with safe_open(path, framework="pt") as file:
                scores = file.get_tensor(f"{record.key}.scores")
                bits = file.get_tensor(f"{record.key}.correct")
        except (OSError, SafetensorError) as error:
            raise UsageError(f"cannot read the scores of record {record.key} from {path}: {error}") from None
        correct = np.unpackbits(bits.numpy(), count=len(scores), bitorder="little")
        return Arrays(scores, torch.from_numpy(correct).bool())

    def _write_scores(self, place: str) -> None:
        """Write the pending arrays into one file of the folder."""
        import numpy as np
        from safetensors.numpy import save  # writes the same bytes as its sister for torch, in less time

        found = {}
        for record, arrays in self._pending:
            if arrays is not None:
                found[f"{record.key}.scores"] = arrays.scores.contiguous().numpy()
                found[f"{record.key}.correct"] = np.packbits(arrays.correct.numpy(), bitorder="little")
        if found:
            write_atomically(self.path / place, save(found))


def _copy(source: Path, target: Path) -> None:
    """Copy a file of scores; a missing one is said, and its records come without."""
    if source.exists():
        write_atomically(target, source.read_bytes())
    else:
        warnings.warn(f"{source} is missing: its records come without scores", stacklevel=3)


def records_text(records: Iterable[Record]) -> str:
    """Write records, one a line, ordered by key."""
    return _lines(sorted(records, key=lambda record: (record.key, record.to_json()))).decode()


def combine(records: Iterable[Record]) -> Loaded:
    """Keep one record for each key: success before failure, then the smaller text, so that order does not matter.

    A failure before the key was known gives way to any other record of the same cell by its names. Two different
    results under one key and one numerics class are a conflict: both are returned.
    """
    by_key: dict[str, list[Record]] = {}
    for record in records:
        by_key.setdefault(record.key, []).append(record)
    best = {key: min(same, key=_rank) if len(same) > 1 else same[0] for key, same in by_key.items()}
    if any(record.keyless for record in best.values()):
        named = {canonical_json(record.cell) for record in best.values() if not record.keyless}
        best = {key: r for key, r in best.items() if not (r.keyless and canonical_json(r.cell) in named)}
    pairs = (_conflict(by_key[key]) for key in sorted(by_key) if len(by_key[key]) > 1)
    return Loaded(best, tuple(pair for pair in pairs if pair is not None))


def _conflict(same_key: list[Record]) -> tuple[Record, Record] | None:
    """Return two successes of one numerics class with different results, the first in order; None if all agree."""
    first: dict[str, Record] = {}
    for record in sorted(same_key, key=_rank):
        if record.status == "done":
            other = first.setdefault(record.numerics, record)
            if canonical_json(other.result) != canonical_json(record.result):
                return other, record
    return None


def newest(records: Iterable[Record]) -> list[Record]:
    """Keep one record for each cell by its names: the last to end, ordered by key.

    A cell has a second key once its code, a parameter's default or a required library has changed.
    """
    latest: dict[str, Record] = {}
    for record in sorted(records, key=lambda record: (str(record.measured.get("finished", "")), record.key)):
        latest[canonical_json(record.cell)] = record
    return sorted(latest.values(), key=lambda record: record.key)


def _rank(record: Record) -> tuple[int, str]:
    """Order records of one key: done, skipped, failed."""
    order = {"done": 0, "skipped": 1}.get(record.status, 2)
    return order, canonical_json(record.result or record.failure or {}) + record.to_json()


def _lines(records: Iterable[Record]) -> bytes:
    """Write records, one a line."""
    return "".join(record.to_json() + "\n" for record in records).encode(errors="backslashreplace")


def _read(path: Path, shared: dict[str, Any]) -> list[Record]:
    """Read one file of records; equal parts of records are ``shared``."""
    try:
        with path.open(encoding="utf-8", newline="\n") as file:  # a line at a time: the text is as large as its records
            lines = enumerate(file, 1)
            return [_parse(line, f"{path}:{number}", shared) for number, line in lines if line.strip()]
    except OSError as error:
        raise LtbenchError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is no text, so it holds no records: move the file away") from None


def _parse(line: str, place: str, shared: dict[str, Any]) -> Record:
    """Parse one line, or raise UsageError: torn, foreign, or of a later schema."""
    try:
        table = _DECODER.decode(line)
    except (ValueError, RecursionError):
        raise UsageError(f"{place} is torn or no record: move the file away, and the run recomputes its cells") from None
    if not isinstance(table, dict) or type(table.get("schema")) is not int:
        raise UsageError(f"{place} is no ltbench record: move the file away")
    if table["schema"] > SCHEMA:
        raise UsageError(f"{place} has schema {table['schema']}, this ltbench knows up to {SCHEMA}: install a newer ltbench")
    if not table.keys() <= Record.__dataclass_fields__.keys() or not {"key", "status", "cell"} <= set(table):
        raise UsageError(f"{place} is no ltbench record of schema {SCHEMA}: move the file away")
    record = Record(**table)
    if not _well_typed(record):
        raise UsageError(f"{place} is no whole ltbench record: move the file away, and the run recomputes its cells")
    for part, names in _ALIKE:
        _share(part(record), names, shared)
    return record


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a table whose names are the same objects as those of every other: else they would be a third of a record."""
    return {sys.intern(name): value for name, value in pairs}


def _share(table: Any, names: Iterable[str], shared: dict[str, Any]) -> None:
    """Replace values of a table just read by the first of their equals: of many records, most say the same."""
    for name in names if isinstance(table, dict) else ():
        value = table.get(name)
        if isinstance(value, str):
            table[name] = sys.intern(value)
        elif isinstance(value, dict | list):
            table[name] = shared.setdefault(repr(value), value)  # 1, 1.0 and True are equal, their texts are not


def _refuse(constant: str) -> None:
    """Refuse NaN and infinities, which are no JSON."""
    raise ValueError(constant)


_DECODER = json.JSONDecoder(object_pairs_hook=_table, parse_constant=_refuse)
# What many records have in common: where to find a table, and which of its values.
_NAMES = ("dataset", "backbone", "transform", "profile", "rows", "class_order", "generator", "regime", "classifier")
_ALIKE: tuple[tuple[Callable[[Record], Any], tuple[str, ...]], ...] = (
    (lambda record: record.cell, _NAMES),
    (lambda record: record.provenance, ("ltbench", "plugins", "numerics")),
    (lambda record: record.provenance.get("key_parts"), (*_NAMES, "features", "selection", "split", "views")),
    (lambda record: record.result, ("train", "fidelity", "flops")),
)


def _well_typed(record: Record) -> bool:
    """Whether a record's parts are of their types."""
    kinds = [(record.key, str), (record.cell, dict), (record.measured, dict), (record.provenance, dict)]
    optional = [(record.result, dict), (record.failure, dict), (record.scores, str)]
    typed = all(isinstance(value, kind) for value, kind in kinds)
    typed = typed and all(value is None or isinstance(value, kind) for value, kind in optional)
    return typed and record.status in get_args(Status) and (record.status != "done" or record.result is not None)
