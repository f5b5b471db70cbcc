"""One call for all concurrent callers of an event loop."""

import asyncio
import gc

import pytest

from fastapi_logto.single_flight import Flights


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
