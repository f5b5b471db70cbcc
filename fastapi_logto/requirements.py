"""What a route asks of the claims, as values: two that ask the same are equal.

A closure would be another object with each call, and `app.dependency_overrides` could never name it.
"""

from collections.abc import Callable, Collection
from inspect import Parameter, Signature, iscoroutinefunction
from typing import Any, Generic, NoReturn, Protocol, final

from fastapi import Depends, Security
from fastapi.requests import HTTPConnection
from fastapi.security import SecurityScopes
from typing_extensions import TypeVar, override

from fastapi_logto.answers import build_answer
from fastapi_logto.checks import (
    Caller,
    build_any_scope_error,
    build_predicate_error,
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
from fastapi_logto.claims import ClaimsT, TokenClaims
from fastapi_logto.errors import (
    ActorNotAllowedError,
    ActorRequiredError,
    ClientNotAllowedError,
    ForbiddenError,
    MachineRequiredError,
    OrganizationMismatchError,
    OrganizationRequiredError,
    RefusalError,
    UserRequiredError,
)
from fastapi_logto.organizations import Organization

__all__ = ["Requirement", "Scheme"]

ClaimsT_co = TypeVar("ClaimsT_co", bound=TokenClaims, covariant=True, default=TokenClaims)


class Scheme(Protocol[ClaimsT_co]):
    """The security scheme that requirements ask for claims: `LogtoAuth`, seen from here."""

    scheme_name: str

    async def __call__(self, conn: HTTPConnection, security_scopes: SecurityScopes) -> ClaimsT_co:
        """Give the claims of a request."""
        ...

    @property
    def resource_metadata(self) -> str | None:
        """URL of the resource's metadata, where there is such a page."""
        ...

    @property
    def resources(self) -> frozenset[str]:
        """The resource indicators whose tokens are admitted."""
        ...

    def check_organization_issuer(self, issuer: str | None) -> None:
        """Check that it is clear whose organizations are meant."""
        ...

    def find_organization_issuers(self, issuer: str | None) -> frozenset[str] | None:
        """Return the issuers of the tenant whose organizations are meant; `None` if it does not matter."""
        ...


@final
class Requirement(Generic[ClaimsT]):
    """A dependency that asks something of the claims, for `Depends`. All that is given must hold; what is left out may.

    It depends on its scheme, so that an override of the scheme reaches it, and checks what it asks
    for itself, so that such an override does not switch the check off.

    Attributes:
        scheme: What gives the claims.
        scopes: Scopes that must all be granted.
        any_scope: Scopes of which one must be granted.
        organization: Where the request names the organization that the token must speak for.
        caller: Who must call: a user or a machine.
        clients: Client ids of the applications that may call.
        actor: Whether somebody must act on the subject's behalf (`True`), must not (`False`), or may (`None`);
            or the subjects of those who must.
        claims: What the claims must be, as a function.
        description: What that function asks for, in words.
    """

    def __init__(
        self,
        scheme: Scheme[ClaimsT],
        *,
        scopes: Collection[str] | None = None,
        any_scope: Collection[str] | None = None,
        organization: Organization | None = None,
        caller: Caller | None = None,
        clients: Collection[str] | None = None,
        actor: bool | Collection[str] | None = None,
        claims: Callable[[ClaimsT], bool] | None = None,
        description: str | None = None,
    ) -> None:
        """Remember what is asked.

        Args:
            scheme: What gives the claims; one that accepts organization tokens where an organization is asked for.
            scopes: See the attributes.
            any_scope: See the attributes.
            organization: See the attributes.
            caller: See the attributes.
            clients: See the attributes.
            actor: See the attributes.
            claims: See the attributes.
            description: See the attributes; the function's own first line where left out.

        Raises:
            ValueError: Nothing is asked for, or something that can't be meant: an empty list, a scope that is
                empty or several in one text, a coroutine function for the claims.
        """
        self.scheme: Scheme[ClaimsT] = scheme
        self.scopes: tuple[str, ...] = _check_texts(scopes, "scope")
        self.any_scope: tuple[str, ...] = _check_texts(any_scope, "scope")
        if organization is not None:
            scheme.check_organization_issuer(organization.issuer)
        self.organization: Organization | None = organization
        self.caller: Caller | None = _check_caller(caller)
        self.clients: tuple[str, ...] = _check_texts(clients, "client id")
        self.actor: bool | tuple[str, ...] | None = (
            actor if actor is None or isinstance(actor, bool) else _check_texts(actor, "subject")
        )
        self.claims: Callable[[ClaimsT], bool] | None = _check_predicate(claims)
        self.description: str = description or _describe_function(claims)
        # Those that ask the same, in any order, are equal. FastAPI asks for the hash several times in each request.
        self._state: tuple[object, ...] = (
            frozenset(self.scopes),
            frozenset(self.any_scope),
            organization,
            caller,
            frozenset(self.clients),
            frozenset(self.actor) if isinstance(self.actor, tuple) else actor,
            claims,
            self.description,
        )
        if self._state[:-1] == _NOTHING:
            raise ValueError(
                "expected something to ask for, such as a scope, found nothing; Depends(auth) admits every caller "
                "with a good token"
            )
        if description is not None and claims is None:
            raise ValueError("expected claims=, the function that the description is of, found none")
        self._hash = hash((id(scheme), self._state))

    @override
    def __setattr__(self, name: str, value: object) -> None:
        """Refuse a change of what was made: FastAPI has it in tables by what it asked for then."""
        if hasattr(self, "_hash"):
            raise AttributeError("a Requirement can't be changed; make another one")
        super().__setattr__(name, value)

    def __init_subclass__(cls) -> NoReturn:
        """Refuse a subclass: one that asks more would still equal one that does not."""
        raise TypeError("Requirement is final; ask for more with claims=, or in a dependency of your own on top of it")

    async def __call__(self, *, conn: HTTPConnection, claims: ClaimsT, organization_id: str | None = None) -> ClaimsT:
        """Check the claims and pass them on. FastAPI calls this.

        Args:
            conn: The request or WebSocket.
            claims: What the scheme, or the override of it, gave.
            organization_id: What the dependency of `Organization.from_dependency` gave.

        Returns:
            The claims.

        Raises:
            HTTPException: They do not have what is asked for; a `WebSocketException` where the
                server can't deny a WebSocket otherwise.
        """
        try:
            if self.organization is not None:
                self._check_organization(claims, self.organization, conn=conn, found=organization_id)
            self._check(claims)
        except RefusalError as error:
            raise build_answer(error, conn=conn, resource_metadata=self.scheme.resource_metadata) from error
        finally:
            # Error trackers show a request's headers, where they find one in a frame.
            del conn
        return claims

    def _check_organization(
        self, claims: ClaimsT, organization: Organization, *, conn: HTTPConnection, found: str | None
    ) -> None:
        # The token first: whoever has none for any organization is told so, whatever the request names.
        check_has_organization(claims)
        check_organization_issuer(claims, self.scheme.find_organization_issuers(organization.issuer))
        if organization.source != "token":
            check_organization(claims, _read(found) if organization.source == "dependency" else organization.find(conn))

    def _check(self, claims: ClaimsT) -> None:
        if self.scopes:
            check_scopes(claims, self.scopes)
        if self.any_scope:
            check_any_scope(claims, self.any_scope)
        if self.caller is not None:
            check_caller(claims, self.caller)
        if self.clients:
            check_client(claims, self.clients)
        if self.actor is False:
            check_no_actor(claims)
        elif self.actor is not None:
            check_actor(claims, () if self.actor is True else self.actor)
        if self.claims is not None:
            check_predicate(claims, self.claims, what=self.description)

    @property
    def __signature__(self) -> Signature:
        """What FastAPI reads instead of `__call__`'s own parameters."""
        # The scheme is told the scopes that must all be there: it enforces what it is told, and so does OpenAPI.
        claims: Any = Security(self.scheme, scopes=self.scopes)
        parameters = [
            Parameter("conn", Parameter.KEYWORD_ONLY, annotation=HTTPConnection),
            # Before the organization: who has no good token learns nothing of it.
            Parameter("claims", Parameter.KEYWORD_ONLY, default=claims, annotation=Any),
        ]
        if self.organization is not None and self.organization.dependency is not None:
            found: Any = Depends(self.organization.dependency)
            parameters.append(Parameter("organization_id", Parameter.KEYWORD_ONLY, default=found, annotation=Any))
        return Signature(parameters)

    def describe(self) -> list[str]:
        """Give what is asked for beyond `scopes`, a line each, for the documentation of a route."""
        lines: list[str] = []
        if self.any_scope:
            lines.append(f"one of the scopes {', '.join(f'`{scope}`' for scope in self.any_scope)}")
        if self.organization is not None:
            lines.append(f"a token for {self.organization.describe()}")
        if self.caller is not None:
            lines.append(f"a {self.caller} as the caller")
        if self.clients:
            lines.append("a token that was issued to one of certain applications")
        if self.actor is not None:
            lines.append(
                "nobody who acts on the user's behalf" if self.actor is False else "somebody who acts for a user"
            )
        if self.claims is not None:
            lines.append(self.description)
        return lines

    def build_refusals(self) -> list[ForbiddenError]:
        """Give the refusals of tokens that lack what is asked for beyond `scopes`, one of each kind, as examples."""
        refusals: list[ForbiddenError] = []
        if self.organization is not None:
            refusals.append(OrganizationRequiredError())
            if self.organization.source != "token":
                refusals.append(OrganizationMismatchError())
        if self.any_scope:
            refusals.append(build_any_scope_error(self.any_scope, granted="another"))
        if self.caller is not None:
            refusals.append(UserRequiredError() if self.caller == "user" else MachineRequiredError())
        if self.clients:
            refusals.append(ClientNotAllowedError())
        if self.actor is not None:
            refusals.append(ActorNotAllowedError() if self.actor is False else ActorRequiredError())
        if self.claims is not None:
            refusals.append(build_predicate_error(self.description))
        return refusals

    @override
    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.scheme is other.scheme and self._state == other._state

    @override
    def __hash__(self) -> int:
        return self._hash

    @override
    def __repr__(self) -> str:
        asked = {
            name: value for name, value in vars(self).items() if value and name not in {"scheme", "_state", "_hash"}
        }
        if self.actor is False:
            asked["actor"] = False
        return f"Requirement({', '.join(f'{name}={value!r}' for name, value in asked.items())})"


def _read(found: object) -> str | None:
    # Only a text names an organization, and no object of the application's own says what it is equal to.
    return str.__str__(found) if isinstance(found, str) else None


_NO_TEXTS: frozenset[str] = frozenset()
# What describes a check is none.
_NOTHING: tuple[object, ...] = (_NO_TEXTS, _NO_TEXTS, None, None, _NO_TEXTS, None, None)


def _check_texts(values: Collection[str] | None, what: str) -> tuple[str, ...]:
    if values is None:
        return ()
    # Whoever writes a list where several arguments belong is told so, and not that it can't be hashed.
    texts: list[object] = [values] if isinstance(values, str) else list(values)
    if not texts:
        # A list that came out empty must not switch the check off.
        raise ValueError(
            f"expected at least one {what}, found none; Depends(auth) admits every caller with a good token"
        )
    for text in texts:
        if not isinstance(text, str) or text.split() != [text]:
            raise ValueError(f"expected one {what} in each argument, found {text!r}; write them as several arguments")
    return tuple(dict.fromkeys(str(text) for text in texts))


def _check_caller(caller: Caller | None) -> Caller | None:
    if caller not in {None, "user", "machine"}:
        raise ValueError(f"expected user or machine as the caller, found {caller!r}")
    return caller


def _check_predicate(predicate: Callable[[ClaimsT], bool] | None) -> Callable[[ClaimsT], bool] | None:
    if predicate is not None and (_is_coroutine(predicate) or not callable(predicate)):
        raise ValueError(f"expected a function of the claims that gives a bool, and no coroutine, found {predicate!r}")
    return predicate


def _is_coroutine(function: object) -> bool:
    return iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def _describe_function(function: Callable[..., Any] | None) -> str:
    if function is None:
        return ""
    lines = (function.__doc__ or "").strip().splitlines()
    return lines[0] if lines else f"claims that `{getattr(function, '__name__', 'a function')}` accepts"
