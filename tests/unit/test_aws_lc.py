"""AWS-LC and OpenSSL agree on every ES384 signature, and AWS-LC is not used for keys that it does not support."""

import logging
import os
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey, RSAKey
from pydantic import SecretStr

from fastapi_logto.errors import SignatureError
from fastapi_logto.provider.aws_lc import build_aws_lc_key
from fastapi_logto.provider.key_set import parse_key
from fastapi_logto.testing import LocalIssuer
from fastapi_logto.verification.jws import UnverifiedJws, parse_unverified
from fastapi_logto.verification.signatures import verify_signature
from tests.conftest import UseAwsLc

ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973
KEY: Final = ECKey.generate_key("P-384")


def sign(message: bytes) -> bytes:
    private = KEY.private_key
    assert private is not None
    r, s = decode_dss_signature(private.sign(message, ECDSA(SHA384())))
    return r.to_bytes(48) + s.to_bytes(48)


def outcomes(message: bytes, signature: bytes) -> tuple[bool, bool]:
    """Return whether OpenSSL and AWS-LC accept a signature."""
    unverified = UnverifiedJws(
        alg="ES384", kid=None, typ="at+jwt", signing_input=message, payload=b"{}", signature=signature
    )
    double = build_aws_lc_key(KEY)
    assert double is not None
    found: list[bool] = []
    for backend in (None, double):
        try:
            found.append(verify_signature(unverified, KEY, aws_lc=backend) == b"{}")
        except SignatureError:
            found.append(False)
    return found[0], found[1]


def test_a_valid_signature_and_its_second_form_are_valid() -> None:
    message = os.urandom(200)
    signature = sign(message)
    s = int.from_bytes(signature[48:])

    assert outcomes(message, signature) == (True, True)
    assert outcomes(message, signature[:48] + (ORDER - s).to_bytes(48)) == (True, True)
    assert outcomes(message + b"x", signature) == (False, False)


@pytest.mark.parametrize("r", [0, 1, ORDER - 1, ORDER, ORDER + 1, 2**384 - 1])
@pytest.mark.parametrize("s", [0, 1, ORDER - 1, ORDER, ORDER + 1, 2**384 - 1])
def test_signatures_with_numbers_at_the_limits_are_invalid_in_both_libraries(r: int, s: int) -> None:
    assert outcomes(b"message", r.to_bytes(48) + s.to_bytes(48)) == (False, False)


@pytest.mark.parametrize("length", [0, 1, 48, 64, 95, 97, 104, 132, 1000])
def test_a_signature_of_another_length_is_invalid_in_both_libraries(length: int) -> None:
    assert outcomes(b"message", (sign(b"message") * 11)[:length]) == (False, False)


def test_a_signature_whose_numbers_have_other_lengths_is_invalid_in_both_libraries() -> None:
    signature = sign(b"message")
    while signature[48]:
        signature = sign(b"message")

    assert outcomes(b"message", signature) == (True, True)
    assert outcomes(b"message", signature[:48] + signature[49:]) == (False, False)
    assert outcomes(b"message", signature[:48] + b"\0" + signature[48:]) == (False, False)


@settings(max_examples=60, deadline=None)
@given(position=st.integers(0, 95), flip=st.integers(1, 255))
def test_a_signature_with_one_byte_changed_is_invalid_in_both_libraries(position: int, flip: int) -> None:
    signature = bytearray(sign(b"message"))
    signature[position] ^= flip

    assert outcomes(b"message", bytes(signature)) == (False, False)


def test_other_keys_have_no_aws_lc_key(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "fastapi_logto")
    rsa = RSAKey.generate_key(2048)

    assert build_aws_lc_key(ECKey.generate_key("P-256")) is None
    assert build_aws_lc_key(ECKey.generate_key("P-521")) is None
    assert build_aws_lc_key(rsa) is None
    assert build_aws_lc_key(RSAKey.import_key({**rsa.as_dict(private=False), "crv": "P-384"})) is None
    assert caplog.messages == []


@pytest.mark.usefixtures("openssl")
def test_without_awscrt_keys_have_no_aws_lc_key(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "fastapi_logto")

    assert build_aws_lc_key(KEY) is None
    assert caplog.messages == []


def test_openssl_is_used_for_a_key_that_aws_lc_does_not_accept(
    use_aws_lc: UseAwsLc, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        class EC:
            @staticmethod
            def new_key_from_der_data(_der: bytes) -> None:
                raise RuntimeError("what it was given")

    caplog.set_level(logging.DEBUG, "fastapi_logto")
    use_aws_lc(Broken)

    assert build_aws_lc_key(KEY) is None
    assert [record.getMessage() for record in caplog.records] == ["key set: AWS-LC rejects a key: RuntimeError"]


def test_tokens_of_a_provider_are_valid_with_the_aws_lc_key() -> None:
    issuer = LocalIssuer()
    unverified = parse_unverified(SecretStr(issuer.access_token()), algorithms=["ES384"], token_types=["at+jwt"])
    jose = ECKey.import_key(dict(issuer.jwks()["keys"][0]))
    double = build_aws_lc_key(jose)

    assert double is not None
    assert verify_signature(unverified, jose, aws_lc=double) == unverified.payload


def test_a_key_of_a_key_set_has_its_aws_lc_key() -> None:
    entry = LocalIssuer().jwks()["keys"][0]

    assert parse_key({**entry}, algorithms=["ES384"]).aws_lc is not None
