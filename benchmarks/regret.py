"""What selecting on test images would have won: every candidate beside the one that selection rows choose.

``python benchmarks/regret.py [FOLDER]`` runs each head with its candidates fixed and with them to choose from, on digits, which
chooses by three folds, and on a fifth of the classes of glyphs, which has a validation part. It writes down balanced accuracy
of the chosen one, of the best on test, the difference (the regret), and that of one candidate for all settings, the third of
four, which needs no selection.
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from heads import code_of, write

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
    """Run, and write the table down."""
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
    found: dict[str, dict[str, dict[Any, dict[float | None, float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(dict))
    )
    for record in made.records:
        cell = record.cell
        head, value = named[cell["classifier"]]
        dataset, setting = cell["dataset"].partition("[")[0], (cell["imbalance_ratio"], cell["seed"])
        found[head][dataset][setting][value] = record.result["metrics"]["balanced"]
    table = [
        {"head": head.replace("[{}]", "").replace(",{}]", "]"), "dataset": dataset, **_told(settings, HEADS[head][1][2])}
        for head, datasets in found.items()
        for dataset, settings in datasets.items()
    ]
    write("regret", {"settings_of_each_dataset": 6, "percent": table, "code": code_of()}, quick=False)


def _told(settings: dict[Any, dict[float | None, float]], third: float) -> dict[str, float]:
    """Return means over the settings of a dataset in percent, and the largest regret."""
    chosen = [values[None] for values in settings.values()]
    best = [max(each for value, each in values.items() if value is not None) for values in settings.values()]
    always = [values[third] for values in settings.values()]
    regret = [b - c for b, c in zip(best, chosen, strict=True)]
    means = {"chosen": chosen, "best_on_test": best, "regret": regret, "third_candidate": always}
    return {name: round(100 * statistics.mean(each), 1) for name, each in means.items()} | {
        "largest_regret": round(100 * max(regret), 1)
    }


if __name__ == "__main__":
    main()
