"""A `LogtoClient`, its provider in memory, and its clock."""

import asyncio
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qsl

import httpx
import pytest

from fastapi_logto.client import GrantError, LogtoClient
from fastapi_logto.testing import LocalIssuer, ManualClock
from tests.unit.apps import API

SECRET: Final = "local-machine-secret"


class Provider(httpx.AsyncBaseTransport):
    """The local issuer, whose responses can be replaced and whose requests are recorded."""

    def __init__(self, issuer: LocalIssuer) -> None:
        self.inner = httpx.ASGITransport(app=issuer.app)
        self.asked: list[httpx.Request] = []
        self.discoveries = 0
        self.answer: Callable[[httpx.Request], httpx.Response] | None = None
        self.gate: asyncio.Event | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/openid-configuration"):
            self.discoveries += 1
            return await self.inner.handle_async_request(request)
        self.asked.append(request)
        if self.gate is not None:
            await self.gate.wait()
        return await self.inner.handle_async_request(request) if self.answer is None else self.answer(request)

    def say(self, document: Any, *, status: int = 200, **headers: str) -> None:
        self.answer = lambda _: httpx.Response(status, json=document, headers=headers)

    @property
    def forms(self) -> list[dict[str, str]]:
        return [dict(parse_qsl(request.content.decode())) for request in self.asked]


class Bench:
    """A client, its provider and its clock."""

    def __init__(self, **arguments: Any) -> None:
        self.clock = ManualClock(now=1_800_000_000)
        self.issuer = LocalIssuer(clock=self.clock)
        self.provider = Provider(self.issuer)
        settings: dict[str, Any] = {"client_id": "local-machine", "client_secret": SECRET, **arguments}
        self.client = LogtoClient(
            endpoint=self.issuer.endpoint,
            http_transport=self.provider,
            clock=self.clock,
            **settings,
        )

    def say_token(self, **changes: Any) -> None:
        said = {"access_token": "t", "token_type": "Bearer", "expires_in": 3600, "scope": "a b", **changes}
        self.provider.say({name: value for name, value in said.items() if value is not None})

    async def failed(self) -> GrantError:
        with pytest.raises(GrantError) as caught:
            await self.client.get_token(API)
        return caught.value
