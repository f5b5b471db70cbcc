"""The application that the fuzzer sends requests to: its handlers record for which request and caller they ran."""

import itertools
from typing import Annotated, Final, Literal, TypeAlias

from fastapi import Depends, FastAPI, Path, Request, WebSocket
from fastapi.requests import HTTPConnection
from fastapi.responses import JSONResponse
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from fastapi_logto import LogtoAuth, OrganizationSource, TokenClaims
from fastapi_logto.caller import claims_of
from fastapi_logto.mounting import mount_protected
from fastapi_logto.revocation import Event, Revocations

API: Final = "https://api.example.test"
SIGNING_KEY: Final = "signing-key-of-the-fuzzer-012345"
ORGANIZATION_HEADER: Final = "X-Organization"
RECORDS: Final = "/-/records"
"""The open page that returns the records since the last request for it."""

Fault: TypeAlias = Literal["", "weak", "stops"]
"""The planted faults that the fuzzer must find: weak routes, or an application that stops after some requests."""

_CALLS_BEFORE_THE_STOP: Final = 5
_METHODS: Final = ["GET", "POST"]


class _Records:
    """The records of the handlers."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._rows: list[dict[str, object]] = []

    def add(self, conn: HTTPConnection, route: str, claims: TokenClaims | None, *named: str) -> dict[str, object]:
        """Record that a handler ran. `named` are the organizations of the request that the handler reads."""
        if self._fault == "weak":
            named = tuple(f"{one}x" for one in named)
        subject = None if claims is None else claims.sub
        if self._fault == "weak" and route == "scoped":
            subject = "mallory"
        row: dict[str, object] = {
            # Some servers treat a fragment as a part of the query.
            "case": conn.query_params.get("case", "").partition("#")[0],
            "route": route,
            "subject": subject,
            "checked": None if claims is None else claims.organization_id,
            "named": named,
        }
        self._rows.append(row)
        return row

    def add_event(self, event: Event) -> None:
        """Record a webhook. Its id contains the number of the case."""
        row: dict[str, object] = {
            "case": event.hook_id,
            "route": "webhook",
            "subject": "",
            "checked": None,
            "named": (),
        }
        self._rows.append(row)

    def take(self) -> list[dict[str, object]]:
        """Return the records and delete them."""
        rows, self._rows = self._rows, []
        return rows


def build_app(endpoint: str, *, fault: Fault = "") -> FastAPI:
    """Return the application, protected by an issuer."""
    records = _Records(fault)

    async def note(event: Event) -> None:
        records.add_event(event)

    revocations = Revocations(on_event=note)
    auth = LogtoAuth(
        endpoint=endpoint,
        audience=API,
        accept_subprotocol_tokens=True,
        revocations=revocations,
        # Long, so that the application does not start without keys on a busy machine.
        fetch_timeout_seconds=60,
    )
    app = FastAPI()
    auth.install(app)
    app.include_router(revocations.webhooks(signing_key=SIGNING_KEY))
    app.add_route(RECORDS, lambda _: JSONResponse(records.take()))
    if fault:
        _weaken(app, fault, records)
    _add_routes(app, auth, records)
    _add_organizations(app, auth, records)
    _add_websockets(app, auth, records)
    return app


def _add_routes(app: FastAPI, auth: LogtoAuth, records: _Records) -> None:
    @app.api_route("/any", methods=_METHODS)
    async def any_token(request: Request, claims: Annotated[TokenClaims, Depends(auth)]) -> object:
        return records.add(request, "any", claims)

    @app.api_route("/scoped", methods=_METHODS)
    async def scoped(request: Request, claims: Annotated[TokenClaims, Depends(auth.require_scopes("read"))]) -> object:
        return records.add(request, "scoped", claims)

    @app.api_route("/optional", methods=_METHODS)
    async def optional(request: Request, claims: Annotated[TokenClaims | None, Depends(auth.optional)]) -> object:
        return records.add(request, "optional", claims)

    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        conn = HTTPConnection(scope)
        response = JSONResponse(records.add(conn, "mounted", claims_of(conn)))
        await response(scope, receive, send)

    mount_protected(app, path="/mounted", mounted=mounted, requires=auth)


def _add_organizations(app: FastAPI, auth: LogtoAuth, records: _Records) -> None:
    in_path = auth.require_organization()
    in_header = auth.require_organization(organization=OrganizationSource.from_header(ORGANIZATION_HEADER))

    @app.api_route("/organizations/{organization_id}/items", methods=_METHODS)
    async def items(
        request: Request, claims: Annotated[TokenClaims, Depends(in_path)], organization_id: Annotated[str, Path()]
    ) -> object:
        seen = str(request.path_params["organization_id"])
        return records.add(request, "organization", claims, organization_id, seen)

    @app.api_route("/deep/{organization_id:path}/items", methods=_METHODS)
    async def deep(
        request: Request, claims: Annotated[TokenClaims, Depends(in_path)], organization_id: Annotated[str, Path()]
    ) -> object:
        return records.add(request, "organization", claims, organization_id)

    @app.api_route("/by-header", methods=_METHODS)
    async def by_header(request: Request, claims: Annotated[TokenClaims, Depends(in_header)]) -> object:
        return records.add(request, "organization", claims, *request.headers.getlist(ORGANIZATION_HEADER))

    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        conn = HTTPConnection(scope)
        # As read by an application that was mounted at this path, and by one that reads the whole path.
        above, below = scope["root_path"], scope["path"]
        seen = (scope["path_params"]["organization_id"], above.split("/")[2], below.split("/")[2])
        response = JSONResponse(records.add(conn, "organization", claims_of(conn), *seen))
        await response(scope, receive, send)

    mount_protected(app, path="/tenants/{organization_id}", mounted=mounted, requires=in_path)


def _add_websockets(app: FastAPI, auth: LogtoAuth, records: _Records) -> None:
    async def accept(websocket: WebSocket) -> None:
        await websocket.accept("bearer" if "bearer" in websocket.scope["subprotocols"] else None)
        await websocket.close()

    @app.websocket("/any")
    async def any_token(websocket: WebSocket, claims: Annotated[TokenClaims, Depends(auth)]) -> None:
        records.add(websocket, "any", claims)
        await accept(websocket)

    @app.websocket("/scoped")
    async def scoped(
        websocket: WebSocket, claims: Annotated[TokenClaims, Depends(auth.require_scopes("read"))]
    ) -> None:
        records.add(websocket, "scoped", claims)
        await accept(websocket)

    @app.websocket("/optional")
    async def optional(websocket: WebSocket, claims: Annotated[TokenClaims | None, Depends(auth.optional)]) -> None:
        records.add(websocket, "optional", claims)
        await accept(websocket)

    @app.websocket("/organizations/{organization_id}/items")
    async def items(
        websocket: WebSocket, claims: Annotated[TokenClaims, Depends(auth.require_organization())], organization_id: str
    ) -> None:
        records.add(websocket, "organization", claims, organization_id)
        await accept(websocket)


def _weaken(app: FastAPI, fault: Fault, records: _Records) -> None:
    """Replace `/any` and `/optional`: the first route that matches wins."""
    calls = itertools.count()

    async def admit(request: Request) -> JSONResponse:
        return JSONResponse(records.add(request, request.url.path.strip("/"), None))

    async def misbehave(request: Request) -> Response:
        call = next(calls)
        if fault == "stops" and call > _CALLS_BEFORE_THE_STOP:
            app.router.routes.clear()
        if fault == "weak" and call % 3 == 1:
            raise RuntimeError
        if fault == "weak" and call % 3 == 2:
            return PlainTextResponse(f"invalid {request.headers.get('authorization')}", status_code=401)
        return await admit(request)

    app.add_route("/any", misbehave, methods=_METHODS)
    if fault == "weak":
        app.add_route("/optional", admit, methods=_METHODS)
