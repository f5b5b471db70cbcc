"""The methods that create requirements from a scheme, for one or several API resources.

No `from __future__ import annotations` here: FastAPI reads the annotations of `__call__`, and if the dependency is an
object it finds no module in which to resolve string annotations.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Collection
from contextlib import AbstractAsyncContextManager
from functools import partial
from inspect import Signature
from typing import Annotated, Any, Final, Generic, TypeVar

from fastapi import Depends, WebSocket
from fastapi.openapi.models import SecurityBase as SchemeModel
from fastapi.requests import HTTPConnection
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase
from pydantic import SecretStr
from typing_extensions import override

from fastapi_logto.errors import SettingsError
from fastapi_logto.expiry import CLOSE_TIMEOUT_SECONDS, check_claims, check_stream, close_after, pass_on
from fastapi_logto.organizations import Organization
from fastapi_logto.requirements import Requirement
from fastapi_logto.schemes import OrganizationScheme, TokenScheme
from fastapi_logto.settings import check_audiences
from fastapi_logto.state import Provider
from fastapi_logto.verification.checks import Caller
from fastapi_logto.verification.claims import ClaimsT, TokenClaims
from fastapi_logto.verification.verifier import AudiencePolicy

__all__ = ["OptionalLogtoAuth", "ResourceAuth"]

ChunkT = TypeVar("ChunkT")

_LONGEST_CONNECTION_SECONDS: Final = 10 * 366 * 24 * 3600


class _NotADependency:
    """Makes FastAPI raise an error when a route uses a function as a dependency that it should have called.

    Without it, FastAPI would read the parameters of such a function from the query.
    """

    def __init__(self, advice: str) -> None:
        self._advice = advice

    def __call__(self) -> str:  # pragma: no cover - only makes it callable: FastAPI fails at the signature
        raise TypeError(self._advice)

    @property
    def __signature__(self) -> Signature:
        raise TypeError(self._advice)


_VERIFY_IS_CALLED: Final = Depends(
    _NotADependency(
        "expected a dependency, found auth.verify, which is none; use Depends(auth), or call await auth.verify(token)"
    )
)
_REQUIREMENT_IS_CALLED: Final = Depends(
    _NotADependency(
        "expected a requirement, found a function that creates one; call it, as in "
        'Depends(auth.require_scopes("read:user"))'
    )
)


class ResourceAuth(TokenScheme[ClaimsT]):
    """Protects routes with access tokens for some API resources of a tenant.

    `LogtoAuth` protects the resources of its settings; `LogtoAuth.for_audience` returns a scheme for others.
    """

    def __init__(self, provider: Provider[ClaimsT], audiences: frozenset[str] | None, *, scheme_name: str) -> None:
        """Create the dependencies; without `audiences`, those of the settings count. Reads no settings."""
        # Opaque tokens have no audience: they are accepted for the API of the settings only.
        own = AudiencePolicy(audiences, accepts_opaque=audiences is None)
        super().__init__(provider, own, scheme_name=scheme_name)
        self._optional = OptionalLogtoAuth(self)
        self._in_organization = OrganizationScheme(provider, audiences, scheme_name=scheme_name)
        if provider.scheme_names.setdefault(scheme_name, audiences) != audiences:
            raise SettingsError(
                f"scheme_name: expected a unique name, found {scheme_name!r}, which another scheme has; choose another"
            )

    async def verify(self, token: Annotated[str, _VERIFY_IS_CALLED]) -> ClaimsT:
        """Return the claims of an access token that did not come in a request header.

        Args:
            token: The token, without `Bearer`.

        Returns:
            The claims. Scopes are not checked.

        Raises:
            InvalidTokenError: The token is invalid; the subclass and `reason` say why.
            ProviderUnavailableError: The keys are unavailable now.
            SettingsError: A setting in the environment is missing.
        """
        secret = SecretStr(token)
        del token
        verifier = await self._provider.load_in_thread()
        return await verifier.verify(secret, self._policy)

    def closing_at_expiry(
        self, websocket: WebSocket, claims: TokenClaims, *, close_timeout_seconds: float = CLOSE_TIMEOUT_SECONDS
    ) -> AbstractAsyncContextManager[None]:
        """Close a WebSocket when the token that opened it expires, with code 1008 and the reason `expired`.

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
        check_claims(claims)
        return close_after(websocket, seconds=self._seconds_left(claims), timeout_seconds=close_timeout_seconds)

    def until_expiry(self, chunks: AsyncIterable[ChunkT], claims: TokenClaims) -> AsyncGenerator[ChunkT]:
        """Forward a stream until the token that requested it expires, then close the stream.

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
            The chunks, until the token expires.

        Raises:
            TypeError: `chunks` is not an async iterator, or `claims` has another type.
        """
        check_stream(chunks)
        check_claims(claims)
        return pass_on(chunks, find_seconds=partial(self._seconds_left, claims))

    def _seconds_left(self, claims: TokenClaims) -> float:
        # The same leeway as for requests. Otherwise a connection could end right after it was accepted.
        leeway = max((settings.leeway_seconds for settings in self._provider.known_tenants), default=0.0)
        now = self._provider.clock.now()
        # `exp` may be an integer too large for a float.
        return max(0.0, float(min(claims.exp, now + _LONGEST_CONNECTION_SECONDS)) + leeway - now)

    @property
    def optional(self) -> "OptionalLogtoAuth[ClaimsT]":
        """The dependency that returns `None` if a request has no `Authorization` header.

        If there is a header, it is checked in full: an invalid token is always rejected, never treated as anonymous.
        """
        return self._optional

    @property
    def schemes(self) -> tuple[Callable[..., Any], ...]:
        """All dependencies that return claims, to override each of them in `app.dependency_overrides`.

        These are the scheme itself, `optional`, and the one that requirements for organizations use.
        """
        return (self, self._optional, self._in_organization)

    def for_audience(
        self, *audiences: Annotated[str, _REQUIREMENT_IS_CALLED], scheme_name: str | None = None
    ) -> "ResourceAuth[ClaimsT]":
        """Return a scheme for other API resources of the same tenant. It shares keys and cached tokens with this one.

        A token for one of these resources is rejected by this scheme, and vice versa. With several tenants, a tenant's
        tokens are accepted only for the audiences in its own settings. An organization token names no API, so a
        requirement for an organization accepts it here too, unless `accept_organization_tokens` is false.

        Args:
            *audiences: The resource indicators, which must match exactly.
            scheme_name: The name in OpenAPI; by default this scheme's name followed by the first audience.

        Returns:
            The scheme.

        Raises:
            SettingsError: No audience is given; one is empty or the audience of organization tokens; with several
                tenants, none lists any of them; or another scheme has the same name.
        """
        checked = check_audiences(audiences)
        given = self._provider.given
        if len(given) > 1 and not any(audience in settings.audience for settings in given for audience in checked):
            raise SettingsError(
                f"audience: expected one in the settings of a tenant, found {', '.join(checked)}; add it to the "
                "settings, because with several tenants a token is accepted only for audiences of its tenant"
            )
        name = scheme_name or f"{self.scheme_name}-{re.sub('[^A-Za-z0-9._-]+', '-', checked[0])}"
        return ResourceAuth(self._provider, frozenset(checked), scheme_name=name)

    def require_scopes(self, *scopes: Annotated[str, _REQUIREMENT_IS_CALLED]) -> Requirement[ClaimsT]:
        """Return a dependency that requires all of the scopes.

        Args:
            *scopes: The scopes, one per argument.

        Returns:
            A value for `Depends`. Two with the same scopes are equal.

        Raises:
            ValueError: No scope is given, or one is empty or contains spaces.
        """
        return Requirement(self, scopes=scopes)

    def require_any_scope(self, *scopes: Annotated[str, _REQUIREMENT_IS_CALLED]) -> Requirement[ClaimsT]:
        """Return a dependency that requires at least one of the scopes.

        Args:
            *scopes: The scopes, one per argument.

        Returns:
            A value for `Depends`. Two with the same scopes are equal.

        Raises:
            ValueError: No scope is given, or one is empty or contains spaces.
        """
        return Requirement(self, any_scope=scopes)

    def require_organization(
        self,
        *scopes: Annotated[str, _REQUIREMENT_IS_CALLED],
        organization: Annotated[Organization | None, _REQUIREMENT_IS_CALLED] = None,
    ) -> Requirement[ClaimsT]:
        """Return a dependency that requires a token for the organization that the request names, with scopes in it.

        Organization tokens and organization-level API tokens are accepted. Without scopes, every member is accepted,
        also members without a role.

        Args:
            *scopes: Scopes that must all be granted in this organization.
            organization: Where the request names it; by default in the path parameter `organization_id`.

        Returns:
            A value for `Depends`.

        Raises:
            ValueError: A scope is empty or contains spaces.
        """
        return self.require(scopes=scopes or None, organization=organization or Organization.from_path())

    def require_user(self, *scopes: Annotated[str, _REQUIREMENT_IS_CALLED]) -> Requirement[ClaimsT]:
        """Return a dependency that requires a user as the caller, not a machine.

        Args:
            *scopes: Scopes that must all be granted.
        """
        return self.require(scopes=scopes or None, caller="user")

    def require_machine(self, *scopes: Annotated[str, _REQUIREMENT_IS_CALLED]) -> Requirement[ClaimsT]:
        """Return a dependency that requires a machine as the caller, not a user.

        Args:
            *scopes: Scopes that must all be granted.
        """
        return self.require(scopes=scopes or None, caller="machine")

    def require_client(self, *client_ids: Annotated[str, _REQUIREMENT_IS_CALLED]) -> Requirement[ClaimsT]:
        """Return a dependency that requires a token issued to one of the clients.

        Args:
            *client_ids: Client ids of the applications, which must match exactly; an id may be a URL.

        Raises:
            ValueError: No client id is given, or one is empty.
        """
        return self.require(clients=client_ids)

    def require_actor(self, *actors: Annotated[str, _REQUIREMENT_IS_CALLED]) -> Requirement[ClaimsT]:
        """Return a dependency that requires an actor who acts on behalf of the subject (RFC 8693 section 4.1).

        Args:
            *actors: The subjects of the allowed actors; any actor by default. Only the outermost actor counts.
        """
        return self.require(actor=actors or True)

    def require_no_actor(self, *scopes: Annotated[str, _REQUIREMENT_IS_CALLED]) -> Requirement[ClaimsT]:
        """Return a dependency that rejects tokens with an actor: nobody may act on behalf of the subject.

        Args:
            *scopes: Scopes that must all be granted.
        """
        return self.require(scopes=scopes or None, actor=False)

    def require_claims(
        self,
        predicate: Annotated[Callable[[ClaimsT], bool], _REQUIREMENT_IS_CALLED],
        *,
        description: Annotated[str | None, _REQUIREMENT_IS_CALLED] = None,
    ) -> Requirement[ClaimsT]:
        """Return a dependency that checks the claims with a function.

        Args:
            predicate: A function that takes the claims and returns exactly `True` to accept them. If it raises an
                error, e.g. because a claim is missing, the token is rejected.
            description: What it requires, in words that callers may read; by default the first line of its docstring.

        Raises:
            ValueError: It is a coroutine function.
        """
        return self.require(claims=predicate, description=description)

    def require(
        self,
        *,
        scopes: Annotated[Collection[str] | None, _REQUIREMENT_IS_CALLED] = None,
        any_scope: Annotated[Collection[str] | None, _REQUIREMENT_IS_CALLED] = None,
        organization: Annotated[Organization | None, _REQUIREMENT_IS_CALLED] = None,
        caller: Annotated[Caller | None, _REQUIREMENT_IS_CALLED] = None,
        clients: Annotated[Collection[str] | None, _REQUIREMENT_IS_CALLED] = None,
        actor: Annotated[bool | Collection[str] | None, _REQUIREMENT_IS_CALLED] = None,
        claims: Annotated[Callable[[ClaimsT], bool] | None, _REQUIREMENT_IS_CALLED] = None,
        description: Annotated[str | None, _REQUIREMENT_IS_CALLED] = None,
    ) -> Requirement[ClaimsT]:
        """Return a dependency that requires several conditions, all of which must hold.

        Args:
            scopes: Scopes that must all be granted.
            any_scope: Scopes of which at least one must be granted.
            organization: Where the request names the organization that the token must be for.
            caller: `"user"` or `"machine"`.
            clients: Client ids of the applications that may call.
            actor: `True` requires an actor, `False` rejects one; or the subjects of the allowed actors.
            claims: A function that takes the claims and returns `True` to accept them.
            description: What that function requires, in words.

        Returns:
            A value for `Depends`. Two with the same conditions are equal.

        Raises:
            ValueError: No condition is given, or an invalid one, such as an empty list.
            SettingsError: There are several tenants, and `organization` does not say whose organizations are meant.
        """
        return Requirement(
            self if organization is None else self._in_organization,
            scopes=scopes,
            any_scope=any_scope,
            organization=organization,
            caller=caller,
            clients=clients,
            actor=actor,
            claims=claims,
            description=description,
        )


class OptionalLogtoAuth(SecurityBase, Generic[ClaimsT]):
    """Returns the claims, or `None` if a request has no `Authorization` header.

    If scopes are required, with `Security(auth.optional, scopes=[...])`, a token is always required.
    """

    def __init__(self, auth: ResourceAuth[ClaimsT]) -> None:
        """Store the scheme.

        Args:
            auth: The scheme that checks the header if there is one.
        """
        self.auth: ResourceAuth[ClaimsT] = auth
        self.scheme_name: str = auth.scheme_name

    async def __call__(self, conn: HTTPConnection, security_scopes: SecurityScopes) -> ClaimsT | None:
        """Return the claims of the request's bearer token, or `None`. FastAPI calls this.

        Raises:
            HTTPException: As in `TokenScheme.__call__`, if there is a header.
        """
        if "authorization" not in conn.headers and not security_scopes.scopes:
            return None
        checked = self.auth(conn, security_scopes)
        # Error trackers show a request's headers, where they find one in a frame.
        del conn
        return await checked

    @property
    @override
    def model(self) -> SchemeModel:  # type: ignore[override] # pyright: ignore[reportIncompatibleVariableOverride] - built late, never set
        """The OpenAPI model, the same as that of its scheme."""
        return self.auth.model
