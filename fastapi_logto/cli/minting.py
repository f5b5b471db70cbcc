"""Tokens to try out an API: for a user, or for a machine."""

import secrets
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import SecretStr

from fastapi_logto.cli.authorization import build_challenge
from fastapi_logto.cli.issuer_listing import fetch_listing, is_local
from fastapi_logto.cli.loops import run_to_end
from fastapi_logto.cli.machines import Credentials, get_token
from fastapi_logto.cli.requests import build_form, parse_location
from fastapi_logto.cli.results import CommandError
from fastapi_logto.cli.sign_in import build_scope
from fastapi_logto.cli.token_requests import TokenRequest, UserTokens, refresh_tokens, request_tokens
from fastapi_logto.client.errors import GrantError, GrantUnavailableError
from fastapi_logto.provider.failures import ExchangeError
from fastapi_logto.provider.transport import RawResponse, Transport
from fastapi_logto.redaction import quote
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.verification.jws import is_opaque

_SEE_OTHER: Final = 303
_OTHER: Final = (
    "for a tenant, use --sign-in, --device on a machine without a browser, or --machine for a machine's token"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MintedToken:
    """A token that the command prints, its scopes, and those that were requested but not granted."""

    access_token: str = field(repr=False)
    scopes: tuple[str, ...]
    missing: tuple[str, ...]


def mint_for_machine(
    settings: LogtoSettings,
    credentials: Credentials,
    request: TokenRequest,
) -> MintedToken:
    """Return a token for a machine-to-machine application."""
    try:
        issued = get_token(
            settings,
            credentials,
            resource=None if request.is_organization_token else request.resource,
            scopes=request.scopes,
            organization_id=request.organization_id,
        )
    except GrantUnavailableError as error:
        raise CommandError(f"{error}; run fastapi-logto doctor to find the cause") from None
    except GrantError as error:
        raise CommandError(str(error)) from None
    return _build(issued.token, granted=issued.scopes, requested=request.scopes)


def mint_for_user(
    settings: LogtoSettings,
    request: TokenRequest,
    *,
    username: str,
    client_id: str,
    redirect_uri: str,
) -> MintedToken:
    """Return a user's token from a local issuer, through its sign-in page, which requires no password.

    Nothing is sent to the redirect URI. An endpoint that is not on this machine is rejected.
    """
    if not is_local(settings):
        raise CommandError(f"expected a local issuer for --user, found {settings.fetch_base}; {_OTHER}")
    issuer = f"{settings.fetch_base}/oidc"
    listing = fetch_listing(settings)
    if listing is not None and username not in listing.users:
        raise CommandError(
            f"expected one of the users {', '.join(listing.users) or '(none)'}, found {quote(username)}; correct --user"
        )
    try:
        tokens = run_to_end(
            _sign_in_locally(
                issuer,
                Transport(timeout_seconds=settings.fetch_timeout_seconds),
                request,
                client={"client_id": client_id, "redirect_uri": redirect_uri},
                username=username,
            )
        )
    except ExchangeError as error:
        raise CommandError(f"{issuer}: {error}; start it with: fastapi-logto dev") from None
    return _build(tokens.access_token, granted=tokens.scopes, requested=request.scopes)


def mint_by_sign_in(
    settings: LogtoSettings, request: TokenRequest, sign_in: Coroutine[Any, Any, UserTokens]
) -> MintedToken:
    """Return the token of a user who signs in at a tenant, in the browser or on another device."""
    try:
        tokens = run_to_end(sign_in)
    except ExchangeError as error:
        raise CommandError(f"{settings.fetch_base}: {error}; run fastapi-logto doctor to find the cause") from None
    if is_opaque(SecretStr(tokens.access_token)):
        raise CommandError(
            f"expected a token for {request.resource}, found an opaque one; compare --resource, or LOGTO_AUDIENCE, "
            "with the API identifier in the console"
        )
    return _build(tokens.access_token, granted=tokens.scopes, requested=request.scopes)


def _build(token: str, *, granted: Sequence[str] | frozenset[str], requested: Sequence[str]) -> MintedToken:
    scopes = tuple(sorted(filter(None, granted)))
    missing = tuple(scope for scope in requested if scope not in scopes)
    return MintedToken(access_token=token, scopes=scopes, missing=missing)


async def _sign_in_locally(
    issuer: str,
    transport: Transport,
    request: TokenRequest,
    *,
    client: Mapping[str, str],
    username: str,
) -> UserTokens:
    """Return the tokens of a user by the authorization code flow without a browser."""
    verifier = secrets.token_urlsafe(32)
    form: dict[str, str | Sequence[str]] = {
        **client,
        "response_type": "code",
        "resource": request.sign_in_resource,
        "scope": build_scope(request, is_refreshed=True),
        "prompt": "consent",
        "code_challenge": build_challenge(verifier),
        "code_challenge_method": "S256",
        "action": "allow",
        "user": username,
        "grant": request.scopes,
    }
    response = await transport.exchange(f"{issuer}/auth", build_form(form))
    location = parse_location(response)
    if response.status != _SEE_OTHER or "code" not in location:
        raise _explain(response, issuer, client=client, username=username)
    exchange = {
        **client,
        "grant_type": "authorization_code",
        "code": location["code"],
        "code_verifier": verifier,
        "resource": request.sign_in_resource,
    }
    tokens = await request_tokens(transport, f"{issuer}/token", exchange)
    if request.organization_id is None:
        return tokens
    return await refresh_tokens(transport, f"{issuer}/token", tokens, request, client_id=client["client_id"])


def _explain(response: RawResponse, issuer: str, *, client: Mapping[str, str], username: str) -> CommandError:
    location = parse_location(response)
    if response.status == _SEE_OTHER and "error" not in location:
        # Logto redirects to its own sign-in page.
        return CommandError(
            f"{issuer}: expected a local issuer for --user, found a tenant that requires a sign-in; {_OTHER}"
        )
    found = location.get("error_description", f"status {response.status}")
    return CommandError(
        f"{issuer}: expected a code for the user {quote(username)} by the application {quote(client['client_id'])} "
        f"with the redirect URI {quote(client['redirect_uri'])}, found {quote(found)}; the issuer's page lists its "
        "users and applications; choose an application with --client-id or LOGTO_SWAGGER_CLIENT_ID"
    )
