"""Turn refusals into HTTP error responses. No other module does."""

import logging
import re
from collections.abc import Collection
from typing import Annotated, Final

from fastapi import HTTPException, WebSocketException, status
from fastapi.requests import HTTPConnection
from pydantic import Field
from typing_extensions import TypedDict

from fastapi_logto.errors import (
    AuthorizationHeaderError,
    ErrorCode,
    ForbiddenError,
    ProviderUnavailableError,
    Reason,
    RefusalError,
)
from fastapi_logto.telemetry import build_refusal_fields, count_refusal

_logger = logging.getLogger("fastapi_logto")

REALM: Final = "Logto"
"""The realm of a challenge without an error: a challenge must have a parameter (RFC 6750 section 3)."""

# RFC 6750 section 3: the characters of a quoted value: ASCII without quotes and backslashes.
_QUOTABLE: Final = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]*\Z")
_SCOPE_TOKEN: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+\Z")


class LogtoRefusalDetail(TypedDict):
    """Why the request was rejected."""

    code: Annotated[ErrorCode, Field(description="Stable error code. Branch on this.")]
    reason: Annotated[Reason, Field(description="Stable, more specific reason.")]
    message: Annotated[
        str, Field(description="What is wrong and how to fix it, for the developer of the client. May change.")
    ]


class LogtoRefusal(TypedDict):
    """The body of an error response."""

    detail: LogtoRefusalDetail


def build_http_error(
    error: RefusalError, *, conn: HTTPConnection, scopes: Collection[str] = (), resource_metadata: str | None = None
) -> HTTPException | WebSocketException:
    """Log and count a refusal, and return the exception that FastAPI turns into the error response.

    `scopes` are those that the route requires: clients choose by the challenge what to request. A WebSocket that was
    not accepted yet gets a denial response if the server supports it, otherwise a close with 1008.

    References:
        RFC 6750 section 3; RFC 9110 section 10.2.3; RFC 9728 section 5.1; the ASGI extension
        `websocket.http.response`.
    """
    _logger.info("refused: %s", error, extra=build_refusal_fields(error))
    count_refusal(error)
    if conn.scope["type"] == "websocket" and "websocket.http.response" not in conn.scope.get("extensions", {}):
        return WebSocketException(code=status.WS_1008_POLICY_VIOLATION, reason=error.code)
    return HTTPException(
        status_code=error.status,
        detail=build_body(error)["detail"],
        headers=build_headers(error, scopes=scopes, resource_metadata=resource_metadata),
    )


def build_body(error: RefusalError) -> LogtoRefusal:
    """Return the body of an error response."""
    return {"detail": {"code": error.code, "reason": error.reason, "message": error.message}}


def build_headers(
    error: RefusalError, *, scopes: Collection[str] = (), resource_metadata: str | None = None
) -> dict[str, str]:
    """Return the headers of an error response: `Retry-After` for 503, otherwise `WWW-Authenticate`."""
    if isinstance(error, ProviderUnavailableError):
        return {"Retry-After": str(error.retry_after_seconds)}
    # No error without a bearer token, and `invalid_request` would be for status 400 (RFC 6750 section 3.1).
    has_token = not isinstance(error, AuthorizationHeaderError)
    code = "insufficient_scope" if isinstance(error, ForbiddenError) else "invalid_token"
    challenge = build_challenge(
        realm=None if has_token else REALM,
        error=code if has_token else None,
        description=error.message if has_token else None,
        scopes=(error.scopes if isinstance(error, ForbiddenError) else ()) or dict.fromkeys(scopes),
        resource_metadata=resource_metadata,
    )
    return {"WWW-Authenticate": challenge}


def build_challenge(
    *,
    realm: str | None = None,
    error: str | None = None,
    description: str | None = None,
    scopes: Collection[str] = (),
    resource_metadata: str | None = None,
) -> str:
    """Return the value of `WWW-Authenticate` for an error response.

    `error` is `None` if the request has no bearer token: then the challenge must not contain an error, and `realm` is
    the one parameter that it always has. A parameter with characters that RFC 6750 does not allow is omitted: the body
    contains it, and a header that can't be encoded would turn the response into a 500.

    References:
        RFC 6750 section 3; RFC 9110 section 11.6.1; RFC 9728 section 5.1.
    """
    parameters: list[str] = []
    if realm is not None:
        parameters.append(f'realm="{realm}"')
    if error is not None:
        parameters.append(f'error="{error}"')
    if description is not None and _QUOTABLE.match(description):
        parameters.append(f'error_description="{description}"')
    if scopes and all(_SCOPE_TOKEN.match(scope) for scope in scopes):
        parameters.append(f'scope="{" ".join(scopes)}"')
    if resource_metadata is not None and _QUOTABLE.match(resource_metadata):
        parameters.append(f'resource_metadata="{resource_metadata}"')
    return f"Bearer {', '.join(parameters)}" if parameters else "Bearer"
