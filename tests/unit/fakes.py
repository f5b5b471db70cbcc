"""Test doubles: a provider in memory, a key that records its use, and claims that take long to parse."""

import asyncio
import ssl
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import httpx
from joserfc.jwk import ECKey, RSAKey
from pydantic import field_validator

from fastapi_logto import TokenClaims
from fastapi_logto.provider.key_set import PublicKey
from fastapi_logto.provider.transport import Transport
from fastapi_logto.verification.turns import TURN_SECONDS
from tests.captured import DISCOVERY_PATH, JWKS_PATH

ENDPOINT: Final = "https://tenant.logto.app"
ISSUER: Final = f"{ENDPOINT}/oidc"


class FakeProvider:
    """A provider in memory, which counts requests, and can be unreachable or slow.

    Attributes:
        jwks: The key set that it publishes.
        discovery: Its discovery document.
        faults: By path, a status, a body or an exception in place of the response.
        gate: If this event exists, no response is sent until it is set.
        counts: The number of requests by path.
    """

    def __init__(self, jwks: Mapping[str, object], *, endpoint: str = ENDPOINT, issuer: str | None = None) -> None:
        self.jwks = jwks
        self.discovery: dict[str, object] = {
            "issuer": issuer or f"{endpoint}/oidc",
            "jwks_uri": f"{endpoint}{JWKS_PATH}",
        }
        self.faults: dict[str, int | bytes | httpx.TransportError] = {}
        self.gate: asyncio.Event | None = None
        self.counts: Counter[str] = Counter()

    @property
    def fetches(self) -> tuple[int, int]:
        """The numbers of requests for the discovery document, and for the key set at its usual URL."""
        return self.counts[DISCOVERY_PATH], self.counts[JWKS_PATH]

    def go_away(self) -> None:
        """Refuse connections from now on."""
        self.faults = {path: httpx.ConnectError("away") for path in (DISCOVERY_PATH, JWKS_PATH)}

    def come_back(self) -> None:
        """Respond again from now on."""
        self.faults = {}

    def build_transport(self, *, timeout_seconds: float = 60) -> Transport:
        """Return a transport that sends its requests to this provider."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used, and created immediately, unlike the default one
        return Transport(
            timeout_seconds=timeout_seconds, http_transport=httpx.MockTransport(self._answer), ssl_context=context
        )

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.counts[path] += 1
        if self.gate is not None:
            await self.gate.wait()
        fault = self.faults.get(path)
        if isinstance(fault, httpx.TransportError):
            raise fault
        if fault is not None:
            return httpx.Response(fault) if isinstance(fault, int) else httpx.Response(200, content=fault)
        if path.endswith(DISCOVERY_PATH):
            return httpx.Response(200, json=self.discovery)
        return httpx.Response(200, json=self.jwks)


async def finish_fetches() -> int:
    """Wait for the fetches that run on this loop, and return how many there were."""
    flights = [task for task in asyncio.all_tasks() if task.get_name() == "fastapi_logto: fetch keys"]
    if flights:
        ended, pending = await asyncio.wait(flights, timeout=5)
        assert not pending
        # A failed fetch is recorded in the state and raises nothing.
        assert not [flight for flight in ended if not flight.cancelled() and flight.exception() is not None]
    return len(flights)


class _WatchedEcKey(ECKey):
    on_verify: Callable[[], object]

    def check_key_op(self, operation: str) -> None:
        super().check_key_op(operation)
        self.on_verify()


class _WatchedRsaKey(RSAKey):
    on_verify: Callable[[], object]

    def check_key_op(self, operation: str) -> None:
        super().check_key_op(operation)
        self.on_verify()


def watch_key(key: PublicKey, on_verify: Callable[[], object]) -> PublicKey:
    """Return an equal key that calls a function at each verification of a signature, in the same thread."""
    value = key.jose.as_dict(private=False)
    jose = (_WatchedRsaKey if isinstance(key.jose, RSAKey) else _WatchedEcKey).import_key(value)
    jose.on_verify = on_verify
    # Without its AWS-LC key, which would be used in its place.
    return replace(key, jose=jose, aws_lc=None)


class SlowClaims(TokenClaims):
    """Claims that take a whole turn to parse, however fast the machine verifies signatures."""

    @field_validator("sub")
    @classmethod
    def take_a_turn(cls, value: str) -> str:
        end = time.perf_counter() + TURN_SECONDS
        while time.perf_counter() < end:
            pass
        return value


def end_at_once(least: float, most: float) -> Callable[[float | None], asyncio.Timeout]:
    """Return `asyncio.timeout` for a test in which a limit of so many seconds is over at once, and no other one."""
    timeout = asyncio.timeout

    def build(delay: float | None) -> asyncio.Timeout:
        return timeout(0 if delay is not None and least <= delay <= most else delay)

    return build


async def wait_until(condition: Callable[[], bool]) -> None:
    """Run the loop until a condition is true, for at most half a minute."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - a condition has no event
            await asyncio.sleep(0.001)
