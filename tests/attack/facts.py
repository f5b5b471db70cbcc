"""Facts about a mutant for the explanations of differences, read leniently and without code of the package."""

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal, cast

from tests.attack.mutations import Mutant

_LONGEST_INTEGER: Final = 4300
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_NOT_BASE64: Final = re.compile(r"[^A-Za-z0-9_-]")


class JsonText:
    """A header or payload, read as the most lenient peer reads it.

    Attributes:
        encoding: `utf-8`, `other` for UTF-16, UTF-32 and byte order marks, or `invalid`.
        members: The members; empty unless it is an object. The last one of duplicates.
        has_duplicates: Whether any object in it has a member twice.
        has_constants: Whether it has `NaN` or `Infinity`, which are not JSON.
        has_overflow: Whether a number in it is too large for a double.
        has_long_integer: Whether a number has more digits than Python converts.
    """

    def __init__(self, data: bytes) -> None:
        self.encoding: Literal["utf-8", "other", "invalid"] = "utf-8"
        self.members: Mapping[str, Any] = {}
        self.has_duplicates = self.has_constants = self.has_overflow = self.has_long_integer = False
        self._text = self._decode(data)
        try:
            found: object = json.loads(
                self._text,
                object_pairs_hook=self._build_object,
                parse_constant=self._note_constant,
                parse_float=self._note_float,
                parse_int=self._note_integer,
            )
        except (ValueError, RecursionError):
            return
        if isinstance(found, dict):
            self.members = cast("dict[str, Any]", found)

    @property
    def depth(self) -> int:
        """How deep its brackets are nested, including those in strings."""
        depth = deepest = 0
        for character in self._text:
            depth += (character in "[{") - (character in "]}")
            deepest = max(deepest, depth)
        return deepest

    @property
    def has_surrogate(self) -> bool:
        """Whether a string in it has a lone surrogate."""
        return any(_SURROGATE.search(text) for text in _list_texts(self.members))

    def _decode(self, data: bytes) -> str:
        if data.startswith(b"\xef\xbb\xbf") or b"\0" in data:
            self.encoding = "other"
            name = json.detect_encoding(data)
            return data.decode(name, "replace")
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            self.encoding = "invalid"
            return data.decode("utf-8", "replace")

    def _build_object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        self.has_duplicates |= len(members) < len(pairs)
        return members

    def _note_constant(self, text: str) -> float:
        self.has_constants = True
        return float(text)

    def _note_float(self, text: str) -> float:
        value = float(text)
        self.has_overflow |= value in {float("inf"), float("-inf")}
        return value

    def _note_integer(self, text: str) -> int:
        if len(text) > _LONGEST_INTEGER:
            self.has_long_integer = True
            return 0
        return int(text)


def _list_texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, member in cast("Mapping[str, object]", value).items():
            yield name
            yield from _list_texts(member)
    elif isinstance(value, list):
        for entry in cast("list[object]", value):
            yield from _list_texts(entry)


def is_actor(value: object) -> bool:
    """Return whether a value has the shape of an `act` claim, with a subject that is not blank."""
    if not isinstance(value, dict):
        return False
    members = cast("dict[str, object]", value)
    subject = members.get("sub")
    return isinstance(subject, str) and bool(subject.strip()) and ("act" not in members or is_actor(members["act"]))


@dataclass(frozen=True)
class Facts:
    """A mutant with its parsed header and payload."""

    mutant: Mutant

    @cached_property
    def header(self) -> JsonText:
        """The header."""
        return JsonText(self.mutant.header)

    @cached_property
    def payload(self) -> JsonText:
        """The payload."""
        return JsonText(self.mutant.payload)

    @property
    def texts(self) -> tuple[JsonText, JsonText]:
        """Both."""
        return self.header, self.payload

    @property
    def has_signature_in_another_text(self) -> bool:
        """Whether only the signature has another text, and a lenient decoder returns the same bytes."""
        head, _, signature = self.mutant.token.rpartition(".")
        good_head, _, good = self.mutant.original.rpartition(".")
        return head == good_head and signature != good and _decode(signature) == _decode(good)


def _decode(segment: str) -> bytes:
    text = _NOT_BASE64.sub("", segment.replace("+", "-").replace("/", "_"))
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return b""
