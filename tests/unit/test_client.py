"""The API as a client: machine tokens, exchanges, profiles, and faults told clearly."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

import httpx
import pytest

from fastapi_logto import Clock, SettingsError
from fastapi_logto.client import IssuedToken, LogtoClient
from fastapi_logto.errors import GrantError, GrantRefusedError, GrantUnavailableError
from fastapi_logto.testing import LocalIssuer
from tests.unit.apps import API
from tests.unit.fakes import wait_until

SECRET: Final = "local-machine-secret"
CAPTURED: Final = Path(__file__).parents[1] / "data/captured/token-endpoint-errors.json"


class Provider(httpx.AsyncBaseTransport):
    """The local issuer, whose answers can be replaced, with the requests it got."""

    def __init__(self, issuer: LocalIssuer) -> None:
        self.inner = httpx.ASGITransport(app=issuer.app)
        self.asked: list[httpx.Request] = []
        self.discoveries = 0
        self.answer: Callable[[httpx.Request], httpx.Response] | None = None
        self.gate: asyncio.Event | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/openid-configuration"):
            self.discoveries += 1
            return await self.inner.handle_async_request(request)
        self.asked.append(request)
        if self.gate is not None:
            await self.gate.wait()
        return await self.inner.handle_async_request(request) if self.answer is None else self.answer(request)

    def say(self, document: Any, *, status: int = 200, **headers: str) -> None:
        self.answer = lambda _: httpx.Response(status, json=document, headers=headers)

    @property
    def forms(self) -> list[dict[str, str]]:
        return [dict(parse_qsl(request.content.decode())) for request in self.asked]


class Bench:
    """A client, the provider behind it, and the time."""

    def __init__(self, **arguments: Any) -> None:
        self.time = 1_800_000_000.0
        self.issuer = LocalIssuer(now=lambda: self.time)
        self.provider = Provider(self.issuer)
        settings: dict[str, Any] = {"client_id": "local-machine", "client_secret": SECRET, **arguments}
        self.client = LogtoClient(
            endpoint=self.issuer.endpoint,
            http_transport=self.provider,
            clock=Clock(now=lambda: self.time, monotonic=lambda: self.time),
            **settings,
        )

    def say_token(self, **changes: Any) -> None:
        said = {"access_token": "t", "token_type": "Bearer", "expires_in": 3600, "scope": "a b", **changes}
        self.provider.say({name: value for name, value in said.items() if value is not None})

    async def failed(self) -> GrantError:
        with pytest.raises(GrantError) as caught:
            await self.client.get_token(API)
        return caught.value


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_machine_token_is_asked_for_and_kept_until_shortly_before_it_expires(bench: Bench) -> None:
    issued = await bench.client.get_token(API, scopes=["read:user"])

    assert issued.scopes == {"read:user"}
    assert await bench.client.get_token(API, scopes=["read:user"]) is issued
    bench.time += 3600 - 61
    assert await bench.client.get_token(API, scopes={"read:user"}) is issued
    bench.time += 1
    assert await bench.client.get_token(API, scopes="read:user") is not issued
    assert bench.provider.forms == [{"grant_type": "client_credentials", "resource": API, "scope": "read:user"}] * 2
    assert bench.provider.discoveries == 1


async def test_what_is_asked_for_otherwise_is_another_token(bench: Bench) -> None:
    bench.say_token()
    one = await bench.client.get_token(API, scopes=["a", "b"])

    assert await bench.client.get_token(API, scopes=["b", "a", "a"]) is one
    others = [
        await bench.client.get_token(API),
        await bench.client.get_token("https://other.example.com", scopes=["a", "b"]),
        await bench.client.get_token(API, scopes=["a", "b"], organization_id="A"),
        await bench.client.get_organization_token("A", scopes=["a", "b"]),
        await bench.client.exchange("subject", API, scopes=["a", "b"]),
        await bench.client.exchange("another", API, scopes=["a", "b"]),
        await bench.client.exchange("subject", API, scopes=["a", "b"], actor_token="actor"),
        await bench.client.exchange("subject", API, scopes=["a", "b"], subject_token_type="personal_access_token"),
    ]

    assert len({id(token) for token in (one, *others)}) == 9
    assert len(bench.provider.asked) == 9


async def test_a_scope_that_was_not_granted_is_absent_and_no_error(bench: Bench) -> None:
    assert (await bench.client.get_token(API, scopes=["read:user", "delete:all"])).scopes == {"read:user"}
    idle = Bench(client_id="local-machine-without-roles", client_secret="local-machine-without-roles-secret")
    assert (await idle.client.get_token(API, scopes=["read:user"])).scopes == frozenset()


async def test_many_callers_ask_once(bench: Bench) -> None:
    bench.provider.gate = asyncio.Event()
    callers = [asyncio.create_task(bench.client.get_token(API)) for _ in range(50)]
    await wait_until(lambda: len(bench.provider.asked) == 1)
    bench.provider.gate.set()

    assert len({id(issued) for issued in await asyncio.gather(*callers)}) == 1
    assert len(bench.provider.asked) == bench.provider.discoveries == 1


@pytest.mark.parametrize(
    ("lifetime", "seconds"),
    [(3600, 3540), (300, 270), (10, 9), (10**12, 86_340), (10**400, 86_340), (1e300, 86_340)],
    ids=lambda value: f"{value:.3g}" if isinstance(value, float) else str(value)[:8],
)
async def test_a_token_is_used_for_its_life_less_a_minute_or_a_tenth(
    bench: Bench, lifetime: float, seconds: int
) -> None:
    bench.say_token(expires_in=lifetime)
    issued = await bench.client.get_token(API)
    bench.time += seconds - 1
    assert await bench.client.get_token(API) is issued
    bench.time += 1
    assert await bench.client.get_token(API) is not issued


@pytest.mark.parametrize("lifetime", [None, 0, -5, True, "3600"], ids=repr)
async def test_a_token_of_no_known_life_is_used_once(bench: Bench, lifetime: object) -> None:
    bench.say_token(expires_in=lifetime)

    assert await bench.client.get_token(API) is not await bench.client.get_token(API)


async def test_what_is_sent_for_each_kind_of_token(bench: Bench) -> None:
    bench.say_token()
    await bench.client.get_organization_token("A", scopes=["read:member"])
    await bench.client.get_token(API, organization_id="A")
    await bench.client.exchange(
        "subject", API, scopes=["a"], organization_id="A", actor_token="actor", subject_token_type="access_token"
    )
    await bench.client.exchange("pat_1", API, subject_token_type="personal_access_token")

    access_token = "urn:ietf:params:oauth:token-type:access_token"
    exchange = "urn:ietf:params:oauth:grant-type:token-exchange"
    assert bench.provider.forms == [
        {"grant_type": "client_credentials", "organization_id": "A", "scope": "read:member"},
        {"grant_type": "client_credentials", "resource": API, "organization_id": "A"},
        {
            "grant_type": exchange,
            "resource": API,
            "organization_id": "A",
            "scope": "a",
            "subject_token": "subject",
            "subject_token_type": access_token,
            "actor_token": "actor",
            "actor_token_type": access_token,
        },
        {
            "grant_type": exchange,
            "resource": API,
            "subject_token": "pat_1",
            "subject_token_type": "urn:logto:token-type:personal_access_token",
        },
    ]
    assert {request.headers["authorization"] for request in bench.provider.asked} == {
        "Basic bG9jYWwtbWFjaGluZTpsb2NhbC1tYWNoaW5lLXNlY3JldA=="
    }


async def test_an_empty_resource_or_organization_is_refused_before_logto_takes_it_for_none(bench: Bench) -> None:
    with pytest.raises(ValueError, match="resource"):
        await bench.client.get_token("")
    with pytest.raises(ValueError, match="organization_id"):
        await bench.client.get_token(API, organization_id="")
    with pytest.raises(ValueError, match="organization_id"):
        await bench.client.get_organization_token("")
    assert bench.provider.asked == []


EXCHANGES: Final = {
    one["name"]: one["response"]
    for one in json.loads(CAPTURED.read_text(encoding="utf-8"))["exchanges"]
    if isinstance(one["response"]["body"], dict)
}


@pytest.mark.parametrize("name", EXCHANGES)
async def test_what_a_running_server_answered_is_told_clearly(bench: Bench, name: str) -> None:
    answer = EXCHANGES[name]
    body = {key: "t" if key == "access_token" else value for key, value in answer["body"].items()}
    bench.provider.say(body, status=answer["status"])

    if answer["status"] == 200:
        issued = await bench.client.get_token(API, scopes=["read:user"])
        assert issued.scopes == frozenset(body.get("scope", "").split())
        return
    error = await bench.failed()
    assert isinstance(error, GrantRefusedError)
    assert (error.status, error.error) == (answer["status"], body["error"])
    assert body["error_description"][:40] in error.description
    assert str(error).startswith(f"{bench.issuer.endpoint}/oidc/token: '{error.error}'")


async def test_too_many_requests_are_followed_by_silence(bench: Bench) -> None:
    bench.provider.say({"error": "slow_down"}, status=429, **{"Retry-After": "20"})
    error = await bench.failed()
    assert isinstance(error, GrantUnavailableError)
    assert error.retry_after_seconds == 20
    bench.provider.answer = None

    bench.time += 19
    error = await bench.failed()
    assert isinstance(error, GrantUnavailableError)
    assert error.retry_after_seconds == 1
    assert len(bench.provider.asked) == 1
    bench.time += 1
    assert (await bench.client.get_token(API)).token


async def test_the_longest_silence_counts_and_is_that_of_one_endpoint(bench: Bench) -> None:
    bench.provider.gate = asyncio.Event()
    waits = iter(["3600", "1"])
    bench.provider.answer = lambda _: httpx.Response(429, headers={"Retry-After": next(waits)})
    callers = [asyncio.create_task(bench.client.get_token(API, scopes=[name])) for name in "ab"]
    await wait_until(lambda: len(bench.provider.asked) == 2)
    bench.provider.gate.set()
    await asyncio.wait(callers)
    bench.provider.answer = None

    assert all(isinstance(caller.exception(), GrantUnavailableError) for caller in callers)
    bench.time += 2
    assert isinstance(await bench.failed(), GrantUnavailableError)
    assert (await bench.client.get_userinfo(bench.issuer.opaque_token()))["sub"]


@pytest.mark.parametrize("status", [404, 410])
async def test_an_endpoint_that_has_moved_is_looked_for_again(bench: Bench, status: int) -> None:
    bench.provider.answer = lambda _: httpx.Response(status)
    assert isinstance(await bench.failed(), GrantUnavailableError)
    bench.provider.answer = None

    assert (await bench.client.get_token(API)).token
    assert bench.provider.discoveries == 2


class Masked(str):
    """A text that does not show itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class Resource(StrEnum):
    """Resources of an application."""

    API = "https://api.example.com"


async def test_texts_that_show_themselves_as_others_are_told_apart(bench: Bench) -> None:
    bench.say_token()
    first = await bench.client.exchange(Masked("alice"), API)

    assert await bench.client.exchange(Masked("bob"), API) is not first
    assert await bench.client.exchange("alice", API) is first
    await bench.client.get_token(Resource.API, scopes=[Resource.API])
    assert bench.provider.forms[-1]["resource"] == bench.provider.forms[-1]["scope"] == "https://api.example.com"


async def test_an_empty_token_is_not_exchanged(bench: Bench) -> None:
    with pytest.raises(ValueError, match="subject_token"):
        await bench.client.exchange("", API)
    with pytest.raises(ValueError, match="actor_token"):
        # It would be an impersonation that nobody answers for.
        await bench.client.exchange("subject", API, actor_token="")
    assert bench.provider.asked == []


async def test_what_the_provider_repeats_of_a_request_is_not_told_on(bench: Bench) -> None:
    bench.provider.say(
        {"error": "no\nsuch " + "x" * 5000, "error_description": f"{SECRET} and SUBJECT and ACTOR"}, status=400
    )

    with pytest.raises(GrantRefusedError) as caught:
        await bench.client.exchange("SUBJECT", API, actor_token="ACTOR")

    said = f"{caught.value} {caught.value.error} {caught.value.description}"
    assert not [secret for secret in (SECRET, "SUBJECT", "ACTOR", "\n") if secret in said]
    assert len(said) < 600


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 1),
        ("", 1),
        ("0", 1),
        ("7", 7),
        (" 7 ", 7),
        ("99999", 3600),
        ("9" * 30, 1),
        ("-5", 1),
        ("1.5", 1),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 1),
        ("\u0667", 1),
    ],
)
async def test_a_retry_after_of_any_kind_is_understood(bench: Bench, value: str | None, seconds: int) -> None:
    headers = [] if value is None else [(b"Retry-After", value.encode())]
    bench.provider.answer = lambda _: httpx.Response(429, headers=headers)

    error = await bench.failed()

    assert isinstance(error, GrantUnavailableError)
    assert error.retry_after_seconds == seconds


FAULTS: Final[dict[str, Callable[[httpx.Request], httpx.Response]]] = {
    "500": lambda _: httpx.Response(500, text="<html>"),
    "503": lambda _: httpx.Response(503, json={"error": "busy"}),
    "302": lambda _: httpx.Response(302, headers={"Location": "https://evil.example.com"}),
    "400 without an error": lambda _: httpx.Response(400, json={"message": "no"}),
    "html": lambda _: httpx.Response(200, text="<html>"),
    "no token": lambda _: httpx.Response(200, json={"token_type": "Bearer"}),
    "another type": lambda _: httpx.Response(200, json={"access_token": "t", "token_type": "DPoP"}),
    "no type": lambda _: httpx.Response(200, json={"access_token": "t"}),
    "two lines": lambda _: httpx.Response(200, json={"access_token": "t\r\nX: y", "token_type": "Bearer"}),
    "a scope that is no text": lambda _: httpx.Response(
        200, json={"access_token": "t", "token_type": "Bearer", "scope": ["a"]}
    ),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_is_told_and_the_next_call_asks_again(
    bench: Bench, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench.provider.answer = FAULTS[name]
    with caplog.at_level(logging.DEBUG):
        error = await bench.failed()
    assert isinstance(error, GrantUnavailableError)
    assert SECRET not in f"{caplog.text} {error} {error!r}"
    bench.provider.answer = None

    assert (await bench.client.get_token(API)).token


async def test_a_provider_out_of_reach_is_told() -> None:
    def refuse(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    bench = Bench()
    bench.provider.answer = refuse
    assert isinstance(await bench.failed(), GrantUnavailableError)

    away = LogtoClient(
        endpoint="https://a.logto.app",
        client_id="c",
        client_secret="s",
        http_transport=httpx.MockTransport(refuse),
    )
    with pytest.raises(GrantUnavailableError, match=r"https://a\.logto\.app/oidc/\.well-known"):
        await away.get_token(API)


async def test_a_token_endpoint_at_another_host_gets_no_secret() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.host == "a.logto.app"
        document = {
            "issuer": "https://a.logto.app/oidc",
            "jwks_uri": "https://a.logto.app/oidc/jwks",
            "token_endpoint": "https://evil.example.com/oidc/token",
        }
        return httpx.Response(200, json=document)

    client = LogtoClient(
        endpoint="https://a.logto.app", client_id="c", client_secret="s", http_transport=httpx.MockTransport(answer)
    )

    with pytest.raises(GrantUnavailableError, match="names no token_endpoint"):
        await client.get_token(API)
    with pytest.raises(GrantUnavailableError, match="names no userinfo_endpoint"):
        await client.get_userinfo("token")


async def test_the_profile_of_a_user(bench: Bench) -> None:
    opaque = bench.issuer.opaque_token(subject=bench.issuer.directory.users[0].id, scope="openid profile")

    profile = await bench.client.get_userinfo(opaque)

    assert (profile["sub"], profile["username"]) == (bench.issuer.directory.users[0].id, "alice")
    for token in (bench.issuer.access_token(), "unknown", "two lines\r\nX: y", ""):
        with pytest.raises(GrantRefusedError) as caught:
            await bench.client.get_userinfo(token)
        assert (caught.value.status, caught.value.error) == (401, "invalid_token")
        assert token == "" or token not in str(caught.value)


class Api(httpx.AsyncBaseTransport):
    """An API that refuses some tokens."""

    def __init__(self, *refused: str) -> None:
        self.refused = set(refused)
        self.seen: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request.headers["authorization"].removeprefix("Bearer "))
        return httpx.Response(401 if self.seen[-1] in self.refused else 200)


async def test_requests_of_ones_own_httpx_client_are_signed(bench: Bench) -> None:
    api = Api()
    auth = bench.client.auth(API, scopes=["read:user"], organization_id=None)

    async with httpx.AsyncClient(transport=api, auth=auth) as http:
        answers = [await http.get("https://api.example.com") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200] * 3
    assert len(set(api.seen)) == len(bench.provider.asked) == 1


async def test_a_token_that_the_api_refuses_is_replaced_once(bench: Bench) -> None:
    first = (await bench.client.get_token(API)).token
    bench.time += 10
    api = Api(first)
    async with httpx.AsyncClient(transport=api, auth=bench.client.auth(API)) as http:
        assert (await http.get("https://api.example.com")).status_code == 200
        second = (await bench.client.get_token(API)).token
        assert api.seen == [first, second]

        # A token that is new is not replaced: an API that refuses each would cost a request for one each time.
        api.refused.add(second)
        assert (await http.get("https://api.example.com")).status_code == 401
        bench.time += 10
        bench.say_token(access_token="third")
        api.refused.add("third")
        assert (await http.get("https://api.example.com")).status_code == 401
    assert api.seen == [first, second, second, second, "third"]


async def test_a_body_that_is_used_up_is_not_sent_again(bench: Bench) -> None:
    first = (await bench.client.get_token(API)).token
    bench.time += 60
    api = Api(first)

    async def chunks() -> AsyncGenerator[bytes]:
        yield b"once"

    async with httpx.AsyncClient(transport=api, auth=bench.client.auth(API)) as http:
        answer = await http.post("https://api.example.com", content=chunks())

    assert answer.status_code == 401
    assert api.seen == [first]


def test_a_synchronous_client_is_told_that_it_cannot(bench: Bench) -> None:
    with (
        httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200)), auth=bench.client.auth(API)) as http,
        pytest.raises(RuntimeError, match="AsyncClient"),
    ):
        http.get("https://api.example.com")


@pytest.mark.parametrize(
    "arguments",
    [
        {"client_id": ""},
        {"client_secret": ""},
        {"endpoint": "http://logto.internal"},
        {"endpoint": "nonsense"},
    ],
    ids=repr,
)
def test_bad_settings_are_refused(arguments: dict[str, Any]) -> None:
    good: dict[str, Any] = {"endpoint": "https://a.logto.app", "client_id": "c", "client_secret": "s"}

    with pytest.raises(SettingsError, match="expected"):
        LogtoClient(**good | arguments)


def test_neither_secret_nor_token_is_shown(bench: Bench) -> None:
    issued = IssuedToken(token="secret token", scopes=frozenset({"a"}))

    assert repr(bench.client) == "LogtoClient(client_id='local-machine')"
    assert repr(issued) == "IssuedToken(scopes=frozenset({'a'}))"
