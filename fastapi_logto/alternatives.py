"""The dependency of a route that accepts other credentials, such as an API key, instead of a token."""

from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any

from fastapi import Depends
from fastapi.requests import HTTPConnection
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase
from typing_extensions import override

from fastapi_logto.caller import forget_caller
from fastapi_logto.schemes import TokenScheme, find_policy, find_state
from fastapi_logto.verification.claims import ClaimsT


class AlternativeScheme(TokenScheme[ClaimsT]):
    """Returns what a dependency of the application found, otherwise the claims of the request's bearer token."""

    def __init__(self, scheme: TokenScheme[ClaimsT], *, find_caller: Callable[..., Any]) -> None:
        """Store the dependency, which FastAPI calls first.

        Raises:
            TypeError: It is not a function, or it only reads credentials, as FastAPI's `APIKeyHeader` does; or it is a
                class, which returns an object for every request.
        """
        super().__init__(find_state(scheme), find_policy(scheme), scheme_name=scheme.scheme_name)
        given: object = find_caller
        if not callable(given) or isinstance(given, SecurityBase | type):
            # The header, or the object, would be the caller: every request would be accepted.
            raise TypeError(
                "expected a function that checks other credentials and returns their owner or None, found "
                f"{given!r}; write one that depends on it"
            )
        self._find_caller = find_caller

    @override
    async def __call__(self, conn: HTTPConnection, security_scopes: SecurityScopes, caller: object = None) -> Any:
        """Return the caller or the claims. FastAPI calls this.

        Raises:
            HTTPException: As in `TokenScheme.__call__`, if there is no other caller.
        """
        # Not only `None`: a function that returns `False` for an unknown key admits nobody.
        if caller:
            forget_caller(conn)
            return caller
        checked = super().__call__(conn, security_scopes)
        # Error trackers show a request's headers, where they find one in a frame.
        del conn
        return await checked

    @property
    def __signature__(self) -> Signature:
        """The parameters that FastAPI reads, instead of those of `__call__`."""
        kind = Parameter.KEYWORD_ONLY
        return Signature(
            [
                Parameter("conn", kind, annotation=HTTPConnection),
                Parameter("security_scopes", kind, annotation=SecurityScopes),
                Parameter("caller", kind, default=Depends(self._find_caller), annotation=Any),
            ]
        )
