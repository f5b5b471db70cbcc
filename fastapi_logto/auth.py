"""`LogtoAuth`, the security scheme of an application, and the default one that is configured by the environment."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, overload

from fastapi import FastAPI
from typing_extensions import Unpack

from fastapi_logto.clock import Clock
from fastapi_logto.description.metadata_pages import publish
from fastapi_logto.description.openapi import SwaggerOptions, describe
from fastapi_logto.description.route_checks import check_routes, check_scheme_names
from fastapi_logto.description.routes import list_needs, list_notes
from fastapi_logto.errors import SettingsError
from fastapi_logto.provider.key_source import ProviderHealth, combine_health
from fastapi_logto.resource_auth import ResourceAuth
from fastapi_logto.settings import LogtoSettings, SettingsArguments
from fastapi_logto.state import OpaqueTokensSetup, Provider
from fastapi_logto.verification.claims import ClaimsT, TokenClaims

if TYPE_CHECKING:
    import httpx

__all__ = [
    "LogtoAuth",
    "auth",
    "require",
    "require_any_scope",
    "require_machine",
    "require_organization",
    "require_scopes",
    "require_user",
]


class LogtoAuth(ResourceAuth[ClaimsT]):
    """Protects routes with access tokens of one or several Logto tenants.

    `Depends(auth)` returns the claims of any valid token. `Depends(auth.require_scopes("read:user"))` also requires
    scopes, and the other `require…` methods require more. FastAPI's own `Security(auth, scopes=[...])` is enforced as
    well, but an override of `auth` in `app.dependency_overrides` disables it; `fastapi_logto.testing.override` does
    not.

    Constructing one does no I/O and needs no running loop. Without settings or arguments, the environment is read at
    the first use, so importing an application never fails because of missing settings.

    Args:
        settings: The settings, instead of arguments. Pass one for each tenant if the API has users of several: a token
            is verified only by the tenant whose issuer it names.
        claims_model: A subclass of `TokenClaims` with the tenant's custom claims.
        scheme_name: The name in OpenAPI. It must be unique within an application.
        clock: The clocks; for tests.
        http_transport: Sends the requests for keys instead of the network; for tests.
        ssl_context: For a private certificate authority.
        opaque: Accept opaque tokens too, with `fastapi_logto.introspection.Introspection`. By default they are
            rejected.
        **arguments: The fields of `LogtoSettings`: `endpoint`, `audience` and optional ones.

    Raises:
        SettingsError: An argument is missing, invalid or unknown, or both settings and arguments are given.

    References:
        RFC 6750; RFC 9068.
    """

    @overload
    def __init__(
        self: "LogtoAuth[TokenClaims]",
        *,
        settings: LogtoSettings | Sequence[LogtoSettings] | None = None,
        scheme_name: str = "Logto",
        clock: Clock | None = None,
        http_transport: "httpx.AsyncBaseTransport | None" = None,
        ssl_context: ssl.SSLContext | None = None,
        opaque: OpaqueTokensSetup | None = None,
        **arguments: Unpack[SettingsArguments],
    ) -> None: ...

    @overload
    def __init__(
        self,
        *,
        settings: LogtoSettings | Sequence[LogtoSettings] | None = None,
        claims_model: type[ClaimsT],
        scheme_name: str = "Logto",
        clock: Clock | None = None,
        http_transport: "httpx.AsyncBaseTransport | None" = None,
        ssl_context: ssl.SSLContext | None = None,
        opaque: OpaqueTokensSetup | None = None,
        **arguments: Unpack[SettingsArguments],
    ) -> None: ...

    def __init__(
        self,
        *,
        settings: LogtoSettings | Sequence[LogtoSettings] | None = None,
        claims_model: type[Any] = TokenClaims,
        scheme_name: str = "Logto",
        clock: Clock | None = None,
        http_transport: "httpx.AsyncBaseTransport | None" = None,
        ssl_context: ssl.SSLContext | None = None,
        opaque: OpaqueTokensSetup | None = None,
        **arguments: Unpack[SettingsArguments],
    ) -> None:
        if settings is not None and arguments:
            raise SettingsError(
                f"expected settings or arguments, found both: settings and {', '.join(arguments)}; pass one of them"
            )
        tenants = (settings,) if isinstance(settings, LogtoSettings) else settings
        if tenants is not None and not tenants:
            raise SettingsError("expected the settings of at least one tenant, found none; pass a LogtoSettings")
        if arguments:
            tenants = (LogtoSettings(**arguments),)
        provider = Provider(
            tenants or (),
            claims_model=claims_model,
            clock=clock or Clock(),
            http_transport=http_transport,
            ssl_context=ssl_context,
            opaque=opaque,
        )
        super().__init__(provider, None, scheme_name=scheme_name)

    @property
    def settings(self) -> LogtoSettings:
        """The settings of the first tenant. They are read from the environment if that has not happened yet.

        Raises:
            SettingsError: A setting in the environment is missing or invalid.
        """
        return self._provider.tenants[0]

    def health(self) -> ProviderHealth:
        """Return the state of the cached keys; with several tenants, the worst one. Nothing is fetched."""
        return combine_health([keys.health() for keys in self._provider.load().sources])

    def install(
        self,
        app: FastAPI,
        *,
        lifespan: bool = True,
        swagger: bool = True,
        metadata: bool = True,
        scopes: Mapping[str, str] | None = None,
    ) -> None:
        """Set up an application: startup checks, early fetching of keys, sign-in on the docs page, metadata.

        Routes are protected without it. Routes that are added later, before the first request, are included.

        Args:
            app: The application.
            lifespan: Check settings and routes, and fetch the keys, at startup. The application starts even if Logto is
                unreachable. Without it, e.g. in a mounted application whose lifespan is not run, the settings are read
                when the docs page is first requested; reading a `.env` file then blocks the event loop.
            swagger: Sign in with PKCE on the docs page, and add requirements and error responses to the OpenAPI
                document.
            metadata: Serve the metadata of the protected resource (RFC 9728) below
                `/.well-known/oauth-protected-resource`. If `public_url` is set, error responses link to it.
            scopes: Descriptions of scopes by name, for the docs page. The metadata lists these scopes too, even if no
                route requires them, because a handler may check a scope itself.
        """
        self._provider.scope_descriptions.update(scopes or {})
        if lifespan:
            self._install_lifespan(app)
        if swagger:
            self._install_openapi(app)
        if metadata:
            publish(app, self._provider)

    @asynccontextmanager
    async def lifespan(self, _app: object = None) -> AsyncGenerator[None]:
        """Check the settings and fetch the keys, for applications that compose their lifespan themselves.

        Raises:
            SettingsError: A setting in the environment is missing or invalid.
        """
        sources = (await self._provider.load_in_thread()).sources
        await asyncio.gather(*(keys.warm() for keys in sources))
        try:
            yield
        finally:
            for keys in sources:
                await keys.close()

    def _install_lifespan(self, app: FastAPI) -> None:
        inner = app.router.lifespan_context

        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncGenerator[Any]:
            # With the settings, which say whether a requirement's issuer is a tenant's.
            await self._provider.load_in_thread()
            check_routes(app)
            async with self.lifespan(), inner(app) as state:
                yield state

        app.router.lifespan_context = lifespan

    def _install_openapi(self, app: FastAPI) -> None:
        build_document = app.openapi
        described: dict[str, Any] | None = None

        def openapi() -> dict[str, Any]:
            nonlocal described
            document = build_document()
            # FastAPI caches the document that it built, so the routes are inspected once per document.
            if document is not described:
                # Not checked yet without the lifespan, and the document shows only one scheme per name.
                check_scheme_names(app)
                redirect_path = app.swagger_ui_oauth2_redirect_url if app.docs_url else None
                describe(document, schemes=list_notes(app, redirect_path=redirect_path), operations=list_needs(app))
                described = document
            return document

        # FastAPI's documented way to extend it.
        app.openapi = openapi  # type: ignore[method-assign]
        app.swagger_ui_init_oauth = SwaggerOptions(
            app.swagger_ui_init_oauth or {}, find_client_id=self._find_swagger_client_id
        )

    def _find_swagger_client_id(self) -> str | None:
        try:
            return self.settings.swagger_client_id
        except SettingsError:
            return None


auth: Final = LogtoAuth()
"""The default scheme. It is configured by `LOGTO_…` variables or a `.env` file, which are read at its first use."""

require: Final = auth.require
"""`auth.require` of the default scheme."""

require_scopes: Final = auth.require_scopes
"""`auth.require_scopes` of the default scheme."""

require_any_scope: Final = auth.require_any_scope
"""`auth.require_any_scope` of the default scheme."""

require_organization: Final = auth.require_organization
"""`auth.require_organization` of the default scheme."""

require_user: Final = auth.require_user
"""`auth.require_user` of the default scheme."""

require_machine: Final = auth.require_machine
"""`auth.require_machine` of the default scheme."""
