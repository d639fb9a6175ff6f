"""What cells left behind, and the folders that hold it."""

from ltbench.records.folder import FLUSH_SECONDS, RunFolder
from ltbench.records.lines import records_text
from ltbench.records.outcome import correct_of, counts_of, packed
from ltbench.records.record import SCHEMA, UNKNOWN, Arrays, Record, Status
from ltbench.records.union import Loaded, combine, newest

__all__ = [
    "FLUSH_SECONDS",
    "SCHEMA",
    "UNKNOWN",
    "Arrays",
    "Loaded",
    "Record",
    "RunFolder",
    "Status",
    "combine",
    "correct_of",
    "counts_of",
    "newest",
    "packed",
    "records_text",
]
