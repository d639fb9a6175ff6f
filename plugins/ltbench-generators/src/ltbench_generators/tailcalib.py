"""TailCalib: feature generation for long-tail classification (Vigneswaran et al., ICVGIP 2021, arXiv 2111.05956)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le

import ltbench
from ltbench_generators.calibration import Calibration
from ltbench_generators.donors import check_donors
from ltbench_generators.sampler import Sampler


@dataclass(frozen=True, kw_only=True)
class TailCalib:
    """N((x_i + Σ_d μ_d)/(k+1), Σ_d Σ_d/k + α·11ᵀ + 1e-4·I), d the ``k`` classes nearest to x_i, its own included.

    Defaults are the paper's for CIFAR-100-LT at ratio 100; (power, α, k) = (0.9, 0.2, 3) at 50, (0.9, 0, 2) at 10, on
    rows of length one (transform l2). Under a power other than 1 the paper takes the classes' moments before the power
    and leaves all rows there; here all is done under the power, and synthetic rows are mapped back. ``donors`` is
    ``all`` classes of two rows or more, ``head``, or class numbers such as ``"0 1 5"``.
    """

    k: Annotated[int, Ge(1)] = 3
    alpha: Annotated[float, Ge(0)] = 0.0
    power: Annotated[float, Gt(0), Le(1)] = 1.0
    donors: str = "all"

    def __post_init__(self) -> None:
        """Check the donors."""
        check_donors(self.donors)

    def fit(self, train: ltbench.Train) -> Sampler:
        """Remember the rows."""
        plan = Calibration(self.donors, self.k, self.alpha, self.power, ridge=1e-4, own=True).plan
        return Sampler(train, plan)
