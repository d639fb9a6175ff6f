"""The checks of generators alone: the budget is kept, and fits and draws in other portions give the same rows."""

from __future__ import annotations

import torch
from torch import Tensor

from ltbench.components import Resolved
from ltbench.execute.checked import checked_rows
from ltbench.streams import Stream
from ltbench.testing.exercise import CheckFailed, difference, must, tensors_of
from ltbench.testing.problem import Problem, long_tailed
from ltbench.types import Rows


def check_budget_kept(resolved: Resolved) -> None:
    """Require that no class gets more rows than its budget; a budget of zeros is one, too."""
    problem = long_tailed()
    for budget in (problem.budget, torch.tensor([0, 0, 7, 0, 3]), torch.zeros_like(problem.budget)):
        targets = _rows(resolved, problem, budget).targets
        given = targets.double().sum(dim=0) if targets.ndim == 2 else torch.bincount(targets, minlength=len(budget))
        soft = targets.ndim == 2
        if float(given.sum()) > int(budget.sum()) + 1e-6 if soft else bool((given > budget).any()):
            raise CheckFailed(f"must give at most the budget of rows, {budget.tolist()} per class, not {given.tolist()}")


def check_fitted_together(resolved: Resolved) -> None:
    """Require of ``fit_many``, where there is one, that each training set gets the bits that it gets alone."""
    instance, problem = resolved.build(), long_tailed()
    if not hasattr(instance, "fit_many"):
        return
    streams = [problem.train.stream, Stream.of(1, "another stream")]
    trains = [each.replace(stream=stream) for each in (problem.train, long_tailed(seed=1).train) for stream in streams]
    with must("fit two training sets with two streams each together"):
        together = [sampler(problem.budget) for sampler in instance.fit_many(trains)]
    if len(together) != len(trains):
        raise CheckFailed(f"fit_many must return a sampler for each of {len(trains)} training sets, not {len(together)}")
    for number, (train, rows) in enumerate(zip(trains, together, strict=True)):
        with must("fit a small long-tailed problem"):
            alone = instance.fit(train)(problem.budget)
        found = difference(tensors_of(alone), tensors_of(rows))
        if found or dict(alone.notes) != dict(rows.notes):
            raise CheckFailed(f"fit_many must give what fit gives: of training set {number}, {found or 'the notes differ'}")


def check_drawn_in_parts(resolved: Resolved) -> None:
    """Require of ``parts``, where a sampler has it, that the parts together are the rows drawn at once: notes and cost, too."""
    instance, problem = resolved.build(), long_tailed()
    with must("draw the budget at once, and in parts"):
        sampler = instance.fit(problem.train)
        if not hasattr(sampler, "parts"):
            return
        whole, parts = sampler(problem.budget), list(sampler.parts(problem.budget))
        columns = [tensors_of(part) for part in parts]
    joined = {name: torch.cat([each[name] for each in columns]) for name in columns[0]} if parts else tensors_of(whole)
    found = difference(tensors_of(whole), joined)
    if found:
        raise CheckFailed(f"parts must be the rows that are drawn at once: {found}")
    said = {name: value for part in parts for name, value in part.notes.items()}
    if parts and said != dict(whole.notes):
        raise CheckFailed(f"notes of parts must together be {dict(whole.notes)}, as at once, not {said}")
    costs = [part.flops for part in parts]
    cost = None if None in costs else sum(each for each in costs if each is not None)
    if parts and cost != whole.flops:
        raise CheckFailed(f"flops of parts must add up to {whole.flops}, as at once, not to {cost}")


def _rows(resolved: Resolved, problem: Problem, budget: Tensor) -> Rows:
    """Fit and draw a budget, with the checks of a run."""
    with must(f"draw a budget of {budget.tolist()} rows per class"):
        return checked_rows(resolved.build().fit(problem.train)(budget), problem.train)
