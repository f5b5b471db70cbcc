"""P-384 signatures with AWS-LC, in half of OpenSSL's time. Used if `awscrt` is installed (`fastapi-logto[aws-lc]`)."""

import logging
from functools import cache
from hashlib import sha384
from importlib import import_module
from types import ModuleType
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from joserfc.jwk import ECKey
from joserfc.jwk import Key as JoseKey

_logger = logging.getLogger("fastapi_logto")

_SIGNATURE_BYTES: Final = 96


class _Ec(Protocol):
    """The part of `awscrt.crypto.EC` that is used here; it has no types."""

    def verify(self, digest: bytes, signature: bytes) -> bool: ...


class AwsLcKey:
    """A P-384 public key for verification with AWS-LC."""

    def __init__(self, key: _Ec) -> None:
        """Store the key of `awscrt`."""
        self._key = key

    def verify(self, signing_input: bytes, signature: bytes) -> bool:
        """Return whether an ES384 signature is valid; `False` if its length is wrong, or r or s is out of range.

        The signature is r and s, 48 bytes each (RFC 7518 section 3.4).
        """
        if len(signature) != _SIGNATURE_BYTES:
            return False
        half = _SIGNATURE_BYTES // 2
        pair = encode_dss_signature(int.from_bytes(signature[:half]), int.from_bytes(signature[half:]))
        return self._key.verify(sha384(signing_input).digest(), pair)


@cache
def load_aws_lc() -> ModuleType | None:
    """Return `awscrt.crypto`, or `None` if it is not installed.

    It is large, so it is imported with the first key, outside the event loop, and not with this package.
    """
    try:
        return import_module("awscrt.crypto")
    except ImportError:
        return None


def build_aws_lc_key(key: JoseKey) -> AwsLcKey | None:
    """Return the AWS-LC counterpart of a public key; `None` if it is not P-384, or `awscrt` is not installed.

    The point of the key must have been checked to be on its curve.
    """
    if not (isinstance(key, ECKey) and key.get("crv") == "P-384"):
        return None
    crypto = load_aws_lc()
    if crypto is None:
        return None
    try:
        return AwsLcKey(crypto.EC.new_key_from_der_data(key.as_der(private=False)))
    except Exception as error:  # noqa: BLE001 - another library's edge; OpenSSL accepted the key and verifies instead
        _logger.debug("key set: AWS-LC rejects a key: %s", type(error).__name__)
        return None
