"""Where signatures are checked and payloads read: beside the event loop when that takes long, with bounded waiting."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import BoundedSemaphore
from typing import Final, TypeVar

from fastapi_logto.errors import ProviderUnavailableError, SignatureError
from fastapi_logto.jws import UnverifiedJws, verify_signature
from fastapi_logto.key_set import PublicKey

__all__ = ["SignatureWorkers"]

ResultT = TypeVar("ResultT")

# Logto's payloads have some 400 bytes. Checking each value of 16 KB takes a millisecond.
_LARGE_PAYLOAD: Final = 2048


class SignatureWorkers:
    """Checks signatures, the slow ones in threads of its own.

    The threads are not the loop's default ones: these are shared with the application, and a flood
    of forged tokens would keep its files and its name lookups waiting.
    """

    def __init__(self, *, threads: int, max_waiting: int) -> None:
        """Remember the bounds. Threads start with the first slow signature.

        Args:
            threads: How many signatures are checked at a time.
            max_waiting: How many may wait or run before more are refused.
        """
        self._executor = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="fastapi_logto")
        # A semaphore and no counter: loops of several threads may share these workers.
        self._places = BoundedSemaphore(max_waiting)

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
        if not self._places.acquire(blocking=False):
            raise ProviderUnavailableError(
                "More tokens wait to be checked than this API has room for; try again later", found="no place left"
            )
        return await asyncio.wrap_future(self._submit(partial(_verify_and_read, unverified, keys, read)))

    def _submit(self, work: Callable[[], ResultT]) -> "Future[ResultT]":
        # Not held by a frame that waits for it: its error would know that frame, and the two would hold each other.
        future = self._executor.submit(work)
        # When the work has ended: a caller that goes away before leaves its place taken until then.
        future.add_done_callback(lambda _: self._places.release())
        return future


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
