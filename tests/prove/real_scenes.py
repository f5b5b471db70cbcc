"""Scenes with real parts: sockets and servers, servers that are no Redis, the command line, and the MCP SDK."""

import asyncio
import html
import io
import os
import re
import secrets
import sys
import warnings
from base64 import urlsafe_b64encode
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, redirect_stderr, redirect_stdout
from functools import partial
from hashlib import sha256
from typing import Annotated, Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
from fastapi import Depends, FastAPI
from mcp.server.auth.middleware.auth_context import get_access_token
from starlette.types import Receive, Scope, Send

from fastapi_logto import LogtoAuth, TokenClaims, mount_protected
from fastapi_logto.cli import main
from fastapi_logto.client import LogtoClient
from fastapi_logto.introspection import Introspection
from fastapi_logto.revocation import DeliveryLog, RedisStore, Revocation, Revocations
from fastapi_logto.revocation.revocations import find_feeds
from fastapi_logto.testing import Directory, LocalIssuer, Machine
from fastapi_logto.testing.directory import MANAGEMENT_API
from tests.connections import serve_connections
from tests.prove.observing import Run, Scene
from tests.prove.scenes import Bench
from tests.vectors.forge import API

__all__ = ["HANDED_OVER", "REAL_SCENES"]

HANDED_OVER: Final[Mapping[str, str]] = {
    "/oidc/token of the local issuer": "the endpoint issues the tokens",
    "fastapi-logto token": "the command prints the token that was requested",
    "fastapi-logto webhook push": "the command prints the signing key of a new webhook, once",
}
"""What hands a secret over, because that is its job, with the reason. These responses and outputs are not searched."""

_ALICE: Final = "alice0000001"
_CALLBACK: Final = "http://127.0.0.1:9/callback"


class _Served:
    """An issuer on a socket, with secrets of its own."""

    def __init__(self, run: Run) -> None:
        self.secret = f"{secrets.token_urlsafe(24)}+/&="
        example = Directory.example(API)
        machine = Machine(
            client_id="api-machine",
            client_secret=self.secret,
            scopes={MANAGEMENT_API.indicator: ["all"], API: ["read:user"]},
        )
        directory = Directory(
            resources=example.resources, users=example.users, machines=[machine], applications=example.applications
        )
        self.issuer = LocalIssuer(directory=directory)
        run.learn_secret("the client secret", self.secret)
        run.learn_keys(self.issuer)

    def build_auth(self, **more: Any) -> LogtoAuth:
        opaque = Introspection(client_id="api-machine", client_secret=self.secret, allowed_clients=["local-spa"])
        return LogtoAuth(endpoint=self.issuer.endpoint, audience=API, introspection=opaque, **more)

    def build_client(self) -> LogtoClient:
        return LogtoClient(endpoint=self.issuer.endpoint, client_id="api-machine", client_secret=self.secret)


async def _run_sockets(run: Run) -> None:
    """A real server and real connections, with every log of httpx, httpcore, uvicorn and asyncio."""
    served = _Served(run)
    issuer = served.issuer
    with issuer.serve():
        tokens = await _sign_in(run, issuer)
        auth, client = served.build_auth(), served.build_client()
        opaque, personal = issuer.opaque_token(), issuer.personal_access_token()
        run.canaries.add("the opaque token", opaque)
        run.canaries.add("the personal access token", personal)
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: auth.verify(tokens["access_token"]),
            lambda: auth.verify(opaque),
            lambda: auth.verify(f"{opaque}"[::-1]),
            lambda: client.get_token(API),
            lambda: client.exchange_token(tokens["access_token"], API),
            lambda: client.exchange_token(personal, API, subject_token_type="personal_access_token"),
            lambda: client.get_userinfo(opaque),
        ]
        for call in calls:
            await run.attempt("a call", call())
        for turns in (2, 5, 10, 20):
            auth, client = served.build_auth(), served.build_client()
            for call in calls:
                await run.cancel("a call", call, turns=turns)
        with issuer.outage():
            for call in calls:
                await run.attempt("a call", call())
        auth, client = served.build_auth(), served.build_client()
    for call in calls:
        await run.attempt("a call to a server that has stopped", call())


async def _sign_in(run: Run, issuer: LocalIssuer) -> dict[str, str]:
    """Sign a user in as a browser does, and learn the code and the tokens."""
    verifier = secrets.token_urlsafe(32)
    challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    run.canaries.add("the code verifier", verifier)
    query = {
        "client_id": "local-spa",
        "redirect_uri": _CALLBACK,
        "response_type": "code",
        "scope": "openid offline_access read:user",
        "resource": API,
        "login_hint": "alice",
        "prompt": "consent",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    async with httpx.AsyncClient(trust_env=False) as browser:
        page = await browser.get(f"{issuer.issuer}/auth", params=query)
        fields = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page.text)
        fields += [("grant", name) for name in re.findall(r'name="grant" value="([^"]*)"', page.text)]
        filled = [(html.unescape(name), html.unescape(value)) for name, value in fields]
        form_body = urlencode([*filled, ("user", "alice"), ("action", "allow")])
        response = await browser.post(
            f"{issuer.issuer}/auth",
            content=form_body,
            headers={"content-type": "application/x-www-form-urlencoded", "origin": issuer.endpoint},
        )
        (code,) = parse_qs(urlsplit(response.headers["location"]).query)["code"]
        run.canaries.add("the authorization code", code)
        form = {"client_id": "local-spa", "redirect_uri": _CALLBACK, "code": code, "code_verifier": verifier}
        redemption = form | {"grant_type": "authorization_code", "resource": API}
        issued: dict[str, str] = (await browser.post(f"{issuer.issuer}/token", data=redemption)).json()
        run.canaries.add("the refresh token", issued["refresh_token"])
        run.canaries.add_token("the access token", issued["access_token"])
        run.canaries.add_token("the ID token", issued["id_token"])
        refresh = {"client_id": "local-spa", "grant_type": "refresh_token", "refresh_token": f"{code}x"}
        # The code is used up.
        for refused in (redemption, refresh):
            response = await browser.post(f"{issuer.issuer}/token", data=refused)
            assert response.status_code == 400
            run.sinks.put("responses", "the local issuer", response.text, str(response.headers.raw))
    return issued


def _serve_text(reply: Callable[[bytes], bytes] | None) -> AbstractAsyncContextManager[int]:
    """Serve something that is no Redis: it answers each piece of bytes with others, or never."""

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
    """A store with a password: unreachable, at servers that are no Redis or repeat it, and cancelled."""
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
    """The delivery log of a webhook with a signing key: read, cancelled, and in an outage."""
    served, key = _Served(run), secrets.token_urlsafe(24)
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


async def _run_command_line(run: Run) -> None:
    """Commands with tokens on standard input and secrets in the environment."""
    served = _Served(run)
    issuer, password = served.issuer, secrets.token_urlsafe(24)
    run.canaries.add("the password of Redis", password)
    with issuer.serve():
        environment = {
            "LOGTO_ENDPOINT": issuer.endpoint,
            "LOGTO_AUDIENCE": API,
            "LOGTO_REDIS_URL": f"redis://user:{password}@127.0.0.1:9/0",
            "LOGTO_WEBHOOK_ID": "hook00000001",
            "NO_COLOR": "1",
        }
        for name in ("LOGTO_MACHINE", "LOGTO_MANAGEMENT_CLIENT"):
            environment |= {f"{name}_ID": "api-machine", f"{name}_SECRET": served.secret}
        tokens = [issuer.access_token(), issuer.bad_token("forged"), issuer.opaque_token(), issuer.id_token()]
        tokens += [issuer.personal_access_token(), f"{tokens[0]}\x1b[31m", f"Bearer {tokens[0]}", tokens[0] * 3]
        for token in tokens:
            run.canaries.add_token("the token", token)
            for command in (
                ["doctor", "--token-stdin"],
                ["doctor", "--json", "--token-stdin"],
                ["inspect", "--verify"],
            ):
                await _run_command(run, command, stdin=token, environment=environment)
        for command in (
            ["doctor", tokens[0]],
            ["doctor", "--token", tokens[0]],
            ["inspect", tokens[0]],
            ["--secret", served.secret],
            ["webhook", "follow", "--redis-url", environment["LOGTO_REDIS_URL"]],
            ["token", "--machine", "--resource", "https://unknown.example.test"],
        ):
            await _run_command(run, command, stdin="", environment=environment)
        wrong = environment | {"LOGTO_MACHINE_SECRET": f"{served.secret}x"}
        await _run_command(run, ["token", "--machine"], stdin="", environment=wrong)
        wrong = environment | {"LOGTO_ENDPOINT": f"https://user:{password}@tenant.example.test"}
        await _run_command(run, ["doctor"], stdin="", environment=wrong)


def _call_main(command: Sequence[str]) -> None:
    main(list(command))


async def _run_command(run: Run, command: Sequence[str], *, stdin: str, environment: Mapping[str, str]) -> None:
    out, before, stdin_before = io.StringIO(), dict(os.environ), sys.stdin
    os.environ.update(environment)
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin.encode()))
    try:
        with redirect_stdout(out), redirect_stderr(out):
            # In a thread, because a command runs a loop of its own.
            await asyncio.to_thread(_call_main, command)
    finally:
        sys.stdin = stdin_before
        os.environ.clear()
        os.environ.update(before)
    run.sinks.put("command line", command[0], out.getvalue())
    run.collector.drain(f"the command {command[0]}")


async def _run_mcp(run: Run) -> None:
    """A mounted application that uses the user of the MCP SDK, and shows and fails with it."""
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
    """Streams and calls that are given up: what Python and asyncio say about them."""
    bench = Bench.create(run)
    claims = await bench.auth.verify(bench.token)

    async def tick() -> AsyncGenerator[bytes]:
        yield bench.token.encode()
        await asyncio.Event().wait()

    stream = bench.auth.until_expiry(tick(), claims)
    await anext(stream)
    del stream
    with warnings.catch_warnings():
        # Never awaited, which is what a mistake in an application leads to.
        for forgotten in (bench.auth.verify(bench.token), bench.client.exchange_token(bench.token, API)):
            del forgotten
    flights = [asyncio.ensure_future(bench.client.exchange_token(f"{bench.token}x", API)) for _ in range(3)]
    await asyncio.wait(flights)
    # Never retrieved, so asyncio reports their exceptions.
    del flights
    run.collector.drain("given up")


REAL_SCENES: Final[Mapping[str, Scene]] = {
    "sockets": _run_sockets,
    "Redis": _run_redis,
    "delivery log": _run_delivery_log,
    "command line": _run_command_line,
    "MCP": _run_mcp,
    "warnings": _run_warnings,
}
