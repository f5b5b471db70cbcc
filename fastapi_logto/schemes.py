"""The dependencies that FastAPI calls to verify a token. Each accepts tokens for its own audiences.

No `from __future__ import annotations` here: FastAPI reads the annotations of `__call__`, and if the dependency is an
object it finds no module in which to resolve string annotations.
"""

from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast

from fastapi import WebSocket
from fastapi.openapi.models import HTTPBearer
from fastapi.openapi.models import SecurityBase as SchemeModel
from fastapi.requests import HTTPConnection
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase
from pydantic import SecretStr
from typing_extensions import override

from fastapi_logto.caller import forget_caller, remember_caller
from fastapi_logto.errors import ForbiddenError, MalformedTokenError, RefusalError, SettingsError
from fastapi_logto.expiry import CLOSE_TIMEOUT_SECONDS, check_is_claims, check_stream, close_after, pass_on
from fastapi_logto.misuse import must_be_called
from fastapi_logto.protected_resource import find_resource
from fastapi_logto.responses import build_http_error
from fastapi_logto.scheme_model import UNSET_DESCRIPTION, build_model
from fastapi_logto.state import AuthState
from fastapi_logto.verification.bearer import USUAL_START, has_credentials, parse_authorization
from fastapi_logto.verification.checks import check_has_organization, check_scopes
from fastapi_logto.verification.claims import ClaimsT, TokenClaims
from fastapi_logto.verification.tenants import AudiencePolicy
from fastapi_logto.verification.verifier import TokenVerifier

ChunkT = TypeVar("ChunkT")

SUBPROTOCOL: Final = "bearer"
"""The subprotocol after which a browser offers the token of a WebSocket."""

_LONGEST_CONNECTION_SECONDS: Final = 10 * 366 * 24 * 3600


class TokenScheme(SecurityBase, Generic[ClaimsT]):
    """Returns the claims of a request's bearer token. There is one for each audience policy."""

    def __init__(self, state: AuthState[ClaimsT], policy: AudiencePolicy, *, scheme_name: str) -> None:
        """Store the parts. No settings are read."""
        self.scheme_name: str = scheme_name
        self._state = state
        self._policy = policy

    async def __call__(self, conn: HTTPConnection, security_scopes: SecurityScopes) -> ClaimsT:
        """Return the claims of the request's bearer token. FastAPI calls this.

        Args:
            conn: The request, or a WebSocket before it is accepted.
            security_scopes: All scopes that the route and its dependencies require.

        Returns:
            The claims.

        Raises:
            HTTPException: 401, 403 or 503; see the table of error responses in the documentation. For a WebSocket whose
                server does not support denial responses, a `WebSocketException`.
        """
        headers: list[bytes] = []
        try:
            headers = _read_headers(conn)
            if conn.scope["type"] == "websocket":
                headers += await _read_subprotocol(conn, self._state)
            verifier = self._state.verifier or await self._load(conn, headers)
            claims = await verifier.verify_header(headers, self._policy)
            remember_caller(conn, claims, headers)
            check_route(self, claims, security_scopes.scopes)
        except RefusalError as error:
            if not isinstance(error, ForbiddenError):
                forget_caller(conn)
            raise build_http_error(
                error, conn=conn, scopes=security_scopes.scopes, resource_metadata=find_metadata_url(self, conn)
            ) from error
        finally:
            # Error trackers show a request's headers, where they find one in a frame.
            del conn, headers
        return claims

    async def _load(self, conn: HTTPConnection, headers: list[bytes]) -> TokenVerifier[ClaimsT]:
        try:
            if self._state.find_pages(conn.scope) is not None:
                # A client that discovers the tenant from the response sends its first request without a token.
                with suppress(SettingsError):
                    await self._state.load_in_thread()
            # A request without a token gets its error even if settings are missing.
            parse_authorization(headers)
        finally:
            del conn, headers
        return await self._state.load_in_thread()

    @must_be_called(
        "expected a dependency, found auth.verify, which is none; use Depends(auth), or call await auth.verify(token)"
    )
    async def verify(self, token: str) -> ClaimsT:
        """Return the claims of an access token that did not come in a request header.

        Args:
            token: The token, without `Bearer`.

        Returns:
            The claims. Scopes are not checked.

        Raises:
            InvalidTokenError: The token is invalid; the subclass and `reason` say why.
            ProviderUnavailableError: The token can't be verified now: Logto or the revocation store is unavailable, or
                too many tokens are waiting.
            SettingsError: A setting in the environment is missing or invalid.
        """
        secret, found = SecretStr(token) if isinstance(cast("object", token), str) else None, type(token).__name__
        # Error trackers show what they find in a frame.
        del token
        if secret is None:
            raise MalformedTokenError(expected="a string", found=found)
        verifier = await self._state.load_in_thread()
        return await verifier.verify(secret, self._policy)

    def closing_at_expiry(
        self, websocket: WebSocket, claims: TokenClaims, *, close_timeout_seconds: float = CLOSE_TIMEOUT_SECONDS
    ) -> AbstractAsyncContextManager[None]:
        """Close a WebSocket when the token that opened it ends, with code 1008 and the reason `expired` or `revoked`.

        ```python
        async with auth.closing_at_expiry(websocket, claims):
            async for text in websocket.iter_text(): ...
        ```

        The block is cancelled at that time. If the client has stopped reading, closing ends at a time limit, and the
        server ends the connection after the handler has returned.

        Args:
            websocket: The accepted WebSocket.
            claims: The claims of the token.
            close_timeout_seconds: The time limit for closing.

        Returns:
            The context manager.

        Raises:
            TypeError: `claims` has another type, e.g. is the `None` of `auth.optional`.
        """
        check_is_claims(claims)
        return close_after(
            websocket,
            seconds=self._seconds_left(claims),
            timeout_seconds=close_timeout_seconds,
            watch=partial(self._state.watch, claims),
        )

    def until_expiry(self, chunks: AsyncIterable[ChunkT], claims: TokenClaims) -> AsyncGenerator[ChunkT]:
        """Forward a stream until the token that requested it expires or is revoked, then close the stream.

        ```python
        return StreamingResponse(auth.until_expiry(read_events(), claims))
        ```

        The stream is closed on time even if the client has stopped reading. The connection of such a client ends when
        the server or a proxy ends it.

        Args:
            chunks: The chunks of the response: an async generator or another async iterator. Plain generators are
                rejected, because they can't be interrupted while they wait.
            claims: The claims of the token.

        Returns:
            The chunks, until the token ends.

        Raises:
            TypeError: `chunks` is not an async iterator, or `claims` has another type.
        """
        check_stream(chunks)
        check_is_claims(claims)
        return pass_on(
            chunks, find_seconds=partial(self._seconds_left, claims), watch=partial(self._state.watch, claims)
        )

    def _seconds_left(self, claims: TokenClaims) -> float:
        # The same leeway as for requests. Otherwise a connection could end right after it was accepted.
        leeway = max((settings.leeway_seconds for settings in self._state.known_tenants), default=0.0)
        now = self._state.clock.now()
        # `exp` may be an integer too large for a float.
        return max(0.0, float(min(claims.exp, now + _LONGEST_CONNECTION_SECONDS)) + leeway - now)

    @property
    @override
    def model(self) -> SchemeModel:  # type: ignore[override] # pyright: ignore[reportIncompatibleVariableOverride] - built late, never set
        """The OpenAPI model. Without valid settings, its description says so, and no error is raised."""
        try:
            settings = self._state.tenants[0]
        except SettingsError:
            # The details belong in the log of the operator, not on a docs page that anyone may read.
            return HTTPBearer(description=UNSET_DESCRIPTION, bearerFormat="JWT")
        return build_model(settings, resource=find_resource(settings, self._policy.audiences))


class OrganizationScheme(TokenScheme[ClaimsT]):
    """The scheme for requirements with an organization: the only one that accepts organization tokens."""

    def __init__(self, state: AuthState[ClaimsT], audiences: frozenset[str] | None, *, scheme_name: str) -> None:
        """Store the parts. Tokens for `audiences` are accepted too; `None` means those of the settings."""
        policy = AudiencePolicy(audiences, accepts_organizations=True)
        super().__init__(state, policy, scheme_name=scheme_name)


class ScopeOfRequirement(str):
    """A scope that a requirement passes to its scheme for the OpenAPI document and the challenge."""

    __slots__ = ()


class OptionalScheme(SecurityBase, Generic[ClaimsT]):
    """Returns the claims, or `None` if a request has no bearer token: no header, an empty one, or another scheme.

    If scopes are required, with `Security(auth.optional, scopes=[...])`, a token is always required.
    """

    def __init__(self, scheme: TokenScheme[ClaimsT]) -> None:
        """Store the scheme that checks the header if there is one."""
        self.scheme_name: str = scheme.scheme_name
        self._scheme = scheme

    async def __call__(self, conn: HTTPConnection, security_scopes: SecurityScopes) -> ClaimsT | None:
        """Return the claims of the request's bearer token, or `None`. FastAPI calls this.

        Raises:
            HTTPException: As in `TokenScheme.__call__`, if there is a bearer token.
        """
        try:
            if not security_scopes.scopes and not await self._has_credentials(conn):
                forget_caller(conn)
                return None
            checked = self._scheme(conn, security_scopes)
        finally:
            # Error trackers show a request's headers, where they find one in a frame.
            del conn
        return await checked

    async def _has_credentials(self, conn: HTTPConnection) -> bool:
        try:
            is_websocket = conn.scope["type"] == "websocket"
            return has_credentials(_read_headers(conn)) or (
                is_websocket and bool(await _read_subprotocol(conn, find_state(self)))
            )
        finally:
            # Error trackers show a request's headers, where they find one in a frame.
            del conn

    @property
    @override
    def model(self) -> SchemeModel:  # type: ignore[override] # pyright: ignore[reportIncompatibleVariableOverride] - built late, never set
        """The OpenAPI model, the same as that of its scheme."""
        return self._scheme.model


AnyScheme: TypeAlias = TokenScheme[ClaimsT] | OptionalScheme[ClaimsT]
"""What a route may depend on to get claims."""


def find_state(scheme: AnyScheme[ClaimsT]) -> AuthState[ClaimsT]:
    """Return the state that a scheme shares with others. For this package: users have no need of it."""
    return find_scheme(scheme)._state  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - of this module


def find_policy(scheme: AnyScheme[Any]) -> AudiencePolicy:
    """Return the audience policy of a scheme."""
    return find_scheme(scheme)._policy  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - of this module


def find_resources(scheme: AnyScheme[Any]) -> frozenset[str]:
    """Return the resource indicators that a scheme accepts as audience; empty while there are no valid settings."""
    return find_state(scheme).find_resources(find_policy(scheme).audiences)


def find_metadata_url(scheme: AnyScheme[Any], conn: HTTPConnection) -> str | None:
    """Return the URL of the metadata of a scheme's resource, for a response; `None` if there is no such page."""
    return find_state(scheme).find_metadata_url(find_policy(scheme).audiences, scope=conn.scope)


def find_scheme(scheme: AnyScheme[ClaimsT]) -> TokenScheme[ClaimsT]:
    """Return the scheme that checks the tokens."""
    if isinstance(scheme, OptionalScheme):
        return scheme._scheme  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - of this module
    return scheme


def check_route(scheme: TokenScheme[Any], claims: TokenClaims, scopes: Sequence[str]) -> None:
    """Check claims against the scopes of a route, and require an organization if the scheme does.

    If all scopes are those of a requirement, they are left to it: it checks them in any case.
    """
    of_route = [scope for scope in scopes if not isinstance(scope, ScopeOfRequirement)]
    if isinstance(scheme, OrganizationScheme):
        check_has_organization(claims)
        # The requirement checks its own scopes after the organization that the request names.
        scopes = of_route
    if of_route:
        check_scopes(claims, scopes)


def _read_headers(conn: HTTPConnection) -> list[bytes]:
    return [value for name, value in conn.scope["headers"] if name == b"authorization"]


async def _read_subprotocol(conn: HTTPConnection, state: AuthState[Any]) -> list[bytes]:
    """Return the tokens among the subprotocols of a WebSocket, as headers; nothing if the settings don't allow it.

    Each `bearer` announces a token, so that a second one is rejected like a second header (RFC 6455 section 4.1).
    """
    try:
        offered: list[str] = conn.scope.get("subprotocols") or []
        if SUBPROTOCOL not in offered:
            return []
        await state.load_in_thread()
        if not any(settings.accept_subprotocol_tokens for settings in state.known_tenants):
            return []
        places = [place for place, name in enumerate(offered, start=1) if name == SUBPROTOCOL]
        return [USUAL_START + "".join(offered[one : one + 1]).encode("utf-8", "surrogatepass") for one in places]
    finally:
        # Error trackers show what they find in a frame.
        offered = []
        del conn
