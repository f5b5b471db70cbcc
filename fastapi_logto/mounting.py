"""Mount any ASGI application behind a requirement. FastAPI's own `app.mount` leaves it open to everyone.

No `from __future__ import annotations` here: FastAPI reads the annotations of the endpoints.
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any, Final

from fastapi import (
    APIRouter,
    Depends,
    FastAPI,
    HTTPException,
    Request,
    Response,
    WebSocket,
    WebSocketException,
    params,
    status,
)
from fastapi.requests import HTTPConnection
from pydantic import SecretStr
from starlette.authentication import AuthCredentials, SimpleUser
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typing_extensions import override

from fastapi_logto.alternatives import AlternativeScheme
from fastapi_logto.caller import remember_caller, token_of
from fastapi_logto.description.routes import MOUNTED_ATTRIBUTE, MOUNTED_PATH, iter_routes
from fastapi_logto.requirements import Requirement
from fastapi_logto.schemes import OptionalScheme, TokenScheme
from fastapi_logto.verification.claims import TokenClaims

_MCP_SDK: Final = "mcp.server.auth.middleware.bearer_auth"
"""The module of the MCP SDK that defines its authenticated user. Every MCP server imports it."""

_METHODS: Final = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def mount_protected(app: FastAPI | APIRouter, *, path: str, mounted: ASGIApp, requires: Callable[..., Any]) -> None:
    """Mount an ASGI application that requires a valid token, such as an MCP server, static files or another API.

    `app.mount` forwards requests without running any dependency of the application. This function runs one, so error
    responses, `dependency_overrides`, the startup checks and the metadata work as for a route. The mounted application
    gets the same ASGI scope as with `app.mount`, and reads the claims with `claims_of`. As with `app.mount`, its
    lifespan is not run.

    Starlette's `request.user` and `request.auth` describe the caller: the identity is the subject, and the granted
    scopes are those of the token and `authenticated`. If the MCP SDK is loaded, the user is its `AuthenticatedUser`,
    so `get_access_token()` works, and an MCP session can only be used by the caller who started it. Versions of the SDK
    before 1.27.2 do **not** check that.

    Args:
        app: The application, or one of its routers.
        path: Where to mount, such as `/mcp`. Parameters are allowed, such as `{organization_id}`.
        mounted: The ASGI application.
        requires: `auth`, a requirement, or your own dependency that depends on one of them. The return value of your
            own dependency is ignored.

    Raises:
        ValueError: The path does not start with a slash, is only `/`, or has a `:path` parameter; or `requires` would
            allow requests without a token, as `auth.optional` does.
    """
    prefix = path.rstrip("/")
    if not prefix.startswith("/") or ":path}" in prefix:
        raise ValueError(f"path: expected a path such as /mcp, without a :path parameter, found {path!r}")
    source = _find_claims_source(requires)
    gates = [] if source.dependency is requires else [Depends(requires)]

    async def forward(request: Request, claims: Annotated[TokenClaims, source]) -> Response:
        prepared = _prepare(mounted, request, claims)
        # Error trackers show a request's headers, where they find one in a frame.
        del request
        if prepared is None:
            raise HTTPException(status.HTTP_404_NOT_FOUND)
        return prepared

    async def forward_websocket(websocket: WebSocket, claims: Annotated[TokenClaims, source]) -> None:
        prepared = _prepare(mounted, websocket, claims)
        called = None if prepared is None else prepared(websocket.scope, websocket.receive, websocket.send)
        del websocket
        if called is None:
            raise WebSocketException(status.WS_1008_POLICY_VIOLATION)
        await called

    setattr(forward, MOUNTED_ATTRIBUTE, mounted)
    for one in (prefix, f"{prefix}/{{{MOUNTED_PATH}:path}}"):
        app.add_api_route(
            one,
            forward,
            methods=_METHODS,
            include_in_schema=False,
            dependencies=gates,
        )
        app.add_api_websocket_route(one, forward_websocket, dependencies=gates)


def _find_claims_source(requires: Callable[..., Any]) -> params.Depends:
    """Return the dependency that returns the claims, after checking that a token is always required.

    FastAPI calls a dependency after those that it depends on. So a dependency is safe if a scheme that is not optional
    is among these, whatever the dependency does itself.
    """
    if callable(requires):
        probe = APIRouter(dependencies=[Depends(requires)])
        probe.add_api_route("/", _do_nothing)
        for call in next(iter_routes(probe)).calls:
            # The owner of other credentials has no claims.
            if not (call.is_optional or isinstance(call.scheme, AlternativeScheme)):
                is_ours = issubclass(type(requires), TokenScheme | Requirement)
                return params.Depends(requires) if is_ours else params.Security(call.scheme, scopes=call.scopes)
    found = (
        "auth.optional"
        if isinstance(requires, OptionalScheme)
        else getattr(requires, "__name__", type(requires).__name__)
    )
    raise ValueError(
        f"requires: expected auth or a requirement, found {found}, which allows requests without a token; "
        'pass auth, auth.require_scopes("..."), or a dependency that depends on one of them'
    )


async def _do_nothing() -> None: ...


class _User(SimpleUser):
    """The caller, for Starlette. Older versions of it leave `identity` unimplemented."""

    @property
    @override
    def identity(self) -> str:
        return self.username


class _Mounted(Response):
    """The mounted application with its scope. For FastAPI it is a response, which runs with the server's connection."""

    def __init__(self, app: ASGIApp, conn: Request | WebSocket, *, scope: Scope) -> None:
        super().__init__()
        self._app = app
        self._conn = conn
        self._scope = scope

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Error trackers show a request's headers, where they find one in a frame.
        del scope
        await self._app(self._scope, await self._find_receive(receive), send)
        if self.background is not None:
            # Background tasks of dependencies: FastAPI attaches them to the response.
            await self.background()

    async def _find_receive(self, receive: Receive) -> Receive:
        """Return the source of the request body, which repeats it if a dependency has read it already."""
        # Starlette checks the same attribute to return a body twice.
        if not isinstance(self._conn, Request) or not hasattr(self._conn, "_body"):
            return receive
        body: Message | None = {"type": "http.request", "body": await self._conn.body(), "more_body": False}

        async def replay() -> Message:
            nonlocal body
            message, body = body, None
            return await receive() if message is None else message

        return replay


def _prepare(mounted: ASGIApp, conn: Request | WebSocket, claims: TokenClaims) -> _Mounted | None:
    """Return the mounted application with the scope that it gets, ready to be called; `None` if it has no such path."""
    scope = _build_scope(conn, claims)
    if scope is None:
        return None
    return _Mounted(_identify_caller(mounted, conn, claims, scope=scope), conn, scope=scope)


def _identify_caller(mounted: ASGIApp, conn: HTTPConnection, claims: TokenClaims, *, scope: Scope) -> ASGIApp:
    """Add the caller to the scope of a mounted application, and return the application to call with it.

    Without its own user in the scope, the MCP SDK would let any caller continue the session of another one.
    """
    scope["user"] = _User(claims.sub)
    scope["auth"] = AuthCredentials(["authenticated", *sorted(claims.scopes)])
    if _MCP_SDK not in sys.modules:
        return mounted
    from fastapi_logto.mcp_user import AuthContextMiddleware, build_mcp_user  # noqa: PLC0415 - needs the SDK

    token: SecretStr | None = None
    # A test that overrides the caller has none.
    with suppress(LookupError):
        token = token_of(conn)
    scope["user"] = build_mcp_user(claims, token)
    return AuthContextMiddleware(mounted)


def _build_scope(conn: Request | WebSocket, claims: TokenClaims) -> Scope | None:
    """Return the scope that `starlette.routing.Mount` would build; `root_path` ends at the mounted application.

    `None` if the path ends with a line break, which the pattern of the route ignores.
    """
    remember_caller(conn, claims)
    scope = conn.scope
    root_path: str = scope.get("root_path", "")
    path: str = scope["path"]
    if root_path and not f"{path}/".startswith(root_path.rstrip("/") + "/"):
        # A proxy removed the prefix that `root_path` names. ASGI servers include it in the path, so it is added.
        path = root_path + path
    below: str | None = scope["path_params"].get(MOUNTED_PATH)
    if below is None:
        # `/mcp` is the root of the mounted application, without a redirect to `/mcp/`.
        path, below = path + "/", ""
    if not path.endswith(f"/{below}") or path.endswith("\n/"):
        return None
    return {
        **scope,
        "path": path,
        "app_root_path": scope.get("app_root_path", root_path),
        "root_path": path[: len(path) - len(below)].removesuffix("/"),
        "path_params": {name: value for name, value in scope["path_params"].items() if name != MOUNTED_PATH},
    }
