"""Strict JSON objects with exactly one meaning.

`json.loads` alone accepts UTF-16, a BOM, duplicate members (the last one wins), NaN, numbers that become infinite, lone
surrogates that no response or log can encode, and any depth. Each of them has been used to bypass a check (RFC 8259
sections 4 and 8.1; RFC 8725 section 3.10).
"""

import json
import math
import re
from itertools import accumulate
from typing import Final, TypeAlias, cast

JsonValue: TypeAlias = "str | int | float | bool | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = dict[str, JsonValue]

MAX_DEPTH: Final = 32
# CPython refuses to convert more digits.
_LONGEST_INTEGER: Final = 4300
# After escaped backslashes are taken out: half of a pair alone.
_LONE_SURROGATE: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
)
_ENTRY_BYTES: Final = 1000
_CONTAINER_BYTES: Final = 150
_VALUE_BYTES: Final = 60
_BYTE_ORDER_MARKS: Final = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
# The steps as signed bytes: +1 for an opening bracket, -1 for a closing one.
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
# A string, which may lack its end, a bracket, or the text between them. Nothing is omitted.
_PARTS: Final = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|[\[{\]}]|[^"\[{\]}]+', re.DOTALL)
_NOT_BRACKETS: Final = bytes(sorted(set(range(256)) - set(b"[]{}")))


class StrictJsonError(ValueError):
    """The bytes are not one strict JSON object. The message never quotes them."""


def parse_object(data: bytes) -> JsonObject:
    """Parse UTF-8 bytes, without a BOM, that contain exactly one JSON object.

    It has at most 32 levels, no duplicate members, only finite numbers and only strings that can be encoded. Anything
    else raises `StrictJsonError`.

    References:
        RFC 8259; I-JSON, RFC 7493 section 2.
    """
    return _expect_object(parse_value(data))


def parse_value(data: bytes) -> JsonValue:
    """Parse UTF-8 bytes that contain exactly one JSON value of any type, as strictly as `parse_object`."""
    value = _decode(data, _STRICT)
    # Only an escape makes a lone surrogate. The decoder has rejected infinities.
    if b"\\u" in data and _LONE_SURROGATE.search(data.replace(b"\\\\", b"__")):
        check_strict(value)
    return value


def parse_object_of_entries(data: bytes) -> JsonObject:
    """Parse an object with lists whose entries are validated one by one later: an invalid entry affects only itself.

    The entries of its lists may be odd, its other members may not. An inner object with duplicate members becomes
    `None`, and an integer of thousands of digits an infinity; call `check_strict` on an entry before it is used.
    """
    value = _expect_object(_decode(data, _BY_ENTRY))
    check_strict({name: None if isinstance(member, list) else member for name, member in value.items()})
    return value


def check_strict(value: JsonValue) -> None:
    """Raise `StrictJsonError` unless every string can be encoded and every number is finite.

    The depth was checked when the value was decoded.
    """
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise StrictJsonError("a number out of range")
    elif isinstance(value, dict):
        for name, member in value.items():
            _check_text(name)
            check_strict(member)
    elif isinstance(value, list):
        for member in value:
            check_strict(member)


def cut_deep_parts(data: bytes) -> bytes:
    """Return a JSON text with `null` in place of what is nested too deeply for `parse_object`.

    For a trusted sender who passes on what strangers wrote: they must not be able to make the rest unreadable. What is
    replaced is not checked.
    """
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return data
    kept: list[bytes] = []
    level = 0
    for part in _PARTS.findall(data):
        if part in {b"[", b"{"}:
            level += 1
            if level == MAX_DEPTH + 1:
                kept.append(b"null")
        if level <= MAX_DEPTH:
            kept.append(part)
        if part in {b"]", b"}"}:
            level -= 1
    return b"".join(kept)


def estimate_weight(data: bytes) -> int:
    """Return about how many bytes the values of a JSON text take in memory; rather too many than too few.

    The text alone says little: `[{},{},...]` takes some thirty times its length.
    """
    containers = data.count(b"{") + data.count(b"[")
    values = containers + data.count(b",") + data.count(b":")
    # One character outside of ASCII makes every character of its text up to four times as wide.
    width = 2 if data.isascii() and b"\\u" not in data else 5
    return _ENTRY_BYTES + width * len(data) + _CONTAINER_BYTES * containers + _VALUE_BYTES * values


def _decode(data: bytes, decoder: json.JSONDecoder) -> JsonValue:
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH:
        _check_depth(data)
    try:
        # `decode` searches for white space with regular expressions.
        text = data.decode("utf-8").strip(" \t\n\r")
        value, end = decoder.raw_decode(text)
    except StrictJsonError:
        raise
    except ValueError as error:
        found = "a byte order mark before it" if data.startswith(_BYTE_ORDER_MARKS) else type(error).__name__
        raise StrictJsonError(f"not strict JSON: {found}") from None
    if end != len(text):
        raise StrictJsonError("not strict JSON: more text after the value")
    return cast("JsonValue", value)


def _expect_object(value: JsonValue) -> JsonObject:
    if not isinstance(value, dict):
        raise StrictJsonError("not a JSON object")
    return value


def _check_depth(data: bytes) -> None:
    """Reject deep nesting before decoding: CPython's decoder recurses in C, and overflows the stack of a thread."""
    # Up to the decoder's first error, backslashes occur in strings only. Without escapes, each quote delimits one.
    texts = data.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"') if b"\\" in data else data.split(b'"')
    steps = b"".join(texts[::2]).translate(_STEPS, _NOT_BRACKETS)
    # These functions run in C: a Python loop over 16 KiB would take a millisecond.
    if max(accumulate(memoryview(steps).cast("b")), default=0) > MAX_DEPTH:
        raise StrictJsonError("nested too deeply")


def _unique_members(pairs: list[tuple[str, JsonValue]]) -> JsonObject:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise StrictJsonError("duplicate member")
    return members


def _unique_members_or_none(pairs: list[tuple[str, JsonValue]]) -> JsonObject | None:
    members = dict(pairs)
    return members if len(members) == len(pairs) else None


def _refuse_constant(_name: str) -> float:
    raise StrictJsonError("NaN or Infinity")


def _parse_finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise StrictJsonError("a number out of range")
    return value


def _parse_integer_or_infinity(text: str) -> float:
    # An infinity is what `check_strict` finds.
    return int(text) if len(text) <= _LONGEST_INTEGER else math.inf


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise StrictJsonError("a lone surrogate") from None


_STRICT: Final = json.JSONDecoder(
    object_pairs_hook=_unique_members, parse_float=_parse_finite, parse_constant=_refuse_constant
)
_BY_ENTRY: Final = json.JSONDecoder(object_pairs_hook=_unique_members_or_none, parse_int=_parse_integer_or_infinity)
