"""Token exchange: how long a result is cached for each kind of subject token. Invented tokens block no caller."""

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

import httpx
import pytest
from pydantic import SecretStr

from fastapi_logto.client import GrantRefusedError, GrantUnavailableError, IssuedToken, SubjectTokenType
from tests.unit.apps import API
from tests.unit.clients import Bench
from tests.unit.fakes import wait_until

OPAQUE: Final = "o" * 43
PAT: SubjectTokenType = "personal_access_token"
NOW: Final = 1_800_000_000


@pytest.fixture
def bench() -> Bench:
    return Bench()


def build_jwt(payload: object) -> str:
    text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return f"e30.{urlsafe_b64encode(text).rstrip(b'=').decode()}.c2ln"


def build_long_jwt(length: int) -> str:
    """Return a JWT of exactly this length that expires in ten seconds."""
    shortest = {"exp": NOW + 10, "x": ""}
    payload_bytes = (length - len(build_jwt(b""))) * 3 // 4
    token = build_jwt({**shortest, "x": "y" * (payload_bytes - len(json.dumps(shortest)))})
    assert len(token) == length
    return token


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetime:
    """A subject token, and for how many seconds the result of its exchange is cached."""

    id: str
    token: str
    seconds: float
    kind: SubjectTokenType = "access_token"
    actor_token: str | None = None
    expires_in: object = 24 * 3600


LIFETIMES: Final = (
    Lifetime(id="opaque", token=OPAQUE, seconds=300),
    Lifetime(id="personal access token", token="pat_alice", kind=PAT, seconds=30),
    Lifetime(id="one-time", token="sub_alice", seconds=0),
    Lifetime(id="one-time, as another kind", token="sub_alice", kind=PAT, seconds=0),
    Lifetime(id="JWT", token=build_jwt({"exp": NOW + 3600}), seconds=300),
    Lifetime(id="JWT that expires sooner", token=build_jwt({"exp": NOW + 100}), seconds=100),
    Lifetime(id="JWT with a fraction", token=build_jwt({"exp": NOW + 99.5}), seconds=99.5),
    Lifetime(id="expired JWT", token=build_jwt({"exp": NOW - 1}), seconds=0),
    Lifetime(id="JWT that expired long ago", token=build_jwt({"exp": -(10**400)}), seconds=0),
    Lifetime(id="JWT that expires late", token=build_jwt({"exp": 10**400}), seconds=300),
    Lifetime(id="JWT without exp", token=build_jwt({}), seconds=300),
    Lifetime(id="JWT with a text for exp", token=build_jwt({"exp": str(NOW + 10)}), seconds=300),
    Lifetime(id="JWT with true for exp", token=build_jwt({"exp": True}), seconds=300),
    Lifetime(id="three parts, no JSON", token=build_jwt(b"{"), seconds=300),
    Lifetime(id="three parts, nested deeply", token=build_jwt(b"[" * 5000), seconds=300),
    Lifetime(id="three parts, no base64", token="a.b.c", seconds=300),
    Lifetime(id="the longest JWT that is read", token=build_long_jwt(16_384), seconds=10),
    Lifetime(id="three parts, too long", token=build_long_jwt(16_385), seconds=300),
    Lifetime(id="two parts", token="a.b", seconds=300),
    Lifetime(id="opaque actor", token=OPAQUE, actor_token="a" * 43, seconds=300),
    Lifetime(id="short result", token=OPAQUE, seconds=90, expires_in=100),
    Lifetime(id="result of unknown life", token=OPAQUE, seconds=0, expires_in=None),
)


@pytest.mark.parametrize("row", LIFETIMES, ids=lambda row: row.id)
async def test_a_result_is_cached_as_long_as_its_subject_token_may_be_trusted(bench: Bench, row: Lifetime) -> None:
    bench.say_token(expires_in=row.expires_in)

    async def exchange() -> IssuedToken:
        return await bench.client.exchange_token(
            row.token, API, subject_token_type=row.kind, actor_token=row.actor_token
        )

    first = await exchange()
    if row.seconds:
        bench.clock.advance(row.seconds - 0.25)
        assert await exchange() is first
        bench.clock.advance(0.25)
    assert await exchange() is not first
    assert len(bench.provider.asked) == 2


async def test_tokens_may_be_secret_strs(bench: Bench) -> None:
    bench.say_token()

    first = await bench.client.exchange_token(SecretStr(OPAQUE), API, actor_token=SecretStr("a" * 43))

    assert await bench.client.exchange_token(OPAQUE, API, actor_token="a" * 43) is first


async def test_a_revoked_personal_access_token_is_refused_half_a_minute_later(bench: Bench) -> None:
    bench.say_token(expires_in=24 * 3600)
    await bench.client.exchange_token("pat_alice", API, subject_token_type=PAT)
    bench.provider.say({"error": "invalid_grant"}, status=400)

    bench.clock.advance(30)
    for _ in range(2):
        with pytest.raises(GrantRefusedError) as caught:
            await bench.client.exchange_token("pat_alice", API, subject_token_type=PAT)
        assert caught.value.error == "invalid_grant"


async def test_a_one_time_token_is_exchanged_once_however_many_callers_bring_it(bench: Bench) -> None:
    used: set[str] = set()

    def answer(request: httpx.Request) -> httpx.Response:
        token = dict(parse_qsl(request.content.decode()))["subject_token"]
        if token in used:
            return httpx.Response(400, json={"error": "invalid_grant"})
        used.add(token)
        return httpx.Response(200, json={"access_token": "t", "token_type": "Bearer", "expires_in": 3600})

    bench.provider.answer = answer
    bench.provider.gate = asyncio.Event()
    callers = [asyncio.create_task(bench.client.exchange_token("sub_alice", API)) for _ in range(5)]
    await wait_until(lambda: len(bench.provider.asked) == 5)
    bench.provider.gate.set()
    results = await asyncio.gather(*callers, return_exceptions=True)

    assert sum(isinstance(result, IssuedToken) for result in results) == 1
    assert sum(isinstance(result, GrantRefusedError) for result in results) == 4
    with pytest.raises(GrantRefusedError):
        await bench.client.exchange_token("sub_alice", API)


async def test_callers_with_the_same_token_share_one_request(bench: Bench) -> None:
    bench.say_token()
    bench.provider.gate = asyncio.Event()
    callers = [asyncio.create_task(bench.client.exchange_token(OPAQUE, API)) for _ in range(20)]
    await wait_until(lambda: len(bench.provider.asked) == 1)
    bench.provider.gate.set()

    assert len({id(issued) for issued in await asyncio.gather(*callers)}) == 1
    assert len(bench.provider.asked) == 1


@pytest.mark.parametrize("token", ["pat\ud800", "pat alice", "pat\nalice", "pät", "=", "pat\x00"], ids=ascii)
async def test_characters_that_no_token_has_are_refused_and_not_sent(bench: Bench, token: str) -> None:
    exchanges: tuple[dict[str, Any], ...] = (
        {"subject_token": token},
        {"subject_token": OPAQUE, "actor_token": token},
        {"subject_token": token, "subject_token_type": PAT},
    )
    for arguments in exchanges:
        with pytest.raises(GrantRefusedError) as caught:
            await bench.client.exchange_token(resource=API, **arguments)
        assert (caught.value.status, caught.value.error, caught.value.description) == (400, "invalid_grant", "")
        assert "with only characters of a bearer token, found others" in str(caught.value)
        assert token not in str(caught.value)
    assert bench.provider.asked == []


async def test_an_exchange_without_a_target_is_refused_and_not_sent(bench: Bench) -> None:
    arguments: dict[str, Any] = {"subject_token": "sub_alice"}
    with pytest.raises(ValueError, match="expected a resource, an organization_id or both, found neither"):
        await bench.client.exchange_token(**arguments)
    with pytest.raises(ValueError, match="expected a value for organization_id, found an empty string"):
        await bench.client.exchange_token("sub_alice", organization_id="")
    assert bench.provider.asked == []


async def test_an_exchange_for_an_organization_returns_an_organization_token(bench: Bench) -> None:
    token = bench.issuer.access_token(subject="alice0000001")

    issued = await bench.client.exchange_token(token, organization_id="acme", scopes=["read:member", "invite:member"])

    assert issued.scopes == {"read:member"}
    claims = bench.issuer.read_access_token(issued.token)
    assert claims is not None
    assert (claims["sub"], claims["aud"]) == ("alice0000001", "urn:logto:organization:acme")
    assert await bench.client.exchange_token(token, API, organization_id="acme") is not issued


async def test_a_personal_access_token_is_exchanged(bench: Bench) -> None:
    token = bench.issuer.personal_access_token(subject="bob000000001")

    issued = await bench.client.exchange_token(token, API, scopes=["read:user"], subject_token_type=PAT)

    claims = bench.issuer.read_access_token(issued.token)
    assert claims is not None
    assert (claims["sub"], claims["scope"]) == ("bob000000001", "read:user")


async def test_a_rejected_grant_with_an_actor_may_be_about_either_token(bench: Bench) -> None:
    subject, jwt = bench.issuer.access_token(), bench.issuer.access_token(subject="bob000000001")

    with pytest.raises(GrantRefusedError, match="or the actor token is not an opaque access token of a user") as caught:
        await bench.client.exchange_token(subject, API, actor_token=jwt)
    assert (caught.value.status, caught.value.error) == (400, "invalid_grant")
    assert "the subject token is expired" in str(caught.value)
    with pytest.raises(GrantRefusedError) as caught:
        await bench.client.exchange_token("garbage", API)
    assert "actor" not in str(caught.value)
    opaque = bench.issuer.opaque_token(subject="bob000000001")
    claims = bench.issuer.read_access_token((await bench.client.exchange_token(subject, API, actor_token=opaque)).token)
    assert claims is not None
    assert claims["act"] == {"sub": "bob000000001"}
    # Another error is not about the actor token.
    with pytest.raises(GrantRefusedError) as caught:
        await bench.client.exchange_token(subject, "https://unknown.example.test", actor_token=opaque)
    assert caught.value.error == "invalid_target"
    assert "actor" not in str(caught.value)


class Strangers:
    """Responds to invented tokens with `refusal` after `gate` is set. Other tokens are exchanged."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.gate = asyncio.Event()
        self.refusal = httpx.Response(400, json={"error": "invalid_grant"})
        self.inner = bench.provider.handle_async_request
        self.waiting = 0
        bench.provider.handle_async_request = self.handle  # type: ignore[method-assign]
        bench.say_token()

    async def handle(self, request: httpx.Request) -> httpx.Response:
        if b"invented" not in request.content:
            return await self.inner(request)
        self.waiting += 1
        await self.gate.wait()
        return self.refusal

    def flood(self, kind: SubjectTokenType, count: int = 60) -> Sequence["asyncio.Task[IssuedToken]"]:
        exchange = self.bench.client.exchange_token
        return [
            asyncio.create_task(exchange(f"invented-{number}", API, subject_token_type=kind)) for number in range(count)
        ]


async def test_invented_personal_access_tokens_block_nobody_else(bench: Bench) -> None:
    known = [f"good-{number}" for number in range(20)]
    strangers = Strangers(bench)
    for token in known:
        await bench.client.exchange_token(token, API, subject_token_type=PAT)
    bench.clock.advance(31)

    flood = strangers.flood(PAT)
    await wait_until(lambda: strangers.waiting == 50)
    shut_out = [task for task in flood if task.done()]
    assert len(shut_out) == 10
    for task in shut_out:
        error = task.exception()
        assert isinstance(error, GrantUnavailableError)
        assert error.retry_after_seconds == 1
        assert str(error) == "exchange of a personal access token: not sent, 50 are in flight"
    # While the strangers' requests occupy their places:
    exchange = bench.client.exchange_token
    await asyncio.gather(*(exchange(token, API, subject_token_type=PAT) for token in known))
    await exchange("good-access-token", API)
    assert (await bench.client.get_token(API)).token
    bench.provider.answer = None
    assert (await bench.client.get_userinfo(bench.issuer.opaque_token()))["sub"]
    strangers.gate.set()
    await asyncio.gather(*flood, return_exceptions=True)


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(429, headers={"Retry-After": "3600"}),
        httpx.Response(500),
        httpx.Response(403, text="<html>"),
    ],
    ids=lambda response: str(response.status_code),
)
async def test_errors_that_invented_tokens_cause_at_the_provider_affect_no_other_caller(
    bench: Bench, response: httpx.Response
) -> None:
    strangers = Strangers(bench)
    strangers.refusal = response
    strangers.gate.set()
    await bench.client.exchange_token("good-known", API, subject_token_type=PAT)
    bench.clock.advance(31)

    results = await asyncio.gather(*strangers.flood(PAT, 5), return_exceptions=True)

    assert all(isinstance(result, GrantUnavailableError) for result in results)
    assert (await bench.client.exchange_token("good-known", API, subject_token_type=PAT)).token
    assert (await bench.client.exchange_token("good-access-token", API)).token
    assert (await bench.client.get_token(API)).token


async def test_a_place_is_reserved_for_an_hour_and_not_after_a_refusal() -> None:
    bench = Bench(max_waiting=1)
    strangers = Strangers(bench)
    exchange = bench.client.exchange_token
    for token in ("good-late", "good-revoked"):
        await exchange(token, API, subject_token_type=PAT)
    bench.clock.advance(31)
    bench.provider.say({"error": "invalid_grant"}, status=400)
    with pytest.raises(GrantRefusedError):
        await exchange("good-revoked", API, subject_token_type=PAT)
    bench.say_token()
    flood = strangers.flood(PAT, 1)
    await wait_until(lambda: strangers.waiting == 1)

    bench.clock.advance(3598)
    with pytest.raises(GrantUnavailableError):
        await exchange("good-revoked", API, subject_token_type=PAT)
    assert (await exchange("good-late", API, subject_token_type=PAT)).token
    bench.clock.advance(30 + 3600)
    with pytest.raises(GrantUnavailableError):
        await exchange("good-late", API, subject_token_type=PAT)
    strangers.gate.set()
    await asyncio.gather(*flood, return_exceptions=True)


async def test_a_profile_that_a_user_made_unreadable_hides_no_other_profile(bench: Bench) -> None:
    """Users can change the custom data of their profile. Data that is nested too deeply makes it unreadable."""
    bench.provider.answer = lambda _: httpx.Response(200, content=b'{"custom_data": ' + b"[" * 40 + b"]" * 40 + b"}")
    with pytest.raises(GrantUnavailableError, match="nested too deeply"):
        await bench.client.get_userinfo("o" * 43)
    bench.provider.say({"sub": "alice"})

    assert await bench.client.get_userinfo("a" * 43) == {"sub": "alice"}
