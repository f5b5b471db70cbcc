"""Run coroutines to completion in a command, which has no event loop."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

__all__ = ["run_to_end"]

ResultT = TypeVar("ResultT")


def run_to_end(coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Return the result of a coroutine, or cancel it on Ctrl-C.

    It runs in a separate thread, so that the caller's event loop, signal handlers and traces are left alone.
    """
    cancel = Future[Callable[[], object]]()
    interrupted = threading.Event()

    async def run() -> ResultT:
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(coroutine)
        cancel.set_result(lambda: loop.call_soon_threadsafe(task.cancel))
        if interrupted.is_set():
            task.cancel()
        return await task

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="fastapi-logto") as executor:
        try:
            # Ctrl-C may come while the thread starts, before or after the coroutine does.
            return executor.submit(asyncio.run, run()).result()
        except KeyboardInterrupt:
            interrupted.set()
            if cancel.done():
                with contextlib.suppress(RuntimeError):  # the loop has just ended
                    cancel.result()()
            raise
