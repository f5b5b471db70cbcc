"""Tokens, and every way to put them into a request head, each with the allowed outcomes."""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from fastapi_logto.testing import BAD_TOKENS, LocalIssuer


class Verdict(IntEnum):
    """Whether the handler of a protected route may run, or must."""

    NEVER = 0
    MAY = 1
    """The token is valid, and the server may reject the request or repair it."""
    MUST = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token, and the access that it grants.

    Attributes:
        text: The token.
        subject: Its subject; empty if it is invalid.
        organization: Its organization.
        is_for_api: Whether its audience is the API; otherwise it is an organization token.
        can_read: Whether it has the scope `read`.
    """

    text: str = field(repr=False)
    subject: str = ""
    organization: str | None = None
    is_for_api: bool = True
    can_read: bool = False

    @property
    def value(self) -> bytes:
        """The token as bytes."""
        return self.text.encode()

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """The parts that no response and no log may repeat."""
        return tuple(part[:40] for part in self.value.split(b".")[1:] if len(part) >= 40) or (self.value[:40],)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPool:
    """The tokens of one run."""

    valid: Sequence[Token]
    members: Sequence[Token]
    invalid: Sequence[Token]

    @classmethod
    def create(cls, issuer: LocalIssuer, organizations: Sequence[str]) -> "TokenPool":
        """Sign the tokens. Each has its own subject, which shows in a response to which request it belongs."""
        valid = [
            Token(
                text=issuer.access_token(subject=f"user-{number}", scopes=["read"] if number % 2 else []),
                subject=f"user-{number}",
                can_read=bool(number % 2),
            )
            for number in range(8)
        ]
        members = [
            Token(
                text=issuer.access_token(subject=f"member-{number}", scopes=["read"], organization_id=name),
                subject=f"member-{number}",
                organization=name,
                can_read=True,
            )
            for number, name in enumerate(organizations)
        ]
        members += [
            Token(
                text=issuer.organization_token(name, subject=f"guest-{number}"),
                subject=f"guest-{number}",
                organization=name,
                is_for_api=False,
            )
            for number, name in enumerate(organizations)
        ]
        invalid = [Token(text=issuer.bad_token(kind)) for kind in BAD_TOKENS if kind != "organization"]
        return cls(valid=(*valid, *(one for one in members if one.is_for_api)), members=members, invalid=invalid)


def has_access(token: Token, route: str, organization: str | None = None) -> bool:
    """Return whether a valid token has access to a route."""
    if route == "organization":
        return token.organization is not None and token.organization == organization
    return token.is_for_api and (token.can_read or route != "scoped")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The credentials of a request.

    Attributes:
        kind: How the credentials were made.
        lines: The header lines, each with its line break.
        verdict: Whether the handler may or must run, if the token has access to the route.
        token: The only token that may be accepted.
        is_anonymous: Whether a route with an optional token may treat the request as one without a token.
        trailer: Lines after a chunked body.
        query: A part of the query.
        others: Further tokens, which no response may repeat.
    """

    kind: str
    lines: bytes = field(default=b"", repr=False)
    verdict: Verdict = Verdict.NEVER
    token: Token | None = None
    is_anonymous: bool = False
    trailer: bytes = field(default=b"", repr=False)
    query: bytes = field(default=b"", repr=False)
    others: tuple[Token, ...] = ()


_Build = Callable[[random.Random, TokenPool, Token], Credentials]
_SCHEMES: Final = (b"Basic", b"Digest", b"Negotiate", b"DPoP", b"Token", b"JWT", b"Bearer2", b"Bear", b"MAC")
_NOT_THE_HEADER: Final = (
    b"X-Authorization", b"Proxy-Authorization", b"Authorization2", b"Authorizatio", b"HTTP_AUTHORIZATION",
    b"Author\xc4\xb1zation", b"\xef\xbc\xa1uthorization", b"WWW-Authenticate", b"X-Forwarded-Authorization", b"Token",
)  # fmt: skip
_ODD_NAMES: Final = (
    b"Authorization :", b"Authorization\t:", b" Authorization:", b"X: y\nAuthorization:", b"X: y\rAuthorization:",
    b"X: y\r\n Authorization:", b"X: y\x00\r\nAuthorization:",
)  # fmt: skip
_INTERESTING: Final = bytes([0, 1, 9, 10, 11, 12, 13, 32, 34, 44, 46, 58, 59, 61, 127, 128, 133, 160, 255])
_BREAK: Final = re.compile(rb"[\r\n\x00]")


def build_credentials(rng: random.Random, pool: TokenPool, token: Token) -> Credentials:
    """Return credentials with a token, or without one."""
    return rng.choice(_KINDS)(rng, pool, token)


def replace_case(rng: random.Random, text: bytes) -> bytes:
    """Return a text with some letters in the other case."""
    return bytes(one ^ 0x20 if chr(one).isalpha() and rng.random() < 0.5 else one for one in text)


def pick_clean(rng: random.Random, _pool: TokenPool, token: Token) -> Credentials:
    """Return exactly one valid header, in a spelling that every server accepts."""
    name = rng.choice([b"Authorization", b"authorization", replace_case(rng, b"authorization")])
    scheme = rng.choice([b"Bearer", b"Bearer", replace_case(rng, b"bearer")])
    before, after = rng.choice([b" ", b"", b"  ", b"\t"]), rng.choice([b"", b"", b" ", b" \t"])
    spaces = b" " * rng.choice([1, 1, 1, 2, 9])
    line = name + b":" + before + scheme + spaces + token.value + after + b"\r\n"
    return Credentials(kind="valid", lines=line, verdict=Verdict.MUST, token=token)


def _send_none(_rng: random.Random, _pool: TokenPool, _token: Token) -> Credentials:
    return Credentials(kind="none", is_anonymous=True)


def _send_empty(rng: random.Random, _pool: TokenPool, _token: Token) -> Credentials:
    return Credentials(
        kind="empty", lines=b"Authorization:" + rng.choice([b"", b" ", b"\t "]) + b"\r\n", is_anonymous=True
    )


def _use_other_scheme(rng: random.Random, _pool: TokenPool, token: Token) -> Credentials:
    line = b"Authorization: " + rng.choice(_SCHEMES) + b" " + token.value + b"\r\n"
    return Credentials(kind="another scheme", lines=line, is_anonymous=True, others=(token,))


def _send_invalid(rng: random.Random, pool: TokenPool, _token: Token) -> Credentials:
    token = rng.choice(pool.invalid)
    return Credentials(kind="invalid", lines=b"Authorization: Bearer " + token.value + b"\r\n", others=(token,))


def _send_several(rng: random.Random, pool: TokenPool, token: Token) -> Credentials:
    other = rng.choice([token, rng.choice(pool.valid), rng.choice(pool.invalid)])
    values = [
        b"Bearer " + token.value,
        rng.choice([b"Bearer " + other.value, b"Basic dXNlcjpwYXNz", b"", b"Bearer", b"bearer " + other.value]),
    ]
    rng.shuffle(values)
    between = rng.choice([b"", b"X-Between: 1\r\n", b"Cookie: a=b\r\n"])
    names = [replace_case(rng, b"authorization") for _ in values]
    lines = between.join(name + b": " + value + b"\r\n" for name, value in zip(names, values, strict=True))
    return Credentials(kind="several headers", lines=lines, others=(token, other))


def _join(rng: random.Random, pool: TokenPool, token: Token) -> Credentials:
    one, other = token.value, rng.choice(pool.valid).value
    value = rng.choice(
        [
            b"Bearer " + one + b", Bearer " + other,
            b"Bearer " + one + b"," + other,
            b"Bearer " + one + b" " + other,
            b"Bearer " + one + b"; a=b",
            b"Bearer " + one + b",",
            b"Bearer ," + one,
            b"Basic dXNlcjpwYXNz, Bearer " + one,
            b'Bearer token="' + one + b'"',
            b'Bearer "' + one + b'"',
            b"Bearer Bearer " + one,
            b"Bearer: " + one,
            b"Bearer=" + one,
            b"Bearer\t" + one,
            b"Bearer\xa0" + one,
            b"Bearer%20" + one,
            one,
        ]
    )
    # A server may treat `Basic ..., Bearer ...` as another scheme, and so does the application.
    is_other = value.startswith(b"Basic")
    return Credentials(
        kind="joined", lines=b"Authorization: " + value + b"\r\n", others=(token,), is_anonymous=is_other
    )


def _misname(rng: random.Random, _pool: TokenPool, token: Token) -> Credentials:
    value = b"Bearer " + token.value + b"\r\n"
    if rng.random() < 0.4:
        start = rng.choice(_ODD_NAMES)
        return Credentials(
            kind="odd header name", lines=start + b" " + value, verdict=Verdict.MAY, token=token, is_anonymous=True
        )
    name = rng.choice(
        [*_NOT_THE_HEADER, b"Authorization\x00", b"\x00Authorization", b"Authorization\x0b", b"Authori zation"]
    )
    return Credentials(kind="another header", lines=name + b": " + value, is_anonymous=True, others=(token,))


def _fold(rng: random.Random, _pool: TokenPool, token: Token) -> Credentials:
    fold, half = rng.choice([b"\r\n ", b"\r\n\t", b"\n ", b"\r\n \r\n "]), len(token.value) // 2
    lines, is_whole = rng.choice(
        [
            (b"Authorization:" + fold + b"Bearer " + token.value, True),
            (b"Authorization: Bearer" + fold + token.value, True),
            (b"Authorization: Bearer " + token.value + fold, True),
            (b"Authorization: Bearer " + token.value[:half] + fold + token.value[half:], False),
            (b"Authorization: Bearer " + token.value + fold + b"x", False),
        ]
    )
    # If a server drops the text after the fold, the last form still has the whole token.
    may_count = is_whole or lines.endswith(b"x")
    return Credentials(
        kind="folded",
        lines=lines + b"\r\n",
        verdict=Verdict.MAY if may_count else Verdict.NEVER,
        token=token if may_count else None,
        is_anonymous=True,
        others=(token,),
    )


def _mutate_value(rng: random.Random, _pool: TokenPool, token: Token) -> Credentials:
    value = mutate(rng, b"Bearer " + token.value)
    verdict = _judge_value(value, token)
    return Credentials(
        kind="mutated value",
        lines=b"Authorization: " + value + b"\r\n",
        verdict=verdict,
        token=token if verdict else None,
        # The first word may have become another scheme, or nothing.
        is_anonymous=_BREAK.search(value) is not None or not value.lower().startswith(b"bearer "),
        others=(token,),
    )


def mutate(rng: random.Random, value: bytes) -> bytes:
    """Return bytes with one to three small changes."""
    for _ in range(rng.choice([1, 1, 2, 3])):
        place = rng.choice([rng.randrange(len(value) + 1), rng.randrange(min(12, len(value) + 1)), len(value)])
        byte = bytes([rng.choice([rng.choice(_INTERESTING), rng.randrange(256)])])
        end = min(len(value), place + rng.choice([0, 1, 1, 3]))
        value = value[:place] + rng.choice([byte, byte, b"", byte * 2, value[place:end] * 2]) + value[end:]
    return value


def _judge_value(value: bytes, token: Token) -> Verdict:
    """Return the verdict on a header value. A server may end it at a line break or NUL, or treat these as a space."""
    pieces = _BREAK.split(value)
    readings = [value, *pieces, b" ".join(pieces), b"".join(pieces)]
    for reading in readings:
        scheme, _, rest = reading.strip(b" \t").partition(b" ")
        if scheme.lower() == b"bearer" and rest.lstrip(b" ") == token.value:
            return Verdict.MAY if len(pieces) > 1 else Verdict.MUST
    return Verdict.NEVER


def _lengthen(rng: random.Random, _pool: TokenPool, token: Token) -> Credentials:
    size = rng.choice([100, 4_000, 8_000, 16_200, 60_000, 65_500, 130_000, 140_000, 420_000])
    padding = rng.choice([b" ", b"\t", b"A"]) * size
    if rng.random() < 0.5:
        line = b"Authorization: Bearer " + padding.replace(b"\t", b" ") + token.value + b"\r\n"
    else:
        line = b"Authorization: Bearer " + token.value + padding + b"\r\n"
    is_same = b"A" not in padding
    return Credentials(
        kind="overlong value",
        lines=line,
        verdict=Verdict.MAY if is_same else Verdict.NEVER,
        token=token if is_same else None,
        others=(token,),
    )


def _misplace(rng: random.Random, pool: TokenPool, token: Token) -> Credentials:
    kind = rng.choice(["query", "cookie", "trailer", "trailer and header"])
    trailer = b"Authorization: Bearer " + token.value + b"\r\n"
    if kind == "query":
        name = rng.choice([b"access_token", b"token", b"Authorization", b"authorization"])
        return Credentials(kind=kind, query=b"&" + name + b"=" + token.value, is_anonymous=True, others=(token,))
    if kind == "cookie":
        line = rng.choice([b"Cookie: Authorization=Bearer ", b"Cookie: access_token="]) + token.value + b"\r\n"
        return Credentials(kind=kind, lines=line, is_anonymous=True, others=(token,))
    if kind == "trailer":
        return Credentials(kind=kind, trailer=trailer, is_anonymous=True, others=(token,))
    own = pick_clean(rng, pool, rng.choice(pool.valid))
    return Credentials(
        kind=kind, lines=own.lines, trailer=trailer, verdict=Verdict.MAY, token=own.token, others=(token,)
    )


_KINDS: Final[Sequence[_Build]] = (
    pick_clean, pick_clean, _send_none, _send_empty, _use_other_scheme, _send_invalid, _send_several, _join, _misname,
    _fold, _mutate_value, _mutate_value, _mutate_value, _lengthen, _misplace,
)  # fmt: skip
