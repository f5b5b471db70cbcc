"""Keys that the provider withdraws are no longer used; if the provider fails, the cached keys are still used."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from fastapi_logto.errors import RefusalError
from fastapi_logto.testing import LocalIssuer
from tests.captured import JWKS_PATH
from tests.unit.fakes import finish_fetches
from tests.unit.key_bench import TTL, Bench, at_once, build_bench

EC: Mapping[str, object] = LocalIssuer().jwks()["keys"][0]
OTHER_EC: Mapping[str, object] = LocalIssuer().jwks()["keys"][0]


@pytest.fixture
def bench() -> Bench:
    return build_bench()


WITHDRAWN: dict[str, dict[str, object]] = {
    "no key at all": {"keys": []},
    "only an encryption key": {"keys": [{**OTHER_EC, "use": "enc"}]},
    "only algorithms that are not accepted": {"keys": [{**OTHER_EC, "alg": "EdDSA"}]},
    "only a key of another type": {"keys": [{"kty": "oct", "k": "AQ", "kid": "x"}]},
    "only private keys": {"keys": [{**OTHER_EC, "d": "AQ"}]},
}


@pytest.mark.parametrize("document", WITHDRAWN.values(), ids=WITHDRAWN)
async def test_a_key_set_without_a_usable_key_withdraws_the_cached_keys_of_the_source(
    document: dict[str, object], bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.find()
    bench.provider.jwks = document
    bench.clock.advance(TTL)
    assert at_once(bench.find()) == [bench.kid]
    await finish_fetches()

    error = await bench.unavailable()

    assert (error.status, error.found) == (503, "key set: no key is usable with ES384, RS256")
    assert error.retry_after_seconds in {1, 2}
    assert bench.source.peek() is None
    assert not bench.source.health().is_ready
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert bench.provider.fetches == (1, 2)


async def test_after_a_withdrawal_a_usable_key_is_fetched_for_with_the_back_off_of_a_failed_refresh(
    bench: Bench,
) -> None:
    await bench.find()
    good, bench.provider.jwks = bench.provider.jwks, {"keys": []}
    bench.clock.advance(TTL)
    at_once(bench.find())
    await finish_fetches()

    for fetches, wait in ((3, 1.2), (4, 2.4), (5, 4.8)):
        await bench.unavailable()
        bench.clock.advance(wait)
        await bench.unavailable()
        assert bench.provider.fetches == (1, fetches)
    bench.provider.jwks = good
    bench.clock.advance(10)

    assert await bench.find() == [bench.kid]


async def test_an_unknown_kid_reveals_a_withdrawal_immediately(bench: Bench) -> None:
    await bench.find()
    bench.provider.jwks = {"keys": []}

    await bench.unavailable("unknown")

    await bench.unavailable()
    assert bench.provider.fetches == (1, 2)


@dataclass(frozen=True, slots=True)
class Odd:
    """One entry of a key set, as JSON text."""

    id: str
    text: str


ODD = (
    Odd("a lone surrogate", json.dumps({**OTHER_EC, "note": "\ud800"})),
    Odd("a lone surrogate as a member's name", json.dumps({**OTHER_EC, "\udfff": 1})),
    Odd("a lone surrogate inside of a list", json.dumps({**OTHER_EC, "x5c": ["\ud800"]})),
    Odd("a duplicate member", json.dumps(OTHER_EC)[:-1] + ', "kty": "EC"}'),
    Odd("NaN", json.dumps({**OTHER_EC, "nbf": float("nan")})),
    Odd("an infinite number", json.dumps(OTHER_EC)[:-1] + ', "nbf": 1e400}'),
    Odd("a kid of null", json.dumps({**OTHER_EC, "kid": None})),
    Odd("a kid with duplicate members", json.dumps({**OTHER_EC, "kid": "K"}).replace('"K"', '{"a": 1, "a": 2}')),
    Odd("an integer of thousands of digits", json.dumps(OTHER_EC)[:-1] + ', "kid": ' + "9" * 5000 + "}"),
    Odd("duplicate key operations", json.dumps({**OTHER_EC, "key_ops": ["verify", "verify"]})),
    Odd("key operations that are no texts, twice", json.dumps({**OTHER_EC, "key_ops": ["verify", [], []]})),
)


@pytest.mark.parametrize("row", ODD, ids=lambda row: row.id)
async def test_an_odd_entry_is_skipped_and_the_others_are_used(row: Odd, bench: Bench) -> None:
    bench.provider.faults[JWKS_PATH] = f'{{"keys": [{row.text}, {json.dumps(EC)}]}}'.encode()

    assert await bench.find(str(EC["kid"])) == [EC["kid"]]

    assert bench.source.health().key_count == 1
    with pytest.raises(RefusalError) as caught:
        await bench.source.find(kid=str(OTHER_EC["kid"]), alg="ES384")
    assert caught.value.reason == "unknown_key"


@pytest.mark.parametrize(
    "document",
    [b'{"keys": [], "keys": []}', b'{"keys": ' + b"[" * 100 + b"]" * 100 + b"}", b'{"keys": [{}]'],
    ids=["a duplicate list", "too deep", "cut short"],
)
async def test_a_document_that_is_odd_as_a_whole_is_a_failed_refresh(document: bytes, bench: Bench) -> None:
    await bench.find()
    bench.provider.faults[JWKS_PATH] = document
    bench.clock.advance(TTL)
    at_once(bench.find())
    await finish_fetches()

    assert at_once(bench.find()) == [bench.kid]
