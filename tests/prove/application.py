"""The application of the state machine: four routes for two tenants, and three ways to call them."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, TypeAlias

import httpx
from fastapi import Depends, FastAPI, WebSocket

from fastapi_logto import LogtoAuth, LogtoSettings, OrganizationSource, RefusalError
from fastapi_logto.revocation import Revocations
from fastapi_logto.settings import SettingsArguments
from fastapi_logto.testing import Clock
from fastapi_logto.testing.signing import Algorithm
from tests.attack.asgi import ACCEPTED, connect, send
from tests.attack.provider import TLS
from tests.prove.model import KEPT, Route
from tests.vectors.forge import API

ADMIN: Final = "https://admin.example.test"
ACME, GLOBEX = "https://acme.example.test/oidc", "https://globex.example.test/oidc"
LIFE_SECONDS: Final = KEPT - 120
ALGORITHMS: Final[Mapping[str, tuple[Algorithm, ...]]] = {
    ACME: ("ES256", "ES384", "RS256"),
    GLOBEX: ("ES256", "RS256"),
}
_AUDIENCES: Final = {ACME: frozenset({API, ADMIN}), GLOBEX: frozenset({API})}
ROUTES: Final[Mapping[str, Route]] = {
    "/any": Route(_AUDIENCES),
    "/read": Route(_AUDIENCES, scopes=frozenset({"read"})),
    "/admin": Route({ACME: frozenset({ADMIN}), GLOBEX: frozenset()}),
    "/organizations/o1": Route(_AUDIENCES, organization=("o1", ACME), scopes=frozenset({"read"})),
}

Door: TypeAlias = Callable[[str, str], Coroutine[Any, Any, str]]
"""Calls a route with a token, and returns `200`, or status and reason."""


def build_auth(
    *,
    clock: Clock,
    transport: httpx.AsyncBaseTransport,
    revocations: Revocations,
    changes: SettingsArguments | None = None,
) -> LogtoAuth:
    """Return a scheme for two tenants. Its cache holds three tokens of each; the model has no cache."""
    tenants: list[LogtoSettings] = []
    for issuer, algorithms in ALGORITHMS.items():
        arguments = SettingsArguments(
            endpoint=issuer.removesuffix("/oidc"),
            audience=sorted(_AUDIENCES[issuer]),
            algorithms=algorithms,
            token_cache_size=3,
        )
        arguments.update(changes or {})
        tenants.append(LogtoSettings(**arguments))
    return LogtoAuth(settings=tenants, clock=clock, http_transport=transport, ssl_context=TLS, revocations=revocations)


def build_doors(auth: LogtoAuth) -> Mapping[str, Door]:
    """Return the ways to call the routes: over HTTP, as a WebSocket, and by `verify` in the code of the application."""
    app = FastAPI()
    member = auth.require_organization("read", organization=OrganizationSource.from_path(issuer=ACME))
    guards: Mapping[str, Any] = {
        "/any": auth,
        "/read": auth.require_scopes("read"),
        "/admin": auth.for_audience(ADMIN),
        "/organizations/{organization_id}": member,
    }
    for path, guard in guards.items():
        app.get(path, dependencies=[Depends(guard)])(_respond)
        app.websocket(path, dependencies=[Depends(guard)])(_accept)

    async def by_http(path: str, token: str) -> str:
        reply = await send(app, path, authorization=[b"Bearer " + token.encode()])
        return _describe(reply.status, reply.detail)

    async def by_websocket(path: str, token: str) -> str:
        reply = await connect(app, path, authorization=[b"Bearer " + token.encode()])
        return _describe(200 if reply.status == ACCEPTED else reply.status, reply.detail)

    async def by_verify(path: str, token: str) -> str:
        try:
            if path in guards:
                await guards[path].verify(token)
            else:
                await member.verify(token, organization_id=path.rpartition("/")[2])
        except RefusalError as error:
            return f"{error.status} {error.reason}"
        return "200"

    return {"http": by_http, "websocket": by_websocket, "verify": by_verify}


async def _respond() -> None: ...


async def _accept(websocket: WebSocket) -> None:
    await websocket.accept()


def _describe(status: int, detail: Mapping[str, str]) -> str:
    return "200" if status == 200 else f"{status} {detail.get('reason')}"
