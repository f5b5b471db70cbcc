"""The API as a client: machine tokens, profiles, and clear errors without secrets."""

import asyncio
import json
import logging
from base64 import b64encode
from collections.abc import Callable
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, quote_plus

import httpx
import pytest
from pydantic import SecretStr

from fastapi_logto import SettingsError
from fastapi_logto.client import GrantRefusedError, GrantUnavailableError, IssuedToken, LogtoClient
from fastapi_logto.testing import Clock
from tests.unit.apps import API
from tests.unit.clients import SECRET, Bench
from tests.unit.fakes import wait_until

CAPTURED: Final = Path(__file__).parents[1] / "data/captured/token-endpoint-errors.json"


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_machine_token_is_requested_and_cached_until_shortly_before_it_expires(bench: Bench) -> None:
    issued = await bench.client.get_token(API, scopes=["read:user"])

    assert issued.scopes == {"read:user"}
    assert await bench.client.get_token(API, scopes=["read:user"]) is issued
    bench.clock.advance(3600 - 61)
    assert await bench.client.get_token(API, scopes={"read:user"}) is issued
    bench.clock.advance(1)
    assert await bench.client.get_token(API, scopes="read:user") is not issued
    assert bench.provider.forms == [{"grant_type": "client_credentials", "resource": API, "scope": "read:user"}] * 2
    assert bench.provider.discoveries == 1


async def test_each_kind_of_request_gets_its_own_token(bench: Bench) -> None:
    bench.say_token()
    one = await bench.client.get_token(API, scopes=["a", "b"])

    assert await bench.client.get_token(API, scopes=["b", "a", "a"]) is one
    others = [
        await bench.client.get_token(API),
        await bench.client.get_token("https://other.example.com", scopes=["a", "b"]),
        await bench.client.get_token(API, scopes=["a", "b"], organization_id="A"),
        await bench.client.get_organization_token("A", scopes=["a", "b"]),
        await bench.client.exchange_token("subject", API, scopes=["a", "b"]),
        await bench.client.exchange_token("another", API, scopes=["a", "b"]),
        await bench.client.exchange_token("subject", API, scopes=["a", "b"], actor_token="actor"),
        await bench.client.exchange_token(
            "subject", API, scopes=["a", "b"], subject_token_type="personal_access_token"
        ),
    ]

    assert len({id(token) for token in (one, *others)}) == 9
    assert len(bench.provider.asked) == 9


async def test_a_scope_that_was_not_granted_is_absent_and_no_error(bench: Bench) -> None:
    assert (await bench.client.get_token(API, scopes=["read:user", "delete:all"])).scopes == {"read:user"}
    idle = Bench(client_id="local-machine-without-roles", client_secret="local-machine-without-roles-secret")
    assert (await idle.client.get_token(API, scopes=["read:user"])).scopes == frozenset()


async def test_concurrent_callers_share_one_request(bench: Bench) -> None:
    bench.provider.gate = asyncio.Event()
    callers = [asyncio.create_task(bench.client.get_token(API)) for _ in range(50)]
    await wait_until(lambda: len(bench.provider.asked) == 1)
    bench.provider.gate.set()

    assert len({id(issued) for issued in await asyncio.gather(*callers)}) == 1
    assert len(bench.provider.asked) == bench.provider.discoveries == 1


@pytest.mark.parametrize(
    ("lifetime", "seconds"),
    [
        (3600, 3540),
        (300, 270),
        (10, 9),
        (0.625, 0.5625),
        (10**12, 86_340),
        (10**400, 86_340),
        (1e300, 86_340),
        ("3600", 3540),
        ("0300", 270),
        ("999999999999", 86_340),
    ],
    ids=lambda value: f"{value:.3g}" if isinstance(value, float) else str(value)[:8],
)
async def test_a_token_is_used_until_a_minute_or_a_tenth_of_its_lifetime_before_it_expires(
    bench: Bench, lifetime: float | str, seconds: float
) -> None:
    bench.say_token(expires_in=lifetime)
    issued = await bench.client.get_token(API)
    bench.clock.advance(seconds - 0.25)
    assert await bench.client.get_token(API) is issued
    bench.clock.advance(0.25)
    assert await bench.client.get_token(API) is not issued


@pytest.mark.parametrize(
    "lifetime",
    [
        *(None, 0, -5, -(10**400), True, [3600], {"seconds": 3600}),
        *("", "0", "-5", "+5", "3600.5", "1e3", " 3600", "3600\n", "3_600", "0x10", "true", "\u0663\u0666", "9" * 5000),
    ],
    ids=lambda value: ascii(value)[:12],
)
async def test_a_token_without_a_lifetime_is_used_once(bench: Bench, lifetime: object) -> None:
    bench.say_token(expires_in=lifetime)

    assert await bench.client.get_token(API) is not await bench.client.get_token(API)


@pytest.mark.parametrize(
    ("large", "count"),
    [
        ({"access_token": "t" * 250_000}, 140),
        ({"scope": "s" * 250_000}, 140),
        ({"scope": " ".join(f"{number:x}" for number in range(40_000))}, 14),
    ],
    ids=["tokens", "scopes", "many scopes"],
)
async def test_large_tokens_are_cached_up_to_a_limit_of_memory(bench: Bench, large: dict[str, str], count: int) -> None:
    bench.say_token(**large)
    for number in range(count):
        await bench.client.get_token(f"{API}/{number}")

    await bench.client.get_token(f"{API}/{count - 1}")
    assert len(bench.provider.asked) == count
    await bench.client.get_token(f"{API}/0")
    assert len(bench.provider.asked) == count + 1


async def test_what_is_sent_for_each_kind_of_token(bench: Bench) -> None:
    bench.say_token()
    await bench.client.get_organization_token("A", scopes=["read:member"])
    await bench.client.get_token(API, organization_id="A")
    await bench.client.exchange_token(
        "subject", API, scopes=["a"], organization_id="A", actor_token="actor", subject_token_type="access_token"
    )
    await bench.client.exchange_token("pat_1", API, subject_token_type="personal_access_token")
    await bench.client.exchange_token("subject", organization_id="A", scopes=["read:member"])

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
        {
            "grant_type": exchange,
            "organization_id": "A",
            "scope": "read:member",
            "subject_token": "subject",
            "subject_token_type": access_token,
        },
    ]
    assert {request.headers["authorization"] for request in bench.provider.asked} == {
        "Basic bG9jYWwtbWFjaGluZTpsb2NhbC1tYWNoaW5lLXNlY3JldA=="
    }


async def test_an_empty_resource_or_organization_is_refused_because_logto_would_ignore_it(bench: Bench) -> None:
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
    # A 404 means a wrong URL, whatever its body is.
    if isinstance(one["response"]["body"], dict) and one["response"]["status"] != 404
}


@pytest.mark.parametrize("name", EXCHANGES)
async def test_the_responses_of_a_running_server_are_understood(bench: Bench, name: str) -> None:
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


async def test_after_a_429_nothing_is_sent_for_the_time_that_the_provider_names(bench: Bench) -> None:
    bench.provider.say({"error": "slow_down"}, status=429, **{"Retry-After": "20"})
    error = await bench.failed()
    assert isinstance(error, GrantUnavailableError)
    assert error.retry_after_seconds == 20
    bench.provider.answer = None

    bench.clock.advance(19)
    error = await bench.failed()
    assert isinstance(error, GrantUnavailableError)
    assert error.retry_after_seconds == 1
    assert len(bench.provider.asked) == 1
    bench.clock.advance(1)
    assert (await bench.client.get_token(API)).token


async def test_a_provider_stops_the_requests_of_the_client_for_half_a_minute_at_most(bench: Bench) -> None:
    bench.provider.say({}, status=429, **{"Retry-After": "3600"})
    error = await bench.failed()
    assert isinstance(error, GrantUnavailableError)
    assert error.retry_after_seconds == 30
    bench.provider.answer = None

    bench.clock.advance(29)
    assert isinstance(await bench.failed(), GrantUnavailableError)
    bench.clock.advance(1)
    assert (await bench.client.get_token(API)).token


@pytest.mark.parametrize("status", [404, 410])
async def test_an_endpoint_that_has_moved_is_looked_up_again(bench: Bench, status: int) -> None:
    bench.provider.answer = lambda _: httpx.Response(status, json={"error": "invalid_request"})
    error = await bench.failed()
    assert isinstance(error, GrantUnavailableError)
    assert str(error) == f"{bench.issuer.issuer}/token: status {status} instead of 200"
    bench.provider.answer = None

    bench.clock.advance(2)
    assert (await bench.client.get_token(API)).token
    assert bench.provider.discoveries == 2


async def test_a_discovery_document_without_the_endpoint_is_looked_up_again() -> None:
    documents: list[dict[str, str]] = [{}, {"token_endpoint": "https://a.logto.app/oidc/token"}]
    time = 0.0

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return httpx.Response(200, json={"access_token": "t", "token_type": "Bearer"})
        base = {"issuer": "https://a.logto.app/oidc", "jwks_uri": "https://a.logto.app/oidc/jwks"}
        return httpx.Response(200, json=base | documents.pop(0))

    client = LogtoClient(
        endpoint="https://a.logto.app",
        client_id="c",
        client_secret="s",
        http_transport=httpx.MockTransport(answer),
        clock=Clock(monotonic=lambda: time),
    )

    with pytest.raises(GrantUnavailableError, match="names no token_endpoint"):
        await client.get_token(API)
    time = 2.0
    assert (await client.get_token(API)).token == "t"


class Masked(str):
    """A text whose `repr` does not contain it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class Resource(StrEnum):
    """Resources of an application."""

    API = "https://api.example.com"


async def test_different_texts_with_the_same_repr_are_distinguished(bench: Bench) -> None:
    bench.say_token()
    first = await bench.client.exchange_token(Masked("alice"), API)

    assert await bench.client.exchange_token(Masked("bob"), API) is not first
    assert await bench.client.exchange_token("alice", API) is first
    await bench.client.get_token(Resource.API, scopes=[Resource.API])
    assert bench.provider.forms[-1]["resource"] == bench.provider.forms[-1]["scope"] == "https://api.example.com"


@pytest.mark.parametrize("secret", [SECRET, SecretStr(SECRET)], ids=["str", "SecretStr"])
async def test_the_secret_may_be_a_secret_str(secret: str | SecretStr) -> None:
    bench = Bench(client_secret=secret)

    assert (await bench.client.get_token(API)).token
    assert SECRET not in repr(vars(bench.client))


@pytest.mark.parametrize("secret", ["", "\ud800"], ids=["empty", "surrogate"])
def test_an_invalid_secret_str_is_refused_like_a_text(secret: str) -> None:
    for one in (secret, SecretStr(secret)):
        with pytest.raises(SettingsError, match="client: expected client_id and client_secret"):
            Bench(client_secret=one)


async def test_an_empty_token_is_not_exchanged(bench: Bench) -> None:
    with pytest.raises(ValueError, match="subject_token"):
        await bench.client.exchange_token("", API)
    with pytest.raises(ValueError, match="actor_token"):
        # It would be an impersonation without an actor.
        await bench.client.exchange_token("subject", API, actor_token="")
    assert bench.provider.asked == []


PAT: Final = "pat_S3cretS3cret+/S3cret="
MACHINE_SECRET: Final = "machine secret/+ü%20"
BASIC: Final = b64encode(f"{quote_plus('m:1')}:{quote_plus(MACHINE_SECRET)}".encode()).decode()
# Each may be repeated by a provider, first as the error, then as its description.
ECHOES: Final = {
    "the token": PAT,
    "the token in a sentence": f"no such token: {PAT}.",
    "the token, percent-encoded": quote(PAT, safe=""),
    "the token, form-encoded": quote_plus(PAT),
    "the token, encoded twice": quote_plus(quote_plus(PAT)),
    "the token in lower case": PAT.lower(),
    "the end of the form": f"{quote_plus(PAT)[-20:]}&subject_token_type=urn",
    "a piece of eight letters": PAT[6:14],
    "the token with an invisible character in it": PAT.replace("S3", "S3\u200b"),
    "the token after what is quoted": "x" * 70 + PAT,
    "the actor token": "actor-S3cret-token",
    "the secret": f"secret {MACHINE_SECRET}",
    "the secret, form-encoded": quote_plus(MACHINE_SECRET),
    "the secret, percent-encoded": quote(MACHINE_SECRET, safe=""),
    "the credentials": f"Basic {BASIC}",
    "the credentials, not form-encoded": b64encode(f"m:1:{MACHINE_SECRET}".encode()).decode(),
    "the credentials as a URL has them": BASIC.replace("+", "-").replace("/", "_").rstrip("="),
}


@pytest.mark.parametrize("name", ECHOES)
async def test_a_secret_that_a_provider_repeats_is_in_no_error_and_no_log(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(client_id="m:1", client_secret=MACHINE_SECRET)
    for document in ({"error": ECHOES[name]}, {"error": "invalid_grant", "error_description": ECHOES[name]}):
        bench.provider.say(document, status=400)

        with caplog.at_level(logging.DEBUG), pytest.raises(GrantRefusedError) as caught:
            await bench.client.exchange_token(
                PAT, API, actor_token="actor-S3cret-token", subject_token_type="personal_access_token"
            )

        error = caught.value
        assert "***" in (error.error if len(document) == 1 else error.description)
        assert error.status == 400
        said = f"{error} {error!r} {vars(error)} {caplog.text}".lower()
        assert not [piece for piece in ("s3cret", "machine secret", "machine+secret", BASIC[:8]) if piece in said]


async def test_a_secret_of_lower_case_letters_is_not_treated_as_an_oauth_error() -> None:
    bench = Bench(client_secret="correct_horse_battery")
    bench.provider.say({"error": "correct_horse_battery"}, status=400)

    error = await bench.failed()

    assert isinstance(error, GrantRefusedError)
    assert error.error == "'***'"
    assert "horse" not in str(error)


async def test_userinfo_does_not_repeat_its_token_either(bench: Bench) -> None:
    bench.provider.say({"error": "invalid_token", "error_description": f"unknown: {'o' * 43}"}, status=401)

    with pytest.raises(GrantRefusedError) as caught:
        await bench.client.get_userinfo("o" * 43)

    assert (caught.value.error, caught.value.description) == ("invalid_token", "'***'")


async def test_what_a_provider_repeats_of_the_request_is_shown_if_it_is_no_secret(bench: Bench) -> None:
    bench.provider.say({"error": "invalid_target", "error_description": f"unknown resource {API}"}, status=400)

    error = await bench.failed()

    assert isinstance(error, GrantRefusedError)
    assert error.description == f"'unknown resource {API}'"


async def test_other_texts_of_a_provider_are_quoted_and_cut(bench: Bench) -> None:
    bench.provider.say({"error": "no\nsuch " + "x" * 5000, "error_description": ["not", "a", "text"]}, status=400)

    error = await bench.failed()

    assert isinstance(error, GrantRefusedError)
    assert error.error.startswith("'no\\nsuch xxx")
    assert error.description == "''"
    assert len(str(error)) < 300


@pytest.mark.parametrize(
    "arguments",
    [
        {"resource": "https://a\ud800"},
        {"resource": API, "scopes": ["read\udfff"]},
        {"resource": API, "organization_id": "\ud800"},
    ],
    ids=lambda arguments: next(name for name in arguments if name != "resource" or len(arguments) == 1),
)
async def test_a_lone_surrogate_is_a_clear_error_and_is_not_sent(bench: Bench, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^expected a value for \w+ that can be encoded as UTF-8, found a lone"):
        await bench.client.get_token(**arguments)
    assert bench.provider.asked == []


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 1),
        ("7", 7),
        (" 7 ", 7),
        ("30", 30),
        ("31", 30),
        ("00000007", 7),
        ("000000007", 30),
        ("99999", 30),
        ("9" * 5000, 30),
    ],
    ids=lambda value: str(value)[:8],
)
async def test_a_retry_after_is_between_a_second_and_half_a_minute(bench: Bench, value: str, seconds: int) -> None:
    bench.provider.answer = lambda _: httpx.Response(429, headers={"Retry-After": value})

    error = await bench.failed()

    assert isinstance(error, GrantUnavailableError)
    assert error.retry_after_seconds == seconds
    bench.clock.advance(seconds - 0.01)
    assert isinstance(await bench.failed(), GrantUnavailableError)
    assert len(bench.provider.asked) == 1


@pytest.mark.parametrize("value", [None, "", "-5", "1.5", "Wed, 21 Oct 2026 07:28:00 GMT", "\u0667"], ids=ascii)
async def test_without_a_number_of_seconds_a_429_is_a_failure_like_any_other(bench: Bench, value: str | None) -> None:
    headers = [] if value is None else [(b"Retry-After", value.encode())]
    bench.provider.answer = lambda _: httpx.Response(429, headers=headers)
    await bench.failed()
    bench.provider.answer = None

    bench.clock.advance(0.89)
    assert isinstance(await bench.failed(), GrantUnavailableError)
    bench.clock.advance(0.22)
    assert (await bench.client.get_token(API)).token


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
async def test_a_fault_is_reported_and_a_later_call_tries_again(
    bench: Bench, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench.provider.answer = FAULTS[name]
    with caplog.at_level(logging.DEBUG):
        error = await bench.failed()
    assert isinstance(error, GrantUnavailableError)
    assert SECRET not in f"{caplog.text} {error} {error!r}"
    bench.provider.answer = None

    bench.clock.advance(2)
    assert (await bench.client.get_token(API)).token


@pytest.mark.parametrize("part", ["the endpoint", "the discovery document"])
async def test_in_an_outage_one_call_retries_when_due_and_the_others_fail_immediately(
    part: str, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[float] = []
    time = 0.0

    def refuse(request: httpx.Request) -> httpx.Response:
        if request.method == "POST" or part == "the discovery document":
            tries.append(time)
            raise httpx.ConnectError("refused")
        base = "https://a.logto.app/oidc"
        return httpx.Response(200, json={"issuer": base, "jwks_uri": f"{base}/jwks", "token_endpoint": f"{base}/token"})

    client = LogtoClient(
        endpoint="https://a.logto.app",
        client_id="c",
        client_secret="s",
        http_transport=httpx.MockTransport(refuse),
        clock=Clock(monotonic=lambda: time),
    )
    for tenths in range(1000):
        time = tenths / 10
        results = await asyncio.gather(
            *(client.get_token(f"{API}/{number}") for number in range(3)), return_exceptions=True
        )
        for result in results:
            assert isinstance(result, GrantUnavailableError)
            assert 1 <= result.retry_after_seconds <= 33

    # The first calls are concurrent: they share the fetch of the discovery document, and count as one failure.
    at_start = 3 if part == "the endpoint" else 1
    assert tries[:at_start] == [0.0] * at_start
    waits = [later - earlier for earlier, later in pairwise(tries[at_start - 1 :])]
    for wait, expected in zip(waits, (1, 2, 4, 8, 16, 30, 30), strict=False):
        assert expected * 0.9 <= wait <= expected * 1.1 + 0.11
    assert len(waits) >= 6
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1 + len(waits)


async def test_an_unreachable_provider_is_reported() -> None:
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
    opaque = bench.issuer.opaque_token(subject=bench.issuer.directory.users[0].id, scopes=["openid", "profile"])

    profile = await bench.client.get_userinfo(SecretStr(opaque))

    assert (profile["sub"], profile["username"]) == (bench.issuer.directory.users[0].id, "alice")
    message = "userinfo: the token has characters that no bearer token has; pass the access token unchanged"
    for token in ("two lines\r\nX: y", ""):
        with pytest.raises(GrantRefusedError, match=f"^{message}$") as caught:
            await bench.client.get_userinfo(token)
        assert (caught.value.status, caught.value.error, caught.value.description) == (401, "invalid_token", "")
    for token in (bench.issuer.access_token(), "unknown"):
        with pytest.raises(GrantRefusedError) as caught:
            await bench.client.get_userinfo(token)
        assert (caught.value.status, caught.value.error) == (401, "invalid_token")
        assert token not in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"client_id": ""},
        {"client_id": " "},
        {"client_secret": ""},
        {"endpoint": "http://logto.internal"},
        {"endpoint": "nonsense"},
        {"max_waiting": 0},
        {"client_id": "m\ud800"},
        {"client_secret": "m\ud800"},
    ],
    ids=repr,
)
def test_invalid_settings_are_refused(arguments: dict[str, Any]) -> None:
    good: dict[str, Any] = {"endpoint": "https://a.logto.app", "client_id": "c", "client_secret": "s"}

    with pytest.raises(SettingsError, match="expected"):
        LogtoClient(**good | arguments)


def test_an_empty_client_id_is_named_as_the_problem() -> None:
    with pytest.raises(SettingsError, match=r"^client: expected client_id and client_secret, found an empty one$"):
        LogtoClient(endpoint="https://a.logto.app", client_id="", client_secret="s")


@pytest.mark.parametrize("seconds", [0, -1, 61, float("nan")])
def test_an_invalid_timeout_is_named_as_the_argument_is(seconds: float) -> None:
    with pytest.raises(SettingsError, match=f"^client: expected timeout_seconds above 0, at most 60, found {seconds}$"):
        LogtoClient(endpoint="https://a.logto.app", client_id="c", client_secret="s", timeout_seconds=seconds)


def test_the_longest_timeout_is_accepted() -> None:
    client = LogtoClient(endpoint="https://a.logto.app", client_id="c", client_secret="s", timeout_seconds=60)

    assert client.client_id == "c"


def test_plain_http_to_the_tenant_can_be_allowed() -> None:
    client = LogtoClient(endpoint="http://logto.internal", client_id="c", client_secret="s", allow_http=True)

    assert client.client_id == "c"


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ("invalid_client", "check client_id and client_secret, and that they are of this tenant"),
        ("invalid_target", "check that the resource is exactly the API resource's indicator in Logto"),
        ("access_denied", "check that the application or the user is a member of the organization"),
        ("invalid_request", "check that the application in Logto is a machine-to-machine one, or may exchange tokens"),
        ("another_error", "see the error and its description"),
    ],
)
async def test_a_refusal_says_what_to_check(bench: Bench, error: str, advice: str) -> None:
    bench.provider.say({"error": error, "error_description": "no"}, status=400)

    assert str(await bench.failed()) == f"{bench.issuer.issuer}/token: '{error}', 'no'; {advice}"


async def test_a_response_without_a_token_can_be_retried_after_a_second(bench: Bench) -> None:
    bench.provider.say({"token_type": "Bearer"})

    error = await bench.failed()

    assert isinstance(error, GrantUnavailableError)
    assert error.retry_after_seconds == 1


async def test_by_default_50_requests_of_5_seconds_are_in_flight(bench: Bench) -> None:
    bench.provider.gate = asyncio.Event()
    first = [asyncio.create_task(bench.client.get_userinfo(f"{number:043}")) for number in range(50)]
    await wait_until(lambda: len(bench.provider.asked) == 50)

    with pytest.raises(GrantUnavailableError, match=r"^userinfo: not sent, 50 are in flight$"):
        await bench.client.get_userinfo("b" * 43)
    assert bench.provider.asked[0].extensions["timeout"]["read"] == 5
    bench.provider.gate.set()
    assert {type(error) for error in await asyncio.gather(*first, return_exceptions=True)} == {GrantRefusedError}


async def test_a_profile_that_is_not_requested_names_the_limit() -> None:
    bench = Bench(max_waiting=1)
    bench.provider.gate = asyncio.Event()
    first = asyncio.create_task(bench.client.get_userinfo("a" * 43))
    await wait_until(lambda: len(bench.provider.asked) == 1)

    with pytest.raises(GrantUnavailableError, match=r"^userinfo: not sent, 1 are in flight$"):
        await bench.client.get_userinfo("b" * 43)
    bench.provider.gate.set()
    with pytest.raises(GrantRefusedError):
        await first


def test_neither_secret_nor_token_is_shown(bench: Bench) -> None:
    issued = IssuedToken(token="secret token", scopes=frozenset({"a"}))

    assert repr(bench.client) == "LogtoClient(client_id='local-machine')"
    assert repr(issued) == "IssuedToken(scopes=frozenset({'a'}))"
