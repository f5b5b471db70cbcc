"""One call for all concurrent callers of an event loop."""

import asyncio
import gc
import warnings
import weakref

import pytest

from fastapi_logto.single_flight import Flights


async def _wait() -> int:
    await asyncio.Event().wait()
    return 1


async def _fail() -> int:
    raise ValueError("as it should")


async def test_a_call_is_found_until_it_ends() -> None:
    flights: Flights[str, int] = Flights()
    gate = asyncio.Event()

    async def call() -> int:
        await gate.wait()
        return 7

    flight = flights.start("a", call(), name="a call")
    assert flights.find("a") is flight
    assert flights.find("b") is None
    gate.set()
    assert await flight == 7
    await asyncio.sleep(0)
    assert flights.find("a") is None


async def test_calls_with_other_keys_do_not_disturb_each_other() -> None:
    flights: Flights[str, int] = Flights()

    gate = asyncio.Event()
    first = flights.start("a", asyncio.sleep(0, 1), name="a call")
    second = flights.start("b", asyncio.sleep(0, 2), name="another call")
    third = flights.start("c", asyncio.wait_for(gate.wait(), 30), name="a third call")

    assert (flights.find("a"), flights.find("b"), flights.find("c")) == (first, second, third)
    assert [*await asyncio.gather(first, second)] == [1, 2]
    await asyncio.sleep(0)
    assert (flights.find("a"), flights.find("b"), flights.find("c")) == (None, None, third)
    gate.set()
    assert await third


async def test_a_call_that_is_abandoned_is_cancelled_and_forgotten_at_once() -> None:
    flights: Flights[str, int] = Flights()
    flight = flights.start("a", _wait(), name="a call")

    flights.abandon("a", flight)

    assert flights.find("a") is None
    await asyncio.wait([flight])
    assert flight.cancelled()


async def test_a_failure_without_a_waiting_caller_causes_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    flights: Flights[str, int] = Flights()

    flights.start("a", _fail(), name="a call that nobody waits for")
    with pytest.raises(ValueError, match="as it should"):
        await flights.join_or_lead("b", _fail)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.collect()

    assert flights.find("a") is None
    assert flights.find("b") is None
    assert not caplog.records


async def test_concurrent_callers_get_the_result_of_one_call() -> None:
    flights: Flights[str, int] = Flights()
    gate = asyncio.Event()
    calls: list[str] = []

    async def call() -> int:
        calls.append("called")
        await gate.wait()
        return 7

    waiting = [asyncio.create_task(flights.join_or_lead("a", call)) for _ in range(5)]
    await asyncio.sleep(0)
    gate.set()

    assert await asyncio.gather(*waiting) == [7] * 5
    assert calls == ["called"]


async def test_a_failed_call_fails_for_all_callers() -> None:
    flights: Flights[str, int] = Flights()
    gate = asyncio.Event()

    async def call() -> int:
        await gate.wait()
        raise ValueError("as it should")

    waiting = [asyncio.create_task(flights.join_or_lead("a", call)) for _ in range(3)]
    await asyncio.sleep(0)
    gate.set()

    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ValueError] * 3


async def test_a_failed_call_leaves_nothing_for_the_garbage_collector() -> None:
    flights: Flights[str, int] = Flights()

    async def fail() -> int:
        await asyncio.sleep(0)
        raise ValueError("as it should")

    async def call_together() -> None:
        await asyncio.gather(*(flights.join_or_lead("a", fail) for _ in range(3)), return_exceptions=True)

    await call_together()
    gc.collect()
    gc.disable()
    try:
        await call_together()
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_a_loop_whose_calls_have_ended_is_not_kept() -> None:
    flights: Flights[str, int] = Flights()
    loop = asyncio.new_event_loop()
    found = weakref.ref(loop)

    assert loop.run_until_complete(flights.join_or_lead("a", lambda: asyncio.sleep(0, 1))) == 1
    loop.close()
    del loop
    gc.collect()

    assert found() is None


def test_a_loop_that_was_closed_in_the_middle_of_a_call_is_not_kept() -> None:
    flights: Flights[str, int] = Flights()

    async def begin() -> None:
        flights.start("a", _wait(), name="a call")

    async def is_in_progress() -> bool:
        return flights.find("a") is not None

    with warnings.catch_warnings(), asyncio.Runner() as running, asyncio.Runner() as another:
        # asyncio warns of tasks that were never ended, which is what this test does.
        warnings.simplefilter("ignore")
        running.run(begin())
        stopped = asyncio.new_event_loop()
        stopped.run_until_complete(begin())
        stopped.close()
        found = weakref.ref(stopped)
        del stopped
        another.run(begin())
        gc.collect()

        assert found() is None
        # The call of a loop that is still open is still there.
        assert running.run(is_in_progress())


async def test_if_the_first_caller_is_cancelled_the_next_one_calls() -> None:
    flights: Flights[str, int] = Flights()
    gate = asyncio.Event()
    calls: list[str] = []

    async def call() -> int:
        calls.append("called")
        await gate.wait()
        return 7

    first, second, third = (asyncio.create_task(flights.join_or_lead("a", call)) for _ in range(3))
    await asyncio.sleep(0)
    first.cancel()
    third.cancel()
    await asyncio.wait([first, third])
    gate.set()

    assert first.cancelled()
    assert third.cancelled()
    assert await second == 7
    assert calls == ["called", "called"]


async def test_another_loop_has_its_own_calls() -> None:
    flights: Flights[str, int] = Flights()
    flight = flights.start("a", asyncio.sleep(0, 1), name="a call")

    async def ask() -> tuple[bool, int]:
        is_free = flights.find("a") is None
        return is_free, await flights.join_or_lead("a", lambda: asyncio.sleep(0, 2))

    assert await asyncio.to_thread(lambda: asyncio.run(ask())) == (True, 2)
    assert await flight == 1
