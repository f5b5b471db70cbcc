"""The parts of `auth.install(app)`: the startup checks, the OpenAPI document, and the handler of refusals."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from inspect import iscoroutinefunction
from typing import Any, Final, cast

from fastapi import FastAPI, Request, Response, WebSocket, WebSocketException, status
from fastapi.concurrency import run_in_threadpool
from fastapi.websockets import WebSocketState

from fastapi_logto.description.docs_page import SwaggerOptions
from fastapi_logto.description.openapi import describe, list_offered_scopes
from fastapi_logto.description.route_checks import check_routes, check_scheme_names
from fastapi_logto.errors import RefusalError, SettingsError
from fastapi_logto.responses import build_http_error
from fastapi_logto.revocation.revocations import find_feeds
from fastapi_logto.state import AuthState

_logger: Final = logging.getLogger("fastapi_logto")


@asynccontextmanager
async def keep_keys(state: AuthState[Any]) -> AsyncGenerator[None]:
    """Check the settings, fetch the keys and load the revocations at the start of a block; end all that at its end."""
    sources = [tenant.key_source for tenant in (await state.load_in_thread()).tenants]
    # Of this moment: a test may replace it inside the block.
    feed = None if state.revocations is None else find_feeds(state.revocations).current
    await asyncio.gather(*(keys.warm() for keys in sources), *([] if feed is None else [feed.warm()]))
    try:
        yield
    finally:
        for keys in sources:
            await keys.close()
        if feed is not None:
            await feed.close()


class DescribedDocument:
    """A replacement for `app.openapi` that adds security, scopes and error responses to the document."""

    def __init__(self, app: FastAPI) -> None:
        """Keep the function of the application, which builds the document."""
        self._app = app
        self._build = app.openapi
        self._described: dict[str, Any] | None = None

    def __call__(self) -> dict[str, Any]:
        """Return the complete document. FastAPI calls this."""
        document = self._build()
        # FastAPI caches the document that it built, so the routes are inspected once per document.
        if document is not self._described:
            # Not checked yet without the lifespan, and the document shows only one scheme per name.
            check_scheme_names(self._app)
            describe(document, self._app)
            self._described = document
        return document

    def check_is_used(self) -> None:
        """Reject a function that the application put in place of this one later, unless it calls this one."""
        if not isinstance(self._app.openapi, DescribedDocument) and self._described is None:
            self._app.openapi()
            if self._described is None:
                raise SettingsError(
                    "app.openapi: expected the function that auth.install(app) set, or one that calls it, found "
                    "another one, so the docs page would show no scopes and no error responses; set app.openapi before "
                    "auth.install(app)"
                )


def install_lifespan(app: FastAPI, state: AuthState[Any], document: DescribedDocument | None) -> None:
    """Check settings, routes and the OpenAPI document, and fetch the keys, around the lifespan of an application."""
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[Any]:
        try:
            # With the settings, which say whether a requirement's issuer is a tenant's.
            await state.load_in_thread()
            check_routes(app)
        except SettingsError as error:
            # Servers print the traceback. The package's own frames do not help to find the mistake.
            _logger.critical("the application does not start: %s", error)
            raise error.with_traceback(None) from None
        async with keep_keys(state), inner(app) as entered:
            if document is not None:
                # Last, because a function of the application may need what its lifespan prepares.
                document.check_is_used()
            yield entered

    app.router.lifespan_context = lifespan


def install_handler(app: FastAPI, state: AuthState[Any]) -> None:
    """Turn errors of `auth.verify` and `requirement.check` in the application's own code into error responses.

    A handler that the application registered is kept.
    """

    async def respond(conn: Request | WebSocket, refusal: RefusalError) -> Response | None:
        # The error does not say for which of several resources the token was.
        pages = state.find_pages(conn.scope)
        schemes = {(id(one), names) for one in pages.states for names in one.scheme_names.values()} if pages else ()
        metadata = state.find_metadata_url(None, scope=conn.scope) if len(schemes) == 1 else None
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


def install_openapi(app: FastAPI, state: AuthState[Any]) -> DescribedDocument:
    """Describe the security of an application in its OpenAPI document, and sign in on its docs page with PKCE."""

    def find_swagger_client_id() -> str | None:
        try:
            return state.tenants[0].swagger_client_id
        except SettingsError:
            return None

    # FastAPI's documented way to extend it. One document describes the schemes of every `LogtoAuth`.
    document = app.openapi if isinstance(app.openapi, DescribedDocument) else DescribedDocument(app)
    app.openapi = document  # type: ignore[method-assign]
    options: Any = app.swagger_ui_init_oauth
    if not isinstance(options, SwaggerOptions):
        options = SwaggerOptions(options or {}, find_scopes=partial(list_offered_scopes, app))
        app.swagger_ui_init_oauth = options
    options.add_client(find_swagger_client_id)
    return document
