"""Tests of typed settings: which values fit which annotation, and how an annotation reads."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Optional, Union

import pytest
from annotated_types import Ge, Gt, Interval, Le, Len, Lt, MinLen
from hypothesis import given
from hypothesis import strategies as st

from ltbench.parameters import MISSING, Parameter, conform, fields_of, type_text

Share = Annotated[float, Ge(0), Le(1)]
Count = Annotated[int, Ge(1)]
Names = Annotated[tuple[str, ...], MinLen(1)]


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (int, 3, 3),
        (int, -(10**30), -(10**30)),
        (float, 2.5, 2.5),
        (float, 3, 3.0),
        (float, -0.0, -0.0),
        (bool, True, True),
        (str, "", ""),
        (str, "é — 3", "é — 3"),
        (Count, 1, 1),
        (Share, 0, 0.0),
        (Share, 1, 1.0),
        (Annotated[float, Gt(0), Lt(1)], 1e-300, 1e-300),
        (Literal["mean", "median"], "median", "median"),
        (Literal[1, 2], 2, 2),
        (int | None, None, None),
        (int | None, 0, 0),
        (Optional[float], 2, 2.0),  # noqa: UP045 - plugin authors write it
        (Count | Literal["all"], "all", "all"),
        (Count | Literal["all"], 7, 7),
        (int | float, 3, 3),
        (int | float, 3.5, 3.5),
        (int | str, "3", "3"),
        (tuple[int, ...], (), ()),
        (tuple[float, ...], (1, 2.5), (1.0, 2.5)),
        (Names, ("a",), ("a",)),
        (Mapping[str, tuple[float, ...]], {"l2": (1, 0.5)}, {"l2": (1.0, 0.5)}),
    ],
)
def test_a_value_that_fits_is_returned_in_its_type(annotation: Any, value: Any, expected: Any) -> None:
    """An int serves where a float is wanted and becomes one; nothing else changes its type."""
    found = conform(annotation, value)
    assert (found, repr(found)) == (expected, repr(expected))


@pytest.mark.parametrize(
    ("annotation", "value", "wants"),
    [
        (int, 3.0, "int"),
        (int, True, "int"),
        (int, "3", "int"),
        (int, None, "int"),
        (float, True, "float"),
        (float, "0.5", "float"),
        (float, None, "float"),
        (bool, 1, "bool"),
        (bool, 0.0, "bool"),
        (bool, "true", "bool"),
        (str, 3, "text"),
        (str, None, "text"),
        (str, b"a", "text"),
        (Count, 0, "int ≥ 1"),
        (Count, True, "int ≥ 1"),
        (Share, 1.0000001, "float ≥ 0 and ≤ 1"),
        (Share, math.nan, "float ≥ 0 and ≤ 1"),
        (Annotated[float, Gt(0)], 0, "float > 0"),
        (Annotated[int, Lt(5)], 5, "int < 5"),
        (Literal["mean", "median"], "Mean", "mean | median"),
        (Literal["mean", "median"], None, "mean | median"),
        (int | None, "none", "int | none"),
        (int | None, False, "int | none"),
        (Count | Literal["all"], 0, "int ≥ 1 | all"),
        (Count | Literal["all"], "max", "int ≥ 1 | all"),
        (int | float, True, "int | float"),
        (tuple[int, ...], (1, 2.5), "a list of int"),
        (tuple[int, ...], (1, True), "a list of int"),
        (tuple[str, ...], "ab", "a list of text"),
        (Names, (), "a list of text (at least one)"),
        (Mapping[str, tuple[float, ...]], {"l2": ("a",)}, "Mapping"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(annotation: Any, value: Any, wants: str) -> None:
    """The error says in one line what must be what, and what it is."""
    with pytest.raises(ValueError, match="^" + re.escape(f"must be {wants}, not {value!r}") + "$"):
        conform(annotation, value)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("annotation", [float, Annotated[float, Gt(-1)], float | None, int | float])
def test_a_float_must_be_finite(annotation: Any, value: float) -> None:
    """No key can hold infinity or NaN, so no setting may be one."""
    with pytest.raises(ValueError, match=f"not {value!r}$"):
        conform(annotation, value)


@given(value=st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53))
def test_any_number_serves_as_a_float(value: float) -> None:
    """Ints and floats alike come back as the equal float."""
    found = conform(float, value)
    assert (found, type(found)) == (value, float)


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, "int"),
        (float, "float"),
        (bool, "bool"),
        (str, "text"),
        (type(None), "none"),
        (Literal["a", "b"], "a | b"),
        (Literal["a", 1], "a | 1"),
        (Count, "int ≥ 1"),
        (Annotated[int, Gt(0)], "int > 0"),
        (Annotated[float, Le(1)], "float ≤ 1"),
        (Annotated[float, Lt(0.5)], "float < 0.5"),
        (Share, "float ≥ 0 and ≤ 1"),
        (Annotated[int, Interval(ge=1, lt=5)], "int ≥ 1 and < 5"),
        (Annotated[float, Interval(gt=0)], "float > 0"),
        (Annotated[int, "how many"], "int"),
        (int | None, "int | none"),
        (Optional[str], "text | none"),  # noqa: UP045 - plugin authors write it
        (Union[int, str], "int | text"),  # noqa: UP007 - plugin authors write it
        (Literal["max"] | Count, "max | int ≥ 1"),
        (tuple[float, ...], "a list of float"),
        (tuple[Count, ...], "a list of int ≥ 1"),
        (Names, "a list of text (at least one)"),
        (Annotated[tuple[int, ...], Len(1)], "a list of int (at least one)"),
        (Annotated[tuple[Literal["exp", "step"], ...], MinLen(1)], "a list of exp | step (at least one)"),
    ],
)
def test_an_annotation_in_words(annotation: Any, text: str) -> None:
    """Types and bounds read as a person would write them."""
    assert type_text(annotation) == text
    assert Parameter("x", annotation, MISSING).type_text == text


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Fields of every sort; annotations are text here."""

    needed: Annotated[int, Ge(1)]
    given: float = 0.5
    none: str | None = None
    made: tuple[int, ...] = field(default_factory=lambda: (1, 2))
    derived: int = field(init=False, default=0)


def test_fields_of_a_dataclass() -> None:
    """Annotations are resolved with their bounds, factories called, and what the constructor does not take is left out."""
    assert fields_of(Settings) == [
        Parameter("needed", Annotated[int, Ge(1)], MISSING),
        Parameter("given", float, 0.5),
        Parameter("none", str | None, None),
        Parameter("made", tuple[int, ...], (1, 2)),
    ]


def test_a_field_without_a_default_is_required() -> None:
    """``None`` is a default like any other."""
    assert [parameter.required for parameter in fields_of(Settings)] == [True, False, False, False]
