"""One call for all who ask for the same thing at the same time."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from functools import partial
from typing import Any, Generic, TypeVar

__all__ = ["Flights"]

KeyT = TypeVar("KeyT", bound=Hashable)
ResultT = TypeVar("ResultT")


class Flights(Generic[KeyT, ResultT]):
    """The calls that are under way, by what they are for.

    A flight belongs to the event loop that it started on: awaited from another one it would end in
    "attached to a different loop". So each loop has its own. A flight leaves when it lands, and those
    of a loop that was closed under them leave with the next start, so that no ended loop is kept alive.
    """

    def __init__(self) -> None:
        self._by_loop: dict[asyncio.AbstractEventLoop, dict[KeyT, asyncio.Future[ResultT]]] = {}

    def find(self, key: KeyT) -> "asyncio.Future[ResultT] | None":
        """Give the flight that is under way on the running loop, or `None`. Wait for it with `asyncio.wait`."""
        return self._by_loop.get(asyncio.get_running_loop(), {}).get(key)

    def start(self, key: KeyT, call: Coroutine[Any, Any, ResultT], *, name: str) -> "asyncio.Future[ResultT]":
        """Start a call in a task of its own, which goes on when everybody who waits has gone away.

        Args:
            key: What it is for; nothing is under way for it on this loop.
            call: What it does.
            name: Name of the task.

        Returns:
            The flight.
        """
        loop = asyncio.get_running_loop()
        flight = loop.create_task(call, name=name)
        self._add(loop, key, flight)
        flight.add_done_callback(partial(self._land, loop, key))
        return flight

    def abandon(self, key: KeyT, flight: "asyncio.Future[ResultT]") -> None:
        """Cancel a flight of the running loop, and forget it at once."""
        self._remove(asyncio.get_running_loop(), key, flight)
        flight.cancel()

    async def join_or_lead(self, key: KeyT, call: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """Wait for the flight that is under way, or make the call in this very task, while others wait for it.

        That costs less than a task. Where the one who makes the call is cancelled, the next one makes it.

        Args:
            key: What it is for.
            call: What to do where nobody does it.

        Returns:
            What the call gives.

        Raises:
            Exception: Whatever the call raises, for all who wait.
        """
        while (flight := self.find(key)) is not None:
            # `wait` and not `await`, which would hand a cancellation on to the flight.
            await asyncio.wait([flight])
            if not flight.cancelled():
                try:
                    return flight.result()
                finally:
                    del flight
        loop = asyncio.get_running_loop()
        flight = loop.create_future()
        self._add(loop, key, flight)
        try:
            result = await call()
        except Exception as error:
            flight.set_exception(error)
            raise
        else:
            flight.set_result(result)
            return result
        finally:
            # Cancelled where neither of the two above came.
            flight.cancel()
            self._land(loop, key, flight)
            # Its error knows this frame: without this line the two would hold each other until the next collection.
            del flight

    def _add(self, loop: asyncio.AbstractEventLoop, key: KeyT, flight: "asyncio.Future[ResultT]") -> None:
        flights = self._by_loop.get(loop)
        if flights is None:
            # Copied first: the loops of other threads start and end flights of their own meanwhile.
            for other in tuple(self._by_loop):
                if other.is_closed():
                    self._by_loop.pop(other, None)
            flights = self._by_loop[loop] = {}
        flights[key] = flight

    def _land(self, loop: asyncio.AbstractEventLoop, key: KeyT, flight: "asyncio.Future[ResultT]") -> None:
        self._remove(loop, key, flight)
        if not flight.cancelled():
            # Looked at, so that asyncio does not report it when every caller has gone away meanwhile.
            flight.exception()

    def _remove(self, loop: asyncio.AbstractEventLoop, key: KeyT, flight: "asyncio.Future[ResultT]") -> None:
        flights = self._by_loop.get(loop, {})
        if flights.get(key) is flight:
            del flights[key]
            if not flights:
                del self._by_loop[loop]
