"""Typed settings: the fields of a dataclass, and whether a value fits one. Serves components and experiments alike."""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MISSING: Any = dataclasses.MISSING


@dataclass(frozen=True)
class Parameter:
    """One field of a dataclass of hyper-parameters; ``default`` is MISSING where a user must give it."""

    name: str
    annotation: Any
    default: Any

    @property
    def required(self) -> bool:
        """Whether a user must give it."""
        return self.default is MISSING

    @property
    def type_text(self) -> str:
        """The type and its bounds, in words: ``int ≥ 1``, ``'a' | 'b'``."""
        return type_text(self.annotation)


def fields_of(of: type) -> list[Parameter]:
    """Return the fields of a dataclass that its constructor takes, annotations resolved."""
    hints = typing.get_type_hints(of, include_extras=True)
    return [Parameter(f.name, hints[f.name], _default(f)) for f in dataclasses.fields(of) if f.init]


def conform(annotation: Any, value: Any) -> Any:
    """Return a value as its annotated type (an int may serve as a float, a text as a path), or raise ValueError."""
    import pydantic

    if isinstance(value, str) and Path in (annotation, *typing.get_args(annotation)):
        return Path(value)
    try:
        adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(annotation, config=pydantic.ConfigDict(allow_inf_nan=False))
    except pydantic.errors.PydanticSchemaGenerationError:
        raise ValueError(f"has a type that cannot be checked: {type_text(annotation)}") from None
    try:
        return adapter.validate_python(value, strict=True)
    except pydantic.ValidationError:
        raise ValueError(f"must be {type_text(annotation)}, not {value!r}") from None


def type_text(annotation: Any) -> str:
    """Describe an annotation for people."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return " ".join(filter(None, [type_text(arguments[0]), " and ".join(filter(None, map(_bound_text, arguments[1:])))]))
    if origin is typing.Literal:
        return " | ".join(map(str, arguments))
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return f"a list of {type_text(arguments[0])}"
    if origin in (typing.Union, types.UnionType):
        return " | ".join("none" if a is type(None) else type_text(a) for a in arguments)
    return {"str": "text", "Path": "path", "NoneType": "none"}.get(
        getattr(annotation, "__name__", ""), getattr(annotation, "__name__", str(annotation))
    )


def _bound_text(bound: Any) -> str:
    """Describe an ``annotated_types`` bound."""
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    texts = [f"{sign} {getattr(bound, name)}" for name, sign in signs.items() if getattr(bound, name, None) is not None]
    return " and ".join([*texts, *(["(at least one)"] if getattr(bound, "min_length", 0) == 1 else [])])


def _default(field: dataclasses.Field[Any]) -> Any:
    """Return a dataclass field's default, MISSING if it has none."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
