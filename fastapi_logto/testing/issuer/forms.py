"""Parse the parameters of a query or a form strictly."""

import re
from collections.abc import Sequence
from typing import Final, Self
from urllib.parse import parse_qsl

from fastapi_logto.testing.issuer.refusals import RefusedError

_UNREADABLE: Final = "failed to parse the request's parameters"
_MAX_FIELDS: Final = 100
# RFC 8707 allows several resources; the sign-in form has a checkbox for each scope.
_REPEATABLE: Final = frozenset({"resource", "grant"})
_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})|[^\x20-\x7e]")


class Parameters:
    """The parameters of one request, in its order. Only `resource` and `grant` may be repeated."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Store the pairs; refuse a repeated parameter (RFC 6749 section 3.1)."""
        self.pairs: Final = tuple(pairs)
        seen: set[str] = set()
        for name, _ in self.pairs:
            if name in seen and name not in _REPEATABLE:
                description = f"{name[:80]!r} parameter must not be provided twice"
                raise RefusedError("invalid_request", description)
            seen.add(name)

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Parse a query string or a form body.

        Refuses invalid escapes, text that is not UTF-8, more than a hundred parameters, and repeated parameters.
        """
        if _BAD_ESCAPE.search(raw) is not None:
            raise RefusedError("invalid_request", _UNREADABLE)
        text = raw.decode("ascii")
        try:
            pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
        except ValueError as err:
            raise RefusedError("invalid_request", _UNREADABLE) from err
        return cls(pairs)

    def find(self, name: str) -> str | None:
        """Return the value; an empty one counts as omitted (RFC 6749 section 3.1)."""
        return next((value for key, value in self.pairs if key == name and value), None)

    def find_all(self, name: str) -> tuple[str, ...]:
        """Return all distinct values that are not empty, in order."""
        return tuple(dict.fromkeys(value for key, value in self.pairs if key == name and value))

    def require(self, name: str) -> str:
        """Return the value, or refuse the request if it is missing."""
        value = self.find(name)
        if value is None:
            description = f"missing required parameter {name!r}"
            raise RefusedError("invalid_request", description)
        return value
