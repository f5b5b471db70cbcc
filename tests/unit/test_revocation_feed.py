"""How a process stays in sync with the store of revocations: load, follow, outages, restarts, loops."""

import asyncio
import gc
import logging
import os
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from typing_extensions import override

from fastapi_logto.errors import ProviderUnavailableError
from fastapi_logto.revocation import Batch, Revocation, RevocationHealth, RevocationStoreError
from fastapi_logto.testing import ManualClock
from fastapi_logto.testing import claims as make_claims
from fastapi_logto.verification.revocation_feed import OnOutage, RevocationFeed
from fastapi_logto.verification.revocation_store import LogHealth, RevocationLog, RevocationStore
from tests.unit.fakes import end_at_once, wait_until
from tests.unit.recording import Point, Recording, start_recording
from tests.unit.stores import SharedStore

NOW = 1_800_000_000
DAY = 24 * 3600


def build(
    store: RevocationStore | None,
    *,
    clock: ManualClock | None = None,
    on_outage: OnOutage = "closed",
    outage_seconds: float = 30,
    logs: Sequence[RevocationLog] = (),
    **bounds: float,
) -> RevocationFeed:
    return RevocationFeed(
        store,
        clock=clock or ManualClock(now=NOW),
        on_outage=on_outage,
        outage_seconds=outage_seconds,
        longest_token_seconds=DAY,
        logs=logs,
        **bounds,
    )


@asynccontextmanager
async def running(store: RevocationStore | None, **options: Any) -> AsyncGenerator[RevocationFeed]:
    feed = build(store, **options)
    try:
        yield feed
    finally:
        await feed.close()


@pytest.fixture
def recording() -> Recording:
    return start_recording()


def revoke(user_id: str) -> Revocation:
    return Revocation(before=NOW, user_id=user_id)


def knows(feed: RevocationFeed, *user_ids: str) -> bool:
    return {one.user_id for one in feed.tokens.list_all()} == set(user_ids)


def is_current(feed: RevocationFeed) -> bool:
    # A function, because type checkers expect a property to stay the same.
    return feed.is_current


async def test_without_a_store_everything_is_known_and_nothing_is_read() -> None:
    async with running(None) as feed:
        assert is_current(feed)
        await feed.catch_up()
        assert await feed.add([revoke("a"), revoke("a"), revoke("b")]) == 2

        assert knows(feed, "a", "b")
        assert feed.health() == RevocationHealth(
            is_ready=True, is_stale=False, count=2, age_seconds=None, waiting_count=0, last_error=None
        )


async def test_the_first_request_waits_until_all_revocations_are_loaded() -> None:
    store = SharedStore(batch_size=2)
    store.entries = [revoke(name) for name in "abcde"]

    async with running(store) as feed:
        assert not is_current(feed)
        assert not feed.health().is_ready
        await asyncio.gather(*(feed.catch_up() for _ in range(20)))

        assert is_current(feed)
        assert knows(feed, *"abcde")
        # One load for all requests, and the follower that waits for more.
        assert store.reads[:3] == [None, "1-2", "1-4"]
        assert feed.health().age_seconds == 0


async def test_a_revocation_of_one_process_reaches_the_others() -> None:
    store = SharedStore()
    async with running(store) as one, running(store) as other:
        await one.catch_up()
        await other.catch_up()

        assert await one.add([revoke("a")]) == 1
        await wait_until(lambda: knows(other, "a"))

        assert knows(one, "a")
        assert await other.add([revoke("a")]) == 0
        assert store.appends == [1]


async def test_a_process_whose_last_contact_is_old_reads_before_it_goes_on() -> None:
    store, clock = SharedStore(), ManualClock(now=NOW)
    async with running(store, clock=clock) as feed:
        await feed.catch_up()
        store.is_stuck = True
        clock.advance(10)
        assert is_current(feed)
        assert not feed.health().is_stale

        clock.advance(0.1)
        assert not is_current(feed)
        assert feed.health().is_stale
        waiting = asyncio.ensure_future(feed.catch_up())
        await asyncio.sleep(0)
        assert not waiting.done()
        store.is_stuck = False
        await waiting

        assert is_current(feed)


async def test_a_token_is_admitted_without_waiting_only_while_all_revocations_are_known() -> None:
    store, clock = SharedStore(), ManualClock(now=NOW)
    alice, bob = (make_claims(subject=name, issued_at=NOW) for name in ("alice", "bob"))
    async with running(store, clock=clock) as feed:
        assert not feed.admits_now(bob, issuer=None)
        await feed.catch_up()
        await feed.add([revoke("alice")])
        assert feed.admits_now(bob, issuer=None)
        assert not feed.admits_now(alice, issuer=None)

        store.is_stuck = True
        clock.advance(10.1)
        assert not feed.admits_now(bob, issuer=None)
        store.is_stuck = False


class Log:
    """A delivery log that counts how often it is read."""

    def __init__(self) -> None:
        self.is_current = False
        self.reads = 0

    async def catch_up(self) -> None:
        self.reads += 1
        self.is_current = True

    async def close(self) -> None:
        self.is_current = False

    def health(self) -> LogHealth:
        return LogHealth(name="log", age_seconds=0, skipped_count=0, last_error=None)


async def test_a_log_that_is_current_is_not_read_again_because_the_store_is_not() -> None:
    clock, log = ManualClock(now=NOW), Log()
    async with running(SharedStore(), clock=clock, logs=[log]) as feed:
        await feed.catch_up()
        clock.advance(11)
        await feed.catch_up()
        assert log.reads == 1

        log.is_current = False
        await feed.catch_up()
        assert log.reads == 2


async def test_a_load_that_is_interrupted_is_no_contact() -> None:
    class Interrupted(SharedStore):
        @override
        async def read(self, position: str | None, *, wait_seconds: float) -> Batch:
            self.error = None if position is None else "connection reset"
            return await super().read(position, wait_seconds=wait_seconds)

    store = Interrupted(batch_size=2)
    store.entries = [revoke(name) for name in "abc"]
    async with running(store) as feed:
        with pytest.raises(ProviderUnavailableError):
            await feed.catch_up()

        assert knows(feed, "a", "b")
        assert not is_current(feed)
        assert (feed.health().is_ready, feed.health().age_seconds) == (False, None)


@pytest.mark.parametrize(("outage_seconds", "expected"), [(30, 2), (1, 0.5)])
async def test_a_read_waits_for_two_seconds_or_half_of_a_shorter_outage(outage_seconds: float, expected: float) -> None:
    waits = list[float]()

    class Watched(SharedStore):
        @override
        async def read(self, position: str | None, *, wait_seconds: float) -> Batch:
            waits.append(wait_seconds)
            return await super().read(position, wait_seconds=wait_seconds)

    async with running(Watched(), outage_seconds=outage_seconds) as feed:
        await feed.catch_up()
        await wait_until(lambda: len(waits) == 2)

    assert waits == [0, expected]


async def test_the_next_revocation_is_read_at_once() -> None:
    store = SharedStore()
    async with running(store, longest_wait_seconds=60) as feed:
        await feed.catch_up()
        for name in "abc":
            store.entries.append(revoke(name))
            for _ in range(20):
                await asyncio.sleep(0)

        assert knows(feed, *"abc")


async def test_revocations_and_failures_of_the_store_are_counted(recording: Recording) -> None:
    store = SharedStore(batch_size=10)
    store.entries = [revoke("a"), revoke("a"), revoke("b")]
    async with running(store) as feed:
        await feed.catch_up()
        await feed.add([revoke(name) for name in "bcde"], source="webhook")
        store.append_error = "out of memory"
        with pytest.raises(RevocationStoreError, match="out of memory"):
            await feed.add([revoke("f")])
        recorded = recording.read()

    assert recorded["fastapi_logto.revocations"] == [
        Point(1, {"fastapi_logto.source": "call"}),
        Point(2, {"fastapi_logto.source": "store"}),
        Point(3, {"fastapi_logto.source": "webhook"}),
    ]
    assert recorded["fastapi_logto.revocation_store.failures"] == [Point(1, {})]


@pytest.mark.parametrize("on_outage", ["open", "closed"])
async def test_a_store_that_was_never_reached_is_an_outage_at_once(
    on_outage: OnOutage, caplog: pytest.LogCaptureFixture
) -> None:
    store = SharedStore()
    store.error = "connection refused"
    async with running(store, on_outage=on_outage) as feed:
        if on_outage == "open":
            await feed.catch_up()
        else:
            with pytest.raises(ProviderUnavailableError) as refused:
                await feed.catch_up()
            assert refused.value.message == "It can't be checked now whether the token was revoked; try again later"
            assert str(refused.value) == (
                "provider_unavailable: provider_unavailable, "
                "found no contact with the store of revocations: connection refused"
            )
            assert 1 <= refused.value.retry_after_seconds <= 2

        health = feed.health()
        assert (health.is_ready, health.is_stale, health.age_seconds) == (on_outage == "open", True, None)
        assert health.last_error == "connection refused"
        assert caplog.messages == ["the store of revocations is unavailable: connection refused"]


@pytest.mark.parametrize("on_outage", ["open", "closed"])
async def test_an_outage_takes_effect_after_a_bounded_time_and_ends_with_it(
    on_outage: OnOutage, caplog: pytest.LogCaptureFixture
) -> None:
    store, clock = SharedStore(), ManualClock(now=NOW)
    caplog.set_level(logging.INFO, logger="fastapi_logto")
    async with running(store, clock=clock, on_outage=on_outage, longest_wait_seconds=0) as feed:
        await feed.catch_up()
        await feed.add([revoke("a")])
        store.error = "timeout"
        await wait_until(lambda: feed.health().last_error == "timeout")
        clock.advance(30)
        await feed.catch_up()
        assert feed.health().is_ready
        assert feed.health().is_stale

        clock.advance(0.1)
        assert feed.health().is_ready == (on_outage == "open")
        if on_outage == "closed":
            with pytest.raises(ProviderUnavailableError):
                await feed.catch_up()
        else:
            await feed.catch_up()
            assert knows(feed, "a")

        store.error = None
        await wait_until(lambda: is_current(feed))
        assert (feed.health().is_ready, feed.health().last_error) == (True, None)
        assert caplog.messages == [
            "the store of revocations is unavailable: timeout",
            "the store of revocations works again",
        ]


async def test_an_outage_of_a_short_limit_takes_effect_on_time() -> None:
    store, clock = SharedStore(), ManualClock(now=NOW)
    async with running(store, clock=clock, outage_seconds=1) as feed:
        await feed.catch_up()
        store.error = "timeout"
        await wait_until(lambda: feed.health().last_error == "timeout")
        clock.advance(1)
        assert is_current(feed)

        clock.advance(0.1)
        assert not is_current(feed)
        with pytest.raises(ProviderUnavailableError):
            await feed.catch_up()


async def test_in_an_outage_requests_wait_for_one_try_only() -> None:
    store, clock = SharedStore(), ManualClock(now=NOW)
    store.error = "connection refused"
    async with running(store, clock=clock, on_outage="open") as feed:
        await asyncio.gather(*(feed.catch_up() for _ in range(20)))
        await wait_until(lambda: len(store.reads) == 2)

        # The next try is due, and would not end.
        store.error, store.is_stuck = None, True
        clock.advance(3)
        async with asyncio.timeout(10):
            await asyncio.gather(*(feed.catch_up() for _ in range(20)))
        store.is_stuck = False


def test_an_outage_never_lengthens_the_wait_for_the_next_try_beyond_two_seconds() -> None:
    store, clock, loop = SharedStore(), ManualClock(now=NOW), asyncio.new_event_loop()
    store.error = "connection refused"
    feed = build(store, clock=clock, on_outage="open")

    # The loop runs only during requests, so each request tries itself.
    for _ in range(10):
        loop.run_until_complete(feed.catch_up())
        clock.advance(2.3)

    assert len(store.reads) >= 10
    loop.run_until_complete(feed.close())
    loop.close()


def test_a_refused_caller_may_come_back_after_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_mean(low: float, high: float) -> float:
        return (low + high) / 2

    monkeypatch.setattr(random, "uniform", find_mean)
    store, clock, loop = SharedStore(), ManualClock(now=NOW), asyncio.new_event_loop()
    store.error = "connection refused"
    feed = build(store, clock=clock)

    waits: list[int] = []
    for _ in range(10):
        clock.advance(100)
        with pytest.raises(ProviderUnavailableError) as caught:
            loop.run_until_complete(feed.catch_up())
        waits.append(caught.value.retry_after_seconds)

    assert max(waits) == 2
    loop.run_until_complete(feed.close())
    loop.close()


def test_the_wait_for_the_next_try_is_reported_and_is_short_again_in_the_next_outage() -> None:
    store, clock, loop = SharedStore(), ManualClock(now=NOW), asyncio.new_event_loop()
    feed = build(store, clock=clock, longest_wait_seconds=60)

    def request() -> int:
        clock.advance(100)
        try:
            loop.run_until_complete(feed.catch_up())
        except ProviderUnavailableError as error:
            return error.retry_after_seconds
        return 0

    store.error = "connection refused"
    waits = [request() for _ in range(4)]
    assert waits[0] <= 2
    assert waits[-1] > 5

    store.error = None
    assert request() == 0
    store.error = "connection refused"
    assert 1 <= request() <= 2
    loop.run_until_complete(feed.close())
    loop.close()


def test_a_process_whose_loop_runs_during_requests_only_tries_again_after_the_wait_and_not_earlier() -> None:
    store, clock, loop = SharedStore(), ManualClock(now=NOW), asyncio.new_event_loop()
    feed = build(store, clock=clock, load_seconds=0.01)

    def request() -> None:
        loop.run_until_complete(feed.catch_up())

    store.error = "connection refused"
    with pytest.raises(ProviderUnavailableError):
        request()
    # A try would not end.
    store.error, store.is_stuck = None, True
    with pytest.raises(ProviderUnavailableError):
        request()
    assert feed.health().last_error == "connection refused"
    store.error, store.is_stuck = "connection refused", False
    with pytest.raises(ProviderUnavailableError):
        request()

    store.error = None
    clock.advance(3)
    request()
    assert feed.health().last_error is None
    loop.run_until_complete(feed.close())
    loop.close()


async def test_a_store_that_does_not_respond_ends_the_load() -> None:
    store = SharedStore()
    store.is_stuck = True
    async with running(store, on_outage="open", load_seconds=0.01) as feed:
        await feed.catch_up()

        assert feed.health().last_error == "expected all revocations within 0.01 s, found more"
        store.is_stuck = False


async def test_a_load_may_take_thirty_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    store = SharedStore()
    store.is_stuck = True
    async with running(store, on_outage="open") as feed:
        with monkeypatch.context() as patch:
            patch.setattr(asyncio, "timeout", end_at_once(20, 40))
            await feed.catch_up()

        assert feed.health().last_error == "expected all revocations within 30 s, found more"
        store.is_stuck = False


async def test_a_revocation_that_the_store_could_not_take_is_appended_when_it_works_again() -> None:
    store, clock = SharedStore(), ManualClock(now=NOW)
    options: Any = {"clock": clock, "longest_wait_seconds": 0}
    async with running(store, **options) as feed, running(store, **options) as other:
        await feed.catch_up()
        await other.catch_up()
        store.error = "out of memory"
        with pytest.raises(RevocationStoreError, match="out of memory"):
            await feed.add([revoke("a")])
        with pytest.raises(RevocationStoreError, match="out of memory"):
            await feed.add([revoke("b")])
        assert knows(feed, "a", "b")
        assert feed.health().waiting_count == 2
        assert feed.health().last_error == "out of memory"

        await wait_until(lambda: other.health().last_error == "out of memory")
        store.error = None
        # Ends the wait of the process for the next revocation.
        store.entries.append(revoke("c"))
        await wait_until(lambda: knows(other, "a", "b", "c"))

        assert feed.health().waiting_count == 0
        assert [one.user_id for one in store.entries] == ["c", "a", "b"]


async def test_many_revocations_are_appended_in_pieces() -> None:
    store = SharedStore(batch_size=1000)
    async with running(store) as feed:
        assert await feed.add([revoke(f"user{i}") for i in range(250)]) == 250

        assert store.appends == [100, 100, 50]
        assert len(store.entries) == 250


async def test_a_store_that_was_restarted_without_its_data_gets_them_back(caplog: pytest.LogCaptureFixture) -> None:
    store, clock = SharedStore(batch_size=10), ManualClock(now=NOW)
    async with running(store, clock=clock) as feed:
        await feed.catch_up()
        await feed.add([revoke("a"), revoke("b"), revoke("c")])
        await wait_until(lambda: store.reads[-1] == "1-3")
        store.restart_empty()
        # Entries that another process has already restored are not appended again.
        store.entries.append(revoke("b"))
        clock.advance(11)
        await feed.catch_up()

        assert sorted(str(one.user_id) for one in store.entries) == ["a", "b", "c"]
        assert feed.health().waiting_count == 0
        assert caplog.messages == ["the store of revocations has lost its data; 3 are appended again"]
    async with running(store, clock=clock) as fresh:
        await fresh.catch_up()
        assert knows(fresh, "a", "b", "c")


async def test_a_restarted_store_that_is_full_is_reported_and_gets_the_revocations_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store, clock = SharedStore(batch_size=10), ManualClock(now=NOW)
    async with running(store, clock=clock) as feed:
        await feed.catch_up()
        await feed.add([revoke("a"), revoke("b")])
        await wait_until(lambda: store.reads[-1] == "1-2")
        store.restart_empty()
        store.append_error = "out of memory"
        clock.advance(11)
        await feed.catch_up()

        assert (feed.health().last_error, feed.health().waiting_count) == ("out of memory", 2)
        assert caplog.messages == [
            "the store of revocations has lost its data; 2 are appended again",
            "the store of revocations is unavailable: out of memory",
        ]
        store.append_error = None
        clock.advance(11)
        await feed.catch_up()
        assert store.entries == [revoke("a"), revoke("b")]
        assert (feed.health().last_error, feed.health().waiting_count) == (None, 0)


async def test_many_revocations_are_added_in_a_few_turns_of_the_loop() -> None:
    async with running(SharedStore(batch_size=1000)) as feed:
        await feed.catch_up()

        turns = 0
        adding = asyncio.ensure_future(feed.add([revoke(f"user{i}") for i in range(1000)]))
        while not adding.done() and turns < 100:
            turns += 1
            await asyncio.sleep(0)

        assert 10 <= turns < 100
        assert await adding == 1000


async def test_other_tasks_run_while_many_revocations_are_listed_for_a_restarted_store() -> None:
    store, clock = SharedStore(batch_size=1000), ManualClock(now=NOW)
    async with running(store, clock=clock) as feed:
        await feed.catch_up()
        await feed.add([revoke(f"user{i}") for i in range(1000)])
        await wait_until(lambda: store.reads[-1] == "1-1000")
        store.restart_empty()
        clock.advance(11)

        turns = 0
        reading = asyncio.ensure_future(feed.catch_up())
        while not reading.done() and turns < 100:
            turns += 1
            await asyncio.sleep(0)

        # Neither in one turn nor with a turn for each.
        assert 10 <= turns < 100
        assert len(store.entries) == 1000


async def test_one_process_after_the_other_restores_a_store() -> None:
    store, clock = SharedStore(batch_size=10), ManualClock(now=NOW)
    async with running(store, clock=clock) as feed:
        await feed.catch_up()
        await feed.add([revoke("a"), revoke("b")])
        store.is_leader_free = False
        store.restart_empty()
        clock.advance(11)
        await feed.catch_up()
        assert store.entries == []
        assert feed.health().waiting_count == 2

        store.entries.append(revoke("a"))
        store.is_leader_free = True
        clock.advance(11)
        await feed.catch_up()
        assert [one.user_id for one in store.entries] == ["a", "b"]


async def test_the_follower_survives_an_outage() -> None:
    store = SharedStore()
    async with running(store, longest_wait_seconds=0) as feed:
        await feed.catch_up()
        store.error = "connection reset"
        await wait_until(lambda: feed.health().last_error == "connection reset")

        store.error = None
        store.entries.append(revoke("a"))
        await wait_until(lambda: knows(feed, "a"))

        assert feed.health().last_error is None


def test_each_run_of_a_loop_reads_before_its_first_request() -> None:
    store, clock = SharedStore(), ManualClock(now=NOW)
    feed = build(store, clock=clock)
    followers: list[int] = []

    async def request() -> bool:
        was_current = feed.is_current
        await feed.catch_up()
        tasks = [task for task in asyncio.all_tasks() if "follow the store" in task.get_name()]
        await asyncio.sleep(0)
        followers.append(len([task for task in tasks if not task.done()]))
        return was_current

    # A loop that runs only during requests, as on AWS Lambda.
    loop = asyncio.new_event_loop()
    for name in "abc":
        store.entries.append(revoke(name))
        assert loop.run_until_complete(request()) is False
    assert knows(feed, *"abc")
    assert followers == [1, 1, 1]

    # Another loop, as in tests with a loop each.
    store.entries.append(revoke("d"))
    with asyncio.Runner() as runner:
        assert runner.run(request()) is False
    assert knows(feed, *"abcd")
    gc.collect()
    with asyncio.Runner() as runner:
        assert runner.run(request()) is False
        # The task of the previous loop can't be awaited here.
        runner.run(feed.close())
    for task in asyncio.all_tasks(loop):
        task.cancel()
        loop.run_until_complete(asyncio.wait([task]))
    loop.close()


async def test_a_forked_process_follows_the_store_itself() -> None:
    store, clock = SharedStore(), ManualClock(now=NOW)
    async with running(store, clock=clock) as feed:
        await feed.catch_up()
        task: Any = vars(feed)["_follower"]
        follower: dict[str, Any] = task.__dict__
        started: Any = follower["_started"]
        assert started.process_id == os.getpid()
        # As in a child: the task that it inherits never runs.
        follower["_started"] = replace(started, process_id=-1)
        assert not is_current(feed)
        await feed.catch_up()

        assert follower["_started"].task is not started.task
        started.task.cancel()


async def test_a_feed_that_is_closed_stops_following_and_can_be_used_again() -> None:
    store = SharedStore()
    feed = build(store)
    await feed.catch_up()
    await feed.close()
    assert not [task for task in asyncio.all_tasks() if "follow the store" in task.get_name()]
    assert not is_current(feed)
    assert store.closed == 1

    store.entries.append(revoke("a"))
    await feed.catch_up()
    assert knows(feed, "a")
    await feed.close()


async def test_warming_reports_an_outage_and_does_not_raise() -> None:
    store = SharedStore()
    store.error = "connection refused"
    async with running(store) as feed:
        await feed.warm()
        assert feed.health().last_error == "connection refused"


@pytest.mark.parametrize(
    ("iat", "exp", "warns"),
    [
        (NOW, NOW + DAY, 0),
        (NOW, NOW + DAY + 1, 1),
        (NOW - 100, NOW - 100 + DAY, 0),
        (NOW - 100, NOW - 99 + DAY, 1),
        (0, DAY, 0),
        (0, DAY + 1, 1),
        (None, NOW + DAY + 1, 1),
        (None, NOW + DAY, 0),
        pytest.param(NOW, 10**400, 1, id="an exp too large for a float"),
    ],
)
async def test_a_token_that_lives_longer_than_revocations_are_kept_is_reported_once(
    iat: int | None, exp: int, warns: int, caplog: pytest.LogCaptureFixture
) -> None:
    feed = build(None)
    claims = make_claims(extra={"iat": iat, "exp": exp})

    for _ in range(3):
        feed.check_life(claims)

    assert len(caplog.messages) == warns
    assert all("longest_token_seconds" in message for message in caplog.messages)


async def test_the_state_before_the_first_contact_has_no_age() -> None:
    async with running(SharedStore()) as feed:
        health = feed.health()
        assert (health.age_seconds, health.is_stale, health.last_error) == (None, True, None)
        assert feed.now() == NOW


async def test_without_requests_a_revocation_is_appended_when_the_store_works_again() -> None:
    store = SharedStore()
    async with running(store, longest_wait_seconds=0) as feed:
        store.error = "connection refused"
        with pytest.raises(RevocationStoreError):
            await feed.add([revoke("a")])

        store.error = None
        await wait_until(lambda: store.entries == [revoke("a")])
        await wait_until(lambda: feed.health().waiting_count == 0)


async def test_a_store_that_can_be_read_but_takes_nothing_is_left_alone_between_tries() -> None:
    store = SharedStore()
    store.append_error = "out of memory"
    async with running(store, longest_wait_seconds=60) as feed:
        with pytest.raises(RevocationStoreError, match="out of memory"):
            await feed.add([revoke("a")])

        await wait_until(lambda: bool(store.reads))
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(store.reads) == 1
        assert feed.health().waiting_count == 1
        # It is followed all the same.
        assert is_current(feed)


async def test_a_revocation_that_is_repeated_in_an_outage_fails_each_time() -> None:
    store = SharedStore()
    async with running(store) as feed:
        store.error = "connection refused"
        for _ in range(2):
            with pytest.raises(RevocationStoreError, match="connection refused"):
                await feed.add([revoke("a")])

        store.error = None
        assert await feed.add([revoke("a")]) == 0
        assert store.entries == [revoke("a")]


async def test_concurrent_calls_return_only_when_the_store_has_their_revocations() -> None:
    store = SharedStore()
    async with running(store) as feed:
        store.blocked = asyncio.Event()
        first = asyncio.ensure_future(feed.add([revoke("a")]))
        await wait_until(lambda: store.waiting == 1)
        second = asyncio.ensure_future(feed.add([revoke(f"user{i}") for i in range(150)]))
        await wait_until(lambda: feed.health().waiting_count == 151)
        assert not second.done()
        # A revocation that is still being appended is not stored yet.
        assert store.entries == []

        store.error = "connection reset"
        store.blocked.set()
        for call in (first, second):
            with pytest.raises(RevocationStoreError, match="connection reset"):
                await call
        assert feed.health().waiting_count == 151

        store.error = None
        await feed.add([])
        assert len(store.entries) == 151


async def test_concurrent_requests_load_the_store_once() -> None:
    store = SharedStore(batch_size=100)
    store.entries = [revoke("mallory")]
    async with running(store) as feed:
        store.is_stuck = True
        requests = [asyncio.ensure_future(feed.catch_up()) for _ in range(20)]
        await wait_until(lambda: bool(store.reads))
        store.is_stuck = False
        await asyncio.gather(*requests)

        assert store.reads.count(None) == 1
        assert knows(feed, "mallory")


async def test_concurrent_calls_append_each_revocation_once() -> None:
    store = SharedStore()
    async with running(store) as feed:
        store.blocked = asyncio.Event()
        calls = [asyncio.ensure_future(feed.add([revoke(name)])) for name in ("a", "b", "c")]
        await wait_until(lambda: feed.health().waiting_count == 3)
        store.blocked.set()
        await asyncio.gather(*calls)

        assert store.entries == [revoke("a"), revoke("b"), revoke("c")]


async def test_a_call_during_a_repair_appends_nothing_twice() -> None:
    store = SharedStore()
    async with running(store, on_outage="open") as feed:
        store.append_error = "out of memory"
        with pytest.raises(RevocationStoreError, match="out of memory"):
            await feed.add([revoke("a")])
        store.append_error = None
        store.blocked = asyncio.Event()
        repair = asyncio.ensure_future(feed.catch_up())
        await wait_until(lambda: store.waiting > 0)
        call = asyncio.ensure_future(feed.add([revoke("b")]))
        await wait_until(lambda: feed.health().waiting_count == 2)
        store.blocked.set()
        await asyncio.gather(repair, call)

        assert store.entries == [revoke("a"), revoke("b")]


async def test_a_failed_append_does_not_delay_the_first_read() -> None:
    store = SharedStore()
    store.entries = [revoke("mallory")]
    async with running(store, on_outage="open") as feed:
        store.append_error = "out of memory"
        with pytest.raises(RevocationStoreError, match="out of memory"):
            await feed.add([revoke("a")])

        await feed.catch_up()
        assert knows(feed, "a", "mallory")
        assert feed.health().last_error == "out of memory"
        assert not feed.health().is_stale


async def test_a_store_that_takes_nothing_is_read_as_usual() -> None:
    store, clock = SharedStore(), ManualClock(now=NOW)
    async with running(store, clock=clock, longest_wait_seconds=60) as feed:
        store.append_error = "out of memory"
        with pytest.raises(RevocationStoreError, match="out of memory"):
            await feed.add([revoke("a")])
        await feed.catch_up()

        clock.advance(11)
        store.entries.append(revoke("mallory"))
        await feed.catch_up()
        assert knows(feed, "a", "mallory")


async def test_any_error_of_an_application_s_own_store_is_an_outage() -> None:
    class Broken(SharedStore):
        async def read(self, position: str | None, *, wait_seconds: float) -> Batch:
            raise LookupError(f"redis://user:hidden@host from {position} for {wait_seconds}")

    async with running(Broken(), on_outage="open") as feed:
        await feed.catch_up()
        assert feed.health().last_error == "unexpected LookupError"
        assert feed.health().is_stale


async def test_the_store_is_followed_until_the_last_application_has_ended() -> None:
    store = SharedStore()
    feed = build(store)
    await feed.warm()
    await feed.warm()

    await feed.close()
    assert is_current(feed)
    assert store.closed == 0
    await feed.close()
    assert not is_current(feed)
    assert store.closed == 1
