"""Read the texts that a test passes. A member of an enum counts as its text."""

from collections.abc import Collection, Mapping, Sequence
from typing import cast

from fastapi_logto.strict_json import JsonValue


def as_text(text: str) -> str:
    """Return the text itself, also of `class Scope(str, Enum)`, whose `str()` is the name of the member."""
    return str.__str__(text)


def as_texts(texts: Collection[str], *, what: str) -> tuple[str, ...]:
    """Return the texts of a collection; a single string, which is a collection of characters, is an error."""
    if isinstance(texts, str):
        raise TypeError(
            f"{what}: expected a collection of texts, found the string {as_text(texts)[:80]!r}; pass a list"
        )
    return tuple(as_text(text) for text in texts)


def join_scopes(scopes: Collection[str]) -> str:
    """Return the claim `scope` for a collection of scopes."""
    names = as_texts(scopes, what="scopes")
    for name in names:
        if name.split() != [name]:
            raise ValueError(f"scopes: expected one scope per entry, found {name!r}; pass several as separate entries")
    return " ".join(names)


def as_json(value: object) -> JsonValue:
    """Return a value whose texts are plain, as they come from a token. Other values are not checked."""
    if isinstance(value, str):
        return as_text(value)
    if isinstance(value, Mapping):
        members = cast("Mapping[str, object]", value)
        return {as_text(name): as_json(member) for name, member in members.items()}
    if isinstance(value, list | tuple):
        return [as_json(member) for member in cast("Sequence[object]", value)]
    return cast("JsonValue", value)
