"""Which images of a class are test images, where the folder does not say so. Pure: keys in, positions out."""

from __future__ import annotations

from collections.abc import Sequence


def held_out(keys: Sequence[str], test: float) -> set[int]:
    """Return the positions of one class's test images, given a hash of each image; equal images stay together.

    ``test`` below 1 is a share, rounded half up, at least one image; from 1 on, a number of images. Images are taken by
    rising hash as long as they fit, so that neither order, nor names, nor other images decide, but those before.
    Raises ValueError where no image would be left on one side.
    """
    places: dict[str, list[int]] = {}
    for position, key in enumerate(keys):
        places.setdefault(key, []).append(position)
    if len(places) < 2:
        raise ValueError("has " + ("one image" if len(keys) == 1 else f"{len(keys)} copies of one image"))
    if test >= 1 and len(keys) <= test:
        raise ValueError(f"has {len(keys)} images, of which {test:g} would be test images")
    wanted = int(test) if test >= 1 else min(max(1, int(len(keys) * test + 0.5)), len(keys) - 1)
    chosen: set[int] = set()
    for key in sorted(places):
        if len(chosen) + len(places[key]) <= wanted:
            chosen.update(places[key])
    if not chosen:  # every image has more copies than are wanted
        _, fewest = min((len(held), key) for key, held in places.items())
        chosen.update(places[fewest])
    return chosen
