"""Distribution calibration for few-shot classes (Yang, Liu & Xu, ICLR 2021, arXiv 2101.06395)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le

import ltbench
from ltbench_generators.calibration import Calibration
from ltbench_generators.donors import check_donors
from ltbench_generators.sampler import Sampler


@dataclass(frozen=True, kw_only=True)
class DistributionCalibration:
    """N((x_i + Σ_d μ_d)/(k+1), Σ_d Σ_d/k + α·11ᵀ), d the ``k`` head classes nearest to x_i, under a signed power.

    ``donors``: ``head`` (as many rows as classes have on average, or more), ``all``, or class numbers such as ``"0 1 5"``.
    ``power`` is Tukey's λ for sign(x)|x|^λ; the paper has features without negative values, takes the base classes'
    moments before the power, and leaves the rows there. Fewer donors than k are noted.
    """

    k: Annotated[int, Ge(1)] = 2
    alpha: Annotated[float, Ge(0)] = 0.21
    power: Annotated[float, Gt(0), Le(1)] = 0.5
    donors: str = "head"

    def __post_init__(self) -> None:
        """Check the donors."""
        check_donors(self.donors)

    def fit(self, train: ltbench.Train) -> Sampler:
        """Remember the rows."""
        plan = Calibration(self.donors, self.k, self.alpha, self.power, ridge=0.0, own=False).plan
        return Sampler(train, plan)
