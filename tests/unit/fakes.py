"""Doubles for the edges alone: a provider in memory, and a key that records when it is used."""

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import httpx
from joserfc.jwk import ECKey, RSAKey

from fastapi_logto.provider.key_set import PublicKey
from fastapi_logto.provider.transport import Transport
from tests.captured import DISCOVERY_PATH, JWKS_PATH

__all__ = ["ENDPOINT", "ISSUER", "FakeProvider", "finish_fetches", "wait_until", "watch_key"]

ENDPOINT: Final = "https://tenant.logto.app"
ISSUER: Final = f"{ENDPOINT}/oidc"


class FakeProvider:
    """A provider in memory, which counts what it is asked, and is away or slow when told.

    Attributes:
        jwks: The key set that it publishes.
        discovery: Its discovery document.
        faults: Instead of an answer, by path: a status, a body, or an exception of the connection.
        gate: While it is there and not set, nothing is answered.
        counts: Requests by path.
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
        """Requests for the discovery document, and for the key set at its usual place."""
        return self.counts[DISCOVERY_PATH], self.counts[JWKS_PATH]

    def go_away(self) -> None:
        """Answer nothing from now on."""
        self.faults = {path: httpx.ConnectError("away") for path in (DISCOVERY_PATH, JWKS_PATH)}

    def come_back(self) -> None:
        """Answer again from now on."""
        self.faults = {}

    def build_transport(self, *, timeout_seconds: float = 60) -> Transport:
        """Give a transport whose requests end here."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used, and made at once, unlike the default one
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
    """Wait for the fetches that run on this loop, and say how many there were."""
    flights = [task for task in asyncio.all_tasks() if task.get_name() == "fastapi_logto: fetch keys"]
    if flights:
        ended, pending = await asyncio.wait(flights, timeout=5)
        assert not pending
        # Whatever goes wrong is in the state afterwards.
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
    """Give an equal key that calls this each time a signature is verified with it, in the thread that does so."""
    value = key.jose.as_dict(private=False)
    jose = (_WatchedRsaKey if isinstance(key.jose, RSAKey) else _WatchedEcKey).import_key(value)
    jose.on_verify = on_verify
    # Without its double for AWS-LC, which would be used in its place.
    return replace(key, jose=jose, aws_lc=None)


async def wait_until(condition: Callable[[], bool]) -> None:
    """Let the loop run until something holds; it must within half a minute."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - whatever a double counts
            await asyncio.sleep(0.001)
