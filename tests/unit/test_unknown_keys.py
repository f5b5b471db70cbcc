"""Strangers can't make a rotation fail: during the cooldown, tokens that may be signed with a new key get 503."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from fastapi_logto import LogtoAuth
from fastapi_logto.errors import ProviderUnavailableError, RefusalError, UnknownKeyError
from fastapi_logto.strict_json import JsonValue
from fastapi_logto.testing import LocalIssuer, ManualClock
from tests.captured import NOW
from tests.unit.apps import API


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """An application's scheme, its tenant, and a stranger who signs with another key."""

    clock: ManualClock
    issuer: LocalIssuer
    stranger: LocalIssuer
    auth: LogtoAuth

    async def refused(self, token: str) -> RefusalError:
        with pytest.raises(RefusalError) as caught:
            await self.auth.verify(token)
        return caught.value

    async def start_cooldown(self) -> None:
        """Fetch the keys, and once more because of an unknown `kid`."""
        await self.auth.verify(self.issuer.access_token())
        assert type(await self.refused(self.stranger.access_token())) is UnknownKeyError


def build_bench(**settings: Any) -> Bench:
    clock = ManualClock(now=NOW)
    issuer = LocalIssuer(clock=clock)
    stranger = LocalIssuer(endpoint=issuer.endpoint, clock=clock)
    auth = issuer.auth(**settings)
    return Bench(clock=clock, issuer=issuer, stranger=stranger, auth=auth)


@pytest.fixture
def bench() -> Bench:
    return build_bench()


async def test_a_token_of_a_key_rotated_within_the_cooldown_is_503_and_accepted_when_it_ends(bench: Bench) -> None:
    await bench.start_cooldown()
    bench.clock.advance(1)
    bench.issuer.rotate(keep_previous=False)
    token = bench.issuer.access_token()

    error = await bench.refused(token)
    assert isinstance(error, ProviderUnavailableError)
    assert (error.status, error.reason, error.retry_after_seconds) == (503, "provider_unavailable", 29)
    bench.clock.advance(error.retry_after_seconds)

    assert (await bench.auth.verify(token)).iss == bench.issuer.issuer


async def test_a_stranger_who_sends_one_token_a_second_does_not_block_a_rotation(bench: Bench) -> None:
    await bench.start_cooldown()
    statuses: list[int] = []
    bench.clock.advance(5)
    bench.issuer.rotate(keep_previous=False)
    token = bench.issuer.access_token()

    for _ in range(60):
        bench.clock.advance(1)
        await bench.refused(bench.stranger.access_token())
        try:
            await bench.auth.verify(token)
        except RefusalError as error:
            statuses.append(error.status)
        else:
            statuses.append(200)

    assert set(statuses[:24]) == {503}
    assert set(statuses[25:]) == {200}


async def test_an_unknown_key_of_a_token_older_than_the_last_fetch_is_401(bench: Bench) -> None:
    old = bench.stranger.access_token()
    bench.clock.advance(100)
    await bench.start_cooldown()

    error = await bench.refused(old)

    (kid,) = (key["kid"] for key in bench.stranger.jwks()["keys"])
    assert error.status == 401
    assert str(error) == (
        f"invalid_token: unknown_key, claim kid, expected a key of the issuer's key set, found '{kid}' ES384"
    )


@pytest.mark.parametrize(("age", "status"), [(10, 503), (10.5, 401), (11, 401), (0, 503), (-3600, 503)])
async def test_the_leeway_decides_what_is_older(age: float, status: int, bench: Bench) -> None:
    await bench.start_cooldown()

    assert (await bench.refused(bench.stranger.access_token(claims={"iat": NOW - age}))).status == status


@pytest.mark.parametrize("issued_at", ["1", None, True, [NOW]], ids=str)
async def test_a_time_of_issue_that_is_no_number_is_401(issued_at: Any, bench: Bench) -> None:
    await bench.start_cooldown()

    assert (await bench.refused(bench.stranger.access_token(claims={"iat": issued_at}))).reason == "unknown_key"


@pytest.mark.parametrize(("required", "status"), [("iat", 401), ("jti", 503)])
async def test_a_token_without_a_time_of_issue_may_be_new_only_if_none_is_required(required: str, status: int) -> None:
    bench = build_bench(required_claims=required)
    await bench.start_cooldown()
    payload: dict[str, JsonValue] = {"iss": bench.issuer.issuer, "sub": "s", "aud": API, "exp": NOW + 60, "jti": "j"}

    assert (await bench.refused(bench.stranger.sign(payload))).status == status


async def test_a_time_of_issue_decides_also_where_none_is_required() -> None:
    bench = build_bench(required_claims="jti")
    await bench.start_cooldown()

    assert (await bench.refused(bench.stranger.access_token(claims={"iat": NOW - 11}))).status == 401
    assert (await bench.refused(bench.stranger.access_token(claims={"iat": NOW}))).status == 503


@pytest.mark.parametrize(
    ("payload", "status"),
    [
        (b'{"iat": 1, "iat": 99999999999}', 503),
        (b'{"iat": 1, "custom": {"iat": 99999999999}}', 503),
        (b'{"iat": 1', 401),
        (b"no JSON", 401),
        (b'{"iat": -1}', 401),
        (b'{"iat":' + b"[" * 10_000, 401),
        (b'{"iat":' + b"9" * 10_000 + b"}", 503),
    ],
    ids=["twice", "nested", "cut short", "none", "negative", "deep", "long"],
)
async def test_the_payload_is_searched_and_not_parsed(payload: bytes, status: int, bench: Bench) -> None:
    await bench.start_cooldown()

    assert (await bench.refused(bench.stranger.sign(payload))).status == status


async def test_an_unverified_time_of_issue_does_not_accept_a_token(bench: Bench) -> None:
    await bench.start_cooldown()
    tokens = [bench.stranger.access_token(claims={"iat": iat}) for iat in (0, NOW, NOW + 10**6, 10**400)]

    outcomes = await asyncio.gather(*(bench.auth.verify(token) for token in tokens), return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [UnknownKeyError, *[ProviderUnavailableError] * 3]


async def test_known_keys_are_not_affected_by_the_cooldown(bench: Bench) -> None:
    await bench.start_cooldown()

    assert (await bench.auth.verify(bench.issuer.access_token(subject="known"))).sub == "known"


def test_the_message_of_the_503_names_no_secret(bench: Bench) -> None:
    asyncio.run(bench.start_cooldown())

    error = asyncio.run(bench.refused(bench.stranger.access_token()))

    assert error.message == (
        "The token is signed with a key that was not published at the last fetch of the keys; try again later"
    )
    assert "an unknown key during the cooldown" in str(error)
