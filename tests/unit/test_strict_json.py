"""JSON with exactly one meaning."""

import json
import math
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastapi_logto.strict_json import (
    MAX_DEPTH,
    JsonValue,
    StrictJsonError,
    check_strict,
    cut_deep_parts,
    estimate_weight,
    parse_object,
    parse_object_of_entries,
    parse_value,
)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"{}", {}),
        (b' {"a" : [1, -2.5, 1e3, true, false, null, "x"]}\r\n\t', {"a": [1, -2.5, 1000.0, True, False, None, "x"]}),
        (b'{"a":{"a":1},"b":{"a":2}}', {"a": {"a": 1}, "b": {"a": 2}}),
        ('{"\u00e9":"\U0001f600"}'.encode(), {"\u00e9": "\U0001f600"}),
        (b'{"a":"\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        (b'{"":0}', {"": 0}),
        (b'{"a":"\\u0000"}', {"a": "\x00"}),
        (b'{"a":%s}' % (b"9" * 4000), {"a": int("9" * 4000)}),
        (b'{"a":1e308}', {"a": 1e308}),
        (b'{"a":1e-999}', {"a": 0.0}),
        # The same name in another letter case, or in another Unicode normalization, is another name.
        (b'{"a":1,"A":2}', {"a": 1, "A": 2}),
        ('{"\u00e9":1,"e\u0301":2}'.encode(), {"\u00e9": 1, "e\u0301": 2}),
    ],
)
def test_a_strict_object_is_parsed(data: bytes, value: object) -> None:
    assert parse_object(data) == value


BAD: Final = [
    (b"", "not strict JSON: JSONDecodeError"),
    (b" ", "not strict JSON: JSONDecodeError"),
    (b"{", "not strict JSON: JSONDecodeError"),
    (b"{}x", "not strict JSON: more text after the value"),
    (b"{}{}", "not strict JSON: more text after the value"),
    (b"{'a':1}", "not strict JSON: JSONDecodeError"),
    (b'{"a":1,}', "not strict JSON: JSONDecodeError"),
    (b'{"a":01}', "not strict JSON: JSONDecodeError"),
    (b'{"a":+1}', "not strict JSON: JSONDecodeError"),
    (b'{"a":.5}', "not strict JSON: JSONDecodeError"),
    (b'{"a":"\n"}', "not strict JSON: JSONDecodeError"),
    (b'{"a":"\\x41"}', "not strict JSON: JSONDecodeError"),
    (b'{"a":1}\x00', "not strict JSON: more text after the value"),
    (b"\xef\xbb\xbf{}", "not strict JSON: a byte order mark before it"),
    ("{}".encode("utf-16-le"), "not strict JSON: JSONDecodeError"),
    ("{}".encode("utf-16"), "not strict JSON: a byte order mark before it"),
    ("{}".encode("utf-32"), "not strict JSON: a byte order mark before it"),
    (b'{"a":"\xe9"}', "not strict JSON: UnicodeDecodeError"),
    (b'{"a":"\xc0\xa2"}', "not strict JSON: UnicodeDecodeError"),
    (b'{"a":"\xed\xa0\x80"}', "not strict JSON: UnicodeDecodeError"),
    (b'{"a":%s}' % (b"9" * 5000), "not strict JSON: ValueError"),
    (b"[" * 100_000, "nested too deeply"),
    (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
    (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
    (b"[]", "not a JSON object"),
    (b"[{}]", "not a JSON object"),
    (b'"{}"', "not a JSON object"),
    (b"0", "not a JSON object"),
    (b"null", "not a JSON object"),
    (b'{"a":1,"a":1}', "duplicate member"),
    (b'{"a":1,"\\u0061":2}', "duplicate member"),
    (b'{"x":[{"a":1,"b":2,"a":3}]}', "duplicate member"),
    (b'[{"a":1,"a":1}]', "duplicate member"),
    (b'{"a":NaN}', "NaN or Infinity"),
    (b'{"a":Infinity}', "NaN or Infinity"),
    (b'{"a":[-Infinity]}', "NaN or Infinity"),
    (b'{"a":1e400}', "a number out of range"),
    (b'{"a":[{"b":-1e400}]}', "a number out of range"),
    (b'{"a":"\\ud800"}', "a lone surrogate"),
    (b'{"a":["\\udfff"]}', "a lone surrogate"),
    (b'{"a":"\\ude00\\ud83d"}', "a lone surrogate"),
    (b'{"\\ud800":1}', "a lone surrogate"),
    (b'{"a":{"x\\ud800":1}}', "a lone surrogate"),
]


@pytest.mark.parametrize(("data", "message"), BAD, ids=[f"{data[:24]!r}" for data, _ in BAD])
def test_anything_else_is_refused_with_a_message_that_quotes_nothing(data: bytes, message: str) -> None:
    with pytest.raises(StrictJsonError) as caught:
        parse_object(data)

    assert str(caught.value) == message


def test_a_refusal_carries_no_cause_that_a_traceback_would_show() -> None:
    with pytest.raises(StrictJsonError) as caught:
        parse_object(b'{"a":"\xe9"}')

    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def nested(depth: int, *, in_objects: bool) -> bytes:
    """Return an object with this many levels, including itself."""
    if in_objects:
        return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


@pytest.mark.parametrize("in_objects", [True, False], ids=["objects", "lists"])
def test_32_levels_are_accepted_and_33_are_refused(*, in_objects: bool) -> None:
    assert MAX_DEPTH == 32
    assert list(parse_object(nested(32, in_objects=in_objects))) == ["a"]
    with pytest.raises(StrictJsonError, match="nested too deeply"):
        parse_object(nested(33, in_objects=in_objects))


def test_a_text_or_a_number_in_the_deepest_level_is_still_checked() -> None:
    assert parse_object(nested(32, in_objects=True).replace(b"{}", b'{"a":1}')) != {}
    with pytest.raises(StrictJsonError, match="a lone surrogate"):
        parse_object(nested(32, in_objects=True).replace(b"{}", b'{"a":"\\ud800"}'))


@pytest.mark.parametrize("depth", range(2, 33))
def test_escapes_change_nothing_about_the_depth(depth: int) -> None:
    inner = b"[" * (depth - 1) + b"%s" + b"]" * (depth - 1)
    value = parse_object(b'{"a":%s,"b":"\\u00e9\\ud83d\\ude00"}' % (inner % b'"\\u00e9"'))

    check_strict(value)
    assert value["b"] == "\u00e9\U0001f600"
    with pytest.raises(StrictJsonError, match="a lone surrogate"):
        parse_object(b'{"a":%s}' % (inner % b'"\\ud800"'))


MANY: Final = b"[" * 40


@pytest.mark.parametrize(
    "text",
    [MANY, b'\\"' + MANY, b"\\\\" + MANY, b'\\\\\\"' + MANY, MANY + b"\\\\", MANY + b'\\"', b"\\/" + MANY],
)
def test_brackets_in_a_string_add_nothing_to_the_depth(text: bytes) -> None:
    quoted = b'"%s"' % text

    assert parse_value(quoted) == json.loads(quoted)
    assert parse_object(b'{"a":%s,%s:"[","b":[]}' % (quoted, quoted))["a"] == json.loads(quoted)
    with pytest.raises(StrictJsonError, match="nested too deeply"):
        parse_object(b'{"a":%s,"b":%s%s}' % (quoted, MANY, MANY.replace(b"[", b"]")))


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"keys":[{"a":1,"a":2},{"b":{"c":1,"c":1}}],"more":1}', {"keys": [None, {"b": None}], "more": 1}),
        (b'{"keys":["\\ud800"]}', {"keys": ["\ud800"]}),
        (b'{"keys":[1e999]}', {"keys": [math.inf]}),
        (b'{"keys":[%s]}' % (b"9" * 4301), {"keys": [math.inf]}),
        (b'{"keys":[%s]}' % (b"9" * 4300), {"keys": [int("9" * 4300)]}),
    ],
    ids=["duplicate members", "a lone surrogate", "an infinity", "4301 digits", "4300 digits"],
)
def test_an_odd_entry_of_a_list_does_not_affect_the_others(data: bytes, value: object) -> None:
    assert parse_object_of_entries(data) == value


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[]", "not a JSON object"),
        (b'{"a":1,"a":1}', "not a JSON object"),
        (b'{"keys":[],"a":"\\ud800"}', "a lone surrogate"),
        (b'{"keys":[],"a":{"b":["\\ud800"]}}', "a lone surrogate"),
        (b'{"keys":[],"\\ud800":1}', "a lone surrogate"),
        (b'{"keys":[],"a":1e999}', "a number out of range"),
        (b'{"keys":[],"a":%s}' % (b"9" * 4301), "a number out of range"),
        (b'{"keys":[NaN]', "not strict JSON: JSONDecodeError"),
    ],
    ids=lambda found: found[:24] if isinstance(found, bytes) else "",
)
def test_the_other_members_of_an_object_of_entries_must_be_strict(data: bytes, message: str) -> None:
    with pytest.raises(StrictJsonError) as caught:
        parse_object_of_entries(data)

    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("data", "weight"),
    [
        ("{}", 1000 + 2 * 2 + 150 + 60),
        ("[]", 1000 + 2 * 2 + 150 + 60),
        ('{"a":[1,2]}', 1000 + 2 * 11 + 2 * 150 + 4 * 60),
        ('{"a":"\u00e9"}', 1000 + 5 * 10 + 150 + 2 * 60),
        ('{"a":"\\u00e9"}', 1000 + 5 * 14 + 150 + 2 * 60),
    ],
)
def test_the_weight_of_a_text_counts_its_characters_containers_and_values(data: str, weight: int) -> None:
    assert estimate_weight(data.encode()) == weight


def encode(pair: tuple[object, str]) -> bytes:
    value, codec = pair
    return json.dumps(value).encode(codec)


TEXTS: Final = st.text(st.characters(codec="utf-8"), max_size=8)
STRICT_VALUES: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda values: st.lists(values, max_size=4) | st.dictionaries(TEXTS, values, max_size=4),
    max_leaves=12,
)
LOOSE_VALUES: Final = st.recursive(
    st.none() | st.floats() | st.text(max_size=4),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=2), values, max_size=3),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(value=st.dictionaries(TEXTS, STRICT_VALUES, max_size=4), ascii_only=st.booleans())
def test_every_strict_object_is_parsed_as_json_does(*, value: dict[str, JsonValue], ascii_only: bool) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only).encode()

    assert repr(parse_object(data)) == repr(json.loads(data))


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=100),
        st.tuples(
            st.dictionaries(st.text(max_size=2), LOOSE_VALUES, max_size=3) | LOOSE_VALUES,
            st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32-le"]),
        ).map(encode),
        st.text(alphabet='{}[]":,0123456789eE.-+\\u d8tfn', max_size=60).map(str.encode),
    )
)
def test_any_bytes_end_in_what_json_returns_or_in_a_refusal(data: bytes) -> None:
    try:
        value = parse_object(data)
    except StrictJsonError:
        return
    assert repr(value) == repr(json.loads(data))
    assert json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")


def nest(depth: int, inner: bytes) -> bytes:
    return b'{"a":' * depth + inner + b"}" * depth


def test_what_is_nested_too_deeply_can_be_cut_out() -> None:
    data = b'{"before":"[{]}\\"{","deep":%s,"after":[1]}' % nest(100, b'"}]\\\\"')
    kept: object = None
    for _ in range(MAX_DEPTH - 1):
        kept = {"a": kept}

    assert parse_object(cut_deep_parts(data)) == {"before": '[{]}"{', "deep": kept, "after": [1]}


@pytest.mark.parametrize("depth", [MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1])
def test_only_what_is_too_deep_is_cut_out(depth: int) -> None:
    data = nest(depth, b"[]") + b" "
    cut = cut_deep_parts(data)

    assert cut == (data if depth < MAX_DEPTH else nest(MAX_DEPTH, b"null") + b" ")
    assert parse_object(cut) is not None


@settings(max_examples=200, deadline=None)
@given(value=st.dictionaries(TEXTS, STRICT_VALUES, max_size=4), ascii_only=st.booleans())
def test_nothing_is_cut_out_of_a_shallow_object(*, value: dict[str, JsonValue], ascii_only: bool) -> None:
    data = json.dumps({"value": value, "brackets": [[]] * MAX_DEPTH}, ensure_ascii=ascii_only).encode()

    assert cut_deep_parts(data) == data


@pytest.mark.parametrize(
    "data", [b"[" * 100, b"]" * 100 + b"[" * 100, nest(100, b'"'), nest(40, b"1") + b'"', nest(40, b"1") + b"]"]
)
def test_cutting_makes_no_invalid_text_valid(data: bytes) -> None:
    with pytest.raises(StrictJsonError):
        parse_object(cut_deep_parts(data))


@pytest.mark.parametrize("value", [0.5, -1e300, [1.5], {"a": [2.5, None, True, 1]}])
def test_finite_numbers_are_strict(value: JsonValue) -> None:
    check_strict(value)
