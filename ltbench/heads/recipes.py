"""How ``sgd`` trains: recipes, the published ones by name. Knows no head and no row."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt

from ltbench.errors import UsageError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Epochs of mini-batches: ``momentum`` (SGD) or ``adamw``, the rate falling to zero along half a cosine, step by step.

    ``sampler``: ``rows`` goes through all rows in a new order each epoch; ``class-balanced`` draws classes in turn,
    ``per_class`` rows each, as many rows an epoch as the largest class has times the number of classes. Weight decay
    is the head's own ``l2``, on weights only.
    """

    epochs: Annotated[int, Ge(1)] = 20
    batch: Annotated[int, Ge(1)] = 512
    rate: Annotated[float, Gt(0)] = 0.1
    optimizer: Literal["momentum", "adamw"] = "momentum"
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    sampler: Literal["rows", "class-balanced"] = "rows"
    per_class: Annotated[int, Ge(1)] = 4

    def rate_at(self, progress: float) -> float:
        """Return the rate where a share of the steps, in [0, 1], is done."""
        return 0.5 * self.rate * (1 + math.cos(math.pi * progress))


SolverName = Literal["exact", "sgd", "adamw", "crt", "lws", "lift"]
"""How a head may be trained: to the optimum, or by a recipe."""

RECIPES = {
    "sgd": Recipe(),
    "adamw": Recipe(optimizer="adamw", rate=1e-3),
    # Kang et al., ICLR 2020 (arXiv 1910.09217): the authors' settings for ImageNet-LT
    "crt": Recipe(epochs=10, rate=0.2, sampler="class-balanced"),
    "lws": Recipe(epochs=5, rate=0.2, sampler="class-balanced"),
    # Shi et al., ICML 2024 (arXiv 2309.10019): the authors' defaults
    "lift": Recipe(epochs=10, batch=128, rate=0.01),
}


def recipe_of(solver: str | Recipe) -> Recipe:
    """Return a recipe by its name, or as it is; raise UsageError for an unknown name."""
    if isinstance(solver, Recipe):
        return solver
    if solver not in RECIPES:  # an author may write anything
        names = ["exact", *RECIPES]
        raise UsageError(f"solver must be one of {', '.join(names)}, not {solver!r}{did_you_mean(solver, names)}")
    return RECIPES[solver]
