"""Fitting heads: what plugin authors get for free. ``fit_linear`` trains a linear head on any loss to its optimum."""

from ltbench.heads.exact import fit_linear
from ltbench.heads.linear import ABSENT_LOGIT, LinearScorer
from ltbench.heads.losses import softmax_loss
from ltbench.heads.select import Choice, choose, fit_classifier

__all__ = ["ABSENT_LOGIT", "Choice", "LinearScorer", "choose", "fit_classifier", "fit_linear", "softmax_loss"]
