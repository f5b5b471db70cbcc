"""The pages of an application that tell clients where to request tokens (RFC 9728)."""

import asyncio
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any, Final

from fastapi import FastAPI, HTTPException, Request, Response, status
from fastapi.responses import JSONResponse
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_logto.description.routes import IDENTITY_SCOPE, list_scopes
from fastapi_logto.protected_resource import (
    WELL_KNOWN,
    ResourceMetadata,
    build_end,
    build_resource_metadata,
    map_resources,
)
from fastapi_logto.single_flight import running_loop
from fastapi_logto.state import SERVED_PAGES, AuthState, ServedPages

_STATE_NAME: Final = "fastapi_logto_pages"
# Browser clients of any origin may read the pages, with any headers: they contain nothing secret.
_CORS: Final = {"Access-Control-Allow-Origin": "*"}
_PREFLIGHT: Final = {**_CORS, "Access-Control-Allow-Methods": "GET", "Access-Control-Allow-Headers": "*"}


def publish(app: FastAPI, state: AuthState[Any]) -> None:
    """Serve the metadata of a state's resources, in addition to that of the application's other states."""
    pages: ResourcePages | None = getattr(app.state, _STATE_NAME, None)
    if pages is None:
        pages = ResourcePages(app)
        setattr(app.state, _STATE_NAME, pages)
        for path in (WELL_KNOWN, WELL_KNOWN + "/{path:path}"):
            app.add_route(path, pages.serve, include_in_schema=False)
        _put_in_front(app, Middleware(_Entrance, states=pages.states))
    pages.add(state)


def _put_in_front(app: FastAPI, middleware: Middleware) -> None:
    """Run a middleware before all others of an application, even if these are added later."""
    build_stack = app.build_middleware_stack

    def build() -> ASGIApp:
        # Inside the `ServerErrorMiddleware`, which OpenTelemetry expects to be the outermost.
        app.user_middleware.insert(0, middleware)
        try:
            return build_stack()
        finally:
            app.user_middleware.remove(middleware)

    app.build_middleware_stack = build  # type: ignore[method-assign]


class _Entrance:
    """Middleware that adds the pages to the scope, for challenges, and responds to their preflights.

    The `CORSMiddleware` of an application would reject preflights from other origins or with other headers.
    """

    def __init__(self, app: ASGIApp, *, states: Sequence[AuthState[Any]]) -> None:
        self._app = app
        self._states = states

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] in {"http", "websocket"}:
            root_path: str = scope.get("root_path", "")
            mount_path = root_path.removeprefix(scope.get("app_root_path", root_path))
            scope[SERVED_PAGES] = (*scope.get(SERVED_PAGES, ()), ServedPages(self._states, mount_path))
            if scope.get("method") == "OPTIONS" and _is_preflight(scope, root_path=root_path):
                app = Response(status_code=status.HTTP_204_NO_CONTENT, headers=_PREFLIGHT)
        try:
            called = app(scope, receive, send)
        finally:
            # Error trackers show a request's headers, where they find one in a frame.
            del scope
        await called


def _is_preflight(scope: Scope, *, root_path: str) -> bool:
    path: str = scope["path"].removeprefix(root_path)
    return f"{path}/".startswith(f"{WELL_KNOWN}/") and any(
        name == b"access-control-request-method" for name, _ in scope["headers"]
    )


class ResourcePages:
    """The metadata pages of one application: one for each resource of its states.

    Attributes:
        states: The states.
    """

    def __init__(self, app: FastAPI) -> None:
        """Store the application, whose routes define the scopes. Nothing is built yet."""
        self.states: list[AuthState[Any]] = []
        self._app = app
        self._lock = Lock()
        self._built_for: object = None
        self._pages: Mapping[str, ResourceMetadata] = {}

    def add(self, state: AuthState[Any]) -> None:
        """Add the resources of another state."""
        if state not in self.states:
            self.states.append(state)

    async def serve(self, request: Request) -> Response:
        """Return the requested page; 404 if there is no such resource. `RuntimeError` if the loop is not asyncio's."""
        running_loop()
        # A server may pass on a path that is no valid UTF-8 as lone surrogates.
        path = "/" + request.path_params.get("path", "").encode("utf-8", "replace").decode()
        # A query that is not part of a resource is ignored, as by other routes.
        query = request.scope["query_string"].decode("latin-1")
        # Error trackers show a request's headers, where they find one in a frame.
        del request
        # Anyone may request a page, so the walk through all routes is cached. It runs in a thread, as does reading the
        # settings, if they have not been read yet.
        pages = await asyncio.to_thread(self._build)
        page = pages.get(build_end(path, query)) or pages.get(build_end(path, ""))
        if page is None:
            raise HTTPException(status.HTTP_404_NOT_FOUND)
        return JSONResponse(page, headers=_CORS)

    def _build(self) -> Mapping[str, ResourceMetadata]:
        with self._lock:
            indicators = [indicator for state in self.states for indicator in state.indicators]
            wanted = ([state.tenants for state in self.states], indicators)
            if self._built_for != wanted:
                self._pages = {path: self._build_page(resource) for path, resource in map_resources(indicators).items()}
                self._built_for = wanted
            return self._pages

    def _build_page(self, resource: str) -> ResourceMetadata:
        states = [state for state in self.states if resource in state.indicators]
        tenants = [settings for state in states for settings in state.tenants]
        scopes = set(list_scopes(self._app, resource=resource))
        for state in states:
            if any(resource in settings.audience for settings in state.tenants):
                scopes |= state.scope_descriptions.keys()
        # FastAPI's default title names nothing.
        name = None if self._app.title == "FastAPI" else self._app.title
        return build_resource_metadata(tenants, resource=resource, scopes=scopes - {IDENTITY_SCOPE}, name=name)
