"""The delivery log is read from the last delivery that was read, and what it contains is applied."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import httpx
import pytest
from typing_extensions import override

from fastapi_logto.errors import SettingsError
from fastapi_logto.revocation import DeliveryLog, Revocations, RevocationStoreError
from fastapi_logto.revocation.delivery_log import check_logs, find_hook_api
from fastapi_logto.revocation.events import Event
from fastapi_logto.revocation.hook_api import NEEDED_EVENTS, Window
from fastapi_logto.revocation.log_follower import LogFollower
from fastapi_logto.revocation.revocations import find_feeds
from fastapi_logto.testing import ManualClock
from fastapi_logto.verification.revocation_store import LogHealth
from tests.unit.fakes import ENDPOINT, end_at_once, wait_until
from tests.unit.hook_log import CAPTURED, HOOK, NOW, FakeConnection, FakeLog, FakeStore, build_entry

pytestmark = pytest.mark.anyio

WEEK: Final = 7 * 24 * 3600


class Bench:
    """A process that follows a log, and the revocations that it has applied."""

    def __init__(
        self,
        log: FakeLog,
        *,
        clock: ManualClock | None = None,
        store: FakeConnection | None = None,
        interval_seconds: float = 60,
        longest_seconds: float = WEEK,
        **bounds: Any,
    ) -> None:
        self.log = log
        self.clock = clock or ManualClock(now=NOW)
        self.applied: list[Event] = []
        self.has_stored = True
        self.error: Exception | None = None
        self.follower = LogFollower(
            log.build(clock=self.clock, interval_seconds=interval_seconds),
            store=store,
            handle=self._handle,
            has_stored=lambda: self.has_stored,
            events=NEEDED_EVENTS,
            longest_seconds=longest_seconds,
            **{"pass_seconds": 60, **bounds},
        )

    async def _handle(self, event: Event) -> None:
        self.applied.append(event)
        if not self.has_stored:
            raise RevocationStoreError("away")
        if self.error is not None:
            raise self.error

    @property
    def users(self) -> list[Any]:
        return [getattr(event, "user_id", None) for event in self.applied]

    @property
    def is_current(self) -> bool:
        return self.follower.is_current

    @property
    def health(self) -> LogHealth:
        return self.follower.health()

    async def read(self) -> None:
        """Read once, like a process that starts, without following in the background."""
        await self.follower.catch_up()
        await self.follower.close()

    async def read_later(self, seconds: float = 60) -> None:
        self.clock.advance(seconds)
        await self.read()


class Background:
    """The waits of a follower's background task: they take no time, and a test decides when one ends.

    It must read fewer than ten deliveries at once, because after ten it waits for the other tasks.

    Attributes:
        waits: How long they would take, in seconds.
    """

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waits: list[float] = []
        self._bench = bench
        self._ended = asyncio.Semaphore(0)
        self._sleep = asyncio.sleep
        monkeypatch.setattr(asyncio, "sleep", self._wait)

    async def _wait(self, seconds: float) -> None:
        task = asyncio.current_task()
        if task is None or task.get_name() != "fastapi_logto: follow a delivery log":
            await self._sleep(seconds)
            return
        self.waits.append(seconds)
        await self._ended.acquire()
        self._bench.clock.advance(seconds)

    async def start(self) -> None:
        """Read once, and return when the background task waits."""
        await self._bench.follower.catch_up()
        await wait_until(lambda: len(self.waits) == 1)

    async def go_on(self) -> None:
        """Let the wait end, and return when the next one has started."""
        count = len(self.waits)
        self._ended.release()
        await wait_until(lambda: len(self.waits) == count + 1)

    async def close(self) -> None:
        await self._bench.follower.close()


async def test_failed_deliveries_of_a_real_log_are_applied_from_their_bodies() -> None:
    newest = CAPTURED[0]["createdAt"] / 1000
    bench = Bench(FakeLog(CAPTURED), clock=ManualClock(now=newest + 5))

    await bench.read()

    assert [event.event for event in bench.applied] == [
        "Organization.Membership.Updated",
        "Organization.Membership.Updated",
        "User.SuspensionStatus.Updated",
        "User.Deleted",
        "Organization.Deleted",
    ]
    assert bench.health == LogHealth(name=f"{ENDPOINT}/oidc {HOOK}", age_seconds=0, skipped_count=0, last_error=None)


async def test_deliveries_that_succeeded_are_applied_too() -> None:
    entry = build_entry("a")
    entry["payload"]["result"] = "Success"
    bench = Bench(FakeLog([entry]))

    await bench.read()

    assert bench.users == ["a"]


async def test_the_first_pass_reads_as_far_back_as_tokens_live() -> None:
    bench = Bench(FakeLog([build_entry("new", seconds_ago=3500), build_entry("old", seconds_ago=3700)]),
                  longest_seconds=3600)  # fmt: skip

    await bench.read()

    assert bench.users == ["new"]
    assert bench.log.queries == [{"start_time": (NOW - 3600) * 1000, "page": 1, "page_size": 100}]


async def test_the_next_pass_starts_a_minute_before_the_newest_delivery_and_repeats_none() -> None:
    # The third one is read again, because it is exactly a minute older than the newest one.
    log = FakeLog([build_entry(name, seconds_ago=ago) for name, ago in (("b", 10), ("edge", 70), ("a", 600))])
    bench = Bench(log)
    await bench.read()
    # Written late, with an earlier time than the newest one.
    log.entries.insert(1, build_entry("late", seconds_ago=50))
    log.entries.insert(0, build_entry("c", seconds_ago=-30))

    await bench.read_later()
    await bench.read_later()

    assert bench.users == ["a", "edge", "b", "late", "c"]
    assert [query["start_time"] for query in log.queries[1:]] == [(NOW - 70) * 1000, (NOW - 30) * 1000]


async def test_only_the_deliveries_of_the_last_minute_are_remembered() -> None:
    log = FakeLog([build_entry(f"u{number}", seconds_ago=number) for number in range(150)])
    bench = Bench(log, most_pages=1)

    def find_remembered() -> set[str]:
        return {f"u{number}" for number in range(150) if f"'log-u{number}'" in repr(vars(bench.follower))}

    await bench.read()
    assert find_remembered() == {f"u{number}" for number in range(61)}
    await bench.read_later()
    assert find_remembered() == {f"u{number}" for number in range(61)}
    log.entries.insert(0, build_entry("new", seconds_ago=-50))
    await bench.read_later()

    assert find_remembered() == {f"u{number}" for number in range(11)}
    assert len(set(bench.users)) == len(bench.users) == 151


@pytest.mark.parametrize("identifier", [None, 1, {}], ids=repr)
async def test_a_delivery_without_a_valid_id_is_not_mistaken_for_another_one(identifier: object) -> None:
    log = FakeLog([{**build_entry("a"), "id": identifier}])
    bench = Bench(log)
    await bench.read()
    log.entries.insert(0, {**build_entry("b"), "id": identifier})

    await bench.read_later()

    # The last minute is repeated.
    assert bench.users == ["a", "a", "b"]


@pytest.mark.parametrize(
    ("created_at", "found"),
    [(1, 1), (2**53 - 1, 2**53 - 1), (0, None), (-1, None), (2**53, None), ("1", None), (1.5, None), (None, None)],
)
async def test_the_time_of_a_delivery_is_a_positive_number_of_milliseconds(
    created_at: object, found: int | None
) -> None:
    log = FakeLog([{**build_entry("a"), "createdAt": created_at}])
    log.ignores_times = True
    api, _ = find_hook_api(log.build(clock=ManualClock(now=NOW)))

    page = await api.fetch_page(Window(since=0), size=100)

    assert [delivery.created_at for delivery in page.deliveries] == [found]


async def test_a_delivery_is_represented_without_its_event() -> None:
    api, _ = find_hook_api(FakeLog([build_entry("alice")]).build(clock=ManualClock(now=NOW)))

    page = await api.fetch_page(Window(since=0), size=100)

    assert page.deliveries[0].body is not None
    assert "isSuspended" not in repr(page)


@pytest.mark.parametrize("timed", [0, 149])
async def test_deliveries_without_a_time_do_not_end_the_log(timed: int) -> None:
    entries = [build_entry(f"u{number}") for number in range(150)]
    for entry in entries[timed:] if timed else entries:
        del entry["createdAt"]
    bench = Bench(FakeLog(list(reversed(entries))))

    await bench.read()

    assert sorted(bench.users) == sorted(f"u{number}" for number in range(150))
    assert bench.health.last_error is None


async def test_several_pages_are_read_from_a_fixed_end_while_deliveries_arrive() -> None:
    log = FakeLog([build_entry(f"u{number}", seconds_ago=number) for number in range(250)])

    def deliver(_: httpx.Request) -> None:
        log.entries.insert(0, build_entry(f"new{len(log.entries)}", seconds_ago=-len(log.entries)))

    log.fault = deliver
    bench = Bench(log)
    await bench.read()

    assert [(query["page"], query.get("end_time")) for query in log.queries] == [
        (1, None),
        (2, log.queries[1]["end_time"]),
        (3, log.queries[1]["end_time"]),
    ]
    # A millisecond after the newest one of the first page.
    assert log.queries[1]["end_time"] in {entry["createdAt"] + 1 for entry in log.entries}
    assert {f"u{number}" for number in range(250)} <= set(bench.users)
    log.fault = lambda _: None
    await bench.read_later()
    assert len(set(bench.users)) == len(log.entries)


async def test_reading_ends_at_the_start_although_an_old_logto_ignores_it() -> None:
    log = FakeLog([build_entry(f"u{number}", seconds_ago=number * 10) for number in range(1000)])
    log.ignores_times = True
    bench = Bench(log)
    await bench.read()
    assert len(log.queries) == 11
    log.queries.clear()

    await bench.read_later()

    assert len(log.queries) == 2


async def test_a_log_that_is_too_long_for_one_pass_is_read_to_its_oldest_entry(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = FakeLog([build_entry(f"u{number}", seconds_ago=number) for number in range(550)])
    bench = Bench(log, most_pages=2)

    await bench.follower.catch_up()
    assert len(bench.applied) == 200
    assert bench.health.age_seconds is None
    await wait_until(lambda: bench.health.age_seconds == 0)
    await bench.follower.close()

    assert len(set(bench.users)) == len(bench.users) == 550
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "the delivery log has more than 200 new entries; the next pass continues"
    ]


async def test_a_pass_without_a_response_is_ended_and_reported() -> None:
    log = FakeLog([build_entry("a")])
    log.gate = asyncio.Event()
    bench = Bench(log, pass_seconds=0.01)

    await bench.read()

    assert bench.health.last_error == ("expected a response within 0.01 s, found none; check the connection to Logto")


async def test_a_pass_may_take_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    log = FakeLog([build_entry("a")])
    log.gate = asyncio.Event()
    revocations = Revocations(log=log.build(clock=ManualClock(now=NOW)))
    feed = find_feeds(revocations).current
    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "timeout", end_at_once(8, 20))
        await feed.warm()
    await feed.close()

    assert revocations.health().logs[0].last_error == (
        "expected a response within 10 s, found none; check the connection to Logto"
    )


async def test_a_pass_that_takes_too_long_continues_where_it_ended() -> None:
    store = FakeStore()
    log = FakeLog([build_entry(f"u{number}", seconds_ago=number) for number in range(150)])
    # As if the time were over when the first page is saved.
    store.save_errors = [TimeoutError()]
    bench = Bench(log, store=store.open())

    await bench.follower.catch_up()
    first = len(bench.users)
    assert bench.health.last_error is None
    await wait_until(lambda: bench.health.age_seconds == 0)
    await bench.follower.close()

    assert first == 100
    assert len(set(bench.users)) == len(bench.users) == 150


async def test_a_restart_continues_where_another_process_has_stopped() -> None:
    store = FakeStore()
    log = FakeLog([build_entry("a", seconds_ago=100), build_entry("old", seconds_ago=500)])
    await Bench(log, store=store.open()).read()
    log.entries.insert(0, build_entry("b", seconds_ago=-100))
    later = Bench(log, store=store.open(), clock=ManualClock(now=NOW + 200))

    await later.read()

    # The last minute is repeated, because this process does not know which deliveries the other one has read.
    assert later.users == ["a", "b"]
    assert log.queries[-1]["start_time"] == (NOW - 160) * 1000


async def test_a_restart_in_the_middle_of_a_long_log_misses_nothing() -> None:
    store = FakeStore()
    log = FakeLog([build_entry(f"u{number}", seconds_ago=number) for number in range(250)])
    first = Bench(log, store=store.open(), most_pages=1)
    await first.read()
    second = Bench(log, store=store.open())

    await second.read()

    assert len(first.applied) == 100
    assert {*first.users, *second.users} == {f"u{number}" for number in range(250)}
    assert len(second.applied) == 150


async def test_a_position_that_is_older_than_tokens_live_is_not_used() -> None:
    store = FakeStore()
    log = FakeLog([build_entry("a", seconds_ago=100)])
    await Bench(log, store=store.open()).read()
    later = Bench(log, store=store.open(), clock=ManualClock(now=NOW + 2 * WEEK))

    await later.read()

    assert log.queries[-1]["start_time"] == (NOW + WEEK) * 1000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "\ud800",
        '{"since": 1, "until": null, "offset": -1, "read_at": null, "error": null}',
        '{"since": "1", "until": null, "offset": 0, "read_at": null, "error": null}',
        '{"since": 1, "until": 1.5, "offset": 0, "read_at": null, "error": null}',
    ],
)
async def test_a_position_that_is_not_readable_is_not_used(text: str) -> None:
    store = FakeStore()
    store.texts[f"log {ENDPOINT}/oidc {HOOK}"] = text
    bench = Bench(FakeLog([build_entry("a", seconds_ago=WEEK - 1)]), store=store.open())

    await bench.read()

    assert bench.users == ["a"]


async def test_a_time_in_the_future_does_not_hide_what_happens_until_then() -> None:
    log = FakeLog([build_entry("far", seconds_ago=-10_000)])
    bench = Bench(log)
    await bench.read()
    log.entries.append(build_entry("near", seconds_ago=-30))

    await bench.read_later()

    assert bench.users == ["far", "near"]


async def test_one_process_reads_for_all_others() -> None:
    store = FakeStore()
    log = FakeLog([build_entry("a", seconds_ago=100)])
    first = Bench(log, store=store.open(), interval_seconds=1)
    second = Bench(log, store=store.open(), interval_seconds=1)
    await first.follower.catch_up()
    await second.follower.catch_up()
    # Each reads once at its start, because the other one may have stopped.
    assert first.users == second.users == ["a"]
    log.entries.insert(0, build_entry("b", seconds_ago=-1))

    for bench in (first, second):
        bench.clock.advance(2)
    await wait_until(lambda: first.users == ["a", "b"] or second.users == ["a", "b"])
    await wait_until(lambda: first.health.age_seconds == second.health.age_seconds == 0)

    assert sorted(map(len, (first.users, second.users))) == [1, 2]
    # So soon another one replaces the one that reads, if that has ended: after the interval and half a minute.
    assert store.lease_seconds == 31
    await first.follower.close()
    await second.follower.close()


async def test_another_process_takes_over_when_the_first_one_ends() -> None:
    store = FakeStore()
    log = FakeLog()
    first, second = store.open(), store.open()
    store.leader = first
    bench = Bench(log, store=second, interval_seconds=1)
    await bench.follower.catch_up()
    log.entries.insert(0, build_entry("a", seconds_ago=-1))
    bench.clock.advance(2)
    await wait_until(lambda: bench.is_current)
    assert bench.users == []

    store.free_lead()
    bench.clock.advance(2)
    await wait_until(lambda: bench.users == ["a"])

    assert store.leader is second
    await bench.follower.close()


async def test_a_process_that_does_not_read_shows_what_the_other_one_has_found() -> None:
    store = FakeStore()
    log = FakeLog()
    other = Bench(log, store=store.open())
    store.leader = other
    bench = Bench(log, store=store.open(), interval_seconds=1)
    await bench.follower.catch_up()
    log.hook["enabled"] = False
    await other.read()
    bench.clock.advance(2)
    await wait_until(lambda: bench.health.last_error is not None)
    await bench.follower.close()

    assert bench.health.last_error == (
        "the webhook is disabled, so Logto records no event; enable it with fastapi-logto webhook push"
    )


async def test_each_process_reads_alone_while_the_store_is_away() -> None:
    store = FakeStore()
    store.is_away = True
    log = FakeLog([build_entry("a")])
    benches = [Bench(log, store=store.open(), interval_seconds=1) for _ in range(2)]
    for bench in benches:
        await bench.follower.catch_up()
    log.entries.insert(0, build_entry("b", seconds_ago=-1))
    for bench in benches:
        bench.clock.advance(2)
    await wait_until(lambda: all(bench.users == ["a", "b"] for bench in benches))

    for bench in benches:
        await bench.follower.close()
    assert store.texts == {}


async def test_the_position_is_not_saved_before_the_store_has_the_revocations() -> None:
    store = FakeStore()
    bench = Bench(FakeLog([build_entry("a")]), store=store.open())
    bench.has_stored = False

    await bench.read()
    assert (bench.users, store.texts) == (["a"], {})
    bench.has_stored = True
    await bench.read_later()

    assert len(store.texts) == 1
    assert bench.users == ["a"]


async def test_an_error_of_the_applications_own_function_does_not_stop_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench(FakeLog([build_entry("b", seconds_ago=1), build_entry("a", seconds_ago=2)]))
    bench.error = ValueError("personal data")

    await bench.read()

    assert bench.users == ["a", "b"]
    assert bench.health.last_error is None
    assert [record.getMessage() for record in caplog.records] == [
        "on_event failed for an event of the delivery log"
    ] * 2


async def test_events_wait_while_it_is_unclear_which_tenant_they_concern() -> None:
    bench = Bench(FakeLog([build_entry("a")]))
    bench.error = SettingsError("issuer: expected the tenant, found none")
    await bench.read()
    assert bench.health.last_error == "issuer: expected the tenant, found none"
    bench.error = None

    await bench.read_later()

    assert bench.users == ["a", "a"]
    assert bench.health.last_error is None


async def test_an_entry_that_is_not_readable_is_skipped_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    log = FakeLog(
        [
            build_entry("a", seconds_ago=5),
            {"id": "odd", "createdAt": int(NOW - 6) * 1000, "payload": {"hookRequest": {"body": "text"}}},
            {"id": "no time", "payload": build_entry("b")["payload"]},
            {"id": 1, "payload": []},
            "entry",
            {**build_entry("c"), "createdAt": 2**54},
            build_entry("d", seconds_ago=7, createdAt="yesterday"),
        ]
    )
    bench = Bench(log)
    await bench.read()

    assert bench.users == ["c", "b", "a"]
    assert bench.health.skipped_count == 4
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 4
    assert all(text.startswith("an entry of the delivery log is skipped: ") for text in warnings)
    assert "yesterday" not in caplog.text


async def test_what_users_nest_deeply_does_not_hide_an_event() -> None:
    deep: Any = []
    for _ in range(500):
        deep = [deep]
    bench = Bench(FakeLog([build_entry("a", data={"id": "a", "isSuspended": True, "customData": deep})]))

    await bench.read()

    assert bench.users == ["a"]


async def test_large_deliveries_are_read_in_smaller_pages() -> None:
    large = build_entry("large", seconds_ago=15, data={"isSuspended": True, "customData": "x" * 300_000})
    entries = [build_entry(f"u{number}", seconds_ago=number) for number in range(300)]
    log = FakeLog([*entries[:15], large, *entries[15:]])
    bench = Bench(log)

    await bench.read()

    assert set(bench.users) == {"large", *(f"u{number}" for number in range(300))}
    assert len(bench.users) == 301
    # The large delivery makes a page of a hundred too large, and then one of ten, whose deliveries are read one by one.
    sizes = [query["page_size"] for query in log.queries]
    assert sizes == [100, 10, 10, *[1] * 10, *[10] * 8, 100, 100, 100]


async def test_a_delivery_that_is_too_large_is_skipped_and_the_others_are_read(
    caplog: pytest.LogCaptureFixture,
) -> None:
    huge = build_entry("huge", seconds_ago=2, data={"customData": "x" * 5_000_000})
    log = FakeLog([build_entry("a", seconds_ago=1), huge, build_entry("b", seconds_ago=3)])
    bench = Bench(log)
    caplog.set_level(logging.INFO, "fastapi_logto")

    await bench.read()
    failed = bench.health
    assert bench.users == ["a"]
    assert failed.last_error == "a delivery is skipped: expected at most 4194304 bytes, found more"
    await bench.read_later()

    assert bench.users == ["a", "b"]
    assert bench.health.skipped_count == 1
    assert bench.health.last_error is None
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def _fail(request: httpx.Request) -> None:
    if request.url.path.endswith("/recent-logs"):
        raise httpx.ConnectError("away")


def _respond(path: str, status: int, **content: Any) -> Callable[[httpx.Request], httpx.Response | None]:
    return lambda request: httpx.Response(status, **content) if request.url.path.endswith(path) else None


_URL: Final = f"{ENDPOINT}/api/hooks/{HOOK}"


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (
            _respond("/recent-logs", 403),
            (
                f"{_URL}/recent-logs: expected status 200, found 403; the machine-to-machine application has no "
                "access; give it a machine role with the permission `all` of the Logto Management API (console: Roles)"
            ),
        ),
        (
            _respond(HOOK, 404),
            (
                f"{_URL}: expected status 200, found 404; there is no such webhook; correct hook_id, or create the "
                "webhook with fastapi-logto webhook push"
            ),
        ),
        (_fail, f"{_URL}/recent-logs: ConnectError"),
        (
            _respond("/recent-logs", 302, headers={"location": "https://other.example"}),
            f"{_URL}/recent-logs: expected status 200, found 302; look up the status in Logto's documentation",
        ),
        (
            _respond("/recent-logs", 200, content=b"<html>"),
            f"{_URL}/recent-logs: expected a list of deliveries, found something else; check the endpoint",
        ),
        (
            _respond("/recent-logs", 200, content=b"{}"),
            f"{_URL}/recent-logs: expected a list of deliveries, found something else; check the endpoint",
        ),
        (
            _respond("/recent-logs", 200, content=b"[" * 100_000),
            f"{_URL}/recent-logs: expected a list of deliveries, found something else; check the endpoint",
        ),
        (
            _respond(HOOK, 200, content=b"<html>"),
            f"{_URL}: expected a webhook, found something else; check the endpoint",
        ),
        (_respond(HOOK, 200, json=[]), f"{_URL}: expected a webhook, found something else; check the endpoint"),
        (
            _respond(HOOK, 200, json={"id": HOOK, "config": {"url": 1}, "enabled": True}),
            f"{_URL}: expected a webhook, found something else; check the endpoint",
        ),
        (
            _respond(HOOK, 200, json={"id": HOOK, "config": {"url": ""}, "event": "User.Deleted", "enabled": True}),
            (
                "the webhook lacks the events User.SuspensionStatus.Updated, Organization.Membership.Updated, "
                "Organization.Deleted; add them with fastapi-logto webhook push"
            ),
        ),
        (
            _respond("/token", 401, json={"error": "invalid_client", "error_description": "secret"}),
            (
                f"{ENDPOINT}/oidc/token: 'invalid_client', 'secret'; check client_id and client_secret, and that they "
                "are of this tenant"
            ),
        ),
    ],
)
async def test_a_log_that_is_not_readable_is_reported_with_advice_and_read_later(
    fault: Callable[[httpx.Request], httpx.Response | None], expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fastapi_logto")
    log = FakeLog([build_entry("a")])
    log.fault = fault
    bench = Bench(log)
    await bench.read()
    await bench.read_later()
    failed = bench.health
    log.fault = lambda _: None

    await bench.read_later()

    # A secret that the provider repeats is not shown.
    assert failed.last_error == expected.replace("'secret'", "'***'")
    assert bench.users == ["a"]
    assert bench.health.last_error is None
    assert [record.getMessage() for record in caplog.records] == [
        f"the delivery log of {ENDPOINT}/oidc {HOOK} can't be relied on: {failed.last_error}",
        "the delivery log is read again",
    ]


async def test_the_body_of_an_error_is_not_read() -> None:
    class Unreadable(httpx.AsyncByteStream):
        @override
        def __aiter__(self) -> AsyncIterator[bytes]:
            raise httpx.ReadError("away")

    log = FakeLog()
    log.fault = _respond("/recent-logs", 500, stream=Unreadable())
    bench = Bench(log)

    await bench.read()

    assert bench.health.last_error is not None
    assert "expected status 200, found 500" in bench.health.last_error


async def test_only_a_rejected_token_is_replaced() -> None:
    log = FakeLog()
    bench = Bench(log)
    await bench.read()
    log.fault = _respond("/recent-logs", 403)

    await bench.read_later(600)

    assert bench.health.last_error is not None
    assert log.tokens == 1


async def test_a_rejected_token_is_replaced_once() -> None:
    log = FakeLog([build_entry("a")])
    bench = Bench(log)
    await bench.read()
    log.rejected = {"token-1"}
    log.entries.insert(0, build_entry("b", seconds_ago=-60))

    await bench.read_later()
    assert bench.users == ["a", "b"]
    log.rejected = {"token-1", "token-2", "token-3"}
    await bench.read_later()

    assert log.tokens == 3
    assert bench.health.last_error is not None
    assert "found 401; the token was rejected" in bench.health.last_error


async def test_an_unreachable_logto_delays_the_first_request_for_a_limited_time_only() -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("away")

    log = FakeLog()
    log.fault = fail
    bench = Bench(log, interval_seconds=1)
    await bench.follower.catch_up()

    assert bench.is_current
    assert bench.health.age_seconds is None
    assert bench.health.last_error is not None
    log.fault = lambda _: None
    log.entries = [build_entry("a")]
    bench.clock.advance(40)
    await wait_until(lambda: bench.users == ["a"])
    await bench.follower.close()


async def test_concurrent_first_requests_read_the_log_once() -> None:
    log = FakeLog([build_entry("a")])
    log.gate = asyncio.Event()
    bench = Bench(log)
    requests = [asyncio.create_task(bench.follower.catch_up()) for _ in range(5)]
    await asyncio.sleep(0)
    assert not any(request.done() for request in requests)
    log.gate.set()
    await asyncio.gather(*requests)
    await bench.follower.close()

    assert len(log.queries) == 1
    assert bench.users == ["a"]


async def test_health_says_how_long_ago_the_log_was_read() -> None:
    bench = Bench(FakeLog())
    assert bench.health == LogHealth(name=f"{ENDPOINT}/oidc {HOOK}", age_seconds=None, skipped_count=0, last_error=None)

    await bench.read()
    bench.clock.advance(30)

    assert bench.health.age_seconds == 30


async def test_an_age_is_not_negative_if_the_clock_of_another_process_is_ahead() -> None:
    store = FakeStore()
    log = FakeLog()
    await Bench(log, store=store.open(), clock=ManualClock(now=NOW + 100)).read()
    log.fault = _respond("/recent-logs", 500)
    bench = Bench(log, store=store.open())

    await bench.read()

    assert bench.health.age_seconds == 0


async def test_a_background_task_that_is_late_by_more_than_two_intervals_and_a_pass_is_not_relied_on() -> None:
    bench = Bench(FakeLog(), interval_seconds=600)
    await bench.follower.catch_up()

    relied_on = list[bool]()
    for seconds in (2 * 600 + 59, 1):
        bench.clock.advance(seconds)
        relied_on.append(bench.is_current)
    await bench.follower.close()

    assert relied_on == [True, False]


async def test_a_log_that_fails_is_not_read_by_each_request() -> None:
    log = FakeLog()
    log.fault = _respond("/recent-logs", 500)
    requests = 0

    def fail(request: httpx.Request) -> httpx.Response | None:
        nonlocal requests
        requests += request.url.path.endswith("/recent-logs")
        return _respond("/recent-logs", 500)(request)

    log.fault = fail
    bench = Bench(log, interval_seconds=1)
    await bench.read()
    await bench.read_later(1.2)
    assert requests == 2

    # The second wait is about two seconds.
    await bench.read_later(1.2)
    assert requests == 2
    await bench.read_later(1.2)
    assert requests == 3


async def test_the_background_waits_for_the_rest_of_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(FakeLog())
    background = Background(bench, monkeypatch)
    await bench.read()
    bench.clock.advance(59.5)

    await background.start()
    await background.go_on()
    await background.go_on()
    await background.close()

    assert background.waits == pytest.approx([0.5, 60, 60])
    assert len(bench.log.queries) == 3


async def test_the_background_tries_a_log_that_fails_again_earlier(monkeypatch: pytest.MonkeyPatch) -> None:
    log = FakeLog()
    log.fault = _respond("/recent-logs", 500)
    background = Background(Bench(log), monkeypatch)

    await background.start()
    await background.go_on()
    log.fault = lambda _: None
    await background.go_on()
    await background.go_on()
    await background.close()

    assert background.waits == [pytest.approx(seconds, rel=0.1) for seconds in (1, 2, 60, 60)]


async def test_the_background_reads_a_long_log_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    log = FakeLog([build_entry(f"u{number}", seconds_ago=60 + number) for number in range(105)])
    background = Background(Bench(log, most_pages=1), monkeypatch)

    await background.start()
    await background.go_on()
    await background.close()

    assert background.waits == [0, 60]


@pytest.mark.parametrize(
    ("most_pages", "status", "first"), [(100, 200, 60), (1, 200, 0), (100, 500, pytest.approx(1, rel=0.1))]
)
async def test_while_another_process_reads_the_background_waits_for_the_interval(
    most_pages: int, status: int, first: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FakeStore()
    store.leader = "another process"
    log = FakeLog([build_entry(f"u{number}", seconds_ago=60 + number) for number in range(150)])
    if status != 200:
        log.fault = _respond("/recent-logs", status)
    background = Background(Bench(log, store=store.open(), most_pages=most_pages), monkeypatch)

    await background.start()
    await background.go_on()
    await background.go_on()
    await background.close()

    assert background.waits == [first, pytest.approx(60), pytest.approx(60)]


async def test_a_process_that_does_not_read_keeps_what_it_knows_when_the_store_has_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = FakeStore()
    store.leader = "another process"
    bench = Bench(FakeLog(), store=store.open())
    background = Background(bench, monkeypatch)
    await background.start()
    store.texts.clear()

    await background.go_on()
    await background.close()

    assert bench.health.age_seconds == 60


async def test_ten_deliveries_are_applied_in_one_turn_of_the_event_loop() -> None:
    bench = Bench(FakeLog([build_entry(f"u{number}", seconds_ago=number) for number in range(35)]))
    counts = [0]

    async def count() -> None:
        while True:
            counts.append(len(bench.applied))
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await bench.read()
    counting.cancel()

    assert sorted(set(counts)) == [0, 10, 20, 30, 35]


async def test_the_log_is_read_again_at_the_interval() -> None:
    log = FakeLog()
    bench = Bench(log, interval_seconds=1)
    await bench.follower.catch_up()
    log.entries = [build_entry("a", seconds_ago=-1)]

    bench.clock.advance(1)
    await wait_until(lambda: bench.users == ["a"])
    was_current = bench.is_current
    await bench.follower.close()

    assert was_current
    assert bench.is_current is False


def test_a_loop_that_was_stopped_reads_before_the_next_request() -> None:
    log = FakeLog()
    bench = Bench(log)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(bench.follower.catch_up())
    log.entries = [build_entry("a", seconds_ago=-100)]
    # As AWS Lambda does between two requests.
    bench.clock.advance(100)
    assert not bench.is_current

    loop.run_until_complete(bench.follower.catch_up())

    assert bench.users == ["a"]
    loop.run_until_complete(bench.follower.close())
    loop.close()


def test_a_second_event_loop_reads_on() -> None:
    log = FakeLog()
    bench = Bench(log)
    asyncio.run(bench.follower.catch_up())
    assert not bench.is_current
    log.entries = [build_entry("a")]
    # The log was read a moment ago.
    asyncio.run(bench.read())
    assert bench.users == []
    bench.clock.advance(60)

    asyncio.run(bench.read())

    assert bench.users == ["a"]


async def test_a_webhook_without_access_to_its_log_names_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    log = FakeLog()
    log.fault = _respond("/recent-logs", 500, text=json.dumps(log.hook))
    bench = Bench(log)

    await bench.read()

    assert "a-signing-key" not in caplog.text + repr(bench.health) + repr(log.build(clock=bench.clock))
    assert "token-1" not in caplog.text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"hook_id": "../x"}, "hook_id: expected the id of a webhook, found '../x'; copy it from Logto"),
        ({"interval_seconds": 0.5}, "interval_seconds: expected 1 to 3600, found 0.5; pass 60"),
        ({"interval_seconds": True}, "interval_seconds: expected 1 to 3600, found True; pass 60"),
        ({"client_secret": ""}, "client: expected client_id and client_secret, found an empty one"),
    ],
)
def test_invalid_arguments_are_refused(arguments: dict[str, Any], expected: str) -> None:
    given: dict[str, Any] = {"client_id": "machine", "client_secret": "secret", "hook_id": HOOK, **arguments}

    with pytest.raises(SettingsError) as caught:
        DeliveryLog(ENDPOINT, **given)

    assert str(caught.value) == expected


def test_the_logs_of_an_argument_are_checked() -> None:
    log = FakeLog().build(clock=ManualClock())

    assert check_logs(None) == ()
    assert check_logs(log) == check_logs([log]) == (log,)
    with pytest.raises(TypeError, match=r"log: expected a DeliveryLog or several, found a str; pass DeliveryLog"):
        check_logs([log, "secret"])  # type: ignore[list-item] # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"found a str"):
        check_logs("secret")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
