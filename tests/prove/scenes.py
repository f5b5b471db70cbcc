"""Scenes that use secrets while all output is searched: verification, the client, and routes of an application."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from functools import partial
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

import httpx
from fastapi import Depends, FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from fastapi_logto import TokenClaims, mount_protected
from fastapi_logto.revocation import Revocations, parse_event
from fastapi_logto.testing import BAD_TOKENS, LocalIssuer
from fastapi_logto.testing.directory import MANAGEMENT_API
from tests.attack.provider import TLS
from tests.prove import expected
from tests.prove.bench import Bench
from tests.prove.leak_providers import MAKERS
from tests.prove.observing import Run, Scene
from tests.unit.deliveries import SIGNATURE, build_body, sign
from tests.unit.stores import SharedStore
from tests.vectors.authorization import AUTHORIZATION_ROWS
from tests.vectors.forge import API, ENDPOINT, NOW

_ALICE: Final = "alice0000001"
_LOGOUT: Final = "/webhooks/logto/logout"
_HOOK: Final = "/webhooks/logto"
_ASKED_AGAIN: Final = frozenset({"that works", "unreachable", "that fails"})
_PLACEHOLDER: Final = "eyJhbGciOiJFUzM4NCJ9.e30.c2ln"


def _list_calls(bench: Bench) -> Mapping[str, Callable[[], Awaitable[object]]]:
    auth, client = bench.auth, bench.client
    # Also with arguments that a type checker rejects.
    exchange: Any = client.exchange_token
    return {
        "verify": lambda: auth.verify(bench.token),
        "verify, several tenants": lambda: bench.several.verify(bench.token),
        "verify for scopes": lambda: auth.require_scopes("none").verify(bench.token),
        "verify for an organization": lambda: auth.require_organization().verify(bench.token, organization_id="x"),
        "verify an opaque token": lambda: auth.verify(bench.opaque),
        "verify a personal access token": lambda: auth.verify(bench.personal),
        "a machine token": lambda: client.get_token(API),
        "an organization token": lambda: client.get_organization_token("acme"),
        "an organization token of a stranger": lambda: client.get_organization_token("globex"),
        "an exchange": lambda: client.exchange_token(bench.token, API),
        "an exchange of an opaque token": lambda: client.exchange_token(bench.opaque, API, scopes=["read:user"]),
        "an exchange of a personal access token": lambda: client.exchange_token(
            bench.personal, API, subject_token_type="personal_access_token"
        ),
        "an exchange with an actor": lambda: client.exchange_token(bench.one_time, API, actor_token=bench.opaque),
        "an exchange for nothing": partial(exchange, bench.token),
        "an exchange of an odd token": lambda: client.exchange_token(f"{bench.opaque}\n", API),
        "an exchange of a surrogate": lambda: client.exchange_token(f"{bench.opaque}\ud800", API, actor_token=" "),
        "a subject token": lambda: client.create_subject_token(_ALICE, resource=MANAGEMENT_API.indicator),
        "a subject token of nobody": lambda: client.create_subject_token("nobody", resource=MANAGEMENT_API.indicator),
        "userinfo": lambda: client.get_userinfo(bench.opaque),
        "userinfo of a signed token": lambda: client.get_userinfo(bench.token),
        "userinfo of an odd token": lambda: client.get_userinfo(f"{bench.opaque} "),
    }


async def _run_calls(run: Run) -> None:
    """Make every call of `auth.verify` and of the client, with every provider."""
    for provider in MAKERS:
        if provider == "that is stuck":
            continue
        for name, call in _list_calls(Bench.create(run, provider)).items():
            what = name if provider == "that works" else f"a provider {provider}"
            await run.attempt(what, call(), detail=name)
            if provider in _ASKED_AGAIN:
                # From a cache, or while no request is sent to the provider.
                await run.attempt(what, call(), detail=f"{name} again")


async def _run_cancelled(run: Run) -> None:
    """Make the same calls, and cancel them while the provider does not respond, and after some turns of the loop."""
    for provider in ("that is stuck", "that works"):
        for turns in (1, 2, 3, 5, 8, 13, 40):
            for name, call in _list_calls(Bench.create(run, provider)).items():
                await run.cancel(name, call, turns=turns)
                if provider == "that works":
                    await run.attempt(f"{name}, afterwards", call())


async def _run_tokens(run: Run) -> None:
    """Pass tokens of every kind to `auth.verify`: whole, changed and as another type."""
    bench = Bench.create(run)
    tokens: list[Any] = [bench.issuer.bad_token(kind) for kind in BAD_TOKENS]
    tokens += [bench.issuer.id_token(), bench.issuer.logout_token(), bench.issuer.machine_token()]
    tokens += [LocalIssuer(endpoint=ENDPOINT).access_token(), bench.issuer.access_token(claims={"scope": 1})]
    for change in ("{0}=", "{0}.x", "{0}\n", "{0}\ud800", " {0}", "Bearer {0}", '{{"token": "{0}"}}', "{0}" * 60):
        tokens.append(change.format(bench.token))
    # A signed token with another token as its payload.
    ring: Any = bench.issuer
    tokens.append(ring._keys.current.sign({"alg": "ES384", "typ": "at+jwt"}, bench.token.encode()))
    for token in tokens:
        run.canaries.add_token("a token", token)
    tokens += [bench.token.encode(), [bench.token], None]
    for token in tokens:
        for auth in (bench.auth, bench.several):
            await run.attempt("verify", auth.verify(token))
            await run.attempt("verify for scopes", auth.require_scopes("a").verify(token))


def build_app(bench: Bench) -> FastAPI:
    """Return an application with every kind of route."""
    auth = bench.auth
    app = FastAPI()
    auth.install(app)
    app.include_router(bench.revocations.webhooks(signing_key=bench.signing_key))
    app.include_router(bench.revocations.logout(client_ids=["local-spa"]))

    @app.get("/me")
    async def me(claims: Annotated[TokenClaims, Depends(auth)]) -> TokenClaims:
        return claims

    @app.get("/maybe")
    async def maybe(_claims: Annotated[TokenClaims | None, Depends(auth.optional)]) -> None:
        return None

    @app.get("/machine", dependencies=[Depends(auth.require_machine("admin"))])
    async def machine() -> None:
        return None

    @app.get("/failing", dependencies=[Depends(auth)])
    async def failing() -> None:
        raise OSError("disk full")

    @app.get("/own")
    async def own(request: Request) -> None:
        await auth.verify(request.headers["authorization"].partition(" ")[2])

    @app.get("/events")
    async def events(claims: Annotated[TokenClaims, Depends(auth)]) -> StreamingResponse:
        return StreamingResponse(auth.until_expiry(_tick(), claims))

    @app.websocket("/socket")
    async def socket(websocket: WebSocket, claims: Annotated[TokenClaims, Depends(auth)]) -> None:
        await websocket.accept()
        async with auth.closing_at_expiry(websocket, claims):
            async for text in websocket.iter_text():
                raise OSError(text)

    mount_protected(app, path="/files", mounted=_fail, requires=auth)
    return app


async def _tick() -> AsyncGenerator[bytes]:
    yield b"begun"
    await asyncio.Event().wait()


async def _fail(scope: Scope, _receive: Receive, send: Send) -> None:
    if scope["path"].endswith("/found"):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"found"})
        return
    raise OSError("disk full")


def _name_part(provider: str) -> str:
    return "" if provider == "that works" else ", at other providers"


async def _run_requests(run: Run) -> None:
    """Send requests with valid and invalid tokens and unusual headers to every kind of route, with every provider."""
    paths = ("/me", "/maybe", "/machine", "/failing", "/own", "/files/x", "/files/found", "/files/x%0A", "/nowhere")
    for provider in MAKERS:
        if provider == "that is stuck":
            continue
        run.part = _name_part(provider)
        bench = Bench.create(run, provider)
        app = build_app(bench)
        tokens = (bench.token, bench.opaque, bench.personal, bench.issuer.bad_token("forged"))
        for token in tokens:
            for path in paths:
                await run.ask(app, "GET", path, headers={"Authorization": f"Bearer {token}"})
    bench, run.part = Bench.create(run), ""
    app = build_app(bench)
    for row in AUTHORIZATION_ROWS:
        values = [value.replace(_PLACEHOLDER, bench.token).encode("utf-8", "surrogatepass") for value in row.values]
        for path in ("/me", "/maybe"):
            await run.send(app, path, headers=[(b"authorization", value) for value in values])


async def _run_connections(run: Run) -> None:
    """Open WebSockets and streams: refused, with a token that is revoked later, cancelled, and failing."""
    bench = Bench.create(run)
    app = build_app(bench)
    for path in ("/socket", "/files/socket"):
        for token in (bench.token, bench.issuer.bad_token("expired"), bench.personal, f"{bench.token}x"):
            authorization = [(b"authorization", f"Bearer {token}".encode())]
            offered = [(b"sec-websocket-protocol", f"bearer, {token}".encode())]
            for headers in (authorization, offered, authorization + offered, offered * 2):
                for can_deny in (True, False):
                    await run.send(app, path, kind="websocket", headers=headers, text="no", can_deny=can_deny)
    for kind, path in (("websocket", "/socket"), ("http", "/events")):
        token = bench.issuer.access_token(subject=_ALICE)
        headers = [(b"authorization", f"Bearer {token}".encode())]
        await run.send(
            app, path, kind=kind, headers=headers, meanwhile=lambda: bench.revocations.revoke(user_id=_ALICE)
        )
        await run.send(app, path, kind=kind, headers=headers)
        bench.clock.advance(10)
        token = bench.issuer.access_token(subject=_ALICE)
        headers = [(b"authorization", f"Bearer {token}".encode())]
        await run.cancel(path, partial(run.send, app, path, kind=kind, headers=headers, waits=True), turns=30)


async def _run_webhooks(run: Run) -> None:
    """Send webhooks with valid and invalid signatures and bodies."""
    bench = Bench.create(run)
    app, key = build_app(bench), bench.signing_key
    bodies = [build_body("User.SuspensionStatus.Updated", at=NOW, data={"id": _ALICE, "isSuspended": True})]
    bodies += [b"", b"{", b"[" * 10_000, b"\xff", json.dumps({"event": key}).encode(), b"x" * 2**17]
    bodies += [build_body(key, at=NOW), build_body("User.Data.Updated", at=NOW, data={"id": key, "name": bench.token})]
    for body in bodies:
        own = sign(body, key)
        run.canaries.add("a signature of a webhook", own)
        for value in (own, own.upper(), own[:-1], sign(body, "another"), key, ""):
            await run.ask(app, "POST", _HOOK, content=body, headers={SIGNATURE: value})
    await run.ask(app, "POST", _HOOK, content=bodies[0])
    signed = [(SIGNATURE.encode(), sign(bodies[0], key).encode()), (b"content-type", b"application/json")]
    for end in (None, "http.disconnect", "a surprise"):
        await run.send(app, _HOOK, method="POST", headers=signed, body=bodies[0], end=end)
    revocations = Revocations(SharedStore(), on_event=_refuse_event)
    failing_app = FastAPI()
    failing_app.include_router(revocations.webhooks(signing_key=[key, "another"]))
    await run.send(failing_app, _HOOK, method="POST", headers=signed, body=bodies[0])
    await run.attempt("an event whose handler fails", revocations.handle(parse_event(bodies[0])))
    for keys in ("", " ", [], [key, ""], [key, 1], (f" {key}",), f"{key}\ud800", key.encode()):
        wrong: Any = keys
        run.build("routes with a wrong key", partial(bench.revocations.webhooks, signing_key=wrong))
    run.build("routes with a wrong key", lambda: bench.revocations.webhooks(signing_key=key, issuer=" "))


async def _refuse_event(_event: object) -> None:
    raise OSError("disk full")


async def _run_logout(run: Run) -> None:
    """Send valid and invalid logout tokens in forms of every kind, with every provider."""
    for provider in ("that works", "unreachable", "surprising", "garbled"):
        run.part = _name_part(provider)
        bench = Bench.create(run, provider)
        app = build_app(bench)
        issuer = bench.issuer
        tokens = [issuer.logout_token(), issuer.logout_token(claims={"nonce": "n"}), issuer.logout_token(typ=None)]
        tokens += [issuer.logout_token(lifetime_seconds=-60), f"{issuer.logout_token()}x", bench.token, bench.opaque]
        for token in tokens:
            run.canaries.add_token("the logout token", token)
            form = urlencode({"logout_token": token})
            for body in (form, f"{form}&{form}", f"{form}\xff", f"{form}&a" * 20, form * 100, f"x{form}"):
                headers = {"content-type": "application/x-www-form-urlencoded"}
                await run.ask(app, "POST", _LOGOUT, content=body.encode("latin-1"), headers=headers)
            await run.ask(app, "POST", _LOGOUT, content=form.encode(), headers={"content-type": "text/plain"})
            # The client has disconnected before the end, and the server fails.
            for end in ("http.disconnect", "a surprise"):
                await run.send(
                    app,
                    _LOGOUT,
                    method="POST",
                    headers=[(b"content-type", b"application/x-www-form-urlencoded")],
                    body=form.encode(),
                    end=end,
                )


async def _run_machine_auth(run: Run) -> None:
    """Send requests of an application's own client with `machine_auth`: refused, to another origin, and redirected."""
    bench = Bench.create(run)
    auth = run.build(
        "the authentication", lambda: bench.client.machine_auth(API, base_url="https://orders.example.test")
    )
    assert auth is not None

    def respond(request: httpx.Request) -> httpx.Response:
        run.canaries.add_token("the machine token", request.headers.get("authorization", "").removeprefix("Bearer "))
        statuses = {"/ok": 200, "/no": 401, "/elsewhere": 302}
        return httpx.Response(statuses[request.url.path], headers={"location": "https://evil.example.test/ok"})

    def fail(request: httpx.Request) -> httpx.Response:
        respond(request)
        raise httpx.ReadError("reset")

    for handler in (respond, fail):
        async with httpx.AsyncClient(transport=httpx.MockTransport(handler), auth=auth, verify=TLS) as http:
            for url in (
                "https://orders.example.test/ok",
                "https://orders.example.test/no",
                "https://evil.example.test",
            ):
                await run.attempt("a request", http.get(url))
            await run.attempt("a request", http.get("https://orders.example.test/elsewhere", follow_redirects=True))
    for base_url in (
        "",
        f"https://{quote(bench.secret, safe='')}@orders.example.test",
        "http://orders.example.test",
        "ftp://x",
    ):
        run.build("the authentication of a wrong origin", partial(bench.client.machine_auth, API, base_url=base_url))


SCENES: Final[Mapping[str, Scene]] = {
    "calls": Scene(act=_run_calls, outcomes=expected.CALLS),
    "cancelled calls": Scene(act=_run_cancelled, outcomes=expected.CANCELLED_CALLS),
    "tokens": Scene(act=_run_tokens, outcomes=expected.TOKENS),
    "requests": Scene(act=_run_requests, outcomes=expected.REQUESTS),
    "connections": Scene(act=_run_connections, outcomes=expected.CONNECTIONS),
    "webhooks": Scene(act=_run_webhooks, outcomes=expected.WEBHOOKS),
    "logout": Scene(act=_run_logout, outcomes=expected.LOGOUT),
    "machine_auth": Scene(act=_run_machine_auth, outcomes=expected.MACHINE_AUTH),
}
