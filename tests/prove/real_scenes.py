"""Scenes with real parts: sockets and servers, servers that are not Redis, and the MCP SDK."""

import asyncio
import secrets
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Annotated, Final

from fastapi import Depends, FastAPI
from mcp.server.auth.middleware.auth_context import get_access_token
from starlette.types import Receive, Scope, Send

from fastapi_logto import TokenClaims, mount_protected
from fastapi_logto.revocation import DeliveryLog, RedisStore, Revocation, Revocations
from fastapi_logto.revocation.revocations import find_feeds
from fastapi_logto.testing.directory import MANAGEMENT_API
from tests.connections import serve_connections
from tests.prove import expected
from tests.prove.bench import Bench
from tests.prove.observing import Run, Scene
from tests.prove.served import Served, sign_in
from tests.vectors.forge import API


async def _run_sockets(run: Run) -> None:
    """Use a real server and real connections, with every log of httpx, httpcore, uvicorn and asyncio."""
    served = Served(run)
    issuer = served.issuer
    with issuer.serve():
        tokens = await sign_in(run, issuer)
        auth, client = served.build_auth(), served.build_client()
        opaque, personal = issuer.opaque_token(), issuer.personal_access_token()
        run.canaries.add("the opaque token", opaque)
        run.canaries.add("the reversed token", opaque[::-1])
        run.canaries.add("the personal access token", personal)
        calls: Mapping[str, Callable[[], Awaitable[object]]] = {
            "verify": lambda: auth.verify(tokens["access_token"]),
            "verify an opaque token": lambda: auth.verify(opaque),
            "verify an unknown token": lambda: auth.verify(opaque[::-1]),
            "a machine token": lambda: client.get_token(API),
            "an organization token": lambda: client.get_organization_token("acme"),
            "an exchange": lambda: client.exchange_token(tokens["access_token"], API),
            "an exchange of a personal access token": lambda: client.exchange_token(
                personal, API, subject_token_type="personal_access_token"
            ),
            "a subject token": lambda: client.create_subject_token("alice0000001", resource=MANAGEMENT_API.indicator),
            "userinfo": lambda: client.get_userinfo(opaque),
        }
        for name, call in calls.items():
            await run.attempt(name, call())
        for turns in (2, 5, 10, 20):
            auth, client = served.build_auth(), served.build_client()
            for name, call in calls.items():
                await run.cancel(name, call, turns=turns)
        auth, client = served.build_auth(), served.build_client()
        with issuer.outage():
            for name, call in calls.items():
                await run.attempt(f"{name}, in an outage", call())
        auth, client = served.build_auth(), served.build_client()
    for name, call in calls.items():
        await run.attempt(f"{name}, after the end", call())


def _serve_text(reply: Callable[[bytes], bytes] | None) -> AbstractAsyncContextManager[int]:
    """Serve something that is not Redis: it responds to each piece of bytes with other bytes, or never."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if reply is not None:
                writer.write(reply(data))
                await writer.drain()

    return serve_connections(handle)


def _repeat(data: bytes) -> bytes:
    return b"-ERR unknown command, with args beginning with: " + data.replace(b"\r\n", b" ") + b"\r\n"


_REDIS_REPLIES: Final[Mapping[str, Callable[[bytes], bytes] | None]] = {
    "never answers": None,
    "repeats": _repeat,
    "repeats as the code of an error": lambda data: b"-" + data.replace(b"\r\n", b"") + b"\r\n",
    "repeats the last line as the code": lambda data: b"-" + data.rstrip().rpartition(b"\r\n")[2] + b"\r\n",
    "repeats as a wrong password": lambda data: b"-WRONGPASS " + data.replace(b"\r\n", b" ") + b"\r\n",
    "repeats as text": lambda data: b"+" + data.replace(b"\r\n", b" ") + b"\r\n",
    "repeats raw": lambda data: data,
    "accepts anything": lambda _: b"+OK\r\n" * 3,
    "speaks HTTP": lambda data: b"HTTP/1.1 400 Bad Request\r\n\r\n" + data,
}


async def _run_redis(run: Run) -> None:
    """Use a store with a password: unreachable, at servers that are not Redis or repeat the password, and cancelled."""
    for name, reply in _REDIS_REPLIES.items():
        password = secrets.token_urlsafe(24)
        run.canaries.add("the password of Redis", password)
        async with _serve_text(reply) as port:
            address = f"user:{password}@127.0.0.1:{port}/0"
            await _use_store(run, name, f"redis://{address}")
            await _use_store(run, f"{name}, with TLS", f"rediss://{address}")
    password = secrets.token_urlsafe(24)
    run.canaries.add("the password of Redis", password)
    await _use_store(run, "unreachable", f"redis://user:{password}@127.0.0.1:9/0")


async def _use_store(run: Run, name: str, url: str) -> None:
    timeout = 0.05 if name.startswith("never") else 0.5
    store = RedisStore(url, timeout_seconds=timeout)
    await run.attempt(name, store.append([Revocation(before=1.0, user_id="alice")], kept_seconds=60))
    await run.attempt(name, store.read(None, wait_seconds=0))
    await run.attempt(name, store.try_lead("restore", seconds=5))
    await run.attempt(name, store.load_text("name"))
    for turns in (2, 8):
        await run.cancel(name, lambda: store.load_text("name"), turns=turns)
    bench, revocations = Bench.create(run), Revocations(RedisStore(url, timeout_seconds=timeout))
    auth = bench.issuer.auth(revocations=revocations)
    await run.attempt(name, auth.verify(bench.token))
    await run.attempt(name, revocations.revoke(user_id="alice"))
    run.sinks.put("documents", name, revocations.health())
    await find_feeds(revocations).current.close()


async def _run_delivery_log(run: Run) -> None:
    """Read the delivery log of a webhook with a signing key, also cancelled and during an outage."""
    served, key = Served(run), secrets.token_urlsafe(24)
    run.canaries.add("the signing key", key)
    with served.issuer.serve():
        hook = served.issuer.add_hook("http://127.0.0.1:9/", signing_key=key)
        served.issuer.suspend("bob")
        for turns in (0, 5, 10, 20, 30, 40, 60):
            log = DeliveryLog(
                served.issuer.endpoint, client_id="api-machine", client_secret=served.secret, hook_id=hook.id
            )
            auth = served.build_auth(revocations=Revocations(log=log))
            token = served.issuer.access_token()
            run.canaries.add_token("the access token", token)
            if turns:
                await run.cancel("the log", partial(auth.verify, token), turns=turns)
            else:
                await run.attempt("the log", auth.verify(token))


async def _run_mcp(run: Run) -> None:
    """Use a mounted application that returns the user of the MCP SDK, and one that fails with it."""
    bench = Bench.create(run)

    async def show(scope: Scope, _receive: Receive, send: Send) -> None:
        user: object = scope["user"]
        token = get_access_token()
        run.sinks.put("representations", "the MCP user", repr(user), repr(vars(user)), repr(token), str(token))
        run.sinks.put("representations", "the MCP user", scope["auth"], scope.get("fastapi_logto.caller"))
        if scope["path"].endswith("/failing"):
            raise OSError("disk full")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"found"})

    app = FastAPI()
    mount_protected(app, path="/mcp", mounted=show, requires=bench.auth.require_scopes("read:user"))

    @app.get("/claims")
    async def read(claims: Annotated[TokenClaims, Depends(bench.auth)]) -> str:
        return claims.sub

    for path in ("/mcp", "/mcp/failing", "/mcp/x%0A", "/claims"):
        for token in (bench.token, bench.issuer.bad_token("expired"), bench.opaque):
            await run.ask(app, "GET", path, headers={"Authorization": f"Bearer {token}"})


async def _run_warnings(run: Run) -> None:
    """Abandon streams and calls, and search in the warnings of Python and asyncio."""
    bench = Bench.create(run)
    claims = await bench.auth.verify(bench.token)
    warned = run.collector.warned

    async def tick() -> AsyncGenerator[bytes]:
        yield bench.token.encode()
        await asyncio.Event().wait()

    stream = bench.auth.until_expiry(tick(), claims)
    await anext(stream)
    del stream
    with warnings.catch_warnings():
        # Never awaited, like after a mistake in an application.
        for forgotten in (bench.auth.verify(bench.token), bench.client.exchange_token(bench.token, API)):
            del forgotten
    for one in warned:
        run.outcomes.add("calls that are never awaited", one.category.__name__)
    flights = [asyncio.ensure_future(bench.client.exchange_token(f"{bench.token}x", API)) for _ in range(3)]
    await asyncio.wait(flights)
    # Never retrieved, so asyncio reports their exceptions.
    del flights
    for error in run.collector.reported:
        run.outcomes.add("calls whose result is never retrieved", type(error).__name__)
    run.collector.drain("given up")


REAL_SCENES: Final[Mapping[str, Scene]] = {
    "sockets": Scene(act=_run_sockets, outcomes=expected.SOCKETS),
    "Redis": Scene(act=_run_redis, outcomes=expected.build_redis(_REDIS_REPLIES)),
    "delivery log": Scene(act=_run_delivery_log, outcomes=expected.DELIVERY_LOG),
    "MCP": Scene(act=_run_mcp, outcomes=expected.MCP),
    "warnings": Scene(act=_run_warnings, outcomes=expected.WARNINGS),
}
