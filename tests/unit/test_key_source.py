"""Keys are fetched once when due and kept during outages, and strangers can't cause more fetches."""

import asyncio
import gc
import logging
import warnings
import weakref
from collections import Counter

import pytest

from fastapi_logto.errors import AlgorithmError, ProviderUnavailableError, UnknownKeyError
from fastapi_logto.provider.health import ProviderHealth
from fastapi_logto.provider.key_set import PublicKey
from fastapi_logto.provider.key_source import CoolingDownError
from tests.captured import DISCOVERY_PATH, JWKS_PATH, NOW
from tests.unit.fakes import ENDPOINT, ISSUER, finish_fetches
from tests.unit.key_bench import AWAY, AWAY_AT_ONCE, COOLDOWN, MAX_STALE, TTL, Bench, at_once, build_bench, until_asked


@pytest.fixture
def bench() -> Bench:
    return build_bench()


# The first fetch


async def test_making_a_source_fetches_nothing_and_its_first_use_fetches_once(bench: Bench) -> None:
    assert bench.source.peek() is None
    assert bench.provider.fetches == (0, 0)

    assert await bench.find() == [bench.kid]
    assert await bench.find() == [bench.kid]

    assert bench.provider.fetches == (1, 1)


async def test_two_hundred_callers_of_a_cold_source_cause_one_fetch(bench: Bench) -> None:
    found = await asyncio.gather(*(bench.find() for _ in range(200)))

    assert found == [[bench.kid]] * 200
    assert bench.provider.fetches == (1, 1)


async def test_a_first_caller_that_is_cancelled_does_not_affect_the_others(bench: Bench) -> None:
    gate = bench.block()
    first, *others = [asyncio.create_task(bench.find()) for _ in range(20)]
    await until_asked(bench, 1, 0)

    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    gate.set()

    assert await asyncio.gather(*others) == [[bench.kid]] * 19
    assert bench.provider.fetches == (1, 1)


async def test_a_fetch_whose_callers_were_all_cancelled_is_finished_for_the_next_one(bench: Bench) -> None:
    gate = bench.block()
    callers = [asyncio.create_task(bench.find()) for _ in range(3)]
    await until_asked(bench, 1, 0)
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)
    gate.set()

    assert await finish_fetches() == 1
    assert at_once(bench.find()) == [bench.kid]
    assert bench.provider.fetches == (1, 1)


async def test_without_a_kid_the_only_key_is_found(bench: Bench) -> None:
    assert await bench.find(None) == [bench.kid]


async def test_a_kid_that_the_first_fetch_does_not_have_is_refused_without_a_second(bench: Bench) -> None:
    await bench.refused("unknown")

    assert bench.provider.fetches == (1, 1)


# Age


async def test_a_young_key_set_is_not_fetched_again(bench: Bench) -> None:
    await bench.find()
    bench.clock.advance(TTL * 0.8 * 0.95 - 0.5)

    assert at_once(bench.find()) == [bench.kid]
    assert await finish_fetches() == 0
    assert bench.provider.fetches == (1, 1)


async def test_a_key_set_is_fetched_again_before_it_is_old(bench: Bench) -> None:
    await bench.find()
    old, new = bench.kid, bench.rotate()
    bench.clock.advance(TTL * 0.8 * 1.05)

    assert not bench.source.health().is_stale
    at_once(bench.find(old))
    assert await finish_fetches() == 1
    assert at_once(bench.find(new)) == [new]
    assert bench.provider.fetches == (1, 2)


async def test_a_key_set_that_did_not_change_stays_the_same_object(bench: Bench) -> None:
    await bench.find()
    first = bench.source.peek()
    bench.clock.advance(TTL)
    await bench.find()
    await finish_fetches()
    assert bench.source.peek() is first

    bench.rotate()
    bench.clock.advance(TTL)
    await bench.find()
    await finish_fetches()
    assert bench.source.peek() is not first
    assert bench.source.health().key_count == 2


async def test_the_fetches_ahead_of_many_processes_are_spread() -> None:
    asked_at: Counter[int] = Counter()
    for _ in range(200):
        bench = build_bench()
        await bench.find()
        bench.clock.advance(TTL * 0.8 * 0.95 - 1)
        while bench.provider.fetches == (1, 1):
            bench.clock.advance(1)
            await bench.find()
            await finish_fetches()
        asked_at[round(bench.clock.monotonic())] += 1

    assert min(asked_at) >= TTL * 0.8 * 0.95 - 1
    assert max(asked_at) <= TTL * 0.8 * 1.05 + 1
    assert len(asked_at) > 15


async def test_an_old_key_set_is_used_immediately_while_one_fetch_runs_in_the_background(bench: Bench) -> None:
    await bench.find()
    gate = bench.block()
    bench.clock.advance(TTL)

    for _ in range(50):
        assert at_once(bench.find()) == [bench.kid]
    await until_asked(bench, 1, 2)
    for _ in range(50):
        assert at_once(bench.find()) == [bench.kid]
    gate.set()

    assert await finish_fetches() == 1
    assert bench.provider.fetches == (1, 2)


async def test_a_key_set_that_was_fetched_in_the_background_is_used_from_then_on(bench: Bench) -> None:
    await bench.find()
    old, new = bench.kid, bench.rotate()
    bench.clock.advance(TTL)

    assert at_once(bench.find(old)) == [old]
    await finish_fetches()

    assert at_once(bench.find(new)) == [new]
    assert at_once(bench.find(old)) == [old]
    bench.clock.advance(TTL * 0.7)
    assert at_once(bench.find(new)) == [new]
    assert bench.provider.fetches == (1, 2)


async def test_a_withdrawn_key_is_gone_once_the_key_set_was_fetched_again(bench: Bench) -> None:
    await bench.find()
    withdrawn = bench.kid
    bench.rotate(keep_previous=False)
    bench.clock.advance(TTL)
    assert at_once(bench.find(withdrawn)) == [withdrawn]
    await finish_fetches()

    await bench.refused(withdrawn)

    assert bench.provider.fetches == (1, 3)


async def test_discovery_is_fetched_once_a_day(bench: Bench) -> None:
    for _ in range(24 * 12):
        await bench.find()
        await finish_fetches()
        bench.clock.advance(TTL)
    assert bench.provider.fetches == (1, 24 * 12)

    await bench.find()
    await finish_fetches()

    assert bench.provider.fetches == (2, 24 * 12 + 1)


async def test_a_stale_key_set_is_used_for_an_hour_and_no_longer(bench: Bench) -> None:
    await bench.find()
    bench.provider.go_away()

    bench.clock.advance(TTL + MAX_STALE - 0.5)
    assert at_once(bench.find()) == [bench.kid]
    await finish_fetches()

    bench.clock.advance(0.5)
    assert bench.source.peek() is None
    assert (await bench.unavailable()).status == 503


async def test_a_key_set_past_its_stale_limit_is_replaced_before_it_is_used(bench: Bench) -> None:
    await bench.find()
    new = bench.rotate()
    bench.clock.advance(TTL + MAX_STALE)

    assert await bench.find(new) == [new]
    assert bench.provider.fetches == (1, 2)


async def test_with_a_stale_limit_of_zero_no_stale_key_set_is_used() -> None:
    bench = build_bench(max_stale=0)
    await bench.find()
    bench.clock.advance(TTL - 0.5)
    assert at_once(bench.find()) == [bench.kid]

    bench.clock.advance(0.5)
    bench.provider.go_away()
    assert (await bench.unavailable()).found == AWAY

    bench.provider.come_back()
    bench.clock.advance(2)
    assert await bench.find() == [bench.kid]


# Outages


async def test_an_outage_keeps_the_cached_keys(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    await bench.find()
    bench.provider.go_away()
    bench.clock.advance(TTL)

    for _ in range(10):
        assert at_once(bench.find()) == [bench.kid]
        await finish_fetches()

    assert bench.provider.fetches == (1, 2)
    assert [(record.name, record.levelname, record.getMessage()) for record in caplog.records] == [
        ("fastapi_logto", "WARNING", f"keys: fetch failed, next try in 1 s at the earliest: {AWAY}")
    ]


@pytest.mark.parametrize(
    ("jwks", "says"),
    [
        (b"{}", "key set: expected a list named keys"),
        (b"<html>", f"{ENDPOINT}{JWKS_PATH}: not strict JSON: JSONDecodeError"),
        (500, f"{ENDPOINT}{JWKS_PATH}: status 500 instead of 200"),
    ],
)
async def test_a_response_that_is_no_key_set_keeps_the_cached_keys(jwks: int | bytes, says: str, bench: Bench) -> None:
    await bench.find()
    bench.provider.faults[JWKS_PATH] = jwks
    bench.clock.advance(TTL)

    assert at_once(bench.find()) == [bench.kid]
    await finish_fetches()

    assert at_once(bench.find()) == [bench.kid]
    assert bench.source.health().last_error == says


async def test_without_keys_an_outage_is_503_with_retry_after(bench: Bench) -> None:
    bench.provider.go_away()

    error = await bench.unavailable()

    assert (error.code, error.reason, error.status) == ("provider_unavailable", "provider_unavailable", 503)
    assert error.message == (
        "The identity provider is unavailable, so the token can't be verified now; try again later"
    )
    assert (error.claim, error.expected, error.found) == (None, None, AWAY_AT_ONCE)
    assert error.retry_after_seconds in {1, 2}


async def test_without_keys_an_outage_does_not_mean_a_fetch_for_each_request(bench: Bench) -> None:
    bench.provider.go_away()

    assert await bench.outcomes(*["kid"] * 100) == {ProviderUnavailableError}
    for _ in range(100):
        await bench.unavailable()

    assert bench.provider.fetches == (1, 0)


async def test_a_cold_source_recovers_by_itself_when_the_provider_comes_back(bench: Bench) -> None:
    bench.provider.go_away()
    await bench.unavailable()
    bench.provider.come_back()
    assert (await bench.unavailable()).found == AWAY_AT_ONCE

    bench.clock.advance(1.2)

    assert await bench.find() == [bench.kid]
    assert bench.provider.fetches == (2, 1)


async def test_the_next_try_starts_after_1_2_4_and_up_to_30_seconds(bench: Bench) -> None:
    bench.provider.go_away()

    for tries, seconds in enumerate((1, 2, 4, 8, 16, 30, 30, 30), start=1):
        error = await bench.unavailable()
        wait = bench.source.health().next_try_seconds
        assert wait is not None
        assert seconds * 0.9 <= wait <= seconds * 1.1
        assert wait <= error.retry_after_seconds < wait + 1
        bench.clock.advance(wait - 0.01)
        assert (await bench.unavailable()).retry_after_seconds == 1
        assert bench.provider.fetches == (tries, 0)
        bench.clock.advance(0.02)


async def test_with_cached_keys_the_next_try_also_runs_in_the_background(bench: Bench) -> None:
    await bench.find()
    bench.provider.go_away()
    bench.clock.advance(TTL)

    for tries, seconds in enumerate((1, 2, 4, 8, 16, 30, 30), start=2):
        assert at_once(bench.find()) == [bench.kid]
        await finish_fetches()
        bench.clock.advance(seconds * 0.9 - 0.01)
        assert at_once(bench.find()) == [bench.kid]
        assert await finish_fetches() == 0
        assert bench.provider.fetches == (1, tries)
        bench.clock.advance(seconds * 0.2 + 0.02)


async def test_the_next_tries_of_many_processes_are_spread() -> None:
    waits: set[float | None] = set()
    for _ in range(10):
        bench = build_bench()
        bench.provider.go_away()
        await bench.unavailable()
        waits.add(bench.source.health().next_try_seconds)

    assert len(waits) == 10


async def test_a_success_ends_the_back_off(bench: Bench) -> None:
    bench.provider.go_away()
    for _ in range(6):
        await bench.unavailable()
        bench.clock.advance(40)
    bench.provider.come_back()
    await bench.find()
    assert bench.source.health().next_try_seconds is None

    bench.provider.go_away()
    bench.clock.advance(TTL)
    at_once(bench.find())
    await finish_fetches()

    wait = bench.source.health().next_try_seconds
    assert wait is not None
    assert 0.9 <= wait <= 1.1


async def test_a_success_of_a_forced_fetch_ends_the_back_off_too() -> None:
    bench = build_bench(ttl=1)
    await bench.find()
    bench.provider.go_away()
    for _ in range(6):
        bench.clock.advance(40)
        at_once(bench.find())
        await finish_fetches()
    bench.provider.come_back()
    await bench.refused("unknown")
    _, before = bench.provider.fetches

    bench.clock.advance(1)
    at_once(bench.find())
    await finish_fetches()

    assert bench.provider.fetches == (1, before + 1)


async def test_after_half_a_day_an_outage_is_still_503_and_still_retried_every_30_seconds(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "fastapi_logto")
    bench.provider.go_away()
    for _ in range(1100):
        await bench.unavailable()
        bench.clock.advance(40)

    await bench.unavailable()
    wait = bench.source.health().next_try_seconds
    assert wait is not None
    assert 27 <= wait <= 33
    assert bench.provider.fetches == (1101, 0)


async def test_a_provider_of_another_issuer_is_an_outage_and_its_keys_are_never_fetched(bench: Bench) -> None:
    bench.provider.discovery["issuer"] = "https://stranger.example/oidc"

    error = await bench.unavailable()

    assert error.found is not None
    assert error.found.startswith(f"{ENDPOINT}{DISCOVERY_PATH}: expected the issuer {ISSUER}, found ")
    assert bench.provider.fetches == (1, 0)


async def test_text_of_the_provider_can_not_add_lines_to_the_log(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.provider.discovery["jwks_uri"] = f"{ENDPOINT}/\r\n2026-01-01 ERROR forged\x1b[2J" + "x" * 10_000

    error = await bench.unavailable()

    for text in (str(error), str(bench.source.health().last_error), *caplog.messages):
        assert text.isprintable()
        assert len(text) < 2000


@pytest.mark.parametrize("status", [404, 410])
async def test_if_the_key_set_has_moved_the_next_try_fetches_the_discovery_document_again(
    status: int, bench: Bench
) -> None:
    await bench.find()
    bench.provider.faults[JWKS_PATH] = status
    bench.provider.discovery["jwks_uri"] = f"{ENDPOINT}/moved/jwks"
    bench.clock.advance(TTL)
    assert at_once(bench.find()) == [bench.kid]
    await finish_fetches()
    assert bench.provider.fetches == (1, 2)

    bench.clock.advance(2)
    new = bench.rotate()
    assert await bench.find(new) == [new]

    assert bench.provider.counts == {DISCOVERY_PATH: 2, JWKS_PATH: 2, "/moved/jwks": 1}


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500, 503])
async def test_if_the_key_set_has_not_moved_the_next_try_uses_the_same_url(status: int, bench: Bench) -> None:
    await bench.find()
    bench.provider.faults[JWKS_PATH] = status
    bench.clock.advance(TTL)
    at_once(bench.find())
    await finish_fetches()

    bench.clock.advance(2)
    at_once(bench.find())
    await finish_fetches()

    assert bench.provider.fetches == (1, 3)


# Unknown kids


async def test_an_unknown_kid_causes_one_fetch_and_then_none_within_the_cooldown(bench: Bench) -> None:
    await bench.find()

    await bench.refused("unknown")
    assert bench.provider.fetches == (1, 2)
    bench.clock.advance(COOLDOWN - 0.5)
    for number in range(20):
        error = await bench.cooling_down(f"unknown {number}")
        assert (error.fetched_at, error.retry_after_seconds) == (NOW, 1)
    assert bench.provider.fetches == (1, 2)

    bench.clock.advance(0.5)
    await bench.refused("unknown")
    assert bench.provider.fetches == (1, 3)


async def test_within_the_cooldown_an_unknown_kid_fails_immediately_with_retry_after(bench: Bench) -> None:
    await bench.find()
    bench.clock.advance(100)
    await bench.refused("unknown")
    bench.block()
    bench.clock.advance(COOLDOWN / 3)

    with pytest.raises(CoolingDownError) as caught:
        at_once(bench.find("another"))

    assert (caught.value.fetched_at, caught.value.retry_after_seconds) == (NOW + 100, COOLDOWN * 2 / 3)


async def test_an_unknown_kid_is_401_and_named_only_in_the_log(bench: Bench) -> None:
    await bench.find()

    error = await bench.refused("un\r\nknown" + "x" * 1000)

    assert (error.code, error.reason, error.status, error.claim) == ("invalid_token", "unknown_key", 401, "kid")
    assert error.expected == "a key of the issuer's key set"
    assert error.found == r"'un\r\nknown" + "x" * 68 + "... ES384"
    assert error.message == (
        "The token is signed with a key that the issuer does not publish; get a new token from its issuer"
    )


async def test_a_known_kid_with_another_algorithm_is_refused_without_a_fetch(bench: Bench) -> None:
    await bench.find()

    with pytest.raises(AlgorithmError) as caught:
        await bench.source.find(kid=bench.kid, alg="RS256")

    assert (caught.value.claim, caught.value.found) == ("alg", "RS256")
    assert caught.value.expected == "an algorithm of the key with this kid"
    assert bench.provider.fetches == (1, 1)


async def test_a_known_kid_of_several_with_another_algorithm_is_refused_without_a_fetch(bench: Bench) -> None:
    bench.rotate()
    await bench.find()

    with pytest.raises(AlgorithmError):
        await bench.source.find(kid=bench.kid, alg="RS256")

    assert bench.provider.fetches == (1, 1)


async def test_a_fetch_that_fails_with_an_unexpected_exception_counts_as_a_failure() -> None:
    def fail() -> float:
        raise MemoryError("what it held")

    bench = build_bench(discovery_monotonic=fail)

    for _ in range(2):
        with pytest.raises(ProviderUnavailableError) as caught:
            await bench.find()

        assert caught.value.found == "MemoryError"
        assert bench.provider.fetches == (1, 0)


def test_a_loop_that_was_closed_during_a_fetch_is_not_kept(bench: Bench) -> None:
    def leave_a_fetch_behind() -> weakref.ref[asyncio.AbstractEventLoop]:
        loop = asyncio.new_event_loop()
        bench.block()
        caller = loop.create_task(bench.find())
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(asyncio.sleep(0))
        caller.cancel()
        loop.close()
        return weakref.ref(loop)

    with warnings.catch_warnings():
        # asyncio warns of tasks that were never ended, which is what this test does.
        warnings.simplefilter("ignore")
        left = leave_a_fetch_behind()
        bench.provider.gate = None
        assert asyncio.run(bench.find()) == [bench.kid]
        gc.collect()

    assert left() is None


async def test_no_kid_with_several_keys_is_unknown(bench: Bench) -> None:
    bench.rotate()

    assert (await bench.refused(None)).found == "None ES384"


async def test_no_kid_is_unknown_also_if_no_key_has_one(bench: Bench) -> None:
    bench.rotate()
    bench.provider.jwks = {
        "keys": [{name: value for name, value in key.items() if name != "kid"} for key in bench.issuer.jwks()["keys"]]
    }

    assert (await bench.refused(None)).found == "None ES384"


async def test_a_rotation_one_second_after_the_start_is_picked_up(bench: Bench) -> None:
    await bench.find()
    bench.clock.advance(1)
    new = bench.rotate()

    assert await bench.find(new) == [new]
    assert bench.provider.fetches == (1, 2)


async def test_a_rotation_right_after_a_fetch_for_age_is_picked_up(bench: Bench) -> None:
    await bench.find()
    bench.clock.advance(TTL)
    at_once(bench.find())
    await finish_fetches()
    new = bench.rotate()

    assert await bench.find(new) == [new]
    assert bench.provider.fetches == (1, 3)


async def test_a_rotation_without_grace_causes_one_fetch_and_removes_the_old_key(bench: Bench) -> None:
    await bench.find()
    old, new = bench.kid, bench.rotate(keep_previous=False)

    assert await asyncio.gather(*(bench.find(new) for _ in range(50))) == [[new]] * 50
    await bench.cooling_down(old)

    assert bench.provider.fetches == (1, 2)


async def test_a_second_rotation_within_the_cooldown_waits_for_its_end(bench: Bench) -> None:
    await bench.find()
    await bench.find(bench.rotate())
    bench.clock.advance(1)
    second = bench.rotate()

    assert (await bench.cooling_down(second)).retry_after_seconds == COOLDOWN - 1
    bench.clock.advance(COOLDOWN - 1)

    assert await bench.find(second) == [second]
    assert bench.provider.fetches == (1, 3)


async def test_a_flood_of_unknown_kids_causes_one_fetch(bench: Bench) -> None:
    await bench.find()

    assert await bench.outcomes(*(f"unknown {number}" for number in range(500))) == {UnknownKeyError, CoolingDownError}
    for number in range(500):
        await bench.cooling_down(f"later {number}")

    assert bench.provider.fetches == (1, 2)


async def test_a_flood_of_unknown_kids_at_a_cold_source_causes_two_fetches_at_most(bench: Bench) -> None:
    assert await bench.outcomes(*(f"unknown {number}" for number in range(500))) == {UnknownKeyError, CoolingDownError}
    for number in range(500):
        await bench.cooling_down(f"later {number}")

    assert bench.provider.fetches == (1, 2)


async def test_a_flood_of_unknown_kids_during_an_outage_is_503_with_few_fetches(bench: Bench) -> None:
    await bench.find()
    bench.provider.go_away()

    assert await bench.outcomes(*(f"unknown {number}" for number in range(500))) == {ProviderUnavailableError}
    for number in range(100):
        error = await bench.unavailable(f"later {number}")
        assert (error.retry_after_seconds in {1, 2}, error.found) == (True, AWAY)
    assert bench.provider.fetches == (1, 2)

    bench.clock.advance(COOLDOWN)
    assert await bench.outcomes(*(f"unknown {number}" for number in range(500))) == {ProviderUnavailableError}
    assert bench.provider.fetches == (1, 3)


async def test_known_kids_are_found_immediately_during_a_flood_of_unknown_ones(bench: Bench) -> None:
    await bench.find()
    gate = bench.block()
    flood = asyncio.create_task(bench.outcomes(*(f"unknown {number}" for number in range(100))))
    await until_asked(bench, 1, 2)

    assert at_once(bench.find()) == [bench.kid]

    gate.set()
    assert await flood == {UnknownKeyError, CoolingDownError}
    assert bench.provider.fetches == (1, 2)


async def test_an_unknown_kid_waits_for_the_fetch_that_runs_already(bench: Bench) -> None:
    await bench.find()
    gate = bench.block()
    bench.clock.advance(TTL)
    at_once(bench.find())
    await until_asked(bench, 1, 2)
    new = bench.rotate()

    waiting = asyncio.create_task(bench.find(new))
    await asyncio.sleep(0)
    gate.set()

    assert await waiting == [new]
    assert bench.provider.fetches == (1, 2)


async def test_an_unknown_kid_is_no_longer_503_once_the_provider_is_back(bench: Bench) -> None:
    await bench.find()
    bench.provider.go_away()
    await bench.unavailable("unknown")
    bench.provider.come_back()
    bench.clock.advance(COOLDOWN)

    await bench.refused("unknown")
    assert bench.source.health().last_error is None


async def test_a_key_set_that_grew_too_old_during_a_fetch_for_an_unknown_kid_is_503() -> None:
    bench = build_bench(max_stale=0)
    await bench.find()
    gate = bench.block()
    waiting = asyncio.create_task(bench.unavailable("unknown"))
    await until_asked(bench, 1, 2)
    bench.provider.go_away()
    bench.clock.advance(TTL)
    gate.set()

    assert (await waiting).found == AWAY


async def test_a_key_set_that_grew_too_old_while_the_source_was_closed_is_503() -> None:
    bench = build_bench(max_stale=0)
    await bench.find()
    bench.block()
    waiting = asyncio.create_task(bench.unavailable("unknown"))
    await until_asked(bench, 1, 2)
    bench.clock.advance(TTL)

    await bench.source.close()

    assert (await waiting).found == "an incomplete fetch"


# Loops, closing, warming


def test_a_fetch_that_one_event_loop_left_unfinished_does_not_affect_the_next_loop(bench: Bench) -> None:
    left: list[asyncio.Task[list[str | None]]] = []

    async def leave_hanging() -> None:
        bench.block()
        left.append(asyncio.create_task(bench.find()))
        await until_asked(bench, 1, 0)

    asyncio.run(leave_hanging())
    bench.provider.gate = None

    assert asyncio.run(bench.find()) == [bench.kid]
    assert bench.provider.fetches == (2, 1)


def test_an_event_loop_that_ended_is_not_kept_in_memory(bench: Bench) -> None:
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def find() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await bench.find()

    asyncio.run(find())
    gc.collect()

    assert [loop() for loop in loops] == [None]


async def test_a_fetch_that_hangs_on_one_event_loop_does_not_delay_another_loop(bench: Bench) -> None:
    gate = bench.block()
    waiting = asyncio.create_task(bench.find())
    await until_asked(bench, 1, 0)
    bench.provider.gate = None

    assert await asyncio.to_thread(asyncio.run, bench.find()) == [bench.kid]
    assert bench.provider.fetches == (2, 1)

    gate.set()
    assert await waiting == [bench.kid]


async def test_if_two_event_loops_fetch_concurrently_the_fetch_that_started_later_decides(bench: Bench) -> None:
    old, before = bench.kid, bench.provider.jwks
    gate = bench.block()
    waiting = asyncio.create_task(bench.refused(old))
    await until_asked(bench, 1, 0)
    bench.provider.gate = None
    new = bench.rotate(keep_previous=False)
    assert await asyncio.to_thread(asyncio.run, bench.find(new)) == [new]

    bench.provider.jwks = before
    gate.set()
    await waiting

    assert at_once(bench.find(new)) == [new]
    assert bench.provider.fetches == (2, 2)


def test_keys_fetched_on_one_event_loop_are_used_on_the_next_and_refreshed_there(bench: Bench) -> None:
    async def find_and_finish() -> list[str | None]:
        found = await bench.find()
        await finish_fetches()
        return found

    assert asyncio.run(find_and_finish()) == [bench.kid]
    assert asyncio.run(find_and_finish()) == [bench.kid]
    assert bench.provider.fetches == (1, 1)

    bench.clock.advance(TTL)
    assert asyncio.run(find_and_finish()) == [bench.kid]
    assert bench.provider.fetches == (1, 2)


async def test_closing_ends_a_hanging_fetch_without_a_warning_and_its_callers_get_503(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    bench.block()
    waiting = [asyncio.create_task(bench.unavailable()) for _ in range(10)]
    await until_asked(bench, 1, 0)

    await bench.source.close()

    assert await finish_fetches() == 0
    errors = await asyncio.gather(*waiting)
    assert {(error.status, error.retry_after_seconds) for error in errors} == {(503, 1)}
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO] == []


async def test_a_closed_source_fetches_again_when_it_is_used_again(bench: Bench) -> None:
    bench.block()
    waiting = asyncio.create_task(bench.unavailable())
    await until_asked(bench, 1, 0)
    await bench.source.close()
    await waiting
    bench.provider.gate = None

    assert await bench.find() == [bench.kid]
    assert bench.provider.fetches == (2, 1)


async def test_closing_without_a_running_fetch_does_nothing(bench: Bench) -> None:
    await bench.source.close()
    await bench.find()
    await bench.source.close()
    await bench.source.close()

    assert at_once(bench.find()) == [bench.kid]


async def test_a_stale_key_set_is_still_used_after_closing(bench: Bench) -> None:
    await bench.find()
    bench.block()
    bench.clock.advance(TTL)
    at_once(bench.find())
    await until_asked(bench, 1, 2)

    await bench.source.close()

    assert at_once(bench.find()) == [bench.kid]
    await bench.source.close()


async def test_warming_fetches_the_keys_once(bench: Bench) -> None:
    await bench.source.warm()
    await bench.source.warm()

    assert bench.provider.fetches == (1, 1)
    assert at_once(bench.find()) == [bench.kid]


async def test_warming_with_a_provider_that_is_unreachable_is_logged_and_not_raised(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.provider.go_away()

    await bench.source.warm()
    await bench.source.warm()

    assert caplog.messages == [f"keys: fetch failed, next try in 1 s at the earliest: {AWAY_AT_ONCE}"]
    assert bench.provider.fetches == (1, 0)


async def test_warming_again_after_the_back_off_fetches_again(bench: Bench) -> None:
    bench.provider.go_away()
    await bench.source.warm()
    bench.provider.come_back()
    bench.clock.advance(1.2)

    await bench.source.warm()

    assert at_once(bench.find()) == [bench.kid]
    assert bench.provider.fetches == (2, 1)


async def test_warming_joins_the_fetch_that_runs_already(bench: Bench) -> None:
    gate = bench.block()
    request = asyncio.create_task(bench.find())
    await until_asked(bench, 1, 0)

    warming = [asyncio.create_task(bench.source.warm()) for _ in range(3)]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*warming)

    assert await request == [bench.kid]
    assert bench.provider.fetches == (1, 1)


async def test_cancelled_warming_does_not_cancel_the_fetch_of_others(bench: Bench) -> None:
    gate = bench.block()
    warming = asyncio.create_task(bench.source.warm())
    await until_asked(bench, 1, 0)
    request = asyncio.create_task(bench.find())
    await asyncio.sleep(0)

    warming.cancel()
    await asyncio.wait([warming])
    gate.set()

    assert warming.cancelled()
    assert await request == [bench.kid]
    assert bench.provider.fetches == (1, 1)


# Health


async def test_health_before_the_first_fetch(bench: Bench) -> None:
    assert bench.source.health() == ProviderHealth(
        is_ready=False, is_stale=False, key_count=0, age_seconds=None, last_error=None, next_try_seconds=None
    )
    assert bench.provider.fetches == (0, 0)
    assert await finish_fetches() == 1
    assert bench.source.health().is_ready


def test_health_outside_an_event_loop_fetches_nothing(bench: Bench) -> None:
    assert not bench.source.health().is_ready
    assert bench.provider.fetches == (0, 0)


async def test_health_starts_one_fetch_although_it_is_requested_often(bench: Bench) -> None:
    for _ in range(3):
        bench.source.health()

    assert await finish_fetches() == 1
    assert bench.provider.fetches == (1, 1)


async def test_a_process_that_started_in_an_outage_gets_ready_by_its_probe_alone(bench: Bench) -> None:
    bench.provider.go_away()
    await bench.source.warm()
    bench.provider.come_back()

    assert not bench.source.health().is_ready
    assert await finish_fetches() == 0
    bench.clock.advance(1.2)
    assert not bench.source.health().is_ready
    assert await finish_fetches() == 1

    assert bench.source.health().is_ready


async def test_health_with_fresh_keys(bench: Bench) -> None:
    bench.rotate()
    await bench.find()
    bench.clock.advance(TTL - 1)

    assert bench.source.health() == ProviderHealth(
        is_ready=True, is_stale=False, key_count=2, age_seconds=TTL - 1, last_error=None, next_try_seconds=None
    )


async def test_health_with_keys_past_their_age_refreshes_them_in_the_background(bench: Bench) -> None:
    await bench.find()
    bench.clock.advance(TTL)

    assert bench.source.health() == ProviderHealth(
        is_ready=True, is_stale=True, key_count=1, age_seconds=TTL, last_error=None, next_try_seconds=None
    )
    assert await finish_fetches() == 1
    assert not bench.source.health().is_stale


async def test_health_in_an_outage_with_cached_keys(bench: Bench) -> None:
    await bench.find()
    bench.provider.go_away()
    bench.clock.advance(TTL)
    at_once(bench.find())
    await finish_fetches()

    health = bench.source.health()

    assert health == ProviderHealth(
        is_ready=True,
        is_stale=True,
        key_count=1,
        age_seconds=TTL,
        last_error=AWAY,
        next_try_seconds=health.next_try_seconds,
    )
    assert health.next_try_seconds == pytest.approx(1, abs=0.1)
    bench.clock.advance(5)
    assert bench.source.health().next_try_seconds == 0.0


async def test_health_with_keys_past_their_stale_limit(bench: Bench) -> None:
    await bench.find()
    bench.clock.advance(TTL + MAX_STALE)

    assert bench.source.health() == ProviderHealth(
        is_ready=False,
        is_stale=True,
        key_count=1,
        age_seconds=TTL + MAX_STALE,
        last_error=None,
        next_try_seconds=None,
    )
    assert await finish_fetches() == 1
    assert bench.source.health().is_ready


async def test_health_in_an_outage_without_keys(bench: Bench) -> None:
    bench.provider.go_away()
    await bench.unavailable()

    health = bench.source.health()

    assert (health.is_ready, health.is_stale, health.key_count, health.age_seconds) == (False, False, 0, None)
    assert health.last_error == AWAY_AT_ONCE
    assert health.next_try_seconds == pytest.approx(1, abs=0.1)


async def test_health_after_a_recovery(bench: Bench) -> None:
    bench.provider.go_away()
    await bench.unavailable()
    bench.provider.come_back()
    bench.clock.advance(1.2)
    await bench.find()

    assert bench.source.health() == ProviderHealth(
        is_ready=True, is_stale=False, key_count=1, age_seconds=0.0, last_error=None, next_try_seconds=None
    )


async def test_the_keys_found_are_those_of_the_document(bench: Bench) -> None:
    (key,) = await bench.source.find(kid=bench.kid, alg="ES384")

    assert key == PublicKey(kid=bench.kid, algorithms=frozenset({"ES384"}), thumbprint=bench.kid, jose=key.jose)
    assert key.jose.as_dict(private=False)["x"] == bench.issuer.jwks()["keys"][0]["x"]
