"""Sign a user in on another device: the device flow, for machines without a browser.

References:
    RFC 8628.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from fastapi_logto.cli.authorization import find_error
from fastapi_logto.cli.requests import build_form
from fastapi_logto.cli.results import CommandError
from fastapi_logto.cli.sign_in import build_scope, fetch_metadata, require_endpoint
from fastapi_logto.cli.token_requests import TokenRefusedError, TokenRequest, UserTokens, refresh_tokens, request_tokens
from fastapi_logto.provider.transport import Transport
from fastapi_logto.redaction import quote
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.strict_json import JsonValue, StrictJsonError, parse_object

_OK: Final = 200
_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
_LONGEST_CODE: Final = 64
_INTERVAL_SECONDS: Final = 5.0
_LONGEST_SECONDS: Final = 1800.0
_ADVICE: Final = {
    "access_denied": "the sign-in was cancelled, or the user has none of the scopes",
    "expired_token": "the code has expired; run the command again",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCode:
    """The start of a sign-in on another device: URL and code for the user, and the secret code for token requests."""

    verification_uri: str
    verification_uri_complete: str | None
    user_code: str
    device_code: str = field(repr=False)
    expires_in: float
    interval: float


async def sign_in_by_device(
    settings: LogtoSettings,
    transport: Transport,
    request: TokenRequest,
    *,
    client_id: str,
    announce: Callable[[DeviceCode], None],
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> UserTokens:
    """Return the tokens of the user who signs in with the code that is passed to `announce`.

    The first access token is for no API: the refresh token is exchanged for one that is.
    """
    metadata = await fetch_metadata(settings, transport)
    start, endpoint = (require_endpoint(metadata, name) for name in ("device_authorization_endpoint", "token_endpoint"))
    form = {
        "client_id": client_id,
        "scope": build_scope(request, is_refreshed=True),
        "resource": request.sign_in_resource,
        # Required for `offline_access`.
        "prompt": "consent",
    }
    code = await _request_code(transport, start, form)
    announce(code)
    tokens = await _poll(transport, endpoint, code, client_id=client_id, sleep=sleep)
    return await refresh_tokens(transport, endpoint, tokens, request, client_id=client_id)


async def _request_code(transport: Transport, url: str, form: dict[str, str]) -> DeviceCode:
    response = await transport.exchange(url, build_form(form))
    if response.status != _OK:
        raise CommandError(
            f"{url}: expected a code, found {quote(find_error(response))} (status {response.status}); use the App ID "
            "of a native application with device flow (console: Applications)"
        )
    try:
        document = parse_object(response.body)
    except StrictJsonError:
        document = {}
    uri, user_code, device_code = (document.get(name) for name in ("verification_uri", "user_code", "device_code"))
    if not _is_url(uri) or not isinstance(user_code, str) or not isinstance(device_code, str):
        raise CommandError(f"{url}: expected a URL and two codes, found none or an invalid one")
    complete = document.get("verification_uri_complete")
    return DeviceCode(
        verification_uri=str(uri),
        verification_uri_complete=str(complete) if _is_url(complete) else None,
        user_code=user_code[:_LONGEST_CODE],
        device_code=device_code,
        expires_in=_read_seconds(document.get("expires_in"), default=_LONGEST_SECONDS),
        interval=_read_seconds(document.get("interval"), default=_INTERVAL_SECONDS),
    )


async def _poll(
    transport: Transport,
    url: str,
    code: DeviceCode,
    *,
    client_id: str,
    sleep: Callable[[float], Awaitable[object]],
) -> UserTokens:
    form = {"grant_type": _GRANT, "client_id": client_id, "device_code": code.device_code}
    interval, waited = code.interval, 0.0
    while waited < code.expires_in:
        await sleep(interval)
        waited += interval
        try:
            return await request_tokens(transport, url, form)
        except TokenRefusedError as error:
            if error.error == "slow_down":
                interval += _INTERVAL_SECONDS
            elif error.error != "authorization_pending":
                raise CommandError(f"{error}; {_ADVICE.get(error.error, 'run the command again')}") from None
    raise CommandError(f"{url}: expected a sign-in within {waited:g} s, found none; run the command again")


def _is_url(value: JsonValue) -> bool:
    try:
        return isinstance(value, str) and value.isprintable() and urlsplit(value).scheme in {"http", "https"}
    except ValueError:
        return False


def _read_seconds(value: JsonValue, *, default: float) -> float:
    """Return a time between one second and half an hour, whatever the tenant says."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return default
    return float(max(1, min(value, _LONGEST_SECONDS)))
