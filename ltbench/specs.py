"""The grammar of component names: ``name@distribution:rest[key=value,key=a|b,key=select(a,b)]``.

Parses text into values and writes them back in one canonical form; knows no plugin.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ltbench.errors import UsageError

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Choice:
    """``a|b``: one cell for each value."""

    values: tuple[Scalar, ...]


@dataclass(frozen=True)
class Select:
    """``select(a,b)``: one cell, whose value is chosen on selection rows."""

    values: tuple[Scalar, ...]


Value = Scalar | Choice | Select


@dataclass(frozen=True)
class Spec:
    """One component as a user names it; ``params`` sorted by key."""

    name: str
    distribution: str | None = None
    rest: str | None = None
    params: tuple[tuple[str, Value], ...] = ()

    def __str__(self) -> str:
        """Return the canonical form, which parses back to an equal Spec."""
        head = self.name + (f"@{self.distribution}" if self.distribution else "")
        head += f":{self.rest}" if self.rest is not None else ""
        inside = ",".join(f"{key}={format_value(value)}" for key, value in self.params)
        return f"{head}[{inside}]" if inside else head

    def with_params(self, params: Mapping[str, Value]) -> Spec:
        """Return a copy with these parameters, sorted."""
        return dataclasses.replace(self, params=tuple(sorted(params.items())))


_NAME = re.compile(r"(?P<name>[^\[\],:@|'\"\s]+)(?:@(?P<dist>[^\[\],:@|'\"\s]+))?(?::(?P<rest>[^\[\]]+))?")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_WORDS: dict[str, Scalar] = {"true": True, "false": False, "none": None}
_BARE = re.compile(r"[^\[\](),|='\"\s]+")


def parse_spec(text: str) -> Spec:
    """Parse one component; raise UsageError that shows where the text goes wrong."""
    stripped = text.strip()
    match = _NAME.match(stripped)
    if match is None:
        raise UsageError(f"{text!r} is no component name: write name, name[key=value] or family:rest[key=value]")
    tail = stripped[match.end() :]
    if tail and not (tail.startswith("[") and tail.endswith("]")):
        raise UsageError(f"{text!r}: after the name only [key=value,...] may follow, not {tail!r}")
    params: dict[str, Value] = {}
    for item in split_list(tail[1:-1], text) if tail else ():
        key, equals, value = item.partition("=")
        if not equals or not key.strip().isidentifier():
            raise UsageError(f"{text!r}: parameters are written key=value, not {item!r}")
        if key.strip() in params:
            raise UsageError(f"{text!r}: parameter {key.strip()!r} is given twice")
        params[key.strip()] = _parse_value(value.strip(), text)
    rest = match["rest"].strip() if match["rest"] else None
    if rest == "":
        raise UsageError(f"{text!r}: there is nothing after the colon: write family:rest")
    return Spec(match["name"], match["dist"], rest).with_params(params)


def expand(spec: Spec) -> Iterator[Spec]:
    """Yield one Spec for every combination of ``a|b`` values."""
    keys = [key for key, _ in spec.params]
    choices = [value.values if isinstance(value, Choice) else (value,) for _, value in spec.params]
    for values in itertools.product(*choices):
        yield spec.with_params(dict(zip(keys, values, strict=True)))


def split_list(text: str, whole: str | None = None, separator: str = ",") -> list[str]:  # noqa: C901 - one state machine
    """Split at separators outside brackets, parentheses and quotes; drop nothing but surrounding blanks."""
    items, depth, quote, start = [], 0, "", 0
    position = 0
    while position < len(text):
        character = text[position]
        if quote:
            if character == "\\":
                position += 1
            elif character == quote:
                quote = ""
        elif character in "'\"":
            quote = character
        elif character in "[(":
            depth += 1
        elif character in "])":
            depth -= 1
        elif character == separator and depth == 0:
            items.append(text[start:position])
            start = position + 1
        if depth < 0:
            break
        position += 1
    if quote or depth:
        raise UsageError(f"{whole or text!r}: {'a quote' if quote else 'a bracket'} is not balanced")
    items = [item.strip() for item in [*items, text[start:]]]
    if len(items) > 1 and not all(items):
        raise UsageError(f"{whole or text!r}: there is nothing between two {separator!r}")
    return [item for item in items if item]


def format_value(value: Value) -> str:
    """Write a value so that it parses back to itself."""
    if isinstance(value, Choice):
        return "|".join(format_value(v) for v in value.values)
    if isinstance(value, Select):
        return f"select({','.join(format_value(v) for v in value.values)})"
    if isinstance(value, str):
        bare = _BARE.fullmatch(value) and not _NUMBER.fullmatch(value) and value.lower() not in _WORDS
        return value if bare else json.dumps(value, ensure_ascii=False)
    return {True: "true", False: "false", None: "none"}[value] if value is None or isinstance(value, bool) else repr(value)


def _parse_value(text: str, whole: str) -> Value:
    """Parse what stands after the equals sign."""
    if text.startswith("select(") and text.endswith(")"):
        values = tuple(parse_scalar(item, whole) for item in split_list(text[7:-1], whole))
        if len(values) < 2:
            raise UsageError(f"{whole!r}: select() needs at least two values to choose from, not {text!r}")
        return Select(values)
    items = split_list(text, whole, "|")
    if len(items) > 1:
        return Choice(tuple(parse_scalar(item, whole) for item in items))
    return parse_scalar(text, whole)


def parse_scalar(text: str, whole: str) -> Scalar:
    """Parse a number, ``true``, ``false``, ``none``, a quoted string or a bare word."""
    if text[:1] in ("'", '"') and text[-1:] == text[:1] and len(text) > 1:
        body = text[1:-1]
        try:
            return str(json.loads('"' + body.replace('"', '\\"') + '"')) if text[0] == "'" else str(json.loads(text))
        except json.JSONDecodeError:
            raise UsageError(f"{whole!r}: {text} is no quoted string") from None
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _NUMBER.fullmatch(text):
        return _parse_number(text, whole)
    if _BARE.fullmatch(text):
        return text
    raise UsageError(f"{whole!r}: the value {text!r} must be quoted, or is missing")


def _parse_number(text: str, whole: str) -> int | float:
    """Parse a number that a key can hold: not infinite, not thousands of digits long."""
    if len(text) > 100 or not math.isfinite(float(text)):
        raise UsageError(f"{whole[:80]!r}: numbers must be finite and of at most 100 characters, not {text[:20]}")
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)
