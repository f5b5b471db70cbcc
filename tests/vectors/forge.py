"""Makes the changed tokens, with an issuer, further keys that it publishes, and a stranger's keys."""

import json
from base64 import urlsafe_b64decode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Self, TypeAlias, cast

from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry

from fastapi_logto.strict_json import JsonObject, JsonValue
from fastapi_logto.testing import LocalIssuer, ManualClock
from fastapi_logto.testing.signing import encode_segment

API: Final = "https://api.example.test"
ENDPOINT: Final = "https://tenant.example.test"
ISSUER_URL: Final = "https://tenant.example.test/oidc"
NOW: Final = 1_795_452_000
ABSENT: Final = object()
"""The value of a member that is omitted."""

PrivateKey: TypeAlias = ECKey | RSAKey
SignatureChange: TypeAlias = Callable[[int, int], bytes]
"""Returns the bytes of another signature from the numbers r and s."""


def each(values: Sequence[object]) -> Sequence[object]:
    """Return values of any JSON type, with their common type."""
    return values


def dump(value: object) -> bytes:
    """Return compact JSON. Non-ASCII characters and surrogates are escaped; NaN and Infinity are allowed."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def build_claims_set(**changes: object) -> dict[str, object]:
    """Return the claims of the valid token with changes. `ABSENT` omits a claim."""
    claims: dict[str, object] = {
        "jti": "jKWg6xwbZsJT7THAf",
        "sub": "iuvey8ee7hls",
        "iat": NOW - 100,
        "exp": NOW + 3500,
        "scope": "read:user write:user",
        "client_id": "gs93i6d6zybsiqx8ezimq",
        "iss": ISSUER_URL,
        "aud": API,
    }
    return {name: value for name, value in (claims | changes).items() if value is not ABSENT}


def sign(signing_input: str, *, alg: str, key: PrivateKey) -> str:
    """Return a compact JWS of two encoded segments, with a valid signature."""
    signature = JWSRegistry.algorithms[alg].sign(signing_input.encode("ascii"), key)
    return f"{signing_input}.{encode_segment(signature)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Forge:
    """The keys of one run.

    The key set holds the local issuer's ES384 key, a second ES384 key, an RSA key without `alg` as Logto publishes
    it, one bound to RS256, and a P-256 key. The stranger's keys are published nowhere.
    """

    issuer: LocalIssuer = field(repr=False)
    ec: ECKey = field(repr=False)
    rsa: RSAKey = field(repr=False)
    rsa_bound: RSAKey = field(repr=False)
    p256: ECKey = field(repr=False)
    stranger: ECKey = field(repr=False)
    stranger_rsa: RSAKey = field(repr=False)

    @classmethod
    def create(cls) -> Self:
        """Make new keys."""
        return cls(
            issuer=LocalIssuer(endpoint=ENDPOINT, clock=ManualClock(now=NOW)),
            ec=ECKey.generate_key("P-384"),
            rsa=RSAKey.generate_key(2048),
            rsa_bound=RSAKey.generate_key(2048),
            p256=ECKey.generate_key("P-256"),
            stranger=ECKey.generate_key("P-384"),
            stranger_rsa=RSAKey.generate_key(2048),
        )

    def jwks(self) -> JsonObject:
        """Return the published key set."""
        further = (
            _publish(self.ec, alg="ES384"),
            _publish(self.rsa, alg=None),
            _publish(self.rsa_bound, alg="RS256"),
            _publish(self.p256, alg="ES256"),
        )
        keys: list[JsonValue] = [*(cast("JsonObject", dict(key)) for key in self.issuer.jwks()["keys"]), *further]
        return {"keys": keys}

    def header(self, **changes: object) -> dict[str, object]:
        """Return the header of a valid ES384 token with changes. `ABSENT` omits a member."""
        members: dict[str, object] = {"alg": "ES384", "typ": "at+jwt", "kid": self.ec.thumbprint()}
        return {name: value for name, value in (members | changes).items() if value is not ABSENT}

    def with_header(self, **changes: object) -> str:
        """Return the valid token with another header, signed by the ES384 key."""
        return self.with_raw_header(dump(self.header(**changes)))

    def with_raw_header(self, header: bytes) -> str:
        """Return the valid token with exactly these bytes as header, signed by the ES384 key."""
        return sign(f"{encode_segment(header)}.{encode_segment(dump(build_claims_set()))}", alg="ES384", key=self.ec)

    def with_header_text(self, text: str) -> str:
        """Return the valid token with this JSON text as header. `KID` is replaced by the ES384 key's id."""
        return self.with_raw_header(text.replace("KID", self.ec.thumbprint()).encode("utf-8", "surrogatepass"))

    def with_payload(self, payload: bytes, **header: object) -> str:
        """Return a token with exactly these bytes as payload, signed by the ES384 key."""
        return sign(
            f"{encode_segment(dump(self.header(**header)))}.{encode_segment(payload)}", alg="ES384", key=self.ec
        )

    def with_key(self, key: PrivateKey, *, signed_as: str, **header: object) -> str:
        """Return the valid token signed by another key. The header may name another algorithm."""
        head = encode_segment(dump(self.header(**({"alg": signed_as, "kid": key.thumbprint()} | header))))
        return sign(f"{head}.{encode_segment(dump(build_claims_set()))}", alg=signed_as, key=key)

    def good(self) -> str:
        """Return the unchanged valid token."""
        return self.with_header()

    def good_rsa(self, **header: object) -> str:
        """Return a valid token signed with RS256, whose signature segment ends in unused bits."""
        return self.with_key(self.rsa, signed_as="RS256", **header)

    def with_signature(self, signature: bytes) -> str:
        """Return the valid token with exactly these bytes as signature."""
        return f"{self.good().rpartition('.')[0]}.{encode_segment(signature)}"

    def with_changed_signature(self, change: SignatureChange) -> str:
        """Return the valid token with a changed signature."""
        head, _, signature = self.good().rpartition(".")
        data = urlsafe_b64decode(signature)
        r, s = int.from_bytes(data[:48], "big"), int.from_bytes(data[48:], "big")
        return f"{head}.{encode_segment(change(r, s))}"

    def of_length(self, length: int) -> str:
        """Return a valid token of exactly this many characters."""
        for in_header in range(4):
            header = dump(self.header(filler="x" * in_header))
            base = len(encode_segment(header)) + len("..") + 128
            empty = dump(build_claims_set(filler=""))
            in_payload = (length - base) * 3 // 4 - len(empty)
            token = sign(
                f"{encode_segment(header)}.{encode_segment(dump(build_claims_set(filler='x' * in_payload)))}",
                alg="ES384",
                key=self.ec,
            )
            if len(token) == length:
                return token
        raise ValueError(f"no token of {length} characters")


def _publish(key: ECKey | RSAKey, *, alg: str | None) -> JsonObject:
    public: JsonObject = {name: str(value) for name, value in key.as_dict(private=False).items()}
    names: JsonObject = {"kid": key.thumbprint(), "use": "sig"}
    return public | names | ({} if alg is None else {"alg": alg})
