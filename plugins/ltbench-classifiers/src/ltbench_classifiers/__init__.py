"""Heads and losses: what the plugin registers with ltbench."""

import ltbench

_KANG = "arXiv:1910.09217"


@ltbench.hookimpl
def ltbench_classifiers() -> list[ltbench.Component]:
    """Return the classifiers of this distribution."""
    return [*_weighted(), *_adjusted(), *_two_stage(), *_cosine(), *_closed()]


def _weighted() -> list[ltbench.Component]:
    """Return softmax, and what weighs its rows."""
    return [
        _one("softmax", "softmax:Softmax", "multinomial logistic regression", "doi:10.1111/j.2517-6161.1958.tb00292.x"),
        _one(
            "balanced",
            "reweighted:Reweighted",
            "softmax with rows weighted by N / (C·n_c)",
            "doi:10.1093/oxfordjournals.pan.a004868",
        ),
        _one("grw", "reweighted:Reweighted", "softmax with rows weighted by n_c^−ρ", "arXiv:2103.16370"),
        _one(
            "class-balanced",
            "class_balanced:ClassBalanced",
            "softmax with rows weighted by the inverse effective number of their class",
            "arXiv:1901.05555",
        ),
        _one("focal", "focal:Focal", "rows that are right already count less", "arXiv:1708.02002"),
    ]


def _adjusted() -> list[ltbench.Component]:
    """Return losses that know the class counts."""
    return [
        _one(
            "balanced-softmax",
            "balanced_softmax:BalancedSoftmax",
            "softmax with log class counts added to the logits in training",
            "arXiv:2007.10740",
        ),
        _one(
            "logit-adjustment",
            "logit_adjustment:LogitAdjustment",
            "τ · log prior added in training (loss) or taken off afterwards (post-hoc)",
            "arXiv:2007.07314",
        ),
        _one(
            "label-aware-smoothing",
            "label_aware_smoothing:LabelAwareSmoothing",
            "softmax with labels of frequent classes smoothed more",
            "arXiv:2104.00466",
        ),
    ]


def _two_stage() -> list[ltbench.Component]:
    """Return what re-trains or corrects a head on frozen features."""
    crt = ltbench.Component(
        "crt",
        "ltbench_classifiers.softmax:Softmax",
        "a new linear head by class-balanced batches",
        {"solver": "crt", "l2": 5e-4},
        _KANG,
    )
    return [
        crt,
        _one("lws", "lws:LearnableScales", "softmax with one learned scale for each class", _KANG),
        _one("tau-norm", "tau_norm:TauNorm", "softmax with logits divided by ‖w_c‖^τ", _KANG),
    ]


def _cosine() -> list[ltbench.Component]:
    """Return heads on the unit sphere."""
    drw = ltbench.Component(
        "ldam-drw",
        "ltbench_classifiers.ldam:Ldam",
        "ldam, rows weighted in the last fifth of training",
        {"drw": True},
        "arXiv:1906.07413",
    )
    return [
        _one("cosine", "cosine:Cosine", "softmax of scaled cosines", "arXiv:1804.09458"),
        _one("ldam", "ldam:Ldam", "cosines with margins, the larger the rarer the class", "arXiv:1906.07413"),
        drw,
    ]


def _closed() -> list[ltbench.Component]:
    """Return heads in closed form, and those that keep the rows."""
    return [
        _one("ncm", "ncm:NearestClassMean", "nearest class mean, centred and of unit length", _KANG),
        _one(
            "knn", "knn:NearestNeighbours", "votes of the k nearest rows, by inverse distance", "doi:10.1109/TSMC.1976.5408784"
        ),
        _one(
            "lda",
            "lda:LinearDiscriminant",
            "linear discriminant analysis, covariance shrunk",
            "doi:10.1111/j.1469-1809.1936.tb02137.x",
        ),
        _one(
            "gda",
            "gda:GaussianDiscriminant",
            "Gaussian discriminant analysis, one prior for all, perhaps with text",
            "arXiv:2402.04087",
        ),
        _one("ridge", "ridge:Ridge", "least squares on one-hot labels", "doi:10.1080/00401706.1970.10488634"),
    ]


def _one(name: str, target: str, summary: str, reference: str) -> ltbench.Component:
    """Return a component of this package."""
    return ltbench.Component(name, f"ltbench_classifiers.{target}", summary, reference=reference)
