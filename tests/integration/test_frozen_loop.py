"""AWS Lambda through the real Mangum: its event loop runs only during requests."""

import asyncio
from collections.abc import Generator
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from mangum import Mangum

from fastapi_logto import LogtoAuth
from fastapi_logto.testing import LocalIssuer, ManualClock

API = "https://api.example.test"


class _Stalls(httpx.AsyncBaseTransport):
    """Connects to the issuer, and delays each document, like a network."""

    def __init__(self, issuer: LocalIssuer) -> None:
        self._inner = httpx.ASGITransport(app=issuer.app)
        self.is_stalled = False
        self.stalled = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        for _ in range(20):
            await asyncio.sleep(0)
        if self.is_stalled:
            self.stalled += 1
            await asyncio.Event().wait()
        return await self._inner.handle_async_request(request)


@pytest.fixture
def loop() -> Generator[asyncio.AbstractEventLoop]:
    """Set the loop of the thread, which Mangum uses for every request."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    asyncio.set_event_loop(None)


class Lambda:
    """An application behind Mangum, and its tenant."""

    def __init__(self) -> None:
        self.clock = ManualClock(now=1_800_000_000)
        self.issuer = LocalIssuer(endpoint="https://tenant.example.test", clock=self.clock)
        self.network = _Stalls(self.issuer)
        self.auth = LogtoAuth(
            endpoint=self.issuer.endpoint,
            audience=API,
            http_transport=self.network,
            clock=self.clock,
        )
        app = FastAPI()
        app.get("/", dependencies=[Depends(self.auth)])(lambda: None)
        self._handler = Mangum(app, lifespan="off")

    def call(self, token: str) -> int:
        event: dict[str, Any] = {
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": "/",
            "rawQueryString": "",
            "headers": {"authorization": f"Bearer {token}", "host": "x"},
            "requestContext": {
                "http": {"method": "GET", "path": "/", "sourceIp": "127.0.0.1", "protocol": "HTTP/1.1"},
                "stage": "$default",
            },
            "isBase64Encoded": False,
        }
        status: int = self._handler(event, None)["statusCode"]  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - the context is AWS's own
        return status


@pytest.mark.usefixtures("loop")
def test_a_withdrawn_key_is_refused_by_the_first_request_past_the_age() -> None:
    api = Lambda()
    old = api.issuer.access_token(lifetime_seconds=9000)
    assert api.call(old) == 200
    api.issuer.rotate(keep_previous=False)
    api.clock.advance(299)
    assert api.call(old) == 200

    api.clock.advance(1)

    assert api.call(old) == 401
    assert api.call(api.issuer.access_token()) == 200


@pytest.mark.usefixtures("loop")
def test_keys_stay_fresh_for_as_many_requests_as_come() -> None:
    api = Lambda()

    statuses: list[int] = []
    for _ in range(40):
        api.clock.advance(100)
        api.issuer.rotate()
        statuses.append(api.call(api.issuer.access_token()))

    assert set(statuses) == {200}
    assert api.auth.health().last_error is None


def test_a_fetch_that_was_cut_off_does_not_keep_later_requests_from_being_served(
    loop: asyncio.AbstractEventLoop,
) -> None:
    api = Lambda()
    api.network.is_stalled = True

    async def cut_off() -> None:
        # As the platform ends a request that takes too long.
        request = asyncio.create_task(api.auth.verify(api.issuer.access_token()))
        while not api.network.stalled:  # noqa: ASYNC110 - an event of asyncio would belong to one loop
            await asyncio.sleep(0)
        request.cancel()
        await asyncio.wait([request])

    loop.run_until_complete(cut_off())
    api.network.is_stalled = False
    api.clock.advance(60)

    assert api.call(api.issuer.access_token()) == 200
