"""Share one call among all concurrent callers with the same key."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from functools import partial
from typing import Any, Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)
ResultT = TypeVar("ResultT")


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the running event loop of asyncio; `RuntimeError` on Trio, the other loop that FastAPI runs on."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "expected an event loop of asyncio, found none, so the application runs on Trio or another library; run "
            "the server, or the tests with anyio, on asyncio"
        ) from None


def is_on_loop() -> bool:
    """Return whether an event loop of asyncio runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class Flights(Generic[KeyT, ResultT]):
    """The calls in progress, by key.

    A flight belongs to the event loop on which it started: awaiting it on another one fails with "attached to a
    different loop". So each loop has its own. A flight is removed when it ends. Flights of a loop that was closed early
    are removed at the next start, so that no closed loop is kept alive.
    """

    def __init__(self) -> None:
        self._by_loop: dict[asyncio.AbstractEventLoop, dict[KeyT, asyncio.Future[ResultT]]] = {}

    def find(self, key: KeyT) -> "asyncio.Future[ResultT] | None":
        """Return the flight in progress on the running loop, or `None`. Wait for it with `asyncio.wait`."""
        flights = self._by_loop.get(running_loop())
        return None if flights is None else flights.get(key)

    def start(self, key: KeyT, call: Coroutine[Any, Any, ResultT], *, name: str) -> "asyncio.Future[ResultT]":
        """Start a call in a separate task, which continues if all waiting callers are cancelled.

        No flight for this key may be in progress on this loop.
        """
        loop = running_loop()
        flight = loop.create_task(call, name=name)
        self._add(loop, key, flight)
        flight.add_done_callback(partial(self._land, loop, key))
        return flight

    def abandon(self, key: KeyT, flight: "asyncio.Future[ResultT]") -> None:
        """Cancel a flight of the running loop, and forget it at once."""
        self._remove(running_loop(), key, flight)
        flight.cancel()

    async def join_or_lead(self, key: KeyT, call: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """Wait for the flight in progress, or make the call in the current task while others wait for it.

        This costs less than a new task. If the caller that makes the call is cancelled, the next one makes it. An
        exception of the call is raised in all callers.
        """
        while (flight := self.find(key)) is not None:
            # `asyncio.wait`, because `await` would pass a cancellation on to the flight.
            await asyncio.wait([flight])
            if not flight.cancelled():
                try:
                    return flight.result()
                finally:
                    del flight
        loop = running_loop()
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
            # No effect if a result or an exception was set; otherwise this caller was cancelled.
            flight.cancel()
            self._land(loop, key, flight)
            # Its error refers to this frame: without this line, the two would keep each other alive.
            del flight

    async def share(self, key: KeyT, flight: "asyncio.Future[ResultT]") -> ResultT:
        """Wait for a future of the running loop, and let other callers join it until it is done.

        No flight for this key may be in progress. If this caller is cancelled, so is the future, and the next caller
        makes its own call.
        """
        loop = running_loop()
        self._add(loop, key, flight)
        try:
            return await flight
        finally:
            self._land(loop, key, flight)
            # Its error refers to this frame: without this line, the two would keep each other alive.
            del flight

    def _add(self, loop: asyncio.AbstractEventLoop, key: KeyT, flight: "asyncio.Future[ResultT]") -> None:
        flights = self._by_loop.get(loop)
        if flights is None:
            # Copied first: loops of other threads start and end their flights meanwhile.
            for other in tuple(self._by_loop):
                if other.is_closed():
                    self._by_loop.pop(other, None)
            flights = self._by_loop[loop] = {}
        flights[key] = flight

    def _land(self, loop: asyncio.AbstractEventLoop, key: KeyT, flight: "asyncio.Future[ResultT]") -> None:
        self._remove(loop, key, flight)
        if not flight.cancelled():
            # Retrieved, so that asyncio does not report it if all callers were cancelled.
            flight.exception()

    def _remove(self, loop: asyncio.AbstractEventLoop, key: KeyT, flight: "asyncio.Future[ResultT]") -> None:
        flights = self._by_loop.get(loop, {})
        if flights.get(key) is flight:
            del flights[key]
            if not flights:
                del self._by_loop[loop]
