"""Hostile key sets, the status of a valid token with each, and tokens that try to exploit them."""

import hmac
import json
import secrets
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc.jwk import ECKey, OKPKey, RSAKey

from fastapi_logto.testing.signing import encode_segment
from tests.attack.provider import Document
from tests.vectors.forge import Forge, build_claims_set, dump, sign

Entries = list[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySetRow:
    """A key set, and the status of a request with a valid token.

    Attributes:
        id: Name of the row.
        build: Returns the document, from the valid key and the forge.
        status: The status with nothing cached.
        reason: The reason of a refusal.
        warm_status: The status if the valid key set is cached and this one is fetched next.
        attack: Tokens that this key set might make valid.
        reference: The source of the rule.
    """

    id: str
    build: Callable[[dict[str, Any], Forge], Document] = field(repr=False)
    status: Literal[200, 401, 503]
    reason: str | None = None
    warm_status: Literal[200, 503] = 200
    attack: Callable[[Forge], Sequence[str]] = field(repr=False, default=lambda _: ())
    reference: str


_SECRET: Final = secrets.token_bytes(48)
_OCT: Final = {"kty": "oct", "k": encode_segment(_SECRET), "alg": "HS384", "kid": "secret"}
_WEAK: Final = rsa.generate_private_key(public_exponent=65_537, key_size=1024)  # noqa: S505 - the attack
_JWK: Final = "RFC 7517 sections 4 and 5"
_STRENGTH: Final = "RFC 8725 section 3.5; RFC 7518 section 3.3"
_POINTS: Final = "RFC 8725 section 3.4; RFC 7518 section 6.2"
_WITHDRAWN: Final = "RFC 7517 section 5: the provider has withdrawn its keys"


def build_weak_key() -> RSAKey:
    """Return the same RSA key of 1024 bits each time."""
    pem = _WEAK.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return RSAKey.import_key(pem)


def _entries(
    name: str,
    build: Callable[[dict[str, Any], Forge], Entries],
    status: Literal[200, 401, 503],
    reference: str = _JWK,
    *,
    reason: str | None = None,
    warm_status: Literal[200, 503] | None = None,
    attack: Callable[[Forge], Sequence[str]] = lambda _: (),
) -> KeySetRow:
    """Return a row of a well-formed list of keys. If none is usable, the provider has withdrawn its keys."""
    return KeySetRow(
        id=name,
        build=lambda good, forge: Document.of({"keys": build(good, forge)}),
        status=status,
        reason=reason or ("provider_unavailable" if status == 503 else None),
        warm_status=warm_status or (503 if status == 503 else 200),
        attack=attack,
        reference=reference,
    )


def _changed(name: str, status: Literal[200, 401, 503], reference: str = _JWK, **changes: Any) -> KeySetRow:
    """Return a row of the valid key alone, with some members changed."""
    return _entries(name, lambda good, _: [good | changes], status, reference)


def _text(
    name: str,
    change: Callable[[str], str],
    status: Literal[200, 503],
    reference: str = _JWK,
    *,
    warm_status: Literal[200, 503] = 200,
) -> KeySetRow:
    """Return a row of the valid document's text with a change."""
    return KeySetRow(
        id=name,
        build=lambda good, _: Document(body=change(json.dumps({"keys": [good]})).encode("utf-8", "surrogatepass")),
        status=status,
        reason="provider_unavailable" if status == 503 else None,
        warm_status=warm_status,
        reference=reference,
    )


def _private(key: ECKey | RSAKey | OKPKey) -> dict[str, Any]:
    return dict(key.as_dict(private=True)) | {"kid": key.thumbprint()}


def _named(key: ECKey | RSAKey | OKPKey, kid: str) -> dict[str, Any]:
    return dict(key.as_dict(private=False)) | {"kid": kid}


def _with_kid(good: Mapping[str, Any], key: ECKey) -> dict[str, Any]:
    return _named(key, str(good["kid"]))


def _attack_with_secret(forge: Forge) -> Sequence[str]:
    return [_sign_with_secret(forge, _SECRET, kid=kid) for kid in (str(forge.ec.thumbprint()), "secret")]


def _sign_with_secret(forge: Forge, secret: bytes, *, kid: str) -> str:
    head = f"{encode_segment(dump(forge.header(alg='HS384', kid=kid)))}.{encode_segment(dump(build_claims_set()))}"
    return f"{head}.{encode_segment(hmac.digest(secret, head.encode(), 'sha384'))}"


def _attack_with_weak_key(forge: Forge) -> Sequence[str]:
    head = f"{encode_segment(dump(forge.header(alg='RS256', kid='weak')))}.{encode_segment(dump(build_claims_set()))}"
    return [sign(head, alg="RS256", key=build_weak_key())]


def _attack_with_stranger(forge: Forge) -> Sequence[str]:
    return [forge.with_key(forge.stranger, signed_as="ES384")]


def _with_exponent(text: str) -> Callable[[dict[str, Any], Forge], Entries]:
    return lambda good, forge: [_named(forge.stranger_rsa, "odd") | {"e": text}, good]


def list_attacks(forge: Forge, row: KeySetRow) -> Sequence[str]:
    """Return tokens that must be refused with every key set, and those of the row."""
    kid = str(forge.ec.thumbprint())
    public = forge.ec.as_dict(private=False)
    return (
        forge.with_key(forge.stranger, signed_as="ES384", kid=kid),
        forge.with_key(forge.stranger_rsa, signed_as="RS256", kid=kid),
        forge.with_key(forge.stranger, signed_as="ES384", jwk=dict(forge.stranger.as_dict(private=False))),
        f"{forge.with_header(alg='none').rpartition('.')[0]}.",
        *(_sign_with_secret(forge, secret, kid=kid) for secret in (dump(public), forge.ec.as_pem(private=False), b"")),
        *row.attack(forge),
    )


_MATERIAL_ROWS: Final = (
    _entries(
        "a private key and the good one",
        lambda good, f: [_private(f.stranger), good],
        200,
        attack=_attack_with_stranger,
    ),
    _entries("a private key alone", lambda _, f: [_private(f.stranger)], 503, attack=_attack_with_stranger),
    _entries("the good key with its private part", lambda good, f: [good | {"d": _private(f.ec)["d"]}], 503),
    _entries(
        "a secret and the good key",
        lambda good, _: [_OCT, good],
        200,
        attack=_attack_with_secret,
    ),
    _entries(
        "a secret under the good key's id",
        lambda good, _: [_OCT | {"kid": good["kid"]}, good],
        200,
        attack=_attack_with_secret,
    ),
    _entries("a secret alone", lambda _, __: [_OCT], 503, attack=_attack_with_secret),
    _entries(
        "a weak RSA key and the good one",
        lambda good, _: [_named(build_weak_key(), "weak"), good],
        200,
        _STRENGTH,
        attack=_attack_with_weak_key,
    ),
    _entries("a weak RSA key alone", lambda _, __: [_named(build_weak_key(), "weak")], 503, _STRENGTH),
    *(
        _entries(f"an RSA exponent {text[:4]!r}", _with_exponent(text), 200, _STRENGTH)
        for text in ("AQ", "Ag", "AA", "", "A" * 342)
    ),
    _entries(
        "RSA moduli of odd lengths",
        lambda good, f: [*(_named(f.stranger_rsa, "odd") | {"n": "A" * size} for size in (0, 1, 342, 20_000)), good],
        200,
        _STRENGTH,
    ),
    _changed("a point off the curve", 503, _POINTS, y="A" * 64),
    _changed("the point at infinity", 503, _POINTS, x="", y=""),
    _changed("coordinates of another size", 503, _POINTS, x="AA", y="AA"),
    _changed("another curve's name", 503, _POINTS, crv="P-256"),
    _changed("an unknown curve", 503, _POINTS, crv="secp256k1"),
    _changed("a curve of another type", 503, _POINTS, crv=["P-384"]),
    _changed("a coordinate of another type", 503, x=1),
    _changed("another key type", 503, kty="RSA"),
    _changed("a key type of another type", 503, kty=["EC"]),
    _changed("a key type in lower case", 503, kty="ec"),
    _changed("use of encryption", 503, use="enc"),
    _changed("use of another type", 503, use=["sig"]),
    _changed("use null", 503, use=None),
    _changed("key_ops without verify", 503, key_ops=["sign"]),
    _changed("key_ops empty", 503, key_ops=[]),
    _changed("key_ops a text", 503, key_ops="verify"),
    _changed("key_ops verify", 200, key_ops=["verify"]),
    _changed("key_ops with duplicates", 503, key_ops=["verify", "verify"]),
    _changed("alg of another curve", 503, alg="ES256"),
    _changed("alg none", 503, alg="none"),
    _changed("alg HMAC", 503, alg="HS384"),
    _changed("alg null", 503, alg=None),
    _changed("alg a list", 503, alg=["ES384"]),
    _changed("kid a number", 503, kid=1),
    _changed("kid empty", 503, kid=""),
    _changed("kid too long", 503, kid="k" * 10_000),
    _changed("certificates of the key", 200, x5c=["AA"], x5u="https://evil.example.test/", x5t="AA"),
    _changed("unknown members", 200, unknown={"a": [1]}),
    _entries("only Ed25519", lambda _, __: [_named(OKPKey.generate_key("Ed25519"), "ed")], 503),
)

_LIST_ROWS: Final = (
    _entries("no keys", lambda _, __: [], 503, _WITHDRAWN),
    _entries("entries that are no objects", lambda good, _: [None, 1, "x", True, [], [[]], {}, good], 200),
    _entries("only entries that are no objects", lambda _, __: [None, 1, "x", [], {}], 503),
    _entries("two keys of one id", lambda good, f: [_with_kid(good, f.p256), good], 200),
    _entries("four keys of one id", lambda good, _: [*_strangers(good, 3), good], 200),
    _entries("five keys of one id", lambda good, _: [*_strangers(good, 4), good], 401, reason="signature"),
    _entries("the hundredth key", lambda good, _: [*({"kty": "x"} for _ in range(99)), good], 200),
    _entries("the hundred and first key", lambda good, _: [*({"kty": "x"} for _ in range(100)), good], 503),
    _entries("ten thousand entries", lambda good, _: [good, *({"kty": "x"} for _ in range(10_000))], 200),
    _entries("ten thousand numbers", lambda good, _: [good, *range(10_000)], 200),
)

_TEXT_ROWS: Final = (
    _text("a lone surrogate in another key", lambda text: text.replace("[", '[{"kty":"EC","kid":"\\ud800"},', 1), 200),
    _text("a lone surrogate as a name in another key", lambda text: text.replace("[", '[{"\\ud800":1},', 1), 200),
    _text("a duplicate member in another key", lambda text: text.replace("[", '[{"kty":"EC","kty":"RSA"},', 1), 200),
    _text(
        "a duplicate member in the good key",
        lambda text: text.replace("[{", '[{"use":"sig",', 1),
        503,
        warm_status=503,
    ),
    _text("keys null", lambda _: '{"keys":null}', 503),
    _text("keys an object", lambda text: text.replace("[", '{"a":').replace("]", "}"), 503),
    _text("keys a text", lambda _: '{"keys":"x"}', 503),
    _text("no member keys", lambda text: text.replace("keys", "KEYS"), 503),
    _text("keys twice", lambda text: f'{{"keys":[],{text[1:]}', 503),
    _text("a key alone", lambda text: text[text.index("[") + 1 : -2], 503),
)


def _strangers(good: Mapping[str, Any], count: int) -> Entries:
    return [_with_kid(good, ECKey.generate_key("P-384")) for _ in range(count)]


KEY_SET_ROWS: Final[Sequence[KeySetRow]] = (*_MATERIAL_ROWS, *_LIST_ROWS, *_TEXT_ROWS)
