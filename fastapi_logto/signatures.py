"""Which of a token's possible keys signed it."""

from collections.abc import Sequence

from fastapi_logto.errors import SignatureError
from fastapi_logto.jws import UnverifiedJws, verify_signature
from fastapi_logto.key_set import PublicKey

__all__ = ["verify_with_any"]


def verify_with_any(unverified: UnverifiedJws, keys: Sequence[PublicKey]) -> tuple[bytes, PublicKey]:
    """Verify a signature with the first of some keys that fits.

    Args:
        unverified: The token's parts.
        keys: Keys that its header can mean, one at least.

    Returns:
        The payload, trusted from here on, and the key that signed it.

    Raises:
        SignatureError: None of the keys signed it.
    """
    for key in keys[:-1]:
        try:
            return verify_signature(unverified, key.jose, aws_lc=key.aws_lc), key
        except SignatureError:
            continue
    return verify_signature(unverified, keys[-1].jose, aws_lc=keys[-1].aws_lc), keys[-1]
