"""A provider on a real socket, each of whose responses may be hostile. No forged token is accepted; nothing hangs."""

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, quote_plus

from fastapi_logto import LogtoAuth
from fastapi_logto.client import GrantError, IssuedToken, LogtoClient
from fastapi_logto.introspection import Introspection
from fastapi_logto.provider.failures import ExchangeError, FetchError
from fastapi_logto.revocation import DeliveryLog
from fastapi_logto.revocation.delivery_log import find_hook_api
from fastapi_logto.revocation.events import EventError, build_event
from fastapi_logto.revocation.hook_api import Window
from fastapi_logto.testing import ManualClock
from tests.attack.asgi import send
from tests.attack.endpoints import OPAQUE_TOKEN, SECRET, build_grant, build_introspection
from tests.attack.provider import build_app
from tests.attack.report import Tally
from tests.prove.fuzz_answers import (
    MOST_SENT,
    Answer,
    HostileServer,
    build_answer,
    build_valid,
    run_hostile_server,
)
from tests.vectors.forge import API, ENDPOINT, ISSUER_URL, NOW, Forge

BuildAuth = Callable[..., LogtoAuth]

_SEED: Final = 20_261_129
_COUNT: Final = 800
_CONCURRENT: Final = 12
_DEADLINE_SECONDS: Final = 0.3
"""The timeout for responses that never end. All others get as long as a busy machine needs."""
_PATIENT_SECONDS: Final = 20.0
_LONGEST_SECONDS: Final = 30.0
_HOOK: Final = "hook00000001"
_OPAQUE: Final = Introspection(client_id="api", client_secret=SECRET, allowed_clients=["spa"])
_DISCOVERY_PATH: Final = "/oidc/.well-known/openid-configuration"
_LOG_PATH: Final = f"/api/hooks/{_HOOK}/recent-logs"
_PATHS: Final = (
    _DISCOVERY_PATH, "/oidc/jwks", "/oidc/jwks", "/oidc/token", "/oidc/token/introspection", "/oidc/me",
    f"/api/hooks/{_HOOK}", _LOG_PATH,
)  # fmt: skip
# Plain http needs none, and creating one reads the certificate authorities of the machine.
_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


async def run_provider(tally: Tally, forge: Forge, *, count: int = _COUNT, build_auth: BuildAuth = LogtoAuth) -> None:
    """Change single responses of a working provider, and call every function that reads them."""
    rng = random.Random(_SEED)  # noqa: S311 - the same cases in each run
    statuses: set[int] = set()
    async with run_hostile_server() as elsewhere:
        free = asyncio.Semaphore(_CONCURRENT)

        async def run_one(number: int, path: str, seed: int) -> None:
            async with free:
                what, problem = await _run_case(path, seed, _Parts(forge, elsewhere.endpoint, build_auth, statuses))
                tally.count(f"{number}: {path}: {what}", problem)

        cases = [(number, rng.choice(_PATHS), rng.getrandbits(32)) for number in range(count)]
        await asyncio.gather(*(run_one(*case) for case in cases))
        if elsewhere.most_sent:
            tally.fail("a request went to a host that only a document names")
        # Otherwise the changes are too small or too large to test anything.
        if not {200, 503} <= statuses:
            tally.fail(f"expected that valid tokens get 200 and 503, found {sorted(statuses)}")


@dataclass(frozen=True, slots=True)
class _Parts:
    """The shared objects of all cases; `statuses` are those of a valid token so far."""

    forge: Forge
    elsewhere: str
    build_auth: BuildAuth
    statuses: set[int]


async def _run_case(path: str, seed: int, parts: _Parts) -> tuple[str, str | None]:
    async with run_hostile_server() as server:
        documents = _build_documents(server.endpoint, parts.forge)
        server.answers = {place: build_valid(document) for place, document in documents.items()}
        answer = build_answer(random.Random(seed), documents[path], parts.elsewhere)  # noqa: S311
        server.answers[path] = answer
        seconds = _DEADLINE_SECONDS if answer.is_slow else _PATIENT_SECONDS
        try:
            async with asyncio.timeout(_LONGEST_SECONDS):
                problem = await _find_problem(path, answer, server, seconds, parts)
        except TimeoutError:
            problem = "no end in time"
        if server.most_sent >= MOST_SENT:
            problem = problem or f"read {server.most_sent} bytes"
        return answer.what, problem


def _build_documents(endpoint: str, forge: Forge) -> dict[str, object]:
    base = f"{endpoint}/oidc"
    event = {
        "event": "User.Deleted",
        "createdAt": "2026-11-26T00:00:00Z",
        "hookId": _HOOK,
        "params": {"userId": "alice"},
    }
    return {
        _DISCOVERY_PATH: {
            "issuer": ISSUER_URL,
            "jwks_uri": f"{base}/jwks",
            "token_endpoint": f"{base}/token",
            "introspection_endpoint": f"{base}/token/introspection",
            "userinfo_endpoint": f"{base}/me",
        },
        "/oidc/jwks": forge.jwks(),
        "/oidc/token": build_grant(),
        "/oidc/token/introspection": build_introspection(),
        "/oidc/me": {"sub": "alice", "name": "Alice", "custom_data": {"a": [1, {"b": None}]}},
        f"/api/hooks/{_HOOK}": {
            "id": _HOOK,
            "config": {"url": "https://api.example.test/webhooks/logto"},
            "events": ["User.Deleted"],
            "enabled": True,
        },
        _LOG_PATH: [
            {"id": "log1", "createdAt": NOW * 1000, "payload": {"result": "Error", "hookRequest": {"body": event}}}
        ],
    }


async def _find_problem(path: str, answer: Answer, server: HostileServer, seconds: float, parts: _Parts) -> str | None:
    client = LogtoClient(
        endpoint=ENDPOINT,
        client_id="api",
        client_secret=SECRET,
        fetch_endpoint=server.endpoint,
        timeout_seconds=seconds,
        clock=ManualClock(now=NOW),
        ssl_context=_TLS,
    )
    if path in {"/oidc/token", "/oidc/me"}:
        return await _find_error_problem(
            lambda: client.get_token(API) if path == "/oidc/token" else client.get_userinfo(OPAQUE_TOKEN)
        )
    if path.startswith("/api/"):
        return await _find_error_problem(lambda: _read_log(server.endpoint, seconds, is_page=path == _LOG_PATH))
    if path == _DISCOVERY_PATH and (problem := await _find_error_problem(lambda: client.get_token(API))):
        return problem
    auth = parts.build_auth(
        endpoint=ENDPOINT,
        fetch_endpoint=server.endpoint,
        audience=API,
        clock=ManualClock(now=NOW),
        ssl_context=_TLS,
        introspection=_OPAQUE,
        fetch_timeout_seconds=seconds,
    )
    return await _find_admission_problem(auth, path, answer, parts)


async def _find_admission_problem(auth: LogtoAuth, path: str, answer: Answer, parts: _Parts) -> str | None:
    app, forge = build_app(auth), parts.forge
    forged = forge.with_key(forge.stranger, signed_as="ES384", kid=forge.ec.thumbprint())
    tokens = {forge.good(): {200, 401, 503}, forged: {401, 503}, forge.with_header(alg="none"): {401, 503}}
    for token, allowed in tokens.items():
        reply = await send(app, "/claims", authorization=[f"Bearer {token}".encode()])
        if 200 in allowed:
            parts.statuses.add(reply.status)
        if reply.status not in allowed:
            return f"found {reply.status}, raised {reply.raised}"
        if reply.status == 503 and not reply.headers.get("retry-after", "").isdigit():
            return "a 503 without Retry-After"
    if path != "/oidc/token/introspection":
        return None
    reply = await send(app, "/claims", authorization=[f"Bearer {OPAQUE_TOKEN}".encode()])
    if reply.status not in {200, 401, 503}:
        return f"opaque: found {reply.status}, raised {reply.raised}"
    get: Any = getattr(answer.document, "get", None)
    is_active = get is not None and (get("active"), get("client_id")) == (True, "spa")
    return "opaque: admitted, and it is not active" if reply.status == 200 and not is_active else None


async def _read_log(endpoint: str, seconds: float, *, is_page: bool) -> object:
    log = DeliveryLog(
        ENDPOINT,
        client_id="api",
        client_secret=SECRET,
        hook_id=_HOOK,
        management_resource=API,
        fetch_endpoint=endpoint,
        timeout_seconds=seconds,
        clock=ManualClock(now=NOW),
        ssl_context=_TLS,
    )
    api, _ = find_hook_api(log)
    if not is_page:
        return await api.fetch_hook()
    page = await api.fetch_page(Window(since=0), size=100)
    for delivery in page.deliveries:
        if delivery.body is not None:
            try:
                build_event(delivery.body)
            except EventError:
                continue
    return page


async def _find_error_problem(call: Callable[[], Awaitable[object]]) -> str | None:
    try:
        found = await call()
    except (GrantError, FetchError, ExchangeError) as error:
        text = f"{error} {error!r}"
        is_repeated = any(form in text for form in (SECRET, quote(SECRET, safe=""), quote_plus(SECRET), OPAQUE_TOKEN))
        return "the error repeats a secret" if is_repeated else None
    except Exception as error:  # noqa: BLE001 - the finding itself
        return f"raised {type(error).__name__}"
    if isinstance(found, IssuedToken) and not found.token:
        return "a token without text"
    return None
