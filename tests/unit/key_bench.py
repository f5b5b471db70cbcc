"""A key source with all its dependencies, for tests of when keys are fetched."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import pytest

from fastapi_logto.errors import ProviderUnavailableError, UnknownKeyError
from fastapi_logto.provider.discovery import MetadataSource
from fastapi_logto.provider.key_source import CoolingDownError, KeySource
from fastapi_logto.testing import LocalIssuer, ManualClock
from tests.captured import DISCOVERY_PATH, JWKS_PATH, NOW
from tests.unit.fakes import ENDPOINT, ISSUER, FakeProvider, wait_until

T = TypeVar("T")

TTL = 300
COOLDOWN = 30
MAX_STALE = 3600
AWAY = f"{ENDPOINT}{JWKS_PATH}: ConnectError"
AWAY_AT_ONCE = f"{ENDPOINT}{DISCOVERY_PATH}: ConnectError"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A key source and all its dependencies."""

    issuer: LocalIssuer
    provider: FakeProvider
    clock: ManualClock
    source: KeySource

    @property
    def kid(self) -> str:
        """The kid of the current key."""
        return self.issuer.jwks()["keys"][0]["kid"]

    def rotate(self, *, keep_previous: bool = True) -> str:
        """Publish a new key."""
        kid = self.issuer.rotate(keep_previous=keep_previous)
        self.provider.jwks = self.issuer.jwks()
        return kid

    def block(self) -> asyncio.Event:
        """Delay all responses of the provider until the returned event is set."""
        self.provider.gate = asyncio.Event()
        return self.provider.gate

    async def find(self, kid: str | None = "", *, alg: str = "ES384") -> list[str | None]:
        """Return the kids of the found keys; by default, search for the current key."""
        return [key.kid for key in await self.source.find(kid=self.kid if kid == "" else kid, alg=alg)]

    async def refused(self, kid: str | None) -> UnknownKeyError:
        with pytest.raises(UnknownKeyError) as caught:
            await self.source.find(kid=kid, alg="ES384")
        return caught.value

    async def cooling_down(self, kid: str | None) -> CoolingDownError:
        with pytest.raises(CoolingDownError) as caught:
            await self.source.find(kid=kid, alg="ES384")
        return caught.value

    async def unavailable(self, kid: str | None = "") -> ProviderUnavailableError:
        with pytest.raises(ProviderUnavailableError) as caught:
            await self.find(kid)
        return caught.value

    async def outcomes(self, *kids: str) -> set[type[object]]:
        """Return the types of results and errors that concurrent callers get."""
        tasks = (self.source.find(kid=kid, alg="ES384") for kid in kids)
        return {type(outcome) for outcome in await asyncio.gather(*tasks, return_exceptions=True)}


def build_bench(
    *,
    ttl: float = TTL,
    cooldown: float = COOLDOWN,
    max_stale: float = MAX_STALE,
    deadline: float = 10_000,
    discovery_monotonic: Callable[[], float] | None = None,
) -> Bench:
    issuer = LocalIssuer(endpoint=ENDPOINT)
    provider, clock = FakeProvider(issuer.jwks()), ManualClock(now=NOW)
    transport = provider.build_transport()
    metadata = MetadataSource(
        fetch_base=ENDPOINT,
        issuers=[ISSUER],
        allowed_jwks_origins=[],
        transport=transport,
        monotonic=discovery_monotonic or clock.monotonic,
    )
    source = KeySource(
        metadata=metadata,
        transport=transport,
        algorithms=("ES384", "RS256"),
        clock=clock,
        ttl_seconds=ttl,
        cooldown_seconds=cooldown,
        max_stale_seconds=max_stale,
        deadline_seconds=deadline,
    )
    return Bench(issuer=issuer, provider=provider, clock=clock, source=source)


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return cast("T", stop.value)
    coroutine.close()
    raise AssertionError("it waited")


async def until_asked(bench: Bench, *fetches: int) -> None:
    await wait_until(lambda: bench.provider.fetches == fetches)
