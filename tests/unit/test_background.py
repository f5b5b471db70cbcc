"""A task in the background runs once, until it is closed."""

import asyncio

from fastapi_logto.provider.background import BackgroundTask


async def test_a_task_that_runs_is_not_started_again_before_it_is_closed() -> None:
    started = 0

    async def run() -> None:
        nonlocal started
        started += 1
        await asyncio.Event().wait()

    task = BackgroundTask("test")
    for _ in range(3):
        task.keep(run)
        await asyncio.sleep(0)
    assert (started, task.is_running) == (1, True)

    await task.close()
    is_running_after_close = task.is_running
    task.keep(run)
    await asyncio.sleep(0)
    assert (started, is_running_after_close) == (2, False)
    await task.close()
