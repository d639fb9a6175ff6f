"""How well scores rank the rows of a class before the others, one class against the rest. In numpy, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

COLUMNS = 64
"""Classes sorted at once: of many, a copy of all scores need not fit into memory."""


@dataclass(frozen=True)
class Ranking:
    """Area under the ROC curve and average precision of each class ``[C]``; None without rows of it, or of others."""

    auroc: list[float | None]
    average_precision: list[float | None]


def ranking(values: Tensor, labels: Tensor) -> Ranking:
    """Rank rows by their scores of each class, ``values [N, C]``; higher means more likely of the class."""
    scores, wanted = values.cpu().numpy(), labels.cpu().numpy()
    order = np.argsort(wanted, kind="stable")
    ends = np.searchsorted(wanted[order], np.arange(scores.shape[1] + 1))
    found = []
    for first in range(0, scores.shape[1], COLUMNS):
        columns = np.ascontiguousarray(scores[:, first : first + COLUMNS].T)
        ranked = np.sort(columns, axis=1)
        for c, (column, every) in enumerate(zip(columns, ranked, strict=True), first):
            found.append(_of_class(np.sort(column[order[ends[c] : ends[c + 1]]]), every))
    return Ranking([auroc for auroc, _ in found], [precision for _, precision in found])


def log_odds(logits: Tensor) -> Tensor:
    """Return log p_c − log(1 − p_c) of logits ``[N, C]``, float64: they rank rows as p_c does, where p_c itself rounds to one.

    That is z_c − log Σ_{j≠c} exp z_j, for the winner added up without it; for others p_c is at most a half, so that
    log(1 − p_c) is exact from p_c.
    """
    z = logits.double()
    share = z.log_softmax(dim=1)
    odds = share - (-share.exp()).log1p()
    winner = z.argmax(dim=1, keepdim=True)
    without = z.scatter(1, winner, -float("inf")).logsumexp(dim=1, keepdim=True)
    return odds.scatter(1, winner, z.gather(1, winner) - without)


def _of_class(own: Any, every: Any) -> tuple[float | None, float | None]:
    """Return both figures from the scores of a class's rows and of all rows, each in rising order.

    With P rows of the class and Q others, let b and e of the others score below a row and the same. AUROC is the mean
    of (b + e / 2) / Q over the class's rows (Mann and Whitney). Average precision is the mean over them of the share of
    the class among all rows that score as high or higher: Σ (R_k − R_{k−1}) P_k over the thresholds, ties at one.
    """
    positives, others = len(own), len(every) - len(own)
    if not positives or not others:
        return None, None
    below, upto = (np.searchsorted(every, own, side=side) for side in ("left", "right"))
    own_below, own_upto = (np.searchsorted(own, own, side=side) for side in ("left", "right"))
    beaten_twice = int((below - own_below + upto - own_upto).sum())
    precision = (positives - own_below) / (len(every) - below)
    return beaten_twice / (2 * positives * others), float(precision.mean())
