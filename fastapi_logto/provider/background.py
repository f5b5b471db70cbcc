"""A task that runs in the background of one process, on one of its event loops."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from fastapi_logto.provider.loop_runs import LoopRun
from fastapi_logto.single_flight import running_loop


@dataclass(frozen=True, slots=True)
class _Started:
    """The task, and where it runs."""

    task: asyncio.Task[None]
    run: LoopRun
    process_id: int


class BackgroundTask:
    """Runs a coroutine in the background, and again where it can't continue: on another loop, or after a fork."""

    def __init__(self, name: str) -> None:
        """Store the name. Nothing is started."""
        self._name: Final = name
        self._started: _Started | None = None

    @property
    def is_running(self) -> bool:
        """Whether the task runs: in this process, on a loop that runs."""
        started = self._started
        return (
            started is not None
            and not started.run.has_ended()
            and not started.task.done()
            and started.process_id == os.getpid()
        )

    def keep(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start the task on the running loop unless it runs already."""
        if self.is_running:
            return
        started, loop = self._started, running_loop()
        if started is not None and started.process_id == os.getpid() and started.task.get_loop() is loop:
            # It would continue with the loop.
            started.task.cancel()
        self._started = _Started(loop.create_task(run(), name=self._name), LoopRun.current(), os.getpid())

    async def close(self) -> None:
        """Cancel the task, and wait for its end if it runs on this loop."""
        started, self._started = self._started, None
        if started is not None and started.task.get_loop() is running_loop():
            started.task.cancel()
            await asyncio.wait([started.task])
