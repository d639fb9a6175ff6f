"""What a classifier component asks for, in the solvers' terms: which part is trained, how, and what comes after."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from torch import Tensor

from ltbench.contract import ClassifierComponent, Scorer
from ltbench.heads.layers import LAYERS
from ltbench.heads.recipes import RECIPES, Recipe, recipe_of
from ltbench.heads.sgd import SgdJob
from ltbench.types import Train


def trained_part(classifier: Any) -> Any:
    """Return the component that is trained: itself, or the base that a post-hoc method corrects."""
    base = base_of(classifier)
    return classifier if base is None else trained_part(base)


def base_of(classifier: Any) -> Any:
    """Return the component that another one corrects, None if it is fitted itself."""
    return None if isinstance(classifier, ClassifierComponent) else getattr(classifier, "base", None)


def finished(classifier: Any, scorer: Any, train: Train) -> Scorer:
    """Return what a component makes of its trained part: a correction of a base, or of its own head."""
    made: Scorer = scorer
    if isinstance(classifier, ClassifierComponent):
        return made
    base = base_of(classifier)
    if base is not None:
        made = finished(base, made, train)
    post_hoc = getattr(classifier, "post_hoc", None)
    return post_hoc(made, train) if post_hoc else made


def reduced(part: Any, train: Train) -> Any:
    """Return what a part comes down to on some rows, as it says itself: what is the same there is fitted once."""
    reduces_to = getattr(part, "reduces_to", None)
    found = reduces_to(train) if reduces_to else None
    return part if found is None else found


def identity(part: Any) -> Hashable:
    """Return what equal parts share: the same fit serves them all."""
    try:
        hash(part)
    except TypeError:
        return id(part)
    return type(part), part


def recipe(part: Any) -> Recipe | None:
    """Return the recipe of a loss that ``sgd`` trains, None for one that is solved exactly."""
    solver, layer = getattr(part, "solver", "exact"), getattr(part, "layer", "linear")
    if solver == "exact" and layer != "linear":
        raise ValueError(f"solver 'exact' is for linear heads, not for layer {layer!r}: choose one of {', '.join(RECIPES)}")
    return None if solver == "exact" else recipe_of(solver)


def exact(part: Any) -> bool:
    """Whether a part is solved to its optimum, so that it may begin anywhere."""
    return not isinstance(part, ClassifierComponent) and recipe(part) is None


def row_weights(part: Any, train: Train) -> Tensor | None:
    """Return the component's own weights of rows ``[N]``, if it has any."""
    weigh = getattr(part, "row_weights", None)
    return weigh(train) if weigh else None


def sgd_job(part: Any, train: Train) -> SgdJob:
    """Return a loss as the ``sgd`` solver takes it."""
    layer = getattr(part, "layer", "linear")
    return SgdJob(part.loss, part.l2, row_weights(part, train), LAYERS[layer])
