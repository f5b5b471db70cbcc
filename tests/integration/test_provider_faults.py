"""Every fault of a provider, over a real socket: cached keys are still used, and the package recovers by itself."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey

from fastapi_logto import LogtoAuth
from fastapi_logto.errors import ProviderUnavailableError
from fastapi_logto.testing import ManualClock
from tests import captured
from tests.captured import DISCOVERY_PATH, ISSUER, JWKS, JWKS_PATH, NOW, Answer, CapturedServer, Fault
from tests.integration.processes import find_free_port
from tests.unit.fakes import finish_fetches

TTL: Final = 300
TOKEN: Final = captured.TOKENS["user_api_spa"].token
KEY: Final[dict[str, Any]] = {**JWKS["keys"][0]}
NO_KEY: Final[dict[str, object]] = {}


def _key_set(*keys: object) -> Answer:
    return Answer.json({"keys": keys})


def _private() -> dict[str, Any]:
    return {**ECKey.generate_key("P-384").as_dict(private=True), "kid": KEY["kid"]}


def _symmetric() -> dict[str, Any]:
    return {**OctKey.generate_key(256).as_dict(private=True), "kid": KEY["kid"]}


# A modulus of 1024 bits. Generating a real one with the JOSE engine would cause a warning.
_WEAK: Final[dict[str, Any]] = {**RSAKey.generate_key(2048).as_dict(private=False), "n": "x" * 171, "kid": KEY["kid"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A response, the error in the health, and whether it is not a fault but withdraws the keys."""

    id: str
    answer: Answer | Fault
    says: str
    path: str = JWKS_PATH
    withdraws_keys: bool = False


FAULTS: Final = (
    Row(id="reset", answer=Fault.RESET, says="ReadError"),
    Row(id="hang", answer=Fault.HANG, says="no response in time (1 s)"),
    Row(
        id="slow drip",
        answer=Answer(body=b'{"keys": []}' * 100, seconds_per_byte=0.05),
        says="no complete response within 1 s",
    ),
    Row(id="404", answer=Answer(status=404), says="status 404"),
    Row(id="429", answer=Answer(status=429), says="status 429"),
    Row(id="500", answer=Answer(status=500), says="status 500"),
    Row(id="503 with a good body", answer=Answer.json(JWKS, status=503), says="status 503"),
    Row(id="redirect to the very key set", answer=Answer.redirect(JWKS_PATH), says="status 302"),
    Row(id="redirect to another host", answer=Answer.redirect("http://127.0.0.2/"), says="status 302"),
    Row(id="HTML", answer=Answer(body=b"<!doctype html><title>Bad gateway</title>"), says="not strict JSON"),
    Row(id="truncated", answer=Answer(body=b'{"keys": [', content_length=5000), says="RemoteProtocolError"),
    Row(id="not JSON", answer=Answer(body=b"{'keys': []}"), says="not strict JSON"),
    Row(id="compressed bomb", answer=Answer.gzip_bomb(), says="found Content-Encoding gzip"),
    Row(id="10,000 keys", answer=_key_set(*[KEY] * 10_000), says="expected at most 262144 bytes"),
    Row(
        id="10,000 entries that are no keys",
        answer=_key_set(*[NO_KEY] * 10_000),
        says="no key is usable",
        withdraws_keys=True,
    ),
    Row(id="no list", answer=Answer.json({"keys": KEY}), says="expected a list named keys"),
    Row(id="empty set", answer=_key_set(), says="no key is usable", withdraws_keys=True),
    Row(id="private key", answer=_key_set(_private()), says="no key is usable", withdraws_keys=True),
    Row(id="HMAC key", answer=_key_set(_symmetric()), says="no key is usable", withdraws_keys=True),
    Row(id="weak RSA key", answer=_key_set(_WEAK), says="no key is usable", withdraws_keys=True),
    Row(
        id="point off the curve", answer=_key_set({**KEY, "y": KEY["x"]}), says="no key is usable", withdraws_keys=True
    ),
    Row(id="discovery resets", path=DISCOVERY_PATH, answer=Fault.RESET, says="ReadError"),
    Row(id="discovery hangs", path=DISCOVERY_PATH, answer=Fault.HANG, says="no response in time"),
    Row(
        id="another issuer in discovery",
        path=DISCOVERY_PATH,
        answer=Answer.json({"issuer": "https://stranger.example/oidc", "jwks_uri": "https://stranger.example/jwks"}),
        says="found 'https://stranger.example/oidc'",
    ),
    Row(
        id="jwks_uri on another host",
        path=DISCOVERY_PATH,
        answer=Answer.json({"issuer": ISSUER, "jwks_uri": "https://stranger.example/jwks"}),
        says="found 'https://stranger.example/jwks'",
    ),
)

ODD_BUT_GOOD: Final = {
    "junk between good keys": _key_set(None, "junk", 7, NO_KEY, {**KEY, "kty": "XX"}, KEY, _WEAK, [KEY]),
    "the same key twice": _key_set(KEY, KEY),
    "another key of the same kid before": _key_set(
        {**ECKey.generate_key("P-384").as_dict(private=False), "kid": KEY["kid"], "use": "sig"}, KEY
    ),
}


@pytest.fixture
def server() -> Iterator[CapturedServer]:
    with captured.serve_captured() as server:
        yield server


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(now=NOW)


@pytest.fixture
def deadline(request: pytest.FixtureRequest) -> float:
    """The timeout of a fetch: short if it must be reached, otherwise longer than a busy machine needs."""
    callspec: Any = getattr(request.node, "callspec", None)
    row = callspec.params.get("row") if callspec is not None else None
    return 1 if isinstance(row, Row) and row.says.startswith(("no complete response", "no response in time")) else 20


@pytest.fixture
async def logto(server: CapturedServer, clock: ManualClock, deadline: float) -> AsyncIterator[LogtoAuth]:
    logto = LogtoAuth(
        endpoint=ISSUER.removesuffix("/oidc"),
        audience=captured.API,
        fetch_endpoint=server.endpoint,
        fetch_timeout_seconds=deadline,
        # The captured tokens are valid for an hour, and some tests simulate longer outages.
        leeway_seconds=60,
        clock=clock,
    )
    async with logto.lifespan():
        yield logto


@pytest.fixture
def cold(server: CapturedServer, clock: ManualClock, deadline: float) -> LogtoAuth:
    return LogtoAuth(
        endpoint=ISSUER.removesuffix("/oidc"),
        audience=captured.API,
        fetch_endpoint=server.endpoint,
        fetch_timeout_seconds=deadline,
        clock=clock,
    )


@pytest.mark.parametrize("row", FAULTS, ids=lambda row: row.id)
async def test_a_fault_at_the_first_fetch_is_503_and_ends_after_the_back_off(
    row: Row, server: CapturedServer, cold: LogtoAuth, clock: ManualClock
) -> None:
    server.replace(row.path, row.answer)

    for _ in range(3):
        with pytest.raises(ProviderUnavailableError):
            await cold.verify(TOKEN)

    health = cold.health()
    assert not health.is_ready
    assert row.says in str(health.last_error)
    assert server.counts[row.path] == 1

    server.restore(row.path)
    clock.advance(2)
    assert (await cold.verify(TOKEN)).aud == captured.API
    assert cold.health().last_error is None


@pytest.mark.parametrize("row", [row for row in FAULTS if row.withdraws_keys], ids=lambda row: row.id)
async def test_a_key_set_without_a_usable_key_withdraws_the_cached_keys(
    row: Row, server: CapturedServer, cold: LogtoAuth, clock: ManualClock
) -> None:
    await cold.verify(TOKEN)
    server.replace(row.path, row.answer)
    clock.advance(TTL)
    await cold.verify(TOKEN)
    await finish_fetches()

    for _ in range(3):
        with pytest.raises(ProviderUnavailableError):
            await cold.verify(TOKEN)

    assert row.says in str(cold.health().last_error)
    server.restore(row.path)
    clock.advance(2)
    assert (await cold.verify(TOKEN)).aud == captured.API


@pytest.mark.parametrize("row", [row for row in FAULTS if not row.withdraws_keys], ids=lambda row: row.id)
async def test_a_fault_while_keys_are_cached_does_not_affect_their_tokens(
    row: Row, server: CapturedServer, cold: LogtoAuth, clock: ManualClock
) -> None:
    await cold.verify(TOKEN)
    before = server.counts[row.path]
    server.replace(row.path, row.answer)
    if row.path == DISCOVERY_PATH:
        # It is fetched again only when the key set is not at its URL.
        server.replace(JWKS_PATH, Answer(status=404))

    seen: list[str] = []
    for _ in range(3):
        clock.advance(TTL)
        assert (await cold.verify(TOKEN)).aud == captured.API
        await finish_fetches()
        assert (await cold.verify(TOKEN)).aud == captured.API
        seen.append(str(cold.health().last_error))

    assert cold.health().is_stale
    assert cold.health().is_ready
    assert row.says in seen[-1]
    assert server.counts[row.path] > before

    server.restore(row.path)
    server.restore(JWKS_PATH)
    clock.advance(40)
    await cold.verify(TOKEN)
    await finish_fetches()
    assert cold.health().last_error is None
    assert not cold.health().is_stale


@pytest.mark.parametrize("name", ODD_BUT_GOOD)
async def test_a_key_set_with_an_odd_entry_is_still_used(name: str, server: CapturedServer, cold: LogtoAuth) -> None:
    server.replace(JWKS_PATH, ODD_BUT_GOOD[name])

    assert (await cold.verify(TOKEN)).aud == captured.API


def test_a_provider_that_refuses_connections_is_503_until_it_accepts_them(clock: ManualClock) -> None:
    port = find_free_port()
    logto = LogtoAuth(
        endpoint=ISSUER.removesuffix("/oidc"),
        audience=captured.API,
        fetch_endpoint=f"http://127.0.0.1:{port}",
        clock=clock,
    )

    with pytest.raises(ProviderUnavailableError):
        asyncio.run(logto.verify(TOKEN))
    assert "connection refused" in str(logto.health().last_error)

    with captured.serve_captured(port=port):
        clock.advance(2)
        assert asyncio.run(logto.verify(TOKEN)).aud == captured.API


async def test_an_outage_of_an_hour_is_followed_by_a_recovery(
    server: CapturedServer, logto: LogtoAuth, clock: ManualClock
) -> None:
    server.replace(JWKS_PATH, Fault.RESET)

    for _ in range(50):
        clock.advance(60)
        assert (await logto.verify(TOKEN)).aud == captured.API
        await finish_fetches()
    assert server.counts[JWKS_PATH] > 30
    assert logto.health().is_stale

    server.restore(JWKS_PATH)
    clock.advance(34)
    await logto.verify(TOKEN)
    await finish_fetches()
    assert not logto.health().is_stale


async def test_closing_during_a_hanging_fetch_logs_and_warns_nothing(
    server: CapturedServer, cold: LogtoAuth, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with cold.lifespan():
        server.replace(JWKS_PATH, Fault.HANG)
        clock.advance(TTL)
        assert (await cold.verify(TOKEN)).aud == captured.API

    assert await finish_fetches() == 0
    assert not caplog.records
