"""Read the texts that a test passes. A member of an enum counts as its text."""

from collections.abc import Collection

__all__ = ["as_text", "join_scopes"]


def as_text(text: str) -> str:
    """Return the text itself, also of `class Scope(str, Enum)`, whose `str()` is the name of the member."""
    return str.__str__(text)


def join_scopes(scopes: Collection[str]) -> str:
    """Return the claim `scope` for a collection of scopes; a single string is an error."""
    if isinstance(scopes, str):
        raise TypeError(f"scopes: expected a collection of scopes, found the string {as_text(scopes)!r}; pass a list")
    names = [as_text(scope) for scope in scopes]
    for name in names:
        if name.split() != [name]:
            raise ValueError(f"scopes: expected one scope per entry, found {name!r}; pass several as separate entries")
    return " ".join(names)
