"""How near synthetic rows are to real ones, as tables: a row per generator and group, beside held-out real rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from ltbench.leaderboard.frame import group_means, groups_of_record
from ltbench.leaderboard.tables import SETTING, heading
from ltbench.longtail import GROUPS
from ltbench.records import Record

SHARES = ("coverage", "contamination", "memorised", "duplicates")
FIGURES = {"frechet": "Fréchet", "density": "density", **{name: name for name in SHARES}}
HOW = (
    "Each cell is *synthetic / held out*: the figure of synthetic rows, and what as many real rows get that their generator "
    "did not see. Means over classes and seeds; – where every class has too few rows. *Fréchet* is the squared distance of "
    "normal distributions with covariances pooled over classes. *Density* and *coverage* (%) have balls of five "
    "neighbours. *Contamination* (%): the nearest real row is of another class. *Memorised* (%): nearer to a real row than "
    "that is to any other. *Duplicates* (%) equal a real row. Synthetic rows are good where both numbers are alike."
)


def fidelity_page(records: Sequence[Record], rule: str) -> str:
    """Return the page of all long-tail settings with synthetic rows; an empty text if there are none."""
    told = [record for record in records if groups_of_record(record, rule) and (record.result or {}).get("fidelity")]
    parts = ["# Fidelity of synthetic rows", HOW]
    for _, members in itertools.groupby(sorted(told, key=_place), key=_setting):
        found = list(members)
        sources = sorted({record.result["fidelity"]["held_out_from"] for record in found if record.result})
        parts += [f"## {heading(found[0].cell)}", f"Held-out rows: {'; '.join(sources)}.", _table(found, rule)]
    return "\n\n".join(parts) + "\n" if told else ""


def _table(records: Iterable[Record], rule: str) -> str:
    """Return one setting's table; all heads of a generator have the same rows, so one record a seed is enough."""
    shown = []
    for (generator, regime), group in itertools.groupby(records, key=_rows_name):
        by_seed = {record.cell["seed"]: record for record in group}
        means = [_means(record, rule) for record in by_seed.values()]
        for name in GROUPS:
            cells = {title: _pair([each[key, name] for each in means], key) for key, title in FIGURES.items()}
            if set(cells.values()) != {"–"}:
                shown.append({"generator": generator.replace("|", "\\|"), "regime": regime, "group": name, **cells})
    aligned = ["left"] * 3 + ["right"] * len(FIGURES)
    text: str = pd.DataFrame(shown).to_markdown(index=False, disable_numparse=True, colalign=aligned)
    return text


def _means(record: Record, rule: str) -> dict[tuple[str, str], tuple[float | None, float | None]]:
    """Return a record's figures by name and group: the means over the group's classes, synthetic and held out."""
    figures, groups = (record.result or {})["fidelity"], groups_of_record(record, rule)
    kinds = [{key: group_means(figures[kind][key], groups) for key in FIGURES} for kind in ("synthetic", "held_out")]
    return {(key, group): (kinds[0][key][group], kinds[1][key][group]) for key in FIGURES for group in GROUPS}


def _pair(values: Sequence[tuple[float | None, float | None]], figure: str) -> str:
    """Write the means over seeds of a figure of synthetic and of held-out rows."""
    known = [(ours, theirs) for ours, theirs in values if ours is not None and theirs is not None]
    if not known:
        return "–"
    means = [sum(each) / len(known) for each in zip(*known, strict=True)]
    return " / ".join(f"{100 * mean:.1f}" if figure in SHARES else f"{mean:.3g}" for mean in means)


def _setting(record: Record) -> tuple[Any, ...]:
    """Return what makes a table."""
    return tuple(record.cell[name] for name in SETTING)


def _rows_name(record: Record) -> tuple[str, str]:
    """Return what makes a generator's rows."""
    return str(record.cell["generator"]), str(record.cell["regime"])


def _place(record: Record) -> tuple[Any, ...]:
    """Order records by setting, generator and seed."""
    cell: Mapping[str, Any] = record.cell
    return (*_setting(record), *_rows_name(record), cell["seed"], record.key)
