"""A task in the background runs once, until it is closed."""

import asyncio
import os
from collections.abc import Generator

import pytest

from fastapi_logto.provider.background import BackgroundTask


class Kept:
    """A task in the background, and how often it was started."""

    def __init__(self) -> None:
        self.task = BackgroundTask("test")
        self.started: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.started.append(task)
        await asyncio.Event().wait()

    async def keep(self) -> None:
        self.task.keep(self.run)
        await asyncio.sleep(0)


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def stopped_loop(kept: Kept) -> Generator[asyncio.AbstractEventLoop]:
    """Start the task on a loop that has stopped, like another loop of the process."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(kept.keep())
    yield loop
    kept.started[0].cancel()
    loop.run_until_complete(asyncio.wait(kept.started[:1]))
    loop.close()


async def test_a_task_that_runs_is_not_started_again_before_it_is_closed(kept: Kept) -> None:
    for _ in range(3):
        await kept.keep()
    assert (len(kept.started), kept.task.is_running) == (1, True)

    await kept.task.close()
    is_running_after_close = kept.task.is_running
    await kept.keep()
    assert (len(kept.started), is_running_after_close) == (2, False)
    await kept.task.close()


async def test_a_task_that_has_ended_is_started_again(kept: Kept) -> None:
    await kept.keep()
    kept.started[0].cancel()
    await asyncio.wait(kept.started)
    is_running_after_its_end = kept.task.is_running

    await kept.keep()

    assert (len(kept.started), is_running_after_its_end, kept.task.is_running) == (2, False, True)
    await kept.task.close()


@pytest.mark.usefixtures("stopped_loop")
def test_a_task_of_another_loop_is_replaced_and_left_to_its_loop(kept: Kept) -> None:
    async def keep_and_close() -> bool:
        await kept.keep()
        is_running = kept.task.is_running
        await kept.task.close()
        return is_running

    assert asyncio.run(keep_and_close()) is True
    assert [task.cancelling() for task in kept.started] == [0, 1]


@pytest.mark.usefixtures("stopped_loop")
def test_closing_does_not_wait_for_a_task_of_another_loop(kept: Kept) -> None:
    asyncio.run(asyncio.wait_for(kept.task.close(), 5))

    assert kept.started[0].cancelling() == 0
    assert not kept.task.is_running


async def test_a_forked_process_starts_its_own_task_and_leaves_the_inherited_one_alone(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kept.keep()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    is_running_after_fork = kept.task.is_running

    await kept.keep()

    # Cancelling it could close the connection that both processes share.
    assert [task.cancelling() for task in kept.started] == [0, 0]
    assert (is_running_after_fork, kept.task.is_running) == (False, True)
    await kept.task.close()
    kept.started[0].cancel()
    await asyncio.wait(kept.started)
