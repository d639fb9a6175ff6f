"""The check of generators alone: the budget is kept."""

from __future__ import annotations

import torch
from torch import Tensor

from ltbench.components import Resolved
from ltbench.execute.setting import checked_rows
from ltbench.testing.exercise import CheckFailed, must
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


def _rows(resolved: Resolved, problem: Problem, budget: Tensor) -> Rows:
    """Fit and draw a budget, with the checks of a run."""
    with must(f"draw a budget of {budget.tolist()} rows per class"):
        return checked_rows(resolved.build().fit(problem.train)(budget), problem.train)
