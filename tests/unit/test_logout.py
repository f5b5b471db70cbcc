"""Back-channel logout: which logout tokens take effect, and the error of each other one."""

import asyncio
import gc
import json
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final
from urllib.parse import parse_qs, urlencode

import httpx
import pytest
from fastapi import Depends, FastAPI
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from starlette.requests import Request
from starlette.testclient import TestClient

from fastapi_logto import LogtoAuth, LogtoSettings, SettingsError, TokenClaims
from fastapi_logto.cli.route_table import list_routes
from fastapi_logto.errors import (
    AlgorithmError,
    AudienceError,
    ClaimError,
    ExpiredTokenError,
    IdTokenError,
    ImmatureTokenError,
    IssuerError,
    MalformedTokenError,
    OpaqueTokenError,
    RefusalError,
    RevokedTokenError,
    SignatureError,
    TokenTooLargeError,
    TokenTypeError,
    UnknownKeyError,
)
from fastapi_logto.revocation import Revocations
from fastapi_logto.revocation.logout import LogoutReceiver
from fastapi_logto.revocation.revocations import find_feeds
from fastapi_logto.testing import Application, Directory, LocalIssuer, ManualClock, assert_protected, bearer, routes
from fastapi_logto.verification.logout_tokens import LogoutToken
from tests.captured import DIRECTORY
from tests.unit.apps import API
from tests.unit.recording import Point, start_recording
from tests.unit.stores import SharedStore

NOW: Final = 1_800_000_000
PATH: Final = "/webhooks/logto/logout"
CLIENT: Final = "local-spa"
EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"


class Provider(httpx.AsyncBaseTransport):
    """The local issuer, which can be unreachable."""

    def __init__(self, issuer: LocalIssuer) -> None:
        self.is_down = False
        self._inner = httpx.ASGITransport(app=issuer.app)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.is_down:
            raise httpx.ConnectError("down")
        return await self._inner.handle_async_request(request)


class Bench:
    """An application with a logout route and a protected route."""

    def __init__(self, *, client_ids: Any = (CLIENT, "other-app"), store: SharedStore | None = None) -> None:
        self.clock = ManualClock(now=NOW)
        self.issuer = LocalIssuer(clock=self.clock)
        self.provider = Provider(self.issuer)
        self.revocations = Revocations(store)
        self.auth = LogtoAuth(
            endpoint=self.issuer.endpoint,
            audience=API,
            revocations=self.revocations,
            clock=self.clock,
            http_transport=self.provider,
        )
        self.app = FastAPI()
        self.app.include_router(self.revocations.logout(client_ids=client_ids))
        self.auth.install(self.app)

        @self.app.get("/me")
        async def me(claims: Annotated[TokenClaims, Depends(self.auth)]) -> str:
            return claims.user_id

        self.client = TestClient(self.app)

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return the claims of a valid logout token with changes. A claim set to `...` is omitted."""
        members: dict[str, Any] = {
            "iss": self.issuer.issuer,
            "sub": "alice",
            "aud": CLIENT,
            "iat": NOW,
            "exp": NOW + 120,
            "jti": "logout-1",
            "sid": "session-1",
            "events": {EVENT: {}},
            **changes,
        }
        return {name: value for name, value in members.items() if value is not ...}

    def token(self, *, header: Mapping[str, Any] | None = None, **changes: Any) -> str:
        return self.issuer.sign(self.claims(**changes), header={"typ": "logout+jwt", **(header or {})})

    def post(self, token: str) -> Any:
        return self.client.post(PATH, data={"logout_token": token})

    def accepts(self, token: str) -> bool:
        response = self.client.get("/me", headers=bearer(token))
        assert response.status_code == 200 or response.json()["detail"]["reason"] == "revoked"
        return response.status_code == 200

    async def verify(self, token: str) -> LogoutToken:
        verifiers = find_feeds(self.revocations).verifiers
        return await verifiers.verify_logout(SecretStr(token), client_ids={CLIENT, "other-app"}, now=self.clock.now())


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_captured_logout_ends_the_tokens_of_its_user() -> None:
    captured = json.loads((DIRECTORY / "logout-1.43.json").read_text(encoding="utf-8"))
    issued_at = captured["decoded"]["claims"]["iat"]
    clock = ManualClock(now=issued_at + 1)
    revocations = Revocations()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/jwks"):
            return httpx.Response(200, json=captured["jwks"])
        return httpx.Response(200, json={"issuer": captured["issuer"], "jwks_uri": f"{captured['issuer']}/jwks"})

    LogtoAuth(
        endpoint=captured["issuer"].removesuffix("/oidc"),
        audience=API,
        revocations=revocations,
        clock=clock,
        http_transport=httpx.MockTransport(answer),
    )
    app = FastAPI()
    app.include_router(revocations.logout(client_ids=captured["decoded"]["claims"]["aud"]))
    headers = {"content-type": "application/x-www-form-urlencoded"}

    response = TestClient(app).post(PATH, content=captured["body"], headers=headers)

    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["cache-control"] == "no-store"
    (one,) = find_feeds(revocations).current.tokens.list_all()
    assert (one.user_id, one.before, one.issuer) == ("jwqph00k4iwi", issued_at, captured["issuer"])
    assert one.organization_id is one.client_id is one.token_id is None
    assert parse_qs(captured["body"]).keys() == {"logout_token"}


def test_a_logout_ends_all_tokens_of_the_user_that_were_issued_until_then(bench: Bench) -> None:
    alice, bob = bench.issuer.access_token(subject="alice"), bench.issuer.access_token(subject="bob")
    assert bench.accepts(alice)

    assert bench.post(bench.token()).status_code == 200

    assert [bench.accepts(alice), bench.accepts(bob)] == [False, True]
    bench.clock.advance(1)
    assert bench.accepts(bench.issuer.access_token(subject="alice"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An invalid logout token: one change to a valid one."""

    id: str
    make: Callable[[Bench], str]
    error: type[RefusalError]
    claim: str | None = None


def row(id: str, error: type[RefusalError], claim: str | None, **changes: Any) -> Row:  # noqa: A002 - as the field
    return Row(id=id, make=lambda bench: bench.token(**changes), error=error, claim=claim)


def sign_by_another(bench: Bench, **changes: Any) -> str:
    (key,) = bench.issuer.jwks()["keys"]
    return LocalIssuer(clock=bench.clock).sign(bench.claims(**changes), header={"typ": "logout+jwt", "kid": key["kid"]})


INVALID = [
    row("typ of an access token", TokenTypeError, "typ", header={"typ": "at+jwt"}),
    row("typ JWT", TokenTypeError, "typ", header={"typ": "JWT"}),
    row("no typ", IdTokenError, "typ", header={"typ": None}),
    row("alg none", AlgorithmError, "alg", header={"alg": "none"}),
    row("alg HS256", AlgorithmError, "alg", header={"alg": "HS256"}),
    row("crit", MalformedTokenError, "crit", header={"crit": ["x"]}),
    row("unknown key", UnknownKeyError, "kid", header={"kid": "unknown"}),
    Row(id="another key", make=sign_by_another, error=SignatureError),
    # With one tenant, nothing is read before the signature was verified.
    Row(
        id="another key and another issuer",
        make=lambda bench: sign_by_another(bench, iss="https://other.example.com/oidc"),
        error=SignatureError,
    ),
    Row(id="no signature", make=lambda bench: bench.token().rpartition(".")[0] + ".", error=MalformedTokenError),
    Row(id="opaque", make=lambda _: "o" * 43, error=OpaqueTokenError),
    Row(id="an access token", make=lambda bench: bench.issuer.access_token(), error=TokenTypeError, claim="typ"),
    Row(id="an ID token", make=lambda bench: bench.issuer.id_token(), error=IdTokenError, claim="typ"),
    row("too large", TokenTooLargeError, None, x="x" * 20_000),
    Row(
        id="not JSON",
        make=lambda bench: bench.issuer.sign(b"no", header={"typ": "logout+jwt"}),
        error=MalformedTokenError,
    ),
    Row(
        id="two subjects",
        make=lambda bench: bench.issuer.sign(
            json.dumps(bench.claims()).replace('"sub"', '"sub": "bob", "sub"').encode(), header={"typ": "logout+jwt"}
        ),
        error=MalformedTokenError,
    ),
    row("another issuer", IssuerError, "iss", iss="https://other.example.com/oidc"),
    row("an issuer in a list", IssuerError, "iss", iss=["http://127.0.0.1:3001/oidc"]),
    row("no issuer", IssuerError, "iss", iss=...),
    row("another audience", AudienceError, "aud", aud="unknown-app"),
    row("an API as audience", AudienceError, "aud", aud=API),
    row("one unknown audience of two", AudienceError, "aud", aud=[CLIENT, "unknown-app"]),
    row("no audience in a list", AudienceError, "aud", aud=[]),
    row("an audience that is no text", AudienceError, "aud", aud=[7]),
    row("an audience that is an object", AudienceError, "aud", aud=[{CLIENT: CLIENT}]),
    row("no audience", AudienceError, "aud", aud=...),
    row("no iat", ClaimError, "iat", iat=...),
    row("an iat that is a text", ClaimError, "iat", iat=str(NOW)),
    row("an iat that is true", ClaimError, "iat", iat=True),
    row("an iat in the future", ImmatureTokenError, "iat", iat=NOW + 61),
    row("no exp", ClaimError, "exp", exp=...),
    row("an exp that is null", ClaimError, "exp", exp=None),
    row("expired", ExpiredTokenError, "exp", iat=NOW - 120, exp=NOW - 60),
    row("expired for as long as the leeway", ExpiredTokenError, "exp", iat=NOW - 120, exp=NOW - 10),
    row("no events", ClaimError, "events", events=...),
    row("events in a list", ClaimError, "events", events=[EVENT]),
    row("another event", ClaimError, "events", events={"http://schemas.openid.net/event/other": {}}),
    row("an event that is no object", ClaimError, "events", events={EVENT: "yes"}),
    row("a nonce", ClaimError, "nonce", nonce="n"),
    row("a nonce that is null", ClaimError, "nonce", nonce=None),
    row("no subject but a session", ClaimError, "sub", sub=...),
    row("neither subject nor session", ClaimError, "sub", sub=..., sid=...),
    row("a blank subject", ClaimError, "sub", sub=" "),
    row("a subject that is null", ClaimError, "sub", sub=None),
    row("a subject that is too long", ClaimError, "sub", sub="s" * 257),
    row("a session that is a number", ClaimError, "sid", sid=1),
    row("no jti", ClaimError, "jti", jti=...),
    row("an empty jti", ClaimError, "jti", jti=""),
]


@pytest.mark.parametrize("invalid", INVALID, ids=lambda one: one.id)
async def test_an_invalid_logout_token_is_400_and_has_no_effect(
    bench: Bench, invalid: Row, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fastapi_logto")
    token = invalid.make(bench)

    with pytest.raises(RefusalError) as caught:
        await bench.verify(token)
    assert (type(caught.value), caught.value.claim) == (invalid.error, invalid.claim)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=bench.app), base_url="http://api") as client:
        response = await client.post(PATH, data={"logout_token": token})
    assert (response.status_code, response.headers["cache-control"]) == (400, "no-store")
    assert response.json() == {
        "error": "invalid_request",
        "error_description": f"the logout token is invalid: {invalid.error.reason}",
    }
    assert bench.revocations.health().count == 0
    assert token[-20:] not in caplog.text


FINDINGS: list[tuple[dict[str, Any], str, str]] = [
    ({"iss": "https://c/oidc"}, "'http://127.0.0.1:3001/oidc'", "'https://c/oidc'"),
    ({"aud": ["unknown-app"]}, "'local-spa or other-app'", "['unknown-app']"),
    ({"exp": NOW - 60}, "a time after 1800000000", "1799999940"),
    ({"iat": NOW + 61}, "a time before 1800000000", "1800000061"),
    ({"iat": "now"}, "seconds since the epoch", "'now'"),
    ({"exp": None}, "seconds since the epoch", "None"),
    ({"events": [EVENT]}, f"an object with the member {EVENT}", "list"),
    ({"nonce": "secret"}, "no such claim", "one"),
    ({"sub": " "}, "a text of 1 to 256 characters", "' '"),
    ({"jti": "j" * 257}, "a text of 1 to 256 characters", f"'{'j' * 79}..."),
    ({"sid": 7}, "a text of 1 to 256 characters", "7"),
]


@pytest.mark.parametrize(("changes", "expected", "found"), FINDINGS, ids=[next(iter(one)) for one, *_ in FINDINGS])
def test_the_log_says_what_is_wrong_with_a_logout_token(
    bench: Bench, changes: dict[str, Any], expected: str, found: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fastapi_logto")

    assert bench.post(bench.token(**changes)).status_code == 400

    (message,) = caplog.messages
    assert message.startswith("refused a logout: ")
    assert message.endswith(f" claim {next(iter(changes))}, expected {expected}, found {found}")


def test_the_log_says_why_a_logout_token_is_not_readable(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fastapi_logto")

    assert bench.post(bench.issuer.sign(b"no", header={"typ": "logout+jwt"})).status_code == 400

    (message,) = caplog.messages
    assert "found payload: " in message


async def test_a_refused_logout_token_leaves_nothing_for_the_garbage_collector(bench: Bench) -> None:
    token = bench.token(aud="unknown-app")

    async def refuse() -> None:
        with suppress(AudienceError):
            await bench.verify(token)

    await refuse()
    gc.collect()
    gc.disable()
    try:
        await refuse()
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_a_logout_is_counted_and_logged_as_one(caplog: pytest.LogCaptureFixture) -> None:
    bench, recording = Bench(), start_recording()
    caplog.set_level(logging.INFO, "fastapi_logto")

    assert bench.post(bench.token()).status_code == 200

    assert caplog.messages == ["1 revocations of the source logout are in effect"]
    assert recording.read()["fastapi_logto.revocations"] == [Point(1, {"fastapi_logto.source": "logout"})]


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": [CLIENT]},
        {"aud": [CLIENT, "other-app"]},
        {"aud": "other-app"},
        {"sid": ...},
        {"events": {EVENT: {"more": 1}, "https://example.com/event": {}}},
        {"iat": NOW + 60},
        {"iat": NOW - 119, "exp": NOW + 1},
        {"iat": NOW - 120, "exp": NOW - 9},
        {"sub": "s" * 256},
        {"exp": 10**400},
        {"iat": float(NOW), "exp": NOW + 120.5},
        {"iat": NOW - 10**400},
        {"header": {"typ": "application/LOGOUT+jwt"}},
    ],
    ids=repr,
)
def test_an_unusual_logout_token_is_valid(bench: Bench, changes: dict[str, Any]) -> None:
    assert bench.post(bench.token(**changes)).status_code == 200


async def test_a_logout_token_that_is_valid_for_years_is_remembered_for_a_day(bench: Bench) -> None:
    token = await bench.verify(bench.token(exp=NOW + 10**9))

    assert token.refused_at == NOW + 24 * 3600 + bench.auth.settings.leeway_seconds


def test_a_logout_token_is_accepted_once(bench: Bench) -> None:
    token = bench.token()
    assert bench.post(token).status_code == 200

    replayed = bench.post(token)

    assert (replayed.status_code, replayed.headers["cache-control"]) == (400, "no-store")
    assert replayed.json()["error_description"] == "expected a new logout token, found one that was sent before"
    assert bench.post(bench.token(jti="logout-2")).status_code == 200
    # Until it has certainly expired, and no longer.
    bench.clock.advance(129)
    assert bench.post(token).json()["error_description"].endswith("found one that was sent before")
    bench.clock.advance(1)
    assert bench.post(bench.token(iat=NOW + 130, exp=NOW + 250)).status_code == 200


async def test_the_memory_of_logout_tokens_is_bounded() -> None:
    applied: list[str] = []
    now = NOW

    async def verify(token: SecretStr) -> LogoutToken:
        number = token.get_secret_value()
        return LogoutToken(issuer="i", subject="s", token_id=number, issued_at=NOW, refused_at=NOW + 120)

    async def apply(token: LogoutToken) -> None:
        applied.append(token.token_id)

    receiver = LogoutReceiver(verify, apply=apply, check=lambda: None, now=lambda: now)

    async def post(token: str) -> int:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": f"logout_token={token}".encode(), "more_body": False}

        headers = [(b"content-type", b"application/x-www-form-urlencoded")]
        request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
        return (await receiver.receive(request)).status_code

    for number in range(10_001):
        assert await post(str(number)) == 200
    assert await post("1") == 400
    assert await post("10000") == 400
    # The first one was evicted by the last one.
    assert await post("0") == 200
    now += 121
    assert await post("10000") == 200
    assert len(applied) == 10_003


FORMS: dict[str, tuple[str, bytes, int, str]] = {
    "JSON": ("application/json", b'{"logout_token": "x"}', 400, "found another content type"),
    "no content type": ("", b"logout_token=x", 400, "found another content type"),
    "no token": ("application/x-www-form-urlencoded", b"token=x", 400, "expected one logout_token, found 0"),
    "nothing": ("application/x-www-form-urlencoded", b"", 400, "expected one logout_token, found 0"),
    "two tokens": (
        "application/x-www-form-urlencoded",
        b"logout_token=x&logout_token=y",
        400,
        "expected one logout_token, found 2",
    ),
    "not ASCII": ("application/x-www-form-urlencoded", b"logout_token=\xff", 400, "found malformed text"),
    "escapes that are not UTF-8": ("application/x-www-form-urlencoded", b"logout_token=%ff", 400, "malformed text"),
    "many fields": ("application/x-www-form-urlencoded", b"a=b&" * 16 + b"logout_token=x", 400, "found malformed text"),
    "as many fields as allowed": (
        "application/x-www-form-urlencoded",
        b"a=b&" * 15 + b"logout_token=x",
        400,
        "is invalid: malformed",
    ),
    "an empty token": ("application/x-www-form-urlencoded", b"logout_token=", 400, "is invalid: malformed"),
    "a large body": (
        "application/x-www-form-urlencoded",
        b"logout_token=" + b"x" * 33_000,
        413,
        "expected a body of at most 32768 bytes",
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_body_that_is_not_a_form_with_one_token_is_refused(bench: Bench, name: str) -> None:
    kind, body, status, message = FORMS[name]

    response = bench.client.post(PATH, content=body, headers={"content-type": kind})

    assert (response.status_code, response.json()["error"]) == (status, "invalid_request")
    assert message in response.json()["error_description"]
    assert response.headers["cache-control"] == "no-store"


def test_a_content_type_may_have_parameters(bench: Bench) -> None:
    headers = {"content-type": "Application/X-WWW-Form-Urlencoded; charset=utf-8"}
    body = urlencode({"logout_token": bench.token(), "more": "1"})

    assert bench.client.post(PATH, content=body, headers=headers).status_code == 200


SHARED = Bench()


@given(token=st.text(max_size=200) | st.from_regex(r"[A-Za-z0-9_-]{1,40}(\.[A-Za-z0-9_-]{0,40}){0,4}", fullmatch=True))
def test_any_text_as_a_logout_token_is_400(token: str) -> None:
    async def post() -> None:
        transport = httpx.ASGITransport(app=SHARED.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            body = urlencode({"logout_token": token}, errors="surrogatepass")
            headers = {"content-type": "application/x-www-form-urlencoded"}
            assert (await client.post(PATH, content=body, headers=headers)).status_code == 400

    asyncio.run(post())


def test_without_keys_it_is_503_and_the_same_token_is_accepted_later(bench: Bench) -> None:
    token = bench.token()
    bench.provider.is_down = True

    response = bench.post(token)

    assert (response.status_code, response.headers["cache-control"]) == (503, "no-store")
    assert int(response.headers["retry-after"]) >= 1
    bench.provider.is_down = False
    bench.clock.advance(31)
    assert bench.post(token).status_code == 200


def test_without_the_store_it_is_503_and_the_user_is_refused_here() -> None:
    store = SharedStore()
    bench = Bench(store=store)
    assert bench.client.get("/me", headers=bearer(bench.issuer.access_token())).status_code == 200
    store.error = "down"

    response = bench.post(bench.token())

    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert bench.revocations.health().waiting_count == 1
    store.error = None
    # The token is accepted, and the store gets the waiting revocation together with the next one.
    assert bench.post(bench.token(jti="logout-2", sub="bob")).status_code == 200
    assert [one.user_id for one in store.entries] == ["alice", "bob"]


def build_tenants(*, auths: int = 2) -> tuple[FastAPI, LocalIssuer, LocalIssuer, Revocations, set[str]]:
    """Return an application with two tenants, of one `LogtoAuth` or of two, and the hosts that are unreachable."""
    clock = ManualClock(now=NOW)
    issuers = {name: LocalIssuer(endpoint=f"https://{name}.example.com", clock=clock) for name in "ab"}
    down: set[str] = set()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host in down:
            raise httpx.ConnectError("down")
        issuer = issuers[request.url.host[0]]
        if request.url.path.endswith("/jwks"):
            return httpx.Response(200, json=issuer.jwks())
        return httpx.Response(200, json={"issuer": issuer.issuer, "jwks_uri": f"{issuer.endpoint}/oidc/jwks"})

    revocations = Revocations()
    settings = [LogtoSettings(endpoint=one.endpoint, audience=API) for one in issuers.values()]
    for group in [settings] if auths == 1 else [[one] for one in settings]:
        LogtoAuth(settings=group, revocations=revocations, clock=clock, http_transport=httpx.MockTransport(answer))
    app = FastAPI()
    app.include_router(revocations.logout(client_ids=[CLIENT]))
    return app, issuers["a"], issuers["b"], revocations, down


@pytest.mark.parametrize("count", [1, 2])
def test_of_several_tenants_the_one_that_signed_the_token_is_the_one_whose_tokens_end(count: int) -> None:
    app, a, b, revocations, down = build_tenants(auths=count)
    client = TestClient(app)

    def post(signer: LocalIssuer, named: LocalIssuer, jti: str) -> int:
        claims = Bench().claims(iss=named.issuer, jti=jti)
        token = signer.sign(claims, header={"typ": "logout+jwt"})
        return client.post(PATH, data={"logout_token": token}).status_code

    assert post(b, b, "1") == 200
    assert post(b, a, "2") == 400
    assert {(one.user_id, one.issuer) for one in find_feeds(revocations).current.tokens.list_all()} == {
        ("alice", b.issuer)
    }
    assert client.post(PATH, data={"logout_token": b.access_token()}).status_code == 400
    assert client.post(PATH, data={"logout_token": a.sign(b"{}", header={"typ": "logout+jwt"})}).status_code == 400
    down.add("a.example.com")
    a.rotate()
    assert post(b, b, "3") == 200


def test_a_token_that_may_be_of_an_unreachable_tenant_is_503() -> None:
    app, a, _, _, down = build_tenants()
    down.add("a.example.com")
    token = a.sign(Bench().claims(iss=a.issuer), header={"typ": "logout+jwt"})

    assert TestClient(app).post(PATH, data={"logout_token": token}).status_code == 503


def test_in_a_test_the_connected_issuer_signs_logout_tokens() -> None:
    bench = Bench()
    issuer = LocalIssuer(endpoint="http://127.0.0.1:3999", clock=ManualClock(now=NOW + 5))

    with issuer.connect(bench.app):
        access = issuer.access_token(subject="alice")
        assert bench.accepts(access)
        claims = bench.claims(iss=issuer.issuer)
        assert bench.post(issuer.sign(claims | {"iat": NOW + 5}, header={"typ": "logout+jwt"})).status_code == 200
        assert not bench.accepts(access)
        assert bench.post(bench.token()).status_code == 400
    assert bench.revocations.health().count == 0


def test_the_end_of_a_session_at_the_local_issuer_takes_effect() -> None:
    spa = Application(client_id=CLIENT, backchannel_logout_uri=f"http://testserver{PATH}")
    issuer = LocalIssuer(directory=replace(Directory.example(), applications=[spa]), clock=ManualClock(now=NOW))
    revocations = Revocations()
    auth = issuer.auth(revocations=revocations)
    app = FastAPI()
    app.include_router(revocations.logout(client_ids=[CLIENT]))
    issuer.deliver_to(app)
    token = issuer.access_token()
    assert asyncio.run(auth.verify(token)).client_id == CLIENT

    assert issuer.end_session("alice") == {CLIENT: 200}

    with pytest.raises(RevokedTokenError):
        asyncio.run(auth.verify(token))


def test_the_route_needs_a_logto_auth_for_its_keys() -> None:
    revocations = Revocations()
    app = FastAPI()
    app.include_router(revocations.logout(client_ids=[CLIENT]))
    LocalIssuer().auth().install(app)

    with (
        pytest.raises(SettingsError, match="/webhooks/logto/logout: revocations: expected a LogtoAuth"),
        TestClient(app),
    ):
        pass
    with pytest.raises(SettingsError, match="revocations: expected a LogtoAuth"):
        TestClient(app).post(PATH, data={"logout_token": "x"})


def test_the_route_counts_as_signed(bench: Bench) -> None:
    with bench.client:
        pass
    assert_protected(bench.app)
    assert {row.path: row.token for row in list_routes(bench.app).api_routes} == {PATH: "signature", "/me": "required"}
    assert bench.client.get("/openapi.json").json()["paths"].keys() == {"/me"}
    assert bench.client.get(PATH).status_code == 405
    assert [route.is_hidden for route in routes(bench.app) if route.is_signed] == [True]


@pytest.mark.parametrize("client_ids", [[], "", ["a", ""], [" "], [7]])
def test_the_client_ids_must_be_given(client_ids: Any) -> None:
    with pytest.raises(ValueError, match="client_ids: expected a text that is not empty"):
        Revocations().logout(client_ids=client_ids)
