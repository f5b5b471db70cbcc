"""Faults of Redis: no revocation is lost for a process that follows the stream, or that starts later."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

import httpx
import pytest

from fastapi_logto import LogtoAuth
from fastapi_logto.clock import Clock
from fastapi_logto.errors import ProviderUnavailableError, RevokedTokenError
from fastapi_logto.revocation import RedisStore, Revocation, Revocations, RevocationStoreError
from fastapi_logto.testing import LocalIssuer, ManualClock
from fastapi_logto.verification.revocation_feed import OnOutage, RevocationFeed
from tests.integration.redis_server import RedisProxy, RedisServer, run_proxy
from tests.unit.fakes import wait_until

NOW: Final = 1_800_000_000
DAY: Final = 24 * 3600
KEY: Final = "{fastapi-logto:revocations}"
PASSWORD: Final = "pass-word-of-redis"


def nothing(_server: RedisServer, _proxy: RedisProxy) -> None:
    pass


def kill(server: RedisServer, _proxy: RedisProxy) -> None:
    server.kill()


def start(server: RedisServer, _proxy: RedisProxy) -> None:
    server.start()


def start_empty(server: RedisServer, _proxy: RedisProxy) -> None:
    server.wipe()
    server.start()


def pause(server: RedisServer, _proxy: RedisProxy) -> None:
    server.pause()


def resume(server: RedisServer, _proxy: RedisProxy) -> None:
    server.resume()


def delay(_server: RedisServer, proxy: RedisProxy) -> None:
    proxy.delay_seconds = 1


def cut(_server: RedisServer, proxy: RedisProxy) -> None:
    proxy.bytes_left = 10


def forward(_server: RedisServer, proxy: RedisProxy) -> None:
    proxy.delay_seconds, proxy.bytes_left = 0, None


def fill(server: RedisServer, _proxy: RedisProxy) -> None:
    server.run("CONFIG", "SET", "maxmemory", 1)


def free(server: RedisServer, _proxy: RedisProxy) -> None:
    server.run("CONFIG", "SET", "maxmemory", 0)


def set_password(server: RedisServer, _proxy: RedisProxy) -> None:
    server.run("CONFIG", "SET", "requirepass", PASSWORD)
    server.password = PASSWORD
    server.run("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def remove_password(server: RedisServer, _proxy: RedisProxy) -> None:
    server.run("CONFIG", "SET", "requirepass", "")
    server.password = None


def flush(server: RedisServer, _proxy: RedisProxy) -> None:
    server.run("FLUSHALL")


def evict(server: RedisServer, _proxy: RedisProxy) -> None:
    server.run("DEL", KEY)


def replace_stream(server: RedisServer, _proxy: RedisProxy) -> None:
    """Lose the stream and get another one before any process reads."""
    server.run("EVAL", f"redis.call('DEL', '{KEY}') redis.call('XADD', '{KEY}', '*', 'before', '{NOW}')", 0)


def set_clock_back(server: RedisServer, _proxy: RedisProxy) -> None:
    """Continue on another server, whose clock is years behind."""
    server.run("EVAL", f"redis.call('DEL', '{KEY}') redis.call('XADD', '{KEY}', '1-1', 'before', '{NOW}')", 0)


def lose_last_entry(server: RedisServer, _proxy: RedisProxy) -> None:
    """Lose the entries that a replica had not received when it became the primary server, and add a newer one."""
    (last, _), *_ = server.run("XREVRANGE", KEY, "+", "-", "COUNT", 1)
    server.run("EVAL", f"redis.call('XDEL', '{KEY}', ARGV[1]) redis.call('XADD', '{KEY}', '*', 'before', 1)", 0, last)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault of the server or of the network, its end, and whether processes notice that they can't read."""

    id: str
    begin: Callable[[RedisServer, RedisProxy], None]
    end: Callable[[RedisServer, RedisProxy], None] = nothing
    is_noticed: bool = False


FAULTS: Final = (
    Fault(id="killed, restarted empty", begin=kill, end=start_empty, is_noticed=True),
    Fault(id="killed, restarted with its data", begin=kill, end=start, is_noticed=True),
    Fault(id="paused", begin=pause, end=resume, is_noticed=True),
    Fault(id="slow", begin=delay, end=forward, is_noticed=True),
    Fault(id="responses cut", begin=cut, end=forward, is_noticed=True),
    Fault(id="wrong password", begin=set_password, end=remove_password, is_noticed=True),
    Fault(id="full", begin=fill, end=free),
    Fault(id="flushed", begin=flush),
    Fault(id="stream evicted", begin=evict),
    Fault(id="stream replaced", begin=replace_stream),
    Fault(id="failover without the last entry", begin=lose_last_entry),
    Fault(id="clock set back", begin=set_clock_back),
)


def revoke(user_id: str) -> Revocation:
    return Revocation(before=NOW, user_id=user_id)


def knows(feed: RevocationFeed, *user_ids: str) -> bool:
    return {one.user_id for one in feed.tokens.list_all()} - {None} == set(user_ids)


@asynccontextmanager
async def follow(url: str) -> AsyncGenerator[RevocationFeed]:
    """Yield the revocations of a process that has loaded them, and follows the store."""
    feed = RevocationFeed(
        RedisStore(url, timeout_seconds=0.5),
        # The time of the revocations is frozen. Ages are real.
        clock=Clock(now=lambda: NOW),
        on_outage="closed",
        outage_seconds=30,
        longest_token_seconds=DAY,
    )
    await feed.warm()
    try:
        yield feed
    finally:
        await feed.close()


async def wait_for_entries(store: RedisStore, *user_ids: str) -> None:
    async with asyncio.timeout(30):
        found: set[str | None] = set()
        while not found >= set(user_ids):
            found = {one.user_id for one in (await store.read(None, wait_seconds=0)).revocations}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
async def test_after_a_fault_every_process_knows_every_revocation(redis_server: RedisServer, fault: Fault) -> None:
    async with run_proxy(redis_server) as proxy, follow(proxy.url) as first, follow(proxy.url) as second:
        await first.add([revoke("before")])
        await wait_until(lambda: knows(second, "before"))
        await wait_until(lambda: first.health().last_error is None)

        await asyncio.to_thread(fault.begin, redis_server, proxy)
        with suppress(RevocationStoreError):
            await first.add([revoke("during")])
        assert knows(first, "before", "during")
        await wait_until(lambda: not fault.is_noticed or second.health().last_error is not None)
        await asyncio.to_thread(fault.end, redis_server, proxy)

        await wait_until(lambda: knows(first, "before", "during") and knows(second, "before", "during"))
        await second.add([revoke("after")])
        await wait_until(lambda: knows(first, "before", "during", "after"))
        await wait_for_entries(RedisStore(redis_server.url), "before", "during", "after")
        async with follow(redis_server.url) as late:
            assert knows(late, "before", "during", "after")
        # Another process may restore the store first, for a few seconds.
        await wait_until(lambda: first.health().waiting_count == 0)


async def test_a_full_server_rejects_revocations_and_can_still_be_read(redis_server: RedisServer) -> None:
    async with follow(redis_server.url) as feed, follow(redis_server.url) as other:
        await asyncio.to_thread(redis_server.run, "CONFIG", "SET", "maxmemory", 1)
        with pytest.raises(RevocationStoreError, match="found the error OutOfMemoryError; see the log of the server"):
            await feed.add([revoke("alice")])
        assert feed.health().waiting_count == 1
        assert (await RedisStore(redis_server.url).read(None, wait_seconds=0)).revocations == []

        await asyncio.to_thread(redis_server.run, "CONFIG", "SET", "maxmemory", 0)
        await wait_until(lambda: knows(other, "alice"))


async def test_a_paused_server_is_an_error_after_the_timeout(redis_server: RedisServer) -> None:
    store = RedisStore(redis_server.url, timeout_seconds=0.2)
    await store.save_text("name", "text")
    await asyncio.to_thread(redis_server.pause)

    for call in (
        store.append([revoke("alice")], kept_seconds=DAY),
        store.read(None, wait_seconds=0),
        store.try_lead("task", seconds=1),
        store.load_text("name"),
    ):
        with pytest.raises(RevocationStoreError, match=r"^Redis: expected a response within 0\.2 s, found none; check"):
            await call


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis://:{password}x@127.0.0.1:{port}", "expected a valid user and password, found others; correct the URL"),
        ("redis://bob:{password}x@127.0.0.1:{port}", "expected a valid user and password, found others"),
        ("redis://127.0.0.1:{port}", "expected a valid user and password, found others"),
        ("redis://alice:{password}@127.0.0.1:{port}", "expected a user who may run the commands, found one without"),
        ("redis://127.0.0.1:1", "found none (connection refused: nothing listens there)"),
        ("rediss://:{password}@127.0.0.1:{port}", "found none"),
        ("unix:///nowhere/{password}", "found none ("),
    ],
)
async def test_an_error_says_what_to_correct_and_shows_nothing_of_the_url(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture, url: str, text: str
) -> None:
    caplog.set_level(logging.DEBUG)
    await asyncio.to_thread(redis_server.run, "ACL", "SETUSER", "alice", "on", f">{PASSWORD}", "+ping", "~*")
    await asyncio.to_thread(redis_server.run, "CONFIG", "SET", "requirepass", PASSWORD)

    async with follow(url.format(password=PASSWORD, port=redis_server.port)) as feed:
        found = feed.health().last_error or ""

    assert text in found
    shown = found + caplog.text
    assert PASSWORD not in shown
    assert str(redis_server.port) not in shown
    assert "127.0.0.1" not in shown


@dataclass(frozen=True, slots=True)
class Api:
    """An API whose revocations are in a store, and tokens of its users."""

    auth: LogtoAuth
    tokens: dict[str, str]
    revocations: Revocations
    clock: ManualClock

    async def verify(self, user_id: str) -> str:
        return (await self.auth.verify(self.tokens[user_id])).sub


@asynccontextmanager
async def run_api(url: str, *, on_outage: OnOutage = "closed") -> AsyncGenerator[Api]:
    clock = ManualClock(now=NOW)
    issuer = LocalIssuer(clock=clock)
    revocations = Revocations(RedisStore(url, timeout_seconds=0.5), on_outage=on_outage)
    auth = LogtoAuth(
        endpoint=issuer.endpoint,
        audience="https://api.example.test",
        http_transport=httpx.ASGITransport(app=issuer.app),
        clock=clock,
        revocations=revocations,
    )
    tokens = {user_id: issuer.access_token(subject=user_id) for user_id in ("alice", "bob")}
    async with auth.lifespan():
        yield Api(auth, tokens, revocations, clock)


async def test_an_api_that_is_closed_on_outage_responds_with_503_until_the_server_works_again(
    redis_server: RedisServer,
) -> None:
    async with run_api(redis_server.url) as api:
        await api.revocations.revoke(user_id="alice", before=NOW)
        await asyncio.to_thread(redis_server.kill)
        await wait_until(lambda: api.revocations.health().last_error is not None)
        assert await api.verify("bob") == "bob"

        api.clock.advance(29)
        assert await api.verify("bob") == "bob"
        api.clock.advance(2)
        with pytest.raises(
            ProviderUnavailableError, match="no contact with the store of revocations: Redis: expected a connection"
        ):
            await api.verify("bob")
        assert not api.revocations.health().is_ready

        await asyncio.to_thread(redis_server.start)
        await wait_until(lambda: api.revocations.health().is_ready)
        assert await api.verify("bob") == "bob"
        with pytest.raises(RevokedTokenError):
            await api.verify("alice")


async def test_an_api_that_is_open_on_outage_continues_with_its_known_revocations_and_says_so(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with run_api(redis_server.url, on_outage="open") as api:
        await api.revocations.revoke(user_id="alice", before=NOW)
        await asyncio.to_thread(redis_server.kill)
        await wait_until(lambda: api.revocations.health().last_error is not None)
        api.clock.advance(1800)

        assert await api.verify("bob") == "bob"
        with pytest.raises(RevokedTokenError):
            await api.verify("alice")
        with pytest.raises(RevocationStoreError):
            await api.revocations.revoke(user_id="bob")
        with pytest.raises(RevokedTokenError):
            await api.verify("bob")
        health = api.revocations.health()
        assert (health.is_ready, health.is_stale, health.count, health.waiting_count) == (True, True, 2, 1)
        assert "the store of revocations is unavailable: Redis: expected a connection" in caplog.text


async def test_an_api_that_never_reached_its_server_is_closed_at_once(redis_server: RedisServer) -> None:
    await asyncio.to_thread(redis_server.kill)

    async with run_api(redis_server.url) as api:
        with pytest.raises(
            ProviderUnavailableError, match="no contact with the store of revocations: Redis: expected a connection"
        ):
            await api.verify("bob")


async def test_the_first_request_waits_until_everything_is_loaded(redis_server: RedisServer) -> None:
    store = RedisStore(redis_server.url)
    for first in range(0, 2000, 100):
        await store.append([revoke(f"user-{number}") for number in range(first, first + 100)], kept_seconds=DAY)
    issuer = LocalIssuer(clock=ManualClock(now=NOW))
    # Nothing is loaded at the start, because there is no lifespan.
    auth = LogtoAuth(
        endpoint=issuer.endpoint,
        audience="https://api.example.test",
        http_transport=httpx.ASGITransport(app=issuer.app),
        clock=issuer.clock,
        revocations=Revocations(RedisStore(redis_server.url)),
    )

    with pytest.raises(RevokedTokenError):
        await auth.verify(issuer.access_token(subject="user-1999"))
