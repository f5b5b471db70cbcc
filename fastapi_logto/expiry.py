"""Ends WebSockets and streams when the token that opened them expires."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, Generic, TypeVar, cast

from fastapi import WebSocket, WebSocketDisconnect, status
from starlette.websockets import WebSocketState

from fastapi_logto.claims import TokenClaims

__all__ = ["CLOSE_TIMEOUT_SECONDS", "check_claims", "check_stream", "close_after", "pass_on"]

ChunkT = TypeVar("ChunkT")

CLOSE_TIMEOUT_SECONDS: Final = 5.0
"""Time limit of the close of a WebSocket: servers wait for a client that has stopped reading half a minute and more."""

_logger: Final = logging.getLogger("fastapi_logto")


@asynccontextmanager
async def close_after(websocket: WebSocket, *, seconds: float, timeout_seconds: float) -> AsyncGenerator[None]:
    """Cancel the block after a time, and close the WebSocket then.

    Args:
        websocket: The WebSocket.
        seconds: The time that the block has.
        timeout_seconds: The time that the close has.
    """
    timeout = asyncio.timeout(seconds)
    try:
        async with timeout:
            yield
    except TimeoutError:
        if not timeout.expired():
            raise  # the block's own
        await _close(websocket, timeout_seconds=timeout_seconds)


async def _close(websocket: WebSocket, *, timeout_seconds: float) -> None:
    if WebSocketState.DISCONNECTED in {websocket.application_state, websocket.client_state}:
        return
    closing = asyncio.ensure_future(websocket.close(code=status.WS_1008_POLICY_VIOLATION, reason="expired"))
    closing.add_done_callback(_retrieve)
    try:
        # Not `asyncio.timeout`: the `websockets` of uvicorn catches the cancellation and waits on.
        await asyncio.wait({closing}, timeout=timeout_seconds)
    except asyncio.CancelledError:
        closing.cancel()
        raise
    if not closing.done():
        # Not cancelled: that server aborts the connection at its own, longer time limit.
        _logger.info("gave up closing a WebSocket after %s s: the client does not read", timeout_seconds)
        return
    with suppress(WebSocketDisconnect):
        closing.result()


def _retrieve(closing: "asyncio.Future[None]") -> None:
    """Take the error of a close that nobody waits for any more, which asyncio would log otherwise."""
    if not closing.cancelled():
        closing.exception()


def check_stream(chunks: object) -> None:
    """Refuse at the call a stream that would fail after the status line is sent.

    Args:
        chunks: The stream.

    Raises:
        TypeError: It is not asynchronous.
    """
    if not isinstance(chunks, AsyncIterable):
        msg = (
            "chunks: expected an async iterator, such as an async generator, found "
            f"{type(chunks).__name__}; write it with async def, and call it"
        )
        raise TypeError(msg)


def check_claims(claims: object) -> None:
    """Refuse at the call what has no time to expire at.

    Args:
        claims: The claims.

    Raises:
        TypeError: They are no claims.
    """
    if not isinstance(claims, TokenClaims):
        msg = f"claims: expected the claims of the token, found {type(claims).__name__}"
        raise TypeError(msg)


async def pass_on(chunks: AsyncIterable[ChunkT], *, find_seconds: Callable[[], float]) -> AsyncGenerator[ChunkT]:
    """Yield the chunks of a stream for a time, then close the stream.

    It is closed on time even if nobody takes the next chunk, because the client has stopped reading.

    Args:
        chunks: The stream.
        find_seconds: Returns the time that is left, when the first chunk is taken.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + find_seconds()
    source = _Source(aiter(chunks))
    timer = loop.call_at(deadline, source.expire)
    try:
        # A stream that never waits leaves the timer no turn; the timer may be early by the resolution of the clock.
        while loop.time() < deadline and not source.is_expired:
            timeout = asyncio.timeout_at(deadline)
            try:
                # Around each wait and not around the loop: the timeout must not cancel the consumer of a chunk.
                async with timeout:
                    chunk = await source.take()
            except StopAsyncIteration:
                return
            except TimeoutError:
                if timeout.expired():
                    return
                raise  # the stream's own
            # Expired without an error: the stream caught its cancellation, and has a chunk all the same.
            if not timeout.expired():
                yield chunk
    finally:
        timer.cancel()
        await source.close()


class _Source(Generic[ChunkT]):
    """A stream that is closed when its time is over, by its consumer or by a timer.

    Attributes:
        is_expired: Whether its time is over.
    """

    def __init__(self, iterator: AsyncIterator[ChunkT]) -> None:
        self.is_expired = False
        self._iterator = iterator
        self._is_running = False
        self._closing: asyncio.Task[None] | None = None

    async def take(self) -> ChunkT:
        """Return the next chunk."""
        self._is_running = True
        try:
            return await anext(self._iterator)
        finally:
            self._is_running = False

    def expire(self) -> None:
        """Close the stream in the background, unless it is running: then the timeout of that wait ends it."""
        self.is_expired = True
        if not self._is_running:
            self._closing = asyncio.ensure_future(self._close())

    async def close(self) -> None:
        """Close the stream, or wait until it is closed."""
        await (self._closing or self._close())

    async def _close(self) -> None:
        iterator: object = self._iterator
        if isinstance(iterator, AsyncGenerator):
            await cast("AsyncGenerator[ChunkT]", iterator).aclose()
