"""A WebSocket and a stream end when their token expires."""

import asyncio
import gc
import logging
import time
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import nullcontext
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from starlette.testclient import TestClient
from starlette.types import Message
from starlette.websockets import WebSocketDisconnect

from fastapi_logto import LogtoAuth, LogtoSettings, TokenClaims, schemes
from fastapi_logto.expiry import close_after, pass_on
from fastapi_logto.testing import Clock, LocalIssuer, bearer
from fastapi_logto.testing import claims as make_claims
from tests.unit.fakes import wait_until

NOW = 1_800_000_000.0
CLAIMS = make_claims()


def build(*, seconds: float) -> tuple[LogtoAuth, str]:
    """Return a scheme, and a token that expires in this many seconds."""
    issuer = LocalIssuer(clock=Clock(now=lambda: NOW))
    auth = issuer.auth(leeway_seconds=0)
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


def test_the_clock_of_a_connected_issuer_says_when_a_token_ends() -> None:
    issuer = LocalIssuer(clock=Clock(now=lambda: time.time() - 1_000_000))
    auth = LogtoAuth(endpoint="https://tenant.example.test", audience="https://api.example.test")

    with (
        issuer.connect(auth),
        build_client(auth, []).websocket_connect(
            "/echo", headers=bearer(issuer.access_token(subject="me"))
        ) as websocket,
    ):
        websocket.send_text("hello")
        assert websocket.receive_text() == "me: hello"


def test_a_timeout_in_the_handler_is_not_treated_as_the_end_of_the_token() -> None:
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


class Stalled:
    """A server whose client does not read: closing the connection blocks until the test releases it."""

    def __init__(self, *, catches_cancellation: bool = False, error: Exception | None = None) -> None:
        self.catches_cancellation, self.error = catches_cancellation, error
        self.is_open = asyncio.Event()
        self.is_cancelled = False
        self.coming: list[Message] = [{"type": "websocket.connect"}]
        self.sent: list[str] = []

    async def receive(self) -> Message:
        return self.coming.pop(0)

    async def send(self, message: Message) -> None:
        self.sent.append(message["type"])
        while message["type"] == "websocket.close" and not self.is_open.is_set():
            try:
                await self.is_open.wait()
            except asyncio.CancelledError:
                self.is_cancelled = True
                if not self.catches_cancellation:
                    raise
        if message["type"] == "websocket.close" and self.error is not None:
            raise self.error

    async def accept(self) -> WebSocket:
        websocket = WebSocket({"type": "websocket"}, self.receive, self.send)
        await websocket.accept()
        return websocket


@pytest.mark.parametrize("catches_cancellation", [False, True])
async def test_the_close_is_abandoned_if_the_client_does_not_read(
    caplog: pytest.LogCaptureFixture, *, catches_cancellation: bool
) -> None:
    auth, token = build(seconds=0.1)
    server = Stalled(catches_cancellation=catches_cancellation)
    websocket = await server.accept()

    with caplog.at_level(logging.INFO, "fastapi_logto"):
        async with (
            asyncio.timeout(10),
            auth.closing_at_expiry(websocket, await auth.verify(token), close_timeout_seconds=0.1),
        ):
            await asyncio.Event().wait()

    assert server.sent == ["websocket.accept", "websocket.close"]
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "gave up closing a WebSocket after 0.1 s: the client does not read")
    ]
    # The server may still close the connection itself.
    assert not server.is_cancelled
    server.is_open.set()


async def test_a_close_that_fails_after_it_was_abandoned_is_not_logged_as_an_error() -> None:
    auth, token = build(seconds=0.1)
    server = Stalled(error=RuntimeError("closed already"))
    websocket = await server.accept()
    found: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(context))

    before = asyncio.all_tasks()

    async with auth.closing_at_expiry(websocket, await auth.verify(token), close_timeout_seconds=0.1):
        await asyncio.Event().wait()
    server.is_open.set()
    await wait_until(lambda: asyncio.all_tasks() <= before)
    gc.collect()

    assert found == []


async def test_a_handler_that_is_cancelled_during_the_close_cancels_the_close() -> None:
    auth, token = build(seconds=0.1)
    server = Stalled()
    websocket = await server.accept()
    claims = await auth.verify(token)

    async def handle() -> None:
        async with auth.closing_at_expiry(websocket, claims, close_timeout_seconds=60):
            await asyncio.Event().wait()

    found: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(context))
    before = asyncio.all_tasks()
    handler = asyncio.ensure_future(handle())
    await wait_until(lambda: "websocket.close" in server.sent)
    handler.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handler
    await wait_until(lambda: server.is_cancelled and asyncio.all_tasks() <= before)
    # The callbacks of a task run in the next turn of the loop.
    await asyncio.sleep(0)

    assert found == []


async def test_a_client_that_is_gone_at_the_end_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    auth, token = build(seconds=0.1)
    server = Stalled(error=OSError("gone"))
    server.is_open.set()
    websocket = await server.accept()

    with caplog.at_level(logging.DEBUG, "fastapi_logto"):
        async with auth.closing_at_expiry(websocket, await auth.verify(token)):
            await asyncio.Event().wait()

    assert server.sent == ["websocket.accept", "websocket.close"]
    assert "gave up" not in caplog.text


async def test_another_error_of_the_close_is_raised() -> None:
    auth, token = build(seconds=0.1)
    server = Stalled(error=RuntimeError("of the server's own"))
    server.is_open.set()
    websocket = await server.accept()

    with pytest.raises(RuntimeError, match="of the server's own"):
        async with auth.closing_at_expiry(websocket, await auth.verify(token)):
            await asyncio.Event().wait()


class Watched:
    """Tells a function of a revocation, as often as a test wants, until that is stopped."""

    def __init__(self) -> None:
        self.revoke: Callable[[], object] = lambda: None
        self.stopped = 0

    def __call__(self, revoke: Callable[[], object]) -> Callable[[], None]:
        self.revoke = revoke
        return self.stop

    def stop(self) -> None:
        self.stopped += 1


@pytest.mark.parametrize("seconds", [0.1, 3600])
async def test_a_token_that_is_revoked_while_its_websocket_ends_is_no_error(seconds: float) -> None:
    server, watched = Stalled(), Watched()
    closed: list[tuple[int, str | None]] = []
    websocket = await server.accept()
    server.is_open.set()

    async def note(code: int = 1000, reason: str | None = None) -> None:
        closed.append((code, reason))

    websocket.close = note  # type: ignore[method-assign]
    async with asyncio.timeout(10), close_after(websocket, seconds=seconds, timeout_seconds=1, watch=watched):
        if seconds == 3600:
            watched.revoke()
        try:
            await asyncio.Event().wait()
        finally:
            watched.revoke()
    watched.revoke()

    assert closed == [(1008, "expired" if seconds == 0.1 else "revoked")]
    assert watched.stopped == 1


async def test_a_websocket_that_ends_before_its_token_is_no_longer_watched() -> None:
    watched = Watched()

    async with close_after(await Stalled().accept(), seconds=3600, timeout_seconds=1, watch=watched):
        assert watched.stopped == 0

    assert watched.stopped == 1


async def test_a_websocket_that_the_client_has_closed_is_not_closed_again() -> None:
    auth, token = build(seconds=0.1)
    server = Stalled()
    websocket = await server.accept()
    server.coming.append({"type": "websocket.disconnect", "code": 1000})
    server.is_open.set()

    async with auth.closing_at_expiry(websocket, await auth.verify(token)):
        async for _ in websocket.iter_text():
            pytest.fail("expected no message")
        await asyncio.Event().wait()

    assert server.sent == ["websocket.accept"]


async def test_the_leeway_of_a_request_is_that_of_its_connection() -> None:
    issuer = LocalIssuer(clock=Clock(now=lambda: NOW))
    auth = issuer.auth(leeway_seconds=60)

    # Past its `exp`, but within the leeway: accepted, and not ended immediately.
    assert await collect(auth, issuer.access_token(claims={"exp": NOW - 5}), Source(count=2)) == [0, 1]


async def test_among_several_tenants_the_largest_leeway_applies() -> None:
    issuer = LocalIssuer(clock=Clock(now=lambda: NOW))
    strict = LogtoSettings(endpoint="https://other.test", audience="https://api.example.com", leeway_seconds=0)
    auth = LogtoAuth(
        settings=[strict, issuer.auth(leeway_seconds=60).settings],
        http_transport=httpx.ASGITransport(app=issuer.app),
        clock=issuer.clock,
    )

    assert await collect(auth, issuer.access_token(claims={"exp": NOW - 5}), Source(count=2)) == [0, 1]


async def test_without_settings_there_is_no_leeway() -> None:
    # Like overridden claims in a test.
    auth = LogtoAuth(clock=Clock(now=lambda: NOW))
    expired = CLAIMS.model_copy(update={"exp": NOW})

    assert [chunk async for chunk in auth.until_expiry(Source()(), expired)] == []


TEN_YEARS = 10 * 366 * 24 * 3600


@pytest.mark.parametrize(
    ("lifetime", "seconds"),
    [(60, 60), (3600, 3600), (TEN_YEARS - 1, TEN_YEARS - 1), (TEN_YEARS + 1, TEN_YEARS), (10**400, TEN_YEARS)],
    ids=["a minute", "an hour", "nearly ten years", "more than ten years", "too many for a float"],
)
def test_a_connection_lasts_as_long_as_its_token_but_at_most_ten_years(
    lifetime: int, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def note(_websocket: WebSocket, *, seconds: float, **_options: object) -> nullcontext[None]:
        asked.append(seconds)
        return nullcontext()

    monkeypatch.setattr(schemes, "close_after", note)
    auth = LogtoAuth(clock=Clock(now=lambda: NOW))
    websocket: Any = None

    auth.closing_at_expiry(websocket, CLAIMS.model_copy(update={"exp": int(NOW) + lifetime}))

    assert asked == [seconds]


async def test_nothing_is_left_of_a_token_that_has_expired() -> None:
    auth, _ = build(seconds=10)
    expired = CLAIMS.model_copy(update={"exp": NOW - 10})

    assert [chunk async for chunk in auth.until_expiry(Source()(), expired)] == []


class Source:
    """A stream that never ends by itself, and records when it was closed."""

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


async def test_the_source_is_closed_on_time_even_if_the_next_chunk_is_not_consumed() -> None:
    auth, token = build(seconds=0.2)
    source = Source()
    chunks = auth.until_expiry(source(), await auth.verify(token))

    assert await anext(chunks) == 0
    await wait_until(lambda: source.is_closed)

    with pytest.raises(StopAsyncIteration):
        await anext(chunks)


async def test_an_error_of_the_source_at_its_end_reaches_the_consumer() -> None:
    auth, token = build(seconds=0.2)
    has_ended = asyncio.Event()

    async def fail() -> AsyncGenerator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            has_ended.set()
            raise LookupError("of the stream's own")

    chunks = auth.until_expiry(fail(), await auth.verify(token))
    assert await anext(chunks) == 1
    await wait_until(has_ended.is_set)

    with pytest.raises(LookupError, match="of the stream's own"):
        await anext(chunks)


async def test_a_chunk_that_comes_after_the_end_is_dropped() -> None:
    auth, token = build(seconds=0.2)

    async def go_on() -> AsyncGenerator[int]:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.sleep(0)
                yield 1

    assert [chunk async for chunk in auth.until_expiry(go_on(), await auth.verify(token))] == []


async def test_a_slow_consumer_of_a_chunk_is_not_cancelled_by_the_end() -> None:
    auth, token = build(seconds=0.2)
    source = Source()

    assert await collect(auth, token, source, taking=0.3) == [0]
    assert source.is_closed


async def test_a_stream_that_ends_before_its_token_is_complete() -> None:
    auth, token = build(seconds=3600)

    assert await collect(auth, token, Source(count=3)) == [0, 1, 2]


async def test_a_stream_that_ends_before_its_token_is_not_kept_until_then() -> None:
    watched = Watched()
    chunks = Source(count=2)()
    found = weakref.ref(chunks)

    passed_on = pass_on(chunks, find_seconds=lambda: 3600, watch=watched)
    del chunks
    assert [chunk async for chunk in passed_on] == [0, 1]
    assert watched.stopped == 1

    del passed_on, watched
    gc.collect()
    assert found() is None


async def test_a_stream_may_be_revoked_again_while_it_is_being_closed() -> None:
    watched, is_open = Watched(), asyncio.Event()

    async def wait_at_the_end() -> AsyncGenerator[int]:
        try:
            yield 1
        finally:
            await is_open.wait()

    chunks = pass_on(wait_at_the_end(), find_seconds=lambda: 3600, watch=watched)
    assert await anext(chunks) == 1
    watched.revoke()
    await asyncio.sleep(0)
    watched.revoke()
    is_open.set()

    with pytest.raises(StopAsyncIteration):
        await anext(chunks)


async def test_a_timeout_in_the_stream_is_not_treated_as_the_end_of_the_token() -> None:
    auth, token = build(seconds=3600)

    with pytest.raises(TimeoutError, match="of the stream's own"):
        await collect(auth, token, Source(fails=True))


class Steady:
    """A stream that is not a generator and never suspends."""

    def __aiter__(self) -> AsyncIterator[int]:
        return self

    async def __anext__(self) -> int:
        return 1


async def test_a_stream_that_never_waits_ends_too() -> None:
    auth, token = build(seconds=0.2)
    claims = await auth.verify(token)
    found = [chunk async for chunk in auth.until_expiry(Steady(), claims)]

    assert set(found) == {1}


def count() -> Iterator[int]:
    yield 1


async def count_later() -> AsyncGenerator[int]:
    yield 1


@pytest.mark.parametrize(
    ("build_chunks", "found"),
    [
        (count, "generator"),
        (lambda: [1, 2], "list"),
        (lambda: "text", "str"),
        (lambda: None, "NoneType"),
        (lambda: count, "function"),
        (lambda: count_later, "function"),
    ],
)
def test_a_stream_that_is_not_asynchronous_is_refused_at_the_call(build_chunks: Callable[[], Any], found: str) -> None:
    auth, _ = build(seconds=60)

    with pytest.raises(TypeError) as caught:
        auth.until_expiry(build_chunks(), CLAIMS)
    assert str(caught.value) == (
        f"chunks: expected an async iterator, such as an async generator, found {found}; write it with async def, and "
        "call it"
    )


@pytest.mark.parametrize(("claims", "found"), [(None, "NoneType"), ({"exp": 1}, "dict"), ("token", "str")])
async def test_an_argument_that_is_not_claims_is_refused_at_the_call(claims: Any, found: str) -> None:
    auth, _ = build(seconds=60)
    websocket = await Stalled().accept()

    with pytest.raises(TypeError, match=f"claims: expected the claims of the token, found {found}"):
        auth.until_expiry(Steady(), claims)
    with pytest.raises(TypeError, match=f"claims: expected the claims of the token, found {found}"):
        auth.closing_at_expiry(websocket, claims)


def test_a_streaming_response_ends_with_the_token() -> None:
    auth, token = build(seconds=0.3)
    app = FastAPI()

    async def ticks() -> AsyncGenerator[str]:
        yield "tick\n"
        await asyncio.sleep(60)

    @app.get("/ticks")
    async def read(claims: Annotated[TokenClaims, Depends(auth)]) -> Any:
        return StreamingResponse(auth.until_expiry(ticks(), claims))

    @app.get("/thread/ticks")
    def read_in_a_thread(claims: Annotated[TokenClaims, Depends(auth)]) -> Any:
        return StreamingResponse(auth.until_expiry(ticks(), claims))

    for path in ("/ticks", "/thread/ticks"):
        answer = TestClient(app).get(path, headers=bearer(token))
        assert (answer.status_code, answer.text) == (200, "tick\n")
