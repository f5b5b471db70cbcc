"""Find the key that signed a token."""

from collections.abc import Sequence

from fastapi_logto.errors import SignatureError
from fastapi_logto.provider.key_set import PublicKey
from fastapi_logto.verification.jws import UnverifiedJws, verify_signature

__all__ = ["verify_with_any"]


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
