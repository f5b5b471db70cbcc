"""The nodes that FastAPI calls for a token: each admits those that were issued for its own audiences.

No `from __future__ import annotations` here: FastAPI reads the annotations of `__call__`, and finds
no module to resolve their texts in when the dependency is an object.
"""

import asyncio
import ssl
from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeAlias

from fastapi.openapi.models import HTTPBearer
from fastapi.openapi.models import SecurityBase as SchemeModel
from fastapi.requests import HTTPConnection
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase
from typing_extensions import override

from fastapi_logto.answers import build_answer
from fastapi_logto.bearer import parse_authorization
from fastapi_logto.checks import check_has_organization, check_scopes
from fastapi_logto.claims import ClaimsT
from fastapi_logto.clock import Clock
from fastapi_logto.errors import RefusalError, SettingsError
from fastapi_logto.metadata import MetadataSource, build_metadata_source
from fastapi_logto.openapi import UNSET_DESCRIPTION, build_scheme
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.tenants import TenantsVerifier
from fastapi_logto.tokens import AudiencePolicy, OpaqueTokens, TokenVerifier, build_key_source
from fastapi_logto.transport import Transport

if TYPE_CHECKING:
    import httpx

__all__ = ["OpaqueTokensSetup", "OrganizationScheme", "Provider", "TokenScheme"]

_SCOPE_KEY: Final = "fastapi_logto"


class OpaqueTokensSetup(Protocol):
    """What makes opaque tokens known: `introspection.Introspection`, seen from here."""

    def build(self, *, metadata: MetadataSource, transport: Transport, clock: Clock) -> OpaqueTokens:
        """Give what knows opaque tokens."""
        ...


class Provider(Generic[ClaimsT]):
    """The settings of a scheme and what verifies its tokens: built at the first use, shared by all nodes.

    Attributes:
        scheme_names: Names in OpenAPI of the nodes.
        clock: The clocks.
    """

    def __init__(
        self,
        settings: Sequence[LogtoSettings],
        *,
        claims_model: type[ClaimsT],
        clock: Clock,
        http_transport: "httpx.AsyncBaseTransport | None",
        ssl_context: ssl.SSLContext | None,
        opaque: OpaqueTokensSetup | None = None,
    ) -> None:
        """Remember what to build with. Does no I/O.

        Args:
            settings: The settings of each tenant; none to read the environment at the first use.
            claims_model: The class of the claims.
            clock: The clocks.
            http_transport: What sends requests instead of the network.
            ssl_context: For a private certificate authority.
            opaque: What makes opaque tokens known; they are refused without.

        Raises:
            SettingsError: Two tenants have an issuer in common, or opaque tokens are to be accepted of several.
        """
        self.scheme_names: set[str] = set()
        self.clock: Clock = clock
        self._claims_model = claims_model
        self._http_transport = http_transport
        self._ssl_context = ssl_context
        self._opaque = opaque
        self._lock = Lock()
        self._built: tuple[tuple[LogtoSettings, ...], Verifier[ClaimsT]] | None = None
        if settings:
            self._built = tuple(settings), self._build(settings)

    @property
    def tenants(self) -> tuple[LogtoSettings, ...]:
        """The settings of each tenant; read from the environment now if they were not needed before.

        Raises:
            SettingsError: The environment lacks one, or has a bad one.
        """
        return self._load()[0]

    @property
    def known_tenants(self) -> tuple[LogtoSettings, ...]:
        """The settings that are known already; none before the environment was read."""
        return self._built[0] if self._built else ()

    def load(self) -> "Verifier[ClaimsT]":
        """Give what verifies the tokens.

        Raises:
            SettingsError: The environment lacks a setting, or has a bad one.
        """
        return self._load()[1]

    async def load_beside(self) -> "Verifier[ClaimsT]":
        """Give the same without blocking the loop: the environment may mean a `.env` file."""
        return self._built[1] if self._built else await asyncio.to_thread(self.load)

    def _load(self) -> "tuple[tuple[LogtoSettings, ...], Verifier[ClaimsT]]":
        with self._lock:
            if self._built is None:
                settings = (LogtoSettings.from_environment(env_file=".env"),)
                self._built = settings, self._build(settings)
            return self._built

    def _build(self, tenants: Sequence[LogtoSettings]) -> "Verifier[ClaimsT]":
        if len(tenants) == 1:
            return self._build_one(tenants[0])
        if self._opaque is not None:
            raise SettingsError(
                "expected one tenant where opaque tokens are accepted: they name no issuer to choose by"
            )
        return TenantsVerifier([(settings, self._build_one(settings)) for settings in tenants])

    def _build_one(self, settings: LogtoSettings) -> TokenVerifier[ClaimsT]:
        transport = Transport(
            timeout_seconds=settings.fetch_timeout_seconds,
            http_transport=self._http_transport,
            ssl_context=self._ssl_context,
        )
        metadata = build_metadata_source(settings, transport=transport, clock=self.clock)
        opaque = self._opaque
        return TokenVerifier(
            settings=settings,
            keys=build_key_source(settings, metadata=metadata, transport=transport, clock=self.clock),
            clock=self.clock,
            claims_model=self._claims_model,
            opaque=None if opaque is None else opaque.build(metadata=metadata, transport=transport, clock=self.clock),
        )


Verifier: TypeAlias = TokenVerifier[ClaimsT] | TenantsVerifier[ClaimsT]
"""What verifies: for one tenant, or for several."""


class TokenScheme(SecurityBase, Generic[ClaimsT]):
    """Gives the claims of a request's bearer token. A node of its own for each audience policy."""

    def __init__(self, provider: Provider[ClaimsT], policy: AudiencePolicy, *, scheme_name: str) -> None:
        """Put the parts together. Reads no settings.

        Args:
            provider: What verifies.
            policy: For whom a token may have been issued.
            scheme_name: Name in OpenAPI.
        """
        self.scheme_name: str = scheme_name
        self._provider = provider
        self._policy = policy
        self._verifier: Verifier[ClaimsT] | None = None

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
            claims = await self._authenticate(conn)
            if security_scopes.scopes:
                check_scopes(claims, security_scopes.scopes)
        except RefusalError as error:
            raise build_answer(error, conn=conn) from error
        return claims

    async def _authenticate(self, conn: HTTPConnection) -> ClaimsT:
        verifier = self._verifier
        if verifier is None:
            # Whoever brings no token is told so, even where settings are missing.
            parse_authorization(conn.headers.getlist("authorization"))
            verifier = self._verifier = await self._provider.load_beside()
        digest = verifier.build_digest([value for name, value in conn.scope["headers"] if name == b"authorization"])
        # FastAPI calls the scheme once for each distinct set of scopes: the claims are remembered. The
        # digest stands for the token, because others read the scope of a request too.
        memory: dict[TokenScheme[Any], tuple[bytes, ClaimsT]] = conn.scope.setdefault(_SCOPE_KEY, {})
        known = memory.get(self)
        if digest and known is not None and known[0] == digest:
            return known[1]
        claims = verifier.recall(digest, self._policy)
        if claims is None:
            token = parse_authorization(conn.headers.getlist("authorization"))
            claims = await verifier.verify(token, self._policy)
        memory[self] = (digest, claims)
        return claims

    @property
    @override
    def model(self) -> SchemeModel:  # type: ignore[override] # pyright: ignore[reportIncompatibleVariableOverride] - built late, never set
        """The scheme for OpenAPI. Without good settings it says so instead of failing."""
        try:
            settings = self._provider.tenants[0]
        except SettingsError:
            # What was found is for the log of whoever runs this, not for everybody who reads the docs page.
            return HTTPBearer(description=UNSET_DESCRIPTION, bearerFormat="JWT")
        audiences = self._policy.audiences
        return build_scheme(settings, resource=settings.audience[0] if audiences is None else min(audiences))


class OrganizationScheme(TokenScheme[ClaimsT]):
    """The node of requirements that ask for an organization: the only one that admits organization tokens."""

    @override
    async def _authenticate(self, conn: HTTPConnection) -> ClaimsT:
        claims = await super()._authenticate(conn)
        check_has_organization(claims)
        return claims
