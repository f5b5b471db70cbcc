"""Lanes and the back-off: which requests are sent while an endpoint fails."""

import asyncio
import logging

import pytest

from fastapi_logto.provider.backoff import Backoff
from fastapi_logto.provider.failures import FetchError
from fastapi_logto.provider.lanes import Lane, LaneClosedError
from fastapi_logto.testing import ManualClock
from tests.captured import NOW


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(now=NOW)


def build_lane(clock: ManualClock, *, max_in_flight: int | None = None) -> Lane:
    return Lane("test", monotonic=clock.monotonic, max_in_flight=max_in_flight)


def fail(lane: Lane, *, retry_after_seconds: int | None = None) -> None:
    with pytest.raises(FetchError) as caught, lane.enter():
        raise FetchError("fault", retry_after_seconds=retry_after_seconds)
    assert str(caught.value) == "fault"


def assert_closed(lane: Lane) -> None:
    with pytest.raises(LaneClosedError) as caught, lane.enter():
        pass
    assert not caught.value.is_full
    assert str(caught.value) == "test: not sent after a failure: fault"
    assert (caught.value.status, caught.value.retry_after_seconds, caught.value.url) == (None, None, None)
    assert not caught.value.is_about_request


def assert_open(lane: Lane) -> None:
    with lane.enter():
        pass


class TestBackoff:
    """Failures in a row are followed by longer and longer waits."""

    def test_the_wait_doubles_up_to_half_a_minute_and_is_spread_by_a_tenth(self, clock: ManualClock) -> None:
        backoff = Backoff(monotonic=clock.monotonic)

        waits = [backoff.fail() for _ in range(2000)]

        for wait, expected in zip(waits, [1, 2, 4, 8, 16, *[30] * 1995], strict=True):
            assert expected * 0.9 <= wait <= expected * 1.1
        assert len(set(waits)) > 1900

    def test_the_next_try_is_due_when_the_wait_is_over(self, clock: ManualClock) -> None:
        backoff = Backoff(monotonic=clock.monotonic)
        assert (backoff.is_failing, backoff.wait_seconds) == (False, 0.0)

        wait = backoff.fail()
        assert (backoff.is_failing, backoff.wait_seconds) == (True, wait)
        clock.advance(wait + 1)
        assert (backoff.is_failing, backoff.wait_seconds) == (True, 0.0)

    def test_a_success_resets_the_wait(self, clock: ManualClock) -> None:
        backoff = Backoff(monotonic=clock.monotonic)
        for _ in range(5):
            backoff.fail()
        backoff.succeed()

        assert (backoff.is_failing, backoff.wait_seconds) == (False, 0.0)
        assert backoff.fail() <= 1.1

    @pytest.mark.parametrize(("said", "waited"), [(1, 1), (20, 20), (30, 30), (31, 30), (3600, 30)])
    def test_the_provider_decides_the_wait_up_to_half_a_minute(
        self, clock: ManualClock, said: int, waited: int
    ) -> None:
        backoff = Backoff(monotonic=clock.monotonic)

        assert backoff.fail(retry_after_seconds=said) == waited
        assert backoff.wait_seconds == waited


def test_a_failure_closes_the_lane_and_the_next_success_opens_it(clock: ManualClock) -> None:
    lane = build_lane(clock)
    assert lane.retry_after_seconds == 1
    fail(lane, retry_after_seconds=20)

    assert lane.retry_after_seconds == 20
    clock.advance(19.5)
    assert_closed(lane)
    assert lane.retry_after_seconds == 1
    clock.advance(0.5)
    assert_open(lane)
    with lane.enter():
        assert_open(lane)


def test_another_error_than_a_failed_fetch_does_not_close_the_lane(clock: ManualClock) -> None:
    lane = build_lane(clock, max_in_flight=1)

    with pytest.raises(KeyError), lane.enter():
        raise KeyError

    assert_open(lane)


def test_one_request_at_a_time_is_sent_while_the_endpoint_fails(clock: ManualClock) -> None:
    lane = build_lane(clock)
    fail(lane, retry_after_seconds=1)
    clock.advance(1)

    with lane.enter():
        assert_closed(lane)
        assert lane.retry_after_seconds == 1
    assert_open(lane)


def test_the_end_of_a_request_from_before_the_failure_admits_no_second_try(clock: ManualClock) -> None:
    lane = build_lane(clock)
    early = lane.enter()
    early.__enter__()
    fail(lane, retry_after_seconds=1)
    clock.advance(1)

    with lane.enter():
        early.__exit__(None, None, None)
        assert_closed(lane)
    assert_open(lane)


async def test_a_try_that_is_cancelled_leaves_the_next_one_free(clock: ManualClock) -> None:
    lane = build_lane(clock)
    fail(lane, retry_after_seconds=1)
    clock.advance(1)

    async def hang() -> None:
        with lane.enter():
            await asyncio.Event().wait()

    task = asyncio.create_task(hang())
    await asyncio.sleep(0)
    assert_closed(lane)
    task.cancel()
    await asyncio.wait([task])

    fail(lane)
    assert_closed(lane)


def test_a_try_that_never_ends_blocks_the_lane_for_half_a_minute(clock: ManualClock) -> None:
    # Like on an event loop that only runs during requests.
    lane = build_lane(clock)
    fail(lane, retry_after_seconds=1)
    clock.advance(1)
    frozen = lane.enter()
    frozen.__enter__()

    clock.advance(29)
    assert_closed(lane)
    clock.advance(1)
    assert_open(lane)
    frozen.__exit__(None, None, None)
    assert_open(lane)


def test_requests_that_fail_together_are_one_failure_and_one_line_in_the_log(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    lane = build_lane(clock)
    together = [lane.enter() for _ in range(10)]
    for request in together:
        request.__enter__()
    for request in together:
        assert not request.__exit__(FetchError, FetchError("fault", retry_after_seconds=2), None)

    assert [(record.name, record.levelno, record.getMessage()) for record in caplog.records] == [
        ("fastapi_logto", logging.WARNING, "test: failed, next try in 2 s at the earliest: fault")
    ]
    clock.advance(2)
    fail(lane)
    # The second failure, not the eleventh.
    assert caplog.records[-1].getMessage() == "test: failed, next try in 2 s at the earliest: fault"
    assert len(caplog.records) == 2


def test_a_success_of_a_request_that_was_sent_before_the_failure_does_not_open_the_lane(clock: ManualClock) -> None:
    lane = build_lane(clock)

    with lane.enter():
        fail(lane, retry_after_seconds=20)

    assert_closed(lane)


def test_a_full_lane_refuses_requests_until_one_ends(clock: ManualClock) -> None:
    lane = build_lane(clock, max_in_flight=2)

    with lane.enter():
        with lane.enter():
            with pytest.raises(LaneClosedError) as caught, lane.enter():
                pass
            assert caught.value.is_full
            assert str(caught.value) == "test: not sent, 2 are in flight"
            assert lane.retry_after_seconds == 1
        assert_open(lane)
