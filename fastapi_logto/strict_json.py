"""JSON objects of the kind that a signature should cover: one meaning, no surprises.

`json.loads` alone takes UTF-16, a BOM, duplicate members (the last wins), NaN, numbers that
become infinite, lone surrogates that no answer or log can encode, and any depth. Each of them
has been a way around somebody's check (RFC 8259 sections 4 and 8.1; RFC 8725 section 3.10).
"""

import json
import math
from typing import Final, TypeAlias

__all__ = ["JsonObject", "JsonValue", "StrictJsonError", "parse_object"]

JsonValue: TypeAlias = "str | int | float | bool | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = dict[str, JsonValue]

MAX_DEPTH: Final = 32


class StrictJsonError(ValueError):
    """The bytes are not one strict JSON object. The message never quotes them."""


def parse_object(data: bytes) -> JsonObject:
    """Parse UTF-8 bytes that hold exactly one JSON object.

    Args:
        data: The bytes; no BOM.

    Returns:
        The object, at most 32 levels deep, every number finite, every text encodable.

    Raises:
        StrictJsonError: Anything else.

    References:
        RFC 8259; I-JSON, RFC 7493 section 2.
    """
    try:
        value: JsonValue = _DECODER.decode(data.decode("utf-8"))
    except StrictJsonError:
        raise
    except (ValueError, RecursionError) as error:
        raise StrictJsonError(f"not strict JSON: {type(error).__name__}") from None
    if not isinstance(value, dict):
        raise StrictJsonError("not a JSON object")
    # Only an escape makes a lone surrogate, and nothing is deeper than it has brackets: few have to be walked through.
    if b"\\u" in data or data.count(b"[") + data.count(b"{") > MAX_DEPTH:
        _check_value(value, depth=1)
    return value


def _unique_members(pairs: list[tuple[str, JsonValue]]) -> JsonObject:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise StrictJsonError("duplicate member")
    return members


def _refuse_constant(_name: str) -> float:
    raise StrictJsonError("NaN or Infinity")


def _parse_finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise StrictJsonError("a number out of range")
    return number


def _check_value(value: JsonValue, *, depth: int) -> None:
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, dict | list):
        if depth > MAX_DEPTH:
            raise StrictJsonError("nested too deeply")
        if isinstance(value, dict):
            for name, member in value.items():
                _check_text(name)
                _check_value(member, depth=depth + 1)
        else:
            for member in value:
                _check_value(member, depth=depth + 1)


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise StrictJsonError("a lone surrogate") from None


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique_members, parse_constant=_refuse_constant, parse_float=_parse_finite
)
