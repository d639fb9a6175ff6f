"""Which checks a kind of component has to pass, and what comes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from ltbench.components import Resolved
from ltbench.errors import SkipCell, UsageError, did_you_mean
from ltbench.hookspecs import KINDS
from ltbench.testing import backbones, datasets, general, generators, losses, rows, shapes
from ltbench.testing.draws import check_seed_used

Check = Callable[[Resolved], None]

_EVERY: tuple[Check, ...] = (
    general.check_reference,
    general.check_lazy_import,
    general.check_pickles,
    general.check_parameters_stored,
    general.check_deterministic,
    general.check_random_state_untouched,
)
_IN_A_RUN: tuple[Check, ...] = (
    shapes.check_shapes_and_types,
    rows.check_inputs_unmodified,
    rows.check_repeatable_calls,
    rows.check_test_rows_unseen,
    rows.check_fewer_rows_than_features,
    rows.check_constant_feature,
)
_LONG_TAILED: tuple[Check, ...] = (check_seed_used, rows.check_one_row_class, rows.check_absent_class)

_CHECKS: dict[str, tuple[Check, ...]] = {
    "dataset": (
        *_EVERY,
        datasets.check_labels,
        datasets.check_images,
        datasets.check_parts_disjoint,
        datasets.check_fingerprint_stable,
        datasets.check_labels_without_decoding,
    ),
    "backbone": (
        *_EVERY,
        shapes.check_shapes_and_types,
        rows.check_inputs_unmodified,
        rows.check_repeatable_calls,
        rows.check_batch_invariant,
        datasets.check_fingerprint_stable,
        backbones.check_many_threads,
        backbones.check_preprocessed_together,
        backbones.check_weights_named,
        backbones.check_features_counted,
    ),
    "transform": (*_EVERY, *_IN_A_RUN, rows.check_batch_invariant),
    "generator": (
        *_EVERY,
        *_IN_A_RUN,
        *_LONG_TAILED,
        generators.check_budget_kept,
        generators.check_fitted_together,
        generators.check_drawn_in_parts,
    ),
    "classifier": (
        *_EVERY,
        *_IN_A_RUN,
        *_LONG_TAILED,
        rows.check_batch_invariant,
        rows.check_soft_labels,
        losses.check_loss_and_slopes,
        losses.check_reduction,
    ),
}


@dataclass(frozen=True)
class Finding:
    """What came of one check: ``ok``, ``FAIL`` with what must be what, or ``skip`` with the component's reason."""

    check: str
    outcome: Literal["ok", "FAIL", "skip"]
    reason: str = ""


def checks_for(kind: str) -> tuple[Check, ...]:
    """Return the checks of a kind: functions ``check(resolved)`` that raise CheckFailed, or SkipCell with a reason."""
    if kind not in _CHECKS:
        raise UsageError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}{did_you_mean(kind, KINDS)}")
    return _CHECKS[kind]


def name_of(check: Check) -> str:
    """Return a check's name as ids and reports have it: ``one_row_class`` for ``check_one_row_class``."""
    return str(getattr(check, "__name__", check)).removeprefix("check_")


def run_checks(resolved: Resolved) -> Iterator[Finding]:
    """Run every check of a component's kind; nothing a component raises ends it."""
    for check in checks_for(resolved.kind):
        try:
            check(resolved)
        except SkipCell as reason:
            yield Finding(name_of(check), "skip", str(reason))
        except AssertionError as failure:
            yield Finding(name_of(check), "FAIL", _line(failure))
        except (Exception, SystemExit) as error:
            yield Finding(name_of(check), "FAIL", f"{type(error).__name__}: {_line(error)}")
        else:
            yield Finding(name_of(check), "ok")


def _line(error: BaseException) -> str:
    """Return an error's message in one line."""
    return " ".join(str(error).split())
