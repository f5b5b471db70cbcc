"""One call for all who ask for the same thing at the same time."""

import asyncio
from collections.abc import Coroutine, Hashable
from functools import partial
from typing import Any, Generic, TypeVar

__all__ = ["Flights", "join"]

KeyT = TypeVar("KeyT", bound=Hashable)
ResultT = TypeVar("ResultT")


class Flights(Generic[KeyT, ResultT]):
    """The calls that are under way, by what they are for.

    A flight belongs to the event loop that it started on: awaited from another one it would end in
    "attached to a different loop". So each loop has its own. A flight leaves when it lands, and those
    of a loop that was closed under them leave with the next start, so that no ended loop is kept alive.
    """

    def __init__(self) -> None:
        self._by_loop: dict[asyncio.AbstractEventLoop, dict[KeyT, asyncio.Task[ResultT]]] = {}

    def find(self, key: KeyT) -> "asyncio.Task[ResultT] | None":
        """Give the flight that is under way on the running loop, or `None`."""
        return self._by_loop.get(asyncio.get_running_loop(), {}).get(key)

    def start(self, key: KeyT, call: Coroutine[Any, Any, ResultT], *, name: str) -> "asyncio.Task[ResultT]":
        """Start a flight on the running loop, where none for this key is under way.

        Args:
            key: What it is for.
            call: What it does.
            name: Name of the task.

        Returns:
            Its task. Wait for it with `join`.
        """
        loop = asyncio.get_running_loop()
        # Copied first: the loops of other threads start and end flights of their own meanwhile.
        for other in tuple(self._by_loop):
            if other.is_closed():
                self._by_loop.pop(other, None)
        flight = loop.create_task(call, name=name)
        self._by_loop.setdefault(loop, {})[key] = flight
        flight.add_done_callback(partial(self._land, loop, key))
        return flight

    def _land(self, loop: asyncio.AbstractEventLoop, key: KeyT, flight: "asyncio.Task[ResultT]") -> None:
        flights = self._by_loop[loop]
        del flights[key]
        if not flights:
            del self._by_loop[loop]
        if not flight.cancelled():
            # Looked at, so that asyncio does not report it when every caller has gone away meanwhile.
            flight.exception()


async def join(flight: "asyncio.Task[ResultT]") -> ResultT:
    """Wait for a flight together with everybody else.

    Args:
        flight: The flight, of the running loop.

    Returns:
        What it gives.

    Raises:
        CancelledError: The flight, or the caller, was cancelled. A caller that goes away does not end
            the flight that others wait for.
    """
    # `wait` and not `await`, which would hand the caller's cancellation on.
    await asyncio.wait([flight])
    return flight.result()
