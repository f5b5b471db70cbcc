"""Sign a user in at a tenant, in the browser: authorization code flow with PKCE, for a native application.

References:
    RFC 8252; RFC 7636; RFC 8707; RFC 9207.
"""

import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from fastapi_logto.cli.authorization import build_authorization_url, explain_error_page, find_error
from fastapi_logto.cli.callback import REGISTERED_URI, Callback
from fastapi_logto.cli.requests import parse_location
from fastapi_logto.cli.results import CommandError
from fastapi_logto.cli.token_requests import TokenRequest, UserTokens, refresh_tokens, request_tokens
from fastapi_logto.clock import Clock
from fastapi_logto.description.routes import NO_SCOPE
from fastapi_logto.provider.discovery import ProviderMetadata, build_metadata_source
from fastapi_logto.provider.failures import FetchError
from fastapi_logto.provider.transport import Request, Transport
from fastapi_logto.redaction import quote
from fastapi_logto.settings import LogtoSettings

_CLIENT_ERROR: Final = 400
_ORGANIZATIONS: Final = "urn:logto:scope:organizations"
_DOCTOR: Final = "run fastapi-logto doctor to find the cause"
_ADVICE: Final = {
    "access_denied": "sign in again and allow the access; the user needs a role with one of the scopes",
    "invalid_target": "compare LOGTO_AUDIENCE, or --resource, with the API identifier in the console; they must match "
    "exactly",
    "unauthorized_client": "use a native application without device flow; --device is for one with device flow",
}


async def sign_in(
    settings: LogtoSettings,
    transport: Transport,
    request: TokenRequest,
    *,
    client_id: str,
    timeout_seconds: float,
    announce: Callable[[str], None],
) -> UserTokens:
    """Return the tokens of the user who signs in at the URL that is passed to `announce`."""
    metadata = await fetch_metadata(settings, transport)
    page, endpoint = (require_endpoint(metadata, name) for name in ("authorization_endpoint", "token_endpoint"))
    state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    async with Callback.listen(state=state) as callback:
        url = build_authorization_url(
            page,
            client_id=client_id,
            redirect_uri=callback.redirect_uri,
            resource=request.sign_in_resource,
            scope=build_scope(request, is_refreshed=request.organization_id is not None),
            state=state,
            verifier=verifier,
        )
        await _check_url(url, transport, client_id=client_id)
        announce(url)
        try:
            response = await callback.receive(timeout_seconds=timeout_seconds)
        except TimeoutError:
            refused = "a response with another state" if callback.has_refused else "none"
            raise CommandError(
                f"sign-in: expected a response within {timeout_seconds:g} s, found {refused}; sign in at the URL above "
                "on this machine. On another machine, use --device"
            ) from None
    _check_response(response, metadata)
    form = {
        "grant_type": "authorization_code",
        "client_id": client_id,
        "code": response["code"],
        "redirect_uri": callback.redirect_uri,
        "code_verifier": verifier,
        # Without it here too, Logto issues an opaque token if `openid` is among the scopes.
        "resource": request.sign_in_resource,
    }
    tokens = await request_tokens(transport, endpoint, form)
    if request.organization_id is None:
        return tokens
    return await refresh_tokens(transport, endpoint, tokens, request, client_id=client_id)


def build_scope(request: TokenRequest, *, is_refreshed: bool) -> str:
    """Return the scope to request. Users without any of the scopes can sign in too."""
    more = ["offline_access"] if is_refreshed else []
    if request.organization_id is not None:
        more.append(_ORGANIZATIONS)
    return " ".join(dict.fromkeys([*request.scopes, NO_SCOPE, *more]))


async def fetch_metadata(settings: LogtoSettings, transport: Transport) -> ProviderMetadata:
    """Return the tenant's discovery document, checked; `CommandError` if it can't be used."""
    try:
        return await build_metadata_source(settings, transport=transport, clock=Clock()).find()
    except FetchError as error:
        raise CommandError(f"{error}; {_DOCTOR}") from None


def require_endpoint(metadata: ProviderMetadata, name: str) -> str:
    """Return the URL of an endpoint; `CommandError` if the discovery document names none at its own origin."""
    url: str | None = getattr(metadata, name)
    if url is None:
        raise CommandError(f"{metadata.issuer}: expected {name} at the origin of the discovery document, found none")
    return url


async def _check_url(url: str, transport: Transport, *, client_id: str) -> None:
    """Request the page once: its errors, such as an unknown application, are never sent to the redirect URI."""
    response = await transport.exchange(url, Request(headers={"Accept": "*/*"}))
    location = parse_location(response)
    if response.status >= _CLIENT_ERROR:
        advice = explain_error_page(
            find_error(response), client_id=client_id, kind="native application", redirect_uri=REGISTERED_URI
        )
        raise CommandError(f"sign-in: expected a page to sign in, found status {response.status}; {advice}")
    if "error" in location:
        raise _build_error(location)


def _check_response(response: Mapping[str, str], metadata: ProviderMetadata) -> None:
    """Check who sent the response, before anything else in it is used (RFC 9207 section 2.4)."""
    issuer = response.get("iss")
    if issuer != metadata.issuer and (issuer is not None or metadata.sends_issuer):
        raise CommandError(
            f"sign-in: expected a response of {metadata.issuer}, found one of {quote(issuer)}; sign in again, and only "
            "at the URL above"
        )
    if "error" in response or not response.get("code"):
        raise _build_error(response)


def _build_error(response: Mapping[str, str]) -> CommandError:
    error, description = response.get("error", ""), response.get("error_description", "")
    found = f"{quote(error)} {quote(description)}" if error else "none"
    return CommandError(f"sign-in: expected a code, found {found}; {_ADVICE.get(error, _DOCTOR)}")


def open_browser(url: str) -> None:
    """Open a URL in the browser, if there is one.

    In a separate process: many browsers print to the standard output that they inherit, which is for the token.
    """
    # Isolated: otherwise Python would import modules from the current directory, which may be somebody else's.
    command = [sys.executable, "-I", "-m", "webbrowser", url]
    run = partial(
        subprocess.run,
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    # Some browsers run until the user closes them.
    threading.Thread(target=run, daemon=True, name="fastapi-logto: browser").start()
