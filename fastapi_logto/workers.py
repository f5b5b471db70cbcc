"""Threads for work that would hold the event loop up, with bounded waiting."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import BoundedSemaphore
from typing import TypeVar

from fastapi_logto.errors import ProviderUnavailableError

__all__ = ["BoundedWorkers"]

ResultT = TypeVar("ResultT")


class BoundedWorkers:
    """Runs work in threads of its own.

    The threads are not the loop's default ones: these are shared with the application, and a flood
    of forged tokens would keep its files and its name lookups waiting.
    """

    def __init__(self, *, threads: int, max_waiting: int, name: str) -> None:
        """Remember the bounds. Threads start with the first work.

        Args:
            threads: How much runs at a time.
            max_waiting: How much may wait or run before more is refused.
            name: What the threads' names begin with.
        """
        self._executor = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=name)
        # A semaphore and no counter: loops of several threads may share these workers.
        self._places = BoundedSemaphore(max_waiting)

    async def run(self, work: Callable[[], ResultT]) -> ResultT:
        """Run some work beside the loop.

        Args:
            work: What to do.

        Returns:
            What it gives.

        Raises:
            ProviderUnavailableError: Too much waits already.
            Exception: Whatever the work raises.
        """
        if not self._places.acquire(blocking=False):
            raise ProviderUnavailableError(
                "More tokens wait to be checked than this API has room for; try again later", found="no place left"
            )
        return await asyncio.wrap_future(self._submit(work))

    def _submit(self, work: Callable[[], ResultT]) -> "Future[ResultT]":
        # Not held by a frame that waits for it: its error would know that frame, and the two would hold each other.
        future = self._executor.submit(work)
        # When the work has ended: a caller that goes away before leaves its place taken until then.
        future.add_done_callback(lambda _: self._places.release())
        return future
