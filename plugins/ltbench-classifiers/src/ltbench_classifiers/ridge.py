"""Ridge regression on one-hot labels, as scikit-learn's ``RidgeClassifier`` decides by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt

import ltbench
from ltbench_classifiers.moments import cost, moments_of


@dataclass(frozen=True, kw_only=True)
class Ridge:
    """Minimises ½ · mean ‖xW + b − y‖² + ``l2``/2 · ‖W‖², y one-hot; scikit-learn's α is ``l2`` · N.

    Hoerl & Kennard, 1970. Scores are no probabilities.
    """

    l2: Annotated[float, Gt(0)] = 1e-3

    def fit(self, train: ltbench.Train) -> ltbench.LinearScorer:
        """Solve by the covariance of all rows and the class means, cov(x, y_c) = π_c (μ_c − μ)."""
        moments = moments_of(train)
        prior = moments.count / moments.weight
        weight = moments.total.solve(1 / moments.weight, self.l2, moments.means.T * prior)
        bias = prior - moments.mean @ weight
        return ltbench.LinearScorer(weight, bias + moments.absent, "scores", training_flops=cost(train))
