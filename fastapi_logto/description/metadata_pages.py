"""The pages of an application that tell clients where to request tokens (RFC 9728)."""

import asyncio
from collections.abc import Mapping
from threading import Lock
from typing import Any, Final

from fastapi import FastAPI, HTTPException, Request, Response, status
from fastapi.responses import JSONResponse

from fastapi_logto.description.routes import IDENTITY_SCOPE, list_scopes
from fastapi_logto.protected_resource import WELL_KNOWN, ResourceMetadata, build_resource_metadata, map_resources
from fastapi_logto.state import AuthState

__all__ = ["ResourcePages", "publish"]

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
            app.add_route(path, pages.serve, methods=["GET", "OPTIONS"], include_in_schema=False)
    pages.add(state)


class ResourcePages:
    """The metadata pages of one application: one for each resource of its states."""

    def __init__(self, app: FastAPI) -> None:
        """Store the application, whose routes define the scopes. Nothing is built yet."""
        self._app = app
        self._states: list[AuthState[Any]] = []
        self._lock = Lock()
        self._built_for: object = None
        self._pages: Mapping[str, ResourceMetadata] = {}

    def add(self, state: AuthState[Any]) -> None:
        """Add the resources of another state."""
        if state not in self._states:
            self._states.append(state)
        state.publishers = state.publishers or self._states

    async def serve(self, request: Request) -> Response:
        """Return the requested page; 404 if there is no such resource."""
        if request.method == "OPTIONS":
            return Response(status_code=status.HTTP_204_NO_CONTENT, headers=_PREFLIGHT)
        for state in self._states:
            await state.load_in_thread()
        # Anyone may request a page, so the walk through all routes is cached. It runs in a thread.
        pages = await asyncio.to_thread(self._build)
        path = request.path_params.get("path", "")
        page = pages.get(f"/{path}".rstrip("/"))
        if page is None:
            raise HTTPException(status.HTTP_404_NOT_FOUND)
        return JSONResponse(page, headers=_CORS)

    def _build(self) -> Mapping[str, ResourceMetadata]:
        with self._lock:
            indicators = [indicator for state in self._states for indicator in state.indicators]
            wanted = ([state.tenants for state in self._states], indicators)
            if self._built_for != wanted:
                self._pages = {path: self._build_page(resource) for path, resource in map_resources(indicators).items()}
                self._built_for = wanted
            return self._pages

    def _build_page(self, resource: str) -> ResourceMetadata:
        states = [state for state in self._states if resource in state.indicators]
        tenants = [settings for state in states for settings in state.tenants]
        scopes = set(list_scopes(self._app, resource=resource))
        for state in states:
            if any(resource in settings.audience for settings in state.tenants):
                scopes |= state.scope_descriptions.keys()
        return build_resource_metadata(tenants, resource=resource, scopes=scopes - {IDENTITY_SCOPE})
