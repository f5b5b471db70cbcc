"""End WebSockets and streams when the token that opened them expires or is revoked."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, Generic, TypeAlias, TypeVar, cast

from fastapi import WebSocket, WebSocketDisconnect, status
from starlette.websockets import WebSocketState

from fastapi_logto.verification.claims import TokenClaims

ChunkT = TypeVar("ChunkT")

CLOSE_TIMEOUT_SECONDS: Final = 5.0
"""Time limit for closing a WebSocket. Servers wait half a minute or more for a client that has stopped reading."""

Watch: TypeAlias = Callable[[Callable[[], object]], Callable[[], None]]
"""Calls a function, perhaps more than once, when the token is revoked; returns what ends this."""

_logger: Final = logging.getLogger("fastapi_logto")


@asynccontextmanager
async def close_after(
    websocket: WebSocket, *, seconds: float, timeout_seconds: float, watch: Watch
) -> AsyncGenerator[None]:
    """Cancel the block after `seconds`, or when the token is revoked, and close the WebSocket.

    Closing may take `timeout_seconds`.
    """
    loop, timeout, is_revoked = asyncio.get_running_loop(), asyncio.timeout(seconds), False

    def revoke() -> None:
        nonlocal is_revoked
        if is_inside and not timeout.expired():
            is_revoked = True
            timeout.reschedule(loop.time())

    try:
        async with timeout:
            is_inside = True
            stop = watch(revoke)
            try:
                yield
            finally:
                is_inside = False
                stop()
    except TimeoutError:
        if not timeout.expired():
            raise  # raised by the block itself
        await _close(websocket, reason="revoked" if is_revoked else "expired", timeout_seconds=timeout_seconds)


async def _close(websocket: WebSocket, *, reason: str, timeout_seconds: float) -> None:
    if WebSocketState.DISCONNECTED in {websocket.application_state, websocket.client_state}:
        return
    closing = asyncio.ensure_future(websocket.close(code=status.WS_1008_POLICY_VIOLATION, reason=reason))
    closing.add_done_callback(_retrieve)
    try:
        # Not `asyncio.timeout`: the `websockets` library of uvicorn catches the cancellation and keeps waiting.
        await asyncio.wait({closing}, timeout=timeout_seconds)
    except asyncio.CancelledError:
        closing.cancel()
        raise
    if not closing.done():
        # Not cancelled: that library aborts the connection at its own, longer time limit.
        _logger.info("gave up closing a WebSocket after %s s: the client does not read", timeout_seconds)
        return
    with suppress(WebSocketDisconnect):
        closing.result()


def _retrieve(closing: "asyncio.Future[None]") -> None:
    """Retrieve the error of a close that is no longer awaited; otherwise asyncio logs it."""
    if not closing.cancelled():
        closing.exception()


def check_stream(chunks: object) -> None:
    """Raise `TypeError` unless the stream is asynchronous. It is called before the status line is sent."""
    if not isinstance(chunks, AsyncIterable):
        msg = (
            "chunks: expected an async iterator, such as an async generator, found "
            f"{type(chunks).__name__}; write it with async def, and call it"
        )
        raise TypeError(msg)


def check_is_claims(claims: object) -> None:
    """Raise `TypeError` unless these are claims, which have a time of expiry."""
    if not isinstance(claims, TokenClaims):
        msg = (
            f"claims: expected the claims of the token, found {type(claims).__name__}; "
            "pass the value of Depends(auth) or a requirement"
        )
        raise TypeError(msg)


async def pass_on(
    chunks: AsyncIterable[ChunkT], *, find_seconds: Callable[[], float], watch: Watch
) -> AsyncGenerator[ChunkT]:
    """Yield the chunks of a stream for a limited time or until the token is revoked, then close the stream.

    It is closed on time even if nobody takes the next chunk because the client has stopped reading. The remaining
    seconds are read from `find_seconds` when the first chunk is taken.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + find_seconds()
    source = _Source(aiter(chunks))
    timer, stop = loop.call_at(deadline, source.expire), watch(source.expire)
    try:
        # A stream that never waits keeps the timer from running. The timer may be early by the clock's resolution.
        while loop.time() < deadline and not source.is_expired:
            timeout = asyncio.timeout_at(deadline)
            try:
                # The timeout covers each wait and not the loop, because it must not cancel the consumer of a chunk.
                async with timeout:
                    chunk = await source.take(within=timeout)
            except StopAsyncIteration:
                return
            except TimeoutError:
                if timeout.expired():
                    return
                raise  # raised by the stream itself
            # If it expired without an error, the stream has caught its cancellation and returned a chunk.
            if not timeout.expired():
                yield chunk
    finally:
        timer.cancel()
        stop()
        await source.close()


class _Source(Generic[ChunkT]):
    """A stream that is closed when its time is over, by its consumer or by a timer."""

    def __init__(self, iterator: AsyncIterator[ChunkT]) -> None:
        self.is_expired = False
        self._iterator = iterator
        self._timeout: asyncio.Timeout | None = None
        self._closing: asyncio.Task[None] | None = None

    async def take(self, *, within: asyncio.Timeout) -> ChunkT:
        """Return the next chunk. The timeout, in which this is called, ends early if the stream expires."""
        self._timeout = within
        try:
            return await anext(self._iterator)
        finally:
            self._timeout = None

    def expire(self) -> None:
        """Close the stream in the background. If it is running, the timeout of that wait ends it instead."""
        self.is_expired = True
        if self._timeout is None:
            self._closing = self._closing or asyncio.ensure_future(self._close())
        elif not self._timeout.expired():
            self._timeout.reschedule(asyncio.get_running_loop().time())

    async def close(self) -> None:
        """Close the stream, or wait until it is closed."""
        await (self._closing or self._close())

    async def _close(self) -> None:
        iterator: object = self._iterator
        if isinstance(iterator, AsyncGenerator):
            await cast("AsyncGenerator[ChunkT]", iterator).aclose()
