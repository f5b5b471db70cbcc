"""A WebSocket and a stream end when the token that opened them does."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from fastapi_logto import Clock, LogtoAuth, TokenClaims
from fastapi_logto.testing import LocalIssuer
from tests.unit.apps import bearer, build_auth

NOW = 1_800_000_000.0


def build(*, seconds: float) -> tuple[LogtoAuth, str]:
    """Give a scheme, and a token that has so many seconds to live."""
    issuer = LocalIssuer(now=lambda: NOW)
    auth = build_auth(issuer, clock=Clock(now=lambda: NOW), leeway_seconds=0)
    return auth, issuer.access_token(subject="me", claims={"exp": int(NOW) + seconds})


async def stumble() -> None:
    raise TimeoutError("of the handler's own")


def build_client(auth: LogtoAuth, ended: list[str]) -> TestClient:
    app = FastAPI()

    @app.websocket("/echo")
    async def echo(websocket: WebSocket, claims: Annotated[TokenClaims, Depends(auth)]) -> None:
        await websocket.accept()
        async with auth.closing_at_expiry(websocket, claims):
            async for text in websocket.iter_text():
                await websocket.send_text(f"{claims.user_id}: {text}")
            ended.append("by the client")

    @app.websocket("/failing")
    async def fail(websocket: WebSocket, claims: Annotated[TokenClaims, Depends(auth)]) -> None:
        await websocket.accept()
        try:
            async with auth.closing_at_expiry(websocket, claims):
                await stumble()
        except TimeoutError as error:
            await websocket.close(code=4000, reason=str(error))

    @app.websocket("/closed")
    async def close(websocket: WebSocket, claims: Annotated[TokenClaims, Depends(auth)]) -> None:
        await websocket.accept()
        async with auth.closing_at_expiry(websocket, claims):
            await websocket.close(code=4001)
            await asyncio.sleep(60)
        ended.append("closed")

    return TestClient(app)


def test_a_websocket_is_closed_with_1008_when_its_token_expires() -> None:
    auth, token = build(seconds=0.3)
    ended: list[str] = []

    with build_client(auth, ended).websocket_connect("/echo", headers=bearer(token)) as websocket:
        websocket.send_text("hello")
        assert websocket.receive_text() == "me: hello"
        with pytest.raises(WebSocketDisconnect) as closed:
            websocket.receive_text()

    assert (closed.value.code, closed.value.reason) == (1008, "expired")
    assert ended == []


@pytest.mark.parametrize("seconds", [3600, 1e300, 10**400], ids=["an hour", "ages", "more than a float"])
def test_a_websocket_that_ends_before_its_token_is_left_alone(seconds: float) -> None:
    auth, token = build(seconds=seconds)
    ended: list[str] = []

    with build_client(auth, ended).websocket_connect("/echo", headers=bearer(token)) as websocket:
        websocket.send_text("hello")
        assert websocket.receive_text() == "me: hello"

    assert ended == ["by the client"]


def test_a_timeout_of_the_handlers_own_is_its_own() -> None:
    auth, token = build(seconds=3600)

    with (
        build_client(auth, []).websocket_connect("/failing", headers=bearer(token)) as websocket,
        pytest.raises(WebSocketDisconnect) as closed,
    ):
        websocket.receive_text()

    assert (closed.value.code, closed.value.reason) == (4000, "of the handler's own")


def test_a_websocket_that_is_closed_already_is_not_closed_again() -> None:
    auth, token = build(seconds=0.2)
    ended: list[str] = []

    with build_client(auth, ended).websocket_connect("/closed", headers=bearer(token)) as websocket:
        assert websocket.receive() == {"type": "websocket.close", "code": 4001, "reason": ""}
        deadline = time.monotonic() + 30
        while not ended and time.monotonic() < deadline:
            time.sleep(0.01)

    assert ended == ["closed"]


async def test_the_leeway_of_a_request_is_that_of_its_connection() -> None:
    issuer = LocalIssuer(now=lambda: NOW)
    auth = build_auth(issuer, clock=Clock(now=lambda: NOW), leeway_seconds=60)

    # Past its `exp` by less than clocks may differ: admitted, and not ended at once.
    assert await collect(auth, issuer.access_token(claims={"exp": NOW - 5}), Source(count=2)) == [0, 1]


class Source:
    """A stream that never ends by itself, and knows when it was made to."""

    def __init__(self, *, pause: float = 0.0, fails: bool = False, count: int | None = None) -> None:
        self.pause, self.fails, self.count = pause, fails, count
        self.is_closed = False

    async def __call__(self) -> AsyncGenerator[int]:
        number = 0
        try:
            while number != self.count:
                yield number
                number += 1
                await asyncio.sleep(self.pause)
                if self.fails:
                    raise TimeoutError("of the stream's own")
        finally:
            self.is_closed = True


async def collect(auth: LogtoAuth, token: str, source: Source, *, taking: float = 0.0) -> list[int]:
    claims = await auth.verify(token)
    found: list[int] = []
    async for chunk in auth.until_expiry(source(), claims):
        found.append(chunk)
        await asyncio.sleep(taking)
    return found


async def test_a_stream_ends_when_its_token_expires_and_so_does_its_source() -> None:
    auth, token = build(seconds=0.3)
    source = Source(pause=60)

    assert await collect(auth, token, source) == [0]
    assert source.is_closed


async def test_who_takes_a_chunk_slowly_is_not_struck_by_the_end() -> None:
    auth, token = build(seconds=0.2)
    source = Source()

    assert await collect(auth, token, source, taking=0.3) == [0]
    assert source.is_closed


async def test_a_stream_that_ends_before_its_token_is_whole() -> None:
    auth, token = build(seconds=3600)

    assert await collect(auth, token, Source(count=3)) == [0, 1, 2]


async def test_a_timeout_of_the_streams_own_is_its_own() -> None:
    auth, token = build(seconds=3600)

    with pytest.raises(TimeoutError, match="of the stream's own"):
        await collect(auth, token, Source(fails=True))


class Steady:
    """A stream that is no generator, and never lets the loop have a turn."""

    def __aiter__(self) -> AsyncIterator[int]:
        return self

    async def __anext__(self) -> int:
        return 1


async def test_a_stream_that_never_waits_ends_too() -> None:
    auth, token = build(seconds=0.2)
    claims = await auth.verify(token)
    found = [chunk async for chunk in auth.until_expiry(Steady(), claims)]

    assert set(found) == {1}


def test_a_streaming_response_ends_with_the_token() -> None:
    auth, token = build(seconds=0.3)
    app = FastAPI()

    async def ticks() -> AsyncGenerator[str]:
        yield "tick\n"
        await asyncio.sleep(60)

    @app.get("/ticks")
    async def read(claims: Annotated[TokenClaims, Depends(auth)]) -> Any:
        return StreamingResponse(auth.until_expiry(ticks(), claims))

    answer = TestClient(app).get("/ticks", headers=bearer(token))

    assert (answer.status_code, answer.text) == (200, "tick\n")
