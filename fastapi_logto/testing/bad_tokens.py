"""Tokens that must be rejected, each for exactly one reason."""

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

from fastapi_logto.errors import Reason
from fastapi_logto.testing.minting import TokenMint
from fastapi_logto.testing.signing import JsonValue, SigningKey, encode_segment

BadToken: TypeAlias = Literal[
    "expired",
    "not_yet_valid",
    "issued_ahead",
    "wrong_audience",
    "slash_in_audience",
    "wrong_issuer",
    "forged",
    "tampered",
    "unknown_key",
    "unsigned",
    "hmac_with_public_key",
    "wrong_type",
    "without_type",
    "without_subject",
    "truncated",
    "opaque",
    "id_token",
    "organization",
]
"""A kind of invalid token."""

BAD_TOKENS: Final[Mapping[BadToken, Reason]] = MappingProxyType(
    {
        "expired": "expired",
        "not_yet_valid": "not_yet_valid",
        "issued_ahead": "not_yet_valid",
        "wrong_audience": "audience",
        "slash_in_audience": "audience",
        "wrong_issuer": "issuer",
        "forged": "signature",
        "tampered": "signature",
        "unknown_key": "unknown_key",
        "unsigned": "algorithm",
        "hmac_with_public_key": "algorithm",
        "wrong_type": "type",
        "without_type": "id_token",
        "without_subject": "claims",
        "truncated": "malformed",
        "opaque": "opaque_token",
        "id_token": "id_token",
        "organization": "audience",
    }
)
"""Every kind of invalid token, with the `reason` in the 401 response of `Depends(auth)`.

```python
@pytest.mark.parametrize("kind", BAD_TOKENS)
def test_an_invalid_token_is_rejected(kind, logto_client, logto_issuer):
    response = logto_client.get("/user/info", headers=bearer(logto_issuer.bad_token(kind)))
    assert response.json()["detail"]["reason"] == BAD_TOKENS[kind]
```
"""

_LONG_SECONDS: Final = 3600


def build_bad_token(mint: TokenMint, kind: BadToken, *, valid: str, key: SigningKey) -> str:
    """Return an invalid token, made from a valid one and the key that signed it."""
    head, payload, signature = valid.split(".")
    claims: dict[str, Any] = _decode(payload)
    scope: str | None = claims.get("scope")
    now = int(mint.clock.now())
    build: Mapping[BadToken, Callable[[], str]] = {
        "expired": lambda: mint.sign(claims | {"iat": now - 2 * _LONG_SECONDS, "exp": now - _LONG_SECONDS}),
        "not_yet_valid": lambda: mint.sign(claims | {"nbf": now + _LONG_SECONDS, "exp": now + 2 * _LONG_SECONDS}),
        "issued_ahead": lambda: mint.sign(claims | {"iat": now + _LONG_SECONDS, "exp": now + 2 * _LONG_SECONDS}),
        "wrong_audience": lambda: mint.sign(claims | {"aud": "https://another-api.example.test"}),
        "slash_in_audience": lambda: mint.sign(claims | {"aud": f"{claims['aud']}/"}),
        "wrong_issuer": lambda: mint.sign(claims | {"iss": "https://another-tenant.example.test/oidc"}),
        "forged": lambda: SigningKey.generate(key.algorithm).sign_input(f"{head}.{payload}"),
        "tampered": lambda: f"{head}.{_encode(claims | {'sub': 'somebody-else'})}.{signature}",
        "unknown_key": lambda: _sign_with_stranger(payload, key=key),
        "unsigned": lambda: f"{_encode({'alg': 'none', 'typ': 'at+jwt'})}.{payload}.",
        "hmac_with_public_key": lambda: _sign_by_hmac(payload, key=key),
        "wrong_type": lambda: mint.sign(claims, header={"typ": "logout+jwt"}),
        "without_type": lambda: mint.sign(claims, header={"typ": None}),
        "without_subject": lambda: mint.sign({name: value for name, value in claims.items() if name != "sub"}),
        "truncated": lambda: f"{head}.{payload}",
        "opaque": mint.opaque_token,
        "id_token": mint.id_token,
        "organization": lambda: mint.organization_token("org", scopes=None if scope is None else scope.split()),
    }
    if kind not in build:
        msg = f"expected one of {', '.join(build)}, found {kind[:80]!r}"
        raise ValueError(msg)
    return build[kind]()


def _sign_with_stranger(payload: str, *, key: SigningKey) -> str:
    stranger = SigningKey.generate(key.algorithm)
    return stranger.sign_input(f"{_encode({'alg': key.algorithm, 'typ': 'at+jwt', 'kid': stranger.kid})}.{payload}")


def _sign_by_hmac(payload: str, *, key: SigningKey) -> str:
    """Sign with the public key as an HMAC secret: a library accepts it if the token chooses (RFC 8725 section 2.1)."""
    signing_input = f"{_encode({'alg': 'HS256', 'typ': 'at+jwt', 'kid': key.kid})}.{payload}"
    return f"{signing_input}.{encode_segment(hmac.digest(key.public_pem(), signing_input.encode(), hashlib.sha256))}"


def _encode(members: Mapping[str, JsonValue]) -> str:
    return encode_segment(json.dumps(members, separators=(",", ":")).encode())


def _decode(segment: str) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    return decoded
