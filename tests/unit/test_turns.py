"""CPU work takes turns on the event loop: each turn has a time budget, and work of callers who left is skipped."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import pytest

from fastapi_logto.errors import ProviderUnavailableError, SignatureError
from fastapi_logto.verification.turns import SHORT_SECONDS, TURN_SECONDS, Turns

A_WHOLE_TURN = TURN_SECONDS
A_THIRD = TURN_SECONDS / 3 + 1e-9
SHORT = SHORT_SECONDS - 1e-9


def create_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    return asyncio.Task(coroutine, loop=loop, **options)


# Before Python 3.12, no task is eager, and any task factory is treated like one of eager tasks.
EAGER: Any = getattr(asyncio, "eager_task_factory", create_task)


class Timer:
    """Time that passes only while work is done."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def work(self, name: str, log: list[str], *, seconds: float = A_WHOLE_TURN) -> Callable[[], str]:
        """Return work that takes some time and records its name."""

        def do() -> str:
            self.seconds += seconds
            log.append(name)
            return name

        return do


def kept(turns: Turns) -> set[asyncio.AbstractEventLoop]:
    """Return the loops that have a queue."""
    return set(turns._queues)  # pyright: ignore[reportPrivateUsage] - no public attribute shows that none is kept


@pytest.fixture
def timer() -> Timer:
    return Timer()


@pytest.fixture
def turns(timer: Timer) -> Turns:
    return Turns(max_waiting=10, timer=timer)


async def mark_iterations(log: list[str], count: int) -> None:
    """Record each iteration of the event loop, as seen by any other task."""
    for _ in range(count):
        log.append("|")
        await asyncio.sleep(0)


async def test_work_is_done_at_once_while_the_turn_has_time_left(turns: Turns, timer: Timer) -> None:
    log: list[str] = []

    for name in "abc":
        run = turns.run(timer.work(name, log, seconds=A_THIRD))
        with pytest.raises(StopIteration) as ended:
            run.send(None)
        assert ended.value.value == name

    assert log == ["a", "b", "c"]


async def test_between_two_turns_the_loop_polls_io(turns: Turns, timer: Timer) -> None:
    log: list[str] = []

    results = await asyncio.gather(
        *(turns.run(timer.work(name, log)) for name in "abcd"), mark_iterations(log, 6), return_exceptions=True
    )

    assert results == ["a", "b", "c", "d", None]
    assert "".join(log).replace("||", "|").startswith("a|b|c|d")


async def test_short_work_shares_a_turn(turns: Turns, timer: Timer) -> None:
    log: list[str] = []

    await asyncio.gather(
        *(turns.run(timer.work(name, log, seconds=A_THIRD)) for name in "abcdefg"), mark_iterations(log, 6)
    )

    assert "".join(log).startswith("abc|def|g")


async def test_short_work_of_many_requests_does_not_wait(turns: Turns, timer: Timer) -> None:
    log: list[str] = []

    await asyncio.gather(*(turns.run(timer.work("a", log, seconds=SHORT)) for _ in range(50)), mark_iterations(log, 2))

    assert "".join(log) == "a" * 50 + "||"


async def test_work_counts_from_a_certain_duration(turns: Turns, timer: Timer) -> None:
    log: list[str] = []
    seconds = {"a": SHORT_SECONDS, "b": TURN_SECONDS - SHORT, "c": SHORT}

    await asyncio.gather(
        *(turns.run(timer.work(name, log, seconds=taken)) for name, taken in seconds.items()), mark_iterations(log, 2)
    )

    assert "".join(log).startswith("ab|c")


async def test_short_work_waits_behind_work_that_waits(turns: Turns, timer: Timer) -> None:
    log: list[str] = []

    works = [timer.work("a", log), timer.work("b", log), timer.work("c", log, seconds=SHORT)]
    await asyncio.gather(*(turns.run(work) for work in works), mark_iterations(log, 3))

    assert "".join(log).replace("||", "|") == "a|b|c|"


async def test_one_task_with_much_short_work_lets_the_loop_poll(turns: Turns, timer: Timer) -> None:
    log: list[str] = []

    async def run_many() -> None:
        for _ in range(20):
            await turns.run(timer.work("a", log, seconds=SHORT))

    await asyncio.gather(run_many(), mark_iterations(log, 20))

    held = [len(part) * SHORT for part in "".join(log).split("|")]
    # One short piece of work may come before those that count, and the last one may exceed the budget.
    assert max(held) <= TURN_SECONDS + 2 * SHORT


async def test_many_eager_tasks_with_short_work_let_the_loop_poll(turns: Turns, timer: Timer) -> None:
    log: list[str] = []
    asyncio.get_running_loop().set_task_factory(EAGER)

    await asyncio.gather(*(turns.run(timer.work("a", log, seconds=SHORT)) for _ in range(14)), mark_iterations(log, 20))

    held = [len(part) * SHORT for part in "".join(log).split("|")]
    assert len(log) == 14 + 20
    assert max(held) <= TURN_SECONDS + SHORT


async def test_work_is_done_in_the_order_in_which_it_came(turns: Turns, timer: Timer) -> None:
    log: list[str] = []
    names = [str(number) for number in range(9)]

    await asyncio.gather(*(turns.run(timer.work(name, log, seconds=A_THIRD * (int(name) % 3 + 1))) for name in names))

    assert log == names


async def test_work_beyond_the_bound_is_refused_at_once_and_the_rest_is_done(timer: Timer) -> None:
    turns = Turns(max_waiting=2, timer=timer)
    log: list[str] = []

    outcomes = await asyncio.gather(*(turns.run(timer.work(name, log)) for name in "abcde"), return_exceptions=True)

    assert log == ["a", "b", "c"]
    refused = [outcome for outcome in outcomes if isinstance(outcome, ProviderUnavailableError)]
    assert [(error.status, error.retry_after_seconds, error.message) for error in refused] == [
        (503, 1, "Too many tokens are waiting to be verified; try again later")
    ] * 2
    assert [error.found for error in refused] == ["a full queue"] * 2
    assert await turns.run(timer.work("f", log)) == "f"


async def test_work_runs_now_only_if_the_turn_has_time_left_and_nothing_waits(turns: Turns, timer: Timer) -> None:
    log: list[str] = []

    assert turns.run_if_free(timer.work("a", log, seconds=A_THIRD)) == "a"
    waiting = turns.enqueue(timer.work("b", log))
    assert turns.run_if_free(timer.work("c", log)) is None
    assert await turns.run(timer.work("d", log)) == "d"

    assert await waiting == "b"
    assert log == ["a", "b", "d"]


async def test_an_error_of_the_work_reaches_its_caller_alone(turns: Turns, timer: Timer) -> None:
    log: list[str] = []

    def fail() -> str:
        timer.seconds += A_WHOLE_TURN
        raise SignatureError

    outcomes = await asyncio.gather(
        turns.run(fail), turns.run(fail), turns.run(timer.work("a", log)), return_exceptions=True
    )

    assert [type(outcome) for outcome in outcomes] == [SignatureError, SignatureError, str]


async def test_an_error_of_work_that_waited_leaves_nothing_for_the_garbage_collector(
    turns: Turns, timer: Timer
) -> None:
    def fail() -> str:
        timer.seconds += A_WHOLE_TURN
        raise SignatureError

    async def run() -> None:
        with suppress(SignatureError):
            await turns.run(fail)

    async def run_several() -> None:
        await asyncio.gather(*(run() for _ in range(3)))

    await run_several()
    gc.collect()
    gc.disable()
    try:
        await run_several()
        assert gc.collect() == 0
    finally:
        gc.enable()


async def test_the_work_of_a_caller_who_left_is_skipped(turns: Turns, timer: Timer) -> None:
    log: list[str] = []
    tasks = [asyncio.create_task(turns.run(timer.work(name, log))) for name in "abcd"]
    await asyncio.sleep(0)

    tasks[1].cancel()
    tasks[3].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)

    assert log == ["a", "c"]
    assert [type(outcome) for outcome in outcomes] == [str, asyncio.CancelledError, str, asyncio.CancelledError]


def test_each_event_loop_has_its_own_turns_and_none_is_kept(turns: Turns, timer: Timer) -> None:
    log: list[str] = []

    async def several() -> list[str]:
        return list(await asyncio.gather(*(turns.run(timer.work(name, log)) for name in "abc")))

    for _ in range(2):
        assert asyncio.run(several()) == ["a", "b", "c"]

    async def finish() -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    asyncio.run(finish())
    assert not kept(turns)


def test_work_left_behind_by_a_closed_loop_is_dropped(turns: Turns, timer: Timer) -> None:
    log: list[str] = []
    loop = asyncio.new_event_loop()

    async def begin() -> list[asyncio.Task[str]]:
        tasks = [loop.create_task(turns.run(timer.work(name, log))) for name in "abcdefghij"]
        await asyncio.sleep(0)
        return tasks

    left = loop.run_until_complete(begin())
    assert loop in kept(turns)
    for task in left:
        task.cancel()
    loop.close()

    assert asyncio.run(turns.run(timer.work("d", log))) == "d"

    assert "j" not in log
    assert loop not in kept(turns)


class Interruption(BaseException):
    """An exception of another library."""


@pytest.mark.parametrize("error", [Interruption(), asyncio.CancelledError(), StopIteration()], ids=repr)
async def test_no_caller_waits_forever_whatever_the_work_raises(
    error: BaseException, turns: Turns, timer: Timer
) -> None:
    log: list[str] = []

    def fail() -> str:
        raise error

    async def run(work: Callable[[], str]) -> str:
        try:
            return await turns.run(work)
        except (Interruption, asyncio.CancelledError, RuntimeError) as found:
            return type(found).__name__

    async with asyncio.timeout(5):
        found = await asyncio.gather(run(timer.work("a", log)), run(fail), run(timer.work("b", log)))

    expected = "RuntimeError" if isinstance(error, StopIteration) else type(error).__name__
    assert list(found) == ["a", expected, "b"]


async def test_work_runs_in_the_context_of_its_caller(turns: Turns, timer: Timer) -> None:
    request: ContextVar[str] = ContextVar("request", default="none")

    def look() -> str:
        timer.seconds += A_WHOLE_TURN
        return request.get()

    async def call(name: str) -> str:
        request.set(name)
        return await turns.run(look)

    assert await asyncio.gather(*(call(name) for name in "abcd")) == ["a", "b", "c", "d"]


class Session:
    """An object in the context of a request."""


async def test_the_context_of_the_request_that_came_first_does_not_outlive_it(turns: Turns, timer: Timer) -> None:
    request: ContextVar[Session] = ContextVar("request")

    async def call() -> weakref.ref[Session]:
        session = Session()
        request.set(session)
        await turns.run(timer.work("a", []))
        return weakref.ref(session)

    first = asyncio.create_task(call())
    await asyncio.sleep(0)
    session = first.result()
    del first
    gc.collect()

    assert kept(turns)
    assert session() is None


def test_work_on_one_loop_leaves_that_of_another_alone(turns: Turns, timer: Timer) -> None:
    log: list[str] = []
    loop = asyncio.new_event_loop()

    async def begin() -> list[asyncio.Task[str]]:
        tasks = [loop.create_task(turns.run(timer.work(name, log))) for name in "abcdef"]
        await asyncio.sleep(0)
        return tasks

    stopped = loop.run_until_complete(begin())
    assert asyncio.run(turns.run(timer.work("x", log))) == "x"

    stopped.append(loop.create_task(turns.run(timer.work("y", log))))
    assert loop.run_until_complete(asyncio.gather(*stopped)) == [*"abcdef", "y"]
    # New work still waits for the earlier work.
    assert [name for name in log if name != "x"] == [*"abcdef", "y"]
    loop.close()
