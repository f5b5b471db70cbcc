"""Texts from outside in messages: quoted and cut, and without secrets."""

from base64 import b64encode
from collections.abc import Collection
from typing import Final
from urllib.parse import SplitResult, quote_plus, unquote_plus, urlsplit

_QUOTED_LENGTH: Final = 80
_LONGEST_URL: Final = 200
_MASKED: Final = "***"
# Shorter pieces of a random secret occur in any text by chance, and are useless to an attacker.
_PIECE_LENGTH: Final = 8
# More than any message quotes, so that a secret is found even if only its beginning would be quoted.
_CHECKED_LENGTH: Final = 512
_MOST_ENCODINGS: Final = 3


def quote(value: object) -> str:
    """Return the `repr` of a value from outside, for a log: ASCII, on one line, cut at 80 characters."""
    text = ascii(value)
    return text if len(text) <= _QUOTED_LENGTH else text[:_QUOTED_LENGTH] + "..."


def quote_setting(value: object) -> str:
    """Return the quoted value of a setting, or its length if it may contain credentials, before an @ or in a query."""
    if not any(sign in ascii(value) for sign in "@?#"):
        return quote(value)
    kind = f"a string of {len(value)} characters" if isinstance(value, str) else "a value"
    return f"{kind}, not shown because it may contain credentials"


def quote_url(url: str) -> str:
    """Return a URL for messages: a URL from a document must not add lines to a log."""
    return url if url.isascii() and url.isprintable() and len(url) <= _LONGEST_URL else quote(url)


def split_url(url: str) -> SplitResult:
    """Return the parts of a URL; all are empty if it is invalid."""
    try:
        parts = urlsplit(url)
        # Raises an error for an invalid port.
        _ = parts.port
    except ValueError:
        return urlsplit("")
    return parts


def show_url(parts: SplitResult) -> str:
    """Return a URL for messages without credentials, query and fragment."""
    return quote_url(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")


def mask(text: str, *, secrets: Collection[str]) -> str:
    """Return a text of the provider, or `***` if it contains a secret that was sent, or eight characters of one.

    A piece is found in any case, percent-encoded or form-encoded up to three times, and with other characters between
    its letters and digits. The whole text is replaced, because the rest of it may contain another piece. Only the
    beginning of the text is checked, more than `quote` shows.
    """
    forms = [text[:_CHECKED_LENGTH]]
    for _ in range(_MOST_ENCODINGS):
        forms.append(unquote_plus(forms[-1]))
    return _MASKED if any(_repeats(form, secret) for form in forms for secret in secrets) else text


def build_basic_secrets(client_id: str, client_secret: str) -> tuple[str, ...]:
    """Return the secrets of a request with HTTP Basic authentication: the secret, and the credentials in base64."""
    pairs = (f"{quote_plus(client_id)}:{quote_plus(client_secret)}", f"{client_id}:{client_secret}")
    return (client_secret, *(b64encode(pair.encode()).decode() for pair in pairs))


def _repeats(text: str, secret: str) -> bool:
    plain, sought = _strip(text), _strip(secret)
    if not sought:
        return secret in text
    length = min(_PIECE_LENGTH, len(sought))
    return any(plain[start : start + length] in sought for start in range(len(plain) - length + 1))


def _strip(text: str) -> str:
    return "".join(filter(str.isalnum, text)).casefold()
