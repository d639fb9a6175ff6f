"""What a result tells of test rows: which were right, one bit each, and the counts per class that follow."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from ltbench.errors import UsageError
from ltbench.records.record import Record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ltbench.metrics import ClassCounts


def packed(correct: Any, labels: Any) -> str:
    """Write which test rows were right, bool ``[N]``, as bits in base 85: those of class 0 first, each class's in their order.

    The first row is the lowest bit of the first byte. The order makes each class's accuracy follow from the bits and the
    number of its rows.
    """
    import numpy as np

    by_class = np.argsort(labels, kind="stable")
    return base64.b85encode(np.packbits(correct[by_class], bitorder="little").tobytes()).decode()


def correct_of(record: Record) -> NDArray[np.bool_]:
    """Return which test rows a cell got right, bool ``[N]``: those of class 0 first, each class's as in the dataset.

    Raises UsageError for a record without a result, ValueError for bits that are damaged.
    """
    import numpy as np

    if record.result is None:
        raise UsageError(f"record {record.key} has no result, so it tells of no test row")
    rows = sum(record.result["per_class"]["rows"])
    bits = np.frombuffer(base64.b85decode(record.result["correct"]), dtype=np.uint8)
    if len(bits) != (rows + 7) // 8:
        raise ValueError(f"{len(bits)} bytes for {rows} test rows")
    found = np.unpackbits(bits, bitorder="little").astype(bool)
    if found[rows:].any():
        raise ValueError(f"a bit is set beyond {rows} test rows")
    return found[:rows]


def counts_of(record: Record) -> ClassCounts:
    """Return a cell's counts per class, of which its accuracies are made."""
    import numpy as np

    from ltbench.metrics import ClassCounts

    correct = correct_of(record)
    rows, predicted = (list((record.result or {})["per_class"][name]) for name in ("rows", "predicted"))
    upto = np.concatenate([[0], correct.cumsum()])[np.cumsum([0, *rows])]
    return ClassCounts(rows, predicted, np.diff(upto).tolist())
