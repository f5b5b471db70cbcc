"""Coroutines of the package, run to their end by a command that has no loop of its own."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

__all__ = ["run_to_end"]

ResultT = TypeVar("ResultT")


def run_to_end(coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Give what a coroutine gives.

    In a thread of its own, which leaves alone what the thread of the caller has of loops, signals and traces.

    Args:
        coroutine: The coroutine.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="fastapi-logto") as executor:
        return executor.submit(asyncio.run, coroutine).result()
