"""Feature transforms: what the plugin registers with ltbench."""

import ltbench


@ltbench.hookimpl
def ltbench_transforms() -> list[ltbench.Component]:
    """Return the transforms of this distribution."""
    module = "ltbench_transforms.transforms"
    return [
        ltbench.Component(
            "none",
            f"{module}:Identity",
            "features as the backbone gives them",
            reference="folklore: the baseline of every transform",
        ),
        ltbench.Component("l2", f"{module}:UnitNorm", "every row scaled to length one", reference="arXiv:1911.04623"),
        ltbench.Component(
            "standardize",
            f"{module}:Standardize",
            "every feature to mean 0 and standard deviation 1",
            reference="folklore: z-scores",
        ),
        ltbench.Component(
            "pca",
            f"{module}:PrincipalComponents",
            "the leading principal components, whitened on request",
            reference="doi:10.1080/14786440109462720",
        ),
    ]
