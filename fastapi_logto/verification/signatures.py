"""Verify the signature of a token: the payload is trusted from there on."""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from fastapi_logto.errors import SignatureError
from fastapi_logto.provider.key_set import PublicKey
from fastapi_logto.verification.jws import UnverifiedJws

if TYPE_CHECKING:
    from joserfc.jwk import Key as JoseKey

    from fastapi_logto.provider.aws_lc import AwsLcKey


def verify_with_any(unverified: UnverifiedJws, keys: Sequence[PublicKey]) -> tuple[bytes, PublicKey]:
    """Verify a signature with the first matching key; return the payload, trusted from here on, and that key.

    There must be at least one key. `SignatureError` if none of them signed the token.
    """
    for key in keys[:-1]:
        try:
            return verify_signature(unverified, key.jose, aws_lc=key.aws_lc), key
        except SignatureError:
            continue
    return verify_signature(unverified, keys[-1].jose, aws_lc=keys[-1].aws_lc), keys[-1]


def verify_signature(unverified: UnverifiedJws, key: "JoseKey", *, aws_lc: "AwsLcKey | None" = None) -> bytes:
    """Verify the signature with one key, and return the payload exactly as signed. From here on it is trusted.

    The caller must have checked that the key may be used with this algorithm (`key_set.PublicKey`). Claims are not
    checked. With `aws_lc`, the same key for AWS-LC, that library verifies.

    References:
        RFC 7515 section 5.2; RFC 7518 sections 3.3 to 3.5.
    """
    model = _find_engine(unverified.alg)
    try:
        model.check_key(key)
        if aws_lc is None:
            is_valid = model.verify(unverified.signing_input, unverified.signature, key)
        else:
            is_valid = aws_lc.verify(unverified.signing_input, unverified.signature)
    except Exception as error:  # noqa: BLE001 - the JOSE engine's edge: any error is an invalid token, never a 500
        raise SignatureError(found=type(error).__name__) from None
    if not is_valid:
        raise SignatureError
    return unverified.payload


@cache
def _find_engine(alg: str) -> Any:  # noqa: ANN401 - its type is not public
    from joserfc.jws import JWSRegistry  # noqa: PLC0415 - loaded with the first key, in a thread

    return JWSRegistry.algorithms[alg]
