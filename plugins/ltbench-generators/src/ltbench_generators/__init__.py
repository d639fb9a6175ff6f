"""Generators of synthetic feature rows: what the plugin registers with ltbench."""

import ltbench


@ltbench.hookimpl
def ltbench_generators() -> list[ltbench.Component]:
    """Return the generators of this distribution."""
    return [
        *_repeating(),
        *_interpolating(),
        *_distributions(),
        *_borrowing(),
        ltbench.Component(
            "imblearn",
            "ltbench_generators.imbalanced_learn:ImbalancedLearn",
            "any over-, under- or combined sampler of imbalanced-learn: imblearn:SVMSMOTE",
            reference="arXiv:1609.06570",
            family=True,
            requires=("imbalanced-learn", "scikit-learn"),
        ),
    ]


def _component(name: str, target: str, summary: str, reference: str) -> ltbench.Component:
    """Return a component of this distribution."""
    return ltbench.Component(name, f"ltbench_generators.{target}", summary, reference=reference)


def _repeating() -> list[ltbench.Component]:
    """Return what uses real rows as they are, or nearly so."""
    return [
        _component("none", "none:NoRows", "real rows only", "folklore: the baseline of every generator"),
        _component(
            "random-over", "random_over:RandomOver", "real rows again, each as often as the next", "doi:10.1109/TKDE.2008.239"
        ),
        _component(
            "random-under", "random_under:RandomUnder", "fewer real rows of the larger classes", "doi:10.1109/TKDE.2008.239"
        ),
        _component(
            "image-views",
            "image_views:ImageViews",
            "rows of the class's images flipped, cropped, recoloured, noisy or blurred",
            "doi:10.1186/s40537-019-0197-0",
        ),
        _component(
            "smoothed-bootstrap",
            "smoothed_bootstrap:SmoothedBootstrap",
            "real rows with normal noise of Silverman's bandwidth (ROSE)",
            "doi:10.1007/s10618-012-0295-5",
        ),
    ]


def _interpolating() -> list[ltbench.Component]:
    """Return what puts rows between real ones."""
    return [
        _component(
            "smote",
            "smote:Smote",
            "points between a row and one of its k nearest neighbours of the same class",
            "doi:10.1613/jair.953",
        ),
        _component(
            "borderline-smote",
            "borderline_smote:BorderlineSmote",
            "SMOTE from rows of which half or more of the neighbours, but not all, are of other classes",
            "doi:10.1007/11538059_91",
        ),
        _component(
            "adasyn",
            "adasyn:Adasyn",
            "SMOTE from rows in proportion to their neighbours of other classes",
            "doi:10.1109/IJCNN.2008.4633969",
        ),
        _component("mixup", "mixup:Mixup", "rows and labels between a row of the class and any row", "arXiv:1710.09412"),
        _component("remix", "remix:Remix", "mixup whose labels favour the rarer class", "arXiv:2007.03943"),
    ]


def _distributions() -> list[ltbench.Component]:
    """Return what fits a distribution to each class."""
    return [
        _component(
            "gaussian",
            "gaussian:Gaussian",
            "a normal distribution per class, with one of seven estimates of its covariance",
            "doi:10.1016/S0047-259X(03)00096-4",
        ),
        _component(
            "gmm",
            "gmm:GaussianMixture",
            "a mixture of normal distributions with diagonal covariances per class",
            "doi:10.1111/j.2517-6161.1977.tb01600.x",
        ),
        _component(
            "kde",
            "kde:KernelDensity",
            "a kernel density per class on principal components, its bandwidth by likelihood",
            "doi:10.1214/aoms/1177704472",
        ),
        _component(
            "vmf",
            "vmf:VonMisesFisher",
            "a von Mises-Fisher distribution of directions per class",
            "Banerjee et al., Clustering on the unit hypersphere using von Mises-Fisher distributions, JMLR 6, 2005",
        ),
    ]


def _borrowing() -> list[ltbench.Component]:
    """Return what takes something from other classes, or from texts."""
    return [
        _component(
            "distribution-calibration",
            "distribution_calibration:DistributionCalibration",
            "normal rows around each row, mean and covariance calibrated by the nearest head classes",
            "arXiv:2101.06395",
        ),
        _component(
            "tailcalib",
            "tailcalib:TailCalib",
            "normal rows around each row, mean and covariance calibrated by the nearest classes",
            "arXiv:2111.05956",
        ),
        _component(
            "covariance-transfer",
            "covariance_transfer:CovarianceTransfer",
            "rows with normal noise of the covariance of the nearest head class",
            "folklore: of the family of arXiv:2401.11436 and arXiv:2508.13518, by our own formula",
        ),
        _component(
            "head-tail-fuse",
            "head_tail_fuse:HeadTailFuse",
            "rows with the deviation of a row of the nearest head class",
            "folklore: our own definition",
        ),
        _component(
            "text-anchor",
            "text_anchor:TextAnchor",
            "normal rows around class-text vectors, moved by the modality gap",
            "folklore: our own definition, on the gap of arXiv:2203.02053",
        ),
    ]
