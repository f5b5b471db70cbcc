"""The route that receives back-channel logouts. The signature of the logout token authenticates them."""

import logging
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request, Response, status
from fastapi.responses import JSONResponse
from pydantic import SecretStr

from fastapi_logto.errors import InvalidTokenError, ProviderUnavailableError
from fastapi_logto.provider.endpoints import as_secret
from fastapi_logto.revocation.bodies import BodyError, BodyReader
from fastapi_logto.verification.logout_tokens import LogoutToken
from fastapi_logto.verification.revocation_store import RevocationStoreError

_logger: Final = logging.getLogger("fastapi_logto")

_MAX_BYTES: Final = 32 * 1024
_MAX_FIELDS: Final = 16
_FORM: Final = "application/x-www-form-urlencoded"
# Logout tokens live for two minutes, so these are some eighty in a second.
_MOST_SEEN: Final = 10_000
_RETRY_AFTER_SECONDS: Final = 5
# Back-Channel Logout 1.0 section 2.8: no response may be cached.
_NO_STORE: Final = {"Cache-Control": "no-store"}


class LogoutReceiver:
    """Receives the logout tokens of the tenants of a `LogtoAuth`."""

    def __init__(
        self,
        verify: Callable[[SecretStr], Awaitable[LogoutToken]],
        *,
        apply: Callable[[LogoutToken], Awaitable[None]],
        check: Callable[[], None],
        now: Callable[[], float],
    ) -> None:
        """Store the parts. `check` raises `SettingsError` if there are no keys to verify with."""
        self.check: Final = check
        self._verify = verify
        self._apply = apply
        self._now = now
        self._bodies = BodyReader(max_bytes=_MAX_BYTES)
        self._seen: dict[tuple[str, str], float] = {}

    def build_router(self, path: str) -> APIRouter:
        """Return a router with the route."""
        router = APIRouter()
        # A route of Starlette, to which dependencies of the application do not apply: Logto sends no access token.
        router.add_route(path, self.receive, methods=["POST"], include_in_schema=False)
        return router

    async def receive(self, request: Request) -> Response:
        """Verify a logout token and apply it.

        References:
            OpenID Connect Back-Channel Logout 1.0 sections 2.5 to 2.8.
        """
        try:
            token = await self._verify(await _read_token(request, self._bodies))
            self._check_is_new(token)
            await self._apply(token)
        except BodyError as error:
            return _refuse(str(error), status_code=error.status)
        except InvalidTokenError as error:
            _logger.info("refused a logout: %s", error)
            return _refuse(f"the logout token is invalid: {error.reason}")
        except (ProviderUnavailableError, RevocationStoreError) as error:
            _logger.info("a logout failed: %s", error)
            response = _refuse("try again later", status_code=status.HTTP_503_SERVICE_UNAVAILABLE)
            response.headers["Retry-After"] = str(_RETRY_AFTER_SECONDS)
            return response
        # Not earlier: after a failure, the same token may come again.
        self._remember(token)
        return Response(headers=_NO_STORE)

    def _check_is_new(self, token: LogoutToken) -> None:
        if self._seen.get((token.issuer, token.token_id), self._now()) > self._now():
            raise BodyError("expected a new logout token, found one that was sent before")

    def _remember(self, token: LogoutToken) -> None:
        while self._seen and (len(self._seen) >= _MOST_SEEN or next(iter(self._seen.values())) <= self._now()):
            # The oldest. If its token comes again, it changes nothing: its time of issue is the same.
            del self._seen[next(iter(self._seen))]
        self._seen[token.issuer, token.token_id] = token.refused_at


async def _read_token(request: Request, bodies: BodyReader) -> SecretStr:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _FORM:
        raise BodyError(f"expected a form, {_FORM}, found another content type")
    body = await bodies.read(request)
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise BodyError("expected a form, found malformed text") from None
    tokens = [as_secret(value) for name, value in pairs if name == "logout_token"]
    if len(tokens) != 1:
        raise BodyError(f"expected one logout_token, found {len(tokens)}")
    return tokens[0]


def _refuse(message: str, *, status_code: int = status.HTTP_400_BAD_REQUEST) -> Response:
    error = {"error": "invalid_request", "error_description": message}
    return JSONResponse(error, status_code=status_code, headers=_NO_STORE)
