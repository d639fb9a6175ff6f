"""Datasets: what the plugin registers with ltbench."""

import ltbench


@ltbench.hookimpl
def ltbench_datasets() -> list[ltbench.Component]:
    """Return the datasets of this distribution."""
    return [
        ltbench.Component(
            "digits",
            "ltbench_datasets.digits:Digits",
            "1,797 handwritten digits, 8×8 grey, 10 classes; 50 test images a class",
            reference="doi:10.24432/C50P49",
        ),
    ]
