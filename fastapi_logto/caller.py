"""Who called: the claims and the token of a request, for code that gets no parameters from FastAPI."""

from collections.abc import MutableMapping, Sequence
from typing import Any, Final

from fastapi.requests import HTTPConnection
from pydantic import SecretStr
from typing_extensions import override

from fastapi_logto.verification.bearer import parse_authorization
from fastapi_logto.verification.claims import TokenClaims

_KEY: Final = "fastapi_logto.caller"


class _Caller:
    """The claims of an accepted token, and the headers in which it came; `None` if a test overrides the caller."""

    __slots__ = ("claims", "headers")

    def __init__(self, claims: TokenClaims, headers: Sequence[bytes] | None) -> None:
        self.claims = claims
        self.headers = headers

    @override
    def __repr__(self) -> str:
        # Error trackers and debuggers show the ASGI scope.
        return "_Caller()"


def claims_of(conn: HTTPConnection | None) -> TokenClaims:
    """Return the claims of the token that was accepted for a request.

    For code that has the request but no claims: middleware after the response, exception handlers, a rate limiter, and
    applications that are mounted with `mount_protected`. A request that a requirement then rejected with 403 has claims
    too: they say who called, and **not** that the call was allowed. Code that copies an ASGI scope for another request
    copies the caller too; a protected route replaces it.

    Args:
        conn: The request or WebSocket; `None` if there is none.

    Returns:
        The claims, as an instance of the scheme's claims model.

    Raises:
        LookupError: There is no request, or no token was accepted for it: its route requires none, it was rejected, or
            its dependencies have not run yet.
    """
    return _find_caller(conn).claims


def token_of(conn: HTTPConnection | None) -> SecretStr:
    """Return the access token that was accepted for a request, e.g. to exchange it for a token for another API.

    It is the verified token itself, without the rest of the header.

    Args:
        conn: The request or WebSocket; `None` if there is none.

    Returns:
        The token. `get_secret_value()` returns its text.

    Raises:
        LookupError: As in `claims_of`, or a test overrides the caller, so there is no token.
    """
    headers = _find_caller(conn).headers
    if headers is None:
        raise LookupError("expected a request with a token, found a caller that a test overrides; send a signed token")
    return parse_authorization(headers)


def remember_caller(conn: HTTPConnection, claims: TokenClaims, headers: Sequence[bytes] | None = None) -> None:
    """Store who called in the ASGI scope. It is never read to decide whether a request is allowed."""
    scope: MutableMapping[str, Any] = conn.scope
    known = scope.get(_KEY)
    if known is None or known.claims is not claims:
        scope[_KEY] = _Caller(claims, headers)


def forget_caller(conn: HTTPConnection) -> None:
    """Remove the caller of an earlier request whose scope was copied."""
    conn.scope.pop(_KEY, None)


def _find_caller(conn: HTTPConnection | None) -> _Caller:
    found: _Caller | None = None if conn is None else conn.scope.get(_KEY)
    if found is None:
        raise LookupError(
            "expected a request with an accepted token, found none; read the claims after the dependencies of a "
            "protected route were called"
        )
    return found
