"""What cells left behind, and the folders that hold it."""

from ltbench.records.folder import FLUSH_SECONDS, RunFolder
from ltbench.records.lines import records_text
from ltbench.records.record import SCHEMA, UNKNOWN, Arrays, Record, Status, correct_of, packed
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
    "newest",
    "packed",
    "records_text",
]
