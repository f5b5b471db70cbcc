"""Revocations from a delivery log: the revoked tokens, the waits of requests, and `health`."""

import asyncio
import ssl
from typing import Any, Final

import httpx
import pytest

from fastapi_logto.errors import SettingsError
from fastapi_logto.revocation import DeliveryLog, LogHealth, Revocation, Revocations
from fastapi_logto.revocation.revocations import find_feeds
from fastapi_logto.testing import ManualClock
from fastapi_logto.verification.revoked import MAX_LATE_SECONDS
from tests.unit.fakes import ENDPOINT, ISSUER, end_at_once, wait_until
from tests.unit.hook_log import HOOK, NOW, FakeLog, FakeStore, build_entry

pytestmark = pytest.mark.anyio

_SUSPENDED: Final[dict[str, Any]] = {"createdAt": "2027-01-15T08:00:00.000Z"}
_BEFORE: Final = 1_800_000_000.0


def build(
    log: FakeLog, *, clock: ManualClock | None = None, issuer: str | None = None, **arguments: Any
) -> Revocations:
    clock = clock or ManualClock(now=NOW)
    revocations = Revocations(log=log.build(clock=clock, issuer=issuer), **arguments)
    find_feeds(revocations).use_clock(clock)
    return revocations


def list_revocations(revocations: Revocations) -> list[Revocation]:
    return list(find_feeds(revocations).current.tokens.list_all())


async def read(revocations: Revocations) -> None:
    feed = find_feeds(revocations).current
    await feed.warm()
    await feed.close()


async def test_the_events_of_the_log_revoke_tokens() -> None:
    revocations = build(FakeLog([build_entry("alice", **_SUSPENDED)]))

    await read(revocations)

    assert list_revocations(revocations) == [Revocation(before=_BEFORE, user_id="alice")]
    assert revocations.health().logs == (
        LogHealth(name=f"{ISSUER} {HOOK}", age_seconds=0, skipped_count=0, last_error=None),
    )


async def test_the_events_of_one_of_several_tenants_revoke_its_tokens_only() -> None:
    revocations = build(FakeLog([build_entry("alice", **_SUSPENDED)]), issuer=ISSUER)

    await read(revocations)

    assert list_revocations(revocations) == [Revocation(before=_BEFORE, user_id="alice", issuer=ISSUER)]


async def test_the_log_is_read_as_far_back_as_tokens_are_accepted() -> None:
    log = FakeLog()

    await read(build(log, longest_token_seconds=3600))

    assert log.queries[0]["start_time"] == (NOW - 3600 - MAX_LATE_SECONDS) * 1000


async def test_a_webhook_without_an_event_that_revokes_all_tokens_is_reported() -> None:
    revocations = build(FakeLog(), revoke_all_on=["Role.Deleted"])

    await read(revocations)

    (health,) = revocations.health().logs
    assert health.last_error == ("the webhook lacks the events Role.Deleted; add them with fastapi-logto webhook push")


async def test_what_one_process_reads_reaches_the_others_over_the_store() -> None:
    store, log, clock = FakeStore(), FakeLog(), ManualClock(now=NOW)
    first = build(log, clock=clock, store=store.open())
    second = build(log, clock=clock, store=store.open())
    for one in (first, second):
        await find_feeds(one).current.catch_up()
    log.entries = [build_entry("alice", **_SUSPENDED)]
    # Only the first process reads the log after its start.
    clock.advance(200)
    await find_feeds(first).current.catch_up()

    expected = [Revocation(before=_BEFORE, user_id="alice")]
    await wait_until(lambda: list_revocations(second) == expected)

    assert list_revocations(first) == store.revocations == expected
    for one in (first, second):
        await find_feeds(one).current.close()


async def test_the_position_waits_for_a_store_that_is_away_while_requests_go_on() -> None:
    store, log, clock = FakeStore(), FakeLog([build_entry("alice", **_SUSPENDED)]), ManualClock(now=NOW)
    store.is_away = True
    revocations = build(log, clock=clock, store=store.open(), on_outage="open")
    feed = find_feeds(revocations).current

    await feed.catch_up()
    assert list_revocations(revocations) == [Revocation(before=_BEFORE, user_id="alice")]
    assert revocations.health().waiting_count == 1
    store.is_away = False
    await wait_until(lambda: len(store.revocations) == 1)
    clock.advance(200)
    await feed.catch_up()

    assert len(store.texts) == 1
    await feed.close()


async def test_a_log_that_does_not_respond_delays_the_start_for_a_limited_time() -> None:
    log = FakeLog()
    log.fault = lambda _: httpx.Response(500)
    revocations = build(log)

    await read(revocations)

    (health,) = revocations.health().logs
    assert health.last_error is not None
    assert revocations.health().is_ready


async def test_tests_that_replace_the_tenant_do_not_read_the_log() -> None:
    log = FakeLog([build_entry("alice")])
    revocations = build(log)

    with find_feeds(revocations).replaced(clock=ManualClock(now=NOW)) as feed:
        await feed.catch_up()
        assert feed.is_current
        assert revocations.health().logs == ()

    assert log.queries == []


async def test_the_first_requests_wait_for_the_log() -> None:
    log = FakeLog([build_entry("alice", **_SUSPENDED)])
    log.gate = asyncio.Event()
    revocations = build(log)
    feed = find_feeds(revocations).current
    request = asyncio.create_task(feed.catch_up())
    await asyncio.sleep(0)
    waiting = (request.done(), feed.is_current)
    log.gate.set()
    await request

    assert waiting == (False, False)
    assert feed.is_current
    assert list_revocations(revocations) == [Revocation(before=_BEFORE, user_id="alice")]
    await feed.close()


async def test_all_requests_go_to_the_address_for_requests_with_a_token_for_the_management_api() -> None:
    log, requests = FakeLog(), list[tuple[str, str]]()

    def record(request: httpx.Request) -> httpx.Response | None:
        form = dict(httpx.QueryParams(request.content.decode()))
        requests.append((str(request.url.copy_with(query=None)), form.get("resource", "")))
        if not request.url.path.endswith("/openid-configuration"):
            return None
        base = "http://logto:3001/oidc"
        found = {"issuer": ISSUER, "jwks_uri": f"{base}/jwks", "token_endpoint": f"{base}/token"}
        return httpx.Response(200, json=found)

    log.fault = record
    clock = ManualClock(now=NOW)
    given = log.build(
        clock=clock,
        fetch_endpoint="http://logto:3001",
        allow_http=True,
        management_resource="https://tenant-id.logto.app/api",
    )
    revocations = Revocations(log=given)
    find_feeds(revocations).use_clock(clock)

    await read(revocations)

    assert (given.hook_id, given.label) == (HOOK, f"{ISSUER} {HOOK}")
    assert requests == [
        ("http://logto:3001/oidc/.well-known/openid-configuration", ""),
        ("http://logto:3001/oidc/token", "https://tenant-id.logto.app/api"),
        (f"http://logto:3001/api/hooks/{HOOK}/recent-logs", ""),
        (f"http://logto:3001/api/hooks/{HOOK}", ""),
    ]
    assert revocations.health().logs[0].last_error is None


async def test_all_requests_use_the_tls_context_that_was_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    contexts = list[object]()

    class Client(httpx.AsyncClient):
        def __init__(self, *, verify: Any, **arguments: Any) -> None:
            contexts.append(verify)
            super().__init__(verify=verify, **arguments)

    monkeypatch.setattr(httpx, "AsyncClient", Client)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    clock = ManualClock(now=NOW)
    log = DeliveryLog(
        ENDPOINT,
        client_id="machine",
        client_secret="secret",
        hook_id=HOOK,
        clock=clock,
        http_transport=FakeLog(),
        ssl_context=context,
    )
    revocations = Revocations(log=log)
    find_feeds(revocations).use_clock(clock)

    await read(revocations)

    assert len(contexts) >= 2
    assert all(one is context for one in contexts)


def test_the_log_is_read_each_minute_by_default() -> None:
    assert FakeLog().build(clock=ManualClock(now=NOW)).interval_seconds == 60


async def test_a_response_may_take_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    log = FakeLog()
    log.gate = asyncio.Event()
    revocations = build(log)

    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "timeout", end_at_once(4, 7))
        await read(revocations)

    error = revocations.health().logs[0].last_error
    assert error is not None
    assert "5 s" in error


def test_the_secret_is_not_sent_over_plain_http_by_default() -> None:
    with pytest.raises(SettingsError, match="https"):
        DeliveryLog("http://logto.example.com", client_id="machine", client_secret="secret", hook_id=HOOK)


@pytest.mark.parametrize("interval_seconds", [1, 3600])
def test_the_interval_may_be_at_a_limit(interval_seconds: float) -> None:
    log = FakeLog().build(clock=ManualClock(now=NOW), interval_seconds=interval_seconds)

    assert log.interval_seconds == interval_seconds
