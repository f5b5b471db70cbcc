"""Token requests of a user's sign-in: send them, and read the tokens or the error."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from fastapi_logto.cli.requests import build_form
from fastapi_logto.cli.results import CommandError
from fastapi_logto.provider.transport import Transport
from fastapi_logto.redaction import mask, quote
from fastapi_logto.strict_json import StrictJsonError, parse_object
from fastapi_logto.testing.directory import ORGANIZATIONS

_OK: Final = 200
_SECRET_FIELDS: Final = frozenset({"code", "code_verifier", "device_code", "refresh_token"})
_TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*\Z", re.ASCII)
"""The syntax of a bearer token (RFC 6750 section 2.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """What a token is for: an API resource, scopes, and an organization if one is named.

    An organization token names the organization and no API; its scopes are organization permissions.
    """

    resource: str
    scopes: tuple[str, ...] = ()
    organization_id: str | None = None
    is_organization_token: bool = False

    @property
    def sign_in_resource(self) -> str:
        """The `resource` of the sign-in; Logto has one for the permissions of organizations."""
        return ORGANIZATIONS if self.is_organization_token else self.resource


@dataclass(frozen=True, slots=True, kw_only=True)
class UserTokens:
    """The tokens of a user: the access token with its scopes, and the refresh token, `None` without one."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    scopes: tuple[str, ...]


class TokenRefusedError(CommandError):
    """The token endpoint returned an error, or no token.

    Attributes:
        error: The OAuth error, unchecked; empty without one.
    """

    def __init__(self, message: str, *, error: str) -> None:
        super().__init__(message)
        self.error: str = error


async def request_tokens(transport: Transport, url: str, form: Mapping[str, str]) -> UserTokens:
    """Send a token request of a public client. `ExchangeError` if there is no response."""
    response = await transport.exchange(url, build_form(form))
    try:
        document = parse_object(response.body)
    except StrictJsonError:
        document = {}
    token = document.get("access_token")
    if response.status != _OK or not isinstance(token, str):
        error, description = document.get("error"), document.get("error_description")
        texts = [one for one in (description, error) if isinstance(one, str)]
        found = mask(texts[0], secrets=[form[name] for name in _SECRET_FIELDS & form.keys()]) if texts else None
        raise TokenRefusedError(
            f"{url}: expected a token, found {quote(found)} (status {response.status})",
            error=error if isinstance(error, str) else "",
        )
    if not _TOKEN.match(token):
        raise CommandError(f"{url}: expected a token, found invalid characters")
    refresh_token, scope = document.get("refresh_token"), document.get("scope")
    return UserTokens(
        access_token=token,
        refresh_token=refresh_token if isinstance(refresh_token, str) else None,
        scopes=tuple(filter(None, scope.split(" "))) if isinstance(scope, str) else (),
    )


async def refresh_tokens(
    transport: Transport,
    url: str,
    tokens: UserTokens,
    request: TokenRequest,
    *,
    client_id: str,
) -> UserTokens:
    """Exchange a refresh token for a token for the API resource, the resource in an organization, or an organization.

    References:
        RFC 6749 section 6; RFC 8707 section 2.2.
    """
    if tokens.refresh_token is None:
        reason = "for this sign-in" if request.organization_id is None else "for --organization"
        raise CommandError(f"{url}: expected a refresh token {reason}, found none; allow the scope offline_access")
    form = {
        "client_id": client_id,
        "grant_type": "refresh_token",
        "refresh_token": tokens.refresh_token,
    }
    if not request.is_organization_token:
        form["resource"] = request.resource
    if request.organization_id is not None:
        form["organization_id"] = request.organization_id
    return await request_tokens(transport, url, form)
