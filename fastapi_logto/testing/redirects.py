"""Decide where an application's authorization responses may be sent."""

import re
from collections.abc import Collection
from typing import Final

# One pattern for the whole URI instead of a parser: parsers and browsers disagree about backslashes, user names and
# white space, which lets an attacker redirect a code to another host.
_LOOPBACK_URI: Final = re.compile(
    r"(?P<origin>http://(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?)(?:[/?][!\x24-\x5b\x5d-~]*)?",
)
_EXPLICIT_URI: Final = re.compile(r"(?P<origin>https?://[A-Za-z0-9._\-\[\]:]+)(?:[/?][!\x24-\x5b\x5d-~]*)?")


def check_redirect_uris(redirect_uris: Collection[str], *, what: str = "redirect_uris") -> None:
    """Raise `ValueError` for a redirect URI that is not a plain `http(s)` URI without a fragment."""
    for uri in redirect_uris:
        if _EXPLICIT_URI.fullmatch(uri) is None:
            msg = f"{what}: expected http(s) URIs without fragment, found {uri[:80]!r}"
            raise ValueError(msg)


def accepts_redirect(redirect_uris: Collection[str], uri: str) -> bool:
    """Return whether a response may be sent to this URI: one of the list, or any loopback URI if the list is empty."""
    if redirect_uris:
        return uri in redirect_uris
    return _LOOPBACK_URI.fullmatch(uri) is not None


def accepts_origin(redirect_uris: Collection[str], origin: str) -> bool:
    """Return whether a web page of this origin may call the token endpoint."""
    if redirect_uris:
        matches = (_EXPLICIT_URI.fullmatch(uri) for uri in redirect_uris)
        return any(match is not None and match["origin"] == origin for match in matches)
    match = _LOOPBACK_URI.fullmatch(origin)
    return match is not None and match["origin"] == origin
