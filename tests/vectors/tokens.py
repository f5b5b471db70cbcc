"""Tokens whose text, signature or kind was changed. If they have a header, it is valid."""

import json
from base64 import urlsafe_b64decode
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from fastapi_logto.settings import SettingsArguments
from fastapi_logto.testing import LocalIssuer, ManualClock
from fastapi_logto.testing.signing import encode_segment
from tests.vectors.forge import ENDPOINT, NOW, Forge, SignatureChange, build_claims_set, dump, sign
from tests.vectors.rows import (
    ALGORITHM,
    AUDIENCE,
    EXPIRED,
    ID_TOKEN,
    ISSUER,
    MALFORMED,
    OPAQUE,
    SIGNATURE,
    TOO_LARGE,
    TYPE,
    UNKNOWN_KEY,
    Refusal,
    TokenRow,
)

P384_ORDER: Final = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16
)
"""The order n of the curve P-384 (FIPS 186-4 D.1.2.4)."""

_SHAPE: Final = "RFC 7515 section 7.1"
_SERIALIZATION: Final = "CVE-2022-39227; RFC 7515 section 7.2"
_ENCRYPTED: Final = "CVE-2024-33664; RFC 7516 section 7.1"
_DOTS: Final = "CVE-2025-61920"
_SIZE: Final = "CVE-2025-61920; RFC 8725 section 3.4"
_BASE64: Final = "RFC 7515 section 2; RFC 4648 section 3.5"
_SPACE: Final = "RFC 7515 section 2; RFC 4648 section 3.3"
_ALPHABET: Final = "RFC 4648 section 5"
_NUMBERS: Final = "CVE-2022-21449; RFC 8725 section 3.4"
_ENCODING: Final = "RFC 7518 section 3.4; RFC 8725 section 3.4"
_RSA: Final = "RFC 8017 section 8.2.2"
_SPLICED: Final = "RFC 7515 section 5.2"
_KINDS: Final = "RFC 9068 section 4; RFC 8725 section 3.12"

_URL_SAFE: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_SHORTEST_LIMIT: Final = SettingsArguments(max_token_bytes=1024)
_LONGEST: Final = SettingsArguments(max_token_bytes=131_072)
_WITH_JWT: Final = SettingsArguments(token_types=("at+jwt", "JWT"))


def _row(
    name: str,
    refusal: Refusal | None,
    reference: str,
    change: Callable[[Forge], str],
    *,
    claim: str | None = None,
    settings: SettingsArguments | None = None,
) -> TokenRow:
    return TokenRow(
        id=name,
        refused=refusal,
        claim=claim,
        reference=reference,
        settings=settings or SettingsArguments(),
        change=change,
    )


def _plain(
    name: str, refusal: Refusal, reference: str, text: str, *, settings: SettingsArguments | None = None
) -> TokenRow:
    """Return a row of a text that contains no part of a valid token."""
    return _row(name, refusal, reference, lambda _forge: text, settings=settings)


def _edit(name: str, reference: str, change: Callable[[str], str]) -> TokenRow:
    """Return a row of the valid token's text with a change that makes it malformed."""
    return _row(name, MALFORMED, reference, lambda forge: change(forge.good()))


def _segments(name: str, reference: str, change: Callable[[str, str, str], str]) -> TokenRow:
    """Return a row of the valid token's three segments, combined in a way that makes the token malformed."""
    return _row(name, MALFORMED, reference, lambda forge: change(*_split(forge.good())))


def _insertions(what: str, text: str) -> tuple[TokenRow, ...]:
    """Return rows of the valid token with a text inserted at each kind of place."""
    return (
        _edit(f"{what} at the start", _SPACE, lambda token: text + token),
        _edit(f"{what} at the end", _SPACE, lambda token: token + text),
        _edit(f"{what} in the header", _SPACE, lambda token: token[:4] + text + token[4:]),
        _segments(f"{what} in the payload", _SPACE, lambda h, p, s: f"{h}.{p[:4]}{text}{p[4:]}.{s}"),
        _edit(f"{what} in the signature", _SPACE, lambda token: token[:-4] + text + token[-4:]),
    )


def _flipped(bit: int, *, rsa: bool) -> TokenRow:
    """Return a row of a signature with one bit changed."""
    if rsa:
        return _row(f"RS256: bit {bit} flipped", SIGNATURE, _RSA, lambda forge: _flip(forge.good_rsa(), bit))
    return _row(f"bit {bit} flipped", SIGNATURE, _SPLICED, lambda forge: _flip(forge.good(), bit))


def _numbers(name: str, reference: str, change: SignatureChange) -> TokenRow:
    """Return a row of another ES384 signature."""
    return _row(name, SIGNATURE, reference, lambda forge: forge.with_changed_signature(change))


def _split(token: str) -> tuple[str, str, str]:
    header, payload, signature = token.split(".")
    return header, payload, signature


def _p1363(r: int, s: int) -> bytes:
    return r.to_bytes(48, "big") + s.to_bytes(48, "big")


def _loosen(segment: str) -> str:
    """Set an unused bit of the last character. A lenient decoder decodes the text to the same bytes."""
    return segment[:-1] + _URL_SAFE[_URL_SAFE.index(segment[-1]) ^ 1]


def _loosen_header(forge: Forge) -> str:
    """Sign a header text with an unused bit set, so that only the strict decoder refuses it."""
    pad = next(pad for pad in range(3) if len(encode_segment(dump(forge.header(x="x" * pad)))) % 4)
    header = _loosen(encode_segment(dump(forge.header(x="x" * pad))))
    return sign(f"{header}.{encode_segment(dump(build_claims_set()))}", alg="ES384", key=forge.ec)


def _loosen_payload(forge: Forge) -> str:
    pad = next(pad for pad in range(3) if len(encode_segment(dump(build_claims_set(x="x" * pad)))) % 4)
    payload = _loosen(encode_segment(dump(build_claims_set(x="x" * pad))))
    return sign(f"{encode_segment(dump(forge.header()))}.{payload}", alg="ES384", key=forge.ec)


def _loosen_signature(forge: Forge) -> str:
    head, _, signature = forge.good_rsa().rpartition(".")
    return f"{head}.{_loosen(signature)}"


def _pad_and_sign(forge: Forge) -> str:
    """Sign a padded payload text."""
    pad = next(pad for pad in range(3) if len(encode_segment(dump(build_claims_set(x="x" * pad)))) % 4)
    payload = encode_segment(dump(build_claims_set(x="x" * pad)))
    padded = payload + "=" * (-len(payload) % 4)
    return sign(f"{encode_segment(dump(forge.header()))}.{padded}", alg="ES384", key=forge.ec)


def _with_standard_alphabet(forge: Forge) -> str:
    """Sign a payload text with `/` and `+` in place of `_` and `-`."""
    payload = encode_segment(json.dumps(build_claims_set(x="???>>>~~~"), ensure_ascii=False).encode())
    text = payload.replace("_", "/").replace("-", "+")
    if text == payload:
        raise ValueError("expected a sign that the two alphabets write differently")
    return sign(f"{encode_segment(dump(forge.header()))}.{text}", alg="ES384", key=forge.ec)


def _with_slash_in_signature(forge: Forge) -> str:
    """Encode a signature with the alphabet of plain base64."""
    while True:
        head, _, signature = forge.good().rpartition(".")
        text = signature.replace("_", "/").replace("-", "+")
        if text != signature:
            return f"{head}.{text}"


def _another_token(forge: Forge) -> str:
    return forge.with_payload(dump(build_claims_set(sub="another-user", jti="another")))


def _splice_payload(forge: Forge) -> str:
    header, _, signature = _split(forge.good())
    return f"{header}.{_split(_another_token(forge))[1]}.{signature}"


def _splice_header(forge: Forge) -> str:
    _, payload, signature = _split(forge.good())
    return f"{encode_segment(dump(forge.header(unknown=1)))}.{payload}.{signature}"


def _splice_signature(forge: Forge) -> str:
    header, payload, _ = _split(forge.good())
    return f"{header}.{payload}.{_split(_another_token(forge))[2]}"


def _flip(token: str, bit: int) -> str:
    head, _, signature = token.rpartition(".")
    data = bytearray(urlsafe_b64decode(signature + "=" * (-len(signature) % 4)))
    data[bit // 8] ^= 1 << bit % 8
    return f"{head}.{encode_segment(bytes(data))}"


def _rsa_signature(name: str, change: Callable[[bytes], bytes]) -> TokenRow:
    def make(forge: Forge) -> str:
        head, _, signature = forge.good_rsa().rpartition(".")
        return f"{head}.{encode_segment(change(urlsafe_b64decode(signature + '==')))}"

    return _row(name, SIGNATURE, _RSA, make)


def _rsa_plus_modulus(forge: Forge) -> str:
    """Return a signature that is the valid one modulo n, if the sum still fits."""
    modulus = int.from_bytes(urlsafe_b64decode(str(forge.rsa.as_dict(private=False)["n"]) + "=="), "big")
    head, _, signature = forge.good_rsa().rpartition(".")
    number = int.from_bytes(urlsafe_b64decode(signature + "=="), "big") + modulus
    return f"{head}.{encode_segment(number.to_bytes(257, 'big').lstrip(bytes(1)))}"


def _flattened(forge: Forge) -> str:
    header, payload, signature = _split(forge.good())
    return json.dumps({"protected": header, "payload": payload, "signature": signature})


def _general(forge: Forge) -> str:
    header, payload, signature = _split(forge.good())
    return json.dumps({"payload": payload, "signatures": [{"protected": header, "signature": signature}]})


def _both_serializations(forge: Forge) -> str:
    """Return a text that is JSON, and that a lenient parser also splits into three segments."""
    header, payload, signature = _split(forge.good())
    forged = encode_segment(dump(build_claims_set(sub="admin")))
    return json.dumps({f"  {header}.{forged}.": "", "protected": header, "payload": payload, "signature": signature})


def _encrypted(forge: Forge) -> str:
    header = encode_segment(dump({"alg": "dir", "enc": "A128GCM", "zip": "DEF", "kid": forge.ec.thumbprint()}))
    return f"{header}..AAAAAAAAAAAAAAAA.AAAA.AAAAAAAAAAAAAAAAAAAAAA"


def _another_tenant(_forge: Forge) -> str:
    return LocalIssuer(endpoint="https://other.example.test", clock=ManualClock(now=NOW)).access_token()


def _same_issuer_name(_forge: Forge) -> str:
    return LocalIssuer(endpoint=ENDPOINT, clock=ManualClock(now=NOW)).access_token()


def _logout_token(forge: Forge) -> str:
    claims: dict[str, object] = {
        "iss": forge.issuer.issuer,
        "aud": "https://api.example.test",
        "iat": NOW,
        "exp": NOW + 120,
        "jti": "logout-1",
        "sub": "iuvey8ee7hls",
        "client_id": "gs93i6d6zybsiqx8ezimq",
        "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
    }
    return forge.with_payload(dump(claims), typ="logout+jwt")


_SHAPE_ROWS: Final = (
    _plain("empty", MALFORMED, _SHAPE, ""),
    _plain("one dot", MALFORMED, _SHAPE, "."),
    _plain("two dots", MALFORMED, _SHAPE, ".."),
    _plain("three dots", MALFORMED, _SHAPE, "..."),
    _plain("a word", MALFORMED, _SHAPE, "null"),
    _plain("undefined, as JavaScript writes it", MALFORMED, _SHAPE, "undefined"),
    _plain("opaque of 19 signs", MALFORMED, _SHAPE, "a" * 19),
    _plain("opaque of 20 signs", OPAQUE, _SHAPE, "a" * 20),
    _plain("opaque of 43 signs", OPAQUE, _SHAPE, "wHyoB5QsX9-_4KcLGmlp3DzYeQ0bnR2dT6VfiUM1jhA"),
    _plain("opaque of 128 signs", OPAQUE, _SHAPE, "a" * 128),
    _plain("opaque of 129 signs", MALFORMED, _SHAPE, "a" * 129),
    _plain("opaque and a line feed", MALFORMED, _SHAPE, "a" * 43 + "\n"),
    _plain("opaque with another sign", MALFORMED, _SHAPE, "a" * 42 + "~"),
    _segments("two segments", _SHAPE, lambda header, payload, _signature: f"{header}.{payload}"),
    _segments("a fourth segment", _SHAPE, lambda header, payload, signature: f"{header}.{payload}.{signature}.x"),
    _segments("a fourth, empty segment", _SHAPE, lambda header, payload, signature: f"{header}.{payload}.{signature}."),
    _segments("a first, empty segment", _SHAPE, lambda header, payload, signature: f".{header}.{payload}.{signature}"),
    _segments("no header", _SHAPE, lambda _header, payload, signature: f".{payload}.{signature}"),
    _segments(
        "a detached payload", "RFC 7515 appendix F", lambda header, _payload, signature: f"{header}..{signature}"
    ),
    _segments("no signature", _SHAPE, lambda header, payload, _signature: f"{header}.{payload}."),
    _edit("the token twice", _SHAPE, lambda token: f"{token}.{token}"),
    _edit("the token twice with a comma", _SHAPE, lambda token: f"{token},{token}"),
    _row("encrypted, of five segments", MALFORMED, _ENCRYPTED, _encrypted),
    _row(
        "encrypted, cut to three segments",
        ALGORITHM,
        _ENCRYPTED,
        lambda forge: ".".join(_encrypted(forge).split(".")[:3]),
        claim="alg",
    ),
    _plain("six segments", MALFORMED, _DOTS, "e30." * 5 + "e30"),
    _plain("16,384 dots", MALFORMED, _DOTS, "." * 16_384),
    _plain("16,385 dots", TOO_LARGE, _DOTS, "." * 16_385),
    _plain("131,072 dots where that is short enough", MALFORMED, _DOTS, "." * 131_072, settings=_LONGEST),
    _edit("a thousand dots behind", _DOTS, lambda token: token + "." * 1000),
    _row("JSON, flattened", MALFORMED, _SERIALIZATION, _flattened),
    _row("JSON, general", MALFORMED, _SERIALIZATION, _general),
    _row("JSON and compact at once", MALFORMED, _SERIALIZATION, _both_serializations),
    _row("just as long as allowed", None, _SIZE, lambda forge: forge.of_length(16_384)),
    _row("one sign too long", TOO_LARGE, _SIZE, lambda forge: forge.of_length(16_385)),
    _row("just as long as a lower limit", None, _SIZE, lambda f: f.of_length(1024), settings=_SHORTEST_LIMIT),
    _row("one sign over a lower limit", TOO_LARGE, _SIZE, lambda f: f.of_length(1025), settings=_SHORTEST_LIMIT),
    _row("just as long as the highest limit", None, _SIZE, lambda f: f.of_length(131_072), settings=_LONGEST),
    _row("one sign over the highest limit", TOO_LARGE, _SIZE, lambda f: f.of_length(131_073), settings=_LONGEST),
    _plain("an opaque megabyte", TOO_LARGE, _SIZE, "a" * 2**20),
)

_ENCODING_ROWS: Final = (
    _segments("padding behind the header", _BASE64, lambda h, p, s: f"{h}=.{p}.{s}"),
    _segments("padding behind the payload", _BASE64, lambda h, p, s: f"{h}.{p}=.{s}"),
    _segments("padding behind the signature", _BASE64, lambda h, p, s: f"{h}.{p}.{s}="),
    _segments("four signs of padding", _BASE64, lambda h, p, s: f"{h}.{p}.{s}===="),
    _row("padding of an RS256 signature", MALFORMED, _BASE64, lambda forge: f"{forge.good_rsa()}=="),
    _row("padding that was signed too", MALFORMED, _BASE64, _pad_and_sign),
    _row("a loose bit in the signed header", MALFORMED, _BASE64, _loosen_header),
    _row("a loose bit in the signed payload", MALFORMED, _BASE64, _loosen_payload),
    _row("a loose bit in the signature", MALFORMED, _BASE64, _loosen_signature),
    _segments("one sign too many in the signature", _BASE64, lambda h, p, s: f"{h}.{p}.{s}A"),
    _segments("a payload of one sign", _BASE64, lambda h, _p, s: f"{h}.e.{s}"),
    _row("the signed payload in plain base64", MALFORMED, _ALPHABET, _with_standard_alphabet),
    _row("the signature in plain base64", MALFORMED, _ALPHABET, _with_slash_in_signature),
    *(
        row
        for what, sign_ in (
            ("space", " "),
            ("line feed", "\n"),
            ("carriage return and line feed", "\r\n"),
            ("tab", "\t"),
            ("form feed", "\f"),
            ("NUL", "\x00"),
            ("non-breaking space", "\xa0"),
            ("zero-width space", "\u200b"),
            ("BOM", "\ufeff"),
            ("lone surrogate", "\ud800"),
            ("surrogate of a raw byte", "\udcff"),
            ("full-width A", "\uff21"),
            ("exclamation mark", "!"),
            ("percent escape", "%2E"),
        )
        for row in _insertions(what, sign_)
    ),
    _edit("a full-width dot", _SPACE, lambda token: token.replace(".", "\uff0e")),
    _edit("quoted", _SPACE, lambda token: f'"{token}"'),
    _edit("with the scheme", _SPACE, lambda token: f"Bearer {token}"),
)

_SIGNATURE_ROWS: Final = (
    _row(
        "the twin (r, n - s) holds too: another text, so another cache entry, but the same claims",
        None,
        _NUMBERS,
        lambda forge: forge.with_changed_signature(lambda r, s: _p1363(r, P384_ORDER - s)),
    ),
    _numbers("r = 0 and s = 0", _NUMBERS, lambda _r, _s: bytes(96)),
    _numbers("r = 0", _NUMBERS, lambda _r, s: _p1363(0, s)),
    _numbers("s = 0", _NUMBERS, lambda r, _s: _p1363(r, 0)),
    _numbers("r = 1 and s = 1", _NUMBERS, lambda _r, _s: _p1363(1, 1)),
    _numbers("r = n", _NUMBERS, lambda _r, s: _p1363(P384_ORDER, s)),
    _numbers("s = n", _NUMBERS, lambda r, _s: _p1363(r, P384_ORDER)),
    _numbers("r = n and s = n", _NUMBERS, lambda _r, _s: _p1363(P384_ORDER, P384_ORDER)),
    _numbers("r = 0 and s = n", _NUMBERS, lambda _r, _s: _p1363(0, P384_ORDER)),
    _numbers("n - r", _NUMBERS, lambda r, s: _p1363(P384_ORDER - r, s)),
    _numbers("s + 1", _NUMBERS, lambda r, s: _p1363(r, s + 1)),
    _numbers("r and s swapped", _ENCODING, lambda r, s: _p1363(s, r)),
    _numbers("all bits set", _NUMBERS, lambda _r, _s: b"\xff" * 96),
    _numbers("DER", _ENCODING, encode_dss_signature),
    _numbers("one byte cut off", _ENCODING, lambda r, s: _p1363(r, s)[:-1]),
    _numbers("the first byte cut off", _ENCODING, lambda r, s: _p1363(r, s)[1:]),
    _numbers("half", _ENCODING, lambda r, s: _p1363(r, s)[:48]),
    _numbers("one byte", _ENCODING, lambda _r, _s: b"\x00"),
    _numbers("of the length for ES256", _ENCODING, lambda r, s: _p1363(r, s)[:64]),
    _numbers("one zero behind", _ENCODING, lambda r, s: _p1363(r, s) + b"\x00"),
    _numbers("one zero before", _ENCODING, lambda r, s: b"\x00" + _p1363(r, s)),
    _numbers("both numbers with a leading zero", _ENCODING, lambda r, s: r.to_bytes(49, "big") + s.to_bytes(49, "big")),
    _numbers("twice", _ENCODING, lambda r, s: _p1363(r, s) * 2),
    _numbers("ten kilobytes", _ENCODING, lambda _r, _s: b"\x01" * 10_000),
    *(_flipped(bit, rsa=False) for bit in (0, 7, 383, 384, 767)),
    *(_flipped(bit, rsa=True) for bit in (0, 1024, 2047)),
    _rsa_signature("RS256: one byte cut off", lambda signature: signature[:-1]),
    _rsa_signature("RS256: one zero before", lambda signature: b"\x00" + signature),
    _rsa_signature("RS256: one zero behind", lambda signature: signature + b"\x00"),
    _rsa_signature("RS256: zero", lambda signature: bytes(len(signature))),
    _rsa_signature("RS256: one", lambda signature: bytes(len(signature) - 1) + b"\x01"),
    _rsa_signature("RS256: all bits set", lambda signature: b"\xff" * len(signature)),
    _row("RS256: the modulus added", SIGNATURE, _RSA, _rsa_plus_modulus),
    _row("another token's signature", SIGNATURE, _SPLICED, _splice_signature),
    _row("another token's payload", SIGNATURE, _SPLICED, _splice_payload),
    _row("another header", SIGNATURE, _SPLICED, _splice_header),
)

_KIND_ROWS: Final = (
    _row("the issuer's access token", None, _KINDS, lambda forge: forge.issuer.access_token()),
    _row("the issuer's machine token", None, _KINDS, lambda forge: forge.issuer.machine_token()),
    _row("ID token", ID_TOKEN, _KINDS, lambda forge: forge.issuer.id_token(), claim="typ"),
    _row(
        "ID token where JWT is accepted",
        ID_TOKEN,
        _KINDS,
        lambda forge: forge.issuer.id_token(),
        claim="typ",
        settings=_WITH_JWT,
    ),
    _row("opaque token", OPAQUE, _KINDS, lambda forge: forge.issuer.opaque_token()),
    _row("logout token", TYPE, "OpenID Connect Back-Channel Logout 1.0 section 2.4", _logout_token, claim="typ"),
    _row("expired token", EXPIRED, _KINDS, lambda f: f.issuer.access_token(lifetime_seconds=-10), claim="exp"),
    _row("forged token", SIGNATURE, _KINDS, lambda forge: forge.issuer.bad_token("forged")),
    _row("another tenant's token", UNKNOWN_KEY, "RFC 8725 section 3.8", _another_tenant, claim="kid"),
    _row(
        "a token of our issuer's name by another key",
        UNKNOWN_KEY,
        "RFC 8725 section 3.8",
        _same_issuer_name,
        claim="kid",
    ),
    _row(
        "our tenant's token from its other domain",
        ISSUER,
        "RFC 8725 section 3.8",
        lambda f: f.issuer.access_token(claims={"iss": "https://other.example.test/oidc"}),
        claim="iss",
    ),
    _row(
        "a token for the Management API",
        AUDIENCE,
        "RFC 8725 section 3.9",
        lambda f: f.issuer.machine_token(audience="https://default.logto.app/api", scopes=["all"]),
        claim="aud",
    ),
    _row(
        "an organization token",
        AUDIENCE,
        "RFC 8725 section 3.9",
        lambda f: f.issuer.access_token(audience="urn:logto:organization:aaajcxbl1cz3"),
        claim="aud",
    ),
)

TOKEN_ROWS: Final = (
    TokenRow(id="good", refused=None, reference="RFC 7515 section 7.1", change=Forge.good),
    *_SHAPE_ROWS,
    *_ENCODING_ROWS,
    *_SIGNATURE_ROWS,
    *_KIND_ROWS,
)
