"""Tests of what a common offset of all real rows changes: synthetic rows lie so much farther, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import ltbench
from ltbench_generators.adasyn import Adasyn
from ltbench_generators.borderline_smote import BorderlineSmote
from ltbench_generators.covariance_transfer import CovarianceTransfer
from ltbench_generators.distribution_calibration import DistributionCalibration
from ltbench_generators.donors import Donors
from ltbench_generators.gaussian import Gaussian
from ltbench_generators.gmm import GaussianMixture
from ltbench_generators.head_tail_fuse import HeadTailFuse
from ltbench_generators.imbalanced_learn import ImbalancedLearn
from ltbench_generators.kde import KernelDensity
from ltbench_generators.mixup import Mixup
from ltbench_generators.neighbours import nearest_points
from ltbench_generators.random_over import RandomOver
from ltbench_generators.remix import Remix
from ltbench_generators.smoothed_bootstrap import SmoothedBootstrap
from ltbench_generators.smote import Smote
from ltbench_generators.tailcalib import TailCalib
from ltbench_generators.text_anchor import TextAnchor
from ltbench_generators.vmf import VonMisesFisher

TrainOf = Callable[..., ltbench.Train]
Draw = Callable[..., ltbench.Rows]

ESTIMATES = ("empirical", "diagonal", "tied", "ledoit-wolf", "oas", "low-rank", "blended")
GENERATORS: dict[str, Any] = {
    "random-over": RandomOver(),
    "smoothed-bootstrap": SmoothedBootstrap(),
    "smote": Smote(),
    "borderline-smote": BorderlineSmote(),
    "adasyn": Adasyn(),
    "mixup": Mixup(),
    "remix": Remix(),
    **{f"gaussian, {covariance}": Gaussian(covariance=covariance) for covariance in ESTIMATES},
    "gmm": GaussianMixture(components=2),
    "kde": KernelDensity(dim=3),
    "distribution-calibration": DistributionCalibration(donors="all", power=1.0),
    "tailcalib": TailCalib(),
    "covariance-transfer": CovarianceTransfer(),
    "head-tail-fuse": HeadTailFuse(),
    "text-anchor": TextAnchor(),
    "imblearn:SMOTE": ImbalancedLearn(name="SMOTE", params="k_neighbors=3"),
}
"""All but those of directions, of powers and of images, which an offset means something to, and those that make no rows."""


def gridded(x: Tensor, offset: float) -> Tensor:
    """Return rows that float32 holds with and without the offset alike."""
    step = 2.0 ** (math.ceil(math.log2(max(offset, 8))) - 21)
    near = torch.round(x / step) * step
    assert torch.equal((near + offset).double(), near.double() + offset)
    return near


@pytest.mark.parametrize("offset", [2**7, 2**14, 2**19])
@pytest.mark.parametrize("width", [4, 40])
@pytest.mark.parametrize("name", GENERATORS)
def test_rows_lie_so_much_farther(train_of: TrainOf, draw: Draw, name: str, width: int, offset: int) -> None:
    """The same parents, donors and labels; rows farther by the offset, up to four units in its last place."""
    plain = train_of([40, 12, 6, 1 if not name.startswith("imblearn") else 5], width, apart=1.0)
    near = plain.replace(x=gridded(plain.x, offset), text=torch.randn(4, width, generator=torch.Generator().manual_seed(1)))
    first, second = (draw(GENERATORS[name], each, [0, 9, 14, 7]) for each in (near, near.replace(x=near.x + offset)))
    unit = offset * 2.0**-23
    scale = float(first.x.abs().max())
    torch.testing.assert_close(first.x.double() + offset, second.x.double(), rtol=0, atol=4 * unit + 1e-5 * scale)
    for field in ("targets", "parents", "donors"):
        if getattr(first, field) is not None:
            assert torch.equal(getattr(first, field), getattr(second, field))
    weights = (first.parent_weights, second.parent_weights)
    assert weights[0] is None or torch.equal(*(each for each in weights if each is not None))


class TestDonors:
    """Which means are nearest, wherever the rows lie."""

    @pytest.mark.parametrize("offset", [0.0, 1e4, 1e7])
    @pytest.mark.parametrize(("count", "width"), [(7, 3), (40, 64), (600, 16)])
    def test_nearest_points_are_those_of_float64_differences(self, count: int, width: int, offset: float) -> None:
        """Points that lie close together, some twice, are told apart by their rows alone; one may be left out."""
        generator = torch.Generator().manual_seed(count)
        points = torch.randint(64, (count, width), generator=generator).double() / 64
        points[count // 2] = points[0]
        x = torch.cat([points[:9] + 2.0**-9, torch.rand(30, width, generator=generator).double()])
        points, x = points + offset, x + offset
        left_out = torch.randint(-1, count, (len(x),), generator=generator)
        distance = torch.cdist(x, points, compute_mode="donot_use_mm_for_euclid_dist")
        rows = (left_out >= 0).nonzero().flatten()
        distance[rows, left_out[rows]] = torch.inf
        expected = distance.argsort(dim=1, stable=True)[:, :5]
        assert torch.equal(expected, nearest_points(x, points, 5, left_out))

    @pytest.mark.parametrize("offset", [1e4, 1e6])
    def test_nearest_donors_do_not_depend_on_the_offset(self, train_of: TrainOf, offset: float) -> None:
        """Forty donors of 64 features: each row's order of them is that of float64 differences to their means."""
        plain = train_of([4] * 40, 64, apart=0.01)
        train = plain.replace(x=plain.x + offset)
        donors = Donors.of(train, "all")
        distance = torch.cdist(train.x.double(), donors.means, compute_mode="donot_use_mm_for_euclid_dist")
        expected = distance.argsort(dim=1, stable=True)[:, :6]
        assert torch.equal(expected, donors.nearest(train.x, train.targets, 6, own=True))

    def test_a_lone_donor_lends_to_itself_and_others_do_not(self, train_of: TrainOf) -> None:
        """Where all donors are asked for, a class that may not be its own has one fewer."""
        train = train_of([9, 5, 1])
        found = Donors.of(train, "all").nearest(train.x[:3], torch.tensor([0, 1, 2]), 4, own=False)
        assert found[:2].tolist() == [[1, -1], [0, -1]]
        assert sorted(found[2].tolist()) == [0, 1]


@pytest.mark.parametrize("offset", [1e3, 1e5, 1e6])
@pytest.mark.parametrize("width", [2, 40])
def test_directions_far_from_the_origin_keep_their_spread(train_of: TrainOf, draw: Draw, width: int, offset: float) -> None:
    """Rows of a von Mises-Fisher distribution spread about their mean direction as the real rows do, however far away."""
    plain = train_of([200, 200], width, apart=1.0)
    train = plain.replace(x=plain.x.double() + offset)
    direction = torch.nn.functional.normalize(train.x.mean(dim=0), dim=0)

    def aside(x: Tensor) -> float:
        across = x - x.mean(dim=0)
        return float((across - (across @ direction)[:, None] * direction).norm(dim=1).square().mean().sqrt())

    rows = draw(VonMisesFisher(), train, [2000, 0]).x
    assert aside(rows) == pytest.approx(aside(train.x[train.targets == 0]), rel=0.1)
