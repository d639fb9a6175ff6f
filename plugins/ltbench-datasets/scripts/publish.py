"""Draw the glyphs datasets that have published fingerprints, and print the table of ltbench_datasets.glyphs.published.

    python publish.py   # about 20 seconds on two cores

To be run, and its output put there, when a change to the drawing is meant; raise DRAWING_VERSION then, too.
"""
# ruff: noqa: INP001, T201

from __future__ import annotations

from dataclasses import astuple

import numpy as np

from ltbench_datasets.glyphs.drawing import IMAGE
from ltbench_datasets.glyphs.published import PUBLISHED

if __name__ == "__main__":
    for recipe, known in PUBLISHED.items():
        images = np.empty((recipe.count, IMAGE, IMAGE, 3), np.uint8)
        recipe.draw(images, lambda _: None)
        found = recipe.fingerprint(images)
        print(f"    Recipe{astuple(recipe)}: {found!r},".replace("'", '"'), "" if found == known else "# new")
