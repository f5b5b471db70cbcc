"""Opaque tokens: accepted if configured and if the provider says that they are active."""

import asyncio
import gzip
import logging
from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from pydantic import SecretStr
from starlette.testclient import TestClient

from fastapi_logto import LogtoAuth, OrganizationSource, SettingsError, TokenClaims
from fastapi_logto.errors import AudienceError, OpaqueTokenError, ProviderUnavailableError, RefusalError
from fastapi_logto.introspection import Introspection
from fastapi_logto.testing import LocalIssuer, ManualClock, bearer
from tests.captured import INTROSPECTION
from tests.unit.apps import API, detail, sign_in
from tests.unit.fakes import wait_until

SECRET = "local-machine-secret"
OPAQUE = "o" * 43
SPA = "local-spa"


class Provider(httpx.AsyncBaseTransport):
    """The local issuer, with introspection responses that can be replaced and are counted."""

    def __init__(self, issuer: LocalIssuer) -> None:
        self.inner = httpx.ASGITransport(app=issuer.app)
        self.asked: list[httpx.Request] = []
        self.answer: Callable[[], httpx.Response] | None = None
        # Until it is set, no response is sent for a token that contains this text.
        self.gate: asyncio.Event | None = None
        self.held = ""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/introspection"):
            return await self.inner.handle_async_request(request)
        self.asked.append(request)
        if self.gate is not None and self.held in request.content.decode():
            await self.gate.wait()
        return await self.inner.handle_async_request(request) if self.answer is None else self.answer()

    def say(self, document: Any, *, status: int = 200) -> None:
        self.answer = lambda: httpx.Response(status, json=document)


class Bench:
    """An application that accepts opaque tokens, its provider and its clock."""

    def __init__(self, *, now: float = 1_800_000_000, **config: Any) -> None:
        self.clock = ManualClock(now=now)
        self.issuer = LocalIssuer(clock=self.clock)
        self.provider = Provider(self.issuer)
        asks: dict[str, Any] = {
            "client_id": "local-machine",
            "client_secret": SECRET,
            "allowed_clients": [SPA],
            **config,
        }
        self.auth = LogtoAuth(
            endpoint=self.issuer.endpoint,
            audience=API,
            http_transport=self.provider,
            clock=self.clock,
            introspection=Introspection(**asks),
        )

    async def refused(self, token: str) -> tuple[int, str]:
        with pytest.raises(RefusalError) as caught:
            await self.auth.verify(token)
        return caught.value.status, caught.value.reason

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return the introspection response for a valid token with changes. `None` omits a member."""
        said = {
            "active": True,
            "sub": "alice",
            "client_id": SPA,
            "exp": int(self.clock.now()) + 3600,
            "iat": int(self.clock.now()),
            "iss": self.issuer.issuer,
            "scope": "openid",
            "token_type": "Bearer",
        }
        return {name: value for name, value in (said | changes).items() if value is not None}


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_an_opaque_token_returns_the_claims_that_the_provider_says(bench: Bench) -> None:
    token = bench.issuer.opaque_token(subject="alice", scopes=["openid", "profile"])

    claims = await bench.auth.verify(token)

    assert (claims.sub, claims.client_id) == ("alice", SPA)
    assert claims.scopes == {"openid", "profile"}
    assert (claims.audiences, claims.jti, claims.iss) == (frozenset(), None, bench.issuer.issuer)
    assert claims.model_dump().keys().isdisjoint({"active", "token_type"})
    assert (await bench.auth.verify(token)).model_dump() == claims.model_dump()
    (request,) = bench.provider.asked
    assert request.headers["authorization"].startswith("Basic ")
    assert request.content == f"token={token}&token_type_hint=access_token".encode()


async def test_a_response_is_cached_for_its_time_and_never_past_exp(bench: Bench) -> None:
    token = bench.issuer.opaque_token(lifetime_seconds=40)

    for _ in range(3):
        await bench.auth.verify(token)
    assert len(bench.provider.asked) == 1

    bench.clock.advance(30)
    await bench.auth.verify(token)
    assert len(bench.provider.asked) == 2

    # The last response is cached for 30 s, and the token expires (with the leeway of 10 s) after 20.
    bench.clock.advance(20)
    assert await bench.refused(token) == (401, "expired")
    assert len(bench.provider.asked) == 2


async def test_without_a_cache_each_request_introspects() -> None:
    bench = Bench(cache_seconds=0)
    token = bench.issuer.opaque_token()

    await bench.auth.verify(token)
    await bench.auth.verify(token)

    assert len(bench.provider.asked) == 2


async def test_a_revoked_token_is_refused_when_the_response_is_too_old(bench: Bench) -> None:
    token = bench.issuer.opaque_token()
    await bench.auth.verify(token)
    bench.provider.say({"active": False})

    assert (await bench.auth.verify(token)).sub
    bench.clock.advance(30)
    assert await bench.refused(token) == (401, "inactive")


async def test_a_refusal_is_cached_as_an_acceptance_is(bench: Bench) -> None:
    token = bench.issuer.opaque_token()
    await bench.auth.verify(token)
    bench.clock.advance(30)
    bench.provider.say({"active": False})
    for _ in range(3):
        assert await bench.refused(token) == (401, "inactive")
    assert len(bench.provider.asked) == 2

    bench.provider.say(bench.claims(client_id="other-app"))
    for _ in range(3):
        assert await bench.refused(OPAQUE) == (401, "audience")
    assert len(bench.provider.asked) == 3
    bench.clock.advance(30)
    bench.provider.say(bench.claims())
    for _ in range(3):
        assert (await bench.auth.verify(OPAQUE)).sub == "alice"
    assert len(bench.provider.asked) == 4


async def test_the_retry_after_of_a_provider_is_followed(bench: Bench) -> None:
    bench.provider.answer = lambda: httpx.Response(429, headers={"Retry-After": "20"})
    assert await bench.refused(OPAQUE) == (503, "provider_unavailable")
    bench.provider.answer = None

    with pytest.raises(ProviderUnavailableError) as caught:
        await bench.auth.verify(OPAQUE)
    assert caught.value.retry_after_seconds == 20
    bench.clock.advance(19.75)
    assert await bench.refused(OPAQUE) == (503, "provider_unavailable")
    assert len(bench.provider.asked) == 1
    bench.clock.advance(0.25)
    assert await bench.refused(OPAQUE) == (401, "inactive")


GONE: dict[str, Callable[[], httpx.Response]] = {
    "not found": lambda: httpx.Response(404),
    "gone": lambda: httpx.Response(410),
    "not found, encoded": lambda: httpx.Response(
        404, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(gzip.compress(b"<html>"))
    ),
    "not found, too large": lambda: httpx.Response(404, content=b"x" * (256 * 1024 + 1)),
    "gone, too large": lambda: httpx.Response(410, content=b"x" * (256 * 1024 + 1)),
}


@pytest.mark.parametrize("name", GONE)
async def test_an_endpoint_that_has_moved_is_looked_for_again(bench: Bench, name: str) -> None:
    fetched: list[str] = []
    inner = bench.provider.inner.handle_async_request

    async def count(request: httpx.Request) -> httpx.Response:
        fetched.append(request.url.path)
        return await inner(request)

    bench.provider.inner.handle_async_request = count  # type: ignore[method-assign]
    bench.provider.answer = GONE[name]
    assert await bench.refused(OPAQUE) == (503, "provider_unavailable")
    bench.provider.answer = None

    bench.clock.advance(2)
    assert await bench.refused(OPAQUE) == (401, "inactive")
    assert len([path for path in fetched if path.endswith("openid-configuration")]) == 2


async def test_a_provider_stops_the_requests_of_the_api_for_half_a_minute_at_most(bench: Bench) -> None:
    bench.provider.answer = lambda: httpx.Response(429, headers={"Retry-After": "3600"})
    for _ in range(2):
        with pytest.raises(ProviderUnavailableError) as caught:
            await bench.auth.verify(OPAQUE)
        assert caught.value.retry_after_seconds == 30
    bench.provider.answer = None

    bench.clock.advance(29)
    assert await bench.refused(OPAQUE) == (503, "provider_unavailable")
    assert len(bench.provider.asked) == 1
    bench.clock.advance(1)
    assert await bench.refused(OPAQUE) == (401, "inactive")


async def test_an_invented_token_is_introspected_once(bench: Bench) -> None:
    for _ in range(3):
        assert await bench.refused(OPAQUE) == (401, "inactive")

    assert len(bench.provider.asked) == 1


async def test_a_personal_access_token_is_refused_without_a_request(bench: Bench) -> None:
    # Logto would say that it is inactive, which would not explain what to do with it.
    with pytest.raises(OpaqueTokenError, match="opaque_token") as caught:
        await bench.auth.verify("pat_" + "a" * 32)

    assert caught.value.message.startswith("This is a personal access token; exchange it")
    assert bench.provider.asked == []


async def test_concurrent_requests_with_one_new_token_introspect_it_once(bench: Bench) -> None:
    bench.provider.gate = asyncio.Event()
    token = bench.issuer.opaque_token()
    callers = [asyncio.create_task(bench.auth.verify(token)) for _ in range(20)]
    await wait_until(lambda: len(bench.provider.asked) == 1)
    bench.provider.gate.set()

    assert len({claims.sub for claims in await asyncio.gather(*callers)}) == 1
    assert len(bench.provider.asked) == 1


async def test_introspections_above_the_limit_are_503() -> None:
    bench = Bench(max_waiting=2)
    bench.provider.gate = asyncio.Event()
    callers = [asyncio.create_task(bench.auth.verify(f"{OPAQUE}{number}")) for number in range(3)]
    await asyncio.wait([callers[2]])

    with pytest.raises(ProviderUnavailableError) as refused:
        await callers[2]
    assert refused.value.message == "Too many opaque tokens are being verified; try again later"
    assert refused.value.found == "introspection of new tokens: not sent, 2 are in flight"
    bench.provider.gate.set()
    await asyncio.wait(callers)
    assert len(bench.provider.asked) == 2
    assert await bench.refused(OPAQUE) == (401, "inactive")


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"active": False}, (401, "inactive")),
        ({"active": "true"}, (401, "inactive")),
        ({"active": 1}, (401, "inactive")),
        ({"active": None}, (401, "inactive")),
        ({"token_type": None}, (401, "inactive")),
        ({"token_type": "DPoP"}, (401, "inactive")),
        ({"token_type": ["Bearer"]}, (401, "inactive")),
        ({"client_id": "other-app"}, (401, "audience")),
        ({"client_id": None}, (401, "audience")),
        ({"client_id": [SPA]}, (401, "audience")),
        ({"client_id": ""}, (401, "audience")),
        ({"iss": "https://other.example.com/oidc"}, (401, "issuer")),
        ({"iss": None}, (401, "claims")),
        ({"sub": None}, (401, "claims")),
        ({"sub": ""}, (401, "claims")),
        ({"exp": None}, (401, "claims")),
        ({"exp": "later"}, (401, "claims")),
        ({"exp": 1_700_000_000}, (401, "expired")),
        ({"nbf": 1_900_000_000}, (401, "not_yet_valid")),
        ({"aud": "https://other.example.com"}, (401, "audience")),
        ({"aud": [API, 1]}, (401, "claims")),
    ],
    ids=repr,
)
async def test_a_response_is_accepted_only_if_every_member_is_valid(
    bench: Bench, changes: dict[str, Any], refusal: tuple[int, str]
) -> None:
    bench.provider.say(bench.claims())
    assert (await bench.auth.verify(OPAQUE)).sub == "alice"
    bench.provider.say(bench.claims(**changes))

    assert await bench.refused(f"{OPAQUE}2") == refusal


async def test_the_log_says_which_client_the_token_was_issued_to(bench: Bench) -> None:
    bench.provider.say(bench.claims(client_id="other-app"))

    with pytest.raises(AudienceError) as caught:
        await bench.auth.verify(OPAQUE)

    assert caught.value.message == (
        "The opaque token was issued to an application whose tokens this API does not accept; request a token for its "
        "resource instead"
    )
    assert str(caught.value) == (
        "invalid_token: audience, claim client_id, expected an allowed client, found 'other-app'"
    )


async def test_the_memory_of_cached_responses_is_bounded(bench: Bench) -> None:
    # About five MiB each; the cache may hold 32 MiB.
    large: list[list[object]] = [[] for _ in range(25_000)]
    bench.provider.say(bench.claims(custom=large))

    for number in range(9):
        await bench.auth.verify(f"{OPAQUE}{number}")
    await bench.auth.verify(f"{OPAQUE}8")
    assert len(bench.provider.asked) == 9
    await bench.auth.verify(f"{OPAQUE}0")
    assert len(bench.provider.asked) == 10


@pytest.mark.parametrize(
    "changes",
    # A user's custom data is in the response too, and must not be treated as an error of the provider.
    [{"token_type": "bearer"}, {"aud": API}, {"aud": [API]}, {"scope": None}, {"error": "invalid_client"}],
    ids=repr,
)
async def test_a_response_with_other_optional_members_is_accepted(bench: Bench, changes: dict[str, Any]) -> None:
    bench.provider.say(bench.claims(**changes))

    assert (await bench.auth.verify(OPAQUE)).sub == "alice"


@pytest.mark.parametrize("name", [name for name in INTROSPECTION if name.startswith("introspect")])
async def test_the_captured_responses_are_understood(name: str) -> None:
    entry = INTROSPECTION[name]
    body: dict[str, Any] = dict(entry.body or {})
    bench = Bench(now=body.get("iat", 0) + 1, allowed_clients=[body.get("client_id", SPA)])
    bench.provider.say(body, status=entry.status)

    if body.get("token_type") == "Bearer":
        assert (await bench.auth.verify(OPAQUE)).sub == body["sub"]
    else:
        expected = (401, "inactive") if entry.status == 200 else (503, "provider_unavailable")
        assert await bench.refused(OPAQUE) == expected


@pytest.mark.parametrize(
    "answer",
    [
        lambda: httpx.Response(401, json={"error": "invalid_client"}),
        lambda: httpx.Response(400, json={"error": "invalid_client"}),
        lambda: httpx.Response(401, text="<html>"),
        lambda: httpx.Response(500, text="<html>"),
        lambda: httpx.Response(302, headers={"Location": "https://evil.example.com"}),
    ],
    ids=["401", "400", "401 html", "500", "302"],
)
async def test_without_a_usable_response_every_token_is_503_until_a_later_try_succeeds(
    bench: Bench, answer: Callable[[], httpx.Response], caplog: pytest.LogCaptureFixture
) -> None:
    token = bench.issuer.opaque_token()
    bench.provider.answer = answer
    with caplog.at_level(logging.DEBUG):
        assert await bench.refused(token) == (503, "provider_unavailable")
    bench.provider.answer = None

    assert await bench.refused(OPAQUE) == (503, "provider_unavailable")
    assert len(bench.provider.asked) == 1
    bench.clock.advance(2)
    assert (await bench.auth.verify(token)).client_id == SPA
    assert token not in caplog.text
    assert SECRET not in caplog.text


UNUSABLE: dict[str, Callable[[], httpx.Response]] = {
    "html": lambda: httpx.Response(200, text="<html>"),
    "a list": lambda: httpx.Response(200, json=["active"]),
    "nested by a user": lambda: httpx.Response(200, content=b'{"custom": ' + b"[" * 40 + b"]" * 40 + b"}"),
    "larger than any document": lambda: httpx.Response(200, json={"custom": "x" * 300_000}),
    "encoded": lambda: httpx.Response(200, headers={"Content-Encoding": "gzip"}, content=gzip.compress(b"{}")),
}


@pytest.mark.parametrize("answer", UNUSABLE.values(), ids=UNUSABLE)
async def test_a_body_for_one_token_does_not_affect_other_tokens(
    answer: Callable[[], httpx.Response], bench: Bench
) -> None:
    """Users can change a part of the body, e.g. their custom data. That must not refuse other users."""
    bench.provider.answer = answer
    assert await bench.refused(OPAQUE) == (503, "provider_unavailable")
    bench.provider.answer = None

    assert (await bench.auth.verify(bench.issuer.opaque_token())).client_id == SPA


async def test_a_status_for_one_token_does_not_affect_other_tokens(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    # Like a firewall in front of the provider, which rejects the form of an invented token.
    bench.provider.answer = lambda: httpx.Response(403, json={"error": OPAQUE, "error_description": OPAQUE})
    with caplog.at_level(logging.DEBUG):
        assert await bench.refused(OPAQUE) == (503, "provider_unavailable")
    bench.provider.answer = lambda: httpx.Response(400)
    assert await bench.refused(f"{OPAQUE}2") == (503, "provider_unavailable")
    bench.provider.answer = None

    assert (await bench.auth.verify(bench.issuer.opaque_token())).client_id == SPA
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        f"introspection: {bench.issuer.issuer}/token/introspection: status {found}"
        for found in ("403 instead of 200, '***'", "400 instead of 200, no OAuth error")
    ]


async def test_the_log_says_why_no_response_could_be_used(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "fastapi_logto")
    url = f"{bench.issuer.issuer}/token/introspection"
    known = bench.issuer.opaque_token()
    await bench.auth.verify(known)
    bench.clock.advance(31)

    async def find_reason(token: str) -> str | None:
        with pytest.raises(ProviderUnavailableError) as caught:
            await bench.auth.verify(token)
        assert caught.value.message == ProviderUnavailableError.default_message
        return caught.value.found

    bench.provider.answer = lambda: httpx.Response(403)
    assert await find_reason(OPAQUE) == "status 403 instead of 200, no OAuth error"
    bench.provider.answer = lambda: httpx.Response(401, json={"error": "invalid_client"})
    found = (
        f"{url}: status 401 instead of 200, 'invalid_client'; check client_id and client_secret of the application "
        "that introspects"
    )
    assert await find_reason(OPAQUE) == found
    assert await find_reason(OPAQUE) == f"introspection of new tokens: not sent after a failure: {found}"
    assert await find_reason(known) == found
    assert await find_reason(known) == f"introspection of known tokens: not sent after a failure: {found}"

    assert {record.name for record in caplog.records} == {"fastapi_logto"}
    lines = [
        (record.getMessage(), vars(record)["logto_url"], vars(record)["logto_status"]) for record in caplog.records
    ]
    assert lines == [
        (f"introspection: {url}: status 403 instead of 200, no OAuth error", url, 403),
        *(
            (f"introspection of {kind} tokens: failed, next try in 1 s at the earliest: {found}", url, 401)
            for kind in ("new", "known")
        ),
    ]


@pytest.mark.parametrize(
    "repeated", [SECRET, f"unknown%3A+{OPAQUE}", "Basic bG9jYWwtbWFjaGluZTpsb2NhbC1tYWNoaW5lLXNlY3JldA=="]
)
async def test_a_secret_that_a_provider_repeats_is_in_no_log(
    bench: Bench, repeated: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench.provider.answer = lambda: httpx.Response(401, json={"error": repeated})
    with caplog.at_level(logging.DEBUG), pytest.raises(ProviderUnavailableError) as caught:
        await bench.auth.verify(OPAQUE)

    assert "status 401 instead of 200, '***'; check client_id" in caplog.text
    assert not [text for text in (SECRET, OPAQUE, "bG9jYWwt") if text in f"{caplog.text} {caught.value}"]


async def test_in_an_outage_one_token_retries_when_due_and_the_others_get_503_immediately(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> httpx.Response:
        raise httpx.ConnectError("refused")

    bench.provider.answer = refuse
    tries: list[float] = []
    for tenths in range(700):
        asked = len(bench.provider.asked)
        for number in range(3):
            with pytest.raises(ProviderUnavailableError) as caught:
                await bench.auth.verify(f"{OPAQUE}{tenths}-{number}")
            assert 1 <= caught.value.retry_after_seconds <= 33
        tries += [tenths / 10] * (len(bench.provider.asked) - asked)
        bench.clock.advance(0.1)

    waits = [later - earlier for earlier, later in pairwise(tries)]
    for wait, expected in zip(waits, (1, 2, 4, 8, 16, 30), strict=False):
        assert expected * 0.9 <= wait <= expected * 1.1 + 0.11
    assert len(waits) >= 5
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == len(tries)
    assert warnings[0].startswith("introspection of new tokens: failed, next try in 1 s at the earliest: http://127")


async def test_a_discovery_document_without_the_endpoint_is_looked_up_again(bench: Bench) -> None:
    inner = bench.provider.inner.handle_async_request
    names = iter([b"introspection_gone", b"introspection_endpoint"])

    async def rename(request: httpx.Request) -> httpx.Response:
        answer = await inner(request)
        if not request.url.path.endswith("/openid-configuration"):
            return answer
        return httpx.Response(200, content=(await answer.aread()).replace(b"introspection_endpoint", next(names)))

    bench.provider.inner.handle_async_request = rename  # type: ignore[method-assign]

    assert await bench.refused(OPAQUE) == (503, "provider_unavailable")
    bench.clock.advance(2)
    assert await bench.refused(OPAQUE) == (401, "inactive")


class TestStrangers:
    """A flood of invented tokens, and known users whose cached responses have expired."""

    @staticmethod
    async def sign_in_users(bench: Bench, count: int) -> list[str]:
        tokens = [bench.issuer.opaque_token() for _ in range(count)]
        for token in tokens:
            await bench.auth.verify(token)
        bench.clock.advance(31)
        return tokens

    async def test_it_uses_no_place_of_a_known_user(self, bench: Bench) -> None:
        app = FastAPI()

        @app.get("/", dependencies=[Depends(bench.auth)])
        async def read() -> None: ...

        known = await self.sign_in_users(bench, 40)
        bench.provider.gate, bench.provider.held = asyncio.Event(), "invented"
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as http:

            async def call(token: str) -> tuple[int, str | None]:
                response = await http.get("/", headers=bearer(token))
                return response.status_code, response.headers.get("retry-after")

            flood = [asyncio.create_task(call(f"invented{number:035}")) for number in range(80)]
            await wait_until(lambda: len(bench.provider.asked) == 40 + 50)
            served = await asyncio.gather(*map(call, known))
            bench.provider.gate.set()
            strangers = await asyncio.gather(*flood)

        assert served == [(200, None)] * 40
        assert sorted(strangers, key=str) == [(401, None)] * 50 + [(503, "1")] * 30

    async def test_a_429_for_invented_tokens_affects_no_known_user(self, bench: Bench) -> None:
        (known,) = await self.sign_in_users(bench, 1)
        bench.provider.answer = lambda: httpx.Response(429, headers={"Retry-After": "3600"})
        assert await bench.refused(OPAQUE) == (503, "provider_unavailable")
        bench.provider.answer = None

        assert (await bench.auth.verify(known)).client_id == SPA
        assert await bench.refused(OPAQUE) == (503, "provider_unavailable")

    async def test_a_user_is_known_for_an_hour_and_not_after_a_refusal(self) -> None:
        bench = Bench(max_waiting=1)
        late, revoked, other = await self.sign_in_users(bench, 3)
        bench.provider.say({"active": False})
        assert await bench.refused(revoked) == (401, "inactive")
        bench.provider.say(bench.claims(client_id="other-app"))
        assert await bench.refused(other) == (401, "audience")
        bench.provider.answer = None
        bench.clock.advance(31)
        bench.provider.gate, bench.provider.held = asyncio.Event(), OPAQUE
        flood = asyncio.create_task(bench.refused(OPAQUE))
        await wait_until(lambda: len(bench.provider.asked) == 6)

        for token in (revoked, other):
            assert await bench.refused(token) == (503, "provider_unavailable")
        bench.clock.advance(3600 - 33)
        bench.provider.say(bench.claims())
        assert (await bench.auth.verify(late)).client_id == SPA
        bench.clock.advance(30 + 3600)
        assert await bench.refused(late) == (503, "provider_unavailable")
        bench.provider.answer = None
        bench.provider.gate.set()
        assert await flood == (401, "inactive")


async def test_an_unreachable_provider_is_503(bench: Bench) -> None:
    def refuse() -> httpx.Response:
        raise httpx.ConnectError("refused")

    bench.provider.answer = refuse

    assert await bench.refused(OPAQUE) == (503, "provider_unavailable")


async def test_a_discovery_document_that_names_another_host_gets_no_secret() -> None:
    bench = Bench()
    inner = bench.provider.inner

    class Elsewhere(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            answer = await inner.handle_async_request(request)
            document = (await answer.aread()).replace(
                b'"introspection_endpoint":"http://127.0.0.1:3001',
                b'"introspection_endpoint":"https://evil.example.com',
            )
            assert b"evil" in document
            return httpx.Response(200, content=document)

    auth = LogtoAuth(
        endpoint=bench.issuer.endpoint,
        audience=API,
        http_transport=Elsewhere(),
        introspection=Introspection(client_id="local-machine", client_secret=SECRET, allowed_clients=[SPA]),
    )

    with pytest.raises(ProviderUnavailableError):
        await auth.verify(OPAQUE)


async def test_a_token_of_three_parts_is_never_sent_there(bench: Bench) -> None:
    for token in (bench.issuer.bad_token("forged"), "a.b.c", "a.b", f"{OPAQUE}.", "abc"):
        assert (await bench.refused(token))[0] == 401
    # Nor a token that can't be sent.
    for token in (f"{OPAQUE}\ud800", "\udfff" * 43):
        assert await bench.refused(token) == (401, "malformed")
    await bench.auth.verify(bench.issuer.access_token())

    assert bench.provider.asked == []


async def test_a_refresh_token_is_no_access_token(bench: Bench) -> None:
    bench.provider.say(bench.claims(token_type=None))

    assert await bench.refused(OPAQUE) == (401, "inactive")


def test_opaque_tokens_open_neither_organizations_nor_other_resources(bench: Bench) -> None:
    app = FastAPI()
    billing = bench.auth.for_audience("https://billing.example.test")

    @app.get("/plain")
    async def plain(claims: Annotated[TokenClaims, Depends(bench.auth.require_scopes("openid"))]) -> str:
        return claims.user_id

    @app.get("/billing", dependencies=[Depends(billing)])
    @app.get(
        "/organization",
        dependencies=[Depends(bench.auth.require_organization(organization=OrganizationSource.from_token()))],
    )
    async def other() -> None: ...

    client = TestClient(app)
    headers = bearer(bench.issuer.opaque_token(subject="alice"))

    assert client.get("/plain", headers=headers).json() == "alice"
    for path in ("/billing", "/organization"):
        assert detail(client, path, headers) == (401, "invalid_token", "opaque_token")


@pytest.mark.parametrize(
    "config",
    [
        {"client_id": ""},
        {"client_secret": ""},
        {"client_secret": SecretStr("")},
        {"allowed_clients": []},
        {"allowed_clients": [""]},
        {"allowed_clients": [SPA, ""]},
        {"cache_seconds": -1},
        {"cache_seconds": 301},
        {"cache_seconds": float("nan")},
        {"max_waiting": 0},
        {"client_id": "m\ud800"},
        {"client_secret": "m\ud800"},
    ],
    ids=repr,
)
def test_an_insecure_configuration_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="introspection: expected"):
        Bench(**config)


@pytest.mark.parametrize("config", [{"cache_seconds": 0}, {"cache_seconds": 300}, {"max_waiting": 1}], ids=repr)
def test_the_limits_of_a_configuration_are_accepted(config: dict[str, Any]) -> None:
    Bench(**config)


def test_the_secret_is_not_shown() -> None:
    config = Introspection(client_id="m", client_secret=SECRET, allowed_clients=SPA)

    assert repr(config) == (
        "Introspection(client_id='m', allowed_clients=('local-spa',), cache_seconds=30, max_waiting=50)"
    )
    assert str(config.client_secret) == "**********"


@pytest.mark.parametrize("secret", ["c d%é", SecretStr("c d%é")], ids=["str", "SecretStr"])
async def test_id_and_secret_are_encoded_before_they_are_joined(secret: str | SecretStr) -> None:
    bench = Bench(client_id="a:b", client_secret=secret)
    bench.provider.say(bench.claims())
    await bench.auth.verify(OPAQUE)

    # RFC 6749 section 2.3.1: "a%3Ab:c+d%25%C3%A9"
    assert bench.provider.asked[0].headers["authorization"] == "Basic YSUzQWI6YytkJTI1JUMzJUE5"


class TestLocalIssuer:
    """The local issuer's endpoint responds like the captured server."""

    @staticmethod
    def ask(issuer: LocalIssuer, token: str | None, *, secret: str = SECRET) -> Any:
        form = {"hint": "none"} if token is None else {"token": token}
        return TestClient(issuer.app, base_url=issuer.endpoint).post(
            "/oidc/token/introspection", data=form, auth=("local-machine", secret)
        )

    def test_it_distinguishes_access_and_refresh_tokens_by_their_type(self) -> None:
        issuer = LocalIssuer()
        refresh_token = sign_in(issuer)["refresh_token"]

        access = self.ask(issuer, issuer.opaque_token(subject="alice", scopes=["openid"])).json()
        refresh = self.ask(issuer, refresh_token).json()

        assert (access["active"], access["token_type"], access["sub"]) == (True, "Bearer", "alice")
        assert access.keys() == dict(INTROSPECTION["introspect opaque of SPA by m2m"].body or {}).keys()
        assert (refresh["active"], refresh["client_id"]) == (True, SPA)
        assert "token_type" not in refresh

    @pytest.mark.parametrize(
        ("token", "secret", "captured"),
        [
            (OPAQUE, SECRET, "introspect basic own garbage"),
            ("a.b.c", SECRET, "introspect basic own tampered"),
            (None, SECRET, "introspect no token"),
            (OPAQUE, "wrong", "introspect bad secret"),
        ],
    )
    def test_it_refuses_what_the_captured_server_refused(self, token: str | None, secret: str, captured: str) -> None:
        answer = self.ask(LocalIssuer(), token, secret=secret)

        assert (answer.status_code, answer.json()) == (INTROSPECTION[captured].status, INTROSPECTION[captured].body)
