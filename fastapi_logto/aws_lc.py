"""P-384 signatures by AWS-LC, in a third of the time: used where `awscrt` is installed (`fastapi-logto[aws-lc]`)."""

import logging
from functools import cache
from hashlib import sha384
from importlib import import_module
from types import ModuleType
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from joserfc.jwk import ECKey
from joserfc.jwk import Key as JoseKey

__all__ = ["AwsLcKey", "build_aws_lc_key", "load_aws_lc"]

_logger = logging.getLogger("fastapi_logto")

_SIGNATURE_BYTES: Final = 96


class _Ec(Protocol):
    """What is used of `awscrt.crypto.EC`, which has no types."""

    def verify(self, digest: bytes, signature: bytes) -> bool: ...


class AwsLcKey:
    """A P-384 public key that AWS-LC verifies with."""

    def __init__(self, key: _Ec) -> None:
        """Keep the key.

        Args:
            key: The key, as `awscrt` holds it.
        """
        self._key = key

    def verify(self, signing_input: bytes, signature: bytes) -> bool:
        """Say whether an ES384 signature holds.

        Args:
            signing_input: What was signed.
            signature: r and s, 48 bytes each.

        Returns:
            Whether it holds; `False` for one of another length, and for r or s out of range.

        References:
            RFC 7518 section 3.4.
        """
        if len(signature) != _SIGNATURE_BYTES:
            return False
        half = _SIGNATURE_BYTES // 2
        pair = encode_dss_signature(int.from_bytes(signature[:half]), int.from_bytes(signature[half:]))
        return self._key.verify(sha384(signing_input).digest(), pair)


@cache
def load_aws_lc() -> ModuleType | None:
    """Give `awscrt.crypto`, or `None` where it is not installed.

    It is large, so it is imported with the first key and not with this package: not on the event loop.
    """
    try:
        return import_module("awscrt.crypto")
    except ImportError:
        return None


def build_aws_lc_key(key: JoseKey) -> AwsLcKey | None:
    """Give a key's double for AWS-LC.

    Args:
        key: A public key whose point was checked to be on its curve.

    Returns:
        The double; `None` for other keys than P-384, and where `awscrt` is not installed.
    """
    if not (isinstance(key, ECKey) and key.get("crv") == "P-384"):
        return None
    crypto = load_aws_lc()
    if crypto is None:
        return None
    try:
        return AwsLcKey(crypto.EC.new_key_from_der_data(key.as_der(private=False)))
    except Exception as error:  # noqa: BLE001 - another library's edge; OpenSSL has taken the key and serves
        _logger.debug("key set: AWS-LC does not take a key: %s", type(error).__name__)
        return None
