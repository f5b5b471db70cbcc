"""Read the body of a request that anyone may send."""

import asyncio
from collections.abc import AsyncIterable, Sequence
from hmac import HMAC
from typing import Final

from fastapi import Request
from starlette.requests import ClientDisconnect

# Logto does not wait longer for a response.
_MOST_SECONDS: Final = 10.0
# Usual bodies are smaller, and strangers may not use much more memory.
_LARGE_BYTES: Final = 64 * 1024
_MOST_LARGE: Final = 8


class BodyError(Exception):
    """The body of a request is too large, too slow, incomplete or malformed.

    Attributes:
        status: The HTTP status of the response.
    """

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status: int = status


class BodyReader:
    """Reads the bodies of one route, within limits of size, time and memory."""

    def __init__(self, *, max_bytes: int, max_seconds: float = _MOST_SECONDS) -> None:
        """Store the limits."""
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._large_count = 0

    async def read(self, request: Request, *, digests: Sequence[HMAC] = ()) -> bytes:
        """Return the body exactly as it was sent, and update the digests with it; `BodyError` if it is over a limit.

        The bytes are counted while they arrive: a header may state any length.
        """
        stated = request.headers.get("content-length", "")
        if stated.isascii() and stated.isdigit() and len(stated) < 20 and int(stated) > self._max_bytes:
            raise self._build_size_error()
        reading = self._read(request.stream(), digests)
        # Error trackers show a request's headers, where they find one in a frame.
        del request
        try:
            async with asyncio.timeout(self._max_seconds):
                return await reading
        except ClientDisconnect:
            # Nobody reads the response.
            raise BodyError("expected a complete body, found a part of it") from None
        except TimeoutError:
            raise BodyError(
                f"expected a complete body within {self._max_seconds:g} s, found a part of it", status=408
            ) from None

    async def _read(self, chunks: AsyncIterable[bytes], digests: Sequence[HMAC]) -> bytes:
        body, chunk, is_large = bytearray(), b"", False
        try:
            async for chunk in chunks:
                body += chunk
                for digest in digests:
                    digest.update(chunk)
                if len(body) > self._max_bytes:
                    raise self._build_size_error()
                if len(body) > _LARGE_BYTES and not is_large:
                    if self._large_count >= _MOST_LARGE:
                        raise BodyError("expected fewer concurrent large bodies, found too many", status=503)
                    is_large = True
                    self._large_count += 1
            return bytes(body)
        finally:
            self._large_count -= is_large
            del body, chunk

    def _build_size_error(self) -> BodyError:
        return BodyError(f"expected a body of at most {self._max_bytes} bytes, found more", status=413)
