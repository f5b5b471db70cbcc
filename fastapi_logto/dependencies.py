"""`LogtoAuth`: the security scheme that an application declares, and the default one that the environment sets up."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, overload

from fastapi import FastAPI
from typing_extensions import Unpack

from fastapi_logto.claims import ClaimsT, TokenClaims
from fastapi_logto.clock import Clock
from fastapi_logto.errors import SettingsError
from fastapi_logto.keys import ProviderHealth, combine_health
from fastapi_logto.openapi import SwaggerOptions, describe
from fastapi_logto.provider import OpaqueTokensSetup, Provider
from fastapi_logto.resource_auth import ResourceAuth
from fastapi_logto.resource_pages import publish
from fastapi_logto.route_checks import check_routes, check_scheme_names
from fastapi_logto.routes import list_needs, list_notes
from fastapi_logto.settings import LogtoSettings, SettingsArguments

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
    """Protects routes with access tokens of one Logto tenant.

    `Depends(auth)` gives the claims of any good token; `Depends(auth.require_scopes("read:user"))`
    asks for scopes too, and its other `require…` methods for more. FastAPI's own
    `Security(auth, scopes=[...])` is enforced as well, but an override of `auth` in
    `app.dependency_overrides` switches that one off; `fastapi_logto.testing.override` does not.

    Making one does no I/O and needs no running loop. Without settings or arguments it reads the
    environment at its first use, so that importing an application never fails for want of it.

    Args:
        settings: The settings; instead of arguments. Those of several tenants, where the API has users of each:
            a token is verified by the tenant whose issuer it names, and by no other.
        claims_model: A subclass of `TokenClaims` with the tenant's custom claims.
        scheme_name: Name in OpenAPI; another one for each of several in one application.
        clock: The clocks; for tests.
        http_transport: What sends the requests for keys instead of the network; for tests.
        ssl_context: For a private certificate authority.
        opaque: Accept opaque tokens too, by `fastapi_logto.introspection.Introspection`; else they are refused.
        **arguments: The fields of `LogtoSettings`: `endpoint` and `audience`, and what may go with them.

    Raises:
        SettingsError: An argument is missing, bad or unknown, or both settings and arguments are given.

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
            raise SettingsError(f"expected settings or arguments, found both: settings and {', '.join(arguments)}")
        tenants = (settings,) if isinstance(settings, LogtoSettings) else settings
        if tenants is not None and not tenants:
            raise SettingsError("expected the settings of at least one tenant, found none")
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
        """The settings, of the first tenant; read from the environment now if they were not needed before.

        Raises:
            SettingsError: The environment lacks one, or has a bad one.
        """
        return self._provider.tenants[0]

    def health(self) -> ProviderHealth:
        """Give the state of the provider's keys, of several tenants the worst. Fetches nothing."""
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
        """Set an application up: fail at start on bad settings, warm the keys, document and sign in, help clients.

        Nothing of it is needed for routes to be protected. What is added to the application before its first request
        is seen too.

        Args:
            app: The application.
            lifespan: Check the settings and fetch the keys at start. A provider that is away does
                not keep the application from starting. Without it, as in a mounted application whose lifespan
                nobody runs, the first look at the docs page reads the environment, a `.env` file of it on the loop.
            swagger: Sign in with PKCE on the docs page, and have OpenAPI say what each operation asks for and
                how it refuses.
            metadata: Serve the metadata of the protected resource (RFC 9728) below
                `/.well-known/oauth-protected-resource`; with `public_url` among the settings refusals name it.
            scopes: What scopes mean, by name, for the docs page. The metadata lists those that no route asks
                for too, because a handler does itself.
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
        """Check the settings and warm the keys, for composing a lifespan by hand.

        Raises:
            SettingsError: The environment lacks a setting, or has a bad one.
        """
        sources = (await self._provider.load_beside()).sources
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
            await self._provider.load_beside()
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
            # FastAPI keeps the document that it built: the routes are walked through once for each.
            if document is not described:
                # Without the lifespan nobody has checked it, and the document shows one scheme for each name.
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
"""The default scheme, set up by `LOGTO_…` variables, or a `.env` file, at its first use."""

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
