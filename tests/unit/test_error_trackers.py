"""Error trackers, which record the local variables of an error's frames, find no token and no secret in ours."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import time
from traceback import walk_tb
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import SecretStr
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_logto import LogtoAuth, LogtoSettings, RefusalError, SettingsError, TokenClaims, mount_protected
from fastapi_logto.client import GrantError, GrantRefusedError, LogtoClient
from fastapi_logto.introspection import Introspection
from fastapi_logto.revocation import DeliveryLog, EventError, RedisStore, Revocations, parse_event
from fastapi_logto.revocation.events import build_event
from fastapi_logto.revocation.revocations import find_feeds
from fastapi_logto.testing import LocalIssuer, ManualClock, bearer
from fastapi_logto.verification.bearer import parse_authorization
from tests.prove.sinks import show
from tests.unit.apps import API

ENDPOINT = "https://tenant.example.test"
SECRET = "secret-of-a-machine-xyz"
PERSONAL = "pat_personal_access_token_aaaaaaaa"
ACTOR = "eyJhY3RvciI.dG9rZW4.YWN0b3I"
OPAQUE = "o" * 43
ISSUER = LocalIssuer(endpoint=ENDPOINT)
TOKEN = ISSUER.access_token()
DISCOVERY = {
    "issuer": f"{ENDPOINT}/oidc",
    "jwks_uri": f"{ENDPOINT}/oidc/jwks",
    "token_endpoint": f"{ENDPOINT}/oidc/token",
    "introspection_endpoint": f"{ENDPOINT}/oidc/token/introspection",
    "userinfo_endpoint": f"{ENDPOINT}/oidc/me",
}
ACTIVE = {
    "active": True,
    "token_type": "Bearer",
    "client_id": "a",
    "iss": f"{ENDPOINT}/oidc",
    "sub": "alice",
    "exp": 99_999_999_999,
}

NOT_OURS = ("/tests/", "/anyio/", "/starlette/", "/fastapi/", "/mcp/")


def iter_shown(error: BaseException | None) -> Iterator[tuple[str, str]]:
    """Yield the frame and the text of each local variable that an error tracker records of an error and its causes.

    Frames of this test and of the frameworks are excluded, because the package can't change them.
    """
    while error is not None:
        yield "the error", f"{error} {error!r} {error.args}"
        trace = error.__traceback__
        while trace is not None:
            frame, trace = trace.tb_frame, trace.tb_next
            if any(folder in frame.f_code.co_filename for folder in NOT_OURS):
                continue
            for name, value in frame.f_locals.items():
                yield f"{name} in {frame.f_code.co_qualname}", show(value)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def find_leaks(error: BaseException, *secrets: str) -> list[str]:
    pieces = [piece for secret in secrets for piece in secret.split(".") if len(piece) > 20] + list(secrets)
    return sorted({place for place, text in iter_shown(error) if any(piece in text for piece in pieces)})


def find_requests(error: BaseException | None) -> list[str]:
    """Return the frames of this package with the request as a variable: error trackers show its headers."""
    found: list[str] = []
    while error is not None:
        for frame, _ in walk_tb(error.__traceback__):
            if "/fastapi_logto/" in frame.f_code.co_filename:
                values = frame.f_locals.items()
                found += [f"{name} in {frame.f_code.co_qualname}" for name, one in values if is_request(one)]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return found


def is_request(value: object) -> bool:
    return isinstance(value, HTTPConnection)


def unreachable(_request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("down")


def surprising(request: httpx.Request) -> httpx.Response:
    if request.url.path.endswith("/openid-configuration"):
        return httpx.Response(200, json=DISCOVERY)
    raise RuntimeError("a surprise of the transport")


def garbled(request: httpx.Request) -> httpx.Response:
    if request.url.path.endswith("/openid-configuration"):
        return httpx.Response(200, json=DISCOVERY)
    return httpx.Response(200, content=b"[" * 10_000)


def refusing(request: httpx.Request) -> httpx.Response:
    if request.url.path.endswith("/openid-configuration"):
        return httpx.Response(200, json=DISCOVERY)
    if request.url.path.endswith("/jwks"):
        return httpx.Response(200, json=ISSUER.jwks())
    # A provider that repeats the request.
    said = request.content.decode() + request.headers.get("authorization", "")
    return httpx.Response(400, json={"error": "invalid_grant", "error_description": said})


PROVIDERS: Mapping[str, Callable[[httpx.Request], httpx.Response]] = {
    "unreachable": unreachable,
    "surprising": surprising,
    "garbled": garbled,
    "refusing": refusing,
}


@dataclass(frozen=True, slots=True)
class Subject:
    """A function that uses a provider."""

    auth: LogtoAuth
    several: LogtoAuth
    client: LogtoClient


CALLS: Mapping[str, Callable[[Subject], Awaitable[object]]] = {
    "a JWT": lambda one: one.auth.verify(TOKEN),
    "a JWT, several tenants": lambda one: one.several.verify(TOKEN),
    "an opaque token": lambda one: one.auth.verify(OPAQUE),
    "a machine token": lambda one: one.client.get_token(API),
    "an exchange": lambda one: one.client.exchange_token(
        PERSONAL, API, subject_token_type="personal_access_token", actor_token=ACTOR
    ),
    "an exchange of a JWT": lambda one: one.client.exchange_token(TOKEN, API),
    "a subject token": lambda one: one.client.create_subject_token("alice", resource=API),
    "a profile": lambda one: one.client.get_userinfo(OPAQUE),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
async def test_no_frame_of_an_error_shows_a_token_or_a_secret(
    call: Callable[[Subject], Awaitable[object]], provider: Callable[[httpx.Request], httpx.Response]
) -> None:
    transport = httpx.MockTransport(provider)
    opaque = Introspection(client_id="i", client_secret=SECRET, allowed_clients=["a"])
    subject = Subject(
        auth=LogtoAuth(endpoint=ENDPOINT, audience=API, http_transport=transport, introspection=opaque),
        several=LogtoAuth(
            settings=[LogtoSettings(endpoint=endpoint, audience=API) for endpoint in (ENDPOINT, "https://b.example")],
            http_transport=transport,
        ),
        client=LogtoClient(endpoint=ENDPOINT, client_id="m", client_secret=SECRET, http_transport=transport),
    )
    (outcome,) = await asyncio.gather(call(subject), return_exceptions=True)

    if isinstance(outcome, BaseException):
        assert find_leaks(outcome, TOKEN, OPAQUE, SECRET, PERSONAL, ACTOR) == []
    else:
        assert provider is refusing


REFUSED: Mapping[str, str] = {
    "a forged signature": ISSUER.bad_token("forged"),
    "an expired token": ISSUER.access_token(lifetime_seconds=-60),
    "another audience": ISSUER.access_token(audience="https://other.example"),
    "an ID token": ISSUER.id_token(),
    "an unknown key": LocalIssuer(endpoint=ENDPOINT).access_token(),
    "a claim of the wrong type": ISSUER.access_token(claims={"scope": 1}),
    "odd base64": TOKEN + "=",
    "an odd payload": TOKEN.replace(".", ".A", 1),
    "four parts": TOKEN + ".x",
    "a surrogate": TOKEN + "\ud800",
}


@pytest.mark.parametrize("token", REFUSED.values(), ids=REFUSED)
async def test_no_frame_of_a_refusal_shows_the_token(token: str) -> None:
    auth = LogtoAuth(endpoint=ENDPOINT, audience=API, http_transport=httpx.MockTransport(refusing))

    with pytest.raises(Exception, match=r"invalid_token") as caught:
        await auth.verify(token)

    signature = token.split(".")[2].rstrip("=\ud800")
    assert find_leaks(caught.value, token, signature) == []


class StrictClaims(TokenClaims):
    level: int


EMAIL = "alice@example.com"
REFUSED_CLAIMS: Mapping[str, dict[str, Any]] = {
    "another issuer": {"iss": "https://other.example/oidc"},
    "another audience": {"aud": "https://other.example"},
    "no audience": {"aud": []},
    "several audiences": {"aud": ["https://other.example", "https://another.example"]},
    "expired": {"exp": 1},
    "not valid yet": {"nbf": 99_999_999_999},
    "a missing claim": {"jti": None},
    "an empty subject": {"sub": " "},
    "a claim of the wrong type": {"scope": 1},
    "an odd actor": {"act": {"sub": EMAIL, "act": None}},
    "a bound token": {"cnf": {"jkt": EMAIL}},
    "another organization": {"aud": "urn:logto:organization:a", "organization_id": "b"},
}


@pytest.mark.parametrize("changed", REFUSED_CLAIMS.values(), ids=REFUSED_CLAIMS)
@pytest.mark.parametrize("model", [TokenClaims, StrictClaims])
async def test_no_frame_of_a_refusal_shows_other_claims(model: type[TokenClaims], changed: dict[str, Any]) -> None:
    auth = LogtoAuth(endpoint=ENDPOINT, audience=API, claims_model=model, http_transport=httpx.MockTransport(refusing))
    token = ISSUER.access_token(claims={"email": EMAIL, "profile": {"emails": [EMAIL]}, **changed})

    # The second time, the token may be cached.
    for _ in range(2):
        with pytest.raises(RefusalError) as caught:
            await auth.verify(token)

        assert find_leaks(caught.value, EMAIL) == []


# An opaque token needs no audience.
@pytest.mark.parametrize("changed", [one for one in REFUSED_CLAIMS.values() if one.get("aud") != []])
@pytest.mark.parametrize("model", [TokenClaims, StrictClaims])
async def test_no_frame_of_a_refused_opaque_token_shows_other_claims(
    model: type[TokenClaims], changed: dict[str, Any]
) -> None:
    claims = {**ACTIVE, "email": EMAIL, "profile": {"emails": [EMAIL]}, **changed}

    def introspect(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=DISCOVERY if request.method == "GET" else claims)

    auth = LogtoAuth(
        endpoint=ENDPOINT,
        audience=API,
        claims_model=model,
        introspection=Introspection(client_id="i", client_secret=SECRET, allowed_clients=["a"]),
        http_transport=httpx.MockTransport(introspect),
    )

    with pytest.raises(RefusalError) as caught:
        await auth.verify(OPAQUE)

    assert find_leaks(caught.value, EMAIL) == []


async def test_no_frame_shows_the_claims_that_an_opaque_token_had_before_it_was_revoked() -> None:
    documents = [{"active": False}, {**ACTIVE, "email": EMAIL}]

    def introspect(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=DISCOVERY if request.method == "GET" else documents.pop())

    clock = ManualClock()
    auth = LogtoAuth(
        endpoint=ENDPOINT,
        audience=API,
        introspection=Introspection(client_id="i", client_secret=SECRET, allowed_clients=["a"]),
        http_transport=httpx.MockTransport(introspect),
        clock=clock,
    )
    await auth.verify(OPAQUE)
    clock.advance(3600)

    with pytest.raises(RefusalError, match="inactive") as caught:
        await auth.verify(OPAQUE)

    assert find_leaks(caught.value, EMAIL) == []


async def test_no_frame_of_a_refusal_shows_a_payload_that_could_not_be_read() -> None:
    auth = LogtoAuth(endpoint=ENDPOINT, audience=API, http_transport=httpx.MockTransport(refusing))

    with pytest.raises(RefusalError) as caught:
        await auth.verify(ISSUER.sign(b'{"email": "alice@example.com", "email": ""}'))

    assert caught.value.reason == "malformed"
    assert find_leaks(caught.value, "alice@example.com") == []


REFUSED_LOGOUTS: Mapping[str, dict[str, Any]] = {
    "no subject": {"sub": None},
    "another issuer": {"iss": "https://other.example"},
    "another audience": {"aud": "another"},
    "no events": {"events": EMAIL},
    "a nonce": {"nonce": "n"},
    "an odd session": {"sid": 1},
    "an odd time": {"iat": "now"},
    "expired": {"exp": 1},
    "not issued yet": {"iat": 99_999_999_999},
}


@pytest.mark.parametrize("changed", REFUSED_LOGOUTS.values(), ids=REFUSED_LOGOUTS)
async def test_no_frame_of_a_refused_logout_shows_its_claims(changed: dict[str, Any]) -> None:
    revocations = Revocations()
    auth = LogtoAuth(
        endpoint=ENDPOINT, audience=API, revocations=revocations, http_transport=httpx.MockTransport(refusing)
    )
    token = ISSUER.logout_token(subject="alice", client_id="spa", claims={"email": EMAIL, **changed})
    await auth.verify(TOKEN)

    with pytest.raises(RefusalError) as caught:
        await find_feeds(revocations).verifiers.verify_logout(SecretStr(token), client_ids={"spa"}, now=time())

    assert caught.value.claim in changed
    assert find_leaks(caught.value, EMAIL) == []


def test_no_frame_of_an_invalid_variable_shows_other_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(f"DATABASE_PASSWORD={SECRET}\nLOGTO_AUDIENCE='\"quoted\"'\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="without quotes") as of_the_file:
        LogtoSettings.from_environment(env_file=file)
    monkeypatch.setenv("DATABASE_PASSWORD", SECRET)
    monkeypatch.setenv("LOGTO_AUDIENCE", '"quoted"')
    with pytest.raises(SettingsError, match="without quotes") as of_the_environment:
        LogtoSettings.from_environment()

    assert find_leaks(of_the_file.value, SECRET) == []
    assert find_leaks(of_the_environment.value, SECRET) == []


def test_no_frame_of_an_error_shows_the_body_of_a_webhook_that_is_no_json() -> None:
    with pytest.raises(EventError) as caught:
        parse_event(b'{"email": "alice@example.com"')

    assert find_leaks(caught.value, "alice@example.com") == []


@pytest.mark.parametrize(
    "members",
    [
        {"email": "alice@example.com"},
        {"event": "User.Deleted", "createdAt": "2027-01-15T08:00:00Z", "hookId": ["alice@example.com"]},
        {"event": ["alice@example.com"]},
        {"event": "User.Deleted", "createdAt": "alice@example.com"},
    ],
    ids=["no event", "no id", "another name", "another time"],
)
def test_no_frame_of_an_error_shows_the_members_of_what_is_no_event(members: dict[str, Any]) -> None:
    with pytest.raises(EventError) as built:
        build_event(members)
    with pytest.raises(EventError) as parsed:
        parse_event(json.dumps(members).encode())

    for caught in (built, parsed):
        assert find_leaks(caught.value, "alice@example.com") == []


HEADERS: Mapping[str, list[str]] = {
    "two headers": [f"Bearer {TOKEN}", f"Bearer {TOKEN}"],
    "another scheme": [f"Token {TOKEN}"],
    "three parts": [f"Bearer {TOKEN} x"],
    "no scheme": [TOKEN],
    "a line end": [f"Bearer {TOKEN}\n"],
}


@pytest.mark.parametrize("values", HEADERS.values(), ids=HEADERS)
def test_no_frame_of_a_refused_header_shows_the_token(values: list[str]) -> None:
    with pytest.raises(RefusalError) as caught:
        parse_authorization([value.encode() for value in values])

    assert find_leaks(caught.value, TOKEN) == []


CLIENT = LogtoClient(
    endpoint=ENDPOINT, client_id="m", client_secret="another secret", http_transport=httpx.MockTransport(refusing)
)
BYTES: Any = SECRET.encode()
PASSWORD_URL: Any = f"https://user:{SECRET}@tenant.example.test"
WRONG_TYPES: Mapping[str, Callable[[], object]] = {
    "settings": lambda: LogtoAuth(settings=PASSWORD_URL),
    "a list of settings": lambda: LogtoAuth(settings=[LogtoSettings(endpoint=ENDPOINT, audience=API), PASSWORD_URL]),
    "introspection": lambda: Introspection(client_id="i", client_secret=BYTES, allowed_clients=["a"]),
    "client": lambda: LogtoClient(endpoint=ENDPOINT, client_id="m", client_secret=BYTES),
    "delivery log": lambda: DeliveryLog(ENDPOINT, client_id="m", client_secret=BYTES, hook_id="hook00000001"),
    "webhooks": lambda: Revocations().webhooks(signing_key=BYTES),
    "store": lambda: RedisStore(BYTES),
    "exchange": lambda: asyncio.run(CLIENT.exchange_token(BYTES, API)),
    "actor": lambda: asyncio.run(CLIENT.exchange_token(TOKEN, API, actor_token=BYTES)),
    "profile": lambda: asyncio.run(CLIENT.get_userinfo(BYTES)),
}


@pytest.mark.parametrize("build", WRONG_TYPES.values(), ids=WRONG_TYPES)
def test_no_frame_shows_a_secret_that_was_passed_as_another_type(build: Callable[[], object]) -> None:
    with pytest.raises((TypeError, ValueError, GrantRefusedError)) as refused:
        build()

    assert find_leaks(refused.value, SECRET) == []


async def test_no_frame_of_a_refused_argument_shows_the_token_or_the_secret() -> None:
    encoded: Any = TOKEN.encode()
    with pytest.raises(RefusalError) as malformed:
        await LogtoAuth(endpoint=ENDPOINT, audience=API).require_scopes("a").verify(encoded)
    client = LogtoClient(endpoint=ENDPOINT, client_id="m", client_secret=SECRET)
    with pytest.raises(GrantRefusedError) as refused:
        await client.get_userinfo(f"{OPAQUE}\n")
    with pytest.raises(SettingsError) as unset:
        LogtoClient(endpoint="no URL", client_id="m", client_secret=SECRET)
    url = f"https://api:{SECRET}@tenant.example.test"
    with pytest.raises(SettingsError) as limited:
        LogtoClient(endpoint=url, client_id="m", client_secret="s", max_waiting=0)
    with pytest.raises(SettingsError) as paced:
        DeliveryLog(url, hook_id="h" * 21, client_id="m", client_secret="s", interval_seconds=-1)
    assert find_leaks(limited.value, SECRET) == find_leaks(paced.value, SECRET) == []

    assert (
        find_leaks(refused.value, OPAQUE) == find_leaks(unset.value, SECRET) == find_leaks(malformed.value, TOKEN) == []
    )


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
async def test_no_frame_of_a_failed_request_to_the_management_api_shows_its_token(
    provider: Callable[[httpx.Request], httpx.Response],
) -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/subject-tokens":
            return provider(request)
        issued = {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600}
        return httpx.Response(200, json=DISCOVERY if request.method == "GET" else issued)

    transport = httpx.MockTransport(respond)
    client = LogtoClient(endpoint=ENDPOINT, client_id="m", client_secret=SECRET, http_transport=transport)
    with pytest.raises(GrantError) as caught:
        await client.create_subject_token("alice", resource=API)

    assert find_leaks(caught.value, TOKEN, SECRET) == []


@pytest.mark.parametrize(
    ("auth", "form", "status"),
    [
        (
            LogtoAuth(endpoint=ENDPOINT, audience=API, http_transport=httpx.MockTransport(unreachable)),
            "Bearer {}",
            503,
        ),
        # The header is read before the settings.
        (LogtoAuth(), "Bearer {} x", 401),
        (ISSUER.auth(audience=ISSUER.audience).require_scopes("none"), "Bearer {}", 403),
        (ISSUER.auth(audience=ISSUER.audience).require_machine(), "Bearer {}", 403),
    ],
    ids=["no keys", "no settings", "no scope", "no machine"],
)
async def test_no_frame_of_a_refused_request_shows_the_token(auth: Any, form: str, status: int) -> None:
    app = FastAPI()
    seen: list[HTTPException] = []

    @app.exception_handler(HTTPException)
    async def record(_request: Request, error: HTTPException) -> Response:
        seen.append(error)
        return Response(status_code=error.status_code)

    @app.get("/")
    async def read(claims: Annotated[TokenClaims, Depends(auth)]) -> str:
        return claims.sub

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as http:
        response = await http.get("/", headers={"Authorization": form.format(TOKEN)})

    assert response.status_code == status
    assert find_leaks(seen[0], TOKEN) == []
    assert find_requests(seen[0]) == []


@pytest.mark.parametrize("is_optional", [False, True], ids=["required", "optional"])
def test_no_frame_of_missing_settings_holds_the_request(*, is_optional: bool) -> None:
    auth = LogtoAuth()
    app = FastAPI()

    @app.websocket("/")
    async def read(_claims: Annotated[object, Depends(auth.optional if is_optional else auth)]) -> None: ...

    with (
        pytest.raises(SettingsError) as caught,
        TestClient(app).websocket_connect("/", subprotocols=["bearer", TOKEN]),
    ):
        pass

    assert find_leaks(caught.value, TOKEN) == []
    assert find_requests(caught.value) == []


def test_an_error_of_a_mounted_application_shows_no_token() -> None:
    async def fail(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise OSError("disk full")

    app = FastAPI()
    mount_protected(app, path="/files", mounted=fail, requires=ISSUER.auth(audience=ISSUER.audience))
    client = TestClient(app, headers=bearer(TOKEN))

    with pytest.raises(OSError, match="disk full") as http:
        client.get("/files")
    with pytest.raises(OSError, match="disk full") as socket, client.websocket_connect("/files"):
        pass
    assert (find_leaks(http.value, TOKEN), find_leaks(socket.value, TOKEN)) == ([], [])


class FailingAtOnce:
    """A middleware that is a plain function, as ASGI allows, and raises before it returns an awaitable."""

    def __init__(self, app: ASGIApp) -> None:
        del app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        del scope, receive, send
        raise OSError("failed at once")


def test_no_frame_of_an_application_that_fails_at_once_shows_the_headers() -> None:
    app = FastAPI()
    app.add_middleware(FailingAtOnce)
    LogtoAuth(endpoint=ENDPOINT, audience=API).install(app)

    with pytest.raises(OSError, match="failed at once") as caught:
        TestClient(app).get("/", headers=bearer(TOKEN))

    ours = [frame for frame, _ in walk_tb(caught.value.__traceback__) if "metadata_pages" in frame.f_code.co_filename]
    assert len(ours) == 1
    assert "scope" not in ours[0].f_locals
