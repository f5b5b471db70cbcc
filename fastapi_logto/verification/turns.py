"""CPU work on the event loop, in turns: a small time budget, then the loop polls I/O before the next turn.

Threads would fail in a process that forks, because they do not exist in the child. And the Python part of a
verification would hold the GIL in them, which delays other requests more than the signature itself
(`docs/explanation/decisions.md`).
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final, Generic, TypeVar, cast

from fastapi_logto.errors import ProviderUnavailableError

ResultT = TypeVar("ResultT")

TURN_SECONDS: Final = 0.0005
"""After this time in one turn, the next piece of work waits for another turn."""

SHORT_SECONDS: Final = 0.0001
"""Work that takes less does not count if it is the only work of its task: the rest of a request takes longer anyway.

Requests that wait would cost more: their objects live long enough to make the garbage collector run.
"""


@dataclass(slots=True, eq=False)
class _Waiting(Generic[ResultT]):
    """Work that waits for its turn."""

    work: Callable[[], ResultT]
    outcome: "asyncio.Future[ResultT]"
    context: Context = field(default_factory=copy_context)

    def do(self) -> None:
        result, error = self.context.run(_attempt, self.work)
        if error is None:
            self.outcome.set_result(cast("ResultT", result))
        else:
            self.outcome.set_exception(error)
        # The error's traceback refers to this frame: without this line, the two would keep each other alive.
        del self, error


def _attempt(work: Callable[[], ResultT]) -> tuple[ResultT | None, BaseException | None]:
    try:
        return work(), None
    except StopIteration as error:
        # A future can't hold it.
        return None, RuntimeError(f"work raised {type(error).__name__}")
    except BaseException as error:  # noqa: BLE001 - handed to the caller, who would wait forever otherwise
        return None, error


@dataclass(slots=True, eq=False)
class _Queue:
    """The work that waits on one event loop, and the time that the current turn has used."""

    waiting: deque[_Waiting[Any]] = field(default_factory=deque[_Waiting[Any]])
    spent_seconds: float = 0.0


class Turns:
    """Runs work on the running event loop: immediately while the turn has time left, otherwise in a later turn.

    Each loop has its own queue. A queue exists only while it has work, so no closed loop is kept alive.
    """

    def __init__(self, *, max_waiting: int, timer: Callable[[], float] = perf_counter) -> None:
        """Set the limit of waiting work per loop. `timer` measures a turn, in seconds."""
        self._max_waiting = max_waiting
        self._timer = timer
        self._queues: dict[asyncio.AbstractEventLoop, _Queue] = {}
        # Its id, because a reference would keep the request alive.
        self._last_task = 0

    async def run(self, work: Callable[[], ResultT]) -> ResultT:
        """Run a piece of work that takes about a millisecond at most, and return its result."""
        loop = asyncio.get_running_loop()
        if self._is_free(loop):
            return self._run_now(loop, work)
        outcome = self.enqueue(work)
        try:
            return await outcome
        finally:
            # Its error refers to this frame: without this line, the two would keep each other alive.
            del outcome

    def enqueue(self, work: Callable[[], ResultT]) -> "asyncio.Future[ResultT]":
        """Return the future outcome of a piece of work in a later turn. If it is cancelled before, nothing is called.

        `ProviderUnavailableError` if too much work is waiting.
        """
        loop = asyncio.get_running_loop()
        queue = self._find_queue(loop)
        if len(queue.waiting) >= self._max_waiting:
            raise ProviderUnavailableError(
                "Too many tokens are waiting to be verified; try again later", found="a full queue"
            )
        outcome: asyncio.Future[ResultT] = loop.create_future()
        queue.waiting.append(_Waiting(work, outcome))
        return outcome

    def run_if_free(self, work: Callable[[], ResultT]) -> ResultT | None:
        """Run a piece of work if the current turn has time left, and return its result; otherwise return `None`."""
        loop = asyncio.get_running_loop()
        return self._run_now(loop, work) if self._is_free(loop) else None

    def _is_free(self, loop: asyncio.AbstractEventLoop) -> bool:
        queue = self._queues.get(loop)
        return queue is None or (not queue.waiting and queue.spent_seconds < TURN_SECONDS)

    def _run_now(self, loop: asyncio.AbstractEventLoop, work: Callable[[], ResultT]) -> ResultT:
        started = self._timer()
        try:
            return work()
        finally:
            seconds = self._timer() - started
            task = id(asyncio.current_task())
            # With a task factory, tasks may be eager: then many of them run in the same callback of the loop.
            if seconds >= SHORT_SECONDS or task == self._last_task or loop.get_task_factory() is not None:
                self._find_queue(loop).spent_seconds += seconds
            self._last_task = task

    def _find_queue(self, loop: asyncio.AbstractEventLoop) -> _Queue:
        return self._queues.get(loop) or self._open(loop)

    def _open(self, loop: asyncio.AbstractEventLoop) -> _Queue:
        # Copied first: loops of other threads add and remove their queues meanwhile.
        for other in tuple(self._queues):
            if other.is_closed():
                self._queues.pop(other, None)
        queue = self._queues[loop] = _Queue()
        # What is scheduled now runs after the loop has polled I/O; not in the context of the request that came first.
        loop.call_soon(self._take_turn, loop, queue, context=Context())
        return queue

    def _take_turn(self, loop: asyncio.AbstractEventLoop, queue: _Queue) -> None:
        if not queue.waiting:
            del self._queues[loop]
            return
        loop.call_soon(self._take_turn, loop, queue)
        queue.spent_seconds = 0.0
        started = self._timer()
        while queue.waiting and queue.spent_seconds < TURN_SECONDS:
            one = queue.waiting.popleft()
            # Cancelled callers are skipped.
            if not one.outcome.done():
                one.do()
                queue.spent_seconds = self._timer() - started
            del one
