"""The signing keys of a local issuer, generated and published as in Logto."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Self, TypeAlias

from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry

Algorithm: TypeAlias = Literal["ES384", "ES256", "ES512", "RS256"]
JsonValue: TypeAlias = "Mapping[str, JsonValue] | Sequence[JsonValue] | str | int | float | bool | None"

_CURVES: Final[Mapping[str, str]] = {"ES384": "P-384", "ES256": "P-256", "ES512": "P-521"}
_RSA_BITS: Final = 2048


def encode_segment(value: bytes) -> str:
    """Return base64url without padding (RFC 7515 section 2)."""
    return urlsafe_b64encode(value).rstrip(b"=").decode("ascii")


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A private key and its algorithm. The `kid` is the JWK thumbprint (RFC 7638), as in Logto."""

    algorithm: Algorithm
    kid: str
    _key: ECKey | RSAKey = field(repr=False)

    @classmethod
    def generate(cls, algorithm: Algorithm) -> Self:
        """Generate a key: on the curve of the algorithm, or RSA with 2048 bits."""
        curve = _CURVES.get(algorithm)
        key = RSAKey.generate_key(_RSA_BITS) if curve is None else ECKey.generate_key(curve)
        return cls(algorithm=algorithm, kid=key.thumbprint(), _key=key)

    def jwk(self) -> dict[str, str]:
        """Return the public key as Logto publishes it: an RSA key has no `alg` member."""
        public = {name: str(value) for name, value in self._key.as_dict(private=False).items()}
        head = {"kty": public.pop("kty"), "use": "sig", "kid": self.kid}
        return head | ({} if self.algorithm == "RS256" else {"alg": self.algorithm}) | public

    def public_pem(self) -> bytes:
        """Return the public key as PEM, the form that servers pass to their libraries."""
        return self._key.as_pem(private=False)

    def sign(self, header: Mapping[str, JsonValue], payload: bytes) -> str:
        """Return a compact JWS with exactly this header and payload.

        The header is **not** checked and may be wrong, as tests of a verifier need it: the signature always uses the
        algorithm of this key. `joserfc.jws.serialize_compact` rejects unusual headers.
        """
        head = json.dumps(header, separators=(",", ":")).encode("ascii")
        return self.sign_input(f"{encode_segment(head)}.{encode_segment(payload)}")

    def sign_input(self, signing_input: str) -> str:
        """Return a compact JWS for an encoded header and payload."""
        signature = JWSRegistry.algorithms[self.algorithm].sign(signing_input.encode("ascii"), self._key)
        return f"{signing_input}.{encode_segment(signature)}"

    def has_signed(self, token: str) -> bool:
        """Return whether a compact JWS has a valid signature of this key."""
        signing_input, _, text = token.rpartition(".")
        try:
            signature = urlsafe_b64decode(text + "=" * (-len(text) % 4))
            return JWSRegistry.algorithms[self.algorithm].verify(signing_input.encode(), signature, self._key)
        except ValueError:
            return False


class KeyRing:
    """The current key of an issuer, and the previous one if there is one. Both are published."""

    def __init__(self) -> None:
        """Start with a new P-384 key."""
        self._keys: tuple[SigningKey, ...] = (SigningKey.generate("ES384"),)

    @property
    def current(self) -> SigningKey:
        """The key that signs."""
        return self._keys[0]

    @property
    def algorithms(self) -> Collection[Algorithm]:
        """The algorithms of the published keys."""
        return {key.algorithm for key in self._keys}

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """Return the key set, the current key first."""
        return {"keys": [key.jwk() for key in self._keys]}

    def rotate(self, *, algorithm: Algorithm, keep_previous: bool) -> str:
        """Sign with a new key from now on, and return its `kid`."""
        new = SigningKey.generate(algorithm)
        self._keys = (new, self.current) if keep_previous else (new,)
        return new.kid

    def has_signed(self, token: str) -> bool:
        """Return whether a compact JWS has a valid signature of a published key."""
        return any(key.has_signed(token) for key in self._keys)
