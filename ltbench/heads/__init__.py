"""Fitting heads: what plugin authors get for free.

``fit_linear`` solves a linear head on any loss to its optimum, ``fit_sgd`` trains one by a recipe, ``fit_many`` fits the
heads of many cells together, each as it would be alone.
"""

from ltbench.heads.exact import fit_linear
from ltbench.heads.lanes import RAISED
from ltbench.heads.layers import Scales
from ltbench.heads.linear import ABSENT_LOGIT, CosineScorer, LinearScorer
from ltbench.heads.losses import softmax_loss
from ltbench.heads.many import Fitted, Task, fit_classifier, fit_many, fit_one, fitting
from ltbench.heads.recipes import RECIPES, Recipe, SolverName
from ltbench.heads.select import Choice, choose
from ltbench.heads.sgd import fit_sgd
from ltbench.heads.temperature import TemperedScorer, fit_temperature

__all__ = [
    "ABSENT_LOGIT",
    "RAISED",
    "RECIPES",
    "Choice",
    "CosineScorer",
    "Fitted",
    "LinearScorer",
    "Recipe",
    "Scales",
    "SolverName",
    "Task",
    "TemperedScorer",
    "choose",
    "fit_classifier",
    "fit_linear",
    "fit_many",
    "fit_one",
    "fit_sgd",
    "fit_temperature",
    "fitting",
    "softmax_loss",
]
