"""Seeded mutations of the text, header, payload and signature of valid tokens, with a new signature or not."""

import hmac
import json
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from fastapi_logto.testing.signing import encode_segment
from tests.attack.texts import HEADER_TEXTS, JSON_VALUES, PAYLOAD_TEXTS
from tests.vectors.forge import ABSENT, API, ISSUER_URL, NOW, Forge, PrivateKey, build_claims_set, dump, sign

SEED: Final = 20_260_101

_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_P384_ORDER: Final = int("f" * 48 + "c7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16)
_ORDERS: Final = {"ES256": (32, _P256_ORDER), "ES384": (48, _P384_ORDER)}
_CHARACTERS: Final = "=.+/ \n\t-_Aa0%\x00\xe9\u0661"
_CLAIMS: Final = (
    "iss", "aud", "sub", "exp", "iat", "nbf", "jti", "client_id", "scope", "act", "organization_id", "cnf", "roles",
)  # fmt: skip
_HEADER_MEMBERS: Final = (
    "alg", "kid", "typ", "crit", "b64", "zip", "cty", "jwk", "jku", "x5u", "x5c", "x5t", "enc", "p2c", "iss", "unknown",
)  # fmt: skip
_ALGORITHMS: Final = (
    "none", "None", "NONE", "HS256", "HS384", "HS512", "ES256", "ES384", "ES512", "ES256K", "RS256", "RS384", "RS512",
    "PS256", "PS384", "EdDSA", "Ed25519", "es256", "ES256 ", "ES3840", "RSA-OAEP", "dir", "",
)  # fmt: skip
_TYPES: Final = (
    "at+jwt", "AT+JWT", "application/at+jwt", "Application/AT+JWT", "at+JWT ", "JWT", "jwt", "logout+jwt",
    "application/application/at+jwt", "at+jwt;v=1", "dpop+jwt", "text/at+jwt", "\u0430t+jwt", "at+jwt\x00", "absent",
    "",
)  # fmt: skip
_OFFSETS: Final = (0, 1, 5, 9, 10, 11, 30, 59, 60, 61, 3600, 86_400, 10**9, 10**12, 10**18, 10**30)
_FAR: Final = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A mutated token and the facts about it.

    Attributes:
        kind: The mutation.
        member: The header member, claim or segment that changed.
        header: The bytes of the header.
        payload: The bytes of the payload.
        token: The token.
        original: The valid token whose text was changed; empty if the token has a new signature.
    """

    kind: str
    member: str
    header: bytes = field(repr=False)
    payload: bytes = field(repr=False)
    token: str = field(repr=False)
    original: str = field(repr=False, default="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A published key and its signature algorithm."""

    alg: str
    kid: str
    key: PrivateKey = field(repr=False)

    def build_header(self, **changes: object) -> dict[str, object]:
        """Return the header of a valid token with changes. `ABSENT` omits a member."""
        members: dict[str, object] = {"alg": self.alg, "typ": "at+jwt", "kid": self.kid}
        return {name: value for name, value in (members | changes).items() if value is not ABSENT}

    def mutate(self, kind: str, member: str, *, header: bytes | None = None, payload: bytes | None = None) -> Mutant:
        """Return a mutant with a valid signature."""
        header = dump(self.build_header()) if header is None else header
        payload = dump(build_claims_set()) if payload is None else payload
        token = sign(f"{encode_segment(header)}.{encode_segment(payload)}", alg=self.alg, key=self.key)
        return Mutant(kind=kind, member=member, header=header, payload=payload, token=token)


def list_signers(forge: Forge) -> tuple[Signer, ...]:
    """Return the forge's published keys, one of each kind."""
    return (
        Signer(alg="ES256", kid=str(forge.p256.thumbprint()), key=forge.p256),
        Signer(alg="ES384", kid=str(forge.ec.thumbprint()), key=forge.ec),
        Signer(alg="RS256", kid=str(forge.rsa.thumbprint()), key=forge.rsa),
    )


def _flip(data: bytes, random: Random) -> bytes:
    position = random.randrange(len(data) * 8)
    changed = bytearray(data)
    changed[position // 8] ^= 1 << position % 8
    return bytes(changed)


class _Generator:
    """Makes mutants of each kind from one source of randomness."""

    def __init__(self, forge: Forge, random: Random) -> None:
        self.random = random
        self.signers = list_signers(forge)
        self.goods = {signer.alg: [signer.mutate("good", "") for _ in range(4)] for signer in self.signers}

    def pick_signer(self) -> Signer:
        # Mostly the key that is fastest.
        return self.random.choices(self.signers, weights=(6, 2, 2))[0]

    def pick_good(self) -> tuple[Signer, Mutant]:
        signer = self.pick_signer()
        return signer, self.random.choice(self.goods[signer.alg])

    def pick_value(self) -> object:
        return self.random.choice(JSON_VALUES)

    def keep(self, kind: str, member: str, good: Mutant, token: str) -> Mutant:
        return Mutant(
            kind=kind, member=member, header=good.header, payload=good.payload, token=token, original=good.token
        )

    def flip_unsigned(self) -> Mutant:
        _, good = self.pick_good()
        segments, position = good.token.split("."), self.random.randrange(3)
        segments[position] = encode_segment(_flip(_decode(segments[position]), self.random))
        return self.keep("bit flip", ("header", "payload", "signature")[position], good, ".".join(segments))

    def flip_signed(self) -> Mutant:
        signer = self.pick_signer()
        if self.random.random() < 0.3:
            return signer.mutate("signed bit flip", "header", header=_flip(dump(signer.build_header()), self.random))
        return signer.mutate("signed bit flip", "payload", payload=_flip(dump(build_claims_set()), self.random))

    def change_characters(self) -> Mutant:
        _, good = self.pick_good()
        text = good.token
        for _ in range(self.random.choice((1, 1, 1, 2, 4))):
            position = self.random.randrange(len(text) + 1)
            character = self.random.choice(_CHARACTERS)
            end = position + self.random.choice((0, 1))
            text = f"{text[:position]}{self.random.choice((character, ''))}{text[end:]}"
        return self.keep("characters", "", good, text)

    def truncate(self) -> Mutant:
        _, good = self.pick_good()
        start, end = sorted(self.random.sample(range(len(good.token) + 1), 2))
        return self.keep("truncated", "", good, self.random.choice((good.token[:end], good.token[start:])))

    def encode_otherwise(self) -> Mutant:
        _, good = self.pick_good()
        segments, position = good.token.split("."), self.random.randrange(3)
        segment = segments[position]
        last = _ALPHABET.index(segment[-1])
        segments[position] = self.random.choice(
            (
                segment + "=" * (-len(segment) % 4 or 4),
                segment + "=",
                segment.replace("-", "+").replace("_", "/"),
                segment[:-1] + _ALPHABET[last ^ self.random.choice((1, 2, 3))],
                f"{segment[:8]}{self.random.choice((chr(10), ' ', chr(13)))}{segment[8:]}",
            )
        )
        member = ("header", "payload", "signature")[position]
        return self.keep("encoding", member, good, ".".join(segments))

    def splice(self) -> Mutant:
        _, one = self.pick_good()
        _, other = self.pick_good()
        segments = [self.random.choice((one, other)).token.split(".")[position] for position in range(3)]
        return self.keep("spliced", "", one, ".".join(segments))

    def replace_signature(self) -> Mutant:
        signer, good = self.pick_good()
        head, _, signature = good.token.rpartition(".")
        changed = self.random.choice(self._list_signatures(signer, _decode(signature)))
        return self.keep("signature", signer.alg, good, f"{head}.{encode_segment(changed)}")

    def _list_signatures(self, signer: Signer, good: bytes) -> Sequence[bytes]:
        general = (good[:-1], good + b"\0", b"\0" + good, bytes(len(good)), b"", self.random.randbytes(len(good)))
        if signer.alg not in _ORDERS:
            return (*general, bytes(len(good) - 1) + b"\1", good[::-1])
        size, order = _ORDERS[signer.alg]
        r, s = int.from_bytes(good[:size], "big"), int.from_bytes(good[size:], "big")
        pairs = ((s, r), (r, order - s), (0, 0), (order, order), (r, 0), (1, 1), (order - r, s))
        return (
            *general,
            encode_dss_signature(r, s),
            *(a.to_bytes(size, "big") + b.to_bytes(size, "big") for a, b in pairs),
        )

    def change_segments(self) -> Mutant:
        _, good = self.pick_good()
        header, payload, signature = good.token.split(".")
        flat = {"payload": payload, "protected": header, "signature": signature}
        texts = (
            f"{header}.{payload}.",
            f"{header}..{signature}",
            f".{payload}.{signature}",
            f"{header}.{payload}",
            f"{good.token}.",
            f".{good.token}",
            f"{good.token}.{signature}",
            f"{good.token}..",
            f"{payload}.{header}.{signature}",
            json.dumps(flat),
            json.dumps({"payload": payload, "signatures": [{"protected": header, "signature": signature}]}),
            f"Bearer {good.token}",
            f" {good.token}",
            f"{good.token}\n",
            header,
            "",
        )
        return self.keep("segments", "", good, self.random.choice(texts))

    def change_header(self) -> Mutant:
        signer = self.pick_signer()
        member = self.random.choice(_HEADER_MEMBERS)
        value = self._pick_header_value(signer, member)
        return signer.mutate("header", member, header=dump(signer.build_header(**{member: value})))

    def _pick_header_value(self, signer: Signer, member: str) -> object:
        is_odd = self.random.random() < 0.4
        if is_odd:
            return self.random.choice((ABSENT, None, self.pick_value()))
        own: dict[str, Sequence[object]] = {
            "alg": _ALGORITHMS,
            "typ": _TYPES,
            "kid": (
                *(other.kid for other in self.signers),
                signer.kid[:-1],
                f"{signer.kid} ",
                "../../dev/null",
                "1' or '1",
            ),
            "crit": (["b64"], ["exp"], ["kid"], ["unknown"], ["b64", "b64"], []),
            "b64": (True, False),
            "jwk": ({"kty": "oct", "k": "AAAA"}, {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}),
        }
        return self.random.choice(own.get(member, ("https://evil.example.test/keys", "DEF", ["AA"])))

    def sign_with_secret(self) -> Mutant:
        signer = self.pick_signer()
        secret = self.random.choice(_list_public_encodings(signer.key))
        alg, digest = self.random.choice((("HS256", "sha256"), ("HS384", "sha384"), ("HS512", "sha512")))
        header = dump(signer.build_header(alg=alg))
        return _sign_with_secret(header, secret=secret, digest=digest)

    def change_header_text(self) -> Mutant:
        signer = self.pick_signer()
        name, change = self.random.choice(HEADER_TEXTS)
        return signer.mutate("header text", name, header=change(dump(signer.build_header()).decode("ascii")))

    def change_payload_text(self) -> Mutant:
        signer = self.pick_signer()
        name, change = self.random.choice(PAYLOAD_TEXTS)
        return signer.mutate("payload text", name, payload=change(dump(build_claims_set()).decode("ascii")))

    def change_claim(self) -> Mutant:
        signer = self.pick_signer()
        members = self.random.sample(_CLAIMS, self.random.choice((1, 1, 1, 2, 3)))
        changes = {member: self._pick_claim(member) for member in members}
        return signer.mutate("claim", "+".join(sorted(members)), payload=dump(build_claims_set(**changes)))

    def _pick_claim(self, member: str) -> object:
        own: dict[str, Sequence[object]] = {
            "iss": (
                ISSUER_URL,
                f"{ISSUER_URL}/",
                ISSUER_URL[:-1],
                ISSUER_URL.upper(),
                [ISSUER_URL],
                {"value": ISSUER_URL},
            ),
            "aud": (API, f"{API}/", [API], ["x", API], [API, 1], [[API]], {"value": API}, [API, None], API[:-1], []),
            "scope": ("read", "", " read  write ", ["read"], "read\u00a0write"),
            "act": (
                {"sub": "a"},
                {"sub": ""},
                {},
                {"sub": 1},
                {"sub": "a", "act": {"sub": "b"}},
                {"sub": " "},
                [],
                "a",
            ),
            "cnf": ({"jkt": "x"}, {"x5t#S256": "x"}, {}),
            "sub": ("somebody", "", " ", 1),
            "organization_id": ("acme", ""),
        }
        choice = self.random.random()
        if choice < 0.15:
            return ABSENT
        if choice < 0.25:
            return None
        if choice < 0.6 and member in own:
            return self.random.choice(own[member])
        return self.pick_value()


_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def _decode(segment: str) -> bytes:
    return urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def _list_public_encodings(key: PrivateKey) -> Sequence[bytes]:
    public = {name: value for name, value in key.as_dict(private=False).items() if name != "kid"}
    return (key.as_pem(private=False), key.as_der(private=False), dump(public), b"", str(public.get("x")).encode())


def _sign_with_secret(header: bytes, *, secret: bytes, digest: str) -> Mutant:
    payload = dump(build_claims_set())
    head = f"{encode_segment(header)}.{encode_segment(payload)}"
    signature = hmac.digest(secret, head.encode("ascii"), digest)
    token = f"{head}.{encode_segment(signature)}"
    return Mutant(kind="hmac", member=digest, header=header, payload=payload, token=token)


def _list_times(signer: Signer) -> Iterator[Mutant]:
    """Make each time claim at each distance from now, in each form. Random values rarely hit the limits."""
    for member in ("exp", "iat", "nbf"):
        for offset in sorted({side * offset for offset in _OFFSETS for side in (1, -1)}):
            value = NOW + offset
            forms: list[object] = [value, float(value)]
            if abs(offset) < _FAR:
                forms += [value + 0.5, str(value)]
            for form in forms:
                yield signer.mutate("time", member, payload=dump(build_claims_set(**{member: form})))


_COUNTS: Final[dict[Callable[[_Generator], Mutant], int]] = {
    _Generator.flip_unsigned: 2000,
    _Generator.flip_signed: 5000,
    _Generator.change_characters: 1800,
    _Generator.truncate: 400,
    _Generator.encode_otherwise: 1200,
    _Generator.splice: 400,
    _Generator.replace_signature: 1200,
    _Generator.change_segments: 400,
    _Generator.change_header: 3500,
    _Generator.sign_with_secret: 400,
    _Generator.change_header_text: 700,
    _Generator.change_payload_text: 1000,
    _Generator.change_claim: 5000,
}


def generate(forge: Forge, *, share: float = 1.0) -> Iterator[Mutant]:
    """Make every mutant, or a part of each kind. The valid tokens and all times come first."""
    generator = _Generator(forge, Random(SEED))  # noqa: S311 - repeatable, and no secret
    for signer in generator.signers:
        yield signer.mutate("good", "")
    yield from _list_times(generator.signers[0])
    for make, count in _COUNTS.items():
        for _ in range(max(1, int(count * share))):
            yield make(generator)
