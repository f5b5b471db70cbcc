"""Tokens to try out an API: for a user of a local issuer, or for a machine of any tenant."""

import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

from fastapi_logto.cli.machines import Credentials, get_token
from fastapi_logto.cli.requests import build_form, parse_location, send
from fastapi_logto.cli.results import CommandError
from fastapi_logto.client.errors import GrantError, GrantUnavailableError
from fastapi_logto.loopback import is_loopback
from fastapi_logto.provider.failures import ExchangeError
from fastapi_logto.provider.transport import RawResponse, Transport
from fastapi_logto.redaction import mask, quote
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.strict_json import StrictJsonError, parse_object

__all__ = ["MintedToken", "mint_for_machine", "mint_for_user"]

_OK: Final = 200
_SEE_OTHER: Final = 303
_SECRET_FIELDS: Final = frozenset({"code", "code_verifier", "refresh_token"})
_TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*\Z", re.ASCII)
"""The syntax of a bearer token (RFC 6750 section 2.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MintedToken:
    """A token that the command prints, its scopes, and those that were requested but not granted."""

    access_token: str = field(repr=False)
    scopes: tuple[str, ...]
    missing: tuple[str, ...]


def mint_for_machine(
    settings: LogtoSettings,
    credentials: Credentials,
    *,
    resource: str,
    scopes: Sequence[str] = (),
    organization_id: str | None = None,
) -> MintedToken:
    """Return a token for a machine-to-machine application."""
    try:
        issued = get_token(settings, credentials, resource=resource, scopes=scopes, organization_id=organization_id)
    except GrantUnavailableError as error:
        raise CommandError(f"{error}; run fastapi-logto doctor to find the cause") from None
    except GrantError as error:
        raise CommandError(str(error)) from None
    return _build(issued.token, granted=issued.scopes, requested=scopes)


def mint_for_user(
    settings: LogtoSettings,
    transport: Transport,
    *,
    username: str,
    client_id: str,
    redirect_uri: str,
    resource: str,
    scopes: Sequence[str] = (),
    organization_id: str | None = None,
) -> MintedToken:
    """Return a user's token from a local issuer, through its sign-in page, which requires no password.

    Nothing is sent to the redirect URI. An endpoint that is not on this machine is rejected.
    """
    if not is_loopback(urlsplit(settings.fetch_base).hostname or ""):
        raise CommandError(
            f"expected a local issuer for --user, found {settings.fetch_base}; for a tenant, sign in with Swagger UI, "
            "or use --machine for a machine's token"
        )
    issuer = _LocalSignIn(f"{settings.fetch_base}/oidc", transport, client_id=client_id, redirect_uri=redirect_uri)
    tokens = issuer.sign_in(username, resource=resource, scopes=scopes)
    if organization_id is not None:
        tokens = issuer.refresh(tokens, resource=resource, organization_id=organization_id)
    return _build(tokens["access_token"], granted=tokens.get("scope", "").split(" "), requested=scopes)


def _build(token: str, *, granted: Sequence[str] | frozenset[str], requested: Sequence[str]) -> MintedToken:
    scopes = tuple(sorted(filter(None, granted)))
    missing = tuple(scope for scope in requested if scope not in scopes)
    return MintedToken(access_token=token, scopes=scopes, missing=missing)


class _LocalSignIn:
    """The authorization code flow without a browser."""

    def __init__(self, issuer: str, transport: Transport, *, client_id: str, redirect_uri: str) -> None:
        self._issuer = issuer
        self._transport = transport
        self._client = {"client_id": client_id, "redirect_uri": redirect_uri}

    def sign_in(self, username: str, *, resource: str, scopes: Sequence[str]) -> Mapping[str, str]:
        verifier = secrets.token_urlsafe(32)
        challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        form: dict[str, str | Sequence[str]] = {
            **self._client,
            "response_type": "code",
            "resource": resource,
            "scope": " ".join([*scopes, "offline_access"]),
            "prompt": "consent",
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "action": "allow",
            "user": username,
            "grant": tuple(scopes),
        }
        response = self._post("auth", form)
        location = parse_location(response)
        if response.status != _SEE_OTHER or "code" not in location:
            found = location.get("error_description", f"status {response.status}")
            raise CommandError(
                f"{self._issuer}: expected a code for the user {quote(username)} by the application "
                f"{quote(self._client['client_id'])} with the redirect URI {quote(self._client['redirect_uri'])}, "
                f"found {quote(found)}; the issuer's page lists its users and applications; choose an application "
                "with --client-id or LOGTO_SWAGGER_CLIENT_ID"
            )
        return self._exchange(
            {
                **self._client,
                "grant_type": "authorization_code",
                "code": location["code"],
                "code_verifier": verifier,
                "resource": resource,
            }
        )

    def refresh(self, tokens: Mapping[str, str], *, resource: str, organization_id: str) -> Mapping[str, str]:
        if "refresh_token" not in tokens:
            raise CommandError(f"{self._issuer}: expected a refresh token for --organization, found none")
        return self._exchange(
            {
                "client_id": self._client["client_id"],
                "grant_type": "refresh_token",
                "refresh_token": tokens["refresh_token"],
                "resource": resource,
                "organization_id": organization_id,
            }
        )

    def _exchange(self, form: Mapping[str, str]) -> Mapping[str, str]:
        response = self._post("token", form)
        try:
            document = parse_object(response.body)
        except StrictJsonError:
            document = {}
        token = document.get("access_token")
        if response.status != _OK or not isinstance(token, str):
            found = document.get("error_description")
            if isinstance(found, str):
                found = mask(found, secrets=[form[name] for name in _SECRET_FIELDS & form.keys()])
            raise CommandError(f"{self._issuer}: expected a token, found {quote(found)} (status {response.status})")
        if not _TOKEN.match(token):
            raise CommandError(f"{self._issuer}: expected a token, found invalid characters")
        return {name: value for name, value in document.items() if isinstance(value, str)}

    def _post(self, path: str, form: Mapping[str, str | Sequence[str]]) -> RawResponse:
        try:
            return send(self._transport, f"{self._issuer}/{path}", build_form(form))
        except ExchangeError as error:
            raise CommandError(f"{self._issuer}/{path}: {error}; start it with: fastapi-logto dev") from None
