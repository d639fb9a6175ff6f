"""What selecting on test images would have won: every candidate beside the one that selection rows choose.

``python benchmarks/regret.py [FOLDER]`` runs each head with its candidates fixed and with them to choose from, on digits and a
fifth of the classes of glyphs, and prints a table: balanced accuracy of the chosen one, of the best on test, the difference
(the regret), and that of one candidate for all settings, the third of four, which needs no selection.
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import ltbench
from ltbench.components import resolve
from ltbench.config import Selection
from ltbench.plugins import discover

L2, SHRINKAGE, TAU = ((0.1, 0.01, 0.001, 0.0001), (0.6, 0.3, 0.1, 0.01), (0.0, 0.5, 1.0, 1.5))
HEADS: dict[str, tuple[str, tuple[float, ...]]] = {
    **{f"{name}[{{}}]": ("l2", L2) for name in ("softmax", "balanced", "balanced-softmax", "focal", "cosine", "ridge")},
    "lda[{}]": ("shrinkage", SHRINKAGE),
    "tau-norm[l2=0.001,{}]": ("tau", TAU),
}
"""Heads, the parameter that each chooses, and from what."""


def main() -> None:
    """Run, and print the table."""
    names = {}
    for head, (parameter, values) in HEADS.items():
        names[head.format(f"{parameter}=select({','.join(map(str, values))})")] = (head, None)
        names |= {head.format(f"{parameter}={value}"): (head, value) for value in values}
    made = ltbench.run(
        out=Path(sys.argv[1] if len(sys.argv) > 1 else "runs/regret"),
        dataset=["digits", "glyphs[classes=20,train_per_class=100]"],
        backbone=["hog"],
        classifier=list(names),
        ratio=[10.0, 50.0],
        seeds=3,
        groups="thirds",
        reference=False,
        workers=1,
    )
    named = {resolve(discover(), "classifier", name, Selection().defaults()).canonical: known for name, known in names.items()}
    found: dict[str, dict[Any, dict[float | None, float]]] = defaultdict(lambda: defaultdict(dict))
    for record in made.records:
        cell = record.cell
        head, value = named[cell["classifier"]]
        setting = cell["dataset"], cell["imbalance_ratio"], cell["seed"]
        found[head][setting][value] = record.result["metrics"]["balanced"]
    print("| head | chosen | best on test | regret | largest regret | third candidate, always |")
    print("|---|--:|--:|--:|--:|--:|")
    for head, settings in found.items():
        _print(head, settings)


def _print(head: str, settings: dict[Any, dict[float | None, float]]) -> None:
    """Print one head's row: means over settings and seeds, and the largest regret."""
    chosen = [values[None] for values in settings.values()]
    best = [max(each for value, each in values.items() if value is not None) for values in settings.values()]
    third = [values[HEADS[head][1][2]] for values in settings.values()]
    regret = [b - c for b, c in zip(best, chosen, strict=True)]
    numbers = [statistics.mean(each) for each in (chosen, best, regret)] + [max(regret), statistics.mean(third)]
    print("| " + " | ".join([head.replace("[{}]", "").replace(",{}]", "]"), *(f"{100 * n:.1f}" for n in numbers)]) + " |")


if __name__ == "__main__":
    main()
