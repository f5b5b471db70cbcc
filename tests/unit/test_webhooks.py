"""The route that receives webhooks: which deliveries take effect, and the error of each other one."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from threading import get_ident
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message

from fastapi_logto import LogtoAuth, LogtoSettings, SettingsError, TokenClaims, mount_protected
from fastapi_logto.cli.route_table import list_routes
from fastapi_logto.revocation import Event, Revocations, RevocationStoreError, UserEvent, parse_event, webhooks
from fastapi_logto.revocation.events import EVENT_NAMES
from fastapi_logto.testing import LocalIssuer, ManualClock, assert_protected, bearer, routes
from fastapi_logto.testing.issuer.hooks import HOOK_EVENTS
from tests.unit.apps import API
from tests.unit.deliveries import DELIVERIES, NOW, SIGNATURE, SIGNING_KEY, Delivery, build_body, sign, sign_headers
from tests.unit.fakes import wait_until
from tests.unit.stores import SharedStore
from tests.unit.test_error_trackers import find_leaks

PATH = "/webhooks/logto"
LIMIT = 4 * 1024 * 1024


class Bench:
    """An application with a webhook route and a protected route."""

    def __init__(self, *, signing_key: Any = SIGNING_KEY, **options: Any) -> None:
        self.clock = ManualClock(now=NOW)
        self.issuer = LocalIssuer(clock=self.clock)
        self.revocations = Revocations(**options)
        self.auth = self.issuer.auth(revocations=self.revocations)
        self.app = FastAPI()
        self.app.include_router(self.revocations.webhooks(signing_key=signing_key))
        self.auth.install(self.app)

        @self.app.get("/me")
        async def me(claims: Annotated[TokenClaims, Depends(self.auth)]) -> str:
            return claims.user_id

        self.client = TestClient(self.app)

    def deliver(self, body: bytes, **headers: str) -> int:
        return self.client.post(PATH, content=body, headers={**sign_headers(body), **headers}).status_code

    def accepts(self, token: str) -> bool:
        response = self.client.get("/me", headers=bearer(token))
        assert response.status_code == 200 or response.json()["detail"]["reason"] == "revoked"
        return response.status_code == 200

    @property
    def count(self) -> int:
        return self.revocations.health().count


@pytest.fixture
def bench() -> Bench:
    return Bench()


def suspend(user_id: str, *, at: float = NOW, is_suspended: bool = True) -> bytes:
    user = {"id": user_id, "name": "Ann Example", "isSuspended": is_suspended}
    return build_body("User.SuspensionStatus.Updated", at=at, params={"userId": user_id}, data=user)


@pytest.mark.parametrize("delivery", DELIVERIES, ids=lambda one: one.id)
def test_a_captured_delivery_is_accepted_and_each_change_to_it_is_refused(delivery: Delivery) -> None:
    events: list[Event] = []

    async def note(event: Event) -> None:
        events.append(event)

    bench = Bench(signing_key=delivery.signing_key, on_event=note)

    def post(body: bytes, signature: str) -> int:
        return bench.client.post(PATH, content=body, headers={SIGNATURE: signature}).status_code

    assert post(delivery.body, delivery.signature) == 204
    assert events == [parse_event(delivery.body)]
    changed = delivery.signature[:-1] + ("0" if delivery.signature[-1] != "0" else "1")
    assert post(delivery.body, changed) == 401
    assert post(delivery.body, sign(delivery.body)) == 401
    assert post(delivery.body + b" ", delivery.signature) == 401
    assert post(delivery.body.replace(b'":', b'": ', 1), delivery.signature) == 401
    assert post(json.dumps(json.loads(delivery.body)).encode(), delivery.signature) == 401
    assert post(delivery.body[:-1], delivery.signature) == 401
    assert post(b"", delivery.signature) == 401
    assert len(events) == 1


HEADERS: dict[str, list[str]] = {
    "no signature": [],
    "an empty signature": [""],
    "two signatures": [sign(b"{}"), sign(b"{}")],
    "upper case": [sign(b"{}").upper()],
    "the prefix of others": [f"sha256={sign(b'{}')}"],
    "cut": [sign(b"{}")[:-1]],
    "longer": [sign(b"{}") + "0"],
    "no hexadecimal digits": ["z" * 64],
    "with spaces inside": [" ".join(sign(b"{}")[n : n + 2] for n in range(0, 64, 2))],
    "digits that are not ASCII": ["٣" * 64],
}


async def call(
    app: ASGIApp,
    chunks: Sequence[bytes],
    *,
    headers: Sequence[tuple[str, str]] = (),
    ends: bool = True,
    gate: asyncio.Event | None = None,
    path: str = PATH,
) -> tuple[int, int]:
    """Send a body in chunks; return the status and how many chunks were read."""
    sent: list[Message] = []
    read = 0

    async def receive() -> Message:
        nonlocal read
        if gate is not None and read == len(chunks) - 1:
            await gate.wait()
        if read == len(chunks):
            return {"type": "http.disconnect"}
        read += 1
        return {"type": "http.request", "body": chunks[read - 1], "more_body": read < len(chunks) or not ends}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode(), value.encode("utf-8")) for name, value in headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await app(scope, receive, send)
    return sent[0]["status"], read


@pytest.mark.parametrize("values", HEADERS.values(), ids=HEADERS)
async def test_without_one_signature_in_the_right_form_the_body_is_not_read(bench: Bench, values: list[str]) -> None:
    headers = [(SIGNATURE, value) for value in values]

    assert await call(bench.app, [b"{}"], headers=headers) == (401, 0)


def test_a_refusal_says_what_to_fix_and_shows_no_key(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fastapi_logto")
    body = suspend("alice")
    response = bench.client.post(PATH, content=body, headers=sign_headers(body, "another-key"))

    message = "expected a signature by the signing key of the webhook, found another; copy it from Logto"
    assert (response.status_code, response.json()) == (401, {"detail": message})
    assert response.headers["www-authenticate"] == SIGNATURE
    assert caplog.messages == [f"refused a webhook: {message}"]
    missing = bench.client.post(PATH, content=body).json()["detail"]
    assert missing == f"expected one header {SIGNATURE} with 64 hexadecimal digits, found none"
    two = bench.client.post(PATH, content=body, headers=[(SIGNATURE, "a"), (SIGNATURE, "b")])
    assert two.json()["detail"].endswith("found several")
    assert bench.client.get(PATH).status_code == 405


async def test_a_body_is_counted_while_it_arrives(bench: Bench) -> None:
    chunk = b" " * (3 * LIMIT // 8)
    claimed = [(SIGNATURE, sign(b"")), ("content-length", "10")]

    assert await call(bench.app, [chunk] * 10, headers=claimed) == (413, 3)


def test_a_body_as_large_as_allowed_takes_effect_and_a_larger_one_is_413(bench: Bench) -> None:
    body = suspend("alice")
    body += b" " * (LIMIT - len(body))

    assert bench.deliver(body) == 204
    assert bench.deliver(body + b" ") == 413
    assert bench.count == 1


@pytest.mark.parametrize(("size", "is_on_the_loop"), [(4096, True), (4097, False)])
async def test_only_a_short_body_is_parsed_on_the_event_loop(
    bench: Bench, size: int, *, is_on_the_loop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    def parse(body: bytes) -> Event:
        threads.append(get_ident())
        return parse_event(body)

    monkeypatch.setattr(webhooks, "parse_event", parse)
    body = suspend("alice").ljust(size)

    assert await call(bench.app, [body], headers=list(sign_headers(body).items())) == (204, 1)

    assert [thread == get_ident() for thread in threads] == [is_on_the_loop]


async def test_an_aborted_body_has_no_effect(bench: Bench) -> None:
    body = suspend("alice")
    signed = list(sign_headers(body).items())

    assert await call(bench.app, [body[:20], body[20:]], headers=signed, ends=False) == (400, 2)
    assert bench.count == 0
    assert await call(bench.app, [body[:20], body[20:], b""], headers=signed) == (204, 3)
    assert bench.count == 1


async def test_a_slow_body_delays_nobody_else(bench: Bench) -> None:
    gate, body = asyncio.Event(), suspend("alice")
    slow = asyncio.create_task(call(bench.app, [body, b""], headers=list(sign_headers(body).items()), gate=gate))
    await asyncio.sleep(0)

    other = suspend("bob")
    assert await call(bench.app, [other], headers=list(sign_headers(other).items())) == (204, 1)
    assert bench.count == 1
    gate.set()
    assert await slow == (204, 2)
    assert bench.count == 2


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[" * 10_000,
        b'{"event":"User.Deleted","event":"User.Created"}',
        build_body("User.Deleted", data={"id": 7}),
        build_body("User.Deleted", data={"id": "\ud800"}),
        b"\xff" + suspend("alice"),
    ],
)
def test_a_signed_body_that_is_no_event_is_400_and_a_warning(
    bench: Bench, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    response = bench.client.post(PATH, content=body, headers=sign_headers(body))

    assert response.status_code == 400
    # Another signature would not help.
    assert "www-authenticate" not in response.headers
    assert bench.count == 0
    (warning,) = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert warning.getMessage().startswith("a webhook with a valid signature has no effect: ")


@given(body=st.binary(max_size=64) | st.text(max_size=64).map(str.encode), signature=st.text(max_size=70))
def test_any_request_ends_in_a_response_that_is_no_500(body: bytes, signature: str) -> None:
    async def post() -> None:
        for value in (signature, sign(body), sign(body) + signature):
            status, _ = await call(SHARED.app, [body], headers=[(SIGNATURE, value)])
            assert status in ({400} if value == sign(body) else {400, 401})

    asyncio.run(post())


@given(
    document=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=10,
    ),
    name=st.sampled_from(["createdAt", "hookId", "data", "params", "x"]),
)
def test_any_member_of_a_signed_event_ends_in_204_or_400(document: Any, name: str) -> None:
    members: dict[str, Any] = {"data": {"id": "u"}, name: document}
    body = build_body("User.SuspensionStatus.Updated", **members)

    async def post() -> None:
        status, _ = await call(SHARED.app, [body], headers=list(sign_headers(body).items()))
        assert status == (204 if is_event(body) else 400)

    asyncio.run(post())


def is_event(body: bytes) -> bool:
    try:
        parse_event(body)
    except ValueError:
        return False
    return True


SHARED = Bench()


def test_suspending_a_user_ends_the_tokens_of_that_user_only(bench: Bench) -> None:
    alice, bob = bench.issuer.access_token(subject="alice"), bench.issuer.access_token(subject="bob")
    acting = bench.issuer.access_token(subject="bob", actor="alice")
    assert all(map(bench.accepts, (alice, bob, acting)))

    assert bench.deliver(suspend("alice")) == 204

    assert [bench.accepts(token) for token in (alice, bob, acting)] == [False, True, False]


def test_reactivating_a_user_revokes_nothing_and_gives_no_old_token_back(bench: Bench) -> None:
    old = bench.issuer.access_token(subject="alice")
    bench.deliver(suspend("alice"))
    bench.clock.advance(60)

    assert bench.deliver(suspend("alice", at=NOW + 60, is_suspended=False)) == 204

    assert not bench.accepts(old)
    assert bench.accepts(bench.issuer.access_token(subject="alice"))


def test_a_user_who_is_suspended_again_loses_the_tokens_of_the_time_between(bench: Bench) -> None:
    bench.deliver(suspend("alice"))
    bench.clock.advance(60)
    between = bench.issuer.access_token(subject="alice")
    assert bench.accepts(between)
    bench.clock.advance(60)

    bench.deliver(suspend("alice", at=NOW + 120))

    assert not bench.accepts(between)
    bench.clock.advance(1)
    assert bench.accepts(bench.issuer.access_token(subject="alice"))


def test_a_token_of_the_same_second_is_refused(bench: Bench) -> None:
    token = bench.issuer.access_token(subject="alice")

    bench.deliver(suspend("alice", at=NOW + 0.25))

    assert not bench.accepts(token)


def test_a_replayed_a_late_and_an_old_delivery_affect_no_newer_token(bench: Bench) -> None:
    first, second = suspend("alice"), suspend("alice", at=NOW + 30)
    bench.deliver(first)
    bench.clock.advance(600)
    new = bench.issuer.access_token(subject="alice")

    # Again, in the wrong order, and again.
    assert [bench.deliver(body) for body in (first, second, first, first)] == [204] * 4

    assert bench.accepts(new)
    assert bench.count == 1


def test_an_event_older_than_any_token_is_not_kept(bench: Bench) -> None:
    assert bench.deliver(suspend("alice", at=NOW - 26 * 3600)) == 204
    assert bench.count == 0


def test_a_time_in_the_far_future_refuses_no_token_for_long(bench: Bench) -> None:
    bench.deliver(suspend("alice", at=NOW + 10_000_000))
    bench.clock.advance(61)

    assert bench.accepts(bench.issuer.access_token(subject="alice"))


def test_a_forged_delivery_has_no_effect(bench: Bench) -> None:
    token, body = bench.issuer.access_token(subject="alice"), suspend("alice")

    assert bench.deliver(body, **{SIGNATURE: sign(body, "guess")}) == 401
    assert bench.deliver(suspend("alice"), **{SIGNATURE: sign(suspend("bob"))}) == 401

    assert bench.accepts(token)


def test_a_removed_member_loses_all_tokens_and_a_deleted_organization_its_own(bench: Bench) -> None:
    plain = bench.issuer.access_token(subject="alice")
    member = bench.issuer.organization_token("globex", subject="bob")
    other = bench.issuer.access_token(subject="bob", organization_id="acme")
    inside = bench.issuer.access_token(subject="bob", organization_id="globex")

    bench.deliver(build_body("Organization.Membership.Updated", organizationId="acme", removedUserIds=["alice"]))
    bench.deliver(build_body("Organization.Deleted", params={"id": "globex"}))

    assert not bench.accepts(plain)
    assert bench.accepts(other)
    assert not bench.accepts(inside)
    assert bench.client.get("/me", headers=bearer(member)).status_code == 401


def test_a_change_of_a_role_ends_all_tokens_by_choice() -> None:
    body = build_body("Role.Scopes.Updated", params={"id": "r"}, data=[])
    name = "Role.Scopes.Updated"
    for bench, accepted in ((Bench(), True), (Bench(revoke_all_on={name}), False), (Bench(revoke_all_on=name), False)):
        token = bench.issuer.access_token()
        assert bench.deliver(body) == 204
        assert bench.accepts(token) is accepted


async def test_many_members_are_removed_in_turns_of_the_loop() -> None:
    bench = Bench(store=SharedStore(), on_outage="open")
    names = [f"u{number}" for number in range(4999)]
    event = parse_event(build_body("Organization.Membership.Updated", organizationId="o", removedUserIds=names))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await bench.revocations.handle(event)
    counting.cancel()

    assert bench.count == 4999
    assert turns >= 49


def test_a_long_delivery_is_verified_too(bench: Bench) -> None:
    names = [f"user{number:08}" for number in range(2000)]
    body = build_body("Organization.Membership.Updated", organizationId="o", removedUserIds=names)

    assert bench.deliver(body) == 204
    assert bench.deliver(body + b" ", **{SIGNATURE: sign(body)}) == 401
    assert bench.deliver(body + b"}") == 400
    assert bench.count == 2000


def test_without_the_store_it_is_503_and_the_user_is_refused_here() -> None:
    store = SharedStore()
    bench = Bench(store=store, on_outage="open")
    token = bench.issuer.access_token(subject="alice")
    store.error = "down"

    response = bench.client.post(PATH, content=suspend("alice"), headers=sign_headers(suspend("alice")))

    assert response.status_code == 503
    assert response.json()["detail"].startswith("the store of revocations is unavailable")
    assert not bench.accepts(token)
    assert bench.revocations.health().waiting_count == 1
    store.error = None
    assert bench.deliver(suspend("bob")) == 204
    assert {one.user_id for one in store.entries} == {"alice", "bob"}


def test_a_delivery_that_is_repeated_while_the_store_is_unavailable_is_stored_once() -> None:
    store = SharedStore()
    bench = Bench(store=store)
    store.error = "down"
    assert bench.deliver(suspend("alice")) == 503
    bench.deliver(suspend("alice"))
    store.error = None

    assert bench.deliver(suspend("bob")) == 204
    assert [one.user_id for one in store.entries] == ["alice", "bob"]


class CaptureEvents:
    """A function of the application, as an object."""

    def __init__(self, error: Exception | None = None) -> None:
        self.events: list[Event] = []
        self.error = error

    async def __call__(self, event: Event) -> None:
        self.events.append(event)
        if self.error is not None:
            raise self.error


def test_the_applications_function_gets_every_event_after_its_revocations() -> None:
    counts: list[tuple[str, int]] = []

    async def note(event: Event) -> None:
        counts.append((event.event, tested.count))

    tested = Bench(on_event=note)
    for body in (suspend("alice"), build_body("User.Created", data={"id": "bob"}), build_body("Future.Event")):
        assert tested.deliver(body) == 204

    assert counts == [("User.SuspensionStatus.Updated", 1), ("User.Created", 1), ("Future.Event", 1)]


async def test_an_error_of_the_applications_function_fails_the_delivery_and_prevents_no_revocation() -> None:
    bench = Bench(on_event=CaptureEvents(LookupError("no such customer")))
    body = suspend("alice")

    with pytest.raises(LookupError, match="no such customer") as caught:
        await call(bench.app, [body], headers=list(sign_headers(body).items()))

    assert bench.count == 1
    assert find_leaks(caught.value, SIGNING_KEY, "Ann Example") == []


def test_the_applications_function_chooses_the_response_of_a_failure() -> None:
    bench = Bench(on_event=CaptureEvents(HTTPException(503, "the billing system is unavailable")))

    assert bench.deliver(suspend("alice")) == 503
    assert bench.count == 1


async def test_the_applications_function_is_called_if_the_store_is_unavailable() -> None:
    store, capture = SharedStore(), CaptureEvents()
    store.error = "down"
    bench = Bench(store=store, on_event=capture)

    with pytest.raises(RevocationStoreError):
        await bench.revocations.handle(parse_event(suspend("alice")))

    assert [type(event) for event in capture.events] == [UserEvent]


def test_the_applications_function_must_be_async() -> None:
    def block(_event: Event) -> None: ...

    with pytest.raises(TypeError, match="on_event: expected an async function"):
        Revocations(on_event=block)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("names", [["Role.Gone"], "Role.Gone", ["Role.Deleted", "Role.Gone"]])
def test_all_tokens_are_revoked_on_known_events_only(names: Any) -> None:
    with pytest.raises(ValueError, match=r"revoke_all_on: expected names of events, found 'Role\.Gone'; choose from "):
        Revocations(revoke_all_on=names)


KEYS: dict[str, tuple[Any, str]] = {
    "empty": ("", "an empty one, or one with spaces around it"),
    "blank": ("  ", "an empty one, or one with spaces around it"),
    "with a newline": (f"{SIGNING_KEY}\n", "an empty one, or one with spaces around it"),
    "an empty secret": (SecretStr(""), "an empty one, or one with spaces around it"),
    "a blank one of several": ([SIGNING_KEY, " "], "an empty one, or one with spaces around it"),
    "that can't be encoded": (f"{SIGNING_KEY}\ud800", "an empty one, or one with spaces around it"),
    "missing": (None, "none"),
    "no key": ([], "none"),
    "bytes": (SIGNING_KEY.encode(), "none"),
    "one of several is missing": ([SIGNING_KEY, None], "another type"),
}


@pytest.mark.parametrize("name", KEYS)
def test_an_invalid_signing_key_is_an_error_that_does_not_show_it(name: str) -> None:
    key, found = KEYS[name]

    with pytest.raises(ValueError, match="signing_key") as caught:
        Revocations().webhooks(signing_key=key)

    assert f"expected the signing key of the webhook as a text, found {found}; copy it" in str(caught.value)
    assert find_leaks(caught.value, SIGNING_KEY) == []


def test_several_signing_keys_are_accepted_during_a_rotation() -> None:
    body = suspend("alice")
    for keys in (["old", SecretStr("new")], {"old", "new"}, ("new", "old")):
        bench = Bench(signing_key=keys)
        statuses = [bench.deliver(body, **sign_headers(body, key)) for key in ("old", "new", "other")]
        assert statuses == [204, 204, 401]


def test_no_signing_key_is_in_a_representation(bench: Bench) -> None:
    for route in routes(bench.app):
        endpoint: Any = route.endpoint
        assert SIGNING_KEY not in f"{route!r} {vars(getattr(endpoint, '__self__', object))!r}"


def build_tenants() -> tuple[Callable[..., FastAPI], LocalIssuer, LocalIssuer, Revocations, TestClient]:
    """Return an application of two tenants: how to add webhook routes to it, the tenants, and a client."""
    clock = ManualClock(now=NOW)
    a, b = (LocalIssuer(endpoint=f"https://{name}.example.com", clock=clock) for name in "ab")
    known = {f"{name}.example.com": issuer for name, issuer in (("a", a), ("b", b))}

    def answer(request: httpx.Request) -> httpx.Response:
        issuer = known[request.url.host]
        if request.url.path.endswith("/jwks"):
            return httpx.Response(200, json=issuer.jwks())
        return httpx.Response(200, json={"issuer": issuer.issuer, "jwks_uri": f"{issuer.endpoint}/oidc/jwks"})

    revocations = Revocations()
    settings = [
        LogtoSettings(endpoint=a.endpoint, audience=API, issuers=[a.issuer, "https://login.a.example.com/oidc"]),
        LogtoSettings(endpoint=b.endpoint, audience=API),
    ]
    auth = LogtoAuth(
        settings=settings, revocations=revocations, clock=clock, http_transport=httpx.MockTransport(answer)
    )
    app = FastAPI()

    @app.get("/me")
    async def me(claims: Annotated[TokenClaims, Depends(auth)]) -> str:
        return claims.user_id

    def add(**tenants: str | None) -> FastAPI:
        for name, issuer in tenants.items():
            app.include_router(revocations.webhooks(signing_key=f"key-{name}", path=f"/{name}", issuer=issuer))
        auth.install(app)
        return app

    return add, a, b, revocations, TestClient(app)


def test_an_event_of_one_tenant_leaves_the_tokens_of_another() -> None:
    add, a, b, _, client = build_tenants()
    add(a="https://login.a.example.com/oidc", b=b.issuer)
    of_a, of_b = a.access_token(subject="alice"), b.access_token(subject="alice")
    body = suspend("alice")

    # Each tenant has its own key.
    assert client.post("/b", content=body, headers=sign_headers(body, "key-a")).status_code == 401
    assert client.post("/a", content=body, headers=sign_headers(body, "key-a")).status_code == 204

    assert client.get("/me", headers=bearer(of_a)).json()["detail"]["reason"] == "revoked"
    assert client.get("/me", headers=bearer(of_b)).status_code == 200


@pytest.mark.parametrize(
    ("issuer", "message"),
    [
        (None, "/a: issuer: expected the tenant that sends these events, because this API accepts several, found none"),
        ("https://c/oidc", "/a: issuer: expected an issuer of the settings, found 'https://c/oidc'"),
    ],
)
def test_an_application_of_several_tenants_does_not_start_without_knowing_whose_events_these_are(
    issuer: str | None, message: str
) -> None:
    add, a, _, revocations, client = build_tenants()
    app = add(a=issuer)

    with pytest.raises(SettingsError) as caught, client:
        pass

    assert str(caught.value).startswith(message)
    assert f'issuer="{a.issuer}"' in str(caught.value)
    assert list_routes(app).problems[0].startswith(message)
    # Nor has a delivery an effect if nothing was checked at startup.
    with pytest.raises(SettingsError):
        client.post("/a", content=suspend("x"), headers=sign_headers(suspend("x"), "key-a"))
    assert revocations.health().count == 0


def test_in_a_test_one_connected_issuer_represents_every_tenant() -> None:
    add, a, b, _, client = build_tenants()
    app = add(a=a.issuer, b=b.issuer)
    issuer = LocalIssuer(clock=ManualClock(now=NOW))

    # Nor does the startup ask which tenant sends the events.
    with issuer.connect(app), TestClient(app):
        token = issuer.access_token(subject="alice")
        body = suspend("alice")
        assert client.get("/me", headers=bearer(token)).status_code == 200
        assert client.post("/b", content=body, headers=sign_headers(body, "key-b")).status_code == 204
        assert client.get("/me", headers=bearer(token)).json()["detail"]["reason"] == "revoked"


def test_two_auths_with_the_same_revocations_are_two_tenants() -> None:
    bench = Bench()
    LogtoAuth(endpoint="https://other.example.com", audience=API, revocations=bench.revocations)

    with pytest.raises(SettingsError, match="issuer: expected the tenant"), bench.client:
        pass


def test_an_auth_whose_settings_are_read_later_does_not_prevent_the_start(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGTO_ENDPOINT", bench.issuer.endpoint)
    monkeypatch.setenv("LOGTO_AUDIENCE", API)
    LogtoAuth(revocations=bench.revocations)

    with bench.client:
        assert bench.deliver(suspend("alice")) == 204

    assert bench.count == 1


def test_without_an_auth_the_events_only_go_to_the_store() -> None:
    store = SharedStore()
    revocations = Revocations(store)
    app = FastAPI()
    app.include_router(revocations.webhooks(signing_key=SIGNING_KEY, issuer="https://a/oidc"))

    now = suspend("alice", at=4_000_000_000)
    assert TestClient(app).post(PATH, content=now, headers=sign_headers(now)).status_code == 204

    assert [(one.user_id, one.issuer) for one in store.entries] == [("alice", "https://a/oidc")]


def test_an_application_whose_auth_does_not_check_the_revocations_does_not_start() -> None:
    app = FastAPI()
    app.include_router(Revocations().webhooks(signing_key=SIGNING_KEY))
    LocalIssuer().auth().install(app)

    with (
        pytest.raises(SettingsError, match=r"/webhooks/logto: revocations: expected a LogtoAuth that checks") as caught,
        TestClient(app),
    ):
        pass

    assert "pass LogtoAuth(revocations=...)" in str(caught.value)


@pytest.mark.parametrize("issuer", ["", " ", 7])
def test_an_issuer_must_be_a_text(issuer: Any) -> None:
    with pytest.raises(ValueError, match="issuer: expected a text that is not empty"):
        Revocations().webhooks(signing_key=SIGNING_KEY, issuer=issuer)


def test_the_route_needs_no_token_is_not_in_the_docs_and_counts_as_signed(bench: Bench) -> None:
    app = FastAPI(dependencies=[Depends(bench.auth)])
    app.include_router(bench.revocations.webhooks(signing_key=SIGNING_KEY, path="/hook"), prefix="/v1")
    inner = FastAPI()
    inner.include_router(bench.revocations.webhooks(signing_key=SIGNING_KEY))
    app.mount("/inner", inner)
    bench.auth.install(app)
    body = suspend("alice")

    with TestClient(app) as client:
        for path in ("/v1/hook", "/inner/webhooks/logto"):
            assert client.post(path, content=body, headers=sign_headers(body)).status_code == 204
            assert client.post(path, content=body).status_code == 401
        assert client.get("/openapi.json").json()["paths"] == {}
    assert_protected(app)
    signed = [route for route in routes(app) if route.is_signed]
    assert [(str(route), route.is_protected, route.is_hidden) for route in signed] == [
        ("POST /v1/hook", False, True),
        ("POST /inner/webhooks/logto", False, True),
    ]
    table = list_routes(app, fails_unprotected=True)
    assert [(row.path, row.token) for row in table.api_routes if row.token == "signature"] == [
        ("/v1/hook", "signature"),
        ("/inner/webhooks/logto", "signature"),
    ]
    assert (table.unprotected, table.exit_code) == (0, 0)


def test_below_mount_protected_it_is_an_error_because_logto_sends_no_token(bench: Bench) -> None:
    inner = FastAPI()
    inner.include_router(bench.revocations.webhooks(signing_key=SIGNING_KEY))
    mount_protected(bench.app, path="/inner", mounted=inner, requires=bench.auth)

    with (
        pytest.raises(SettingsError, match="/inner/webhooks/logto: expected a webhook outside mount_protected"),
        bench.client,
    ):
        pass


def test_what_an_administrator_does_at_the_local_issuer_takes_effect(bench: Bench) -> None:
    issuer = bench.issuer
    issuer.deliver_to(bench.app)
    issuer.add_hook(f"http://testserver{PATH}", signing_key=SIGNING_KEY)
    alice, bob = issuer.access_token(), issuer.access_token(subject="bob000000001")
    inside = issuer.access_token(subject="bob000000001", organization_id="acme")

    issuer.suspend("alice")
    issuer.delete_organization("acme")
    assert [bench.accepts(token) for token in (alice, bob, inside)] == [False, True, False]
    issuer.remove_from_organization("bob", organization_id="globex")
    assert not bench.accepts(bob)

    assert set(HOOK_EVENTS) < EVENT_NAMES
    for name in HOOK_EVENTS:
        issuer.emit(name, params=dict.fromkeys(["id", "userId", "resourceId", "scopeId"], "an-id"))
    assert {delivery.result for delivery in issuer.deliveries} == {"Success"}


async def test_open_connections_of_the_user_end(bench: Bench) -> None:
    ended: list[str] = []
    claims = await bench.auth.verify(bench.issuer.access_token(subject="alice"))

    async def stream() -> None:
        async for _ in bench.auth.until_expiry(forever(), claims):
            pass
        ended.append("alice")

    async def forever() -> AsyncGenerator[bytes]:
        while True:
            yield b""
            await asyncio.sleep(3600)

    task = asyncio.create_task(stream())
    await asyncio.sleep(0)
    body = suspend("alice")
    assert await call(bench.app, [body], headers=list(sign_headers(body).items())) == (204, 1)

    await wait_until(lambda: ended == ["alice"])
    await task
