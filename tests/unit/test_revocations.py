"""`Revocations` in an application: refused tokens, and valid arguments."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import pytest
from fastapi import Depends, FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from fastapi_logto import LogtoAuth, LogtoSettings, SettingsError, TokenClaims
from fastapi_logto.errors import ProviderUnavailableError, RevokedTokenError
from fastapi_logto.introspection import Introspection
from fastapi_logto.revocation import Revocation, RevocationHealth, Revocations, RevocationStoreError, parse_event
from fastapi_logto.revocation.revocations import find_feeds
from fastapi_logto.testing import LocalIssuer, ManualClock, bearer, override, revoke
from fastapi_logto.testing import claims as make_claims
from fastapi_logto.testing.issuer.connecting import build_transport
from fastapi_logto.verification.checks import MAX_ISSUED_AHEAD_SECONDS
from tests.unit.apps import API, sign_in
from tests.unit.deliveries import build_body
from tests.unit.fakes import wait_until
from tests.unit.recording import Point, Recording, start_recording
from tests.unit.stores import SharedStore

NOW = 1_800_000_000
SECRET = "local-machine-secret"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(now=NOW)


@pytest.fixture
def issuer(clock: ManualClock) -> LocalIssuer:
    return LocalIssuer(clock=clock)


@pytest.fixture
def revocations() -> Revocations:
    return Revocations()


@pytest.fixture
def auth(issuer: LocalIssuer, revocations: Revocations) -> LogtoAuth:
    return issuer.auth(revocations=revocations)


@pytest.fixture
def recording() -> Recording:
    return start_recording()


def build_client(auth: LogtoAuth) -> TestClient:
    app = FastAPI()

    @app.get("/me")
    async def me(claims: Annotated[TokenClaims, Depends(auth)]) -> str:
        return claims.user_id

    @app.get("/maybe")
    async def maybe(claims: Annotated[TokenClaims | None, Depends(auth.optional)]) -> str:
        return "nobody" if claims is None else claims.user_id

    @app.websocket("/echo")
    async def echo(websocket: WebSocket, claims: Annotated[TokenClaims, Depends(auth)]) -> None:
        await websocket.accept()
        async with auth.closing_at_expiry(websocket, claims):
            async for text in websocket.iter_text():
                await websocket.send_text(text)

    @app.get("/events")
    async def events(claims: Annotated[TokenClaims, Depends(auth)]) -> StreamingResponse:
        return StreamingResponse(auth.until_expiry(count(), claims))

    return TestClient(app)


async def count() -> AsyncGenerator[bytes]:
    yield b"begun"
    await asyncio.sleep(3600)
    yield b"ended"


def reason(client: TestClient, token: str, path: str = "/me") -> str:
    response = client.get(path, headers=bearer(token))
    return (
        "accepted" if response.status_code == 200 else f"{response.status_code} {response.json()['detail']['reason']}"
    )


def test_a_revoked_token_gets_401_also_if_it_was_cached(auth: LogtoAuth, issuer: LocalIssuer) -> None:
    client = build_client(auth)
    cached, new, other = (issuer.access_token(subject=name) for name in ("a", "a", "b"))
    assert reason(client, cached) == "accepted"

    revoke(auth, user_id="a")

    response = client.get("/me", headers=bearer(cached))
    assert response.status_code == 401
    assert response.json()["detail"] == {
        "code": "invalid_token",
        "reason": "revoked",
        "message": "The token was revoked; sign in again",
    }
    assert response.headers["WWW-Authenticate"] == (
        'Bearer error="invalid_token", error_description="The token was revoked; sign in again"'
    )
    assert reason(client, new) == "401 revoked"
    assert reason(client, new, "/maybe") == "401 revoked"
    assert reason(client, other) == "accepted"
    # A token in another form of the header is not cached in that form.
    assert client.get("/me", headers={"Authorization": f"bearer  {cached}"}).status_code == 401


def test_a_new_sign_in_after_the_revocation_is_accepted(
    auth: LogtoAuth, issuer: LocalIssuer, clock: ManualClock
) -> None:
    client = build_client(auth)
    revoke(client.app, user_id="a")
    assert reason(client, issuer.access_token(subject="a")) == "401 revoked"

    clock.advance(1)
    assert reason(client, issuer.access_token(subject="a")) == "accepted"


def test_an_expired_token_is_reported_as_expired(auth: LogtoAuth, issuer: LocalIssuer, clock: ManualClock) -> None:
    token = issuer.access_token(subject="a")
    revoke(auth, user_id="a")
    clock.advance(4000)

    assert reason(build_client(auth), token) == "401 expired"


async def test_verify_refuses_a_revoked_token(auth: LogtoAuth, issuer: LocalIssuer, revocations: Revocations) -> None:
    token = issuer.access_token(subject="a")
    assert (await auth.verify(token)).user_id == "a"

    await revocations.revoke(user_id="a")

    with pytest.raises(RevokedTokenError):
        await auth.verify(token)
    with pytest.raises(RevokedTokenError):
        await auth.require_user().verify(issuer.access_token(subject="a"))


async def test_an_introspected_token_is_refused_too(
    issuer: LocalIssuer, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    revocations = Revocations(longest_token_seconds=60)
    auth = LogtoAuth(
        endpoint=issuer.endpoint,
        audience=API,
        http_transport=build_transport(issuer.app),
        clock=clock,
        introspection=Introspection(client_id="local-machine", client_secret=SECRET, allowed_clients=["local-spa"]),
        revocations=revocations,
    )
    token = (await asyncio.to_thread(sign_in, issuer, scope="openid"))["access_token"]
    user_id = (await auth.verify(token)).user_id

    await revocations.revoke(user_id=user_id)

    with pytest.raises(RevokedTokenError):
        await auth.verify(token)
    assert "a token lives longer" in caplog.text


async def test_a_revocation_for_one_tenant_leaves_the_others_alone(clock: ManualClock) -> None:
    issuers = [LocalIssuer(endpoint=f"https://{name}.example.test", clock=clock) for name in "ab"]
    custom = "https://login.example.test/oidc"
    revocations = Revocations()
    transports = {issuer.endpoint: build_transport(issuer.app) for issuer in issuers}

    class Both(type(transports[issuers[0].endpoint])):  # type: ignore[misc]
        def __init__(self) -> None:
            pass

        async def handle_async_request(self, request: Any) -> Any:
            return await transports[f"https://{request.url.host}"].handle_async_request(request)

    auth = LogtoAuth(
        settings=[
            LogtoSettings(endpoint=issuer.endpoint, audience=API, issuers=[custom] if issuer is issuers[0] else [])
            for issuer in issuers
        ],
        clock=clock,
        http_transport=Both(),
        revocations=revocations,
    )
    a, b = (issuer.access_token(subject="same", audience=API) for issuer in issuers)
    of_domain = issuers[0].access_token(subject="same", audience=API, claims={"iss": custom})

    await revocations.revoke(user_id="same", issuer=f"{issuers[0].endpoint}/oidc")

    assert (await auth.verify(b)).user_id == "same"
    for token in (a, of_domain):
        with pytest.raises(RevokedTokenError):
            await auth.verify(token)

    # Also with the issuer of a custom domain.
    await revocations.revoke_all(issuer=custom)
    assert (await auth.verify(b)).user_id == "same"
    with pytest.raises(SettingsError, match="issuer: expected an issuer of the settings, found 'https://b"):
        await revocations.revoke(user_id="same", issuer=issuers[1].endpoint)
    await revocations.revoke_all()
    with pytest.raises(RevokedTokenError):
        await auth.verify(b)


def test_an_open_websocket_is_closed_when_its_token_is_revoked(auth: LogtoAuth, issuer: LocalIssuer) -> None:
    client = build_client(auth)
    with (
        client.websocket_connect("/echo", headers=bearer(issuer.access_token(subject="a"))) as mine,
        client.websocket_connect("/echo", headers=bearer(issuer.access_token(subject="b"))) as other,
    ):
        mine.send_text("hello")
        assert mine.receive_text() == "hello"

        revoke(auth, user_id="a")
        with pytest.raises(WebSocketDisconnect) as closed:
            mine.receive_text()
        other.send_text("still here")
        assert other.receive_text() == "still here"

    assert (closed.value.code, closed.value.reason) == (1008, "revoked")


async def test_an_open_stream_ends_when_its_token_is_revoked(auth: LogtoAuth, issuer: LocalIssuer) -> None:
    claims = await auth.verify(issuer.access_token(subject="a"))
    ended = list[str]()

    async def source() -> AsyncGenerator[bytes]:
        try:
            async for chunk in count():
                yield chunk
        finally:
            ended.append("source")

    async def consume(chunks: AsyncGenerator[bytes]) -> list[bytes]:
        return [chunk async for chunk in chunks]

    waiting = asyncio.ensure_future(consume(auth.until_expiry(source(), claims)))
    await asyncio.sleep(0)
    idle = auth.until_expiry(source(), claims)
    assert await anext(idle) == b"begun"

    revoke(auth, user_id="a")
    # Twice, because the function that ends a connection may be called again.
    revoke(auth, user_id="a", before=NOW + 1)

    assert await waiting == [b"begun"]
    await wait_until(lambda: ended == ["source", "source"])
    assert [chunk async for chunk in idle] == []
    assert [chunk async for chunk in auth.until_expiry(source(), claims)] == []


async def test_a_stream_that_takes_long_to_close_may_be_ended_twice(auth: LogtoAuth, issuer: LocalIssuer) -> None:
    claims = await auth.verify(issuer.access_token(subject="a"))
    begun, closing, may_close = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def source() -> AsyncGenerator[bytes]:
        try:
            begun.set()
            await asyncio.sleep(3600)
        finally:
            closing.set()
            await may_close.wait()
        yield b"never"

    waiting = asyncio.ensure_future(anext(auth.until_expiry(source(), claims), None))
    await begun.wait()
    revoke(auth, user_id="a")
    await closing.wait()
    revoke(auth, user_id="a", before=NOW + 1)
    await asyncio.sleep(0)
    may_close.set()

    assert await waiting is None


async def test_a_websocket_block_that_has_just_ended_is_left_alone(auth: LogtoAuth, issuer: LocalIssuer) -> None:
    claims = await auth.verify(issuer.access_token(subject="a"))
    websocket = WebSocket({"type": "websocket"}, receive=forbid, send=forbid)

    async with auth.closing_at_expiry(websocket, claims):
        # The end is scheduled, and the block ends before it runs.
        revoke(auth, user_id="a")
    await asyncio.sleep(0)


async def forbid(*_: object) -> Any:
    raise AssertionError("expected no message")


async def test_connections_of_overridden_claims_end_too(auth: LogtoAuth, revocations: Revocations) -> None:
    claims = make_claims(subject="a", issuer="https://unknown.example.test/oidc", issued_at=NOW)
    stream = auth.until_expiry(count(), claims)
    assert await anext(stream) == b"begun"

    await revocations.revoke(user_id="a")

    assert [chunk async for chunk in stream] == []


async def test_connections_without_settings_end_too(revocations: Revocations) -> None:
    auth = LogtoAuth(revocations=revocations)
    stream = auth.until_expiry(count(), make_claims(subject="a"))
    assert await anext(stream) == b"begun"

    await revocations.revoke(user_id="a")

    assert [chunk async for chunk in stream] == []


def test_a_revocation_does_not_apply_to_an_override_because_it_has_no_token(auth: LogtoAuth) -> None:
    client = build_client(auth)
    revoke(auth, user_id="a")

    with override(client.app, auth, make_claims(subject="a", issued_at=NOW - 10)):
        assert client.get("/me").status_code == 200


def test_a_revocation_inside_a_connected_block_is_dropped_at_its_end(clock: ManualClock) -> None:
    revocations = Revocations(SharedStore())
    auth = LogtoAuth(endpoint="https://tenant.example.test", audience=API, revocations=revocations)
    client, first, second = build_client(auth), LocalIssuer(clock=clock), LocalIssuer(clock=clock)
    with first.connect(auth):
        token = first.access_token(subject="a")
        revoke(auth, user_id="a")
        assert reason(client, token) == "401 revoked"
        with second.connect(client.app):
            assert reason(client, second.access_token(subject="a")) == "accepted"
        assert reason(client, token) == "401 revoked"
    with first.connect(auth):
        assert reason(client, token) == "accepted"
    assert revocations.health().count == 0


def test_a_scheme_without_revocations_says_how_to_get_them(issuer: LocalIssuer) -> None:
    with pytest.raises(ValueError, match="found one without; create it with revocations=Revocations"):
        revoke(issuer.auth(), user_id="a")


def test_a_store_is_loaded_at_start_and_left_at_the_end(issuer: LocalIssuer) -> None:
    store = SharedStore()
    revocations = Revocations(store)
    auth = issuer.auth(revocations=revocations)
    app = FastAPI()
    auth.install(app)

    @app.get("/me")
    async def me(claims: Annotated[TokenClaims, Depends(auth)]) -> str:
        return claims.user_id

    @app.post("/suspend")
    async def suspend() -> None:
        await revocations.revoke(user_id="a")

    with TestClient(app) as client:
        assert store.reads[0] is None
        assert auth.health().is_ready
        token = issuer.access_token(subject="a")
        assert reason(client, token) == "accepted"
        client.post("/suspend")
        assert reason(client, token) == "401 revoked"
    assert store.closed == 1
    assert [one.user_id for one in store.entries] == ["a"]


async def test_the_store_may_be_unavailable_for_thirty_seconds(issuer: LocalIssuer, clock: ManualClock) -> None:
    store = SharedStore()
    revocations = Revocations(store)
    issuer.auth(revocations=revocations)
    feed = find_feeds(revocations).current
    await feed.warm()
    store.error = "connection refused"

    clock.advance(30)
    assert revocations.health().is_ready
    clock.advance(0.5)
    assert not revocations.health().is_ready
    await feed.close()


def test_an_application_starts_without_its_store_and_responds_with_503(issuer: LocalIssuer) -> None:
    store = SharedStore()
    store.error = "connection refused"
    auth = issuer.auth(revocations=Revocations(store))
    app = FastAPI()
    auth.install(app)

    @app.get("/me")
    async def me(claims: Annotated[TokenClaims, Depends(auth)]) -> str:
        return claims.user_id

    with TestClient(app) as client:
        assert not auth.health().is_ready
        response = client.get("/me", headers=bearer(issuer.access_token()))
        assert response.status_code == 503
        assert (
            response.json()["detail"]["message"]
            == "It can't be checked now whether the token was revoked; try again later"
        )
        # Invalid tokens and requests without a token get their own response.
        assert reason(client, issuer.bad_token("expired")) == "401 expired"
        assert client.get("/me").status_code == 401


async def test_a_first_request_without_a_lifespan_loads_the_store(issuer: LocalIssuer) -> None:
    store = SharedStore()
    store.entries.append(Revocation(before=NOW, user_id="a"))
    auth = issuer.auth(revocations=Revocations(store))

    with pytest.raises(RevokedTokenError):
        await auth.verify(issuer.access_token(subject="a"))


async def test_new_tokens_read_nothing_from_a_store_that_is_followed(issuer: LocalIssuer) -> None:
    store = SharedStore()
    revocations = Revocations(store)
    auth = issuer.auth(revocations=revocations)
    await auth.verify(issuer.access_token(subject="a"))
    # The first read, and the one that waits for the next revocation.
    await wait_until(lambda: len(store.reads) == 2)

    for subject in ("b", "c", "d"):
        await auth.verify(issuer.access_token(subject=subject))

    assert len(store.reads) == 2
    await find_feeds(revocations).current.close()


async def test_a_store_that_fails_does_not_prevent_the_revocation_here(
    issuer: LocalIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    store = SharedStore()
    revocations = Revocations(store, on_outage="open")
    auth = issuer.auth(revocations=revocations)
    token = issuer.access_token(subject="a")
    await auth.verify(token)
    store.error = "out of memory"

    with pytest.raises(RevocationStoreError, match="out of memory"):
        await revocations.revoke(user_id="a")

    with pytest.raises(RevokedTokenError):
        await auth.verify(token)
    assert caplog.messages == [
        "the store of revocations is unavailable: out of memory",
        "revocations of the source call are in effect in this process only",
    ]


@pytest.mark.usefixtures("auth")
async def test_revocations_are_counted_and_logged_by_their_source(
    revocations: Revocations, caplog: pytest.LogCaptureFixture, recording: Recording
) -> None:
    caplog.set_level(logging.INFO, logger="fastapi_logto")
    deleted, suspended = (
        parse_event(build_body("User.Deleted", data={"id": "b"})),
        parse_event(build_body("User.SuspensionStatus.Updated", data={"id": "c", "isSuspended": True})),
    )

    await revocations.revoke(user_id="a")
    await revocations.revoke_all()
    await revocations.handle(deleted)
    await revocations.handle(suspended, source="log")

    assert caplog.messages == [
        f"1 revocations of the source {source} are in effect" for source in ("call", "call", "webhook", "log")
    ]
    assert recording.read()["fastapi_logto.revocations"] == [
        Point(2, {"fastapi_logto.source": "call"}),
        Point(1, {"fastapi_logto.source": "log"}),
        Point(1, {"fastapi_logto.source": "webhook"}),
    ]


async def test_the_log_counts_revocations_and_contains_no_user_id(
    revocations: Revocations, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="fastapi_logto")

    await revocations.revoke(user_id="alice")
    await revocations.revoke(user_id="alice", before=time.time() - 60)

    assert caplog.messages == ["1 revocations of the source call are in effect"]


@pytest.mark.parametrize(
    ("before", "expected"),
    [(NOW, NOW), (NOW + 0.5, NOW + 0.5), (datetime.fromtimestamp(NOW, UTC), NOW), (None, NOW)],
)
async def test_a_time_is_seconds_a_datetime_or_now(
    auth: LogtoAuth, revocations: Revocations, issuer: LocalIssuer, before: Any, expected: float
) -> None:
    await revocations.revoke(user_id="a", before=before)

    for issued_at, accepted in ((int(expected), False), (int(expected) + 1, True)):
        token = issuer.access_token(subject="a", claims={"iat": issued_at})
        if accepted:
            assert (await auth.verify(token)).user_id == "a"
        else:
            with pytest.raises(RevokedTokenError):
                await auth.verify(token)


@pytest.mark.parametrize(
    "values",
    [
        {"user_id": "u"},
        {"organization_id": "o"},
        {"client_id": "c"},
        {"token_id": "t" * 2048},
        {"user_id": "u", "organization_id": "o", "client_id": "c", "token_id": "t"},
    ],
    ids=" ".join,
)
async def test_a_revocation_has_all_the_values_that_were_given(values: dict[str, Any], issuer: LocalIssuer) -> None:
    store = SharedStore()
    revocations = Revocations(store)
    issuer.auth(revocations=revocations)

    await revocations.revoke(**values)

    assert store.entries == [Revocation(before=NOW, **values)]


async def test_an_issuer_that_no_settings_confirm_yet_limits_a_revocation() -> None:
    store = SharedStore()

    await Revocations(store).revoke(user_id="u", issuer="https://a.example.com/oidc")

    assert [(one.user_id, one.issuer) for one in store.entries] == [("u", "https://a.example.com/oidc")]


@pytest.mark.parametrize("seconds", [1, 366 * 24 * 3600])
def test_times_from_a_second_to_a_year_are_accepted(seconds: float) -> None:
    assert Revocations(outage_seconds=seconds, longest_token_seconds=seconds).health().is_ready


@pytest.mark.usefixtures("auth")
async def test_a_time_may_be_as_far_ahead_as_that_of_a_token(revocations: Revocations) -> None:
    await revocations.revoke(user_id="a", before=NOW + MAX_ISSUED_AHEAD_SECONDS)
    with pytest.raises(ValueError, match="not in the future"):
        await revocations.revoke(user_id="b", before=NOW + MAX_ISSUED_AHEAD_SECONDS + 0.5)

    assert revocations.health().count == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "expected a user_id, organization_id, client_id or token_id, found none"),
        ({"user_id": None, "issuer": "https://a.test/oidc"}, "to revoke all tokens, call revoke_all"),
        ({"user_id": ""}, "user_id: expected a text that is not empty"),
        ({"user_id": "\ud800"}, "user_id: expected a text that is not empty"),
        ({"organization_id": "  "}, "organization_id: expected a text"),
        ({"client_id": 7}, "client_id: expected a text"),
        ({"token_id": "x" * 2049}, "token_id: expected a text"),
        ({"user_id": "a", "issuer": ""}, "issuer: expected a text"),
        ({"user_id": "a", "before": datetime(2027, 1, 1)}, "a datetime with a time zone"),  # noqa: DTZ001
        ({"user_id": "a", "before": True}, "before: expected seconds since the epoch"),
        ({"user_id": "a", "before": float("nan")}, "before: expected seconds since the epoch"),
        ({"user_id": "a", "before": float("inf")}, "before: expected seconds since the epoch"),
        ({"user_id": "a", "before": "2024"}, "before: expected seconds since the epoch, found '2024'"),
        ({"user_id": "a", "before": 10**400}, "that are not in the future"),
        ({"user_id": "a", "before": time.time() * 1000}, "milliseconds must be divided by 1000"),
    ],
)
async def test_invalid_arguments_revoke_nothing(
    revocations: Revocations, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        await revocations.revoke(**arguments)

    assert revocations.health() == RevocationHealth(
        is_ready=True, is_stale=False, count=0, age_seconds=None, waiting_count=0, last_error=None
    )


async def test_everything_can_be_revoked_only_by_its_own_method(revocations: Revocations) -> None:
    with pytest.raises(ValueError, match="issuer: expected a text"):
        await revocations.revoke_all(issuer="")

    await revocations.revoke_all(issuer="https://a.test/oidc")
    assert revocations.health().count == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_outage": "ignore"}, "on_outage: expected 'closed' or 'open', found 'ignore'"),
        ({"outage_seconds": 0}, "outage_seconds: expected 1 to 31622400 seconds, found 0"),
        ({"outage_seconds": float("nan")}, "outage_seconds: expected"),
        ({"longest_token_seconds": True}, "longest_token_seconds: expected"),
        ({"longest_token_seconds": 1e12}, "longest_token_seconds: expected"),
        ({"outage_seconds": "30"}, "outage_seconds: expected"),
    ],
)
def test_invalid_options_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Revocations(**options)


def test_a_url_in_place_of_a_store_is_an_error_that_does_not_show_it() -> None:
    with pytest.raises(TypeError, match=r"store: expected a store, found a text; pass RedisStore\(url\)"):
        Revocations("redis://user:hidden@host/0")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def test_another_object_is_not_taken_for_revocations() -> None:
    with pytest.raises(TypeError, match="revocations: expected a Revocations, found a SharedStore"):
        LogtoAuth(endpoint="https://a.test", audience=API, revocations=SharedStore())  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


async def test_the_first_scheme_decides_about_the_clock(clock: ManualClock) -> None:
    revocations = Revocations()
    for its in (clock, ManualClock(now=NOW + 1000)):
        LogtoAuth(endpoint="https://a.test", audience=API, revocations=revocations, clock=its)
    issuer = LocalIssuer(clock=clock)
    auth = issuer.auth(revocations=revocations)

    await revocations.revoke(user_id="a")

    assert (await auth.verify(issuer.access_token(subject="a", claims={"iat": NOW + 1}))).user_id == "a"


def test_an_outage_of_the_store_is_ignored_inside_a_connected_block(issuer: LocalIssuer) -> None:
    store = SharedStore()
    store.error = "connection refused"
    auth = LogtoAuth(endpoint="https://tenant.example.test", audience=API, revocations=Revocations(store))
    with issuer.connect(auth):
        assert reason(build_client(auth), issuer.access_token(subject="a")) == "accepted"


def test_a_long_lived_token_is_reported_once(issuer: LocalIssuer, caplog: pytest.LogCaptureFixture) -> None:
    auth = issuer.auth(revocations=Revocations(longest_token_seconds=3599))
    client = build_client(auth)
    for _ in range(2):
        assert reason(client, issuer.access_token(subject="a")) == "accepted"

    reported = [message for message in caplog.messages if "lives longer" in message]
    assert len(reported) == 1
    assert "3599 s" in reported[0]
    assert "set longest_token_seconds of Revocations to the longest token expiration in Logto" in reported[0]


async def test_a_custom_domain_of_settings_that_nothing_has_read_yet_is_known(
    issuer: LocalIssuer, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    custom = "https://login.example.test/oidc"
    for name, value in {"ENDPOINT": issuer.endpoint, "AUDIENCE": API, "ISSUERS": custom}.items():
        monkeypatch.setenv(f"LOGTO_{name}", value)
    revocations = Revocations()
    auth = LogtoAuth(revocations=revocations, clock=clock, http_transport=build_transport(issuer.app))

    await revocations.revoke(user_id="a", issuer=custom)

    for claims in ({}, {"iss": custom}):
        with pytest.raises(RevokedTokenError):
            await auth.verify(issuer.access_token(subject="a", audience=API, claims=claims))


async def test_an_id_that_the_application_s_model_has_converted_is_compared_too(issuer: LocalIssuer) -> None:
    class Converted(TokenClaims):
        jti: UUID  # type: ignore[assignment] # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues] - as applications may do

    revocations = Revocations()
    auth = issuer.auth(claims_model=Converted, revocations=revocations)
    token = issuer.access_token(claims={"jti": "0b5b54ad-7e07-4a0f-a0a0-6d3a3f0e9a55"})
    assert isinstance((await auth.verify(token)).jti, UUID)

    await revocations.revoke(token_id="0b5b54ad-7e07-4a0f-a0a0-6d3a3f0e9a55")

    with pytest.raises(RevokedTokenError):
        await auth.verify(token)


async def test_a_token_with_times_too_large_for_a_float_is_no_error(auth: LogtoAuth, issuer: LocalIssuer) -> None:
    for times in ({"exp": 10**400, "iat": NOW - 0.5}, {"exp": 10**400, "iat": -(10**400)}):
        assert (await auth.verify(issuer.access_token(subject="a", claims=times))).user_id == "a"


async def test_a_store_outage_is_checked_after_the_token(issuer: LocalIssuer) -> None:
    store = SharedStore()
    store.error = "connection refused"
    auth = issuer.auth(revocations=Revocations(store))

    with pytest.raises(ProviderUnavailableError) as refused:
        await auth.verify(issuer.access_token())

    assert refused.value.retry_after_seconds <= 2
