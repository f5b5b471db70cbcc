"""`LogtoAuth`: the security scheme that an application declares, and the requirements made from it.

No `from __future__ import annotations` here: FastAPI reads the annotations of `__call__`, and finds
no module to resolve their texts in when the dependency is an object.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from inspect import Signature
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any, Final, Generic, overload

from fastapi import Depends, FastAPI
from fastapi.openapi.models import HTTPBearer
from fastapi.openapi.models import SecurityBase as SchemeModel
from fastapi.requests import HTTPConnection
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase
from typing_extensions import Unpack, override

from fastapi_logto.answers import build_answer
from fastapi_logto.bearer import parse_authorization
from fastapi_logto.checks import check_scopes
from fastapi_logto.claims import ClaimsT, TokenClaims
from fastapi_logto.clock import Clock
from fastapi_logto.errors import RefusalError, SettingsError
from fastapi_logto.keys import ProviderHealth
from fastapi_logto.openapi import UNSET_DESCRIPTION, build_scheme, describe_scopes, install_swagger
from fastapi_logto.requirements import AllScopes, AnyScope
from fastapi_logto.settings import LogtoSettings, SettingsArguments
from fastapi_logto.tokens import TokenVerifier, build_key_source
from fastapi_logto.transport import Transport

if TYPE_CHECKING:
    import httpx

__all__ = ["LogtoAuth", "OptionalLogtoAuth", "auth", "require_any_scope", "require_scopes"]

_SCOPE_KEY: Final = "fastapi_logto"


class _NotADependency:
    """Has FastAPI refuse, while a route is defined, a dependency that was meant to be called.

    Without it the parameters of such a function would be read from the query.
    """

    def __init__(self, advice: str) -> None:
        self._advice = advice

    def __call__(self) -> str:  # pragma: no cover - only there to be a callable: nobody gets past the signature
        raise TypeError(self._advice)

    @property
    def __signature__(self) -> Signature:
        raise TypeError(self._advice)


_VERIFY_IS_CALLED: Final = Depends(
    _NotADependency("auth.verify is no dependency: use Depends(auth), or await auth.verify(token) with a token at hand")
)
_REQUIREMENT_IS_CALLED: Final = Depends(
    _NotADependency('a requirement is made by a call: Depends(auth.require_scopes("read:user")), with the parentheses')
)


@dataclass(frozen=True, slots=True)
class _Parts(Generic[ClaimsT]):
    """What the settings make: known from the first use on."""

    settings: LogtoSettings
    verifier: TokenVerifier[ClaimsT]


class LogtoAuth(SecurityBase, Generic[ClaimsT]):
    """Protects routes with access tokens of one Logto tenant.

    `Depends(auth)` gives the claims of any good token; `Depends(auth.require_scopes("read:user"))`
    asks for scopes too. FastAPI's own `Security(auth, scopes=[...])` is enforced as well, but an
    override of `auth` in `app.dependency_overrides` switches that one off.

    Making one does no I/O and needs no running loop. Without settings or arguments it reads the
    environment at its first use, so that importing an application never fails for want of it.

    Args:
        settings: The settings; instead of arguments.
        claims_model: A subclass of `TokenClaims` with the tenant's custom claims.
        scheme_name: Name in OpenAPI; another one for each of several in one application.
        clock: The clocks; for tests.
        http_transport: What sends the requests for keys instead of the network; for tests.
        ssl_context: For a private certificate authority.
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
        settings: LogtoSettings | None = None,
        scheme_name: str = "Logto",
        clock: Clock | None = None,
        http_transport: "httpx.AsyncBaseTransport | None" = None,
        ssl_context: ssl.SSLContext | None = None,
        **arguments: Unpack[SettingsArguments],
    ) -> None: ...

    @overload
    def __init__(
        self,
        *,
        settings: LogtoSettings | None = None,
        claims_model: type[ClaimsT],
        scheme_name: str = "Logto",
        clock: Clock | None = None,
        http_transport: "httpx.AsyncBaseTransport | None" = None,
        ssl_context: ssl.SSLContext | None = None,
        **arguments: Unpack[SettingsArguments],
    ) -> None: ...

    def __init__(
        self,
        *,
        settings: LogtoSettings | None = None,
        claims_model: type[Any] = TokenClaims,
        scheme_name: str = "Logto",
        clock: Clock | None = None,
        http_transport: "httpx.AsyncBaseTransport | None" = None,
        ssl_context: ssl.SSLContext | None = None,
        **arguments: Unpack[SettingsArguments],
    ) -> None:
        if settings is not None and arguments:
            raise SettingsError(f"expected settings or arguments, found both: settings and {', '.join(arguments)}")
        self.scheme_name: str = scheme_name
        self._claims_model: type[ClaimsT] = claims_model
        self._clock = clock or Clock()
        self._http_transport = http_transport
        self._ssl_context = ssl_context
        self._lock = Lock()
        self._parts: _Parts[ClaimsT] | None = None
        self._optional = OptionalLogtoAuth(self)
        if settings is not None:
            self._parts = self._build(settings)
        elif arguments:
            self._parts = self._build(LogtoSettings(**arguments))

    async def __call__(self, conn: HTTPConnection, security_scopes: SecurityScopes) -> ClaimsT:
        """Give the claims of the request's bearer token. FastAPI calls this.

        Args:
            conn: The request, or a WebSocket before it is accepted.
            security_scopes: Scopes that the route and what is above it ask for, all of them.

        Returns:
            The claims.

        Raises:
            HTTPException: 401, 403 or 503, as the documentation's table of answers says; for a
                WebSocket of a server that can't deny otherwise, a `WebSocketException`.
        """
        try:
            if self._parts is None:
                # Whoever brings no token is told so, even where settings are missing.
                parse_authorization(conn.headers.getlist("authorization"))
            verifier = (self._parts or await self._load_beside()).verifier
            digest = verifier.build_digest([value for name, value in conn.scope["headers"] if name == b"authorization"])
            # FastAPI calls the scheme once for each distinct set of scopes: the claims are remembered. The
            # digest stands for the token, because others read the scope of a request too.
            memory: dict[LogtoAuth[Any], tuple[bytes, ClaimsT]] = conn.scope.setdefault(_SCOPE_KEY, {})
            known = memory.get(self)
            if digest and known is not None and known[0] == digest:
                claims = known[1]
            else:
                claims = verifier.recall(digest) or await verifier.verify(
                    parse_authorization(conn.headers.getlist("authorization"))
                )
                memory[self] = (digest, claims)
            if security_scopes.scopes:
                check_scopes(claims, security_scopes.scopes)
        except RefusalError as error:
            raise build_answer(error, conn=conn) from error
        return claims

    async def verify(self, token: Annotated[str, _VERIFY_IS_CALLED]) -> ClaimsT:
        """Give the claims of an access token that did not come in a request's header.

        Args:
            token: The token, without `Bearer`.

        Returns:
            The claims. Their scopes are not checked.

        Raises:
            InvalidTokenError: The token is not accepted; its subclass and `reason` say why.
            ProviderUnavailableError: The keys can't be had now.
            SettingsError: The environment lacks a setting.
        """
        verifier = (self._parts or await self._load_beside()).verifier
        return await verifier.verify(token)

    @property
    def optional(self) -> "OptionalLogtoAuth[ClaimsT]":
        """The dependency that gives `None` to a request without an `Authorization` header.

        A header that is there is checked in full: a bad token is never an anonymous caller.
        """
        return self._optional

    def require_scopes(self, *scopes: Annotated[str, _REQUIREMENT_IS_CALLED]) -> AllScopes[ClaimsT]:
        """Give a dependency that asks for every one of some scopes.

        Args:
            *scopes: The scopes, one in each argument.

        Returns:
            A value for `Depends`; equal to another one of the same scopes.

        Raises:
            ValueError: No scope, an empty one, or several in one text.
        """
        return AllScopes(self, scopes)

    def require_any_scope(self, *scopes: Annotated[str, _REQUIREMENT_IS_CALLED]) -> AnyScope[ClaimsT]:
        """Give a dependency that asks for at least one of some scopes.

        Args:
            *scopes: The scopes, one in each argument.

        Returns:
            A value for `Depends`; equal to another one of the same scopes.

        Raises:
            ValueError: No scope, an empty one, or several in one text.
        """
        return AnyScope(self, scopes)

    @property
    def settings(self) -> LogtoSettings:
        """The settings; read from the environment now if they were not needed before.

        Raises:
            SettingsError: The environment lacks one, or has a bad one.
        """
        return self._load().settings

    def health(self) -> ProviderHealth:
        """Give the state of the provider's keys, for a readiness route. Fetches nothing."""
        return self._load().verifier.keys.health()

    @property
    @override
    def model(self) -> SchemeModel:  # type: ignore[override] # pyright: ignore[reportIncompatibleVariableOverride] - built late, never set
        """The scheme for OpenAPI. Without good settings it says so instead of failing."""
        try:
            return build_scheme(self.settings)
        except SettingsError:
            # What was found is for the log of whoever runs this, not for everybody who reads the docs page.
            return HTTPBearer(description=UNSET_DESCRIPTION, bearerFormat="JWT")

    def install(self, app: FastAPI, *, lifespan: bool = True, swagger: bool = True) -> None:
        """Set an application up: fail at start on bad settings, warm the keys, sign in from Swagger UI.

        Nothing of it is needed for routes to be protected.

        Args:
            app: The application.
            lifespan: Check the settings and fetch the keys at start. A provider that is away does
                not keep the application from starting.
            swagger: Sign in with PKCE on the docs page, and list the scopes of the application's routes.
        """
        if lifespan:
            self._install_lifespan(app, swagger=swagger)
        if swagger:
            self._install_openapi(app)

    @asynccontextmanager
    async def lifespan(self, _app: object = None) -> AsyncGenerator[None]:
        """Check the settings and warm the keys, for composing a lifespan by hand.

        Raises:
            SettingsError: The environment lacks a setting, or has a bad one.
        """
        parts = await self._load_beside()
        await parts.verifier.keys.warm()
        try:
            yield
        finally:
            await parts.verifier.keys.close()

    def _install_lifespan(self, app: FastAPI, *, swagger: bool) -> None:
        inner = app.router.lifespan_context

        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncGenerator[Any]:
            async with self.lifespan(), inner(app) as state:
                if swagger:
                    # Once more: only now is the environment known to have been read.
                    install_swagger(app, client_id=self.settings.swagger_client_id)
                yield state

        app.router.lifespan_context = lifespan

    def _install_openapi(self, app: FastAPI) -> None:
        build_schema = app.openapi

        def openapi() -> dict[str, Any]:
            schema = build_schema()
            describe_scopes(schema, scheme_name=self.scheme_name)
            return schema

        # FastAPI's documented way to extend it.
        app.openapi = openapi  # type: ignore[method-assign]
        install_swagger(app, client_id=self._parts.settings.swagger_client_id if self._parts else None)

    def _load(self) -> _Parts[ClaimsT]:
        with self._lock:
            if self._parts is None:
                self._parts = self._build(LogtoSettings.from_environment(env_file=".env"))
            return self._parts

    async def _load_beside(self) -> _Parts[ClaimsT]:
        # The environment may mean a `.env` file, and files are not read on the loop.
        return await asyncio.to_thread(self._load)

    def _build(self, settings: LogtoSettings) -> _Parts[ClaimsT]:
        transport = Transport(
            timeout_seconds=settings.fetch_timeout_seconds,
            http_transport=self._http_transport,
            ssl_context=self._ssl_context,
        )
        keys = build_key_source(settings, transport=transport, clock=self._clock)
        verifier = TokenVerifier(settings=settings, keys=keys, clock=self._clock, claims_model=self._claims_model)
        return _Parts(settings, verifier)


class OptionalLogtoAuth(SecurityBase, Generic[ClaimsT]):
    """Gives the claims, or `None` to a request that brings no `Authorization` header at all.

    Where scopes are asked for, by `Security(auth.optional, scopes=[...])`, nobody is anonymous.
    """

    def __init__(self, auth: LogtoAuth[ClaimsT]) -> None:
        """Remember the scheme.

        Args:
            auth: The scheme that checks a header that is there.
        """
        self.auth: LogtoAuth[ClaimsT] = auth
        self.scheme_name: str = auth.scheme_name

    async def __call__(self, conn: HTTPConnection, security_scopes: SecurityScopes) -> ClaimsT | None:
        """Give the claims of the request's bearer token, or `None`. FastAPI calls this.

        Raises:
            HTTPException: As `LogtoAuth.__call__`, when there is a header.
        """
        if "authorization" not in conn.headers and not security_scopes.scopes:
            return None
        return await self.auth(conn, security_scopes)

    @property
    @override
    def model(self) -> SchemeModel:  # type: ignore[override] # pyright: ignore[reportIncompatibleVariableOverride] - built late, never set
        """The scheme for OpenAPI, the same as the one it asks."""
        return self.auth.model


auth: Final = LogtoAuth()
"""The default scheme, set up by `LOGTO_…` variables and a `.env` file at its first use."""

require_scopes: Final = auth.require_scopes
"""`auth.require_scopes` of the default scheme."""

require_any_scope: Final = auth.require_any_scope
"""`auth.require_any_scope` of the default scheme."""
