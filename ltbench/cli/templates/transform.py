"""A transform of feature rows: fitted on real training rows, then applied to training and test rows alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import normalize


@dataclass(frozen=True, kw_only=True)
class Example:
    """Rows less the mean of the training rows, then scaled to length one."""

    # Fields are hyper-parameters: users write name[center=false]. Types are checked before anything runs.
    center: bool = True

    def fit(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """Learn from training rows ``x [N, D]``; return a function of rows ``[N, D]`` that treats each by itself."""
        mean = x.double().mean(dim=0) if self.center else 0.0
        return lambda rows: normalize(rows.double() - mean, dim=1).to(rows.dtype)
