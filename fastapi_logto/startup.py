"""The parts of `auth.install(app)`: the startup checks, the OpenAPI document, and the handler of refusals."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from inspect import iscoroutinefunction
from typing import Any, cast

from fastapi import FastAPI, Request, Response, WebSocket, WebSocketException, status
from fastapi.concurrency import run_in_threadpool
from fastapi.websockets import WebSocketState

from fastapi_logto.description.openapi import SwaggerOptions, describe
from fastapi_logto.description.route_checks import check_routes, check_scheme_names
from fastapi_logto.errors import RefusalError, SettingsError
from fastapi_logto.responses import build_http_error
from fastapi_logto.state import AuthState

__all__ = ["install_handler", "install_lifespan", "install_openapi", "keep_keys"]


@asynccontextmanager
async def keep_keys(state: AuthState[Any]) -> AsyncGenerator[None]:
    """Check the settings and fetch the keys at the start of a block, and end fetches in progress at its end."""
    sources = [tenant.key_source for tenant in (await state.load_in_thread()).tenants]
    await asyncio.gather(*(keys.warm() for keys in sources))
    try:
        yield
    finally:
        for keys in sources:
            await keys.close()


def install_lifespan(app: FastAPI, state: AuthState[Any]) -> None:
    """Check settings and routes, and fetch the keys, around the lifespan of an application."""
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[Any]:
        # With the settings, which say whether a requirement's issuer is a tenant's.
        await state.load_in_thread()
        check_routes(app)
        async with keep_keys(state), inner(app) as entered:
            yield entered

    app.router.lifespan_context = lifespan


def install_handler(app: FastAPI, state: AuthState[Any]) -> None:
    """Turn errors of `auth.verify` and `requirement.check` in the application's own code into error responses.

    A handler that the application registered is kept.
    """

    async def respond(conn: Request | WebSocket, refusal: RefusalError) -> Response | None:
        # The error does not say for which of several resources the token was.
        is_clear = len(set(state.scheme_names.values())) == 1
        metadata = state.find_metadata_url(None, scope=conn.scope) if is_clear else None
        error = build_http_error(refusal, conn=conn, resource_metadata=metadata)
        if isinstance(conn, WebSocket) and (
            isinstance(error, WebSocketException) or conn.application_state is WebSocketState.CONNECTED
        ):
            await conn.close(status.WS_1008_POLICY_VIOLATION, refusal.code)
            return None
        return await _handle(app, conn, error)

    # Starlette's types know no handler for a WebSocket.
    app.exception_handlers.setdefault(RefusalError, cast("Any", respond))


async def _handle(app: FastAPI, conn: Request | WebSocket, error: Exception) -> Response | None:
    """Pass an `HTTPException` to the handler that the application has for it, as Starlette does."""
    classes = [getattr(error, "status_code", None), *type(error).__mro__]
    handler: Any = next(app.exception_handlers[key] for key in classes if key in app.exception_handlers)
    if iscoroutinefunction(handler):
        return cast("Response | None", await handler(conn, error))
    return cast("Response | None", await run_in_threadpool(handler, conn, error))


def install_openapi(app: FastAPI, state: AuthState[Any]) -> None:
    """Describe the security of an application in its OpenAPI document, and sign in on its docs page with PKCE."""
    build_document = app.openapi
    described: dict[str, Any] | None = None

    def openapi() -> dict[str, Any]:
        nonlocal described
        document = build_document()
        # FastAPI caches the document that it built, so the routes are inspected once per document.
        if document is not described:
            # Not checked yet without the lifespan, and the document shows only one scheme per name.
            check_scheme_names(app)
            describe(document, app)
            described = document
        return document

    def find_swagger_client_id() -> str | None:
        try:
            return state.tenants[0].swagger_client_id
        except SettingsError:
            return None

    # FastAPI's documented way to extend it.
    app.openapi = openapi  # type: ignore[method-assign]
    app.swagger_ui_init_oauth = SwaggerOptions(app.swagger_ui_init_oauth or {}, find_client_id=find_swagger_client_id)
