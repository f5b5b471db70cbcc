"""The one place where a refusal becomes an HTTP answer."""

import logging

from fastapi import HTTPException, WebSocketException, status
from fastapi.requests import HTTPConnection

from fastapi_logto.bearer import build_challenge
from fastapi_logto.errors import (
    AuthorizationHeaderError,
    AuthorizationMissingError,
    ForbiddenError,
    ProviderUnavailableError,
    RefusalError,
)

__all__ = ["build_answer"]

_logger = logging.getLogger("fastapi_logto")


def build_answer(error: RefusalError, *, conn: HTTPConnection) -> HTTPException | WebSocketException:
    """Give the exception that FastAPI turns into the answer of a refused request, and log the refusal.

    Args:
        error: Why it is refused.
        conn: The request, or the WebSocket that was not accepted yet.

    Returns:
        An `HTTPException` with the body `{"code", "reason", "message"}` and its headers. A WebSocket
        gets the same as a denial response where the server can send one, else a close with 1008.

    References:
        RFC 6750 section 3; RFC 9110 section 10.2.3; the ASGI extension `websocket.http.response`.
    """
    _logger.info("refused: %s", error)
    if conn.scope["type"] == "websocket" and "websocket.http.response" not in conn.scope.get("extensions", {}):
        return WebSocketException(code=status.WS_1008_POLICY_VIOLATION, reason=error.code)
    return HTTPException(
        status_code=error.status,
        detail={"code": error.code, "reason": error.reason, "message": error.message},
        headers=_build_headers(error),
    )


def _build_headers(error: RefusalError) -> dict[str, str]:
    if isinstance(error, ProviderUnavailableError):
        return {"Retry-After": str(error.retry_after_seconds)}
    return {"WWW-Authenticate": _build_challenge_for(error)}


def _build_challenge_for(error: RefusalError) -> str:
    if isinstance(error, AuthorizationMissingError):
        return build_challenge()
    if isinstance(error, AuthorizationHeaderError):
        return build_challenge(error="invalid_request", description=error.message)
    if isinstance(error, ForbiddenError):
        return build_challenge(error="insufficient_scope", description=error.message, scopes=error.scopes)
    return build_challenge(error="invalid_token", description=error.message)
