"""One call for all who ask at the same time, on each event loop."""

import asyncio

import pytest

from fastapi_logto.flights import Flights, join


async def _fail() -> int:
    raise ValueError("as it should")


async def test_a_flight_is_found_until_it_lands() -> None:
    flights: Flights[str, int] = Flights()
    gate = asyncio.Event()

    async def call() -> int:
        await gate.wait()
        return 7

    flight = flights.start("a", call(), name="a call")
    assert flights.find("a") is flight
    assert flights.find("b") is None
    waiting = [asyncio.create_task(join(flight)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting.pop().cancel()
    gate.set()

    assert await asyncio.gather(*waiting) == [7, 7]
    assert flights.find("a") is None


async def test_a_failure_reaches_everybody_and_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    flights: Flights[str, int] = Flights()

    with pytest.raises(ValueError, match="as it should"):
        await join(flights.start("a", _fail(), name="a call"))
    flights.start("a", _fail(), name="a call that nobody waits for")
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert flights.find("a") is None
    assert not caplog.records


async def test_another_loop_has_flights_of_its_own() -> None:
    flights: Flights[str, int] = Flights()
    flight = flights.start("a", asyncio.sleep(0, 1), name="a call")

    async def ask() -> tuple[bool, int]:
        is_free = flights.find("a") is None
        return is_free, await join(flights.start("a", asyncio.sleep(0, 2), name="another"))

    assert await asyncio.to_thread(lambda: asyncio.run(ask())) == (True, 2)
    assert await join(flight) == 1
