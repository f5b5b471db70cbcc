"""Where signatures are checked and payloads read: beside the event loop when that takes long, with bounded waiting."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from fastapi_logto.errors import SignatureError
from fastapi_logto.jws import UnverifiedJws, verify_signature
from fastapi_logto.key_set import PublicKey
from fastapi_logto.workers import BoundedWorkers

__all__ = ["SignatureWorkers"]

ResultT = TypeVar("ResultT")

# Logto's payloads have some 400 bytes. Checking each value of 16 KB takes a millisecond.
_LARGE_PAYLOAD: Final = 2048


class SignatureWorkers:
    """Checks signatures, the slow ones in threads of its own."""

    def __init__(self, *, threads: int, max_waiting: int) -> None:
        """Remember the bounds. Threads start with the first slow signature.

        Args:
            threads: How many signatures are checked at a time.
            max_waiting: How many may wait or run before more are refused.
        """
        self._workers = BoundedWorkers(threads=threads, max_waiting=max_waiting, name="fastapi_logto")

    async def verify(
        self, unverified: UnverifiedJws, keys: Sequence[PublicKey], *, read: Callable[[bytes], ResultT]
    ) -> tuple[ResultT, PublicKey]:
        """Verify a signature with the first of some keys that fits, and have the payload read.

        Args:
            unverified: The token's parts.
            keys: Keys that its header can mean, one at least.
            read: Reads the payload, which is trusted from here on; in the same thread.

        Returns:
            What `read` gave, and the key that vouches for it.

        Raises:
            SignatureError: It holds with none of the keys.
            ProviderUnavailableError: Too many signatures wait already.
        """
        if len(unverified.payload) <= _LARGE_PAYLOAD and not any(key.is_slow for key in keys):
            return _verify_and_read(unverified, keys, read)
        return await self._workers.run(partial(_verify_and_read, unverified, keys, read))


def _verify_and_read(
    unverified: UnverifiedJws, keys: Sequence[PublicKey], read: Callable[[bytes], ResultT]
) -> tuple[ResultT, PublicKey]:
    payload, key = _verify_with_any(unverified, keys)
    return read(payload), key


def _verify_with_any(unverified: UnverifiedJws, keys: Sequence[PublicKey]) -> tuple[bytes, PublicKey]:
    for key in keys[:-1]:
        try:
            return verify_signature(unverified, key.jose, aws_lc=key.aws_lc), key
        except SignatureError:
            continue
    return verify_signature(unverified, keys[-1].jose, aws_lc=keys[-1].aws_lc), keys[-1]
