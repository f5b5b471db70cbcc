"""The parts of `auth.install(app)`: the lifespan with the startup checks, and the OpenAPI document."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

from fastapi import FastAPI

from fastapi_logto.description.openapi import SwaggerOptions, describe
from fastapi_logto.description.route_checks import check_routes, check_scheme_names
from fastapi_logto.errors import SettingsError
from fastapi_logto.state import AuthState

__all__ = ["install_lifespan", "install_openapi", "keep_keys"]

_logger: Final = logging.getLogger("fastapi_logto")


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
        try:
            # With the settings, which say whether a requirement's issuer is a tenant's.
            await state.load_in_thread()
            check_routes(app)
        except SettingsError as error:
            # Servers print the traceback. Where the package found the mistake says nothing about it.
            _logger.critical("the application does not start: %s", error)
            raise error.with_traceback(None) from None
        async with keep_keys(state), inner(app) as entered:
            yield entered

    app.router.lifespan_context = lifespan


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
