"""Heads and losses: what the plugin registers with ltbench."""

import ltbench


@ltbench.hookimpl
def ltbench_classifiers() -> list[ltbench.Component]:
    """Return the classifiers of this distribution."""
    return [
        ltbench.Component(
            "softmax",
            "ltbench_classifiers.softmax:Softmax",
            "multinomial logistic regression",
            reference="doi:10.1111/j.2517-6161.1958.tb00292.x",
        ),
        ltbench.Component(
            "class-balanced",
            "ltbench_classifiers.class_balanced:ClassBalanced",
            "softmax with rows weighted by the inverse effective number of their class",
            reference="arXiv:1901.05555",
        ),
        ltbench.Component(
            "balanced-softmax",
            "ltbench_classifiers.balanced_softmax:BalancedSoftmax",
            "softmax with log class counts added to the logits in training",
            reference="arXiv:2007.10740",
        ),
        ltbench.Component(
            "logit-adjustment",
            "ltbench_classifiers.logit_adjustment:LogitAdjustment",
            "τ · log prior added in training (loss) or taken off afterwards (post-hoc)",
            reference="arXiv:2007.07314",
        ),
        ltbench.Component(
            "ncm",
            "ltbench_classifiers.ncm:NearestClassMean",
            "nearest class mean, centred and of unit length",
            reference="arXiv:1910.09217",
        ),
        ltbench.Component(
            "lda",
            "ltbench_classifiers.lda:LinearDiscriminant",
            "linear discriminant analysis, covariance shrunk",
            reference="doi:10.1111/j.1469-1809.1936.tb02137.x",
        ),
    ]
