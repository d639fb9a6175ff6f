"""Tests of names made of content: canonical JSON, digests, and the hash of code with small packages written for it."""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import sys
from collections.abc import Callable, Mapping
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltbench.keys import canonical_json, code_hash, digest

PROPERTY = settings(deadline=None, max_examples=150, derandomize=True)

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4), max_leaves=12
)


# Canonical JSON


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [1, 2.0, None, True]}, '{"a":[1,2.0,null,true],"b":1}'),
        ({"a": {"d": 1, "c": 2}}, '{"a":{"c":2,"d":1}}'),
        ("Größe 日本", '"Größe 日本"'),
        ('a"b\\\n', '"a\\"b\\\\\\n"'),
        ((1, 2), "[1,2]"),
        (1e-7, "1e-07"),
        ({}, "{}"),
    ],
)
def test_canonical_json_has_one_form(value: object, text: str) -> None:
    """Keys are sorted, blanks left out, and letters written as they are."""
    assert text == canonical_json(value)


def shuffled(value: Any) -> Any:
    """Return an equal value whose keys were put in in the opposite order."""
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(value)}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


@PROPERTY
@given(json_values)
def test_canonical_json_reads_back_and_forgets_the_order_of_keys(value: object) -> None:
    """The text holds the whole value, and equal tables have one text."""
    assert value == json.loads(canonical_json(value))
    assert canonical_json(value) == canonical_json(shuffled(value))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, {"a": [math.nan]}])
def test_canonical_json_refuses_what_is_no_number(value: object) -> None:
    """NaN and infinity have no JSON, so no key can be made of them."""
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json(value)
    with pytest.raises(ValueError, match="JSON compliant"):
        digest(value)


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", object()])
def test_canonical_json_refuses_what_json_does_not_know(value: object) -> None:
    """Values without a JSON form are a mistake, never written by their address."""
    with pytest.raises(TypeError, match="not JSON serializable"):
        canonical_json(value)


# Digests


def test_a_digest_is_the_start_of_a_known_hash() -> None:
    """The digest is half the SHA-256 of the canonical text in UTF-8, pinned here once as it is."""
    value = {"name": "Größe", "ratio": 100}

    assert hashlib.sha256('{"name":"Größe","ratio":100}'.encode()).hexdigest()[:32] == digest(value)
    assert digest({}) == "44136fa355b3678a1146ad16f7e8649e"


@PROPERTY
@given(json_values, json_values)
def test_digests_are_equal_just_where_texts_are(a: object, b: object) -> None:
    """Two values share a digest if and only if they share their canonical text."""
    assert (canonical_json(a) == canonical_json(b)) == (digest(a) == digest(b))
    assert len(digest(a)) == 32


def test_digests_tell_types_apart() -> None:
    """1, 1.0, '1', true and a list of 1 are five things."""
    assert len({digest(value) for value in (1, 1.0, "1", True, [1])}) == 5


# Hashes of code

Hasher = Callable[[Mapping[str, str | bytes]], str]

METHOD = '''"""What the module is for."""
import math
from . import shift
from .scale import factor
from lab.plain import offset
import lab.dotted


class Method:
    """What the class is for."""

    size: int = 1

    def fit(self, x, *, power=2):
        """What the method does."""
        from lab.late import limit
        names = ("a", "b")
        return min(limit, factor * x**power + offset + shift.by + lab.dotted.value), names, math.pi


async def later():
    """Wait."""
    return {**{}, None: None}
'''

LAB: dict[str, str | bytes] = {
    "__init__.py": "",
    "method.py": METHOD,
    "shift.py": "by = 1\n",
    "scale.py": "from .deep import inner\nfactor = inner.depth\n",
    "plain.py": "offset = 1\n",
    "dotted.py": "value = 1\n",
    "late.py": "from lab import method\nlimit = 1\n",  # imports in a circle
    "deep/__init__.py": "from .sibling import *\n",
    "deep/inner.py": "from ..ground import depth\n",
    "deep/sibling.py": "star = 1\n",
    "ground.py": "depth = 1\n",
    "unrelated.py": "x = 1\n",
}


@pytest.fixture
def hash_lab(tmp_path: Path) -> Hasher:
    """Return a function that writes a package ``lab`` into a folder of its own and hashes ``lab.method`` there."""
    folders = iter(range(100))

    def hasher(files: Mapping[str, str | bytes]) -> str:
        folder = tmp_path / f"place-{next(folders)}"
        for name, content in files.items():
            path = folder / "lab" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()
        code_hash.cache_clear()
        try:
            return code_hash("lab.method")
        finally:
            sys.path.remove(str(folder))
            for name in [name for name in sys.modules if name.partition(".")[0] == "lab"]:
                del sys.modules[name]
            code_hash.cache_clear()

    return hasher


def edited(file: str, old: str, new: str) -> dict[str, str | bytes]:
    """Return the package with one piece of one file replaced."""
    assert LAB[file].count(old) == 1
    return {**LAB, file: LAB[file].replace(old, new)}


SAME = {
    "another folder": LAB,
    "a comment": edited("method.py", "import math\n", "import math  # for pi\n# and nothing else\n"),
    "blank lines": edited("method.py", "    size: int = 1\n", "\n\n    size: int = 1\n\n"),
    "line ends": {**LAB, "method.py": METHOD.replace("\n", "\r\n")},
    "layout": edited("method.py", 'names = ("a", "b")', "names = (\n            'a',\n            'b',\n        )"),
    "a module's docstring": edited("method.py", '"""What the module is for."""\n', '"""Something else."""\n'),
    "no module's docstring": edited("method.py", '"""What the module is for."""\n', ""),
    "a class's docstring": edited("method.py", "What the class is for.", "Something\n\n    else."),
    "no class's docstring": edited("method.py", '    """What the class is for."""\n', ""),
    "a method's docstring": edited("method.py", "What the method does.", "Something else."),
    "no method's docstring": edited("method.py", '        """What the method does."""\n', ""),
    "an async function's docstring": edited("method.py", '"""Wait."""', '"""Wait, then go on."""'),
    "a docstring elsewhere": edited("ground.py", "depth = 1", '"""How deep."""\ndepth = 1'),
    "an unrelated module": edited("unrelated.py", "x = 1", "x = 2"),
    "no unrelated module": {name: text for name, text in LAB.items() if name != "unrelated.py"},
    "one more module": {**LAB, "math.py": "pi = 3\n"},
    "another file": {**LAB, "data.json": "{}"},
}

DIFFERENT = {
    "an operator": edited("method.py", "factor * x", "factor + x"),
    "a name": edited("method.py", "def fit", "def train"),
    "a default": edited("method.py", "power=2", "power=3"),
    "a constant": edited("method.py", "int = 1", "int = 2"),
    "text for a number": edited("method.py", "int = 1", "int = '1'"),
    "a float for a number": edited("method.py", "int = 1", "int = 1.0"),
    "a truth for a number": edited("method.py", "int = 1", "int = True"),
    "bytes for text": edited("method.py", '"a"', 'b"a"'),
    "a list for a tuple": edited("method.py", '("a", "b")', '["a", "b"]'),
    "an annotation": edited("method.py", "size: int", "size: float"),
    "an order": edited("method.py", '("a", "b")', '("b", "a")'),
    "one line more": edited("method.py", "    size: int = 1\n", "    size: int = 1\n    more = 1\n"),
    "one line less": edited("method.py", "    size: int = 1\n", ""),
    "a string that is used": edited("method.py", '        """What the method does."""\n', '        names = "What"\n'),
    "a string below the docstring": edited("shift.py", "by = 1\n", "by = 1\n'text'\n"),
    "a decorator": edited("method.py", "async def later", "@staticmethod\nasync def later"),
    "a function that no longer waits": edited("method.py", "async def later", "def later"),
    "a missing key": edited("method.py", "{**{}, None: None}", "{**{}, **None}"),
    "an import": edited("method.py", "import math\n", "import cmath as math\n"),
    "a module imported by name": edited("plain.py", "1", "2"),
    "a module imported with dots": edited("dotted.py", "1", "2"),
    "a module imported relatively": edited("scale.py", "inner.depth", "-inner.depth"),
    "a module imported from the package itself": edited("shift.py", "1", "2"),
    "the package that a relative import names": {**LAB, "__init__.py": "x = 1\n"},
    "a module imported inside a function": edited("late.py", "limit = 1", "limit = 2"),
    "a module imported by an imported one": edited("deep/inner.py", "depth\n", "depth\ndepth += 1\n"),
    "a module two packages up": edited("ground.py", "1", "2"),
    "a module imported with a star": edited("deep/sibling.py", "1", "2"),
    "a subpackage's own file": edited("deep/__init__.py", "from", "x = 1\nfrom"),
    "a module gone": {name: text for name, text in LAB.items() if name != "shift.py"},
}  # fmt: skip


@pytest.mark.parametrize("files", SAME.values(), ids=SAME)
def test_what_does_not_run_does_not_count(hash_lab: Hasher, files: Mapping[str, str | bytes]) -> None:
    """Comments, docstrings, layout, place and modules that are not imported leave the hash as it is."""
    assert hash_lab(LAB) == hash_lab(files)


@pytest.mark.parametrize("files", DIFFERENT.values(), ids=DIFFERENT)
def test_what_runs_counts(hash_lab: Hasher, files: Mapping[str, str | bytes]) -> None:
    """Code of the module, and of every module of its package that it imports, changes the hash."""
    assert hash_lab(LAB) != hash_lab(files)


def test_the_hash_of_code_is_the_same_on_every_python(hash_lab: Hasher) -> None:
    """The hash of the package is pinned, so that a Python whose syntax trees differ is noticed."""
    assert hash_lab(LAB) == "ad910cdf9dc97b1f1e248be5fffbdea6"


def test_compiled_modules_count_by_their_bytes(hash_lab: Hasher) -> None:
    """A module without Python source is neither run nor read as text, yet its change is seen."""
    files = edited("method.py", "from . import shift", "from . import shift, fast")
    name = f"fast{EXTENSION_SUFFIXES[0]}"
    hashes = [hash_lab({**files, name: content}) for content in (b"\x7f\x00", b"\x7f\x00", b"\x7f\x01")]

    assert hashes[0] == hashes[1]
    assert hashes[0] != hashes[2]


def test_a_loaded_module_is_hashed_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that is loaded counts by the file it came from, whatever the search path says by now."""
    (tmp_path / "lone_module_of_keys.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = code_hash("lone_module_of_keys")
    monkeypatch.setitem(sys.modules, "lone_module_of_keys", importlib.import_module("lone_module_of_keys"))
    monkeypatch.setattr(sys, "path", sys.path[1:])
    importlib.invalidate_caches()
    code_hash.cache_clear()

    assert found == code_hash("lone_module_of_keys")


@pytest.mark.parametrize("module", ["sys", "no_such_module_anywhere", "json.no_such_module"])
def test_a_module_without_a_file_cannot_be_hashed(module: str) -> None:
    """Built-in and missing modules are refused by name."""
    with pytest.raises(ValueError, match=f"^module '{module}' has no source to hash$"):
        code_hash(module)
