"""Requirements of a route, as values: two that require the same are equal.

A closure would be a new object each time, so `app.dependency_overrides` could never refer to it.
"""

from collections.abc import Callable, Collection, Iterator
from functools import partial
from inspect import Parameter, Signature
from typing import Any, Generic, NoReturn, final

from fastapi import Depends, Security
from fastapi.requests import HTTPConnection
from typing_extensions import override

from fastapi_logto.caller import remember_caller
from fastapi_logto.errors import AudienceError, RefusalError
from fastapi_logto.expiry import check_is_claims
from fastapi_logto.misuse import check_caller_argument, check_claims_argument, check_texts
from fastapi_logto.organizations import OrganizationSource, check_source, find_organization
from fastapi_logto.responses import build_http_error
from fastapi_logto.schemes import ScopeOfRequirement, TokenScheme, find_metadata_url, find_state
from fastapi_logto.verification.checks import (
    Caller,
    check_actor,
    check_any_scope,
    check_caller,
    check_client,
    check_has_organization,
    check_no_actor,
    check_organization,
    check_organization_issuer,
    check_predicate,
    check_scopes,
)
from fastapi_logto.verification.claims import ClaimsT


@final
class Requirement(Generic[ClaimsT]):
    """A dependency that checks the claims, for `Depends`. All given conditions must hold.

    It depends on its scheme, so an override of the scheme replaces the claims. The requirement still checks its
    conditions.

    Attributes:
        scheme: The security scheme that returns the claims.
        scopes: Scopes that must all be granted.
        any_scope: Scopes of which at least one must be granted.
        organization: Where the request names the organization that the token must be for.
        caller: The required kind of caller: a user or a machine.
        clients: Client ids of the applications that may call.
        actor: `True` requires an actor, `False` rejects one, a tuple of subjects requires one of these actors; `None`
            checks nothing.
        claims: A function that returns `True` if the claims are accepted.
        description: What that function requires, in words.
    """

    def __init__(
        self,
        scheme: TokenScheme[ClaimsT],
        *,
        scopes: Collection[str] | None = None,
        any_scope: Collection[str] | None = None,
        organization: OrganizationSource | None = None,
        caller: Caller | None = None,
        clients: Collection[str] | None = None,
        actor: bool | Collection[str] | None = None,
        claims: Callable[[ClaimsT], bool] | None = None,
        description: str | None = None,
    ) -> None:
        """Check and store the conditions.

        Args:
            scheme: The security scheme that returns the claims. It must accept organization tokens if `organization`
                is given.
            scopes: See the attributes.
            any_scope: See the attributes.
            organization: See the attributes.
            caller: See the attributes.
            clients: See the attributes.
            actor: See the attributes.
            claims: See the attributes.
            description: See the attributes; the default is the first line of the function's docstring.

        Raises:
            ValueError: No condition is given, or an invalid one: an empty list, a scope that is empty or contains
                spaces, an unknown `caller`, a coroutine function as `claims`, or a `description` without `claims`.
            SettingsError: There are several tenants, and `organization` names no issuer or an unknown one.
            TypeError: `organization` is not an `OrganizationSource`.
        """
        self.scheme: TokenScheme[ClaimsT] = scheme
        self.scopes: tuple[str, ...] = check_texts(scopes, "scope")
        self.any_scope: tuple[str, ...] = check_texts(any_scope, "scope")
        if organization is not None:
            find_state(scheme).check_organization_issuer(check_source(organization).issuer)
        self.organization: OrganizationSource | None = organization
        self.caller: Caller | None = check_caller_argument(caller)
        self.clients: tuple[str, ...] = check_texts(clients, "client id")
        self.actor: bool | tuple[str, ...] | None = (
            actor if actor is None or isinstance(actor, bool) else check_texts(actor, "subject")
        )
        self.claims: Callable[[ClaimsT], bool] | None = check_claims_argument(claims)
        self.description: str = description or _describe_function(claims)
        # Requirements with the same conditions, in any order, are equal. FastAPI hashes them several times per request.
        self._conditions: tuple[object, ...] = (
            frozenset(self.scopes),
            frozenset(self.any_scope),
            organization,
            caller,
            frozenset(self.clients),
            frozenset(self.actor) if isinstance(self.actor, tuple) else actor,
            claims,
            self.description,
        )
        if self._conditions[:-1] == _NOTHING:
            raise ValueError(
                "expected at least one condition, such as a scope, found none; to accept any valid token, use "
                "Depends(auth)"
            )
        if description is not None and claims is None:
            raise ValueError("expected claims=, the function that description= describes, found none; pass both")
        self._checks = tuple(self._build_checks())
        self._hash = hash((id(scheme), self._conditions))

    @override
    def __setattr__(self, name: str, value: object) -> None:
        """Reject changes after construction: FastAPI uses the requirement as a dictionary key."""
        if hasattr(self, "_hash"):
            raise AttributeError("a Requirement can't be changed; create another one")
        super().__setattr__(name, value)

    def __init_subclass__(cls) -> NoReturn:
        """Reject subclasses: one that requires more would still equal one that does not."""
        raise TypeError("Requirement is final; to require more, pass claims= or write a dependency that depends on it")

    async def __call__(self, *, conn: HTTPConnection, claims: ClaimsT, organization_id: str | None = None) -> ClaimsT:
        """Check the claims and return them. FastAPI calls this.

        Args:
            conn: The request or WebSocket.
            claims: The claims that the scheme, or its override, returned.
            organization_id: The return value of the dependency of `OrganizationSource.from_dependency`.

        Returns:
            The claims.

        Raises:
            HTTPException: A condition does not hold. For a WebSocket whose server does not support denial responses, a
                `WebSocketException`.
        """
        # Again, because an override of the scheme may have returned other claims.
        remember_caller(conn, claims)
        try:
            if self.organization is not None:
                self._check_is_member(claims, self.organization)
                if self.organization.kind == "dependency":
                    check_organization(claims, _read(organization_id))
                elif self.organization.kind != "token":
                    check_organization(claims, find_organization(self.organization, conn))
            for check in self._checks:
                check(claims)
        except RefusalError as error:
            raise build_http_error(
                error, conn=conn, scopes=self.scopes, resource_metadata=find_metadata_url(self.scheme, conn)
            ) from error
        finally:
            # Error trackers show a request's headers, where they find one in a frame.
            del conn
        return claims

    def check(self, claims: ClaimsT, *, organization_id: str | None = None) -> ClaimsT:
        """Check the claims of a verified token, e.g. those that `auth.verify` returned.

        The token is **not** verified again: not its signature, its audience, or its expiry.

        Args:
            claims: The claims of a token that was verified for this API.
            organization_id: The id of the organization whose data is requested, if this requirement is for the
                organization that a request names. Without it, such a requirement rejects every token.

        Returns:
            The claims.

        Raises:
            ForbiddenError: A condition does not hold; the subclass and `reason` say which.
            AudienceError: It is an organization token, and this requirement is not for an organization.
            TypeError: `claims` is not a `TokenClaims`.
            ValueError: `organization_id` is passed, but this requirement does not compare it.
        """
        check_is_claims(claims)
        compares = self.organization is not None and self.organization.kind != "token"
        if organization_id is not None and not compares:
            raise ValueError("organization_id: expected none, because this requirement does not check it, found one")
        if self.organization is not None:
            self._check_is_member(claims, self.organization)
            if compares:
                check_organization(claims, _read(organization_id))
        elif claims.is_organization_token:
            raise AudienceError(claim="aud", expected="an API", found="an organization")
        for check in self._checks:
            check(claims)
        return claims

    async def verify(self, token: str, *, organization_id: str | None = None) -> ClaimsT:
        """Verify an access token that did not come in a request header, and check its claims.

        Args:
            token: The token, without `Bearer`.
            organization_id: As for `check`.

        Returns:
            The claims.

        Raises:
            InvalidTokenError: The token is invalid; the subclass and `reason` say why.
            ForbiddenError: A condition does not hold.
            ProviderUnavailableError: The token can't be verified now, as for `auth.verify`.
            SettingsError: A setting in the environment is missing or invalid.
            ValueError: As for `check`.
        """
        verified = self.scheme.verify(token)
        del token
        return self.check(await verified, organization_id=organization_id)

    def _check_is_member(self, claims: ClaimsT, organization: OrganizationSource) -> None:
        # The token comes first: the error for a token without an organization does not depend on the request.
        check_has_organization(claims)
        check_organization_issuer(claims, find_state(self.scheme).find_organization_issuers(organization.issuer))

    def _build_checks(self) -> Iterator[Callable[[ClaimsT], None]]:
        """Yield the checks of all conditions but the organization, in the order in which they are made."""
        if self.scopes:
            yield partial(check_scopes, required=self.scopes)
        if self.any_scope:
            yield partial(check_any_scope, accepted=self.any_scope)
        if self.caller is not None:
            yield partial(check_caller, caller=self.caller)
        if self.clients:
            yield partial(check_client, clients=self.clients)
        if self.actor is False:
            yield check_no_actor
        elif self.actor is not None:
            yield partial(check_actor, actors=() if self.actor is True else self.actor)
        if self.claims is not None:
            yield partial(check_predicate, predicate=self.claims, what=self.description)

    @property
    def __signature__(self) -> Signature:
        """The parameters that FastAPI reads, instead of those of `__call__`."""
        # The scheme receives the scopes that are all required: OpenAPI and the challenge of a 401 list them.
        claims: Any = Security(self.scheme, scopes=[ScopeOfRequirement(scope) for scope in self.scopes])
        parameters = [
            Parameter("conn", Parameter.KEYWORD_ONLY, annotation=HTTPConnection),
            # Before the organization: a caller without a valid token learns nothing about it.
            Parameter("claims", Parameter.KEYWORD_ONLY, default=claims, annotation=Any),
        ]
        if self.organization is not None and self.organization.dependency is not None:
            found: Any = Depends(self.organization.dependency)
            parameters.append(Parameter("organization_id", Parameter.KEYWORD_ONLY, default=found, annotation=Any))
        return Signature(parameters)

    @override
    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.scheme is other.scheme and self._conditions == other._conditions

    @override
    def __hash__(self) -> int:
        return self._hash

    @override
    def __repr__(self) -> str:
        given = {name: value for name, value in vars(self).items() if value and name != "scheme" and name[0] != "_"}
        if self.actor is False:
            given["actor"] = False
        return f"Requirement({', '.join(f'{name}={value!r}' for name, value in given.items())})"


def _read(found: object) -> str | None:
    # Only strings are accepted, converted to plain `str`: an object of the application could define equality itself.
    return str.__str__(found) if isinstance(found, str) else None


_NO_TEXTS: frozenset[str] = frozenset()
# Without the description, which is not a condition.
_NOTHING: tuple[object, ...] = (_NO_TEXTS, _NO_TEXTS, None, None, _NO_TEXTS, None, None)


def _describe_function(function: Callable[..., Any] | None) -> str:
    if function is None:
        return ""
    lines = (function.__doc__ or "").strip().splitlines()
    return lines[0] if lines else f"claims that the function `{getattr(function, '__name__', 'given')}` accepts"
