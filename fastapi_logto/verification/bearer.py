"""The `Authorization` header: find and parse the bearer token."""

import re
from collections.abc import Sequence
from typing import Final

from pydantic import SecretStr

from fastapi_logto.errors import (
    AuthorizationFormatError,
    AuthorizationHeaderError,
    AuthorizationMissingError,
    AuthorizationTypeError,
    RefusalError,
)

USUAL_START: Final = b"Bearer "
"""The start of nearly every header: the usual spelling of the scheme, and one space."""

_TOKEN68_CHARACTERS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/"
# RFC 9110 section 11.2. `\Z`, because `$` would also match before a line feed at the end.
# Possessive quantifiers, because backtracking would retry a non-matching text from each of its characters.
_TOKEN68: Final = re.compile(r"[A-Za-z0-9\-._~+/]++=*+\Z", re.ASCII)
# The names of all registered schemes match. No token of Logto does: a JWT has dots, and an opaque token is longer.
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9\-]{0,31}\Z", re.ASCII)
_LONGEST_READ: Final = 128 * 1024


def parse_authorization(values: Sequence[bytes]) -> SecretStr:
    """Return the bearer token in the `Authorization` headers of a request, of which there must be exactly one.

    Only the token's characters are checked.

    References:
        RFC 6750 section 2.1; RFC 9110 sections 11.1, 11.4 and 11.6.2.
    """
    outcome = _read_usual(values) or _read_token([value.decode("latin-1") for value in values])
    # What records local variables must find no token in the frame of a refusal.
    del values
    if isinstance(outcome, RefusalError):
        raise outcome
    return outcome


def has_credentials(values: Sequence[bytes]) -> bool:
    """Return whether there is a bearer token, valid or not. An empty header or another scheme counts as none.

    The first word must be the name of a scheme: `Bearer: <token>`, for example, is not a request without a token.
    """
    if len(values) == 1 and values[0].startswith(USUAL_START):
        return True
    texts = [value.decode("latin-1") for value in values]
    outcome = _read_token(texts)
    is_other = isinstance(outcome, AuthorizationTypeError) and _SCHEME.match(texts[0].strip(" \t").partition(" ")[0])
    del values, texts
    return not (is_other or isinstance(outcome, AuthorizationMissingError))


def _read_usual(values: Sequence[bytes]) -> SecretStr | None:
    """Return what `_read_token` returns for the usual form of the header, in a third of the time."""
    if len(values) != 1 or len(values[0]) > _LONGEST_READ or not values[0].startswith(USUAL_START):
        return None
    text = values[0][len(USUAL_START) :]
    body = text.rstrip(b"=")
    return SecretStr(text.decode("ascii")) if body and not body.translate(None, _TOKEN68_CHARACTERS) else None


def _read_token(values: Sequence[str]) -> SecretStr | AuthorizationHeaderError:
    if len(values) > 1:
        # Two layers that each take another of two headers would disagree about who is calling.
        return AuthorizationFormatError(found=f"{len(values)} Authorization headers")
    value = values[0] if values else ""
    value = value.strip(" \t")
    if not value:
        return AuthorizationMissingError()
    scheme, _, rest = value.partition(" ")
    token = rest.lstrip(" ")
    # A token without a scheme is no other scheme: `auth.optional` must not treat its caller as anonymous.
    if scheme.lower() != "bearer" and (token or _SCHEME.match(scheme)):
        return AuthorizationTypeError()
    if not token or " " in token:
        return AuthorizationFormatError(expected="Bearer and a token")
    # A longer token is rejected for its length by the verifier: reading it here would be wasted work.
    if len(token) <= _LONGEST_READ and not _TOKEN68.match(token):
        return AuthorizationFormatError(expected="characters of a token68")
    return SecretStr(token)
