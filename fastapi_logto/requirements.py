"""What a route asks of the claims, as values: two that ask the same are equal.

A closure would be another object with each call, and `app.dependency_overrides` could never name it.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from inspect import Parameter, Signature
from typing import Any, Generic, Protocol, cast

from fastapi import Security
from fastapi.requests import HTTPConnection
from fastapi.security import SecurityScopes
from typing_extensions import TypeVar, override

from fastapi_logto.answers import build_answer
from fastapi_logto.checks import check_any_scope, check_scopes
from fastapi_logto.claims import ClaimsT, TokenClaims
from fastapi_logto.errors import RefusalError

__all__ = ["AllScopes", "AnyScope", "Requirement", "Scheme"]

ClaimsT_co = TypeVar("ClaimsT_co", bound=TokenClaims, covariant=True, default=TokenClaims)


class Scheme(Protocol[ClaimsT_co]):
    """The security scheme that requirements ask for claims: `LogtoAuth`, seen from here."""

    async def __call__(self, conn: HTTPConnection, security_scopes: SecurityScopes) -> ClaimsT_co:
        """Give the claims of a request."""
        ...


class Requirement(ABC, Generic[ClaimsT]):
    """A dependency that asks something of the claims, for `Depends`.

    It depends on its scheme, so that an override of the scheme reaches it, and checks what it asks
    for itself, so that such an override does not switch the check off.
    """

    def __init__(self, auth: "Scheme[ClaimsT]", scopes: Sequence[str]) -> None:
        """Remember what is asked.

        Args:
            auth: The scheme that gives the claims.
            scopes: The scopes it is about, one at least.

        Raises:
            ValueError: No scope, an empty one, or several in one text.
        """
        if not scopes:
            raise ValueError(
                "expected at least one scope, found none; Depends(auth) admits every caller with a good token"
            )
        # Whoever writes a list where several arguments belong is told so, and not that it can't be hashed.
        for scope in cast("Sequence[object]", scopes):
            if not isinstance(scope, str) or scope.split() != [scope]:
                raise ValueError(
                    f"expected one scope in each argument, found {scope!r}; write them as several arguments"
                )
        self.auth: Scheme[ClaimsT] = auth
        self.scopes: tuple[str, ...] = tuple(dict.fromkeys(scopes))
        # FastAPI asks for it several times in each request.
        self._hash = hash((type(self), id(auth), frozenset(self.scopes)))

    async def __call__(self, *, conn: HTTPConnection, claims: ClaimsT) -> ClaimsT:
        """Check the claims and pass them on. FastAPI calls this.

        Args:
            conn: The request or WebSocket.
            claims: What the scheme, or the override of it, gave.

        Returns:
            The claims.

        Raises:
            HTTPException: They do not have what is asked for; a `WebSocketException` where the
                server can't deny a WebSocket otherwise.
        """
        try:
            self._check(claims)
        except RefusalError as error:
            raise build_answer(error, conn=conn) from error
        return claims

    @abstractmethod
    def _check(self, claims: ClaimsT) -> None: ...

    @abstractmethod
    def _scopes_for_scheme(self) -> Sequence[str]: ...

    @property
    def __signature__(self) -> Signature:
        """What FastAPI reads instead of `__call__`'s own parameters."""
        claims: Any = Security(self.auth, scopes=self._scopes_for_scheme())
        return Signature(
            [
                Parameter("conn", Parameter.KEYWORD_ONLY, annotation=HTTPConnection),
                Parameter("claims", Parameter.KEYWORD_ONLY, default=claims, annotation=Any),
            ]
        )

    @override
    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return _state(self) == _state(other)

    @override
    def __hash__(self) -> int:
        return self._hash

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.scopes))})"


def _state(requirement: Requirement[Any]) -> dict[str, object]:
    # All of it: FastAPI calls one of two equal dependencies, so a stricter one must never equal a laxer one.
    return {**vars(requirement), "scopes": frozenset(requirement.scopes)}


class AllScopes(Requirement[ClaimsT]):
    """Asks for every one of its scopes."""

    @override
    def _check(self, claims: ClaimsT) -> None:
        check_scopes(claims, self.scopes)

    @override
    def _scopes_for_scheme(self) -> Sequence[str]:
        return self.scopes


class AnyScope(Requirement[ClaimsT]):
    """Asks for one of its scopes."""

    @override
    def _check(self, claims: ClaimsT) -> None:
        check_any_scope(claims, self.scopes)

    @override
    def _scopes_for_scheme(self) -> Sequence[str]:
        # The scheme enforces all that it is told, and OpenAPI means all of them too.
        return ()
