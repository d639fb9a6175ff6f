"""Tests of the grammar of component names: what parses to what, that it comes back, and what is refused."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltbench.errors import UsageError
from ltbench.specs import Choice, Select, Spec, Value, expand, format_value, parse_spec, split_list

PROPERTY = settings(deadline=None, max_examples=120, derandomize=True)

# Text that the grammar might take for something else
TRICKY = [
    "", " ", "1", "-1", "1.5", "1e5", "+.5", "true", "False", "NONE", "none", "a,b", "a|b", "a=b", "[x]", "a]", "(", "select(a,b)",
    "'", '"', "it's", '"quoted"', "\\", "a\\", '\\"', "C:\\data\\set [1], part|2", "/data/set [1], part|2 (copy)", "line\nbreak",
    "tab\t", "\u00a0", "\u2028", "\x85", "Größe", "日本", "😀", "a b", "1_000", "0x10", "inf", "nan", "１", "@", ":", "a:b@c",
]  # fmt: skip


def part(extra: str = "") -> st.SearchStrategy[str]:
    """Draw a name: any text without blanks, quotes and the grammar's own characters."""
    alphabet = st.characters(exclude_categories=["Cs"], exclude_characters="[],:@|'\"" + extra)
    return st.text(alphabet, min_size=1, max_size=8).filter(lambda name: re.search(r"\s", name) is None)


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10)
    | st.sampled_from(TRICKY)
)
several = st.lists(scalars, min_size=2, max_size=4).map(tuple)
values = scalars | several.map(Choice) | several.map(Select)
keys = st.text("abcxyz_é0", min_size=1, max_size=6).filter(str.isidentifier)


@st.composite
def specs(draw: st.DrawFn, extra: str = "") -> Spec:
    """Draw a spec that the grammar can write, whose names hold none of some extra characters."""
    rest = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="[]" + extra), max_size=9).map(str.strip)
    spec = Spec(draw(part(extra)), draw(st.none() | part(extra)), draw(st.none() | rest.filter(bool)))
    return spec.with_params(draw(st.dictionaries(keys, values, max_size=3)))


def message_of(error: pytest.ExceptionInfo[UsageError]) -> str:
    """Return what a caught error says."""
    return str(error.value)


# There and back


@PROPERTY
@given(specs())
def test_a_spec_comes_back_from_its_text(spec: Spec) -> None:
    """Any spec parses back from its canonical form, every value with its own type."""
    parsed = parse_spec(str(spec))

    assert spec == parsed
    assert repr(spec) == repr(parsed)  # tells 1, 1.0 and True apart
    assert str(spec) == str(parsed)


@pytest.mark.parametrize("text", TRICKY)
def test_tricky_text_comes_back_alone_chosen_and_selected(text: str) -> None:
    """Text that looks like something else stays text, wherever it stands."""
    spec = Spec("name").with_params({"a": text, "b": Choice((text, 1)), "c": Select((True, text)), "d": Choice((None, text))})

    assert repr(spec) == repr(parse_spec(str(spec)))


@PROPERTY
@given(st.text("ab1e.-,:@|[]()='\"\\ ") | st.from_regex(r"a(@b)?(: ?c?)? ?\[x=[1ae.|,'\"]*\]", fullmatch=True))
def test_any_text_is_refused_or_has_a_canonical_form(text: str) -> None:
    """Whatever the parser accepts, it can write down and read again; anything else is a usage error."""
    try:
        spec = parse_spec(text)
    except UsageError:
        return

    assert spec == parse_spec(str(spec))


@pytest.mark.parametrize(
    "text",
    [
        "a: [x=1]",
        "a:\t[]",
        "a[x=1e999]",
        "a[x=-1e999|1]",
        "a[x=select(1,1e400)]",
        pytest.param(f"a[x={'1' * 5000}]", id="long"),
    ],
)
def test_text_without_a_canonical_form_is_refused(text: str) -> None:
    """A rest of blanks, and numbers too large for their type, cannot be written down again."""
    with pytest.raises(UsageError):
        parse_spec(text)


# What parses to what


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("smote", Spec("smote")),
        ("  smote\n", Spec("smote")),
        ("smote[]", Spec("smote")),
        ("smote@my-plugin", Spec("smote", "my-plugin")),
        ("timm:resnet50", Spec("timm", None, "resnet50")),
        ("timm@plugin:vit/b-16:x", Spec("timm", "plugin", "vit/b-16:x")),
        ("timm:resnet50 [x=1]", Spec("timm", None, "resnet50", (("x", 1),))),
        ("open_clip:ViT-B-16|laion, 400m[x=1]", Spec("open_clip", None, "ViT-B-16|laion, 400m", (("x", 1),))),
        ("smote[k=5]", Spec("smote", None, None, (("k", 5),))),
        ("smote[ m = 10 , k = 5 ]", Spec("smote", None, None, (("k", 5), ("m", 10)))),
        ("a[x=1|2]", Spec("a", None, None, (("x", Choice((1, 2))),))),
        ("a[x = 1 | b | none]", Spec("a", None, None, (("x", Choice((1, "b", None))),))),
        ("a[x=select(1, 2.0)]", Spec("a", None, None, (("x", Select((1, 2.0))),))),
        ("a[x=select(1|2,3)]", None),
        ("a[x='p,q',y=\"]\"]", Spec("a", None, None, (("x", "p,q"), ("y", "]")))),
    ],
)
def test_text_parses_to_a_spec(text: str, spec: Spec | None) -> None:
    """Names, distributions, rests and parameters, with blanks around them and in any order."""
    if spec is None:
        with pytest.raises(UsageError):
            parse_spec(text)
    else:
        assert repr(spec) == repr(parse_spec(text))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-1", -1),
        ("+1", 1),
        ("007", 7),
        ("9" * 100, 10**100 - 1),
        ("1.", 1.0),
        ("1.0", 1.0),
        (".5", 0.5),
        ("-1.5e-3", -0.0015),
        ("1e3", 1000.0),
        ("true", True),
        ("False", False),
        ("None", None),
        ("none", None),
        ("'none'", "none"),
        ('"1"', "1"),
        ("''", ""),
        ("yes", "yes"),
        ("a.b/c-d:e@f", "a.b/c-d:e@f"),
        ("1e", "1e"),
        ("1.2.3", "1.2.3"),
        ("'a b'", "a b"),
        ("'say \"a\"'", 'say "a"'),
        ('"it\'s"', "it's"),
        (r'"a\nb"', "a\nb"),
        (r"'a\nb'", "a\nb"),
        (r'"\u00e9"', "é"),
        (r"a\b", r"a\b"),
    ],
)
def test_values_have_types(text: str, value: Value) -> None:
    """Numbers, words and text are told apart as written; quotes make text of anything."""
    parsed = dict(parse_spec(f"a[x={text}]").params)["x"]

    assert repr(value) == repr(parsed)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (1.0, "1.0"),
        (1e-7, "1e-07"),
        (True, "true"),
        (None, "none"),
        ("a", "a"),
        ("a b", '"a b"'),
        ("1", '"1"'),
        ("True", '"True"'),
        ("", '""'),
        ('a"b', '"a\\"b"'),
        ("Größe", "Größe"),
        ("Größe 1", '"Größe 1"'),
        (Choice((1, "a|b", None)), '1|"a|b"|none'),
        (Select((True, "a,b")), 'select(true,"a,b")'),
    ],
)
def test_values_have_one_form(value: Value, text: str) -> None:
    """Text is quoted only where it must be."""
    assert text == format_value(value)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("smote[ m=10, k = 5 ]", "smote[k=5,m=10]"),
        ("a@b:c d [x='y']", "a@b:c d[x=y]"),
        ("a[x=select( 1 , 'b' )|]", None),
        ("a[x=select( 1 , 'b' ),w=TRUE | 1e3]", "a[w=true|1000.0,x=select(1,b)]"),
        ("a[]", "a"),
    ],
)
def test_specs_have_one_form(text: str, canonical: str | None) -> None:
    """Blanks, quotes and the order of parameters do not survive."""
    if canonical is None:
        with pytest.raises(UsageError):
            parse_spec(text)
    else:
        assert canonical == str(parse_spec(text))


def test_replaced_parameters_are_sorted() -> None:
    """A copy with other parameters keeps the name and orders them by key."""
    spec = Spec("a", "b", "c", (("z", 1),))

    assert spec.with_params({"y": 2, "x": 1}) == Spec("a", "b", "c", (("x", 1), ("y", 2)))
    assert spec.params == (("z", 1),)


# What is refused


@pytest.mark.parametrize("text", ["", "  ", "[k=5]", "@b", ":c", ",", "'a'", "|"])
def test_a_spec_needs_a_name(text: str) -> None:
    """Text that does not start with a name is refused with the three ways to write one."""
    with pytest.raises(UsageError) as error:
        parse_spec(text)

    assert f"{text!r} is no component name: write name, name[key=value] or family:rest[key=value]" == message_of(error)


@pytest.mark.parametrize(
    ("text", "tail"),
    [
        ("a b", " b"),
        ("a [x=1]", " [x=1]"),
        ("a[x=1", "[x=1"),
        ("a[x=1]b", "[x=1]b"),
        ("a]", "]"),
        ("a@", "@"),
        ("a@b@c", "@c"),
        ("a:", ":"),
        ("a,b", ",b"),
        ("a|b", "|b"),
        ("a:b]", "]"),
    ],
)
def test_nothing_else_may_follow_a_name(text: str, tail: str) -> None:
    """The error shows what stands where only parameters may stand."""
    with pytest.raises(UsageError) as error:
        parse_spec(text)

    assert f"{text!r}: after the name only [key=value,...] may follow, not {tail!r}" == message_of(error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a[5]", "parameters are written key=value, not '5'"),
        ("a[k=1,b]", "parameters are written key=value, not 'b'"),
        ("a[=5]", "parameters are written key=value, not '=5'"),
        ("a[1k=5]", "parameters are written key=value, not '1k=5'"),
        ("a[k-x=5]", "parameters are written key=value, not 'k-x=5'"),
        ("a['k'=5]", "parameters are written key=value, not \"'k'=5\""),
        ("a[k=1,k=2]", "parameter 'k' is given twice"),
        ("a[k=1,j=2, k =1]", "parameter 'k' is given twice"),
        ("a[k=1,,j=2]", "there is nothing between two ','"),
        ("a[,]", "there is nothing between two ','"),
        ("a[k=1,]", "there is nothing between two ','"),
        ("a[k=1||2]", "there is nothing between two '|'"),
        ("a[k=1|]", "there is nothing between two '|'"),
        ("a[k=select(1,,2)]", "there is nothing between two ','"),
        ("a[k=(1]", "a bracket is not balanced"),
        ("a[k=1)]", "a bracket is not balanced"),
        ("a[k=1][j=2]", "a bracket is not balanced"),
        ("a[k=select(1,2)|select(3,4)]", "a bracket is not balanced"),
        ("a[k='x]", "a quote is not balanced"),
        ('a[k="x\\"]', "a quote is not balanced"),
        ("a[k=select()]", "select() needs at least two values to choose from, not 'select()'"),
        ("a[k=select(1)]", "select() needs at least two values to choose from, not 'select(1)'"),
        ('a[k="\\x"]', '"\\x" is no quoted string'),
        ('a[k="x""y"]', '"x""y" is no quoted string'),
        ("a[k=]", "the value '' must be quoted, or is missing"),
        ("a[k=x y]", "the value 'x y' must be quoted, or is missing"),
        ("a[k=[x]]", "the value '[x]' must be quoted, or is missing"),
        ("a[k=b=c]", "the value 'b=c' must be quoted, or is missing"),
        ("a[k=x'y']", "the value \"x'y'\" must be quoted, or is missing"),
        ("a: [k=1]", "there is nothing after the colon: write family:rest"),
        ("a[k=1e999]", "numbers must be finite and of at most 100 characters, not 1e999"),
        ("a[k=1|-1e999]", "numbers must be finite and of at most 100 characters, not -1e999"),
        ("a[k=1|select(2,3)]", "the value 'select(2,3)' must be quoted, or is missing"),
        ("a[k=select(1|2,3)]", "the value '1|2' must be quoted, or is missing"),
        ("a[k=select(1,select(2,3))]", "the value 'select(2,3)' must be quoted, or is missing"),
    ],
)
def test_bad_parameters_are_refused(text: str, message: str) -> None:
    """Each mistake inside the brackets is named, after the whole text."""
    with pytest.raises(UsageError) as error:
        parse_spec(text)

    assert f"{text!r}: {message}" == message_of(error)


# Lists


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("", []),
        ("   ", []),
        ("a", ["a"]),
        (" a , b ", ["a", "b"]),
        ("a[x=1,y=2],b", ["a[x=1,y=2]", "b"]),
        ("a[x=select(1,2)],b[y=(1,[2,3])]", ["a[x=select(1,2)]", "b[y=(1,[2,3])]"]),
        ("'a,b',\"c,d\"", ["'a,b'", '"c,d"']),
        (r"'a\',b',c", [r"'a\',b'", "c"]),
        (r"'a\\',b", [r"'a\\'", "b"]),
        ('"it\'s",b', ['"it\'s"', "b"]),
        ("'[',b", ["'['", "b"]),
        (r"a\,b", ["a\\", "b"]),
        ("a|b", ["a|b"]),
    ],
)
def test_lists_split_outside_brackets_and_quotes(text: str, items: list[str]) -> None:
    """Separators inside brackets, parentheses and quotes belong to their item."""
    assert items == split_list(text)


@pytest.mark.parametrize("separator", [",", "|"])
@PROPERTY
@given(st.lists(scalars, max_size=5))
def test_written_values_split_again(separator: str, drawn: list[Value]) -> None:
    """Values joined by a separator come apart in the same places."""
    items = [format_value(value) for value in drawn]

    assert items == split_list(separator.join(items), separator=separator)


@PROPERTY
@given(st.lists(specs(extra=",'\"()"), max_size=3))
def test_written_specs_split_again(drawn: list[Spec]) -> None:
    """A list of specs comes apart between them, as long as no name or rest holds a comma, a quote or a parenthesis."""
    assert drawn == [parse_spec(item) for item in split_list(",".join(map(str, drawn)))]


@pytest.mark.parametrize(
    ("text", "whole", "message"),
    [
        ("a,(b", None, "'a,(b': a bracket is not balanced"),
        ("a),b", None, "'a),b': a bracket is not balanced"),
        ("a),(b", None, "'a),(b': a bracket is not balanced"),
        ("a,'b", None, '"a,\'b": a quote is not balanced'),
        ("a,,b", None, "'a,,b': there is nothing between two ','"),
        (",a", None, "',a': there is nothing between two ','"),
        ("a,(b", "x[a,(b]", "'x[a,(b]': a bracket is not balanced"),
        ("a,,b", "x[a,,b]", "'x[a,,b]': there is nothing between two ','"),
    ],
)
def test_lists_that_cannot_be_split_are_refused(text: str, whole: str | None, message: str) -> None:
    """The error shows the list, or the whole text that it was found in."""
    with pytest.raises(UsageError) as error:
        split_list(text, whole)

    assert message == message_of(error)


# Expansion


def test_a_spec_without_choices_expands_to_itself() -> None:
    """A value to be selected is one cell, and stays as it is."""
    spec = parse_spec("a@b:c[k=5,x=select(1,2)]")

    assert [spec] == list(expand(spec))


def test_choices_expand_to_every_combination() -> None:
    """Each choice gives one spec a value, the last parameter changing fastest."""
    expanded = [str(spec) for spec in expand(parse_spec("a:b[y=p|q|r,x=1|2,k=5,z=select(1,2)]"))]

    assert [f"a:b[k=5,x={x},y={y},z=select(1,2)]" for x in (1, 2) for y in "pqr"] == expanded


@PROPERTY
@given(specs())
def test_expansion_equals_nested_loops(spec: Spec) -> None:
    """Names stay, every combination comes once in order, and no choice is left."""
    combinations: list[dict[str, Value]] = [{}]
    for key, value in spec.params:
        options = value.values if isinstance(value, Choice) else [value]
        combinations = [{**chosen, key: option} for chosen, option in itertools.product(combinations, options)]
    expected = [Spec(spec.name, spec.distribution, spec.rest, tuple(chosen.items())) for chosen in combinations]

    assert [repr(one) for one in expected] == [repr(one) for one in expand(spec)]
