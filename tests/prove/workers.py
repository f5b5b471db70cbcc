"""Event loops that run in threads, like in a server, and can be stopped and continued."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, Final, TypeVar

T = TypeVar("T")

PATIENCE_SECONDS: Final = 30
"""A timeout that is longer than anything takes. Reaching it is a failure."""


class Worker:
    """An event loop in its own thread."""

    def __init__(self) -> None:
        self.loop: Final = asyncio.new_event_loop()
        self._start()

    def _start(self) -> None:
        self.run = object()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def _stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE_SECONDS)

    def pause(self) -> object:
        """Stop the loop and continue it; return the run that has ended."""
        self._stop()
        ended = self.run
        self._start()
        return ended

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start some work on the loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of some work on the loop."""
        return self.submit(work).result(PATIENCE_SECONDS)

    def close(self) -> None:
        """Stop the loop permanently."""
        self.call(self.loop.shutdown_default_executor())
        self._stop()
        self.loop.close()
