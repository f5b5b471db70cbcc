"""Run coroutines to completion in a command, which has no event loop."""

import asyncio
import contextlib
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")


def run_to_end(coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Return the result of a coroutine, or cancel it on Ctrl-C.

    It runs in a separate thread, so that the caller's event loop, signal handlers and traces are left alone.
    """
    runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
    # Made here, so that a Ctrl-C that comes before the thread has started finds it.
    loop = runner.get_loop()

    def cancel() -> None:
        for task in asyncio.all_tasks(loop):
            task.cancel()

    def run() -> ResultT:
        with runner:
            return runner.run(coroutine)

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="fastapi-logto") as executor:
        try:
            return executor.submit(run).result()
        except KeyboardInterrupt:
            with contextlib.suppress(RuntimeError):  # the loop has just been closed
                loop.call_soon_threadsafe(cancel)
            raise
