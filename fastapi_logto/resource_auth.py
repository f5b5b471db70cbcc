"""What a user asks of the claims: the requirements made from a scheme, for one or several API resources.

No `from __future__ import annotations` here: FastAPI reads the annotations of `__call__`, and finds
no module to resolve their texts in when the dependency is an object.
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

from fastapi_logto.checks import Caller
from fastapi_logto.claims import ClaimsT, TokenClaims
from fastapi_logto.errors import SettingsError
from fastapi_logto.expiry import CLOSE_TIMEOUT_SECONDS, check_claims, check_stream, close_after, pass_on
from fastapi_logto.organizations import Organization
from fastapi_logto.provider import Provider
from fastapi_logto.requirements import Requirement
from fastapi_logto.schemes import OrganizationScheme, TokenScheme
from fastapi_logto.settings import check_audiences
from fastapi_logto.tokens import AudiencePolicy

__all__ = ["OptionalLogtoAuth", "ResourceAuth"]

ChunkT = TypeVar("ChunkT")

_LONGEST_CONNECTION_SECONDS: Final = 10 * 366 * 24 * 3600


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


class ResourceAuth(TokenScheme[ClaimsT]):
    """Protects routes with access tokens for some API resources of a tenant.

    `LogtoAuth` is one for the resources of its settings; `LogtoAuth.for_audience` gives others.
    """

    def __init__(self, provider: Provider[ClaimsT], audiences: frozenset[str] | None, *, scheme_name: str) -> None:
        """Make the nodes. Reads no settings.

        Args:
            provider: What verifies.
            audiences: The resource indicators; `None` for those of the settings.
            scheme_name: Name in OpenAPI.
        """
        # Opaque tokens have no audience: they are for the API of the settings, and for no other one.
        own = AudiencePolicy(audiences, accepts_opaque=audiences is None)
        super().__init__(provider, own, scheme_name=scheme_name)
        self._optional = OptionalLogtoAuth(self)
        self._in_organization = OrganizationScheme(provider, audiences, scheme_name=scheme_name)
        if provider.scheme_names.setdefault(scheme_name, audiences) != audiences:
            raise SettingsError(f"scheme_name: expected another name than {scheme_name}, which is another scheme's")

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
        secret = SecretStr(token)
        del token
        verifier = await self._provider.load_beside()
        return await verifier.verify(secret, self._policy)

    def closing_at_expiry(
        self, websocket: WebSocket, claims: TokenClaims, *, close_timeout_seconds: float = CLOSE_TIMEOUT_SECONDS
    ) -> AbstractAsyncContextManager[None]:
        """Close a WebSocket when the token that opened it expires: with code 1008 and the reason `expired`.

        ```python
        async with auth.closing_at_expiry(websocket, claims):
            async for text in websocket.iter_text(): ...
        ```

        The block is cancelled at that time. If the client has stopped reading, the close is given up after a time
        limit, and the server ends the connection once the handler has returned.

        Args:
            websocket: The accepted WebSocket.
            claims: The claims of the token.
            close_timeout_seconds: The time limit of the close.

        Returns:
            The context manager.

        Raises:
            TypeError: The claims are none, such as the `None` of `auth.optional`.
        """
        check_claims(claims)
        return close_after(websocket, seconds=self._seconds_left(claims), timeout_seconds=close_timeout_seconds)

    def until_expiry(self, chunks: AsyncIterable[ChunkT], claims: TokenClaims) -> AsyncGenerator[ChunkT]:
        """Pass a stream on until the token that requested it expires; then the stream is closed, and ends.

        ```python
        return StreamingResponse(auth.until_expiry(read_events(), claims))
        ```

        The stream is closed on time even if the client has stopped reading. The connection of such a client ends when
        the server or a proxy ends it.

        Args:
            chunks: The chunks of the response: an async generator, or another async iterator. A plain generator is
                refused, because nothing can interrupt it while it waits.
            claims: The claims of the token.

        Returns:
            The chunks until then.

        Raises:
            TypeError: The chunks are not an async iterator, or the claims are none.
        """
        check_stream(chunks)
        check_claims(claims)
        return pass_on(chunks, find_seconds=partial(self._seconds_left, claims))

    def _seconds_left(self, claims: TokenClaims) -> float:
        # The leeway that a request has, or a connection would end that was just admitted.
        leeway = max((settings.leeway_seconds for settings in self._provider.known_tenants), default=0.0)
        now = self._provider.clock.now()
        # `exp` may be an integer that no float can hold.
        return max(0.0, float(min(claims.exp, now + _LONGEST_CONNECTION_SECONDS)) + leeway - now)

    @property
    def optional(self) -> "OptionalLogtoAuth[ClaimsT]":
        """The dependency that gives `None` to a request without an `Authorization` header.

        A header that is there is checked in full: a bad token is never an anonymous caller.
        """
        return self._optional

    @property
    def schemes(self) -> tuple[Callable[..., Any], ...]:
        """Every node that gives claims, for overriding all of them in `app.dependency_overrides`.

        They are this one, `optional`, and the one that routes of organizations ask.
        """
        return (self, self._optional, self._in_organization)

    def for_audience(
        self, *audiences: Annotated[str, _REQUIREMENT_IS_CALLED], scheme_name: str | None = None
    ) -> "ResourceAuth[ClaimsT]":
        """Give a scheme for other API resources of the same tenant, with keys and remembered tokens in common.

        A token for one of them is refused by this scheme, and the reverse. With several tenants, a tenant's tokens
        are accepted only for those of the audiences that its settings list. An organization token names no API, so a
        requirement for an organization accepts it here too, unless `accept_organization_tokens` is false.

        Args:
            *audiences: The resource indicators, to the letter.
            scheme_name: Name in OpenAPI; this one's with the first audience when left out.

        Returns:
            The scheme.

        Raises:
            SettingsError: No audience, an empty one, that of organization tokens, or one that no tenant of several
                lists; or the name is another scheme's already.
        """
        checked = check_audiences(audiences)
        given = self._provider.given
        if len(given) > 1 and not any(audience in settings.audience for settings in given for audience in checked):
            raise SettingsError(
                f"audience: expected one that the settings of a tenant list, found {', '.join(checked)}; with several "
                "tenants, a token is accepted only for an audience of its own tenant's settings"
            )
        name = scheme_name or f"{self.scheme_name}-{re.sub('[^A-Za-z0-9._-]+', '-', checked[0])}"
        return ResourceAuth(self._provider, frozenset(checked), scheme_name=name)

    def require_scopes(self, *scopes: Annotated[str, _REQUIREMENT_IS_CALLED]) -> Requirement[ClaimsT]:
        """Give a dependency that asks for every one of some scopes.

        Args:
            *scopes: The scopes, one in each argument.

        Returns:
            A value for `Depends`; equal to another one of the same scopes.

        Raises:
            ValueError: No scope, an empty one, or several in one text.
        """
        return Requirement(self, scopes=scopes)

    def require_any_scope(self, *scopes: Annotated[str, _REQUIREMENT_IS_CALLED]) -> Requirement[ClaimsT]:
        """Give a dependency that asks for at least one of some scopes.

        Args:
            *scopes: The scopes, one in each argument.

        Returns:
            A value for `Depends`; equal to another one of the same scopes.

        Raises:
            ValueError: No scope, an empty one, or several in one text.
        """
        return Requirement(self, any_scope=scopes)

    def require_organization(
        self,
        *scopes: Annotated[str, _REQUIREMENT_IS_CALLED],
        organization: Annotated[Organization | None, _REQUIREMENT_IS_CALLED] = None,
    ) -> Requirement[ClaimsT]:
        """Give a dependency that asks for a token of the organization that the request names, with some scopes in it.

        It admits organization tokens and organization-level API tokens. Without scopes every member is admitted,
        also one without any role.

        Args:
            *scopes: Scopes that must all be granted, in this very organization.
            organization: Where the request names it; in the path as `organization_id` when left out.

        Returns:
            A value for `Depends`.

        Raises:
            ValueError: A scope is empty, or several are in one text.
        """
        return self.require(scopes=scopes or None, organization=organization or Organization.from_path())

    def require_user(self, *scopes: Annotated[str, _REQUIREMENT_IS_CALLED]) -> Requirement[ClaimsT]:
        """Give a dependency that asks for a user as the caller, and no machine.

        Args:
            *scopes: Scopes that must all be granted.
        """
        return self.require(scopes=scopes or None, caller="user")

    def require_machine(self, *scopes: Annotated[str, _REQUIREMENT_IS_CALLED]) -> Requirement[ClaimsT]:
        """Give a dependency that asks for a machine as the caller, and no user.

        Args:
            *scopes: Scopes that must all be granted.
        """
        return self.require(scopes=scopes or None, caller="machine")

    def require_client(self, *client_ids: Annotated[str, _REQUIREMENT_IS_CALLED]) -> Requirement[ClaimsT]:
        """Give a dependency that asks for a token which was issued to one of some applications.

        Args:
            *client_ids: Their client ids, compared to the letter; an id may be a URL.

        Raises:
            ValueError: No client id, or an empty one.
        """
        return self.require(clients=client_ids)

    def require_actor(self, *actors: Annotated[str, _REQUIREMENT_IS_CALLED]) -> Requirement[ClaimsT]:
        """Give a dependency that asks for somebody who acts on the subject's behalf (RFC 8693 section 4.1).

        Args:
            *actors: The subjects of those who may; anybody when left out. Only the outermost actor counts.
        """
        return self.require(actor=actors or True)

    def require_no_actor(self, *scopes: Annotated[str, _REQUIREMENT_IS_CALLED]) -> Requirement[ClaimsT]:
        """Give a dependency that refuses whoever acts on another's behalf.

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
        """Give a dependency that asks a function whether it admits the claims.

        Args:
            predicate: The function, of the claims; nothing but `True` admits, and a claim that is not there refuses.
            description: What it asks for, in words that callers may read; its own first line when left out.

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
        """Give a dependency that asks for several things at once, all of which must hold.

        Args:
            scopes: Scopes that must all be granted.
            any_scope: Scopes of which one must be granted.
            organization: Where the request names the organization that the token must speak for.
            caller: `"user"` or `"machine"`.
            clients: Client ids of the applications that may call.
            actor: `True` where somebody must act on the subject's behalf, `False` where nobody may; or the
                subjects of those who must.
            claims: A function of the claims that gives `True` for those it admits.
            description: What that function asks for, in words.

        Returns:
            A value for `Depends`; equal to another one that asks the same.

        Raises:
            ValueError: Nothing is asked for, or something that can't be meant, such as an empty list.
            SettingsError: There are several tenants, and it is not said whose organizations are meant.
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
    """Gives the claims, or `None` to a request that brings no `Authorization` header at all.

    Where scopes are asked for, by `Security(auth.optional, scopes=[...])`, nobody is anonymous.
    """

    def __init__(self, auth: ResourceAuth[ClaimsT]) -> None:
        """Remember the scheme.

        Args:
            auth: The scheme that checks a header that is there.
        """
        self.auth: ResourceAuth[ClaimsT] = auth
        self.scheme_name: str = auth.scheme_name

    async def __call__(self, conn: HTTPConnection, security_scopes: SecurityScopes) -> ClaimsT | None:
        """Give the claims of the request's bearer token, or `None`. FastAPI calls this.

        Raises:
            HTTPException: As `TokenScheme.__call__`, when there is a header.
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
        """The scheme for OpenAPI, the same as the one it asks."""
        return self.auth.model
