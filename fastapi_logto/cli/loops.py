"""Run coroutines to completion in a command, which has no event loop."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

__all__ = ["run_to_end"]

ResultT = TypeVar("ResultT")


def run_to_end(coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Return the result of a coroutine.

    It runs in a separate thread, so that the caller's event loop, signal handlers and traces are left alone.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="fastapi-logto") as executor:
        return executor.submit(asyncio.run, coroutine).result()
