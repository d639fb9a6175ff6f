"""From an experiment to cells: every name resolved, every count known, every mistake refused, before any work.

Reads labels, decodes no image. Adds the references of every long-tail cell.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ltbench.budget import BUDGET_NAMES, Budget
from ltbench.cells import Cell, Split, cells_of, references_among, run_order, split_rows
from ltbench.components import Resolved, resolve
from ltbench.config import PLAIN_CLASSIFIER, PLAIN_GENERATOR, Experiment, split_budget
from ltbench.data import load_dataset, view_fingerprint, views_wanted
from ltbench.errors import UsageError
from ltbench.keys import ENGINE_VERSION, METRIC_VERSION
from ltbench.longtail import check_group_rule, groups_of
from ltbench.plugins import Registry
from ltbench.specs import parse_spec
from ltbench.types import Dataset


@dataclass(frozen=True)
class Plan:
    """Cells in the order they run, and what their names stand for."""

    experiment: Experiment
    cells: tuple[Cell, ...]
    resolved: Mapping[tuple[str, str], Resolved]
    budgets: Mapping[str, Budget]
    datasets: Mapping[str, Dataset]
    references: frozenset[Cell]
    asking: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    """The views that components ask for, by kind and canonical name; most ask for none."""

    def component(self, kind: str, canonical: str) -> Resolved:
        """Return the component behind a canonical name."""
        return self.resolved[kind, canonical]

    def _anonymous(self, cell: Cell) -> list[str]:
        """Return the names of dataset and backbone as keys have them."""
        return [self.component(kind, getattr(cell, kind)).anonymous for kind in ("dataset", "backbone")]

    def dimensions(self) -> dict[str, int | None]:
        """Return the length of each backbone's feature vectors by name, None where only loading it tells.

        Raises UsageError for a backbone that cannot be read as its parameters say: a layer that is not there, say.
        """
        return {name: _dimension(component) for (kind, name), component in self.resolved.items() if kind == "backbone"}

    def split(self, cell: Cell) -> Split:
        """Return a cell's rows."""
        return split_rows(self.datasets[cell.dataset].train.labels, cell)

    def views(self, *cells: Cell) -> tuple[str, ...]:
        """Return the views of training images that the generators and heads of cells ask for, each once."""
        names = [(kind, getattr(cell, kind)) for cell in cells for kind in ("generator", "classifier")]
        return tuple(dict.fromkeys(view for name in names for view in self.asking.get(name, ())))

    def key_parts(self, cell: Cell, feature_key: str, rows: str) -> dict[str, Any]:
        """Return everything that can change a cell's result, by name."""
        seen = {name: view_fingerprint(self.datasets[cell.dataset], name) for name in self.views(cell)}
        parts = {kind: self.component(kind, getattr(cell, kind)).identity() for kind in ("transform", "classifier")}
        generator = self.component("generator", cell.generator).identity()
        own = self.budgets[cell.generator]
        rule = {} if own.groups == "all" else {"group_rule": self.experiment.groups}  # which classes those are
        budget = {**vars(own), **rule} if cell.regime != "real" else None
        selection = self.experiment.selection
        return {
            **parts,
            "features": feature_key,
            "rows": rows,
            "split": [*self._anonymous(cell), cell.profile, cell.imbalance_ratio, cell.rows, cell.class_order, cell.n_max],
            "generator": {**generator, "budget": budget},
            "regime": cell.regime,
            "prior_source": cell.prior_source,
            "selection": {"folds": selection.folds, "criterion": selection.criterion},
            "seed": cell.seed,
            "engine": ENGINE_VERSION,
            "metrics": METRIC_VERSION,
            **({"views": seen} if seen else {}),
        }


def plan(experiment: Experiment, registry: Registry, data: Path) -> Plan:
    """Resolve and check a whole experiment; raise UsageError for the first thing that cannot be run."""
    check_group_rule(experiment.groups)
    resolved: dict[tuple[str, str], Resolved] = {}
    names: dict[str, list[str]] = {}
    budgets: dict[str, Budget] = {}
    for kind in ("dataset", "backbone", "transform", "classifier"):
        extra = [PLAIN_CLASSIFIER] if kind == "classifier" and experiment.reference else []
        found = [_resolve(registry, kind, str(spec), experiment) for spec in [*experiment.specs(kind), *map(parse_spec, extra)]]
        for each in found:
            _check_clash(resolved.setdefault((kind, each.canonical), each), each)
        names[kind] = _unique([each.canonical for each in found[: len(found) - len(extra)]], kind)
    names["generator"] = []
    for spec in [*experiment.specs("generator"), parse_spec(PLAIN_GENERATOR)]:
        canonical, component, budget = _generator(registry, spec, experiment)
        resolved["generator", canonical] = component
        budgets[canonical] = budget
        names["generator"].append(canonical)
    names["generator"] = _unique(names["generator"][:-1], "generator")
    datasets = {name: load_dataset(resolved["dataset", name], data) for name in names["dataset"]}
    cells = [cell for name, dataset in datasets.items() for cell in cells_of(experiment, names, name, dataset.train.labels)]
    references = references_among(cells) if experiment.reference else []
    ordered = tuple(run_order(list(dict.fromkeys([*cells, *references]))))
    asking = _views_asked(resolved)
    made = Plan(experiment, ordered, resolved, budgets, datasets, frozenset(references) - set(cells), asking)
    _check_splits(made)
    for name in dict.fromkeys(itertools.chain.from_iterable(asking.values())):
        for dataset in datasets.values():
            view_fingerprint(dataset, name)
    return made


def _resolve(registry: Registry, kind: str, text: str, experiment: Experiment) -> Resolved:
    """Resolve one component; classifiers get the protocol's candidates, within its budget."""
    defaults = experiment.selection.defaults() if kind == "classifier" else {}
    found = resolve(registry, kind, text, defaults)
    if found.select and kind != "classifier":
        raise UsageError(f"{kind} {text}: select() is for classifiers; a|b makes a cell for each value")
    tried = len(candidate_values(found))
    if tried > experiment.selection.budget:
        raise UsageError(
            f"classifier {text} would choose among {tried} candidates ({', '.join(found.select)}); the budget is "
            f"{experiment.selection.budget} for every head: fix a parameter, or raise selection.budget"
        )
    return found


def _dimension(backbone: Resolved) -> int | None:
    """Return what a backbone says of the length of its vectors, where it says anything."""
    tell = getattr(backbone.build(), "feature_dimension", None)
    try:
        return tell() if callable(tell) else None
    except UsageError as error:
        raise UsageError(f"backbone {backbone.canonical}: {error}") from error
    except Exception:  # no mistake of the user's: whatever keeps a plugin from counting, it may still load
        return None


def _views_asked(resolved: Mapping[tuple[str, str], Resolved]) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return the views that generators and heads ask for, where they ask for any; raise UsageError if they ask wrongly."""
    asking = {}
    for (kind, name), component in resolved.items():
        if kind in ("generator", "classifier"):
            try:
                asking[kind, name] = views_wanted(component.build())
            except Exception as error:
                raise UsageError(f"{kind} {name}: {error}") from error
    return {name: views for name, views in asking.items() if views}


def _check_clash(first: Resolved, second: Resolved) -> None:
    """Raise UsageError for two files or folders of one name: tables could not tell them apart."""
    for name, value in second.params.items():
        if isinstance(value, Path) and first.params[name] != value:
            raise UsageError(f"{second.canonical} would name both {first.params[name]} and {value}: rename one of them")


def _generator(registry: Registry, spec: Any, experiment: Experiment) -> tuple[str, Resolved, Budget]:
    """Resolve a generator and its budget; the canonical name holds both."""
    own, budget = split_budget(spec)
    found = resolve(registry, "generator", own)
    if found.select:
        raise UsageError(f"generator {spec}: select() is for classifiers; a|b makes a cell for each value")
    told = {f.name: getattr(budget, f.name) for f in dataclasses.fields(Budget) if getattr(budget, f.name) != f.default}
    taken = [name for name in BUDGET_NAMES if name in found.params]
    if taken:
        raise UsageError(
            f"generator {found.canonical} has the parameter {taken[0]!r}, which is a budget's: it needs another name"
        )
    if budget.groups != "all" and "synthetic" in experiment.regime:
        raise UsageError(f"generator {spec}: regime synthetic needs groups=all, or classes would be without rows")
    canonical = parse_spec(found.canonical)
    return str(canonical.with_params({**dict(canonical.params), **told})), found, budget


def candidate_values(resolved: Resolved) -> list[dict[str, Any]]:
    """Return every combination of a component's selected parameters; one empty one if there are none."""
    values: list[dict[str, Any]] = [{}]
    for name, options in sorted(resolved.select.items()):
        values = [{**chosen, name: option} for chosen in values for option in options]
    return values


def _unique(names: Sequence[str], kind: str) -> list[str]:
    """Drop repeats, which differ only in spelling."""
    if not names:
        raise UsageError(f"the experiment names no {kind}")
    return list(dict.fromkeys(names))


def _check_splits(made: Plan) -> None:
    """Select every split once and name its groups, so that an impossible ratio or rule is refused now."""
    for cell in dict.fromkeys(
        dataclasses.replace(cell, transform="", generator="", classifier="", backbone="") for cell in made.cells
    ):
        split = made.split(cell)
        groups_of(made.experiment.groups, split.class_counts, dataclasses.asdict(cell))
