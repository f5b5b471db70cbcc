"""A signature is verified with each key that matches the token's header."""

from dataclasses import dataclass, replace
from typing import cast

import pytest
from pydantic import SecretStr

from fastapi_logto.errors import SignatureError
from fastapi_logto.provider.aws_lc import AwsLcKey
from fastapi_logto.provider.key_set import PublicKey, parse_key_set
from fastapi_logto.strict_json import JsonObject
from fastapi_logto.testing import LocalIssuer
from fastapi_logto.testing.signing import Algorithm
from fastapi_logto.verification.jws import UnverifiedJws, parse_unverified
from fastapi_logto.verification.signatures import verify_with_any
from tests.captured import ADMIN_TENANT_JWKS, JWKS, ROTATION, TOKENS

ALGORITHMS = ("ES256", "ES384", "RS256")
PAYLOAD = b'{"any":"payload"}'


def read(token: str) -> UnverifiedJws:
    return parse_unverified(SecretStr(token), algorithms=ALGORITHMS, token_types=("at+jwt",))


def keys_of(jwks: object) -> tuple[PublicKey, ...]:
    return parse_key_set(cast("JsonObject", jwks), algorithms=ALGORITHMS).keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A signed token, its key, and strangers' keys of the same type."""

    unverified: UnverifiedJws
    key: PublicKey
    strangers: tuple[PublicKey, ...]


def build_signer(algorithm: Algorithm, *, payload: bytes = PAYLOAD) -> Signer:
    issuer = LocalIssuer()
    strangers: list[PublicKey] = []
    for _ in range(3):
        issuer.rotate(algorithm=algorithm, keep_previous=False)
        strangers += keys_of(issuer.jwks())
    return Signer(unverified=read(issuer.sign(payload)), key=strangers.pop(), strangers=tuple(strangers))


@pytest.fixture(scope="module", params=["ES256", "ES384", "RS256"])
def signer(request: pytest.FixtureRequest) -> Signer:
    return build_signer(request.param)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_the_right_key_among_several_verifies_the_payload(position: int, signer: Signer) -> None:
    keys = [*signer.strangers]
    keys.insert(position, signer.key)

    payload, key = verify_with_any(signer.unverified, keys)

    assert payload == PAYLOAD
    assert key is signer.key


def test_one_right_key_is_enough(signer: Signer) -> None:
    assert verify_with_any(signer.unverified, [signer.key]) == (PAYLOAD, signer.key)


@pytest.mark.parametrize("count", [1, 2])
def test_a_signature_that_is_valid_with_none_of_the_keys_is_refused(count: int, signer: Signer) -> None:
    with pytest.raises(SignatureError) as caught:
        verify_with_any(signer.unverified, signer.strangers[:count])

    assert (caught.value.code, caught.value.reason, caught.value.status) == ("invalid_token", "signature", 401)
    assert (caught.value.claim, caught.value.expected, caught.value.found) == (None, None, None)


def test_a_key_of_another_type_is_ignored() -> None:
    ec, rsa = build_signer("ES384"), build_signer("RS256")

    assert verify_with_any(ec.unverified, [rsa.key, ec.key]) == (PAYLOAD, ec.key)
    assert verify_with_any(rsa.unverified, [ec.key, rsa.key]) == (PAYLOAD, rsa.key)
    with pytest.raises(SignatureError) as caught:
        verify_with_any(ec.unverified, [rsa.key])
    assert caught.value.reason == "signature"


class Counterpart(AwsLcKey):
    """An AWS-LC key with the same result for every signature."""

    def __init__(self, *, verdict: bool) -> None:
        self._verdict = verdict

    def verify(self, signing_input: bytes, signature: bytes) -> bool:
        del signing_input, signature
        return self._verdict


@pytest.mark.parametrize("position", [0, 1])
def test_the_counterpart_of_a_key_verifies_in_its_place(position: int, signer: Signer) -> None:
    keys = list(signer.strangers)
    keys[position] = replace(keys[position], aws_lc=Counterpart(verdict=True))
    rejecting = replace(signer.key, aws_lc=Counterpart(verdict=False))

    assert verify_with_any(signer.unverified, keys) == (PAYLOAD, keys[position])
    with pytest.raises(SignatureError):
        verify_with_any(signer.unverified, [rejecting, signer.strangers[0]])
    with pytest.raises(SignatureError):
        verify_with_any(signer.unverified, [signer.strangers[0], rejecting])


def test_the_captured_tokens_are_valid_with_the_captured_keys() -> None:
    for token, jwks in (
        (TOKENS["user_api_spa"].token, JWKS),
        *((stage.token.token, stage.jwks) for stage in ROTATION),
    ):
        unverified = read(token)
        keys = [key for key in keys_of(jwks) if key.kid == unverified.kid]
        assert verify_with_any(unverified, keys) == (unverified.payload, keys[0])


def test_the_captured_tokens_are_invalid_with_another_tenants_key() -> None:
    with pytest.raises(SignatureError):
        verify_with_any(read(TOKENS["user_api_spa"].token), keys_of(ADMIN_TENANT_JWKS))
