"""Compact JWS: from a token to the payload with a verified signature.

Everything that is decided before the signature is verified is decided here, from the header and the format of the
token. The payload stays bytes until `signatures.verify_signature` returns it.
"""

import re
from binascii import a2b_base64
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, NewType

from pydantic import SecretStr

from fastapi_logto.errors import (
    AlgorithmError,
    IdTokenError,
    MalformedTokenError,
    OpaqueTokenError,
    RefusalError,
    TokenTooLargeError,
    TokenTypeError,
)
from fastapi_logto.redaction import quote
from fastapi_logto.strict_json import JsonValue, StrictJsonError, parse_object

_PERSONAL_PREFIX: Final = "pat_"
_OPAQUE: Final = re.compile(r"[A-Za-z0-9_-]{20,128}\Z", re.ASCII)
_MAX_KID_LENGTH: Final = 256
_ISSUE_TIMES: Final = re.compile(rb'"iat"[ \t\r\n]*:[ \t\r\n]*([0-9]{1,15})')
# Logto's have about 130 characters. A header is JSON that anybody may send unsigned: reading it must cost little.
_MAX_HEADER_LENGTH: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedJws:
    """A token with a valid format and header. Its signature is unverified: anyone can create one.

    Attributes:
        alg: The algorithm in the header, one of the accepted ones.
        kid: The key ID in the header; `None` without one.
        typ: The `typ` of the header; `None` without one.
        signing_input: The signed bytes, ASCII.
        payload: The decoded payload.
        signature: The decoded signature.
    """

    alg: str
    kid: str | None
    typ: str | None
    signing_input: bytes
    payload: bytes
    signature: bytes

    def __repr__(self) -> str:
        """Show only the header: the rest is the token."""
        return f"UnverifiedJws(alg={self.alg!r}, kid={quote(self.kid)}, typ={quote(self.typ)})"


def check_size(token: SecretStr, *, max_bytes: int) -> None:
    """Raise `TokenTooLargeError` if a token is too long, before anything else reads it."""
    _check_size(len(token), max_bytes=max_bytes)


def _check_size(size: int, *, max_bytes: int) -> None:
    if size > max_bytes:
        raise TokenTooLargeError(expected=f"at most {max_bytes} bytes", found=f"{size} bytes")


def is_opaque(token: SecretStr) -> bool:
    """Return whether a token has the format of Logto's opaque tokens, which excludes a JWS."""
    return _OPAQUE.match(token.get_secret_value()) is not None


def is_personal(token: SecretStr) -> bool:
    """Return whether a token looks like a personal access token of Logto, which is exchanged and never introspected."""
    return token.get_secret_value().startswith(_PERSONAL_PREFIX)


def parse_unverified(token: SecretStr, *, algorithms: Collection[str], token_types: Collection[str]) -> UnverifiedJws:
    """Return the parts of a token after checking its format and header. Size and signature are not checked.

    `token_types` are in lower case and without `application/`; `absent` accepts a header without `typ`.

    References:
        RFC 7515 sections 4.1.11, 5.2 and 7.1; RFC 7797 section 7; RFC 8725 sections 3.1 and 3.11;
        RFC 9068 section 4.
    """
    segments = _split(token)
    if len(segments.header) > _MAX_HEADER_LENGTH:
        raise MalformedTokenError(
            expected=f"a header of at most {_MAX_HEADER_LENGTH} characters", found=f"{len(segments.header)} characters"
        )
    accepted = tuple(algorithms), tuple(token_types)
    # Tokens of one key have the same header. If it is invalid, it is read again, for the error.
    header = _read_valid_header(segments.header, *accepted) or _read_header(segments, *accepted)
    payload, signature = _decode(segments, "payload"), _decode(segments, "signature")
    return UnverifiedJws(
        alg=header.alg,
        kid=header.kid,
        typ=header.typ,
        signing_input=segments.signing_input,
        payload=payload,
        signature=signature,
    )


def check_again(
    unverified: UnverifiedJws, *, max_bytes: int, algorithms: Collection[str], token_types: Collection[str]
) -> None:
    """Check size, algorithm and type of a parsed token once more, by the settings of the tenant that it names."""
    # Without padding, base64 has four characters for three bytes, rounded up.
    size = len(unverified.signing_input) + 1 + (4 * len(unverified.signature) + 2) // 3
    _check_size(size, max_bytes=max_bytes)
    _check_algorithm({"alg": unverified.alg}, algorithms)
    _check_type({} if unverified.typ is None else {"typ": unverified.typ}, token_types)


UnverifiedIssuer = NewType("UnverifiedIssuer", str)
"""The issuer in a payload whose signature is unverified. Use it only to choose among tenants."""


def parse_unverified_issuer(unverified: UnverifiedJws) -> UnverifiedIssuer:
    """Return the unverified issuer of a token; empty if it has none, or one that is not a string."""
    try:
        issuer = parse_object(unverified.payload).get("iss")
    except StrictJsonError as error:
        raise MalformedTokenError(found=f"payload: {error}") from None
    return UnverifiedIssuer(issuer if isinstance(issuer, str) else "")


def find_unverified_issue_time(unverified: UnverifiedJws) -> float | None:
    """Return the latest time that a payload calls `iat`, of which nothing is known to be true.

    It may choose between two refusals, and never admits. The payload is searched and not parsed: anybody may send one,
    and parsing 16 KiB takes a millisecond. Nested members count too, so the time is rather too late than too early.
    """
    times = _ISSUE_TIMES.findall(unverified.payload)
    return max(map(float, times), default=None)


class _Segments:
    """The segments of a token, hidden from error trackers that show local variables."""

    __slots__ = ("header", "payload", "signature", "signing_input")

    def __init__(self, token: bytes) -> None:
        self.signing_input, _, self.signature = token.rpartition(b".")
        self.header, _, self.payload = self.signing_input.partition(b".")


def _split(token: SecretStr) -> _Segments:
    count = token.get_secret_value().count(".") + 1
    if count == 1 and is_opaque(token):
        raise OpaqueTokenError
    if count != 3:
        found = f"{count} segments" if count <= 5 else "more than five segments"
        raise MalformedTokenError(expected="three segments", found=found)
    # A character that is not ASCII is not base64url either.
    return _Segments(token.get_secret_value().encode("utf-8", "replace"))


def _decode(segments: _Segments, name: Literal["header", "payload", "signature"]) -> bytes:
    data = _decode_strictly(getattr(segments, name))
    if not data:
        raise MalformedTokenError(expected=f"a {name} in base64url without padding (RFC 7515 section 2)")
    return data


# `-` and `_` as the decoder knows them. `+`, `/` and `=` become invalid: the decoder would accept them too.
_TO_BASE64: Final = bytes.maketrans(b"-_+/=", b"+/!!!")
# By the length of the last group: the characters whose unused bits are 0, so that one text decodes to the same bytes.
_LAST_CHARACTERS: Final = {
    2: frozenset(b"AQgw"),
    3: frozenset(b"AEIMQUYcgkosw048"),
    0: frozenset(range(128)),
    1: frozenset[int](),
}
_PADDING: Final = (b"", b"", b"==", b"=")


def _decode_strictly(text: bytes) -> bytes:
    """Return the decoded bytes; empty unless the segment is the canonical text for them (RFC 4648 section 3.5)."""
    rest = len(text) % 4
    if not text or text[-1] not in _LAST_CHARACTERS[rest]:
        return b""
    try:
        return a2b_base64(text.translate(_TO_BASE64) + _PADDING[rest], strict_mode=True)
    except ValueError:
        return b""


@dataclass(frozen=True, slots=True)
class _Header:
    """The checked parameters of a token header."""

    alg: str
    kid: str | None
    typ: str | None


@lru_cache(maxsize=64)
def _read_valid_header(text: bytes, algorithms: tuple[str, ...], token_types: tuple[str, ...]) -> _Header | None:
    """Return a valid header, or `None`. It raises nothing, so that no tracker finds the text in its frame."""
    try:
        return _read_header(_Segments(text + b".."), algorithms, token_types)
    except RefusalError:
        return None


def _read_header(segments: _Segments, algorithms: tuple[str, ...], token_types: tuple[str, ...]) -> _Header:
    try:
        header = parse_object(_decode(segments, "header"))
    except StrictJsonError as error:
        raise MalformedTokenError(found=f"header: {error}") from None
    # No extension that a token could mark as critical is supported, and the payload is always base64url.
    for name in ("crit", "b64"):
        if name in header:
            raise MalformedTokenError(claim=name, expected="no such header parameter", found=quote(header[name]))
    alg = _check_algorithm(header, algorithms)
    typ = _check_type(header, token_types)
    return _Header(alg=alg, kid=_check_kid(header), typ=typ)


def _check_kid(header: Mapping[str, JsonValue]) -> str | None:
    if "kid" not in header:
        return None
    kid = header["kid"]
    if not isinstance(kid, str) or not 0 < len(kid) <= _MAX_KID_LENGTH:
        raise MalformedTokenError(claim="kid", expected="a string of 1 to 256 characters", found=quote(kid))
    return kid


def _check_algorithm(header: Mapping[str, JsonValue], algorithms: Collection[str]) -> str:
    alg = header.get("alg")
    if not isinstance(alg, str) or alg not in algorithms:
        raise AlgorithmError(
            f"The token is signed with an algorithm that this API does not accept; it accepts {', '.join(algorithms)}",
            claim="alg",
            expected=" or ".join(algorithms),
            found=quote(alg),
        )
    return alg


def _check_type(header: Mapping[str, JsonValue], token_types: Collection[str]) -> str | None:
    if "typ" not in header:
        if "absent" in token_types:
            return None
        raise IdTokenError(
            "The token header has no typ: this looks like an ID token, which APIs do not accept; send the access token "
            "of the same response",
            claim="typ",
            expected=" or ".join(token_types),
            found="nothing",
        )
    typ = header["typ"]
    # RFC 7515 section 4.1.9: case-insensitive, and "application/" may be omitted.
    name = typ.lower().removeprefix("application/") if isinstance(typ, str) else ""
    # In the list, "absent" means a header without `typ`, not the value "absent".
    if name not in token_types or name == "absent":
        raise TokenTypeError(claim="typ", expected=" or ".join(token_types), found=quote(typ))
    return name
