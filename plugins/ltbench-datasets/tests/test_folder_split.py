"""Tests of the division of a class into training and test images."""

from __future__ import annotations

import hashlib
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltbench_datasets.folder_split import held_out

SHARES = st.floats(0.01, 0.99)


def keys(count: int) -> list[str]:
    """Return hashes of different images."""
    return [hashlib.sha256(str(i).encode()).hexdigest() for i in range(count)]


@pytest.mark.parametrize(
    ("images", "test", "expected"),
    [
        (10, 0.2, 2),
        (7, 0.2, 1),
        (8, 0.2, 2),
        (2, 0.2, 1),
        (3, 0.1, 1),
        (2, 0.9, 1),
        (5, 0.5, 3),
        (100, 0.25, 25),
        (9, 4, 4),
        (5, 4, 4),
    ],
)
def test_how_many(images: int, test: float, expected: int) -> None:
    """A share is rounded half up, never to none or to all; a number is a number."""
    assert len(held_out(keys(images), test)) == expected


@given(st.integers(2, 60), SHARES)
def test_the_smallest_hashes_are_taken(images: int, test: float) -> None:
    """Without copies, test images are the first of the sorted hashes."""
    found = keys(images)
    chosen = held_out(found, test)
    assert {found[i] for i in chosen} == set(sorted(found)[: len(chosen)])


@given(
    st.lists(st.sampled_from(keys(12)), min_size=2, max_size=40).filter(lambda held: len(set(held)) > 1), SHARES, st.randoms()
)
def test_copies_stay_together(held: list[str], test: float, shuffle: random.Random) -> None:
    """No image is on both sides, both sides have one, and the order of files decides nothing."""
    chosen = held_out(held, test)
    ours, theirs = {held[i] for i in chosen}, {held[i] for i in range(len(held)) if i not in chosen}
    assert ours
    assert theirs
    assert not ours & theirs
    order = list(range(len(held)))
    shuffle.shuffle(order)
    again = held_out([held[i] for i in order], test)
    assert Counter(held[order[i]] for i in again) == Counter(held[i] for i in chosen)


@given(st.lists(st.sampled_from(keys(12)), min_size=2, max_size=40).filter(lambda held: len(set(held)) > 1), SHARES)
def test_no_more_than_wanted(held: list[str], test: float) -> None:
    """Copies make the test part smaller, unless the image with the fewest copies has more than are wanted."""
    most = max(1, int(len(held) * test + 0.5))
    assert len(held_out(held, test)) <= max(most, min(Counter(held).values()))


@pytest.mark.parametrize(
    ("held", "test", "message"),
    [
        (keys(1), 0.2, "has one image"),
        (keys(1) * 3, 0.2, "has 3 copies of one image"),
        (keys(5), 5, "has 5 images, of which 5 would be test images"),
        (keys(5), 50, "has 5 images, of which 50 would be test images"),
    ],
)
def test_classes_that_cannot_be_divided(held: list[str], test: float, message: str) -> None:
    """A class needs an image on either side."""
    with pytest.raises(ValueError, match=message):
        held_out(held, test)
