"""An event loop that runs only during requests, as on AWS Lambda: no request may depend on a background task."""

import asyncio
from collections.abc import Generator

import pytest
import uvloop

from fastapi_logto.errors import ProviderUnavailableError, UnknownKeyError
from fastapi_logto.provider.discovery import build_metadata_source
from fastapi_logto.provider.key_source import CoolingDownError, build_key_source
from fastapi_logto.provider.loop_runs import LoopRun
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.testing import LocalIssuer, ManualClock
from tests.captured import JWKS_PATH, NOW
from tests.unit.apps import API
from tests.unit.fakes import ENDPOINT, FakeProvider, finish_fetches, wait_until
from tests.unit.key_bench import TTL, Bench, at_once, build_bench, until_asked

DEADLINE = 15


@pytest.fixture
def bench() -> Bench:
    return build_bench(deadline=DEADLINE)


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Generator[asyncio.AbstractEventLoop]:
    """Return a loop that runs only as long as a request, by `run_until_complete`."""
    if request.param == "uvloop":
        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    else:
        loop = asyncio.new_event_loop()
    yield loop
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def test_a_run_has_ended_once_the_loop_was_stopped(loop: asyncio.AbstractEventLoop) -> None:
    async def look() -> LoopRun:
        run = LoopRun.current()
        await asyncio.sleep(0)
        assert not run.has_ended()
        return run

    assert loop.run_until_complete(look()).has_ended()


def test_a_loop_without_a_hook_is_assumed_to_continue() -> None:
    assert not LoopRun.current().has_ended()


def test_past_the_age_a_request_awaits_the_refresh_and_a_withdrawn_key_is_refused(
    loop: asyncio.AbstractEventLoop, bench: Bench
) -> None:
    loop.run_until_complete(bench.find())
    old = bench.kid
    bench.rotate(keep_previous=False)

    bench.clock.advance(TTL - 1)
    bench.block()
    for _ in range(3):
        # One refresh is started in the background, and stops with the loop.
        assert loop.run_until_complete(bench.find(old)) == [old]
        loop.run_until_complete(asyncio.sleep(0))
    bench.provider.gate = None
    bench.clock.advance(1)
    loop.run_until_complete(bench.refused(old))

    assert bench.provider.fetches[1] <= 3
    assert bench.source.health().last_error is None


def test_if_the_refresh_fails_the_old_keys_are_used_until_the_next_try_is_due(
    loop: asyncio.AbstractEventLoop, bench: Bench
) -> None:
    loop.run_until_complete(bench.find())
    bench.provider.go_away()
    bench.clock.advance(TTL)

    async def find_without_waiting() -> list[str | None]:
        return [key.kid for key in bench.source.find_held(kid=bench.kid, alg="ES384")]

    assert loop.run_until_complete(find_without_waiting()) == []
    for _ in range(5):
        assert loop.run_until_complete(bench.find()) == [bench.kid]
        assert loop.run_until_complete(find_without_waiting()) == [bench.kid]
    assert bench.provider.fetches == (1, 2)
    bench.clock.advance(1.2)
    assert loop.run_until_complete(bench.find()) == [bench.kid]
    assert bench.provider.fetches == (1, 3)
    bench.provider.come_back()
    new = bench.rotate(keep_previous=False)
    bench.clock.advance(3)

    assert loop.run_until_complete(bench.find(new)) == [new]


async def _begin_and_leave(bench: Bench, fetches: tuple[int, int], kid: str | None = "") -> None:
    """Begin a request that needs a fetch, and end it before the fetch completes, like a client that disconnects."""
    bench.block()
    request = asyncio.create_task(bench.find(kid))
    await until_asked(bench, *fetches)
    request.cancel()
    await asyncio.wait([request])


def test_no_request_depends_on_a_first_fetch_that_never_completes(
    loop: asyncio.AbstractEventLoop, bench: Bench
) -> None:
    loop.run_until_complete(_begin_and_leave(bench, (1, 0)))
    bench.provider.gate = None
    bench.clock.advance(DEADLINE + 1)

    assert loop.run_until_complete(bench.find()) == [bench.kid]
    assert bench.provider.fetches == (2, 1)


def test_no_unknown_kid_depends_on_a_fetch_that_never_completes(loop: asyncio.AbstractEventLoop, bench: Bench) -> None:
    loop.run_until_complete(bench.find())
    loop.run_until_complete(_begin_and_leave(bench, (1, 2), kid="unknown"))
    bench.provider.gate = None
    new = bench.rotate()
    bench.clock.advance(30)

    assert loop.run_until_complete(bench.find(new)) == [new]
    assert bench.provider.fetches == (1, 3)


async def test_a_background_refresh_past_its_deadline_is_replaced_by_one_that_is_awaited(bench: Bench) -> None:
    """The whole process may be frozen; afterwards the loop continues as if nothing had happened."""
    await bench.find()
    old = bench.kid
    bench.block()
    bench.clock.advance(TTL)
    assert await bench.find() == [old]
    await until_asked(bench, 1, 2)
    bench.provider.gate = None
    bench.rotate(keep_previous=False)
    bench.clock.advance(DEADLINE)
    assert await bench.find(old) == [old]
    bench.clock.advance(1)

    await bench.refused(old)

    assert bench.source.health().last_error is None
    assert await finish_fetches() == 0


async def test_a_fetch_that_timed_out_after_the_loop_stood_still_is_no_failure_of_the_provider(bench: Bench) -> None:
    gate = bench.block()
    request = asyncio.create_task(bench.find())
    await until_asked(bench, 1, 0)
    bench.provider.go_away()
    bench.clock.advance(3600)
    gate.set()

    with pytest.raises(ProviderUnavailableError) as caught:
        await request

    assert caught.value.found == "an incomplete fetch"
    bench.provider.come_back()
    assert await bench.find() == [bench.kid]


@pytest.mark.parametrize(("seconds", "is_used"), [(15.9, True), (16, False)])
async def test_a_fetch_of_three_timeouts_and_a_second_is_discarded(seconds: float, is_used: object) -> None:
    issuer = LocalIssuer(endpoint=ENDPOINT)
    provider, clock = FakeProvider(issuer.jwks()), ManualClock(now=NOW)
    settings = LogtoSettings(endpoint=ENDPOINT, audience=API, fetch_timeout_seconds=5)
    transport = provider.build_transport()
    metadata = build_metadata_source(settings, transport=transport, clock=clock)
    source = build_key_source(settings, metadata=metadata, transport=transport, clock=clock)
    provider.gate = asyncio.Event()
    warming = asyncio.create_task(source.warm())
    await wait_until(lambda: provider.fetches == (1, 0))

    clock.advance(seconds)
    provider.gate.set()
    await warming

    assert source.health().is_ready is is_used
    assert source.health().last_error is None


async def test_a_forced_fetch_that_took_too_long_does_not_make_a_new_key_unknown(bench: Bench) -> None:
    """Its response, which has the key, is discarded. A client must not throw the token away."""
    await bench.find()
    new = bench.rotate()
    gate = bench.block()
    request = asyncio.create_task(bench.find(new))
    await until_asked(bench, 1, 2)
    bench.clock.advance(DEADLINE + 1)
    gate.set()

    with pytest.raises(CoolingDownError):
        await request


async def test_after_an_awaited_refresh_that_took_too_long_a_new_key_is_fetched_for(bench: Bench) -> None:
    await asyncio.to_thread(asyncio.run, bench.find())
    new = bench.rotate()
    bench.clock.advance(TTL)
    gate = bench.block()
    request = asyncio.create_task(bench.find(new))
    await until_asked(bench, 1, 2)
    bench.clock.advance(DEADLINE + 1)
    gate.set()

    assert await request == [new]
    assert bench.provider.fetches == (1, 3)


async def test_a_refresh_ends_itself_at_its_deadline() -> None:
    bench = build_bench(deadline=0.01)
    bench.block()

    error = await bench.unavailable()

    assert error.found == "TimeoutError"
    assert bench.source.health().last_error == "TimeoutError"


async def test_an_unknown_kid_that_waited_for_a_refresh_for_age_may_be_retried_in_a_second(bench: Bench) -> None:
    await bench.find()
    gate = bench.block()
    bench.clock.advance(TTL)
    await bench.find()
    await until_asked(bench, 1, 2)
    waiting = asyncio.create_task(bench.source.find(kid="unknown", alg="ES384"))
    await asyncio.sleep(0)
    gate.set()

    with pytest.raises(CoolingDownError) as caught:
        await waiting

    assert caught.value.retry_after_seconds == 1
    assert bench.provider.counts[JWKS_PATH] == 2


# The result of one fetch and the result of another


async def test_with_a_failed_refresh_a_new_kid_is_503_and_not_401(bench: Bench) -> None:
    """The old keys may be used, but it is unknown whether the provider has a new one."""
    await asyncio.to_thread(asyncio.run, bench.find())
    bench.provider.go_away()
    bench.clock.advance(TTL)

    error = await bench.unavailable("new")

    assert error.status == 503
    assert await bench.find() == [bench.kid]


async def test_a_rotation_during_the_first_fetch_is_not_refused(bench: Bench) -> None:
    gate = bench.block()
    first = asyncio.create_task(bench.find())
    await until_asked(bench, 1, 0)
    new = "signed after that fetch began"
    joined = asyncio.create_task(bench.source.find(kid=new, alg="ES384"))
    await asyncio.sleep(0)
    gate.set()

    await first
    with pytest.raises(UnknownKeyError):
        await joined
    assert bench.provider.counts[JWKS_PATH] == 2


async def test_a_key_set_is_as_old_as_its_request(bench: Bench) -> None:
    gate = bench.block()
    first = asyncio.create_task(bench.find())
    await until_asked(bench, 1, 0)
    bench.clock.advance(4)
    gate.set()
    await first

    assert bench.source.health().age_seconds == 4
    await bench.refused("unknown")
    assert (await bench.cooling_down("unknown")).fetched_at == NOW + 4


async def test_an_older_fetch_of_another_loop_does_not_bring_withdrawn_keys_back(bench: Bench) -> None:
    slow = bench.block()
    first = asyncio.create_task(bench.find())
    await until_asked(bench, 1, 0)
    good, bench.provider.gate = bench.provider.jwks, None
    bench.provider.jwks = {"keys": []}
    await asyncio.to_thread(asyncio.run, bench.unavailable())
    bench.provider.jwks = good
    slow.set()

    with pytest.raises(ProviderUnavailableError):
        await first
    assert bench.source.peek() is None


async def test_a_failed_forced_fetch_is_tried_again_when_the_back_off_says_so(bench: Bench) -> None:
    await bench.find()
    new = bench.rotate(keep_previous=False)
    bench.provider.go_away()
    error = await bench.unavailable(new)
    bench.provider.come_back()
    assert error.retry_after_seconds in {1, 2}

    bench.clock.advance(error.retry_after_seconds)

    assert await bench.find(new) == [new]


async def test_keys_that_were_warmed_in_another_run_are_refreshed_ahead_as_others_are(bench: Bench) -> None:
    """As with gunicorn and preload: the loop that warmed the keys has ended, and that of the worker continues."""
    await asyncio.to_thread(asyncio.run, bench.find())
    bench.clock.advance(TTL * 0.85)

    assert at_once(bench.find()) == [bench.kid]
    await finish_fetches()
    bench.clock.advance(TTL * 0.75)
    assert at_once(bench.find()) == [bench.kid]

    assert bench.provider.fetches == (1, 2)


async def test_a_refresh_that_moves_is_not_waited_for_although_the_keys_are_of_another_run(bench: Bench) -> None:
    await asyncio.to_thread(asyncio.run, bench.find())
    gate = bench.block()
    bench.clock.advance(TTL - DEADLINE)
    at_once(bench.find())
    await until_asked(bench, 1, 2)
    bench.clock.advance(DEADLINE)

    assert at_once(bench.find()) == [bench.kid]

    gate.set()
    await finish_fetches()
