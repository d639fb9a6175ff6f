"""Generators of synthetic feature rows: what the plugin registers with ltbench."""

import ltbench


@ltbench.hookimpl
def ltbench_generators() -> list[ltbench.Component]:
    """Return the generators of this distribution."""
    return [
        ltbench.Component(
            "none",
            "ltbench_generators.none:NoRows",
            "real rows only",
            reference="folklore: the baseline of every generator",
        ),
        ltbench.Component(
            "random-over",
            "ltbench_generators.random_over:RandomOver",
            "real rows again, each as often as the next",
            reference="doi:10.1109/TKDE.2008.239",
        ),
        ltbench.Component(
            "smote",
            "ltbench_generators.smote:Smote",
            "points between a row and one of its k nearest neighbours of the same class",
            reference="doi:10.1613/jair.953",
        ),
        ltbench.Component(
            "gaussian",
            "ltbench_generators.gaussian:Gaussian",
            "a normal distribution per class, its covariance shrunk",
            reference="doi:10.1016/S0047-259X(03)00096-4",
        ),
    ]
