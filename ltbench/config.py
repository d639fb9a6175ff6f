"""Experiments: what to run, from TOML or the command line, checked and complete. Knows neither torch nor plugins."""

from __future__ import annotations

import dataclasses
import math
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, MinLen

from ltbench.budget import Budget, budget_part
from ltbench.errors import UsageError, did_you_mean
from ltbench.keys import digest
from ltbench.parameters import conform, fields_of
from ltbench.specs import Select, Spec, expand, parse_spec, split_list
from ltbench.suites import load_suite

PLAIN_GENERATOR = "none"
PLAIN_CLASSIFIER = "softmax"
"""What the references of a protocol are made of: no synthetic rows, and plain softmax."""

PLAIN = {("generator", PLAIN_GENERATOR): "ltbench-generators", ("classifier", PLAIN_CLASSIFIER): "ltbench-classifiers"}
"""Where they come from, should another plugin give one of their names, too."""

MOST_SEEDS = 100_000

Names = Annotated[tuple[str, ...], MinLen(1)]


@dataclass(frozen=True)
class Selection:
    """How heads choose hyper-parameters: the same number of candidates for every head, on the same rows.

    ``candidates`` fill the parameters of that name that a user left open; of equals the first wins. Rows: the
    dataset's validation part where it has one, otherwise class-weighted cross-validation on training rows.
    """

    candidates: Mapping[str, tuple[float, ...]] = field(
        default_factory=lambda: {"l2": (1e-1, 1e-2, 1e-3, 1e-4), "shrinkage": (0.6, 0.3, 0.1, 0.01)}
    )
    budget: Annotated[int, Ge(1)] = 4
    folds: Annotated[int, Ge(2)] = 3
    criterion: Literal["balanced-accuracy"] = "balanced-accuracy"

    def defaults(self) -> dict[str, Select]:
        """Return the candidates as parameter values."""
        return {name: Select(tuple(values)) for name, values in self.candidates.items()}


@dataclass(frozen=True)
class Experiment:
    """Axes and protocol of a run; every combination of the axes is a cell for each seed.

    ``regime``: a generator's rows beside the real ones, in their place (``synthetic``), or not at all (``real``).
    ``rows``: ``drawn`` anew for each seed, ``fixed`` to seed 0's draw, or ``published`` (the CIFAR-LT subsets).
    ``n_max`` is the largest class's size, by default the smallest class's number of training rows. Profile ``native``
    takes a dataset's training rows as they are: ``ratio``, ``rows`` and ``n_max`` play no part, and there is no balanced
    reference.
    """

    dataset: Names
    backbone: Names
    generator: Names = (PLAIN_GENERATOR,)
    classifier: Names = (PLAIN_CLASSIFIER,)
    transform: Names = ("standardize",)
    profile: Annotated[tuple[Literal["exp", "step", "native"], ...], MinLen(1)] = ("exp",)
    ratio: Annotated[tuple[Annotated[float, Ge(1)], ...], MinLen(1)] = (10.0,)
    seeds: Annotated[tuple[Annotated[int, Ge(0)], ...], MinLen(1)] = (0,)
    regime: Annotated[tuple[Literal["real", "real+synthetic", "synthetic"], ...], MinLen(1)] = ("real+synthetic",)
    prior_source: Annotated[tuple[Literal["effective", "real"], ...], MinLen(1)] = ("effective",)
    groups: str = "strict"
    rows: Literal["drawn", "fixed", "published"] = "drawn"
    class_order: Literal["index", "shuffled"] = "index"
    n_max: Annotated[int, Gt(0)] | None = None
    reference: bool = True
    headline: Literal["balanced", "top1", "head", "medium", "tail"] = "balanced"
    name: str = ""
    version: Annotated[int, Ge(1)] = 1
    description: str = ""
    selection: Selection = Selection()

    def specs(self, kind: str) -> list[Spec]:
        """Return the expanded specs of one axis, in order, without repeats."""
        return list(dict.fromkeys(spec for text in getattr(self, kind) for spec in expand(parse_spec(text))))

    def protocol(self) -> dict[str, Any]:
        """Return what makes numbers comparable: all but the methods, the seeds and the description."""
        names = ("name", "version", "profile", "groups", "rows", "class_order", "n_max", "transform", "headline")
        selection = dataclasses.asdict(self.selection)
        return {**{name: _jsonable(getattr(self, name)) for name in names}, "selection": _jsonable(selection)}

    def protocol_hash(self) -> str:
        """Return eight hexadecimal digits that name the protocol."""
        return digest(self.protocol())[:8]

    def to_dict(self) -> dict[str, Any]:
        """Return the experiment as TOML or JSON would hold it, defaults included."""
        return {key: value for key, value in _jsonable(dataclasses.asdict(self)).items() if value is not None}


_AXES = ("dataset", "backbone", "transform", "generator", "classifier", "profile", "ratio", "regime", "prior_source")


def experiment(raw: Mapping[str, Any]) -> Experiment:
    """Check a table of settings and complete it; raise UsageError for the first thing that is wrong."""
    table = dict(raw)
    _known(table, Experiment, "the experiment")
    for axis in _AXES:
        if axis in table:
            table[axis] = _items(table[axis], split=axis in ("dataset", "backbone", "transform", "generator", "classifier"))
    if isinstance(table.get("seeds"), int) and not isinstance(table["seeds"], bool):
        if table["seeds"] < 1:
            raise UsageError(f"seeds must be a number of seeds of at least 1, or a list of them, not {table['seeds']}")
        if table["seeds"] > MOST_SEEDS:
            raise UsageError(f"seeds must be at most {MOST_SEEDS:,}; name them in a list to choose others")
        table["seeds"] = tuple(range(table["seeds"]))
    if "selection" in table:
        table["selection"] = _selection(table["selection"])
    for name in ("dataset", "backbone"):
        if not table.get(name):
            raise UsageError(f'the experiment names no {name}: give --{name} NAME, or {name} = ["NAME"] in the TOML file')
    checked: Experiment = _validated(Experiment, {key: tuple(v) if isinstance(v, list) else v for key, v in table.items()}, "")
    return checked


def load_toml(path: Path) -> dict[str, Any]:
    """Read an experiment file; raise UsageError with the file and what is wrong with it."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # also a TOMLDecodeError, and bytes that are no text
        raise UsageError(f"{path} is no valid TOML: {error}") from None


def load_experiment(source: Experiment | str | Path | None, suite: str | None, settings: Mapping[str, Any]) -> Experiment:
    """Return the experiment of a file, a suite, or settings alone; settings replace what a file or suite says."""
    if source is not None and suite is not None:
        raise UsageError("give an experiment file or a suite, not both")
    if isinstance(source, Experiment):
        return experiment({**source.to_dict(), **settings}) if settings else source
    base = load_suite(suite) if suite is not None else load_toml(Path(source)) if source is not None else {}
    return experiment({**base, **settings})


def to_toml(wanted: Experiment) -> str:
    """Write an experiment as the TOML file that runs it again."""
    import tomli_w

    return tomli_w.dumps(wanted.to_dict())


def joined_experiment(present: Experiment, wanted: Experiment, where: Path) -> Experiment:
    """Return an experiment with the methods and seeds of both, or raise UsageError if their protocols differ."""
    theirs, ours = present.protocol(), wanted.protocol()
    different = [name for name in ours if theirs[name] != ours[name]]
    if different:
        raise UsageError(
            f"{where} holds another protocol ({', '.join(different)} differ): numbers of two protocols do not belong "
            "together; choose another folder"
        )
    axes = ("dataset", "backbone", "generator", "classifier", "regime", "prior_source", "ratio", "seeds")
    joined: dict[str, Any] = {name: tuple(dict.fromkeys([*getattr(present, name), *getattr(wanted, name)])) for name in axes}
    return dataclasses.replace(wanted, reference=present.reference or wanted.reference, **joined)


def experiment_of(folder: Path) -> Experiment:
    """Return the experiment of a run's folder; raise UsageError if it has none."""
    file = folder / "experiment.toml"
    if not os.path.exists(file):  # noqa: PTH110 - False, not an error, for a path that cannot be
        raise UsageError(f"{folder} is no run: it has no experiment.toml")
    return experiment(load_toml(file))


def shared_experiment(runs: Sequence[Path]) -> Experiment:
    """Return the experiment of all the methods and seeds of runs; raise UsageError if their protocols differ."""
    first, *others = runs
    found = experiment_of(first)
    for run in others:
        found = joined_experiment(found, experiment_of(run), run)
    return found


def split_budget(spec: Spec) -> tuple[Spec, Budget]:
    """Part a generator's own parameters from its budget, and check the budget."""
    given = budget_part(spec)
    if given and spec.name == PLAIN_GENERATOR:
        raise UsageError(f"generator {spec} adds no rows, so it takes no budget")
    if "target" in given and "per_real" in given:
        raise UsageError(f"generator {spec}: give target or per_real, not both")
    own = spec.with_params({key: value for key, value in spec.params if key not in given})
    return own, _validated(Budget, given, f"generator {spec}: ")


def references_of(cell: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the names of a long-tail cell's references: the same head on balanced data, and plain softmax.

    A dataset's native long tail has no balanced form; its first reference is nobody's cell.
    """
    real = {"generator": PLAIN_GENERATOR, "regime": "real"}
    balanced = {
        **cell,
        **real,
        "profile": "balanced",
        "imbalance_ratio": 1.0,
        "rows": balanced_rows(cell["rows"]),
        "prior_source": "effective",
    }
    plain = {**cell, **real, "classifier": PLAIN_CLASSIFIER, "prior_source": "effective"}
    return balanced, plain


def balanced_rows(rows: str) -> str:
    """Return the row rule of balanced data: the published subsets are long-tailed only, so one draw stands in."""
    return "fixed" if rows == "published" else rows


def _selection(raw: Any) -> Selection:
    """Check the ``selection`` table; every list of candidates must fit the budget."""
    if isinstance(raw, Selection):
        return raw
    if not isinstance(raw, Mapping):
        raise UsageError(f"selection must be a table, not {raw!r}")
    _known(raw, Selection, "selection")
    table = dict(raw)
    if isinstance(table.get("candidates"), Mapping):
        table["candidates"] = {k: tuple(v) if isinstance(v, list) else v for k, v in table["candidates"].items()}
    chosen: Selection = _validated(Selection, table, "selection.")
    for name, values in chosen.candidates.items():
        if not 1 < len(values) <= chosen.budget or not all(map(math.isfinite, values)):
            raise UsageError(
                f"selection.candidates.{name} must hold 2 to {chosen.budget} (the budget) finite values, not {values}"
            )
    return chosen


def _known(table: Mapping[str, Any], of: type, what: str) -> None:
    """Refuse unknown settings."""
    names = [f.name for f in dataclasses.fields(of)]
    for key in table:
        if key not in names:
            raise UsageError(f"{what} has no setting {key!r}{did_you_mean(str(key), names)}; it takes {', '.join(names)}")


def _items(value: Any, *, split: bool) -> Any:
    """Return an axis as a tuple: a list as it is, one text split at its commas."""
    if isinstance(value, list | tuple):
        return tuple(value)
    return tuple(split_list(value)) if split and isinstance(value, str) else (value,)


def _validated(of: type, table: Mapping[str, Any], where: str) -> Any:
    """Build a dataclass from a table, or raise UsageError for the first ill-typed setting."""
    checked: dict[str, Any] = {}
    for parameter in fields_of(of):
        if parameter.name in table:
            value = table[parameter.name]
            try:
                checked[parameter.name] = value if isinstance(value, Selection) else conform(parameter.annotation, value)
            except ValueError as error:
                raise UsageError(f"{where}{parameter.name} {error}") from None
    return of(**checked)


def _jsonable(value: Any) -> Any:
    """Turn tuples into lists, deeply."""
    if isinstance(value, Mapping):
        return {key: _jsonable(item) for key, item in value.items()}
    return [_jsonable(item) for item in value] if isinstance(value, tuple | list) else value
