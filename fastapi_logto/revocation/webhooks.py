"""The route that receives Logto's webhooks. Their signature authenticates them."""

import asyncio
import hmac
import logging
import re
from collections.abc import Awaitable, Callable, Collection, Sequence, Set
from typing import Final, cast

from fastapi import APIRouter, Request, Response, status
from fastapi.responses import JSONResponse
from pydantic import SecretStr

from fastapi_logto.provider.endpoints import as_secret, is_encodable
from fastapi_logto.revocation.bodies import BodyError, BodyReader
from fastapi_logto.revocation.events import Event, EventError, parse_event
from fastapi_logto.verification.revocation_store import RevocationStoreError

SIGNATURE_HEADER: Final = "logto-signature-sha-256"

_logger: Final = logging.getLogger("fastapi_logto")

# An event holds the custom data of its user, who may be able to change them, and must not escape a suspension by making
# them large. Logto accepts 1 MiB of JSON in a request.
_MAX_BYTES: Final = 4 * 1024 * 1024
# The parser needs up to a tenth of a millisecond for so much.
_MAX_BYTES_ON_THE_LOOP: Final = 4 * 1024
_SIGNATURE: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


class WebhookReceiver:
    """Receives the webhooks of one tenant."""

    def __init__(
        self,
        handle: Callable[[Event], Awaitable[None]],
        *,
        signing_keys: tuple[SecretStr, ...],
        check: Callable[[], None],
    ) -> None:
        """Store the parts. `check` raises `SettingsError` if the events would not reach the right tokens."""
        self.check: Final = check
        self._handle = handle
        self._signing_keys = signing_keys
        self._bodies = BodyReader(max_bytes=_MAX_BYTES)

    def build_router(self, path: str) -> APIRouter:
        """Return a router with the route."""
        router = APIRouter()
        # A route of Starlette, to which dependencies of the application do not apply: Logto sends no token.
        router.add_route(path, self.receive, methods=["POST"], include_in_schema=False)
        return router

    async def receive(self, request: Request) -> Response:
        """Apply the event of a delivery. Nothing of the body is parsed before the signature is verified."""
        signature = _read_signature(request)
        if isinstance(signature, str):
            return _refuse(f"expected one header {SIGNATURE_HEADER} with 64 hexadecimal digits, found {signature}")
        # While the body arrives, because a whole one at once would hold the event loop for milliseconds.
        digests = [hmac.new(key.get_secret_value().encode(), digestmod="sha256") for key in self._signing_keys]
        reading = self._bodies.read(request, digests=digests)
        # Error trackers show what they find in a frame, also the headers of a request.
        del request
        try:
            body = await reading
        except BodyError as error:
            return _refuse(str(error), status_code=error.status)
        try:
            if not _is_signed(digests, signature):
                return _refuse(
                    "expected a signature by the signing key of the webhook, found another; copy it from Logto"
                )
            is_short = len(body) <= _MAX_BYTES_ON_THE_LOOP
            event = parse_event(body) if is_short else await asyncio.to_thread(parse_event, body)
        except EventError as error:
            _logger.warning("a webhook with a valid signature has no effect: %s", error)
            return _refuse(str(error), status_code=status.HTTP_400_BAD_REQUEST)
        finally:
            del body, digests
        return await self._apply(event)

    async def _apply(self, event: Event) -> Response:
        try:
            await self._handle(event)
        except RevocationStoreError:
            return _refuse(
                "the store of revocations is unavailable, so the event has an effect in one process only",
                status_code=status.HTTP_503_SERVICE_UNAVAILABLE,
            )
        return Response(status_code=status.HTTP_204_NO_CONTENT)


def as_signing_keys(signing_key: object) -> tuple[SecretStr, ...]:
    """Return the signing keys; `ValueError` if there is none, or one that can't be a signing key of Logto."""
    given = cast("Collection[object]", signing_key if isinstance(signing_key, list | tuple | Set) else [signing_key])
    keys = tuple(as_secret(one) for one in given if isinstance(one, str | SecretStr))
    are_texts = len(keys) == len(given)
    # Error trackers show what they find in a frame.
    del signing_key, given
    if not keys or not are_texts or not all(map(_is_signing_key, keys)):
        found = (
            "none" if not keys else "another type" if not are_texts else "an empty one, or one with spaces around it"
        )
        raise ValueError(
            f"signing_key: expected the signing key of the webhook as a text, found {found}; copy it from the Logto "
            "Console"
        )
    return keys


def _is_signing_key(key: SecretStr) -> bool:
    text = key.get_secret_value()
    return bool(text) and text == text.strip() and is_encodable(text)


def _read_signature(request: Request) -> SecretStr | str:
    """Return the signature of a delivery, or what was found in its place."""
    signatures = request.headers.getlist(SIGNATURE_HEADER)
    if len(signatures) != 1:
        return "several" if signatures else "none"
    return SecretStr(signatures[0]) if _SIGNATURE.fullmatch(signatures[0]) else "another value"


def _is_signed(digests: Sequence[hmac.HMAC], signature: SecretStr) -> bool:
    expected = bytes.fromhex(signature.get_secret_value())
    # A list, so that the time does not tell which of the keys it was.
    return any([hmac.compare_digest(digest.digest(), expected) for digest in digests])  # noqa: C419


def _refuse(message: str, *, status_code: int = status.HTTP_401_UNAUTHORIZED) -> Response:
    _logger.info("refused a webhook: %s", message)
    # Logto keeps the response in its delivery log.
    headers = {"WWW-Authenticate": SIGNATURE_HEADER} if status_code == status.HTTP_401_UNAUTHORIZED else None
    return JSONResponse({"detail": message}, status_code=status_code, headers=headers)
