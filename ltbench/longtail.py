"""Long-tailed splits: how many rows each class keeps, which ones, and which classes are head, medium and tail.

Pure: labels and numbers in, numbers out. Knows no plugin, file or configuration; counts and groups need no torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ltbench.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

    from ltbench.streams import Stream

GROUPS = ("head", "medium", "tail")


def exponential_counts(n_max: int, imbalance_ratio: float, classes: int) -> list[int]:
    """Return the counts of the ``exp`` profile, largest first: floor(n_max · μ^(i/(C−1))), μ = 1/ratio.

    Cui et al., "Class-Balanced Loss", CVPR 2019 (arXiv 1901.05555).
    """
    mu = 1.0 / imbalance_ratio
    return [_floor(n_max * mu ** (i / (classes - 1.0))) for i in range(classes)]


def step_counts(n_max: int, imbalance_ratio: float, classes: int) -> list[int]:
    """Return the counts of the ``step`` profile: the first ⌊C/2⌋ classes n_max, the others floor(n_max · μ).

    Buda et al., "A systematic study of the class imbalance problem", 2018 (arXiv 1710.05381).
    """
    few = _floor(n_max * (1.0 / imbalance_ratio))
    return [n_max] * (classes // 2) + [few] * (classes - classes // 2)


def _floor(count: float) -> int:
    """Round down, but not past an integer that only rounding error keeps from (49 · (1/49) is 0.99…9)."""
    return math.floor(count + 1e-9)


PROFILES: dict[str, Callable[[int, float, int], list[int]]] = {"exp": exponential_counts, "step": step_counts}


def profile_counts(profile: str, n_max: int, imbalance_ratio: float, classes: int) -> list[int]:
    """Return a profile's counts, or raise UsageError where the profile is unknown or a class would be empty."""
    if profile not in PROFILES:
        raise UsageError(f"profile must be one of {', '.join(PROFILES)}, not {profile!r}{did_you_mean(profile, PROFILES)}")
    if classes < 2:
        raise UsageError(f"a long tail needs at least two classes, this dataset has {classes}")
    if not (math.isfinite(imbalance_ratio) and imbalance_ratio >= 1):
        raise UsageError(f"the imbalance ratio must be a number of at least 1, not {imbalance_ratio}")
    counts = PROFILES[profile](n_max, imbalance_ratio, classes)
    if min(counts) < 1:
        raise UsageError(
            f"imbalance ratio {imbalance_ratio:g} leaves a class without rows: the largest class has {n_max}, "
            f"so the largest possible ratio is {n_max}"
        )
    return counts


def class_order(rule: str, classes: int, stream: Stream) -> list[int]:
    """Return which class takes which rank of the profile: ``index`` (class 0 is the head) or ``shuffled``."""
    if rule == "index":
        return list(range(classes))
    if rule == "shuffled":
        import torch

        return [int(c) for c in stream.order(torch.arange(classes))]
    raise UsageError(f"class_order must be 'index' or 'shuffled', not {rule!r}")


def select_rows(labels: Tensor, counts: Sequence[int], stream: Stream) -> Tensor:
    """Return row ids ``[N]``, ascending: of each class c the ``counts[c]`` rows that the stream puts first.

    Subsets are nested: a larger ratio's rows are among a smaller ratio's.
    """
    import torch

    order = stream.order(torch.arange(len(labels)))
    ordered = labels[order]
    chosen = [order[ordered == c][:n] for c, n in enumerate(counts)]
    return _checked(labels, counts, torch.cat(chosen)).sort().values


def select_published_rows(labels: Tensor, counts: Sequence[int], seed: int = 0) -> Tensor:
    """Return the row ids of the published CIFAR-LT subsets, in their order.

    The legacy NumPy generator, seeded once; classes ascending; shuffle the class's rows, take the first counts[c].
    """
    import numpy as np
    import torch

    generator = np.random.RandomState(seed)
    chosen = []
    for c, n in enumerate(counts):
        rows = np.flatnonzero(labels.numpy() == c)
        generator.shuffle(rows)
        chosen.append(rows[:n])
    return _checked(labels, counts, torch.from_numpy(np.concatenate(chosen)))


def stratified_folds(labels: Tensor, row_ids: Tensor, folds: int, stream: Stream) -> Tensor:
    """Return each row's fold ``[N]``, in [0, folds): every class is dealt out evenly, in the stream's order.

    A class with fewer rows than folds is in as many folds as it has rows.
    """
    import torch

    fold = torch.empty_like(labels)
    order = stream.order(row_ids)
    for c in torch.unique(labels).tolist():
        rows = order[labels[order] == c]
        fold[rows] = torch.arange(len(rows), device=labels.device) % folds
    return fold


def _checked(labels: Tensor, counts: Sequence[int], row_ids: Tensor) -> Tensor:
    """Return the row ids, or raise UsageError for the first class that has fewer rows than asked for."""
    import torch

    found = torch.bincount(labels[row_ids], minlength=len(counts)).tolist()
    for c, (have, want) in enumerate(zip(found, counts, strict=True)):
        if have != want:
            raise UsageError(f"class {c} has {have} rows, the profile needs {want}: lower n_max")
    return row_ids


def assign_groups(
    class_counts: Sequence[int], rule: str, reference: Callable[[float], Sequence[int]] | None = None
) -> list[str]:
    """Return ``head``, ``medium`` or ``tail`` for each class.

    ``strict``: more than 100 rows, 20 to 100, fewer than 20. ``inclusive``: at least 100, between, at most 20.
    ``thirds``: by rank, C//3 head and C//3 tail. ``reference:<ratio>``: strict on the counts that
    ``reference(ratio)`` gives. ``3/4/3``: explicit sizes, by rank of count, ties in class order.
    """
    if rule == "strict":
        return [GROUPS[0 if n > 100 else 2 if n < 20 else 1] for n in class_counts]
    if rule == "inclusive":
        return [GROUPS[0 if n >= 100 else 2 if n <= 20 else 1] for n in class_counts]
    if rule.startswith("reference:") and reference is not None:
        return assign_groups(reference(_reference_ratio(rule)), "strict")
    return _by_rank(class_counts, _group_sizes(rule, len(class_counts)))


def groups_of(rule: str, class_counts: Sequence[int], cell: Mapping[str, Any]) -> list[str]:
    """Return each class's group under a rule, for the counts of a cell with ``profile`` and ``n_max``."""
    order = _ranks(class_counts, cell)

    def reference(ratio: float) -> list[int]:
        profile = "exp" if cell["profile"] == "balanced" else str(cell["profile"])
        ranked = profile_counts(profile, int(cell["n_max"]), ratio, len(class_counts))
        return [count for _, count in sorted(zip(order, ranked, strict=True))]

    return assign_groups(class_counts, rule, reference)


def _ranks(class_counts: Sequence[int], cell: Mapping[str, Any]) -> list[int]:
    """Return the classes from head to tail: by the cell's class order where it has one, otherwise by count."""
    if cell.get("class_order") != "shuffled":
        return sorted(range(len(class_counts)), key=lambda c: -class_counts[c])
    from ltbench.streams import Stream

    return class_order("shuffled", len(class_counts), Stream.of(int(cell["seed"]), "class-order"))


def check_group_rule(rule: str) -> None:
    """Raise UsageError unless the rule is one that ``assign_groups`` knows."""
    if rule.startswith("reference:"):
        _reference_ratio(rule)
    elif rule not in ("strict", "inclusive", "thirds") and not re.fullmatch(r"\d{1,9}/\d{1,9}/\d{1,9}", rule):
        raise UsageError(
            f"groups must be strict, inclusive, thirds, reference:<ratio> or sizes such as 3/4/3, not {rule!r}"
            + did_you_mean(rule, ("strict", "inclusive", "thirds"))
        )


def _reference_ratio(rule: str) -> float:
    """Read the ratio of ``reference:<ratio>``."""
    try:
        ratio = float(rule.partition(":")[2])
    except ValueError:
        ratio = math.nan
    if not ratio >= 1:
        raise UsageError(f"groups: reference:<ratio> needs a number of at least 1, not {rule!r}")
    return ratio


def _group_sizes(rule: str, classes: int) -> list[int]:
    """Return how many classes are head, medium and tail under a rule by rank."""
    if rule == "thirds":
        return [classes // 3, classes - 2 * (classes // 3), classes // 3]
    check_group_rule(rule)
    sizes = [int(size) for size in rule.split("/")]
    if sum(sizes) != classes:
        raise UsageError(f"groups {rule!r} name {sum(sizes)} classes, the dataset has {classes}")
    return sizes


def _by_rank(class_counts: Sequence[int], sizes: Sequence[int]) -> list[str]:
    """Name the groups of classes ordered by falling count."""
    ranked = sorted(range(len(class_counts)), key=lambda c: -class_counts[c])
    names = [name for name, size in zip(GROUPS, sizes, strict=True) for _ in range(size)]
    return [name for _, name in sorted(zip(ranked, names, strict=True))]
